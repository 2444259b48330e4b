"""The grades of an image's findings in a scene: a table of them, and where the networks looked.

Beside `mrml`, which makes the findings' own nodes: those stay as they are. The table keeps the study, so that a panel shows a grade's
probabilities again after the scene was saved and opened.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import mrml
from .activation import PERCENT
from .errors import DataError
from .findings import BIRADS_CATEGORIES, Finding, Study
from .grade_terms import WORDS, words_of
from .mrml_overlay import add_map, map_over, remove_map, show_from, show_over
from .slicer_runtime import import_slicer

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLScene, vtkMRMLSegmentationNode, vtkMRMLTableNode

GRADES = "BreastUSAI.Grades"  # attribute of the table: the study's JSON
GRADED = "BreastUSAIGradedVolume"  # node reference from the table to the image
MAP = "BreastUSAIActivation"  # node reference from the table to the map of where the networks looked
OUTLINES = "BreastUSAIGradedOutlines"  # node reference from the table to a segmentation that was made along with it
_TITLES = {
    "birads_category": "BI-RADS",
    "birads_shape": "Shape",
    "birads_margin": "Margin",
    "birads_margin_kinds": "Margin, not circumscribed",
    "birads_echogenicity": "Echo pattern",
    "birads_posterior": "Posterior features",
    "birads_halo": "Echogenic halo",
    "birads_calcifications": "Calcifications",
}


@dataclass(frozen=True)
class GradeNodes:
    """The nodes of a study's grades; `activation` is None where the networks do not tell where they looked, `outlines` where there were
    findings before."""

    volume: vtkMRMLScalarVolumeNode
    table: vtkMRMLTableNode
    activation: vtkMRMLScalarVolumeNode | None
    outlines: vtkMRMLSegmentationNode | None


def show_grades(
    scene: vtkMRMLScene,
    study: Study,
    volume_node: vtkMRMLScalarVolumeNode,
    table_node: vtkMRMLTableNode | None = None,
    *,
    outlines: bool = False,
) -> GradeNodes:
    """Table and map of a study's grades, beside the image in the data tree and under its transform; undo state saved first.

    Parameters
    ----------
    table_node : None for a new one. One that is given is replaced, and with it its map and its outlines; segments that a person drew stay.
    outlines : whether the findings are new in the scene and their segmentation, boxes and points are shown as well (`mrml.show_study`).

    Raises
    ------
    DataError : the study is about an image of another size than the volume, or see `mrml.placed`; nothing was changed then.
    """
    study = mrml.placed(study, volume_node)
    for finding in study.findings[:1]:
        mrml.finding_position(volume_node, study, finding)  # refuses studies of other images
    before = None if table_node is None else table_node.GetNodeReference(OUTLINES)
    segmentation = None
    if outlines:
        old = before if before is not None and mrml.may_hold(before, volume_node) else None
        segmentation = mrml.show_study(scene, study, volume_node, old).segmentation
        if before is not None and before is not segmentation:
            mrml.remove_study(before)  # a person drew into it, and the image stands under another transform now
    elif scene.GetUndoFlag():
        scene.SaveStateForUndo()
    table = _table(scene, study, volume_node, table_node)
    old = table.GetNodeReference(MAP)
    if old is not None:
        remove_map(old)
    activation = None
    if study.activation is not None:
        activation = add_map(scene, study.activation, volume_node, "activation", PERCENT)
    table.SetAttribute(GRADES, json.dumps(study.to_dict(), allow_nan=False))
    table.SetNodeReferenceID(GRADED, volume_node.GetID())
    table.SetNodeReferenceID(MAP, None if activation is None else activation.GetID())
    if segmentation is not None:
        table.SetNodeReferenceID(OUTLINES, segmentation.GetID())
    return GradeNodes(volume_node, table, activation, segmentation)


def graded(table_node: vtkMRMLTableNode) -> Study | None:
    """The study that `show_grades` showed with a table, without masks; None where the table is another one. Raises `DataError`."""
    text = table_node.GetAttribute(GRADES)
    return None if text is None else Study.from_json(text, source=f"the table {table_node.GetName()}")


def holds_other_grades(table_node: vtkMRMLTableNode, volume_node: vtkMRMLScalarVolumeNode) -> bool:
    """Whether a table holds anything but the grades of this very image; an empty one holds nothing."""
    if table_node.GetAttribute(GRADES) is None:
        return table_node.GetNumberOfColumns() > 0
    return table_node.GetNodeReferenceID(GRADED) != volume_node.GetID()


def jump_to_graded(table_node: vtkMRMLTableNode, row: int) -> tuple[float, float, float] | None:
    """Let all slice views show the finding in a row; returns where, world RAS mm, or None where the image was removed."""
    study, volume = graded(table_node), table_node.GetNodeReference(GRADED)
    if study is None or volume is None or not 0 <= row < len(study.findings):
        return None
    try:
        study = mrml.placed(study, volume)
    except DataError:  # a volume whose voxels have another spacing now: the place as it was graded; in an image, the same pixels
        study = study if mrml.is_volume(volume) else mrml.on_grid(study, mrml.info_of(volume))
    center = mrml.finding_position(volume, study, study.findings[row])
    slicer = import_slicer()
    slicer.vtkMRMLSliceNode.JumpAllSlices(table_node.GetScene(), *center, slicer.vtkMRMLSliceNode.CenteredJumpSlice)
    return center


def show_activation(volume_node: vtkMRMLScalarVolumeNode, opacity: float | None, least: float) -> bool:
    """Let the slice views that show a 2D image show where the networks that graded it looked, over it; whether a grading left such a map.

    Parameters
    ----------
    opacity : 0 to 1; None: no map.
    least : the share, 0 to 1, of the strongest activation below which the map is transparent.
    """
    activation = None if mrml.is_volume(volume_node) else map_over(volume_node)  # volumes have maps of their own, in other units
    if activation is None:
        return False
    show_from(activation, least, PERCENT)
    show_over(volume_node, None if opacity is None else activation, opacity or 0.0)
    return True


def _table(scene: Any, study: Study, volume_node: Any, node: Any) -> Any:
    """One row a finding: category, probabilities, descriptors; what nobody said has no column."""
    import vtk

    if node is None:
        name = scene.GenerateUniqueName(f"{volume_node.GetName()} grades")
        node = scene.AddNewNodeByClass("vtkMRMLTableNode", name)
    node.RemoveAllColumns()
    node.SetUseColumnTitleAsColumnHeader(True)
    for name, title, values in _columns(study.findings):
        words = name in ("id", "notes") or any(isinstance(value, str) for value in values)
        array = vtk.vtkStringArray() if words else vtk.vtkDoubleArray()
        array.SetName(name)
        for value in values:
            array.InsertNextValue((value or "") if words else float("nan") if value is None else value)
        node.AddColumn(array)
        node.SetColumnTitle(name, title)
    node.SetLocked(True)
    mrml.place_beside(scene, node, volume_node)
    return node


def _columns(findings: tuple[Finding, ...]) -> list[tuple[str, str, list[str | float | None]]]:
    words = [words_of(f.birads, f.evidence) for f in findings]
    columns: list[tuple[str, str, list[str | float | None]]] = [
        ("malignancy", "Malignancy", [f.malignancy for f in findings]),
        ("threshold", "Malignant from", [f.evidence.get("malignancy_threshold") for f in findings]),
        ("not_sure", "Sure", [_sure(f) for f in findings]),
        ("solid_nodule", "Solid nodule", [f.solid_nodule for f in findings]),
        *((f"birads_{c}", f"BI-RADS {c}", [(f.birads or {}).get(c) for f in findings]) for c in BIRADS_CATEGORIES),
        *((name, _TITLES[name], [w.get(name) for w in words]) for name in WORDS[1:]),
    ]
    category = ("birads_category", _TITLES["birads_category"], [w.get("birads_category") for w in words])
    told = [column for column in (category, *columns) if any(value is not None for value in column[2])]
    notes = [" ".join(f.notes) for f in findings]
    return [("id", "Finding", [f.id for f in findings]), *told, ("notes", "Notes", notes)]


def _sure(finding: Finding) -> str | None:
    unsure = finding.evidence.get("not_sure")
    return None if unsure is None else "not sure" if unsure else "yes"
