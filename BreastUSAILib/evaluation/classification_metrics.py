"""Figures of merit for benign against malignant. `weights` as in `detection_metrics`, here one a lesion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .metrics import falling_steps, roc_auc


@dataclass(frozen=True)
class BinaryFigures:
    """AUC, and the shares of right answers among all, among malignant and among benign lesions; NaN where there are none."""

    auc: float
    accuracy: float
    sensitivity: float
    specificity: float


def binary_figures(
    probability: np.ndarray, malignant: np.ndarray, threshold: float, weights: np.ndarray | None = None
) -> BinaryFigures:
    """Figures of probabilities (n,) of malignancy against the truth (n,) bool; malignant is said from `threshold` on."""
    malignant = np.asarray(malignant, bool)
    weights = np.ones(len(malignant)) if weights is None else np.asarray(weights, float)
    right = (np.asarray(probability) >= threshold) == malignant

    def share(among: np.ndarray) -> float:
        total = (weights * among).sum()
        return float((weights * among * right).sum() / total) if total else float("nan")

    return BinaryFigures(
        auc=roc_auc(probability, malignant, weights),
        accuracy=share(np.ones(len(malignant), bool)),
        sensitivity=share(malignant),
        specificity=share(~malignant),
    )


def roc_curve(probability: np.ndarray, malignant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rate, (k,) each, from (0, 0) to (1, 1) over all thresholds; equal values come in together."""
    malignant = np.asarray(malignant, bool)
    order, last = falling_steps(np.asarray(probability, float))
    rates = []
    for among in (~malignant, malignant):
        counts = np.append(0, np.cumsum(among[order])[last])
        rates.append(counts / max(counts[-1], 1))
    return rates[0], rates[1]
