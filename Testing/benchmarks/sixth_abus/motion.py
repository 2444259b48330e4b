"""Breathing: slices that lie deeper or less deep than their neighbours."""

from __future__ import annotations

import numpy as np

from .fields import smooth
from .grid import Grid


def draw_shifts(rng: np.random.Generator, grid: Grid) -> np.ndarray:
    """Voxels by which each slice is displaced in depth; zeros for those who held their breath."""
    if rng.random() < 0.55:
        return np.zeros(grid.shape[0], np.float32)
    period = rng.uniform(6, 22) / grid.spacing[0]
    shifts = rng.uniform(0.15, 0.7) * smooth(rng, (grid.shape[0],), (period,))
    return np.clip(shifts, -1.5, 1.5)


def displace(field: np.ndarray, shifts: np.ndarray) -> None:
    """Displace each slice of a field in depth, between voxels."""
    rows = np.arange(field.shape[1])
    for one, shift in zip(field, shifts, strict=True):
        if shift:
            at = np.clip(rows - shift, 0, len(rows) - 1)
            low = np.minimum(at.astype(int), len(rows) - 2)
            part = (at - low).astype(np.float32)[:, None]
            one[:] = one[low] * (1 - part) + one[low + 1] * part


def displace_mask(mask: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """The same for a mask, to whole voxels; what is displaced lies at least as far as a shift from the ends."""
    moved = mask
    if shifts.any():
        moved = np.stack([np.roll(one, int(np.rint(shift)), axis=0) for one, shift in zip(mask, shifts, strict=True)])
    return moved
