"""Speckle: of coherent echoes, wider the deeper."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .grid import Grid
from .scanner import Scanner

BLOCK = 12  # rows of depth that share a width


def make(rng: np.random.Generator, grid: Grid, scanner: Scanner) -> np.ndarray:
    """dB (slice, depth, lateral), of mean 0 for one look, float32."""
    power = _part(rng, grid, scanner)
    power *= power
    other = _part(rng, grid, scanner)
    other *= other
    power += other
    del other
    power += np.float32(0.01)
    np.log(power, out=power)
    power -= np.float32(0.13)  # the mean of the logarithm
    power *= np.float32(4.343 * scanner.speckle)
    return power


def _part(rng: np.random.Generator, grid: Grid, scanner: Scanner) -> np.ndarray:
    """The real or imaginary part of echoes, unit variance."""
    dz, dy, dx = grid.spacing
    field = rng.standard_normal(grid.shape, dtype=np.float32)
    kernel = _kernel(scanner.axial / dy / 2)
    ndimage.correlate1d(field, kernel, 1, output=field, mode="wrap")
    for top in range(0, grid.shape[1], BLOCK):
        rows = field[:, top : top + BLOCK]
        wider = 1 + (scanner.growth - 1) * top / grid.shape[1]
        part = ndimage.correlate1d(rows, _kernel(scanner.lateral * wider / dx / 2), 2, mode="wrap")
        ndimage.correlate1d(part, _kernel(scanner.across * wider / dz / 2), 0, output=rows, mode="wrap")
    return field


def _kernel(sigma: float) -> np.ndarray:
    """A Gaussian of voxels whose squares sum to 1."""
    reach = min(max(1, round(2.2 * sigma)), 4)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 0.2)) ** 2)
    return weights / np.sqrt((weights**2).sum())
