"""Figures of merit for masks, and their bootstrap intervals."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np

from .bootstrap import LEVEL, SAMPLES, percentile_intervals


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|) of two boolean masks of one shape; 1 when both are empty."""
    total = int(found.sum()) + int(truth.sum())
    return 1.0 if total == 0 else 2.0 * int(np.logical_and(found, truth).sum()) / total


def jaccard(found: np.ndarray, truth: np.ndarray) -> float:
    """|A and B| / |A or B|; 1 when both are empty."""
    union = int(np.logical_or(found, truth).sum())
    return 1.0 if union == 0 else int(np.logical_and(found, truth).sum()) / union


def hausdorff95(found: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> float | None:
    """95th percentile of the Hausdorff distance between the two borders, in the unit of `spacing` (numpy axis order).

    Computed by MONAI: the larger of the two directed 95th percentiles. None when a mask is empty.
    """
    if not found.any() or not truth.any():
        return None
    import torch
    from monai.metrics import compute_hausdorff_distance

    pair = [torch.from_numpy(m[None, None].astype(np.float32)) for m in (found, truth)]
    with warnings.catch_warnings():
        # MONAI 1.5 and later warn of an argument that they themselves give.
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        distance = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=[float(s) for s in spacing])
    return float(distance)


def bootstrap_interval(
    values: Sequence[float],
    groups: Sequence[str],
    statistic: Callable[[np.ndarray], float] = np.mean,
    *,
    samples: int = SAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic, drawing whole groups (patients), as images of one are not independent.

    Returns (low, high); (nan, nan) for fewer than two groups.
    """
    values = np.asarray(values, float)
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    indices = [np.array(m) for m in members.values()]
    low, high = percentile_intervals(
        len(indices),
        lambda drawn: statistic(values[np.concatenate([indices[k] for k in drawn])]),
        samples=samples,
        level=level,
        seed=seed,
    )
    return float(low), float(high)


def roc_auc(scores: Sequence[float], positive: Sequence[bool], weights: Sequence[float] | None = None) -> float:
    """Area under the ROC curve: how often a positive scores above a negative, equal scores counting half (Mann-Whitney).

    `weights` says how often each counts, as a bootstrap draw does; None: once. NaN where there are no positives or no
    negatives, or a score is no number.

    >>> roc_auc([0.1, 0.4, 0.35, 0.8], [False, False, True, True])
    0.75
    """
    positive = np.asarray(positive, bool)
    weights = np.ones(len(positive)) if weights is None else np.asarray(weights, float)
    values, rank = np.unique(np.asarray(scores, float), return_inverse=True)
    if np.isnan(values).any():
        return float("nan")
    above = np.bincount(rank, weights * positive, len(values))
    below = np.bincount(rank, weights * ~positive, len(values))
    pairs = above.sum() * below.sum()
    if not pairs:
        return float("nan")
    return float(above @ (np.cumsum(below) - below / 2) / pairs)


def falling_steps(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How a curve over all thresholds takes in scores (n,): the order (n,) int by falling score, and in that order (n,)
    bool which is the last of its value, as equal scores come in together."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    return order, np.append(ordered[1:] != ordered[:-1], True)[: len(ordered)]


def sensitivity_at(
    detections: Sequence[tuple[float, object]], lesions: int, volumes: int, false_positives: float
) -> float:
    """Share of the lesions that are found when `false_positives` false alarms a volume are allowed (one point of a FROC curve).

    Parameters
    ----------
    detections : of all volumes: (score, lesion hit), the lesion as something hashable that names it among all volumes, or
        None for a false alarm. A lesion that is hit again adds nothing, neither right nor wrong.
    lesions, volumes : how many there are in all.
    false_positives : allowed a volume, on average.

    Returns
    -------
    0 to 1; detections of equal score are taken together. NaN without lesions.
    """
    if not lesions:
        return float("nan")
    found: set[object] = set()
    alarms, best = 0, 0
    ordered = sorted(detections, key=lambda d: -d[0])
    for number, (score, hit) in enumerate(ordered):
        if hit is None:
            alarms += 1
        else:
            found.add(hit)
        if alarms > false_positives * volumes:
            break
        if number + 1 == len(ordered) or ordered[number + 1][0] != score:
            best = len(found)
    return best / lesions
