"""Places for lesions: wholly in the picture, below the skin, above the chest wall, apart from one another, and where sound gets to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .breast import Breast
from .grid import Grid, to_full
from .lesion_plan import Plan
from .lesion_shape import Shape, draw_shape

_APART = 5  # voxels between boxes of two lesions
_DARK_DB = 5.0  # what the surface may take before nothing is looked for below it
_MOST = 0.03  # of the volume that one lesion may fill
_TRIES, _SHRINKS = 50, 5


@dataclass(frozen=True)
class Placed:
    """A lesion in its place; `centre` is a voxel (slice, depth, lateral), that of the middle of the shape's box."""

    plan: Plan
    shape: Shape
    centre: tuple[int, int, int]

    def windows(self, grid: Grid) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """What of the volume and what of the shape's box coincide."""
        whole, part = [], []
        for c, n, size in zip(self.centre, self.shape.far.shape, grid.shape, strict=True):
            start = c - n // 2
            whole.append(slice(max(start, 0), min(start + n, size)))
            part.append(slice(whole[-1].start - start, whole[-1].stop - start))
        return tuple(whole), tuple(part)


def place(
    rng: np.random.Generator, grid: Grid, breast: Breast, plans: Sequence[Plan], bottom: np.ndarray, dimmed: np.ndarray
) -> list[Placed]:
    """Find places; a lesion that fits nowhere is made smaller, and at last left out.

    Parameters
    ----------
    bottom : mm, how deep the picture goes, a map (slice, lateral) of the full grid; -1 where it shows nothing.
    dimmed : dB that the surface takes, a map of the half grid.
    """
    dy = grid.spacing[1]
    skin, muscle, loss = (to_full(m.astype(np.float32), grid) for m in (breast.skin, breast.muscle, dimmed))
    top = np.ceil((skin + 0.8) / dy)
    low = np.floor(np.minimum(muscle + 0.3, bottom - 1.0) / dy)
    low[loss > _DARK_DB] = -1
    most = _MOST * float(np.prod(grid.extent)) / 1000
    boxes: list[np.ndarray] = []
    placed = []
    for plan in plans:
        plan = replace(plan, volume_ml=min(plan.volume_ml, most))
        found = _place_one(rng, grid, plan, top, low, boxes)
        if found is not None:
            placed.append(found)
            boxes.append(_box(found.shape.mask) + found.centre)
    return placed


def _place_one(
    rng: np.random.Generator, grid: Grid, plan: Plan, top: np.ndarray, low: np.ndarray, boxes: list[np.ndarray]
) -> Placed | None:
    for _ in range(_SHRINKS):
        shape = draw_shape(rng, grid, plan)
        mask = shape.mask
        own, columns = _box(mask), mask.any(1)
        first = np.where(columns, mask.argmax(1), 0)
        last = np.where(columns, mask.shape[1] - 1 - mask[:, ::-1].argmax(1), 0)
        for _ in range(_TRIES):
            centre = _candidate(rng, grid, top, low)
            if centre is None:
                return None
            box = own + centre
            if (box[0] < 2).any() or (box[1] > np.array(grid.shape) - 3).any():
                continue
            if any((box[0] - _APART <= b[1]).all() and (b[0] - _APART <= box[1]).all() for b in boxes):
                continue
            placed = Placed(plan, shape, centre)
            whole, part = placed.windows(grid)
            over, within = (whole[0], whole[2]), (part[0], part[2])
            start = centre[1] - mask.shape[1] // 2
            fits = (first[within] + start > top[over]) & (last[within] + start < low[over])
            if fits[columns[within]].all():
                return placed
        plan = replace(plan, volume_ml=max(plan.volume_ml * 0.5, 0.03))
    return None


def _candidate(rng: np.random.Generator, grid: Grid, top: np.ndarray, low: np.ndarray) -> tuple[int, int, int] | None:
    """A voxel between top and bottom; None where there is hardly any."""
    for _ in range(30):
        i, k = int(rng.integers(0, grid.shape[0])), int(rng.integers(0, grid.shape[2]))
        if low[i, k] - top[i, k] > 4:
            return i, int(rng.integers(top[i, k], low[i, k])), k
    return None


def _box(mask: np.ndarray) -> np.ndarray:
    """The first and the last voxel of a mask from the middle of its array, (2, 3)."""
    ends = []
    for axis, n in enumerate(mask.shape):
        along = np.flatnonzero(mask.any(tuple(a for a in range(3) if a != axis)))
        ends.append((along[0] - n // 2, along[-1] - n // 2))
    return np.array(ends).T
