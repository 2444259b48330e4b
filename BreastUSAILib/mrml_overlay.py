"""Maps over images in a scene: where a network looked, as a volume in colours, over the image in slice views.

Beside `mrml`, which makes the other nodes. A map lies on the grid of its image and under its transform, so it stays with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from . import mrml
from .mrml_nodes import nodes_of_class

if TYPE_CHECKING:
    from slicer import vtkMRMLColorTableNode, vtkMRMLScalarVolumeNode, vtkMRMLScene, vtkMRMLSliceCompositeNode

OPACITY = 0.3
COLORS = "BreastUSAI map colours"
MAP_OF = "BreastUSAIMapOf"  # node reference from a map to its image
MAP = "BreastUSAI.Map"  # attribute of a map, which it keeps when its image is removed
_STEPS = 256
_VTK_FLOAT, _VTK_DOUBLE = 10, 11  # of `vtkType.h`
# As in the reports (`grade_report`): violet, red, orange, yellow, of rising lightness.
_ANCHORS = np.array([(31, 12, 72), (137, 34, 106), (227, 89, 51), (249, 201, 50), (252, 255, 164)], float) / 255


def color_node(scene: vtkMRMLScene) -> vtkMRMLColorTableNode:
    """The scene's colour table for maps, made where there is none."""
    found = scene.GetFirstNodeByName(COLORS)
    if found is not None:
        return found
    node = scene.CreateNodeByClass("vtkMRMLColorTableNode")
    node.UnRegister(None)
    node.SetTypeToUser()
    node.SetName(COLORS)
    node.SetNumberOfColors(_STEPS)
    places = np.linspace(0, 1, len(_ANCHORS))
    for index, at in enumerate(np.linspace(0, 1, _STEPS)):
        color = [float(np.interp(at, places, _ANCHORS[:, c])) for c in range(3)]
        node.SetColor(index, f"{100 * at:.0f} %", *color, 1.0)
    return scene.AddNode(node)


def add_map(
    scene: vtkMRMLScene, image: sitk.Image, volume_node: vtkMRMLScalarVolumeNode, name: str, greatest: float
) -> vtkMRMLScalarVolumeNode:
    """A map as a volume in colours, transparent where it is 0.

    Parameters
    ----------
    image : on the grid of the image in `volume_node`.
    name : what follows the image's name in the node's.
    greatest : value of the last colour.

    Raises
    ------
    DataError : the map is of another size than the image.
    """
    node = mrml.add_volume_beside(scene, image, volume_node, f"{volume_node.GetName()} {name}")
    node.SetNodeReferenceID(MAP_OF, volume_node.GetID())
    node.SetAttribute(MAP, "1")
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(color_node(scene).GetID())
    display.SetAutoWindowLevel(False)
    display.SetWindowLevelMinMax(0.0, greatest)
    display.SetApplyThreshold(True)
    show_from(node, 1 / _STEPS, greatest)
    return node


def show_over(
    volume_node: vtkMRMLScalarVolumeNode, map_node: vtkMRMLScalarVolumeNode | None, opacity: float = OPACITY
) -> int:
    """Let the slice views that show an image show a map over it, or no map of it any more (None); the number of these views.

    Views that show another image show no map of this one then, however it came there.
    """
    shown = 0
    for view in _views(volume_node.GetScene()):
        under = view.GetBackgroundVolumeID() == volume_node.GetID()
        if under and map_node is not None:
            view.SetForegroundVolumeID(map_node.GetID())
            view.SetForegroundOpacity(opacity)
            shown += 1
        elif is_map_of(_over(view), volume_node):
            _take_away(view)
    return shown


def map_over(volume_node: vtkMRMLScalarVolumeNode) -> vtkMRMLScalarVolumeNode | None:
    """The map of an image that came last into its scene; None where there is none."""
    volumes = reversed(nodes_of_class(volume_node.GetScene(), "vtkMRMLScalarVolumeNode"))
    return next((node for node in volumes if is_map_of(node, volume_node)), None)


def show_from(map_node: vtkMRMLScalarVolumeNode, least: float, full: float) -> None:
    """Let a map be transparent where it is below the share `least`, 0 to 1, of the last colour's value, `full`."""
    display = map_node.GetDisplayNode()
    if display is not None:
        # Of nothing at all nothing is shown, and what is beyond the last colour has that colour. VTK cuts the limits off to the voxels' type: 0.4 would
        # be 0 of whole numbers, and 0 be shown.
        lower, data = full * max(least, 1e-3), map_node.GetImageData()
        whole = data is not None and data.GetScalarType() not in (_VTK_FLOAT, _VTK_DOUBLE)
        display.SetThreshold(max(1.0, float(np.ceil(lower))) if whole else lower, full * 1e6)


def set_background(view: vtkMRMLSliceCompositeNode, volume_node: vtkMRMLScalarVolumeNode) -> bool:
    """Let a slice view show an image, and no map of another one over it; whether it showed another image before."""
    over, another = _over(view), view.GetBackgroundVolumeID() != volume_node.GetID()
    if another:
        view.SetBackgroundVolumeID(volume_node.GetID())
    if is_map(over) and not is_map_of(over, volume_node):
        _take_away(view)
    return another


def remove_map(map_node: vtkMRMLScalarVolumeNode) -> None:
    """Take a map from the slice views that show it, and from its scene."""
    scene = map_node.GetScene()
    for view in _views(scene):
        if view.GetForegroundVolumeID() == map_node.GetID():
            _take_away(view)
    scene.RemoveNode(map_node)


def hide_maps(scene: vtkMRMLScene, attribute: str) -> None:
    """Let no slice view show a map that has this attribute, over whatever image."""
    for view in _views(scene):
        over = _over(view)
        if is_map(over) and over.GetAttribute(attribute) is not None:
            _take_away(view)


def _views(scene: vtkMRMLScene) -> list[vtkMRMLSliceCompositeNode]:
    """What says which images each slice view shows."""
    return nodes_of_class(scene, "vtkMRMLSliceCompositeNode")


def _take_away(view: vtkMRMLSliceCompositeNode) -> None:
    """Let a slice view show nothing over its image; what a person lays over it next begins as transparent as in any other view of Slicer's."""
    view.SetForegroundVolumeID(None)
    view.SetForegroundOpacity(0.0)


def _over(view: Any) -> Any:
    """What a slice view shows over its image; None where that is nothing."""
    over = view.GetForegroundVolumeID()
    return None if over is None else view.GetScene().GetNodeByID(over)


def is_map(node: Any) -> bool:
    """Whether a node is a map over an image (`add_map`), also where that image was removed."""
    return node is not None and (node.GetAttribute(MAP) is not None or node.GetNodeReferenceID(MAP_OF) is not None)


def is_map_of(node: Any, volume_node: vtkMRMLScalarVolumeNode) -> bool:
    """Whether a node is a map of this image (`add_map`)."""
    return node is not None and node.GetNodeReferenceID(MAP_OF) == volume_node.GetID()
