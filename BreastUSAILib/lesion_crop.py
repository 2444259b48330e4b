"""The crop about a lesion that the joint network sees, and the way back onto the image's grid; shared by training and inference.

A crop has a fixed number of voxels, as wide as long and deep, along the image's own axes (lateral, depth, slice). In the paper a
voxel is 0.5 mm whatever the lesion. The configuration that ships scales it to the lesion, within limits: a lesion of 6 mm and one of
40 mm fill the same part of the crop, their borders are seen in the same detail, and little of what is pooled is anything else. A
lesion that is too large for a crop is laid out on a larger canvas of such voxels, which is looked at window by window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from .findings import Box
from .grid import physical_to_index
from .volume_input import LEVELS_A_DEVIATION, MEAN_LEVEL, averaging, level_function, sampled

_NEEDED = 1.3  # of a lesion's box, that a canvas must show at least: a detected box may be small by a fifth


@dataclass(frozen=True)
class CropRule:
    """How the crop about a lesion is made.

    Attributes
    ----------
    shape : (z, y, x) voxels of what the network sees.
    finest, coarsest : mm, limits of a voxel's side; equal: a fixed grid.
    margin : sides of the crop in those of the lesion's box, between these limits, on the axis where it is tightest.
    """

    shape: tuple[int, int, int] = (48, 32, 48)
    finest: float = 0.4
    coarsest: float = 1.5
    margin: float = 1.8

    @classmethod
    def of(cls, preprocessing: Mapping[str, Any]) -> CropRule:
        """The rule that a model's `preprocessing` states."""
        p = preprocessing
        return cls(tuple(int(n) for n in p["shape"]), float(p["finest"]), float(p["coarsest"]), float(p["margin"]))

    def spacing(self, size: Sequence[float]) -> float:
        """mm a voxel for a lesion whose box measures `size` (x, y, z) mm."""
        wanted = max(self.margin * side / n for side, n in zip(size, self.shape[::-1], strict=True))
        return float(min(max(wanted, self.finest), self.coarsest))

    def canvas(self, size: Sequence[float]) -> tuple[int, int, int]:
        """(z, y, x) voxels of the canvas for such a lesion: the crop's, more only on axes where the lesion is too large for it."""
        needed = np.ceil(_NEEDED * np.asarray(size, float)[::-1] / self.spacing(size)).astype(int)
        return tuple(max(n, int(k)) for n, k in zip(self.shape, needed, strict=True))


@dataclass(frozen=True)
class Region:
    """A box of cubic voxels in an image, along its axes.

    `corner` (x, y, z) is where it begins, in voxels of the image measured from the corner of its first voxel; `spacing` mm
    the side of a voxel here; `shape` (z, y, x) their number; `scale` (x, y, z) voxels of the image a voxel here.
    """

    corner: tuple[float, float, float]
    spacing: float
    shape: tuple[int, int, int]
    scale: tuple[float, float, float]

    @classmethod
    def about(cls, image: sitk.Image, centre: Sequence[float], spacing: float, shape: Sequence[int]) -> Region:
        """The region about a point (LPS, mm)."""
        scale = spacing / np.array(image.GetSpacing())
        corner = physical_to_index(image, centre) + 0.5 - scale * np.array(shape[::-1]) / 2
        return cls(tuple(corner.tolist()), float(spacing), tuple(int(n) for n in shape), tuple(scale.tolist()))

    def grid_box(self, image: sitk.Image, box: Box) -> np.ndarray:
        """A box in millimetres as (z1, y1, x1, z2, y2, x2) in voxels here, from edge to edge, (6,) float64."""
        centre = physical_to_index(image, box.center) + 0.5
        half = np.asarray(box.size) / image.GetSpacing() / 2
        edges = (np.stack([centre - half, centre + half]) - self.corner) / self.scale
        return edges[:, ::-1].reshape(6)

    def read(self, image: sitk.Image) -> np.ndarray:
        """The image's voxels here as levels, (z, y, x) float32, standardised in themselves (`volume_input`).

        Weighted means where voxels here are the larger, linear interpolation where they are the smaller; the mean level where
        the region leaves the image, all of it where nothing but one value is seen. Values that are not finite count as the lowest.
        """
        low, high = self._voxels(image)
        if np.any(high <= low):
            return np.full(self.shape, MEAN_LEVEL, np.float32)
        part = sitk.GetArrayViewFromImage(image)[_slices(low, high)]
        levels = level_function(part)
        found = self._sample(part, lambda some: levels(some).astype(np.float32) - MEAN_LEVEL, low, high)
        return np.add(found, MEAN_LEVEL, out=found)

    def read_share(self, mask: sitk.Image, label: int) -> np.ndarray:
        """How much of each voxel here has this label, (z, y, x) float32, 0 to 1; 0 outside the image."""
        low, high = self._voxels(mask)
        if np.any(high <= low):
            return np.zeros(self.shape, np.float32)
        part = sitk.GetArrayViewFromImage(mask)[_slices(low, high)]
        return self._sample(part, lambda some: (some == label).astype(np.float32), low, high)

    def _voxels(self, image: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
        """First and end (x, y, z) of the image's voxels that the region touches."""
        corner = np.array(self.corner)
        last = corner + np.multiply(self.scale, self.shape[::-1])
        return np.maximum(np.floor(corner), 0).astype(int), np.minimum(np.ceil(last), image.GetSize()).astype(int)

    def _sample(
        self, part: np.ndarray, prepare: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray
    ) -> np.ndarray:
        """Sample what lies from voxel `low` to `high` of the image, prepared as float32; what the image does not hold counts as 0."""
        corner = np.array(self.corner)
        last = corner + np.multiply(self.scale, self.shape[::-1])
        before = np.maximum(low - np.floor(corner), 0).astype(int)
        after = np.maximum(np.ceil(last) - high, 0).astype(int)
        start = corner - low + before
        matrices = []
        for axis, n in enumerate(part.shape):
            i = 2 - axis
            length = float(self.scale[i] * self.shape[axis])
            weights = averaging(int(before[i]) + n + int(after[i]), float(start[i]), length, self.shape[axis])
            # Of zeros nothing comes: only the image's own voxels are multiplied.
            matrices.append(weights[:, int(before[i]) : int(before[i]) + n])
        return sampled(part, prepare, matrices).contiguous().numpy()

    def put_back(self, values: np.ndarray, image: sitk.Image) -> tuple[np.ndarray, tuple[slice, slice, slice]]:
        """A map of this region, (z, y, x) float32, on the image's own voxels.

        Returns
        -------
        values : (z, y, x) float32 of the image's voxels whose centres lie in the region; empty where there are none.
        place : where they stand in the image's array.
        """
        import torch

        corner = np.array(self.corner)
        last = corner + np.multiply(self.scale, self.shape[::-1])
        low = np.clip(np.ceil(corner - 0.5), 0, image.GetSize()).astype(int)
        high = np.clip(np.floor(last - 0.5) + 1, low, image.GetSize()).astype(int)
        place = _slices(low, high)
        if np.any(high <= low):
            return np.zeros(tuple((high - low)[::-1]), np.float32), place
        result = torch.from_numpy(np.ascontiguousarray(values, np.float32))
        for axis in range(3):
            i = 2 - axis
            count = int(high[i] - low[i])
            start, length = (low[i] - corner[i]) / self.scale[i], count / self.scale[i]
            weights = averaging(result.shape[axis], float(start), float(length), count)
            result = torch.tensordot(result, weights, dims=([axis], [1])).movedim(-1, axis)
        return result.contiguous().numpy(), place


def _slices(low: np.ndarray, high: np.ndarray) -> tuple[slice, slice, slice]:
    return tuple(slice(int(a), int(b)) for a, b in zip(low[::-1], high[::-1], strict=True))


def crop_input(levels):
    """Levels (N, z, y, x) of crops as the network takes them, (N, 1, z, y, x) float32 tensor: each with mean 0 and deviation 1."""
    values = (levels.float()[:, None] - MEAN_LEVEL) / LEVELS_A_DEVIATION
    mean, deviation = (f((1, 2, 3, 4), keepdim=True) for f in (values.mean, values.std))
    return (values - mean) / deviation.clamp_min(0.05)
