"""Smooth random fields: white noise on a coarse lattice, interpolated with cubic B-splines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_LATTICE_VARIANCE = 0.479  # of interpolated white noise, per axis, averaged over places between the knots


def _spline_matrix(length: int, step: float, cell: float, offset: float) -> np.ndarray:
    """(length, m) float32: weights of m knots, `cell` mm apart, for samples `step` mm apart; `offset` of the first, in cells."""
    place = np.arange(length) * (step / cell) + offset
    knot = np.floor(place).astype(int)
    t = place - knot
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], 1) / 6
    matrix = np.zeros((length, knot[-1] + 4), np.float32)
    for k in range(4):
        matrix[np.arange(length), knot + k] = weights[:, k]
    return matrix


def smooth(rng: np.random.Generator, shape: Sequence[int], step: Sequence[float], cell: Sequence[float]) -> np.ndarray:
    """A float32 field of `shape` (1 to 3 axes) with mean 0 and a variance of about 1.

    Parameters
    ----------
    step : voxel, mm per axis.
    cell : length over which it is correlated, mm per axis; at least 1.2 voxels.
    """
    matrices = []
    for length, s, c in zip(shape, step, cell, strict=True):
        matrices.append(_spline_matrix(length, s, max(c, 1.2 * s), rng.random()))
    field = rng.standard_normal([m.shape[1] for m in matrices], dtype=np.float32)
    field *= np.float32(_LATTICE_VARIANCE ** (-0.5 * len(matrices)))
    if len(matrices) == 1:
        return matrices[0] @ field
    field = field @ matrices[-1].T
    if len(matrices) == 3:
        field = np.matmul(matrices[1], field)
    return (matrices[0] @ field.reshape(field.shape[0], -1)).reshape(tuple(shape))


def sigmoid(a: np.ndarray) -> np.ndarray:
    """Logistic function, without warnings of overflow."""
    return 0.5 + 0.5 * np.tanh(0.5 * a)
