"""What every reader does with pixels: their number checked, colour to grey, values cleaned, one frame of many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import ImageError, NoFramesError, UsageError

# The largest images that are read unless the user says otherwise. Of a 2D image several float copies are held at once
# (256 MB each as float32); a volume is only carried through.
MAX_PIXELS_2D, MAX_PIXELS_3D = 2**26, 2**29
COLOUR_NOTE = "colour converted to luminance (Rec. 601)"


def check_size(path: Path, size: Sequence[int], max_pixels: int | None) -> None:
    """Refuse an image by the size that its header states. Raises `ImageError`.

    max_pixels : the largest image allowed; None: as `default_limit` says.
    """
    size = tuple(int(n) for n in size)
    if len(size) not in (2, 3):
        times = "; split a time series into its volumes" if len(size) > 3 else ""
        raise ImageError(
            f"{path} has {len(size)} dimension{'s'[: len(size) > 1]}; an image of 2 or 3 is needed{times}."
        )
    if min(size) < 1:
        raise ImageError(f"{path} has no pixels (size {' x '.join(map(str, size))}); export it again.")
    if max_pixels is None:
        max_pixels = default_limit(size)
    if math.prod(size) > max_pixels:
        raise ImageError(
            f"{path} has {math.prod(size):,} pixels ({' x '.join(map(str, size))}), more than the limit of "
            f"{max_pixels:,}; crop or resample it, or raise the limit (breastusai run, detect, segment, grade or heatmap: --max-pixels)."
        )


def default_limit(size: Sequence[int]) -> int:
    """The pixels of the largest image that is read unless the user says otherwise: `MAX_PIXELS_2D` for 2D images and single slices, else
    `MAX_PIXELS_3D`."""
    return MAX_PIXELS_2D if sum(n > 1 for n in size) <= 2 else MAX_PIXELS_3D


def choose_frame(path: Path, count: int, frame: int | None) -> int:
    """The index (from 0) of the frame to read: `frame` (from 1), or the middle one; of a single image that, as there is nothing to choose.
    Raises `UsageError`."""
    if frame is None or (count == 1 and frame >= 1):
        return (count - 1) // 2
    if not 1 <= frame <= count:
        raise UsageError(f"{path} has no frame {frame}; choose one of 1 to {count}.")
    return frame - 1


def refuse_frame(path: Path, frame: int | None) -> None:
    """Raise `NoFramesError` where one frame of a volume is asked for."""
    if frame is not None:
        raise NoFramesError(f"{path} is a volume, and has no frame {frame} to be read alone; leave the frame out.")


def luminance(rgb: np.ndarray) -> tuple[np.ndarray, bool]:
    """Colour to grey by Rec. 601 (ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B), rounded.

    Parameters
    ----------
    rgb : (..., 3) unsigned integers.

    Returns
    -------
    (...) of the same type, and whether there was any colour; grey pixels keep their exact value.
    """
    r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    if np.array_equal(r, g) and np.array_equal(g, b):
        return np.ascontiguousarray(r), False
    grey = np.float32(0.299) * r + np.float32(0.587) * g + np.float32(0.114) * b
    return np.rint(grey).astype(rgb.dtype), True


def without_overflow(array: np.ndarray) -> np.ndarray:
    """A float array whose values can be subtracted from each other: scaled to -1..1 where they are huge."""
    greatest = max(abs(float(array.min())), abs(float(array.max())))
    return array / array.dtype.type(greatest) if greatest > np.finfo(array.dtype).max / 4 else array


def with_grid_of(image: sitk.Image, array: np.ndarray) -> sitk.Image:
    result = sitk.GetImageFromArray(array)
    result.SetSpacing(image.GetSpacing())
    result.SetOrigin(image.GetOrigin())
    result.SetDirection(image.GetDirection())
    return result


def in_grey(image: sitk.Image) -> tuple[sitk.Image, bool]:
    """An image of one value a pixel from one of colours (3 unsigned integers a pixel, or 4 with transparency, which is left out) on the same grid, and
    whether there was any colour; an image of one value a pixel is given back as it is."""
    if image.GetNumberOfComponentsPerPixel() == 1:
        return image, False
    grey, coloured = luminance(sitk.GetArrayViewFromImage(image))
    return with_grid_of(image, grey), coloured


def not_orthonormal(path: Path) -> ImageError:
    return ImageError(
        f"{path} has axes that are not at right angles to each other; resample it to a rectangular grid "
        "(in 3D Slicer: Resample Scalar/Vector/DWI Volume)."
    )


def _narrower(array: np.ndarray) -> np.ndarray:
    """64-bit integers as int32 where they fit, else float64: neither MRML nor most filters take them."""
    limits = np.iinfo(np.int32)
    fits = limits.min <= array.min() and array.max() <= limits.max
    return array.astype(np.int32 if fits else np.float64)


def clean_values(path: Path, image: sitk.Image, allow_constant: bool) -> tuple[sitk.Image, list[str]]:
    """Finite values of a usual type that are not all the same, or an `ImageError`."""
    array = sitk.GetArrayViewFromImage(image)
    notes = []
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        missing = array.size - int(np.count_nonzero(finite))
        if missing == array.size:
            raise ImageError(f"{path} has no finite value (all NaN or infinite); export it again.")
        if missing:
            lowest = array[finite].min()
            image = with_grid_of(image, np.where(finite, array, lowest))
            notes.append(f"{missing} pixel{'s'[: missing > 1]} without a finite value set to the minimum, {lowest:g}")
    elif array.dtype.itemsize == 8:
        image = with_grid_of(image, _narrower(array))
    array = sitk.GetArrayViewFromImage(image)
    if not allow_constant and array.min() == array.max():
        raise ImageError(f"{path} has the same value ({array.flat[0]:g}) everywhere; there is nothing to see in it.")
    return image, notes
