"""Where voxels lie: the full grid, and the half grid on which anatomy is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grid:
    """Voxels of a volume; node i of the half grid is voxel 2 i, along slice and lateral.

    Attributes
    ----------
    shape : (slice, depth, lateral).
    spacing : mm, in the same order.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]

    @property
    def extent(self) -> tuple[float, float, float]:
        """mm along slice, depth, lateral."""
        z, y, x = (n * s for n, s in zip(self.shape, self.spacing, strict=True))
        return z, y, x

    @property
    def half_shape(self) -> tuple[int, int, int]:
        nz, ny, nx = self.shape
        return (nz + 1) // 2, ny, (nx + 1) // 2

    @property
    def half_spacing(self) -> tuple[float, float, float]:
        dz, dy, dx = self.spacing
        return 2 * dz, dy, 2 * dx

    def half_axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """mm of the half grid's nodes, each along its own axis of three."""
        z, y, x = (np.arange(n, dtype=np.float32) * s for n, s in zip(self.half_shape, self.half_spacing, strict=True))
        return z[:, None, None], y[None, :, None], x[None, None, :]


def _double_last(half: np.ndarray, length: int) -> np.ndarray:
    """Voxels between nodes of the last axis: `length` of them; those past the last node repeat it."""
    full = np.empty((*half.shape[:-1], length), half.dtype)
    full[..., ::2] = half
    pairs = half.shape[-1] - 1
    full[..., 1 : 2 * pairs : 2] = half[..., :-1]
    full[..., 1 : 2 * pairs : 2] += half[..., 1:]
    full[..., 1 : 2 * pairs : 2] *= 0.5
    if length % 2 == 0:
        full[..., -1] = half[..., -1]
    return full


def to_full(half: np.ndarray, grid: Grid) -> np.ndarray:
    """A field or a map (slice, lateral) of the half grid on the full one."""
    full = np.empty((grid.shape[0], *half.shape[1:-1], grid.shape[2]), half.dtype)
    former = None
    for i, one in enumerate(half):  # a slice at a time stays in the processor's cache
        wide = _double_last(one, grid.shape[2])
        full[2 * i] = wide
        if former is not None:
            np.add(former, wide, out=full[2 * i - 1])
            full[2 * i - 1] *= 0.5
        former = wide
    if grid.shape[0] % 2 == 0:
        full[-1] = full[-2]
    return full
