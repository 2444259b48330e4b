"""From the envelope to the grey levels of the exported picture."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .fields import smooth
from .grid import Grid
from .scanner import Scanner


def time_gain(rng: np.random.Generator, grid: Grid) -> np.ndarray:
    """dB by depth that the sliders are off from what would make tissue even: a smooth part, and in some pictures steps."""
    ny = grid.shape[1]
    curve = rng.uniform(0.3, 2.2) * smooth(rng, (ny,), (ny / 3,)) - rng.uniform(-2, 7) * np.linspace(0, 1, ny) ** 2
    if rng.random() < 0.2:
        for row in rng.integers(0, ny, int(rng.integers(1, 4))):
            curve[row:] += rng.normal(0, 1.2)
    return curve[None, :, None].astype(np.float32)


def show(grid: Grid, scanner: Scanner, power: np.ndarray) -> np.ndarray:
    """Grey levels, uint8, of an envelope in dB against fat; `power` is used up."""
    if scanner.smoothing:
        soft = ndimage.uniform_filter1d(ndimage.uniform_filter1d(power, 3, axis=2), 3, axis=1)
        soft -= power
        power += scanner.smoothing * soft
    if scanner.persistence:
        power[1:] += np.float32(0.7 * scanner.persistence) * (power[:-1] - power[1:])
    if scanner.sharpen:
        power += scanner.sharpen * (power - ndimage.uniform_filter1d(power, 5, axis=1))
    black = -scanner.range_db * (scanner.fat_grey / 255) ** (1 / scanner.gamma)
    power -= np.float32(black)
    power *= np.float32(1 / scanner.range_db)
    np.clip(power, 0, 1, out=power)
    return _grey_map(scanner)[(power * 1024).astype(np.int16)]


def _grey_map(scanner: Scanner) -> np.ndarray:
    """Grey levels of 1025 even steps from black to white: a table is much faster than to work out each voxel."""
    even = (np.arange(1025) / 1024) ** scanner.gamma
    steep = even * even * (3 - 2 * even)
    grey = 255 * ((1 - scanner.bend) * even + scanner.bend * steep)
    return (np.floor(grey / scanner.step + 0.5) * scanner.step).clip(0, 255).astype(np.uint8)
