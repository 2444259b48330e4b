"""The chosen finding's place in another view of the same breast, in a panel: marked there, both volumes side by side, and said in words.

Imported by the Slicer modules only: it needs Slicer's Qt.
"""

from __future__ import annotations

import numpy as np
import slicer
from slicer.i18n import tr as _

from . import mrml_other_view, mrml_workup
from .comparison import LIMIT_MM
from .errors import UsageError


class OtherView:
    """The choice of another volume, and what is said of the place there.

    Parameters
    ----------
    ui : has placeLabel, otherNippleSelector and otherNippleLabel; the choice itself is bound to the parameter otherView.
    on_choice : called after another volume, or other nipples, were chosen.
    """

    def __init__(self, ui, on_choice):
        self._ui, self._on_choice = ui, on_choice
        self._state = None  # what was chosen when the views were arranged last
        self._arrangement = None  # of views before they stood side by side
        self._say("")

    def clear(self):
        """Forget a scene that is closed."""
        self._state = self._arrangement = None
        self._say("")

    def follow(self, parameters):
        """Arrange the views as what is chosen in the wrapped parameter node wants it; nothing where it is as it was."""
        other = parameters.otherView
        for widget in (self._ui.otherNippleSelector, self._ui.otherNippleLabel):
            widget.setVisible(other is not None)
        state = tuple(n.GetID() if n is not None else "" for n in (other, parameters.otherNipple, parameters.nipple))
        before, self._state = self._state, state
        if state == before:
            return
        if other is None:
            if before is not None and before[0]:
                self._end()
                self._on_choice()
            return
        if before is None or not before[0]:
            arrangement = mrml_other_view.arrange_side_by_side(slicer.mrmlScene)
            self._arrangement = arrangement if before is not None else None
        if parameters.inputVolume is not None:
            mrml_other_view.show_side_by_side(*_sides(parameters, parameters.inputVolume), None, None)
        self._on_choice()

    def go(self, shown, finding, parameters):
        """Let the left view look at a finding, which stands out, and the right one at its place in the other volume, or the other way
        round for findings of that volume; returns whether a view showed another volume before.
        """
        image, other = mrml_workup.image_of(shown), parameters.otherView
        target = other if image is not other else parameters.inputVolume
        at = mrml_workup.go_to(shown, finding)
        mrml_workup.highlight(shown, finding)
        found = None
        if at is not None and target is not None and target is not image:
            try:
                found = mrml_other_view.place_there(image, target, at, _shift(parameters, target is other))
                self._say(_words(found, finding, target))
            except UsageError as error:
                self._say(str(error))
        else:
            self._say(
                "" if at is None else _("Choose another volume than {image} itself.").format(image=image.GetName())
            )
        there = None
        if found is not None and found.place.inside:
            there = found.world
            mrml_other_view.mark(target, found, finding, f"{finding} ({image.GetName()})")
        else:
            mrml_other_view.unmark(slicer.mrmlScene)
        left, right = _sides(parameters, image)
        return mrml_other_view.show_side_by_side(left, right, *((at, there) if left is image else (there, at)))

    def _end(self):
        mrml_other_view.unmark(slicer.mrmlScene)
        if mrml_other_view.is_side_by_side(slicer.mrmlScene):
            usual = slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView
            mrml_other_view.arrange_side_by_side(slicer.mrmlScene, self._arrangement or usual)
        self._arrangement = None
        self._say("")

    def _say(self, words):
        self._ui.placeLabel.text = words
        self._ui.placeLabel.setVisible(bool(words))


def _sides(parameters, image):
    """What stands left and right while a finding of an image is looked at: the other view stays right."""
    other = parameters.otherView
    if image is not other:
        return image, other
    return parameters.inputVolume if parameters.inputVolume is not None else other, other


def _shift(parameters, to_other):
    """From nipple to nipple, world RAS mm; None where one was not placed."""
    here, there = (_first_point(n) for n in (parameters.nipple, parameters.otherNipple))
    if here is None or there is None:
        return None
    return (there - here) if to_other else (here - there)


def _first_point(points):
    """The first point of a list that was placed, world RAS mm; None where there is none."""
    for index in range(points.GetNumberOfControlPoints()) if points is not None else ():
        if points.GetNthControlPointPositionStatus(index) == points.PositionDefined:
            return np.array(points.GetNthControlPointPositionWorld(index))
    return None


def _words(found, finding, target):
    """Where a finding's place is in another volume, and which of its findings is next to it."""
    name = target.GetName()
    if not found.place.inside:
        return _("The place of {finding} lies {distance:.0f} mm outside {image}, which does not show it.").format(
            finding=finding, distance=max(found.outside_mm, 1.0), image=name
        )
    said = _("The place of {finding} is marked in {image}.").format(finding=finding, image=name)
    shown = mrml_workup.workup_of(target)
    if shown is None:
        return said
    _study, there = mrml_workup.listed(shown)
    places = ((f.id, mrml_workup.position_of(shown, f.id)) for f in there)
    near = mrml_other_view.nearest(found, [(i, at) for i, at in places if at is not None])
    if near is None:
        found_there = _("None of its findings lies within {limit:.0f} mm.").format(limit=LIMIT_MM)
    else:
        found_there = _("Its finding {near} lies {distance:.0f} mm from there.").format(near=near[0], distance=near[1])
    return f"{said} {found_there}"
