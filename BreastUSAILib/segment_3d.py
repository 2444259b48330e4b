"""Segment a volume: findings with boxes, boxes, or clicks in; findings with masks, malignancy and measurements out.

The joint network of Zhou et al. 2021 (`networks.vnet`) looks at a crop about each lesion in N passes, at the crop and its mirror images;
what they agree on is the outline, how far they differ its uncertainty. The lesion in the middle of the crop is the one that is meant: others
are not outlined with it. Masks are made on the image's own voxels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from .errors import ImageError, ModelError, UsageError
from .findings import Box, Finding
from .grid import box_of_mask, physical_to_index
from .image import as_2d
from .lesion_by_lesion import reason_of_failure, told_of_failures
from .lesion_crop import CropRule, Region, crop_input

if TYPE_CHECKING:
    import torch

    from .models.zoo import LoadedModel

DEFAULT_THRESHOLD = 0.5
DEFAULT_ITERATIONS = 2
MOST_ITERATIONS = 4
MAX_FINDINGS = 255
"""As many as an 8-bit label image can tell apart."""
POINT_SIZES_MM = (18.0, 9.0, 36.0)
"""Sides of the boxes that are tried about a click: the first; where nothing is found in it the second; where the lesion does not
fit, or nothing is found in the second either, the third."""
_FLIPS = ((), (2,), (4,), (2, 4))  # axes of (N, 1, z, y, x): slice and lateral; nobody scans from below
_SAME = 0.6  # two outlines that share so much of the smaller one show the same lesion
_NESTED = 4.0  # and where one is so many times as large as the other, this is a part of it
_NEAR = 0.25  # of the tried box's side: how far from an outline a click may lie


@dataclass(frozen=True)
class Segment3dOptions:
    """Choices of the user.

    Attributes
    ----------
    threshold : probability above which a voxel is lesion, 0 to 1; None: the model's own.
    iterations : N, passes of the network, each given the map of the one before, 0 to 4 (0 and 1: one pass); None: the model's own.
    uncertainty : whether mirror images are looked at too, which steadies the outline and says how sure it is; a quarter of the time without.
    refine : whether 3D Chan-Vese refines the outline; None: where validation has shown that it helps.
    """

    threshold: float | None = None
    iterations: int | None = None
    uncertainty: bool = True
    refine: bool | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise UsageError(f"The threshold is {self.threshold}; it must lie between 0 and 1.")
        if self.iterations is not None and not 0 <= self.iterations <= MOST_ITERATIONS:
            raise UsageError(f"The number of iterations is {self.iterations}; it must be from 0 to {MOST_ITERATIONS}.")


@dataclass(frozen=True)
class Look:
    """What the network says of one place of a volume.

    Attributes
    ----------
    region : the voxels it was looked at in.
    probability : (z, y, x) float32, 0 to 1, of the lesion that is meant.
    deviation : (z, y, x) float32, the standard deviation of the probability between the mirror images (0 to 0.5); None for a single look.
    malignancy : probability, None where the network does not judge it.
    """

    region: Region
    probability: np.ndarray
    deviation: np.ndarray | None
    malignancy: float | None

    def map_on(self, image: sitk.Image, values: np.ndarray) -> sitk.Image:
        """`probability` or `deviation` as a float32 image on those voxels of `image` that lie in the region; they may be none."""
        array, place = self.region.put_back(values, image)
        return _part_image(array, place, image)


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
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Outline, judge and measure lesions of a volume.

    Parameters
    ----------
    image : 3D, scalar; any grid. Its axes are taken as lateral, depth (from the skin on), slice.
    model : a joint network (`models.zoo.load(..., "segment-3d")`).
    findings : with boxes, as `detect` gives them; they keep their ids and scores.
    options : see `Segment3dOptions`.
    boxes : further lesions, drawn by a person: LPS mm along the image's axes.
    points : further lesions, clicked by a person: (x, y, z), LPS mm. These and `boxes` become findings with the next free ids, whose
        score is the mean probability in the outline.
    spacing_known : whether the image's spacing is in millimetres.
    progress : called with a fraction 0 to 1 and what is being done.
    watch : called with the id of each finding that was outlined and what the network says there, for its maps (`Look.map_on`).

    Returns
    -------
    findings : all that were asked for, in their order: with a mask on the image's grid, box of the mask, malignancy and measurements; or, where
        nothing could be outlined, as they were, with a note that says so; one lesion that fails costs no other.
    notes : sentences about the image, and about what failed.

    Raises
    ------
    UsageError : a box without volume, a box or a point outside the image.
    ImageError : a 2D image or a single slice; a volume larger than a breast.
    ModelError : a model that does not outline (the ablation ClsNet).
    """
    from .detect import check_volume

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
    settings = _Settings.of(model, options)
    outlines: list[_Outline | None] = []
    failures: dict[str, str] = {}
    for number, (finding, point) in enumerate(requests):
        tell(0.9 * number / len(requests), f"outlining {finding.id} ({number + 1} of {len(requests)})")
        try:
            outlines.append(_outline(image, finding.box, point, model, settings))
        except Exception as error:
            failures[finding.id] = reason_of_failure(error, model.device.name)
            outlines.append(None)
    same = _one_owner_each(outlines)
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
                failures[finding.id] = reason_of_failure(error, model.device.name)
        if made is None:
            full = label == MAX_FINDINGS
            told = _why_not(settings, point, None if other is None else requests[other][0].id, full)
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

    Parameters and errors as of `segment_3d`; the findings come back with the network's malignancy and are otherwise as they were.
    """
    settings = _Settings.of(model, options)
    for finding in findings:
        _check_place(image, finding, None)
    image, _ = _finite(image)
    judged = [look(image, f.box.center, f.box.size, model, settings).malignancy for f in findings]
    return tuple(f if m is None else replace(f, malignancy=m) for f, m in zip(findings, judged, strict=True))


# ---------------------------------------------------------------------------------------------------------- requests


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
    return requests


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


# ----------------------------------------------------------------------------------------------------------- looking


@dataclass(frozen=True)
class _Settings:
    """What the model's `postprocessing` and the user's options come to."""

    rule: CropRule
    threshold: float
    iterations: int
    opinions: tuple[float, ...]
    flips: tuple[tuple[int, ...], ...]
    refiner: dict[str, Any] | None

    @classmethod
    def of(cls, model: LoadedModel, options: Segment3dOptions) -> _Settings:
        chosen = model.entry.postprocessing
        answers = model.network.answers
        opinions = tuple(float(w) for w in chosen.get("opinions", ())) or (1 / max(answers, 1),) * answers
        if len(opinions) != answers:
            raise ModelError(
                f"Model {model.entry.id!r} weights {len(opinions)} opinions on malignancy and has {answers}; train it again."
            )
        refiner = chosen.get("refiner")
        if options.refine is not None:
            refiner = (refiner or {}) if options.refine else None
        return cls(
            rule=CropRule.of(model.entry.preprocessing),
            threshold=float(
                options.threshold if options.threshold is not None else chosen.get("threshold", DEFAULT_THRESHOLD)
            ),
            iterations=int(
                options.iterations if options.iterations is not None else chosen.get("iterations", DEFAULT_ITERATIONS)
            ),
            opinions=opinions,
            flips=_FLIPS if options.uncertainty else _FLIPS[:1],
            refiner=refiner,
        )


def look(
    image: sitk.Image, centre: Sequence[float], size: Sequence[float], model: LoadedModel, settings: _Settings
) -> Look:
    """Look at a box (LPS mm) of a volume; one that is too large for a crop is looked at window by window."""
    import torch

    rule = settings.rule
    region = Region.about(image, centre, rule.spacing(size), rule.canvas(size))
    # In the canvas's own mean and deviation: a window that lies all in the lesion shows it as dark as it is.
    canvas = crop_input(torch.from_numpy(region.read(image))[None])
    total, spread, weights = (np.zeros(region.shape, np.float32) for _ in range(3))
    logits, shares = [], []
    for start in product(*(_starts(n, w) for n, w in zip(region.shape, rule.shape, strict=True))):
        place = tuple(slice(a, a + n) for a, n in zip(start, rule.shape, strict=True))
        maps, logit = _answers(canvas[(..., *place)], region.spacing, model, settings)
        weight = _hat(rule.shape)
        mean = maps.mean(0)
        total[place] += weight * mean
        spread[place] += weight * maps.std(0)
        weights[place] += weight
        logits.append(logit)
        shares.append(float(mean.sum()) + 1e-6)
    malignancy = None
    if settings.opinions:
        # Of several windows, what those with more of the lesion say counts more.
        logit = float(np.average(np.array(logits) @ np.array(settings.opinions), weights=shares))
        malignancy = 1 / (1 + math.exp(-min(max(logit, -50.0), 50.0)))
    deviation = spread / weights if len(settings.flips) > 1 else None
    return Look(region, total / weights, deviation, malignancy)


def _starts(length: int, window: int) -> list[int]:
    """First voxels of windows that cover a length, each sharing half with the next."""
    if length <= window:
        return [0]
    number = math.ceil((length - window) / (window / 2)) + 1
    return [round(i * (length - window) / (number - 1)) for i in range(number)]


def _hat(shape: Sequence[int]) -> np.ndarray:
    """Weights (z, y, x) float32 of a window's voxels: most in its middle, where the network sees what is around."""
    axes = [1 - np.abs((np.arange(n) + 0.5) / n * 2 - 1) for n in shape]
    return (axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None] + 1e-3).astype(np.float32)


def _answers(
    crop: torch.Tensor, spacing: float, model: LoadedModel, settings: _Settings
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (flips, z, y, x) that the mirror images of a crop (1, 1, z, y, x) give, each turned back; and the mean logits (k,) of malignancy."""
    import torch

    from .models.devices import autocast, is_out_of_memory
    from .networks.vnet import passes

    def ask(flips) -> tuple[torch.Tensor, torch.Tensor]:
        batch = torch.cat([crop.flip(f) if f else crop for f in flips])
        batch = batch.to(model.device.name, memory_format=torch.channels_last_3d)
        spacings = torch.full((len(flips),), spacing, device=batch.device)
        with torch.inference_mode(), autocast(model.device.name):
            said = passes(model.network, batch, spacings, settings.iterations)
        outline = batch.new_full(batch[:, 0].shape, -100.0) if said.outline is None else said.outline.float()
        return torch.sigmoid(outline).cpu(), said.malignancy.float().cpu()

    try:
        maps, logits = ask(settings.flips)
    except RuntimeError as error:
        if not is_out_of_memory(error) or len(settings.flips) == 1:
            raise
        parts = [ask((f,)) for f in settings.flips]  # one at a time needs a quarter of the memory
        maps, logits = (torch.cat(p) for p in zip(*parts, strict=True))
    back = [m.flip([axis - 2 for axis in f]) if f else m for m, f in zip(maps, settings.flips, strict=True)]
    return torch.stack(back).numpy(), logits.mean(0).numpy()


# ---------------------------------------------------------------------------------------------------------- outlines


@dataclass
class _Outline:
    """A lesion's outline on the image's voxels: `inside` (z, y, x) bool and `probability` float32 of the part of the image's array at `place`."""

    inside: np.ndarray
    probability: np.ndarray
    place: tuple[slice, slice, slice]
    look: Look
    uncertainty: float | None
    notes: tuple[str, ...] = ()


def _outline(image, box: Box, point, model: LoadedModel, settings: _Settings) -> _Outline | None:
    """The outline of the lesion in a box or about a click; None where there is none."""
    if point is not None:
        found = _box_about(image, point, model, settings)
        if found is None:
            return None
        box = found
    seen = look(image, box.center, box.size, model, settings)
    part = _component(seen, image, box, point, settings.threshold)
    return None if part is None else _on_image(seen, part, image, settings)


def _box_about(image, point: Sequence[float], model: LoadedModel, settings: _Settings) -> Box | None:
    """The box of the lesion about a click, from a single look in boxes of several sizes; None where nothing is found in any."""
    quick = replace(settings, flips=settings.flips[:1])

    def within(side: float) -> tuple[Box | None, bool]:
        seen = look(image, point, (side,) * 3, model, quick)
        part = _component(seen, image, Box(tuple(point), (side,) * 3), point, settings.threshold)
        if part is None:
            return None, False
        places = [np.flatnonzero(part.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
        low = np.array([p[0] for p in places])[::-1]
        high = np.array([p[-1] + 1 for p in places])[::-1]
        scale, corner = np.array(seen.region.scale), np.array(seen.region.corner)
        centre = image.TransformContinuousIndexToPhysicalPoint((corner + scale * (low + high) / 2 - 0.5).tolist())
        whole = bool(np.all(low > 0) and np.all(high < part.shape[::-1]))
        return Box(centre, tuple(float(n * seen.region.spacing) for n in high - low)), whole

    usual, small, large = POINT_SIZES_MM
    found, whole = within(usual)
    if found is None:
        found, whole = within(small)
    if whole:
        return found
    return within(large)[0] or found


def _component(seen: Look, image, box: Box, point, threshold: float) -> np.ndarray | None:
    """The component above the threshold that is meant: (z, y, x) bool on the look's voxels, without holes.

    In a box: the one with most probability inside the box. About a click: the one clicked on, or the nearest within a quarter of the box.
    """
    from scipy import ndimage

    labels, number = ndimage.label(seen.probability > threshold)
    if not number:
        return None
    edges = seen.region.grid_box(image, box)
    shape = np.array(seen.region.shape)
    if point is None:
        low = np.clip(np.floor(edges[:3] + 0.5), 0, shape - 1).astype(int)
        high = np.clip(np.floor(edges[3:] + 0.5), low + 1, shape).astype(int)
        place = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        weights = np.bincount(labels[place].ravel(), seen.probability[place].ravel(), number + 1)
        weights[0] = 0
        label = int(weights.argmax())
        if not weights[label]:
            return None
    else:
        centre = (edges[:3] + edges[3:]) / 2 - 0.5
        at = tuple(np.clip(np.rint(centre), 0, shape - 1).astype(int))
        distance, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
        if distance[at] > _NEAR * max(box.size) / seen.region.spacing:
            return None
        label = int(labels[tuple(index[at] for index in nearest)])
    return ndimage.binary_fill_holes(labels == label)


def _on_image(seen: Look, part: np.ndarray, image: sitk.Image, settings: _Settings) -> _Outline | None:
    """An outline brought onto the image's voxels; None where it is smaller than one."""
    from scipy import ndimage

    # What lies about the component keeps its probability, so that the border runs between voxels; other components lose theirs.
    close = ndimage.binary_dilation(part, np.ones((3, 3, 3)))
    apart = np.where(
        part, np.maximum(seen.probability, np.nextafter(np.float32(settings.threshold), np.float32(1))), 0.0
    )
    around = np.where(close & ~part, np.minimum(seen.probability, settings.threshold), 0.0)
    values = (apart + around).astype(np.float32)
    spread = None if seen.deviation is None else float(seen.deviation[close].mean())
    # Only what is about the lesion is put back: the image's voxels may be many times finer.
    places = [np.flatnonzero(close.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    low = np.array([max(int(p[0]) - 2, 0) for p in places])
    high = np.array([min(int(p[-1]) + 3, n) for p, n in zip(places, close.shape, strict=True)])
    r = seen.region
    corner = np.array(r.corner) + np.array(r.scale) * low[::-1]
    small = replace(r, corner=tuple(corner.tolist()), shape=tuple((high - low).tolist()))
    probability, place = small.put_back(values[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], image)
    inside = probability > settings.threshold
    if not inside.any():
        return None
    outline = _Outline(inside, probability, place, seen, spread)
    return outline if settings.refiner is None else _refined(outline, image, settings)


def _refined(outline: _Outline, image: sitk.Image, settings: _Settings) -> _Outline:
    from .chan_vese import ChanVeseParameters
    from .refinement_3d import VOLUME, refine_3d

    parameters = ChanVeseParameters(**settings.refiner) if settings.refiner else VOLUME
    echoes = sitk.GetArrayViewFromImage(image)[outline.place]
    refined = refine_3d(
        np.clip(outline.probability, 0, 1),
        echoes,
        image.GetSpacing()[::-1],
        threshold=settings.threshold,
        mask=outline.inside,
        parameters=parameters,
    )
    notes = (refined.reason,) if refined.reason else ()
    return replace(outline, inside=np.asarray(refined.mask, bool), notes=notes)


def _one_owner_each(outlines: Sequence[_Outline | None]) -> list[int | None]:
    """Give each voxel that several outlines hold to the surest of them; outlines are changed.

    Returns
    -------
    for each outline the number of another one that shows the same lesion: an earlier one that shares most of it, or one of which it is a part
    and which is more than `_NESTED` times as large, whichever comes first, as a part must not stand for the whole; or, where nothing is left of it, the
    one that shares more of it than others; else None.
    """
    same: list[int | None] = [None] * len(outlines)
    # Compared as they came: what one lesion loses to a neighbour must not make it the same as the next.
    sizes = [0 if outline is None else int(outline.inside.sum()) for outline in outlines]
    present = [number for number, outline in enumerate(outlines) if outline is not None]
    shared = {
        (i, j): both for i, j in combinations(present, 2) if (both := _in_both(outlines[i], outlines[j])) is not None
    }
    alike = {(i, j) for (i, j), (_, _, both) in shared.items() if both.sum() >= _SAME * min(sizes[i], sizes[j])}
    for j in present:
        earlier = [i for i in range(j) if (i, j) in alike and same[i] is None]
        same[j] = next((i for i in earlier if sizes[j] <= _NESTED * sizes[i]), None)
        if same[j] is None:  # what is not left takes no other's place
            for i in earlier:
                same[i] = j
    # What takes the place of a whole may have nothing of a part of it: that part is left then.
    ends = [_last_of(same, number) for number in range(len(same))]
    same = [
        end if end is not None and tuple(sorted((number, end))) in alike else None for number, end in enumerate(ends)
    ]
    pairs = {(i, j): both for (i, j), both in shared.items() if same[i] is None and same[j] is None}
    for (i, j), (a, b, both) in pairs.items():
        first, second = outlines[i], outlines[j]
        surer = first.probability[a] >= second.probability[b]
        second.inside[b] &= ~(both & surer)
        first.inside[a] &= ~(both & ~surer)
    # What a neighbour cuts off beyond itself would be measured as if it were joined.
    for number in {number for pair in pairs for number in pair}:
        inside = outlines[number].inside
        inside &= _largest_part(inside)
    left = [outline is not None and bool(outline.inside.any()) for outline in outlines]
    for number in range(len(outlines)):
        if same[number] is not None or left[number] or not sizes[number]:
            continue
        shares = {j if i == number else i: both.sum() for (i, j), (_, _, both) in pairs.items() if number in (i, j)}
        same[number] = max((other for other in shares if left[other]), key=shares.get)
    return same


def _largest_part(inside: np.ndarray) -> np.ndarray:
    """The largest connected part (corners touch) of a mask (z, y, x) bool; an empty one as it is."""
    from scipy import ndimage

    labels, number = ndimage.label(inside, np.ones((3, 3, 3)))
    return inside if number < 2 else labels == 1 + int(np.bincount(labels.ravel())[1:].argmax())


def _last_of(same: Sequence[int | None], number: int) -> int | None:
    """Where a chain of outlines that show the same lesion ends."""
    other = same[number]
    while other is not None and same[other] is not None:
        other = same[other]
    return other


def _in_both(first: _Outline, second: _Outline):
    """The part that two outlines' places share, as slices of the first and of the second, and where both hold a voxel of it; None: nowhere."""
    shared = _shared(first.place, second.place)
    if shared is None:
        return None
    a, b = shared
    both = first.inside[a] & second.inside[b]
    return (a, b, both) if both.any() else None


def _shared(first, second):
    """The part that two places of an array share, as slices of the first and of the second; None where they share nothing."""
    low = [max(a.start, b.start) for a, b in zip(first, second, strict=True)]
    high = [min(a.stop, b.stop) for a, b in zip(first, second, strict=True)]
    if any(h <= n for n, h in zip(low, high, strict=True)):
        return None
    return tuple(
        tuple(slice(n - p.start, h - p.start) for n, h, p in zip(low, high, place, strict=True))
        for place in (first, second)
    )


# ----------------------------------------------------------------------------------------------------------- results


def _with_mask(
    finding: Finding, scored: bool, outline: _Outline, label: int, image, model, spacing_known: bool
) -> Finding:
    from .measurements_3d import measure_3d

    part = _part_image(outline.inside.astype(np.uint8), outline.place, image)
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
    if _cut(outline.inside, outline.place, array.shape):
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


def _part_image(array: np.ndarray, place: Sequence[slice], image: sitk.Image) -> sitk.Image:
    """An array (z, y, x) as an image on the part of the image's grid at `place`."""
    part = sitk.GetImageFromArray(array)
    part.SetSpacing(image.GetSpacing())
    part.SetDirection(image.GetDirection())
    part.SetOrigin(image.TransformIndexToPhysicalPoint([p.start for p in place[::-1]]))
    return part


def _cut(inside: np.ndarray, place, shape) -> bool:
    """Whether an outline holds voxels of the image's first or last plane along any axis."""
    for axis, (part, n) in enumerate(zip(place, shape, strict=True)):
        planes = inside.any(axis=tuple(a for a in range(3) if a != axis))
        if (part.start == 0 and planes[0]) or (part.stop == n and planes[-1]):
            return True
    return False


def _why_not(settings: _Settings, point, same: str | None, full: bool) -> str:
    if same is not None:
        return f"the outline found here is that of {same}; the lesion is outlined there"
    if full:
        return f"no more than {MAX_FINDINGS} lesions can be outlined in a volume; this one was not"
    where = "about the point" if point is not None else "in the box"
    return f"no lesion was outlined {where}: the network's probability stays below {settings.threshold:g}"
