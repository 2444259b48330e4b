"""A detector without learning: dark against its surroundings, of a lesion's size, compact. What a network has to beat.

The volume is averaged to voxels of about 1 mm and smoothed; what is darker than its surroundings by more than a threshold
is cut into connected pieces; pieces of a lesion's volume, depth and compactness are candidates, ranked by contrast and
compactness. Its settings are chosen on validation volumes by `tune`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import SimpleITK as sitk

from ..phantom.truth import LesionTruth, Phantom
from .metrics import sensitivity_at

IOU = 0.3  # what TDSC-ABUS calls found

_WORKING_MM = 1.0


@dataclass(frozen=True)
class BlobSettings:
    """What the detector calls a lesion.

    Attributes
    ----------
    smoothing_mm : standard deviation of the Gaussian that takes the speckle away.
    surroundings_mm : side of the cube that a voxel is compared with (a third of it in depth, as tissue lies in layers).
    threshold : how much darker, in standard deviations of the surroundings.
    smallest_ml, largest_ml : volumes, cm3.
    compactness : least share of the ellipsoid in its bounding box that a piece fills.
    shallowest_mm, deepest_mm : where its centre may lie below the skin.
    ranking : exponent of compactness in the score; contrast has 1.
    """

    smoothing_mm: float = 1.5
    surroundings_mm: float = 20.0
    threshold: float = 1.0
    smallest_ml: float = 0.05
    largest_ml: float = 20.0
    compactness: float = 0.4
    shallowest_mm: float = 4.0
    deepest_mm: float = 35.0
    ranking: float = 1.0


@dataclass(frozen=True)
class SmallVolume:
    """A phantom at about 1 mm: what the detector works on.

    Attributes
    ----------
    seed : of the phantom.
    voxels : float32 (slice, depth, lateral), mean grey levels.
    spacing : mm, in that order.
    corner : LPS mm (x, y, z) of the corner of the first voxel.
    lesions : the truth.
    """

    seed: int
    voxels: np.ndarray
    spacing: tuple[float, float, float]
    corner: tuple[float, float, float]
    lesions: tuple[LesionTruth, ...]


@dataclass(frozen=True)
class Blobs:
    """Candidates of one volume, an array entry each: centre and size of the box (LPS mm), cm3, compactness, contrast."""

    centre: np.ndarray
    size: np.ndarray
    volume_ml: np.ndarray
    compactness: np.ndarray
    contrast: np.ndarray


def shrink(phantom: Phantom) -> SmallVolume:
    """Average blocks of voxels to about 1 mm; what is left over at the far ends is cut off."""
    voxels = sitk.GetArrayViewFromImage(phantom.image)
    spacing = phantom.image.GetSpacing()[::-1]
    factors = [max(1, round(_WORKING_MM / s)) for s in spacing]
    shape = [n // f for n, f in zip(voxels.shape, factors, strict=True)]
    cut = voxels[tuple(slice(n * f) for n, f in zip(shape, factors, strict=True))]
    blocks = cut.reshape([k for n, f in zip(shape, factors, strict=True) for k in (n, f)])
    return SmallVolume(
        seed=phantom.seed,
        voxels=blocks.mean(axis=(1, 3, 5), dtype=np.float32),
        spacing=tuple(s * f for s, f in zip(spacing, factors, strict=True)),
        corner=tuple(o - s / 2 for o, s in zip(phantom.image.GetOrigin(), phantom.image.GetSpacing(), strict=True)),
        lesions=phantom.lesions,
    )


def darkness(volume: SmallVolume, smoothing_mm: float, surroundings_mm: float) -> np.ndarray:
    """How much darker than its surroundings each voxel is, in their standard deviations; float32, the shape of the voxels."""
    from scipy.ndimage import gaussian_filter, uniform_filter

    smooth = gaussian_filter(volume.voxels, [smoothing_mm / s for s in volume.spacing])
    share = (1.0, 1 / 3, 1.0)
    window = [max(3, round(surroundings_mm * w / s)) for w, s in zip(share, volume.spacing, strict=True)]
    mean = uniform_filter(smooth, window)
    spread = np.sqrt(np.maximum(uniform_filter(smooth * smooth, window) - mean * mean, 1.0))
    return (mean - smooth) / spread


def pieces(volume: SmallVolume, dark: np.ndarray, threshold: float) -> Blobs:
    """The connected pieces above a threshold."""
    from scipy import ndimage

    labels, n = ndimage.label(dark > threshold)
    boxes = ndimage.find_objects(labels)
    count = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    total = np.bincount(labels.ravel(), weights=dark.ravel(), minlength=n + 1)[1:]
    first = np.array([[s.start for s in box] for box in boxes], float).reshape(n, 3)
    last = np.array([[s.stop for s in box] for box in boxes], float).reshape(n, 3)
    size = (last - first) * volume.spacing
    cubic_mm = count * float(np.prod(volume.spacing))
    return Blobs(
        centre=((first + last) / 2 * volume.spacing)[:, ::-1] + volume.corner,
        size=size[:, ::-1],
        volume_ml=cubic_mm / 1000,
        compactness=cubic_mm / np.maximum(np.pi / 6 * size.prod(axis=1), 1e-9),
        contrast=total / np.maximum(count, 1),
    )


def choose(blobs: Blobs, settings: BlobSettings) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the pieces that are candidates, and their scores, the highest first."""
    depth = blobs.centre[:, 1]
    kept = (
        (blobs.volume_ml >= settings.smallest_ml)
        & (blobs.volume_ml <= settings.largest_ml)
        & (blobs.compactness >= settings.compactness)
        & (depth >= settings.shallowest_mm)
        & (depth <= settings.deepest_mm)
    )
    score = blobs.contrast * blobs.compactness**settings.ranking
    index = np.flatnonzero(kept)
    index = index[np.argsort(-score[index], kind="stable")]
    return index, score[index]


def detect(volume: SmallVolume, settings: BlobSettings) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """Candidates of a volume: (score, centre, size of the box), LPS mm, the highest score first."""
    blobs = pieces(volume, darkness(volume, settings.smoothing_mm, settings.surroundings_mm), settings.threshold)
    index, scores = choose(blobs, settings)
    return [(float(s), blobs.centre[i], blobs.size[i]) for i, s in zip(index, scores, strict=True)]


def hits(volume: SmallVolume, centre: np.ndarray, size: np.ndarray, overlap: float | None) -> list[int]:
    """Which lesion each candidate finds, of several the one whose box it overlaps most; -1: none.

    Parameters
    ----------
    centre, size : (N, 3), LPS mm.
    overlap : intersection over union of the boxes above which a lesion is found (TDSC-ABUS: 0.3, the detection paper: 0); None: what is easier,
        that the candidate's centre lies in the lesion's box, or IoU above 0.3.
    """
    found, most = [-1] * len(centre), [-1.0] * len(centre)
    for lesion in volume.lesions:
        low, high = (np.array(lesion.centre) + sign * np.array(lesion.size) / 2 for sign in (-1, 1))
        for i in range(len(centre)):
            shared = np.minimum(high, centre[i] + size[i] / 2) - np.maximum(low, centre[i] - size[i] / 2)
            common = float(np.prod(np.maximum(shared, 0)))
            union = float(np.prod(size[i]) + np.prod(lesion.size)) - common
            hit = common > (IOU if overlap is None else overlap) * union
            if overlap is None:
                hit = hit or bool(np.all((centre[i] >= low) & (centre[i] <= high)))
            if hit and common / union > most[i]:
                found[i], most[i] = lesion.label, common / union
    return found


def judged(volume: SmallVolume, settings: BlobSettings, overlap: float | None = None) -> list[tuple[float, int | None]]:
    """The candidates of a volume: (score, label of the lesion that it finds, or None), see `hits`."""
    found = detect(volume, settings)
    if not found:
        return []
    scores, centre, size = (np.array(values) for values in zip(*found, strict=True))
    labels = hits(volume, centre, size, overlap)
    return [(score, None if label < 0 else label) for score, label in zip(scores.tolist(), labels, strict=True)]


def sensitivity(
    candidates: Sequence[Sequence[tuple[float, int | None]]], lesions: Sequence[int], false_positives: float
) -> float:
    """Share of the lesions found at so many false alarms a volume.

    Parameters
    ----------
    candidates : of each volume, see `judged`. A volume may come more than once (bootstrap) and then counts as often.
    lesions : how many each volume has.
    """
    named = [(s, None if label is None else (i, label)) for i, found in enumerate(candidates) for s, label in found]
    return sensitivity_at(named, sum(lesions), len(candidates), false_positives)


def tune(
    volumes: Sequence[SmallVolume], false_positives: float, search: dict[str, Sequence[float]] | None = None
) -> BlobSettings:
    """The settings of a grid that find the most lesions in these (validation) volumes at so many false alarms a volume.

    Where settings are equal there, those that find more at half as many, then the first.
    """
    search = {**SEARCH, **(search or {})}
    image_level = ("smoothing_mm", "surroundings_mm", "threshold")
    names = [name for name in search if name not in image_level]
    allowed = [rate * len(volumes) for rate in (false_positives, false_positives / 2)]
    best = (-1, -1, BlobSettings())
    for smoothing, surroundings in itertools.product(search["smoothing_mm"], search["surroundings_mm"]):
        dark = [darkness(v, smoothing, surroundings) for v in volumes]
        for threshold in search["threshold"]:
            blobs, lesion = _together(volumes, [pieces(v, d, threshold) for v, d in zip(volumes, dark, strict=True)])
            base = BlobSettings(smoothing_mm=smoothing, surroundings_mm=surroundings, threshold=threshold)
            for values in itertools.product(*(search[name] for name in names)):
                settings = replace(base, **dict(zip(names, values, strict=True)))
                index, _ = choose(blobs, settings)
                alarms = np.cumsum(lesion[index] < 0)
                found = []
                for limit in allowed:
                    hit = lesion[index[: np.searchsorted(alarms, limit, side="right")]]
                    found.append(len(np.unique(hit[hit >= 0])))
                if (*found,) > best[:2]:
                    best = (*found, settings)
    return best[2]


def _together(volumes: Sequence[SmallVolume], blobs: Sequence[Blobs]) -> tuple[Blobs, np.ndarray]:
    """The pieces of all volumes, and the lesion that each finds, counted through all volumes; -1: none."""
    lesion = []
    for number, (volume, found) in enumerate(zip(volumes, blobs, strict=True)):
        label = np.array(hits(volume, found.centre, found.size, None), int)
        lesion.append(np.where(label < 0, -1, number * 256 + label))
    joined = {f.name: np.concatenate([getattr(found, f.name) for found in blobs]) for f in fields(Blobs)}
    return Blobs(**joined), np.concatenate(lesion)


# What `tune` tries: 54 ways to cut a volume into pieces, 324 ways to choose among them.
SEARCH: dict[str, Sequence[float]] = {
    "smoothing_mm": (1.0, 2.0, 3.0),
    "surroundings_mm": (16.0, 30.0, 50.0),
    "threshold": (0.8, 1.2, 1.6, 2.0, 2.5, 3.0),
    "smallest_ml": (0.05, 0.15, 0.4),
    "compactness": (0.1, 0.2, 0.4, 0.6),
    "shallowest_mm": (3.0, 6.0, 9.0),
    "deepest_mm": (18.0, 23.0, 30.0),
    "ranking": (0.0, 1.0, 2.0),
}
