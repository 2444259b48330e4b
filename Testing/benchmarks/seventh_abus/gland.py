"""Textures of glandular tissue: how much of it there is at a place, and what it looks like."""

from __future__ import annotations

import numpy as np

from . import fields
from .grid import Grid

STYLES = ("leopard", "homogeneous", "ductal", "lobular", "streaky")
_LIKELY = {"a": (0.1, 0.05, 0.2, 0.1, 0.55), "b": (0.35, 0.05, 0.2, 0.15, 0.25), "c": (0.35, 0.15, 0.2, 0.2, 0.1)}
_LIKELY["d"] = (0.15, 0.4, 0.2, 0.2, 0.05)
_FAT = {"a": 0.9, "b": 0.25, "c": -0.35, "d": -1.1}  # deviations of the field below which it is fat


def style_of(rng: np.random.Generator, density: str) -> str:
    return str(rng.choice(STYLES, p=_LIKELY[density]))


def paint(rng: np.random.Generator, half: Grid, density: str, style: str) -> tuple[np.ndarray, np.ndarray]:
    """The share of gland (0 to 1) and its dB against fat, (slice, depth, lateral), were the whole volume within the
    gland.
    """
    size = rng.uniform(3.5, 8)
    flat = rng.uniform(0.5, 0.9)
    if style == "streaky":
        lengths = (2.5 * size, 0.35 * size, 2.5 * size)
    else:
        lengths = (size, flat * size, size)
    part = fields.step(fields.in_mm(rng, half, lengths) - _FAT[density] - (style == "leopard") * 0.35, 0.25)
    echo = rng.uniform(4, 11) + rng.uniform(0.4, 1.5) * fields.in_mm(rng, half, (9, 5, 9))
    echo += rng.uniform(0.4, 2.2) * fields.in_mm(rng, half, (1.8, 0.7, 1.8))
    if style == "ductal":
        width = rng.uniform(0.25, 0.4)
        one = np.square(fields.in_mm(rng, half, (7, 2.6, 7)))
        one += np.square(fields.in_mm(rng, half, (7, 2.6, 7)))
        echo -= rng.uniform(6, 12) * np.exp(-one / np.float32(width**2))
    elif style == "lobular":
        many = fields.in_mm(rng, half, (rng.uniform(1.3, 2.4), 1.2, 1.8))
        echo -= rng.uniform(4, 9) * fields.step(many - np.float32(rng.uniform(0.5, 1.2)), 0.3)
    elif style == "homogeneous":
        part = np.maximum(part, np.float32(0.9))
        echo += rng.uniform(1, 5) * _septa(rng, half, (6, 2, 6), 0.2)  # fibres
    return part, echo


def fat(rng: np.random.Generator, half: Grid) -> tuple[np.ndarray, np.ndarray]:
    """dB of fat, and the strength (0 to 1) of the septa and Cooper's ligaments between its lobules."""
    width = rng.uniform(0.05, 0.13)
    size = rng.uniform(6, 13)
    ligaments = _septa(rng, half, (size, 0.75 * size, size), width)
    thin = _septa(rng, half, (0.5 * size, 0.3 * size, 0.5 * size), 1.3 * width)
    np.maximum(ligaments, rng.uniform(0.2, 0.9) * thin, out=ligaments)
    echo = rng.uniform(0.4, 1.3) * fields.in_mm(rng, half, (10, 6, 10))
    echo += rng.uniform(0.3, 1.6) * fields.in_mm(rng, half, (2.5, 0.7, 2.5))
    return echo, ligaments


def _septa(rng: np.random.Generator, half: Grid, lengths: tuple[float, float, float], width: float) -> np.ndarray:
    """Sheets between cells, with gaps, brighter where they lie across the beam."""
    field = fields.in_mm(rng, half, lengths)
    slope = np.empty_like(field)
    slope[:, 1:] = np.abs(np.diff(field, axis=1))
    slope[:, 0] = slope[:, 1]
    slope *= np.float32(0.8 * lengths[1] / half.spacing[1])
    np.clip(slope, 0.15, 1.2, out=slope)
    whole = fields.step(fields.in_mm(rng, half, tuple(1.2 * length for length in lengths)) + np.float32(0.4), 0.6)
    return fields.sheet(field, width) * slope * whole
