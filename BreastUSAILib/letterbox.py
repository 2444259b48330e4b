"""From a 2D image to a network's square input and back: aspect kept, borders padded, intensities standardised.

Training and inference share these functions, so that a network sees at work what it was trained on.
Arrays are in numpy order (y, x).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .pixels import without_overflow

if TYPE_CHECKING:
    import torch

LOWER_PERCENTILE, UPPER_PERCENTILE = 0.5, 99.5


@dataclass(frozen=True)
class Letterbox:
    """Where an image of `shape` pixels lies in a square of `size` pixels.

    `scaled` is the image's (height, width) in the square, `offset` its first (row, column) there.
    """

    size: int
    shape: tuple[int, int]
    scaled: tuple[int, int]
    offset: tuple[int, int]

    @classmethod
    def fit(cls, shape: tuple[int, int], size: int, pixel_aspect: float = 1.0) -> Letterbox:
        """The largest centred placement that keeps the physical aspect.

        `pixel_aspect` is a pixel's height divided by its width (spacing y / spacing x).
        """
        height, width = shape[0] * pixel_aspect, float(shape[1])
        factor = size / max(height, width)
        scaled = (max(1, round(height * factor)), max(1, round(width * factor)))
        return cls(size, (int(shape[0]), int(shape[1])), scaled, ((size - scaled[0]) // 2, (size - scaled[1]) // 2))

    def place(self, array: np.ndarray) -> torch.Tensor:
        """`array` (H, W), any real dtype, resampled into a (1, 1, size, size) float32 tensor, zero outside.

        Shrinking is antialiased, or speckle turns into noise that depends on the image's original size.
        """
        import torch
        from torch.nn import functional as F

        tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None, None]
        tensor = F.interpolate(tensor, size=self.scaled, mode="bilinear", align_corners=False, antialias=True)
        return F.pad(tensor, self._padding())

    def valid(self) -> torch.Tensor:
        """(1, 1, size, size) float32: 1 where the image is, 0 in the padding."""
        import torch
        from torch.nn import functional as F

        return F.pad(torch.ones(1, 1, *self.scaled), self._padding())

    def restore(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (N, C, size, size) of the square back on the image's pixels: (N, C, H, W), linear interpolation."""
        from torch.nn import functional as F

        (top, left), (height, width) = self.offset, self.scaled
        region = maps[..., top : top + height, left : left + width]
        return F.interpolate(region, size=self.shape, mode="bilinear", align_corners=False)

    def _padding(self) -> tuple[int, int, int, int]:
        (top, left), (height, width) = self.offset, self.scaled
        return (left, self.size - width - left, top, self.size - height - top)


def to_unit_range(array: np.ndarray) -> np.ndarray:
    """Intensities scaled so that the 0.5th and 99.5th percentile become 0 and 1, clipped; float32.

    Makes 8-bit, 16-bit and float images of any range alike. A constant image becomes 0. Pass the values as they were
    read: float32 cannot hold all of those of float64 and 32-bit integers.
    """
    array = np.asarray(array)
    narrow = array.dtype.itemsize <= (4 if array.dtype.kind == "f" else 2)
    array = without_overflow(array.astype(np.float32 if narrow else np.float64, copy=False))
    low, high = np.percentile(array, (LOWER_PERCENTILE, UPPER_PERCENTILE)).astype(array.dtype)
    if high <= low:
        low, high = array.min(), array.max()
    if high <= low:
        return np.zeros(array.shape, np.float32)
    unit = array - low
    unit /= high - low
    return np.clip(unit, 0.0, 1.0, out=unit).astype(np.float32, copy=False)


def standardise(images: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit variance over each image's `valid` pixels, zero elsewhere.

    images, valid : (N, 1, S, S) float; `valid` between 0 and 1.
    """
    count = valid.sum(dim=(1, 2, 3), keepdim=True).clamp_min(1.0)
    mean = (images * valid).sum(dim=(1, 2, 3), keepdim=True) / count
    variance = ((images - mean) ** 2 * valid).sum(dim=(1, 2, 3), keepdim=True) / count
    return (images - mean) / (variance + 1e-4).sqrt() * valid
