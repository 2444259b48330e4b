"""Findings of a study on an image that holds the same pixels another way.

An image and the slice of a volume that shows it have the same pixels and other coordinates; a volume that 3D Slicer read may have its slices
in the other order. What is looked up by pixel must lie on the grid of the image at hand. Images of the same size that lie on other grids are not
the same: the boxes, in millimetres, would lie anywhere in them. A 2D image and a volume of one slice have no millimetres in common and go by
pixel; figures in millimetres of another spacing are refused there as well, those in pixels stay what they are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import SimpleITK as sitk

from .errors import DataError, OtherSpacingError
from .findings import Finding, ImageInfo, Study
from .grid import as_2d, box_of_mask, box_region, from_2d, physical_to_index, resample_like

_SAME = 1e-3  # mm
_SAME_SPACING = 1e-3  # by which share spacings may differ that went through files of few digits
_NEAR = 0.1  # of a voxel, by which grids may differ that went through files of few digits


def findings_on(
    study: Study, image: sitk.Image, name: str = "the image", *, spacing_known: bool | None = None
) -> tuple[Finding, ...]:
    """A study's findings with masks and boxes on the grid of an image.

    Parameters
    ----------
    study : about `image`, or about an image or a one-slice volume with its very pixels.
    name : of the image, for the error.
    spacing_known : whether what a pixel of `image` measures is known, see `LoadedImage`; None: as the study says.

    Raises
    ------
    DataError : the study is about an image of another size, or of the same size and with another spacing (`OtherSpacingError`) or
        place in space, so that its millimetres are not the image's.
    """
    info = study.image
    plane = as_2d(image)
    known = info.spacing_known if spacing_known is None else spacing_known
    if info.size == image.GetSize():
        if known != info.spacing_known or not _same_voxels(info, image):
            raise _elsewhere(info, image, name, known)
        if _same_place(info, image):
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
    if info.spacing_known and not (known and np.allclose(before.GetSpacing(), plane.GetSpacing(), rtol=_SAME_SPACING, atol=0)):
        raise _other_spacing(before.GetSpacing(), plane.GetSpacing(), name, known)
    return tuple(_flat(finding, blank, image) for finding in study.findings)


def _same_voxels(info: ImageInfo, image: sitk.Image) -> bool:
    """Whether the voxels of a grid are those of an image of its size, in the same order or turned round along some axes."""
    d, last = info.dimension, np.array(info.size) - 1
    corners = np.array([np.zeros(d), *np.diag(last)])  # the first voxel, and the one at the end of each axis
    points = info.origin + (corners * info.spacing) @ np.reshape(info.direction, (d, d)).T
    index = np.array([physical_to_index(image, point) for point in points])
    turned = index[0] > last / 2
    return bool(np.abs(index - np.where(turned, last - corners, corners)).max() < _NEAR)


def _elsewhere(info: ImageInfo, image: sitk.Image, name: str, known: bool) -> DataError:
    """What stands against findings on the grid `info` in an image of the same size, with the cure.

    The cure is for the command line and for 3D Slicer; a command adds its option (`one_image_command.findings_for`).
    """
    before, here = (" x ".join(f"{s:g}" for s in spacing) for spacing in (info.spacing, image.GetSpacing()))
    if not info.spacing_known and known:
        return OtherSpacingError(
            f"{name} has pixels of {here} mm, and the findings were made without knowing what a pixel measures; make them again "
            "with this spacing."
        )
    if known == info.spacing_known and before == here:
        return DataError(
            f"{name} lies elsewhere in space than the image of the findings (another origin or direction); "
            "name the result of this image."
        )
    return _other_spacing(info.spacing, image.GetSpacing(), name, known)


def _other_spacing(made_on: tuple[float, ...], spacing: tuple[float, ...], name: str, known: bool) -> OtherSpacingError:
    """What stands against findings in millimetres on an image whose pixels have others, or none that are known."""
    before, here = (" x ".join(f"{s:g}" for s in mm) for mm in (made_on, spacing))
    of_this = f"has pixels of {here} mm" if known else "does not say what a pixel measures"
    return OtherSpacingError(
        f"{name} {of_this}, and the findings were made on pixels of {before} mm; make them again on this image, or give it the "
        "spacing that they were made on if it is the same.",
        made_on,
    )


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
    mask = None if finding.mask is None else from_2d(as_2d(finding.mask), image)
    box = None if mask is None else box_of_mask(mask)
    if box is not None:
        return replace(finding, mask=mask, box=box)
    start, size = box_region(blank, finding.box)
    region = np.zeros(blank.GetSize()[::-1], np.uint8)
    region[tuple(slice(a, a + n) for a, n in zip(start[::-1], size[::-1], strict=True))] = 1
    marked = sitk.GetImageFromArray(region.reshape(as_2d(blank).GetSize()[::-1]))
    return replace(finding, mask=mask, box=box_of_mask(from_2d(marked, image)))
