"""Ducts and vessels: paths that wander and branch, drawn as tubes into the half grid."""

from __future__ import annotations

from itertools import product

import numpy as np

from .grid import Grid

_STENCIL = 3  # nodes on each side of a point that it can reach


def wander(
    rng: np.random.Generator, start: np.ndarray, heading: np.ndarray, length: float, step: float, bend: float
) -> np.ndarray:
    """Points (n, 3), `step` mm apart, of a path that turns by about `bend` radians a step, less in depth than along the skin."""
    turns = rng.normal(0, bend, (max(int(length / step), 2), 3)) * (1, 0.5, 1)
    headings = heading + np.cumsum(turns, axis=0)
    headings /= np.linalg.norm(headings, axis=1, keepdims=True) + 1e-6
    return start + np.cumsum(headings * step, axis=0)


def duct_tree(
    rng: np.random.Generator, nipple: np.ndarray, reach: float, lobes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (n, 3) of ducts that fan out from the nipple, mm; their radii; and the ends, where terminal lobules are."""
    points, radii, ends = [], [], []
    for turn in np.arange(lobes) * 2 * np.pi / lobes + rng.normal(0, 0.15, lobes):
        trunk = [(nipple, np.array([np.sin(turn), rng.uniform(0.05, 0.5), np.cos(turn)]), reach * 0.45, 1.0)]
        while trunk:
            start, heading, length, radius = trunk.pop()
            path = wander(rng, start, heading, length * rng.uniform(0.6, 1.2), 0.7, 0.07)
            points.append(path)
            radii.append(np.full(len(path), radius * rng.uniform(0.6, 1.1)))
            if radius < 0.55:
                ends.append(path[-1])
                continue
            for _ in range(2):
                side = path[-1] - path[-2] + rng.normal(0, 0.33, 3) * (1, 0.6, 1)
                trunk.append((path[-1], side / (np.linalg.norm(side) + 1e-6), length * 0.62, radius * 0.78))
    return np.concatenate(points), np.concatenate(radii), np.array(ends)


def splat(grid: Grid, points: np.ndarray, radii: np.ndarray, reach: int = _STENCIL) -> np.ndarray:
    """A field of the half grid: 1 on a path, exp(-1) one radius away from it."""
    field = np.zeros(grid.half_shape, np.float32)
    spacing = np.array(grid.half_spacing)
    nodes = np.rint(points / spacing).astype(int)
    reached = ((nodes >= -reach) & (nodes < np.add(field.shape, reach))).all(1)
    nodes, points, radii = nodes[reached], points[reached], radii[reached]
    for offset in product(range(-reach, reach + 1), repeat=3):
        at = nodes + offset
        inside = ((at >= 0) & (at < field.shape)).all(1)
        away = np.square(at[inside] * spacing - points[inside]).sum(1) / np.square(radii[inside])
        near = away < 5
        np.maximum.at(field, tuple(at[inside][near].T), np.exp(-away[near]).astype(np.float32))
    return field
