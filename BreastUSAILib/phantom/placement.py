"""Where lesions lie: within the zone that the anatomy names, whole, apart from one another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import PhantomError
from .grids import PhantomGrid
from .layers import voxel_centres

if TYPE_CHECKING:
    from .anatomy import Anatomy

Box = tuple[tuple[int, int, int], tuple[int, int, int]]  # first voxel and number of voxels along depth, slice, lateral

_GAP_MM = 3.0
# Lesions keep this distance from the volume's lateral borders and from its lower one, where that is possible.
_MARGIN_MM = 3.0
# Nothing lies higher than this: skin, and what the membrane presses flat.
_SKIN_MM = 2.5
# A lesion of which less is seen, behind the nipple or where the probe has no contact, is put elsewhere if there is room.
_SEEN, _HIDDEN_MM = 0.9, 1000.0
_ATTEMPTS = 150


def bounding_box(mask: np.ndarray) -> Box:
    """First voxel and number of voxels, along each axis, of what is true in `mask` (three axes, not empty)."""
    first, size = [], []
    for axis in range(3):
        where = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        first.append(int(where[0]))
        size.append(int(where[-1] - where[0] + 1))
    return tuple(first), tuple(size)


def fits(size: Sequence[int], grid: PhantomGrid) -> bool:
    """Whether a box of so many voxels (depth, slice, lateral) fits into the volume, below the skin and off its border."""
    dx, dy, dz = grid.spacing
    ceiling = max(_SKIN_MM - grid.top, dy)
    free = (grid.extent[1] - ceiling - dy, grid.extent[2] - 2.0 * dz, grid.extent[0] - 2.0 * dx)
    return all(n * s <= f for n, s, f in zip(size, (dy, dz, dx), free, strict=True))


def apart(one: Box, other: Box, grid: PhantomGrid) -> bool:
    """Whether two boxes are at least 3 mm apart along some axis."""
    dx, dy, dz = grid.spacing
    for a, n, b, m, s in zip(*one, *other, (dy, dz, dx), strict=True):
        if (b - a - n) * s >= _GAP_MM or (a - b - m) * s >= _GAP_MM:
            return True
    return False


def at_centre(size: Sequence[int], centre: Sequence[float], grid: PhantomGrid) -> Box:
    """The box of this size (voxels) about a requested centre (mm along x, y, z from the first voxel's corner).

    Raises
    ------
    PhantomError : it reaches out of the volume.
    """
    spacing = grid.spacing[1], grid.spacing[2], grid.spacing[0]
    middle = centre[1], centre[2], centre[0]
    first = tuple(round(c / s - n / 2.0) for c, s, n in zip(middle, spacing, size, strict=True))
    if any(f < 0 or f + n > m for f, n, m in zip(first, size, grid.shape, strict=True)):
        extent = [n * s for n, s in zip(size, spacing, strict=True)]
        raise PhantomError(
            f"A lesion of {extent[2]:.1f} x {extent[0]:.1f} x {extent[1]:.1f} mm about {tuple(centre)} reaches out of the "
            f"volume of {' x '.join(f'{e:g}' for e in grid.extent)} mm; move its centre or ask for a smaller volume_ml."
        )
    return first, tuple(size)


def visibility(anatomy: Anatomy, grid: PhantomGrid) -> np.ndarray:
    """How well the tissue under each column of voxels is seen, 0 to 1: contact of the probe, and nothing under the nipple."""
    beside_nipple = anatomy.nipple.distance(*voxel_centres(grid)) > anatomy.nipple.radius
    return anatomy.contact * beside_nipple


def find_place(
    size: Sequence[int],
    others: Iterable[Box],
    zone: tuple[np.ndarray, np.ndarray],
    visible: np.ndarray,
    grid: PhantomGrid,
    generator: np.random.Generator,
) -> Box:
    """A place for one more lesion.

    In whole scans anywhere where it is seen, in pieces near the middle. Its depth is drawn within the zone. A lesion that
    fits into it nowhere is put where it fits best, centred on the zone, and pushes its borders, as masses do; it stays below
    the skin and in the volume.

    Parameters
    ----------
    size : voxels of the lesion's bounding box along depth, slice, lateral.
    others : boxes that are taken.
    zone : depth maps (slice, lateral) of the zone's top and bottom, mm from the first voxel's corner.
    visible : from `visibility`.
    grid : the volume's.
    generator : the stream.

    Raises
    ------
    PhantomError : there is no room.
    """
    others = list(others)
    dx, dy, dz = grid.spacing
    if not fits(size, grid):
        raise PhantomError(
            f"A lesion of {size[2] * dx:.1f} x {size[0] * dy:.1f} x {size[1] * dz:.1f} mm cannot fit in a volume of "
            f"{' x '.join(f'{e:g}' for e in grid.extent)} mm; ask for a smaller volume_ml or a larger grid."
        )
    best, least = None, float("inf")
    for attempt in range(2 * _ATTEMPTS):
        box, excess = _candidate(size, zone, visible, grid, generator)
        if excess < least and all(apart(box, other, grid) for other in others):
            best, least = box, excess
        # The first place where all of it lies in the zone; after a while, the best that was seen.
        if best is not None and (least <= 0.0 or attempt >= _ATTEMPTS):
            return best
    raise PhantomError(
        f"There is no room for lesion {len(others) + 1} beside the others; ask for fewer or smaller lesions or a larger grid."
    )


def _candidate(
    size: Sequence[int],
    zone: tuple[np.ndarray, np.ndarray],
    visible: np.ndarray,
    grid: PhantomGrid,
    generator: np.random.Generator,
) -> tuple[Box, float]:
    """One try, and by how many mm it exceeds the zone (more, the less is seen there); 0: it lies within."""
    along_z, along_x, along_y = (float(u) for u in generator.random(3))
    dx, dy, dz = grid.spacing
    first_z = _lateral(size[1], grid.shape[1], dz, along_z, grid.whole)
    first_x = _lateral(size[2], grid.shape[2], dx, along_x, grid.whole)
    middle = first_z + size[1] // 2, first_x + size[2] // 2
    footprint = slice(first_z, first_z + size[1]), slice(first_x, first_x + size[2])
    top, bottom = (float(depth[middle]) for depth in zone)
    height = size[0] * dy
    excess = max(height - (bottom - top), 0.0)
    seen = round(float(np.mean(visible[footprint], dtype=np.float64)), 4)
    if seen < _SEEN:
        excess += _HIDDEN_MM * (1.0 - seen)
    room = max(bottom - top - height, 0.0)
    upper = (top + bottom - height - room) / 2.0 + room * along_y
    ceiling = max(_SKIN_MM - grid.top, dy)
    floor = grid.extent[1] - height - dy
    upper = max(min(upper, floor - min(_MARGIN_MM, max(floor - ceiling, 0.0) / 2.0)), ceiling)
    first_y = min(int(upper / dy + 0.5), grid.shape[0] - size[0])
    return ((first_y, first_z, first_x), tuple(size)), excess


def _lateral(size: int, voxels: int, spacing: float, share: float, whole: bool) -> int:
    """First voxel along a lateral axis, from a uniform share: anywhere off the border, or near the middle in pieces."""
    free = voxels - size
    margin = min(round(_MARGIN_MM / spacing), free // 2)
    low, high = margin, free - margin
    if not whole:  # the middle third of what is free
        low, high = low + (high - low) // 3, high - (high - low) // 3
    return low + min(int(share * (high - low + 1)), high - low)
