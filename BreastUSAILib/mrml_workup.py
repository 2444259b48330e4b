"""The findings of a workup in a scene: what is shown of an image, what a person said of it, and how views get there.

Beside `mrml`, which makes the nodes: here is what the Workup module adds to them. The result of an image is one node, its
segmentation, or its table of findings where nothing is outlined; what belongs to it refers to it, and it keeps in attributes
what a person said, so that all of it is saved and opened with the scene.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import mrml, uncertainty_map
from .activation import PERCENT
from .errors import DataError
from .findings import Finding, ImageInfo, Study
from .mrml_analysed import shows_other_pixels as _shows_other_pixels
from .mrml_heatmap import FULL
from .mrml_nodes import is_copy, nodes_of_class, turn_to
from .mrml_overlay import add_map, hide_maps, is_map, is_map_of, remove_map, set_background, show_from, show_over
from .review import Review, carried_over, outline_keys, reviews_from_json, reviews_to_json, with_edits
from .slicer_runtime import import_slicer

if TYPE_CHECKING:
    import SimpleITK as sitk
    from slicer import (
        vtkMRMLScalarVolumeNode,
        vtkMRMLScene,
        vtkMRMLScriptedModuleNode,
        vtkMRMLSegmentationNode,
        vtkMRMLTableNode,
    )

    Shown = vtkMRMLSegmentationNode | vtkMRMLTableNode

WORKUP = "BreastUSAI.Workup"  # attribute of a result's node: it is the Workup module's
REVIEWS = "BreastUSAI.Reviews"  # attribute: `review.reviews_to_json`
OUTLINES = "BreastUSAI.Outlines"  # attribute: `review.outline_keys` of the masks as they were made
IMAGE = "BreastUSAIWorkupImage"  # node reference from the result to the image that it is about
HEAT, LOOKED, UNSURE = KINDS = ("heatmap", "activation", "uncertainty")
"""The maps of a workup: what in a volume speaks for a lesion, where the networks that graded its findings looked, how unsure their outlines are."""
_FULL = {HEAT: FULL, LOOKED: PERCENT, UNSURE: uncertainty_map.PERCENT}  # value of the last colour
FURTHER = "furtherImages"  # node references from the module's parameter node to the other views of the examination

_FILL, _FILL_OTHERS, _FILL_REJECTED = 0.35, 0.12, 0.0
_OUTLINE, _OUTLINE_OTHERS, _OUTLINE_REJECTED = 1.0, 0.8, 0.3


# --- results ---------------------------------------------------------------------------------------------------------


def show_workup(
    scene: vtkMRMLScene,
    study: Study,
    volume_node: vtkMRMLScalarVolumeNode,
    pixel_spacing: float | None = None,
    keys: Mapping[str, str] | None = None,
    crops: Sequence[mrml.MaskCrop] | None = None,
) -> Shown:
    """Show a study, in place of the workup that this image had before; returns the result's node.

    What a person said of a finding before goes to the new finding about the same lesion (`review.carried_over`). Segments that a person
    drew into the result before stay, see `remove`.

    Parameters
    ----------
    pixel_spacing : see `mrml.add_segmentation`.
    keys, crops : `review.outline_keys` and `mrml.mask_crops` of the study, where they were made already; they take a moment for large
        volumes.

    Raises
    ------
    DataError, ImageError : see `mrml.show_study`; nothing was changed then.
    """
    before = workup_of(volume_node)
    study = mrml.placed(study, volume_node, pixel_spacing)
    # Where the image was moved or got another spacing since, what was said is still about the same lesions.
    reviews = {} if before is None else carried_over(mrml.on_grid(made(before), study.image), reviews_of(before), study)
    if before is not None and is_copy(before):  # a person's backup, which stays as it is
        before = None
    old = before if before is not None and _can_show(before, study, volume_node) else None
    if mrml.shows_masks(study):
        shown = mrml.show_study(scene, study, volume_node, old, pixel_spacing, crops).segmentation
    else:
        shown = mrml.show_detections(scene, study, volume_node, old).table
    if before is not None and before is not shown:
        remove(before)
    for old_map in maps_of(volume_node):
        remove_map(old_map)
    for kind, image in zip(KINDS, (study.heatmap, study.activation, study.uncertainty), strict=True):
        if image is not None:
            add_map(scene, image, volume_node, kind, _FULL[kind]).SetAttribute(WORKUP, kind)
    shown.SetAttribute(WORKUP, "1")
    shown.SetNodeReferenceID(IMAGE, volume_node.GetID())
    shown.SetAttribute(OUTLINES, json.dumps(outline_keys(study) if keys is None else dict(keys)))
    shown.SetAttribute(REVIEWS, reviews_to_json(reviews))
    return shown


def _can_show(before: Shown, study: Study, volume_node: vtkMRMLScalarVolumeNode) -> bool:
    """Whether the node of an earlier result can show a new one."""
    if not before.IsA("vtkMRMLSegmentationNode"):
        return not mrml.shows_masks(study)
    return mrml.shows_masks(study) and mrml.may_hold(before, volume_node)


def remove(shown: Shown) -> None:
    """Take a result and all that belongs to it from the scene; a segmentation into which a person drew stays with that, and is no result
    any more."""
    image = image_of(shown)
    for node in maps_of(image) if image is not None else ():
        remove_map(node)
    # First what makes it a result: a panel that follows it must not look for what is about to go.
    for name in (WORKUP, REVIEWS, OUTLINES):
        shown.RemoveAttribute(name)
    shown.RemoveNodeReferenceIDs(IMAGE)
    mrml.remove_study(shown)


def workup_of(volume_node: vtkMRMLScalarVolumeNode) -> Shown | None:
    """The result's node of an image, the latest; None where it has none, or was removed from the scene.

    A copy that a person made of a result, as a backup, stands in for it only where that was removed, and where the copy still refers to the image
    (Slicer 5.13's Clone leaves references out).
    """
    kinds = ("vtkMRMLTableNode", "vtkMRMLSegmentationNode")
    nodes = [node for kind in kinds for node in _all(volume_node.GetScene(), kind)]
    found = [n for n in nodes if n.GetAttribute(WORKUP) and n.GetNodeReferenceID(IMAGE) == volume_node.GetID()]
    return min(reversed(found), key=is_copy, default=None)


def maps_of(volume_node: vtkMRMLScalarVolumeNode) -> tuple[vtkMRMLScalarVolumeNode, ...]:
    """The maps over an image that its workup brought: where networks looked."""
    volumes = _all(volume_node.GetScene(), "vtkMRMLScalarVolumeNode")
    return tuple(v for v in volumes if v.GetAttribute(WORKUP) and is_map_of(v, volume_node))


def map_of(volume_node: vtkMRMLScalarVolumeNode, kind: str) -> vtkMRMLScalarVolumeNode | None:
    """The map of this kind (of `KINDS`) that an image's workup brought; None where it brought none."""


    def of_name(node: Any) -> str:  # scenes of earlier versions have the kind in the name alone, which Slicer may have numbered
        return re.sub(r"_\d+$", "", node.GetName().rpartition(" ")[2])

    return next((m for m in maps_of(volume_node) if kind in (m.GetAttribute(WORKUP), of_name(m))), None)


def image_of(shown: Shown) -> vtkMRMLScalarVolumeNode | None:
    """The image that a result is about; None where it was removed."""
    return shown.GetNodeReference(IMAGE)


def made(shown: Shown) -> Study:
    """The study as the models left it, without masks. Raises `DataError`."""
    text = shown.GetAttribute(mrml.STUDY)
    if text is None:
        raise DataError(f"{shown.GetName()} was not made by BreastUSAI; choose another one.")
    return Study.from_json(text, source=shown.GetName())


def listed(shown: Shown) -> tuple[Study, tuple[Finding, ...]]:
    """The study as the models left it, and those of its findings whose box or segment is still in the scene. Quick: reads no voxel.

    An image that was moved since has taken it along (`mrml.placed`); one whose voxels have another spacing now has not.
    """
    study, parts, image = made(shown), mrml.parts_of(shown), image_of(shown)
    if image is not None:
        with suppress(DataError):
            study = mrml.placed(study, image)
    return study, tuple(f for f in study.findings if f.id in parts.boxes or f.id in parts.segments)


def shows_other_pixels(shown: Shown) -> bool:
    """Whether a result's image shows other pixels than those in which it was found; reads the image. Raises as `made`, and `ImageError` where the
    image has no voxels."""
    image = image_of(shown)
    return image is not None and _shows_other_pixels(shown, image, made(shown))


def current(shown: Shown) -> Callable[[], tuple[Study, sitk.Image]]:
    """The study as it is in the scene now, with its image, in two steps: nodes are read at once; the function that comes back
    measures what was edited, and may run in a thread.

    Raises
    ------
    DataError : the image was removed, is another one, shows other pixels than were analysed, or does not lie under the result any more; or see
        `mrml.study_from_nodes`.
    """
    volume = image_of(shown)
    if volume is None:
        raise DataError(f"the image of {shown.GetName()} was removed from the scene; load it again and repeat the workup.")
    before, now = mrml.placed(made(shown), volume), mrml.study_from_nodes(volume, shown)
    image = mrml.image_for(now.image, volume)
    heatmap, activation, uncertainty = (_map_image(map_of(volume, kind), now.image, image) for kind in KINDS)
    keys = json.loads(shown.GetAttribute(OUTLINES) or "{}")

    def finish() -> tuple[Study, sitk.Image]:
        gone = [f.id for f in before.findings if f.id not in {n.id for n in now.findings}]
        study = with_edits(before, now, image, keys)
        if gone:
            notes = [*study.provenance.get("notes", ()), f"A person removed {', '.join(gone)}."]
            study = replace(study, provenance={**study.provenance, "notes": notes})
        return replace(study, heatmap=heatmap, activation=activation, uncertainty=uncertainty), image

    return finish


def _map_image(node: Any, info: ImageInfo, image: sitk.Image) -> sitk.Image | None:
    """A map as it belongs to a study of `image`; None where there is none, or it is of another size by now."""
    found = None if node is None else mrml.image_for(info, node)
    if found is None or found.GetSize() != image.GetSize():
        return None
    found.CopyInformation(image)  # hardened with its outlines, the image may have left its maps behind
    return found


# --- what a person says ----------------------------------------------------------------------------------------------


def reviews_of(shown: Shown) -> dict[str, Review]:
    """What a person said of a result's findings: finding -> review. Raises `DataError`."""
    return reviews_from_json(shown.GetAttribute(REVIEWS), shown.GetName())


def set_review(shown: Shown, finding: str, review: Review) -> None:
    """Keep what a person says of a finding, with the result; undo state saved first."""
    scene = shown.GetScene()
    if scene.GetUndoFlag():
        scene.SaveStateForUndo()
    shown.SetAttribute(REVIEWS, reviews_to_json({**reviews_of(shown), finding: review}))


# --- views -----------------------------------------------------------------------------------------------------------


def position_of(shown: Shown, finding: str) -> tuple[float, float, float] | None:
    """Where a finding is now: the middle of its box, or of its segment; world RAS, mm. None where both were deleted."""
    parts = mrml.parts_of(shown)
    if finding in parts.boxes:
        center = [0.0, 0.0, 0.0]
        parts.boxes[finding].GetCenterWorld(center)
        return tuple(center)
    if finding in parts.segments:
        center = shown.GetSegmentCenterRAS(parts.segments[finding])
        return None if center is None else tuple(center)
    return None


def show_image(volume_node: vtkMRMLScalarVolumeNode) -> bool:
    """Let all slice views show an image, along its own axes, and no map of another one over it; whether any showed another image before."""
    changed = False
    for composite in _all(volume_node.GetScene(), "vtkMRMLSliceCompositeNode"):
        if not set_background(composite, volume_node):
            continue
        changed = True
        view = volume_node.GetScene().GetSingletonNode(composite.GetSingletonTag(), "vtkMRMLSliceNode")
        if view is not None:
            turn_to(view, volume_node)
    return changed


def go_to(shown: Shown, finding: str) -> tuple[float, float, float] | None:
    """Let slice views and 3D views look at a finding: slices go through its middle, cameras turn about it.

    Returns
    -------
    where, as `position_of`; None where there is nothing to look at.
    """
    center = position_of(shown, finding)
    if center is not None:
        _look_at(shown.GetScene(), center)
    return center


def go_to_place(volume_node: vtkMRMLScalarVolumeNode, point: tuple[float, float, float]) -> None:
    """Let slice views and 3D views look at a place of an image: (x, y, z) on its own grid, LPS, mm."""
    center = [0.0, 0.0, 0.0]
    volume_node.TransformPointToWorld([-point[0], -point[1], point[2]], center)
    _look_at(volume_node.GetScene(), tuple(center))


def _look_at(scene: Any, center: tuple[float, float, float]) -> None:
    slicer = import_slicer()
    slicer.vtkMRMLSliceNode.JumpAllSlices(scene, *center, slicer.vtkMRMLSliceNode.CenteredJumpSlice)
    for camera in _all(scene, "vtkMRMLCameraNode"):
        step = [a - b for a, b in zip(center, camera.GetFocalPoint(), strict=True)]
        camera.SetPosition(*(p + s for p, s in zip(camera.GetPosition(), step, strict=True)))
        camera.SetFocalPoint(*center)
        camera.ResetClippingRange()


def highlight(shown: Shown, finding: str | None) -> None:
    """Let one finding's segment and box stand out from those of the others; rejected ones are faint. None: all are alike."""
    parts, reviews = mrml.parts_of(shown), reviews_of(shown)

    def strength(which: str, values: tuple[float, float, float]) -> float:
        chosen, other, rejected = values
        if which == finding:
            return chosen
        return rejected if reviews.get(which, Review()).verdict == "rejected" else other

    display = shown.GetDisplayNode() if parts.segments else None
    for which, segment in parts.segments.items() if display is not None else ():
        display.SetSegmentOpacity2DFill(segment, strength(which, (_FILL, _FILL_OTHERS, _FILL_REJECTED)))
        outline = strength(which, (_OUTLINE, _OUTLINE_OTHERS, _OUTLINE_REJECTED))
        display.SetSegmentOpacity2DOutline(segment, outline)
        display.SetSegmentOpacity3D(segment, outline)
    for which, box in parts.boxes.items():
        box_display = box.GetDisplayNode()
        if box_display is not None:
            box_display.SetOpacity(strength(which, (1.0, 0.6, 0.2)))
            box_display.SetLineThickness(0.4 if which == finding else 0.2)  # 0.2 is what Slicer gives


def show_map(volume_node: vtkMRMLScalarVolumeNode, visible: bool, kind: str = HEAT) -> tuple[str, ...]:
    """Let the slice views that show an image show a map of its workup over it.

    Parameters
    ----------
    visible : where not, no view shows a map of any workup, be it of an image that is not chosen.
    kind : of `KINDS`; where there is no such map, the one that there is.

    Returns
    -------
    The kinds of maps that there are.
    """
    maps = {kind: node for kind in KINDS if (node := map_of(volume_node, kind)) is not None}
    if not visible:
        hide_maps(volume_node.GetScene(), WORKUP)
    elif maps:
        shown = kind if kind in maps else next(iter(maps))
        show_from(maps[shown], 1 / 256, _FULL[shown])  # BreastUSAI Heatmap may have hidden what is weak
        show_over(volume_node, maps[shown])
    return tuple(maps)


def set_box_editable(shown: Shown, finding: str, editable: bool) -> bool:
    """Give a finding's box handles to drag, or take them away and lock it; whether it has a box."""
    box = mrml.parts_of(shown).boxes.get(finding)
    if box is None or box.GetDisplayNode() is None:
        return False
    box.GetDisplayNode().SetHandlesInteractive(editable)
    box.SetLocked(not editable)
    return True


def box_place(shown: Shown, finding: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """How a finding's box stands in its own space: size (mm) and its 4x4 matrix, row by row; None where it has none."""
    box = mrml.parts_of(shown).boxes.get(finding)
    if box is None:
        return None
    matrix = box.GetObjectToNodeMatrix()
    return tuple(box.GetSize()), tuple(matrix.GetElement(r, c) for r in range(4) for c in range(4))


def set_box_place(shown: Shown, finding: str, place: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
    """Put a finding's box as `box_place` said it; nothing where it has none. Undo state saved first."""
    import vtk

    box = mrml.parts_of(shown).boxes.get(finding)
    if box is None:
        return
    if shown.GetScene().GetUndoFlag():
        shown.GetScene().SaveStateForUndo()
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(place[1])
    box.SetSize(*place[0])
    box.SetAndObserveObjectToNodeMatrix(matrix)


def box_is_editable(shown: Shown, finding: str) -> bool:
    """Whether a finding's box has handles, and is not locked."""
    box = mrml.parts_of(shown).boxes.get(finding)
    if box is None or box.GetDisplayNode() is None:
        return False
    return bool(box.GetDisplayNode().GetHandlesInteractive()) and not box.GetLocked()


# --- the views of an examination -------------------------------------------------------------------------------------


def further_images(parameter_node: vtkMRMLScriptedModuleNode) -> tuple[vtkMRMLScalarVolumeNode, ...]:
    """The images that are worked up along with the one that is chosen; those that were removed are no more."""
    count = parameter_node.GetNumberOfNodeReferences(FURTHER)
    nodes = (parameter_node.GetNthNodeReference(FURTHER, i) for i in range(count))
    return tuple(n for n in nodes if n is not None)


def set_further_image(
    parameter_node: vtkMRMLScriptedModuleNode, volume_node: vtkMRMLScalarVolumeNode, chosen: bool
) -> None:
    """Add an image to those, or take it away."""
    nodes = [n for n in further_images(parameter_node) if n is not volume_node]
    # One event of the whole change: who looks in between sees images that were taken away and are not.
    before = parameter_node.StartModify()
    try:
        parameter_node.RemoveNodeReferenceIDs(FURTHER)
        for node in (*nodes, volume_node) if chosen else nodes:
            parameter_node.AddNodeReferenceID(FURTHER, node.GetID())
    finally:
        parameter_node.EndModify(before)


def images(scene: vtkMRMLScene) -> tuple[vtkMRMLScalarVolumeNode, ...]:
    """The volumes of a scene that may be images: neither labels nor maps over an image."""
    return tuple(
        v for v in _all(scene, "vtkMRMLScalarVolumeNode") if not v.IsA("vtkMRMLLabelMapVolumeNode") and not is_map(v)
    )


def _all(scene: Any | None, kind: str) -> list[Any]:
    return [] if scene is None else nodes_of_class(scene, kind)
