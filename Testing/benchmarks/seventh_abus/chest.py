"""Muscle with fibres, ribs with shadows, pleura with its echoes; rarely an implant."""

from __future__ import annotations

import numpy as np

from . import fields
from .grid import Grid
from .layers import Layers


def paint(rng: np.random.Generator, half: Grid, layers: Layers, echo: np.ndarray, alpha: np.ndarray) -> str:
    """Paint dB `echo` and dB/mm `alpha` (slice, depth, lateral) of the half grid; returns what lies there."""
    z, y, x = half.axes()
    if rng.random() < 0.04:
        _implant(rng, y, layers, echo)
        return "implant"
    muscle = layers.below(layers.chest, y, 0.4)
    fibres = fields.in_mm(rng, half, (3, 0.5, 14) if rng.random() < 0.5 else (12, 0.5, 4))
    echo += muscle * (rng.uniform(-5, 1) + rng.uniform(1.5, 3) * fibres - echo)
    fascia = np.exp(-np.square((y - layers.chest[:, None, :]) / np.float32(0.5)))
    echo += fascia * rng.uniform(4, 10)
    _ribs(rng, half, layers, (z, y, x), echo, alpha)
    return "chest wall"


def _ribs(rng: np.random.Generator, half: Grid, layers: Layers, axes, echo: np.ndarray, alpha: np.ndarray) -> None:
    """Ribs run obliquely, 17 to 26 mm apart; between them the pleura's line, and repeats of it in the lung."""
    z, y, x = axes
    angle = rng.uniform(-0.5, 0.5)
    along = (z * np.cos(angle) + x * np.sin(angle))[:, 0, :]
    apart, radius = rng.uniform(17, 26), rng.uniform(4, 7)
    turn = (along / apart + rng.random() + 0.08 * fields.map_mm(rng, half, 40)) % 1 - 0.5
    across = turn * apart
    bone = np.sqrt(np.maximum(1 - np.square(across / radius), 0))
    top = layers.ribs + 0.35 * radius * (1 - bone)
    solid = fields.step(bone - 0.25, 0.1)[:, None, :]
    under = y - top[:, None, :]
    if not (under.max() > 0):
        return
    echo += solid * np.exp(-np.square(under / np.float32(0.6))) * rng.uniform(12, 20)
    alpha += solid * ((under > 0) & (under < 6)) * np.float32(rng.uniform(3, 7))
    pleura = y - (layers.ribs + 0.8 * radius)[:, None, :]
    lung = (1 - solid) * (pleura > -0.8)
    period = rng.uniform(4, 9)
    repeats = np.exp(-np.square(((pleura + period / 2) % period - period / 2) / np.float32(0.6)))
    level = rng.uniform(8, 16) * repeats * np.exp(-np.maximum(pleura, 0) / 9) - 10
    echo += lung * (level - echo)


def _implant(rng: np.random.Generator, y: np.ndarray, layers: Layers, echo: np.ndarray) -> None:
    """A clear inside behind two bright lines, with reverberations under its front."""
    under = y - layers.chest[:, None, :]
    inside = fields.step(under, 0.3)
    echo += inside * (-24 + rng.uniform(0, 12) * np.exp(-np.maximum(under, 0) / 3) * np.cos(under * 4) - echo)
    for offset in (0.0, rng.uniform(1, 1.8)):
        echo += 24 * np.exp(-np.square((under - offset) / np.float32(0.4)))
