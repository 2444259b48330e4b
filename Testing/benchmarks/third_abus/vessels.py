"""Dark tubes: vessels, and ducts that run together at the nipple."""

from __future__ import annotations

import numpy as np

from .grid import Grid
from .stamps import stamp_tube


def draw_tubes(grid: Grid, echo: np.ndarray, nipple: tuple[float, float], fat_db: float) -> None:
    """Draw vessels and, in most breasts, ducts into `echo` (dB); they only ever darken."""
    uniform, f32 = grid.rng.uniform, np.float32
    weights = np.zeros(grid.shape, f32)
    _stamp_vessels(grid, weights)
    if grid.rng.random() < 0.6:
        _stamp_ducts(grid, weights, nipple)
    level = f32(fat_db - uniform(2, 14))
    weights *= f32(uniform(0.5, 1))
    echo += weights * (np.minimum(level, echo) - echo)


def _stamp_vessels(grid: Grid, weights: np.ndarray) -> None:
    rng, uniform = grid.rng, grid.rng.uniform
    length_z, depth, length_x = grid.extent
    for _ in range(rng.poisson(5 * grid.relative_area * uniform(0, 2))):
        angle = uniform(0, 2 * np.pi)
        start = (uniform(0, length_z), uniform(0.08, 0.7) * depth, uniform(0, length_x))
        direction = (np.sin(angle), uniform(-0.2, 0.2), np.cos(angle))
        stamp_tube(weights, rng, start, direction, uniform(20, 80), uniform(0.5, 1.5), grid.step, 0.12, 0.5)


def _stamp_ducts(grid: Grid, weights: np.ndarray, nipple: tuple[float, float]) -> None:
    rng, uniform = grid.rng, grid.rng.uniform
    for _ in range(rng.integers(3, 14)):
        angle = uniform(0, 2 * np.pi)
        start = (nipple[0] + 4 * np.sin(angle), uniform(3, 6), nipple[1] + 4 * np.cos(angle))
        direction = (np.sin(angle), uniform(0.1, 0.7), np.cos(angle))
        stamp_tube(weights, rng, start, direction, uniform(12, 45), uniform(0.4, 1.5), grid.step, 0.15, 0.6, 0.6)
