"""What the way through the tissue takes from the echoes, dB: attenuation, compensation, shadows of nipple and ligaments."""

from __future__ import annotations

import numpy as np

from .grid import Grid, over_depth
from .layers import Layers
from .noise import smooth


def draw_attenuation(grid: Grid, gland: np.ndarray, layers: Layers) -> np.ndarray:
    """(z, y, x) dB that are added to the echoes, mostly negative and growing with depth."""
    rng, uniform, f32 = grid.rng, grid.rng.uniform, np.float32
    step_y = grid.step[1]
    rate = gland * f32(-uniform(0.0, 0.35)) + f32(uniform(-0.2, 0.12))  # dB/mm, net of what the scanner compensates
    gain = smooth(rng, (grid.shape[1],), (step_y,), (uniform(8, 20),)) * uniform(0, 2.5)
    shadowed = rng.random() < 0.6
    radius = uniform(4, 9)
    if shadowed:
        rate -= _nipple_shadow(grid, layers, radius)
    attenuation = np.cumsum(rate, axis=1) * f32(step_y)
    attenuation += gain[None, :, None]
    _add_ligament_shadows(grid, attenuation)
    return attenuation


def _nipple_shadow(grid: Grid, layers: Layers, radius: float) -> np.ndarray:
    """(z, y, x) dB/mm lost under a nipple of so many mm: a cone that widens until some depth and then goes straight down."""
    uniform = grid.rng.uniform
    distance2 = layers.nipple_distance2
    cone = np.exp(-((distance2 / radius**2) ** uniform(0.8, 1.6))) * uniform(8, 32)
    uneven = np.clip(1 + 0.4 * grid.sheet(5), 0.2, 2)
    wide = np.exp(-((distance2 / (radius * uniform(1.2, 2.2)) ** 2) ** 0.8)) * uniform(8, 26)
    end = uniform(6, 22)  # mm of depth over which all of it is lost
    mix = np.clip(grid.y / np.float32(end), 0, 1)
    narrow_to_wide = over_depth(cone * uneven) * (1 - mix) + over_depth(wide * uneven) * mix
    return narrow_to_wide * np.float32(1.2 / end) * (grid.y < end)


def _add_ligament_shadows(grid: Grid, attenuation: np.ndarray) -> None:
    """Shadows under ligaments and folds: oblong seen from the skin, from some depth downwards."""
    rng, uniform, f32 = grid.rng, grid.rng.uniform, np.float32
    nz, ny, nx = grid.shape
    step_z, step_y, step_x = grid.step
    for _ in range(rng.poisson(12 * grid.relative_area * uniform(0, 2))):
        z, x, angle = uniform(0, grid.extent[0]), uniform(0, grid.extent[2]), uniform(0, np.pi)
        length, width = uniform(2, 10), uniform(0.6, 2.0)
        first_z, end_z = int(max(0, (z - 2 * length) / step_z)), int(min(nz, (z + 2 * length) / step_z + 1))
        first_x, end_x = int(max(0, (x - 2 * length) / step_x)), int(min(nx, (x + 2 * length) / step_x + 1))
        dz, dx = grid.z[first_z:end_z] - z, grid.x[:, first_x:end_x] - x
        along, across = dz * np.cos(angle) + dx * np.sin(angle), dx * np.cos(angle) - dz * np.sin(angle)
        oblong = np.exp(-((along / length) ** 2) - (across / width) ** 2)
        top = int(uniform(0.05, 0.5) * ny)
        ramp = np.clip((np.arange(ny - top) * step_y) / uniform(1, 6), 0, 1).astype(f32) * f32(uniform(2, 11))
        attenuation[first_z:end_z, top:, first_x:end_x] -= ramp[None, :, None] * over_depth(oblong)
