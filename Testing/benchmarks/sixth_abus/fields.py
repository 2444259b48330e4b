"""Smooth random fields: splines through random lattices, so that their cost does not grow with their length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def smooth(rng: np.random.Generator, shape: Sequence[int], steps: Sequence[float]) -> np.ndarray:
    """A field of zero mean and unit variance that is smooth over `steps` voxels along each axis (any number of axes)."""
    weights = [spline(rng, n, step) for n, step in zip(shape, steps, strict=True)]
    field = rng.standard_normal([w.shape[1] for w in weights], dtype=np.float32)
    for axis, matrix in enumerate(weights):
        before, after = field.shape[:axis], field.shape[axis + 1 :]
        if after:
            field = np.matmul(matrix, field.reshape(int(np.prod(before)), matrix.shape[1], -1))
        else:
            field = field.reshape(-1, matrix.shape[1]) @ matrix.T
        field = field.reshape(*before, len(matrix), *after)
    return field


def spline(rng: np.random.Generator, length: int, step: float) -> np.ndarray:
    """Weights of lattice nodes, a random part of a step away from the first voxel; rows of unit norm keep the variance everywhere."""
    step = max(step, 1.0)
    at = np.arange(length) / step + rng.random()
    first = np.floor(at).astype(int)
    f = at - first
    parts = ((1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3)
    matrix = np.zeros((length, first[-1] + 4), np.float32)
    for offset, part in enumerate(parts):
        matrix[np.arange(length), first + offset] = part
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def steps_of(lengths_mm: Sequence[float], spacing: Sequence[float]) -> list[float]:
    """Lengths in voxels."""
    return [length / s for length, s in zip(lengths_mm, spacing, strict=True)]


def ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, a smooth step between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
