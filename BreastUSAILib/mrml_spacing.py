"""The pixel spacing that a person gives an image, and what was found in it before, which stays on its pixels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import DataError, ImageError, OtherSpacingError
from .mrml_grid import axes_of, ijk_to_ras, object_to_node, plane_first, right_handed, vtk_matrix
from .mrml_moved import way_to_volume
from .mrml_names import ABOUT, PIXELS, SHOWN_WITH, SPACING_KNOWN, STUDY
from .mrml_nodes import image_id, nodes_of_class, nodes_with, own_segments, save_undo_state
from .mrml_volumes import is_volume, spacing_by_user, spacing_known
from .slicer_runtime import import_slicer

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode


def set_pixel_spacing(node: vtkMRMLScalarVolumeNode, spacing: float) -> None:
    """Say what a pixel of a 2D image measures, in mm, where the file did not; undo state saved first.

    What was found in the image before goes along and covers the same pixels: outlines, boxes, points and maps. Its figures stay what they
    were: pixels where they were measured in pixels, and refused (`placed`) where they were measured in other millimetres.

    Parameters
    ----------
    node : volume of one slice; its slice thickness stays. Where it shows a frame of a sequence, all frames of this pixel spacing, known
        as this is, get the new one; an undo does not reach them.
    spacing : along both axes of the plane; 0 takes back what was said before, and the pixels are 1 mm again.

    Raises
    ------
    ImageError : negative or not finite.
    """
    check_pixel_spacing(node, spacing)
    save_undo_state(node.GetScene())
    apply_pixel_spacing(node, spacing)


def check_pixel_spacing(node: Any, spacing: float) -> None:
    """ImageError where it is no spacing: negative or not finite."""
    if not (np.isfinite(spacing) and spacing >= 0):
        raise ImageError(f"the pixel spacing of {node.GetName()} is {spacing}; it must be a positive number of mm.")


def apply_pixel_spacing(node: Any, spacing: float) -> None:
    """`set_pixel_spacing` without a check or an undo state of its own."""
    if spacing == 0 and not spacing_by_user(node):
        return
    before, known = node.GetSpacing(), _known(node)
    sequence = _sequence_of(node)
    if sequence is not None:  # its frames take the volume's place one after the other, with spacing and attributes
        for frame in (sequence.GetNthDataNode(i) for i in range(sequence.GetNumberOfDataNodes())):
            if _known(frame) == known and np.allclose(_in_plane(frame), _in_plane(node), rtol=1e-3, atol=0):
                _set_in_plane(frame, spacing)
        sequence.StorableModified()
    _set_in_plane(node, spacing)
    _take_along(node, before)


def _sequence_of(node: Any) -> Any | None:
    """The sequence of which a volume shows one frame at a time (module Sequences); None where it shows none."""
    browsers = nodes_of_class(node.GetScene(), "vtkMRMLSequenceBrowserNode")
    return next((s for s in (browser.GetSequenceNode(node) for browser in browsers) if s is not None), None)


def _known(node: Any) -> tuple[bool, bool]:
    """Whether a spacing is known, and whether a person said it."""
    return spacing_known(node), spacing_by_user(node)


def _in_plane(node: Any) -> list[float]:
    """The spacing along both axes of a 2D image, mm."""
    return [node.GetSpacing()[axis] for axis in plane_first(node)[:2]]


def _set_in_plane(node: Any, spacing: float) -> None:
    """The same as a person says it; 0: 1 mm, which nobody knows to be right."""
    values = list(node.GetSpacing())
    for axis in plane_first(node)[:2]:
        values[axis] = spacing or 1.0
    node.SetSpacing(*values)
    node.SetAttribute(SPACING_KNOWN, "user" if spacing else "0")


def _take_along(volume_node: Any, before: Sequence[float]) -> None:
    """Let what was found in an image, and its maps, cover the pixels that they covered when these had the spacing `before`.

    What was laid over yet another spacing, as a person changed it in the module Volumes since, is brought back to its pixels as well.
    Segmentations that a person drew on the image go along where they stand under its transform.
    """
    from .mrml_overlay import is_map_of

    for node in nodes_of_class(volume_node.GetScene(), "vtkMRMLSegmentationNode"):
        mine = node.GetAttribute(STUDY) is not None or bool(own_segments(node))
        if image_id(node) == volume_node.GetID() and (mine or node.GetTransformNodeID() == volume_node.GetTransformNodeID()):
            move = _to_spacing_now(volume_node, _laid_on(node) or before)
            _move_segments(node, _seen_from(node, volume_node, move))
            _move_markups(nodes_with(node), move, volume_node)
            if mine:
                keep_laid_on(node, volume_node)
    for node in nodes_of_class(volume_node.GetScene(), "vtkMRMLTableNode"):
        if node.GetNodeReferenceID(ABOUT) == volume_node.GetID():
            _move_markups(nodes_with(node, SHOWN_WITH), _to_spacing_now(volume_node, _laid_on(node) or before), volume_node)
            keep_laid_on(node, volume_node)
    for node in nodes_of_class(volume_node.GetScene(), "vtkMRMLScalarVolumeNode"):
        if is_map_of(node, volume_node):
            move = _seen_from(node, volume_node, _to_spacing_now(volume_node, before))
            node.SetIJKToRASMatrix(vtk_matrix(move @ ijk_to_ras(node)))
            node.SetAttribute(SPACING_KNOWN, "1" if spacing_known(volume_node) else "0")


def _to_spacing_now(volume_node: Any, before: Sequence[float]) -> np.ndarray:
    """4x4, RAS in the volume's own space: from where its pixels were with the spacing `before` to where they are."""
    now = ijk_to_ras(volume_node)
    then = now.copy()
    then[:3, :3] = axes_of(volume_node) * before
    return now @ np.linalg.inv(then)


def _seen_from(node: Any, volume_node: Any, move: np.ndarray) -> np.ndarray:
    """A move in the volume's space as one in a node's, where a transform was hardened on one of them alone. What stands under a bent transform apart
    from the volume stays where it is, and is refused when it is read."""
    try:
        way = way_to_volume(node, volume_node)
    except DataError:
        return np.eye(4)
    return np.linalg.inv(way) @ move @ way


def _axes_seen_from(node: Any, volume_node: Any) -> np.ndarray:
    """The image's axes as columns, as a box needs them, in a node's space."""
    try:
        way = way_to_volume(node, volume_node)
    except DataError:
        way = np.eye(4)
    axes = np.linalg.inv(way)[:3, :3] @ axes_of(volume_node)
    return right_handed(axes / np.linalg.norm(axes, axis=0))


def _move_segments(segmentation_node: Any, move: np.ndarray) -> None:
    """Move labelmaps without touching a voxel; surfaces are made again."""
    import vtk

    segmentation = segmentation_node.GetSegmentation()
    names: list[str] = []
    segmentation.GetContainedRepresentationNames(names)
    transform = vtk.vtkTransform()
    transform.SetMatrix(vtk_matrix(move))
    segmentation.ApplyLinearTransform(transform)  # and the grid on which a person goes on drawing
    for name in names:
        if name != segmentation.GetSourceRepresentationName():
            segmentation.CreateRepresentation(name, True)


def _move_markups(nodes: Sequence[Any], move: np.ndarray, volume_node: Any) -> None:
    """Move the boxes and points among some nodes, which lie on the pixels of an image; `move`: in the image's space."""
    defined, across_image = import_slicer().vtkMRMLMarkupsNode.PositionDefined, move
    for node in nodes:
        if not node.IsA("vtkMRMLMarkupsNode"):
            continue
        move = _seen_from(node, volume_node, across_image)
        if node.IsA("vtkMRMLMarkupsROINode"):
            _move_box(node, move, _axes_seen_from(node, volume_node))
        elif node.IsA("vtkMRMLMarkupsFiducialNode"):
            for index in range(node.GetNumberOfControlPoints()):
                if node.GetNthControlPointPositionStatus(index) == defined:
                    position = [0.0, 0.0, 0.0]
                    node.GetNthControlPointPosition(index, position)
                    node.SetNthControlPointPosition(index, *(move @ [*position, 1.0])[:3])


def _move_box(roi: Any, move: np.ndarray, image_axes: np.ndarray) -> None:
    """Move an ROI. One that was turned and would be askew becomes the box along the image's axes around it, as which it is read anyway
    (`study_from_nodes`)."""
    matrix, size = object_to_node(roi), np.array(roi.GetSize())
    edges = move[:3, :3] @ matrix[:3, :3]
    lengths = np.linalg.norm(edges, axis=0)
    if not np.allclose((edges / lengths).T @ (edges / lengths), np.eye(3), rtol=0, atol=1e-6):
        size = np.abs(image_axes.T @ matrix[:3, :3]) @ size
        edges = move[:3, :3] @ image_axes
        lengths = np.linalg.norm(edges, axis=0)
    there = np.eye(4)
    there[:3, :3], there[:3, 3] = edges / lengths, (move @ matrix[:, 3])[:3]
    roi.SetAndObserveObjectToNodeMatrix(vtk_matrix(there))
    roi.SetSize(*(size * lengths))


def keep_laid_on(shown: Any, volume_node: Any) -> None:
    """Keep with what shows a study of a 2D image which spacing its pixels have; volumes are known by their study (`placed`)."""
    if is_volume(volume_node):
        shown.RemoveAttribute(PIXELS)
    else:
        shown.SetAttribute(PIXELS, json.dumps(volume_node.GetSpacing()))


def _laid_on(shown: Any) -> tuple[float, ...] | None:
    """The spacing of `keep_laid_on`; None where there is none, as in scenes of earlier versions."""
    text = shown.GetAttribute(PIXELS)
    return None if text is None else tuple(json.loads(text))


def check_laid_on(shown: Any, kind: str, volume_node: Any) -> None:
    """Refuse what lies beside its pixels, since their spacing was changed elsewhere than here, as in the module Volumes."""
    before, now, plane = _laid_on(shown), volume_node.GetSpacing(), plane_first(volume_node)[:2]
    if before is None or all(np.isclose(before[axis], now[axis], rtol=1e-3, atol=0) for axis in plane):
        return
    then, here = (" x ".join(f"{spacing[axis]:g}" for axis in plane) for spacing in (before, now))
    raise OtherSpacingError(
        f"the {kind} {shown.GetName()} was laid over pixels of {then} mm, and the image {volume_node.GetName()} has pixels of {here} mm now; "
        "make it again with this spacing."
    )
