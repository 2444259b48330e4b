"""A lesion's outline on a volume's own voxels, from what the network says in a box or about a click.

The lesion in the middle of what was looked at is the one that is meant: others are not outlined with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from .findings import Box
from .lesion_look import Look, look

if TYPE_CHECKING:
    from .models.zoo import LoadedModel
    from .segment_3d_options import Settings

POINT_SIZES_MM = (18.0, 9.0, 36.0)
"""Sides of the boxes that are tried about a click: the first; where nothing is found in it the second; where the lesion does not
fit, or nothing is found in the second either, the third."""
_EDGE_MM = 2.0  # how far about an outline the edge of what it shows is looked for
_ONE_VALUE = 0.9  # as many of an outline's voxels have one value where there is nothing to see
_GOES_ON = 0.7  # and as many of those beside it
_NEAR = 0.25  # of the tried box's side: how far from an outline a click may lie


@dataclass
class Outline:
    """A lesion's outline on the image's voxels: `inside` (z, y, x) bool and `probability` float32 of the part of the image's array at `place`."""

    inside: np.ndarray
    probability: np.ndarray
    place: tuple[slice, slice, slice]
    look: Look
    uncertainty: float | None
    notes: tuple[str, ...] = ()


def outline_at(image, box: Box, point, model: LoadedModel, settings: Settings) -> Outline | None:
    """The outline of the lesion in a box or about a click; None where there is none."""
    if point is not None:
        found = _box_about(image, point, model, settings)
        if found is None:
            return None
        box = found
    seen = look(image, box.center, box.size, model, settings)
    part = _component(seen, image, box, point, settings.threshold)
    return None if part is None else _on_image(seen, part, image, settings)


def shows_anything(outline: Outline, image: sitk.Image) -> bool:
    """Whether an outline has an edge to show. Where a volume was blanked, or the probe did not touch, it has not, and the network outlines what it expects.

    False where the image has one value in the outline and some millimetres about it; or nearly one value in it, and that goes on about most of it, or to
    three and more faces of the image. A cyst without echoes has a wall, also where a face of the image cuts it.

    image : 3D, finite, the one that was outlined.
    """
    array = sitk.GetArrayViewFromImage(image)
    about, tight, within = [], [], []
    for axis, (place, spacing) in enumerate(zip(outline.place, image.GetSpacing()[::-1], strict=True)):
        found = np.flatnonzero(outline.inside.any(axis=tuple(a for a in range(3) if a != axis)))
        first, end = int(found[0]), int(found[-1]) + 1
        more = 1 + int(_EDGE_MM / spacing)
        low = max(place.start + first - more, 0)
        about.append(slice(low, place.start + end + more))
        tight.append(slice(first, end))
        within.append(slice(place.start + first - low, place.start + end - low))
    part = array[tuple(about)]
    if (part == part[0, 0, 0]).all():
        return False
    inside = np.zeros(part.shape, bool)
    inside[tuple(within)] = outline.inside[tuple(tight)]
    usual = np.median(part[inside])
    if (part[inside] == usual).mean() <= _ONE_VALUE:
        return True
    goes_on = not inside.all() and (part[~inside] == usual).mean() > _GOES_ON
    return not (goes_on or _faces(outline, array.shape) >= 3)


def reaches_edge(outline: Outline, shape: Sequence[int]) -> bool:
    """Whether an outline holds voxels of the first or last plane along any axis of an image of this shape (z, y, x)."""
    return _faces(outline, shape) > 0


def _faces(outline: Outline, shape: Sequence[int]) -> int:
    """How many of the six faces of an image of this shape (z, y, x) an outline touches."""
    number = 0
    for axis, (part, n) in enumerate(zip(outline.place, shape, strict=True)):
        planes = outline.inside.any(axis=tuple(a for a in range(3) if a != axis))
        number += int(part.start == 0 and bool(planes[0])) + int(part.stop == n and bool(planes[-1]))
    return number


def _box_about(image, point: Sequence[float], model: LoadedModel, settings: Settings) -> Box | None:
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


def _on_image(seen: Look, part: np.ndarray, image: sitk.Image, settings: Settings) -> Outline | None:
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
    outline = Outline(inside, probability, place, seen, spread)
    return outline if settings.refiner is None else _refined(outline, image, settings)


def _refined(outline: Outline, image: sitk.Image, settings: Settings) -> Outline:
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
