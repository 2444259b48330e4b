"""Nodes of a scene: finding them, what belongs to what, colours, the data tree, undo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .mrml_names import BELONGS_TO, FINDING, ITSELF, ORIGINAL, SEGMENT
from .slicer_runtime import import_slicer
from .terminology import ALGORITHM_NAME_TAG, lesion_color

# Outside the application nobody says which plugin shows a node in the data tree; Slicer reads it from the scene.
_TREE_PLUGINS = (
    ("vtkMRMLVolumeNode", "Volumes"),
    ("vtkMRMLSegmentationNode", "Segmentations"),
    ("vtkMRMLMarkupsNode", "Markups"),
    ("vtkMRMLTableNode", "Tables"),
    ("vtkMRMLTransformNode", "Transforms"),
)


def image_id(segmentation_node: Any) -> str | None:
    """Id of the volume of a segmentation's reference geometry."""
    return segmentation_node.GetNodeReferenceID(segmentation_node.GetReferenceImageGeometryReferenceRole())


def nodes_of_class(scene: Any, kind: str) -> list[Any]:
    """All nodes of a class in a scene, in its order."""
    return [scene.GetNthNodeByClass(i, kind) for i in range(scene.GetNumberOfNodesByClass(kind))]


def save_undo_state(scene: Any) -> None:
    """Let the scene remember how it is, where it has undo switched on."""
    if scene.GetUndoFlag():
        scene.SaveStateForUndo()


def turn_to(view: Any, volume_node: Any) -> None:
    """Turn a slice view along a volume's axes; under a transform that is not linear, as that of a curved sweep, along its own ones: no plane follows
    bent axes, and Slicer does the same then, but logs an error at each click."""
    import vtk

    above = volume_node.GetParentTransformNode()
    if above is None or above.IsTransformToWorldLinear():
        view.RotateToVolumePlane(volume_node)
        return
    matrix = vtk.vtkMatrix4x4()
    volume_node.GetIJKToRASMatrix(matrix)
    data = volume_node.GetImageData()
    size = () if data is None else data.GetDimensions()
    view.RotateToAxes(matrix, size.index(1) if 1 in size else -1)


def place_beside(scene: Any, node: Any, volume_node: Any) -> None:
    """Under the volume's transform, and beside the volume in the data tree."""
    if node.IsA("vtkMRMLTransformableNode"):
        node.SetAndObserveTransformNodeID(volume_node.GetTransformNodeID())
    tree = scene.GetSubjectHierarchyNode()
    tree.SetItemParent(item_of(scene, node), tree.GetItemParent(item_of(scene, volume_node)))


def item_of(scene: Any, node: Any) -> int:
    """The node's item in the subject hierarchy; inside the application it is there already."""
    tree = import_slicer().vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = tree.GetItemByDataNode(node) or tree.CreateItem(tree.GetSceneItemID(), node)
    if not tree.GetItemOwnerPluginName(item):
        for kind, plugin in _TREE_PLUGINS:
            if node.IsA(kind):
                tree.SetItemOwnerPluginName(item, plugin)
    return item


def color_markup(display: Any, index: int) -> None:
    """The colour of the finding of this number for a markup, chosen or not."""
    display.SetColor(*lesion_color(index))
    display.SetSelectedColor(*lesion_color(index))


@contextmanager
def same_place_list(scene: Any) -> Iterator[None]:
    """Let clicks that place points go where they went before: Slicer gives them to each markups node that is added, also in the middle of placing."""
    selection = scene.GetNodeByID("vtkMRMLSelectionNodeSingleton")
    if selection is None:
        yield
        return
    kind, node_id = selection.GetActivePlaceNodeClassName(), selection.GetActivePlaceNodeID()
    try:
        yield
    finally:
        selection.SetReferenceActivePlaceNodeClassName(kind)
        selection.SetReferenceActivePlaceNodeID(node_id)


def keep_original(node: Any) -> None:
    """Let a node that shows a study be told from copies that a person makes of it (`is_copy`)."""
    node.SetAttribute(ORIGINAL, "1")
    node.SetNodeReferenceID(ITSELF, node.GetID())


def is_copy(node: Any) -> bool:
    """Whether a person made a node from one that shows a study, as by Clone in the data tree: attributes come along, and references in some versions
    of Slicer, so that it refers to that one or to none. Nodes in scenes of earlier versions are taken for no copies."""
    return node.GetAttribute(ORIGINAL) is not None and node.GetNodeReferenceID(ITSELF) != node.GetID()


def _tag(segment: Any, name: str) -> str | None:
    import vtk

    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else None


def own_segments(segmentation_node: Any) -> list[str]:
    """Ids of the segments that BreastUSAI made; a copy of one is the person's who made it."""
    segmentation = segmentation_node.GetSegmentation()
    return [
        segment_id
        for segment_id in segmentation.GetSegmentIDs()
        if (_tag(segmentation.GetSegment(segment_id), ALGORITHM_NAME_TAG) or "").startswith("BreastUSAI")
        and not _is_copied(segmentation, segment_id)
    ]


def _is_copied(segmentation: Any, segment_id: str) -> bool:
    """Whether a segment is a copy of one that BreastUSAI made; those of earlier versions are taken for none."""
    return _tag(segmentation.GetSegment(segment_id), SEGMENT) not in (None, segment_id)


def holds_others(segmentation_node: Any) -> bool:
    """Whether a segmentation has segments that BreastUSAI did not make."""
    return len(own_segments(segmentation_node)) < segmentation_node.GetSegmentation().GetNumberOfSegments()


def segments_by_finding(segmentation_node: Any) -> dict[str, str]:
    """Finding id -> segment id; a copy that a person made stands for the finding only where its own segment was removed."""
    segmentation = segmentation_node.GetSegmentation()
    found = {}
    for segment_id in sorted(segmentation.GetSegmentIDs(), key=lambda i: _is_copied(segmentation, i)):
        finding_id = _tag(segmentation.GetSegment(segment_id), FINDING)
        if finding_id is not None:
            found.setdefault(finding_id, segment_id)
    return found


def nodes_with(shown: Any, role: str = BELONGS_TO) -> list[Any]:
    """The boxes, points and tables that were made with a segmentation, or with a table (role `SHOWN_WITH`); not copies of them that a person made."""
    scene = shown.GetScene()
    found = []
    for kind in ("vtkMRMLMarkupsROINode", "vtkMRMLMarkupsFiducialNode", "vtkMRMLTableNode"):
        found += [n for n in nodes_of_class(scene, kind) if n.GetNodeReferenceID(role) == shown.GetID() and not is_copy(n)]
    return found
