"""Calcifications: bright dots of 0.2 to 0.5 mm in the mass, beside it, or in a duct that runs out of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .geometry import Geometry
from .noise import uniform
from .solids import Axes, Vector
from .surface import Strand


@dataclass(frozen=True)
class Dots:
    """Specular dots.

    Attributes
    ----------
    centres : mm, depth, slice, lateral.
    radii : mm.
    strengths : amplitude x area across the beam, fat's echo x mm2, whatever the voxels: a beam is about 1 mm2 wide, so this is
        about how far a dot stands out of fat.
    """

    centres: tuple[Vector, ...]
    radii: tuple[float, ...]
    strengths: tuple[float, ...]

    def paint(self, specular: np.ndarray, axes: Axes) -> None:
        """Set the voxels whose centres lie in a dot, and at least the nearest one, in place."""
        for centre, radius, strength in zip(self.centres, self.radii, self.strengths, strict=True):
            nearest = [int(np.argmin(np.abs(a - np.float32(c)))) for a, c in zip(axes, centre, strict=True)]
            part, squares = [], []
            for axis, c, n in zip(axes, centre, nearest, strict=True):
                near = np.flatnonzero(np.abs(axis - np.float32(c)) <= radius)
                window = slice(int(near[0]), int(near[-1]) + 1) if len(near) else slice(n, n + 1)
                part.append(window)
                off = axis[window] - axis[n]
                squares.append(off * off)
            ball = squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :] <= radius * radius
            across = float(ball.any(axis=0).sum() * (axes[1][1] - axes[1][0]) * (axes[2][1] - axes[2][0]))
            here = specular[tuple(part)]
            np.maximum(here, np.float32(round(strength / across, 3)) * ball, out=here)


@dataclass(frozen=True)
class Duct:
    """A duct that leaves the mass: a strand of even width with a dark lumen."""

    strand: Strand
    echo: float


def draw_duct(geometry: Geometry, generator: np.random.Generator) -> Duct:
    """A duct of 0.9 to 1.5 mm that runs 6 to 14 mm from the mass, mostly along lateral and slice, bent a little."""
    turn = uniform(generator, 0.0, 2.0 * math.pi)
    rise = uniform(generator, -0.5, 0.15)  # towards the nipple: up, if anywhere
    flat = math.sqrt(1.0 - rise * rise)
    direction = (rise, flat * math.sin(turn), flat * math.cos(turn))
    # Where the way out of the middle leaves the mass.
    out = 0.0
    while out < 3.0 * geometry.radius:
        at = [int(np.argmin(np.abs(a - np.float32(out * d)))) for a, d in zip(geometry.axes, direction, strict=True)]
        if out > 0.2 * geometry.radius and geometry.field[tuple(at)] > 0.0:
            break
        out += 0.3
    root = tuple((out - 1.0) * d for d in direction)
    side = (0.0, -math.cos(turn), math.sin(turn))
    width = uniform(generator, 0.45, 0.75)
    length = uniform(generator, 6.0, 14.0)
    strand = Strand(root, direction, side, length * uniform(generator, -0.2, 0.2), length, (width, 0.8 * width))
    return Duct(strand, uniform(generator, 0.12, 0.3))


def _voxels(geometry: Geometry, low: float, high: float) -> np.ndarray:
    """Coordinates (n, 3) of working voxels whose distance to the surface lies between two bounds, mm."""
    index = np.nonzero((geometry.field > low) & (geometry.field < high))
    return np.stack([a[i] for a, i in zip(geometry.axes, index, strict=True)], axis=1)


def _cluster(places: np.ndarray, count: int, size: float, generator: np.random.Generator) -> list[Vector]:
    """Places around a drawn one, within `size` mm."""
    middle = places[int(generator.random() * len(places))]
    away = places - middle
    near = places[away[:, 0] ** 2 + away[:, 1] ** 2 + away[:, 2] ** 2 <= size * size]
    return [tuple(float(v) for v in near[int(generator.random() * len(near))]) for _ in range(count)]


def draw_dots(kind: str, geometry: Geometry, duct: Duct | None, generator: np.random.Generator) -> Dots:
    """Dots of 0.2 to 0.5 mm: 3 to 14, more in larger masses.

    Parameters
    ----------
    kind : "in mass", "outside mass" or "intraductal".
    duct : of an intraductal kind.
    """
    count = 3 + int(uniform(generator, 0.0, 3.0 + min(geometry.radius, 8.0)))
    if kind == "intraductal":
        s = duct.strand
        centres = []
        for k in range(count):
            t = (k + uniform(generator, 0.2, 0.8)) / count
            centres.append(
                tuple(
                    r + t * s.length * d + t * t * s.bend * q for r, d, q in zip(s.root, s.direction, s.side, strict=True)
                )
            )
    else:
        bounds = (-1e9, -0.12 * geometry.radius) if kind == "in mass" else (1.0, 3.5)
        centres = _cluster(_voxels(geometry, *bounds), count, max(0.8 * geometry.radius, 2.0), generator)
    radii = tuple(uniform(generator, 0.1, 0.25) for _ in centres)
    return Dots(tuple(centres), radii, tuple(uniform(generator, 4.0, 9.0) for _ in centres))
