"""From a map to numbers: the places of a volume that speak for a lesion, how strongly, and how far each reaches.

On a grid, without physical space; `heatmap` gives the grid and says where it lies. Positions and boxes are in voxels from
the grid's edge, so that the first voxel's centre is at 0.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .postprocessing import settings_of

_LEAST_SHARE = 0.02  # of the strongest: nothing below it is looked at


@dataclass(frozen=True)
class SpotRule:
    """What counts as a hot spot.

    Attributes
    ----------
    floor : the activation where heat begins: what ordinary tissue reaches.
    fraction : a spot is what is connected to its hottest voxel at this share of its heat or more.
    apart_mm : two hottest voxels of different spots are farther apart than this.
    maximum : spots of a volume, the hottest.
    scored_by : "patch": by the network's own head, see `HotSpot.score`; "peak": by the peak's heat h, as h / (1 + h).
    full_heat : the activation above the floor that counts as heat 1.
    """

    floor: float = 0.0
    fraction: float = 0.5
    apart_mm: float = 4.0
    maximum: int = 20
    scored_by: str = "patch"
    full_heat: float = 1.0

    @classmethod
    def of(cls, postprocessing: Mapping[str, Any]) -> SpotRule:
        """The rule that a model's `postprocessing` describes; what it does not name is as above."""
        return settings_of(cls, postprocessing)


@dataclass(frozen=True)
class HotSpot:
    """One place that speaks for a lesion.

    Attributes
    ----------
    peak : (z, y, x) of the hottest voxel's centre.
    value : the activation there, above the rule's floor.
    score : 0 to 1. By "patch" the probability that the network's own head gives a patch about the peak, without what speaks for other spots
        in it; by "peak" 1/2 where it is as hot as heat 1, nearer to 1 the hotter it is.
    box : (z1, y1, x1, z2, y2, x2) of the spot.
    centroid : (z, y, x), its voxels weighted with their heat.
    inside : (z, y, x) bool, the spot within its box.
    """

    peak: tuple[float, float, float]
    value: float
    score: float
    box: tuple[float, ...]
    centroid: tuple[float, float, float]
    inside: np.ndarray = field(repr=False, compare=False)

    def holds(self, point: Sequence[float]) -> bool:
        """Whether a point (z, y, x) lies within the spot."""
        index = np.floor(np.asarray(point, float) - self.box[:3]).astype(int)
        return bool(np.all(index >= 0) and np.all(index < self.inside.shape) and self.inside[tuple(index)])


def hot_spots(
    activation: np.ndarray, spacing: Sequence[float], window: Sequence[int], rule: SpotRule = SpotRule()
) -> list[HotSpot]:
    """The hot spots of a map, by falling score.

    Parameters
    ----------
    activation : (z, y, x) float32; see `gradcam_3d.activation`, resampled to a grid of about a millimetre.
    spacing : mm along z, y, x.
    window : (z, y, x) voxels of the patches that the network learnt from.
    """
    from scipy import ndimage

    heat = np.maximum(activation - np.float32(rule.floor), 0)
    found: list[HotSpot] = []
    if not heat.any():
        return found
    taken = np.zeros(heat.shape, bool)
    for peak in _maxima(heat, spacing, rule):
        value = float(heat[peak])
        if len(found) >= rule.maximum or taken[peak]:
            continue
        region, start = _connected(heat, peak, value * rule.fraction, ndimage)
        part = tuple(slice(a, a + n) for a, n in zip(start, region.shape, strict=True))
        region &= ~taken[part]
        taken[part] |= region
        where = np.argwhere(region)
        first, last = where.min(0), where.max(0) + 1
        inside = region[tuple(slice(a, z) for a, z in zip(first, last, strict=True))]
        weights = heat[part][region]
        found.append(
            HotSpot(
                peak=tuple(float(p) + 0.5 for p in peak),
                value=value,
                score=value / (value + rule.full_heat)
                if rule.scored_by == "peak"
                else _score(activation, peak, region, start, window),
                box=tuple(float(v) for v in (*(first + start), *(last + start))),
                centroid=tuple(float(v) for v in weights @ (where + start + 0.5) / weights.sum()),
                inside=inside,
            )
        )
    return sorted(found, key=lambda spot: -spot.score)


def _maxima(heat: np.ndarray, spacing: Sequence[float], rule: SpotRule) -> list[tuple[int, ...]]:
    """The voxels that are the hottest within `apart_mm` along each axis, by falling heat; one of several equal neighbours."""
    from scipy import ndimage

    size = [2 * max(1, round(rule.apart_mm / s)) + 1 for s in spacing]
    least = _LEAST_SHARE * float(heat.max())
    places = np.argwhere((ndimage.maximum_filter(heat, size) == heat) & (heat > least))
    order = np.argsort(-heat[tuple(places.T)], kind="stable")
    return [tuple(int(v) for v in place) for place in places[order]]


def _connected(heat: np.ndarray, peak: tuple[int, ...], least: float, ndimage) -> tuple[np.ndarray, np.ndarray]:
    """What of at least this heat is connected to the peak: (z, y, x) bool, and the voxel (3,) at which that part of the map begins."""
    reach = 16
    while True:  # in a part of the map about the peak, which grows until the spot does not touch its edge
        start = np.maximum(0, np.subtract(peak, reach))
        end = np.minimum(heat.shape, np.add(peak, reach + 1))
        labels, _ = ndimage.label(heat[tuple(slice(a, z) for a, z in zip(start, end, strict=True))] >= least)
        region = labels == labels[tuple(np.subtract(peak, start))]
        where = np.nonzero(region)
        cut = any(
            (w.min() == 0 and a > 0) or (w.max() == r - 1 and z < n)
            for w, a, z, r, n in zip(where, start, end, region.shape, heat.shape, strict=True)
        )
        if not cut:
            return region, start
        reach *= 2


def _score(
    activation: np.ndarray,
    peak: tuple[int, ...],
    region: np.ndarray,
    start: np.ndarray,
    window: Sequence[int],
) -> float:
    size = np.minimum(window, activation.shape)
    first = np.clip(np.asarray(peak) - size // 2, 0, np.asarray(activation.shape) - size)
    part = tuple(slice(a, a + n) for a, n in zip(first, size, strict=True))
    # What speaks against a lesion counts everywhere in the window, what speaks for one within the spot alone.
    total = float(np.minimum(activation[part], 0).sum(dtype=np.float64))
    low, high = np.maximum(first, start), np.minimum(first + size, start + region.shape)
    common = tuple(slice(a, z) for a, z in zip(low, high, strict=True))
    own = region[tuple(slice(a, z) for a, z in zip(low - start, high - start, strict=True))]
    total += float(np.maximum(activation[common][own], 0).sum(dtype=np.float64))
    return float(1 / (1 + np.exp(-np.clip(total / size.prod(), -50, 50))))
