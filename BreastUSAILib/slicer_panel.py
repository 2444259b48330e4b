"""What the panels and Logics of BreastUSAI's modules have in common: an image, a model, a child process, a result.

Imported by the Slicer modules only: it needs Slicer's Qt. A module adds its parameters, its own widgets and the nodes in
which its result is shown.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import sys

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic, ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from . import RESEARCH_USE, mrml_overlay, slicer_resume
from .errors import BreastUSAIError, Cancelled, ImageError
from .slicer_binding import Binding, Following
from .slicer_install import RestartNeeded

POLL_MS = 50  # in Slicer, threads that write and read for a child work while they are polled (`background`)


class Device(enum.Enum):
    """What computes."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"

    def label(self):
        return {"auto": _("automatic"), "cpu": _("CPU"), "cuda": _("NVIDIA GPU"), "mps": _("Apple GPU")}[self.value]


def told(error):
    """An exception as a message; one that nobody foresaw goes to the log besides. Slicer would only print it."""
    if isinstance(error, BreastUSAIError):
        return str(error)
    logging.error("BreastUSAI: unexpected", exc_info=error)
    return _("This failed unexpectedly ({error}); see the log.").format(error=f"{type(error).__name__}: {error}")


def on_new_node(selector, slot):
    """Call a slot with the node that a person lets a qMRMLNodeComboBox add. Until Slicer 5.12 the signal has a name that 5.13 gives up."""
    now = hasattr(selector, "nodeAddedByUserAction")
    selector.connect("nodeAddedByUserAction(vtkMRMLNode*)" if now else "nodeAddedByUser(vtkMRMLNode*)", slot)


class AnalysisPanel(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """A panel: choose an image, press Apply, see the result; the work is a child process that can be cancelled.

    A module says with `makeLogic`, `beginJob` and `finishJob` what is done, and may add to `setup`, `setupSections`, `updatePanel`
    and `onSceneStartClose`. Its .ui has inputSelector, modelComboBox, modelFolderEdit, applyButton, cancelButton,
    progressBar, statusLabel, logTextEdit, researchUseLabel and resultsTableView (a panel that shows results otherwise says
    so with `takeResult` and `clearResults`); its parameter node has inputVolume, model and modelFolder.
    """

    applyToolTip = ""
    folders = ("modelFolder",)  # parameters that are folders; the widget of each has its name and "Edit"

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._binding = None
        self._parameters = Following(vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
        # Slicer's selectors choose the first image of a scene as soon as it is there, which may be before its pixels are.
        self._images = Following(slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent, self.onImageModified)
        self._job = None
        self._jobVolumeID = ""
        self._timer = None
        self._importing = False  # a scene is read while the panel is shown
        self._reason = None  # why Apply is not possible, as shown last

    # --- what a module says

    def makeLogic(self):
        raise NotImplementedError

    def beginJob(self, volume):
        """Start the analysis of a volume and return its job; what `finishJob` needs later is kept."""
        raise NotImplementedError

    def finishJob(self, study, volume):
        """Show a study that the job found in a volume."""
        raise NotImplementedError

    # --- life

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath(f"UI/{self.moduleName}.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.ui.researchUseLabel.text = RESEARCH_USE
        self.logic = self.makeLogic()
        for modelId, description in self.logic.models():
            self.ui.modelComboBox.addItem(modelId)
            self.ui.modelComboBox.toolTip = description

        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        # While a scene is read, selectors choose the first image that comes; that must not replace the choice that is read.
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartImportEvent, self.onSceneStartImport)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndBatchProcessEvent, self.onSceneEndBatch, priority=-1.0)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.ui.cancelButton.connect("clicked(bool)", self.onCancelButton)
        self.ui.modelComboBox.connect("currentIndexChanged(int)", self.onModelChanged)
        for name in self.folders:
            self._folderEdit(name).connect(
                "currentPathChanged(QString)", lambda path, name=name: self.onFolderChanged(name, path)
            )
        self._timer = qt.QTimer()
        self._timer.interval = POLL_MS
        self._timer.connect("timeout()", self.onPoll)
        self.setupSections()
        self.initializeParameterNode()

    def setupSections(self):
        """What a module's panel has besides; the parameters come after it."""

    def cleanup(self):
        # When Slicer ends, some of what a panel shows is gone before the panel is: what must happen happens all the same.
        with contextlib.ExitStack() as last:  # from the last to the first
            last.callback(self.removeObservers)
            last.callback(self.setParameterNode, None)
            last.callback(self._closeTimer)
            last.callback(self.cancelJob)

    def _closeTimer(self):
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.stop()
            timer.disconnect("timeout()", self.onPoll)

    def enter(self):
        self.initializeParameterNode()

    def exit(self):
        # The analysis goes on; only the panel stops following the scene.
        self.setParameterNode(None)

    def onReload(self):
        """For developers: take up changes in the library, too."""
        for name in [n for n in sys.modules if n.split(".")[0] == "BreastUSAILib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, caller, event):
        self.cancelJob()
        self.setParameterNode(None)
        self.clearResults()

    def onSceneEndClose(self, caller, event):
        if getattr(self.parent, "isEntered", True):  # a panel outside the module panel is always shown
            self.initializeParameterNode()

    def onSceneStartImport(self, caller, event):
        self._importing = self._parameterNode is not None
        self.setParameterNode(None)

    def onSceneEndBatch(self, caller, event):
        """After the selectors, which look at the scene at the same moment."""
        if self._importing:
            self._importing = False
            self.initializeParameterNode()

    # --- parameters

    def initializeParameterNode(self):
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameterNode.inputVolume:
            self._parameterNode.inputVolume = self.logic.firstImage()

    def setParameterNode(self, parameterNode):
        """Follow this parameter node (None: none)."""
        if self._parameterNode is not None:
            self._binding.close()
            self._binding = None
            self._parameters.follow(())
            self._images.follow(())
        self._parameterNode = parameterNode
        if parameterNode is not None:
            self._binding = Binding(parameterNode, self.ui)
            self._parameters.follow((parameterNode.parameterNode,))
            self.updatePanel()

    def onParametersModified(self, caller, event):
        self.updatePanel()

    def onImageModified(self, caller, event):
        self.updatePanel()

    def updatePanel(self):
        """What follows from the parameters: the widgets that connectGui does not know, and what is enabled."""
        if self._parameterNode is None:
            return
        self._images.follow(self.logic.images(self._parameterNode))
        combo, model = self.ui.modelComboBox, self._parameterNode.model
        if model and combo.findText(model) < 0:
            combo.addItem(model)  # from a scene of another version; Apply will say that it is not there
        combo.setCurrentIndex(max(combo.findText(model), 0))
        combo.enabled = not self._parameterNode.modelFolder
        for name in self.folders:
            folder = getattr(self._parameterNode, name)
            if self._folderEdit(name).currentPath != folder:
                self._folderEdit(name).currentPath = folder
        volume = self._parameterNode.inputVolume
        reason = self.logic.reasonAgainst(volume, self._parameterNode)
        self.ui.applyButton.enabled = not reason and self._job is None
        self.ui.applyButton.toolTip = reason or self.applyToolTip
        self.ui.cancelButton.enabled = self._job is not None
        if self._job is None and self._reason != reason:
            self._reason = reason
            self.showStatus(reason if self.logic.isWorthSaying(volume, self._parameterNode) else "")

    def onModelChanged(self, index):
        if self._parameterNode is not None:
            # The first is the default, which may be another one in the next version.
            self._parameterNode.model = self.ui.modelComboBox.currentText if index > 0 else ""

    def onFolderChanged(self, name, path):
        if self._parameterNode is not None:
            setattr(self._parameterNode, name, path)

    def _folderEdit(self, name):
        return getattr(self.ui, f"{name}Edit")

    # --- the analysis

    def onApplyButton(self, checked=False):
        volume = self._parameterNode.inputVolume
        try:
            self.ensureDependencies()
            self.ui.logTextEdit.clear()
            self._job = self.beginJob(volume)
        except RestartNeeded as error:
            self.offerRestart(error, volume)
            return
        except Exception as error:
            self.showError(told(error))
            return
        self._timer.start()  # first: whatever fails below, the analysis is waited for
        slicer_resume.take(self.moduleName)  # begun without a restart
        self._jobVolumeID = volume.GetID()
        self.onProgress(0.0, _("starting"))
        self.updatePanel()

    def ensureDependencies(self):
        """Install what is missing when the person agrees. DependencyError otherwise, RestartNeeded where Slicer must be restarted."""
        self.logic.ensureDependencies(
            lambda text: slicer.util.confirmOkCancelDisplay(text, _("BreastUSAI: install packages"))
        )

    def offerRestart(self, error, volume):
        """Keep what was about to be done for the next start, and restart Slicer when the person agrees and that is all that is missing."""
        slicer_resume.remember(slicer_resume.intention(self.moduleName, self._parameterNode.parameterNode, volume))
        then = _("You are asked then whether to go on with {image}.").format(image=volume.GetName())
        text = f"{error} {then}"
        if not error.installed:
            self.showError(text)
            return
        self.showStatus(text)
        question = _("Restart now? What was not saved is lost.")
        if slicer.util.confirmOkCancelDisplay(f"{text} {question}", _("BreastUSAI: restart Slicer")):
            slicer.util.restart()

    def onCancelButton(self, checked=False):
        self.cancelJob()
        self.showStatus(_("Cancelled."))

    def cancelJob(self):
        """End the analysis, if one runs; nothing is changed in the scene."""
        if self._job is None:
            return
        try:
            self._timer.stop()
            self._job.cancel()
        finally:
            self._endJob()

    def onProgress(self, fraction, message):
        self.ui.progressBar.value = round(100 * fraction)
        self.showStatus(message)

    def onPoll(self):
        if self._job is None:
            return
        try:
            if not self._job.poll():
                return
        except Exception as error:
            self.abandonJob(error)
            return
        self._timer.stop()
        job = self._job
        try:
            try:
                self._endJob()
            finally:
                self.takeResult(job)
        except Cancelled:
            self.showStatus(_("Cancelled."))
        except Exception as error:
            self.showError(told(error))

    def abandonJob(self, error):
        """End an analysis that can no longer be asked how far it is, and say why."""
        try:
            self.cancelJob()
        finally:
            self.showError(told(error))

    def takeResult(self, job):
        """What is done with a job that has ended; errors of BreastUSAI become messages."""
        study = job.result()
        volume = slicer.mrmlScene.GetNodeByID(self._jobVolumeID)
        if volume is None:
            raise ImageError(_("the image was removed from the scene while it was analysed; load it again."))
        self.finishJob(study, volume)

    def clearResults(self):
        """Show no results any more."""
        self.ui.resultsTableView.setMRMLTableNode(None)

    def showTable(self, table, study, summary):
        """The end of `finishJob`: the table below, and what was found in words: `summary`, then the study's notes."""
        self.ui.resultsTableView.setMRMLTableNode(table)
        self.ui.progressBar.value = 100
        notes = " ".join(f"{note[:1].upper()}{note[1:].rstrip('.')}." for note in study.provenance.get("notes", ()))
        self.showStatus(f"{summary} {notes}".strip())

    def showStatus(self, text):
        self.ui.statusLabel.text = text

    def showError(self, text):
        self.showStatus(text)
        slicer.util.errorDisplay(text)

    def _endJob(self):
        self._job = None
        self.ui.progressBar.value = 0
        self.ui.cancelButton.enabled = False
        self.updatePanel()


class AnalysisLogic(ScriptedLoadableModuleLogic):
    """From nodes to the library and back. No GUI: it runs in a Slicer without window as well.

    `task` is what its models do; `noImage` what to say where none is chosen.
    """

    task = ""
    noImage = ""

    def models(self):
        """(id, description) of each model that ships for the task; the first is the default."""
        from .models import catalog

        return [(entry.id, entry.description) for entry in catalog.entries() if entry.task == self.task]

    def images(self, parameterNode):
        """What is analysed: the chosen image, if any."""
        return [parameterNode.inputVolume] if parameterNode.inputVolume is not None else []

    def firstImage(self):
        """The first volume of the scene that may be an image; None when there is none."""
        count = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
        volumes = (slicer.mrmlScene.GetNthNodeByClass(i, "vtkMRMLScalarVolumeNode") for i in range(count))
        return next((v for v in volumes if not v.IsA("vtkMRMLLabelMapVolumeNode") and not mrml_overlay.is_map(v)), None)

    def ensureDependencies(self, confirm):
        """Install what is missing after `confirm(text)` said yes; DependencyError otherwise."""
        from . import slicer_install

        slicer_install.ensure_dependencies(confirm)

    def reasonAgainst(self, volume, parameterNode=None):
        """Why this volume cannot be analysed (with these parameters), with the cure; "" when it can. Looks at no voxel."""
        if volume is None:
            return self.noImage
        # Slicer's selectors offer every volume, and choose the next where the chosen one is removed.
        if mrml_overlay.is_map(volume):
            return _("{volume} is a map of where networks looked; choose the ultrasound image itself.").format(
                volume=volume.GetName()
            )
        data = volume.GetImageData()
        return self.reasonAgainstSize(data.GetDimensions() if data is not None else (), volume)

    def reasonAgainstSize(self, size, volume):
        """The same of a volume of so many voxels along each axis."""
        raise NotImplementedError

    def isWorthSaying(self, volume, parameterNode):
        """Whether the status shall show the reason against an analysis; that none is chosen is plain to see."""
        return volume is not None
