"""From a 3D image to a network's volume: resampled to its spacing, standardised, as 8-bit levels, and positions back.

Training and inference share these functions, so that a network sees at work what it was trained on. Arrays are in numpy
order (z, y, x): slice, depth, lateral.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import SimpleITK as sitk

from .findings import Box
from .grid import index_box, physical_to_index, spacing_vector

if TYPE_CHECKING:
    import torch

# Level u stands for (u - 96) / 32 standard deviations above the mean: -3 to +5, in steps far below speckle.
MEAN_LEVEL, LEVELS_A_DEVIATION = 96, 32.0
_SLICES_AT_A_TIME = 16
_SAMPLES_AT_A_TIME = 16


@dataclass(frozen=True)
class VolumeInput:
    """A volume as a network sees it.

    Attributes
    ----------
    levels : (z, y, x) uint8; 96 is the mean of the volume and 32 levels are a standard deviation (`to_tensor`).
    spacing : mm along z, y, x; a whole number of voxels fills the image exactly, so it is only nearly what was asked for.
    scale : voxels of the image a voxel here, along z, y, x.
    constant : whether all voxels of the image have one value; there is nothing to see then.
    """

    levels: np.ndarray
    spacing: tuple[float, float, float]
    scale: tuple[float, float, float]
    constant: bool

    def physical_box(self, image: sitk.Image, box: Sequence[float]) -> Box:
        """A box (z1, y1, x1, z2, y2, x2) of this grid in millimetres (LPS), after the image that it was made from."""
        edges = np.asarray(box, float).reshape(2, 3) * self.scale
        first, last = edges[0, ::-1], edges[1, ::-1]
        return index_box(image, first.tolist(), (last - first).tolist())

    def grid_box(self, image: sitk.Image, box: Box) -> np.ndarray:
        """A box in millimetres as (z1, y1, x1, z2, y2, x2) of this grid, (6,) float64; undoes `physical_box`."""
        centre = physical_to_index(image, box.center) + 0.5
        half = np.asarray(box.size) / image.GetSpacing() / 2
        edges = np.stack([centre - half, centre + half])[:, ::-1] / self.scale
        return edges.reshape(6)


def network_input(image: sitk.Image, spacing: Sequence[float]) -> VolumeInput:
    """Resample a volume to (nearly) a spacing, and standardise it.

    Each voxel is a weighted mean over as wide a part of the image as a voxel here covers (linear interpolation where the image is the
    coarser one): speckle is averaged, not sampled, so that scanners of other sampling look alike. Mean and deviation are
    taken over the voxels above the lowest value, which is where the probe does not touch or the scanner masks. Values
    that are not finite count as the lowest.

    Parameters
    ----------
    image : 3D, scalar. Its axes are taken as lateral, depth, slice, whatever its direction.
    spacing : mm along the image's axes (x, y, z).
    """
    wanted = spacing_vector(spacing, 3)[::-1]
    old = np.array(image.GetSpacing()[::-1])
    array = sitk.GetArrayViewFromImage(image)
    size = np.maximum(1, np.rint(np.multiply(array.shape, old) / wanted)).astype(int)
    values, constant = _resampled(array, size)
    scale = np.divide(array.shape, size)
    spacing = tuple((old * scale).tolist())
    return VolumeInput(_standardised(values, constant), spacing, tuple(scale.tolist()), constant)


def levels_of(array: np.ndarray) -> np.ndarray:
    """An array (z, y, x) of any real type standardised as levels, as `network_input` does, without resampling."""
    return level_function(array)(array)


def level_function(array: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function that takes slices of an array (z, y, x) to what `levels_of` makes of them, uint8: a few at a time, a large array needs little memory."""
    values = _as_float32(array)
    return _to_levels(values.prepare, (values.prepare(part) for part in array), values.lowest, values.highest)


def _standardised(values: np.ndarray, constant: bool) -> np.ndarray:
    """Levels of float32 values."""
    lowest, highest = float(values.min()), float(values.max())
    return _to_levels(np.copy, values, lowest, lowest if constant else highest)(values)


def _to_levels(
    prepare: Callable[[np.ndarray], np.ndarray], parts: Iterable[np.ndarray], lowest: float, highest: float
) -> Callable[[np.ndarray], np.ndarray]:
    """A function that prepares slices, and takes them to levels by the mean and the deviation of all `parts` above their lowest value."""
    mean, deviation = _mean_and_deviation(parts, lowest) if lowest < highest else (lowest, 0.0)
    if lowest < highest:
        deviation = max(deviation, 1e-6 * (highest - lowest))
    factor = LEVELS_A_DEVIATION / deviation if deviation else 0.0

    def levels(slices: np.ndarray) -> np.ndarray:
        found = np.empty(slices.shape, np.uint8)
        for part, place in zip(slices, found, strict=True):  # each stays in a core's cache
            values = prepare(part)
            values -= mean
            values *= factor
            values += MEAN_LEVEL
            place[...] = np.rint(values, out=values).clip(0, 255, out=values)
        return found

    return levels


def _mean_and_deviation(parts: Iterable[np.ndarray], lowest: float) -> tuple[float, float]:
    """Of the values above the lowest, in float64. Some are above it."""
    total = squares = middle = 0.0
    number = low = 0
    for part in parts:
        values = part.astype(np.float64)
        middle = (
            middle if number else float(values.mean())
        )  # near the mean squares are small, and their sum is exact enough
        values -= middle
        number += values.size
        low += int(np.count_nonzero(part == lowest))
        total += float(values.sum())
        squares += float(np.vdot(values, values))
    # What is at the lowest value is taken out again, which costs less than to pick the others.
    total -= low * (lowest - middle)
    squares -= low * (lowest - middle) ** 2
    mean = total / (number - low)
    return middle + mean, max(0.0, squares / (number - low) - mean**2) ** 0.5


def averaging(voxels: int, start: float, length: float, size: int) -> torch.Tensor:
    """The matrix (size, voxels) that takes an axis to `size` samples of the part that begins at `start` and is `length` voxels long.

    Each sample is a mean with triangular weights over twice the distance between samples, or between voxels where that is the larger (linear
    interpolation, then). At the ends the weights that are left are scaled to 1.
    """
    import torch

    step = length / size
    centres = start + (torch.arange(size, dtype=torch.float64) + 0.5) * step
    places = torch.arange(voxels, dtype=torch.float64) + 0.5
    # Half a voxel beyond the ends there is still the last voxel.
    centres = centres.clamp(0.5, voxels - 0.5) if step <= 1 else centres
    weights = (1 - (centres[:, None] - places[None]).abs() / max(step, 1.0)).clamp_min(0)
    return (weights / weights.sum(1, keepdim=True)).float()


def _resampled(array: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, bool]:
    """(z, y, x) float32 of this size, and whether the array is constant."""
    values = _as_float32(array)
    matrices = [averaging(n, 0.0, n, int(k)) for n, k in zip(array.shape, size, strict=True)]
    return sampled(array, values.prepare, matrices).numpy(), values.lowest == values.highest


def sampled(
    array: np.ndarray, prepare: Callable[[np.ndarray], np.ndarray], matrices: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Each axis of an array (z, y, x) multiplied by its matrix (size, voxels), float32; `prepare` takes slices of it to
    float32, a few at a time, as volumes may be large."""
    import torch

    along_z, along_y, along_x = matrices
    planes = torch.empty(array.shape[0], along_y.shape[0], along_x.shape[0])
    for first in range(0, array.shape[0], _SLICES_AT_A_TIME):
        part = torch.from_numpy(prepare(array[first : first + _SLICES_AT_A_TIME]))
        planes[first : first + _SLICES_AT_A_TIME] = along_axis(along_axis(part, along_y, 1), along_x, 2)
    return along_axis(planes, along_z, 0)


def along_axis(values: torch.Tensor, weights: torch.Tensor, axis: int) -> torch.Tensor:
    """An axis of `values` multiplied by a matrix (size, voxels) of `averaging`: (z, y, x) float32 with `size` along that axis.

    Each row of the matrix weighs a few neighbouring voxels; blocks of rows are multiplied by the part of the axis that
    they weigh: a twenty-fourth of the work for 400 samples of 800 voxels.
    """
    import torch

    values = values.movedim(axis, 1) if axis == 0 else values
    size = weights.shape[0]
    last = axis == 2
    out = values.new_empty((*values.shape[:2], size) if last else (values.shape[0], size, values.shape[2]))
    for first in range(0, size, _SAMPLES_AT_A_TIME):
        rows = weights[first : first + _SAMPLES_AT_A_TIME]
        used = torch.nonzero(rows.any(0)).flatten()
        low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 0)
        rows = rows[:, low:high]
        if last:
            out[..., first : first + len(rows)] = values[..., low:high] @ rows.T
        else:
            out[:, first : first + len(rows)] = rows @ values[:, low:high]
    return out.movedim(1, axis) if axis == 0 else out


class _Prepared(NamedTuple):
    """How an array becomes float32, finite and of a size that can be added up: `prepare` takes slices there, where the
    array's lowest and highest value are `lowest` and `highest`."""

    prepare: Callable[[np.ndarray], np.ndarray]
    lowest: float
    highest: float


def _as_float32(array: np.ndarray) -> _Prepared:
    if array.dtype.kind != "f":
        lowest, highest = float(array.min()), float(array.max())
        if array.dtype.itemsize <= 2:
            return _Prepared(lambda part: part.astype(np.float32), lowest, highest)
        # Integers beyond 24 bits do not fit; their differences from the lowest nearly do.
        return _Prepared(lambda part: (part.astype(np.float64) - lowest).astype(np.float32), 0.0, highest - lowest)
    finite = np.isfinite(array)
    if not finite.any():
        return _Prepared(lambda part: np.zeros(part.shape, np.float32), 0.0, 0.0)
    lowest = float(array.min(where=finite, initial=np.inf))
    highest = float(array.max(where=finite, initial=-np.inf))
    span = highest / 2 - lowest / 2

    def prepare(part: np.ndarray) -> np.ndarray:
        clean = np.where(np.isfinite(part), part, lowest).astype(np.float64)
        return ((clean / 2 - lowest / 2) / (span or 1.0)).astype(np.float32)

    return _Prepared(prepare, 0.0, 1.0 if span else 0.0)


def to_tensor(levels: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Levels as a network's input: float32, mean 0, deviation 1. Padding with 0 is padding with the mean."""
    import torch

    if isinstance(levels, np.ndarray):  # a copy: what is mapped from disk is not torch's to write to
        levels = torch.from_numpy(levels.astype(np.float32))
    return (levels.float() - MEAN_LEVEL) / LEVELS_A_DEVIATION
