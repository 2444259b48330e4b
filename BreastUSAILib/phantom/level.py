"""The mask of an implicit function with exactly the wanted number of voxels, in one piece and without holes."""

from __future__ import annotations

import numpy as np

# How far a mask may be from the wanted volume; one voxel at least.
TOLERANCE = 0.005


def _level(field: np.ndarray, voxels: int) -> float:
    """The value of the `voxels`-th smallest element."""
    flat = field.ravel()
    for band in (1.0, 3.0):  # the level of a body that was scaled to its volume is near 0
        below = int(np.count_nonzero(flat < -band))
        near = flat[np.abs(flat) <= band]
        rank = voxels - 1 - below
        if 0 <= rank < near.size:
            return float(np.partition(near, rank)[rank])
    return float(np.partition(flat, voxels - 1)[voxels - 1])


def _pieces(inside: np.ndarray) -> np.ndarray:
    """Pieces whose voxels touch with faces, numbered from 1 in the order of their first voxels; 0 outside."""
    import SimpleITK as sitk  # that is loaded in any case; scipy.ndimage takes as long to import as a small volume takes to make

    label = sitk.ConnectedComponentImageFilter()
    label.SetNumberOfThreads(1)
    return sitk.GetArrayFromImage(label.Execute(sitk.GetImageFromArray(inside.astype(np.uint8))))


def _solid(inside: np.ndarray) -> np.ndarray:
    """The largest piece (faces connect), with its holes filled."""
    labels = _pieces(inside)
    if labels.max() > 1:
        inside = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    outside = _pieces(np.pad(~inside, 1, constant_values=True))
    if outside.max() > 1:
        inside = outside[1:-1, 1:-1, 1:-1] != outside[0, 0, 0]
    return inside


def _grown(mask: np.ndarray, field: np.ndarray, missing: int) -> np.ndarray:
    """The mask with the `missing` best of its face neighbours."""
    beside = np.zeros_like(mask)
    for axis in range(mask.ndim):
        low, high = ((slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None)))
        beside[low] |= mask[high]
        beside[high] |= mask[low]
    rim = np.flatnonzero(beside & ~mask)
    best = rim[np.argsort(field.ravel()[rim], kind="stable")[:missing]]
    mask = mask.copy()
    mask.ravel()[best] = True
    return mask


def exact_mask(field: np.ndarray, voxels: int) -> tuple[np.ndarray, float]:
    """Threshold a field so that the largest piece, filled, has `voxels` voxels, within `TOLERANCE` or one voxel.

    Parameters
    ----------
    field : float32, low inside.
    voxels : how many; less than `field` has.

    Returns
    -------
    The mask (bool) and the level whose set it is, but for the last few voxels.
    """
    rank = voxels
    allowed = max(int(TOLERANCE * voxels), 0 if voxels < 200 else 1)
    best: tuple[int, np.ndarray, float] | None = None
    for _ in range(12):
        level = _level(field, rank)
        mask = _solid(field <= level)
        count = int(np.count_nonzero(mask))
        if abs(count - voxels) <= allowed:
            return mask, level
        if count < voxels and (best is None or count > best[0]):
            best = count, mask, level
        rank = min(max(rank + voxels - count, 1), field.size - 1)
    # A level at which a piece joins or a hole closes jumps over the wanted volume: take the set below, and add to its surface.
    if best is None:
        level = _level(field, max(voxels // 2, 1))
        best = 0, _solid(field <= level), level
    _, mask, level = best
    while (missing := voxels - int(np.count_nonzero(mask))) > 0:
        mask = _solid(_grown(mask, field, missing))
    return mask, level
