"""Whether a file is the one that a finished study was made from: a patient's results must never go to another patient.

All images of a scanner have one size, and names repeat (IM1.dcm on the next CD), so neither tells. A study keeps the SHA-256 of its input's
bytes, and that of the pixels as they were read, which a transfer through a PACS leaves as they are where it writes another header.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import BreastUSAIError, DataError

if TYPE_CHECKING:
    from .findings import Study

OPTION = "--other-file"
OPTION_HELP = (
    "take a file that is not known to be the one that was analysed, as after a transfer through a PACS: it is for you to know that it shows "
    "the same image"
)
# Kept with the results, so neither names nor checksums, which a de-identified copy must not have.
OTHER_FILE = f"the original is another file than the one that was analysed; that it shows the same image was said by the user ({OPTION})"
_DIGITS = 12  # of a checksum in a sentence


@dataclass(frozen=True)
class Match:
    """same : whether a file is the one that was analysed; None where the study keeps no checksum (made in Slicer, by an older version, or
    de-identified). sha256 : of the file, "" where it was not asked for."""

    same: bool | None
    sha256: str = ""


def compared(study: Study, path: Path) -> Match:
    """A file, or the folder of a series, against the one that was analysed: by its bytes, else by its pixels.

    Raises
    ------
    ImageError : see `study_image.image_files` and `identity.identity`.
    """
    from .identity import identity
    from .study_image import image_files

    analysed = study.provenance.get("input", {})
    if not analysed.get("sha256"):
        return Match(None)
    found = identity(path, image_files(study, path)).get("sha256", "")
    return Match(found == analysed["sha256"] or _same_pixels(study, path), found)


def check(study: Study, path: Path, option: str, other_file: bool = False) -> Match:
    """`compared`, and a refusal of another file.

    Parameters
    ----------
    option : by which the file is named, for the cure.
    other_file : the user says that it shows the same image.

    Raises
    ------
    DataError : it is another file.
    ImageError : as of `compared`.
    """
    match = compared(study, path)
    if match.same is False and not other_file:
        raise DataError(f"{difference(study, path, match)}, and may be another patient's; {cure(option)}.")
    return match


def difference(study: Study, path: Path, match: Match) -> str:
    """What stands against a file, as the beginning of a sentence: both files, and the first digits of their checksums."""
    here, then = (digits[:_DIGITS] or "none" for digits in (match.sha256, study.provenance["input"]["sha256"]))
    if os.path.abspath(path) == os.path.abspath(study.image.path):
        return f"{path} was changed or replaced since it was analysed (its SHA-256 is {here}..., it was {then}...)"
    return f"{path} (SHA-256 {here}...) is not the file that was analysed ({study.image.path}, SHA-256 {then}...)"


def cure(option: str) -> str:
    return (
        f"give the file that was analysed with {option}, or add {OPTION} if you know that this one shows the same image, as after a "
        "transfer through a PACS"
    )


def not_checked(path: Path) -> str:
    """The note where a study keeps no checksum."""
    return (
        f"that {path} is the file that was analysed could not be checked, as the result keeps no checksum of it (made in 3D Slicer, by an "
        "older version, or de-identified)"
    )


def _same_pixels(study: Study, path: Path) -> bool:
    """Whether a file that has other bytes is read as the very pixels that were analysed; what cannot be read so is not."""
    from .identity import pixels_digest
    from .study_image import read_again

    analysed = study.provenance["input"].get("pixels_sha256")
    if not analysed:
        return False  # made by an older version
    try:
        image = read_again(study, path, study.provenance.get("options", {}).get("spacing_mm")).image
    except BreastUSAIError:
        return False
    return pixels_digest(image) == analysed
