"""What the DICOM readers share: opening a file, and elements that may be absent, empty or nonsense."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import DependencyError, ImageError

if TYPE_CHECKING:
    from pydicom import Dataset

US_MULTIFRAME = ("1.2.840.10008.5.1.4.1.1.3.1", "1.2.840.10008.5.1.4.1.1.3")  # the second: retired
US_IMAGE = ("1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.6")
ENHANCED_US_VOLUME = "1.2.840.10008.5.1.4.1.1.6.2"
DIRECTORY = "1.2.840.10008.1.3.10"  # a DICOMDIR
INSTALL = 'pip install "pydicom>=3.0" pylibjpeg pylibjpeg-openjpeg python-gdcm'


def damaged(path: Path, error: Exception) -> ImageError:
    reason = " ".join(str(error).split()) or type(error).__name__
    reason = reason if len(reason) <= 160 else reason[:160] + "..."
    return ImageError(f"{path} is damaged, incomplete, or of a kind that is not read ({reason}); export it again.")


def check_pydicom(path: Path) -> None:
    """Raises `DependencyError` where pydicom 3 is not installed."""
    try:
        import pydicom.pixels  # noqa: F401  new in pydicom 3
    except ImportError as error:
        raise DependencyError(
            f"{path} is a DICOM file, and the package pydicom is not installed, or too old; install it with: {INSTALL}"
        ) from error


def open_dicom(path: Path, **options: Any) -> Dataset:
    """A file's content; `options` are those of ``pydicom.dcmread``. Raises `ImageError`."""
    import pydicom

    try:
        dataset = pydicom.dcmread(path, force=True, **options)
        _state_syntax(dataset)
        return dataset
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes pydicom raise nearly anything
        raise damaged(path, error) from error


def _state_syntax(dataset: Dataset) -> None:
    """Name the transfer syntax that pydicom found a file written in which states none: files without preamble and meta header, as devices
    before DICOM Part 10 left them. Compressed pixels stay without one, as nobody knows how they are compressed."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if dataset.file_meta.get("TransferSyntaxUID") or ("PixelData" in dataset and dataset["PixelData"].is_undefined_length):
        return
    syntaxes = {
        (True, True): ImplicitVRLittleEndian,
        (False, True): ExplicitVRLittleEndian,
        (False, False): ExplicitVRBigEndian,
    }
    syntax = syntaxes.get(dataset.original_encoding)
    if syntax is not None:
        dataset.file_meta.TransferSyntaxUID = syntax


def value(dataset: Dataset | None, keyword: str, default: Any = None) -> Any:
    """An element's value; `default` where it is absent, empty, or cannot be understood (pydicom converts on access)."""
    try:
        found = None if dataset is None else dataset.get(keyword)
    except MemoryError:
        raise
    except Exception:  # what pydicom raises for values that break the rules of their type is not bounded
        return default
    return default if found is None or (isinstance(found, str) and not found.strip()) else found


def text(dataset: Dataset | None, keyword: str) -> str:
    """An element as one line of text; "" where there is none. Several values are joined by a backslash, as in the file."""
    found = value(dataset, keyword)
    if found is None:
        return ""
    if not isinstance(found, (str, bytes)) and hasattr(found, "__iter__"):
        found = "\\".join(str(v) for v in found)
    return " ".join(str(found).split())


def name_of(uid: Any) -> str:
    """A UID's name in one short line, itself where the standard knows none (a damaged one may be anything); "" of None."""
    return " ".join(str(getattr(uid, "name", None) or uid or "").split())[:80]


def numbers(dataset: Dataset | None, keyword: str, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers of an element, or None where it is absent, empty or of another length."""
    found = value(dataset, keyword)
    if found is None:
        return None
    try:
        values = tuple(float(v) for v in (found if hasattr(found, "__iter__") else [found]))
    except (TypeError, ValueError):
        return None
    return values if len(values) == count and all(math.isfinite(v) for v in values) else None


def number(dataset: Dataset | None, keyword: str) -> float | None:
    """One finite number of an element, or None."""
    found = numbers(dataset, keyword, 1)
    return None if found is None else found[0]


def items(dataset: Dataset | None, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where it is absent or no sequence."""
    from pydicom.sequence import Sequence

    found = value(dataset, keyword)
    return list(found) if isinstance(found, Sequence) else []


def group(dataset: Dataset, frame: int, sequence: str) -> Dataset | None:
    """The functional group of a frame (its own, or else the shared one), or None. PS3.3 C.7.6.16."""
    own = value(dataset, "PerFrameFunctionalGroupsSequence")  # not `items`, which makes a list: there may be thousands
    own = own[frame : frame + 1] if own is not None and frame < len(own) else ()
    for groups in (*own, *items(dataset, "SharedFunctionalGroupsSequence")[:1]):
        found = items(groups, sequence)
        if found:
            return found[0]
    return None


def frame_count(path: Path, dataset: Dataset) -> int:
    """Number of Frames, 1 where the file says none. Raises `ImageError`."""
    try:
        count = int(dataset.get("NumberOfFrames") or 1)
    except (TypeError, ValueError) as error:
        raise damaged(path, error) from error
    if count < 1:
        raise ImageError(f"{path} says that it has {count} frames; export it again.")
    return count
