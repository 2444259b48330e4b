"""Simple tissue for tests of the phantom's acoustics: what the anatomy gives, without an anatomy."""

from __future__ import annotations

import numpy as np

from BreastUSAILib.phantom.grids import PhantomGrid
from BreastUSAILib.phantom.scene import SceneRows

FAT_ATTENUATION = 0.73


class Uniform:
    """Homogeneous tissue with one box of another attenuation in it.

    Parameters
    ----------
    grid : the volume's.
    echo, attenuation, specular : of the tissue.
    box : slices (depth, slice, lateral) of the inclusion, or None.
    box_attenuation : dB/cm/MHz in it.
    """

    def __init__(
        self,
        grid: PhantomGrid,
        echo: float = 1.0,
        attenuation: float = FAT_ATTENUATION,
        specular: float = 0.0,
        box: tuple[slice, slice, slice] | None = None,
        box_attenuation: float = 0.0,
    ) -> None:
        self.values = (echo, attenuation, specular)
        self.shape, self.box, self.box_attenuation = grid.shape, box, box_attenuation

    def rows(self, first: int, last: int) -> SceneRows:
        echo, attenuation, specular = (np.full((last - first, *self.shape[1:]), v, np.float32) for v in self.values)
        background = (self.values[1],) * (last - first)
        if self.box is not None:
            depth, *lateral = self.box
            inside = slice(max(depth.start - first, 0), max(depth.stop - first, 0))
            attenuation[(inside, *lateral)] = self.box_attenuation
        return SceneRows(echo, attenuation, specular, None, background)
