"""Small things painted over the layers: their voxels, listed by depth row."""

from __future__ import annotations

import numpy as np

from .tissue import Tissue


class Stamp:
    """Voxels of one small object, and what they become.

    Parameters
    ----------
    voxels : integer arrays (depth row, slice, lateral) of the voxels, 1D, in any order, none twice.
    lateral : voxels along the lateral axis of the volume.
    weight : share 0 to 1 of the object in each voxel.
    echo, specular : of the object, per voxel.
    attenuation : of the object, dB/cm/MHz.
    """

    def __init__(
        self,
        voxels: tuple[np.ndarray, np.ndarray, np.ndarray],
        lateral: int,
        weight: np.ndarray,
        echo: np.ndarray,
        specular: np.ndarray,
        attenuation: float,
    ):
        rows, slices, columns = voxels
        order = np.argsort(rows, kind="stable")
        rows = rows[order]
        self.first, self.last = (int(rows[0]), int(rows[-1])) if len(rows) else (0, -1)
        self.starts = np.searchsorted(rows, np.arange(self.first, self.last + 2))
        self.flat = (slices * lateral + columns)[order].astype(np.int32)
        self.weight, self.echo, self.specular = (a.astype(np.float32)[order] for a in (weight, echo, specular))
        self.attenuation = np.float32(attenuation)

    def paint(self, row: int, tissue: Tissue, at: int) -> None:
        """Paint depth row `row` of the volume, which is row `at` of `tissue` (contiguous arrays)."""
        if not self.first <= row <= self.last:
            return
        part = slice(*self.starts[row - self.first : row - self.first + 2])
        where, weight = self.flat[part], self.weight[part]
        for target, value in (
            (tissue.echo, self.echo[part]),
            (tissue.attenuation, self.attenuation),
            (tissue.specular, self.specular[part]),
        ):
            plane = target[at].reshape(-1)
            was = plane[where]
            plane[where] = was + weight * (value - was)
