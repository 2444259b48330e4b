"""The surfaces of a breast under the transducer: gel, skin, gland, muscle and ribs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import fields
from .grid import Grid


@dataclass(frozen=True)
class Layers:
    """Depths in mm (slice, lateral) on the half grid; `nipple` is mm (slice, lateral), None where it lies outside."""

    skin: np.ndarray
    fat: np.ndarray
    gland: np.ndarray
    gland_end: np.ndarray
    chest: np.ndarray
    ribs: np.ndarray
    nipple: tuple[float, float] | None

    def below(self, surface: np.ndarray, y: np.ndarray, width: float) -> np.ndarray:
        """1 deeper than a surface, 0 above it, over `width` mm."""
        return fields.step(y - surface[:, None, :], width)


# Of the breast's thickness: subcutaneous fat, gland.
SHARES = {
    "a": ((0.35, 0.6), (0.15, 0.35)),
    "b": ((0.2, 0.45), (0.3, 0.5)),
    "c": ((0.1, 0.3), (0.45, 0.7)),
    "d": ((0.05, 0.18), (0.65, 0.9)),
}


def draw(rng: np.random.Generator, half: Grid, density: str) -> Layers:
    long, deep, wide = half.extent
    nz, _, nx = half.shape
    z = (np.arange(nz, dtype=np.float32) * half.spacing[0])[:, None]
    x = (np.arange(nx, dtype=np.float32) * half.spacing[2])[None, :]
    centre = rng.uniform(0.25, 0.75) * long, rng.uniform(0.25, 0.75) * wide
    away = ((z - centre[0]) / (0.62 * long)) ** 2 + ((x - centre[1]) / (0.62 * wide)) ** 2
    breath = rng.uniform(0, 0.5) * fields.smooth(rng, (nz, 1), (rng.uniform(3, 15) / half.spacing[0], 1))
    gel = rng.choice([0.3, 1.0, 3.0]) * rng.uniform(0.3, 1.2) * min(1, deep / 40)
    skin = np.maximum(gel * (1 + 0.5 * fields.map_mm(rng, half, 25) + rng.uniform(0, 1.5) * away) + breath, 0)
    thick = rng.uniform(0.9, 2.6) * min(1, deep / 30)
    fat = skin + thick * (1 + 0.08 * fields.map_mm(rng, half, 10))
    ends = rng.choice([0.55, 0.75, 0.95, 1.2], p=[0.2, 0.35, 0.3, 0.15]) * rng.uniform(0.9, 1.1)
    tilt = rng.uniform(-0.1, 0.1) * (x / wide - 0.5) + rng.uniform(-0.1, 0.1) * (z / long - 0.5)
    chest = deep * (ends + tilt - rng.uniform(0, 0.15) * away) + 0.8 * fields.map_mm(rng, half, 18) + breath
    chest = np.maximum(chest, fat + 0.25 * deep)
    room = chest - fat
    above, share = (rng.uniform(*span) for span in SHARES[density])
    gland = fat + room * np.clip(above * (1 + 0.18 * fields.map_mm(rng, half, rng.uniform(6, 16))), 0.02, 1)
    peaks = np.exp(-np.abs(fields.map_mm(rng, half, rng.uniform(4, 9))) / 0.25)  # where ligaments draw gland into fat
    gland = gland - rng.uniform(0, 0.35) * (gland - fat) * peaks + 0.3 * fields.map_mm(rng, half, 2.5)
    tall = room * share * (1.1 - rng.uniform(0.3, 1.1) * away + 0.15 * fields.map_mm(rng, half, 12))
    tall = tall + rng.uniform(0, 2.5) * np.exp(-np.abs(fields.map_mm(rng, half, rng.uniform(4, 9))) / 0.25)
    end = np.minimum(gland + np.maximum(tall, -2), chest - room * rng.uniform(0.03, 0.1))
    ribs = chest + rng.uniform(0.12, 0.3) * deep * (1 + 0.1 * fields.map_mm(rng, half, 30))
    nipple = None
    if rng.random() < 0.55:
        nipple = centre[0] + rng.normal(0, 0.12) * long, centre[1] + rng.normal(0, 0.12) * wide
    return Layers(skin, fat, gland.astype(np.float32), end.astype(np.float32), chest, ribs, nipple)
