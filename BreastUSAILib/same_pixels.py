"""Findings of a study on an image that holds the same pixels another way.

An image and the slice of a volume that shows it have the same pixels and other coordinates; a volume that 3D Slicer read may have its slices
in the other order. What is looked up by pixel must lie on the grid of the image at hand.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from .errors import DataError
from .findings import Finding, ImageInfo, Study
from .grid import as_2d, box_of_mask, box_region, from_2d, resample_like

_SAME = 1e-3  # mm


def findings_on(study: Study, image: sitk.Image, name: str = "the image") -> tuple[Finding, ...]:
    """A study's findings with masks and boxes on the grid of an image.

    Parameters
    ----------
    study : about `image`, or about an image or a one-slice volume with its very pixels.
    name : of the image, for the error.

    Raises
    ------
    DataError : the study is about an image of another size.
    """
    info = study.image
    plane = as_2d(image)
    if info.size == image.GetSize():
        if plane is not None or _same_place(info, image):
            return study.findings
        return tuple(_resampled(finding, image) for finding in study.findings)
    blank = sitk.Image(list(info.size), sitk.sitkUInt8)
    blank.SetSpacing(info.spacing)
    blank.SetOrigin(info.origin)
    blank.SetDirection(info.direction)
    before = as_2d(blank)
    if plane is None or before is None or before.GetSize() != plane.GetSize():
        about, here = (" x ".join(map(str, size)) for size in (info.size, image.GetSize()))
        raise DataError(
            f"The findings are about an image of {about} pixels, {name} has {here}; name the result of this image."
        )
    return tuple(_flat(finding, blank, image) for finding in study.findings)


def _same_place(info: ImageInfo, image: sitk.Image) -> bool:
    return all(
        np.allclose(a, b, atol=_SAME)
        for a, b in (
            (info.spacing, image.GetSpacing()),
            (info.origin, image.GetOrigin()),
            (info.direction, image.GetDirection()),
        )
    )


def _resampled(finding: Finding, image: sitk.Image) -> Finding:
    """With its mask's voxels where they lie in space; the box is there already."""
    if finding.mask is None:
        return finding
    return replace(finding, mask=resample_like(finding.mask, image, interpolator=sitk.sitkNearestNeighbor))


def _flat(finding: Finding, blank: sitk.Image, image: sitk.Image) -> Finding:
    """The same pixels of an image of one slice; `blank` has the grid that the finding is on."""
    if finding.mask is not None:
        mask = from_2d(as_2d(finding.mask), image)
        return replace(finding, mask=mask, box=box_of_mask(mask) or finding.box)
    start, size = box_region(blank, finding.box)
    region = np.zeros(blank.GetSize()[::-1], np.uint8)
    region[tuple(slice(a, a + n) for a, n in zip(start[::-1], size[::-1], strict=True))] = 1
    marked = sitk.GetImageFromArray(region.reshape(as_2d(blank).GetSize()[::-1]))
    return replace(finding, box=box_of_mask(from_2d(marked, image)))
