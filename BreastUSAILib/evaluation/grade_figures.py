"""The pictures of an evaluation of grades: ROC curves, reliability diagram, confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..atomic import atomic_path
from .classification_metrics import roc_curve
from .grade_metrics import BINS, calibration_error, reliability
from .metrics import roc_auc

_BLUE, _GREY = "#2060a8", "#808080"


def _save(path: Path, paint, *arguments, height: float = 4.6) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, height), layout="constrained")
    FigureCanvasAgg(figure)
    paint(figure.subplots(), *arguments)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    return path


def draw_roc(
    path: Path, curves: Sequence[tuple[str, np.ndarray, np.ndarray]], point: tuple[float, float] | None
) -> Path:
    """ROC curves; each is (name, probability (n,), truth (n,) bool). `point`: 1 - specificity and sensitivity at the operating point."""

    def paint(axes) -> None:
        for name, probability, truth in curves:
            false, true = roc_curve(probability, truth)
            axes.plot(false, true, lw=1.6, label=f"{name}: AUC {roc_auc(probability, truth):.3f} (n = {len(truth)})")
        axes.plot([0, 1], [0, 1], ":", color=_GREY, lw=0.8)
        if point is not None:
            axes.plot(*point, "o", color="black", ms=5, label="operating point, all images")
        axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize=8)

    return _save(path, paint)


def draw_reliability(path: Path, probability: np.ndarray, truth: np.ndarray) -> Path:
    """How often what was said with a probability was true, and how often that probability was said."""

    def paint(axes) -> None:
        said, true, count = reliability(probability, np.asarray(truth, float))
        axes.bar(
            (np.arange(BINS) + 0.5) / BINS,
            count / count.sum(),
            width=0.9 / BINS,
            color=_GREY,
            alpha=0.35,
            label="share of images",
        )
        axes.plot([0, 1], [0, 1], ":", color=_GREY, lw=0.8)
        full = count > 0
        error = calibration_error(probability, truth)
        axes.plot(said[full], true[full], "o-", color=_BLUE, lw=1.4, label=f"observed (calibration error {error:.3f})")
        for x, y, n in zip(said[full], true[full], count[full], strict=True):
            axes.annotate(f"{int(n)}", (x, y), textcoords="offset points", xytext=(5, -9), fontsize=7, color=_BLUE)
        axes.set(
            xlabel="stated probability of malignancy", ylabel="share that is malignant", xlim=(0, 1), ylim=(0, 1.02)
        )
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left", fontsize=8)

    return _save(path, paint)


def draw_confusion(path: Path, table: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str) -> Path:
    """A confusion table (rows, columns): counts, shaded by the share of the row."""

    def paint(axes) -> None:
        share = table / np.maximum(table.sum(1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(table):
            dark = share[row, column] > 0.55
            axes.text(
                column, row, f"{int(value)}", ha="center", va="center", color="white" if dark else "black", fontsize=9
            )
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(rows)), rows)
        axes.set(xlabel="said", ylabel="label", title=title)
        axes.title.set_fontsize(10)

    return _save(path, paint, height=1.4 + 0.62 * len(rows))
