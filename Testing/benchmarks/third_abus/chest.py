"""The chest wall below the breast: striped muscle, ribs, pleura."""

from __future__ import annotations

import numpy as np

from .grid import Grid, over_depth
from .layers import Layers
from .noise import sigmoid


def draw_chest(grid: Grid, echo: np.ndarray, streak: np.ndarray, layers: Layers) -> None:
    """Draw the chest wall into `echo` (dB) where it reaches into the volume."""
    top = int(max(0, (layers.pectoral.min() - 3) / grid.step[1]))
    if top >= grid.shape[1]:
        return
    echo, streak = echo[:, top:], streak[:, top:]
    under = grid.y[:, top:] - over_depth(layers.pectoral)  # mm below the muscle's face
    _draw_muscle(grid, echo, streak, under)
    thickness = grid.rng.uniform(4, 10) + 0.8 * grid.sheet(20)
    under_muscle = over_depth(thickness)
    if grid.rng.random() < 0.65:
        _draw_ribs(grid, echo, under, under_muscle)
    _draw_pleura(grid, echo, streak, under, under_muscle)


def _draw_muscle(grid: Grid, echo: np.ndarray, streak: np.ndarray, under: np.ndarray) -> None:
    """Dark muscle with bright fibres along its face, under a bright fascia."""
    uniform, f32 = grid.rng.uniform, np.float32
    weight = sigmoid(under * f32(3))
    period = uniform(1.3, 3.5)
    bend = f32(uniform(1, 3)) * grid.noise(15, 5, 15)[:, -echo.shape[1] :]
    phase = under * f32(2 * np.pi / period) + bend
    fibres = np.maximum(np.sin(phase), 0) ** 2 * np.clip(0.6 + 0.6 * streak, 0, 2)
    muscle = f32(uniform(-14, -5)) + f32(uniform(2, 9)) * fibres + f32(0.8) * streak
    echo += weight * (muscle - echo)
    fascia = np.exp(-((under / f32(0.7)) ** 2))
    echo += fascia * f32(uniform(3, 12)) * over_depth(sigmoid(1 + grid.sheet(12)))


def _draw_ribs(grid: Grid, echo: np.ndarray, under: np.ndarray, thickness: np.ndarray) -> None:
    """Parallel ribs: a bright arch each, and darkness under it."""
    uniform, f32 = grid.rng.uniform, np.float32
    angle = uniform(-0.6, 0.6) + (np.pi / 2 if grid.rng.random() < 0.2 else 0)
    period, half_width = uniform(20, 34), uniform(4, 7.5)
    across = grid.z * np.cos(angle) + grid.x * np.sin(angle) + 2 * grid.sheet(40) + uniform(0, period)
    off = np.abs((across % period) - period / 2) / half_width  # 0 on the rib's ridge, 1 at its side
    below = under - thickness - over_depth(np.minimum(off * off, 4) * uniform(2, 4))
    rib = over_depth(np.clip((1.1 - off) / uniform(0.08, 0.4), 0, 1))
    arch = np.exp(-((below / f32(0.8)) ** 2))
    echo += rib * (sigmoid(below * 4) * (f32(-28) - echo) + f32(uniform(10, 20)) * arch)


def _draw_pleura(grid: Grid, echo: np.ndarray, streak: np.ndarray, under: np.ndarray, thickness: np.ndarray) -> None:
    """A bright line, in most breasts, and the lung's haze below."""
    uniform, f32 = grid.rng.uniform, np.float32
    below = under - thickness - f32(uniform(7, 14))
    line = f32(uniform(6, 16)) * np.exp(-((below / f32(0.7)) ** 2))
    echo += line * (1 if grid.rng.random() < 0.6 else 0)
    echo += sigmoid(below * 2) * (f32(uniform(-22, -8)) + 2 * streak - echo) * f32(0.8)
