"""Shapes of lesions as functions of place: below 1 inside, above 1 outside, in seven forms."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from .fields import random_field
from .lesion_plan import Plan

LEAST_MM3 = 45.0
LONGEST = 34.0  # mm
MARGIN = (5.0, 3.0, 5.0)  # mm about it that are worked out, too, for halos
REACH = 1.7  # half sides of the box that a shape is worked out in, in radii
Axes = tuple[np.ndarray, np.ndarray, np.ndarray]


def shape_of(
    rng: np.random.Generator, plan: Plan, spacing: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Its function over a box, float32 (slice, depth, lateral), and its mask: one piece of the planned volume, or less.

    None where it does not fit in the box. The function goes through 1 at the mask's border.
    """
    counts = [2 * int(REACH * r / s + 1) for r, s in zip(plan.radii, spacing, strict=True)]
    axes = np.ix_(
        *(((np.arange(n) - (n - 1) / 2) * s).astype(np.float32) for n, s in zip(counts, spacing, strict=True))
    )
    turn = Rotation.from_euler("zyx", rng.normal(0, [0.2, 0.5, 0.2])).as_matrix().astype(np.float32)
    q = tuple(sum(turn[i, j] * axes[j] for j in range(3)) / np.float32(plan.radii[i]) for i in range(3))
    value = FORMS[plan.form](rng, q)
    number = round(plan.volume_ml * 1000 / float(np.prod(spacing)))
    if not 10 < number < value.size:
        return None
    face = min(np.min(np.take(value, k, axis=axis)) for axis in range(3) for k in (0, -1))
    value = value / min(
        np.partition(value.ravel(), number)[number], face
    )  # what would reach out of the box is made smaller
    pieces, count = ndimage.label(value < 1)
    if count > 1:
        sizes = np.bincount(pieces.ravel())[1:]
        if sizes.max() < 0.8 * number:
            return None
        mask = pieces == 1 + sizes.argmax()
        value = np.where((value < 1) & ~mask, np.float32(1.02), value)  # crumbs are tissue
    else:
        mask = pieces > 0
    mask = ndimage.binary_fill_holes(mask)
    extents = [
        np.ptp(np.flatnonzero(mask.any(others))) * s
        for others, s in zip(((1, 2), (0, 2), (0, 1)), spacing, strict=True)
    ]
    if mask.sum() * np.prod(spacing) < LEAST_MM3 or max(extents) > LONGEST:
        return None
    places = np.argwhere(mask)
    pads = [int(mm / s) for mm, s in zip(MARGIN, spacing, strict=True)]
    ends = zip(places.min(0), places.max(0), pads, strict=True)
    box = tuple(slice(max(low - pad, 0), high + pad + 1) for low, high, pad in ends)
    return np.where(mask, np.minimum(value, np.float32(0.999)), value)[box], mask[box]


def _length(q: Axes) -> np.ndarray:
    return np.sqrt(q[0] ** 2 + q[1] ** 2 + q[2] ** 2) + np.float32(1e-4)


def _directions(rng: np.random.Generator, number: int) -> np.ndarray:
    v = rng.standard_normal((number, 3))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def _bumps(
    rng: np.random.Generator, q: Axes, number: int, sharp: tuple[float, float], height: np.ndarray
) -> np.ndarray:
    """The distance from the middle over a radius that has bumps in random directions, looked up on a sphere of 96 x 192."""
    polar, azimuth = np.ix_((np.arange(96) + 0.5) * np.pi / 96, (np.arange(192) + 0.5) * np.pi / 96)
    sphere = np.stack(
        np.broadcast_arrays(np.cos(polar), np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth))
    )
    kappa = rng.uniform(*sharp, number)
    angles = np.tensordot(_directions(rng, number), sphere, 1)
    bumps = height[:, None, None] * np.exp(kappa[:, None, None] * (angles - 1))
    radius = 1 + bumps.max(0) + np.minimum(bumps, 0).sum(0)  # a sum of many would be a new, larger ball
    radius = np.maximum(radius, 0.4).astype(np.float32)
    r = _length(q)
    row = np.arccos(np.clip(q[0] / r, -1, 1)) * np.float32(96 / np.pi)
    column = np.arctan2(np.broadcast_to(q[2], r.shape), np.broadcast_to(q[1], r.shape)) * np.float32(96 / np.pi)
    return r / radius[np.minimum(row.astype(int), 95), column.astype(int) % 192]


def _ellipsoid(rng: np.random.Generator, q: Axes) -> np.ndarray:
    power = np.float32(rng.uniform(1.8, 2.8))
    return (sum(np.abs(a) ** power for a in q) + np.float32(1e-6)) ** (1 / power)


def _harmonic(rng: np.random.Generator, q: Axes) -> np.ndarray:
    return _bumps(rng, q, 8, (1.5, 5), rng.uniform(-0.25, 0.25, 8))


def _balls(rng: np.random.Generator, q: Axes) -> np.ndarray:
    number = int(rng.integers(2, 6))
    total = 0
    for place in _directions(rng, number) * rng.uniform(0.3, 0.6, (number, 1)):
        width = np.float32(rng.uniform(0.4, 0.65))
        total = total + np.exp(-sum((a - np.float32(p)) ** 2 for a, p in zip(q, place, strict=True)) / (2 * width**2))
    return np.sqrt(np.clip(-np.log(total + 1e-9) + np.log(number + 1), 0, None))


def _lobules(rng: np.random.Generator, q: Axes) -> np.ndarray:
    if rng.uniform() < 0.5:
        return _bumps(rng, q, 40, (15, 45), rng.uniform(0.12, 0.3, 40))
    value = _length(q) / np.float32(0.75)
    for place in _directions(rng, 9) * rng.uniform(0.5, 0.75, (9, 1)):
        ball = _length(tuple(a - np.float32(p) for a, p in zip(q, place, strict=True)))
        value = np.minimum(value, ball / np.float32(rng.uniform(0.3, 0.5)))
    return value


def _warped(rng: np.random.Generator, q: Axes) -> np.ndarray:
    shape = _length(q).shape
    steps = [2 * REACH / n for n in shape]
    moved = tuple(a + rng.uniform(0.12, 0.25) * random_field(rng, shape, steps, rng.uniform(0.4, 0.9)) for a in q)
    return _length(moved)


def _polytope(rng: np.random.Generator, q: Axes) -> np.ndarray:
    value = _length(q) * np.float32(0.7)
    for normal in _directions(rng, int(rng.integers(9, 18))):
        plane = sum(a * np.float32(n) for a, n in zip(q, normal, strict=True))
        value = np.maximum(value, plane / np.float32(rng.uniform(0.55, 1)))
    return value


def _spikes(rng: np.random.Generator, q: Axes) -> np.ndarray:
    number = int(rng.integers(14, 32))
    return _bumps(rng, q, number, (30, 110), rng.uniform(0.25, 0.85, number))


FORMS = {
    "ellipsoid": _ellipsoid,
    "harmonic": _harmonic,
    "balls": _balls,
    "lobules": _lobules,
    "warped": _warped,
    "polytope": _polytope,
    "spikes": _spikes,
}
