"""Masses take up room: the chest wall gives way below a mass that reaches under the breast, and is not overwritten by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .grids import PhantomGrid
from .scene import Placed
from .transmission import CoarseGrid

if TYPE_CHECKING:
    from .anatomy import Anatomy

# Nodes of the map, mm, and how far around the mass the layers bend (standard deviation of a Gaussian, in nodes).
_NODE_MM, _BEND = 1.2, 3.0
# Left between a mass and the fascia, mm; and what a mass pushes at most: one that reaches deeper grows into the muscle.
_CLEARANCE_MM, _FARTHEST_MM = 0.5, 6.0


def make_room(anatomy: Anatomy, lesions: Sequence[Placed], grid: PhantomGrid) -> None:
    """Let the chest wall give way below the lesions; changes the anatomy."""
    push = displacement(lesions, anatomy.layers.fascia, grid)
    if push is not None:
        anatomy.give_way(push)


def displacement(lesions: Sequence[Placed], fascia: np.ndarray, grid: PhantomGrid) -> np.ndarray | None:
    """How far the muscle's fascia is pushed down by the masses that reach below it.

    Parameters
    ----------
    lesions : in their places.
    fascia : depth map (slice, lateral), mm from the first voxel's corner.
    grid : the volume's.

    Returns
    -------
    mm, float32 (slice, lateral), 0 and more, smooth around the masses. None where no mass reaches so deep.
    """
    dx, dy, dz = grid.spacing
    needed = np.zeros(grid.shape[1:], np.float32)
    for lesion in lesions:
        (depth, *lateral), there = lesion.overlap(grid.shape)
        mask = lesion.patch.mask[there]
        below = depth.stop - np.argmax(mask[::-1], axis=0)
        here = needed[tuple(lateral)]
        reach = (below * dy + _CLEARANCE_MM).astype(np.float32) - fascia[tuple(lateral)]
        np.maximum(here, np.where(mask.any(axis=0), reach, np.float32(0.0)), out=here)
    if not needed.any():
        return None
    coarse = CoarseGrid(grid.shape[1:], tuple(max(1, round(_NODE_MM / s)) for s in (dz, dx)))
    return coarse.up(_bent(coarse.greatest(needed)))


def _bent(needed: np.ndarray) -> np.ndarray:
    """A smooth map that is hardly anywhere below this one; float32, rounded so that a filter's last bits do not matter."""
    from scipy import ndimage

    needed = np.minimum(needed.astype(np.float64), _FARTHEST_MM)
    raised = ndimage.maximum_filter(needed, size=2 * round(_BEND) + 1, mode="nearest")
    bent = ndimage.gaussian_filter(raised, _BEND, mode="nearest")
    # Filters flatten the small: raised again, but never above what the mass asks for.
    most = float(needed.max())
    return np.round(bent * min(most / float(bent.max()), 1.5), 3).astype(np.float32)
