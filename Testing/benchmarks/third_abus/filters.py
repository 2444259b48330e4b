"""Cheap separable filters of float32 arrays (z, y, x)."""

from __future__ import annotations

import numpy as np


def blur_noise(a: np.ndarray, weight: float, axis: int) -> np.ndarray:
    """`a` filtered with the taps (w, 1, w) / sqrt(1 + 2 w^2), which keep the variance of white noise."""
    scale = np.float32(1 / np.sqrt(1 + 2 * weight * weight))
    return _three_taps(a, np.float32(scale), np.float32(weight * scale), axis)


def blur(a: np.ndarray, weight: float, axis: int) -> np.ndarray:
    """`a` filtered with the taps (w, 1, w) / (1 + 2 w), which keep the mean."""
    scale = np.float32(1 / (1 + 2 * weight))
    return _three_taps(a, scale, np.float32(weight * scale), axis)


def _three_taps(a: np.ndarray, middle: np.float32, side: np.float32, axis: int) -> np.ndarray:
    """A new array; at its ends the voxel itself stands for the neighbour that is missing."""

    def part(first: int, end: int) -> tuple[slice, ...]:
        slices = [slice(None)] * a.ndim
        slices[axis] = slice(first, end)
        return tuple(slices)

    n = a.shape[axis]
    out = a * middle
    neighbour = a * side
    out[part(1, n)] += neighbour[part(0, n - 1)]
    out[part(0, n - 1)] += neighbour[part(1, n)]
    out[part(0, 1)] += neighbour[part(0, 1)]
    out[part(n - 1, n)] += neighbour[part(n - 1, n)]
    return out


def upsample(coarse: np.ndarray, nz: int, nx: int, z0: int = 0, x0: int = 0) -> np.ndarray:
    """Linear doubling along z and x: coarse node i lies on full voxel 2 i.

    Returns the full voxels z0 to z0 + nz and x0 to x0 + nx (z0 and x0 even) of all depths.
    """
    coarse = coarse[z0 // 2 : z0 // 2 + nz // 2 + 1, :, x0 // 2 : x0 // 2 + nx // 2 + 1]
    wide = np.empty((coarse.shape[0], coarse.shape[1], nx), np.float32)
    wide[..., ::2] = coarse[..., : (nx + 1) // 2]
    wide[..., 1::2] = 0.5 * (coarse[..., : nx // 2] + coarse[..., 1 : nx // 2 + 1])
    full = np.empty((nz, coarse.shape[1], nx), np.float32)
    full[::2] = wide[: (nz + 1) // 2]
    np.add(wide[: nz // 2], wide[1 : nz // 2 + 1], out=full[1::2])
    full[1::2] *= np.float32(0.5)
    return full
