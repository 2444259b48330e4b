"""Where a person points: boxes and points drawn by hand, and findings that are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .findings import Box, Finding
from .mrml_grid import LPS_TO_RAS, axes_of, object_to_node
from .mrml_names import ABOUT, FINDING, HEATMAP, SHOWN_WITH, STUDY
from .mrml_nodes import is_copy, nodes_of_class, nodes_with
from .mrml_shown import study_from_nodes
from .slicer_runtime import import_slicer

if TYPE_CHECKING:
    from slicer import (
        vtkMRMLMarkupsFiducialNode,
        vtkMRMLMarkupsROINode,
        vtkMRMLScalarVolumeNode,
        vtkMRMLScene,
        vtkMRMLTableNode,
    )


def drawn_boxes(scene: vtkMRMLScene) -> tuple[vtkMRMLMarkupsROINode, ...]:
    """The ROIs that a person drew, be it by copying a finding's, and that are shown: not those of findings."""
    rois = nodes_of_class(scene, "vtkMRMLMarkupsROINode")
    return tuple(r for r in rois if (r.GetAttribute(FINDING) is None or is_copy(r)) and _is_placed(r) and _is_shown(r))


def box_of_roi(volume_node: vtkMRMLScalarVolumeNode, roi: vtkMRMLMarkupsROINode) -> Box:
    """The smallest box along the volume's axes (LPS mm, in the volume's own space) around an ROI, wherever both stand now."""
    to_node = object_to_node(roi)
    half = np.array(roi.GetSize()) / 2
    signs = np.array([[x, y, z, 1.0] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    corners = (signs * (*half, 1.0)) @ to_node.T
    local = np.array(_to_volume(volume_node, roi, corners[:, :3]))
    axes = LPS_TO_RAS[:3, :3] @ axes_of(volume_node)
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
    """The tables of findings (`show_detections`) about a volume, the latest first; not those of hot spots, which are places to look at. Copies that
    a person made, which have no boxes, come last."""
    tables = reversed(nodes_of_class(volume_node.GetScene(), "vtkMRMLTableNode"))
    about = (t for t in tables if t.GetAttribute(STUDY) and t.GetNodeReferenceID(ABOUT) == volume_node.GetID())
    return tuple(sorted((t for t in about if t.GetAttribute(HEATMAP) is None), key=is_copy))


def shown_findings(volume_node: vtkMRMLScalarVolumeNode, table_node: vtkMRMLTableNode) -> tuple[Finding, ...]:
    """The findings of `show_detections` whose boxes are shown, as these stand in the scene now. Raises `DataError`."""
    shown = {
        node.GetAttribute(FINDING)
        for node in nodes_with(table_node, SHOWN_WITH)
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
    return [LPS_TO_RAS[:3, :3] @ between.TransformPoint(*map(float, p)) for p in points]
