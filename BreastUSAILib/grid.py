"""The physical grid of an image: resample, crop, paste back, and the boxes of regions and masks.

A grid is what a ``SimpleITK.Image`` says of itself: size, spacing, origin (LPS position of the first pixel's centre)
and direction. Everything here works on 2D and 3D images of any orientation and spacing. Pixels are areas, not points:
the edge of an image lies half a pixel outside the centre of its first pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from .errors import ImageError, UsageError
from .findings import Box

# Continuous indices come out of a matrix product; differences below this part of a pixel are rounding.
_INDEX_TOLERANCE = 1e-4


def spacing_vector(spacing: float | Sequence[float], dimension: int) -> tuple[float, ...]:
    """One positive number of mm for each axis, from one number for all axes or one for each. Raises `UsageError`."""
    values = tuple(float(v) for v in np.atleast_1d(np.asarray(spacing, dtype=float)))
    if len(values) == 1:
        values *= dimension
    if len(values) != dimension:
        raise UsageError(f"the spacing {values} has {len(values)} numbers; give 1, or 1 an axis.")
    if not all(math.isfinite(v) and v > 0 for v in values):
        raise UsageError(f"the spacing {values} is not possible; it must be a positive number of millimetres.")
    return values


def _index_to_physical(spacing, direction) -> np.ndarray:
    """The matrix (d, d) that takes index steps to millimetres."""
    d = len(spacing)
    return np.reshape(direction, (d, d)) * np.asarray(spacing, float)


def physical_to_index(image: sitk.Image, point: Sequence[float]) -> np.ndarray:
    """The continuous index (d,) of a physical point (LPS, mm; further components are not looked at).

    As ``image.TransformPhysicalPointToContinuousIndex``, but right for every direction: ITK inverts the direction by a singular
    value decomposition that fails when components are all but zero (1e-309), and then answers with anything.
    """
    offset = np.asarray(point[: image.GetDimension()], float) - image.GetOrigin()
    return np.linalg.solve(_index_to_physical(image.GetSpacing(), image.GetDirection()), offset)


def _resample(image, size, origin, spacing, direction, interpolator: int, default: float) -> sitk.Image:
    # From index to index, with the geometry in the transform: ITK's own inverse is not always right, see above.
    d = image.GetDimension()
    transform = sitk.AffineTransform(d)
    inverse = np.linalg.inv(_index_to_physical(image.GetSpacing(), image.GetDirection()))
    transform.SetMatrix((inverse @ _index_to_physical(spacing, direction)).ravel().tolist())
    transform.SetTranslation(physical_to_index(image, origin).tolist())
    plain = sitk.Image(image)
    plain.SetOrigin([0.0] * d)
    plain.SetSpacing([1.0] * d)
    plain.SetDirection(np.eye(d).ravel().tolist())
    grid = (transform, interpolator, plain.GetOrigin(), plain.GetSpacing(), plain.GetDirection())
    kind = image.GetPixelID()
    dtype = sitk.GetArrayViewFromImage(image).dtype
    if dtype.kind == "f" or interpolator in (sitk.sitkNearestNeighbor, sitk.sitkLabelGaussian):
        result = sitk.Resample(plain, size, *grid, default)
    else:
        # ITK cuts the fraction off when it interpolates to an integer type, which darkens by half a grey level.
        wide = sitk.sitkFloat32 if dtype.itemsize <= 2 else sitk.sitkFloat64
        result = sitk.Round(sitk.Resample(plain, size, *grid, default, wide))
        limits = np.iinfo(dtype)
        result = sitk.Cast(sitk.Clamp(result, wide, float(limits.min), float(limits.max)), kind)
    result.SetOrigin(origin)
    result.SetSpacing(spacing)
    result.SetDirection(direction)
    return result


def resample_to_spacing(
    image: sitk.Image, spacing: float | Sequence[float], *, interpolator: int = sitk.sitkLinear, default: float = 0
) -> sitk.Image:
    """Resample to (nearly) a spacing over exactly the same physical extent.

    The outer edges of the first and last pixels of the result are those of `image`. A whole number of pixels must fill
    the extent, so the result's spacing is the nearest to `spacing` with which it does: n = round(extent / spacing).
    No smoothing is done; smooth first when the spacing grows a lot.

    Parameters
    ----------
    image : 2D or 3D scalar image.
    spacing : mm, one number for all axes or one for each axis of `image`.
    interpolator : a ``SimpleITK`` interpolator; nearest neighbour for labels.
    default : the value of pixels for which `image` has no data (none with most interpolators, as the extents agree).

    Returns
    -------
    SimpleITK.Image : of the same pixel type; integer types are rounded to the nearest value.

    Raises
    ------
    UsageError : `spacing` is not positive or has the wrong number of components.
    """
    old = np.array(image.GetSpacing())
    extent = np.multiply(image.GetSize(), old)
    size = np.maximum(1, np.rint(extent / spacing_vector(spacing, image.GetDimension())))
    new = extent / size
    # In old pixels: the edge lies half a pixel before index 0, the first new centre half a new pixel after the edge.
    origin = image.TransformContinuousIndexToPhysicalPoint(((new / old - 1) / 2).tolist())
    size = [int(n) for n in size]
    return _resample(image, size, origin, new.tolist(), image.GetDirection(), interpolator, default)


def resample_like(
    image: sitk.Image, reference: sitk.Image, *, interpolator: int = sitk.sitkLinear, default: float = 0
) -> sitk.Image:
    """Resample `image` to the grid of `reference`; `default` where `image` has no data.

    The result has the pixel type of `image`; integer types are rounded to the nearest value. Raises `ImageError` when
    one image is 2D and the other 3D.
    """
    if image.GetDimension() != reference.GetDimension():
        raise ImageError(
            f"a {image.GetDimension()}D image cannot be brought to the grid of a {reference.GetDimension()}D image; "
            "use from_2d for single slices."
        )
    grid = (reference.GetSize(), reference.GetOrigin(), reference.GetSpacing(), reference.GetDirection())
    return _resample(image, *grid, interpolator, default)


def index_box(image: sitk.Image, start: Sequence[float], size: Sequence[float]) -> Box:
    """The physical box of an index region, from pixel edge to pixel edge.

    Parameters
    ----------
    image : 2D or 3D image that gives the grid.
    start : (x, y[, z]) index of the region's first pixel; fractions are allowed.
    size : (x, y[, z]) number of pixels; may be 0.
    """
    center = [s + (n - 1) / 2 for s, n in zip(start, size, strict=True)]
    point = image.TransformContinuousIndexToPhysicalPoint([float(c) for c in center])
    extent = [float(n) * s for n, s in zip(size, image.GetSpacing(), strict=True)]
    pad = [0.0] * (3 - image.GetDimension())
    return Box(center=(*point, *pad), size=(*extent, *pad))


def image_box(image: sitk.Image) -> Box:
    """The physical box of the whole image, from pixel edge to pixel edge."""
    return index_box(image, [0] * image.GetDimension(), image.GetSize())


def box_of_mask(mask: sitk.Image) -> Box | None:
    """The smallest box, along the image's axes, around all pixels that are not 0; None when there is none."""
    inside = sitk.GetArrayViewFromImage(mask) != 0
    start, size = [], []
    for axis in reversed(range(inside.ndim)):  # numpy's last axis is the image's first
        filled = np.flatnonzero(inside.any(axis=tuple(a for a in range(inside.ndim) if a != axis)))
        if filled.size == 0:
            return None
        start.append(int(filled[0]))
        size.append(int(filled[-1] - filled[0] + 1))
    return index_box(mask, start, size)


def box_region(image: sitk.Image, box: Box, *, margin_mm: float = 0.0) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The index region (start, size) of all pixels that a box touches, inside the image.

    The exact inverse of `index_box` when `margin_mm` is 0. The sizes of `box` run along the axes of `image`.

    Parameters
    ----------
    image : 2D or 3D image that gives the grid.
    box : LPS, mm; for 2D images its z is not looked at.
    margin_mm : added on every side, mm; negative shrinks the box (to one pixel at most).

    Raises
    ------
    ImageError : the box and the image have no pixel in common.
    """
    dimension = image.GetDimension()
    center = physical_to_index(image, box.center)
    half = np.maximum(0, np.array(box.size[:dimension]) / 2 + margin_mm) / np.array(image.GetSpacing())
    # Pixel i covers [i - 1/2, i + 1/2]; a box that only meets an edge does not touch the pixel behind it.
    first = np.floor(center - half + 0.5 + _INDEX_TOLERANCE).astype(int)
    last = np.maximum(first, np.ceil(center + half - 0.5 - _INDEX_TOLERANCE).astype(int))
    first, end = np.maximum(first, 0), np.minimum(last + 1, image.GetSize())
    if np.any(end <= first):
        raise ImageError(
            f"the box at {tuple(round(c, 2) for c in box.center)} mm lies outside the image; "
            "check that it was made for this image."
        )
    return tuple(int(v) for v in first), tuple(int(v) for v in end - first)


def box_within(image: sitk.Image, box: Box, slack: float = 0.0) -> Box:
    """A 3D box that has a part in common with an image, cut at the image's faces; the very same box where there is nothing to cut.

    Parameters
    ----------
    image : 3D, gives the grid, along whose axes the box's sizes run.
    box : LPS, mm.
    slack : of the box's own side, by how much it may reach beyond a face without being cut there.
    """
    center, steps = physical_to_index(image, box.center) + 0.5, np.divide(box.size, image.GetSpacing())
    low, high = center - steps / 2, center + steps / 2
    cut_low = low < -(slack * steps + _INDEX_TOLERANCE)
    cut_high = high > image.GetSize() + slack * steps + _INDEX_TOLERANCE
    if not (cut_low | cut_high).any():
        return box
    first, end = np.where(cut_low, 0, low), np.where(cut_high, image.GetSize(), high)
    return index_box(image, first.tolist(), (end - first).tolist())


def crop_to_box(image: sitk.Image, box: Box, *, margin_mm: float = 0.0) -> sitk.Image:
    """The part of the image inside a box: whole pixels, on the same lattice.

    Every pixel that the box (with its margin) touches is kept; the part of the box outside the image is ignored.
    Parameters and errors are those of `box_region`.
    """
    start, size = box_region(image, box, margin_mm=margin_mm)
    return sitk.RegionOfInterest(image, size, start)


def paste_back(crop: sitk.Image, reference: sitk.Image, background: float = 0) -> sitk.Image:
    """Put a crop back where it came from, on the grid of `reference`, `background` elsewhere.

    No pixel value is changed. What of the crop lies outside `reference` is dropped. The pixel type is that of `crop`.

    Raises
    ------
    ImageError : the pixels of `crop` do not coincide with pixels of `reference` (use `resample_like` for such), or
        the two do not overlap.
    """
    same = (
        crop.GetDimension() == reference.GetDimension()
        and np.allclose(crop.GetSpacing(), reference.GetSpacing(), rtol=1e-5, atol=0)
        and np.allclose(crop.GetDirection(), reference.GetDirection(), rtol=0, atol=1e-5)
    )
    index = physical_to_index(reference, crop.GetOrigin()) if same else (0.5,)
    start = np.rint(index).astype(int)
    if not np.allclose(index, start, rtol=0, atol=0.01):
        raise ImageError("the crop does not lie on the pixels of the image; use resample_like to bring it there.")
    first = np.maximum(start, 0)
    size = np.minimum(start + crop.GetSize(), reference.GetSize()) - first
    if np.any(size <= 0):
        raise ImageError("the crop lies outside the image; check that it was made from this image.")
    result = sitk.Image(reference.GetSize(), crop.GetPixelID())
    result.CopyInformation(reference)
    if background != 0:
        result = sitk.Cast(result + background, crop.GetPixelID())
    return sitk.Paste(result, crop, size.tolist(), (first - start).tolist(), first.tolist())


def part_image(array: np.ndarray, place: Sequence[slice], image: sitk.Image) -> sitk.Image:
    """An array (z, y, x) as an image on that part of a 3D image's grid that lies at `place`, slices (z, y, x) of its array."""
    part = sitk.GetImageFromArray(array)
    part.SetSpacing(image.GetSpacing())
    part.SetDirection(image.GetDirection())
    part.SetOrigin(image.TransformIndexToPhysicalPoint([p.start for p in place[::-1]]))
    return part


def is_left_handed(image: sitk.Image) -> bool:
    """Whether the axes of an image are a mirror image of those of space; 3D Slicer reverses the slices of such volumes when it reads them."""
    dimension = image.GetDimension()
    return bool(np.linalg.det(np.reshape(image.GetDirection(), (dimension, dimension))) < 0)


def _slice_axis(image: sitk.Image) -> int | None:
    """The axis of a 3D image that has one pixel only, the last if there are several."""
    return max((axis for axis, n in enumerate(image.GetSize()) if n == 1), default=None)


def as_2d(image: sitk.Image) -> sitk.Image | None:
    """The slice of a 3D image that has only one, as a 2D image; 2D images come back as they are.

    3D Slicer keeps 2D images as volumes with one slice. The slice's position in space cannot be said in 2D: the
    result has the in-plane spacing, origin 0 and no rotation. What is computed on it goes back with `from_2d`.

    Returns
    -------
    2D image whose axes are the remaining axes in their order, or None when the image has more than one slice along
    each axis.
    """
    if image.GetDimension() == 2:
        return image
    axis = _slice_axis(image)
    if axis is None:
        return None
    size = list(image.GetSize())
    size[axis] = 0
    plane = sitk.Extract(image, size, [0, 0, 0], sitk.ExtractImageFilter.DIRECTIONCOLLAPSETOIDENTITY)
    plane.SetOrigin((0.0, 0.0))
    return plane


def from_2d(result: sitk.Image, reference: sitk.Image) -> sitk.Image:
    """Put a 2D result (mask, heatmap) that was computed on ``as_2d(reference)`` on the grid of `reference`.

    Raises
    ------
    ImageError : `result` does not have the size of the slice of `reference`.
    """
    if reference.GetDimension() == 2:
        size, axis = reference.GetSize(), None
    else:
        axis = _slice_axis(reference)
        size = tuple(n for a, n in enumerate(reference.GetSize()) if a != axis)
    if result.GetSize() != size:
        raise ImageError(f"a result of size {result.GetSize()} does not fit the slice of size {size} it was made from.")
    array = sitk.GetArrayViewFromImage(result)
    image = sitk.GetImageFromArray(array if axis is None else np.expand_dims(array, 2 - axis))
    image.CopyInformation(reference)
    return image
