"""From outlined lesions to the figures that are reported, each with a 95 % bootstrap interval drawn by volume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .bootstrap import SAMPLES, percentile_intervals
from .metrics import roc_auc

SMALL_ML = 1.0
"""Lesions are told apart at this volume, cm3, as in the paper."""
MALIGNANT_FROM = 0.5


@dataclass(frozen=True)
class LesionResult:
    """What was made of one true lesion.

    Attributes
    ----------
    source, volume, lesion : data set, volume's name in it, the lesion's label.
    malignant, volume_ml : of the lesion; `posterior` what a perfect reader would state, None where it is not known.
    found : whether there was a box for it (a detector may have missed it) and something was outlined.
    dice, jaccard : of the mask; 0 where nothing was found, NaN for a network that does not outline.
    hd95 : mm; None where nothing was found.
    malignancy : probability that was stated; None where nothing was.
    volume_error_ml : volume of the mask less the true one; None where nothing was found.
    uncertainty : of the outline; None where it was not asked for.
    seconds : for this lesion.
    """

    source: str
    volume: str
    lesion: int
    malignant: bool
    volume_ml: float
    posterior: float | None
    found: bool
    dice: float
    jaccard: float
    hd95: float | None
    malignancy: float | None
    volume_error_ml: float | None
    uncertainty: float | None
    seconds: float


def _array(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in values], float)


@dataclass(frozen=True)
class Columns:
    """Results as arrays (n,); NaN for None. `group` (n,) int is the volume's number."""

    dice: np.ndarray
    jaccard: np.ndarray
    hd95: np.ndarray
    malignancy: np.ndarray
    posterior: np.ndarray
    malignant: np.ndarray
    small: np.ndarray
    found: np.ndarray
    group: np.ndarray

    @classmethod
    def of(cls, results: Sequence[LesionResult]) -> Columns:
        names = list(dict.fromkeys((r.source, r.volume) for r in results))
        numbers = {name: i for i, name in enumerate(names)}
        return cls(
            dice=_array([r.dice for r in results]),
            jaccard=_array([r.jaccard for r in results]),
            hd95=_array([r.hd95 for r in results]),
            malignancy=_array([r.malignancy for r in results]),
            posterior=_array([r.posterior for r in results]),
            malignant=np.array([r.malignant for r in results], bool),
            small=np.array([r.volume_ml <= SMALL_ML for r in results], bool),
            found=np.array([r.found for r in results], bool),
            group=np.array([numbers[(r.source, r.volume)] for r in results], int),
        )

    def take(self, index: np.ndarray) -> Columns:
        return Columns(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})


def figures(c: Columns, malignant_from: float = MALIGNANT_FROM) -> dict[str, float]:
    """All figures, by name; NaN where one is not defined.

    DSC and JI count a lesion that was not found as 0; the same over found lesions alone, and 95HD, which has no meaning otherwise. Small lesions
    are those of up to 1 cm3. Malignancy on the lesions for which one was stated: accuracy, recall (sensitivity), precision,
    false positive rate, F1 at the given probability; AUC, and beside it the best possible AUC on the same lesions, of the
    posterior with which phantoms are drawn.
    """
    everything = np.ones(len(c.dice), bool)
    found: dict[str, float] = {"found": _mean(c.found.astype(float))}
    for suffix, among in (("", everything), ("_small", c.small), ("_large", ~c.small)):
        found[f"dsc{suffix}"] = _mean(c.dice[among])
        found[f"ji{suffix}"] = _mean(c.jaccard[among])
        found[f"hd95_mm{suffix}"] = _mean(c.hd95[among & c.found])
    found["dsc_found"] = _mean(c.dice[c.found])
    found["hd95_mm_median"] = float(np.median(c.hd95[c.found])) if c.found.any() else math.nan
    for suffix, among in (("", everything), ("_small", c.small), ("_large", ~c.small)):
        stated = among & ~np.isnan(c.malignancy)
        found |= _malignancy(c, stated, suffix, malignant_from)
    return found


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _malignancy(c: Columns, among: np.ndarray, suffix: str, threshold: float) -> dict[str, float]:
    if not among.any():
        return {}
    truth, said = c.malignant[among], c.malignancy[among] >= threshold
    right, wrong = int((said & truth).sum()), int((said & ~truth).sum())
    missed = int((~said & truth).sum())
    found = {
        f"acc{suffix}": float((said == truth).mean()),
        f"rec{suffix}": _ratio(right, right + missed),
        f"pre{suffix}": _ratio(right, right + wrong),
        f"fpr{suffix}": _ratio(wrong, int((~truth).sum())),
        f"f1{suffix}": _ratio(2 * right, 2 * right + wrong + missed),
        f"auc{suffix}": roc_auc(c.malignancy[among], truth),
    }
    posterior = c.posterior[among]
    if not np.isnan(posterior).any():
        found[f"best_auc{suffix}"] = roc_auc(posterior, truth)
    return found


def summarise(
    results: Sequence[LesionResult], malignant_from: float = MALIGNANT_FROM, samples: int = SAMPLES
) -> dict[str, Any]:
    """Counts, and name -> {"value", "low", "high"} of every figure (None where undefined)."""
    columns = Columns.of(results)
    values = figures(columns, malignant_from)
    groups = int(columns.group.max()) + 1 if len(results) else 0
    members = [np.flatnonzero(columns.group == g) for g in range(groups)]

    def drawn(volumes: np.ndarray) -> np.ndarray:
        again = figures(columns.take(np.concatenate([members[g] for g in volumes])), malignant_from)
        return np.array([again.get(name, math.nan) for name in values])

    low, high = percentile_intervals(groups, drawn, samples=samples)
    seconds = [r.seconds for r in results if r.seconds > 0]
    return {
        "volumes": groups,
        "lesions": len(results),
        "malignant": int(columns.malignant.sum()),
        "small": int(columns.small.sum()),
        "found": int(columns.found.sum()),
        "median_seconds": float(np.median(seconds)) if seconds else None,
        "figures": {
            name: {"value": _known(values[name]), "low": _known(a), "high": _known(b)}
            for name, a, b in zip(values, np.atleast_1d(low), np.atleast_1d(high), strict=True)
        },
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
