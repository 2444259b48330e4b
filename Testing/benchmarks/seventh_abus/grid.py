"""The voxels of a volume, and the half grid (every other voxel laterally and across slices) on which anatomy is
drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grid:
    """Voxels (slice, depth, lateral) and their mm in the same order."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]

    @property
    def extent(self) -> tuple[float, float, float]:
        """mm (slice, depth, lateral)."""
        return tuple(n * s for n, s in zip(self.shape, self.spacing, strict=True))

    @property
    def half(self) -> Grid:
        nz, ny, nx = self.shape
        dz, dy, dx = self.spacing
        return Grid(((nz + 1) // 2, ny, (nx + 1) // 2), (2 * dz, dy, 2 * dx))

    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """mm of the voxels along each axis, ready to broadcast."""
        z, y, x = (
            np.arange(n, dtype=np.float32) * np.float32(s) for n, s in zip(self.shape, self.spacing, strict=True)
        )
        return z[:, None, None], y[None, :, None], x[None, None, :]


def to_full(coarse: np.ndarray, grid: Grid) -> np.ndarray:
    """An array of the half grid (slice, depth, lateral), on the voxels of `grid`: linear between nodes."""
    return _double(_double(coarse, 2, grid.shape[2]), 0, grid.shape[0])


def _double(values: np.ndarray, axis: int, size: int) -> np.ndarray:
    shape = list(values.shape)
    shape[axis] = size
    out = np.empty(shape, np.float32)
    source, target = np.moveaxis(values, axis, 0), np.moveaxis(out, axis, 0)
    target[::2] = source
    between = source[:-1] + source[1:]
    between *= 0.5
    target[1 : 2 * len(between) : 2] = between
    if size % 2 == 0:
        target[-1] = source[-1]
    return out
