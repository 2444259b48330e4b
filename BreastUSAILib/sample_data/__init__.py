"""Sample images that are built in: one real 2D image, and a synthetic breast volume at two examinations.

They are part of the package, so that they are there without a network; each file's SHA-256 is checked before it is used.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, UsageError

FILES = Path(__file__).parent / "files"
_CATALOG = Path(__file__).parent / "catalog.json"


@dataclass(frozen=True)
class Sample:
    """One sample image.

    Attributes
    ----------
    id : by which it is asked for.
    title, description : for people; the description says where it comes from.
    file : its name in `FILES`.
    sha256 : of the file.
    thumbnail : a PNG in `FILES`.
    truth : label map of its lesions in `FILES`, or "".
    truth_sha256 : of that file.
    licence, cite : under which it may be used, and what to cite.
    """

    id: str
    title: str
    description: str
    file: str
    sha256: str
    thumbnail: str
    truth: str = ""
    truth_sha256: str = ""
    licence: str = ""
    cite: str = ""

    @property
    def path(self) -> Path:
        """The image file, unchecked."""
        return FILES / self.file

    @property
    def thumbnail_path(self) -> Path:
        return FILES / self.thumbnail


def samples() -> tuple[Sample, ...]:
    """All samples. Reads the catalogue only."""
    entries = json.loads(_CATALOG.read_text(encoding="utf-8"))["samples"]
    return tuple(Sample(**entry) for entry in entries)


def sample(name: str) -> Sample:
    """The sample of this id. Raises `UsageError`, which names those that there are."""
    found = {s.id: s for s in samples()}
    if name not in found:
        raise UsageError(f"There is no sample {name!r}; choose one of: {', '.join(found)}.")
    return found[name]


def sample_path(name: str) -> Path:
    """The checked image file of a sample.

    Raises
    ------
    UsageError : there is no such sample.
    DataError : the file is missing or not what it was.
    """
    return _checked(sample(name).path, sample(name).sha256)


def truth_path(name: str) -> Path:
    """The checked label map of a sample (1, 2, ... inside its lesions). Raises as `sample_path`, also where a sample has none."""
    entry = sample(name)
    if not entry.truth:
        raise UsageError(f"The sample {name!r} has no label map.")
    return _checked(FILES / entry.truth, entry.truth_sha256)


def _checked(path: Path, sha256: str) -> Path:
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); install BreastUSAI again.") from error
    if found != sha256:
        raise DataError(f"{path} is damaged (its SHA-256 is {found}, not {sha256}); install BreastUSAI again.")
    return path
