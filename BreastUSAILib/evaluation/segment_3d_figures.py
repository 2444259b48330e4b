"""The pictures of an evaluation of outlines: Dice by size, distance by size, ROC curves, volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import atomic_path
from .classification_metrics import roc_curve
from .segment_3d_summary import SMALL_ML, Columns, LesionResult

_COLOURS = {"true": "#2060a8", "jittered": "#d95f02", "detected": "#2a8f4f"}
_LABELS = {"true": "true boxes", "jittered": "jittered boxes", "detected": "a detector's boxes"}
_GREY = "#808080"


def draw(
    folder: Path, results: Mapping[str, Sequence[LesionResult]], summaries: Mapping[str, Mapping[str, Any]]
) -> list[Path]:
    """outlines.png, volumes.png and, where malignancy was stated, roc.png."""
    drawn = [
        _save(folder / "outlines.png", _outlines, results, columns=2),
        _save(folder / "volumes.png", _volumes, results),
    ]
    if any(s["figures"].get("auc", {}).get("value") is not None for s in summaries.values()):
        drawn.append(_save(folder / "roc.png", _roc, results, summaries))
    return drawn


def _save(path: Path, paint, *arguments, columns: int = 1) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8 * columns + 0.8, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    paint(figure.subplots(1, columns), *arguments)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    return path


def _outlines(axes, results: Mapping[str, Sequence[LesionResult]]) -> None:
    for way, part in results.items():
        volume = np.array([r.volume_ml for r in part])
        colour, label = _COLOURS.get(way, _GREY), _LABELS.get(way, way)
        dice = np.array([r.dice for r in part])
        axes[0].plot(volume, dice, "o", ms=4, alpha=0.6, color=colour, label=f"{label}: mean {dice.mean():.3f}")
        found = [r for r in part if r.hd95 is not None]
        if found:
            distance = np.array([r.hd95 for r in found])
            at = np.array([r.volume_ml for r in found])
            axes[1].plot(
                at, distance, "o", ms=4, alpha=0.6, color=colour, label=f"{label}: mean {distance.mean():.2f} mm"
            )
    for panel, title in zip(axes, ("Dice similarity coefficient", "95 % Hausdorff distance (mm)"), strict=True):
        panel.set_xscale("log")
        panel.axvline(SMALL_ML, color=_GREY, lw=0.8, ls=":")
        panel.set(xlabel="volume of the lesion (cm3)", ylabel=title)
        panel.grid(alpha=0.3)
        panel.legend(loc="best", fontsize=8)
    axes[0].set_ylim(-0.02, 1.02)
    axes[1].set_ylim(bottom=0)


def _volumes(axes, results: Mapping[str, Sequence[LesionResult]]) -> None:
    every = [r.volume_ml for part in results.values() for r in part]
    ends = [min(every) / 1.5, max(every) * 1.5]
    axes.plot(ends, ends, ":", color="black", lw=0.8)
    for way, part in results.items():
        found = [r for r in part if r.volume_error_ml is not None]
        true = np.array([r.volume_ml for r in found])
        stated = true + np.array([r.volume_error_ml for r in found])
        axes.plot(true, stated, "o", ms=4, alpha=0.6, color=_COLOURS.get(way, _GREY), label=_LABELS.get(way, way))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set(xlabel="true volume (cm3)", ylabel="volume of the outline (cm3)", xlim=ends, ylim=ends)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")


def _roc(axes, results: Mapping[str, Sequence[LesionResult]], summaries: Mapping[str, Mapping[str, Any]]) -> None:
    for way, part in results.items():
        columns, figures = Columns.of(part), summaries[way]["figures"]
        stated = ~np.isnan(columns.malignancy)
        if figures.get("auc", {}).get("value") is None:
            continue
        truth = columns.malignant[stated]
        label = f"{_LABELS.get(way, way)}: AUC {figures['auc']['value']:.3f}"
        axes.plot(*roc_curve(columns.malignancy[stated], truth), color=_COLOURS.get(way, _GREY), label=label)
        if way == next(iter(results)) and "best_auc" in figures:
            best = f"best possible on these: AUC {figures['best_auc']['value']:.3f}"
            axes.plot(*roc_curve(columns.posterior[stated], truth), color="#b0b0b0", label=best)
    axes.plot([0, 1], [0, 1], ":", color="black", lw=0.8)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity to malignant lesions", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_aspect("equal", adjustable="box")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
