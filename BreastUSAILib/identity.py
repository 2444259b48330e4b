"""What tells an input from every other, whatever it is called and wherever it lies."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BreastUSAIError, ImageError

if TYPE_CHECKING:
    import SimpleITK as sitk


def identity(path: Path, files: Sequence[Path] = ()) -> dict[str, Any]:
    """What tells an input from every other: its size, and the SHA-256 of its bytes; of several files, of all in turn.

    Of a header whose pixels lie in files beside it (.mhd, .nhdr) these are part of it: many volumes have the same header.

    Raises
    ------
    ImageError : it vanished since it was read.
    """
    digest, size = hashlib.sha256(), 0
    for file in files or (path, *_beside(path)):
        try:
            if file.is_dir():
                return {}
            with file.open("rb") as stream:
                for chunk in iter(lambda: stream.read(1 << 20), b""):  # noqa: B023  used at once
                    digest.update(chunk)
                size += stream.tell()
        except OSError as error:
            raise ImageError(
                f"{file} cannot be read any more ({error.strerror}); was it moved while it was worked on?"
            ) from error
    return {"bytes": size, "sha256": digest.hexdigest(), **({"files": len(files)} if files else {})}


def instance_digest(path: Path) -> str:
    """SHA-256 of a DICOM file's SOP Instance UID, which tells images of two patients apart that have one name (IM1.dcm on the next CD), and
    does not tell the UID; "" of what is no DICOM file, cannot be read, or states none."""
    from .dicom_header import open_dicom, text
    from .dicom_series import is_dicom
    from .native import quiet

    if not is_dicom(path):
        return ""
    try:
        with warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")
            uid = text(open_dicom(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"]), "SOPInstanceUID")
    except (BreastUSAIError, ImportError):  # reading its pixels says what is wrong
        return ""
    return hashlib.sha256(uid.encode()).hexdigest() if uid else ""


def pixels_digest(image: sitk.Image) -> str:
    """SHA-256 of an image's pixels as they were read: their number along each axis, type and values, whatever file they stand in.

    A 2D image and a volume of one slice with its pixels have the same.
    """
    import SimpleITK as sitk

    array = sitk.GetArrayViewFromImage(image)
    size = (*image.GetSize(), 1)[:3]
    digest = hashlib.sha256(f"{size} {array.dtype.str}".encode())
    digest.update(memoryview(array).cast("B"))
    return digest.hexdigest()


def _beside(path: Path) -> tuple[Path, ...]:
    """The files with the pixels of a header; none where it cannot be read, which is told where its bytes are asked for."""
    from .headers import data_files

    try:
        return data_files(path)
    except OSError:
        return ()
