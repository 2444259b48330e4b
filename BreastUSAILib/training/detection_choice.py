"""What follows the detection network, chosen on validation volumes: suppression, voting, the threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from typing import Any

import numpy as np
from torch import nn

from ..candidates import Candidates, Search, Seen, choose_boxes, looks
from ..evaluation.detection_metrics import (
    CHALLENGE_IOU,
    PAPER_IOU,
    VolumeBoxes,
    at_operating_point,
    froc,
    match,
    mean_iou,
)
from ..mirrors import CHOICES, HELPS
from ..multi_scale import merged, scaled
from .detection_data import TrainingVolume

SUPPRESSION = (0.02, 0.1, 0.2)
VOTES = (None, 0.4, 0.6)
FALSE_POSITIVES = 1.0
"""A volume, at the threshold: a little below the paper's 1.24."""


def see(
    volumes: Sequence[TrainingVolume], network: nn.Module, search: Search, device: str, counts: Sequence[int] = ()
) -> dict[int, list[list[Seen]]]:
    """What the network says of each volume, before any choice, with each of these numbers of looks (none: the search's)."""
    counts = counts or (search.mirrors,)
    each = [looks(np.asarray(volume.levels), network, search, counts, device=device) for volume in volumes]
    return {count: [seen[count] for seen in each] for count in counts}


def candidates_of(
    volumes: Sequence[TrainingVolume], seen: Sequence[Sequence[Seen]], search: Search
) -> list[Candidates]:
    return [choose_boxes(s, v.levels.shape, v.spacing, search) for v, s in zip(volumes, seen, strict=True)]


def on_grids(grids: Sequence[Sequence[TrainingVolume]], found: Sequence[Sequence[Candidates]], search: Search) -> list[Candidates]:
    """What was `found` of each volume on each grid, as one set in voxels of the first."""
    merge = []
    for volumes, each in zip(zip(*grids, strict=True), zip(*found, strict=True), strict=True):
        factors = [np.divide(volume.spacing, volumes[0].spacing) for volume in volumes]
        merge.append(merged([scaled(f, factor) for f, factor in zip(each, factors, strict=True)], search))
    return merge


def scored(volumes: Sequence[TrainingVolume], found: Sequence[Candidates]) -> list[VolumeBoxes]:
    """For the metrics: boxes in mm, so that a match is the same on every grid."""

    def in_mm(boxes: np.ndarray, volume: TrainingVolume) -> np.ndarray:
        return np.asarray(boxes, float).reshape(-1, 6) * np.tile(volume.spacing, 2)

    return [
        VolumeBoxes(in_mm(v.boxes, v), in_mm(f.boxes, v), np.asarray(f.scores, float))
        for v, f in zip(volumes, found, strict=True)
    ]


def figures(volumes: Sequence[TrainingVolume], found: Sequence[Candidates]) -> dict[str, float]:
    """Sensitivity at 1 and 2 false positives a volume (the paper's definitions), the challenge's score, mean IoU of what is hit."""
    boxes = scored(volumes, found)
    curve = froc(match(boxes, PAPER_IOU))
    at_one = [at_operating_point(v, threshold_at(boxes)) for v in boxes]
    return {
        "sensitivity_at_1_fp": float(curve.at(1.0)),
        "sensitivity_at_2_fp": float(curve.at(2.0)),
        "froc_iou_0.3": froc(match(boxes, CHALLENGE_IOU)).score,
        "mean_iou": float(np.nan_to_num(mean_iou(match(at_one, PAPER_IOU)))),
    }


def merit(figures: Mapping[str, float]) -> float:
    """What choices are compared by: the mean of sensitivity at 1 and 2 false positives, and half the mean IoU."""
    return (figures["sensitivity_at_1_fp"] + figures["sensitivity_at_2_fp"]) / 2 + figures["mean_iou"] / 2


def threshold_at(boxes: Sequence[VolumeBoxes], false_positives: float = FALSE_POSITIVES) -> float:
    """The least score with which there are no more than so many false positives a volume, midway to the score that would be too low."""
    curve = froc(match(boxes, PAPER_IOU))
    last = int(np.flatnonzero(curve.false_positives <= false_positives)[-1])
    steps = np.append(np.minimum(curve.thresholds, 1.0), 0.0)
    return float(np.clip((steps[last] + steps[last + 1]) / 2, 1e-4, 0.999))


def choose(
    volumes: Sequence[TrainingVolume],
    network: nn.Module,
    search: Search,
    device: str,
    *,
    published: bool = False,
    finer: Mapping[float, Sequence[TrainingVolume]] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The choices for the model's `postprocessing`, and the table of what was tried.

    Suppression, voting and looks by `merit`, of which more looks must add `mirrors.HELPS`; whether a second grid is searched in the same way, and half
    as many looks at it where all add less than that to them; the threshold by `threshold_at`. With `published` the search stays as the paper has it, and
    only the threshold is chosen.

    finer : the same volumes on other grids, by their voxels' size in those of `volumes`.
    """
    rows, best = [], None
    counts = (search.mirrors,) if published else CHOICES
    for mirrors, seen in see(volumes, network, search, device, counts).items():
        tries = [replace(search, mirrors=mirrors)]
        if not published:
            tries = [replace(tries[0], suppression_iou=s, vote_iou=v) for s, v in product(SUPPRESSION, VOTES)]
        table = [figures(volumes, candidates_of(volumes, seen, tried)) for tried in tries]
        rows += [
            {"mirrors": t.mirrors, "suppression_iou": t.suppression_iou, "vote_iou": t.vote_iou, **row}
            for t, row in zip(tries, table, strict=True)
        ]
        first = int(np.argmax([merit(row) for row in table]))
        if best is None or merit(table[first]) >= merit(best[1]) + HELPS:
            best = tries[first], table[first], candidates_of(volumes, seen, tries[first])
    chosen, measured, found = best
    alone = found
    for scale, others in (finer or {}).items():
        # All looks say whether it helps. One at it takes nearly as long as two at the first, so half of them do where they lose too little to pay for it.
        rivals = {}
        for mirrors, seen in see(others, network, chosen, device, sorted({max(1, chosen.mirrors // 2), chosen.mirrors})).items():
            tried = replace(chosen, scales=(1.0, scale), finer_mirrors=mirrors)
            both = on_grids([volumes, others], [alone, candidates_of(others, seen, tried)], tried)
            rivals[mirrors] = tried, figures(volumes, both), both
            rows.append({"mirrors": tried.mirrors, "scales": [1.0, scale], "finer_mirrors": mirrors, **rivals[mirrors][1]})
        all_looks = merit(rivals[chosen.mirrors][1])
        if all_looks >= merit(measured) + HELPS:
            chosen, measured, found = next(rival for _, rival in sorted(rivals.items()) if merit(rival[1]) > all_looks - HELPS)
    record = {"volumes": len(volumes), "lesions": sum(len(v.boxes) for v in volumes), "tried": rows}
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(chosen).items()}
    return {**values, "threshold": threshold_at(scored(volumes, found))}, {**record, "figures": measured}
