"""What a margin adds to the body's surface: microlobules, and the strands of a spiculated mass."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .noise import smoothstep, uniform
from .solids import Axes, Vector, columns, smooth_union

# How much of a strand's length, from its root, belongs to the mass.
ROOT_SHARE = 0.35
# Strands are bands of fibrous tissue: this much wider along the slices than across, so that a slice shows them running rather than cut.
_BAND = 1.8


@dataclass(frozen=True)
class SurfacePoints:
    """Points on a surface with their outward normals: float64 (n, 3), depth, slice, lateral in mm."""

    points: np.ndarray
    normals: np.ndarray

    def scattered(self, distance: float, limit: int, generator: np.random.Generator) -> SurfacePoints:
        """Some of the points in random order, none nearer than `distance` mm to another, `limit` at most (dart throwing)."""
        order = np.argsort(generator.random(len(self.points)), kind="stable")
        points = self.points[order]
        free = np.ones(len(points), bool)
        chosen: list[int] = []
        while len(chosen) < limit and free.any():
            first = int(np.argmax(free))
            chosen.append(first)
            away = points - points[first]
            free &= away[:, 0] ** 2 + away[:, 1] ** 2 + away[:, 2] ** 2 >= distance * distance
            free[first] = False
        return SurfacePoints(points[chosen], self.normals[order][chosen])


def surface_points(field: np.ndarray, axes: Axes) -> SurfacePoints:
    """The points of a grid that lie next to the surface, moved onto it.

    Parameters
    ----------
    field : about the distance to the surface in mm on the grid, negative inside.
    axes : the grid's coordinates in mm; equal steps along each axis.
    """
    steps = [float(a[1] - a[0]) for a in axes]
    near = np.zeros(field.shape, bool)
    inner = (slice(1, -1),) * 3  # differences need neighbours on both sides
    near[inner] = np.abs(field[inner]) < 0.6 * max(steps)
    index = np.nonzero(near)
    normals = np.empty((len(index[0]), 3))
    for axis, step in enumerate(steps):
        ahead, behind = (tuple(i + by * (a == axis) for a, i in enumerate(index)) for by in (1, -1))
        normals[:, axis] = (field[ahead].astype(np.float64) - field[behind]) / (2.0 * step)
    length = np.sqrt(normals[:, 0] ** 2 + normals[:, 1] ** 2 + normals[:, 2] ** 2)
    normals /= np.maximum(length, 1e-6)[:, None]
    points = np.stack([a[i].astype(np.float64) for a, i in zip(axes, index, strict=True)], axis=1)
    points -= field[index].astype(np.float64)[:, None] * normals
    return SurfacePoints(points, normals)


def _window(axes: Axes, low: Vector, high: Vector) -> tuple[slice, slice, slice] | None:
    """The part of a grid between two corners, or None when nothing of it lies there."""
    parts = []
    for axis, a, b in zip(axes, low, high, strict=True):
        first, last = int(np.searchsorted(axis, a)), int(np.searchsorted(axis, b, side="right"))
        if first >= last:
            return None
        parts.append(slice(first, last))
    return tuple(parts)


@dataclass(frozen=True)
class Lobule:
    """A small ball on the surface."""

    centre: Vector
    radius: float

    def near(self, axes: Axes, beyond: float) -> tuple[tuple[slice, slice, slice], np.ndarray] | None:
        """The window within `beyond` mm and the distance to the ball's surface in it, mm; None outside the grid."""
        reach = self.radius + beyond
        window = _window(axes, [c - reach for c in self.centre], [c + reach for c in self.centre])
        if window is None:
            return None
        y, z, x = columns(tuple(a[w] - np.float32(c) for a, w, c in zip(axes, window, self.centre, strict=True)))
        distance = y * y + (z * z + x * x)
        np.sqrt(distance, out=distance)
        distance -= np.float32(self.radius)
        return window, distance


@dataclass(frozen=True)
class Strand:
    """A bent strand that runs out from the surface.

    Attributes
    ----------
    root, direction : where it starts (mm) and where to (unit vector).
    side, bend : unit vector across the direction and how far the strand bends that way at its tip, mm.
    length : mm.
    radii : half width at the root and at the tip, mm; linear between.
    """

    root: Vector
    direction: Vector
    side: Vector
    bend: float
    length: float
    radii: tuple[float, float]

    def tip(self) -> Vector:
        return tuple(
            r + self.length * d + self.bend * s for r, d, s in zip(self.root, self.direction, self.side, strict=True)
        )

    def near(self, axes: Axes, beyond: float, until: float = 1.0) -> tuple[tuple[slice, slice, slice], np.ndarray] | None:
        """The window within `beyond` mm and the distance to the surface of the strand's first part in it, mm.

        Parameters
        ----------
        until : the share of the length, from the root, that is looked at; less than 1: as a cone that ends there in a point.
        """
        reach = max(self.radii) + beyond
        end = [
            r + until * self.length * d + until * until * self.bend * s
            for r, d, s in zip(self.root, self.direction, self.side, strict=True)
        ]
        reaches = (reach, _BAND * reach, reach)
        window = _window(
            axes,
            [min(a, b) - r for a, b, r in zip(self.root, end, reaches, strict=True)],
            [max(a, b) + r for a, b, r in zip(self.root, end, reaches, strict=True)],
        )
        if window is None:
            return None
        f32 = np.float32
        y, z, x = columns(tuple(a[w] - f32(c) for a, w, c in zip(axes, window, self.root, strict=True)))
        dy, dz, dx = (f32(v) for v in self.direction)
        sy, sz, sx = (f32(v) for v in self.side)
        along = dy * y + (dz * z + dx * x)
        np.clip(along, f32(0.0), f32(until * self.length), out=along)
        curve = along * along
        curve *= f32(self.bend / (self.length * self.length))
        # Squared distance to the nearest point of the centre line, one coordinate after the other.
        total = None
        for coordinate, d, s, wide in ((y, dy, sy, 1.0), (z, dz, sz, _BAND), (x, dx, sx, 1.0)):
            off = coordinate - along * d
            off -= curve * s
            if wide != 1.0:
                off *= f32(1.0 / wide)
            off *= off
            total = off if total is None else np.add(total, off, out=total)
        np.sqrt(total, out=total)
        # Half width, from what is left of the way.
        along *= f32(-1.0 / (until * self.length))
        along += f32(1.0)
        if until < 1.0:
            along *= f32(self.radii[0])
        else:
            along *= f32(self.radii[0] - self.radii[1])
            along += f32(self.radii[1])
        total -= along
        return window, total


def draw_lobules(surface: SurfacePoints, radius: float, generator: np.random.Generator) -> tuple[Lobule, ...]:
    """Microlobules of 1 to 2 mm (up to 3 on large masses) over the whole surface; `radius` of the mass in mm."""
    distance = min(max(0.2 * radius + 0.7, 1.1), 3.0)
    lobules = []
    chosen = surface.scattered(distance, 700, generator)
    for point, normal in zip(chosen.points, chosen.normals, strict=True):
        size = 0.6 * distance * uniform(generator, 0.75, 1.3)
        lobules.append(Lobule(tuple(float(p - 0.1 * size * n) for p, n in zip(point, normal, strict=True)), size))
    return tuple(lobules)


def draw_strands(surface: SurfacePoints, radius: float, generator: np.random.Generator) -> tuple[Strand, ...]:
    """Strands of a spiculated mass, 3 to 15 mm long, along the normals but for a random part, in clumps and gaps."""
    strands = []
    chosen = surface.scattered(min(max(0.3 * radius, 1.1), 2.9), 160, generator)
    for point, normal in zip(chosen.points, chosen.normals, strict=True):
        if generator.random() < 0.2:
            continue
        way = [float(n) + uniform(generator, -0.45, 0.45) for n in normal]
        way[0] *= 0.8  # strands follow the tissue's planes more than the beam
        norm = math.sqrt(sum(w * w for w in way))
        if norm < 0.2:
            continue
        direction = tuple(w / norm for w in way)
        spread = [uniform(generator, -1.0, 1.0) for _ in range(3)]
        dot = sum(a * b for a, b in zip(spread, direction, strict=True))
        spread = [a - dot * b for a, b in zip(spread, direction, strict=True)]
        norm = math.sqrt(sum(a * a for a in spread)) or 1.0
        length = min(max(radius * uniform(generator, 0.45, 1.5), 3.0), 15.0)
        root = uniform(generator, 0.6, 1.0) * min(max(0.19 * radius, 0.65), 1.9)
        strands.append(
            Strand(
                tuple(float(p - 0.6 * n * root) for p, n in zip(point, normal, strict=True)),
                direction,
                tuple(a / norm for a in spread),
                length * uniform(generator, 0.0, 0.2),
                length,
                (root, min(0.4 * root, 0.45)),
            )
        )
    return tuple(strands)


def _parts_near(parts: Sequence[Lobule | Strand], axes: Axes, beyond: float, until: float) -> Iterator:
    for part in parts:
        found = part.near(axes, beyond) if isinstance(part, Lobule) else part.near(axes, beyond, until)
        if found is not None:
            yield found


def add_to_surface(field: np.ndarray, parts: Sequence[Lobule | Strand], axes: Axes, beyond: float = 1.5) -> np.ndarray:
    """The body's implicit function with lobules and the roots of strands on it; changes `field` in place and returns it.

    The crease where a root leaves the body is rounded: tissue is drawn into the strand. Further than `beyond` mm from a part
    the function does not know of it.
    """
    blend = 0.6 if parts and isinstance(parts[0], Strand) else 0.0
    for window, distance in _parts_near(parts, axes, beyond, ROOT_SHARE):
        field[window] = smooth_union(field[window].copy(), distance, blend)
    return field


def strand_weight(strands: Sequence[Strand], axes: Axes, shape: tuple[int, int, int], softness: float) -> np.ndarray:
    """How far strands replace the tissue that they run through: float32 0..1, 1 in their middle; `softness` in mm."""
    weight = np.zeros(shape, np.float32)
    for window, distance in _parts_near(strands, axes, softness, 1.0):
        distance *= np.float32(-1.0 / softness)
        distance += np.float32(0.5)
        here = weight[window]
        np.maximum(here, smoothstep(distance), out=here)
    return weight
