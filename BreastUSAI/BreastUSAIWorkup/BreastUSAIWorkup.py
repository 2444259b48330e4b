"""The Slicer module BreastUSAI Workup: an examination in, a list of findings out, to be gone through, judged and reported.

The work is BreastUSAILib's; here is what Slicer looks for in a module's file: its description, its parameters, the classes of its
panel (`slicer_workup_panel`) and its logic (`slicer_workup_logic`), and its self-test.
"""

import enum
import importlib.util
import sys
import unittest
from pathlib import Path
from typing import Annotated

import slicer
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleTest

if importlib.util.find_spec("BreastUSAILib") is None:
    # Built and installed, the library lies beside this file; in the source tree it lies two folders up.
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from BreastUSAILib import RESEARCH_USE, mrml, mrml_workup, slicer_resume
from BreastUSAILib.review import REJECTED, Review
from BreastUSAILib.slicer_markups import vtkMRMLMarkupsFiducialNode
from BreastUSAILib.slicer_panel import Device
from BreastUSAILib.slicer_workup_logic import WorkupLogic
from BreastUSAILib.slicer_workup_panel import ACCEPT, NEXT, PREVIOUS, REJECT, UNDO, WorkupPanel


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
            + "<p>"
            + _(
                "Keyboard: {next} and {previous} go through the list, {accept} accepts, {reject} rejects, {undo} takes the last of it back."
            ).format(next=NEXT, previous=PREVIOUS, accept=ACCEPT, reject=REJECT, undo=UNDO)
            + "</p>"
            + f"<p><b>{RESEARCH_USE}</b></p>"
        )
        self.parent.acknowledgementText = _(
            "After Huang et al., Two-stage CNNs for computerized BI-RADS categorization in breast ultrasound images, BioMed Eng "
            "OnLine 2019;18:8 (outlines and grades of 2D images); Yu et al., Computer-aided tumor diagnosis in automated breast "
            "ultrasound using 3D detection network, MICCAI 2020 (detection); Zhou et al., Multi-task learning for segmentation "
            "and classification of tumors in 3D automated breast ultrasound images, Med Image Anal 2021;70:101918 (outlines in "
            "volumes); Qi et al., Automated diagnosis of breast ultrasonography images using deep neural networks, Med Image Anal "
            "2019;52:185-198 (grades); Selvaraju et al., Grad-CAM: Visual explanations from deep networks via gradient-based "
            "localization, ICCV 2017 (heatmap of volumes)."
        )
        slicer_resume.offer_after_start("BreastUSAIWorkup", self.parent.title)


class Breast(enum.Enum):
    """Which breast the images show."""

    UNKNOWN = ""
    RIGHT = "R"
    LEFT = "L"

    def label(self):
        return {"": _("as the volume says"), "R": _("right"), "L": _("left")}[self.value]


class ShownMap(enum.Enum):
    """Which map lies over the images, where there are several."""

    HEAT = mrml_workup.HEAT
    LOOKED = mrml_workup.LOOKED
    UNSURE = mrml_workup.UNSURE

    def label(self):
        return {
            mrml_workup.HEAT: _("the heatmap: what speaks for a lesion"),
            mrml_workup.LOOKED: _("where the grading networks looked"),
            mrml_workup.UNSURE: _("how unsure the outlines are"),
        }[self.value]


@parameterNodeWrapper
class BreastUSAIWorkupParameterNode:
    """The panel's state, kept in the scene. The further views of the examination are node references beside it
    (`mrml_workup.further_images`).

    inputVolume - the image or volume.
    nipple - a point on the nipple, for clock positions; breast - which one it is.
    earlier - a volume of the same breast from an earlier examination, to compare with; it needs a workup of its own.
    otherView - a volume of the same breast, shown beside: the place of the chosen finding is marked there.
    otherNipple - a point on the nipple in that volume, for volumes that do not share a frame of reference.
    reportFolder - where reports go.
    showMap - where networks looked is shown over the images; shownMap - in which of their maps.

    device, allLesions - see the workup's options.
    pixelSpacing - mm, for 2D images that do not say it; 0: unknown.
    model - of 2D images: id in the catalogue; "": the default.
    modelFolder, detectFolder, classifierFolder, outlineFolder, gcnnFolder, mtnetFolder, snnetFolder, heatmapFolder - the user's own models; "": none.
    mapVolumes - whether volumes get a heatmap.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    nipple: vtkMRMLMarkupsFiducialNode
    breast: Breast = Breast.UNKNOWN
    earlier: vtkMRMLScalarVolumeNode
    otherView: vtkMRMLScalarVolumeNode
    otherNipple: vtkMRMLMarkupsFiducialNode
    reportFolder: str = ""
    showMap: bool = False
    shownMap: ShownMap = ShownMap.HEAT
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
    mapVolumes: bool = True
    heatmapFolder: str = ""


class BreastUSAIWorkupWidget(WorkupPanel):
    """The panel."""

    def makeLogic(self):
        return BreastUSAIWorkupLogic()


class BreastUSAIWorkupLogic(WorkupLogic):
    """From nodes to the library and back. No GUI: it runs in a Slicer without window as well; see `WorkupLogic`."""

    def getParameterNode(self):
        return BreastUSAIWorkupParameterNode(super().getParameterNode())


class BreastUSAIWorkupTest(ScriptedLoadableModuleTest):
    """The self-test: findings of a volume are shown, judged, corrected and reported; the real image that is built in is worked up in a child
    process.

    What needs packages that are not in this Slicer is skipped: the machine that builds extensions has none of them.
    """

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self, **kwargs):
        for test in (self.test_findingsAreJudged, self.test_report, self.test_realImageInChildProcess):
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
            ((report, _others),) = logic.startExport(parameters, folder).result()
            study = json.loads((report.parent / "study.json").read_text(encoding="utf-8"))
            self.assertIn("rejected by the reader: rib", report.read_text(encoding="utf-8"))
        self.assertEqual([f["id"] for f in study["findings"]], ["L2"])

    def test_realImageInChildProcess(self):
        self.needPackages()
        self.delayDisplay("A real image, whose lesion is malignant, in a child process")
        import time

        from BreastUSAILib import mrml_sample

        volume = mrml_sample.add_real_image(slicer.mrmlScene)
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
        (row,), _hint = logic.rows(parameters)
        self.assertEqual((row.finding.id, row.study.image.path), ("L1", volume.GetName()))
        study, _image = mrml_workup.current(shown)()
        self.assertEqual(mrml_sample.disagreements(study.findings[0], mrml_workup.position_of(shown, "L1")), [])
        self.assertGreater(row.finding.malignancy, row.finding.evidence["malignancy_threshold"])  # as it is
