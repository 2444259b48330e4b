"""The surface of a mask of voxels: its area, and how rough it is.

A staircase of voxels has up to 1.5 times the area of the surface that it stands for, however fine it is. Here the mask is
smoothed by a Gaussian, and the surface is the one that encloses exactly the mask's volume, triangulated by marching cubes [1]_.
Smoothing alone would shrink a ball of radius R by about s^2 / R (s: standard deviation); keeping the volume undoes that.

References
----------
.. [1] Lewiner T. et al., Efficient implementation of marching cubes' cases with topological guarantees, Journal of Graphics
   Tools 8(2), 2003 (``skimage.measure.marching_cubes``).
.. [2] Wadell H., Volume, shape, and roundness of quartz particles, J. Geology 43(3), 1935.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .pooling import block_means

_TRUNCATE = 3.5  # standard deviations after which a Gaussian ends
_MOST_VOXELS = 8e6  # of the grid that the surface is made on; a mask that is larger is looked at more coarsely
_PEAK = 1e-6  # of a field's peak: levels that are nearer to it differ from it by rounding alone
_HALVINGS = 16  # in which a speck's level is found to 1/65536 of the peak
_STEPS = 1.5  # voxels a standard deviation on which a Gaussian is good enough


class SpeckError(Exception):
    """Voxels cannot be counted to find a mask's surface (`smooth_surface`): it has too few."""


@dataclass(frozen=True)
class Surface:
    """A closed triangulated surface around a mask's volume.

    Attributes
    ----------
    vertices : (n, 3) float32, mm along z, y, x from the centre of the array's first voxel.
    faces : (m, 3), indices of vertices.
    volume : mm3 of the mask.
    field, step, corner : what the surface is a level of: (z, y, x) float32, mm between its voxels, and where its first is, mm.
    """

    vertices: np.ndarray
    faces: np.ndarray
    volume: float
    field: np.ndarray
    step: np.ndarray
    corner: np.ndarray

    @cached_property
    def area(self) -> float:
        """mm2, of the surface around the mask's volume."""
        # The triangles' corners lie on the surface and the triangles inside it: a few triangles hold less than the mask does.
        return self._triangles[0] * (self.volume / self._triangles[1]) ** (2 / 3)

    @property
    def sphericity(self) -> float:
        """Area of the ball of equal volume / area; at most 1 [2]_."""
        area, volume = self._triangles
        return np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area

    @cached_property
    def normals(self) -> np.ndarray:
        """(n, 3), unit vectors at the vertices that point outward."""
        from scipy import ndimage

        places = ((self.vertices - self.corner) / self.step).T
        slopes = (ndimage.map_coordinates(slope, places, order=1) for slope in np.gradient(self.field, *self.step))
        normals = np.stack(list(slopes), axis=1)
        return normals / -np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)

    @cached_property
    def _triangles(self) -> tuple[float, float]:
        return _area_and_volume(self.vertices, self.faces)


def _area_and_volume(vertices: np.ndarray, faces: np.ndarray) -> tuple[float, float]:
    """Area, and volume within: the sum of the tetrahedra that the triangles form with one point (divergence theorem)."""
    a, b, c = ((vertices - vertices.mean(axis=0))[faces[:, i]] for i in range(3))
    area = float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum(dtype=np.float64)) / 2
    return area, abs(float(np.einsum("ij,ij->", a, np.cross(b, c)))) / 6


def smooth_surface(inside: np.ndarray, spacing: Sequence[float], sigma: float, *, speck: bool = False) -> Surface:
    """The surface of a mask without what is finer than `sigma` (or than a voxel, where the mask has millions), around its own volume.

    It is made on a grid of whole blocks of voxels, each no wider than two thirds of the standard deviation: a large lesion on a fine
    grid costs little more than on a coarse one, and means over blocks take away only what the Gaussian takes away as well.

    Parameters
    ----------
    inside : (z, y, x) bool, not empty; outside the array is outside the mask.
    spacing : mm along z, y, x.
    sigma : standard deviation of the Gaussian, mm; not less than half of the largest spacing.
    speck : whether the level that encloses the volume is found by what the triangles hold, not by counting voxels: slower, and as good for
        a mask of a block or less, too.

    Raises
    ------
    SpeckError : the mask is too small for counting.
    """
    from scipy import ndimage
    from skimage.measure import marching_cubes

    spacing = np.asarray(spacing, float)
    extent = (np.array(inside.shape) * spacing + 2 * _TRUNCATE * sigma).prod()
    sigma = max(sigma, _STEPS * (extent / _MOST_VOXELS) ** (1 / 3)) if inside.size > _MOST_VOXELS else sigma
    blocks = np.maximum(1, (sigma / _STEPS / spacing).astype(int))
    border = np.ceil((_TRUNCATE * sigma / spacing + 2) / blocks).astype(int)
    share = np.pad(_shares(inside, blocks), tuple((n, n) for n in border))
    step = spacing * blocks
    field = ndimage.gaussian_filter(share, sigma / step, truncate=_TRUNCATE)

    voxels = float(share.sum(dtype=np.float64))
    level = _level_of_speck(field, voxels) if speck else _level_of_volume(field, voxels)
    vertices, faces, _, _ = marching_cubes(field, level, spacing=tuple(step))
    # The middle of the first block, seen from the array's first voxel.
    corner = ((blocks - 1) / 2 - border * blocks) * spacing
    volume = np.count_nonzero(inside) * float(spacing.prod())
    return Surface(vertices + corner, faces, volume, field, step, corner)


def _shares(inside: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """How much of each block of voxels is inside, float32; beyond the array nothing is."""
    short = -np.array(inside.shape) % blocks
    if short.any():
        inside = np.pad(inside, tuple((0, n) for n in short))
    return block_means(np.ascontiguousarray(inside), blocks)


def _level_of_volume(field: np.ndarray, voxels: float) -> float:
    """The level above which `field` has so many voxels; between two voxels' values where the number is not whole."""
    values = field[field > 1e-4]
    if not values.size:  # a few voxels of a block of many
        raise SpeckError
    # Only two of the values in descending order are asked for: those before and after the place.
    place = min(max(voxels - 0.5, 0.0), values.size - 1.0)
    above = int(place)
    ranks = [values.size - 1 - above, max(values.size - 2 - above, 0)]
    first, second = np.partition(values, ranks)[ranks].tolist()
    level = first + (place - above) * (second - first)
    if level > (1 - _PEAK) * float(values.max()):  # about the peak there is no surface
        raise SpeckError
    return level


def _level_of_speck(field: np.ndarray, voxels: float) -> float:
    """The level at which the triangles hold so many voxels."""
    from skimage.measure import marching_cubes

    peak = float(field.max())
    low, high = 0.0, 1.0  # shares of the peak
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        vertices, faces, _, _ = marching_cubes(field, middle * peak)
        if _area_and_volume(vertices, faces)[1] > voxels:
            low = middle
        else:
            high = middle
    return low * peak


def offsets_from(surface: Surface, other: Surface) -> np.ndarray:
    """How far each vertex of a surface lies outside another one (negative: inside), mm: (n,).

    Measured along the other's normal at its nearest vertex, so it is exact where the other one is flat.
    """
    from scipy.spatial import cKDTree

    _, nearest = cKDTree(other.vertices).query(surface.vertices)
    return np.einsum("ij,ij->i", surface.vertices - other.vertices[nearest], other.normals[nearest])
