"""Lobules: cells around jittered seeds in warped tissue, and how far the sheet between two of them is (Cooper's ligaments are such sheets)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

_JITTER = 0.36  # of a cell; more would make cells that their neighbours' neighbours touch, which are not looked at
_SLAB = 6  # slices at a time, so that what is worked on stays in the processor's cache


@dataclass(frozen=True)
class Cells:
    """Cells of the half grid.

    Attributes
    ----------
    edge : about mm to the nearest sheet.
    own : each voxel's cell, an index into `tables`.
    tables : values of cells, by name.
    """

    edge: np.ndarray
    own: np.ndarray
    tables: dict[str, np.ndarray]


def divide(
    rng: np.random.Generator,
    places: tuple[np.ndarray, np.ndarray, np.ndarray],
    size: tuple[float, float, float],
    describe: Callable[[np.ndarray], dict[str, np.ndarray]],
) -> Cells:
    """Divide tissue into cells.

    Parameters
    ----------
    places : mm (slice, depth, lateral) of each voxel in the tissue as it was before it was warped; arrays of one shape.
    size : mm of a cell.
    describe : gives the cells' values by name from their seeds' mm, (cells, 3).
    """
    low = np.array([p.min() / s for p, s in zip(places, size, strict=True)]) - 2
    count = np.ceil([p.max() / s for p, s in zip(places, size, strict=True)] - low).astype(int) + 3
    lattice = np.stack(np.meshgrid(*(np.arange(n) for n in count), indexing="ij"), -1).reshape(-1, 3)
    seeds = (lattice + 0.5 + rng.uniform(-_JITTER, _JITTER, lattice.shape)).astype(np.float32)
    weight = rng.uniform(0, 0.3, len(seeds)).astype(np.float32)  # some lobules are larger than others
    edge = np.empty(places[0].shape, np.float32)
    own = np.empty(places[0].shape, np.int32)
    for start in range(0, len(edge), _SLAB):
        part = slice(start, start + _SLAB)
        at = [(p[part] / s - o).astype(np.float32) for p, s, o in zip(places, size, low, strict=True)]
        _divide_slab(at, seeds, weight, count, edge[part], own[part])
    edge *= float(np.mean(size)) / 2
    return Cells(edge, own, describe((seeds + low) * np.array(size)))


def _divide_slab(
    at: list[np.ndarray],
    seeds: np.ndarray,
    weight: np.ndarray,
    count: np.ndarray,
    edge: np.ndarray,
    own: np.ndarray,
) -> None:
    """Fill `edge` (in cells) and `own` of a few slices; of all seeds, only the eight around a voxel are looked at."""
    base = [np.floor(a - 0.5).astype(np.int32) for a in at]
    flat = (base[0] * count[1] + base[1]) * count[2] + base[2]
    first = np.full(flat.shape, 99, np.float32)
    second = first.copy()
    columns = [np.ascontiguousarray(seeds[:, i]) for i in range(3)]
    for dz, dy, dx in product((0, 1), repeat=3):
        index = flat + int((dz * count[1] + dy) * count[2] + dx)
        far = weight[index]
        for a, column in zip(at, columns, strict=True):
            far += np.square(a - column[index])
        np.minimum(second, np.maximum(first, far), out=second)
        nearer = far < first
        first[nearer] = far[nearer]
        own[nearer] = index[nearer]
    np.subtract(np.sqrt(second), np.sqrt(first), out=edge)
