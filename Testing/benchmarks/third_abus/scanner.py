"""Settings of a scanner, drawn wider than any one scanner has them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scanner:
    """What a volume is scanned with.

    Attributes
    ----------
    spread : (z, y, x) weight of neighbouring voxels in speckle, 0 to 1: its size.
    spread_twice : (z, y, x) whether it is spread once more.
    coarse : whether pictures are smoothed after compression.
    speckle : 0.5 (mild) to 1 (fully developed).
    floor_db, floor_slope : electronic noise against gland, and how it grows with depth, dB/mm.
    range_db, top_db : dynamic range, and the level against gland that is white.
    gamma : exponent of the grey map.
    compounded : whether two looks are averaged.
    """

    spread: tuple[float, float, float]
    spread_twice: tuple[bool, bool, bool]
    coarse: bool
    speckle: float
    floor_db: float
    floor_slope: float
    range_db: float
    top_db: float
    gamma: float
    compounded: bool


def draw_scanner(rng: np.random.Generator) -> Scanner:
    """Random settings."""
    uniform = rng.uniform
    coarse = rng.random() < 0.25
    range_db = uniform(30, 58)
    gland_grey = uniform(0.4, 0.8)  # of white
    return Scanner(
        spread=(uniform(0.2, 0.9), uniform(0, 0.4), uniform(0.4, 1.0)),
        spread_twice=(rng.random() < 0.3, rng.random() < 0.08, rng.random() < 0.65),
        coarse=coarse,
        speckle=uniform(0.5, 1.0),
        floor_db=-uniform(22, 38),
        floor_slope=uniform(0, 0.25),
        range_db=range_db,
        top_db=range_db * (1 - gland_grey),
        gamma=float(np.exp(uniform(np.log(0.8), np.log(1.5)))),
        compounded=rng.random() < 0.4,
    )
