"""Echoes of gland and fat with the thin bright sheets between them."""

from __future__ import annotations

import numpy as np

from .gland import Lobule
from .grid import Grid, over_depth
from .layers import Layers
from .noise import sigmoid
from .stamps import stamp_ellipsoid


def draw_gland_and_fat(grid: Grid, gland: np.ndarray, fat_db: float) -> tuple[np.ndarray, np.ndarray]:
    """(echo, streak): dB of gland and fat mixed by the share of gland; and the fine horizontal noise that fat shows, of variance 1.

    Septa, lobules and muscle are modulated by the same streaks.
    """
    uniform, f32 = grid.rng.uniform, np.float32
    echo = grid.noise(uniform(4, 9), uniform(1.5, 4), uniform(4, 9)) * f32(uniform(0.5, 2.5))
    mottling = grid.noise(uniform(1.8, 4), uniform(1.2, 3), uniform(1.8, 4))
    np.clip(mottling, -2, 0.6, out=mottling)
    echo += mottling * f32(uniform(0, 3.0))  # darker periductal tissue
    echo *= gland
    streak = grid.noise(uniform(3, 7), uniform(0.9, 1.8), uniform(3, 7))
    echo += (1 - gland) * (f32(fat_db) + f32(uniform(0.3, 2.0)) * streak)
    return echo, streak


def add_septa(grid: Grid, echo: np.ndarray, gland: np.ndarray, streak: np.ndarray, lobules: list[Lobule]) -> None:
    """Add septa, which bound fat lobules, and the strands inside of the lobules that gland encloses."""
    uniform, f32 = grid.rng.uniform, np.float32
    septa = np.zeros(grid.shape, f32)
    for _ in range(grid.rng.integers(1, 4)):
        np.maximum(septa, _sheets(grid), out=septa)
    if lobules:
        weights = np.zeros(grid.shape, f32)
        for lobule in lobules:
            (z, y, x), (radius_z, radius_y, radius_x) = lobule.centre, lobule.radii
            shift = uniform(-0.3, 0.3) * radius_y
            flat = max(0.14 * radius_y, 0.5 * grid.step[1])
            stamp_ellipsoid(weights, (z, y + shift, x), (radius_z, flat, radius_x), grid.step, 0.9)
        echo += weights * f32(uniform(3, 9)) * np.clip(0.7 + 0.6 * streak, 0, 2)
    septa *= np.clip(streak * 0.35 + 0.75, 0.1, 1.3)
    echo += septa * ((1 - gland) * f32(uniform(4, 15)) + gland * f32(uniform(0, 4)))


def _sheets(grid: Grid) -> np.ndarray:
    """Weights 0 to 1 of thin sheets, where smooth noise crosses 0; brightest where they face the beam."""
    uniform, f32 = grid.rng.uniform, np.float32
    cell = uniform(6, 18)
    field = grid.noise(cell * uniform(0.8, 1.6), cell * uniform(0.35, 0.9), cell * uniform(0.8, 1.6))
    field += f32(uniform(0.1, 0.5)) * grid.noise(5, 3, 5) + f32(uniform(-0.4, 0.4))
    slope = np.gradient(field, *[f32(s) for s in grid.step])
    upright2 = slope[1] ** 2
    slope2 = upright2 + slope[0] ** 2 + slope[2] ** 2 + f32(1e-4)
    width = f32(uniform(0.3, 0.7))  # mm: field over slope is the distance from the sheet
    sheets = np.exp(-np.minimum(field * field / (slope2 * width * width + f32(0.0015)), 30))
    sheets *= f32(0.35) + f32(0.65) * upright2 / slope2
    return sheets


def add_fascia(grid: Grid, echo: np.ndarray, layers: Layers) -> None:
    """Add the bright line at the top of the gland, which comes and goes."""
    uniform, f32 = grid.rng.uniform, np.float32
    off = (grid.y - over_depth(layers.fat_border)) / f32(uniform(0.4, 0.8))
    echo += np.exp(-off * off) * f32(uniform(0, 8)) * over_depth(sigmoid(1.5 * grid.sheet(15)))


def draw_skin(grid: Grid, echo: np.ndarray, layers: Layers) -> None:
    """Draw the skin, bright with a darker middle, and the dark film of gel above it."""
    uniform, f32 = grid.rng.uniform, np.float32
    top = echo[:, : int((layers.skin.max() + 2) / grid.step[1]) + 1]
    y = grid.y[:, : top.shape[1]]
    weight = sigmoid((over_depth(layers.skin) - y) * f32(4))
    level = f32(uniform(-2, 8))
    top += weight * (level - f32(uniform(0, 6)) * np.sin(np.pi * np.clip(y / over_depth(layers.skin), 0, 1)) - top)
    film = uniform(0, 1.2)  # mm
    echo -= f32(uniform(0, 12)) * (grid.y < film)
