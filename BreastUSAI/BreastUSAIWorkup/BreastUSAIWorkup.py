"""The Slicer module BreastUSAI Workup: an examination in, a list of findings out, to be gone through, judged and reported.

The work is BreastUSAILib's; here are the panel, and the logic that carries nodes to the library and back.
"""

import enum
import importlib.util
import logging
import sys
import unittest
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import qt
import slicer
from slicer import vtkMRMLMarkupsFiducialNode, vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleTest

if importlib.util.find_spec("BreastUSAILib") is None:
    # Built and installed, the library lies beside this file; in the source tree it lies two folders up.
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from BreastUSAILib import RESEARCH_USE, child_detection, child_workup, mrml, mrml_workup
from BreastUSAILib.errors import BreastUSAIError, ImageError, UsageError
from BreastUSAILib.review import ACCEPTED, NONE, REJECTED, Review
from BreastUSAILib.slicer_panel import AnalysisLogic, AnalysisPanel, Device

NEXT, PREVIOUS, ACCEPT, REJECT = "Ctrl+Down", "Ctrl+Up", "Ctrl+Shift+A", "Ctrl+Shift+R"


class BreastUSAIWorkup(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("BreastUSAI Workup")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Ultrasound")]
        self.parent.dependencies = []
        self.parent.contributors = ["The BreastUSAI contributors"]
        self.parent.helpText = (
            _(
                "Everything in one click: finds, outlines, measures and grades the lesions of a 2D breast ultrasound image or of "
                "the views of an automated breast ultrasound (ABUS) examination, as far as models are installed or chosen under "
                "Advanced. Then go through the list: a click shows a finding in all views; accept it, reject it, correct its box "
                "or outline, write a note; all of it is saved with the scene. At the end, export the report. Nothing is sent anywhere."
            )
            + f"<p>{_('Keyboard: {next} and {previous} go through the list, {accept} accepts, {reject} rejects.')}</p>".format(
                next=NEXT, previous=PREVIOUS, accept=ACCEPT, reject=REJECT
            )
            + f"<p><b>{RESEARCH_USE}</b></p>"
        )
        self.parent.acknowledgementText = _(
            "After Huang et al., Two-stage CNNs for computerized BI-RADS categorization in breast ultrasound images, BioMed Eng "
            "OnLine 2019;18:8 (outlines and grades of 2D images); Yu et al., Computer-aided tumor diagnosis in automated breast "
            "ultrasound using 3D detection network, MICCAI 2020 (detection); Zhou et al., Multi-task learning for segmentation "
            "and classification of tumors in 3D automated breast ultrasound images, Med Image Anal 2021;70:101918 (outlines in "
            "volumes)."
        )


class Breast(enum.Enum):
    """Which breast the images show."""

    UNKNOWN = ""
    RIGHT = "R"
    LEFT = "L"

    def label(self):
        return {"": _("as the volume says"), "R": _("right"), "L": _("left")}[self.value]


@parameterNodeWrapper
class BreastUSAIWorkupParameterNode:
    """The panel's state, kept in the scene. The further views of the examination are node references beside it
    (`mrml_workup.further_images`).

    inputVolume - the image or volume.
    nipple - a point on the nipple, for clock positions; breast - which one it is.
    earlier - a volume of the same breast from an earlier examination, to compare with; it needs a workup of its own.
    reportFolder - where reports go.
    showMap - where networks looked is shown over the images.

    device, allLesions - see the workup's options.
    pixelSpacing - mm, for 2D images that do not say it; 0: unknown.
    model - of 2D images: id in the catalogue; "": the default.
    modelFolder, detectFolder, classifierFolder, outlineFolder, gcnnFolder, mtnetFolder, snnetFolder - the user's own models; "": none.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    nipple: vtkMRMLMarkupsFiducialNode
    breast: Breast = Breast.UNKNOWN
    earlier: vtkMRMLScalarVolumeNode
    reportFolder: str = ""
    showMap: bool = False
    device: Device = Device.AUTO
    allLesions: bool = False
    pixelSpacing: Annotated[float, WithinRange(0.0, 10.0)] = 0.0
    model: str = ""
    modelFolder: str = ""
    detectFolder: str = ""
    classifierFolder: str = ""
    outlineFolder: str = ""
    gcnnFolder: str = ""
    mtnetFolder: str = ""
    snnetFolder: str = ""


class BreastUSAIWorkupWidget(AnalysisPanel):
    """The panel."""

    applyToolTip = _("Find, outline, measure and grade the lesions, as far as there are models for it.")
    folders = (
        "modelFolder",
        "detectFolder",
        "classifierFolder",
        "outlineFolder",
        "gcnnFolder",
        "mtnetFolder",
        "snnetFolder",
        "reportFolder",
    )

    def __init__(self, parent=None):
        AnalysisPanel.__init__(self, parent)
        self._jobVolumeIDs = ()
        self._jobSpacings = {}  # id of a 2D image -> the pixel spacing that the analysis took for it
        self._jobShown = 0  # how many of the job's outcomes were taken
        self._findings = None
        self._watched = []  # results whose changes the list follows
        self._lit = None  # id of the result of which a finding stands out
        self._views = None  # what the list of views shows
        self._report = None  # the report that was written last
        self._export = None
        self._shortcuts = []
        self._overview = None
        self._note = (None, "")  # the finding and its note that the line for notes was filled with

    def makeLogic(self):
        return BreastUSAIWorkupLogic()

    # --- life

    def setup(self):
        # Before the parameters come: setting them fills the list.
        from BreastUSAILib.slicer_findings import FindingsTable
        from BreastUSAILib.slicer_overview import Overview

        self.makeFindings, self.makeOverview = FindingsTable, Overview
        AnalysisPanel.setup(self)
        ui = self.ui
        ui.nippleSelector.connect("nodeAddedByUser(vtkMRMLNode*)", mrml.start_placing)
        ui.viewsList.connect("itemChanged(QListWidgetItem*)", self.onViewChecked)
        ui.findingsTable.connect("currentCellChanged(int,int,int,int)", self.onRow)
        ui.findingsTable.connect("cellClicked(int,int)", self.onRow)
        for button, slot in (
            (ui.previousButton, self.onPrevious),
            (ui.nextButton, self.onNext),
            (ui.acceptButton, self.onAccept),
            (ui.rejectButton, self.onReject),
            (ui.editBoxButton, self.onEditBox),
            (ui.editOutlineButton, self.onEditOutline),
            (ui.exportButton, self.onExport),
            (ui.openReportButton, self.onOpenReport),
        ):
            button.connect("clicked(bool)", slot)
        ui.noteEdit.connect("editingFinished()", self.onNote)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeAddedEvent, self.onSceneNodes)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeRemovedEvent, self.onSceneNodes)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneNodes)
        for keys, button, slot in (
            (NEXT, ui.nextButton, self.onNext),
            (PREVIOUS, ui.previousButton, self.onPrevious),
            (ACCEPT, ui.acceptButton, self.onAccept),
            (REJECT, ui.rejectButton, self.onReject),
        ):
            # For the whole window: the hand that reads is in a slice view. Switched on while the module is shown.
            shortcut = qt.QShortcut(qt.QKeySequence(keys), slicer.util.mainWindow() or self.parent)
            shortcut.connect("activated()", slot)
            button.toolTip = f"{button.toolTip} ({keys})"
            self._shortcuts.append(shortcut)

    def cleanup(self):
        for shortcut in self._shortcuts:
            shortcut.enabled = False
            shortcut.deleteLater()
        self._shortcuts = []
        self.overview.close()
        AnalysisPanel.cleanup(self)

    def enter(self):
        AnalysisPanel.enter(self)
        for shortcut in self._shortcuts:
            shortcut.enabled = True
        self.showFindings()  # outlines may have been corrected in another module

    def exit(self):
        self.onNote()
        for shortcut in self._shortcuts:
            shortcut.enabled = False
        AnalysisPanel.exit(self)

    def setParameterNode(self, parameterNode):
        self._views = None
        AnalysisPanel.setParameterNode(self, parameterNode)
        if parameterNode is None:
            self.watch(())

    def clearResults(self):
        self.watch(())
        self._report, self._export, self._lit = None, None, None
        self.findings.show(())
        self.overview.clear()
        self.showFinding()

    @property
    def overview(self):
        if self._overview is None:
            self._overview = self.makeOverview(self.ui.overviewButton, self.onOverviewFinding, self.onOverviewPlace)
        return self._overview

    @property
    def findings(self):
        if self._findings is None:
            self._findings = self.makeFindings(self.ui.findingsTable)
        return self._findings

    # --- what is chosen

    def onSceneNodes(self, caller, event):
        if self._parameterNode is not None and not slicer.mrmlScene.IsBatchProcessing():
            self.showViews()

    def updatePanel(self):
        AnalysisPanel.updatePanel(self)
        if self._parameterNode is None:
            return
        self.showViews()
        images = self.logic.images(self._parameterNode)
        flat = any(not self.logic.isVolume(v) for v in images)
        self.ui.pixelSpacingSpinBox.enabled = any(self.logic.asksForSpacing(v) for v in images) or not images
        self.ui.allLesionsCheckBox.enabled = flat or not images
        self.showFindings()

    def showViews(self):
        """The other images of the scene, to be checked: shown where there are any."""
        parameters, ui = self._parameterNode, self.ui
        chosen = {v.GetID() for v in mrml_workup.further_images(parameters.parameterNode)}
        main = parameters.inputVolume
        others = [v for v in mrml_workup.images(slicer.mrmlScene) if v is not main] if main is not None else []
        state = [(v.GetID(), v.GetName(), v.GetID() in chosen) for v in others]
        if state == self._views:
            return
        self._views = state
        blocked = ui.viewsList.blockSignals(True)
        ui.viewsList.clear()
        for nodeID, name, isChosen in state:
            item = qt.QListWidgetItem(name)
            item.setData(qt.Qt.UserRole, nodeID)
            item.setCheckState(qt.Qt.Checked if isChosen else qt.Qt.Unchecked)
            ui.viewsList.addItem(item)
        ui.viewsList.blockSignals(blocked)
        for widget in (ui.viewsList, ui.viewsLabel):
            widget.setVisible(bool(state))

    def onViewChecked(self, item):
        volume = slicer.mrmlScene.GetNodeByID(item.data(qt.Qt.UserRole))
        if self._parameterNode is not None and volume is not None:
            chosen = item.checkState() == qt.Qt.Checked
            mrml_workup.set_further_image(self._parameterNode.parameterNode, volume, chosen)
            self.updatePanel()

    # --- the analysis

    def beginJob(self, volume):
        images = self.logic.images(self._parameterNode)
        self._jobVolumeIDs = tuple(v.GetID() for v in images)
        # What a person said of an image before, in BreastUSAI Segment, say, holds where nothing is said here.
        spacing = self._parameterNode.pixelSpacing
        asked = [v for v in images if self.logic.asksForSpacing(v)]
        self._jobSpacings = {v.GetID(): spacing or mrml.spacing_by_user(v) for v in asked}
        self._jobShown = 0
        options = self.logic.options(self._parameterNode)
        return self.logic.start(images, options, self.onStep, self.ui.logTextEdit.appendPlainText, self._jobSpacings)

    def onStep(self, fraction, message, left):
        self.onProgress(fraction, message)
        if left:
            self.showStatus(_("{step}; {time} left").format(step=message, time=left))

    def onPoll(self):
        if self._export is not None:
            self.pollExport()
        job = self._job
        AnalysisPanel.onPoll(self)
        if self._export is not None:
            self._timer.start()
        if self._job is not None and len(job.outcomes) > self._jobShown:
            self.showOutcomes(job.outcomes)

    def takeResult(self, job):
        outcomes = job.result()
        failures = self.showOutcomes(outcomes)
        failed = [o for o in outcomes if o.error is not None]
        self.ui.progressBar.value = 100
        self.showStatus(self.logic.summary(outcomes))
        if failures or failed:
            raise BreastUSAIError("\n".join([str(o.error) for o in failed] + failures))
        if self.findings.current() is None:
            self.findings.step(1)

    def showOutcomes(self, outcomes):
        """Show those that were not shown yet; returns what could not be shown, in sentences."""
        failures = []
        for volumeID, outcome in list(zip(self._jobVolumeIDs, outcomes, strict=False))[self._jobShown :]:
            self._jobShown += 1
            if outcome.study is None:
                continue
            volume = slicer.mrmlScene.GetNodeByID(volumeID)
            try:
                if volume is None:
                    raise ImageError(_("the image was removed from the scene while it was analysed; load it again."))
                self.logic.show(outcome.study, volume, self._jobSpacings.get(volumeID), outcome.keys)
            except BreastUSAIError as error:
                failures.append(str(error))
        self.showFindings()
        return failures

    def cancelJob(self):
        if self._export is not None:
            self._export = None  # the files are written all the same; nobody waits for them
            self._timer.stop()
        AnalysisPanel.cancelJob(self)

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
        self.ui.clockLabel.text = hint
        self.ui.clockLabel.setVisible(bool(hint))
        self.findings.show(rows)
        self.ui.exportButton.enabled = bool(results) and self._job is None and self._export is None
        self.ui.openReportButton.enabled = self._report is not None
        self.showMaps()
        self.showFinding()

    def showMaps(self):
        """Where networks looked, over the images that have such a map."""
        images = self.logic.images(self._parameterNode)
        found = [mrml_workup.show_map(image, self._parameterNode.showMap) for image in images]
        self.ui.mapCheckBox.setVisible(any(found))

    def watch(self, results):
        """Follow changes of these results, and of no others."""
        if self._watched == list(results):
            return
        for node in self._watched:
            self.removeObserver(node, self.modifiedEvent(), self.onResultModified)
        self._watched = list(results)
        for node in self._watched:
            self.addObserver(node, self.modifiedEvent(), self.onResultModified)

    def modifiedEvent(self):
        import vtk

        return vtk.vtkCommand.ModifiedEvent

    def onResultModified(self, caller, event):
        self.showFindings()

    def onRow(self, *_where):
        """A finding was chosen: all views go there, and it stands out."""
        row = self.findings.current()
        self.showFinding()
        if row is None:
            return
        shown = slicer.mrmlScene.GetNodeByID(row.shown)
        if self._lit not in (None, row.shown) and slicer.mrmlScene.GetNodeByID(self._lit) is not None:
            mrml_workup.highlight(slicer.mrmlScene.GetNodeByID(self._lit), None)
        self._lit = row.shown
        if self.logic.goTo(shown, row.finding.id) and slicer.app.layoutManager() is not None:
            slicer.util.resetSliceViews()  # another image is shown now, of another size
            self.logic.goTo(shown, row.finding.id)
        self.showMaps()

    def showFinding(self):
        """The chosen finding below the list, and what can be done with it."""
        ui, row = self.ui, self.findings.current()
        from BreastUSAILib.slicer_findings import details

        ui.detailsLabel.text = details(row) if row is not None else ""
        shown = slicer.mrmlScene.GetNodeByID(row.shown) if row is not None else None
        for button in (ui.acceptButton, ui.rejectButton, ui.noteEdit, ui.editBoxButton):
            button.enabled = shown is not None
        for button in (ui.previousButton, ui.nextButton):
            button.enabled = bool(self.findings.rows)
        ui.editOutlineButton.enabled = shown is not None and self.logic.hasOutline(shown, row.finding.id)
        verdict = row.review.verdict if row is not None else NONE
        ui.acceptButton.checked, ui.rejectButton.checked = verdict == ACCEPTED, verdict == REJECTED
        ui.editBoxButton.checked = shown is not None and mrml_workup.box_is_editable(shown, row.finding.id)
        note = (row.key, row.review.note) if row is not None else (None, "")
        if self._note != note:  # what is being typed stays when anything else changes
            self._note = note
            ui.noteEdit.text = note[1]
        self.showOverview()

    def showOverview(self):
        """The overview of the image of the chosen finding, or of the first that has a result."""
        row = self.findings.current()
        shown = slicer.mrmlScene.GetNodeByID(row.shown) if row is not None else next(iter(self._watched), None)
        image = mrml_workup.image_of(shown) if shown is not None else None
        if image is None:
            self.overview.clear()
            return
        study = row.study if row is not None else mrml_workup.listed(shown)[0]
        self.overview.show(image, study, row.finding.id if row is not None else "")

    def onOverviewFinding(self, finding):
        row = self.findings.current()
        shown = row.shown if row is not None else self._watched[0].GetID()
        if self.findings.choose((shown, finding)):
            self.onRow()

    def onOverviewPlace(self, point):
        row = self.findings.current()
        shown = slicer.mrmlScene.GetNodeByID(row.shown) if row is not None else self._watched[0]
        mrml_workup.go_to_place(mrml_workup.image_of(shown), point)

    def onNext(self, checked=False):
        self.onNote()
        if self.findings.step(1):
            self.onRow()

    def onPrevious(self, checked=False):
        self.onNote()
        if self.findings.step(-1):
            self.onRow()

    def onAccept(self, checked=False):
        self.judge(ACCEPTED)

    def onReject(self, checked=False):
        self.judge(REJECTED)

    def judge(self, verdict):
        """Say it of the chosen finding; a second time takes it back."""
        self.onNote()
        row = self.findings.current()
        if row is not None:
            verdict = NONE if row.review.verdict == verdict else verdict
            self.say(row, Review(verdict, row.review.note))

    def onNote(self):
        """Keep what was typed; also before a key leaves the finding, as the line for notes still has the focus then."""
        row = self.findings.current()
        if row is not None and row.review.note != self.ui.noteEdit.text:
            self.say(row, Review(row.review.verdict, self.ui.noteEdit.text))

    def say(self, row, review):
        shown = slicer.mrmlScene.GetNodeByID(row.shown)
        if shown is not None:
            mrml_workup.set_review(shown, row.finding.id, review)
            mrml_workup.highlight(shown, row.finding.id)
            self.showFindings()

    def onEditBox(self, checked=False):
        row = self.findings.current()
        shown = slicer.mrmlScene.GetNodeByID(row.shown) if row is not None else None
        if shown is not None:
            editable = not mrml_workup.box_is_editable(shown, row.finding.id)
            mrml_workup.set_box_editable(shown, row.finding.id, editable)
            self.showFinding()

    def onEditOutline(self, checked=False):
        """Open the Segment Editor at the finding's segment; what is drawn there is measured when the report is exported."""
        row = self.findings.current()
        shown = slicer.mrmlScene.GetNodeByID(row.shown) if row is not None else None
        if shown is None or not hasattr(slicer.modules, "segmenteditor"):
            return
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        editor.setSegmentationNode(shown)
        editor.setSourceVolumeNode(mrml_workup.image_of(shown))
        editor.setCurrentSegmentID(self.logic.segmentOf(shown, row.finding.id))

    # --- the report

    def onExport(self, checked=False):
        self.onNote()
        folder = self._parameterNode.reportFolder
        if not folder:
            folder = qt.QFileDialog.getExistingDirectory(self.parent, _("Folder for the report"))
            if not folder:
                return
            self._parameterNode.reportFolder = folder
        try:
            self.logic.ensureDependencies(
                lambda text: slicer.util.confirmOkCancelDisplay(text, _("BreastUSAI: install packages"))
            )
            self._export = self.logic.startExport(self._parameterNode, folder)
        except BreastUSAIError as error:
            self.showError(str(error))
            return
        self.showStatus(_("writing the report"))
        self.ui.exportButton.enabled = self.ui.applyButton.enabled = False
        self._timer.start()

    def pollExport(self):
        if not self._export.poll():
            return
        if self._job is None:
            self._timer.stop()
        export, self._export = self._export, None
        try:
            written = export.result()
            self._report = written[0]
            self.showStatus(_("Report: {files}").format(files=", ".join(str(p) for p in written)))
        except BreastUSAIError as error:
            self.showError(str(error))
        self.updatePanel()

    def onOpenReport(self, checked=False):
        if self._report is not None:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self._report)))


class BreastUSAIWorkupLogic(AnalysisLogic):
    """From nodes to the library and back. No GUI: it runs in a Slicer without window as well.

    Parameters
    ----------
    runner : works up a loaded image in line; `BreastUSAILib.workup.run_workup` by default.
    childWorkup : makes the child process of one image; `BreastUSAILib.child_workup.ChildWorkup` by default.
    """

    task = "segment"
    noImage = _("Choose an ultrasound image or volume.")

    def __init__(self, runner=None, childWorkup=None):
        AnalysisLogic.__init__(self)
        self._runner = runner
        self._childWorkup = childWorkup or child_workup.ChildWorkup

    def getParameterNode(self):
        return BreastUSAIWorkupParameterNode(super().getParameterNode())

    def images(self, parameterNode):
        """The chosen image, then the further views."""
        chosen = [parameterNode.inputVolume, *mrml_workup.further_images(parameterNode.parameterNode)]
        return [v for i, v in enumerate(chosen) if v is not None and v not in chosen[:i]]

    def isVolume(self, volume):
        """Whether a volume node has several slices along each axis; an image has one slice."""
        data = volume.GetImageData()
        return data is not None and min(data.GetDimensions()) > 1

    def asksForSpacing(self, volume):
        """Whether the user may say what a pixel of an image measures: the image does not, or the user said it before."""
        return not self.isVolume(volume) and (not mrml.spacing_known(volume) or mrml.spacing_by_user(volume) > 0)

    def options(self, parameterNode):
        """The workup's options that the parameters mean."""
        from BreastUSAILib.workup import DetectionOptions, GradingOptions, SegmentationOptions, WorkupOptions

        return WorkupOptions(
            model=parameterNode.modelFolder or parameterNode.model,
            device=parameterNode.device.value,
            lesions="all" if parameterNode.allLesions else "central",
            detection=DetectionOptions(model=parameterNode.detectFolder, classifier=parameterNode.classifierFolder),
            segmentation=SegmentationOptions(model=parameterNode.outlineFolder),
            grading=GradingOptions(
                gcnn=parameterNode.gcnnFolder or None,
                mtnet=parameterNode.mtnetFolder or None,
                snnet=parameterNode.snnetFolder or None,
            ),
        )

    # --- may it run

    def reasonAgainst(self, volume, parameterNode=None):
        reason = AnalysisLogic.reasonAgainst(self, volume, parameterNode)
        if reason or parameterNode is None:
            return reason
        images = self.images(parameterNode)
        for image in images:
            reason = AnalysisLogic.reasonAgainst(self, image, parameterNode)
            if not reason and self.isVolume(image):
                reason = self.reasonAgainstVolumeModel(parameterNode)
            if reason:
                return reason
        return ""

    def reasonAgainstSize(self, size, volume):
        if min(size, default=0) > 1:
            return child_detection.reason_against_volume(size, mrml.volume_spacing_known(volume), volume.GetName())
        return child_workup.reason_against_size(size, volume.GetName())

    def reasonAgainstVolumeModel(self, parameterNode):
        """Why lesions of volumes cannot be looked for; "" when there is a model or a folder was chosen."""
        from BreastUSAILib.models import catalog

        if parameterNode.detectFolder or catalog.ships("detect"):
            return ""
        return catalog.no_model("detect", _("Advanced, Detection in volumes"))

    # --- the analysis

    def pixels(self, volume, pixelSpacing=None):
        """An image as the library takes it. ImageError when it cannot be worked up.

        :param pixelSpacing: mm, taken instead of the own one of a 2D image, which stays as it is; 0: unknown.
        """
        reason = self.reasonAgainst(volume)
        if reason:
            raise ImageError(reason)
        image = mrml.image_from_volume(volume)
        if self.isVolume(volume):
            return child_detection.AbusPixels(image, volume.GetName(), mrml.volume_spacing_known(volume))
        pixels = child_workup.VolumePixels(image, volume.GetName(), mrml.spacing_known(volume))
        return pixels if pixelSpacing is None else pixels.with_spacing(pixelSpacing)

    def start(self, volumes, options, onProgress=None, onLog=None, pixelSpacings=None):
        """Begin the workup of some images, one after the other, each in a child process; returns a `child_queue.ChildQueue`.

        :param onProgress: called with a fraction, what is being done, and the time left in words.
        :param pixelSpacings: id of a 2D image -> see `pixels`; give the same to `show`.
        """
        from BreastUSAILib.child_queue import ChildQueue

        def starter(volume):
            pixels = self.pixels(volume, (pixelSpacings or {}).get(volume.GetID()))  # nodes are read here and now
            return pixels.name, lambda progress, log: self._childWorkup(pixels, options, progress, log)

        return ChildQueue([starter(volume) for volume in volumes], onProgress, onLog)

    def process(self, volume, options=None, progress=None):
        """Work up an image in line and show what was found; returns the result's node.

        :param options: `BreastUSAILib.workup.WorkupOptions`.
        :param progress: called with a fraction (0 to 1) and a message.
        :raises BreastUSAIError: one sentence for the user; the scene was not changed then.
        """
        from BreastUSAILib.workup import WorkupOptions, run_workup

        loaded = child_workup.load_input(self.pixels(volume))
        return self.show((self._runner or run_workup)(loaded, options or WorkupOptions(), progress), volume)

    def show(self, study, volume, pixelSpacing=None, keys=None):
        """The nodes of a study, in place of the workup that the image had; returns the result's node; a word to the log."""
        shown = mrml_workup.show_workup(volume.GetScene(), study, volume, pixelSpacing, keys)
        logging.info("BreastUSAI Workup, %s: %s", volume.GetName(), study.summary)
        return shown

    def summary(self, outcomes):
        """What was found, in words, image by image where there are several."""
        from BreastUSAILib.workup import trained_on_phantoms

        done = [o for o in outcomes if o.study is not None]
        said = [o.study.summary if len(outcomes) == 1 else f"{o.name}: {o.study.summary}" for o in done]
        if any(trained_on_phantoms(o.study) for o in done):
            said.append(_("A model was trained on phantoms, not on patients."))
        notes = dict.fromkeys(note for o in done for note in o.study.provenance.get("notes", ()))
        said += [f"{note[:1].upper()}{note[1:].rstrip('.')}." for note in notes]
        return " ".join(said)

    # --- the findings

    def results(self, parameterNode):
        """The result's nodes of the chosen images, of those that have one."""
        found = (mrml_workup.workup_of(volume) for volume in self.images(parameterNode))
        return [node for node in found if node is not None]

    def rows(self, parameterNode):
        """The findings of the chosen images as rows of the list (`slicer_findings.Row`), and a sentence where the positions about
        the nipple cannot be told, or "".

        :raises DataError: what a node keeps cannot be read.
        """
        from BreastUSAILib.slicer_findings import Row

        rows, hints = [], []
        for shown in self.results(parameterNode):
            study, there = mrml_workup.listed(shown)
            reviews, image = mrml_workup.reviews_of(shown), mrml_workup.image_of(shown)
            try:
                study = self.withPositions(study, image, parameterNode)
            except UsageError as error:
                hints.append(str(error))
            changes = {}
            if image is parameterNode.inputVolume and parameterNode.earlier is not None:
                changes, hint = self.changes(study, there, parameterNode)
                hints.append(hint)
            ids = {f.id for f in there}
            for index, finding in enumerate(study.findings):
                if finding.id in ids:
                    review = reviews.get(finding.id, Review())
                    change = changes.get(finding.id, "")
                    rows.append(Row(shown.GetID(), image.GetName(), finding, study, review, index, change))
        return rows, " ".join(dict.fromkeys(h for h in hints if h))

    def changes(self, study, there, parameterNode):
        """What became of the findings since the earlier examination: finding -> words, and a sentence on the rest, or why nobody knows."""
        from BreastUSAILib.comparison import compare
        from BreastUSAILib.slicer_findings import change_words, gone_words

        volume = parameterNode.earlier
        shown = mrml_workup.workup_of(volume)
        if shown is None:
            return {}, _("Run the workup on {volume} as well, to compare with it.").format(volume=volume.GetName())
        earlier, was_there = mrml_workup.listed(shown)
        rejected = {i for i, review in mrml_workup.reviews_of(shown).items() if review.verdict == REJECTED}
        try:
            earlier = replace(earlier, findings=tuple(f for f in was_there if f.id not in rejected))
            compared = compare(
                self.withPositions(earlier, volume, parameterNode), replace(study, findings=self.those(study, there))
            )
        except UsageError as error:
            return {}, str(error)
        return {p.later.id: change_words(compared, p) for p in compared.pairs if p.later is not None}, gone_words(compared)

    def those(self, study, findings):
        """Of a study's findings, those that are still there."""
        ids = {f.id for f in findings}
        return tuple(f for f in study.findings if f.id in ids)

    def withPositions(self, study, volume, parameterNode):
        """The study with clock positions where the nipple was placed and it is a volume. UsageError where they cannot be told."""
        from BreastUSAILib.breast_position import with_positions

        points = mrml.points_of(volume, parameterNode.nipple) if parameterNode.nipple is not None else ()
        if not points or not self.isVolume(volume):
            return study
        return with_positions(study, points[0], parameterNode.breast.value)

    def goTo(self, shown, finding):
        """Let all views look at a finding, which stands out; whether they showed another image before."""
        image = mrml_workup.image_of(shown)
        changed = image is not None and mrml_workup.show_image(image)
        mrml_workup.go_to(shown, finding)
        mrml_workup.highlight(shown, finding)
        return changed

    def segmentOf(self, shown, finding):
        """Id of a finding's segment; "" where it has none."""
        return mrml.parts_of(shown).segments.get(finding, "")

    def hasOutline(self, shown, finding):
        return bool(self.segmentOf(shown, finding))

    # --- the report

    def startExport(self, parameterNode, folder):
        """Begin to write the report of each chosen image that has a result, with all files of a run; returns a task to poll, whose
        result are the paths of the reports.

        :raises DataError: there is nothing to report, or an image was removed.
        """
        from BreastUSAILib.background import BackgroundTask
        from BreastUSAILib.review_report import report_folders, write_reviewed

        work = []
        for shown in self.results(parameterNode):
            image = mrml_workup.image_of(shown)
            finish, reviews = mrml_workup.current(shown), mrml_workup.reviews_of(shown)
            position = self.positioner(image, parameterNode)
            work.append((image.GetName(), finish, reviews, position))
        folders = report_folders(Path(folder), [name for name, *_rest in work])

        def write():
            written = []
            for (_name, finish, reviews, position), target in zip(work, folders, strict=True):
                study, image = finish()
                written.append(write_reviewed(position(study), image, reviews, target))
            return written

        return BackgroundTask(write)

    def positioner(self, volume, parameterNode):
        """What adds clock positions to a study without looking at nodes again; studies without come back as they are."""
        points = mrml.points_of(volume, parameterNode.nipple) if parameterNode.nipple is not None else ()
        side = parameterNode.breast.value
        if not points or not self.isVolume(volume):
            return lambda study: study

        def place(study):
            from BreastUSAILib.breast_position import with_positions

            try:
                return with_positions(study, points[0], side)
            except UsageError:
                return study  # the panel says why

        return place


class BreastUSAIWorkupTest(ScriptedLoadableModuleTest):
    """The self-test: findings of a volume are shown, judged, corrected and reported; an image is worked up in a child process.

    What needs packages that are not in this Slicer is skipped: the machine that builds extensions has none of them.
    """

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self, **kwargs):
        for test in (self.test_findingsAreJudged, self.test_report, self.test_imageInChildProcess):
            self.setUp()
            try:
                test()
            except unittest.SkipTest as reason:
                self.delayDisplay(f"Skipped: {reason}")

    def needPackages(self):
        from BreastUSAILib import slicer_install

        missing = slicer_install.missing()
        if missing:
            self.skipTest(f"{', '.join(missing)} are not installed in this Slicer.")

    def syntheticVolume(self):
        """A volume with two dark boxes (60 x 40 x 50 voxels of 0.8 x 0.5 x 1.0 mm)."""
        import numpy as np
        import SimpleITK as sitk

        voxels = np.full((50, 40, 60), 150, np.uint8)
        voxels[10:20, 12:24, 15:30] = 40
        voxels[35:41, 8:16, 44:52] = 40
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing((0.8, 0.5, 1.0))
        return mrml.add_volume(slicer.mrmlScene, image, "synthetic")

    def darkPieces(self, loaded, options, progress):
        """Stands for the models: what is dark, outlined; the smaller piece is the more suspicious."""
        import SimpleITK as sitk

        from BreastUSAILib.findings import Finding, Study
        from BreastUSAILib.grid import box_of_mask

        pieces = sitk.RelabelComponent(sitk.ConnectedComponent(loaded.image < 100), sortByObjectSize=True)
        masks = [sitk.Cast(pieces == i, sitk.sitkUInt8) for i in (1, 2)]
        findings = (
            Finding("L1", box_of_mask(masks[0]), 0.9, 0.1, mask=masks[0], label=1),
            Finding("L2", box_of_mask(masks[1]), 0.7, 0.8, mask=masks[1], label=2),
        )
        return Study(loaded.info, findings)

    def test_findingsAreJudged(self):
        self.delayDisplay("Findings are listed by suspicion, shown, and judged")
        volume, logic = self.syntheticVolume(), BreastUSAIWorkupLogic(runner=self.darkPieces)
        shown = logic.process(volume)
        parameters = logic.getParameterNode()
        parameters.inputVolume = volume
        from BreastUSAILib.slicer_findings import sort_rows

        rows, hint = logic.rows(parameters)
        self.assertEqual(([row.finding.id for row in sort_rows(rows)], hint), (["L2", "L1"], ""))
        # The middle of voxels 44 to 51, 8 to 15 and 35 to 40 of a volume whose first axes point to the left and backwards.
        logic.goTo(shown, "L2")
        for found, expected in zip(mrml_workup.position_of(shown, "L2"), (-47.5 * 0.8, -11.5 * 0.5, 37.5), strict=True):
            self.assertAlmostEqual(found, expected, delta=1e-4)
        mrml_workup.set_review(shown, "L1", Review(REJECTED, "rib"))
        again = logic.process(volume)  # what was said stays with the lesion
        self.assertEqual(mrml_workup.reviews_of(again), {"L1": Review(REJECTED, "rib")})
        self.assertEqual(again.GetSegmentation().GetNumberOfSegments(), 2)

    def test_report(self):
        self.needPackages()
        self.delayDisplay("The report leaves out what was rejected")
        import json
        import tempfile

        volume, logic = self.syntheticVolume(), BreastUSAIWorkupLogic(runner=self.darkPieces)
        mrml_workup.set_review(logic.process(volume), "L1", Review(REJECTED, "rib"))
        parameters = logic.getParameterNode()
        parameters.inputVolume = volume
        with tempfile.TemporaryDirectory() as folder:
            (report,) = logic.startExport(parameters, folder).result()
            study = json.loads((report.parent / "study.json").read_text(encoding="utf-8"))
            self.assertIn("rejected by the reader: rib", report.read_text(encoding="utf-8"))
        self.assertEqual([f["id"] for f in study["findings"]], ["L2"])

    def test_imageInChildProcess(self):
        self.needPackages()
        self.delayDisplay("An image in a child process")
        import time

        import numpy as np
        import SimpleITK as sitk

        rng = np.random.default_rng(20)
        y, x = np.mgrid[:384, :512]
        inside = ((x - 256) / 90.0) ** 2 + ((y - 190) / 60.0) ** 2 < 1
        pixels = np.where(inside, 45.0, 130.0) * rng.gamma(6.0, 1 / 6.0, inside.shape)
        pixels = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(pixels), 1.2))
        image = sitk.GetImageFromArray(np.clip(pixels, 0, 255).astype(np.uint8)[None])
        image.SetSpacing((0.1, 0.1, 1.0))
        volume = mrml.add_volume(slicer.mrmlScene, image, "synthetic")
        logic = BreastUSAIWorkupLogic()
        parameters = logic.getParameterNode()
        parameters.inputVolume = volume
        seen = []
        job = logic.start([volume], logic.options(parameters), lambda *p: seen.append(p))
        while not job.poll():
            slicer.app.processEvents()
            time.sleep(0.05)
        (outcome,) = job.result()
        if outcome.error is not None:
            raise outcome.error
        shown = logic.show(outcome.study, volume, None, outcome.keys)
        self.assertTrue(seen)
        area = float(inside.sum()) * 0.01
        study, findings = mrml_workup.listed(shown)
        self.assertEqual((len(findings), study.image.path), (1, "synthetic"))
        self.assertGreater(findings[0].measurements["area_mm2"], 0.7 * area)
        self.assertLess(findings[0].measurements["area_mm2"], 1.3 * area)
