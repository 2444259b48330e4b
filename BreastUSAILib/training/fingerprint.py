"""A short name for what a run learns from, by which its checkpoint knows it again."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..evaluation.grade_data import allowed
from ..evaluation.segmentation_data import Case
from ..headers import data_files


def fingerprint_of(what: str, items: Iterable[tuple[str, np.ndarray]]) -> str:
    """The number of items and a hash of them, such as "237 volumes 3f0a...": the same wherever their folders lie.

    Voxels count as well as facts: volumes that were made anew under their old names (phantoms of another version, a volume that was exported again)
    are other data, though boxes and sizes are the same.

    Parameters
    ----------
    what : what they are called, in the plural.
    items : of each what is known of it, and its voxels (or the bytes of their files, see `bytes_of`).
    """
    facts = [f"{known} {zlib.crc32(np.ascontiguousarray(voxels))}" for known, voxels in items]
    digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()
    return f"{len(facts)} {what} {digest[:12]}"


def bytes_of(*files: Path) -> np.ndarray:
    """What stands in some files, one after the other, uint8: cheaper than to decode them. DataError where one cannot be read."""
    parts = []
    for file in files:
        try:
            parts.append(np.fromfile(file, np.uint8))
        except OSError as error:
            raise DataError(f"{file} cannot be read ({error.strerror or error}); check its permissions.") from error
    return np.concatenate(parts)


def fingerprint_of_cases(cases: Sequence[Case], outputs: Iterable[str] = ()) -> str:
    """A short name for a set of cases, see `fingerprint_of`: another one when an image, its mask, its class, group or fold changes, or what
    its labels allow of these `outputs` of a grading network."""
    names = sorted(outputs)

    def known(case: Case) -> str:
        said = [allowed(case, name) for name in names]
        return f"{case.source}/{case.id}/{case.group}/{case.fold}/{case.label} {case.mask is not None} {said}"

    def files(case: Case) -> list[Path]:  # the pixels of a header lie beside it
        return [file for image in (case.image, case.mask) if image is not None for file in (image, *data_files(image))]

    return fingerprint_of("cases", ((known(c), bytes_of(*files(c))) for c in cases))
