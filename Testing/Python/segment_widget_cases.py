"""The panel of BreastUSAI Segment: cases that run on the stand-in (test_segment_widget.py) and in a real Slicer
(run_in_slicer.py). They use nothing that one of the two does not have.
"""

from __future__ import annotations

import functools
import sys

import BreastUSAISegment as module
import numpy as np
import panel_cases
import SimpleITK as sitk
import slicer
import vtk
from panel_cases import STANDIN_CLI, count

from BreastUSAILib import mrml, mrml_heatmap
from BreastUSAILib.child_segmentation import ChildSegmentation
from BreastUSAILib.child_workup import ChildWorkup
from BreastUSAILib.errors import DependencyError
from BreastUSAILib.findings import Finding, ImageInfo, Study
from BreastUSAILib.grid import index_box
from BreastUSAILib.models import catalog


def image(slices: int = 1, size=(80, 60), known: bool = True, name: str = "case 1"):
    """A volume node with a dark ellipse in a bright image."""
    y, x = np.mgrid[: size[1], : size[0]]
    dark = ((x - 30) / 15.0) ** 2 + ((y - 25) / 8.0) ** 2 < 1
    pixels = np.where(dark, 20, 200).astype(np.uint8)[None].repeat(slices, axis=0)
    picture = sitk.GetImageFromArray(pixels)
    picture.SetSpacing((0.1, 0.1, 1.0) if known else (1.0, 1.0, 1.0))
    return mrml.add_volume(slicer.mrmlScene, picture, name, known), int(dark.sum())


class PanelCase(panel_cases.PanelCase):
    widget = module.BreastUSAISegmentWidget

    def logic(self):
        return module.BreastUSAISegmentLogic(
            childWorkup=functools.partial(ChildWorkup, command=STANDIN_CLI),
            childSegmentation=functools.partial(ChildSegmentation, command=STANDIN_CLI),
        )


class Binding(PanelCase):
    def test_the_panel_shows_the_parameters_and_writes_them(self):
        ui, parameters = self.panel.ui, self.panel._parameterNode
        volume, _ = image()
        parameters.inputVolume = volume
        parameters.refine = False
        parameters.threshold = 0.35
        parameters.lesions = module.Lesions.ALL
        parameters.device = module.Device.CPU
        parameters.modelFolder = "/models/mine"
        self.assertIs(ui.inputSelector.currentNode(), volume)
        self.assertFalse(ui.refineCheckBox.checked)
        self.assertAlmostEqual(ui.thresholdSpinBox.value, 0.35)
        self.assertEqual(ui.lesionsComboBox.currentText, "all")
        self.assertEqual(ui.modelFolderEdit.currentPath, "/models/mine")
        self.assertFalse(ui.modelComboBox.enabled)

        ui.refineCheckBox.checked = True
        ui.thresholdSpinBox.value = 0.6
        ui.lesionsComboBox.currentIndex = 0
        ui.deviceComboBox.currentIndex = 0
        ui.modelFolderEdit.currentPath = ""
        ui.inputSelector.setCurrentNode(None)
        self.assertTrue(parameters.refine)
        self.assertAlmostEqual(parameters.threshold, 0.6)
        self.assertEqual((parameters.lesions, parameters.device), (module.Lesions.CENTRAL, module.Device.AUTO))
        self.assertEqual(parameters.modelFolder, "")
        self.assertIsNone(parameters.inputVolume)
        self.assertTrue(ui.modelComboBox.enabled)

    def test_every_parameter_has_its_widget(self):
        bound = {w.property("SlicerParameterName") for w in vars(self.panel.ui).values()} - {None, ""}
        self.assertEqual(
            bound | {"model", "modelFolder"},
            {"inputVolume", "outputSegmentation", "pixelSpacing", "lesions", "refine", "device", "threshold"}
            | {"where", "detections", "box", "points", "model", "modelFolder", "refineVolume", "passes", "mirrors"},
        )

    def test_models_come_from_the_catalogue_and_the_first_is_the_default(self):
        ui, parameters = self.panel.ui, self.panel._parameterNode
        names = [name for name, _ in self.panel.logic.models()]
        self.assertEqual([ui.modelComboBox.itemText(i) for i in range(len(names))], names)
        self.assertEqual((ui.modelComboBox.currentIndex, parameters.model), (0, ""))
        parameters.model = "from-another-version"
        self.assertEqual(ui.modelComboBox.currentText, "from-another-version")
        ui.modelComboBox.currentIndex = 0
        self.assertEqual(parameters.model, "")

    def test_options_say_what_the_panel_says(self):
        parameters = self.panel._parameterNode
        options = self.panel.logic.options(parameters)
        self.assertEqual((options.model, options.device, options.refine), ("", "auto", True))
        self.assertEqual((options.lesions, options.threshold), ("central", None))
        parameters.model, parameters.modelFolder = "a", "/b"
        parameters.threshold, parameters.lesions = 0.4, module.Lesions.ALL
        options = self.panel.logic.options(parameters)
        self.assertEqual((options.model, options.lesions, options.threshold), ("/b", "all", 0.4))


class Enabling(PanelCase):
    def test_a_map_is_no_image(self):
        self.refusesMapsOver(image()[0])

    def test_apply_needs_an_image(self):
        self.assertFalse(self.panel.ui.applyButton.enabled)
        self.assertIn("Choose", self.panel.ui.applyButton.toolTip)
        self.panel._parameterNode.inputVolume = image()[0]
        self.assertTrue(self.panel.ui.applyButton.enabled)

    def test_an_empty_volume_is_refused(self):
        self.panel._parameterNode.inputVolume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "void")
        self.assertFalse(self.panel.ui.applyButton.enabled)
        self.assertIn("void holds no pixels", self.panel.ui.statusLabel.text)

    def test_pixel_spacing_is_asked_only_where_it_is_unknown(self):
        self.panel._parameterNode.inputVolume = image(known=True)[0]
        self.assertFalse(self.panel.ui.pixelSpacingSpinBox.enabled)
        self.panel._parameterNode.inputVolume = image(known=False)[0]
        self.assertTrue(self.panel.ui.pixelSpacingSpinBox.enabled)

    def test_the_first_image_of_the_scene_is_proposed(self):
        volume, _ = image()
        self.panel.enter()
        self.assertIs(self.panel._parameterNode.inputVolume, volume)

    def test_a_label_map_is_not_proposed(self):
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
        self.panel.enter()
        self.assertIsNone(self.panel._parameterNode.inputVolume)
        volume, _ = image()
        self.panel.enter()
        self.assertIs(self.panel._parameterNode.inputVolume, volume)


class Running(PanelCase):
    def test_apply_shows_what_was_found(self):
        volume, pixels = image()
        self.panel._parameterNode.inputVolume = volume
        self.apply(wait=False)
        self.assertFalse(self.panel.ui.applyButton.enabled)
        self.assertTrue(self.panel.ui.cancelButton.enabled)
        self.until(lambda: self.panel._job is None)
        self.assertEqual(self.errors, [])
        self.assertTrue(self.panel.ui.applyButton.enabled)
        self.assertFalse(self.panel.ui.cancelButton.enabled)
        self.assertEqual(self.panel.ui.progressBar.value, 100)
        self.assertTrue(self.panel.ui.statusLabel.text.startswith("1 lesion found."))
        self.assertIn("arguments: run", self.panel.ui.logTextEdit.plainText)
        self.assertNotIn("Results:", self.panel.ui.logTextEdit.plainText)  # names a folder that is gone
        segmentation = self.panel._parameterNode.outputSegmentation
        study = mrml.study_from_nodes(volume, segmentation)
        self.assertEqual(study.image.path, "case 1")
        (finding,) = study.findings
        self.assertAlmostEqual(finding.measurements["area_mm2"], pixels * 0.01)
        self.assertEqual(int(sitk.GetArrayViewFromImage(finding.mask).sum()), pixels)
        self.assertIs(self.panel.ui.resultsTableView.mrmlTableNode(), slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLTableNode"))

    def test_a_second_run_replaces_the_first(self):
        self.panel._parameterNode.inputVolume = image()[0]
        for _ in range(2):
            self.apply()
        self.assertEqual([count(k) for k in ("Segmentation", "MarkupsROI", "MarkupsFiducial", "Table")], [1, 1, 1, 1])

    def test_a_second_image_leaves_the_first_ones_result_alone(self):
        first, pixels = image(name="case 1")
        second, others = image(name="case 2", size=(90, 70))
        parameters = self.panel._parameterNode
        parameters.inputVolume = first
        self.apply()
        ofFirst = parameters.outputSegmentation
        parameters.inputVolume = second
        self.apply()
        ofSecond = parameters.outputSegmentation
        self.assertEqual(self.errors, [])
        self.assertEqual((ofFirst.GetName(), ofSecond.GetName()), ("case 1 lesions", "case 2 lesions"))
        for volume, segmentation, area in ((first, ofFirst, pixels), (second, ofSecond, others)):
            study = mrml.study_from_nodes(volume, segmentation)
            self.assertEqual(study.image.path, volume.GetName())
            self.assertAlmostEqual(study.findings[0].measurements["area_mm2"], area * 0.01)
        self.assertEqual([count(k) for k in ("MarkupsROI", "MarkupsFiducial", "Table")], [2, 2, 2])
        self.apply()  # and again: its own result is replaced
        self.assertIs(parameters.outputSegmentation, ofSecond)
        self.assertEqual([count(k) for k in ("Segmentation", "MarkupsROI", "Table")], [2, 2, 2])

    def test_a_users_own_segmentation_is_written_into(self):
        volume, _ = image()
        mine = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
        mine.CreateDefaultDisplayNodes()
        mine.GetSegmentation().AddEmptySegment("drawn", "drawn by hand")
        self.panel._parameterNode.inputVolume = volume
        self.panel._parameterNode.outputSegmentation = mine
        self.apply()
        self.assertIs(self.panel._parameterNode.outputSegmentation, mine)
        self.assertEqual((count("Segmentation"), mine.GetSegmentation().GetNumberOfSegments()), (1, 2))

    def test_options_reach_the_command_line(self):
        parameters = self.panel._parameterNode
        parameters.inputVolume = image()[0]
        parameters.refine, parameters.lesions, parameters.device = False, module.Lesions.ALL, module.Device.CPU
        parameters.threshold, parameters.modelFolder = 0.45, "/models/mine"
        self.apply()
        log = self.panel.ui.logTextEdit.plainText
        for part in ("--no-refine", "--lesions all", "--device cpu", "--threshold 0.45", "--model /models/mine"):
            self.assertIn(part, log)

    def test_unknown_spacing_gives_pixels_and_a_given_one_millimetres(self):
        volume, pixels = image(known=False)
        parameters = self.panel._parameterNode
        parameters.inputVolume = volume
        self.apply()
        study = mrml.study_from_nodes(volume, parameters.outputSegmentation)
        self.assertFalse(study.image.spacing_known)
        self.assertEqual(study.findings[0].measurements["area_px2"], pixels)
        self.assertEqual(int(sitk.GetArrayViewFromImage(study.findings[0].mask).sum()), pixels)

        parameters.pixelSpacing = 0.2
        self.apply()
        self.assertEqual(tuple(volume.GetSpacing())[:2], (0.2, 0.2))
        study = mrml.study_from_nodes(volume, parameters.outputSegmentation)
        self.assertAlmostEqual(study.findings[0].measurements["area_mm2"], pixels * 0.04)

        # A slip is corrected, and taken back.
        self.assertTrue(self.panel.ui.pixelSpacingSpinBox.enabled)
        self.assertAlmostEqual(self.panel.ui.pixelSpacingSpinBox.value, 0.2)
        parameters.pixelSpacing = 0.1
        self.apply()
        study = mrml.study_from_nodes(volume, parameters.outputSegmentation)
        self.assertAlmostEqual(study.findings[0].measurements["area_mm2"], pixels * 0.01)
        self.assertEqual(int(sitk.GetArrayViewFromImage(study.findings[0].mask).sum()), pixels)
        parameters.pixelSpacing = 0.0
        self.apply()
        self.assertFalse(mrml.spacing_known(volume))
        study = mrml.study_from_nodes(volume, parameters.outputSegmentation)
        self.assertEqual(study.findings[0].measurements["area_px2"], pixels)
        self.assertEqual((self.errors, count("Segmentation")), ([], 1))

    def test_an_earlier_outline_stays_on_its_pixels_when_a_spacing_is_typed(self):
        volume, pixels = image(known=False)
        parameters = self.panel._parameterNode
        parameters.inputVolume = volume
        self.apply()
        earlier = parameters.outputSegmentation
        before = mrml.study_from_nodes(volume, earlier)
        parameters.outputSegmentation = None
        parameters.pixelSpacing = 0.2
        self.apply()
        self.assertEqual((self.errors, count("Segmentation"), count("MarkupsROI")), ([], 2, 2))
        self.assertIsNot(parameters.outputSegmentation, earlier)
        after = mrml.study_from_nodes(volume, earlier)
        masks = [sitk.GetArrayFromImage(study.findings[0].mask) for study in (before, after)]
        np.testing.assert_array_equal(*masks)
        self.assertEqual(int(masks[0].sum()), pixels)
        # What was measured in pixels stays so.
        self.assertEqual((after.image.spacing_known, after.findings[0].measurements["area_px2"]), (False, pixels))
        np.testing.assert_allclose(after.findings[0].box.center, before.findings[0].box.center, atol=1e-4)
        centers = [mrml.parts_of(node).boxes["L1"].GetCenter() for node in (earlier, parameters.outputSegmentation)]
        np.testing.assert_allclose(*centers, atol=1e-4)

    def test_a_typed_spacing_is_of_one_image_only(self):
        first, second, third = image(known=False)[0], image(known=False, name="case 2")[0], image(name="case 3")[0]
        parameters, box = self.panel._parameterNode, self.panel.ui.pixelSpacingSpinBox
        parameters.inputVolume = first
        box.value = 0.2
        self.apply()
        parameters.inputVolume = second
        self.assertEqual((parameters.pixelSpacing, box.value, box.enabled), (0.0, 0.0, True))
        box.value = 0.3  # never applied
        parameters.inputVolume = third
        self.assertEqual((parameters.pixelSpacing, box.enabled), (0.0, False))
        parameters.inputVolume = first
        self.assertEqual((parameters.pixelSpacing, box.value, box.enabled), (0.2, 0.2, True))
        self.assertFalse(mrml.spacing_known(second))

    def test_cancelling_and_failing_leave_the_spacing_alone(self):
        volume, _ = image(known=False)
        parameters = self.panel._parameterNode
        parameters.inputVolume, parameters.threshold = volume, 0.13
        parameters.pixelSpacing = 0.2
        self.apply(wait=False)
        self.panel.ui.cancelButton.click()
        parameters.threshold = 0.12
        self.apply()
        self.assertEqual(len(self.errors), 1)
        self.assertEqual(tuple(volume.GetSpacing()), (1.0, 1.0, 1.0))
        self.assertFalse(mrml.spacing_known(volume))
        self.assertAlmostEqual(parameters.pixelSpacing, 0.2)

    def test_a_full_disk_is_a_message(self):
        def full(*_, **__):
            raise RuntimeError("sitk::ERROR: cannot write")

        self.panel._parameterNode.inputVolume = image()[0]
        write, sitk.WriteImage = sitk.WriteImage, full
        try:
            self.apply()
        finally:
            sitk.WriteImage = write
        self.assertIn("free some space", self.errors[0])
        self.assertEqual(self.panel.ui.statusLabel.text, self.errors[0])
        self.assertTrue(self.panel.ui.applyButton.enabled)

    def test_nothing_found_is_an_ordinary_result(self):
        parameters = self.panel._parameterNode
        parameters.inputVolume, parameters.threshold = image()[0], 0.14
        self.apply()
        self.assertEqual(self.errors, [])
        self.assertTrue(self.panel.ui.statusLabel.text.startswith("No lesion found."))
        self.assertEqual((count("Segmentation"), count("MarkupsROI")), (1, 0))

    def test_cancel_ends_it_and_changes_nothing(self):
        parameters = self.panel._parameterNode
        parameters.inputVolume, parameters.threshold = image()[0], 0.13
        self.apply(wait=False)
        self.until(lambda: "arguments" in self.panel.ui.logTextEdit.plainText)
        child = self.child()
        self.panel.ui.cancelButton.click()
        self.until(child.poll, timeout=5)
        self.assertEqual(self.panel.ui.statusLabel.text, "Cancelled.")
        self.assertTrue(self.panel.ui.applyButton.enabled)
        self.assertFalse(self.panel.ui.cancelButton.enabled)
        self.assertEqual((count("Segmentation"), self.errors), (0, []))

    def test_a_crash_of_the_child_is_a_message(self):
        parameters = self.panel._parameterNode
        parameters.inputVolume, parameters.threshold = image()[0], 0.11
        self.apply()
        self.assertEqual(len(self.errors), 1)
        self.assertIn("analysis process", self.errors[0])
        self.assertEqual(self.panel.ui.statusLabel.text, self.errors[0])
        self.assertTrue(self.panel.ui.applyButton.enabled)
        self.assertEqual(count("Segmentation"), 0)

    def test_a_failure_shows_the_childs_last_words(self):
        parameters = self.panel._parameterNode
        parameters.inputVolume, parameters.threshold = image()[0], 0.12
        self.apply()
        self.assertIn("the model is broken; choose another one.", self.errors[0])

    def test_the_image_may_be_removed_meanwhile(self):
        volume, _ = image()
        self.panel._parameterNode.inputVolume = volume
        self.apply(wait=False)
        slicer.mrmlScene.RemoveNode(volume)
        self.until(lambda: self.panel._job is None)
        self.assertIn("removed from the scene", self.errors[0])

    def test_declining_the_installation_is_a_message(self):
        def decline(confirm):
            raise DependencyError("BreastUSAI needs torch; start again and agree to the installation.")

        self.panel.logic.ensureDependencies = decline
        self.panel._parameterNode.inputVolume = image()[0]
        self.apply()
        self.assertIn("needs torch", self.errors[0])
        self.assertTrue(self.panel.ui.applyButton.enabled)

    def test_leaving_the_module_lets_the_analysis_finish(self):
        volume, _ = image()
        self.panel._parameterNode.inputVolume = volume
        self.apply(wait=False)
        self.panel.exit()
        self.until(lambda: self.panel._job is None)
        self.assertEqual((self.errors, count("Segmentation")), ([], 1))
        self.panel.enter()
        self.assertIs(self.panel._parameterNode.inputVolume, volume)
        self.apply()  # it takes the place of the first
        self.assertEqual((self.errors, count("Segmentation"), count("Table")), ([], 1, 1))


SPACING = (0.8, 0.9, 1.1)
SHAPES = {"first": ((5, 4, 6), (15, 12, 18)), "second": ((25, 5, 20), (30, 10, 25))}  # first voxel and the one after the last
NO_MODEL = "No 3D segmentation model is installed"


def abus(name="abus", known=True):
    """A volume node, bright with two dark boxes (`SHAPES`), under a turn of the whole body."""
    voxels = np.full((30, 20, 40), 200, np.uint8)
    for low, high in SHAPES.values():
        voxels[tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1], strict=True))] = 20
    picture = sitk.GetImageFromArray(voxels)
    picture.SetSpacing(SPACING if known else (1.0, 1.0, 1.0))
    node = mrml.add_volume(slicer.mrmlScene, picture, name, known)
    turn = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "turn")
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy((0, -1, 0, 10, 1, 0, 0, -20, 0, 0, 1, 30, 0, 0, 0, 1))
    turn.SetMatrixTransformToParent(matrix)
    node.SetAndObserveTransformNodeID(turn.GetID())
    return node


def world(node, which):
    """World RAS of the middle of a dark box."""
    low, high = SHAPES[which]
    ijk = [(a + b - 1) / 2 for a, b in zip(low, high, strict=True)]
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    local = matrix.MultiplyPoint((*ijk, 1.0))[:3]
    point = [0.0, 0.0, 0.0]
    node.TransformPointToWorld(local, point)
    return point


def voxels_of(which):
    return int(np.prod(np.subtract(SHAPES[which][1], SHAPES[which][0])))


def detected(node, scores=(0.9, 0.2)):
    """What BreastUSAI Detect leaves of the two dark boxes."""
    image = mrml.image_from_volume(node)
    findings = tuple(
        Finding(f"L{i}", index_box(image, low, np.subtract(high, low)), score, 0.3)
        for i, ((low, high), score) in enumerate(zip(SHAPES.values(), scores, strict=True), start=1)
    )
    return mrml.show_detections(slicer.mrmlScene, Study(ImageInfo.of(image, node.GetName()), findings), node)


def roi(center, size=(8.0, 8.0, 8.0), shown=True):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    node.CreateDefaultDisplayNodes()
    node.SetCenter(*center)
    node.SetSize(*size)
    node.GetDisplayNode().SetVisibility(shown)
    return node


class Volumes(PanelCase):
    """ABUS volumes: the same panel, another path, chosen by the volume itself."""

    def ready(self, where=module.Where.BOXES):
        node = abus()
        parameters = self.panel._parameterNode
        parameters.volumeModelFolder = "/models/joint"
        parameters.where = where
        parameters.inputVolume = node
        return node

    def found(self, node):
        """Finding id -> how many voxels of which dark box its outline has."""
        study = mrml.study_from_nodes(node, self.panel._parameterNode.outputSegmentation)
        result = {}
        for finding in study.findings:
            if finding.mask is None:
                result[finding.id] = None
                continue
            mask = sitk.GetArrayViewFromImage(finding.mask)
            parts = [tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1], strict=True)) for low, high in SHAPES.values()]
            counts = [int(mask[part].sum()) for part in parts]
            self.assertEqual(sum(counts), int(mask.sum()))
            result[finding.id] = next(n for n, c in zip(SHAPES, counts, strict=True) if c)
            self.assertEqual(max(counts), voxels_of(result[finding.id]))
        return result

    def test_without_a_model_the_panel_says_so_and_how_to_get_one(self):
        if catalog.ships("segment-3d"):
            self.skipTest("a model for volumes is installed")
        node = abus()
        self.panel._parameterNode.inputVolume = node
        self.assertFalse(self.panel.ui.applyButton.enabled)
        for text in (self.panel.ui.statusLabel.text, self.panel.ui.applyButton.toolTip):
            self.assertIn(NO_MODEL, text)
            self.assertIn("breastusai train segment-3d", text)
        self.panel._parameterNode.inputVolume = image()[0]  # 2D images need none of it
        self.assertTrue(self.panel.ui.applyButton.enabled)

    def test_each_kind_of_input_has_its_own_options(self):
        ui = self.panel.ui
        ofVolumes = (ui.whereComboBox, ui.boxSelector, ui.volumeModelFolderEdit)
        ofImages = (ui.lesionsComboBox, ui.modelComboBox)
        self.ready()
        self.assertTrue(all(w.enabled for w in ofVolumes) and not any(w.enabled for w in ofImages))
        self.assertFalse(ui.pixelSpacingSpinBox.enabled or ui.pointsSelector.enabled or ui.detectionsSelector.enabled)
        self.panel._parameterNode.where = module.Where.POINTS
        self.assertTrue(ui.pointsSelector.enabled and not ui.boxSelector.enabled)
        self.panel._parameterNode.inputVolume = image()[0]
        self.assertTrue(all(w.enabled for w in ofImages) and not any(w.enabled for w in ofVolumes))

    def test_what_was_detected_is_outlined_one_segment_a_lesion(self):
        node = self.ready(module.Where.DETECTED)
        self.assertFalse(self.panel.ui.applyButton.enabled)
        self.assertIn("Run BreastUSAI Detect", self.panel.ui.statusLabel.text)
        table = detected(node).table
        self.panel._parameterNode.detections = table
        self.assertTrue(self.panel.ui.applyButton.enabled)
        self.apply()
        self.assertEqual((self.errors, self.found(node)), ([], {"L1": "first", "L2": "second"}))
        self.assertTrue(self.panel.ui.statusLabel.text.startswith("2 lesions found."))
        segmentation = self.panel._parameterNode.outputSegmentation
        self.assertEqual(segmentation.GetTransformNodeID(), node.GetTransformNodeID())
        self.assertTrue(segmentation.GetDisplayNode().GetVisibility3D())
        study = mrml.study_from_nodes(node, segmentation)
        self.assertEqual([(f.score, f.malignancy) for f in study.findings], [(0.9, 0.3), (0.2, 0.3)])
        expected = voxels_of("first") * np.prod(SPACING) / 1000
        self.assertAlmostEqual(study.findings[0].measurements["volume_ml"], expected)
        shown = self.panel.ui.resultsTableView.mrmlTableNode()
        self.assertIn("Volume (ml)", [shown.GetColumnTitle(shown.GetColumnName(c)) for c in range(shown.GetNumberOfColumns())])

    def test_findings_that_are_hidden_are_not_outlined(self):
        node = self.ready(module.Where.DETECTED)
        table = self.panel._parameterNode.detections = detected(node).table
        mrml.show_from_score(table, 0.5)
        self.apply()
        self.assertEqual(self.found(node), {"L1": "first"})
        mrml.show_from_score(table, 0.95)
        self.apply()
        self.assertIn("move its slider down", self.errors[0])

    def test_the_latest_findings_of_the_volume_are_proposed_and_others_refused(self):
        other = abus("other")
        othersTable = detected(other).table
        node = abus("abus 2")
        table = detected(node).table
        self.panel._parameterNode.volumeModelFolder = "/models/joint"
        self.panel._parameterNode.inputVolume = node
        self.assertIs(self.panel._parameterNode.detections, table)
        self.panel._parameterNode.detections = othersTable
        self.assertFalse(self.panel.ui.applyButton.enabled)
        self.assertIn("holds no findings of abus 2", self.panel.ui.statusLabel.text)

    def test_hot_spots_are_no_findings_of_detect(self):
        node = abus("abus 2")
        image = mrml.image_from_volume(node)
        spots = (Finding("H1", index_box(image, *next(iter(SHAPES.values()))), 0.7),)
        hot = mrml_heatmap.show_heatmap(slicer.mrmlScene, Study(ImageInfo.of(image, "abus 2"), spots), node).table
        parameters = self.panel._parameterNode
        parameters.volumeModelFolder = "/models/joint"
        parameters.inputVolume = node
        self.assertIsNone(parameters.detections)
        self.assertIn("Run BreastUSAI Detect", self.panel.ui.statusLabel.text)
        parameters.inputVolume = None
        table = detected(node).table
        later = mrml_heatmap.show_heatmap(slicer.mrmlScene, Study(ImageInfo.of(image, "abus 2"), spots), node).table
        parameters.inputVolume = node
        self.assertIs(parameters.detections, table)
        self.assertEqual([f.id for f in self.panel.logic.request(node, parameters).findings], ["L1", "L2"])
        for spotted in (hot, later):
            parameters.detections = spotted
            self.assertFalse(self.panel.ui.applyButton.enabled)
            self.assertIn("holds hot spots of BreastUSAI Heatmap; choose findings of BreastUSAI Detect", self.panel.ui.statusLabel.text)

    def test_boxes_in_the_world_mean_places_of_the_volume(self):
        node = self.ready()
        self.apply()
        self.assertIn("No box is drawn", self.errors[0])
        roi(world(node, "second"))
        roi(world(node, "first"), shown=False)
        self.apply()
        self.assertEqual((self.errors[1:], self.found(node)), ([], {"L1": "second"}))
        # The result's own boxes are not taken for drawn ones; a chosen one is used also where it is hidden.
        self.apply()
        self.assertEqual(self.found(node), {"L1": "second"})
        self.panel._parameterNode.box = roi(world(node, "first"), shown=False)
        self.apply()
        self.assertEqual((self.found(node), count("Segmentation")), ({"L1": "first"}, 1))

    def test_a_box_under_the_volumes_own_transform(self):
        node = self.ready()
        box = roi(world(node, "first"))
        local = [0.0, 0.0, 0.0]
        node.TransformPointFromWorld(world(node, "first"), local)
        box.SetAndObserveTransformNodeID(node.GetTransformNodeID())
        box.SetCenter(*local)
        self.apply()
        self.assertEqual((self.errors, self.found(node)), ([], {"L1": "first"}))

    def test_clicked_points(self):
        node = self.ready(module.Where.POINTS)
        self.assertFalse(self.panel.ui.applyButton.enabled)
        points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "P")
        self.panel._parameterNode.points = points
        self.apply()
        self.assertIn("no point", self.errors[0])
        for which in ("second", "first"):
            points.AddControlPoint(vtk.vtkVector3d(*world(node, which)))
        self.apply()
        self.assertEqual((self.errors[1:], self.found(node)), ([], {"L1": "second", "L2": "first"}))

    def test_a_new_box_or_list_is_placed_by_the_next_click(self):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "new")
        selector = self.panel.ui.boxSelector
        signal = getattr(selector, "nodeAddedByUserAction", None) or selector.nodeAddedByUser  # the latter until 5.12
        signal.emit(node)
        self.assertIsNotNone(node.GetDisplayNode())
        interaction = slicer.mrmlScene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
        if interaction is not None:
            self.assertEqual(interaction.GetCurrentInteractionMode(), interaction.Place)
            interaction.SetCurrentInteractionMode(interaction.ViewTransform)

    def test_a_lesion_without_outline_is_told(self):
        node = self.ready()
        roi(world(node, "first"))
        self.panel._parameterNode.threshold = 0.14
        self.apply()
        self.assertTrue(self.panel.ui.statusLabel.text.startswith("0 of 1 lesions outlined"))
        self.assertEqual((self.errors, self.found(node)), ([], {"L1": None}))

    def test_options_reach_the_command_line_and_crashes_are_messages(self):
        node = self.ready()
        roi(world(node, "first"))
        parameters = self.panel._parameterNode
        parameters.refineVolume, parameters.passes, parameters.mirrors = module.RefineVolume.NO, module.Passes.THREE, False
        parameters.device, parameters.threshold = module.Device.CPU, 0.45
        self.apply()
        log = self.panel.ui.logTextEdit.plainText
        for part in ("arguments: segment", "--no-refine", "--iterations 3", "--no-uncertainty", "--device cpu", "--threshold 0.45", "--model /models/joint", "--box="):
            self.assertIn(part, log)
        parameters.threshold = 0.11
        self.apply()
        self.assertIn("analysis process", self.errors[0])

    def test_a_volume_of_unknown_spacing_is_refused_with_the_cure(self):
        self.ready()
        self.panel._parameterNode.inputVolume = abus("silent", known=False)
        self.assertFalse(self.panel.ui.applyButton.enabled)
        self.assertIn("set its spacing in the module Volumes", self.panel.ui.statusLabel.text)


class Life(PanelCase):
    def test_an_analysis_that_can_neither_be_asked_nor_ended_is_given_up(self):
        self.panel._parameterNode.inputVolume = image()[0]
        self.apply(wait=False)
        job, end = self.panel._job, self.panel._job.cancel

        def fail():
            raise RuntimeError("can't start new thread")

        job.poll = job.cancel = fail
        with self.assertRaisesRegex(RuntimeError, "new thread"):
            self.panel.onPoll()  # of which Slicer prints the rest
        end()
        self.assertEqual(self.errors, ["This failed unexpectedly (RuntimeError: can't start new thread); see the log."])
        self.assertIsNone(self.panel._job)
        self.assertTrue(self.panel.ui.applyButton.enabled)

    def test_what_nobody_expected_is_one_message_wherever_it_happens(self):
        """Slicer would print it, and the panel would wait for ever."""
        self.panel._parameterNode.inputVolume = image()[0]

        def fail(*_):
            raise MemoryError("too large")

        said = "This failed unexpectedly (MemoryError: too large); see the log."
        for place in ("beginJob", "poll", "takeResult"):
            with self.subTest(place=place):
                self.errors.clear()
                if place == "poll":
                    self.apply(wait=False)
                    self.panel._job.poll = fail
                    self.until(lambda: self.errors)
                else:
                    setattr(self.panel, place, fail)
                    self.apply()
                    delattr(self.panel, place)
                self.assertEqual((self.errors, self.panel._job), ([said], None))
                self.assertFalse(self.panel.ui.cancelButton.enabled)
                self.assertFalse(self.panel._timer.active)
                self.assertTrue(self.panel.ui.applyButton.enabled)

    def test_closing_the_scene_ends_the_analysis_and_the_panel_starts_anew(self):
        parameters = self.panel._parameterNode
        parameters.inputVolume, parameters.threshold = image()[0], 0.13
        self.apply(wait=False)
        child = self.child()
        slicer.mrmlScene.Clear(False)
        self.until(child.poll, timeout=5)
        self.assertIsNone(self.panel._job)
        self.assertIsNone(self.panel.ui.inputSelector.currentNode())
        self.assertFalse(self.panel.ui.applyButton.enabled)
        self.panel._parameterNode.inputVolume = image(name="case 2")[0]
        self.assertTrue(self.panel.ui.applyButton.enabled)

    def test_parameters_survive_saving_and_opening_the_scene(self):
        parameters = self.panel._parameterNode
        parameters.inputVolume, parameters.threshold, parameters.lesions = image()[0], 0.25, module.Lesions.ALL
        def elsewhere():
            self.panel._parameterNode.threshold = 0.9

        self.saveAndOpenScene(elsewhere)
        self.assertAlmostEqual(self.panel.ui.thresholdSpinBox.value, 0.25)
        self.assertEqual(self.panel._parameterNode.lesions, module.Lesions.ALL)
        self.assertEqual(self.panel.ui.inputSelector.currentNode().GetName(), "case 1")

    def test_a_closed_panel_leaves_no_observer_and_reacts_no_more(self):
        volume, _ = image()
        other = self.openPanel()
        other._parameterNode.inputVolume = volume
        self.assertTrue(other.Observations)
        parameters, ui = other._parameterNode, other.ui
        self.closePanel(other)
        self.assertEqual(list(other.Observations), [])
        self.assertIsNone(other._timer)
        ui.thresholdSpinBox.value = 0.77  # writes no more
        self.assertNotAlmostEqual(parameters.threshold, 0.77)
        slicer.mrmlScene.Clear(False)

    def test_closing_the_panel_ends_its_child(self):
        parameters = self.panel._parameterNode
        parameters.inputVolume, parameters.threshold = image()[0], 0.13
        self.apply(wait=False)
        child = self.child()
        self.panel.cleanup()
        self.until(child.poll, timeout=5)
        self.panel.setup()  # for tearDown

    def test_unloading_the_module_closes_the_panel(self):
        other = self.openPanel()
        other._onModuleAboutToBeUnloaded("BreastUSAISegment")
        self.assertEqual(list(other.Observations), [])
        other.parent.deleteLater()


if __name__ == "__main__":
    sys.exit("run by test_segment_widget.py or run_in_slicer.py")
