"""What follows the patch classifier, chosen on validation volumes with nothing but their points: floor and full heat, the score and its threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from ..evaluation.detection_metrics import Froc, froc
from ..evaluation.heatmap_metrics import point_hits
from ..gradcam_3d import activation, spot_map
from ..hot_spots import SpotRule, hot_spots
from ..mirrors import CHOICES, HELPS
from ..networks.resnet_3d import ResNet3d
from .detection_data import TrainingVolume

FALSE_POSITIVES = 1.0
"""A volume, at the threshold."""
ORDINARY = 0.9
"""The share of all cells that the floor lies above: lesions are a hundredth of a volume, and a tenth of it looks a little like them."""
SCORES = ("patch", "peak")


def choose(
    volumes: Sequence[TrainingVolume],
    network: ResNet3d,
    crop: Sequence[int],
    rule: SpotRule,
    device: str,
    looks: Sequence[int] = CHOICES,
    degree: int = 1,
) -> tuple[dict[str, Any], dict[str, float]]:
    """The choices for the model's `postprocessing`, and figures on the volumes that they were made on.

    Parameters
    ----------
    crop : (z, y, x) voxels that the network learnt from.
    looks : numbers of looks at mirror images to choose from; more of them must add `mirrors.HELPS` to the mean of sensitivity at 1 and 2
        false positives a volume.
    degree : of the map's splines, see `gradcam_3d.interpolation`.

    Returns
    -------
    choice : ``spline``, the degree; ``mirrors``, the looks; ``floor``, the activation that nine cells in ten stay below, which is shown as heat 0; ``full_heat``, the
        activation above it that is shown as heat 1, which is its median at the points that speak for a lesion at all; by what spots are scored,
        that with the higher mean of sensitivity at 1 and 2 false positives a volume; ``threshold``, the least score with which they are
        reported; the rule's fields.
    figures : sensitivity at 1 and 2 false positives a volume, where a hit is a spot that holds the point, with each score that was tried, and
        with each number of looks; share of the points that speak for a lesion.
    """
    best, of_looks = None, {}
    for mirrors in looks:
        choice, figures = _choose(volumes, network, crop, rule, device, mirrors, degree)
        merit = (figures["sensitivity_at_1_fp"] + figures["sensitivity_at_2_fp"]) / 2
        of_looks[f"sensitivity_at_1_fp_by_{mirrors}_looks"] = figures["sensitivity_at_1_fp"]
        if best is None or merit >= best[0] + HELPS:
            best = merit, choice, figures
    _, choice, figures = best
    return choice, figures | (of_looks if len(looks) > 1 else {})


def _choose(
    volumes: Sequence[TrainingVolume],
    network: ResNet3d,
    crop: Sequence[int],
    rule: SpotRule,
    device: str,
    mirrors: int,
    degree: int,
) -> tuple[dict[str, Any], dict[str, float]]:
    maps, points, values = [], [], []
    for volume in volumes:
        levels = np.asarray(volume.levels)
        cells = activation(network, levels, device=device, mirrors=mirrors)
        seen = spot_map(cells, network.scale, levels.shape, volume.spacing, degree)
        maps.append(seen)
        points.append((volume.boxes[:, :3] + volume.boxes[:, 3:]) / 2 / seen.step)
        at = np.clip(np.floor(points[-1]), 0, np.subtract(seen.activation.shape, 1)).astype(int)
        values.append(seen.activation[tuple(at.T)])
    floor = float(np.quantile(np.concatenate([m.activation.ravel() for m in maps]), ORDINARY))
    at_points = np.concatenate(values) - floor
    warm = at_points[at_points > 0]
    full = float(np.median(warm)) if len(warm) else 1.0

    tried, figures = {}, {}
    for scored_by in SCORES:
        tried[scored_by] = replace(rule, scored_by=scored_by, floor=floor, full_heat=full)
        spots = [hot_spots(m.activation, m.spacing, m.window(crop), tried[scored_by]) for m in maps]
        curve = froc(point_hits(points, spots))
        figures[scored_by] = {
            "sensitivity_at_1_fp": float(curve.at(1.0)),
            "sensitivity_at_2_fp": float(curve.at(2.0)),
            "threshold": _threshold(curve),
        }
    best = max(SCORES, key=lambda name: figures[name]["sensitivity_at_1_fp"] + figures[name]["sensitivity_at_2_fp"])
    choice = {"spline": degree, "mirrors": mirrors, **asdict(tried[best]), "threshold": figures[best]["threshold"]}
    measured = {
        **{name: figures[best][name] for name in ("sensitivity_at_1_fp", "sensitivity_at_2_fp")},
        **{f"sensitivity_at_1_fp_by_{name}": figures[name]["sensitivity_at_1_fp"] for name in SCORES},
        "warm_points": float(np.mean(at_points > 0)),
    }
    return choice, measured


def _threshold(curve: Froc) -> float:
    """The least score with no more than `FALSE_POSITIVES` a volume, midway to the score that would be too low."""
    last = int(np.flatnonzero(curve.false_positives <= FALSE_POSITIVES)[-1])
    steps = np.append(np.minimum(curve.thresholds, 1.0), 0.0)
    return float(np.clip((steps[last] + steps[last + 1]) / 2, 1e-4, 0.999))
