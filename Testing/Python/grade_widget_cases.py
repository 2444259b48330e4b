"""The panel of BreastUSAI Grade: cases that run on the stand-in (test_module_grade.py) and in a real Slicer
(run_in_slicer.py). They use nothing that one of the two does not have.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import BreastUSAIGrade as module
import numpy as np
import panel_cases
import SimpleITK as sitk
import slicer
import vtk
from panel_cases import STANDIN_CLI, Row, count
from standin_grades import graded

from BreastUSAILib import mrml, mrml_grades, mrml_heatmap
from BreastUSAILib.child_grading import ChildGrading
from BreastUSAILib.child_workup import load_input
from BreastUSAILib.findings import Finding, ImageInfo, Study
from BreastUSAILib.grid import index_box

SPACING = (0.8, 0.9, 1.1)
NO_MODEL = "No malignancy grading model is installed; train one with breastusai train grade, or choose a model folder (Options)."


def picture(name="case 1", known=True):
    """An image of one slice, 40 x 30 pixels, bright with a dark box: pixels 10 to 19 and 8 to 15."""
    pixels = np.full((1, 30, 40), 200, np.uint8)
    pixels[0, 8:16, 10:20] = 20
    image = sitk.GetImageFromArray(pixels)
    image.SetSpacing((0.3, 0.3, 1.0) if known else (1.0, 1.0, 1.0))
    return mrml.add_volume(slicer.mrmlScene, image, name, known)


def volume(name="abus 1"):
    """A volume node, bright with two dark boxes, and the findings in them as BreastUSAI Detect shows them; volume and table."""
    voxels = np.full((30, 20, 40), 200, np.uint8)
    voxels[6:18, 4:12, 5:15] = 20
    voxels[20:25, 5:10, 25:30] = 20
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(SPACING)
    node = mrml.add_volume(slicer.mrmlScene, image, name)
    boxes = (index_box(image, (5, 4, 6), (10, 8, 12)), index_box(image, (25, 5, 20), (5, 5, 5)))
    findings = tuple(Finding(f"L{i}", box, 0.9 / i, 0.4, models={"detect": "d"}) for i, box in enumerate(boxes, 1))
    study = Study(ImageInfo.of(image, name), findings)
    return node, mrml.show_detections(slicer.mrmlScene, study, node).table


class InlineGrading:
    """Takes the place of a child process where a case is about what comes after it; the name of Mt-Net's folder chooses a behaviour."""

    def __init__(self, pixels, order, on_progress=None, on_log=None):
        self._pixels, self._order, self._tell = pixels, order, on_progress

    def poll(self):
        self._tell(0.5, "looking")
        return True

    def cancel(self):
        pass

    def result(self):
        nothing = Path(self._order.options.mtnet).name == "0.14"
        return graded(load_input(self._pixels), self._order.study, nothing)


class PanelCase(panel_cases.FolderCase):
    widget = module.BreastUSAIGradeWidget

    def setUp(self):
        super().setUp()
        self.view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")

    def logic(self):
        return module.BreastUSAIGradeLogic(childGrading=InlineGrading)

    def model(self, behaviour="mine"):
        """A folder whose name chooses what the stand-in for the command line does."""
        (self.folder / behaviour).mkdir(exist_ok=True)
        return str(self.folder / behaviour)

    def ready(self, behaviour="mine", **changes):
        """An image and a model are chosen; returns the image."""
        chosen = picture(**changes)
        self.view.SetBackgroundVolumeID(chosen.GetID())
        self.panel._parameterNode.inputVolume = chosen
        self.panel._parameterNode.mtnetFolder = self.model(behaviour)
        return chosen

    def readyWithVolume(self):
        chosen, table = volume()
        self.view.SetBackgroundVolumeID(chosen.GetID())
        parameters = self.panel._parameterNode
        parameters.inputVolume, parameters.findings, parameters.mtnetFolder = chosen, table, self.model()
        return chosen

    def shownBars(self):
        """Name -> percent of the bars that are shown."""
        bars = self.panel.bars()
        return {name: float(bar.format.split()[0]) for name, bar in bars.items() if not bar.isHidden()}


class Binding(PanelCase):
    def test_the_panel_shows_the_parameters_and_writes_them(self):
        ui, parameters = self.panel.ui, self.panel._parameterNode
        parameters.inputVolume = picture()
        parameters.several, parameters.maps = False, False
        parameters.device = module.Device.CPU
        parameters.gcnnFolder, parameters.mtnetFolder, parameters.modelFolder = "/models/g", "/models/m", "/models/roi"
        self.assertEqual((ui.severalCheckBox.checked, ui.mapsCheckBox.checked), (False, False))
        self.assertEqual((ui.gcnnFolderEdit.currentPath, ui.mtnetFolderEdit.currentPath), ("/models/g", "/models/m"))
        options = self.panel.logic.options(parameters)
        self.assertEqual((options.gcnn, options.mtnet, options.snnet), ("/models/g", "/models/m", None))
        self.assertEqual(
            (options.model, options.device, options.enhance, options.several), ("/models/roi", "cpu", False, False)
        )
        ui.severalCheckBox.checked = True
        ui.snnetFolderEdit.currentPath = "/models/s"
        ui.mapOpacitySlider.value = 0.6
        self.assertTrue(parameters.several)
        self.assertEqual(parameters.snnetFolder, "/models/s")
        self.assertAlmostEqual(parameters.mapOpacity, 0.6)

    def test_every_parameter_has_its_widget(self):
        bound = {w.property("SlicerParameterName") for w in vars(self.panel.ui).values()} - {None, ""}
        expected = {"inputVolume", "findings", "outputTable", "showMap", "mapOpacity", "several", "maps", "device"}
        self.assertEqual(bound, expected)
        for folder in self.panel.folders:
            self.assertTrue(hasattr(self.panel.ui, f"{folder}Edit"))


class Enabling(PanelCase):
    def setUp(self):
        super().setUp()
        self.panel.logic.graders = lambda: []  # also once they ship
        self.panel.updatePanel()

    def test_without_a_model_it_says_so_and_waits_for_a_folder(self):
        ui, parameters = self.panel.ui, self.panel._parameterNode
        self.assertEqual(ui.statusLabel.text, NO_MODEL)
        parameters.inputVolume = picture()
        self.assertEqual((ui.applyButton.enabled, ui.statusLabel.text), (False, NO_MODEL))
        ui.snnetFolderEdit.currentPath = self.model()
        self.assertEqual((ui.applyButton.enabled, ui.statusLabel.text), (True, ""))
        parameters.snnetFolder = ""
        self.panel.logic.graders = lambda: ["grade-mtnet"]
        self.panel.updatePanel()
        self.assertTrue(ui.applyButton.enabled)

    def test_a_map_is_no_image(self):
        self.refusesMapsOver(self.ready())

    def test_volumes_need_findings_of_their_own(self):
        ui, parameters = self.panel.ui, self.panel._parameterNode
        self.readyWithVolume()
        self.assertTrue(ui.applyButton.enabled)
        table = parameters.findings
        parameters.findings = None
        self.assertIs(parameters.findings, table)  # is proposed
        parameters.findings = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "mine")
        self.assertIn("mine holds no findings of BreastUSAI", ui.statusLabel.text)
        other, others = volume("abus 2")
        parameters.findings, parameters.inputVolume = table, other
        self.assertIn("findings of another image than abus 2", ui.statusLabel.text)
        self.assertFalse(ui.applyButton.enabled)
        slicer.mrmlScene.RemoveNode(others)
        parameters.findings = None
        self.assertIn("Choose what BreastUSAI Detect", ui.statusLabel.text)

    def test_what_finds_lesions_is_asked_for_images_without_findings_alone(self):
        ui = self.panel.ui
        self.ready()
        self.assertTrue(ui.modelComboBox.enabled and ui.modelFolderEdit.enabled)
        self.readyWithVolume()
        self.assertFalse(ui.modelComboBox.enabled or ui.modelFolderEdit.enabled)


class Running(PanelCase):
    def test_the_lesion_of_an_image_is_found_and_graded(self):
        chosen = self.ready()
        self.apply(wait=False)
        self.assertEqual((self.panel.ui.applyButton.enabled, self.panel.ui.cancelButton.enabled), (False, True))
        self.until(lambda: self.panel._job is None)
        self.assertEqual(self.errors, [])
        self.assertEqual(self.panel.ui.statusLabel.text, "1 of 1 findings graded.")
        table = self.panel._parameterNode.outputTable
        self.assertIs(self.panel.ui.resultsTableView.mrmlTableNode(), table)
        self.assertEqual([table.GetCellText(0, c) for c in (0, 1)], ["L1", "3"])
        self.assertEqual((count("Segmentation"), count("MarkupsROI")), (1, 1))
        self.assertEqual(
            self.panel.ui.gradeLabel.text, "<b>L1</b>, BI-RADS 3, malignant 20 %, below the operating point of 30 %"
        )
        birads = {"birads3": 50.0, "birads4A": 20.0, "birads4B": 10.0, "birads4C": 10.0, "birads5": 10.0}
        self.assertEqual(self.shownBars(), {"malignancy": 20.0, **birads, "solid": 75.0})
        # Where the network looked lies over the image, voxel on voxel.
        seen = slicer.mrmlScene.GetNodeByID(self.view.GetForegroundVolumeID())
        self.assertAlmostEqual(self.view.GetForegroundOpacity(), 0.3)
        percent = sitk.GetArrayFromImage(mrml.image_from_volume(seen))
        self.assertEqual((percent[0, 8:16, 10:20].min(), int((percent > 0).sum())), (90, 80))
        np.testing.assert_allclose(seen.GetOrigin(), chosen.GetOrigin(), atol=1e-6)

    def test_a_click_shows_another_findings_grade_and_goes_there(self):
        self.readyWithVolume()
        slices = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", "A")
        self.apply()
        self.panel.onRow(Row(1))
        self.assertIn("<b>L2</b>, BI-RADS 5, malignant 50 %, at or above", self.panel.ui.gradeLabel.text)
        self.assertIn("(not sure)", self.panel.ui.gradeLabel.text)
        self.assertIn("the systems disagree", self.panel.ui.descriptorsLabel.text)
        self.assertEqual(set(self.shownBars()), {"malignancy", "birads3", "birads4C", "birads5", "solid"})
        matrix = slices.GetSliceToRAS()
        expected = [-27 * SPACING[0], -7 * SPACING[1], 22 * SPACING[2]]
        np.testing.assert_allclose([matrix.GetElement(i, 3) for i in range(3)], expected, atol=1e-4)

    def test_hot_spots_are_not_what_is_graded_first(self):
        chosen, table = volume()
        study = mrml.detected_in(table)
        hot = mrml_heatmap.show_heatmap(slicer.mrmlScene, study, chosen).table
        self.assertEqual(hot.GetName(), "abus 1 hot spots")
        self.assertIs(self.panel.logic.firstFindings(chosen), table)
        self.panel._parameterNode.inputVolume = chosen
        self.panel.updatePanel()
        self.assertIs(self.panel._parameterNode.findings, table)  # is proposed
        slicer.mrmlScene.RemoveNode(table)
        self.assertIsNone(self.panel.logic.firstFindings(chosen))

    def test_a_copy_that_a_person_made_is_not_what_is_graded_first(self):
        chosen, table = volume()
        outlined = mrml.show_study(slicer.mrmlScene, mrml.detected_in(table), chosen).segmentation
        copy = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "backup")
        copy.Copy(outlined)
        self.assertIs(self.panel.logic.firstFindings(chosen), outlined)
        slicer.mrmlScene.RemoveNode(outlined)
        self.assertIs(self.panel.logic.firstFindings(chosen), copy)

    def test_the_outlines_of_a_segmentation_reach_the_child(self):
        chosen = self.ready()
        self.apply()
        parameters = self.panel._parameterNode
        parameters.findings = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
        self.apply()
        self.assertEqual((self.errors, count("Segmentation"), count("Table")), ([], 1, 2))
        study = self.panel.logic.study(chosen, parameters.findings)
        self.assertEqual(int(sitk.GetArrayViewFromImage(study.findings[0].mask).sum()), 80)

    def test_findings_of_other_pixels_and_beside_the_image_are_not_graded(self):
        chosen = self.ready()
        self.apply()
        parameters = self.panel._parameterNode
        parameters.findings = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
        scalars = chosen.GetImageData().GetPointData().GetScalars()
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        was = scalars.GetValue(7)
        scalars.SetValue(7, was - 1)  # a filter that works in place
        self.apply()
        self.assertEqual(len(self.errors), 1)
        self.assertIn("shows other pixels than those in which the segmentation", self.errors[0])
        scalars.SetValue(7, was)
        matrix = vtk.vtkMatrix4x4()
        matrix.SetElement(0, 3, 1.0)
        transform.SetMatrixTransformToParent(matrix)
        chosen.SetAndObserveTransformNodeID(transform.GetID())
        self.apply()
        self.assertEqual(len(self.errors), 2)
        self.assertIn("does not lie on the image case 1 as it was made", self.errors[1])
        chosen.HardenTransform()
        parts = mrml.parts_of(parameters.findings)
        for node in (parameters.findings, *parts.boxes.values(), parts.points):
            node.SetAndObserveTransformNodeID(transform.GetID())  # they are together again
        self.apply()
        self.assertEqual(self.errors[2:], [])

    def test_the_map_can_be_hidden_and_made_fainter(self):
        self.ready()
        self.apply()
        seen = self.view.GetForegroundVolumeID()
        self.panel.ui.mapOpacitySlider.value = 0.8
        self.assertAlmostEqual(self.view.GetForegroundOpacity(), 0.8)
        self.panel.ui.showMapCheckBox.checked = False
        self.assertIsNone(self.view.GetForegroundVolumeID())
        self.panel.ui.showMapCheckBox.checked = True
        self.assertEqual(self.view.GetForegroundVolumeID(), seen)

    def test_a_second_run_replaces_the_first_and_another_images_stays(self):
        self.ready()
        self.apply()
        first = self.panel._parameterNode.outputTable
        self.apply()
        self.assertIs(self.panel._parameterNode.outputTable, first)
        self.assertEqual((count("Segmentation"), count("ScalarVolume")), (1, 2))
        self.ready(name="case 2")
        self.apply()
        self.assertIsNot(self.panel._parameterNode.outputTable, first)
        self.assertEqual(mrml_grades.graded(first).image.path, "case 1")

    def test_what_a_person_drew_stays_when_the_image_goes_under_a_transform(self):
        chosen = self.ready()
        self.apply()
        before = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
        before.GetSegmentation().AddEmptySegment("mine")
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "registered")
        chosen.SetAndObserveTransformNodeID(transform.GetID())
        self.apply()
        self.assertEqual((self.errors, count("Segmentation"), count("MarkupsROI")), ([], 2, 1))
        self.assertEqual((before.GetSegmentation().GetSegmentIDs(), before.GetTransformNodeID()), (("mine",), None))
        outlines = self.panel._parameterNode.outputTable.GetNodeReference(mrml_grades.OUTLINES)
        self.assertEqual((outlines.GetTransformNodeID(), outlines.GetSegmentation().GetNumberOfSegments()), (transform.GetID(), 1))

    def test_a_click_leads_to_where_a_volume_was_moved(self):
        chosen = self.readyWithVolume()
        slices = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", "A")
        self.apply(wait=False)
        for x in (30.0, 70.0):  # while it is graded, and afterwards
            chosen.SetOrigin(x, 0.0, 0.0)
            self.until(lambda: self.panel._job is None)
            self.panel.onRow(Row(1))
            matrix = slices.GetSliceToRAS()
            expected = [x - 27 * SPACING[0], -7 * SPACING[1], 22 * SPACING[2]]
            np.testing.assert_allclose([matrix.GetElement(i, 3) for i in range(3)], expected, atol=1e-4)
        self.assertEqual(self.errors, [])

    def test_a_click_leads_to_the_same_pixels_when_these_got_another_size(self):
        chosen = self.ready(known=False)
        slices = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", "A")
        mrml.set_pixel_spacing(chosen, 0.3)
        self.apply()
        for mm in (0.3, 0.1):
            mrml.set_pixel_spacing(chosen, mm)
            self.panel.onRow(Row(0))
            matrix = slices.GetSliceToRAS()
            np.testing.assert_allclose([matrix.GetElement(i, 3) for i in range(2)], [-14.5 * mm, -11.5 * mm], atol=1e-4)

    def test_nothing_found_is_an_ordinary_result(self):
        self.ready("0.14")
        self.apply()
        self.assertEqual((self.errors, self.panel.ui.statusLabel.text), ([], "No lesion found."))
        self.assertEqual((self.panel.ui.gradeLabel.text, self.shownBars()), ("", {}))


class InAProcess(PanelCase):
    def logic(self):
        return module.BreastUSAIGradeLogic(childGrading=functools.partial(ChildGrading, command=STANDIN_CLI))

    def test_findings_that_are_there_are_graded_and_stay(self):
        self.readyWithVolume()
        self.apply()
        self.assertEqual(self.errors, [])
        self.assertEqual(self.panel.ui.statusLabel.text, "2 of 2 findings graded. Not sure: 1.")
        self.assertEqual((count("Segmentation"), count("MarkupsROI"), count("Table")), (0, 2, 2))
        self.assertIn("--findings", self.panel.ui.logTextEdit.plainText)
        study = mrml_grades.graded(self.panel._parameterNode.outputTable)
        self.assertEqual([f.models for f in study.findings], [{"detect": "d", "grade-mtnet": "stand-in"}] * 2)
        # The grades' table is no result of BreastUSAI Detect.
        self.assertEqual(len(mrml.detections_of(self.panel._parameterNode.inputVolume)), 1)

    def test_images_without_spacing_are_graded_as_well(self):
        self.ready(known=False)
        self.apply()
        self.assertEqual((self.errors, self.panel.ui.statusLabel.text[:6]), ([], "1 of 1"))
        self.panel._parameterNode.findings = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
        self.apply()
        self.assertEqual((self.errors, self.panel.ui.statusLabel.text[:6]), ([], "1 of 1"))

    def test_an_outline_in_pixels_is_graded_where_it_was_when_these_get_a_size(self):
        """Outlined without a spacing; then a spacing is said, as BreastUSAI Segment does with another outline."""
        chosen = self.ready(known=False)
        self.apply()
        parameters = self.panel._parameterNode
        parameters.findings = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
        mrml.set_pixel_spacing(chosen, 0.2)
        parameters.outputTable = None
        self.apply()
        self.assertEqual((self.errors, self.panel.ui.statusLabel.text[:6]), ([], "1 of 1"))
        (finding,) = mrml_grades.graded(parameters.outputTable).findings
        np.testing.assert_allclose(finding.box.size, (2.0, 1.6, 1.0), atol=1e-6)
        self.assertEqual([name for name in finding.measurements if name.endswith(("_mm", "_mm2"))], [])
        # In line as in a process.
        (inLine,) = self.panel.logic.study(chosen, parameters.findings).findings
        self.assertEqual(int(sitk.GetArrayViewFromImage(inLine.mask).sum()), 80)
        # Where it lies beside its pixels, it is told.
        chosen.SetSpacing(0.5, 0.5, 1.0)
        self.apply()
        self.assertIn("was laid over pixels of 0.2 x 0.2 mm, and the image case 1 has pixels of 0.5 x 0.5 mm now", self.errors[-1])

    def test_cancel_ends_it_and_changes_nothing(self):
        self.ready("0.13")
        self.apply(wait=False)
        self.until(lambda: "arguments" in self.panel.ui.logTextEdit.plainText)
        child = self.child()
        self.panel.ui.cancelButton.click()
        self.until(child.poll, timeout=30)
        self.assertEqual((self.panel.ui.statusLabel.text, count("Table"), self.errors), ("Cancelled.", 0, []))
        self.assertTrue(self.panel.ui.applyButton.enabled)

    def test_a_crash_and_a_failure_of_the_child_are_messages(self):
        for behaviour, words in (("0.11", "analysis process"), ("0.12", "the model is broken; choose another one.")):
            self.ready(behaviour)
            self.apply()
            self.assertIn(words, self.errors[-1])
            self.assertEqual(count("Table"), 0)

    def test_closing_the_scene_ends_the_analysis_and_the_panel_starts_anew(self):
        self.ready("0.13")
        self.apply(wait=False)
        child = self.child()
        slicer.mrmlScene.Clear(False)
        self.until(child.poll, timeout=30)
        self.assertIsNone(self.panel._job)
        self.assertEqual((self.panel.ui.inputSelector.currentNode(), self.panel.ui.gradeLabel.text), (None, ""))


class Life(PanelCase):
    def test_grades_and_map_survive_saving_and_opening_the_scene(self):
        self.ready()
        self.apply()
        self.panel.ui.mapOpacitySlider.value = 0.5
        self.saveAndOpenScene()
        table = self.panel._parameterNode.outputTable
        self.assertEqual(self.shownBars()["malignancy"], 20.0)
        self.assertIsNotNone(table.GetNodeReference(mrml_grades.MAP))
        self.assertAlmostEqual(self.panel.ui.mapOpacitySlider.value, 0.5)

    def test_a_closed_panel_leaves_no_observer(self):
        other = self.openPanel()
        self.closePanel(other)
        self.assertEqual((list(other.Observations), other._timer), ([], None))


if __name__ == "__main__":
    sys.exit("run by test_module_grade.py or run_in_slicer.py")
