"""What the way to the skin does: gel, membrane, bubbles, folds, edges without contact, the nipple's shadow, dropped
beams.
"""

from __future__ import annotations

import numpy as np

from . import fields
from .grid import Grid
from .layers import Layers


def paint(rng: np.random.Generator, half: Grid, layers: Layers, echo: np.ndarray, loss: np.ndarray) -> list[str]:
    """Paint dB `echo`, and dB `loss` (negative where less is heard), of the half grid; returns what was painted."""
    z, y, x = half.axes()
    long, deep, wide = half.extent
    seen = []
    if layers.nipple is not None:
        _nipple(rng, (z, y, x), layers, loss)
        seen.append("nipple")
    if rng.random() < 0.55:
        edges = _edges(rng, half)[:, None, :]
        loss -= edges * np.float32(rng.uniform(18, 45))
        if rng.random() < 0.5:
            period = rng.uniform(1.5, 4)
            waves = np.exp(-y / 12) * (14 * np.cos(2 * np.pi * y / period)) + 20 * np.exp(-y / 8)
            echo += edges * waves
        seen.append("poor contact")
    if rng.random() < 0.45:
        for _ in range(rng.integers(1, 7)):
            _bubble(rng, half, (z, y, x), layers, echo, loss)
        seen.append("bubbles")
    if rng.random() < 0.3:
        _fold(rng, half, (z, y, x), layers, echo, loss)
        seen.append("fold")
    if rng.random() < 0.35:
        period = rng.uniform(2, 6)
        depth = y - layers.skin[:, None, :]
        where = fields.step(fields.map_mm(rng, half, 20) - 0.3, 0.5)[:, None, :]
        for order in range(1, 5):
            echo += (
                where * rng.uniform(3, 8) * np.exp(-np.square((depth - order * period) / np.float32(0.5)) - order / 2)
            )
        seen.append("reverberation")
    if rng.random() < 0.2:
        for _ in range(rng.integers(1, 4)):
            beam = np.clip(1.5 - np.abs(x - rng.uniform(0, wide)) / rng.uniform(0.4, 1.5), 0, 1)
            lasting = np.abs(z - rng.uniform(0, long)) < rng.uniform(0.1, 0.8) * long
            loss -= np.float32(rng.uniform(3, 14)) * (beam * lasting).astype(np.float32)
        seen.append("dropout")
    return seen


def _edges(rng: np.random.Generator, half: Grid) -> np.ndarray:
    """1 (slice, lateral) where the transducer does not touch."""
    nz, _, nx = half.shape
    long, _, wide = half.extent
    z, x = np.linspace(0, long, nz)[:, None], np.linspace(0, wide, nx)[None, :]
    sides = [z + 0 * x, long - z + 0 * x, x + 0 * z, wide - x + 0 * z]
    if rng.random() < 0.4:  # corners of a round breast
        round_ = np.hypot((z - long / 2) / long, (x - wide / 2) / wide)
        sides.append((rng.uniform(0.55, 0.68) - round_) * min(long, wide) + 0.08 * wide)
    chosen = [side for side in sides if rng.random() < 0.45] or sides[:1]
    away = np.min(chosen, axis=0) / wide - rng.uniform(0.01, 0.09) * (1 + 0.5 * fields.map_mm(rng, half, 15))
    return fields.step(-away, rng.uniform(0.01, 0.06)).astype(np.float32)


def _nipple(rng: np.random.Generator, axes, layers: Layers, loss: np.ndarray) -> None:
    z, y, x = axes
    radius = rng.uniform(3, 6) + rng.uniform(-0.08, 0.08) * y
    away = np.hypot(z - layers.nipple[0], x - layers.nipple[1] - rng.uniform(-0.25, 0.25) * y)
    loss -= rng.uniform(6, 24) * np.exp(-np.square(away / radius)) * np.clip(y / 10, 0, 1)


def _bubble(rng, half: Grid, axes, layers: Layers, echo: np.ndarray, loss: np.ndarray) -> None:
    """A bright spot in the gel, and behind it a dirty shadow that fades."""
    z, y, x = axes
    long, _, wide = half.extent
    cz, cx, size = rng.uniform(0, long), rng.uniform(0, wide), rng.uniform(0.5, 2.5)
    spot = np.exp(-(np.square((z - cz) / size) + np.square((x - cx) / size)))
    depth = layers.skin[int(cz / half.spacing[0]), int(cx / half.spacing[2])]
    echo += spot * rng.uniform(6, 16) * np.exp(-np.square((y - depth) / 0.6))
    ringing = rng.uniform(0, 5) * np.cos(2 * np.pi * y / rng.uniform(1.2, 3))
    loss -= spot * (rng.uniform(6, 22) * np.exp(-y / rng.uniform(10, 60)) + ringing * np.exp(-y / 12))


def _fold(rng, half: Grid, axes, layers: Layers, echo: np.ndarray, loss: np.ndarray) -> None:
    """A crease in the skin, with a curtain of shadow under it."""
    z, y, x = axes
    long, _, wide = half.extent
    angle, place = rng.uniform(0, np.pi), rng.uniform(0.2, 0.8)
    line = (z - place * long) * np.cos(angle) + (x - place * wide) * np.sin(angle)
    line = line + 1.5 * fields.map_mm(rng, half, 20)[:, None, :]
    curtain = np.exp(-np.square(line / np.float32(rng.uniform(0.5, 1.6))))
    echo += curtain * 8 * np.exp(-np.square((y - layers.fat[:, None, :]) / np.float32(1.0)))
    loss -= curtain * (rng.uniform(4, 16) * np.exp(-y / rng.uniform(15, 80)))
