"""The Slicer module BreastUSAI Detect: finds lesions in an automated breast ultrasound (ABUS) volume.

The work is BreastUSAILib's; here are the panel, and the logic that carries nodes to the library and back.
"""

import importlib.util
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import slicer
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLTableNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleTest

if importlib.util.find_spec("BreastUSAILib") is None:
    # Built and installed, the library lies beside this file; in the source tree it lies two folders up.
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from BreastUSAILib import RESEARCH_USE, child_detection, mrml, mrml_heatmap, slicer_resume
from BreastUSAILib.errors import ImageError
from BreastUSAILib.slicer_panel import Device
from BreastUSAILib.slicer_volume_panel import VolumeLogic, VolumePanel


class BreastUSAIDetect(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("BreastUSAI Detect")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Ultrasound")]
        self.parent.dependencies = []
        self.parent.contributors = ["The BreastUSAI contributors"]
        self.parent.helpText = (
            _(
                "Finds lesions in an automated breast ultrasound (ABUS) volume and says how suspicious each is. Choose the "
                "volume and press Apply: boxes, centres and a table of findings appear beside it. The slider hides "
                "findings of low score; a click on a row takes all slice views to the finding."
            )
            + f"<p><b>{RESEARCH_USE}</b></p>"
        )
        self.parent.acknowledgementText = _(
            "After Yu et al., Computer-aided tumor diagnosis in automated breast ultrasound using 3D detection network, "
            "MICCAI 2020."
        )
        slicer_resume.offer_after_start("BreastUSAIDetect", self.parent.title)


@parameterNodeWrapper
class BreastUSAIDetectParameterNode:
    """The panel's state, kept in the scene.

    inputVolume - the volume.
    outputTable - the table of findings, with which boxes and points go; None makes a new one.
    minimumScore - findings that score less are hidden.
    minimumScoreOf - the model whose own threshold that was set to, so that a person's choice lasts from run to run.
    device - see the workup's options.
    model - id in the catalogue; "": the default.
    modelFolder, classifierFolder - the user's own models; "": none.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    outputTable: vtkMRMLTableNode
    minimumScore: Annotated[float, WithinRange(0.0, 1.0)] = 0.0
    minimumScoreOf: str = ""
    device: Device = Device.AUTO
    model: str = ""
    modelFolder: str = ""
    classifierFolder: str = ""


class BreastUSAIDetectWidget(VolumePanel):
    """The panel."""

    applyToolTip = _("Find the lesions of the volume.")
    folders = ("modelFolder", "classifierFolder")
    shownText = _("{shown} of {all} findings shown.")

    def makeLogic(self):
        return BreastUSAIDetectLogic()


class BreastUSAIDetectLogic(VolumeLogic):
    """From nodes to the library and back.

    Parameters
    ----------
    runner : detects in a loaded volume in line; `BreastUSAILib.workup.run_detection` by default.
    childDetection : makes the job that `start` returns; `BreastUSAILib.child_detection.ChildDetection` by default.
    """

    task = "detect"

    def __init__(self, runner=None, childDetection=None):
        VolumeLogic.__init__(self, runner, childDetection or child_detection.ChildDetection)

    def getParameterNode(self):
        return BreastUSAIDetectParameterNode(super().getParameterNode())

    def options(self, parameterNode):
        """The options of the detection that the parameters mean: all candidates, as the slider hides and shows them."""
        from BreastUSAILib.workup import DetectionOptions

        return DetectionOptions(
            model=parameterNode.modelFolder or parameterNode.model,
            classifier=parameterNode.classifierFolder,
            device=parameterNode.device.value,
            threshold=0.0,
        )

    def run(self, loaded, options, progress):
        from BreastUSAILib.workup import DetectionOptions, run_detection

        return run_detection(loaded, options or DetectionOptions(), progress)

    def thresholdOf(self, entry):
        from BreastUSAILib.detect import DetectOptions

        return DetectOptions().threshold_of(entry)

    def show(self, study, volume, table=None):
        """The nodes of a study (`mrml.DetectionNodes`); a word to the log.

        :param table: of findings; what was found in this volume before is replaced. None makes a new one, and so does one
            that holds anything else.
        """
        if table is not None and (mrml.holds_other_detections(table, volume) or mrml_heatmap.is_heatmap(table)):
            table = None
        nodes = mrml.show_detections(volume.GetScene(), study, volume, table)
        logging.info("BreastUSAI Detect, %s: %s", volume.GetName(), study.summary)
        return nodes

    def words(self, study, shown):
        return replace(study, findings=tuple(f for f, s in zip(study.findings, shown, strict=True) if s)).summary

    def isOurs(self, table):
        """Whether a table holds findings, as `show` makes it; not the hot spots of BreastUSAI Heatmap."""
        return table.GetAttribute(mrml.STUDY) is not None and not mrml_heatmap.is_heatmap(table)


class BreastUSAIDetectTest(ScriptedLoadableModuleTest):
    """The self-test: what the module shows and hides, and what it refuses; it needs no model and no further packages."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self, **kwargs):
        for test in (self.test_findingsAreShownAndHidden, self.test_imagesOfOneSlice):
            self.setUp()
            test()

    def syntheticVolume(self, slices=40):
        """A volume of noise (120 x 50 x `slices` voxels of 1.2 x 0.9 x 1.5 mm)."""
        import numpy as np
        import SimpleITK as sitk

        voxels = np.random.default_rng(20).integers(60, 200, (slices, 50, 120), dtype=np.uint8)
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing((1.2, 0.9, 1.5))
        return mrml.add_volume(slicer.mrmlScene, image, "synthetic")

    def twoFindings(self, loaded, options, progress):
        """Stands for a model: two findings in any volume."""
        from BreastUSAILib.findings import Finding, Study
        from BreastUSAILib.grid import index_box

        boxes = [index_box(loaded.image, start, (12, 10, 8)) for start in ((20, 8, 6), (70, 25, 20))]
        findings = [Finding(f"L{i}", box, s, 0.4) for i, box, s in zip((1, 2), boxes, (0.9, 0.3), strict=True)]
        return Study(loaded.info, tuple(findings))

    def test_findingsAreShownAndHidden(self):
        self.delayDisplay("Findings are shown, hidden, and jumped to")
        volume = self.syntheticVolume()
        logic = BreastUSAIDetectLogic(runner=self.twoFindings)
        nodes = logic.process(volume)
        self.assertEqual((len(nodes.boxes), nodes.table.GetNumberOfRows()), (2, 2))
        self.assertEqual(logic.showFromScore(nodes.table, 0.5), (True, False))
        self.assertEqual([bool(box.GetDisplayNode().GetVisibility()) for box in nodes.boxes], [True, False])
        self.assertEqual(logic.showFromScore(nodes.table, 0.0), (True, True))
        # The middle of voxels 20 to 31, 8 to 17 and 6 to 13 of a volume whose first axes point to the left and backwards.
        where = logic.jumpTo(nodes.table, 0)
        for found, expected in zip(where, (-25.5 * 1.2, -12.5 * 0.9, 9.5 * 1.5), strict=True):
            self.assertAlmostEqual(found, expected, delta=1e-4)

    def test_imagesOfOneSlice(self):
        self.delayDisplay("A 2D image is refused, with what to use instead")
        with self.assertRaisesRegex(ImageError, "BreastUSAI Segment"):
            BreastUSAIDetectLogic().process(self.syntheticVolume(slices=1))
