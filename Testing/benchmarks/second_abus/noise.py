"""Smooth random fields: white noise on a coarse lattice, interpolated with cubic B-splines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def _spline_matrix(length: int, step: float, offset: float) -> np.ndarray:
    """(length, m) weights of m lattice points, `step` voxels apart, for each voxel; cubic B-splines, rows sum to 1."""
    place = np.arange(length) / step + offset
    cell = np.floor(place).astype(int)
    t = place - cell
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
    matrix = np.zeros((length, cell[-1] + 4), np.float32)
    for k in range(4):
        matrix[np.arange(length), cell + k] = weights[k]
    return matrix


def smooth_noise(random: np.random.Generator, shape: Sequence[int], step: Sequence[float]) -> np.ndarray:
    """A field of `shape` (1 to 3 axes) with mean 0 and variance 1, correlated over about `step` voxels on each axis.

    Features are about two steps across. float32. The lattice is placed at random, so that no grid shows at the same place twice.
    """
    steps = [max(float(s), 1e-3) for s in step]
    matrices = [_spline_matrix(n, s, random.uniform()) for n, s in zip(shape, steps, strict=True)]
    field = random.standard_normal([m.shape[1] for m in matrices], dtype=np.float32)
    scale = 1.0
    for axis, matrix in enumerate(matrices):
        field = np.moveaxis(np.tensordot(matrix, field, (1, axis)), 0, axis)
        scale *= np.sqrt(np.square(matrix).sum(1).mean())
    field = np.ascontiguousarray(field)
    field /= np.float32(scale)
    return field


def ridges(field: np.ndarray, width: float) -> np.ndarray:
    """1 on the surface where a field is 0, falling to 0 within `width` of its values: thin curved sheets."""
    return np.exp(-np.square(field / np.float32(width)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.float32(1) / (np.float32(1) + np.exp(np.clip(-x, -60, 60)))
