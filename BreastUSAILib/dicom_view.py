"""Which breast a DICOM image shows, and from which side: "R", "AP".

Scanners of whole breasts make several volumes of each: from the front (AP), with the probe towards the outside (LAT) or the inside
(MED), where needed from above (SUP) and below (INF). No standard element holds these views, so they are read from what the scanners
write: view elements and codes first, then names such as "RLAT" (GE) or "R MED" (Siemens).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .dicom_header import group, items, text

if TYPE_CHECKING:
    from pydicom import Dataset

LATERALITIES = ("R", "L", "B")
VIEWS = ("AP", "LAT", "MED", "SUP", "INF")

_SIDES = {"r": "R", "rt": "R", "right": "R", "l": "L", "lt": "L", "left": "L"}
# In other languages: words that mean a side wherever they are written, not German re and li, Italian dx and sx, Turkish sol.
_WORDS = {
    **_SIDES,
    **dict.fromkeys("droite droit rechts rechte rechten rechter rechtes destra destro derecha derecho dcha direita direito".split(), "R"),
    **dict.fromkeys("gauche links linke linken linker linkes sinistra sinistro izquierda izquierdo izq izqda esquerda esquerdo".split(), "L"),
    **dict.fromkeys("dextra höger høyre højre prawa prawej pravá правая правой справа".split(), "R"),
    **dict.fromkeys("vänster venstre lewa lewej levá левая левой слева".split(), "L"),
}
_SIGNS = {"右": "R", "左": "L", "우측": "R", "좌측": "L"}  # languages that set no spaces, or whose words go on
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
# April, inflamed, supplementary, supraclavicular: views only where they are all of a name.
_OTHER_WORDS = ("apr", "infl", "supl", "supr")
# A letter is a side where it stands alone: not in "R/O mass", "l'aisselle", "L12-5", "L 12-5", "14L", "L.S.". A dot, a stroke or an equals sign
# may set it apart from a view ("R/LAT"), and hours may follow ("L 10-11 Uhr").
_A_VIEW = rf"(?<![^\W\d_])(?:{'|'.join(_VIEWS)})(?![^\W\d_])"
_HOURS = r"(?:h|\s*(?:uhr|o?\W?\s?clock|hrs?|hours?|heures?|horas?|ore))\b"
_BEFORE = re.compile(rf"(?:^|[\s_,;:([+&\\|*]|(?:^|\D)-|{_A_VIEW}[./=])$")
_AFTER = re.compile(
    rf"(?![\s_|*]*\d+\s*-\s*\d+(?!\d)(?!{_HOURS}))(?:$|[\s_,;:)\]+&\\|*]|\.(?!\w)|-(?!\d)|[./=](?={_A_VIEW}))"
)
_FAR = 20  # characters beside a letter that are looked at; the longest view has 15


@dataclass(frozen=True)
class View:
    """laterality: one of `LATERALITIES` (B: both), or None. view: one of `VIEWS`, or None. notes: contradictions, and a side that is
    a single letter of a name, as sentences."""

    laterality: str | None = None
    view: str | None = None
    notes: tuple[str, ...] = ()


def parse_name(name: str) -> tuple[str | None, str | None]:
    """Laterality and view that a series is called after; None where its name does not say, or says two things.

    >>> parse_name("RLAT")
    ('R', 'LAT')
    >>> parse_name("Breast left, medial")
    ('L', 'MED')
    >>> parse_name("Breast L12-5")  # a probe
    (None, None)
    """
    side, view, _ = _parse(name)
    return side, view


def _parse(name: str) -> tuple[str | None, str | None, bool]:
    """See `parse_name`; and whether nothing but a single letter says the side."""
    name = unicodedata.normalize("NFC", name).lower().replace("antero-posterior", "ap")
    sides, letters, views = set(), set(), set()
    for match in re.finditer(r"[^\W\d_]+", name):
        word = match[0]
        joined = None if word in _OTHER_WORDS and word != name.strip(" _") else _JOINED.fullmatch(word)
        if len(word) == 1 and word in _SIDES:
            before, after = name[max(0, match.start() - _FAR) : match.start()], name[match.end() : match.end() + _FAR]
            if _BEFORE.search(before) and _AFTER.match(after):
                letters.add(_SIDES[word])
        elif word in _WORDS:
            sides.add(_WORDS[word])
        elif word in _VIEWS:
            views.add(_VIEWS[word])
        elif joined:
            sides.add(_SIDES[joined[1] or joined[4]])
            views.add(_VIEWS[joined[2] or joined[3]])
        else:
            sides |= {side for sign, side in _SIGNS.items() if sign in word}
    said = sides | letters
    return (said.pop() if len(said) == 1 else None), (views.pop() if len(views) == 1 else None), not sides


def read_view(dataset: Dataset) -> View:
    """Laterality and view of an image, from its header.

    The elements for the side count most, then words of names, then single letters of names, of which a note tells.
    """
    laterality = stated_laterality(dataset)
    coded = [text(code, "CodeMeaning") for code in items(dataset, "ViewCodeSequence")]
    named = [text(dataset, keyword) for keyword in ("SeriesDescription", "ProtocolName")]
    names = [(name, *_parse(name)) for name in (text(dataset, "ViewPosition"), *coded, *named)]
    view = next((seen for _, _, seen, _ in names if seen), None)
    notes = []
    if laterality is None:
        sure = sorted((by_letter, k) for k, (_, side, _, by_letter) in enumerate(names) if side)
        if sure:
            by_letter, k = sure[0]
            laterality = names[k][1]
            if by_letter:  # without the name, as it may be the patient's, and notes go into de-identified results
                notes.append(
                    f"that this is the {_breast(laterality)} breast comes from a single letter of the series' name alone"
                )
    for name, side, _, _ in names:
        if side and laterality in ("R", "L") and side != laterality:
            notes.append(
                f'the file says that this is the {_breast(laterality)} breast, and its name "{name}" the {_breast(side)} one'
            )
    return View(laterality, view, tuple(dict.fromkeys(notes)))


def stated_laterality(dataset: Dataset) -> str | None:
    """One of `LATERALITIES`, from the elements for it; None where none states one."""
    anatomy = group(dataset, 0, "FrameAnatomySequence")
    stated = (text(anatomy, "FrameLaterality"), text(dataset, "ImageLaterality"), text(dataset, "Laterality"))
    return next((side for side in stated if side in LATERALITIES), None)


def _breast(side: str) -> str:
    return "right" if side == "R" else "left"
