"""Soft ellipsoids and tubes, stamped into maps of weights from 0 to 1 (z, y, x): where two meet, the larger weight stays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def stamp_ellipsoid(
    weights: np.ndarray,
    centre: Sequence[float],
    radii: Sequence[float],
    step: Sequence[float],
    softness: float = 0.15,
    power: float = 2.0,
) -> None:
    """Stamp an ellipsoid (mm, z y x).

    Parameters
    ----------
    softness : width of its border relative to its radii.
    power : 2 is an ellipsoid, more is nearer to a box, less to an octahedron.
    """
    window, terms = [], []
    for n, c, r, s in zip(weights.shape, centre, radii, step, strict=True):
        first, end = int(max(0, np.floor((c - 1.4 * r) / s))), int(min(n, np.ceil((c + 1.4 * r) / s) + 1))
        if end <= first:
            return
        window.append(slice(first, end))
        terms.append(np.abs((np.arange(first, end, dtype=np.float32) * s - c) / r) ** power)
    radius = (terms[0][:, None, None] + terms[1][None, :, None] + terms[2][None, None, :]) ** (1 / power)
    here = weights[tuple(window)]
    np.maximum(here, np.clip((1 - radius) / softness * 0.5 + 0.5, 0, 1), out=here)


def stamp_tube(
    weights: np.ndarray,
    rng: np.random.Generator,
    start: Sequence[float],
    direction: Sequence[float],
    length: float,
    radius: float,
    step: np.ndarray,
    wobble: float,
    rise: float,
    taper: float = 0.0,
) -> None:
    """Stamp a tube that wanders from `start` until its length is used up or the grid ends (mm, z y x).

    Parameters
    ----------
    wobble : how much it turns, radians per square root of mm; in depth `rise` times as much.
    taper : share of the radius that is lost until its end.
    """
    point, direction = np.array(start, float), np.array(direction, float)
    stride = max(0.7 * radius, 0.6)
    number = int(length / stride)
    extent = np.array(weights.shape) * step
    for k in range(number):
        direction = direction + rng.normal(0, wobble * np.sqrt(stride), 3) * (1, rise, 1)
        direction[1] *= 0.97  # tubes level out
        direction /= np.linalg.norm(direction) + 1e-6
        point = point + direction * stride
        if np.any(point < 0) or np.any(point > extent):
            return
        radii = max(radius * (1 - taper * k / number), 0.35)
        radii = np.maximum(radii, 0.55 * np.asarray(step))  # thinner than a voxel would be beads
        stamp_ellipsoid(weights, point, radii, step, softness=0.5)
