"""The pictures of a detector's evaluation: FROC curves, sensitivity by group, ROC curve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import atomic_path
from . import detection_metrics as dm
from .classification_metrics import roc_curve
from .detection_summary import Measured

_BLUE, _ORANGE, _GREY = "#2060a8", "#d95f02", "#808080"


def draw(folder: Path, summary: Mapping[str, Any], measured: Measured) -> list[Path]:
    """froc.png, sensitivity.png and, where malignancy was judged, roc.png; those that have something to show."""
    figures = summary["figures"]
    drawn = []
    if summary["lesions"]:
        drawn.append(_save(folder / "froc.png", _froc, figures, measured))
        drawn.append(_save(folder / "sensitivity.png", _groups, summary))
    if (figures.get("malignancy_auc_found") or {}).get("value") is not None:
        drawn.append(_save(folder / "roc.png", _roc, figures, measured))
    return drawn


def _save(path: Path, paint, *arguments) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    paint(axes, *arguments)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    return path


def _froc(axes, figures: Mapping[str, Any], measured: Measured) -> None:
    for prefix, hits, colour, label, aside in (  # the bars of the two curves stand beside each other
        ("froc_any_overlap", measured.anywhere, _ORANGE, "any overlap", 0.97),
        ("froc", measured.challenge, _BLUE, "IoU above 0.3 (TDSC-ABUS)", 1.03),
    ):
        curve = dm.froc(hits)
        x = np.geomspace(dm.FALSE_POSITIVES[0], dm.FALSE_POSITIVES[-1], 400)
        axes.plot(x, curve.at(x), color=colour, label=f"{label}: mean {curve.score:.3f}")
        points = [figures[f"{prefix}_{fps:g}"] for fps in dm.FALSE_POSITIVES]
        places = aside * np.array(dm.FALSE_POSITIVES)
        axes.errorbar(places, *_bars(points), fmt="o", ms=4, capsize=3, lw=1, color=colour)
    rate, share = figures["false_positives"]["value"], figures["sensitivity"]["value"]
    # An operating point with fewer false positives than the axis begins with stands at its edge.
    axes.plot(
        [np.clip(rate, dm.FALSE_POSITIVES[0], dm.FALSE_POSITIVES[-1])],
        [share],
        "*",
        ms=13,
        color="black",
        clip_on=False,
        label=f"as reported, any overlap: {share:.1%} at {rate:.2f}",
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(dm.FALSE_POSITIVES, [f"{x:g}" for x in dm.FALSE_POSITIVES])
    axes.set(xlabel="false positives a volume", ylabel="sensitivity", ylim=(0, 1.02), xlim=(0.11, 9))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")


def _groups(axes, summary: Mapping[str, Any]) -> None:
    names = list(summary["lesions_by_group"])
    points = [summary["figures"][f"sensitivity: {name}"] for name in names]
    places = np.arange(len(names))[::-1]
    values, bars = _bars(points)
    axes.barh(places, values, color=_BLUE, alpha=0.55)
    axes.errorbar(values, places, xerr=bars, fmt="none", capsize=3, lw=1, color="black")
    axes.set_yticks(places, [f"{name} (n = {n})" for name, n in summary["lesions_by_group"].items()])
    axes.set(xlabel="sensitivity as reported, any overlap", xlim=(0, 1.02))
    axes.grid(alpha=0.3, axis="x")


def _roc(axes, figures: Mapping[str, Any], measured: Measured) -> None:
    found = ~np.isnan(measured.judged)
    truth = measured.malignant[found]
    lines = [("found lesions", "malignancy_auc_found", measured.judged[found], _BLUE)]
    if "malignancy_best_auc_found" in figures:
        lines.append(("best possible on these", "malignancy_best_auc_found", measured.posterior[found], _GREY))
    for label, name, probability, colour in lines:
        f = figures[name]
        interval = "" if f["low"] is None else f" ({f['low']:.3f} to {f['high']:.3f})"
        axes.plot(*roc_curve(probability, truth), color=colour, label=f"{label}: AUC {f['value']:.3f}{interval}")
    axes.plot([0, 1], [0, 1], ":", color="black", lw=0.8)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity to malignant lesions", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_aspect("equal", adjustable="box")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False)


def _bars(points) -> tuple[np.ndarray, np.ndarray]:
    """Values (n,), and the distances (2, n) down to and up to the ends of their intervals; none where there is none."""
    values = np.array([p["value"] for p in points], float)
    ends = np.array([[p["low"] for p in points], [p["high"] for p in points]], float)
    distances = np.abs(ends - values)
    return values, np.nan_to_num(distances)
