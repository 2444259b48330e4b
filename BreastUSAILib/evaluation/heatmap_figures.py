"""The pictures of a map's evaluation: FROC by hit, patches' ROC, distances, and maps over their volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import atomic_path
from . import detection_metrics as dm
from .classification_metrics import roc_curve
from .heatmap_patches import PatchAnswers
from .heatmap_summary import VolumeHeat, hits_of
from .volume_data import VolumeCase

_BLUE, _ORANGE, _GREY = "#2060a8", "#d95f02", "#808080"
OPACITY = 0.3  # of the heat, as published


def draw(
    folder: Path, results: Sequence[VolumeHeat], answers: Mapping[str, PatchAnswers], summary: Mapping[str, Any]
) -> list[Path]:
    """froc.png, distances.png and, where there are healthy volumes, roc.png."""
    drawn = [
        _save(folder / "froc.png", (6.4, 4.6), _froc, results, summary["figures"]),
        _save(folder / "distances.png", (6.4, 4.6), _distances, results),
    ]
    if answers:
        drawn.append(_save(folder / "roc.png", (5.2, 5.6), _roc, answers, summary["figures"]))
    return drawn


def draw_map(path: Path, case: VolumeCase, model) -> Path:
    """A volume with lesions, cut through the first one's point in three planes: plain, and with the map over it."""
    from ..heatmap import look

    image, _, lesions = case.read_labels()
    seen = look(image, model)
    point = seen.volume.grid_box(image, lesions[0].box).reshape(2, 3).mean(0)
    boxes = [seen.volume.grid_box(image, lesion.box) for lesion in lesions]
    levels = seen.volume.levels
    heat = _on_levels(seen, levels.shape, model.network.scale)
    return _save(path, (11, 6.2), _cuts, levels, heat, seen.volume.spacing, point, boxes, rows=2, columns=3)


def _on_levels(seen, shape: Sequence[int], scale: Sequence[int]) -> np.ndarray:
    from ..gradcam_3d import interpolation, resized

    matrices = [
        interpolation(n, s, np.arange(m), seen.degree) for n, s, m in zip(seen.cells.shape, scale, shape, strict=True)
    ]
    return np.maximum(resized(seen.heat(seen.cells), matrices), 0)


def _save(path: Path, size: tuple[float, float], paint, *arguments, rows: int = 1, columns: int = 1) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    paint(figure.subplots(rows, columns), *arguments)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    return path


def _froc(axes, results: Sequence[VolumeHeat], figures: Mapping[str, Any]) -> None:
    curve = dm.froc(hits_of(results))
    x = np.geomspace(dm.FALSE_POSITIVES[0], dm.FALSE_POSITIVES[-1], 400)
    axes.plot(x, curve.at(x), color=_BLUE, label=f"point within the hot spot: mean {curve.score:.3f}")
    for rate in dm.FALSE_POSITIVES:
        figure = figures[f"froc_{rate:g}"]
        axes.plot([rate] * 2, [figure["low"], figure["high"]], color=_BLUE, lw=1)
    if "sensitivity" in figures and "false_positives" in figures:
        rate, share = figures["false_positives"]["value"], figures["sensitivity"]["value"]
        place = np.clip(rate, dm.FALSE_POSITIVES[0], dm.FALSE_POSITIVES[-1])
        label = f"as reported: {share:.1%} at {rate:.2f}"
        axes.plot([place], [share], "*", ms=13, color="black", clip_on=False, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(dm.FALSE_POSITIVES, [f"{x:g}" for x in dm.FALSE_POSITIVES])
    axes.set(xlabel="false positives a volume", ylabel="sensitivity", ylim=(0, 1.02), xlim=(0.11, 9))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")


def _distances(axes, results: Sequence[VolumeHeat]) -> None:
    """Each lesion: how far the hottest place about it is from its point, by the lesion's size."""
    lesions = [m for r in results for m in r.lesions]
    volumes = np.array([m.lesion.volume_ml or np.nan for m in lesions])
    distances = np.array([m.distance_mm for m in lesions])
    pointed = np.array([m.pointed_alone for m in lesions], bool)
    for chosen, colour, label in ((pointed, _BLUE, "within the lesion"), (~pointed, _ORANGE, "outside")):
        axes.plot(volumes[chosen], distances[chosen], ".", color=colour, label=f"{label}: {int(chosen.sum())}")
    sizes = np.geomspace(np.nanmin(volumes), np.nanmax(volumes), 100)
    axes.plot(sizes, np.cbrt(sizes * 750 / np.pi), ":", color=_GREY, label="radius of a ball of that volume")
    axes.set_xscale("log")
    axes.set(xlabel="volume of the lesion, cm3", ylabel="hottest place to point, mm", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()


def _roc(axes, answers: Mapping[str, PatchAnswers], figures: Mapping[str, Any]) -> None:
    for (kind, answer), colour in zip(answers.items(), (_GREY, _BLUE, _ORANGE), strict=False):
        auc = figures[f"{kind}_auc"]
        label = f"{kind.replace('-', ' ')}: AUC {auc['value']:.3f}"
        axes.plot(*roc_curve(answer.probability, answer.lesion), color=colour, label=label)
    axes.plot([0, 1], [0, 1], ":", color="black", lw=0.8)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity to patches with a lesion", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_aspect("equal", adjustable="box")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")


def _cuts(axes, levels: np.ndarray, heat: np.ndarray, spacing, point: np.ndarray, boxes) -> None:
    """`axes` (2, 3): above plain, below with the map. Slice, coronal and sagittal planes, each axis as it is stored, through `point` (z, y, x)."""
    from matplotlib.patches import Rectangle

    at = np.clip(np.floor(point), 0, np.subtract(levels.shape, 1)).astype(int)
    for column, (axis, down, across, name) in enumerate(
        ((0, 1, 2, "slice"), (1, 0, 2, "coronal"), (2, 1, 0, "across the slices"))
    ):
        plane, warm = (np.take(a, at[axis], axis) for a in (levels, heat))
        if down > across:
            plane, warm = plane.T, warm.T
        aspect = spacing[down] / spacing[across]
        for row in (0, 1):
            panel = axes[row, column]
            panel.imshow(plane, cmap="gray", vmin=0, vmax=224, aspect=aspect)
            if row:
                panel.imshow(
                    warm, cmap="inferno", vmin=0, vmax=1, alpha=OPACITY, aspect=aspect, interpolation="bilinear"
                )
            for box in boxes:
                if box[axis] <= at[axis] + 0.5 <= box[axis + 3]:
                    corner = (box[across] - 0.5, box[down] - 0.5)
                    width, height = box[across + 3] - box[across], box[down + 3] - box[down]
                    panel.add_patch(Rectangle(corner, width, height, fill=False, ec="cyan", lw=0.8))
            panel.set_axis_off()
        axes[0, column].set_title(name, fontsize=9)
