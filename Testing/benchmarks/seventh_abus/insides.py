"""What the inside of a lesion looks like: dB against its mean, or against fat where it is something else."""

from __future__ import annotations

import numpy as np

from . import fields, shapes
from .grid import Grid
from .lesion_plan import Plan


def paint(rng: np.random.Generator, plan: Plan, part: Grid, offsets, apart: np.ndarray) -> np.ndarray:
    """dB against fat (slice, depth, lateral) of the inside, as though it filled the part."""
    mean = float(np.cbrt(np.prod(plan.radii)))
    level = np.full(part.shape, plan.level_db, np.float32)
    inside = plan.looks.inside
    if inside != "plain" or plan.echo == "hypoechoic":
        rough = {"mottled": 1.8, "plain": 0.7, "level": 0.4, "nodule": 0.3}.get(inside, 1.0)
        level += np.float32(rough) * fields.in_mm(rng, part, (max(0.35 * mean, 0.8),) * 3)
    if plan.echo == "anechoic" and rng.random() < 0.6:  # reverberations of its front wall
        below = offsets[1] + np.float32(plan.radii[1])
        level += np.float32(rng.uniform(4, 14)) * np.exp(-np.maximum(below, 0) / np.float32(rng.uniform(0.8, 2.5)))
    if inside == "level":
        under = offsets[1] + 0 * offsets[0] + 0 * offsets[2] - np.float32(rng.uniform(-0.3, 0.4) * plan.radii[1])
        level += np.float32(rng.uniform(-12, -6)) * (1 - fields.step(under, 0.3)) * (rng.random() < 0.7)
    elif inside == "foam":
        holes = fields.step(fields.in_mm(rng, part, (max(0.3 * mean, 0.8),) * 3) - np.float32(0.3), 0.2)
        level -= np.float32(rng.uniform(12, 20)) * holes
    elif inside == "nodule":
        place = [
            rng.uniform(-0.5, 0.5) * mean,
            rng.choice([-1, 1]) * 0.55 * plan.radii[1],
            rng.uniform(-0.5, 0.5) * mean,
        ]
        shifted = [axis - np.float32(p) for axis, p in zip(offsets, place, strict=True)]
        nodule, _ = shapes.ellipsoid(shifted, [rng.uniform(0.4, 0.65) * mean] * 3, 0.0)
        solid = fields.step(-nodule, 0.3)
        if rng.random() < 0.4:  # thick septa
            np.maximum(solid, fields.sheet(fields.in_mm(rng, part, (0.8 * mean,) * 3), 0.2), out=solid)
        level += solid * (np.float32(rng.uniform(-7, -3)) - level)
    elif inside == "clefts":
        level -= np.float32(rng.uniform(4, 9)) * fields.sheet(
            fields.in_mm(rng, part, (0.7 * mean, 0.35 * mean, 0.7 * mean)), 0.25
        )
    elif inside == "duct":  # a clear rim of fluid at its ends
        level -= np.float32(10) * fields.step(np.abs(offsets[2]) - 0.65 * np.float32(plan.radii[2]), 0.3)
    elif inside == "oil":  # a wall, and clear oil in it
        wall = rng.uniform(0.2, 0.4) * mean
        level += np.float32(8) * fields.step(apart + np.float32(wall), 0.2)
        level -= np.float32(rng.uniform(0, 8))
    elif inside == "islands":
        level += np.float32(rng.uniform(6, 10)) * fields.step(
            fields.in_mm(rng, part, (0.4 * mean,) * 3) - np.float32(0.2), 0.3
        )
        level -= np.float32(3)
    elif inside == "ducts":
        tubes = np.square(fields.in_mm(rng, part, (0.8 * mean, 0.4 * mean, 0.8 * mean)))
        tubes += np.square(fields.in_mm(rng, part, (0.8 * mean, 0.4 * mean, 0.8 * mean)))
        level -= np.float32(9) * np.exp(-tubes / np.float32(0.3))
    return level


def calcifications(
    rng: np.random.Generator, plan: Plan, echo: np.ndarray, body: np.ndarray, around: np.ndarray
) -> None:
    """Bright points in `echo` (dB), inside the body or in what is around it (both masks)."""
    if plan.calcifications == "none":
        return
    places = np.argwhere(around if plan.calcifications == "outside mass" else body)
    if not len(places):
        return
    for z, y, x in places[rng.integers(len(places), size=rng.integers(5, 25))]:
        level = rng.uniform(8, 18)
        echo[z, y, x] = level
        echo[z, y, max(x - 1, 0)] = level - 4
