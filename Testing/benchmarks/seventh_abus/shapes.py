"""Bodies of lesions and of what is taken for them: how far a place is outside, mm, below 0 inside."""

from __future__ import annotations

import numpy as np

from . import fields
from .grid import Grid


def ellipsoid(offsets, radii, turn: float) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Distance of places (mm from the centre: slice, depth, lateral), and these in the body's own axes over its
    radii.
    """
    z, y, x = offsets
    u = (z * np.cos(turn) + x * np.sin(turn)) / radii[0]
    w = (x * np.cos(turn) - z * np.sin(turn)) / radii[2]
    v = y / radii[1]
    from_centre = np.sqrt(u * u + v * v + w * w)
    return (from_centre - 1) * np.float32(np.cbrt(np.prod(radii))), (u, v, w)


def body(rng: np.random.Generator, part: Grid, offsets, radii, turn: float, form: str, margin: str) -> np.ndarray:
    """A lesion's body on a part of the grid."""
    mean = float(np.cbrt(np.prod(radii)))
    apart, own = ellipsoid(offsets, radii, turn)
    if form == "angular":
        apart = np.maximum(0.92 * _polyhedron(rng, own) * mean, 0.5 * apart) - np.float32(0.15 * mean)
    rough = {"smooth": 0.05, "oval": 0.07, "lobed": 0.2, "angular": 0.17, "rough": 0.21}[form]
    length = {"lobed": 0.75, "rough": 0.6, "angular": 0.45}.get(form, 0.8) * mean
    apart = apart + np.float32(rough * mean) * fields.in_mm(rng, part, (length,) * 3)
    if margin == "microlobulated":
        fine = fields.in_mm(rng, part, (max(0.3 * mean, 0.9),) * 3)
        apart += np.float32(0.13 * mean) * np.abs(fine)
    if margin == "indistinct":
        apart += np.float32(0.1 * mean) * fields.in_mm(rng, part, (0.3 * mean,) * 3)
    return apart


def _polyhedron(rng: np.random.Generator, own) -> np.ndarray:
    """How far outside of some planes about the centre a place is, as a share of the radius."""
    worst = None
    for _ in range(rng.integers(7, 12)):
        normal = rng.standard_normal(3)
        normal /= np.linalg.norm(normal)
        outside = sum(np.float32(n) * axis for n, axis in zip(normal, own, strict=True)) - np.float32(
            rng.uniform(0.6, 0.95)
        )
        outside = np.exp(np.minimum(np.float32(9) * outside, 40))  # a maximum with rounded corners
        worst = outside if worst is None else worst + outside
    return np.log(worst) / np.float32(9)


def spicules(rng: np.random.Generator, offsets, radius: float) -> np.ndarray:
    """0 to 1: strands that run out of a centre to over twice the radius, mostly sideways."""
    z, y, x = offsets
    far = np.sqrt(z * z + y * y + x * x)
    strands = np.zeros(far.shape, np.float32)
    for _ in range(rng.integers(8, 18)):
        direction = rng.standard_normal(3) * (1, 0.8, 1)
        direction /= np.linalg.norm(direction)
        along = np.float32(direction[0]) * z + np.float32(direction[1]) * y + np.float32(direction[2]) * x
        aside = np.maximum(far * far - along * along, 0)
        width = rng.uniform(0.4, 0.8) * (1 + 0.05 * radius)
        reach = rng.uniform(1.4, 2.3) * radius + 1
        strand = np.exp(-aside / np.float32(width**2)) * fields.step(reach - along, 0.15 * radius) * (along > 0)
        np.maximum(strands, strand, out=strands)
    return strands
