"""A study shown in a scene, and taken from it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .findings import Study
from .mrml_analysed import keep_analysed
from .mrml_grid import Frame, axes_of
from .mrml_masks import MaskCrop
from .mrml_names import ABOUT, ANALYSED, BELONGS_TO, HEATMAP, PIXELS, SHOWN_WITH, STUDY
from .mrml_nodes import holds_others, nodes_with, own_segments, save_undo_state
from .mrml_parts import add_boxes, add_points, add_segmentation, add_table
from .mrml_spacing import keep_laid_on
from .mrml_volumes import placed
from .slicer_runtime import import_slicer

if TYPE_CHECKING:
    from slicer import (
        vtkMRMLMarkupsFiducialNode,
        vtkMRMLMarkupsROINode,
        vtkMRMLScalarVolumeNode,
        vtkMRMLScene,
        vtkMRMLSegmentationNode,
        vtkMRMLTableNode,
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
    for old in nodes_with(segmentation):
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
    Frame.of(study.image, volume_node)
    save_undo_state(scene)
    for old in nodes_with(table_node, SHOWN_WITH) if table_node is not None else ():
        scene.RemoveNode(old)
    table = add_table(scene, study, volume_node, table_node)
    table.SetAttribute(STUDY, json.dumps(study.to_dict(), allow_nan=False))
    table.SetNodeReferenceID(ABOUT, volume_node.GetID())
    table.RemoveAttribute(HEATMAP)  # one of hot spots holds findings now
    keep_laid_on(table, volume_node)
    keep_analysed(table, study, volume_node)
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
    for node in nodes_with(shown, SHOWN_WITH if is_table else BELONGS_TO):
        scene.RemoveNode(node)
    if is_table or not holds_others(shown):
        scene.RemoveNode(shown)
        return
    for segment_id in own_segments(shown):
        shown.GetSegmentation().RemoveSegment(segment_id)
    shown.RemoveAttribute(STUDY)
    shown.RemoveAttribute(PIXELS)
    shown.RemoveAttribute(ANALYSED)


def shows_masks(study: Study) -> bool:
    """Whether a study is about outlines: a 2D image always, a volume where its findings have any."""
    return study.image.dimension == 2 or 1 in study.image.size or any(f.mask is not None for f in study.findings)


def open_at_finding(scene: Any, study: Study, volume_node: Any) -> None:
    """Let the scene open with a volume in the four-up layout, all slices through the centre of its first finding, or its own."""
    slicer = import_slicer()
    layouts = slicer.vtkMRMLLayoutLogic()
    logics = []
    above = volume_node.GetParentTransformNode()
    flat = above is None or above.IsTransformToWorldLinear()  # a curved sweep has no plane that a view could lie in
    try:
        layouts.SetMRMLScene(scene)
        layouts.GetLayoutNode().SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        for name in ("Red", "Green", "Yellow"):
            logic = slicer.vtkMRMLSliceLogic()
            logics.append(logic)
            logic.SetMRMLScene(scene)
            logic.SetSliceNode(scene.GetSingletonNode(name, "vtkMRMLSliceNode"))
            logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume_node.GetID())
            if flat:
                logic.GetSliceNode().RotateToVolumePlane(volume_node)
            logic.FitSliceToVolume(volume_node, 512, 512)
        frame = Frame.of(study.image, volume_node)
        if study.findings:
            center, _ = frame.to_node(study.physical_box(study.findings[0]))
            jump = slicer.vtkMRMLSliceNode.OffsetJumpSlice
            slicer.vtkMRMLSliceNode.JumpAllSlices(scene, *center, jump)
        scene.GetNodeByID("vtkMRMLSelectionNodeSingleton").SetActiveVolumeID(volume_node.GetID())
    finally:
        for logic in logics:
            logic.SetMRMLScene(None)
        layouts.SetMRMLScene(None)


def open_in_red_view(scene: Any, volume_node: Any) -> None:
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
        across, up = axes_of(volume_node)[:, 0], -axes_of(volume_node)[:, 1]
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
