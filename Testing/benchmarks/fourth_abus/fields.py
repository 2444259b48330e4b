"""Smooth random fields, and the step from the coarse grid to the full one."""

from __future__ import annotations

import numpy as np


def _splines(places: np.ndarray, length: float) -> np.ndarray:
    """Cubic B-splines with knots every `length` mm (with a margin) at `places` (n, mm): (n, knots)."""
    u = (places - places[0]) / length
    knots = np.arange(-1, int(u[-1]) + 3)
    t = np.abs(u[:, None] - knots)
    near, far = 2 / 3 - t * t + t**3 / 2, np.clip(2 - t, 0, None) ** 3 / 6
    return np.where(t < 1, near, far).astype(np.float32)


def noise(rng: np.random.Generator, axes: tuple[np.ndarray, ...], lengths: tuple[float, ...]) -> np.ndarray:
    """Gaussian noise of unit variance on a grid, smooth over `lengths` mm an axis.

    `axes` are the grid's places along each axis, mm, rising; the result has one axis for each.
    """
    bases = [_splines(a, length) for a, length in zip(axes, lengths, strict=True)]
    field = rng.standard_normal([b.shape[1] for b in bases], dtype=np.float32)
    for axis in range(len(bases) - 1, -1, -1):  # the slow axis last, where the product is one large one
        other = field.shape[:axis] + (len(axes[axis]),) + field.shape[axis + 1 :]
        flat = field.reshape(int(np.prod(field.shape[:axis])), field.shape[axis], -1)
        field = np.matmul(bases[axis], flat).reshape(other)
    for base in bases:  # knots' weights vary a little along the axis; the mean is what counts
        field *= 1 / np.sqrt(np.square(base).sum(1).mean())
    return field


def ramp(distance: np.ndarray, width: float) -> np.ndarray:
    """0 to 1 across a boundary at `distance` 0, over `width` (both mm)."""
    return np.clip(distance * np.float32(1 / width) + np.float32(0.5), 0, 1)


def coarse_axis(count: int, spacing: float) -> np.ndarray:
    """Places (mm) of the coarse nodes along an axis of `count` voxels: every second voxel, and one beyond the end."""
    return 2 * spacing * np.arange(count // 2 + 1, dtype=np.float32)


def upsample(coarse: np.ndarray, nz: int, nx: int, out: np.ndarray | None = None) -> np.ndarray:
    """Linear interpolation of (nz // 2 + 1, ny, nx // 2 + 1) nodes on even voxels to (nz, ny, nx)."""
    wide = np.empty((coarse.shape[0], coarse.shape[1], nx), np.float32)
    wide[:, :, ::2] = coarse[:, :, : (nx + 1) // 2]
    np.add(coarse[:, :, : nx // 2], coarse[:, :, 1 : nx // 2 + 1], out=wide[:, :, 1::2])
    wide[:, :, 1::2] *= 0.5
    full = np.empty((nz, coarse.shape[1], nx), np.float32) if out is None else out
    full[::2] = wide[: (nz + 1) // 2]
    np.add(wide[: nz // 2], wide[1 : nz // 2 + 1], out=full[1::2])
    full[1::2] *= 0.5
    return full
