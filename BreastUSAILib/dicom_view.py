"""Which breast a DICOM image shows, and from which side: "R", "AP".

Scanners of whole breasts make several volumes of each: from the front (AP), with the probe towards the outside (LAT) or the inside
(MED), where needed from above (SUP) and below (INF). No standard element holds these views, so they are read from what the scanners
write: view elements and codes first, then names such as "RLAT" (GE) or "R MED" (Siemens).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .dicom_header import group, items, text

if TYPE_CHECKING:
    from pydicom import Dataset

LATERALITIES = ("R", "L", "B")
VIEWS = ("AP", "LAT", "MED", "SUP", "INF")

_SIDES = {"r": "R", "rt": "R", "right": "R", "l": "L", "lt": "L", "left": "L"}
_VIEWS = {
    **dict.fromkeys(("ap", "anteroposterior", "anterior"), "AP"),
    **dict.fromkeys(("lat", "lateral"), "LAT"),
    **dict.fromkeys(("med", "medial"), "MED"),
    **dict.fromkeys(("sup", "superior"), "SUP"),
    **dict.fromkeys(("inf", "inferior"), "INF"),
}
_JOINED = re.compile(
    rf"(?:({'|'.join(_SIDES)})({'|'.join(_VIEWS)})|({'|'.join(_VIEWS)})({'|'.join(_SIDES)}))", re.IGNORECASE
)


@dataclass(frozen=True)
class View:
    """laterality: one of `LATERALITIES` (B: both), or None. view: one of `VIEWS`, or None. notes: contradictions, as sentences."""

    laterality: str | None = None
    view: str | None = None
    notes: tuple[str, ...] = ()


def parse_name(name: str) -> tuple[str | None, str | None]:
    """Laterality and view that a series is called after; None where its name does not say, or says two things.

    >>> parse_name("RLAT")
    ('R', 'LAT')
    >>> parse_name("Breast left, medial")
    ('L', 'MED')
    """
    sides, views = set(), set()
    for word in re.findall(r"[^\W\d_]+", name.lower().replace("antero-posterior", "ap")):
        joined = _JOINED.fullmatch(word)
        if word in _SIDES:
            sides.add(_SIDES[word])
        elif word in _VIEWS:
            views.add(_VIEWS[word])
        elif joined:
            sides.add(_SIDES[joined[1] or joined[4]])
            views.add(_VIEWS[joined[2] or joined[3]])
    return (sides.pop() if len(sides) == 1 else None), (views.pop() if len(views) == 1 else None)


def read_view(dataset: Dataset) -> View:
    """Laterality and view of an image, from its header."""
    anatomy = group(dataset, 0, "FrameAnatomySequence")
    stated = (text(anatomy, "FrameLaterality"), text(dataset, "ImageLaterality"), text(dataset, "Laterality"))
    laterality = next((s for s in stated if s in LATERALITIES), None)
    coded = [text(code, "CodeMeaning") for code in items(dataset, "ViewCodeSequence")]
    named = [text(dataset, keyword) for keyword in ("SeriesDescription", "ProtocolName")]
    view, notes = None, []
    for name in (text(dataset, "ViewPosition"), *coded, *named):
        side, seen = parse_name(name)
        view = view or seen
        if side and laterality in ("R", "L") and side != laterality:
            notes.append(
                f'the file says that this is the {_breast(laterality)} breast, and its name "{name}" the {_breast(side)} one'
            )
        laterality = laterality or side
    return View(laterality, view, tuple(dict.fromkeys(notes)))


def _breast(side: str) -> str:
    return "right" if side == "R" else "left"
