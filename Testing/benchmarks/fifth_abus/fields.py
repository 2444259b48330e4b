"""Smooth random fields, cells, and the way from the half grid to the voxels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

B_SPLINE_POWER = 0.479  # mean over a knot interval of the summed squares of a cubic B-spline's weights


def expand(nodes: np.ndarray, matrices: Sequence[np.ndarray]) -> np.ndarray:
    """Multiply each axis of `nodes` (k0, k1, ...) by its matrix (n, k); returns (n0, n1, ...), float32."""
    for matrix in matrices:
        nodes = (nodes.reshape(len(nodes), -1).T @ matrix.T).reshape(*nodes.shape[1:], len(matrix))
    return nodes


def spline_matrix(n: int, step: float, length: float, offset: float) -> np.ndarray:
    """Weights of cubic B-splines with knots `length` mm apart at n places `step` mm apart, (n, knots)."""
    t = np.arange(n) * step / length + offset
    distance = np.abs(t[:, None] - np.arange(-1, int(t[-1]) + 3)[None, :])
    near, far = 2 / 3 - distance**2 * (1 - distance / 2), np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


def random_field(
    rng: np.random.Generator, shape: Sequence[int], steps: Sequence[float], lengths: float | Sequence[float]
) -> np.ndarray:
    """A Gaussian field of mean 0 and variance 1, float32, of any number of axes.

    `steps` between samples and `lengths` of its structure are mm, per axis; lengths below 1.5 steps are raised to them.
    """
    lengths = np.maximum(np.broadcast_to(lengths, len(shape)), 1.5 * np.asarray(steps))
    matrices = [spline_matrix(n, s, ln, rng.uniform()) for n, s, ln in zip(shape, steps, lengths, strict=True)]
    nodes = rng.standard_normal([m.shape[1] for m in matrices], np.float32)
    return expand(nodes * np.float32(B_SPLINE_POWER ** (-len(shape) / 2)), matrices)


def linear_matrix(n: int, k: int) -> np.ndarray:
    """Weights that interpolate k samples to n, ends on ends, (n, k)."""
    t = np.linspace(0, k - 1, n)
    return np.clip(1 - np.abs(t[:, None] - np.arange(k)), 0, None).astype(np.float32)


def cells(
    rng: np.random.Generator, shape: Sequence[int], steps: Sequence[float], size: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Cells about jittered points: how far from a wall (0 on it, about 0.5 in the middle), and a value 0 to 1 per cell.

    `size` of a cell is mm per axis. It is worked out on about a third of the samples, and interpolated.
    """
    coarse = [max(n // 3, 4) for n in shape]
    places = [
        np.linspace(0, (n - 1) * s / c, k, dtype=np.float32)
        for n, s, c, k in zip(shape, steps, size, coarse, strict=True)
    ]
    whole = [p.astype(int) for p in places]
    lattice = [w[-1] + 3 for w in whole]
    jitter = rng.uniform(0, 1, (3, *lattice)).astype(np.float32)
    tone = rng.uniform(0, 1, lattice).astype(np.float32)
    first = np.full(coarse, 9.0, np.float32)
    second, value = first.copy(), np.zeros(coarse, np.float32)
    grids = np.ix_(*places)
    for shift in np.ndindex(3, 3, 3):
        index = np.ix_(*(w + d for w, d in zip(whole, shift, strict=True)))
        corner = np.ix_(*((w + d - 1).astype(np.float32) for w, d in zip(whole, shift, strict=True)))
        d2 = np.sqrt(sum((grids[a] - corner[a] - jitter[a][index]) ** 2 for a in range(3)))
        nearer = d2 < first
        second = np.where(nearer, first, np.minimum(second, d2))
        value = np.where(nearer, tone[index], value)
        first = np.minimum(first, d2)
    up = [linear_matrix(n, k) for n, k in zip(shape, coarse, strict=True)]
    return expand(second - first, up), expand(value, up)


def half(n: int) -> int:
    """Samples of the half grid along an axis of n voxels; sample i lies on voxel 2 i."""
    return n // 2 + 1


def upsample(coarse: np.ndarray, nz: int, nx: int) -> np.ndarray:
    """From the half grid (slice, depth, lateral) to nz slices and nx lateral voxels; the mean lies between two samples."""
    rows = np.empty((*coarse.shape[:2], 2 * coarse.shape[2] - 1), coarse.dtype)
    rows[:, :, ::2] = coarse
    rows[:, :, 1::2] = (coarse[:, :, 1:] + coarse[:, :, :-1]) / 2
    out = np.empty((2 * coarse.shape[0] - 1, *rows.shape[1:]), coarse.dtype)
    out[::2] = rows
    out[1::2] = (rows[1:] + rows[:-1]) / 2
    return out[:nz, :, :nx]


def ramp(value: np.ndarray) -> np.ndarray:
    """0 below -1/2, 1 above 1/2, straight between."""
    return np.clip(value + np.float32(0.5), 0, 1)
