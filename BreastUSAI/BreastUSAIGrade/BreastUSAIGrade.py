"""The Slicer module BreastUSAI Grade: says how suspicious the lesions of a breast ultrasound image or volume are, and why.

The work is BreastUSAILib's; here are the panel, and the logic that carries nodes to the library and back.
"""

import importlib.util
import logging
import sys
import unittest
from pathlib import Path
from typing import Annotated, Union

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
    child_grading,
    child_workup,
    grade_terms,
    mrml,
    mrml_grades,
    mrml_overlay,
    slicer_resume,
)
from BreastUSAILib.activation import PERCENT
from BreastUSAILib.background_child import BackgroundChild
from BreastUSAILib.errors import DataError, ImageError
from BreastUSAILib.findings import BIRADS_CATEGORIES
from BreastUSAILib.mrml_nodes import is_copy, nodes_of_class
from BreastUSAILib.slicer_image_logic import ImageOrVolumeLogic
from BreastUSAILib.slicer_panel import AnalysisPanel, Device


class BreastUSAIGrade(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("BreastUSAI Grade")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Ultrasound")]
        self.parent.dependencies = []
        self.parent.contributors = ["The BreastUSAI contributors"]
        self.parent.helpText = (
            _(
                "Says how suspicious lesions are: probability of malignancy with its operating point, BI-RADS category 3 to 5, solid "
                "nodule or not, and the descriptors behind them. Choose the image and the findings that BreastUSAI Segment or Detect "
                "made, and press Apply; the lesion of a 2D image is found where none are chosen. Where the networks looked lies in "
                "colours over the image. Models of your own (breastusai train grade) are chosen under Options."
            )
            + f"<p><b>{RESEARCH_USE}</b></p>"
        )
        self.parent.acknowledgementText = _(
            "After Huang et al., Two-stage CNNs for computerized BI-RADS categorization in breast ultrasound images, BioMed Eng OnLine "
            "2019;18:8, and Qi et al., Automated diagnosis of breast ultrasonography images using deep neural networks, Med Image Anal "
            "2019;52:185-198."
        )
        slicer_resume.offer_after_start("BreastUSAIGrade", self.parent.title)


@parameterNodeWrapper
class BreastUSAIGradeParameterNode:
    """The panel's state, kept in the scene.

    inputVolume - the image or volume.
    findings - the segmentation of BreastUSAI Segment or the table of BreastUSAI Detect whose findings are graded; None finds the lesion
        of a 2D image.
    outputTable - the table of grades, with which a map goes; None makes a new one.
    showMap, mapOpacity - whether slice views show where the networks looked, over the image.
    several, maps - see `BreastUSAILib.grade.GradeOptions`.
    device - see the workup's options.
    model, modelFolder - what finds the lesion of a 2D image: id in the catalogue, "": the default; the user's own, "": none.
    gcnnFolder, mtnetFolder, snnetFolder - the user's own grading models; "": none.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    # Slicer knows typing.Union alone, and makes a node of each class, which vtkMRMLNode does not allow.
    findings: Union[vtkMRMLSegmentationNode, vtkMRMLTableNode, None]  # noqa: UP007
    outputTable: vtkMRMLTableNode
    showMap: bool = True
    mapOpacity: Annotated[float, WithinRange(0.0, 1.0)] = mrml_overlay.OPACITY
    several: bool = True
    maps: bool = True
    device: Device = Device.AUTO
    model: str = ""
    modelFolder: str = ""
    gcnnFolder: str = ""
    mtnetFolder: str = ""
    snnetFolder: str = ""


class BreastUSAIGradeWidget(AnalysisPanel):
    """The panel."""

    applyToolTip = _("Grade the lesions.")
    folders = ("modelFolder", "gcnnFolder", "mtnetFolder", "snnetFolder")

    def __init__(self, parent=None):
        AnalysisPanel.__init__(self, parent)
        self._jobTableID = ""
        self._jobFoundItself = False
        self._shown = None  # table, and what the views show of its map
        self._row = 0  # of the finding whose grade is shown

    def makeLogic(self):
        return BreastUSAIGradeLogic()

    def setup(self):
        AnalysisPanel.setup(self)
        # Without models of its own, the module waits for some to be chosen.
        self.ui.optionsCollapsibleButton.collapsed = bool(self.logic.graders())
        for signal in ("clicked(QModelIndex)", "activated(QModelIndex)"):
            self.ui.resultsTableView.connect(signal, self.onRow)
        self.showGrade(None)

    def setParameterNode(self, parameterNode):
        self._shown = None
        AnalysisPanel.setParameterNode(self, parameterNode)

    def clearResults(self):
        AnalysisPanel.clearResults(self)
        self.showGrade(None)

    def updatePanel(self):
        AnalysisPanel.updatePanel(self)
        if self._parameterNode is None:
            return
        volume = self._parameterNode.inputVolume
        if volume is not None and self.logic.isVolume(volume) and self._parameterNode.findings is None:
            found = self.logic.firstFindings(volume)
            if found is not None:
                self._parameterNode.findings = found  # and this is called again
                return
        # An image's lesion can be found here; a volume's are found by BreastUSAI Detect.
        finds = volume is not None and not self.logic.isVolume(volume) and self._parameterNode.findings is None
        self.ui.modelComboBox.enabled = finds and not self._parameterNode.modelFolder
        self.ui.modelFolderEdit.enabled = finds
        self.showResults()

    def showResults(self):
        """The chosen table below with the grade of one of its findings, and its map in the views."""
        table = self._parameterNode.outputTable
        if table is not None and not self.logic.isOurs(table):
            table = None
        opacity = self._parameterNode.mapOpacity if self._parameterNode.showMap else None
        state = (table.GetID() if table is not None else "", opacity)
        if self._shown == state:
            return
        if self._shown is None or self._shown[0] != state[0]:
            self._row = 0
        self._shown = state
        if self.ui.resultsTableView.mrmlTableNode() is not table:
            self.ui.resultsTableView.setMRMLTableNode(table)
        self.showGrade(table)
        if table is not None:
            self.logic.showMap(table, opacity)

    def onRow(self, index):
        if self._parameterNode is not None and self._parameterNode.outputTable is not None:
            self._row = index.row()
            self.showGrade(self._parameterNode.outputTable)
            self.logic.jumpTo(self._parameterNode.outputTable, self._row)

    def showGrade(self, table):
        """The grade of one finding as bars and words; None: nothing."""
        grade = self.logic.grade(table, self._row) if table is not None else None
        self.ui.gradeLabel.text = grade.headline if grade is not None else ""
        self.ui.descriptorsLabel.text = grade.words if grade is not None else ""
        for name, bar in self.bars().items():
            chance = grade.chances.get(name) if grade is not None else None
            bar.setVisible(chance is not None)
            getattr(self.ui, f"{name}Label").setVisible(chance is not None)
            bar.value = round(1000 * chance) if chance is not None else 0
            bar.format = f"{100 * chance:.1f} %" if chance is not None else ""

    def bars(self):
        """Name of a probability -> its bar."""
        return {name: getattr(self.ui, f"{name}Bar") for name in CHANCES}

    def beginJob(self, volume):
        parameters = self._parameterNode
        table = parameters.outputTable
        self._jobTableID = table.GetID() if table is not None else ""
        self._jobFoundItself = parameters.findings is None
        options = self.logic.options(parameters)
        study = self.logic.study(volume, parameters.findings)
        return self.logic.start(volume, study, options, self.onProgress, self.ui.logTextEdit.appendPlainText)

    def finishJob(self, study, volume):
        table = slicer.mrmlScene.GetNodeByID(self._jobTableID) if self._jobTableID else None
        nodes = self.logic.show(study, volume, table, self._jobFoundItself)
        self._shown = None  # a table that was chosen before has new rows
        parameters = self._parameterNode if self._parameterNode is not None else self.logic.getParameterNode()
        # Another run on this image replaces this result instead of adding a second one.
        parameters.outputTable = nodes.table
        self.showTable(nodes.table, study, self.logic.summary(study))
        self.updatePanel()


CHANCES = ("malignancy", *(f"birads{category}" for category in BIRADS_CATEGORIES), "solid")
"""The probabilities of a grade: each has a bar and a label in the panel."""


class ShownGrade:
    """What the panel shows of a finding: a headline, what is behind it in words, and probabilities by the names of `CHANCES`."""

    def __init__(self, finding):
        evidence = finding.evidence
        parts = [f"<b>{finding.id}</b>"]
        if finding.birads:
            parts.append(f"BI-RADS {grade_terms.stated_category(finding.birads)}")
        threshold = evidence.get("malignancy_threshold")
        if finding.malignancy is not None and threshold is not None:
            side = _("at or above") if finding.malignancy >= threshold else _("below")
            point = _("the operating point of {threshold:.0f} %").format(threshold=100 * threshold)
            parts.append(_("malignant {percent:.0f} %, {side} {point}").format(
                percent=100 * finding.malignancy, side=side, point=point
            ))  # fmt: skip
        self.headline = ", ".join(parts)
        if evidence.get("not_sure"):
            self.headline += " <b>(" + _("not sure") + ")</b>"
        # The notes say the descriptors in the lexicon's words, and every doubt.
        self.words = " ".join(finding.notes)
        birads = {f"birads{category}": chance for category, chance in (finding.birads or {}).items()}
        chances = {"malignancy": finding.malignancy, **birads, "solid": finding.solid_nodule}
        self.chances = {name: chance for name, chance in chances.items() if chance is not None}


class BreastUSAIGradeLogic(ImageOrVolumeLogic):
    """From nodes to the library and back. No GUI: it runs in a Slicer without window as well.

    Parameters
    ----------
    runner : grades findings of a loaded image in line; `BreastUSAILib.workup.run_grading` by default.
    childGrading : makes the job that `start` returns; `BreastUSAILib.child_grading.ChildGrading` by default.
    """

    task = "segment"  # of the models in the panel's list: what finds the lesion of an image
    noImage = _("Choose an ultrasound image, or an ABUS volume.")

    def __init__(self, runner=None, childGrading=None):
        ImageOrVolumeLogic.__init__(self)
        self._runner = runner
        self._childGrading = childGrading or child_grading.ChildGrading

    def getParameterNode(self):
        return BreastUSAIGradeParameterNode(super().getParameterNode())

    def graders(self):
        """The tasks of the grading models that are installed."""
        from BreastUSAILib.models import catalog

        return [entry.task for entry in catalog.entries() if entry.task.startswith("grade-")]

    def options(self, parameterNode):
        """The options of the grading that the parameters mean."""
        from BreastUSAILib.workup_options import GradingOptions

        return GradingOptions(
            gcnn=parameterNode.gcnnFolder or None,
            mtnet=parameterNode.mtnetFolder or None,
            snnet=parameterNode.snnetFolder or None,
            model=parameterNode.modelFolder or parameterNode.model,
            device=parameterNode.device.value,
            enhance=parameterNode.maps,
            several=parameterNode.several,
        )

    def reasonAgainst(self, volume, parameterNode=None):
        reason = ImageOrVolumeLogic.reasonAgainst(self, volume, parameterNode)
        if parameterNode is None or volume is not None and reason:
            return reason
        return (
            self.reasonAgainstModels(parameterNode)
            or reason
            or self.reasonAgainstFindings(volume, parameterNode.findings)
        )

    def reasonAgainstSize(self, size, volume):
        return child_grading.reason_against_image(size, self.spacingKnown(volume), volume.GetName())

    def reasonAgainstModels(self, parameterNode):
        """Why there is no model to grade with; "" when there is one or a folder was chosen."""
        chosen = (parameterNode.gcnnFolder, parameterNode.mtnetFolder, parameterNode.snnetFolder)
        if any(chosen) or self.graders():
            return ""
        from BreastUSAILib.models import catalog

        return catalog.no_model("grade-mtnet", _("Options"))

    def reasonAgainstFindings(self, volume, findings):
        """Why a node's findings cannot be graded in this volume, with the cure; "" when they can, or none are needed."""
        if findings is None:
            if not self.isVolume(volume):
                return ""
            return _("Choose what BreastUSAI Detect or BreastUSAI Segment found in the volume.")
        if findings.GetAttribute(mrml.STUDY) is None:
            return _("{node} holds no findings of BreastUSAI; choose another one.").format(node=findings.GetName())
        isTable = findings.IsA("vtkMRMLTableNode")
        role = mrml.ABOUT if isTable else findings.GetReferenceImageGeometryReferenceRole()
        if findings.GetNodeReferenceID(role) != volume.GetID():
            return _("{node} holds findings of another image than {volume}; choose those of this one.").format(
                node=findings.GetName(), volume=volume.GetName()
            )
        return ""

    def firstFindings(self, volume):
        """The latest segmentation of BreastUSAI that shows what was found in a volume, or else table; None where there is none. Copies that a person
        made of one come last."""
        for node in sorted(reversed(nodes_of_class(volume.GetScene(), "vtkMRMLSegmentationNode")), key=is_copy):
            if not self.reasonAgainstFindings(volume, node):
                return node
        return next(iter(mrml.detections_of(volume)), None)

    def isWorthSaying(self, volume, parameterNode):
        return volume is not None or bool(self.reasonAgainstModels(parameterNode))

    def spacingKnown(self, volume):
        """Whether the volume's millimetres may be real."""
        return mrml.volume_spacing_known(volume) if self.isVolume(volume) else mrml.spacing_known(volume)

    def pixels(self, volume):
        """The volume as the library takes it. ImageError when it cannot be worked on."""
        reason = self.reasonAgainst(volume)
        if reason:
            raise ImageError(reason)
        return child_grading.GradePixels(mrml.image_from_volume(volume), volume.GetName(), self.spacingKnown(volume))

    def study(self, volume, findings):
        """What a segmentation or a table holds, as it stands in the scene now; None: nothing, the lesion is to be found.

        :raises DataError: it does not read, or holds nothing any more.
        """
        if findings is None:
            return None
        study = mrml.study_from_nodes(volume, findings)
        if not study.findings:
            raise DataError(_("{node} holds no finding; there is nothing to grade.").format(node=findings.GetName()))
        return study

    def start(self, volume, study, options, onProgress=None, onLog=None):
        """Begin the grading in a child process; returns the job to poll, cancel and ask for its result."""
        order = child_grading.GradingOrder(study, options)
        pixels = self.pixels(volume)  # nodes are read here and now
        return BackgroundChild(lambda: self._childGrading(pixels, order, onProgress, onLog))

    def process(self, volume, findings=None, table=None, options=None, progress=None):
        """Grade in line and show the grades; returns the nodes (`mrml_grades.GradeNodes`).

        :param findings: segmentation or table of findings; None finds the lesion of a 2D image.
        :param table: see `show`.
        :param options: `BreastUSAILib.workup_options.GradingOptions`.
        :param progress: called with a fraction (0 to 1) and a message.
        :raises BreastUSAIError: one sentence for the user; the scene was not changed then.
        """
        from BreastUSAILib.same_pixels import findings_on
        from BreastUSAILib.workup import GradingOptions, run_grading

        loaded = child_workup.load_input(self.pixels(volume))
        study = self.study(volume, findings)
        known = loaded.spacing_known
        given = None if study is None else findings_on(study, loaded.image, volume.GetName(), spacing_known=known)
        graded = (self._runner or run_grading)(loaded, given, options or GradingOptions(), progress)
        return self.show(graded, volume, table, findings is None)

    def show(self, study, volume, table=None, foundItself=False):
        """The nodes of a study's grades; a word to the log.

        :param table: of grades of this image, which is replaced. None makes a new one, and so does one that holds anything else.
        :param foundItself: whether the findings are new in the scene, and are shown as well.
        """
        if table is not None and mrml_grades.holds_other_grades(table, volume):
            table = None
        nodes = mrml_grades.show_grades(volume.GetScene(), study, volume, table, outlines=foundItself)
        logging.info("BreastUSAI Grade, %s: %s", volume.GetName(), self.summary(study))
        return nodes

    def summary(self, study):
        """What was graded, in words, and whether models learnt from phantoms."""
        from BreastUSAILib.workup import trained_on_phantoms

        graded = [f for f in study.findings if any(task.startswith("grade-") for task in f.models)]
        unsure = sum(bool(f.evidence.get("not_sure")) for f in graded)
        said = study.summary if not study.findings else _("{graded} of {all} findings graded.").format(
            graded=len(graded), all=len(study.findings)
        )  # fmt: skip
        if unsure:
            said += " " + _("Not sure: {unsure}.").format(unsure=unsure)
        if trained_on_phantoms(study):
            said += " " + _("A model was trained on phantoms, not on patients.")
        return said

    def isOurs(self, table):
        """Whether a table was made by `show`."""
        return table.GetAttribute(mrml_grades.GRADES) is not None

    def grade(self, table, row):
        """What the panel shows of the finding in a row; None where there is none."""
        study = mrml_grades.graded(table)
        return ShownGrade(study.findings[row]) if study is not None and 0 <= row < len(study.findings) else None

    def showMap(self, table, opacity):
        """Let the slice views that show the image show where the networks looked, over it; None: no more."""
        volume = table.GetNodeReference(mrml_grades.GRADED)
        if volume is not None:
            node = table.GetNodeReference(mrml_grades.MAP) if opacity is not None else None
            if node is not None:
                mrml_overlay.show_from(node, 0.0, PERCENT)  # BreastUSAI Heatmap may have hidden what is weak
            mrml_overlay.show_over(volume, node, opacity or 0.0)

    def jumpTo(self, table, row):
        """Let all slice views show the finding in a row; returns where, world RAS mm, or None where the image was removed."""
        return mrml_grades.jump_to_graded(table, row)


class BreastUSAIGradeTest(ScriptedLoadableModuleTest):
    """The self-test: what the module shows and refuses, which needs no model and no further packages; and the grades of the real image that
    is built in, which is skipped where packages are not in this Slicer, as on the machine that builds extensions.
    """

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self, **kwargs):
        for test in (self.test_gradesAreShown, self.test_volumesNeedFindings, self.test_realImage):
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

    def syntheticVolume(self, slices):
        """Noise (120 x 50 x `slices` voxels of 0.4 x 0.3 x 0.5 mm)."""
        import numpy as np
        import SimpleITK as sitk

        voxels = np.random.default_rng(20).integers(60, 200, (slices, 50, 120), dtype=np.uint8)
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing((0.4, 0.3, 0.5))
        return mrml.add_volume(slicer.mrmlScene, image, "synthetic")

    def oneGrade(self, loaded, findings, options, progress):
        """Stands for models: the same grade for any finding, or for one in any image, and a map."""
        import numpy as np
        import SimpleITK as sitk

        from BreastUSAILib.findings import Finding, Study
        from BreastUSAILib.grid import index_box

        if findings is None:
            start = (20, 10, 0)[: loaded.image.GetDimension()]
            size = (30, 20, 1)[: loaded.image.GetDimension()]
            findings = (Finding("L1", index_box(loaded.image, start, size), 0.9),)
        seen = np.zeros(loaded.image.GetSize()[::-1], np.uint8)
        seen[..., 10:30, 20:50] = 80
        activation = sitk.GetImageFromArray(seen)
        activation.CopyInformation(loaded.image)
        graded = [
            Finding(f.id, f.box, f.score, 0.7, {"3": 0.1, "4A": 0.2, "4B": 0.4, "4C": 0.2, "5": 0.1}, 0.6, models={"grade-mtnet": "m"},
                    evidence={"malignancy_threshold": 0.3, "not_sure": 0.0, "shape_oval": 0.8, "shape_round": 0.2})
            for f in findings
        ]  # fmt: skip
        return Study(loaded.info, tuple(graded), activation=activation)

    def test_gradesAreShown(self):
        self.delayDisplay("Grades of an image, with a map over it")
        volume = self.syntheticVolume(slices=1)
        view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
        view.SetBackgroundVolumeID(volume.GetID())
        logic = BreastUSAIGradeLogic(runner=self.oneGrade)
        nodes = logic.process(volume)
        self.assertEqual((nodes.table.GetNumberOfRows(), logic.isOurs(nodes.table)), (1, True))
        self.assertEqual(nodes.table.GetCellText(0, 1), "4B")
        self.assertIn("BI-RADS 4B", logic.grade(nodes.table, 0).headline)
        logic.showMap(nodes.table, 0.5)
        self.assertEqual(view.GetForegroundVolumeID(), nodes.activation.GetID())
        logic.showMap(nodes.table, None)
        self.assertIsNone(view.GetForegroundVolumeID())
        where = logic.jumpTo(nodes.table, 0)
        # The middle of voxels 20 to 49 and 10 to 29 of an image whose first axes point to the left and backwards.
        for found, expected in zip(where, (-34.5 * 0.4, -19.5 * 0.3, 0.0), strict=True):
            self.assertAlmostEqual(found, expected, delta=1e-4)

    def test_volumesNeedFindings(self):
        self.delayDisplay("A volume's findings must be chosen")
        logic = BreastUSAIGradeLogic(runner=self.oneGrade)
        volume = self.syntheticVolume(slices=30)
        self.assertIn("BreastUSAI Detect", logic.reasonAgainstFindings(volume, None))
        other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "other")
        self.assertIn("no findings of BreastUSAI", logic.reasonAgainstFindings(volume, other))

    def test_realImage(self):
        self.needPackages()
        self.delayDisplay("Grades of a real image, whose lesion is malignant")
        import SimpleITK as sitk

        from BreastUSAILib import mrml_sample

        volume, logic = mrml_sample.add_real_image(slicer.mrmlScene), BreastUSAIGradeLogic()
        nodes = logic.process(volume)
        (finding,) = mrml_grades.graded(nodes.table).findings
        outlined = mrml.study_from_nodes(volume, logic.firstFindings(volume)).findings[0]
        self.assertEqual(mrml_sample.disagreements(outlined, logic.jumpTo(nodes.table, 0)), [])
        self.assertEqual(nodes.table.GetNumberOfRows(), 1)
        self.assertAlmostEqual(sum(finding.birads.values()), 1, delta=1e-3)
        self.assertIn(nodes.table.GetCellText(0, 1), ("4B", "4C", "5"))
        self.assertGreater(finding.malignancy, finding.evidence["malignancy_threshold"])
        # The networks looked at the lesion, and the map lies over it.
        seen = sitk.GetArrayFromImage(mrml.image_from_volume(nodes.activation))[0]
        inside = sitk.GetArrayFromImage(outlined.mask).reshape(seen.shape) > 0
        self.assertGreater(seen[inside].mean(), 2 * seen[~inside].mean())
        self.assertEqual(mrml.info_of(nodes.activation).origin, mrml.info_of(volume).origin)
        for found, expected in zip(nodes.activation.GetSpacing(), volume.GetSpacing(), strict=True):
            self.assertAlmostEqual(found, expected, delta=1e-6)
