"""Masks as labelmaps of segments, and back, voxel by voxel on the image's grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import SimpleITK as sitk

from .errors import DataError
from .findings import Finding, ImageInfo, Study
from .mrml_grid import Frame
from .mrml_volumes import image_data_of
from .slicer_runtime import import_slicer


@dataclass(frozen=True)
class MaskCrop:
    """A finding's mask as it goes into a segment: no more voxels than it needs, as surfaces and overlays cost by the voxel.

    Attributes
    ----------
    index : the finding's place in the study.
    finding : whose mask it is.
    voxels : (Z, Y, X) uint8, 1 inside.
    first : (x, y, z) of the first of these voxels on the study's grid.
    """

    index: int
    finding: Finding
    voxels: np.ndarray
    first: tuple[int, int, int]


def mask_crops(study: Study) -> tuple[MaskCrop, ...]:
    """The masks of a study, cropped. Takes a moment for large volumes; touches no node, so a thread may do it.

    Raises
    ------
    DataError : a mask is not on the grid of the study's image.
    """
    shape = (*study.image.size, 1)[2::-1]
    crops = []
    for index, finding in enumerate(study.findings):
        if finding.mask is None:
            continue
        if finding.mask.GetSize() != study.image.size:
            raise DataError(f"the mask of {finding.id} is not on the grid of {study.image.path}.")
        voxels = sitk.GetArrayViewFromImage(finding.mask).reshape(shape)
        bounds = []
        for axis in range(3):
            filled = np.flatnonzero(voxels.any(axis=tuple(a for a in range(3) if a != axis)))
            bounds.append(slice(int(filled[0]), int(filled[-1]) + 1) if filled.size else slice(0, 1))
            # What is empty is not looked at again along the other axes.
            voxels = voxels[tuple(bounds[-1] if a == axis else slice(None) for a in range(3))]
        inside = np.ascontiguousarray(voxels != 0).astype(np.uint8)
        crops.append(MaskCrop(index, finding, inside, tuple(b.start for b in bounds[::-1])))
    return tuple(crops)


def labelmap_of(voxels: np.ndarray, frame: Frame, first: tuple[int, int, int] = (0, 0, 0)) -> Any:
    """Voxels (z, y, x) as a segment's labelmap, the first of which lies at (x, y, z) `first` of the image that the frame is about."""
    import vtk

    labelmap = image_data_of(voxels, import_slicer().vtkOrientedImageData())
    labelmap.SetExtent([edge for at, n in zip(first, voxels.shape[::-1], strict=True) for edge in (at, at + n - 1)])
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(frame.pixel_to_ras.ravel())
    labelmap.SetImageToWorldMatrix(matrix)
    return labelmap


def mask_of(
    segmentation_node: Any, segment_id: str, frame: Frame, info: ImageInfo, way: np.ndarray | None = None
) -> sitk.Image:
    """A segment as uint8 image on the study's grid, whatever extent the editor left it with.

    `way`: 4x4, from the segmentation's space to the volume's (`mrml_moved.way_to_volume`); None where it is one.

    Raises
    ------
    DataError : the segment is kept as a surface, or in another form without voxels, that cannot be made into voxels.
    """
    shape = (*info.size, 1)[2::-1]
    if way is not None:  # the image's grid as the segmentation sees it
        frame = replace(frame, pixel_to_ras=np.linalg.inv(way) @ frame.pixel_to_ras)
    if _source_alone(segmentation_node, segment_id) is not None:
        segment = _converted(segmentation_node, segment_id, frame, shape)
    else:
        segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    inside = _own_voxels(segment, frame, shape)
    if inside is None:
        inside = _resampled_voxels(segmentation_node, segment_id, frame, shape)
    mask = sitk.GetImageFromArray(inside if info.dimension == 3 else inside[0])
    mask.SetSpacing(info.spacing)
    mask.SetOrigin(info.origin)
    mask.SetDirection(info.direction)
    return mask


def _source_alone(segmentation_node: Any, segment_id: str) -> Any | None:
    """What a segment is made of where that has points but no voxels, as where a person made surfaces the source in the module Segmentations."""
    segmentation = segmentation_node.GetSegmentation()
    segment = segmentation.GetSegment(segment_id)
    if segment.GetRepresentation(import_slicer().vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()) is not None:
        return None
    source = segment.GetRepresentation(segmentation.GetSourceRepresentationName())
    return source if source is not None and source.GetNumberOfPoints() else None


def _converted(segmentation_node: Any, segment_id: str, frame: Frame, shape: tuple[int, int, int]) -> Any:
    """A copy of such a segment with voxels on the grid of the image; the scene stays as it is. Raises `DataError`."""
    slicer, segmentation = import_slicer(), segmentation_node.GetSegmentation()
    converter = slicer.vtkSegmentationConverter
    copy = slicer.vtkSegmentation()
    copy.SetSourceRepresentationName(segmentation.GetSourceRepresentationName())
    grid = converter.SerializeImageGeometry(labelmap_of(np.zeros(shape, np.uint8), frame))
    copy.SetConversionParameter(converter.GetReferenceImageGeometryParameterName(), grid)
    name = converter.GetSegmentationBinaryLabelmapRepresentationName()
    if not (copy.CopySegmentFromSegmentation(segmentation, segment_id) and copy.CreateRepresentation(name, True)):
        raise DataError(
            f"the outline {segment_id} of the segmentation {segmentation_node.GetName()} is kept as {segmentation.GetSourceRepresentationName()} alone, "
            "of which no voxels can be made; create its Binary labelmap in the module Segmentations, or make it again."
        )
    return copy.GetSegment(segment_id)


def _own_voxels(segment: Any, frame: Frame, shape: tuple[int, int, int]) -> np.ndarray | None:
    """A segment's voxels (z, y, x) as they are, where its labelmap lies on the grid of the image; else None. Quick: looks at the lesion's
    surroundings alone."""
    from vtk.util.numpy_support import vtk_to_numpy

    converter = import_slicer().vtkSegmentationConverter
    labelmap = segment.GetRepresentation(converter.GetSegmentationBinaryLabelmapRepresentationName())
    scalars = labelmap.GetPointData().GetScalars() if labelmap is not None else None
    if scalars is None or min(labelmap.GetDimensions()) < 1:
        return None
    if not np.allclose(_labelmap_matrix(labelmap), frame.pixel_to_ras, rtol=0, atol=1e-5):
        return None
    voxels = vtk_to_numpy(scalars).reshape(labelmap.GetDimensions()[::-1]) == segment.GetLabelValue()
    extent = labelmap.GetExtent()
    inside = np.zeros(shape, np.uint8)
    here, there = [], []
    for first, n, end in zip(extent[4::-2], voxels.shape, shape, strict=True):
        here.append(slice(max(first, 0), min(first + n, end)))
        there.append(slice(here[-1].start - first, here[-1].stop - first))
    if all(s.start < s.stop for s in here):
        inside[tuple(here)] = voxels[tuple(there)]
    return inside


def _resampled_voxels(segmentation_node: Any, segment_id: str, frame: Frame, shape: tuple[int, int, int]) -> np.ndarray:
    """The same of a segment on any grid, or without a labelmap: by Slicer, on the whole grid of the image."""
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    slicer = import_slicer()
    reference = labelmap_of(np.zeros(shape, np.uint8), frame)
    merged = slicer.vtkOrientedImageData()
    ids = vtk.vtkStringArray()
    ids.InsertNextValue(segment_id)
    if not segmentation_node.GenerateMergedLabelmapForAllSegments(
        merged, slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY, reference, ids
    ):
        return np.zeros(shape, np.uint8)
    return (vtk_to_numpy(merged.GetPointData().GetScalars()).reshape(shape) != 0).astype(np.uint8)


def is_drawn(segmentation_node: Any, segment_id: str) -> bool:
    """Whether a segment's labelmap holds any voxel, or what it is kept as without one any point; a person may have emptied it."""
    from vtk.util.numpy_support import vtk_to_numpy

    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    labelmap = segment.GetRepresentation(import_slicer().vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName())
    scalars = labelmap.GetPointData().GetScalars() if labelmap is not None else None
    if scalars is None:
        return _source_alone(segmentation_node, segment_id) is not None
    return bool((vtk_to_numpy(scalars) == segment.GetLabelValue()).any())


def _labelmap_matrix(labelmap: Any) -> np.ndarray:
    """4x4, index -> node RAS mm."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    labelmap.GetImageToWorldMatrix(matrix)
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])
