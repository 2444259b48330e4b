"""How much of each place is glandular tissue, and the fat lobules that gland encloses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .grid import AREA, Grid, over_depth
from .layers import Layers
from .noise import sigmoid
from .stamps import stamp_ellipsoid


@dataclass(frozen=True)
class Lobule:
    """An enclosed fat lobule: centre and radii, mm (z, y, x)."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]


def draw_density(rng: np.random.Generator) -> float:
    """Amount of gland, 0 (fatty) to 1 (dense); both ends are as frequent together as the middle."""
    uniform = rng.uniform
    return float(rng.choice([uniform(0, 0.2), uniform(0.2, 0.75), uniform(0.75, 1.0)], p=[0.25, 0.5, 0.25]))


def draw_gland(grid: Grid, layers: Layers, density: float) -> np.ndarray:
    """(z, y, x) share of gland, 0 to 1: thresholded noise between subcutaneous fat and muscle, densest behind the nipple."""
    uniform, f32 = grid.rng.uniform, np.float32
    nipple_z, nipple_x = layers.nipple
    far = ((grid.z - nipple_z) / uniform(45, 95)) ** 2 + ((grid.x - nipple_x) / uniform(45, 95)) ** 2
    large, small = uniform(10, 30), uniform(4, 9)  # mm
    field = grid.noise(large, uniform(4, 12), large * uniform(0.7, 1.5))
    field += f32(uniform(0.2, 0.6)) * grid.noise(small, uniform(2, 5), small)
    field += over_depth(-1.6 + 4.0 * density - uniform(0.6, 1.6) * far)
    steepness = f32(uniform(2.5, 9))
    softness = uniform(0.5, 1.5)  # mm, of the borders to fat and muscle
    above = grid.y - over_depth(layers.fat_border)
    below = over_depth(layers.pectoral - layers.retromammary) - grid.y
    gland = sigmoid(steepness * field)
    gland *= sigmoid(np.minimum(above, below) / f32(softness))
    return gland


def enclose_lobules(grid: Grid, gland: np.ndarray) -> list[Lobule]:
    """Take fat lobules out of `gland`, in most breasts; returns them."""
    rng, uniform = grid.rng, grid.rng.uniform
    length_z, depth, length_x = grid.extent
    lobules: list[Lobule] = []
    if rng.random() >= 0.7:
        return lobules
    weights = np.zeros(grid.shape, np.float32)
    for _ in range(rng.integers(1, 1 + int(2 + 10 * (length_z * length_x) / AREA * uniform(0, 2)))):
        radius = np.exp(uniform(np.log(2.5), np.log(11)))
        centre = (uniform(0, length_z), uniform(0.15, 0.8) * depth, uniform(0, length_x))
        radii = (radius * uniform(0.8, 2.2), radius * uniform(0.3, 0.6), radius * uniform(0.8, 2.2))
        stamp_ellipsoid(weights, centre, radii, grid.step, uniform(0.2, 0.7), uniform(1.6, 2.6))
        lobules.append(Lobule(centre, radii))
    weights *= np.float32(uniform(0.3, 0.8))  # partial, and so brighter than a mass would be
    gland *= 1 - weights
    return lobules
