"""From measured maps to the figures that are reported, each with a 95 % bootstrap interval drawn by volume."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..hot_spots import HotSpot
from . import detection_metrics as dm
from .bootstrap import SAMPLES, percentile_intervals, weights_of
from .heatmap_metrics import point_hits
from .heatmap_patches import PatchAnswers
from .metrics import roc_auc
from .volume_data import TrueLesion, VolumeCase

LEAST_ML = 0.1
"""Lesions above it, cm3, count for the pointing game that a model is judged by."""
PUBLISHED = {
    "centre-patch_auc": None,
    "centre-crop_auc": 0.936,
    "random-crop_auc": 0.925,
}
"""AUC of the paper's classifier on its test set, as the project's issue quotes it; on patients, not on these data."""


@dataclass(frozen=True)
class LesionHeat:
    """What a map says of one lesion.

    Attributes
    ----------
    lesion : the truth, with its volume.
    pointed, pointed_alone : whether the hottest place of the patch about its point lies in a lesion, and whether that of what is left without other
        lesions lies in it (`heatmap_metrics.Pointing`).
    distance_mm : from the latter place to the point.
    spot : number of the surest hot spot that holds the point, from 0; None where none does.
    dice : overlap of that spot and the lesion.
    slab_pointed : `pointed` by the published way, slab by slab; None where it was not measured.
    """

    lesion: TrueLesion
    pointed: bool
    pointed_alone: bool
    distance_mm: float
    spot: int | None
    dice: float | None
    slab_pointed: bool | None = None


@dataclass(frozen=True)
class VolumeHeat:
    """What the map of one volume says.

    Attributes
    ----------
    lesions, spots : of the volume; spots by falling score.
    points : (m, 3) of its lesions, in voxels of the spots' grid, whose `spacing` is mm along z, y, x.
    full_heat : the activation that is shown as heat 1.
    hottest_in_lesion : whether the map's hottest place lies in any lesion; None in a healthy volume.
    one_mean, surest_window : the logit of the whole volume by one mean, as published, and the highest of windows of the patches' size.
    seconds : from the image to the hot spots.
    """

    case: VolumeCase
    lesions: tuple[LesionHeat, ...]
    spots: tuple[HotSpot, ...]
    points: np.ndarray
    spacing: tuple[float, float, float]
    full_heat: float
    hottest_in_lesion: bool | None
    one_mean: float
    surest_window: float
    seconds: float


def hits_of(results: Sequence[VolumeHeat], least_score: float = 0.0) -> dm.Hits:
    """Which hot spot holds which point, of the spots with at least this score."""
    spots = [[s for s in r.spots if s.score >= least_score] for r in results]
    return point_hits([r.points for r in results], spots)


def summarise(
    results: Sequence[VolumeHeat], answers: Mapping[str, PatchAnswers], threshold: float, samples: int = SAMPLES
) -> dict[str, Any]:
    """The figures.

    Returns
    -------
    dict : counts, and ``figures``: name -> value, low, high, published (numbers, or None where there is nothing to say).
    """
    lesions = [m for r in results for m in r.lesions]
    volume_of = np.repeat(np.arange(len(results)), [len(r.lesions) for r in results])
    large = np.array([(m.lesion.volume_ml or 0.0) > LEAST_ML for m in lesions], bool)
    pointed = np.array([m.pointed for m in lesions], float)
    alone = np.array([m.pointed_alone for m in lesions], float)
    slab = np.array([np.nan if m.slab_pointed is None else float(m.slab_pointed) for m in lesions])
    distance = np.array([m.distance_mm for m in lesions], float)
    dice = np.array([np.nan if m.dice is None else m.dice for m in lesions], float)
    hottest = np.array([np.nan if r.hottest_in_lesion is None else float(r.hottest_in_lesion) for r in results])
    ill = np.array([bool(r.lesions) for r in results])
    everywhere, reported = hits_of(results), hits_of(results, threshold)
    names = [f"{r.case.source}/{r.case.id}" for r in results]
    place_of = {name: number for number, name in enumerate(names)}
    patches = {kind: np.array([place_of[v] for v in a.volumes], int) for kind, a in answers.items()}

    def figures(weights: np.ndarray) -> dict[str, float]:
        of_lesions = weights[volume_of]
        curve = dm.froc(everywhere, weights)
        values = {}
        for kind, answer in answers.items():
            values |= {f"{kind}_{name}": value for name, value in answer.figures(weights[patches[kind]]).items()}
        values |= {
            "pointing_game": _mean(pointed, of_lesions * large),
            "pointing_game_all_sizes": _mean(pointed, of_lesions),
            "pointing_game_others_left_out": _mean(alone, of_lesions * large),
            "pointing_game_by_slabs": _mean(slab, of_lesions * large),
            "hottest_place_in_a_lesion": _mean(hottest, weights),
            "distance_mm_median": _median(distance, of_lesions),
            "distance_mm_mean": _mean(distance, of_lesions),
            "sensitivity": dm.sensitivity(reported, weights),
            "false_positives": dm.false_positives(reported, weights),
            "dice_of_hits": _mean(dice, of_lesions),
            "froc": curve.score,
            **{f"froc_{rate:g}": float(curve.at(rate)) for rate in dm.FALSE_POSITIVES},
            "volume_auc_surest_window": roc_auc([r.surest_window for r in results], ill, weights),
            "volume_auc_one_mean": roc_auc([r.one_mean for r in results], ill, weights),
        }
        return values

    stated = figures(np.ones(len(results)))
    low, high = percentile_intervals(
        len(results), lambda drawn: np.array(list(figures(weights_of(drawn)).values())), samples=samples
    )
    rows = {
        name: {"value": _number(v), "low": _number(a), "high": _number(z), "published": PUBLISHED.get(name)}
        for (name, v), a, z in zip(stated.items(), low, high, strict=True)
        if not math.isnan(v)
    }
    return {
        "volumes": len(results),
        "healthy_volumes": int((~ill).sum()),
        "lesions": len(lesions),
        "lesions_above_0.1_ml": int(large.sum()),
        "seconds_median": float(np.median([r.seconds for r in results])),
        "figures": rows,
    }


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    """Weighted mean of what is known (not NaN); NaN where nothing is."""
    known = ~np.isnan(values)
    total = (weights * known).sum()
    return float((weights * np.where(known, values, 0)).sum() / total) if total else float("nan")


def _median(values: np.ndarray, weights: np.ndarray) -> float:
    """The median of values that count `weights` times."""
    repeated = np.repeat(values, weights.astype(int))
    return float(np.median(repeated)) if len(repeated) else float("nan")


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
