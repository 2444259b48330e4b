"""Whether what shows a study in a scene still lies on its image, and the way from the space of the one into that of the other.

Results are made under the transform of their image, in its space. A person may harden that transform on the image alone or on the results
alone: both stay where they were in the world, and are in two spaces from then on. Or one is moved without the other: then an outline covers other
tissue than the models outlined, which is no correction by a person and must not be measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import DataError
from .mrml_grid import LPS_TO_RAS, Frame, plane_first, same_places
from .mrml_names import FINDING
from .mrml_nodes import image_id
from .slicer_runtime import import_slicer

if TYPE_CHECKING:
    from .findings import Study

_NEAR = 0.5  # of a voxel, by which what was not moved may lie beside its place: files keep few digits


def way_to_volume(node: Any, volume_node: Any) -> np.ndarray:
    """4x4, a node's own space -> that of a volume's voxels, both RAS mm, through the transforms of both.

    Raises
    ------
    DataError : it is not linear, as where a bent transform is above one of them alone.
    """
    import vtk

    if node.GetTransformNodeID() == volume_node.GetTransformNodeID():
        return np.eye(4)
    matrix = vtk.vtkMatrix4x4()
    linear = import_slicer().vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(
        node.GetParentTransformNode(), volume_node.GetParentTransformNode(), matrix
    )
    if not linear:
        raise DataError(
            f"a transform that is not linear lies between {node.GetName()} and the image {volume_node.GetName()}; put both under the same "
            "transform, or repeat the analysis."
        )
    return np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)])


def check_lies_on(shown: Any, kind: str, volume_node: Any, made: Study, now: Study, nodes: Iterable[Any]) -> None:
    """Refuse a result that does not lie on its image any more, as one of the two was moved without the other.

    Boxes that a person dragged and outlines that a person corrected are no such case: the image, the grid on which outlines are drawn, and the
    other parts of the result stay together then.

    Parameters
    ----------
    shown, kind : the result's node, and what it is, in words.
    made : the study as it was shown, on the grid that the image had then.
    now : the same where the image is now (`mrml_volumes.placed`).
    nodes : the boxes and points that belong to the result.

    Raises
    ------
    DataError : it does not lie there, or see `way_to_volume`.
    """
    frame = Frame.of(now.image, volume_node)
    nodes = [node for node in nodes if node.IsA("vtkMRMLMarkupsNode")]
    ways = [way_to_volume(node, volume_node) for node in nodes]
    drawn_there, moved = None, made.image != now.image or any(_leads_away(way) for way in ways)
    if shown.IsA("vtkMRMLSegmentationNode"):
        way = way_to_volume(shown, volume_node)
        drawn_there, moved = _draws_on_image(shown, way, frame, now, volume_node), moved or _leads_away(way)
    before, places = {f.id: f.box for f in made.findings}, {f.id: frame.to_node(f.box)[0] for f in now.findings}
    near = _NEAR * min(volume_node.GetSpacing())
    left_behind, found_there = False, drawn_there
    for node, way in zip(nodes, ways, strict=True):
        for finding, local in _positions(node):
            if finding not in places:
                continue
            if np.linalg.norm((way @ [*local, 1.0])[:3] - places[finding]) < near:
                found_there = True
            elif node.IsA("vtkMRMLMarkupsROINode") and now.image.dimension == 3:
                # Nobody dragged it, and yet it is elsewhere: the image went away from under it.
                was = (LPS_TO_RAS @ [*before[finding].center, 1.0])[:3]
                left_behind = left_behind or np.linalg.norm(was - local) < near
    shows_any = bool(now.findings) and (shown.IsA("vtkMRMLSegmentationNode") or bool(nodes))
    if (drawn_there is False and now.findings) or left_behind or (moved and shows_any and not found_there):
        raise DataError(
            f"the {kind} {shown.GetName()} does not lie on the image {volume_node.GetName()} as it was made, since one of them was moved, or "
            "got another pixel spacing, without the other; take that back, or repeat the analysis."
        )


def _leads_away(way: np.ndarray) -> bool:
    return not np.array_equal(way, np.eye(4))


def _draws_on_image(
    segmentation_node: Any, way: np.ndarray, frame: Frame, study: Study, volume_node: Any
) -> bool | None:
    """Whether the grid on which outlines are drawn, which goes with them wherever they are moved, is that of the image; None where a person
    chose another one."""
    if image_id(segmentation_node) != volume_node.GetID():
        return None
    slicer = import_slicer()
    converter = slicer.vtkSegmentationConverter
    text = segmentation_node.GetSegmentation().GetConversionParameter(
        converter.GetReferenceImageGeometryParameterName()
    )
    grid = slicer.vtkOrientedImageData()
    if not text or not converter.DeserializeImageGeometry(text, grid, False):
        return None
    order = list(plane_first(volume_node)) if study.image.dimension == 2 else [0, 1, 2]
    size = (*study.image.size, 1)[:3]
    if tuple(grid.GetDimensions()[axis] for axis in order) != tuple(size):
        return None
    import vtk

    matrix = vtk.vtkMatrix4x4()
    grid.GetImageToWorldMatrix(matrix)
    first = np.eye(4)
    first[:3, 3] = grid.GetExtent()[::2]  # that of a cropped volume starts at another index than 0
    drawn = way @ np.array([[matrix.GetElement(r, c) for c in range(4)] for r in range(4)]) @ first
    return same_places(drawn[:, [*order, 3]], frame.pixel_to_ras, size, _NEAR)


def _positions(node: Any) -> list[tuple[str, tuple[float, ...]]]:
    """Finding and middle (RAS mm, in the node's own space) of a box, or of each point of a list."""
    if node.IsA("vtkMRMLMarkupsROINode"):
        return [(node.GetAttribute(FINDING), tuple(node.GetCenter()))]
    if not node.IsA("vtkMRMLMarkupsFiducialNode"):
        return []
    found = []
    for index in range(node.GetNumberOfControlPoints()):
        position = [0.0, 0.0, 0.0]
        node.GetNthControlPointPosition(index, position)
        found.append((node.GetNthControlPointLabel(index), tuple(position)))
    return found
