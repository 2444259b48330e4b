"""Whether two images may be of one person, by what their DICOM headers say: sizes and results tell nothing of that."""

from __future__ import annotations

from pathlib import Path

from .dicom_header import text
from .errors import DataError
from .study_image import image_header

OPTION = "--same-person"
OPTION_HELP = "compare although the files state other patients: it is for you to know that both are of one person, as where another hospital gave another Patient ID"
# Kept in the page, so without what the files state.
SAID = f"the files state other patients; that both are of one person was said by the user ({OPTION})"


def check(earlier: Path | None, later: Path | None, same: bool = False) -> tuple[str, ...]:
    """Refuse the images of two people.

    Parameters
    ----------
    earlier, later : files, or folders of series; None: not at hand.
    same : the user says that they are of one person.

    Returns
    -------
    a sentence where the files state two, and the user says that it is one.

    Raises
    ------
    DataError : the files state other Patient IDs, or other birth dates.
    """
    if earlier is None or later is None:
        return ()
    stated = [_stated(path) for path in (earlier, later)]
    other = [name for name, values in zip(("Patient ID", "birth date"), zip(*stated, strict=True), strict=True) if _differ(*values)]
    if not other:
        return ()
    if same:
        return (SAID,)
    raise DataError(
        f"{earlier} and {later} state another {' and another '.join(other)}, so they are of two patients; compare examinations of one, or add "
        f"{OPTION} if you know that they are of the same person."
    )


def _stated(path: Path) -> tuple[str, str]:
    """Patient ID and birth date; "" for what a file does not state."""
    header = image_header(path)
    return text(header, "PatientID").casefold(), text(header, "PatientBirthDate")


def _differ(one: str, other: str) -> bool:
    return bool(one and other and one != other)
