"""What the reports show of a finding's grade: probabilities as bars, the descriptors behind them, and where the networks looked."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk

from . import pictures, volume_pictures
from .activation import PERCENT
from .findings import BIRADS_CATEGORIES, Finding, Study
from .grade_terms import DOUBT, STATEMENTS, descriptors_of, figures_of, likeliest_words, orientation, stated_category
from .grid import as_2d, box_region
from .report_parts import drawing, row

_NAMES = {
    "shape": "Shape",
    "margin": "Margin",
    "margin_kinds": "Margin, not circumscribed",
    "echogenicity": "Echo pattern",
    "posterior": "Posterior features",
    "halo": "Echogenic halo",
    "calcifications": "Calcifications",
}
# Dark violet, red, orange, yellow: rising lightness, after Matplotlib's "inferno" (CC0).
_COLORS = np.array([(31, 12, 72), (137, 34, 106), (227, 89, 51), (249, 201, 50), (252, 255, 164)], float)
_MARGIN = 0.6  # of the lesion's longer side that the picture of a map shows on every side: about what the networks see
_MOST_OPAQUE = 0.6  # of 1, so that the image stays visible below


def is_graded(finding: Finding) -> bool:
    """Whether grading networks have said something of a finding."""
    return any(task.startswith("grade-") for task in finding.models)


def grade_card(
    study: Study, image: sitk.Image, finding: Finding, name: str, view: pictures.View | None = None
) -> dict[str, Any] | None:
    """What the macro of grades shows; None where the finding was not graded.

    Parameters
    ----------
    study, image : the image that the study is about.
    name : for the ids of pictures in the page.
    view : of a 2D image (`pictures.view`).
    """
    if not is_graded(finding):
        return None
    threshold = finding.evidence.get("malignancy_threshold")
    return {
        "category": stated_category(finding.birads) if finding.birads else None,
        "categories": [
            {"name": f"BI-RADS {c}", "percent": _percent(finding.birads[c])}
            for c in BIRADS_CATEGORIES
            if c in finding.birads
        ]
        if finding.birads
        else [],
        "malignancy": None if finding.malignancy is None else _percent(finding.malignancy),
        "threshold": None if threshold is None else _percent(threshold),
        "suspicious": threshold is not None and finding.malignancy is not None and finding.malignancy >= threshold,
        "solid": None if finding.solid_nodule is None else _percent(finding.solid_nodule),
        "calibrated": bool(finding.evidence.get("grade_calibrated")),
        "doubts": [note.removeprefix(DOUBT) for note in finding.notes if note.startswith(DOUBT)],
        "descriptors": _descriptors(finding),
        "figures": [row(title, "0 to 1", value, 3) for title, value in figures_of(finding.evidence).items()],
        "map": _map(study, image, finding, name, view),
    }


def other_notes(finding: Finding) -> list[str]:
    """A finding's notes without those that its card shows."""
    return [n for n in finding.notes if not (is_graded(finding) and n.startswith((*STATEMENTS, DOUBT)))]


def _percent(chance: float) -> str:
    return f"{100 * chance:.1f}"


def _descriptors(finding: Finding) -> list[dict[str, str]]:
    """One row each: what, its word, how likely, and whether it was predicted or measured."""
    predicted = descriptors_of(finding.evidence)
    words = likeliest_words(predicted)
    rows = []
    for name, word in ((name, words[name]) for name in _NAMES if name in words):
        chance = f"{100 * predicted[name][word]:.0f} %" if name in predicted else "each above 50 %"
        rows.append({"name": _NAMES[name], "word": word, "chance": chance, "by": "predicted"})
    measured = orientation(finding.measurements)
    if measured is not None:
        rows.append({"name": "Orientation", "word": measured, "chance": "", "by": "measured from the outline"})
    return rows


def _map(
    study: Study, image: sitk.Image, finding: Finding, name: str, view: pictures.View | None
) -> dict[str, Any] | None:
    """The picture of where the networks looked, and what it shows in words; None where there is none."""
    if study.activation is None:
        return None
    if view is not None:
        percent = slice_percent(study.activation)
        seen = pictures.crop(view, finding.id, _MARGIN)
        looked = pictures.crop(pictures.View(percent, view.pixel_size, view.outlines), finding.id, _MARGIN).pixels
        where = ""
    else:
        number = _section(study.activation, finding)
        seen = volume_pictures.section(image, study, finding, number, volume_pictures.grey_range(image))
        looked = volume_pictures.section(study.activation, study, finding, number).pixels
        where = f"slice {number + 1} of {image.GetSize()[2]}"
    if not looked.any():
        return None
    return {"picture": drawing(seen, f"map-{name}", study, boxes=False, over=colored(looked)), "where": where}


def slice_percent(activation: sitk.Image) -> np.ndarray:
    """The pixels (y, x) of a 2D map, or of a volume of one slice: a copy, as the 2D image of a slice is gone after this."""
    return sitk.GetArrayFromImage(as_2d(activation))


def _section(activation: sitk.Image, finding: Finding) -> int:
    """The slice of a volume in which most was looked at within a finding's box."""
    start, size = box_region(activation, finding.box)
    part = tuple(slice(a, a + n) for a, n in zip(start[::-1], size[::-1], strict=True))
    return start[2] + int(sitk.GetArrayViewFromImage(activation)[part].sum((1, 2), dtype=np.int64).argmax())


def colored(percent: np.ndarray) -> np.ndarray:
    """A map in colours that can be laid over an image.

    Parameters
    ----------
    percent : (H, W) uint8, 0 to 100.

    Returns
    -------
    (H, W, 4) uint8, red, green, blue and opacity; nothing was looked at: transparent.
    """
    share = np.minimum(percent, PERCENT) / PERCENT
    places = np.linspace(0, 1, len(_COLORS))
    channels = [np.interp(share, places, _COLORS[:, c]) for c in range(3)]
    return np.rint(np.stack([*channels, 255 * _MOST_OPAQUE * share], -1)).astype(np.uint8)
