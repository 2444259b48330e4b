"""Lesions' outlines: ellipsoids whose radius depends on the direction; so each is of one piece."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from .lesion_plan import Plan

ROWS, COLUMNS = 96, 192  # of the table of directions: angle from the x axis, angle about it


@dataclass(frozen=True)
class Outline:
    """A lesion's outline: relative radius and strand strength (0 to 1) by direction, (ROWS, COLUMNS)."""

    radius: np.ndarray
    strands: np.ndarray

    @property
    def reach(self) -> float:
        return float(self.radius.max())


def _directions(rng: np.random.Generator, number: int) -> np.ndarray:
    v = rng.normal(size=(number, 3))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def draw_outline(rng: np.random.Generator, plan: Plan) -> Outline:
    polar = (np.arange(ROWS) + 0.5) / ROWS * np.pi
    about = np.arange(COLUMNS) / COLUMNS * 2 * np.pi
    sin = np.sin(polar)[:, None]
    table = np.stack([np.cos(polar)[:, None] + 0 * about, sin * np.cos(about), sin * np.sin(about)], -1)
    radius = np.ones((ROWS, COLUMNS))
    number, height, sharp = plan.bumps
    if number:
        lobes = np.exp(sharp * (table @ _directions(rng, number).T - 1)) * rng.uniform(0.5, 1.2, number)
        radius += height * (lobes.sum(-1) if plan.irregular else lobes.max(-1))
    if plan.facets > 3:
        towards = table @ _directions(rng, plan.facets).T
        flat = np.where(towards > 0.1, rng.uniform(0.6, 0.95, plan.facets) / np.maximum(towards, 0.1), 9).min(-1)
        radius = np.minimum(radius, flat)
    radius = np.clip(radius / np.sqrt(np.mean(radius**2)), 0.55, 1.7)
    strands = np.zeros_like(radius)
    if plan.strands:
        thin = np.exp(rng.uniform(80, 260, plan.strands) * (table @ _directions(rng, plan.strands).T - 1))
        strands = (thin * rng.uniform(0.5, 1, plan.strands)).max(-1)
    return Outline(radius.astype(np.float32), strands.astype(np.float32))


def by_direction(table: np.ndarray, p: np.ndarray) -> np.ndarray:
    """A table's values in the directions of p (3, ...), linearly interpolated."""
    polar = np.arctan2(np.hypot(p[1], p[2]), p[0]) * (ROWS / np.pi) - 0.5
    about = (np.arctan2(p[2], p[1]) % (2 * np.pi)) * (COLUMNS / (2 * np.pi))
    wide = np.concatenate([table, table[:, :2]], axis=1)
    return map_coordinates(wide, [polar, about], order=1, mode="nearest")
