"""The Slicer module BreastUSAI Segment: outlines the lesion in a 2D breast ultrasound image.

The work is BreastUSAILib's; here are the panel, and the logic that carries nodes to the library and back.
"""

import enum
import importlib.util
import logging
import sys
import unittest
from pathlib import Path
from typing import Annotated

import qt
import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

if importlib.util.find_spec("BreastUSAILib") is None:
    # Built and installed, the library lies beside this file; in the source tree it lies two folders up.
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from BreastUSAILib import RESEARCH_USE, child_workup, mrml
from BreastUSAILib.errors import BreastUSAIError, Cancelled, ImageError

POLL_MS = 100


class BreastUSAISegment(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("BreastUSAI Segment")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Ultrasound")]
        self.parent.dependencies = []
        self.parent.contributors = ["The BreastUSAI contributors"]
        self.parent.helpText = (
            _(
                "Finds the lesion in a 2D breast ultrasound image, outlines and measures it. Choose the image and press "
                "Apply: the outline, a box, the centre and a table of figures appear beside the image."
            )
            + f"<p><b>{RESEARCH_USE}</b></p>"
        )
        self.parent.acknowledgementText = _(
            "After Huang et al., Two-stage CNNs for computerized BI-RADS categorization in breast ultrasound images, "
            "BioMed Eng OnLine 2019;18:8."
        )


class Lesions(enum.Enum):
    """How many lesions are looked for."""

    CENTRAL = "central"
    ALL = "all"

    def label(self):
        return {"central": _("the one closest to the centre"), "all": _("all")}[self.value]


class Device(enum.Enum):
    """What computes."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"

    def label(self):
        return {"auto": _("automatic"), "cpu": _("CPU"), "cuda": _("NVIDIA GPU"), "mps": _("Apple GPU")}[self.value]


@parameterNodeWrapper
class BreastUSAISegmentParameterNode:
    """The panel's state, kept in the scene.

    inputVolume - the image.
    outputSegmentation - where the outlines go; None makes a new one.
    pixelSpacing - mm, for an input volume that does not say it; 0: unknown. Each volume starts with its own.
    lesions, refine, device - see the workup's options.
    threshold - probability, 0: the model's own.
    model - id in the catalogue; "": the default.
    modelFolder - the user's own model; "": none.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    outputSegmentation: vtkMRMLSegmentationNode
    pixelSpacing: Annotated[float, WithinRange(0.0, 10.0)] = 0.0
    lesions: Lesions = Lesions.CENTRAL
    refine: bool = True
    device: Device = Device.AUTO
    threshold: Annotated[float, WithinRange(0.0, 0.99)] = 0.0
    model: str = ""
    modelFolder: str = ""


class BreastUSAISegmentWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None
        self._job = None
        self._jobNodeIDs = ("", "")
        self._jobSpacing = None  # what the volume gets with the result; None: nothing
        self._spacingOf = None  # id of the volume that the panel's pixel spacing is about
        self._timer = None
        self._reason = None  # why Apply is not possible, as shown last

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/BreastUSAISegment.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.ui.researchUseLabel.text = RESEARCH_USE
        self.logic = BreastUSAISegmentLogic()
        for modelId, description in self.logic.models():
            self.ui.modelComboBox.addItem(modelId)
            self.ui.modelComboBox.toolTip = description

        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.ui.cancelButton.connect("clicked(bool)", self.onCancelButton)
        self.ui.modelComboBox.connect("currentIndexChanged(int)", self.onModelChanged)
        self.ui.modelFolderEdit.connect("currentPathChanged(QString)", self.onModelFolderChanged)
        self._timer = qt.QTimer()
        self._timer.interval = POLL_MS
        self._timer.connect("timeout()", self.onPoll)
        self.initializeParameterNode()

    def cleanup(self):
        self.cancelJob()
        if self._timer is not None:
            self._timer.disconnect("timeout()", self.onPoll)
            self._timer = None
        self.setParameterNode(None)
        self.removeObservers()

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
        self.ui.resultsTableView.setMRMLTableNode(None)

    def onSceneEndClose(self, caller, event):
        if getattr(self.parent, "isEntered", True):  # a panel outside the module panel is always shown
            self.initializeParameterNode()

    def initializeParameterNode(self):
        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameterNode.inputVolume:
            self._parameterNode.inputVolume = self.logic.firstImage()

    def setParameterNode(self, parameterNode):
        """Follow this parameter node (None: none)."""
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self._parameterNodeGuiTag = None
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.updatePanel)
        self._parameterNode = parameterNode
        if parameterNode is not None:
            # connectGui returns no tag in the Slicers at hand, though disconnectGui wants one. Each wrapper is connected
            # once, so its tag is the first, 0; without it the panel would go on writing to scenes that were closed.
            self._parameterNodeGuiTag = parameterNode.connectGui(self.ui) or 0
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self.updatePanel)
            self.updatePanel()

    def updatePanel(self, caller=None, event=None):
        """What follows from the parameters: two widgets that connectGui does not know, and what is enabled."""
        if self._parameterNode is None:
            return
        combo, model = self.ui.modelComboBox, self._parameterNode.model
        if model and combo.findText(model) < 0:
            combo.addItem(model)  # from a scene of another version; Apply will say that it is not there
        combo.setCurrentIndex(max(combo.findText(model), 0))
        combo.enabled = not self._parameterNode.modelFolder
        if self.ui.modelFolderEdit.currentPath != self._parameterNode.modelFolder:
            self.ui.modelFolderEdit.currentPath = self._parameterNode.modelFolder
        volume = self._parameterNode.inputVolume
        volumeID = volume.GetID() if volume is not None else ""
        if self._spacingOf != volumeID:
            self._spacingOf = volumeID
            self._parameterNode.pixelSpacing = mrml.spacing_by_user(volume) if volume is not None else 0.0
        self.ui.pixelSpacingSpinBox.enabled = volume is not None and self.logic.asksForSpacing(volume)
        reason = self.logic.reasonAgainst(volume)
        self.ui.applyButton.enabled = not reason and self._job is None
        self.ui.applyButton.toolTip = reason or _("Find and outline the lesion.")
        self.ui.cancelButton.enabled = self._job is not None
        if self._job is None and self._reason != reason:
            self._reason = reason
            self.showStatus(reason if volume is not None else "")

    def onModelChanged(self, index):
        if self._parameterNode is not None:
            # The first is the default, which may be another one in the next version.
            self._parameterNode.model = self.ui.modelComboBox.currentText if index > 0 else ""

    def onModelFolderChanged(self, path):
        if self._parameterNode is not None:
            self._parameterNode.modelFolder = path

    def onApplyButton(self, checked=False):
        volume, segmentation = self._parameterNode.inputVolume, self._parameterNode.outputSegmentation
        try:
            self.logic.ensureDependencies(
                lambda text: slicer.util.confirmOkCancelDisplay(text, _("BreastUSAI: install packages"))
            )
            spacing = self._parameterNode.pixelSpacing if self.logic.asksForSpacing(volume) else None
            self.ui.logTextEdit.clear()
            self._job = self.logic.start(
                volume,
                self.logic.options(self._parameterNode),
                self.onProgress,
                self.ui.logTextEdit.appendPlainText,
                spacing,
            )
        except BreastUSAIError as error:
            self.showError(str(error))
            return
        self._jobSpacing = spacing
        self._jobNodeIDs = (volume.GetID(), segmentation.GetID() if segmentation is not None else "")
        self.onProgress(0.0, _("starting"))
        self.updatePanel()
        self._timer.start()

    def onCancelButton(self, checked=False):
        self.cancelJob()
        self.showStatus(_("Cancelled."))

    def cancelJob(self):
        """End the analysis, if one runs; nothing is changed in the scene."""
        if self._job is None:
            return
        self._timer.stop()
        self._job.cancel()
        self._endJob()

    def onProgress(self, fraction, message):
        self.ui.progressBar.value = round(100 * fraction)
        self.showStatus(message)

    def onPoll(self):
        if self._job is None or not self._job.poll():
            return
        self._timer.stop()
        job = self._job
        self._endJob()
        try:
            study = job.result()
            volumeID, segmentationID = self._jobNodeIDs
            volume = slicer.mrmlScene.GetNodeByID(volumeID)
            if volume is None:
                raise ImageError(_("the image was removed from the scene while it was analysed; load it again."))
            segmentation = slicer.mrmlScene.GetNodeByID(segmentationID) if segmentationID else None
            self.showResult(self.logic.show(study, volume, segmentation, self._jobSpacing), study)
        except Cancelled:
            self.showStatus(_("Cancelled."))
        except BreastUSAIError as error:
            self.showError(str(error))

    def showResult(self, nodes, study):
        self.ui.resultsTableView.setMRMLTableNode(nodes.table)
        self.ui.progressBar.value = 100
        if self._parameterNode is not None:
            # Another run on this image replaces this result instead of adding a second one.
            self._parameterNode.outputSegmentation = nodes.segmentation
        notes = " ".join(f"{note[:1].upper()}{note[1:].rstrip('.')}." for note in study.provenance.get("notes", ()))
        self.showStatus(f"{study.summary} {notes}".strip())

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


class BreastUSAISegmentLogic(ScriptedLoadableModuleLogic):
    """From nodes to the library and back. No GUI: it runs in a Slicer without window as well.

    Parameters
    ----------
    runner : does the workup of a loaded image in line; `BreastUSAILib.workup.run_workup` by default.
    childWorkup : makes the job that `start` returns; `BreastUSAILib.child_workup.ChildWorkup` by default.
    """

    def __init__(self, runner=None, childWorkup=None):
        ScriptedLoadableModuleLogic.__init__(self)
        self._runner = runner
        self._childWorkup = childWorkup or child_workup.ChildWorkup

    def getParameterNode(self):
        return BreastUSAISegmentParameterNode(super().getParameterNode())

    def models(self):
        """(id, description) of each model that segments; the first is the default."""
        from BreastUSAILib.models import catalog

        return [(entry.id, entry.description) for entry in catalog.entries() if entry.task == "segment"]

    def firstImage(self):
        """The first volume of the scene that may be an image; None when there is none."""
        count = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")
        volumes = (slicer.mrmlScene.GetNthNodeByClass(i, "vtkMRMLScalarVolumeNode") for i in range(count))
        return next((v for v in volumes if not v.IsA("vtkMRMLLabelMapVolumeNode")), None)

    def asksForSpacing(self, volume):
        """Whether the user may say what a pixel measures: the image does not, or the user said it before."""
        return not mrml.spacing_known(volume) or mrml.spacing_by_user(volume) > 0

    def ensureDependencies(self, confirm):
        """Install what is missing after `confirm(text)` said yes; DependencyError otherwise."""
        from BreastUSAILib import slicer_install

        slicer_install.ensure_dependencies(confirm)

    def options(self, parameterNode):
        """The workup's options that the parameters mean."""
        from BreastUSAILib.workup import WorkupOptions

        return WorkupOptions(
            model=parameterNode.modelFolder or parameterNode.model,
            device=parameterNode.device.value,
            refine=parameterNode.refine,
            lesions=parameterNode.lesions.value,
            threshold=parameterNode.threshold or None,
        )

    def reasonAgainst(self, volume):
        """Why this volume cannot be analysed, with the cure; "" when it can. Looks at no voxel."""
        if volume is None:
            return _("Choose an ultrasound image.")
        data = volume.GetImageData()
        return child_workup.reason_against_size(data.GetDimensions() if data is not None else (), volume.GetName())

    def pixels(self, volume, pixelSpacing=None):
        """The volume as the library takes it. ImageError when it is not a 2D image.

        :param pixelSpacing: mm, taken instead of the volume's own, which stays as it is; 0: unknown.
        """
        reason = self.reasonAgainst(volume)
        if reason:
            raise ImageError(reason)
        pixels = child_workup.VolumePixels(
            mrml.image_from_volume(volume), volume.GetName(), mrml.spacing_known(volume)
        )
        return pixels if pixelSpacing is None else pixels.with_spacing(pixelSpacing)

    def start(self, volume, options, onProgress=None, onLog=None, pixelSpacing=None):
        """Begin the analysis in a child process; returns the job to poll, cancel and ask for its result.

        :param pixelSpacing: see `pixels`; give the same to `show`.
        """
        return self._childWorkup(self.pixels(volume, pixelSpacing), options, onProgress, onLog)

    def process(self, volume, segmentation=None, options=None, progress=None):
        """Analyse a volume in line and show what was found; returns the nodes (`mrml.StudyNodes`).

        :param segmentation: where the outlines go, see `show`.
        :param options: `BreastUSAILib.workup.WorkupOptions`.
        :param progress: called with a fraction (0 to 1) and a message.
        :raises BreastUSAIError: one sentence for the user; the scene was not changed then.
        """
        from BreastUSAILib.workup import WorkupOptions, run_workup

        loaded = child_workup.load_input(self.pixels(volume))
        study = (self._runner or run_workup)(loaded, options or WorkupOptions(), progress)
        return self.show(study, volume, segmentation)

    def show(self, study, volume, segmentation=None, pixelSpacing=None):
        """The nodes of a study; a word to the log.

        :param segmentation: where the outlines go; what was found in this image before is replaced. None makes a new
            node, and so does one that holds what was found in another image.
        :param pixelSpacing: set on the volume, unless the study is refused; None: the volume stays as it is.
        """
        if segmentation is not None and mrml.shows_other_image(segmentation, volume):
            segmentation = None
        nodes = mrml.show_study(volume.GetScene(), study, volume, segmentation, pixelSpacing)
        logging.info("BreastUSAI Segment, %s: %s", volume.GetName(), study.summary)
        return nodes


class BreastUSAISegmentTest(ScriptedLoadableModuleTest):
    """The self-test: the whole module on a synthetic image, in line and in a child process.

    What needs packages that are not in this Slicer is skipped: the machine that builds extensions has none of them.
    """

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self, **kwargs):
        for test in (self.test_inLine, self.test_childProcess, self.test_volumeOfSeveralSlices):
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

    def syntheticImage(self, slices=1):
        """A bright image with a dark, blurred ellipse (512 x 384 pixels of 0.1 mm) whose area is known, mm2."""
        import numpy as np
        import SimpleITK as sitk

        rng = np.random.default_rng(20)
        y, x = np.mgrid[:384, :512]
        inside = ((x - 256) / 90.0) ** 2 + ((y - 190) / 60.0) ** 2 < 1
        pixels = np.where(inside, 45.0, 130.0) * rng.gamma(6.0, 1 / 6.0, inside.shape)
        pixels = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(pixels), 1.2))
        image = sitk.GetImageFromArray(np.clip(pixels, 0, 255).astype(np.uint8)[None].repeat(slices, axis=0))
        image.SetSpacing((0.1, 0.1, 1.0))
        return mrml.add_volume(slicer.mrmlScene, image, "synthetic"), float(inside.sum()) * 0.01

    def checkNodes(self, nodes, volume, area):
        """The lesion is where it was drawn, about as large, and its nodes belong together."""
        self.assertEqual(nodes.segmentation.GetSegmentation().GetNumberOfSegments(), 1)
        self.assertEqual((len(nodes.boxes), nodes.points.GetNumberOfControlPoints()), (1, 1))
        self.assertEqual(nodes.table.GetNumberOfRows(), 1)
        study = mrml.study_from_nodes(volume, nodes.segmentation)
        found = study.findings[0].measurements["area_mm2"]
        self.assertGreater(found, 0.7 * area)
        self.assertLess(found, 1.3 * area)
        position = [0.0, 0.0, 0.0]
        nodes.points.GetNthControlPointPosition(0, position)
        self.assertLess(abs(position[0] + 25.6), 2.0)
        self.assertLess(abs(position[1] + 19.0), 2.0)

    def test_inLine(self):
        self.needPackages()
        self.delayDisplay("In line")
        volume, area = self.syntheticImage()
        seen = []
        nodes = BreastUSAISegmentLogic().process(volume, progress=lambda *p: seen.append(p))
        self.checkNodes(nodes, volume, area)
        self.assertTrue(seen)

    def test_childProcess(self):
        self.needPackages()
        self.delayDisplay("In a child process")
        import time

        from BreastUSAILib.workup import WorkupOptions

        volume, area = self.syntheticImage()
        logic = BreastUSAISegmentLogic()
        seen = []
        job = logic.start(volume, WorkupOptions(), lambda *p: seen.append(p))
        while not job.poll():
            slicer.app.processEvents()
            time.sleep(0.05)
        self.checkNodes(logic.show(job.result(), volume), volume, area)
        self.assertTrue(seen)

    def test_volumeOfSeveralSlices(self):
        self.delayDisplay("A volume of several slices is refused")
        volume, _area = self.syntheticImage(slices=3)
        with self.assertRaisesRegex(ImageError, "3 slices"):
            BreastUSAISegmentLogic().process(volume)
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"), 0)
