"""Figures of merit of grades. `weights` (n,) say how often each image counts, as a bootstrap draw does; None: once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .classification_metrics import binary_figures

BETA = 2.0
"""Of F-beta (Qi et al. 2019): a missed malignancy weighs more than a false alarm."""
BINS = 10
"""Of the reliability diagram and the expected calibration error: equal widths of probability."""
NAN = float("nan")


def _weights(weights: np.ndarray | None, n: int) -> np.ndarray:
    return np.ones(n) if weights is None else np.asarray(weights, float)


def f_beta(said: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None, beta: float = BETA) -> float:
    """(1 + b^2) TP / ((1 + b^2) TP + b^2 FN + FP) of (n,) bool; NaN where neither is ever true."""
    w = _weights(weights, len(truth))
    hit, missed, false = ((w * part).sum() for part in (said & truth, ~said & truth, said & ~truth))
    total = (1 + beta**2) * hit + beta**2 * missed + false
    return float((1 + beta**2) * hit / total) if total else NAN


def reliability(
    probability: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None, bins: int = BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean probability, share that is true and number in each bin, (bins,) each; NaN where a bin is empty."""
    w = _weights(weights, len(truth))
    place = np.minimum((np.asarray(probability) * bins).astype(int), bins - 1)
    count = np.bincount(place, w, bins)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.bincount(place, w * probability, bins) / count, np.bincount(place, w * truth, bins) / count, count


def calibration_error(probability: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Expected calibration error: |mean probability - share that is true|, the mean over the bins weighted by their numbers.

    Guo C, Pleiss G, Sun Y, Weinberger KQ. On calibration of modern neural networks. ICML 2017; of the probability of "yes".
    """
    said, true, count = reliability(probability, np.asarray(truth, float), weights)
    total = count.sum()
    return float(np.nansum(np.abs(said - true) * count) / total) if total else NAN


def confusion(truth: np.ndarray, said: np.ndarray, classes: int, weights: np.ndarray | None = None) -> np.ndarray:
    """(classes, classes) how often `truth` (rows) was called `said` (columns), both (n,) int."""
    table = np.zeros((classes, classes))
    np.add.at(table, (truth, said), _weights(weights, len(truth)))
    return table


def quadratic_kappa(table: np.ndarray) -> float:
    """Cohen's kappa with quadratic weights of a confusion table; NaN where both sides have one and the same class only.

    Cohen J. Weighted kappa. Psychological Bulletin 1968;70:213-220.
    """
    total = table.sum()
    if not total:
        return NAN
    places = np.arange(len(table))
    cost = (places[:, None] - places) ** 2
    expected = np.outer(table.sum(1), table.sum(0)) / total
    by_chance = (cost * expected).sum()
    return float(1 - (cost * table).sum() / by_chance) if by_chance else NAN


def within_one(table: np.ndarray) -> float:
    """Share of a confusion table at most one class off."""
    places = np.arange(len(table))
    total = table.sum()
    return float(table[np.abs(places[:, None] - places) <= 1].sum() / total) if total else NAN


def exact(table: np.ndarray) -> float:
    """Share of a confusion table on its diagonal."""
    total = table.sum()
    return float(np.trace(table) / total) if total else NAN


def yes_no_figures(
    probability: np.ndarray, truth: np.ndarray, threshold: float, weights: np.ndarray | None = None
) -> dict[str, float]:
    """AUC, accuracy, sensitivity, specificity, F-beta and calibration error of probabilities (n,) of "yes" against (n,) bool."""
    truth = np.asarray(truth, bool)
    figures = binary_figures(probability, truth, threshold, weights)
    return {
        "auc": figures.auc,
        "accuracy": figures.accuracy,
        "sensitivity": figures.sensitivity,
        "specificity": figures.specificity,
        "f_beta": f_beta(np.asarray(probability) >= threshold, truth, weights),
        "calibration_error": calibration_error(probability, truth, weights),
    }


def stated_classes(chances: np.ndarray) -> np.ndarray:
    """The median of each distribution (n, K) over ordered classes, (n,) int; see `grade_terms.stated_category`."""
    cumulative = np.cumsum(chances, 1)
    return np.argmax(cumulative >= cumulative[:, -1:] / 2, 1)


def category_figures(chances: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None) -> dict[str, float]:
    """Exact share, within one category and quadratic kappa of probabilities (n, K) against the true class (n,) int."""
    table = confusion(truth, stated_classes(chances), chances.shape[1], weights)
    return {"exact": exact(table), "within_one": within_one(table), "quadratic_kappa": quadratic_kappa(table)}


def single_class(allowed: np.ndarray) -> np.ndarray:
    """Which labels (N, K) bool allow one class only, (N,) bool."""
    return np.asarray(allowed).sum(1) == 1


def validation_figures(outputs: Mapping[str, np.ndarray], allowed: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Figures of one network during training, at threshold 0.5: of malignancy (F-beta is its, or that of solid where it has none),
    solid nodules and, of labels with one category, the categories.

    outputs : output -> probabilities (N, K). allowed : output -> (N, K) bool.
    """
    record: dict[str, float] = {}
    for name in ("solid", "malignancy"):
        if name not in outputs:
            continue
        labels = np.asarray(allowed[name])
        known = single_class(labels)
        truth = labels[known, 1]
        if truth.all() or not truth.any():
            continue
        figures = yes_no_figures(outputs[name][known, 1], truth, 0.5)
        record |= {f"{name}_auc": figures["auc"], "f_beta": figures["f_beta"]}
    if "birads" in outputs:
        labels = np.asarray(allowed["birads"])
        known = single_class(labels)
        if known.any():
            figures = category_figures(outputs["birads"][known], labels[known].argmax(1))
            record["birads_kappa"] = figures["quadratic_kappa"]
    return {name: value for name, value in record.items() if np.isfinite(value)}
