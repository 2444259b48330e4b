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

import slicer
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleTest

if importlib.util.find_spec("BreastUSAILib") is None:
    # Built and installed, the library lies beside this file; in the source tree it lies two folders up.
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from BreastUSAILib import RESEARCH_USE, child_workup, mrml
from BreastUSAILib.errors import ImageError
from BreastUSAILib.slicer_panel import AnalysisLogic, AnalysisPanel, Device


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


class BreastUSAISegmentWidget(AnalysisPanel):
    """The panel."""

    applyToolTip = _("Find and outline the lesion.")

    def __init__(self, parent=None):
        AnalysisPanel.__init__(self, parent)
        self._jobSegmentationID = ""
        self._jobSpacing = None  # what the volume gets with the result; None: nothing
        self._spacingOf = None  # id of the volume that the panel's pixel spacing is about

    def makeLogic(self):
        return BreastUSAISegmentLogic()

    def updatePanel(self):
        AnalysisPanel.updatePanel(self)
        if self._parameterNode is None:
            return
        volume = self._parameterNode.inputVolume
        volumeID = volume.GetID() if volume is not None else ""
        if self._spacingOf != volumeID:
            self._spacingOf = volumeID
            self._parameterNode.pixelSpacing = mrml.spacing_by_user(volume) if volume is not None else 0.0
        self.ui.pixelSpacingSpinBox.enabled = volume is not None and self.logic.asksForSpacing(volume)

    def beginJob(self, volume):
        segmentation = self._parameterNode.outputSegmentation
        self._jobSegmentationID = segmentation.GetID() if segmentation is not None else ""
        self._jobSpacing = self._parameterNode.pixelSpacing if self.logic.asksForSpacing(volume) else None
        return self.logic.start(
            volume,
            self.logic.options(self._parameterNode),
            self.onProgress,
            self.ui.logTextEdit.appendPlainText,
            self._jobSpacing,
        )

    def finishJob(self, study, volume):
        segmentation = slicer.mrmlScene.GetNodeByID(self._jobSegmentationID) if self._jobSegmentationID else None
        nodes = self.logic.show(study, volume, segmentation, self._jobSpacing)
        if self._parameterNode is not None:
            # Another run on this image replaces this result instead of adding a second one.
            self._parameterNode.outputSegmentation = nodes.segmentation
        self.showTable(nodes.table, study, study.summary)


class BreastUSAISegmentLogic(AnalysisLogic):
    """From nodes to the library and back. No GUI: it runs in a Slicer without window as well.

    Parameters
    ----------
    runner : does the workup of a loaded image in line; `BreastUSAILib.workup.run_workup` by default.
    childWorkup : makes the job that `start` returns; `BreastUSAILib.child_workup.ChildWorkup` by default.
    """

    task = "segment"
    noImage = _("Choose an ultrasound image.")

    def __init__(self, runner=None, childWorkup=None):
        AnalysisLogic.__init__(self)
        self._runner = runner
        self._childWorkup = childWorkup or child_workup.ChildWorkup

    def getParameterNode(self):
        return BreastUSAISegmentParameterNode(super().getParameterNode())

    def asksForSpacing(self, volume):
        """Whether the user may say what a pixel measures: the image does not, or the user said it before."""
        return not mrml.spacing_known(volume) or mrml.spacing_by_user(volume) > 0

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

    def reasonAgainstSize(self, size, volume):
        return child_workup.reason_against_size(size, volume.GetName())

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
