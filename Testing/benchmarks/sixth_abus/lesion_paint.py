"""How a lesion is drawn into the picture: its inside, its rims and spicules, and what it does to the sound behind it."""

from __future__ import annotations

import numpy as np

from .fields import ramp, smooth, steps_of
from .grid import Grid
from .placement import Placed

_AROUND_MM = 4.0


def paint(rng: np.random.Generator, grid: Grid, placed: Placed, echo: np.ndarray, loss: np.ndarray) -> float:
    """Draw a lesion into the full grid's echo (dB) and the half grid's loss (dB/mm); returns its contrast in dB to what is beside it."""
    whole, part = placed.windows(grid)
    plan, shape = placed.plan, placed.shape
    far = shape.far[part]
    mm = (far - 1) * shape.radius  # about, from the surface
    away = [a[tuple(p if a.shape[i] > 1 else slice(None) for i, p in enumerate(part))] for a in shape.away]
    region = echo[whole]
    rim = (mm > 0) & (mm < _AROUND_MM) & ~shape.mask[part]
    rows = shape.mask[part].any((0, 2))[None, :, None]
    beside = region[rim & rows]
    around = float(beside.mean()) if beside.size else 0.0
    level = plan.level
    if plan.echo == "hyperechoic":
        level = max(level, around + rng.uniform(3, 5))
    soft = {"circumscribed": 0.25, "indistinct": rng.uniform(0.8, 1.8)}.get(plan.margin, 0.4)
    soft = min(soft, 0.35 * shape.radius)
    inside = 1 - ramp(mm, -soft, soft * 0.6)
    if plan.halo_db:
        _halo(rng, grid, placed, mm, away, region)
    if plan.distortion or plan.margin == "spiculated":
        _spicules(rng, placed, mm, away, region)
    region += inside * (level + _texture(rng, grid, placed, far, away) - region)
    if plan.capsule_db:
        steep = np.abs(away[1]) / (np.abs(away[0]) + np.abs(away[1]) + np.abs(away[2]) + 0.1)
        shell = np.exp(-np.square((mm - 0.3) / 0.55))  # brightest where the beam meets it at a right angle
        region += plan.capsule_db * shell * (0.55 + 0.7 * steep)
    if plan.calcifications != "none":
        _calcify(rng, grid, placed, far, region)
    _lose(rng, grid, placed, (mm, away), loss)
    contrast = float(region[shape.mask[part]].mean())
    beside = region[rim & rows]
    return contrast - (float(beside.mean()) if beside.size else around)


def _texture(
    rng: np.random.Generator, grid: Grid, placed: Placed, far: np.ndarray, away: list[np.ndarray]
) -> np.ndarray:
    """dB of what the inside is uneven by."""
    radius, echo = placed.shape.radius, placed.plan.echo
    coarse = smooth(rng, far.shape, steps_of([max(0.5 * radius, 1.2)] * 3, grid.spacing))
    if echo == "anechoic":
        debris = rng.random() < 0.3
        return np.abs(coarse) + (4 * ramp(away[1] + 0 * far, 0, radius * 0.7) if debris else 0)
    if echo == "complex cystic and solid":
        fluid = ramp(coarse + rng.uniform(-0.2, 0.4), -0.15, 0.15) * ramp(-far, -0.95, -0.8)
        septa = np.exp(-np.square(smooth(rng, far.shape, steps_of([radius] * 3, grid.spacing)) / 0.15))
        return 2 + (-rng.uniform(11, 17) + 8 * septa) * fluid
    if echo == "heterogeneous":
        return rng.uniform(2.5, 5) * coarse
    fine = smooth(rng, far.shape, steps_of((1.2, 0.8, 1.4), grid.spacing))
    centre = rng.normal(0, 1.5) * ramp(-far, -0.9, -0.2)  # often darkest, or with a scar, in the middle
    return rng.uniform(0.3, 1.6) * coarse + rng.uniform(0.2, 1.2) * fine + centre


def _halo(
    rng: np.random.Generator,
    grid: Grid,
    placed: Placed,
    mm: np.ndarray,
    away: list[np.ndarray],
    region: np.ndarray,
) -> None:
    """A thick bright rim, uneven, and more at the sides than in front."""
    width = rng.uniform(1.0, 3.0) * min(1.0, 0.4 + placed.shape.radius / 8)
    uneven = np.clip(0.7 + 0.5 * smooth(rng, mm.shape, steps_of([0.8 * placed.shape.radius] * 3, grid.spacing)), 0, 1.5)
    rim = np.exp(-np.square(np.maximum(mm - 0.4, 0) / width)) * uneven
    region += rim * np.maximum(placed.plan.halo_db + 4 - 0.6 * region, 0)


def _spicules(
    rng: np.random.Generator, placed: Placed, mm: np.ndarray, away: list[np.ndarray], region: np.ndarray
) -> None:
    """Sheets and strands that run out from the surface: seen as a star in coronal slices, in the others as lines."""
    radius = placed.shape.radius
    length = max(radius * rng.uniform(0.6, 1.4), 3.0)
    near = np.nonzero((mm > -0.5) & (mm < 2 * length))
    z, y, x = (np.broadcast_to(a, mm.shape)[near] for a in away)
    far = np.hypot(z, x) + 0.5
    azimuth, rise = np.arctan2(z, x), np.arctan2(y, far)
    star = np.zeros_like(far)
    for _ in range(int(rng.integers(5, 15))):
        turn, up, tall = rng.uniform(-np.pi, np.pi), rng.normal(0, 0.35), rng.uniform(0.15, 0.6)
        bend = rng.normal(0, 0.03)
        gap = np.abs((azimuth - turn + bend * far + np.pi) % (2 * np.pi) - np.pi) * far  # mm beside the strand
        one = np.exp(-np.square(gap / rng.uniform(0.45, 0.9)) - np.square((rise - up) / tall))
        np.maximum(star, one * rng.uniform(0.4, 1), out=star)
    star *= np.exp(-np.square(np.maximum(mm[near], 0) / length))
    dark = rng.random() < 0.35
    region[near] += star * (rng.uniform(-7, -3) if dark else rng.uniform(6, 12))


def _calcify(rng: np.random.Generator, grid: Grid, placed: Placed, far: np.ndarray, region: np.ndarray) -> None:
    """Bright points, in the mass or in the ducts beside it."""
    reach = 0.85 if placed.plan.calcifications == "in mass" else 1.3
    spots = np.argwhere(far < reach)
    if not len(spots):
        return
    for z, y, x in spots[rng.integers(0, len(spots), int(rng.integers(2, 14)))]:
        region[z, y, x] += rng.uniform(12, 24)
        region[z, y, max(x - 1, 0) : x + 2] += rng.uniform(3, 8)


def _lose(
    rng: np.random.Generator,
    grid: Grid,
    placed: Placed,
    field: tuple[np.ndarray, list[np.ndarray]],
    loss: np.ndarray,
) -> None:
    """Shadow, enhancement, or both, and the thin shadows below the sides of smooth round masses."""
    mm, away = field
    whole, _ = placed.windows(grid)
    skip = whole[0].start % 2, whole[2].start % 2  # nodes are at even voxels
    nodes = np.s_[skip[0] :: 2, :, skip[1] :: 2]
    target = loss[
        (whole[0].start + 1) // 2 : (whole[0].stop + 1) // 2,
        whole[1],
        (whole[2].start + 1) // 2 : (whole[2].stop + 1) // 2,
    ]
    body = 1 - ramp(mm[nodes], -0.8, 0.3)
    body *= 0.4 + 1.2 * ramp(
        away[1] + 0 * body, -0.5 * placed.shape.radius, 0.8 * placed.shape.radius
    )  # most of it behind
    height = 2 * placed.shape.radius * placed.plan.axes[1]
    amount = rng.uniform(5, 14) / max(height, 3)
    side = np.hypot(away[0], away[2])[nodes]
    word = placed.plan.posterior
    if word == "shadowing":
        target += amount * body
    elif word == "enhancement":
        target -= 0.5 * amount * body
    elif word == "combined":
        target += amount * body * np.where(side < 0.5 * placed.shape.radius, 1, -0.5)
    if placed.plan.margin == "circumscribed" and rng.random() < 0.6:
        shell = np.exp(-np.square(mm[nodes] / 0.5))
        target += rng.uniform(0.5, 1.8) * shell * ramp(side / (np.abs(away[1]) + side + 0.1), 0.75, 0.95)
