"""Bodies as implicit functions: about the distance in mm to the surface, negative inside, on any rectangular grid.

All bodies live in millimetres around the lesion's middle; a grid is three float32 vectors (depth, slice, lateral). The same body on a finer
grid is the same body. Float32 with + - * / sqrt min max alone: the same bits on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .noise import bspline

Axes = tuple[np.ndarray, np.ndarray, np.ndarray]
Vector = tuple[float, float, float]


def columns(axes: Axes) -> Axes:
    """The three vectors shaped to broadcast against one another."""
    y, z, x = axes
    return y[:, None, None], z[None, :, None], x[None, None, :]


class Solid(Protocol):
    """A body that can be asked for its implicit function."""

    def field(self, axes: Axes) -> np.ndarray:
        """About the distance to the surface in mm, negative inside: float32 (depth, slice, lateral)."""
        ...


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid in any position.

    Attributes
    ----------
    centre : (depth, slice, lateral) mm.
    half_axes : mm, along the columns of `rotation`.
    rotation : three orthonormal rows; row i, column j is the component along axis i of the ellipsoid's j-th axis.
    """

    centre: Vector
    half_axes: Vector
    rotation: tuple[Vector, Vector, Vector]

    def _form(self, power: int) -> list[list[float]]:
        """R diag(a^-power) R^T, float64, without a matrix product of a library."""
        scale = [a**-power for a in self.half_axes]
        r = self.rotation
        return [[sum(r[i][k] * scale[k] * r[j][k] for k in range(3)) for j in range(3)] for i in range(3)]

    def _quadratic(self, form: list[list[float]], axes: Axes) -> np.ndarray:
        y, z, x = (v - np.float32(c) for v, c in zip(columns(axes), self.centre, strict=True))
        f32 = np.float32
        result = y * (f32(2 * form[0][1]) * z + f32(2 * form[0][2]) * x)
        result += f32(form[1][1]) * z * z + f32(form[2][2]) * x * x + f32(2 * form[1][2]) * z * x
        result += f32(form[0][0]) * y * y
        return result

    def field(self, axes: Axes) -> np.ndarray:
        """First-order distance: (q - sqrt q) / |A x| with q = x' A x, exact on the surface and for spheres."""
        q = self._quadratic(self._form(2), axes)
        slope = self._quadratic(self._form(4), axes)
        # Cancellation may leave tiny negative values around the centre.
        np.maximum(q, np.float32(0), out=q)
        np.maximum(slope, np.float32(1e-8), out=slope)
        q -= np.sqrt(q)
        q /= np.sqrt(slope, out=slope)
        return q


@dataclass(frozen=True)
class Polyhedron:
    """Half-spaces' intersection, its edges and corners a little blunt.

    Attributes
    ----------
    normals : outward unit vectors (depth, slice, lateral).
    offsets : distance of each face from the origin, mm.
    blunt : how far edges are rounded, mm; 0 leaves them sharp.
    """

    normals: tuple[Vector, ...]
    offsets: tuple[float, ...]
    blunt: float = 0.0

    def field(self, axes: Axes) -> np.ndarray:
        """The largest signed distance to the faces' planes, smoothly where two are nearly the same."""
        y, z, x = columns(axes)
        result = work = None
        for (ny, nz, nx), offset in zip(self.normals, self.offsets, strict=True):
            plane = np.float32(nz) * z + np.float32(nx) * x - np.float32(offset)
            if result is None:
                result = np.float32(ny) * y + plane
                work = np.empty_like(result)
            else:
                np.add(np.float32(ny) * y, plane, out=work)
                _intersect(result, work, self.blunt)
        return result


def _intersect(a: np.ndarray, b: np.ndarray, blend: float) -> None:
    """Maximum of two implicit functions into `a`, the edge rounded over `blend` mm; overwrites both."""
    if blend <= 0.0:
        np.maximum(a, b, out=a)
        return
    b -= a
    a += np.maximum(b, np.float32(0))
    np.abs(b, out=b)
    np.subtract(np.float32(blend), b, out=b)
    np.maximum(b, np.float32(0), out=b)
    b *= b
    b *= np.float32(0.25 / blend)
    a += b


def smooth_union(a: np.ndarray, b: np.ndarray, blend: float) -> np.ndarray:
    """Minimum of two implicit functions with the crease rounded over `blend` mm (quadratic); overwrites both and returns `a`."""
    if blend <= 0.0:
        return np.minimum(a, b, out=a)
    crease = a - b
    np.abs(crease, out=crease)
    np.subtract(np.float32(blend), crease, out=crease)
    np.maximum(crease, np.float32(0), out=crease)
    np.minimum(a, b, out=a)
    crease *= crease
    crease *= np.float32(0.25 / blend)
    a -= crease
    return a


class Noise:
    """Smooth noise of mean 0 and variance 1 in the lesion's own millimetres, so that every grid reads the same field.

    Parameters
    ----------
    generator : source of the knots.
    wavelength : mm; bumps are about half of it wide.
    reach : the field covers -reach to reach mm along each axis; beyond, the border's values go on.
    """

    def __init__(self, generator: np.random.Generator, wavelength: float, reach: float) -> None:
        self._step, self._reach = wavelength / 2.0, reach
        n = int(2.0 * reach / self._step) + 5
        knots = generator.random((n, n, n), dtype=np.float32)
        knots -= np.float32(0.5)
        knots *= np.float32(math.sqrt(12.0 / (151.0 / 315.0) ** 3))  # the spline's squared weights sum to 151/315 along an axis
        self._knots = knots

    def field(self, axes: Axes) -> np.ndarray:
        """The noise on a grid: float32 (depth, slice, lateral)."""
        result = self._knots
        for axis, positions in enumerate(axes):
            at = (np.clip(positions.astype(np.float64), -self._reach, self._reach) + self._reach) / self._step
            first = int(at[0]) if len(at) else 0
            last = int(at[-1]) + 4 if len(at) else 0
            part = [slice(None)] * 3
            part[axis] = slice(first, last)
            result = bspline(result[tuple(part)], axis, at - first)
        return result


@dataclass(frozen=True)
class Body:
    """The mass without what its margin adds to the surface: parts melted together, with noise on the surface.

    Attributes
    ----------
    parts : solids in canonical millimetres (scale 1).
    blend : how far creases between the parts are rounded, canonical mm; 0 keeps them sharp.
    noises : noise and its amplitude in mm.
    scale : millimetres a canonical millimetre along depth, slice, lateral.
    """

    parts: tuple[Solid, ...]
    blend: float
    noises: tuple[tuple[Noise, float], ...]
    scale: Vector = (1.0, 1.0, 1.0)

    def field(self, axes: Axes) -> np.ndarray:
        canonical = tuple(a / np.float32(k) for a, k in zip(axes, self.scale, strict=True))
        result = self.parts[0].field(canonical)
        for part in self.parts[1:]:
            result = smooth_union(result, part.field(canonical), self.blend)
        result *= np.float32(math.prod(self.scale) ** (1 / 3))
        for noise, amplitude in self.noises:
            bumps = noise.field(axes)
            bumps *= np.float32(amplitude)
            result += bumps
        return result


def rotation(angles: Sequence[float]) -> tuple[Vector, Vector, Vector]:
    """Rotation by tilt (in the depth-lateral plane), then turn (in the slice-lateral plane); radians."""
    tilt, turn = angles
    ct, st, cu, su = math.cos(tilt), math.sin(tilt), math.cos(turn), math.sin(turn)
    # Rows: depth, slice, lateral. Columns: the body's own depth, slice, lateral axes.
    return ((ct, 0.0, -st), (su * st, cu, su * ct), (cu * st, -su, cu * ct))
