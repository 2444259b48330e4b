"""The chosen finding in a panel: what is known of it, and what a person says of it: accept, reject, note, edit.

Imported by the Slicer modules only: it needs Slicer's Qt.
"""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from . import mrml, mrml_workup
from .review import ACCEPTED, NONE, REJECTED, Review
from .slicer_findings import details
from .slicer_undo import UndoSteps


class ReviewSection:
    """The widgets below the list of findings.

    Parameters
    ----------
    ui : has detailsLabel, acceptButton, rejectButton, noteEdit, editBoxButton, editOutlineButton and undoButton.
    findings : the `slicer_findings.FindingsTable` in which one is chosen.
    on_said : called after a person said something.
    """

    def __init__(self, ui, findings, on_said):
        self._ui, self._findings, self._on_said = ui, findings, on_said
        self._steps = UndoSteps(self._show_undo)
        self._note = (None, "")  # the finding and its note that the line for notes was filled with
        for button, slot in (
            (ui.acceptButton, self.accept),
            (ui.rejectButton, self.reject),
            (ui.editBoxButton, self.edit_box),
            (ui.editOutlineButton, self.edit_outline),
            (ui.undoButton, self.undo),
        ):
            button.connect("clicked(bool)", slot)
        ui.noteEdit.connect("editingFinished()", self.keep_note)
        self._show_undo()

    def clear(self):
        """Forget what was done: its scene is closed."""
        self._steps.clear()

    def replaced(self, shown):
        """A result came, perhaps in the node of an earlier one, whose findings had the same names and were others: nothing done to them
        is taken back from these."""
        self._steps.forget(shown.GetID())

    def show(self):
        """Show the chosen finding, and what can be done with it."""
        ui, row, shown = self._ui, self._findings.current(), self._shown()
        ui.detailsLabel.text = details(row) if row is not None else ""
        for button in (ui.acceptButton, ui.rejectButton, ui.noteEdit, ui.editBoxButton):
            button.enabled = shown is not None
        ui.editOutlineButton.enabled = shown is not None and bool(_segment(shown, row.finding.id))
        verdict = row.review.verdict if row is not None else NONE
        dragging = shown is not None and mrml_workup.box_is_editable(shown, row.finding.id)
        # In words as well: a pressed button hardly differs from the others on a dark theme.
        for button, pressed, words in (
            (ui.acceptButton, verdict == ACCEPTED, (_("Accept"), _("✓ Accepted"))),
            (ui.rejectButton, verdict == REJECTED, (_("Reject"), _("✗ Rejected"))),
            (ui.editBoxButton, dragging, (_("Edit box"), _("Box is right"))),
        ):
            button.checked, button.text = pressed, words[pressed]
        note = (row.key, row.review.note) if row is not None else (None, "")
        if self._note != note:  # what is being typed stays when anything else changes
            self._note = note
            ui.noteEdit.text = note[1]

    def accept(self, checked=False):
        self._judge(ACCEPTED)

    def reject(self, checked=False):
        self._judge(REJECTED)

    def keep_note(self):
        """Keep what was typed; also before a key leaves the finding, as the line for notes still has the focus then."""
        row = self._findings.current()
        if row is not None and row.review.note != self._ui.noteEdit.text:
            self._say(row, Review(row.review.verdict, self._ui.noteEdit.text))

    def edit_box(self, checked=False):
        """Give the box handles to drag, or take them away."""
        row, shown = self._findings.current(), self._shown()
        if shown is not None:
            editable = not mrml_workup.box_is_editable(shown, row.finding.id)
            if editable:
                self._steps.add(shown.GetID(), _box_back(shown, row.finding.id, self._on_said))
            mrml_workup.set_box_editable(shown, row.finding.id, editable)
            self.show()

    def edit_outline(self, checked=False):
        """Open the Segment Editor at the finding's segment; what is drawn there is measured when the report is exported."""
        row, shown = self._findings.current(), self._shown()
        if shown is None or not hasattr(slicer.modules, "segmenteditor"):
            return
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        editor.setSegmentationNode(shown)
        editor.setSourceVolumeNode(mrml_workup.image_of(shown))
        editor.setCurrentSegmentID(_segment(shown, row.finding.id))

    def undo(self, checked=False):
        """Take back the last verdict, note or drag of a box."""
        self.keep_note()
        self._steps.undo()
        self.show()

    def _show_undo(self):
        self._ui.undoButton.enabled = bool(self._steps)

    def _judge(self, verdict):
        """Say it of the chosen finding; a second time takes it back."""
        self.keep_note()
        row = self._findings.current()
        if row is not None:
            verdict = NONE if row.review.verdict == verdict else verdict
            self._say(row, Review(verdict, row.review.note))

    def _say(self, row, review):
        shown = slicer.mrmlScene.GetNodeByID(row.shown)
        if shown is not None:
            self._steps.add(row.shown, _review_back(row.shown, row.finding.id, row.review, self._on_said))
            mrml_workup.set_review(shown, row.finding.id, review)
            mrml_workup.highlight(shown, row.finding.id)
            self._on_said()

    def _shown(self):
        """The node that shows the chosen finding's result; None where none is chosen or it was removed."""
        row = self._findings.current()
        return slicer.mrmlScene.GetNodeByID(row.shown) if row is not None else None


def _review_back(shown_id, finding, review, on_said):
    """What gives a finding the review again that it had."""

    def back():
        shown = slicer.mrmlScene.GetNodeByID(shown_id)
        if shown is None or mrml_workup.reviews_of(shown).get(finding, Review()) == review:
            return False
        mrml_workup.set_review(shown, finding, review)
        mrml_workup.highlight(shown, finding)
        on_said()
        return True

    return back


def _box_back(shown, finding, on_said):
    """What puts a finding's box back where it is now."""
    shown_id, was, pixels = shown.GetID(), mrml_workup.box_place(shown, finding), shown.GetAttribute(mrml.PIXELS)

    def back():
        shown = slicer.mrmlScene.GetNodeByID(shown_id)
        if shown is None or was is None or mrml_workup.box_place(shown, finding) in (None, was):
            return False
        if shown.GetAttribute(mrml.PIXELS) != pixels:  # its image got another pixel spacing, and the box went along
            return False
        mrml_workup.set_box_place(shown, finding, was)
        on_said()
        return True

    return back


def _segment(shown, finding):
    """Id of a finding's segment; "" where it has none."""
    return mrml.parts_of(shown).segments.get(finding, "")
