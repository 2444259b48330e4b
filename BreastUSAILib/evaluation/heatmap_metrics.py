"""How well a map says where a lesion is, when nothing is known of it but a point.

- Hit: a hot spot that holds the point. As boxes do with an IoU, hits make sensitivity, false positives and the FROC curve of
  `detection_metrics`.
- Pointing game (Zhang et al. 2018): the hottest place of the patch about a point lies in a lesion.
- Distance in mm from the hottest place to the point.
- Overlap, where the lesion is known whole: the Dice coefficient of spot and lesion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..hot_spots import HotSpot
from .detection_metrics import Hits
from .heatmap_patches import region_about


@dataclass(frozen=True)
class Pointing:
    """Where a map points in the patch about a lesion's point.

    Attributes
    ----------
    hit : whether the hottest voxel lies in a lesion, this one or another: "one of the annotated instances" (Zhang et al. 2018, section 4.1; their
        tolerance of 15 pixels about an object is not given here).
    alone : whether the hottest of the voxels that are of no other lesion lies in this one. What another lesion warms beyond its mask, by as little as
        a voxel, then counts as a miss of this one.
    place : (z, y, x) of the latter voxel.
    """

    hit: bool
    alone: bool
    place: tuple[int, int, int]


def pointing(
    heat: np.ndarray, labels: np.ndarray, label: int, point: Sequence[float], patch: Sequence[int]
) -> Pointing:
    """Where a map points about a lesion.

    Parameters
    ----------
    heat : (z, y, x) the map.
    labels : of `heat`'s shape; 0, and a number for each lesion.
    label : this lesion's.
    point : (z, y, x) voxels from the map's edge.
    patch : (z, y, x) voxels of the patch, which is moved into the map and cut to it where it must be (`region_about`).
    """
    start, size = region_about(point, patch, heat.shape)
    part = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
    values, known = heat[part], labels[part]
    hottest = np.unravel_index(int(values.argmax()), values.shape)
    of_others = (known > 0) & (known != label)
    alone = np.unravel_index(int(np.where(of_others, -np.inf, values).argmax()), values.shape)
    place = tuple(int(a + b) for a, b in zip(start, alone, strict=True))
    return Pointing(bool(known[hottest] > 0), bool(known[alone] == label), place)


def point_hits(points: Sequence[np.ndarray], spots: Sequence[Sequence[HotSpot]]) -> Hits:
    """Which hot spot holds which point; volume by volume.

    Parameters
    ----------
    points : (m, 3) of each volume, voxels (z, y, x) of the grid of its spots, from its edge.
    spots : of each volume. One that holds several points hits the one nearest to its hottest voxel.
    """
    lesion, first = [], 0
    for here, found in zip(points, spots, strict=True):
        for spot in found:
            held = [i for i, point in enumerate(here) if spot.holds(point)]
            held.sort(key=lambda i: float(np.sum((here[i] - np.array(spot.peak)) ** 2)))
            lesion.append(first + held[0] if held else -1)
        first += len(here)
    numbers = np.arange(len(points))
    lesion = np.array(lesion, int).reshape(-1)
    return Hits(
        volumes=len(points),
        candidate_volume=np.repeat(numbers, [len(s) for s in spots]),
        lesion_volume=np.repeat(numbers, [len(p) for p in points]),
        scores=np.array([s.score for found in spots for s in found], float),
        lesion=lesion,
        iou=(lesion >= 0).astype(float),
    )
