"""Percentile bootstrap over whole groups: patients or volumes, as images, lesions and boxes of one are not independent."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SAMPLES, LEVEL = 1000, 0.95


def percentile_intervals(
    groups: int,
    statistic: Callable[[np.ndarray], np.ndarray | float],
    *,
    samples: int = SAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap intervals of one or several statistics (Efron and Tibshirani 1993, chapter 13).

    Parameters
    ----------
    groups : how many independent groups there are.
    statistic : from the numbers (groups,) int of the groups that were drawn, with repetition, to a number or an array.
        NaN where a draw leaves it undefined, such as an AUC without malignant lesions; these draws are left out.
    samples, level, seed : how many draws, the share that the interval covers, and of the random numbers.

    Returns
    -------
    low, high : of the statistic's shape; NaN where no draw defines it, there are no groups, or one alone, of which all draws are the same.
    """
    if groups < 2:
        unknown = np.full(np.shape(statistic(np.zeros(1, int))) if groups else (), np.nan)[()]
        return unknown, unknown
    random = np.random.default_rng(seed)
    drawn = np.array([statistic(random.integers(0, groups, groups)) for _ in range(samples)], float)
    tail = (1 - level) / 2
    undefined = np.isnan(drawn).all(axis=0)
    low, high = np.nanquantile(np.where(undefined, 0.0, drawn), (tail, 1 - tail), axis=0)
    return np.where(undefined, np.nan, low)[()], np.where(undefined, np.nan, high)[()]


def weights_of(drawn: np.ndarray) -> np.ndarray:
    """How often each group was drawn, (groups,) float: the weights with which a draw counts what belongs to each group."""
    return np.bincount(drawn, minlength=len(drawn)).astype(float)
