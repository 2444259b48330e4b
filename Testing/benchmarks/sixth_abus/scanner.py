"""The scanners that look at breasts, and the settings that an operator may have left them with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scanner:
    """What was drawn of a scanner and its settings.

    Attributes
    ----------
    vendor : whose pictures these are like.
    curvature_mm : how much deeper the probe's face lies at the picture's sides than in its middle.
    foci_mm : depths of transmit foci, below the face.
    width_mm, widening : standard deviation of the beam, lateral, at a focus, and how much it grows per mm from it.
    slice_mm, pulse_mm : the same across slices, and in depth.
    looks : share of the speckle that is left after compounding, 0 to 1.
    speckle_mm : additional lateral length of speckle, of the display's interpolation.
    clutter_db, noise_db : against the local mean, and against fat.
    harmonic : whether tissue harmonics are shown: less clutter, less depth.
    range_db : dynamic range of the display.
    fat_grey : grey level of fat at the focus.
    gamma : of the grey map.
    smoothing : strength of speckle reduction, 0 to 1.
    persistence : share of the former slice that is left in a slice.
    bend : how much steeper than even the grey map is in its middle, 0 to 1.
    step : of grey levels that are told apart.
    sharpen : strength of edge enhancement.
    """

    vendor: str
    curvature_mm: float
    foci_mm: tuple[float, ...]
    width_mm: float
    widening: float
    slice_mm: float
    pulse_mm: float
    looks: float
    speckle_mm: float
    clutter_db: float
    noise_db: float
    harmonic: bool
    range_db: float
    fat_grey: float
    gamma: float
    smoothing: float
    persistence: float
    bend: float
    step: int
    sharpen: float


def draw_scanner(rng: np.random.Generator, depth_mm: float) -> Scanner:
    """Draw a scanner for a picture that is `depth_mm` deep."""
    vendor = ("automated flat", "automated curved", "swept by an arm", "other")[rng.choice(4, p=(0.4, 0.3, 0.15, 0.15))]
    curvature = 0.0
    if vendor == "automated curved" or (vendor == "other" and rng.random() < 0.5):
        curvature = rng.uniform(0.02, 0.16) * depth_mm * (1 if rng.random() < 0.75 else -1)
    harmonic = bool(rng.random() < 0.45)
    coarse = {"automated flat": 1.0, "automated curved": 1.1, "swept by an arm": 1.25, "other": 1.1}[vendor]
    return Scanner(
        vendor,
        curvature,
        tuple(depth_mm * f for f in rng.uniform(0.2, 0.75, int(rng.integers(1, 4)))),
        coarse * rng.uniform(0.22, 0.42) * (0.85 if harmonic else 1),
        rng.uniform(0.004, 0.018),
        coarse * rng.uniform(0.3, 0.75),
        rng.uniform(0.12, 0.3),
        float(rng.choice((rng.uniform(0.7, 0.85), rng.uniform(0.3, 0.65)), p=(0.2, 0.8))),
        rng.uniform(0, 0.25),
        rng.uniform(-36, -24) if harmonic else rng.uniform(-30, -17),
        rng.uniform(-30, -16) + (3 if harmonic else 0),
        harmonic,
        rng.uniform(45, 80),
        rng.uniform(52, 108),
        float(np.exp(rng.normal(0, 0.18))),
        float(rng.choice((0.0, rng.uniform(0.3, 0.9)), p=(0.45, 0.55))),
        float(rng.choice((0.0, rng.uniform(0.1, 0.4)), p=(0.6, 0.4))),
        float(rng.choice((0.0, rng.uniform(0.2, 0.9)), p=(0.35, 0.65))),
        int(rng.choice((1, 2, 4), p=(0.7, 0.2, 0.1))),
        float(rng.choice((0.0, rng.uniform(0.2, 0.6)), p=(0.65, 0.35))),
    )
