"""The layers of a compressed breast, as maps (z, x) of depths in mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .grid import Grid


@dataclass(frozen=True)
class Layers:
    """Where the layers lie.

    Attributes
    ----------
    nipple : (z, x) mm.
    nipple_distance2 : (z, x) squared distance from the nipple, mm2.
    skin : (z, x) mm, lower face of the skin.
    fat_border : (z, x) mm, lower face of the subcutaneous fat.
    pectoral : (z, x) mm, upper face of the pectoral muscle; may lie below the volume.
    retromammary : (z, x) mm, thickness of the fat between gland and muscle.
    """

    nipple: tuple[float, float]
    nipple_distance2: np.ndarray
    skin: np.ndarray
    fat_border: np.ndarray
    pectoral: np.ndarray
    retromammary: np.ndarray


def draw_nipple(grid: Grid) -> tuple[float, float]:
    """Where the nipple lies, mm (z, x)."""
    uniform = grid.rng.uniform
    return uniform(0.25, 0.75) * grid.extent[0], uniform(0.25, 0.75) * grid.extent[2]


def draw_layers(grid: Grid, nipple: tuple[float, float]) -> Layers:
    """Heights of skin, fat, gland and muscle."""
    uniform = grid.rng.uniform
    distance2 = (grid.z - nipple[0]) ** 2 + (grid.x - nipple[1]) ** 2
    skin = uniform(0.9, 2.8) + uniform(0.05, 0.3) * grid.sheet(25)
    skin = skin + uniform(0, 1.5) * np.exp(-distance2 / uniform(10, 20) ** 2)  # thicker at the areola
    skin = np.maximum(skin, 0.7)
    pectoral = _pectoral(grid)
    border = skin + uniform(0.04, 0.4) * (pectoral - skin) * (1 + 0.3 * grid.sheet(uniform(12, 30))) * (
        1 - 0.7 * np.exp(-distance2 / 30**2)  # gland comes up to the nipple
    )
    border = np.clip(border, skin + 0.3, 0.75 * pectoral)
    retromammary = np.maximum(uniform(0, 6) + uniform(0, 2) * grid.sheet(20), 0)
    return Layers(nipple, distance2, skin, border, pectoral, retromammary)


def _pectoral(grid: Grid) -> np.ndarray:
    """Upper face of the muscle: bent along both axes, tilted, wavy; in a fifth of the breasts out of sight."""
    uniform = grid.rng.uniform
    length_z, depth, length_x = grid.extent
    face = uniform(0.5, 1.05) * depth if grid.rng.random() < 0.8 else uniform(1.0, 1.3) * depth
    face = face + uniform(-0.25, 0.12) * depth * (((grid.x - uniform(0.2, 0.8) * length_x) / (0.5 * length_x)) ** 2)
    face = face + uniform(-0.2, 0.1) * depth * (((grid.z - uniform(0.2, 0.8) * length_z) / (0.5 * length_z)) ** 2)
    face = (
        face
        + uniform(-0.1, 0.1) * depth * (grid.x / length_x - 0.5)
        + uniform(0.3, 2.0) * grid.sheet(uniform(25, 50))
        + uniform(0, 0.5) * grid.sheet(12)
    )
    return np.maximum(face, min(13.0, 0.45 * depth))
