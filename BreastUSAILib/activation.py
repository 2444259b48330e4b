"""Class activation maps on the pixels of an image: where a grading network looked, as far as its crops reach.

A map is the network's own (`networks.two_pathway`): of the likelier class, 0 to 1 within its crop. Several crops overlap; what they say of
a place is averaged, each counting less towards its ends, so that no crop's end shows as a line. On an image it is kept in percent (uint8), 0 where no network looked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .grid import as_2d, from_2d
from .lesion_view import Window

PERCENT = 100


@dataclass(frozen=True)
class Activation:
    """A map and its place.

    Attributes
    ----------
    values : (h, w) float32, 0 to 1.
    window : what of the image (of its ultrasound area) they cover, evenly.
    """

    values: np.ndarray
    window: Window

    @classmethod
    def of_crops(cls, maps: np.ndarray, starts: Sequence[int], vertical: bool, window: Window) -> Activation:
        """One map from those of the crops of `lesion_view.several`.

        Parameters
        ----------
        maps : (n, S, S), 0 to 1.
        starts : where each crop begins along the long side of the resampled window, in its pixels.
        vertical : whether that side is the height.
        window : which the crops are spread over.
        """
        side = maps.shape[-1]
        length = max(starts) + side
        total, weight = np.zeros((length, side), np.float32), np.zeros((length, 1), np.float32)
        middling = np.minimum(np.arange(1, side + 1), np.arange(side, 0, -1)).astype(np.float32)[:, None]
        for part, start in zip(maps, starts, strict=True):
            total[start : start + side] += middling * (part if vertical else part.T)
            weight[start : start + side] += middling
        values = total / weight
        return cls(values if vertical else values.T, window)

    def on(self, shape: tuple[int, int]) -> np.ndarray:
        """The map on the pixels of an area of (height, width): float32, bilinear, 0 outside the window."""
        import torch
        from torch.nn import functional as F

        places = [
            (torch.arange(n) + 0.5 - centre) / (side / 2)
            for n, centre, side in zip(shape, self.window.centre, self.window.sides, strict=True)
        ]
        y, x = torch.meshgrid(*places, indexing="ij")
        values = torch.from_numpy(np.ascontiguousarray(self.values, np.float32))[None, None]
        grid = torch.stack([x, y], -1)[None].float()
        result = F.grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=False)[0, 0]
        return (result * ((x.abs() <= 1) & (y.abs() <= 1))).numpy()


class ActivationImage:
    """Collects the maps of an image's lesions in one picture on its grid; where two meet the higher is kept.

    Parameters
    ----------
    image : 2D, or 3D.
    """

    def __init__(self, image: sitk.Image) -> None:
        self._image = image
        self._percent: np.ndarray | None = None

    def add(self, values: np.ndarray, at: tuple[int, int] = (0, 0), section: int | None = None) -> None:
        """Take in a map.

        Parameters
        ----------
        values : (h, w), 0 to 1, on pixels of the image.
        at : column and row of the first of them.
        section : slice of a volume that they lie in; None: of an image of a single slice.
        """
        if self._percent is None:
            size = self._image.GetSize() if section is not None else as_2d(self._image).GetSize()
            self._percent = np.zeros(size[::-1], np.uint8)
        plane = self._percent if section is None else self._percent[section]
        column, row = at
        part = plane[row : row + values.shape[0], column : column + values.shape[1]]
        np.maximum(part, np.rint(PERCENT * np.clip(values, 0, 1)).astype(np.uint8), out=part)

    @property
    def image(self) -> sitk.Image | None:
        """uint8, percent, on the image's grid; None where no map came."""
        if self._percent is None:
            return None
        made = sitk.GetImageFromArray(self._percent)
        if made.GetDimension() == 2:
            return from_2d(made, self._image)
        made.CopyInformation(self._image)
        return made
