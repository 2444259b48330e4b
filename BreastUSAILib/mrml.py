"""Images, findings and studies as MRML nodes, and back. The one file that knows MRML nodes.

Everything else in BreastUSAI speaks LPS millimetres; MRML speaks RAS. A node's own coordinates are meant throughout:
outputs are made in the local space of the input volume and put under the input's parent transform, so they stay with
it under any transform, linear or not.

A 2D image is a volume of one slice. Its study keeps two-dimensional coordinates; they are carried over by pixel index,
so the slice may stand anywhere in space.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from .acquisition import CurvedAcquisition
from .atomic import atomic_path
from .breast_position import NIPPLE
from .errors import DataError, ImageError, OtherSpacingError, OutputError
from .findings import Box, Finding, ImageInfo, Study
from .grid import as_2d
from .slicer_runtime import import_slicer, private_scene
from .terminology import ALGORITHM_NAME_TAG, lesion_color, segment_tags

if TYPE_CHECKING:
    from slicer import (
        vtkMRMLGridTransformNode,
        vtkMRMLMarkupsFiducialNode,
        vtkMRMLMarkupsROINode,
        vtkMRMLScalarVolumeNode,
        vtkMRMLScene,
        vtkMRMLSegmentationNode,
        vtkMRMLTableNode,
    )

SPACING_KNOWN = "BreastUSAI.SpacingKnown"  # attribute of a volume: "1", "0", or "user" where a person said it
FINDING = "BreastUSAI.Finding"  # attribute of an ROI, tag of a segment: the finding's id
STUDY = "BreastUSAI.Study"  # attribute of a segmentation, or of the table of a study without masks: the study's JSON
PIXELS = "BreastUSAI.PixelSpacing"  # attribute beside STUDY, of a 2D image: the spacing of its volume when it was laid over that, mm
BELONGS_TO = "BreastUSAISegmentation"  # node reference from ROI, points and table to the segmentation
HEATMAP = "BreastUSAI.Heatmap"  # attribute of a table of hot spots (`mrml_heatmap`), which are no findings
SHOWN_WITH = "BreastUSAITable"  # where there is no segmentation: from ROI and points to the table
ABOUT = "BreastUSAIVolume"  # node reference from such a table to the volume that was analysed

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Pictures state a resolution for printing, if any: 72 or 96 dots an inch, whatever is seen in them.
_PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
_CONTROL_MM = 5.0
_NEAR = 0.1  # of a voxel, by which grids may differ that went through files of few digits
_PEAK = ("peak_x", "peak_y", "peak_z")  # in a finding's evidence: where its heat is greatest, LPS mm
_UNITS = {"mm", "mm2", "mm3", "ml", "deg", "px", "px2", "px3", "s"}

# Outside the application nobody says which plugin shows a node in the data tree; Slicer reads it from the scene.
_TREE_PLUGINS = (
    ("vtkMRMLVolumeNode", "Volumes"),
    ("vtkMRMLSegmentationNode", "Segmentations"),
    ("vtkMRMLMarkupsNode", "Markups"),
    ("vtkMRMLTableNode", "Tables"),
    ("vtkMRMLTransformNode", "Transforms"),
)


@dataclass(frozen=True)
class StudyNodes:
    """The nodes that show one study; `points` is None when nothing was found."""

    volume: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    boxes: tuple[vtkMRMLMarkupsROINode, ...]
    points: vtkMRMLMarkupsFiducialNode | None
    table: vtkMRMLTableNode


@dataclass(frozen=True)
class DetectionNodes:
    """The nodes that show a study without masks; `points` is None when nothing was found."""

    volume: vtkMRMLScalarVolumeNode
    boxes: tuple[vtkMRMLMarkupsROINode, ...]
    points: vtkMRMLMarkupsFiducialNode | None
    table: vtkMRMLTableNode


@dataclass(frozen=True)
class ShownParts:
    """What shows the findings of a study in a scene, as far as it is still there (`parts_of`)."""

    boxes: dict[str, vtkMRMLMarkupsROINode]  # finding -> its box
    points: vtkMRMLMarkupsFiducialNode | None
    tables: tuple[vtkMRMLTableNode, ...]
    segments: dict[str, str]  # finding -> id of its segment


# --- volumes ---------------------------------------------------------------------------------------------------------


def add_volume(scene: vtkMRMLScene, image: sitk.Image, name: str, spacing_known: bool = True) -> Any:
    """A scalar volume node of an image, with a display node.

    Parameters
    ----------
    scene : where the node goes.
    image : 2D or 3D, one component. A 2D image becomes one slice, 1 mm thick, at z = 0. 64-bit integers, which VTK in
        Slicer refuses, become int32 where the values fit and float64 where not.
    name : the node's name.
    spacing_known : False when nobody knows what a pixel measures; kept as the attribute `SPACING_KNOWN`.

    Returns
    -------
    vtkMRMLScalarVolumeNode

    Raises
    ------
    ImageError : more than one component, complex values, or neither 2 nor 3 dimensions.
    """
    import vtk

    voxels = _voxels(image, name)
    spacing, origin, axes = _grid_3d(ImageInfo.of(image, name))
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(name))
    node.SetSpacing(*spacing)
    node.SetOrigin(*(_LPS_TO_RAS[:3, :3] @ origin))
    node.SetIJKToRASDirections(*(_LPS_TO_RAS[:3, :3] @ axes).ravel())
    node.SetAndObserveImageData(_image_data(voxels, vtk.vtkImageData()))
    node.SetAttribute(SPACING_KNOWN, "1" if spacing_known else "0")
    node.CreateDefaultDisplayNodes()
    low, high = _display_range(voxels)
    display = node.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(low, high)
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    _item_of(scene, node)
    return node


def add_volume_beside(
    scene: vtkMRMLScene, image: sitk.Image, volume_node: vtkMRMLScalarVolumeNode, name: str
) -> vtkMRMLScalarVolumeNode:
    """A volume node of a picture that lies on the grid of another's image: at its place, under its transform, beside it in the tree.

    Raises
    ------
    DataError : the picture is of another size than the volume, or see `placed`.
    ImageError : see `add_volume`.
    """
    import vtk

    frame = _Frame.of(_grid_now(ImageInfo.of(image, name), volume_node), volume_node)
    node = add_volume(scene, image, name, spacing_known(volume_node))
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(frame.pixel_to_ras.ravel())
    node.SetIJKToRASMatrix(matrix)
    place_beside(scene, node, volume_node)
    return node


def add_acquisition_transform(
    scene: vtkMRMLScene, volume_node: vtkMRMLScalarVolumeNode, acquisition: CurvedAcquisition
) -> vtkMRMLGridTransformNode:
    """Put a volume of a curved transducer where it lies in the body: under a grid transform, as Slicer's DICOMGeAbusPlugin does.

    The volume's own grid stays what it is. What is shown with it afterwards (`show_study`, `show_detections`) comes under the
    same transform. Between its control points, some `_CONTROL_MM` apart, Slicer interpolates linearly.
    """
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    slicer = import_slicer()
    size, spacing = np.array(volume_node.GetImageData().GetDimensions()), np.array(volume_node.GetSpacing())
    apart = np.maximum(1, np.floor(_CONTROL_MM / spacing)).astype(int)
    counts = -(-(size - 1) // apart) + 1 + (size == 1)  # up to the last voxel, or one behind it
    voxels = np.stack(np.meshgrid(*(np.arange(n) * a for n, a in zip(counts, apart, strict=True)), indexing="ij"), axis=-1)
    matrix = _LPS_TO_RAS @ _ijk_to_ras(volume_node)
    points = voxels @ matrix[:3, :3].T + matrix[:3, 3]
    displacements = (acquisition.to_physical(points) - points) @ _LPS_TO_RAS[:3, :3]
    grid = vtk.vtkImageData()
    grid.SetDimensions([int(n) for n in counts])
    grid.SetOrigin(*volume_node.GetOrigin())
    grid.SetSpacing(*(apart * spacing))
    in_vtk_order = np.ascontiguousarray(displacements.transpose(2, 1, 0, 3)).reshape(-1, 3)
    grid.GetPointData().SetScalars(numpy_to_vtk(in_vtk_order, deep=True))
    directions = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASDirectionMatrix(directions)
    transform = slicer.vtkOrientedGridTransform()
    transform.SetGridDirectionMatrix(directions)
    transform.SetDisplacementGridData(grid)
    name = scene.GenerateUniqueName(f"{volume_node.GetName()} acquisition transform")
    node = scene.AddNewNodeByClass("vtkMRMLGridTransformNode", name)
    node.SetAndObserveTransformToParent(transform)
    node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    volume_node.SetAndObserveTransformNodeID(node.GetID())
    tree = scene.GetSubjectHierarchyNode()
    tree.SetItemParent(_item_of(scene, node), tree.GetItemParent(_item_of(scene, volume_node)))
    return node


def image_from_volume(node: vtkMRMLScalarVolumeNode) -> sitk.Image:
    """The voxels of a volume node on its own grid (LPS), without its parent transform.

    Parameters
    ----------
    node : scalar or vector (colour) volume.

    Returns
    -------
    SimpleITK.Image : always 3D, with as many components as the node has; a 2D image has one slice.

    Raises
    ------
    ImageError : the node has no voxels.
    """
    from vtk.util.numpy_support import vtk_to_numpy

    data = node.GetImageData()
    scalars = None if data is None else data.GetPointData().GetScalars()
    if scalars is None or min(data.GetDimensions()) < 1:
        raise ImageError(f"the volume {node.GetName()} holds no voxels; load an image into it or choose another volume.")
    columns, rows, slices = data.GetDimensions()
    components = scalars.GetNumberOfComponents()
    shape = (slices, rows, columns) if components == 1 else (slices, rows, columns, components)
    image = sitk.GetImageFromArray(vtk_to_numpy(scalars).reshape(shape), isVector=components > 1)
    info = info_of(node)
    image.SetSpacing(info.spacing)
    image.SetDirection(info.direction)
    image.SetOrigin(info.origin)
    return image


def image_for(info: ImageInfo, node: vtkMRMLScalarVolumeNode) -> sitk.Image:
    """The voxels of a volume node as a study of them takes them: of a 2D study, the slice on the study's own grid, where a pixel may count
    as 1 while the volume has a spacing. Raises `ImageError`, see `image_from_volume`."""
    image = image_from_volume(node)
    plane = as_2d(image) if info.dimension == 2 else None
    if plane is None or plane.GetSize() != info.size:
        return image
    plane.SetSpacing(info.spacing)
    plane.SetOrigin(info.origin)
    plane.SetDirection(info.direction)
    return plane


def info_of(node: vtkMRMLScalarVolumeNode) -> ImageInfo:
    """Name and grid (LPS) of a volume node, without its parent transform; of one without voxels the size is 0. Reads no voxel."""
    data = node.GetImageData()
    # A cropped vtkImageData may start at another index than 0.
    first = np.zeros(3) if data is None else np.array(data.GetExtent()[::2], float)
    return ImageInfo(
        node.GetName(),
        (0, 0, 0) if data is None else data.GetDimensions(),
        node.GetSpacing(),
        tuple((_LPS_TO_RAS @ _ijk_to_ras(node) @ [*first, 1.0])[:3]),
        tuple((_LPS_TO_RAS[:3, :3] @ _axes(node)).ravel()),
        volume_spacing_known(node),
    )


def spacing_known(node: vtkMRMLScalarVolumeNode) -> bool:
    """Whether the volume's millimetres are real.

    Where BreastUSAI read the image or a person gave the spacing, the attribute `SPACING_KNOWN` says it. Of other volumes
    it is guessed: what Slicer read from a picture (PNG, JPEG, BMP, TIFF) has the spacing of a print (0.2646 mm at 96 dots
    an inch) or 1 mm, and so it is unknown; elsewhere 1 mm in both directions of the plane, which no ultrasound image
    has, means unknown. A picture that was saved from Slicer as NRRD before BreastUSAI saw it no longer shows its origin:
    a print's spacing counts as known there.
    """
    attribute = node.GetAttribute(SPACING_KNOWN)
    if attribute is not None:
        return attribute in ("1", "user")
    storage = node.GetStorageNode()
    if storage is not None and (storage.GetFileName() or "").lower().endswith(_PICTURE_ENDINGS):
        return False
    return any(node.GetSpacing()[axis] != 1.0 for axis in _plane_first(node)[:2])


def spacing_by_user(node: vtkMRMLScalarVolumeNode) -> float:
    """The pixel spacing that a person gave with `set_pixel_spacing`, mm; 0 when none did."""
    if node.GetAttribute(SPACING_KNOWN) != "user":
        return 0.0
    return node.GetSpacing()[_plane_first(node)[0]]


def set_pixel_spacing(node: vtkMRMLScalarVolumeNode, spacing: float) -> None:
    """Say what a pixel of a 2D image measures, in mm, where the file did not; undo state saved first.

    What was found in the image before goes along and covers the same pixels: outlines, boxes, points and maps. Its figures stay what they
    were: pixels where they were measured in pixels, and refused (`placed`) where they were measured in other millimetres.

    Parameters
    ----------
    node : volume of one slice; its slice thickness stays.
    spacing : along both axes of the plane; 0 takes back what was said before, and the pixels are 1 mm again.

    Raises
    ------
    ImageError : negative or not finite.
    """
    _check_spacing(node, spacing)
    _save_undo_state(node.GetScene())
    _set_pixel_spacing(node, spacing)


def _check_spacing(node: Any, spacing: float) -> None:
    if not (np.isfinite(spacing) and spacing >= 0):
        raise ImageError(f"the pixel spacing of {node.GetName()} is {spacing}; it must be a positive number of mm.")


def _set_pixel_spacing(node: Any, spacing: float) -> None:
    if spacing == 0 and not spacing_by_user(node):
        return
    before = node.GetSpacing()
    values = list(before)
    for axis in _plane_first(node)[:2]:
        values[axis] = spacing or 1.0
    node.SetSpacing(*values)
    node.SetAttribute(SPACING_KNOWN, "user" if spacing else "0")
    _take_along(node, before)


# --- results on pixels that get another size -------------------------------------------------------------------------


def _take_along(volume_node: Any, before: Sequence[float]) -> None:
    """Let what was found in an image, and its maps, cover the pixels that they covered when these had the spacing `before`.

    What was laid over yet another spacing, as a person changed it in the module Volumes since, is brought back to its pixels as well.
    Segmentations that a person drew on the image go along where they stand under its transform.
    """
    from .mrml_overlay import is_map_of

    for node in _all(volume_node.GetScene(), "vtkMRMLSegmentationNode"):
        mine = node.GetAttribute(STUDY) is not None or bool(_own_segments(node))
        if _image_id(node) == volume_node.GetID() and (mine or node.GetTransformNodeID() == volume_node.GetTransformNodeID()):
            move = _to_spacing_now(volume_node, _laid_on(node) or before)
            _move_segments(node, move)
            _move_markups(_nodes_of(node), move, volume_node)
            if mine:
                _keep_laid_on(node, volume_node)
    for node in _all(volume_node.GetScene(), "vtkMRMLTableNode"):
        if node.GetNodeReferenceID(ABOUT) == volume_node.GetID():
            _move_markups(_nodes_of(node, SHOWN_WITH), _to_spacing_now(volume_node, _laid_on(node) or before), volume_node)
            _keep_laid_on(node, volume_node)
    for node in _all(volume_node.GetScene(), "vtkMRMLScalarVolumeNode"):
        if is_map_of(node, volume_node):
            node.SetIJKToRASMatrix(_vtk_matrix(_to_spacing_now(volume_node, before) @ _ijk_to_ras(node)))
            node.SetAttribute(SPACING_KNOWN, "1" if spacing_known(volume_node) else "0")


def _to_spacing_now(volume_node: Any, before: Sequence[float]) -> np.ndarray:
    """4x4, RAS in the volume's own space: from where its pixels were with the spacing `before` to where they are."""
    now = _ijk_to_ras(volume_node)
    then = now.copy()
    then[:3, :3] = _axes(volume_node) * before
    return now @ np.linalg.inv(then)


def _move_segments(segmentation_node: Any, move: np.ndarray) -> None:
    """Move labelmaps without touching a voxel; surfaces are made again."""
    import vtk

    segmentation = segmentation_node.GetSegmentation()
    names: list[str] = []
    segmentation.GetContainedRepresentationNames(names)
    transform = vtk.vtkTransform()
    transform.SetMatrix(_vtk_matrix(move))
    segmentation.ApplyLinearTransform(transform)  # and the grid on which a person goes on drawing
    for name in names:
        if name != segmentation.GetSourceRepresentationName():
            segmentation.CreateRepresentation(name, True)


def _move_markups(nodes: Sequence[Any], move: np.ndarray, volume_node: Any) -> None:
    """Move the boxes and points among some nodes, which lie on the pixels of an image."""
    defined = import_slicer().vtkMRMLMarkupsNode.PositionDefined
    for node in nodes:
        if node.IsA("vtkMRMLMarkupsROINode"):
            _move_box(node, move, _right_handed(_axes(volume_node)))
        elif node.IsA("vtkMRMLMarkupsFiducialNode"):
            for index in range(node.GetNumberOfControlPoints()):
                if node.GetNthControlPointPositionStatus(index) == defined:
                    position = [0.0, 0.0, 0.0]
                    node.GetNthControlPointPosition(index, position)
                    node.SetNthControlPointPosition(index, *(move @ [*position, 1.0])[:3])


def _move_box(roi: Any, move: np.ndarray, image_axes: np.ndarray) -> None:
    """Move an ROI. One that was turned and would be askew becomes the box along the image's axes around it, as which it is read anyway
    (`study_from_nodes`)."""
    matrix, size = _object_to_node(roi), np.array(roi.GetSize())
    edges = move[:3, :3] @ matrix[:3, :3]
    lengths = np.linalg.norm(edges, axis=0)
    if not np.allclose((edges / lengths).T @ (edges / lengths), np.eye(3), rtol=0, atol=1e-6):
        size = np.abs(image_axes.T @ matrix[:3, :3]) @ size
        edges = move[:3, :3] @ image_axes
        lengths = np.linalg.norm(edges, axis=0)
    there = np.eye(4)
    there[:3, :3], there[:3, 3] = edges / lengths, (move @ matrix[:, 3])[:3]
    roi.SetAndObserveObjectToNodeMatrix(_vtk_matrix(there))
    roi.SetSize(*(size * lengths))


def _keep_laid_on(shown: Any, volume_node: Any) -> None:
    """Keep with what shows a study of a 2D image which spacing its pixels have; volumes are known by their study (`placed`)."""
    if is_volume(volume_node):
        shown.RemoveAttribute(PIXELS)
    else:
        shown.SetAttribute(PIXELS, json.dumps(volume_node.GetSpacing()))


def _laid_on(shown: Any) -> tuple[float, ...] | None:
    """The spacing of `_keep_laid_on`; None where there is none, as in scenes of earlier versions."""
    text = shown.GetAttribute(PIXELS)
    return None if text is None else tuple(json.loads(text))


def _check_laid_on(shown: Any, kind: str, volume_node: Any) -> None:
    """Refuse what lies beside its pixels, since their spacing was changed elsewhere than here, as in the module Volumes."""
    before, now, plane = _laid_on(shown), volume_node.GetSpacing(), _plane_first(volume_node)[:2]
    if before is None or all(np.isclose(before[axis], now[axis], rtol=1e-3, atol=0) for axis in plane):
        return
    then, here = (" x ".join(f"{spacing[axis]:g}" for axis in plane) for spacing in (before, now))
    raise OtherSpacingError(
        f"the {kind} {shown.GetName()} was laid over pixels of {then} mm, and the image {volume_node.GetName()} has pixels of {here} mm now; "
        "make it again with this spacing."
    )


# --- a study's nodes -------------------------------------------------------------------------------------------------


def add_segmentation(
    scene: vtkMRMLScene,
    study: Study,
    volume_node: vtkMRMLScalarVolumeNode,
    node: vtkMRMLSegmentationNode | None = None,
    pixel_spacing: float | None = None,
    crops: Sequence[MaskCrop] | None = None,
) -> vtkMRMLSegmentationNode:
    """The study's masks, one segment a finding, exactly as they are on the volume's grid; those of volumes as surfaces in 3D views.

    Undo state is saved first. The node also keeps the study itself, so that `study_from_nodes` can give it back.

    Parameters
    ----------
    scene, study : where to, and what.
    volume_node : the image the study is about.
    node : None for a new node, or one to write into: segments that BreastUSAI made before are replaced, all others
        stay.
    pixel_spacing : set on the volume with the study that was computed with it, see `set_pixel_spacing`; None leaves the
        volume as it is.
    crops : `mask_crops` of the study, where they were made already.

    Raises
    ------
    DataError : the study is about an image of another size than the volume.
    ImageError : see `set_pixel_spacing`.
    OutputError : `node` holds other segments and stands under another transform than the volume.
    """
    slicer = import_slicer()
    # All that can be refused is refused before anything is changed.
    frame = _Frame.of(study.image, volume_node)
    crops = mask_crops(study) if crops is None else crops
    if pixel_spacing is not None:
        _check_spacing(volume_node, pixel_spacing)
    if node is not None and not may_hold(node, volume_node):
        raise OutputError(
            f"the segmentation {node.GetName()} stands under another transform than the image "
            f"{volume_node.GetName()}; choose a new segmentation, or put both under the same transform."
        )
    _save_undo_state(scene)
    if pixel_spacing is not None:
        _set_pixel_spacing(volume_node, pixel_spacing)
        frame = _Frame.of(study.image, volume_node)
    if node is None:
        name = scene.GenerateUniqueName(f"{volume_node.GetName()} lesions")
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    segmentation = node.GetSegmentation()
    for segment_id in _own_segments(node):
        segmentation.RemoveSegment(segment_id)
    if segmentation.GetNumberOfSegments():
        node.CreateBinaryLabelmapRepresentation()
    node.SetSourceRepresentationToBinaryLabelmap()
    # First the transform: the reference geometry contains what lies between the two nodes, and MRML would resample
    # the masks to it when the scene is saved.
    place_beside(scene, node, volume_node)
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetOpacity2DFill(0.25)

    labelmap_name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    for crop in crops:
        finding = crop.finding
        segment = slicer.vtkSegment()
        segment.SetName(finding.id)
        segment.SetNameAutoGenerated(False)
        segment.SetColor(*lesion_color(crop.index))
        segment.SetColorAutoGenerated(False)
        segment.SetLabelValue(1)  # in a labelmap of its own
        for key, value in segment_tags(finding.models.get("segment", "")).items():
            segment.SetTag(key, value)
        segment.SetTag(FINDING, finding.id)
        segment.AddRepresentation(labelmap_name, _labelmap(crop.voxels, frame, crop.first))
        if not segmentation.AddSegment(segment, segmentation.GenerateUniqueSegmentID(finding.id)):
            raise OutputError(f"the segment {finding.id} cannot be added to {node.GetName()}.")
    if crops and frame.thickness is None:
        _show_surface(node)
    node.SetAttribute(STUDY, json.dumps(study.to_dict(), allow_nan=False))
    _keep_laid_on(node, volume_node)
    return node


def may_hold(node: vtkMRMLSegmentationNode, volume_node: vtkMRMLScalarVolumeNode) -> bool:
    """Whether a segmentation can take what was found in a volume: not where it would take a person's segments to another place, as
    it stands under another transform."""
    return node.GetTransformNodeID() == volume_node.GetTransformNodeID() or not _holds_others(node)


def _show_surface(node: Any) -> None:
    """Let 3D views show the segments; where the masks are edited, their surfaces follow. Slices go on showing the voxels."""
    converter = import_slicer().vtkSegmentationConverter
    # Slicer's default smooths so far that a lesion of a few voxels is half gone.
    node.GetSegmentation().SetConversionParameter("Smoothing factor", "0.2")
    node.CreateClosedSurfaceRepresentation()
    display = node.GetDisplayNode()
    display.SetPreferredDisplayRepresentationName3D(converter.GetSegmentationClosedSurfaceRepresentationName())
    display.SetPreferredDisplayRepresentationName2D(converter.GetSegmentationBinaryLabelmapRepresentationName())
    display.SetVisibility3D(True)


def shows_other_image(node: vtkMRMLSegmentationNode, volume_node: vtkMRMLScalarVolumeNode) -> bool:
    """Whether a segmentation holds what BreastUSAI found in another image than this one.

    Its image is the volume of its reference geometry. A segmentation without anything of BreastUSAI is nobody's.
    """
    if node.GetAttribute(STUDY) is None and not _own_segments(node):
        return False
    return _image_id(node) != volume_node.GetID()


def _image_id(segmentation_node: Any) -> str | None:
    """Id of the volume of a segmentation's reference geometry."""
    return segmentation_node.GetNodeReferenceID(segmentation_node.GetReferenceImageGeometryReferenceRole())


def add_boxes(
    scene: vtkMRMLScene, study: Study, volume_node: vtkMRMLScalarVolumeNode
) -> tuple[vtkMRMLMarkupsROINode, ...]:
    """One ROI node a finding, along the image's axes; for 2D images one slice thick."""
    import vtk

    frame = _Frame.of(study.image, volume_node)
    nodes = []
    for index, finding in enumerate(study.findings):
        name = scene.GenerateUniqueName(f"{volume_node.GetName()} {finding.id} box")
        node = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", name)
        node.CreateDefaultDisplayNodes()
        center, size = frame.to_node(finding.box)
        matrix = vtk.vtkMatrix4x4()
        for row in range(3):
            for column in range(3):
                matrix.SetElement(row, column, frame.box_axes[row, column])
            matrix.SetElement(row, 3, center[row])
        node.SetAndObserveObjectToNodeMatrix(matrix)
        node.SetSize(*size)
        node.SetAttribute(FINDING, finding.id)
        display = node.GetDisplayNode()
        _color_markup(display, index)
        display.SetFillVisibility(False)
        display.SetPropertiesLabelVisibility(False)  # the points carry the names
        display.SetHandlesInteractive(False)
        place_beside(scene, node, volume_node)
        nodes.append(node)
    return tuple(nodes)


def add_points(
    scene: vtkMRMLScene, study: Study, volume_node: vtkMRMLScalarVolumeNode
) -> vtkMRMLMarkupsFiducialNode | None:
    """One point list with the centre of each finding's box, labelled with its id; None when nothing was found."""
    import vtk

    frame = _Frame.of(study.image, volume_node)
    if not study.findings:
        return None
    name = scene.GenerateUniqueName(f"{volume_node.GetName()} lesion centres")
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    node.CreateDefaultDisplayNodes()
    for finding in study.findings:
        center, _ = frame.to_node(finding.box)
        index = node.AddControlPoint(vtk.vtkVector3d(*center), finding.id)
        node.SetNthControlPointDescription(index, f"score {finding.score:.2f}")
    _color_markup(node.GetDisplayNode(), 0)
    place_beside(scene, node, volume_node)
    return node


def add_table(
    scene: vtkMRMLScene,
    study: Study,
    volume_node: vtkMRMLScalarVolumeNode,
    node: vtkMRMLTableNode | None = None,
) -> vtkMRMLTableNode:
    """One row a finding: id, probabilities and measurements, with units; what nobody computed has no column.

    `node` is a table whose content is replaced; None makes a new one.
    """
    import vtk

    if node is None:
        name = scene.GenerateUniqueName(f"{volume_node.GetName()} findings")
        node = scene.AddNewNodeByClass("vtkMRMLTableNode", name)
    node.RemoveAllColumns()
    node.SetUseColumnTitleAsColumnHeader(True)
    ids = vtk.vtkStringArray()
    ids.SetName("id")
    for finding in study.findings:
        ids.InsertNextValue(finding.id)
    node.AddColumn(ids)
    node.SetColumnTitle("id", "Finding")
    for column, values in _figures(study).items():
        array = vtk.vtkDoubleArray()
        array.SetName(column)
        for value in values:
            array.InsertNextValue(float("nan") if value is None else value)
        node.AddColumn(array)
        title, unit = _title_and_unit(column)
        node.SetColumnTitle(column, f"{title} ({unit})" if unit else title)
        node.SetColumnUnitLabel(column, unit)
    notes = vtk.vtkStringArray()
    notes.SetName("notes")
    for finding in study.findings:
        notes.InsertNextValue(" ".join(finding.notes))
    node.AddColumn(notes)
    node.SetColumnTitle("notes", "Notes")
    node.SetLocked(True)
    place_beside(scene, node, volume_node)
    return node


def show_study(
    scene: vtkMRMLScene,
    study: Study,
    volume_node: vtkMRMLScalarVolumeNode,
    segmentation_node: vtkMRMLSegmentationNode | None = None,
    pixel_spacing: float | None = None,
    crops: Sequence[MaskCrop] | None = None,
) -> StudyNodes:
    """All nodes of a study, beside the volume in the data tree and under its transform.

    Parameters
    ----------
    segmentation_node : None for a new one. When one is given that already shows a study, that study's boxes, points
        and table are replaced with it.
    pixel_spacing, crops : see `add_segmentation`.

    Raises
    ------
    DataError, ImageError, OutputError : see `add_segmentation` and `placed`; nothing was changed then.
    """
    study = placed(study, volume_node, pixel_spacing)
    segmentation = add_segmentation(scene, study, volume_node, segmentation_node, pixel_spacing, crops)
    for old in _nodes_of(segmentation):
        scene.RemoveNode(old)
    boxes = add_boxes(scene, study, volume_node)
    points = add_points(scene, study, volume_node)
    table = add_table(scene, study, volume_node)
    for node in (*boxes, points, table):
        if node is not None:
            node.SetNodeReferenceID(BELONGS_TO, segmentation.GetID())
    return StudyNodes(volume_node, segmentation, boxes, points, table)


def show_detections(
    scene: vtkMRMLScene,
    study: Study,
    volume_node: vtkMRMLScalarVolumeNode,
    table_node: vtkMRMLTableNode | None = None,
) -> DetectionNodes:
    """Boxes, centres and a table of a study without masks, beside the volume in the data tree and under its transform.

    Undo state is saved first. The table also keeps the study itself, and what belongs to it refers to it.

    Parameters
    ----------
    table_node : None for a new one. One that is given is replaced, and with it the boxes and points that it had.

    Raises
    ------
    DataError : the study is about an image of another size than the volume, or see `placed`; nothing was changed then.
    """
    study = placed(study, volume_node)
    _Frame.of(study.image, volume_node)
    _save_undo_state(scene)
    for old in _nodes_of(table_node, SHOWN_WITH) if table_node is not None else ():
        scene.RemoveNode(old)
    table = add_table(scene, study, volume_node, table_node)
    table.SetAttribute(STUDY, json.dumps(study.to_dict(), allow_nan=False))
    table.SetNodeReferenceID(ABOUT, volume_node.GetID())
    table.RemoveAttribute(HEATMAP)  # one of hot spots holds findings now
    _keep_laid_on(table, volume_node)
    boxes, points = add_boxes(scene, study, volume_node), add_points(scene, study, volume_node)
    for node in (*boxes, points):
        if node is not None:
            node.SetNodeReferenceID(SHOWN_WITH, table.GetID())
    return DetectionNodes(volume_node, boxes, points, table)


def remove_study(shown: vtkMRMLSegmentationNode | vtkMRMLTableNode) -> None:
    """Take from the scene what `show_study` (its segmentation) or `show_detections` (its table) showed.

    Segments that a person drew stay where they are, in a segmentation that shows no study any more.
    """
    scene, is_table = shown.GetScene(), shown.IsA("vtkMRMLTableNode")
    for node in _nodes_of(shown, SHOWN_WITH if is_table else BELONGS_TO):
        scene.RemoveNode(node)
    if is_table or not _holds_others(shown):
        scene.RemoveNode(shown)
        return
    for segment_id in _own_segments(shown):
        shown.GetSegmentation().RemoveSegment(segment_id)
    shown.RemoveAttribute(STUDY)
    shown.RemoveAttribute(PIXELS)


def holds_other_detections(table_node: vtkMRMLTableNode, volume_node: vtkMRMLScalarVolumeNode) -> bool:
    """Whether a table holds anything but what `show_detections` found in this very volume; an empty one holds nothing."""
    if table_node.GetAttribute(STUDY) is None:
        return table_node.GetNumberOfColumns() > 0
    return table_node.GetNodeReferenceID(ABOUT) != volume_node.GetID()


def detected_in(table_node: vtkMRMLTableNode) -> Study | None:
    """The study that `show_detections` showed with this table, without changes that were made in the scene; None where the
    table is another one. Raises `DataError` where it does not read."""
    text = table_node.GetAttribute(STUDY)
    return None if text is None else Study.from_json(text, source=f"the table {table_node.GetName()}")


def show_from_score(table_node: vtkMRMLTableNode, least_score: float) -> tuple[bool, ...]:
    """Show the boxes and points of findings with at least this score and hide the others; nothing is computed or removed.

    Returns
    -------
    for each row of the table, which finding is shown; empty where the table is not one of `show_detections`.
    """
    study = detected_in(table_node)
    if study is None:
        return ()
    shown = {finding.id: finding.score >= least_score for finding in study.findings}
    for node in _nodes_of(table_node, SHOWN_WITH):
        if node.IsA("vtkMRMLMarkupsROINode"):
            display = node.GetDisplayNode()
            if display is not None:
                display.SetVisibility(shown.get(node.GetAttribute(FINDING), True))
            continue
        for index in range(node.GetNumberOfControlPoints()):
            node.SetNthControlPointVisibility(index, shown.get(node.GetNthControlPointLabel(index), True))
    return tuple(shown.values())


def jump_to_finding(table_node: vtkMRMLTableNode, row: int) -> tuple[float, float, float] | None:
    """Let all slice views show the finding in a row of the table, wherever its box and its transforms are now.

    Returns
    -------
    where they jump to, world RAS mm; None where the box was deleted.
    """
    slicer = import_slicer()
    finding = table_node.GetCellText(row, 0)
    for node in _nodes_of(table_node, SHOWN_WITH):
        if node.IsA("vtkMRMLMarkupsROINode") and node.GetAttribute(FINDING) == finding:
            center = [0.0, 0.0, 0.0]
            node.GetCenterWorld(center)
            jump = slicer.vtkMRMLSliceNode.CenteredJumpSlice
            slicer.vtkMRMLSliceNode.JumpAllSlices(table_node.GetScene(), *center, jump)
            return tuple(center)
    return None


def finding_position(
    volume_node: vtkMRMLScalarVolumeNode, study: Study, finding: Finding
) -> tuple[float, float, float]:
    """Where the middle of a finding's box lies, world RAS mm, with the transforms of the volume that was analysed."""
    center, _ = _Frame.of(study.image, volume_node).to_node(finding.box)
    world = [0.0, 0.0, 0.0]
    volume_node.TransformPointToWorld(center.tolist(), world)
    return tuple(world)


def study_from_nodes(
    volume_node: vtkMRMLScalarVolumeNode, shown: vtkMRMLSegmentationNode | vtkMRMLTableNode
) -> Study:
    """The study that `show_study` (its segmentation) or `show_detections` (its table) showed, as it is in the scene now.

    A finding whose box and segment were both deleted is left out; without its segment it has no mask. A box that was
    turned is replaced by the smallest box along the image's axes that holds it. Segments that a person added are no
    findings of a model and are left out. Coordinates are those of the volume as it is now (`placed`).

    Raises
    ------
    DataError : the node does not hold a study, is about another image, or lies beside its pixels, whose spacing was changed since
        (`OtherSpacingError`; by `set_pixel_spacing` it goes along); or see `placed`.
    """
    is_table = shown.IsA("vtkMRMLTableNode")
    kind = "table" if is_table else "segmentation"
    text = shown.GetAttribute(STUDY)
    if text is None:
        raise DataError(f"the {kind} {shown.GetName()} was not made by BreastUSAI; choose another one.")
    study = placed(Study.from_json(text, source=f"the {kind} {shown.GetName()}"), volume_node)
    frame = _Frame.of(study.image, volume_node)
    _check_laid_on(shown, kind, volume_node)
    nodes = _nodes_of(shown, SHOWN_WITH if is_table else BELONGS_TO)
    boxes = {n.GetAttribute(FINDING): n for n in nodes if n.IsA("vtkMRMLMarkupsROINode")}
    segments = {} if is_table else _segments_by_finding(shown)
    findings = []
    for finding in study.findings:
        roi, segment_id = boxes.get(finding.id), segments.get(finding.id)
        if roi is None and segment_id is None:
            continue
        mask = None if segment_id is None else _mask(shown, segment_id, frame, study.image)
        if mask is not None and not sitk.GetArrayViewFromImage(mask).any() and _is_drawn(shown, segment_id):
            raise DataError(
                f"the outline {finding.id} of the {kind} {shown.GetName()} lies outside the image {volume_node.GetName()}; make it again on "
                "the image as it is now."
            )
        findings.append(
            replace(
                finding,
                box=finding.box if roi is None else frame.from_node(roi),
                mask=mask,
                label=finding.label if mask is not None else None,
            )
        )
    return replace(study, findings=tuple(findings))


def parts_of(shown: vtkMRMLSegmentationNode | vtkMRMLTableNode) -> ShownParts:
    """The nodes and segments that belong to what `show_study` (its segmentation) or `show_detections` (its table) showed."""
    is_table = shown.IsA("vtkMRMLTableNode")
    nodes = _nodes_of(shown, SHOWN_WITH if is_table else BELONGS_TO)
    return ShownParts(
        boxes={n.GetAttribute(FINDING): n for n in nodes if n.IsA("vtkMRMLMarkupsROINode")},
        points=next((n for n in nodes if n.IsA("vtkMRMLMarkupsFiducialNode")), None),
        tables=(shown,) if is_table else tuple(n for n in nodes if n.IsA("vtkMRMLTableNode")),
        segments={} if is_table else _segments_by_finding(shown),
    )


# --- where a person points -------------------------------------------------------------------------------------------


def is_volume(node: vtkMRMLScalarVolumeNode) -> bool:
    """Whether a volume node has several slices along each axis; a 2D image has one slice."""
    data = node.GetImageData()
    return data is not None and min(data.GetDimensions()) > 1


def volume_spacing_known(node: vtkMRMLScalarVolumeNode) -> bool:
    """Whether the millimetres of a volume of several slices may be real. 1 mm along all axes may be, unless the file was known
    to be silent; what would be larger than any breast is refused by the tasks."""
    return node.GetAttribute(SPACING_KNOWN) != "0" or tuple(node.GetSpacing()) != (1.0, 1.0, 1.0)


def drawn_boxes(scene: vtkMRMLScene) -> tuple[vtkMRMLMarkupsROINode, ...]:
    """The ROIs that a person drew and that are shown: not those of findings."""
    rois = _all(scene, "vtkMRMLMarkupsROINode")
    return tuple(r for r in rois if r.GetAttribute(FINDING) is None and _is_placed(r) and _is_shown(r))


def box_of_roi(volume_node: vtkMRMLScalarVolumeNode, roi: vtkMRMLMarkupsROINode) -> Box:
    """The smallest box along the volume's axes (LPS mm, in the volume's own space) around an ROI, wherever both stand now."""
    to_node = _object_to_node(roi)
    half = np.array(roi.GetSize()) / 2
    signs = np.array([[x, y, z, 1.0] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    corners = (signs * (*half, 1.0)) @ to_node.T
    local = np.array(_to_volume(volume_node, roi, corners[:, :3]))
    axes = _LPS_TO_RAS[:3, :3] @ _axes(volume_node)
    along = local @ axes  # the axes are at right angles
    low, high = along.min(axis=0), along.max(axis=0)
    return Box(tuple(axes @ ((low + high) / 2)), tuple(high - low))


def points_of(
    volume_node: vtkMRMLScalarVolumeNode, points: vtkMRMLMarkupsFiducialNode
) -> tuple[tuple[float, float, float], ...]:
    """The points of a list that were placed (LPS mm, in the volume's own space), wherever list and volume stand now."""
    defined = import_slicer().vtkMRMLMarkupsNode.PositionDefined
    found = []
    for index in range(points.GetNumberOfControlPoints()):
        if points.GetNthControlPointPositionStatus(index) == defined:
            position = [0.0, 0.0, 0.0]
            points.GetNthControlPointPosition(index, position)
            found.append(position)
    return tuple(tuple(float(v) for v in p) for p in _to_volume(volume_node, points, found))


def detections_of(volume_node: vtkMRMLScalarVolumeNode) -> tuple[vtkMRMLTableNode, ...]:
    """The tables of findings (`show_detections`) about a volume, the latest first; not those of hot spots, which are places to look at."""
    tables = reversed(_all(volume_node.GetScene(), "vtkMRMLTableNode"))
    about = (t for t in tables if t.GetAttribute(STUDY) and t.GetNodeReferenceID(ABOUT) == volume_node.GetID())
    return tuple(t for t in about if t.GetAttribute(HEATMAP) is None)


def shown_findings(volume_node: vtkMRMLScalarVolumeNode, table_node: vtkMRMLTableNode) -> tuple[Finding, ...]:
    """The findings of `show_detections` whose boxes are shown, as these stand in the scene now. Raises `DataError`."""
    shown = {
        node.GetAttribute(FINDING)
        for node in _nodes_of(table_node, SHOWN_WITH)
        if node.IsA("vtkMRMLMarkupsROINode") and _is_shown(node)
    }
    return tuple(f for f in study_from_nodes(volume_node, table_node).findings if f.id in shown)


def start_placing(node: Any) -> None:
    """Let the next click in a view place a point of a markups node (inside the application; elsewhere nothing clicks)."""
    scene = node.GetScene()
    node.CreateDefaultDisplayNodes()
    selection = scene.GetNodeByID("vtkMRMLSelectionNodeSingleton")
    interaction = scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    if selection is None or interaction is None:
        return
    selection.SetReferenceActivePlaceNodeClassName(node.GetClassName())
    selection.SetActivePlaceNodeID(node.GetID())
    interaction.SetPlaceModePersistence(0)
    interaction.SetCurrentInteractionMode(interaction.Place)


def _is_shown(node: Any) -> bool:
    display = node.GetDisplayNode()
    return display is not None and bool(display.GetVisibility())


def _is_placed(roi: Any) -> bool:
    return min(roi.GetSize()) > 0


def _to_volume(volume_node: Any, node: Any, points: Any) -> list[np.ndarray]:
    """Points in a node's own space (RAS) in the space of a volume's voxels (LPS), through the transforms of both."""
    import vtk

    slicer = import_slicer()
    between = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        node.GetParentTransformNode(), volume_node.GetParentTransformNode(), between
    )
    return [_LPS_TO_RAS[:3, :3] @ between.TransformPoint(*map(float, p)) for p in points]


# --- files -----------------------------------------------------------------------------------------------------------


def save_scene(scene: vtkMRMLScene, path: str | os.PathLike) -> Path:
    """Write the scene and all its data as one ``.mrb`` file, whole or not at all.

    Raises
    ------
    OutputError : the name does not end in .mrb, or the file cannot be written.
    """
    slicer = import_slicer()
    path = Path(path)
    if path.suffix.lower() != ".mrb":
        raise OutputError(f"{path} cannot be written: a scene's file name must end in .mrb.")
    with atomic_path(path) as temporary, tempfile.TemporaryDirectory(dir=temporary.parent, prefix=".tmp-") as folder:
        # MRML names the folder inside the bundle after the file, so the file needs its final name while it is made.
        bundle = Path(folder).absolute() / path.name  # MRML takes no relative path
        messages = slicer.vtkMRMLMessageCollection()
        if not scene.WriteToMRB(str(bundle), None, messages) or not bundle.is_file():
            reason = " ".join(messages.GetAllMessagesAsString().split())
            raise OutputError(
                f"{path} cannot be written: the scene was not saved{f' ({reason})' if reason else ''}; "
                "check the free space and the permissions of its folder."
            )
        os.replace(bundle, temporary)
    return path


def write_scene(path: str | os.PathLike, image: sitk.Image, study: Study, name: str | None = None) -> Path:
    """A scene file of one image and its study, made in a scene of its own. A 2D image opens in the red view, a volume in
    three slice views and a 3D view at its first finding.

    Parameters
    ----------
    path : the ``.mrb`` file.
    image : what the study is about, on the study's grid.
    name : of the volume; by default the image's file name without its ending.

    Raises
    ------
    DependencyError : slicer-core is not installed.
    DataError, ImageError, OutputError : see `show_study`, `add_volume` and `save_scene`.
    """
    with private_scene() as scene:
        # Only an ending that begins with a letter is one: DICOM files are named 1.2.840.113619.2.5.
        name = name or re.sub(r"(\.nii)?\.[A-Za-z]\w*$", "", Path(study.image.path).name) or "image"
        volume = add_volume(scene, image, name, study.image.spacing_known)
        if study.image.acquisition is not None:
            add_acquisition_transform(scene, volume, study.image.acquisition)
        if shows_masks(study):
            show_study(scene, study, volume)
        else:
            show_detections(scene, study, volume)
        if min(image.GetSize()) > 1 and image.GetDimension() == 3:
            _open_at_finding(scene, study, volume)
        else:
            _open_in_red_view(scene, volume)
        if study.heatmap is not None:
            from .mrml_heatmap import FULL
            from .mrml_overlay import add_map, show_over

            show_over(volume, add_map(scene, study.heatmap, volume, "heatmap", FULL))
        if study.activation is not None:  # over the heatmap: where there are grades, these are asked about
            from .activation import PERCENT
            from .mrml_overlay import add_map, show_over

            show_over(volume, add_map(scene, study.activation, volume, "activation", PERCENT))
        return save_scene(scene, path)


# --- grids -----------------------------------------------------------------------------------------------------------


def placed(study: Study, volume_node: vtkMRMLScalarVolumeNode, pixel_spacing: float | None = None) -> Study:
    """A study where its volume is now: one that was moved since it was analysed (centred, a transform hardened) takes its findings along.

    Studies with two-dimensional coordinates follow their pixels anyway, and come back as they are.

    Parameters
    ----------
    pixel_spacing : see `add_segmentation`.

    Raises
    ------
    DataError : the voxels are of another spacing now, so that figures and boxes would be wrong, or the volume was mirrored.
    """
    return on_grid(study, _grid_now(study.image, volume_node, pixel_spacing))


def on_grid(study: Study, info: ImageInfo) -> Study:
    """A study on another grid of as many voxels, about the same voxels as before. Masks and maps, which count by voxel here, stay as they are;
    on a grid of another size, so does all. A 2D image and a volume of one slice of its size are as large."""
    before, after = _slice_last(study.image), _slice_last(info)
    if info == study.image or _size_along(study.image, before) != _size_along(info, after):
        return study
    move = _pixel_to_lps(info)[:, [*after, 3]] @ np.linalg.inv(_pixel_to_lps(study.image)[:, [*before, 3]])
    scale = _grid_3d(info)[0][after] / _grid_3d(study.image)[0][before]

    def there(point: Sequence[float]) -> tuple[float, ...]:
        return tuple(float(v) for v in (move @ [*point, 1.0])[:3])

    def moved(finding: Finding) -> Finding:
        size = np.zeros(3)
        size[after] = np.array(finding.box.size)[before] * scale
        if info.dimension != study.image.dimension:  # a box has no thickness in a 2D image, that of the slice in a volume
            size[after[-1]] = 0 if info.dimension == 2 else _grid_3d(info)[0][after[-1]]
        box = Box(there(finding.box.center), tuple(size.tolist()))
        peak = [finding.evidence.get(name) for name in _PEAK]
        evidence = {} if None in peak else dict(zip(_PEAK, there(peak), strict=True))
        return replace(finding, box=box, evidence={**finding.evidence, **evidence})

    provenance, nipple = study.provenance, study.provenance.get(NIPPLE)
    if nipple:
        provenance = {**provenance, NIPPLE: {**nipple, "position": list(there(nipple["position"]))}}
    return replace(study, image=info, findings=tuple(map(moved, study.findings)), provenance=provenance)


def _grid_now(info: ImageInfo, volume_node: Any, pixel_spacing: float | None = None) -> ImageInfo:
    """The grid of an image where its volume is now, see `placed`; another one's as it is. A curved sweep lies in the body where its own grid
    says, and stays there."""
    here = info_of(volume_node)
    if info.dimension == 2 or info.acquisition is not None or info.size != here.size:
        return info
    if pixel_spacing:  # which the volume is about to get
        here = replace(here, spacing=info.spacing)
    if _same_voxels(info, here):
        return info
    if not np.allclose(info.spacing, here.spacing, rtol=1e-3):
        before, now = (" x ".join(f"{s:g}" for s in grid.spacing) for grid in (info, here))
        raise DataError(
            f"{here.path} had voxels of {before} mm when it was analysed and has voxels of {now} mm now; repeat the analysis."
        )
    if np.linalg.det(_pixel_to_lps(info)) * np.linalg.det(_pixel_to_lps(here)) < 0:
        raise DataError(
            f"{here.path} was mirrored since it was analysed, or moved with its slices in the other order; repeat the analysis."
        )
    return replace(info, origin=here.origin, direction=here.direction)


def _same_voxels(one: ImageInfo, other: ImageInfo) -> bool:
    """Whether the voxels of two 3D grids of one size are at the same places, in the same order or reversed along some axes."""
    last = np.array(one.size) - 1
    corners = np.array([np.zeros(3), *np.diag(last)])  # the first voxel, and the one at the end of each axis
    between = np.linalg.inv(_pixel_to_lps(other)) @ _pixel_to_lps(one)
    index = corners @ between[:3, :3].T + between[:3, 3]
    reverse = index[0] > last / 2
    return bool(np.abs(index - np.where(reverse, last - corners, corners)).max() < _NEAR)


@dataclass(frozen=True)
class _Frame:
    """How a study's coordinates lie in a volume node's own space.

    A 3D study and its volume share physical space (`placed`); the order of the voxels may differ, as Slicer reverses the slices
    of left-handed images when it reads them. A 2D study and its slice share the pixels; the slice may lie along any
    axis of the volume, and its own two axes come first here.

    Attributes
    ----------
    pixel_to_ras : 4x4, index of a pixel of the study's image -> node RAS mm.
    to_ras : 4x4, study LPS mm -> node RAS mm.
    axes : 3x3, the image's axes as columns, RAS.
    scale : node mm per study mm along each axis.
    thickness : of the one slice of a 2D image, mm; None in 3D.
    """

    pixel_to_ras: np.ndarray
    to_ras: np.ndarray
    axes: np.ndarray
    scale: np.ndarray
    thickness: float | None

    @classmethod
    def of(cls, info: ImageInfo, volume_node: vtkMRMLScalarVolumeNode) -> _Frame:
        data = volume_node.GetImageData()
        size = (0, 0, 0) if data is None else data.GetDimensions()
        order = _plane_first(volume_node) if info.dimension == 2 else (0, 1, 2)
        if tuple(size[axis] for axis in order) != (*info.size, 1)[:3]:
            raise DataError(
                f"the study is about {info.path} with {' x '.join(map(str, info.size))} pixels, the volume "
                f"{volume_node.GetName()} has {' x '.join(map(str, size))}; choose the volume that was analysed."
            )
        spacing, _origin, axes = _grid_3d(info)
        pixel_to_lps = _pixel_to_lps(info)
        if info.dimension == 3:
            return cls(
                pixel_to_ras=_LPS_TO_RAS @ pixel_to_lps,
                to_ras=_LPS_TO_RAS,
                axes=_LPS_TO_RAS[:3, :3] @ axes,
                scale=np.ones(3),
                thickness=None,
            )
        first = np.eye(4)
        first[:3, 3] = data.GetExtent()[::2]  # a cropped volume may start at another index than 0
        pixel_to_ras = (_ijk_to_ras(volume_node) @ first)[:, [*order, 3]]
        node_spacing = np.array(volume_node.GetSpacing())[[*order]]
        return cls(
            pixel_to_ras=pixel_to_ras,
            to_ras=pixel_to_ras @ np.linalg.inv(pixel_to_lps),
            axes=_axes(volume_node)[:, [*order]],
            scale=node_spacing / spacing,
            thickness=float(node_spacing[2]),
        )

    @property
    def box_axes(self) -> np.ndarray:
        """The image's axes as an ROI needs them."""
        return _right_handed(self.axes)

    def to_node(self, box: Box) -> tuple[np.ndarray, np.ndarray]:
        """Centre (RAS) and size of a study's box in the node's space."""
        center = (self.to_ras @ [*box.center, 1.0])[:3]
        size = np.array(box.size) * self.scale
        if self.thickness is not None:
            size[2] = self.thickness
        return center, size

    def from_node(self, roi: vtkMRMLMarkupsROINode) -> Box:
        """The study's box of an ROI node."""
        center = np.linalg.inv(self.to_ras) @ [*roi.GetCenter(), 1.0]
        roi_axes = _object_to_node(roi)[:3, :3]
        # The smallest box along the image's axes around an oriented one: project its half edges on each axis.
        size = np.abs(np.linalg.inv(self.axes) @ roi_axes) @ np.array(roi.GetSize()) / self.scale
        if self.thickness is not None:
            center[2], size[2] = 0.0, 0.0
        return Box(tuple(center[:3]), tuple(size))


def _grid_3d(info: ImageInfo) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spacing (3), origin (3, LPS) and axes (3x3, columns) of an image; 2D images lie at z = 0, 1 mm thick."""
    d = info.dimension
    spacing, origin, axes = np.ones(3), np.zeros(3), np.eye(3)
    spacing[:d], origin[:d] = info.spacing, info.origin
    axes[:d, :d] = np.reshape(info.direction, (d, d))
    return spacing, origin, axes


def _pixel_to_lps(info: ImageInfo) -> np.ndarray:
    """4x4, index of a pixel -> LPS mm; see `_grid_3d`."""
    spacing, origin, axes = _grid_3d(info)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = axes * spacing, origin
    return matrix


def _slice_last(info: ImageInfo) -> list[int]:
    """The three axes of an image, that of a single slice last; a 2D image's third is across it."""
    across = max((axis for axis, n in enumerate(info.size) if n == 1), default=2) if info.dimension == 3 else 2
    return [*(axis for axis in range(3) if axis != across), across]


def _size_along(info: ImageInfo, axes: Sequence[int]) -> tuple[int, ...]:
    """Voxels along these axes; a 2D image has one across it."""
    return tuple((*info.size, 1)[axis] for axis in axes)


def _plane_first(node: Any) -> tuple[int, int, int]:
    """A volume's axes, those of its one slice first and the one across it last (see `grid.as_2d`)."""
    data = node.GetImageData()
    size = (0, 0, 0) if data is None else data.GetDimensions()
    across = max((axis for axis in range(3) if size[axis] == 1), default=2)
    return (*(axis for axis in range(3) if axis != across), across)


def _ijk_to_ras(node: Any) -> np.ndarray:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


def _axes(node: Any) -> np.ndarray:
    """The volume's axes as columns, RAS, without its parent transform."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASDirectionMatrix(matrix)
    return np.array([[matrix.GetElement(r, c) for c in range(3)] for r in range(3)])


def _right_handed(axes: np.ndarray) -> np.ndarray:
    """Axes (columns) as an ROI needs them; a box looks the same with an axis reversed."""
    return axes * (1, 1, -1) if np.linalg.det(axes) < 0 else axes


def _object_to_node(roi: Any) -> np.ndarray:
    """4x4, a box's own coordinates -> node RAS mm."""
    matrix = roi.GetObjectToNodeMatrix()
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


def _vtk_matrix(values: np.ndarray) -> Any:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(np.asarray(values, float).ravel())
    return matrix


# --- voxels ----------------------------------------------------------------------------------------------------------


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


def _voxels(image: sitk.Image, name: str) -> np.ndarray:
    """The pixels (z, y, x) in a type that VTK in Slicer takes."""
    if image.GetDimension() not in (2, 3):
        raise ImageError(f"{name} has {image.GetDimension()} dimensions; a volume needs 2 or 3.")
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise ImageError(f"{name} has several components a pixel; convert it to grey values first.")
    voxels = sitk.GetArrayFromImage(image)
    if np.iscomplexobj(voxels):
        raise ImageError(f"{name} has complex values; convert it to magnitudes first.")
    if voxels.dtype in (np.int64, np.uint64):
        limits = np.iinfo(np.int32)
        fits = voxels.size == 0 or (limits.min <= voxels.min() and voxels.max() <= limits.max)
        voxels = voxels.astype(np.int32 if fits else np.float64)
    return voxels if voxels.ndim == 3 else voxels[np.newaxis]


def _image_data(voxels: np.ndarray, data: Any) -> Any:
    """Fill a new VTK image with voxels (z, y, x)."""
    from vtk.util.numpy_support import get_vtk_array_type, numpy_to_vtk

    data.SetDimensions(*voxels.shape[::-1])
    array = numpy_to_vtk(np.ascontiguousarray(voxels).ravel(), deep=True, array_type=get_vtk_array_type(voxels.dtype))
    array.SetName("ImageScalars")
    data.GetPointData().SetScalars(array)
    return data


def _labelmap(voxels: np.ndarray, frame: _Frame, first: tuple[int, int, int] = (0, 0, 0)) -> Any:
    """Voxels (z, y, x) as a segment's labelmap, the first of which lies at (x, y, z) `first` of the image that the frame is about."""
    import vtk

    labelmap = _image_data(voxels, import_slicer().vtkOrientedImageData())
    labelmap.SetExtent([edge for at, n in zip(first, voxels.shape[::-1], strict=True) for edge in (at, at + n - 1)])
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(frame.pixel_to_ras.ravel())
    labelmap.SetImageToWorldMatrix(matrix)
    return labelmap


def _mask(segmentation_node: Any, segment_id: str, frame: _Frame, info: ImageInfo) -> sitk.Image:
    """A segment as uint8 image on the study's grid, whatever extent the editor left it with."""
    shape = (*info.size, 1)[2::-1]
    inside = _own_voxels(segmentation_node.GetSegmentation().GetSegment(segment_id), frame, shape)
    if inside is None:
        inside = _resampled_voxels(segmentation_node, segment_id, frame, shape)
    mask = sitk.GetImageFromArray(inside if info.dimension == 3 else inside[0])
    mask.SetSpacing(info.spacing)
    mask.SetOrigin(info.origin)
    mask.SetDirection(info.direction)
    return mask


def _own_voxels(segment: Any, frame: _Frame, shape: tuple[int, int, int]) -> np.ndarray | None:
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


def _resampled_voxels(segmentation_node: Any, segment_id: str, frame: _Frame, shape: tuple[int, int, int]) -> np.ndarray:
    """The same of a segment on any grid, or without a labelmap: by Slicer, on the whole grid of the image."""
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    slicer = import_slicer()
    reference = _labelmap(np.zeros(shape, np.uint8), frame)
    merged = slicer.vtkOrientedImageData()
    ids = vtk.vtkStringArray()
    ids.InsertNextValue(segment_id)
    if not segmentation_node.GenerateMergedLabelmapForAllSegments(
        merged, slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY, reference, ids
    ):
        return np.zeros(shape, np.uint8)
    return (vtk_to_numpy(merged.GetPointData().GetScalars()).reshape(shape) != 0).astype(np.uint8)


def _is_drawn(segmentation_node: Any, segment_id: str) -> bool:
    """Whether a segment's labelmap holds any voxel; a person may have emptied it."""
    from vtk.util.numpy_support import vtk_to_numpy

    segment = segmentation_node.GetSegmentation().GetSegment(segment_id)
    labelmap = segment.GetRepresentation(import_slicer().vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName())
    scalars = labelmap.GetPointData().GetScalars() if labelmap is not None else None
    return scalars is not None and bool((vtk_to_numpy(scalars) == segment.GetLabelValue()).any())


def _labelmap_matrix(labelmap: Any) -> np.ndarray:
    """4x4, index -> node RAS mm."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    labelmap.GetImageToWorldMatrix(matrix)
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


def _display_range(voxels: np.ndarray) -> tuple[float, float]:
    """Grey values shown as black and white. B-mode images are log-compressed to 8 bits already: all of it."""
    if voxels.dtype == np.uint8:
        return 0.0, 255.0
    finite = voxels[np.isfinite(voxels)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(finite, (0.1, 99.9)))
    return (low, high) if high > low else (low, low + 1.0)


# --- nodes -----------------------------------------------------------------------------------------------------------


def _all(scene: Any, kind: str) -> list[Any]:
    return [scene.GetNthNodeByClass(i, kind) for i in range(scene.GetNumberOfNodesByClass(kind))]


def _save_undo_state(scene: Any) -> None:
    if scene.GetUndoFlag():
        scene.SaveStateForUndo()


def place_beside(scene: Any, node: Any, volume_node: Any) -> None:
    """Under the volume's transform, and beside the volume in the data tree."""
    if node.IsA("vtkMRMLTransformableNode"):
        node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    tree = scene.GetSubjectHierarchyNode()
    tree.SetItemParent(_item_of(scene, node), tree.GetItemParent(_item_of(scene, volume_node)))


def _item_of(scene: Any, node: Any) -> int:
    """The node's item in the subject hierarchy; inside the application it is there already."""
    tree = import_slicer().vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = tree.GetItemByDataNode(node) or tree.CreateItem(tree.GetSceneItemID(), node)
    if not tree.GetItemOwnerPluginName(item):
        for kind, plugin in _TREE_PLUGINS:
            if node.IsA(kind):
                tree.SetItemOwnerPluginName(item, plugin)
    return item


def _color_markup(display: Any, index: int) -> None:
    display.SetColor(*lesion_color(index))
    display.SetSelectedColor(*lesion_color(index))


def _tag(segment: Any, name: str) -> str | None:
    import vtk

    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else None


def _own_segments(segmentation_node: Any) -> list[str]:
    """Ids of the segments that BreastUSAI made."""
    segmentation = segmentation_node.GetSegmentation()
    return [
        segment_id
        for segment_id in segmentation.GetSegmentIDs()
        if (_tag(segmentation.GetSegment(segment_id), ALGORITHM_NAME_TAG) or "").startswith("BreastUSAI")
    ]


def _holds_others(segmentation_node: Any) -> bool:
    """Whether a segmentation has segments that BreastUSAI did not make."""
    return len(_own_segments(segmentation_node)) < segmentation_node.GetSegmentation().GetNumberOfSegments()


def _segments_by_finding(segmentation_node: Any) -> dict[str, str]:
    """Finding id -> segment id."""
    segmentation = segmentation_node.GetSegmentation()
    found = {}
    for segment_id in segmentation.GetSegmentIDs():
        finding_id = _tag(segmentation.GetSegment(segment_id), FINDING)
        if finding_id is not None:
            found.setdefault(finding_id, segment_id)
    return found


def _nodes_of(shown: Any, role: str = BELONGS_TO) -> list[Any]:
    """The boxes, points and tables that were made with a segmentation, or with a table (role `SHOWN_WITH`)."""
    scene = shown.GetScene()
    found = []
    for kind in ("vtkMRMLMarkupsROINode", "vtkMRMLMarkupsFiducialNode", "vtkMRMLTableNode"):
        found += [n for n in _all(scene, kind) if n.GetNodeReferenceID(role) == shown.GetID()]
    return found


def _figures(study: Study) -> dict[str, list[float | None]]:
    """Column -> one value a finding; columns without any value are left out, except the score."""
    rows = []
    for finding in study.findings:
        row: dict[str, float | None] = {"score": finding.score, "malignancy": finding.malignancy}
        row["solid_nodule"] = finding.solid_nodule
        row.update({f"birads_{k}": v for k, v in (finding.birads or {}).items()})
        row.update({k: v for k, v in finding.measurements.items() if v is None or isinstance(v, (int, float))})
        rows.append(row)
    columns = list(dict.fromkeys(["score", *(key for row in rows for key in row)]))
    table = {column: [row.get(column) for row in rows] for column in columns}
    return {k: v for k, v in table.items() if k == "score" or any(x is not None for x in v)}


def _title_and_unit(column: str) -> tuple[str, str]:
    """``area_mm2`` -> ("Area", "mm2")."""
    stem, _, unit = column.rpartition("_")
    if not stem or unit not in _UNITS:
        stem, unit = column, ""
    title = stem.replace("birads_", "BI-RADS ").replace("_", " ")
    return title[:1].upper() + title[1:], unit


def shows_masks(study: Study) -> bool:
    """Whether a study is about outlines: a 2D image always, a volume where its findings have any."""
    return study.image.dimension == 2 or 1 in study.image.size or any(f.mask is not None for f in study.findings)


def _open_at_finding(scene: Any, study: Study, volume_node: Any) -> None:
    """Let the scene open with a volume in the four-up layout, all slices through the centre of its first finding, or its own."""
    slicer = import_slicer()
    layouts = slicer.vtkMRMLLayoutLogic()
    logics = []
    try:
        layouts.SetMRMLScene(scene)
        layouts.GetLayoutNode().SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        for name in ("Red", "Green", "Yellow"):
            logic = slicer.vtkMRMLSliceLogic()
            logics.append(logic)
            logic.SetMRMLScene(scene)
            logic.SetSliceNode(scene.GetSingletonNode(name, "vtkMRMLSliceNode"))
            logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume_node.GetID())
            logic.GetSliceNode().RotateToVolumePlane(volume_node)
            logic.FitSliceToVolume(volume_node, 512, 512)
        frame = _Frame.of(study.image, volume_node)
        if study.findings:
            center, _ = frame.to_node(study.physical_box(study.findings[0]))
            jump = slicer.vtkMRMLSliceNode.OffsetJumpSlice
            slicer.vtkMRMLSliceNode.JumpAllSlices(scene, *center, jump)
        scene.GetNodeByID("vtkMRMLSelectionNodeSingleton").SetActiveVolumeID(volume_node.GetID())
    finally:
        for logic in logics:
            logic.SetMRMLScene(None)
        layouts.SetMRMLScene(None)


def _open_in_red_view(scene: Any, volume_node: Any) -> None:
    """Let the scene open with the image alone, upright, filling the red slice view."""
    slicer = import_slicer()
    layouts, slices = slicer.vtkMRMLLayoutLogic(), slicer.vtkMRMLSliceLogic()
    try:
        layouts.SetMRMLScene(scene)
        layouts.GetLayoutNode().SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
        view = scene.GetSingletonNode("Red", "vtkMRMLSliceNode")
        slices.SetMRMLScene(scene)
        slices.SetSliceNode(view)
        slices.GetSliceCompositeNode().SetBackgroundVolumeID(volume_node.GetID())
        across, up = _axes(volume_node)[:, 0], -_axes(volume_node)[:, 1]
        matrix = view.GetSliceToRAS()
        for column, axis in enumerate((across, up, np.cross(up, across))):  # left-handed, as all of Slicer's views
            for row in range(3):
                matrix.SetElement(row, column, axis[row])
        view.UpdateMatrices()
        slices.FitSliceToVolume(volume_node, 512, 512)
        scene.GetNodeByID("vtkMRMLSelectionNodeSingleton").SetActiveVolumeID(volume_node.GetID())
    finally:
        slices.SetMRMLScene(None)
        layouts.SetMRMLScene(None)
