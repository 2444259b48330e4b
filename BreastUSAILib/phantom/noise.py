"""Smooth random fields: drawn on coarse lattices of fixed millimetres, read one depth row at a time on the fine grid.

Everything is made of +, -, *, / and sqrt in a fixed order on IEEE numbers, so that a seed gives the same bits on every machine.
Random numbers come from `Generator.random` and `Generator.integers` alone: `uniform`, `normal` and the like multiply and add in C,
which compilers fuse on some processors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .grids import PhantomGrid


def streams(generator: np.random.Generator, count: int) -> list[np.random.Generator]:
    """`count` generators, one a concern: what one of them draws does not reshuffle the others."""
    seeds = generator.integers(0, 2**63, size=count)
    return [np.random.Generator(np.random.SFC64(np.random.SeedSequence(int(seed)))) for seed in seeds]


def uniform(generator: np.random.Generator, low: float, high: float) -> float:
    """A number between `low` and `high`, the same on every machine."""
    return low + (high - low) * float(generator.random())


def how_many(generator: np.random.Generator, expected: float) -> int:
    """A whole number, `expected` on average: the nearest two, drawn."""
    return int(expected + float(generator.random()))


def bspline(knots: np.ndarray, axis: int, positions: np.ndarray) -> np.ndarray:
    """Cubic B-spline with coefficients `knots` along `axis`, at `positions` (in knots; 0 is between the first knots' influence).

    Parameters
    ----------
    knots : float32, any shape; at least floor(max(positions)) + 4 along `axis`.
    positions : 1D, >= 0.

    Returns
    -------
    float32, the shape of `knots` with `axis` as long as `positions`.
    """
    whole = np.floor(positions)
    t = positions - whole
    first = whole.astype(np.intp)
    r = 1.0 - t
    weights = (
        r * r * r / 6.0,
        (t * t * (3.0 * t - 6.0) + 4.0) / 6.0,
        (t * (t * (3.0 - 3.0 * t) + 3.0) + 1.0) / 6.0,
        t * t * t / 6.0,
    )
    shape = [1] * knots.ndim
    shape[axis] = len(t)
    out = None
    for k, weight in enumerate(weights):
        term = np.take(knots, first + k, axis=axis)
        term *= weight.astype(np.float32).reshape(shape)
        out = term if out is None else np.add(out, term, out=out)
    return out


def smooth_noise(
    generator: np.random.Generator, positions: Sequence[np.ndarray], wavelengths: Sequence[float]
) -> np.ndarray:
    """Noise of mean 0 and variance 1 whose bumps are about half a wavelength wide, at the nodes of a rectangular lattice.

    Uniform white noise on knots half a wavelength apart, through a cubic B-spline.

    Parameters
    ----------
    positions : for each axis the nodes' coordinates in mm, ascending.
    wavelengths : for each axis, mm.

    Returns
    -------
    float32, shape (len(positions[0]), len(positions[1]), ...).
    """
    steps = [(p - p[0]) / (w / 2.0) + float(generator.random()) for p, w in zip(positions, wavelengths, strict=True)]
    knots = generator.random(size=[int(s[-1]) + 4 for s in steps], dtype=np.float32)
    knots -= np.float32(0.5)
    # Variance of the uniform numbers is 1/12; the spline's squared weights sum to 151/315 on average along each axis.
    knots *= np.float32((12.0 / (151.0 / 315.0) ** len(steps)) ** 0.5)
    # The axis that grows most goes last: the work is done there.
    for axis in sorted(range(len(steps)), key=lambda a: len(steps[a]) / knots.shape[a]):
        knots = bspline(knots, axis, steps[axis])
    return knots


def octaves(
    generator: np.random.Generator,
    positions: Sequence[np.ndarray],
    wavelengths: Sequence[float],
    amplitudes: Sequence[float],
) -> np.ndarray:
    """Sum of smooth noises, each of half the wavelength of the one before; variance 1 in all."""
    scale = sum(a * a for a in amplitudes) ** 0.5
    total = None
    for k, amplitude in enumerate(amplitudes):
        layer = smooth_noise(generator, positions, [w / 2.0**k for w in wavelengths])
        layer *= np.float32(amplitude / scale)
        total = layer if total is None else np.add(total, layer, out=total)
    return total


def smoothstep(values: np.ndarray) -> np.ndarray:
    """0 up to 0, 1 from 1, smooth between: 3 v^2 - 2 v^3."""
    v = np.clip(values, 0.0, 1.0)
    return v * v * (3.0 - 2.0 * v)


class Lattice:
    """Nodes, steps of millimetres apart, that cover a grid between two depths; and how its voxels lie between them.

    Parameters
    ----------
    steps : mm along depth, slice, lateral; never finer than the voxels.
    depths : first and last depth to cover, mm from the first voxel's corner.
    """

    def __init__(self, grid: PhantomGrid, steps: tuple[float, float, float], depths: tuple[float, float]):
        dx, dy, dz = grid.spacing
        width_x, _, width_z = grid.extent
        self.step, step_z, step_x = max(steps[0], dy), max(steps[1], dz), max(steps[2], dx)
        self.y = depths[0] + self.step * np.arange(int(max(depths[1] - depths[0], 0.0) / self.step) + 3)
        self.z = step_z * np.arange(int(width_z / step_z) + 2)
        self.x = step_x * np.arange(int(width_x / step_x) + 2)
        self.columns = _between((np.arange(grid.size[0]) + 0.5) * dx / step_x)
        self.slices = _between((np.arange(grid.size[2]) + 0.5) * dz / step_z)

    @property
    def nodes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coordinates along depth, slice, lateral in mm."""
        return self.y, self.z, self.x

    def spread(self, plane: np.ndarray) -> np.ndarray:
        """A plane of nodes (slice, lateral) on the voxels, linearly between nodes; float32."""
        first, t = self.columns
        low = np.take(plane, first, axis=1)
        high = np.take(plane, first + 1, axis=1)
        high -= low
        high *= t
        low += high
        first, t = self.slices
        out = np.take(low, first, axis=0)
        step = np.take(low, first + 1, axis=0)
        step -= out
        step *= t[:, None]
        out += step
        return out


def _between(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first = np.floor(positions)
    return first.astype(np.intp), (positions - first).astype(np.float32)


class Field:
    """Values on a lattice, read as depth rows of voxels; linear between the nodes along all three axes.

    What a row reads depends on its depth alone: the two spread planes that are kept save work, and change nothing.
    """

    def __init__(self, lattice: Lattice, values: np.ndarray):
        self.lattice = lattice
        self.values = values
        self._planes: dict[int, np.ndarray] = {}
        self._steps: dict[int, np.ndarray] = {}

    def row(self, depth: float, slices: slice, out: np.ndarray) -> np.ndarray:
        """Values at `depth` (mm) in `slices`, into `out` (slices, lateral) float32, which is returned."""
        position = (depth - float(self.lattice.y[0])) / self.lattice.step
        position = min(max(position, 0.0), len(self.values) - 1.001)
        k = int(position)
        if k not in self._steps:
            planes = {k: self._plane(k), k + 1: self._plane(k + 1)}
            self._planes = planes
            self._steps = {k: planes[k + 1] - planes[k]}
        np.multiply(self._steps[k][slices], np.float32(position - k), out=out)
        out += self._planes[k][slices]
        return out

    def _plane(self, k: int) -> np.ndarray:
        return self._planes[k] if k in self._planes else self.lattice.spread(self.values[k])
