"""The form of a lesion: a turned ellipsoid or polyhedron with a lumpy surface, as distances from its border."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .lesion_plan import Plan

Noise = Callable[[float], np.ndarray]
"""Smooth noise in a lesion's box, of a length in mm."""


@dataclass(frozen=True)
class Frame:
    """Coordinates in a lesion's box.

    Attributes
    ----------
    start, shape : first voxel and number of voxels, (z, y, x); z and x start on even voxels, as coarse nodes do.
    z, y, x : mm from the centre along each axis, (n, 1, 1), (1, n, 1) and (1, 1, n).
    across, deep, along : the same along the lesion's own axes, in its radii; (z, y, x).
    radii : mm along these.
    """

    start: tuple[int, int, int]
    shape: tuple[int, int, int]
    z: np.ndarray
    y: np.ndarray
    x: np.ndarray
    across: np.ndarray
    deep: np.ndarray
    along: np.ndarray
    radii: tuple[float, float, float]

    @property
    def mean_radius(self) -> float:
        """Of the ball of equal volume, mm."""
        across, deep, along = self.radii
        return float(np.cbrt(across * deep * along))

    @property
    def distance(self) -> np.ndarray:
        """(z, y, x) mm from the centre."""
        return np.sqrt(self.z**2 + self.y**2 + self.x**2) + 1e-3


def frame_of(
    rng: np.random.Generator, plan: Plan, shape: tuple[int, int, int], voxel: tuple[float, float, float]
) -> Frame:
    """The box about a lesion that has its place, and a random turn: any about the depth, some tilt.

    `shape` and `voxel` (mm) are those of the full grid, (z, y, x).
    """
    reach = plan.radii.max() * 1.35 + (6 if plan.spicules or plan.halo_db else 2.0)
    start, size = [], []
    for axis in range(3):
        first = max(0, int((plan.centre[axis] - reach) / voxel[axis]))
        if axis != 1:
            first -= first % 2
        start.append(first)
        size.append(min(shape[axis], int((plan.centre[axis] + reach) / voxel[axis]) + 2) - first)
    z, y, x = (
        (np.arange(first, first + n) * v - c).astype(np.float32)
        for first, n, v, c in zip(start, size, voxel, plan.centre, strict=True)
    )
    z, y, x = z[:, None, None], y[None, :, None], x[None, None, :]
    yaw, tilt = rng.uniform(0, np.pi), np.radians(rng.normal(0, 20 if plan.malignant else 12))
    cos, sin = np.cos(yaw), np.sin(yaw)
    across, level = z * cos - x * sin, z * sin + x * cos
    along = level * np.cos(tilt) + y * np.sin(tilt)
    deep = y * np.cos(tilt) - level * np.sin(tilt)
    radius_z, radius_y, radius_x = plan.radii
    own = (across / radius_z, deep / radius_y, along / radius_x)
    return Frame(tuple(start), tuple(size), z, y, x, *own, (radius_z, radius_y, radius_x))


def draw_radius(rng: np.random.Generator, plan: Plan, frame: Frame) -> np.ndarray:
    """(z, y, x) 0 in the centre and 1 on the border of the plain form: a polyhedron where the margin is angular."""
    across, deep, along = frame.across, frame.deep, frame.along
    if plan.margin != "angular":
        power = rng.uniform(1.8, 2.6)
        return (np.abs(across) ** power + np.abs(deep) ** power + np.abs(along) ** power) ** (1 / power)
    radius = np.zeros(frame.shape, np.float32)
    for _ in range(rng.integers(9, 16)):
        normal = rng.normal(size=3)
        normal /= np.linalg.norm(normal)
        face = (across * normal[0] + deep * normal[1] + along * normal[2]) / rng.uniform(0.72, 1.05)
        np.maximum(radius, face, out=radius)
    return 0.8 * radius + 0.2 * np.sqrt(across**2 + deep**2 + along**2)


def draw_border_distance(
    rng: np.random.Generator, plan: Plan, frame: Frame, radius: np.ndarray, noise: Noise
) -> np.ndarray:
    """(z, y, x) about mm from the border, negative inside: the plain form with coarse, middle and fine lumps."""
    mean = frame.mean_radius
    lumps = plan.lumpiness * np.clip(noise(mean * rng.uniform(0.6, 1.0)), -1.8, 1.2)
    if plan.shape == "irregular":
        lumps += 0.45 * plan.lumpiness * np.clip(noise(max(1.2, mean * 0.4)), -2, 1.5)
    if plan.margin in ("microlobulated", "spiculated", "indistinct"):
        lumps += rng.uniform(0.04, 0.12) * np.clip(noise(max(1.0, mean * 0.3)), -2, 1.5)
    return (radius / (1 + np.clip(lumps, -0.45, 0.3)) - 1) * np.float32(min(mean, frame.radii[1] * 1.1))
