"""How well a map says where a lesion is, when nothing is known of it but a point.

- Hit: a hot spot that holds the point. As boxes do with an IoU, hits make sensitivity, false positives and the FROC curve of
  `detection_metrics`.
- Pointing game (Zhang et al. 2018): the map's hottest place lies in the lesion.
- Distance in mm from the hottest place to the point.
- Overlap, where the lesion is known whole: the Dice coefficient of spot and lesion.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..hot_spots import HotSpot
from .detection_metrics import Hits


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
