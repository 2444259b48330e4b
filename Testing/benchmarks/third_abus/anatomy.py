"""A breast without lesions, on the coarse grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .attenuation import draw_attenuation
from .chest import draw_chest
from .contact import draw_contact, lose_contact
from .gland import draw_density, draw_gland, enclose_lobules
from .grid import Grid
from .layers import draw_layers, draw_nipple
from .tissue import add_fascia, add_septa, draw_gland_and_fat, draw_skin
from .vessels import draw_tubes


@dataclass
class Anatomy:
    """A breast on the coarse grid.

    Attributes
    ----------
    echo : (z, y, x) dB.
    attenuation : (z, y, x) dB that are added to the echoes.
    gland : (z, y, x) share of gland, 0 to 1.
    skin, pectoral : (z, x) mm, lower face of the skin and upper face of the muscle.
    contact : (z, x) coupling, 0 to 1.
    fat_db : level of fat.
    density : amount of gland that was drawn, 0 to 1.
    """

    echo: np.ndarray
    attenuation: np.ndarray
    gland: np.ndarray
    skin: np.ndarray
    pectoral: np.ndarray
    contact: np.ndarray
    fat_db: float
    density: float


def build(rng: np.random.Generator, shape: tuple[int, int, int], step: tuple[float, float, float]) -> Anatomy:
    """A breast on a coarse grid of `shape` voxels of `step` mm (z, y, x)."""
    grid = Grid.of(rng, shape, step)
    nipple = draw_nipple(grid)
    density = draw_density(rng)
    layers = draw_layers(grid, nipple)
    gland = draw_gland(grid, layers, density)
    lobules = enclose_lobules(grid, gland)
    fat_db = rng.uniform(-15, -6)
    echo, streak = draw_gland_and_fat(grid, gland, fat_db)
    add_septa(grid, echo, gland, streak, lobules)
    add_fascia(grid, echo, layers)
    draw_tubes(grid, echo, nipple, fat_db)
    draw_chest(grid, echo, streak, layers)
    draw_skin(grid, echo, layers)
    attenuation = draw_attenuation(grid, gland, layers)
    contact = draw_contact(grid)
    lose_contact(grid, echo, attenuation, contact)
    skin, pectoral = layers.skin.astype(np.float32), layers.pectoral.astype(np.float32)
    return Anatomy(echo, attenuation, gland, skin, pectoral, contact, float(fat_db), density)
