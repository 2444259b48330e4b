"""A breast without lesions: echoes and losses on the half grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from . import chest, contact, fields, gland, layers
from .grid import Grid
from .layers import Layers
from .scanner import Scanner


@dataclass(frozen=True)
class Breast:
    """dB against fat, and dB lost on the way, (slice, depth, lateral) on the half grid, and what was drawn."""

    echo: np.ndarray
    loss: np.ndarray
    layers: Layers
    facts: dict[str, Any]


def draw(rng: np.random.Generator, half: Grid, scanner: Scanner) -> Breast:
    density = str(rng.choice(["a", "b", "c", "d"], p=[0.12, 0.33, 0.36, 0.19]))
    style = gland.style_of(rng, density)
    surfaces = layers.draw(rng, half, density)
    _, y, _ = half.axes()
    echo, ligaments = gland.fat(rng, half)
    part, texture = gland.paint(rng, half, density, style)
    part *= surfaces.below(surfaces.gland, y, 0.8)
    part *= 1 - surfaces.below(surfaces.gland_end, y, 0.8)
    echo += part * (texture - echo)
    echo += part * (1 - part) * np.float32(rng.uniform(0, 16))  # its interfaces
    strength = rng.uniform(3, 11)
    ligaments *= 1 - 0.7 * part
    echo += ligaments * np.float32(strength)
    alpha = ligaments * np.float32(rng.uniform(0, 1.5)) + part * np.float32(rng.uniform(0, 0.12))
    wall = chest.paint(rng, half, surfaces, echo, alpha)
    _skin(rng, surfaces, y, echo, alpha)
    loss = np.cumsum(alpha, axis=1, dtype=np.float32)
    loss *= np.float32(-half.spacing[1])
    loss = ndimage.uniform_filter1d(loss, 3, 0, output=loss)
    loss = ndimage.uniform_filter1d(loss, 3, 2, output=loss)
    loss -= loss.max(axis=(0, 2), keepdims=True) * np.float32(0.7)  # the scanner makes up for what all beams lose
    if rng.random() < 0.6:
        _curtains(rng, half, surfaces, y, loss)
    _unevenness(rng, half, scanner, loss)
    seen = contact.paint(rng, half, surfaces, echo, loss)
    return Breast(echo, loss, surfaces, {"density": density, "gland": style, "behind": wall, "artefacts": seen})


def _skin(rng: np.random.Generator, surfaces: Layers, y: np.ndarray, echo: np.ndarray, alpha: np.ndarray) -> None:
    """Two lines and what lies between them; above them gel, with the membrane's line in it."""
    skin, fat = surfaces.skin[:, None, :], surfaces.fat[:, None, :]
    within = fields.step(y - skin, 0.2) * (1 - fields.step(y - fat, 0.2))
    echo += within * (rng.uniform(2, 9) - echo)
    for surface, level in ((skin, rng.uniform(3, 10)), (fat, rng.uniform(0, 6))):
        echo += level * np.exp(-np.square((y - surface) / np.float32(0.35)))
    gel = 1 - fields.step(y - skin, 0.2)
    membrane = rng.uniform(5, 25) * np.exp(-np.square((y - rng.uniform(0, 1)) / 0.4))
    echo += gel * (rng.uniform(-35, -12) + membrane - echo)
    alpha *= 1 - gel


def _curtains(rng: np.random.Generator, half: Grid, surfaces: Layers, y: np.ndarray, loss: np.ndarray) -> None:
    """Shadows of steep ligaments: narrow, from within the fat or gland to the bottom, without a body at their top."""
    where = fields.step(
        fields.map_mm(rng, half, rng.uniform(1.5, 5)) - np.float32(rng.uniform(1.2, 2.2)), rng.uniform(0.5, 1.2)
    )
    top = surfaces.fat + rng.uniform(2, 12) * (1 + 0.6 * fields.map_mm(rng, half, 8))
    loss -= (
        np.float32(rng.uniform(3, 11))
        * where[:, None, :]
        * surfaces.below(top, y, rng.uniform(1, 6))
        * np.exp(-y / np.float32(rng.uniform(30, 150)))
    )


def _unevenness(rng: np.random.Generator, half: Grid, scanner: Scanner, loss: np.ndarray) -> None:
    """Of gain: slowly over the field, from slice to slice, from beam to beam, and where two sweeps meet."""
    nz, _, nx = half.shape
    loss += (rng.uniform(0.2, 1.5) * fields.map_mm(rng, half, 30))[:, None, :]
    loss += (scanner.bands * rng.standard_normal(nz)).astype(np.float32)[:, None, None]
    loss += (scanner.lines * rng.standard_normal(nx)).astype(np.float32)[None, None, :]
    if rng.random() < 0.15:
        place = rng.integers(nx // 4, 3 * nx // 4)
        loss[:, :, place:] += np.float32(rng.uniform(-3, 3))
