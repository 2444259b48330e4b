"""What follows the patch classifier, chosen on validation volumes with nothing but their points: full heat and the threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..evaluation.detection_metrics import froc
from ..evaluation.heatmap_metrics import point_hits
from ..gradcam_3d import activation, spot_map
from ..hot_spots import SpotRule, hot_spots
from ..networks.resnet_3d import ResNet3d
from .detection_data import TrainingVolume

FALSE_POSITIVES = 1.0
"""A volume, at the threshold."""


def choose(
    volumes: Sequence[TrainingVolume], network: ResNet3d, crop: Sequence[int], rule: SpotRule, device: str
) -> tuple[dict[str, Any], dict[str, float]]:
    """The choices for the model's `postprocessing`, and figures on the volumes that they were made on.

    Parameters
    ----------
    crop : (z, y, x) voxels that the network learnt from.

    Returns
    -------
    choice : ``full_heat``, the activation that is shown as heat 1, which is its median at the points that speak for a lesion at all;
        ``threshold``, the least score with which spots are reported; the rule's fields.
    figures : sensitivity at 1 and 2 false positives a volume, where a hit is a spot that holds the point; share of the
        points that speak for a lesion.
    """
    spots, points, values = [], [], []
    for volume in volumes:
        levels = np.asarray(volume.levels)
        seen = spot_map(activation(network, levels, device=device), network.scale, levels.shape, volume.spacing)
        spots.append(hot_spots(seen.activation, seen.spacing, seen.window(crop), rule))
        points.append((volume.boxes[:, :3] + volume.boxes[:, 3:]) / 2 / seen.step)
        at = np.clip(np.floor(points[-1]), 0, np.subtract(seen.activation.shape, 1)).astype(int)
        values.append(seen.activation[tuple(at.T)])
    at_points = np.concatenate(values)
    warm = at_points[at_points > 0]
    curve = froc(point_hits(points, spots))
    last = int(np.flatnonzero(curve.false_positives <= FALSE_POSITIVES)[-1])
    steps = np.append(np.minimum(curve.thresholds, 1.0), 0.0)
    choice = {
        **asdict(rule),
        "full_heat": float(np.median(warm)) if len(warm) else 1.0,
        "threshold": float(np.clip((steps[last] + steps[last + 1]) / 2, 1e-4, 0.999)),
    }
    figures = {
        "sensitivity_at_1_fp": float(curve.at(1.0)),
        "sensitivity_at_2_fp": float(curve.at(2.0)),
        "warm_points": float(np.mean(at_points > 0)),
    }
    return choice, figures
