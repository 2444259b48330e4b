"""The chosen finding in a panel: what is known of it, and what a person says of it: accept, reject, note, edit.

Imported by the Slicer modules only: it needs Slicer's Qt.
"""

from __future__ import annotations

import slicer

from . import mrml, mrml_workup
from .review import ACCEPTED, NONE, REJECTED, Review
from .slicer_findings import details


class ReviewSection:
    """The widgets below the list of findings.

    Parameters
    ----------
    ui : has detailsLabel, acceptButton, rejectButton, noteEdit, editBoxButton and editOutlineButton.
    findings : the `slicer_findings.FindingsTable` in which one is chosen.
    on_said : called after a person said something.
    """

    def __init__(self, ui, findings, on_said):
        self._ui, self._findings, self._on_said = ui, findings, on_said
        self._note = (None, "")  # the finding and its note that the line for notes was filled with
        for button, slot in (
            (ui.acceptButton, self.accept),
            (ui.rejectButton, self.reject),
            (ui.editBoxButton, self.edit_box),
            (ui.editOutlineButton, self.edit_outline),
        ):
            button.connect("clicked(bool)", slot)
        ui.noteEdit.connect("editingFinished()", self.keep_note)

    def show(self):
        """Show the chosen finding, and what can be done with it."""
        ui, row, shown = self._ui, self._findings.current(), self._shown()
        ui.detailsLabel.text = details(row) if row is not None else ""
        for button in (ui.acceptButton, ui.rejectButton, ui.noteEdit, ui.editBoxButton):
            button.enabled = shown is not None
        ui.editOutlineButton.enabled = shown is not None and bool(_segment(shown, row.finding.id))
        verdict = row.review.verdict if row is not None else NONE
        ui.acceptButton.checked, ui.rejectButton.checked = verdict == ACCEPTED, verdict == REJECTED
        ui.editBoxButton.checked = shown is not None and mrml_workup.box_is_editable(shown, row.finding.id)
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
            mrml_workup.set_review(shown, row.finding.id, review)
            mrml_workup.highlight(shown, row.finding.id)
            self._on_said()

    def _shown(self):
        """The node that shows the chosen finding's result; None where none is chosen or it was removed."""
        row = self._findings.current()
        return slicer.mrmlScene.GetNodeByID(row.shown) if row is not None else None


def _segment(shown, finding):
    """Id of a finding's segment; "" where it has none."""
    return mrml.parts_of(shown).segments.get(finding, "")
