"""A heatmap in a scene: the map over its volume, and its hot spots as boxes, points and a table.

Beside `mrml`, which makes boxes, points and table as of any findings: what works on those works on hot spots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from . import mrml
from .findings import Box, Finding, Study
from .mrml import HEATMAP
from .mrml_overlay import add_map, remove_map, show_from, show_over

if TYPE_CHECKING:
    from slicer import vtkMRMLMarkupsFiducialNode, vtkMRMLScalarVolumeNode, vtkMRMLScene, vtkMRMLTableNode

MAP = "BreastUSAIHeatmap"  # node reference from the table to the map
FULL = 1.0  # heat of the last colour: as much as speaks for a usual lesion
LEAST_HEAT = 0.1


@dataclass(frozen=True)
class HeatNodes:
    """The nodes of a heatmap; `map` is None of a volume without contrast, `points` where there are no hot spots."""

    volume: vtkMRMLScalarVolumeNode
    map: vtkMRMLScalarVolumeNode | None
    boxes: Sequence
    points: vtkMRMLMarkupsFiducialNode | None
    table: vtkMRMLTableNode


def show_heatmap(
    scene: vtkMRMLScene,
    study: Study,
    volume_node: vtkMRMLScalarVolumeNode,
    table_node: vtkMRMLTableNode | None = None,
) -> HeatNodes:
    """Map, boxes, points and table of a study of `workup.run_heatmap`, beside the volume in the data tree and under its transform; undo state
    saved first.

    Points are the hottest places, not the boxes' centres.

    Parameters
    ----------
    table_node : None for a new one. One that is given is replaced, and with it its map, boxes and points.

    Raises
    ------
    DataError : the study is about an image of another size than the volume, or see `mrml.placed`; nothing was changed then.
    """
    study = mrml.placed(study, volume_node)
    old = None if table_node is None else table_node.GetNodeReference(MAP)
    nodes = mrml.show_detections(scene, study, volume_node, table_node)
    if table_node is None:  # by its name a person tells it from one of findings
        nodes.table.SetName(scene.GenerateUniqueName(f"{volume_node.GetName()} hot spots"))
    if old is not None:
        remove_map(old)
    if nodes.points is not None:
        for index, finding in enumerate(study.findings):
            place = mrml.finding_position(volume_node, study, replace(finding, box=Box(_peak(finding), finding.box.size)))
            nodes.points.SetNthControlPointPositionWorld(index, *place)
    nodes.table.SetAttribute(HEATMAP, "1")
    _add_heat(nodes.table, study)
    node = None
    if study.heatmap is not None:
        node = add_map(scene, study.heatmap, volume_node, "heatmap", FULL)
    nodes.table.SetNodeReferenceID(MAP, None if node is None else node.GetID())
    return HeatNodes(volume_node, node, nodes.boxes, nodes.points, nodes.table)


def _add_heat(table: vtkMRMLTableNode, study: Study) -> None:
    """A column of how hot each hot spot is."""
    import vtk

    array = vtk.vtkDoubleArray()
    array.SetName("heat_peak")
    for finding in study.findings:
        array.InsertNextValue(finding.evidence.get("heat_peak", float("nan")))
    table.AddColumn(array)
    table.SetColumnTitle("heat_peak", "Heat")


def _peak(finding: Finding) -> tuple[float, float, float]:
    """The hottest place of a hot spot, LPS mm; its box's centre where the study does not say."""
    return tuple(finding.evidence.get(f"peak_{axis}", c) for axis, c in zip("xyz", finding.box.center, strict=True))


def is_heatmap(table_node: vtkMRMLTableNode) -> bool:
    """Whether a table is of hot spots (`show_heatmap`)."""
    return table_node.GetAttribute(HEATMAP) is not None


def map_of(table_node: vtkMRMLTableNode) -> vtkMRMLScalarVolumeNode | None:
    """The map that belongs to a table of hot spots; None where there is none (any more)."""
    return table_node.GetNodeReference(MAP)


def show_map(table_node: vtkMRMLTableNode, opacity: float | None, least_heat: float = LEAST_HEAT) -> int:
    """Let the slice views that show a table's volume show its map over it; the number of these views.

    Parameters
    ----------
    opacity : 0 to 1; None: no map.
    least_heat : what is colder is transparent, 0 to 1.
    """
    volume, node = table_node.GetNodeReference(mrml.ABOUT), map_of(table_node)
    if volume is None or node is None:
        return 0
    show_from(node, least_heat, FULL)
    return show_over(volume, None if opacity is None else node, opacity or 0.0)
