"""Segment a volume: findings with boxes, boxes, or clicks in; findings with masks, malignancy and measurements out.

The joint network of Zhou et al. 2021 (`networks.vnet`) looks at a crop about each lesion in N passes, at the crop and its mirror images;
what they agree on is the outline, how far they differ its uncertainty. The lesion in the middle of the crop is the one that is meant: others
are not outlined with it. Masks are made on the image's own voxels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from .errors import ImageError, ModelError, UsageError
from .findings import Box, Finding
from .grid import box_of_mask, box_within, part_image, physical_to_index
from .image import as_2d
from .lesion_by_lesion import LesionFailed, reason_of_failure, told_of_failures
from .lesion_look import Look, look
from .outline_3d import POINT_SIZES_MM, Outline, outline_at, reaches_edge, shows_anything
from .outline_owners import one_owner_each
from .segment_3d_options import Segment3dOptions, Settings

if TYPE_CHECKING:
    from .models.zoo import LoadedModel

_BEYOND = 0.2  # of a box's side: one that is off as a detector's are reaches no further beyond the volume (`evaluation.segment_3d.SHIFT`, `STRETCH`)
MAX_FINDINGS = 255
"""As many as an 8-bit label image can tell apart."""


def segment_3d(
    image: sitk.Image,
    model: LoadedModel,
    findings: Sequence[Finding] = (),
    options: Segment3dOptions = Segment3dOptions(),
    *,
    boxes: Sequence[Box] = (),
    points: Sequence[Sequence[float]] = (),
    spacing_known: bool = True,
    progress: Callable[[float, str], None] | None = None,
    watch: Callable[[str, Look], None] | None = None,
    strict: bool = False,
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Outline, judge and measure lesions of a volume.

    Parameters
    ----------
    image : 3D, scalar; any grid. Its axes are taken as lateral, depth (from the skin on), slice.
    model : a joint network (`models.zoo.load(..., "segment-3d")`).
    findings : with boxes, as `detect` gives them; they keep their ids and scores.
    options : see `Segment3dOptions`.
    boxes : further lesions, drawn by a person: LPS mm along the image's axes. A box, these or a finding's, that reaches beyond the volume by more than a
        fifth of its side is cut at the volume's face, and a note says so.
    points : further lesions, clicked by a person: (x, y, z), LPS mm. These and `boxes` become findings with the next free ids, whose
        score is the mean probability in the outline.
    spacing_known : whether the image's spacing is in millimetres.
    progress : called with a fraction 0 to 1 and what is being done.
    watch : called with the id of each finding that was outlined and what the network says there (see `uncertainty_map`).
    strict : whether a lesion that fails is an error. In an evaluation it would pass for one that the network does not see.

    Returns
    -------
    findings : all that were asked for, in their order: with a mask on the image's grid, box of the mask, malignancy and measurements; or, where
        nothing could be outlined, as they were (a box that was cut: as it was cut), with a note that says so; one lesion that fails costs no other.
    notes : sentences about the image, and about what failed.

    Raises
    ------
    UsageError : a box without volume, a box or a point outside the image.
    ImageError : a 2D image or a single slice; a volume larger than a breast.
    ModelError : a model that does not outline (the ablation ClsNet).
    LesionFailed : with `strict`, what failed first.
    """
    from .detect import check_volume

    def failed(finding: Finding, error: Exception) -> None:
        failures[finding.id] = reason_of_failure(error, model.device.name)
        if strict:
            raise LesionFailed(f"{finding.id} could not be outlined: {failures[finding.id]}") from error

    def tell(fraction: float, message: str) -> None:
        if progress is not None:
            progress(fraction, message)

    if as_2d(image) is not None:
        raise ImageError(
            "The image has a single slice; this outlines lesions of volumes: use the segmentation of 2D images."
        )
    if not model.network.segmentation:
        raise ModelError(f"Model {model.entry.id!r} judges lesions without outlining them; choose one that outlines.")
    requests = _requests(image, findings, boxes, points)
    image, cleaned = _finite(image)
    notes = (*check_volume(image, spacing_known), *cleaned)
    settings = Settings.of(model, options)
    outlines: list[Outline | None] = []
    failures: dict[str, str] = {}
    blank: set[str] = set()
    for number, (finding, point) in enumerate(requests):
        tell(0.9 * number / len(requests), f"outlining {finding.id} ({number + 1} of {len(requests)})")
        try:
            outline = outline_at(image, finding.box, point, model, settings)
            if outline is not None and not shows_anything(outline, image):
                outline = None
                blank.add(finding.id)
            outlines.append(outline)
        except Exception as error:
            failed(finding, error)
            outlines.append(None)
    same = one_owner_each(outlines)
    results: list[Finding] = []
    label = 0
    for (finding, point), outline, other in zip(requests, outlines, same, strict=True):
        tell(0.9 + 0.1 * len(results) / len(requests), f"measuring {finding.id}")
        made = None
        if outline is not None and other is None and label < MAX_FINDINGS:
            scored = point is None and finding.score > 0
            try:
                made = _with_mask(finding, scored, outline, label + 1, image, model, spacing_known)
            except Exception as error:
                failed(finding, error)
        if made is None:
            full = label == MAX_FINDINGS
            told = _why_not(settings, point, None if other is None else requests[other][0].id, full)
            if finding.id in blank:
                told = "no lesion was outlined: the image has one and the same value, or nearly, here, so that there is nothing to see"
            if finding.id in failures:
                told = f"not outlined: {failures[finding.id]}"
            results.append(replace(finding, notes=(*finding.notes, told)))
            continue
        label += 1
        if watch is not None:
            watch(finding.id, outline.look)
        results.append(made)
    tell(1.0, "done")
    return tuple(results), (*notes, *told_of_failures("outlined", failures.items()))


def judge_3d(
    image: sitk.Image,
    model: LoadedModel,
    findings: Sequence[Finding],
    options: Segment3dOptions = Segment3dOptions(),
) -> tuple[Finding, ...]:
    """The malignancy of lesions of a volume without their outlines: for networks that do not outline (the ablation ClsNet).

    Parameters and errors as of `segment_3d` with `strict`, as evaluations alone ask for it; the findings come back with the network's
    malignancy and are otherwise as they were.
    """
    settings = Settings.of(model, options)
    for finding in findings:
        _check_place(image, finding, None)
    image, _ = _finite(image)
    judged: list[Finding] = []
    for finding in findings:
        try:
            box = box_within(image, finding.box, _BEYOND)
            malignancy = look(image, box.center, box.size, model, settings).malignancy
        except Exception as error:
            reason = reason_of_failure(error, model.device.name)
            raise LesionFailed(f"{finding.id} could not be judged: {reason}") from error
        judged.append(finding if malignancy is None else replace(finding, malignancy=malignancy))
    return tuple(judged)


def _requests(image, findings, boxes, points) -> list[tuple[Finding, tuple[float, ...] | None]]:
    """What is to be outlined: findings as they came, and new ones for boxes and points (with score 0), each with its click if it was one.

    Raises `UsageError` for a box without volume and for what lies outside the image.
    """
    requests: list[tuple[Finding, tuple[float, ...] | None]] = [(f, None) for f in findings]
    used = {f.id for f in findings}
    number = 0

    def next_id() -> str:
        nonlocal number
        number += 1
        while f"L{number}" in used:
            number += 1
        return f"L{number}"

    requests += [(Finding(next_id(), box, 0.0), None) for box in boxes]
    for point in points:
        if len(point) != 3 or not all(math.isfinite(v) for v in point):
            raise UsageError(f"The point {tuple(point)} is none; give three finite numbers, x, y and z in mm (LPS).")
        place = tuple(float(v) for v in point)
        requests.append((Finding(next_id(), Box(place, (POINT_SIZES_MM[0],) * 3), 0.0), place))
    for finding, point in requests:
        _check_place(image, finding, point)
    return [(finding if point is not None else _cut(image, finding), point) for finding, point in requests]


def _cut(image: sitk.Image, finding: Finding) -> Finding:
    """A finding whose box is looked at where the image is: the windows that cover a box of a metre, most of them empty, would take days."""
    box = box_within(image, finding.box, _BEYOND)
    if box is finding.box:
        return finding
    return replace(finding, box=box, notes=(*finding.notes, "the box reached beyond the volume and was cut at its edge"))


def _check_place(image: sitk.Image, finding: Finding, point: Sequence[float] | None) -> None:
    centre = physical_to_index(image, finding.box.center) + 0.5
    half = np.zeros(3) if point is not None else np.asarray(finding.box.size) / image.GetSpacing() / 2
    at = ", ".join(f"{v:.1f}" for v in finding.box.center)
    if point is None and min(finding.box.size) <= 0:
        size = " x ".join(f"{s:g}" for s in finding.box.size)
        raise UsageError(
            f"The box of {finding.id} measures {size} mm; draw it about the lesion, with all sides above 0."
        )
    if np.any(centre + half <= 0) or np.any(centre - half >= image.GetSize()):
        what = "The point" if point is not None else "The box"
        raise UsageError(f"{what} of {finding.id} at ({at}) mm lies outside the volume; place it on the lesion.")


def _finite(image: sitk.Image) -> tuple[sitk.Image, tuple[str, ...]]:
    """The image with its lowest finite value where a voxel is not finite, and a sentence where there were any."""
    array = sitk.GetArrayViewFromImage(image)
    if array.dtype.kind != "f":
        return image, ()
    finite = np.isfinite(array)
    missing = array.size - int(np.count_nonzero(finite))
    if not missing:
        return image, ()
    lowest = float(array.min(where=finite, initial=np.inf)) if missing < array.size else 0.0
    clean = sitk.GetImageFromArray(np.where(finite, array, np.array(lowest, array.dtype)))
    clean.CopyInformation(image)
    return clean, (f"{missing} voxels of the volume are not finite; they count as its lowest value",)


def _with_mask(
    finding: Finding, scored: bool, outline: Outline, label: int, image, model, spacing_known: bool
) -> Finding:
    from .measurements_3d import measure_3d

    part = part_image(outline.inside.astype(np.uint8), outline.place, image)
    array = np.zeros(image.GetSize()[::-1], np.uint8)
    array[outline.place] = outline.inside
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(image)
    # The part is as good as the whole, which may be a hundred times larger.
    measurements: dict[str, float | None] = dict(measure_3d(part, image, spacing_known))
    if outline.uncertainty is not None:
        measurements["outline_uncertainty"] = outline.uncertainty
    score = finding.score if scored else min(1.0, float(outline.probability[outline.inside].mean()))
    notes = (*finding.notes, *outline.notes)
    if reaches_edge(outline, array.shape):
        notes = (*notes, "the lesion reaches the edge of the volume; what lies beyond is neither outlined nor measured")
    malignancy = finding.malignancy if outline.look.malignancy is None else outline.look.malignancy
    return replace(
        finding,
        box=box_of_mask(part),
        score=score,
        malignancy=malignancy,
        mask=mask,
        label=label,
        measurements={**finding.measurements, **measurements},
        models={**finding.models, "segment": model.entry.id},
        notes=notes,
    )


def _why_not(settings: Settings, point, same: str | None, full: bool) -> str:
    if same is not None:
        return f"the outline found here is that of {same}; the lesion is outlined there"
    if full:
        return f"no more than {MAX_FINDINGS} lesions can be outlined in a volume; this one was not"
    where = "about the point" if point is not None else "in the box"
    return f"no lesion was outlined {where}: the network's probability stays below {settings.threshold:g}"
