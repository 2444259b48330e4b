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

import numpy as np

_TRUNCATE = 3.5  # standard deviations after which a Gaussian ends
_MOST_VOXELS = 8e6  # of the grid that the surface is made on; a mask that is larger is looked at more coarsely
_STEPS = 1.5  # voxels a standard deviation on which a Gaussian is good enough


@dataclass(frozen=True)
class Surface:
    """A closed triangulated surface.

    Attributes
    ----------
    vertices : (n, 3) mm, from the centre of the array's first voxel.
    normals : (n, 3), unit vectors that point outward.
    area : mm2, of the surface around the mask's volume.
    sphericity : area of the ball of equal volume / area; at most 1 [2]_.
    """

    vertices: np.ndarray
    normals: np.ndarray
    area: float
    sphericity: float


def smooth_surface(inside: np.ndarray, spacing: Sequence[float], sigma: float) -> Surface:
    """The surface of a mask without what is finer than `sigma` (or than a voxel, where the mask has millions), around its own volume.

    Parameters
    ----------
    inside : (z, y, x) bool, not empty; outside the array is outside the mask.
    spacing : mm along z, y, x.
    sigma : standard deviation of the Gaussian, mm; not less than half of the largest spacing.
    """
    from scipy import ndimage
    from skimage.measure import marching_cubes, mesh_surface_area

    spacing = np.asarray(spacing, float)
    extent = (np.array(inside.shape) * spacing + 2 * _TRUNCATE * sigma).prod()
    sigma = max(sigma, _STEPS * (extent / _MOST_VOXELS) ** (1 / 3)) if inside.size > _MOST_VOXELS else sigma
    # Means over blocks lose nothing that the Gaussian would leave, and fine grids become cheap.
    blocks = np.maximum(1, (sigma / _STEPS / spacing).astype(int))
    border = np.ceil((_TRUNCATE * sigma / spacing + 2) / blocks).astype(int) * blocks
    after = border + -np.array(inside.shape) % blocks
    padded = np.pad(inside, tuple(zip(border, after, strict=True)))
    shape = [part for n, b in zip(padded.shape, blocks, strict=True) for part in (n // b, b)]
    share = padded.reshape(shape).mean(axis=(1, 3, 5), dtype=np.float32)
    step = spacing * blocks
    field = ndimage.gaussian_filter(share, sigma / step, truncate=_TRUNCATE)

    level = _level_of_volume(field, float(share.sum(dtype=np.float64)))
    vertices, faces, _, _ = marching_cubes(field, level, spacing=tuple(step))
    normals = np.stack(
        [ndimage.map_coordinates(slope, (vertices / step).T, order=1) for slope in np.gradient(field, *step)], axis=1
    )
    normals /= -np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    # The middle of the first block, seen from the array's first voxel.
    first = ((blocks - 1) / 2 - border) * spacing
    area, volume = float(mesh_surface_area(vertices, faces)), _enclosed(vertices, faces)
    # The triangles' corners lie on the surface and the triangles inside it: a few triangles hold less than the mask does.
    missing = inside.sum() * float(spacing.prod()) / volume
    return Surface(
        vertices + first,
        normals,
        area=area * missing ** (2 / 3),
        sphericity=np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area,
    )


def _enclosed(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Volume within closed triangles: the sum of the tetrahedra that they form with one point (divergence theorem)."""
    a, b, c = (vertices[faces[:, i]] - vertices.mean(axis=0) for i in range(3))
    return abs(float(np.einsum("ij,ij->", a, np.cross(b, c)))) / 6


def _level_of_volume(field: np.ndarray, voxels: float) -> float:
    """The level above which `field` has so many voxels; between two voxels' values where the number is not whole."""
    values = np.sort(field[field > 1e-4].ravel())[::-1]
    return float(np.interp(voxels - 0.5, np.arange(values.size), values))


def offsets_from(surface: Surface, other: Surface) -> np.ndarray:
    """How far each vertex of a surface lies outside another one (negative: inside), mm: (n,).

    Measured along the other's normal at its nearest vertex, so it is exact where the other one is flat.
    """
    from scipy.spatial import cKDTree

    _, nearest = cKDTree(other.vertices).query(surface.vertices)
    return np.einsum("ij,ij->i", surface.vertices - other.vertices[nearest], other.normals[nearest])
