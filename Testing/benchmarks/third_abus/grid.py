"""The coarse grid on which the anatomy is made, with the random numbers that are drawn on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .noise import smooth

AREA = 26_000.0  # mm2 of a whole field of view: structures are counted relative to it


@dataclass(frozen=True)
class Grid:
    """A coarse grid and its stream of random numbers.

    Attributes
    ----------
    shape, step : voxels and mm, (z, y, x).
    extent : mm, (z, y, x).
    z, x : (nz, 1) and (1, nx) mm; for maps (z, x) seen from the skin.
    y : (1, ny, 1) mm below the transducer.
    """

    rng: np.random.Generator
    shape: tuple[int, int, int]
    step: np.ndarray
    extent: tuple[float, float, float]
    z: np.ndarray
    y: np.ndarray
    x: np.ndarray

    @classmethod
    def of(cls, rng: np.random.Generator, shape: tuple[int, int, int], step: tuple[float, float, float]) -> Grid:
        step = np.asarray(step, float)
        z, y, x = ((np.arange(n) * s).astype(np.float32) for n, s in zip(shape, step, strict=True))
        extent = tuple(n * s for n, s in zip(shape, step, strict=True))
        return cls(rng, shape, step, extent, z[:, None], y[None, :, None], x[None, :])

    @property
    def relative_area(self) -> float:
        """Of the grid seen from the skin, relative to a whole field of view."""
        return self.extent[0] * self.extent[2] / AREA

    def sheet(self, cell: float) -> np.ndarray:
        """(z, x) smooth noise, correlated over `cell` mm."""
        return smooth(self.rng, (self.shape[0], self.shape[2]), (self.step[0], self.step[2]), (cell, cell))

    def noise(self, cell_z: float, cell_y: float, cell_x: float) -> np.ndarray:
        """(z, y, x) smooth noise, correlated over so many mm."""
        return smooth(self.rng, self.shape, self.step, (cell_z, cell_y, cell_x))


def over_depth(sheet: np.ndarray) -> np.ndarray:
    """A map (z, x) as float32 (z, 1, x), to be spread over depths."""
    return sheet[:, None, :].astype(np.float32)
