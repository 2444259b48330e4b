"""From a coarse grid to the voxels: separable linear interpolation, exact where the grids coincide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .solids import Axes


@dataclass(frozen=True)
class Upsampling:
    """Fine voxels within a coarse grid, both with a node at 0.

    Attributes
    ----------
    factors : fine voxels to a coarse one, whole numbers, along depth, slice, lateral.
    first : index (from the node at 0) of the first fine voxel.
    axes : the fine voxels' coordinates in mm.
    """

    factors: tuple[int, int, int]
    first: tuple[int, int, int]
    axes: Axes

    @classmethod
    def onto(cls, coarse: Axes, factors: Sequence[int], spacing: Sequence[float]) -> Upsampling:
        """All fine voxels that lie between the coarse grid's first and last nodes.

        Parameters
        ----------
        coarse : multiples of factor x spacing, ascending, mm.
        spacing : of the fine voxels, mm.
        """
        first, axes = [], []
        for line, factor, step in zip(coarse, factors, spacing, strict=True):
            start = int(round(float(line[0]) / (factor * step))) * factor
            count = (len(line) - 1) * factor + 1
            first.append(start)
            axes.append((np.arange(start, start + count) * step).astype(np.float32))
        return cls(tuple(factors), tuple(first), tuple(axes))

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(len(a) for a in self.axes)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Values on the coarse grid, read on the fine voxels: float32."""
        # The axis that grows most goes last: what lies between stays small.
        for axis in sorted(range(3), key=lambda a: self.factors[a]):
            values = _along(values, axis, self.factors[axis])
        return values


def _along(values: np.ndarray, axis: int, factor: int) -> np.ndarray:
    if factor == 1:
        return values
    shape = list(values.shape)
    nodes = shape[axis]
    shape[axis] = (nodes - 1) * factor + 1
    result = np.empty(shape, np.float32)

    def part(array: np.ndarray, where: slice) -> np.ndarray:
        return array[(slice(None),) * axis + (where,)]

    part(result, slice(None, None, factor))[...] = values
    low = part(values, slice(None, -1))
    rise = part(values, slice(1, None)) - low
    for k in range(1, factor):
        between = part(result, slice(k, None, factor))
        np.multiply(rise, np.float32(k / factor), out=between)
        between += low
    return result
