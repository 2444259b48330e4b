"""The Workup module's panel: images are chosen and worked up, and their findings gone through.

Imported by the Slicer modules only: it needs Slicer's Qt. Its sections are classes of their own: the further views, the list of
findings, the overview, what is said of the chosen finding, the reports, the keys.
"""

from __future__ import annotations

import contextlib

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from . import mrml, mrml_workup
from .errors import BreastUSAIError, ImageError
from .slicer_binding import Following
from .slicer_findings import FindingsTable
from .slicer_other_pixels import OtherPixels
from .slicer_other_view import OtherView
from .slicer_overview import Overview
from .slicer_panel import AnalysisPanel, on_new_node, told
from .slicer_report_export import ReportExport
from .slicer_review import ReviewSection
from .slicer_shortcuts import Shortcuts
from .slicer_views_list import ViewsList

NEXT, PREVIOUS, ACCEPT, REJECT, UNDO = "Ctrl+Down", "Ctrl+Up", "Ctrl+Shift+A", "Ctrl+Shift+R", "Ctrl+Backspace"


class WorkupPanel(AnalysisPanel):
    """The panel of a module whose logic is a `slicer_workup_logic.WorkupLogic`.

    Attributes
    ----------
    views, findings, overview, review, otherView, export, shortcuts : its sections.
    otherPixels : tells which images show other pixels than were analysed.
    """

    applyToolTip = _("Find, outline, measure and grade the lesions, as far as there are models for it.")
    folders = (
        "modelFolder",
        "detectFolder",
        "classifierFolder",
        "outlineFolder",
        "gcnnFolder",
        "mtnetFolder",
        "snnetFolder",
        "heatmapFolder",
        "reportFolder",
    )

    def __init__(self, parent=None):
        AnalysisPanel.__init__(self, parent)
        self._jobVolumeIDs = ()
        self._jobSpacings = {}  # id of a 2D image -> the pixel spacing that the analysis took for it
        self._jobShown = 0  # how many of the job's outcomes were taken
        self._jobFailures = []  # why some of these could not be shown, in sentences; said when the job ends
        self._watched = []  # results whose changes the list follows
        self._results = Following(vtk.vtkCommand.ModifiedEvent, self.onResultModified)
        self._lit = None  # id of the result of which a finding stands out
        self._hint = ""  # what the list of findings cannot tell
        self._spacingOf = ("", frozenset())  # ids of the image and of all images that the pixel spacing was typed for
        # Nodes go one by one, also while a result gives way to the next: the list looks at them when all of that is done.
        self._removed = qt.QTimer()
        self._removed.setSingleShot(True)
        self._removed.interval = 0
        self._removed.connect("timeout()", self.onRemoved)
        events = (
            slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent,
            slicer.vtkMRMLMarkupsNode.PointPositionUndefinedEvent,
            slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent,
        )
        self._nipples = [Following(event, self.onNippleMoved) for event in events]

    # --- life

    def setupSections(self):
        ui = self.ui
        self.otherPixels = OtherPixels(self.onOtherPixels)
        self.views = ViewsList(ui.viewsList, ui.viewsLabel, self.otherPixels, self.updatePanel)
        self.findings = FindingsTable(ui.findingsTable)
        self.review = ReviewSection(ui, self.findings, self.showFindings)
        self.overview = Overview(ui.overviewButton, self.onOverviewFinding, self.onOverviewPlace)
        self.otherView = OtherView(ui, self.onRow)
        self.export = ReportExport(self, self.startExport, lambda: self._parameterNode, self.updatePanel)
        for selector in (ui.nippleSelector, ui.otherNippleSelector):
            on_new_node(selector, mrml.start_placing)
        ui.findingsTable.connect("currentCellChanged(int,int,int,int)", self.onRow)
        ui.findingsTable.connect("cellClicked(int,int)", self.onRow)
        ui.previousButton.connect("clicked(bool)", self.onPrevious)
        ui.nextButton.connect("clicked(bool)", self.onNext)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeAddedEvent, self.onSceneNodes)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeRemovedEvent, self.onNodeRemoved)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneNodes)
        keys = (
            (NEXT, ui.nextButton, self.onNext),
            (PREVIOUS, ui.previousButton, self.onPrevious),
            (ACCEPT, ui.acceptButton, self.review.accept),
            (REJECT, ui.rejectButton, self.review.reject),
            (UNDO, ui.undoButton, self.review.undo),
        )
        self.shortcuts = Shortcuts(self.parent, keys)

    def cleanup(self):
        with contextlib.ExitStack() as last:  # each of them, from the last to the first, whatever fails
            last.callback(AnalysisPanel.cleanup, self)
            last.callback(self._removed.disconnect, "timeout()", self.onRemoved)
            for part in (self._removed.stop, self.otherPixels.close, self.export.close, self.overview.close, self.shortcuts.close):
                last.callback(part)

    def enter(self):
        AnalysisPanel.enter(self)
        self.shortcuts.enable(True)
        self.showFindings()  # outlines may have been corrected in another module

    def exit(self):
        try:
            self.review.keep_note()
            self.shortcuts.enable(False)
        finally:
            AnalysisPanel.exit(self)

    def setParameterNode(self, parameterNode):
        if parameterNode is not None:  # a scene was opened, or the module: what it holds is about its images
            self._spacingOf = self.chosenIDs(parameterNode)
        AnalysisPanel.setParameterNode(self, parameterNode)
        self.views.show(parameterNode)
        if parameterNode is None:
            self.watch(())
            self.watchNipples(())

    def clearResults(self):
        self.watch(())
        self._lit = None
        self.otherView.clear()
        self.review.clear()
        self.export.clear()
        self.findings.show(())
        self.overview.clear()
        self.showFinding()

    # --- what is chosen

    def onSceneNodes(self, caller, event):
        if self._parameterNode is not None and not slicer.mrmlScene.IsBatchProcessing():
            self.views.show(self._parameterNode)

    def onNodeRemoved(self, caller, event):
        self.onSceneNodes(caller, event)
        self._removed.start()

    def onSceneEndBatch(self, caller, event):
        AnalysisPanel.onSceneEndBatch(self, caller, event)
        self._removed.start()  # what went meanwhile was not looked at

    def onRemoved(self):
        """Nodes were removed: what the list shows may be gone."""
        if self._parameterNode is not None and not slicer.mrmlScene.IsBatchProcessing():
            self.views.show(self._parameterNode)
            self.showFindings()

    def updatePanel(self):
        AnalysisPanel.updatePanel(self)
        if self._parameterNode is None:
            return
        self.followSpacing()
        self.views.show(self._parameterNode)
        images = self.logic.images(self._parameterNode)
        flat = any(not self.logic.isVolume(v) for v in images)
        self.ui.pixelSpacingSpinBox.enabled = any(self.logic.asksForSpacing(v) for v in images) or not images
        self.ui.allLesionsCheckBox.enabled = flat or not images
        self.watchNipples((self._parameterNode.nipple, self._parameterNode.otherNipple))
        self.showFindings()
        self.otherView.follow(self._parameterNode)

    def chosenIDs(self, parameterNode):
        """Id of the image, "" for none, and those of all chosen images."""
        volume = parameterNode.inputVolume
        images = self.logic.images(parameterNode)
        return volume.GetID() if volume is not None else "", frozenset(v.GetID() for v in images)

    def followSpacing(self):
        """Forget the pixel spacing that was typed for other images: a made-up millimetre is worse than none."""
        (before, known), self._spacingOf = self._spacingOf, self.chosenIDs(self._parameterNode)
        asked = [v for v in self.logic.images(self._parameterNode) if self.logic.asksForSpacing(v)]
        if self._spacingOf[0] != before or any(v.GetID() not in known for v in asked):
            said = {mrml.spacing_by_user(v) for v in asked}
            # Where it was said of each image before, and differently, each keeps its own.
            self._parameterNode.pixelSpacing = said.pop() if len(said) == 1 else 0.0

    # --- the analysis

    def beginJob(self, volume):
        images = self.logic.images(self._parameterNode)
        self._jobVolumeIDs = tuple(v.GetID() for v in images)
        # What a person said of an image before, in BreastUSAI Segment, say, holds where nothing is said here.
        spacing = self._parameterNode.pixelSpacing
        asked = [v for v in images if self.logic.asksForSpacing(v)]
        self._jobSpacings = {v.GetID(): spacing or mrml.spacing_by_user(v) for v in asked}
        self._jobShown, self._jobFailures = 0, []
        options = self.logic.options(self._parameterNode)
        return self.logic.start(images, options, self.onStep, self.ui.logTextEdit.appendPlainText, self._jobSpacings)

    def onStep(self, fraction, message, left):
        self.onProgress(fraction, message)
        if left:
            self.showStatus(_("{step}; {time} left").format(step=message, time=left))

    def onPoll(self):
        job = self._job
        AnalysisPanel.onPoll(self)
        if self._job is not None and len(job.outcomes) > self._jobShown:
            self.showOutcomes(job.outcomes)

    def abandonJob(self, error):
        try:
            self.showOutcomes(self._job.outcomes)  # what is there by now is kept
        except Exception as another:
            self._jobFailures.append(told(another))
        try:
            self.cancelJob()
        finally:
            self.showError("\n".join([told(error), *self._jobFailures]))

    def takeResult(self, job):
        outcomes = job.result()
        self.showOutcomes(outcomes)
        failed = [o for o in outcomes if o.error is not None]
        self.ui.progressBar.value = 100
        self.showStatus(self.logic.summary(outcomes))
        if self._jobFailures or failed:
            raise BreastUSAIError("\n".join([str(o.error) for o in failed] + self._jobFailures))
        if self._parameterNode is not None and self.findings.current() is None:
            self.findings.step(1)  # not in another module, whose views these are now

    def showOutcomes(self, outcomes):
        """Show those that were not shown yet; keeps why one cannot be shown."""
        for volumeID, outcome in list(zip(self._jobVolumeIDs, outcomes, strict=False))[self._jobShown :]:
            self._jobShown += 1
            if outcome.study is None:
                continue
            volume = slicer.mrmlScene.GetNodeByID(volumeID)
            try:
                if volume is None:
                    said = _("{image} was removed from the scene while it was analysed; load it again.")
                    raise ImageError(said.format(image=outcome.name))
                spacing = self._jobSpacings.get(volumeID)
                before = mrml_workup.workup_of(volume)
                self.review.replaced(self.logic.show(outcome.study, volume, spacing, outcome.keys, outcome.crops))
                if before is not None:  # its node may stay for what a person drew
                    self.review.replaced(before)
            except Exception as error:
                named = told(error) if isinstance(error, BreastUSAIError) else f"{outcome.name}: {told(error)}"
                self._jobFailures.append(named)
        self.showFindings()

    def cancelJob(self):
        try:
            self.export.forget()
        finally:
            AnalysisPanel.cancelJob(self)

    def onCancelButton(self, checked=False):
        AnalysisPanel.onCancelButton(self, checked)
        if self._jobFailures:
            self.showError("\n".join(self._jobFailures))

    # --- the list

    def showFindings(self):
        """The findings of all chosen images, from their nodes."""
        if self._parameterNode is None:
            return
        results = self.logic.results(self._parameterNode)
        self.watch(results)
        try:
            rows, hint = self.logic.rows(self._parameterNode)
        except BreastUSAIError as error:
            rows, hint = (), str(error)
        self.findings.show(rows)
        self._hint = hint
        self.showHint()
        self.ui.exportButton.enabled = bool(results) and self._job is None and not self.export.running
        self.ui.openReportButton.enabled = self.export.written is not None
        self.showMaps()
        self.showFinding()

    def showHint(self):
        """What the list cannot tell, and which of its images show other pixels; these are marked in the list of views as well."""
        parameters = self._parameterNode
        images = mrml_workup.images(slicer.mrmlScene)
        self.otherPixels.follow([image for image in images if mrml_workup.workup_of(image) is not None])
        said = [self._hint, self.otherPixels.sentence(self.logic.images(parameters))]
        self.ui.clockLabel.text = " ".join(words for words in said if words)
        self.ui.clockLabel.setVisible(any(said))
        self.views.show(parameters)

    def onOtherPixels(self):
        if self._parameterNode is not None and not slicer.mrmlScene.IsBatchProcessing():
            self.showHint()

    def showMaps(self):
        """Where networks looked, over the images that have such a map."""
        images = self.logic.images(self._parameterNode)
        parameters = self._parameterNode
        found = [mrml_workup.show_map(image, parameters.showMap, parameters.shownMap.value) for image in images]
        self.ui.mapCheckBox.setVisible(any(found))
        self.ui.shownMapComboBox.setVisible(parameters.showMap and any(len(kinds) > 1 for kinds in found))

    def watch(self, results):
        """Follow changes of these results, and of no others."""
        self._watched = list(results)
        self._results.follow(self._watched)

    def onResultModified(self, caller, event):
        self.showFindings()

    def watchNipples(self, points):
        """Follow these lists of points (None: none), and no others: clock positions and places in the other view are told from them."""
        found = [p for p in points if p is not None]
        for following in self._nipples:
            following.follow(found)

    def onNippleMoved(self, caller, event):
        self.showFindings()
        if self._parameterNode.otherView is not None:
            self.onRow()

    def onRow(self, *_where):
        """A finding was chosen: all views go there, and it stands out."""
        row = self.findings.current()
        self.showFinding()
        shown = slicer.mrmlScene.GetNodeByID(row.shown) if row is not None else None
        if shown is None or self._parameterNode is None:  # removed just now, or the module was left
            return
        if self._lit not in (None, row.shown) and slicer.mrmlScene.GetNodeByID(self._lit) is not None:
            mrml_workup.highlight(slicer.mrmlScene.GetNodeByID(self._lit), None)
        self._lit = row.shown
        if self.goTo(shown, row.finding.id) and slicer.app.layoutManager() is not None:
            slicer.util.resetSliceViews()  # another image is shown now, of another size
            self.goTo(shown, row.finding.id)
        self.showMaps()

    def goTo(self, shown, finding):
        """Let the views look at a finding, and at its place in the other view where one is chosen; whether they showed other images."""
        if self._parameterNode.otherView is not None:
            return self.otherView.go(shown, finding, self._parameterNode)
        return self.logic.goTo(shown, finding)

    def showFinding(self):
        """The chosen finding below the list, and in the overview."""
        for button in (self.ui.previousButton, self.ui.nextButton):
            button.enabled = bool(self.findings.rows)
        self.review.show()
        self.showOverview()

    def onNext(self, checked=False):
        self.step(1)

    def onPrevious(self, checked=False):
        self.step(-1)

    def step(self, by):
        self.review.keep_note()
        if self.findings.step(by):
            self.onRow()

    # --- the overview

    def overviewResult(self):
        """The result of the chosen finding, or the first one; None where there is none, or it was removed."""
        row = self.findings.current()
        return slicer.mrmlScene.GetNodeByID(row.shown) if row is not None else next(iter(self._watched), None)

    def showOverview(self):
        """The overview of the image of the chosen finding, or of the first that has a result."""
        row, shown = self.findings.current(), self.overviewResult()
        image = mrml_workup.image_of(shown) if shown is not None else None
        if image is None:
            self.overview.clear()
            return
        study = row.study if row is not None else mrml_workup.listed(shown)[0]
        heat = mrml_workup.map_of(image, mrml_workup.HEAT)
        self.overview.show(image, study, row.finding.id if row is not None else "", heat)

    def onOverviewFinding(self, finding):
        shown = self.overviewResult()
        if shown is not None and self.findings.choose((shown.GetID(), finding)):
            self.onRow()

    def onOverviewPlace(self, point):
        shown = self.overviewResult()
        image = mrml_workup.image_of(shown) if shown is not None else None
        if image is not None:
            mrml_workup.go_to_place(image, point)

    # --- the report

    def startExport(self, folder):
        self.review.keep_note()
        self.ensureDependencies()
        return self.logic.startExport(self._parameterNode, folder)
