"""The Slicer module BreastUSAI Segment: outlines the lesion in a 2D breast ultrasound image, or lesions in an ABUS volume.

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
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode, vtkMRMLTableNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleTest

if importlib.util.find_spec("BreastUSAILib") is None:
    # Built and installed, the library lies beside this file; in the source tree it lies two folders up.
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from BreastUSAILib import (
    RESEARCH_USE,
    child_detection,
    child_segmentation,
    child_workup,
    mrml,
    mrml_heatmap,
    slicer_resume,
)
from BreastUSAILib.background_child import BackgroundChild
from BreastUSAILib.errors import ImageError, UsageError
from BreastUSAILib.sample_data.slicer_registration import register as register_samples
from BreastUSAILib.slicer_image_logic import ImageOrVolumeLogic
from BreastUSAILib.slicer_markups import vtkMRMLMarkupsFiducialNode, vtkMRMLMarkupsROINode
from BreastUSAILib.slicer_panel import AnalysisPanel, Device, on_new_node


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
                "Apply: the outline, a box, the centre and a table of figures appear beside the image. In an automated "
                "breast ultrasound (ABUS) volume, say where the lesions are, too: what BreastUSAI Detect found, boxes that you "
                "draw, or a click in each. Outlines can be corrected in the Segment Editor. Models of your own (breastusai train "
                "roi-cnn, segment-3d) are chosen under Options."
            )
            + f"<p><b>{RESEARCH_USE}</b></p>"
        )
        self.parent.acknowledgementText = _(
            "After Huang et al., Two-stage CNNs for computerized BI-RADS categorization in breast ultrasound images, "
            "BioMed Eng OnLine 2019;18:8; volumes after Zhou et al., Multi-task learning for segmentation and classification "
            "of tumors in 3D automated breast ultrasound images, Med Image Anal 2021;70:101918."
        )
        # The module Sample Data may be loaded after this one.
        slicer.app.connect("startupCompleted()", register_samples)
        slicer_resume.offer_after_start("BreastUSAISegment", self.parent.title)


class Lesions(enum.Enum):
    """How many lesions are looked for."""

    CENTRAL = "central"
    ALL = "all"

    def label(self):
        return {"central": _("the one closest to the centre"), "all": _("all")}[self.value]


class RefineVolume(enum.Enum):
    """Whether a Chan-Vese active contour refines the outlines in a volume."""

    VALIDATED = ""
    YES = "yes"
    NO = "no"

    def label(self):
        return {"": _("as the model's validation chose"), "yes": _("yes"), "no": _("no")}[self.value]

    def chosen(self):
        """As `SegmentationOptions.refine`."""
        return {"": None, "yes": True, "no": False}[self.value]


class Passes(enum.Enum):
    """N of Zhou et al. 2021: how often the network looks at a lesion of a volume, each time given the map of the time before."""

    MODELS = ""
    NONE = "0"
    ONE = "1"
    TWO = "2"
    THREE = "3"
    FOUR = "4"

    def label(self):
        return self.value or _("the model's own")

    def chosen(self):
        """As `SegmentationOptions.iterations`."""
        return int(self.value) if self.value else None


class Where(enum.Enum):
    """What says where the lesions of a volume are."""

    DETECTED = "detected"
    BOXES = "boxes"
    POINTS = "points"

    def label(self):
        return {
            "detected": _("what BreastUSAI Detect found"),
            "boxes": _("boxes that I draw (ROI)"),
            "points": _("points that I click"),
        }[self.value]


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

    Of volumes of several slices:
    where - what says where the lesions are: one of the three below.
    detections - a table of BreastUSAI Detect; its findings that are shown are outlined.
    box - an ROI about a lesion; None: all that are shown and were drawn by a person.
    points - a point in each lesion.
    volumeModelFolder - the user's own model for volumes; "": none.
    refineVolume, passes - see the two above.
    mirrors - whether mirror images are looked at, too.
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
    where: Where = Where.DETECTED
    detections: vtkMRMLTableNode
    box: vtkMRMLMarkupsROINode
    points: vtkMRMLMarkupsFiducialNode
    volumeModelFolder: str = ""
    refineVolume: RefineVolume = RefineVolume.VALIDATED
    passes: Passes = Passes.MODELS
    mirrors: bool = True


class BreastUSAISegmentWidget(AnalysisPanel):
    """The panel."""

    applyToolTip = _("Outline the lesion.")
    folders = ("modelFolder", "volumeModelFolder")

    def __init__(self, parent=None):
        AnalysisPanel.__init__(self, parent)
        self._jobSegmentationID = ""
        self._jobSpacing = None  # what the volume gets with the result; None: nothing
        self._spacingOf = None  # id of the volume that the panel's pixel spacing is about
        self._detectionsOf = None  # and of the one whose findings were proposed, or chosen by a person

    def makeLogic(self):
        return BreastUSAISegmentLogic()

    def setup(self):
        AnalysisPanel.setup(self)
        for selector in (self.ui.boxSelector, self.ui.pointsSelector):
            on_new_node(selector, mrml.start_placing)

    def setParameterNode(self, parameterNode):
        if parameterNode is not None:  # a scene was opened, or the module: what it holds is about its volume
            self._spacingOf = parameterNode.inputVolume.GetID() if parameterNode.inputVolume is not None else ""
            self._detectionsOf = self._spacingOf if parameterNode.detections is not None else None
        AnalysisPanel.setParameterNode(self, parameterNode)

    def updatePanel(self):
        AnalysisPanel.updatePanel(self)
        if self._parameterNode is None:
            return
        volume = self._parameterNode.inputVolume
        volumeID = volume.GetID() if volume is not None else ""
        if self._spacingOf != volumeID:
            self._spacingOf = volumeID
            self._parameterNode.pixelSpacing = mrml.spacing_by_user(volume) if volume is not None else 0.0
        isVolume = volume is not None and self.logic.isVolume(volume)
        where = self._parameterNode.where
        if isVolume and where is Where.DETECTED:
            found = mrml.detections_of(volume)
            if found and (self._detectionsOf != volumeID or not self._parameterNode.detections):
                self._detectionsOf = volumeID
                if self._parameterNode.detections not in found:
                    self._parameterNode.detections = found[0]
        self.offer(not isVolume, pixelSpacing="SpinBox", lesions="ComboBox", refine="CheckBox", model="ComboBox", modelFolder="Edit")
        self.offer(isVolume, where="ComboBox", volumeModelFolder="Edit")
        self.offer(isVolume, refineVolume="ComboBox", passes="ComboBox", mirrors="CheckBox")
        self.offer(isVolume and where is Where.DETECTED, detections="Selector")
        self.offer(isVolume and where is Where.BOXES, box="Selector")
        self.offer(isVolume and where is Where.POINTS, points="Selector")
        self.ui.pixelSpacingSpinBox.enabled = volume is not None and self.logic.asksForSpacing(volume)
        self.ui.modelComboBox.enabled = not isVolume and not self._parameterNode.modelFolder

    def offer(self, offered, **widgets):
        """Show and enable widgets with their labels, or hide them; each is given by the stem and the end of its name."""
        for stem, end in widgets.items():
            widget = getattr(self.ui, f"{stem}{end}")
            widget.enabled = offered
            widget.setVisible(offered)
            getattr(self.ui, f"{stem}Label").setVisible(offered)

    def beginJob(self, volume):
        segmentation = self._parameterNode.outputSegmentation
        self._jobSegmentationID = segmentation.GetID() if segmentation is not None else ""
        if self.logic.isVolume(volume):
            self._jobSpacing = None
            request = self.logic.request(volume, self._parameterNode)
            options = self.logic.volumeOptions(self._parameterNode)
            return self.logic.startVolume(
                volume, request, options, self.onProgress, self.ui.logTextEdit.appendPlainText
            )
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
        # Another run on this image replaces this result instead of adding a second one, also where the module was left meanwhile.
        parameters = self._parameterNode if self._parameterNode is not None else self.logic.getParameterNode()
        parameters.outputSegmentation = nodes.segmentation
        self.showTable(nodes.table, study, self.logic.summary(study))


class BreastUSAISegmentLogic(ImageOrVolumeLogic):
    """From nodes to the library and back. No GUI: it runs in a Slicer without window as well.

    Parameters
    ----------
    runner : does the workup of a loaded image in line; `BreastUSAILib.workup.run_workup` by default.
    childWorkup : makes the job that `start` returns; `BreastUSAILib.child_workup.ChildWorkup` by default.
    volumeRunner : outlines lesions of a loaded volume in line; `BreastUSAILib.workup.run_segmentation` by default.
    childSegmentation : makes the job that `startVolume` returns; `BreastUSAILib.child_segmentation.ChildSegmentation` by default.
    """

    task = "segment"
    noImage = _("Choose an ultrasound image.")

    def __init__(self, runner=None, childWorkup=None, volumeRunner=None, childSegmentation=None):
        ImageOrVolumeLogic.__init__(self)
        self._runner, self._volumeRunner = runner, volumeRunner
        self._childWorkup = childWorkup or child_workup.ChildWorkup
        self._childSegmentation = childSegmentation or child_segmentation.ChildSegmentation

    def getParameterNode(self):
        return BreastUSAISegmentParameterNode(super().getParameterNode())

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

    def reasonAgainst(self, volume, parameterNode=None):
        reason = ImageOrVolumeLogic.reasonAgainst(self, volume, parameterNode)
        if reason or parameterNode is None or not self.isVolume(volume):
            return reason
        folder, where = parameterNode.volumeModelFolder, _("Options, Own model for volumes")
        return self.reasonAgainstNoModel("segment-3d", folder, where) or self.reasonAgainstPlaces(volume, parameterNode)

    def reasonAgainstPlaces(self, volume, parameterNode):
        """Why nobody knows where the lesions of a volume are, with the cure; "" when somebody does."""
        if parameterNode.where is Where.DETECTED:
            table = parameterNode.detections
            if table is None:
                return _(
                    "Run BreastUSAI Detect on the volume and choose its findings, or draw a box about each lesion."
                )
            if mrml_heatmap.is_heatmap(table):
                return _(
                    "{table} holds hot spots of BreastUSAI Heatmap; choose findings of BreastUSAI Detect, or draw a box about each lesion."
                ).format(table=table.GetName())
            if table not in mrml.detections_of(volume):
                return _("{table} holds no findings of {volume}; choose the findings of this volume.").format(
                    table=table.GetName(), volume=volume.GetName()
                )
        if parameterNode.where is Where.POINTS and parameterNode.points is None:
            return _("Choose a list of points, or make a new one, and click in each lesion.")
        return ""

    def request(self, volume, parameterNode):
        """The lesions of a volume that the parameters mean, as they are in the scene now.

        :raises UsageError: there are none.
        """
        from BreastUSAILib.workup import SegmentationRequest

        if parameterNode.where is Where.DETECTED:
            findings = mrml.shown_findings(volume, parameterNode.detections)
            if not findings:
                raise UsageError(_("No finding of BreastUSAI Detect is shown; move its slider down, or draw a box."))
            return SegmentationRequest(findings=findings)
        if parameterNode.where is Where.BOXES:
            rois = (parameterNode.box,) if parameterNode.box is not None else mrml.drawn_boxes(volume.GetScene())
            boxes = tuple(mrml.box_of_roi(volume, roi) for roi in rois)
            if not boxes or min(min(box.size) for box in boxes) <= 0:
                raise UsageError(_("No box is drawn; make a new ROI and draw it about the lesion."))
            return SegmentationRequest(boxes=boxes)
        points = mrml.points_of(volume, parameterNode.points)
        if not points:
            raise UsageError(_("The list holds no point; click in each lesion in a slice view."))
        return SegmentationRequest(points=points)

    def volumeOptions(self, parameterNode):
        """The options of the outlines in a volume that the parameters mean."""
        from BreastUSAILib.workup import SegmentationOptions

        return SegmentationOptions(
            model=parameterNode.volumeModelFolder,
            device=parameterNode.device.value,
            threshold=parameterNode.threshold or None,
            iterations=parameterNode.passes.chosen(),
            uncertainty=parameterNode.mirrors,
            refine=parameterNode.refineVolume.chosen(),
        )

    def volumePixels(self, volume):
        """A volume of several slices as the library takes it. ImageError when it cannot be worked on."""
        reason = self.reasonAgainst(volume)
        if reason:
            raise ImageError(reason)
        known = mrml.volume_spacing_known(volume)
        return child_detection.AbusPixels(mrml.image_from_volume(volume), volume.GetName(), known)

    def startVolume(self, volume, request, options, onProgress=None, onLog=None):
        """Begin to outline lesions of a volume in a child process; returns the job, as `start` does.

        :param request, options: see `processVolume`.
        """
        from BreastUSAILib.findings import ImageInfo

        pixels = self.volumePixels(volume)
        order = child_segmentation.SegmentationOrder(request, options, ImageInfo.of(pixels.image, pixels.name))
        return BackgroundChild(lambda: self._childSegmentation(pixels, order, onProgress, onLog))

    def processVolume(self, volume, request, segmentation=None, options=None, progress=None):
        """Outline lesions of a volume in line and show them; returns the nodes (`mrml.StudyNodes`).

        :param request: `BreastUSAILib.workup.SegmentationRequest`; `request` makes it from the panel's parameters.
        :param segmentation: where the outlines go, see `show`.
        :param options: `BreastUSAILib.workup.SegmentationOptions`.
        :raises BreastUSAIError: one sentence for the user; the scene was not changed then.
        """
        from BreastUSAILib.workup import SegmentationOptions, run_segmentation

        loaded = child_workup.load_input(self.volumePixels(volume))
        study = (self._volumeRunner or run_segmentation)(loaded, request, options or SegmentationOptions(), progress)
        return self.show(study, volume, segmentation)

    def summary(self, study):
        """What was outlined, in words."""
        outlined = sum(finding.mask is not None for finding in study.findings)
        if study.image.dimension == 2 or outlined == len(study.findings):
            return study.summary
        return _("{n} of {all} lesions outlined; the notes in the table say why.").format(
            n=outlined, all=len(study.findings)
        )

    def pixels(self, volume, pixelSpacing=None):
        """The image as the library takes it. ImageError when it is not a 2D image.

        :param pixelSpacing: mm, taken instead of the volume's own, which stays as it is; 0: unknown.
        """
        data = volume.GetImageData() if volume is not None else None
        reason = child_workup.reason_against_size(data.GetDimensions(), volume.GetName()) if data is not None else ""
        reason = reason or self.reasonAgainst(volume)
        if reason:
            raise ImageError(reason)
        pixels = child_workup.VolumePixels(mrml.image_from_volume(volume), volume.GetName(), mrml.spacing_known(volume))
        return pixels if pixelSpacing is None else pixels.with_spacing(pixelSpacing)

    def start(self, volume, options, onProgress=None, onLog=None, pixelSpacing=None):
        """Begin the analysis in a child process; returns the job to poll, cancel and ask for its result.

        :param pixelSpacing: see `pixels`; give the same to `show`.
        """
        pixels = self.pixels(volume, pixelSpacing)  # nodes are read here and now
        return BackgroundChild(lambda: self._childWorkup(pixels, options, onProgress, onLog))

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
    """The self-test: the whole module on a synthetic image, in line and in a child process, and on the real image that is built in.

    What needs packages that are not in this Slicer is skipped: the machine that builds extensions has none of them.
    """

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self, **kwargs):
        for test in (self.test_inLine, self.test_childProcess, self.test_realImage, self.test_volumeOfSeveralSlices):
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

    def test_realImage(self):
        self.needPackages()
        self.delayDisplay("A real image")
        from BreastUSAILib import mrml_sample

        volume = mrml_sample.add_real_image(slicer.mrmlScene)
        nodes = BreastUSAISegmentLogic().process(volume)
        (finding,) = mrml.study_from_nodes(volume, nodes.segmentation).findings
        position = [0.0, 0.0, 0.0]
        nodes.points.GetNthControlPointPositionWorld(0, position)
        self.assertEqual(mrml_sample.disagreements(finding, position), [])
        segmentation = nodes.segmentation.GetSegmentation()
        shown = nodes.segmentation.GetSegmentCenterRAS(segmentation.GetNthSegmentID(0))
        self.assertEqual(mrml_sample.disagreements(finding, shown), [])

    def darkInBoxes(self, loaded, request, options, progress):
        """Stands for a model: outlines what is dark in each box."""
        import numpy as np
        import SimpleITK as sitk

        from BreastUSAILib.findings import Finding, ImageInfo, Study
        from BreastUSAILib.grid import box_of_mask, box_region
        from BreastUSAILib.measurements_3d import measure_3d

        voxels = sitk.GetArrayViewFromImage(loaded.image)
        findings = []
        for number, box in enumerate(request.boxes, start=1):
            start, size = box_region(loaded.image, box)
            part = tuple(slice(a, a + n) for a, n in zip(start[::-1], size[::-1], strict=True))
            inside = np.zeros(voxels.shape, np.uint8)
            inside[part] = voxels[part] < 100
            mask = sitk.GetImageFromArray(inside)
            mask.CopyInformation(loaded.image)
            figures = {} if self.lacksPackages() else measure_3d(mask, loaded.image)
            findings.append(
                Finding(f"L{number}", box_of_mask(mask), 0.9, mask=mask, label=number, measurements=figures)
            )
        return Study(ImageInfo.of(loaded.image, str(loaded.path)), tuple(findings))

    def lacksPackages(self):
        from BreastUSAILib import slicer_install

        return bool(slicer_install.missing())

    def test_volumeOfSeveralSlices(self):
        self.delayDisplay("A lesion of a volume in a box that was drawn")
        import numpy as np
        import SimpleITK as sitk

        from BreastUSAILib.workup import SegmentationRequest

        voxels = np.full((30, 40, 50), 150, np.uint8)
        voxels[10:20, 12:24, 15:30] = 40
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing((0.8, 0.5, 1.0))
        volume = mrml.add_volume(slicer.mrmlScene, image, "synthetic")
        box = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
        box.CreateDefaultDisplayNodes()
        box.SetCenter(-22 * 0.8, -17.5 * 0.5, 14.5)
        box.SetSize(16, 10, 14)
        logic = BreastUSAISegmentLogic(volumeRunner=self.darkInBoxes)
        request = SegmentationRequest(
            boxes=tuple(mrml.box_of_roi(volume, roi) for roi in mrml.drawn_boxes(box.GetScene()))
        )
        nodes = logic.processVolume(volume, request)
        self.assertEqual(nodes.segmentation.GetSegmentation().GetNumberOfSegments(), 1)
        self.assertTrue(nodes.segmentation.GetDisplayNode().GetVisibility3D())
        study = mrml.study_from_nodes(volume, nodes.segmentation)
        self.assertEqual(int(sitk.GetArrayViewFromImage(study.findings[0].mask).sum()), 10 * 12 * 15)
        with self.assertRaisesRegex(ImageError, "30 slices"):
            logic.process(volume)
