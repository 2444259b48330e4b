"""What a scene shows of a study: read back, and gone through finding by finding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import SimpleITK as sitk

from .errors import DataError
from .findings import Finding, Study
from .mrml_analysed import check_analysed
from .mrml_grid import Frame
from .mrml_masks import is_drawn, mask_of
from .mrml_moved import check_lies_on, way_to_volume
from .mrml_names import ABOUT, BELONGS_TO, FINDING, SHOWN_WITH, STUDY
from .mrml_nodes import nodes_with, segments_by_finding
from .mrml_spacing import check_laid_on
from .mrml_volumes import placed
from .slicer_runtime import import_slicer

if TYPE_CHECKING:
    from slicer import (
        vtkMRMLMarkupsFiducialNode,
        vtkMRMLMarkupsROINode,
        vtkMRMLScalarVolumeNode,
        vtkMRMLSegmentationNode,
        vtkMRMLTableNode,
    )


@dataclass(frozen=True)
class ShownParts:
    """What shows the findings of a study in a scene, as far as it is still there (`parts_of`)."""

    boxes: dict[str, vtkMRMLMarkupsROINode]  # finding -> its box
    points: vtkMRMLMarkupsFiducialNode | None
    tables: tuple[vtkMRMLTableNode, ...]
    segments: dict[str, str]  # finding -> id of its segment


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
    for node in nodes_with(table_node, SHOWN_WITH):
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
    for node in nodes_with(table_node, SHOWN_WITH):
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
    center, _ = Frame.of(study.image, volume_node).to_node(finding.box)
    world = [0.0, 0.0, 0.0]
    volume_node.TransformPointToWorld(center.tolist(), world)
    return tuple(world)


def study_from_nodes(
    volume_node: vtkMRMLScalarVolumeNode, shown: vtkMRMLSegmentationNode | vtkMRMLTableNode
) -> Study:
    """The study that `show_study` (its segmentation) or `show_detections` (its table) showed, as it is in the scene now.

    A finding whose box and segment were both deleted is left out; without its segment it has no mask. A box that was
    turned is replaced by the smallest box along the image's axes that holds it. Segments that a person added are no
    findings of a model and are left out. Coordinates are those of the volume as it is now (`placed`); what a transform was hardened on apart
    from the volume is followed through the transforms of both.

    Raises
    ------
    DataError : the node does not hold a study, is about another image, or lies beside its pixels, whose spacing was changed since
        (`OtherSpacingError`; by `set_pixel_spacing` it goes along), or since one of them was moved alone; the volume shows other
        pixels than were analysed; or see `placed`.
    """
    is_table = shown.IsA("vtkMRMLTableNode")
    kind = "table" if is_table else "segmentation"
    text = shown.GetAttribute(STUDY)
    if text is None:
        raise DataError(f"the {kind} {shown.GetName()} was not made by BreastUSAI; choose another one.")
    made = Study.from_json(text, source=f"the {kind} {shown.GetName()}")
    study = placed(made, volume_node)
    frame = Frame.of(study.image, volume_node)
    check_laid_on(shown, kind, volume_node)
    nodes = nodes_with(shown, SHOWN_WITH if is_table else BELONGS_TO)
    check_lies_on(shown, kind, volume_node, made, study, nodes)
    check_analysed(shown, kind, volume_node, study)
    way = None if is_table else way_to_volume(shown, volume_node)
    boxes = _boxes(nodes)
    segments = {} if is_table else segments_by_finding(shown)
    findings = []
    for finding in study.findings:
        roi, segment_id = boxes.get(finding.id), segments.get(finding.id)
        if roi is None and segment_id is None:
            continue
        mask = None if segment_id is None else mask_of(shown, segment_id, frame, study.image, way)
        if mask is not None and not sitk.GetArrayViewFromImage(mask).any() and is_drawn(shown, segment_id):
            raise DataError(
                f"the outline {finding.id} of the {kind} {shown.GetName()} lies outside the image {volume_node.GetName()}; make it again on "
                "the image as it is now."
            )
        findings.append(
            replace(
                finding,
                box=finding.box if roi is None else frame.from_node(roi, way_to_volume(roi, volume_node)),
                mask=mask,
                label=finding.label if mask is not None else None,
            )
        )
    return replace(study, findings=tuple(findings))


def parts_of(shown: vtkMRMLSegmentationNode | vtkMRMLTableNode) -> ShownParts:
    """The nodes and segments that belong to what `show_study` (its segmentation) or `show_detections` (its table) showed."""
    is_table = shown.IsA("vtkMRMLTableNode")
    nodes = nodes_with(shown, SHOWN_WITH if is_table else BELONGS_TO)
    return ShownParts(
        boxes=_boxes(nodes),
        points=next((n for n in nodes if n.IsA("vtkMRMLMarkupsFiducialNode")), None),
        tables=(shown,) if is_table else tuple(n for n in nodes if n.IsA("vtkMRMLTableNode")),
        segments={} if is_table else segments_by_finding(shown),
    )


def _boxes(nodes: list[Any]) -> dict[str, vtkMRMLMarkupsROINode]:
    """Finding -> its box, the first: one that a person copied in a scene of an earlier version, where copies are not known, comes later."""
    found: dict[str, Any] = {}
    for node in nodes:
        if node.IsA("vtkMRMLMarkupsROINode"):
            found.setdefault(node.GetAttribute(FINDING), node)
    return found
