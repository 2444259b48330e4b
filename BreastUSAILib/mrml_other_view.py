"""Where a finding lies in another volume of the same breast: in a scene, through the transforms of both volumes, and side by side.

Beside `comparison`, which knows it of studies: in a scene a volume stands where its node and the transforms above it say, be it that
of a curved sweep (`mrml.add_acquisition_transform`) or one by which a person laid two volumes over each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import mrml
from .comparison import LIMIT_MM, Place, check_comparable, place_in
from .errors import UsageError
from .mrml_nodes import nodes_of_class, same_place_list, turn_to
from .mrml_overlay import set_background
from .slicer_runtime import import_slicer

if TYPE_CHECKING:
    from slicer import vtkMRMLMarkupsFiducialNode, vtkMRMLScalarVolumeNode, vtkMRMLScene

    Point = tuple[float, float, float]

MARK = "BreastUSAI.PlaceOf"  # attribute of the point that marks a place: the finding that it is of
LEFT, RIGHT = "Red", "Yellow"  # the slice views of Slicer's layout side by side
_FRAME_OF_REFERENCE = "0020,0052"


@dataclass(frozen=True)
class OtherPlace:
    """Where a finding is in another volume.

    Attributes
    ----------
    place : on the other volume's own grid, LPS mm.
    world : the same in the world of the scene, RAS mm.
    outside_mm : how far it is from the outermost voxels; 0 where the volume shows it.
    """

    place: Place
    world: Point
    outside_mm: float


def place_there(
    source: vtkMRMLScalarVolumeNode,
    target: vtkMRMLScalarVolumeNode,
    world: Sequence[float],
    shift: Sequence[float] | None = None,
) -> OtherPlace:
    """Where a place of one volume is in another one of the same breast.

    Parameters
    ----------
    source, target : the volumes.
    world : the place in `source`, world RAS mm.
    shift : what is added to get to the world of `target`, RAS mm: from nipple to nipple; None: nothing, which is right only where both
        volumes have one frame of reference.

    Raises
    ------
    UsageError : one is no volume in millimetres, or they have no frame of reference in common and there is no shift.
    """
    here, there = mrml.info_of(source), mrml.info_of(target)
    check_comparable(here, there)
    if shift is None and not share_frame(source, target):
        raise UsageError(
            f"{source.GetName()} and {target.GetName()} do not share a frame of reference; mark the nipple in both, or put one of "
            "them under a transform that lays them over each other."
        )
    moved = tuple(float(a + b) for a, b in zip(world, shift if shift is not None else (0.0, 0.0, 0.0), strict=True))
    local = [0.0, 0.0, 0.0]
    target.TransformPointFromWorld(moved, local)
    place = place_in(
        there, there, (-local[0], -local[1], local[2])
    )  # the transforms brought it onto the other's own grid
    beyond = np.maximum(np.maximum(-0.5 - np.array(place.index), place.index - (np.array(there.size) - 0.5)), 0.0)
    return OtherPlace(place, moved, float(np.linalg.norm(beyond * there.spacing)))


def nearest(
    place: OtherPlace, findings: Iterable[tuple[str, Sequence[float]]], limit_mm: float = LIMIT_MM
) -> tuple[str, float] | None:
    """The finding next to a place, and how far it is, mm; None where none is within the limit.

    Parameters
    ----------
    findings : (id, world RAS mm) of the findings of the other volume.
    """
    near = [(name, float(np.linalg.norm(np.subtract(at, place.world)))) for name, at in findings]
    best = min(near, key=lambda item: item[1], default=None)
    return best if best is not None and best[1] <= limit_mm else None


def share_frame(one: vtkMRMLScalarVolumeNode, other: vtkMRMLScalarVolumeNode) -> bool:
    """Whether positions in two volumes may be the same places of the body.

    Not so where DICOM names two different frames of reference, unless a person put a volume under a linear transform. One above both
    moves the examination, and not one view to the other. Where nobody says it, coordinates are believed.
    """
    frames = [frame_of_reference(v) for v in (one, other)]
    return frames[0] == frames[1] or "" in frames or _linear_transforms(one) != _linear_transforms(other)


def frame_of_reference(volume: vtkMRMLScalarVolumeNode) -> str:
    """The UID of a volume's DICOM frame of reference, from Slicer's DICOM database; "" where it is not known."""
    instances = (volume.GetAttribute("DICOM.instanceUIDs") or "").split()
    database = getattr(import_slicer(), "dicomDatabase", None)
    if not instances or database is None:
        return ""
    return str(database.instanceValue(instances[0], _FRAME_OF_REFERENCE) or "").strip()


# --- the mark --------------------------------------------------------------------------------------------------------


def mark(volume: vtkMRMLScalarVolumeNode, place: OtherPlace, finding: str, label: str) -> vtkMRMLMarkupsFiducialNode:
    """Mark the place of a finding in the volume that it is not of, instead of the place that was marked before.

    The mark is a point under the volume's transform, which nobody moves by accident; it is saved with the scene.
    """
    scene = volume.GetScene()
    node = marked(scene)
    if node is None:
        with same_place_list(scene):
            node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "place in another view")
        node.CreateDefaultDisplayNodes()
    node.SetAttribute(MARK, finding)
    mrml.place_beside(scene, node, volume)
    x, y, z = place.place.point
    node.RemoveAllControlPoints()
    node.AddControlPoint(-x, -y, z)
    node.SetNthControlPointLabel(0, label)
    node.SetLocked(True)
    node.SetDisplayVisibility(True)
    return node


def marked(scene: vtkMRMLScene) -> vtkMRMLMarkupsFiducialNode | None:
    """The mark that there is."""
    return next((n for n in nodes_of_class(scene, "vtkMRMLMarkupsFiducialNode") if n.GetAttribute(MARK) is not None), None)


def unmark(scene: vtkMRMLScene) -> None:
    """Take the mark away."""
    node = marked(scene)
    if node is not None:
        scene.RemoveNode(node)


# --- side by side ----------------------------------------------------------------------------------------------------


def arrange_side_by_side(scene: vtkMRMLScene, arrangement: int | None = None) -> int | None:
    """Let Slicer show two slice views side by side, or an arrangement as it was before; returns the arrangement that there was.

    None where nobody arranges views: outside the application.
    """
    layout = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if layout is None:
        return None
    before = layout.GetViewArrangement()
    layout.SetViewArrangement(layout.SlicerLayoutSideBySideView if arrangement is None else arrangement)
    return before


def is_side_by_side(scene: vtkMRMLScene) -> bool:
    layout = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    return layout is not None and layout.GetViewArrangement() == layout.SlicerLayoutSideBySideView


def show_side_by_side(
    left: vtkMRMLScalarVolumeNode,
    right: vtkMRMLScalarVolumeNode,
    left_at: Sequence[float] | None,
    right_at: Sequence[float] | None,
) -> bool:
    """Show two volumes in the left and the right slice view, in the plane of the left one, each at its place and under no map of another.

    Parameters
    ----------
    left_at, right_at : world RAS mm; None: the view stays where it is.

    Returns
    -------
    whether a view showed another volume before.
    """
    scene, changed = left.GetScene(), False
    views = [scene.GetSingletonNode(tag, "vtkMRMLSliceNode") for tag in (LEFT, RIGHT)]
    for tag, view, volume, at in zip((LEFT, RIGHT), views, (left, right), (left_at, right_at), strict=True):
        composite = scene.GetSingletonNode(tag, "vtkMRMLSliceCompositeNode")
        if composite is None or view is None:
            continue
        another = set_background(composite, volume)
        changed = changed or another
        if tag == RIGHT and views[0] is not None:
            view.GetSliceToRAS().DeepCopy(views[0].GetSliceToRAS())
            view.UpdateMatrices()
        if another or tag == RIGHT:
            turn_to(view, volume)
        if at is not None:
            view.JumpSliceByCentering(*at)
    return changed


def _linear_transforms(volume: Any) -> set[str]:
    """Ids of the linear transforms above a volume; the grid of a curved sweep alone moves it within its own frame."""
    found, node = set(), volume.GetParentTransformNode()
    while node is not None:
        if node.IsA("vtkMRMLLinearTransformNode"):
            found.add(node.GetID())
        node = node.GetParentTransformNode()
    return found
