"""What a grading network sees of a 2D image: a region about the lesion, or all of it, as squares of pixels.

Training and inference share these functions. Arrays are in numpy order (y, x).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

CROPS = 5
"""Of multi-input prediction (Qi et al. 2019)."""
WIDER = 1.3
_LEAST_PIXELS = 16.0  # of a region's sides: fewer hold nothing to look at
_WALL = 1.25  # sides of a lesion's box within which its border must show
_GOES_ON = 0.7  # as much of what is about a lesion has its one value where there is nothing to see


@dataclass(frozen=True)
class Window:
    """A rectangle of an image: `centre` (y, x), in pixels from the outer corner of the first, and its `sides` (y, x) in pixels."""

    centre: tuple[float, float]
    sides: tuple[float, float]

    def larger(self, factor: float) -> Window:
        """The same, `factor` times as high and wide."""
        return Window(self.centre, (self.sides[0] * factor, self.sides[1] * factor))

    def square(self, pixel_aspect: float = 1.0) -> Window:
        """The smallest with this centre that is as wide as high in millimetres (`pixel_aspect`: a pixel's height / width)."""
        side = max(self.sides[0] * pixel_aspect, self.sides[1])
        return Window(self.centre, (side / pixel_aspect, side))

    def part(self, shape: tuple[int, int]) -> tuple[slice, slice]:
        """The pixels of an image of (height, width) pixels that it touches."""
        low, high = ([c + sign * s / 2 for c, s in zip(self.centre, self.sides, strict=True)] for sign in (-1, 1))
        return tuple(
            slice(min(max(math.floor(a), 0), n), min(max(math.ceil(b), 0), n)) for a, b, n in zip(low, high, shape, strict=True)
        )

    @classmethod
    def whole(cls, shape: tuple[int, int]) -> Window:
        """All of an image of (height, width) pixels."""
        return cls((shape[0] / 2, shape[1] / 2), (float(shape[0]), float(shape[1])))

    @classmethod
    def of_mask(cls, mask: np.ndarray) -> Window:
        """The box of what is not zero in (H, W), 16 pixels at least. ValueError where nothing is."""
        rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
        if not rows.size:
            raise ValueError("the mask is empty")
        (top, bottom), (left, right) = ((int(i[0]), int(i[-1]) + 1) for i in (rows, columns))
        sides = (max(bottom - top, _LEAST_PIXELS), max(right - left, _LEAST_PIXELS))
        return cls(((top + bottom) / 2, (left + right) / 2), sides)


@dataclass(frozen=True)
class ViewRule:
    """How an image becomes a network's input.

    Attributes
    ----------
    size : side of the square input in pixels.
    view : "lesion", a square about the lesion, or "image", the whole image.
    margin : the square's side in the longer side of the lesion's box.
    mask : whether the outline is a second channel.
    """

    size: int
    view: str = "lesion"
    margin: float = 1.5
    mask: bool = False

    @classmethod
    def of(cls, preprocessing: Mapping[str, Any]) -> ViewRule:
        """The rule that a model's `preprocessing` states."""
        p = preprocessing
        return cls(int(p["size"]), str(p["view"]), float(p["margin"]), bool(p["mask"]))

    @property
    def channels(self) -> int:
        return 2 if self.mask else 1

    def window(self, mask: np.ndarray) -> Window:
        """What is looked at of an image with this lesion (H, W); all of it where the mask is empty or the view says so."""
        if self.view == "image" or not mask.any():
            return Window.whole(mask.shape)
        return Window.of_mask(mask).larger(self.margin)

    def wide_window(self, mask: np.ndarray, pixel_aspect: float = 1.0) -> Window:
        """What several crops are spread over: of a lesion its square, `WIDER` times as wide, so that each crop holds all of the lesion at
        the size at which one would (crops of the box alone would show halves of an elongated lesion from nearer than was learnt);
        of an image all of it, as in the paper."""
        window = self.window(mask)
        if self.view == "image" or not mask.any():
            return window
        square = window.square(pixel_aspect)
        return Window(square.centre, (square.sides[0], square.sides[1] * WIDER))


def shows_anything(pixels: np.ndarray, mask: np.ndarray, margin: float, pixel_aspect: float = 1.0) -> bool:
    """Whether an image shows anything where a lesion lies. Where it was blanked, or the probe did not touch, it does not, and a network says what it expects.

    False where the lesion's box and a little about it have one and the same value, which goes on in most of what is looked at about the lesion. A cyst
    without echoes has a wall, also where the box lies within the cyst.

    Parameters
    ----------
    pixels : (H, W).
    mask : (H, W) bool, not empty.
    margin : see `ViewRule`.
    pixel_aspect : a pixel's height divided by its width.
    """
    box = Window.of_mask(mask)
    near = pixels[box.larger(_WALL).part(pixels.shape)]
    if (near != near[0, 0]).any():
        return True
    wide = box.larger(margin).square(pixel_aspect).part(pixels.shape)
    about = pixels[wide][~mask[wide]]
    return about.size > 0 and bool((about == near[0, 0]).mean() <= _GOES_ON)


def cut(array: np.ndarray, window: Window, shape: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """A window of `array` (H, W), resampled to `shape` (rows, columns) pixels.

    Returns
    -------
    values : (1, 1, rows, columns) float32, zero outside the image; shrinking is antialiased.
    valid : the same shape, how much of each pixel lies within the image, 0 to 1.
    """
    import torch
    from torch.nn import functional as F

    starts = [int(np.floor(c - s / 2)) for c, s in zip(window.centre, window.sides, strict=True)]
    stops = [max(a + 1, int(np.ceil(c + s / 2))) for a, c, s in zip(starts, window.centre, window.sides, strict=True)]
    low = [max(a, 0) for a in starts]
    high = [min(b, n) for b, n in zip(stops, array.shape, strict=True)]
    inside = (max(high[0] - low[0], 0), max(high[1] - low[1], 0))
    if 0 in inside:
        return torch.zeros(1, 1, *shape), torch.zeros(1, 1, *shape)
    part = torch.from_numpy(np.ascontiguousarray(array[low[0] : high[0], low[1] : high[1]], dtype=np.float32))
    both = torch.stack([part, torch.ones(inside)])[None]
    both = F.pad(both, (low[1] - starts[1], stops[1] - high[1], low[0] - starts[0], stops[0] - high[0]))
    both = F.interpolate(both, size=shape, mode="bilinear", align_corners=False, antialias=True)
    valid = both[:, 1:]
    # A pixel that is partly outside has the value of the part inside.
    return both[:, :1] / valid.clamp_min(1e-3) * (valid > 1e-3), valid


def several(
    array: np.ndarray, window: Window, size: int, pixel_aspect: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """The crops of multi-input prediction (`crop_places`). Returns values and valid, (n, 1, size, size) each, as `cut`."""
    import torch

    shape, starts = crop_places(window, size, pixel_aspect)
    values, valid = cut(array, window, shape)
    axis = 2 if shape[0] > shape[1] else 3
    return tuple(torch.cat([part.narrow(axis, s, size) for s in starts]) for part in (values, valid))


def crop_places(window: Window, size: int, pixel_aspect: float = 1.0) -> tuple[tuple[int, int], list[int]]:
    """The window's (rows, columns) with its short side at `size` pixels and its aspect kept, and where five squares of it,
    uniformly spaced, begin along its long side; one where it is square."""
    height, width = window.sides[0] * pixel_aspect, window.sides[1]
    factor = size / min(height, width)
    shape = (max(size, round(height * factor)), max(size, round(width * factor)))
    spare = max(shape) - size
    return shape, sorted({round(spare * i / (CROPS - 1)) for i in range(CROPS)})


def network_input(images: torch.Tensor, valid: torch.Tensor, masks: torch.Tensor | None = None) -> torch.Tensor:
    """Images (N, 1, S, S), 0 to 1, as a network takes them: standardised within what is valid, the outline as a second channel."""
    import torch

    from .letterbox import standardise

    images = standardise(images, valid)
    return images if masks is None else torch.cat([images, masks * valid], 1)
