"""Echoes that go to and fro between skin and probe, and show as lines below it that are parallel to it."""

from __future__ import annotations

import numpy as np

from .fields import smooth
from .grid import Grid


def add_reverberation(rng: np.random.Generator, grid: Grid, face: np.ndarray, echo: np.ndarray) -> None:
    """Add fading lines to some volumes' echo (dB, full grid); `face` is mm, the probe's."""
    if rng.random() < 0.6:
        return
    apart = rng.uniform(1.5, 4.0)
    level, fade = rng.uniform(-2, 6), rng.uniform(3, 7)
    strength = smooth(rng, (grid.shape[0], grid.shape[2]), [12 / grid.spacing[0], 12 / grid.spacing[2]]) * 2.5
    rows = min(int((float(face.max()) + 5 * apart) / grid.spacing[1]) + 2, grid.shape[1])
    depth = (np.arange(rows, dtype=np.float32) * grid.spacing[1])[None, :, None] - face[:, None, :]
    number = depth / apart
    line = 10 * np.cos(np.pi * number) ** 2 - 10  # dB, 0 on the lines
    line += level + strength[:, None, :] - fade * number
    np.maximum(echo[:, :rows], line, out=echo[:, :rows], where=depth > 0.7 * apart)
