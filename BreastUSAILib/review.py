"""What a person says of findings: accepted, rejected, a note, an outline that was corrected; and how reports say it.

Nothing here changes a study: each function gives a richer one. `mrml_workup` keeps these records in a scene.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
import SimpleITK as sitk

from .errors import DataError
from .findings import EDITED, REJECTED, REVIEWS, Box, Finding, ImageInfo, Study
from .grade_terms import measured_again
from .screen_area import AREA, ultrasound_area

NONE, ACCEPTED = "", "accepted"
VERDICTS = (NONE, ACCEPTED, REJECTED)

_SAME_IOU = 0.5  # boxes of two runs that overlap so much are about the same lesion
_MOVED_MM = 0.01  # a box goes through a scene and back with smaller changes


@dataclass(frozen=True)
class Review:
    """A person's word on one finding: `verdict` is one of `VERDICTS`, `note` is free text, both may be empty."""

    verdict: str = NONE
    note: str = ""

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise DataError(f"the verdict is {self.verdict!r}; it must be {ACCEPTED!r}, {REJECTED!r} or empty.")


def reviews_to_json(reviews: Mapping[str, Review]) -> str:
    """Finding id -> review, without empty ones, as JSON text."""
    return json.dumps({i: asdict(r) for i, r in reviews.items() if r != Review()}, ensure_ascii=False)


def reviews_from_json(text: str | None, source: str) -> dict[str, Review]:
    """Read back `reviews_to_json`; None and "" are no reviews. Raises `DataError`, which names `source`."""
    if not text:
        return {}
    try:
        return {str(i): Review(**record) for i, record in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"the reviews in {source} cannot be read ({error}); give them again.") from error


# ----------------------------------------------------------------------------------------------------------- the order


def suspicion(finding: Finding) -> float:
    """How suspicious a finding is, 0 to 1: the chance that it is a lesion and that the lesion is malignant.

    A finding whose malignancy nobody computed counts as malignant: it must not sink below what was judged harmless.
    """
    return finding.score * (1.0 if finding.malignancy is None else finding.malignancy)


def by_suspicion(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The most suspicious first; those alike in their order."""
    return tuple(sorted(findings, key=suspicion, reverse=True))


# ------------------------------------------------------------------------------------------------- from run to run


def carried_over(before: Study, reviews: Mapping[str, Review], now: Study) -> dict[str, Review]:
    """What was said of the findings of an earlier run on the same image, for those of a new one that are about the same lesion.

    Old and new findings are matched one to one, those first whose boxes overlap most, if their intersection is at least half of their
    union. Old findings of which nothing was said are matched, too: a new one that is theirs is not their neighbour's.
    """
    overlaps = [(_iou(now.image, old.box, new.box), old.id, new.id) for old in before.findings for new in now.findings]
    matched: dict[str, str] = {}  # new -> old
    for overlap, old, new in sorted(overlaps, key=lambda pair: -pair[0]):
        if overlap >= _SAME_IOU and new not in matched and old not in matched.values():
            matched[new] = old
    said = {new: reviews.get(old, Review()) for new, old in matched.items()}
    return {new: review for new, review in said.items() if review != Review()}


def _iou(info: ImageInfo, one: Box, other: Box) -> float:
    """Intersection over union of two boxes along the image's axes."""
    d = info.dimension
    axes = np.reshape(info.direction, (d, d))
    edges = []
    for box in (one, other):
        center, half = np.array(box.center[:d]) @ axes, np.array(box.size[:d]) / 2
        edges.append((center - half, center + half))
    (low, high), (low2, high2) = edges
    # A single slice has boxes without thickness along it.
    flat = (high - low <= 0) & (high2 - low2 <= 0)
    sides = np.where(flat, 1.0, np.minimum(high, high2) - np.maximum(low, low2))
    if sides.min() <= 0:
        return 0.0
    common = float(np.prod(sides))
    volumes = [float(np.prod(np.where(flat, 1.0, b - a))) for a, b in edges]
    return common / (sum(volumes) - common)


# --------------------------------------------------------------------------------------------------------- corrections


def outline_key(mask: sitk.Image) -> str:
    """What tells a mask from every other on its grid: a hash of its voxels and where they lie; "" for an empty one."""
    inside = sitk.GetArrayViewFromImage(mask) != 0
    bounds = []
    for axis in range(inside.ndim):
        others = tuple(a for a in range(inside.ndim) if a != axis)
        indices = np.flatnonzero(inside.any(axis=others))
        if not indices.size:
            return ""
        bounds.append((int(indices[0]), int(indices[-1]) + 1))
    digest = hashlib.sha256(repr(bounds).encode())
    digest.update(np.packbits(inside[tuple(slice(a, b) for a, b in bounds)]).tobytes())
    return digest.hexdigest()[:32]


def outline_keys(study: Study) -> dict[str, str]:
    """Finding id -> `outline_key`, of those that have a mask."""
    return {f.id: outline_key(f.mask) for f in study.findings if f.mask is not None}


def with_edits(made: Study, now: Study, image: sitk.Image, keys: Mapping[str, str]) -> Study:
    """A study as a person left it, with figures that fit what is outlined now.

    Parameters
    ----------
    made : as the models left it; its masks are not looked at.
    now : the same findings or some of them, with the boxes and masks of now.
    image : what both are about, 2D or 3D, of the same size.
    keys : `outline_keys` of the study as the models left it.

    Returns
    -------
    `now`, where outlines that changed are measured again and boxes that were moved are, too; a note says so. Scores and
    grades stay what they were, and the note says that as well.
    """
    before = {f.id: f for f in made.findings}
    area = tuple(made.provenance.get(AREA, ())) or None
    return replace(now, findings=tuple(_edited(before[f.id], f, now.image, image, keys, area) for f in now.findings))


def _edited(
    before: Finding,
    now: Finding,
    info: ImageInfo,
    image: sitk.Image,
    keys: Mapping[str, str],
    area: tuple[int, int, int, int] | None,
) -> Finding:
    from .grid import box_of_mask

    moved = any(
        abs(a - b) > _MOVED_MM
        for a, b in zip((*before.box.center, *before.box.size), (*now.box.center, *now.box.size), strict=True)
    )
    if now.mask is not None and outline_key(now.mask) != keys.get(now.id):
        if not sitk.GetArrayViewFromImage(now.mask).any():
            note = "The outline was emptied by a person; scores and grades are those of the models' outline."
            return replace(now, mask=None, label=None, measurements={}, notes=(*measured_again(now.notes, {}), note))
        note = f"{EDITED} and measured again; scores and grades are those of the models' outline."
        figures = _measured(now.mask, info, image, area)
        box = now.box if moved else box_of_mask(now.mask)
        return replace(now, box=box, measurements=figures, notes=(*measured_again(now.notes, figures), note))
    if now.mask is None and keys.get(now.id):
        note = "The outline was deleted by a person."
        return replace(now, label=None, measurements={}, notes=(*measured_again(now.notes, {}), note))
    if moved:
        note = "The box was moved by a person; scores and grades are those of the models' box."
        figures = dict(now.measurements)
        if now.mask is None and image.GetDimension() == 3 and min(image.GetSize()) > 1:
            from .detect import box_measurements

            figures.update(box_measurements(image, now.box, info.spacing_known))
        return replace(now, measurements=figures, notes=(*now.notes, note))
    return now


def _measured(
    mask: sitk.Image, info: ImageInfo, image: sitk.Image, area: tuple[int, int, int, int] | None
) -> dict[str, float | None]:
    """`area` as the models looked at it; None: not known of this study, and looked for."""
    from .grid import as_2d

    flat = as_2d(image)
    if flat is not None:
        from .measurements import measure_2d

        return measure_2d(as_2d(mask), flat, info.spacing_known, ultrasound_area(flat, area)[0])
    from .measurements_3d import measure_3d

    return measure_3d(mask, image, info.spacing_known)


# -------------------------------------------------------------------------------------------------------------- reports


# How the notes of `with_reviews` begin; what follows is what a person wrote.
_SAID = re.compile(r"(Accepted by the reader|The reader's note|.*? was rejected by the reader): .*", re.DOTALL)


def without_readers_words(note: str, instead: str) -> str:
    """A note of `with_reviews` with `instead` in place of what a person wrote; any other note as it is."""
    said = _SAID.fullmatch(note)
    return f"{said[1]}: {instead}" if said else note


def with_reviews(study: Study, reviews: Mapping[str, Review]) -> Study:
    """A study as it is reported: what was rejected is left out and named in the notes; what a person said stands with the rest.

    The findings are sorted by suspicion; the provenance keeps all reviews (`REVIEWS`).
    """
    kept, notes = [], []
    for finding in by_suspicion(study.findings):
        review = reviews.get(finding.id, Review())
        said = f": {review.note.rstrip('.')}" if review.note else ""
        if review.verdict == REJECTED:
            notes.append(f"{finding.id} (score {finding.score:.2f}) was rejected by the reader{said}")
            continue
        if review.verdict == ACCEPTED:
            finding = replace(finding, notes=(*finding.notes, f"Accepted by the reader{said}."))
        elif review.note:
            finding = replace(finding, notes=(*finding.notes, f"The reader's note{said}."))
        kept.append(finding)
    known = {f.id for f in study.findings}
    record = {i: asdict(r) for i, r in reviews.items() if i in known and r != Review()}
    provenance = {**study.provenance, "notes": [*study.provenance.get("notes", ()), *notes]}
    if record:
        provenance[REVIEWS] = record
    return replace(study, findings=tuple(kept), provenance=provenance)
