"""From matched boxes to the figures that are reported, each with a 95 % bootstrap interval drawn by volume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..findings import Finding
from . import detection_metrics as dm
from .bootstrap import SAMPLES, percentile_intervals, weights_of
from .classification_metrics import BinaryFigures, binary_figures
from .volume_data import TrueLesion, VolumeCase

VOLUME_EDGES_ML = (0.3, 1.0, 3.0)
"""Lesions are told apart by volume at these, cm3: the smallest are what is missed first."""
MALIGNANT_FROM = 0.5


@dataclass(frozen=True)
class OperatingPoint:
    """What is reported to a user: findings of at least this score, the surest `most` of a volume (None: all)."""

    least_score: float = 0.0
    most: int | None = None


@dataclass(frozen=True)
class VolumeResult:
    """What a detector said of one volume, and the truth. `boxes` are both, in mm along the image's axes."""

    case: VolumeCase
    lesions: tuple[TrueLesion, ...]
    findings: tuple[Finding, ...]
    boxes: dm.VolumeBoxes
    seconds: float


@dataclass(frozen=True)
class Measured:
    """The results of several volumes, matched.

    Attributes
    ----------
    lesions : all, in order of the volumes.
    paper : at the operating point, any overlap is a hit; `strict` the same at IoU above 0.3.
    anywhere, challenge : all candidates, at the same two limits: the FROC curves.
    judged : (m,) malignancy that the surest reported finding of each lesion has; NaN for lesions that were missed, and
        everywhere where the detector does not judge malignancy.
    """

    lesions: tuple[TrueLesion, ...]
    paper: dm.Hits
    strict: dm.Hits
    anywhere: dm.Hits
    challenge: dm.Hits
    judged: np.ndarray

    @cached_property
    def malignant(self) -> np.ndarray:
        return np.array([lesion.malignant for lesion in self.lesions], bool)

    @cached_property
    def posterior(self) -> np.ndarray:
        """(m,) what a perfect reader would state; NaN where the data do not say it."""
        return np.array([np.nan if x.posterior is None else x.posterior for x in self.lesions], float)

    @cached_property
    def groups(self) -> dict[str, np.ndarray]:
        return groups(self.lesions)


def measure(results: Sequence[VolumeResult], point: OperatingPoint) -> Measured:
    """Match the results of some volumes."""
    keep = [dm.reported(r.boxes, point.least_score, point.most) for r in results]
    boxes = [r.boxes for r in results]
    told = [dm.at_operating_point(b, point.least_score, point.most) for b in boxes]
    paper = dm.match(told, dm.PAPER_IOU)
    reported = [f for r, k in zip(results, keep, strict=True) for f, kept in zip(r.findings, k, strict=True) if kept]
    malignancy = np.array([np.nan if f.malignancy is None else f.malignancy for f in reported], float)
    surest = paper.surest()
    judged = np.full(paper.lesions, np.nan)
    judged[surest >= 0] = malignancy[surest[surest >= 0]]
    return Measured(
        lesions=tuple(lesion for r in results for lesion in r.lesions),
        paper=paper,
        strict=dm.match(told, dm.CHALLENGE_IOU),
        anywhere=dm.match(boxes, dm.PAPER_IOU),
        challenge=dm.match(boxes, dm.CHALLENGE_IOU),
        judged=judged,
    )


def groups(lesions: Sequence[TrueLesion]) -> dict[str, np.ndarray]:
    """Name -> (m,) bool of the lesions that are stated apart: by volume, and by echo pattern where it is known."""
    found: dict[str, np.ndarray] = {}
    volumes = np.array([np.nan if x.volume_ml is None else x.volume_ml for x in lesions], float)
    edges = (0.0, *VOLUME_EDGES_ML, math.inf)
    for low, high in zip(edges, edges[1:], strict=False):
        name = f"below {high:g} cm3" if low == 0 else f"{low:g} cm3 and more" if high == math.inf else f"{low:g} to {high:g} cm3"
        found[name] = (volumes >= low) & (volumes < high)
    patterns = [x.descriptors.get("echo_pattern", "") for x in lesions]
    for pattern in sorted(set(patterns) - {""}):
        found[pattern] = np.array([p == pattern for p in patterns], bool)
    return {name: among for name, among in found.items() if among.any()}


def figures(m: Measured, weights: np.ndarray | None = None, malignant_from: float = MALIGNANT_FROM) -> dict[str, float]:
    """All figures, by name; NaN where one is not defined. `weights`: how often each volume counts.

    The paper's three at the operating point (a lesion is found when a reported box overlaps it at all, a false positive
    overlaps none, IoU is that of the best box of each lesion that was found); the sensitivity there at IoU above 0.3;
    the same for some lesions; sensitivities along the FROC curves; benign against malignant on the lesions that were
    found, and on all lesions, where a missed one counts as one that nothing speaks against (malignancy 0). Beside each
    AUC stands the best possible one on the very same lesions, of the posterior with which phantoms are drawn.
    """
    found = {
        "sensitivity": dm.sensitivity(m.paper, weights),
        "false_positives": dm.false_positives(m.paper, weights),
        "mean_iou": dm.mean_iou(m.paper, weights),
        "sensitivity_iou_0.3": dm.sensitivity(m.strict, weights),
    }
    for name, among in m.groups.items():
        found[f"sensitivity: {name}"] = dm.sensitivity(m.paper, weights, among)
    for prefix, hits in (("froc", m.challenge), ("froc_any_overlap", m.anywhere)):
        curve = dm.froc(hits, weights)
        found |= {f"{prefix}_{x:g}": float(y) for x, y in zip(dm.FALSE_POSITIVES, curve.at(dm.FALSE_POSITIVES), strict=True)}
        found[f"{prefix}_mean"] = curve.score
    return found | _malignancy(m, weights, malignant_from)


def _malignancy(m: Measured, weights: np.ndarray | None, threshold: float) -> dict[str, float]:
    judged = ~np.isnan(m.judged)
    if not judged.any():
        return {}
    counts = np.ones(len(m.lesions)) if weights is None else weights[m.paper.lesion_volume]
    found: dict[str, float] = {}
    for name, lesions in (("found", judged), ("all", np.ones(len(judged), bool))):
        truth, weight = m.malignant[lesions], counts[lesions]
        result = binary_figures(np.nan_to_num(m.judged[lesions]), truth, threshold, weight)
        found |= {f"malignancy_{figure}_{name}": getattr(result, figure) for figure in BinaryFigures.__dataclass_fields__}
        posterior = m.posterior[lesions]
        if not np.isnan(posterior).any():
            found[f"malignancy_best_auc_{name}"] = binary_figures(posterior, truth, threshold, weight).auc
    return found


def summarise(
    results: Sequence[VolumeResult],
    point: OperatingPoint,
    malignant_from: float = MALIGNANT_FROM,
    samples: int = SAMPLES,
) -> tuple[dict[str, Any], Measured]:
    """Counts, and name -> {"value", "low", "high"} of every figure (None where undefined); and what they come from.

    `samples` is how often the bootstrap draws.
    """
    m = measure(results, point)
    values = figures(m, None, malignant_from)
    names = list(values)

    def drawn(volumes: np.ndarray) -> np.ndarray:
        again = figures(m, weights_of(volumes), malignant_from)
        return np.array([again[name] for name in names])

    low, high = percentile_intervals(len(results), drawn, samples=samples)
    stated = {
        name: {"value": _known(values[name]), "low": _known(a), "high": _known(b)}
        for name, a, b in zip(names, low, high, strict=True)
    }
    seconds = [r.seconds for r in results]
    counts = {
        "volumes": len(results),
        "synthetic_volumes": sum(r.case.synthetic for r in results),
        "healthy_volumes": sum(not r.lesions for r in results),
        "lesions": len(m.lesions),
        "malignant": int(m.malignant.sum()),
        "candidates": len(m.challenge.scores),
        "reported": len(m.paper.scores),
        "lesions_found": int((m.paper.lesion_scores > -np.inf).sum()),
        "false_positives": int((m.paper.lesion < 0).sum()),
        "lesions_by_group": {name: int(among.sum()) for name, among in m.groups.items()},
        "median_seconds": float(np.median(seconds)) if seconds else None,
    }
    return {**counts, "figures": stated}, m


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
