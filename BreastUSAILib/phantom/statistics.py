"""What phantoms look like in figures: grey levels, speckle, contrast of lesions by descriptor. Measured on the finished
volumes, as one would on real ones: nothing here looks into the generator."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from .spec import DESCRIPTORS
from .truth import LesionTruth, Phantom

# Surroundings of a lesion: from where its blurred edge ends to where other tissue begins, mm.
_RING_MM = (1.5, 5.0)
# Below a lesion, where enhancement and shadow show.
_BELOW_MM = (1.5, 8.0)
_BLOCK_MM = 4.0  # side of the cubes in which speckle is measured
RAYLEIGH_SNR = math.sqrt(math.pi / (4 - math.pi))  # 1.913: one look, fully developed


@dataclass(frozen=True)
class LesionContrast:
    """A lesion in its volume.

    Attributes
    ----------
    grey, surroundings : mean grey level of its voxels, and of a ring around it at the same depths.
    contrast_db : difference of the mean grey levels, as echo level (dB) by the display's dynamic range.
    posterior_db : tissue below it against tissue beside that at the same depth, dB; None where the volume ends.
    """

    lesion: LesionTruth
    grey: float
    surroundings: float
    contrast_db: float
    posterior_db: float | None


@dataclass(frozen=True)
class VolumeStatistics:
    """Figures of one volume.

    Attributes
    ----------
    seed : of the volume.
    histogram : how many voxels have each grey level, (256,).
    snr : envelope's mean over its standard deviation, (typical, most homogeneous tenth) of cubes of 4 mm in tissue.
    looks : as the volume was acquired.
    lesions : contrast of each.
    """

    seed: int
    histogram: np.ndarray
    snr: tuple[float, float]
    looks: float
    lesions: tuple[LesionContrast, ...]


def measure(phantom: Phantom) -> VolumeStatistics:
    """The figures of a phantom."""
    voxels, labels = (sitk.GetArrayViewFromImage(volume) for volume in (phantom.image, phantom.labels))
    acquisition = phantom.facts["acquisition"]
    spacing = phantom.image.GetSpacing()[::-1]
    decibels = levels_db(acquisition["dynamic_range_db"], acquisition["grey_curve"])
    return VolumeStatistics(
        seed=phantom.seed,
        # Slice by slice: numpy makes int64 of what it counts.
        histogram=np.sum([np.bincount(part.ravel(), minlength=256) for part in voxels], axis=0),
        snr=_speckle(voxels, labels, spacing, decibels),
        looks=acquisition["looks"],
        lesions=tuple(_contrast(lesion, voxels, labels, spacing, decibels) for lesion in phantom.lesions),
    )


def levels_db(dynamic_range_db: float, grey_curve: float) -> np.ndarray:
    """Echo level in dB above black that each grey level stands for, (256,): log compression undone."""
    return dynamic_range_db * (np.arange(256) / 255) ** (1 / grey_curve)


def compounded_snr(looks: float) -> float:
    """Mean over standard deviation of the amplitude of fully developed speckle, of `looks` intensities averaged.

    The intensity is gamma distributed with that shape (Goodman 2007, section 4.2).

    >>> round(compounded_snr(1), 3)
    1.913
    """
    mean = math.exp(math.lgamma(looks + 0.5) - math.lgamma(looks)) / math.sqrt(looks)
    return mean / math.sqrt(1 - mean * mean)


def _speckle(voxels: np.ndarray, labels: np.ndarray, spacing: Sequence[float], decibels: np.ndarray):
    """Median and 90th percentile of the envelope's signal-to-noise ratio over cubes of tissue without lesions, one in four."""
    amplitude = (10 ** (decibels / 20)).astype(np.float32)
    step = [max(2, round(_BLOCK_MM / s)) for s in spacing]
    ratios = []
    # Beyond 25 mm lies muscle with its fibres, above 5 mm the skin.
    last = min(voxels.shape[1], round(25 / spacing[1]))
    for z in range(0, voxels.shape[0] - step[0] + 1, 2 * step[0]):
        for y in range(round(5 / spacing[1]), last - step[1] + 1, step[1]):
            for x in range(0, voxels.shape[2] - step[2] + 1, 2 * step[2]):
                here = np.s_[z : z + step[0], y : y + step[1], x : x + step[2]]
                block = voxels[here]
                # Clipped values have no amplitude; many of them mean shadow, or no contact.
                if np.mean((block == 0) | (block == 255)) < 0.01 and not labels[here].any():
                    values = amplitude[block]
                    ratios.append(float(values.mean() / values.std()))
    if not ratios:
        return math.nan, math.nan
    return float(np.median(ratios)), float(np.quantile(ratios, 0.9))


def _contrast(
    lesion: LesionTruth, voxels: np.ndarray, labels: np.ndarray, spacing: Sequence[float], decibels: np.ndarray
) -> LesionContrast:
    from scipy.ndimage import distance_transform_edt

    margin = [math.ceil(_BELOW_MM[1] / s) + 1 for s in spacing]
    first = [max(0, a - m) for a, m in zip(lesion.first[::-1], margin, strict=True)]
    last = [min(n, b + m + 1) for b, m, n in zip(lesion.last[::-1], margin, voxels.shape, strict=True)]
    region = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    here, others = decibels[voxels[region]], labels[region]
    mask = others == lesion.label
    distance = distance_transform_edt(~mask, sampling=spacing)
    free = others == 0
    depths = np.zeros(mask.shape, bool)
    depths[:, lesion.first[1] - first[1] : lesion.last[1] - first[1] + 1] = True
    ring = free & depths & (distance > _RING_MM[0]) & (distance < _RING_MM[1])
    inside, around = float(here[mask].mean()), float(here[ring].mean()) if ring.any() else math.nan
    return LesionContrast(
        lesion,
        grey=float(voxels[region][mask].mean()),
        surroundings=float(voxels[region][ring].mean()) if ring.any() else math.nan,
        contrast_db=inside - around,
        posterior_db=_posterior(here, mask, free, spacing),
    )


def _posterior(decibels: np.ndarray, mask: np.ndarray, free: np.ndarray, spacing: Sequence[float]) -> float | None:
    """Mean level below the inner half of a lesion against that of the same depths beside it."""
    from scipy.ndimage import distance_transform_edt

    column = mask.any(axis=1)
    inner = distance_transform_edt(column, sampling=(spacing[0], spacing[2]))
    inner = inner > inner.max() / 2
    beside = distance_transform_edt(~column, sampling=(spacing[0], spacing[2])) > 2.0
    bottom = int(np.flatnonzero(mask.any(axis=(0, 2)))[-1])
    rows = slice(bottom + round(_BELOW_MM[0] / spacing[1]), bottom + round(_BELOW_MM[1] / spacing[1]) + 1)
    below, apart = (free[:, rows] & area[:, None, :] for area in (inner, beside))
    if not below.any() or not apart.any():
        return None
    return float(decibels[:, rows][below].mean() - decibels[:, rows][apart].mean())


# ----------------------------------------------------------------------------------------------------------- summary


def summarise(volumes: Sequence[VolumeStatistics]) -> dict[str, Any]:
    """Figures over volumes: grey levels, speckle, and contrast (median, quartiles) by each value of each descriptor."""
    histogram = np.sum([v.histogram for v in volumes], axis=0)
    share = histogram / histogram.sum()
    cumulated = np.cumsum(share)
    lesions = [contrast for v in volumes for contrast in v.lesions]
    groups: dict[str, dict[str, Any]] = {"all": {"all": _spread(lesions)}}
    for name, values in DESCRIPTORS.items():
        groups[name] = {
            value: _spread([c for c in lesions if getattr(c.lesion.descriptors, name) == value]) for value in values
        }
    groups["malignant"] = {
        word: _spread([c for c in lesions if c.lesion.malignant == kind]) for word, kind in (("no", False), ("yes", True))
    }
    return {
        "volumes": len(volumes),
        "lesions": len(lesions),
        "grey": {
            "mean": float(share @ np.arange(256)),
            "black": float(share[0]),
            "white": float(share[255]),
            **{f"quantile_{q:g}": int(np.searchsorted(cumulated, q)) for q in (0.05, 0.25, 0.5, 0.75, 0.95)},
        },
        "histogram": share.tolist(),
        "snr": {
            "rayleigh": RAYLEIGH_SNR,
            "median": float(np.nanmedian([v.snr[0] for v in volumes])),
            "most_homogeneous": float(np.nanmedian([v.snr[1] for v in volumes])),
            "expected_of_looks": float(np.median([compounded_snr(v.looks) for v in volumes])),
        },
        "contrast": groups,
    }


def _spread(lesions: Sequence[LesionContrast]) -> dict[str, Any]:
    def quartiles(values: list[float]) -> list[float] | None:
        values = [v for v in values if v is not None and math.isfinite(v)]
        return [round(float(q), 2) for q in np.quantile(values, (0.25, 0.5, 0.75))] if values else None

    return {
        "n": len(lesions),
        "contrast_db": quartiles([c.contrast_db for c in lesions]),
        "posterior_db": quartiles([c.posterior_db for c in lesions]),
    }


def as_markdown(summary: dict[str, Any]) -> str:
    """The figures as tables."""
    grey, snr = summary["grey"], summary["snr"]
    lines = [
        f"{summary['volumes']} volumes, {summary['lesions']} lesions.",
        "",
        "| figure | value |",
        "|---|---|",
        f"| grey level, mean | {grey['mean']:.0f} |",
        f"| grey level, 5 / 25 / 50 / 75 / 95 % | {' / '.join(str(grey[f'quantile_{q}']) for q in ('0.05', '0.25', '0.5', '0.75', '0.95'))} |",
        f"| black (0), white (255) | {grey['black']:.1%}, {grey['white']:.2%} |",
        f"| speckle SNR in cubes of 4 mm, median | {snr['median']:.2f} |",
        f"| the same, most homogeneous tenth | {snr['most_homogeneous']:.2f} |",
        f"| fully developed, as compounded (one look: {snr['rayleigh']:.2f}) | {snr['expected_of_looks']:.2f} |",
        "",
        "| descriptor | value | lesions | contrast to surroundings, dB | tissue below against beside, dB |",
        "|---|---|---|---|---|",
    ]
    for name, values in summary["contrast"].items():
        for value, row in values.items():
            if row["n"]:
                shown = " | ".join(_cell(row[key]) for key in ("contrast_db", "posterior_db"))
                lines.append(f"| {name.replace('_', ' ')} | {value} | {row['n']} | {shown} |")
    return "\n".join([*lines, "", "Contrast: median (quartiles) over lesions.", ""])


def _cell(quartiles: list[float] | None) -> str:
    return "-" if quartiles is None else f"{quartiles[1]:.1f} ({quartiles[0]:.1f} to {quartiles[2]:.1f})"


def figure(volumes: Sequence[VolumeStatistics], path: Path) -> None:
    """Histogram of grey levels (each volume, and all), and contrast by echo pattern and posterior features, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(12, 3.6), layout="constrained")
    FigureCanvasAgg(drawing)
    grey, echo, below = drawing.subplots(1, 3, width_ratios=(1, 1.4, 1))
    for volume in volumes:
        grey.plot(np.arange(1, 256), 100 * volume.histogram[1:] / volume.histogram.sum(), color="0.8", linewidth=0.5)
    total = np.sum([v.histogram for v in volumes], axis=0)
    grey.plot(np.arange(1, 256), 100 * total[1:] / total.sum(), color="C0")
    grey.set(xlabel="grey level (0 left out)", ylabel="% of voxels", title="grey levels", ylim=(0, None))
    lesions = [contrast for v in volumes for contrast in v.lesions]
    for axes, name, field, title in (
        (echo, "echo_pattern", "contrast_db", "lesion against its surroundings, dB"),
        (below, "posterior_features", "posterior_db", "below the lesion against beside, dB"),
    ):
        groups = {
            value: [
                getattr(c, field)
                for c in lesions
                if getattr(c.lesion.descriptors, name) == value and getattr(c, field) is not None
            ]
            for value in DESCRIPTORS[name]
        }
        groups = {value: found for value, found in groups.items() if found}
        if groups:
            axes.boxplot(list(groups.values()), widths=0.6)
            names = [f"{textwrap.fill(value, 13, break_long_words=False)}\n({len(found)})" for value, found in groups.items()]
            axes.set_xticks(range(1, len(groups) + 1), names, fontsize=7)
        axes.axhline(0, color="0.7", linewidth=0.8)
        axes.set(title=title)
    drawing.savefig(path, dpi=100)


def lesion_rows(volumes: Sequence[VolumeStatistics]) -> list[dict[str, Any]]:
    """One row a lesion: seed, label, contrast, descriptors."""
    return [
        {
            "seed": v.seed,
            "label": c.lesion.label,
            "malignant": int(c.lesion.malignant),
            "volume_ml": c.lesion.volume_ml,
            "grey": c.grey,
            "surroundings": c.surroundings,
            "contrast_db": c.contrast_db,
            "posterior_db": c.posterior_db,
            **asdict(c.lesion.descriptors),
        }
        for v in volumes
        for c in v.lesions
    ]
