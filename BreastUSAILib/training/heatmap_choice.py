"""What follows the patch classifier, chosen on validation volumes with nothing but their points: full heat and the threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..evaluation.detection_metrics import Hits, froc
from ..heatmap import spot_map
from ..hot_spots import HotSpot, SpotRule, hot_spots
from ..networks.resnet_3d import ResNet3d
from .detection_data import TrainingVolume

FALSE_POSITIVES = 1.0
"""A volume, at the threshold."""


def spots_of(
    volumes: Sequence[TrainingVolume], network: ResNet3d, crop: Sequence[int], rule: SpotRule, device: str
) -> tuple[list[list[HotSpot]], list[np.ndarray]]:
    """The hot spots of each volume, and the activation at each of its points (m,)."""
    spots, values = [], []
    for volume in volumes:
        seen = spot_map(network, np.asarray(volume.levels), volume.spacing, device=device)
        spots.append(hot_spots(seen.activation, seen.spacing, seen.window(crop), rule))
        centres = (volume.boxes[:, :3] + volume.boxes[:, 3:]) / 2 / seen.step
        inside = np.clip(np.floor(centres), 0, np.asarray(seen.activation.shape) - 1).astype(int)
        values.append(seen.activation[tuple(inside.T)])
    return spots, values


def choose(
    volumes: Sequence[TrainingVolume], network: ResNet3d, crop: Sequence[int], rule: SpotRule, device: str
) -> tuple[dict[str, Any], dict[str, float]]:
    """The choices for the model's `postprocessing`, and the figures on the volumes that they were made on.

    Returns
    -------
    choice : ``full_heat``, the activation that is shown as heat 1, which is its median at points of lesions; ``threshold``, the least score with
        which spots are reported; the rule's fields.
    figures : sensitivity at 1 and 2 false positives a volume, a hit being a spot that holds the point, and share of the volumes with
        lesions whose hottest spot is a hit.
    """
    spots, values = spots_of(volumes, network, crop, rule, device)
    at_points = np.concatenate([np.zeros(0), *values])
    above = at_points[at_points > 0]
    hits = point_hits(volumes, spots)
    curve = froc(hits)
    last = int(np.flatnonzero(curve.false_positives <= FALSE_POSITIVES)[-1])
    steps = np.append(np.minimum(curve.thresholds, 1.0), 0.0)
    threshold = float(np.clip((steps[last] + steps[last + 1]) / 2, 1e-4, 0.999))
    first = [s[0] for s, v in zip(spots, volumes, strict=True) if len(v.boxes) and s]
    told = [v for s, v in zip(spots, volumes, strict=True) if len(v.boxes) and s]
    right = [any(s.holds(c) for c in centres_of(v, s_map)) for s, v, s_map in ()]
    return {}, {}
