"""The panel of BreastUSAI Workup: cases that run on the stand-in (test_module_workup.py) and in a real Slicer
(run_in_slicer.py). They use nothing that one of the two does not have.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import shutil
import sys
import tempfile
import threading
import time
import types
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import BreastUSAIWorkup as module
import numpy as np
import panel_cases
import qt
import SimpleITK as sitk
import slicer
import vtk
from panel_cases import STANDIN_CLI, count
from standin_findings import worked_up

from BreastUSAILib import child_queue, child_workup, mrml, mrml_other_view, mrml_overlay, mrml_workup
from BreastUSAILib.background import BackgroundTask
from BreastUSAILib.child_process import ChildError
from BreastUSAILib.child_workup import ChildWorkup, load_input
from BreastUSAILib.review import ACCEPTED, NONE, REJECTED, Review
from BreastUSAILib.run_input import mark_unfinished

SPACING = (0.8, 0.9, 1.1)


def image(name="picture", known=True, at=(30, 25)):
    """A volume node of one slice with a dark ellipse in a bright image."""
    y, x = np.mgrid[:60, :80]
    dark = ((x - at[0]) / 15.0) ** 2 + ((y - at[1]) / 8.0) ** 2 < 1
    picture = sitk.GetImageFromArray(np.where(dark, 20, 200).astype(np.uint8)[None])
    picture.SetSpacing((0.1, 0.1, 1.0) if known else (1.0, 1.0, 1.0))
    return mrml.add_volume(slicer.mrmlScene, picture, name, known)


def volume(name="case 1", size=(40, 20, 30)):
    """A volume node, bright with two dark boxes: voxels 5 to 14, 4 to 11, 6 to 17, and 25 to 29, 5 to 9, 20 to 24."""
    voxels = np.full(size[::-1], 200, np.uint8)
    voxels[6:18, 4:12, 5:15] = 20
    voxels[20:25, 5:10, 25:30] = 20
    made = sitk.GetImageFromArray(voxels)
    made.SetSpacing(SPACING)
    return mrml.add_volume(slicer.mrmlScene, made, name)


def center(first, last):
    """World RAS of the middle of some voxels of `volume`."""
    lps = [(a + b) / 2 * s for a, b, s in zip(first, last, SPACING, strict=True)]
    return [-lps[0], -lps[1], lps[2]]


FIRST, SECOND = center((5, 4, 6), (14, 11, 17)), center((25, 5, 20), (29, 9, 24))


class InlineChild:
    """Takes the place of a child process where a case is about what comes after it."""

    def __init__(self, pixels, options, on_progress=None, on_log=None):
        self._pixels, self._options, self._tell = pixels, options, on_progress
        self._behaviour = Path(options.model if min(pixels.image.GetSize()) == 1 else options.detection.model).name

    def poll(self):
        self._tell(0.5, "looking")
        return self._behaviour != "0.13"

    def cancel(self):
        pass

    def result(self):
        if self._behaviour == "0.12":
            raise ChildError("the model is broken; choose another one.")
        outlined = bool(self._options.segmentation.model)
        return worked_up(load_input(self._pixels), outlined, nothing=self._behaviour == "0.14")


class PanelCase(panel_cases.PanelCase):
    widget = module.BreastUSAIWorkupWidget

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        super().setUp()

    def tearDown(self):
        super().tearDown()
        shutil.rmtree(self.folder)

    def logic(self):
        return module.BreastUSAIWorkupLogic(childWorkup=InlineChild)

    def inProcesses(self):
        """From now on with child processes."""
        self.panel.logic = module.BreastUSAIWorkupLogic(childWorkup=functools.partial(ChildWorkup, command=STANDIN_CLI))
        self.panel.logic.ensureDependencies = lambda confirm: None

    def model(self, behaviour="mine"):
        folder = self.folder / behaviour
        folder.mkdir(exist_ok=True)
        return str(folder)

    def choose(self, node, *others, outlines=False):
        """An image, and others with it; volumes get the models that they need."""
        parameters = self.panel._parameterNode
        parameters.detectFolder = self.model()
        parameters.outlineFolder = self.model() if outlines else ""
        parameters.inputVolume = node
        for other in others:
            mrml_workup.set_further_image(parameters.parameterNode, other, True)
        self.panel.updatePanel()
        return node

    def ids(self):
        return [row.finding.id for row in self.panel.findings.rows]

    def cell(self, row, title):
        table = self.panel.ui.findingsTable
        titles = [table.horizontalHeaderItem(i).text() for i in range(table.columnCount)]
        return table.item(row, titles.index(title)).text() if title in titles else None

    def pick(self, row):
        """As a click does it."""
        self.panel.ui.findingsTable.setCurrentCell(row, 0)

    def shown(self, node):
        return mrml_workup.workup_of(node)

    def export(self):
        self.panel._parameterNode.reportFolder = str(self.folder / "reports")
        self.panel.ui.exportButton.click()
        self.until(lambda: not self.panel.export.running)

    def views(self):
        """Slice views of slicer-core, as the application has them."""
        scene = slicer.mrmlScene
        found = [scene.GetNthNodeByClass(i, "vtkMRMLSliceNode") for i in range(count("Slice"))]
        for name in ("Red", "Green", "Yellow") if not found else ():
            view = slicer.vtkMRMLSliceNode()
            view.SetSingletonTag(name)
            view.SetLayoutName(name)
            found.append(scene.AddNode(view))
            composite = slicer.vtkMRMLSliceCompositeNode()
            composite.SetSingletonTag(name)
            scene.AddNode(composite)
        return found

    def camera(self):
        found = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCameraNode")
        return found or slicer.mrmlScene.AddNewNodeByClass("vtkMRMLCameraNode", "camera")


class Binding(PanelCase):
    def test_the_panel_shows_the_parameters_and_writes_them(self):
        ui, parameters = self.panel.ui, self.panel._parameterNode
        node = image()
        parameters.inputVolume = node
        parameters.allLesions = True
        parameters.device = module.Device.CPU
        parameters.breast = module.Breast.LEFT
        for name in module.BreastUSAIWorkupWidget.folders:
            setattr(parameters, name, f"/models/{name}")
            self.assertEqual(getattr(ui, f"{name}Edit").currentPath, f"/models/{name}")
        self.assertIs(ui.inputSelector.currentNode(), node)
        self.assertTrue(ui.allLesionsCheckBox.checked)
        self.assertEqual((ui.deviceComboBox.currentText, ui.breastComboBox.currentText), ("CPU", "left"))
        options = self.panel.logic.options(parameters)
        self.assertEqual((options.model, options.device, options.lesions), ("/models/modelFolder", "cpu", "all"))
        self.assertEqual((options.detection.model, options.detection.classifier), ("/models/detectFolder", "/models/classifierFolder"))
        self.assertEqual(options.segmentation.model, "/models/outlineFolder")
        graders = (options.grading.gcnn, options.grading.mtnet, options.grading.snnet)
        self.assertEqual(graders, ("/models/gcnnFolder", "/models/mtnetFolder", "/models/snnetFolder"))
        self.assertEqual(options.heatmap.model, "/models/heatmapFolder")
        ui.mapVolumesCheckBox.checked = False
        self.assertIsNone(self.panel.logic.options(parameters).heatmap)

        ui.allLesionsCheckBox.checked = False
        ui.breastComboBox.currentIndex = 1
        ui.gcnnFolderEdit.currentPath = ""
        ui.pixelSpacingSpinBox.value = 0.07
        self.assertEqual((parameters.allLesions, parameters.breast), (False, module.Breast.RIGHT))
        self.assertAlmostEqual(parameters.pixelSpacing, 0.07)
        self.assertIsNone(self.panel.logic.options(parameters).grading.gcnn)

    def test_every_parameter_has_its_widget(self):
        bound = {w.property("SlicerParameterName") for w in vars(self.panel.ui).values()} - {None, ""}
        own = {"model", *module.BreastUSAIWorkupWidget.folders}
        hints = set(module.BreastUSAIWorkupParameterNode.__annotations__)
        self.assertEqual(bound | own, hints)
        for name in own - {"model"}:
            self.assertTrue(hasattr(self.panel.ui, f"{name}Edit"))

    def test_every_widget_that_a_person_uses_has_a_tool_tip(self):
        self.panel._parameterNode.inputVolume = image()
        for name, widget in vars(self.panel.ui).items():
            if name.endswith(("Button", "Selector", "Edit", "SpinBox", "CheckBox", "ComboBox", "List", "Table")):
                if not name.endswith(("CollapsibleButton", "logTextEdit")):
                    self.assertTrue(widget.toolTip, name)

    def test_the_keys_are_named_where_the_buttons_are(self):
        for button, key in (("nextButton", "Ctrl+Down"), ("acceptButton", "Ctrl+Shift+A")):
            self.assertIn(key, getattr(self.panel.ui, button).toolTip)


class Enabling(PanelCase):
    def test_without_an_image_it_waits(self):
        self.assertFalse(self.panel.ui.applyButton.enabled)
        self.assertIn("Choose", self.panel.ui.applyButton.toolTip)
        for name in ("exportButton", "openReportButton", "nextButton", "acceptButton", "noteEdit", "editBoxButton"):
            self.assertFalse(getattr(self.panel.ui, name).enabled, name)

    def test_an_image_is_enough_and_a_volume_needs_a_detection_model(self):
        parameters = self.panel._parameterNode
        parameters.inputVolume = image()
        self.assertTrue(self.panel.ui.applyButton.enabled)
        from BreastUSAILib.models import catalog

        parameters.inputVolume = volume()
        if not catalog.ships("detect"):
            self.assertFalse(self.panel.ui.applyButton.enabled)
            self.assertIn("detection", self.panel.ui.statusLabel.text.lower())
        self.panel.ui.detectFolderEdit.currentPath = self.model()
        self.assertTrue(self.panel.ui.applyButton.enabled)

    def test_a_map_is_no_image(self):
        self.refusesMapsOver(volume())

    def test_a_further_view_that_cannot_be_worked_up_is_named(self):
        self.choose(image())
        self.assertTrue(self.panel.ui.applyButton.enabled)
        void = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "void")
        mrml_workup.set_further_image(self.panel._parameterNode.parameterNode, void, True)
        self.panel.updatePanel()
        self.assertFalse(self.panel.ui.applyButton.enabled)
        self.assertIn("void holds no", self.panel.ui.statusLabel.text)

    def test_other_images_of_the_scene_are_offered_and_follow_it(self):
        views = self.panel.ui.viewsList
        main = self.choose(image("main"))
        self.assertTrue(views.isHidden())
        other = image("other")
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
        self.assertEqual([views.item(i).text() for i in range(views.count)], ["other"])
        self.assertFalse(views.isHidden())
        views.item(0).setCheckState(qt.Qt.Checked)
        self.assertEqual(self.panel.logic.images(self.panel._parameterNode), [main, other])
        views.item(0).setCheckState(qt.Qt.Unchecked)
        self.assertEqual(self.panel.logic.images(self.panel._parameterNode), [main])
        slicer.mrmlScene.RemoveNode(other)
        self.assertTrue(views.isHidden())

    def test_what_was_chosen_and_typed_stays_when_a_further_view_is_checked_or_not(self):
        ui, views = self.panel.ui, self.panel.ui.viewsList
        first, second = image("first", known=False), image("second", known=False)
        self.choose(first, second)
        self.apply()
        image("third")
        rows = [row.image for row in self.panel.findings.rows]
        self.pick(rows.index("second"))
        ui.pixelSpacingSpinBox.value = 0.3
        views.currentRow = 1
        for state in (qt.Qt.Checked, qt.Qt.Unchecked):
            with self.subTest(state=state):
                item = views.item(1)
                item.setCheckState(state)
                self.assertEqual(self.panel.findings.current().image, "second")
                self.assertEqual(ui.pixelSpacingSpinBox.value, 0.3)
                self.assertEqual((views.currentRow, views.item(1).text(), views.item(1).checkState()), (1, "third", state))
                self.assertEqual(views.item(0).checkState(), qt.Qt.Checked)
        slicer.mrmlScene.RemoveNode(second)  # the row stays with its image
        self.assertEqual((views.count, views.currentItem().text()), (1, "third"))
        self.panel._parameterNode.inputVolume = slicer.mrmlScene.GetFirstNodeByName("third")
        self.assertEqual((views.item(0).text(), views.currentItem()), ("first", None))


class Running(PanelCase):
    def test_an_image_is_worked_up_and_shown(self):
        node = self.choose(image())
        self.apply(wait=False)
        self.assertFalse(self.panel.ui.applyButton.enabled)
        self.assertTrue(self.panel.ui.cancelButton.enabled)
        self.until(lambda: self.panel._job is None)
        self.assertEqual(self.errors, [])
        self.assertTrue(self.panel.ui.statusLabel.text.startswith("1 lesion found."))
        self.assertEqual((self.panel.ui.progressBar.value, self.ids()), (100, ["L1"]))
        self.assertEqual((self.cell(0, "Score"), self.cell(0, "Image"), self.cell(0, "Malignant")), ("90%", None, None))
        self.assertIs(mrml_workup.image_of(self.shown(node)), node)
        self.assertEqual(self.panel.findings.current().finding.id, "L1")  # the first is gone to at once
        self.assertTrue(self.panel.ui.exportButton.enabled)

    def test_findings_of_a_volume_are_sorted_by_suspicion(self):
        self.choose(volume())
        self.apply()
        self.assertEqual((self.errors, self.ids()), ([], ["L2", "L1"]))  # 0.6 x 0.8 before 0.9 x 0.2
        self.assertEqual((self.cell(0, "Malignant"), self.cell(0, "BI-RADS")), ("80%", "4B (40%)"))
        self.assertEqual((self.cell(0, "Diameters"), self.cell(0, "Volume")), ("4.0 × 4.5 × 5.5 mm", None))
        self.assertFalse(self.panel.ui.editOutlineButton.enabled)
        self.assertEqual((count("Segmentation"), count("MarkupsROI")), (0, 2))

    def test_outlines_of_a_volume_come_as_segments(self):
        node = self.choose(volume(), outlines=True)
        self.apply()
        self.assertEqual((self.errors, count("Segmentation"), self.ids()), ([], 1, ["L2", "L1"]))
        self.assertEqual(self.cell(1, "Volume"), "0.76 ml")
        self.assertTrue(self.panel.ui.editOutlineButton.enabled)
        self.assertTrue(self.shown(node).IsA("vtkMRMLSegmentationNode"))

    def test_several_views_stand_in_one_list_and_one_failure_leaves_the_others(self):
        first = self.choose(image("left"), image("right", at=(45, 30)), volume("sweep"))
        self.apply()
        self.assertEqual(self.errors, [])
        rows = self.panel.findings.rows
        self.assertEqual({(r.image, r.finding.id) for r in rows}, {("left", "L1"), ("right", "L1"), ("sweep", "L1"), ("sweep", "L2")})
        self.assertIn("left: 1 lesion found.", self.panel.ui.statusLabel.text)
        self.assertEqual(self.cell(0, "Image"), rows[0].image)
        # Now the volume's model is broken: it keeps what it had, the images are done again.
        before = mrml.parts_of(self.shown(first)).boxes["L1"]
        self.panel._parameterNode.detectFolder = self.model("0.12")
        self.apply()
        self.assertEqual(len(self.errors), 1)
        self.assertIn("the model is broken", self.errors[0])
        self.assertIsNot(mrml.parts_of(self.shown(first)).boxes["L1"], before)
        self.assertEqual(len(self.panel.findings.rows), 4)

    def test_options_reach_the_command_line(self):
        self.inProcesses()
        self.choose(volume(), outlines=True)
        self.panel._parameterNode.device = module.Device.CPU
        self.panel._parameterNode.gcnnFolder = "/models/grades"
        self.apply()
        log = self.panel.ui.logTextEdit.plainText
        for part in ("arguments: run", "--device cpu", f"--detect-model {self.model()}", f"--segment-3d-model {self.model()}"):
            self.assertIn(part, log)
        self.assertIn("/models/grades", log)

    def test_nothing_found_is_an_ordinary_result(self):
        node = self.choose(image())
        self.panel._parameterNode.modelFolder = self.model("0.14")
        self.apply()
        self.assertEqual((self.errors, self.ids()), ([], []))
        self.assertTrue(self.panel.ui.statusLabel.text.startswith("No lesion found."))
        self.assertIsNotNone(self.shown(node))
        self.assertTrue(self.panel.ui.exportButton.enabled)

    def test_cancel_ends_it_within_a_second_and_changes_nothing(self):
        self.inProcesses()
        self.choose(image())
        self.panel._parameterNode.modelFolder = self.model("0.13")
        self.apply(wait=False)
        self.until(lambda: "arguments" in self.panel.ui.logTextEdit.plainText)
        process = self.panel._job._child._child._process
        self.panel.ui.cancelButton.click()
        self.assertEqual(self.panel.ui.statusLabel.text, "Cancelled.")
        self.assertTrue(self.panel.ui.applyButton.enabled)
        self.until(lambda: process.poll() is not None, timeout=5)
        self.assertEqual((count("Segmentation"), self.errors), (0, []))

    def test_cancel_between_two_images_keeps_the_finished_one(self):
        self.choose(image("first"), volume("second"))
        self.panel._parameterNode.detectFolder = self.model("0.13")
        self.apply(wait=False)
        self.until(self.ids)
        self.until(lambda: "second (2 of 2)" in self.panel.ui.statusLabel.text)
        self.panel.ui.cancelButton.click()
        self.assertEqual((self.ids(), self.errors, self.panel._job), (["L1"], [], None))

    def test_cancel_while_the_pixels_are_written_starts_no_child(self):
        self.inProcesses()
        self.choose(image())
        self.apply(wait=False)
        job = self.panel._job
        self.panel.ui.cancelButton.click()
        preparing = job._preparing
        if preparing is not None:
            self.until(preparing.poll)
            child = preparing.result()
            self.until(lambda: child._child._process.poll() is not None, timeout=10)
        self.assertEqual((count("Segmentation"), self.panel._job), (0, None))

    def test_a_crash_and_a_failure_are_one_message_each(self):
        self.inProcesses()
        for behaviour, words in (("0.11", "analysis process"), ("0.12", "the model is broken; choose another one.")):
            self.errors.clear()
            self.choose(image())
            self.panel._parameterNode.modelFolder = self.model(behaviour)
            self.apply()
            self.assertEqual(len(self.errors), 1)
            self.assertIn(words, self.errors[0])
            self.assertEqual(count("Segmentation"), 0)

    def test_the_image_may_be_removed_meanwhile(self):
        node = self.choose(image())
        self.apply(wait=False)
        slicer.mrmlScene.RemoveNode(node)
        self.until(lambda: self.panel._job is None)
        self.assertEqual(len(self.errors), 1)
        self.assertIn("removed from the scene", self.errors[0])

    def test_a_view_that_cannot_be_shown_is_told_when_all_are_done(self):
        first = self.choose(volume("AP"), volume("LAT"))
        self.apply(wait=False)
        slicer.mrmlScene.RemoveNode(first)
        self.until(lambda: self.panel._job is None)
        self.assertEqual(self.errors, ["AP was removed from the scene while it was analysed; load it again."])
        self.assertEqual({r.image for r in self.panel.findings.rows}, {"LAT"})

    def test_a_view_that_cannot_be_shown_is_told_when_the_rest_is_cancelled(self):
        first = self.choose(image("first"), volume("second"))
        self.panel._parameterNode.detectFolder = self.model("0.13")
        self.apply(wait=False)
        slicer.mrmlScene.RemoveNode(first)
        self.until(lambda: "second (2 of 2)" in self.panel.ui.statusLabel.text)
        self.panel.ui.cancelButton.click()
        self.assertEqual(self.errors, ["first was removed from the scene while it was analysed; load it again."])

    def test_a_volume_that_is_moved_meanwhile_takes_its_findings_along(self):
        import vtk

        node = self.choose(volume(), outlines=True)
        self.apply()
        self.pick(1)
        self.panel.review.accept()
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "turned")
        turn = vtk.vtkTransform()
        turn.Translate(30, -10, 5)
        turn.RotateZ(90)
        transform.SetMatrixTransformToParent(turn.GetMatrix())
        self.apply(wait=False)
        node.SetAndObserveTransformNodeID(transform.GetID())
        node.HardenTransform()
        self.until(lambda: self.panel._job is None)
        self.assertEqual(self.errors, [])
        shown = self.shown(node)
        for finding, before in (("L1", FIRST), ("L2", SECOND)):
            expected = turn.TransformPoint(*before)
            np.testing.assert_allclose(mrml_workup.position_of(shown, finding), expected, atol=1e-4)
            segment = mrml.parts_of(shown).segments[finding]
            np.testing.assert_allclose(shown.GetSegmentCenterRAS(segment), expected, atol=1.2)  # to a voxel
        self.assertEqual(mrml_workup.reviews_of(shown), {"L1": Review(ACCEPTED)})  # and keeps what was said
        self.export()
        study = json.loads((self.folder / "reports" / "case_1" / "study.json").read_text())
        np.testing.assert_allclose(study["image"]["origin"], mrml.info_of(node).origin, atol=1e-9)
        np.testing.assert_allclose(study["findings"][1]["box"]["center"], np.multiply(turn.TransformPoint(*FIRST), (-1, -1, 1)), atol=1e-4)
        self.assertFalse(any("by a person" in note for f in study["findings"] for note in f["notes"]))

    def test_a_volume_that_gets_another_spacing_meanwhile_is_told(self):
        node = self.choose(volume(), outlines=True)
        self.apply()
        self.pick(1)
        self.panel.review.accept()
        before = mrml.parts_of(self.shown(node))
        self.apply(wait=False)
        node.SetSpacing(0.4, 0.9, 1.1)
        self.until(lambda: self.panel._job is None)
        said = "case 1 had voxels of 0.8 x 0.9 x 1.1 mm when it was analysed and has voxels of 0.4 x 0.9 x 1.1 mm now; repeat the analysis."
        self.assertEqual((self.errors, mrml.parts_of(self.shown(node))), ([said], before))
        self.errors.clear()
        self.apply()  # what was said is still about the same lesions
        self.assertEqual((self.errors, mrml_workup.reviews_of(self.shown(node))), ([], {"L1": Review(ACCEPTED)}))

    def test_an_unknown_spacing_gives_pixels_and_a_given_one_millimetres(self):
        node = self.choose(image(known=False))
        self.apply()
        self.assertFalse(mrml.spacing_known(node))
        mrml_workup.set_review(self.shown(node), "L1", Review(ACCEPTED, "seen"))
        self.panel.ui.pixelSpacingSpinBox.value = 0.2
        self.apply()
        self.assertEqual((mrml.spacing_by_user(node), self.errors), (0.2, []))
        self.assertEqual(mrml_workup.reviews_of(self.shown(node)), {"L1": Review(ACCEPTED, "seen")})
        self.panel.ui.pixelSpacingSpinBox.value = 0.0  # nothing is said here any more; what was said stays
        self.apply()
        self.assertEqual((mrml.spacing_by_user(node), self.errors), (0.2, []))

    def test_a_typed_spacing_is_of_the_images_that_were_chosen_then(self):
        first, second, third = (image(name, known=False) for name in ("first", "second", "third"))
        parameters, box = self.panel._parameterNode, self.panel.ui.pixelSpacingSpinBox
        self.choose(first)
        box.value = 0.2
        self.apply()
        parameters.inputVolume = second  # the next patient's, say
        self.assertEqual((parameters.pixelSpacing, box.value, box.enabled), (0.0, 0.0, True))
        self.apply()
        (finding,) = mrml_workup.made(self.shown(second)).findings
        self.assertEqual((list(finding.measurements), mrml.spacing_known(second)), (["area_px2"], False))
        box.value = 0.3  # never applied
        parameters.inputVolume = volume()
        self.assertEqual(parameters.pixelSpacing, 0.0)
        parameters.inputVolume = first
        self.assertEqual((parameters.pixelSpacing, box.value), (0.2, 0.2))
        parameters.inputVolume = third
        box.value = 0.3
        mrml_workup.set_further_image(parameters.parameterNode, second, True)  # of which nothing was said
        self.panel.updatePanel()
        self.assertEqual(box.value, 0.0)
        box.value = 0.4  # now of both
        self.panel.updatePanel()
        self.assertEqual(box.value, 0.4)
        mrml_workup.set_further_image(parameters.parameterNode, first, True)  # of which something else was said
        self.panel.updatePanel()
        self.assertEqual(box.value, 0.0)
        self.apply()
        self.assertEqual([mrml.spacing_by_user(v) for v in (first, second, third)], [0.2, 0.0, 0.0])
        self.assertEqual(self.errors, [])

    def test_a_typed_spacing_stays_with_its_image_when_the_module_is_left_or_the_scene_is_opened_again(self):
        self.choose(image(known=False))
        self.panel.ui.pixelSpacingSpinBox.value = 0.2
        self.panel.exit()
        self.panel.enter()
        self.assertEqual(self.panel._parameterNode.pixelSpacing, 0.2)
        self.saveAndOpenScene()
        self.assertEqual(self.panel._parameterNode.pixelSpacing, 0.2)

    def test_a_result_in_pixels_is_reported_in_pixels_when_these_get_a_size_elsewhere(self):
        node = self.choose(image(known=False))
        self.apply()
        shown = self.shown(node)
        made, before = mrml_workup.made(shown), mrml_workup.position_of(shown, "L1")
        mrml.set_pixel_spacing(node, 0.2)  # as BreastUSAI Segment does
        np.testing.assert_allclose(mrml_workup.position_of(shown, "L1")[:2], np.multiply(before[:2], 0.2), atol=1e-4)
        study, pixels = mrml_workup.current(shown)()
        self.assertEqual((pixels.GetSize(), pixels.GetSpacing(), study.image), ((80, 60), (1.0, 1.0), made.image))
        self.assertEqual([f.measurements for f in study.findings], [f.measurements for f in made.findings])
        self.assertFalse(any("by a person" in note for f in study.findings for note in f.notes))
        self.export()
        written = json.loads((self.folder / "reports" / "picture" / "study.json").read_text())
        self.assertEqual((self.errors, written["image"]["spacing_known"]), ([], False))
        np.testing.assert_allclose(written["findings"][0]["box"]["center"], made.findings[0].box.center, atol=1e-4)

    def test_a_drag_is_not_taken_back_to_pixels_of_another_size(self):
        node = self.choose(image(known=False))
        self.apply()
        self.pick(0)
        box = mrml.parts_of(self.shown(node)).boxes["L1"]
        self.panel.ui.editBoxButton.click()
        box.SetSize(30, 20, 1)
        mrml.set_pixel_spacing(node, 0.2)
        np.testing.assert_allclose(box.GetSize(), (6, 4, 1), atol=1e-5)
        center = box.GetCenter()
        self.panel.review.undo()
        np.testing.assert_allclose((*box.GetCenter(), *box.GetSize()), (*center, 6, 4, 1), atol=1e-5)
        self.assertEqual(self.errors, [])

    def test_the_window_stays_live(self):
        """What takes seconds for a volume is done beside the main thread, whatever the clock says on the machine that tests."""
        done_in = {}

        def told(name, work):
            def recorded(*arguments):
                done_in.setdefault(name, set()).add(threading.get_ident())
                return work(*arguments)

            return recorded

        slow = {child_workup: ("write_input", "read_result"), child_queue: ("outline_keys", "mask_crops")}
        with ExitStack() as patched:
            for where, names in slow.items():
                for name in names:
                    patched.enter_context(mock.patch.object(where, name, told(name, getattr(where, name))))
            self.inProcesses()
            self.choose(image(), volume("sweep"), outlines=True)
            self.apply()
        self.assertEqual((self.errors, len(self.ids())), ([], 3))
        self.assertEqual(sorted(done_in), sorted(name for names in slow.values() for name in names))
        self.assertNotIn(threading.get_ident(), set().union(*done_in.values()))


class Going(PanelCase):
    def setUp(self):
        super().setUp()
        self.sliceViews = self.views()
        self.camera()

    def test_a_click_takes_all_views_to_the_finding(self):
        node = self.choose(volume())
        self.apply()
        for row, expected in ((1, FIRST), (0, SECOND), (1, FIRST)):
            self.pick(row)
            for view in self.sliceViews:
                matrix = view.GetSliceToRAS()
                np.testing.assert_allclose([matrix.GetElement(i, 3) for i in range(3)], expected, atol=1e-4)
            np.testing.assert_allclose(self.camera().GetFocalPoint(), expected, atol=1e-4)
        composites = [slicer.mrmlScene.GetNthNodeByClass(i, "vtkMRMLSliceCompositeNode") for i in range(count("SliceComposite"))]
        self.assertEqual({c.GetBackgroundVolumeID() for c in composites}, {node.GetID()})

    def test_parent_transforms_count(self):
        import vtk

        node = self.choose(volume())
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
        matrix = vtk.vtkMatrix4x4()
        for row, value in enumerate((10.0, -20.0, 30.0)):
            matrix.SetElement(row, 3, value)
        transform.SetMatrixTransformToParent(matrix)
        node.SetAndObserveTransformNodeID(transform.GetID())
        self.apply()
        self.pick(1)
        expected = np.add(FIRST, (10.0, -20.0, 30.0))
        np.testing.assert_allclose(self.camera().GetFocalPoint(), expected, atol=1e-4)

    def test_the_chosen_finding_stands_out(self):
        node = self.choose(volume(), outlines=True)
        self.apply()
        parts = mrml.parts_of(self.shown(node))
        display = self.shown(node).GetDisplayNode()
        for row, (chosen, other) in ((0, ("L2", "L1")), (1, ("L1", "L2"))):
            self.pick(row)
            fill = {f: display.GetSegmentOpacity2DFill(s) for f, s in parts.segments.items()}
            self.assertGreater(fill[chosen], fill[other])
            self.assertGreater(parts.boxes[chosen].GetDisplayNode().GetOpacity(), parts.boxes[other].GetDisplayNode().GetOpacity())

    def test_keys_go_through_the_list_and_round(self):
        self.choose(volume())
        self.apply()
        seen = []
        for slot in (self.panel.onNext, self.panel.onNext, self.panel.onPrevious):
            slot()
            seen.append(self.panel.findings.current().finding.id)
        self.assertEqual(seen, ["L1", "L2", "L1"])
        self.panel.exit()
        self.assertEqual([s.enabled for s in self.panel.shortcuts.all], [False] * 5)
        self.panel.enter()
        self.assertEqual([s.enabled for s in self.panel.shortcuts.all], [True] * 5)

    def test_a_finding_of_another_view_brings_its_image(self):
        self.choose(image("picture"), volume("sweep"))
        self.apply()
        for row, found in enumerate(self.panel.findings.rows):
            self.pick(row)
            composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
            shown = slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID())
            self.assertEqual(shown.GetName(), found.image)

    def test_findings_are_followed_from_an_earlier_examination(self):
        before, now = volume("before"), volume("now")
        self.choose(now)
        self.apply()
        self.assertIsNone(self.cell(0, "Change"))
        self.panel._parameterNode.earlier = before
        self.assertIn("Run the workup on before", self.panel.ui.clockLabel.text)
        mrml_workup.set_further_image(self.panel._parameterNode.parameterNode, before, True)
        self.apply()
        changes = {(r.image, r.finding.id): r.change for r in self.panel.findings.rows}
        self.assertEqual(changes[("now", "L1")], "+0 % volume, +0.0 mm")
        self.assertEqual(changes[("before", "L1")], "")
        # What a person rejected then is new now.
        mrml_workup.set_review(self.shown(before), "L2", Review(REJECTED))
        changes = {(r.image, r.finding.id): r.change for r in self.panel.findings.rows}
        self.assertEqual((changes[("now", "L2")], changes[("now", "L1")]), ("new", "+0 % volume, +0.0 mm"))
        mrml_workup.set_review(self.shown(before), "L2", Review())
        slicer.mrmlScene.RemoveNode(mrml.parts_of(self.shown(now)).boxes["L1"])
        self.panel.showFindings()
        changes = {(r.image, r.finding.id): r.change for r in self.panel.findings.rows}
        self.assertEqual((changes[("now", "L2")], ("now", "L1") in changes), ("+0 % volume, +0.0 mm", False))
        self.assertIn("No longer there since the earlier examination: L1.", self.panel.ui.clockLabel.text)
        self.assertEqual(self.errors, [])

    def test_a_finding_whose_nodes_were_deleted_leaves_the_list(self):
        node = self.choose(volume())
        self.apply()
        slicer.mrmlScene.RemoveNode(mrml.parts_of(self.shown(node)).boxes["L1"])
        self.panel.showFindings()
        self.assertEqual(self.ids(), ["L2"])

    def test_the_overview_leads_to_findings_and_places(self):
        self.choose(volume())
        self.apply()
        overview = self.panel.overview
        self.until(lambda: overview.ready)
        self.assertFalse(self.panel.ui.overviewButton.isHidden())
        for mark in overview._navigator.marks:
            left, top, right, bottom = mark.box
            overview.click((left + right) / 2, (top + bottom) / 2)
            self.assertEqual(self.panel.findings.current().finding.id, mark.id)
            expected = FIRST if mark.id == "L1" else SECOND
            np.testing.assert_allclose(self.camera().GetFocalPoint(), expected, atol=1e-4)
        # A place outside all boxes: there the views look, and the finding stays chosen.
        chosen = self.panel.findings.current().key
        x, y = overview._navigator.pixel((20.0, 9.0, 3.0))  # LPS, mm
        self.assertIsNone(overview._navigator.finding_at(x, y))
        overview.click(x, y)
        at = self.camera().GetFocalPoint()
        np.testing.assert_allclose((at[0], at[2]), (-20.0, 3.0), atol=0.5)
        self.assertEqual(self.panel.findings.current().key, chosen)

    def test_the_overview_is_of_the_finding_that_was_chosen_last(self):
        first, second = volume("AP"), volume("LAT")
        self.choose(first, second)
        self.apply()
        overview = self.panel.overview
        rows = [(r.image, r.finding.id) for r in self.panel.findings.rows]
        self.pick(rows.index(("AP", "L2")))
        self.until(lambda: overview.ready)
        self.pick(rows.index(("LAT", "L1")))
        self.assertFalse(overview.ready)
        left, top, right, bottom = next(m.box for m in overview._navigator.marks if m.id == "L2")
        overview.click((left + right) / 2, (top + bottom) / 2)  # in the picture of the other volume, which is still there
        self.assertEqual(self.panel.findings.current().finding.id, "L1")
        self.pick(rows.index(("AP", "L1")))  # back before the other picture is made
        self.assertTrue(overview.ready)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            slicer.app.processEvents()
        self.assertEqual((overview._key[0], overview._task), (first.GetID(), None))
        for finding in ("LAT", "L2"), ("AP", "L2"):
            self.pick(rows.index(finding))
        self.assertEqual((overview.ready, overview._selected), (True, "L2"))

    def test_the_overview_follows_a_volume_that_is_moved(self):
        node = self.choose(volume())
        self.apply()
        overview = self.panel.overview
        self.until(lambda: overview.ready)
        at = overview._navigator.position(20, 20)
        node.SetOrigin(50.0, 0.0, 0.0)  # in the module Volumes
        self.panel.enter()
        self.until(lambda: overview.ready)
        np.testing.assert_allclose(np.subtract(overview._navigator.position(20, 20), at), (-50, 0, 0), atol=1e-6)

    def test_views_of_one_name_are_told_apart(self):
        first, second = volume("case 1"), volume("other")
        second.SetName("case 1")
        self.choose(first, second)
        self.apply()
        self.assertEqual(self.errors, [])
        names = {self.shown(first).GetID(): "case 1 (1)", self.shown(second).GetID(): "case 1 (2)"}
        for line, row in enumerate(self.panel.findings.rows):
            self.assertEqual(self.cell(line, "Image"), names[row.shown])

    def test_where_networks_looked_is_shown_when_asked_for(self):
        node = self.choose(image())
        logic = self.panel.logic
        shown = self.panel.ui.mapCheckBox

        def with_map(loaded, options, progress):
            study = worked_up(loaded)
            return dataclasses.replace(study, activation=sitk.Cast(study.findings[0].mask * 90, sitk.sitkUInt8))

        self.apply()
        self.assertTrue(shown.isHidden())
        for _ in range(2):  # a second run leaves no map of the first
            logic._runner = with_map
            logic.process(node)
            self.panel.updatePanel()
            self.assertEqual(len(mrml_workup.maps_of(node)), 1)
        self.assertFalse(shown.isHidden())
        self.assertEqual(mrml_workup.images(slicer.mrmlScene), (node,))
        self.pick(0)
        composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
        self.panel.onRow()
        self.assertIsNone(composite.GetForegroundVolumeID())
        shown.checked = True
        self.assertEqual(composite.GetForegroundVolumeID(), mrml_workup.maps_of(node)[0].GetID())
        shown.checked = False
        self.assertIsNone(composite.GetForegroundVolumeID())

    def map_of(self, node):
        """As a workup with a heatmap leaves it."""
        heat = sitk.Cast(mrml.image_from_volume(node), sitk.sitkFloat32) / 255
        made = mrml_overlay.add_map(slicer.mrmlScene, heat, node, "heatmap", 1.0)
        made.SetAttribute(mrml_workup.WORKUP, "1")
        return made

    def test_of_two_maps_of_a_volume_the_one_that_is_chosen_lies_over_it(self):
        """And both, and the heat in the overview, go into the report."""
        node = self.choose(volume("A"))
        made = {}

        def with_maps(loaded, options, progress):
            study = worked_up(loaded)
            made["heat"] = sitk.Cast(loaded.image, sitk.sitkFloat32) / 100
            made["looked"] = sitk.Cast(loaded.image > 100, sitk.sitkUInt8) * 80
            return dataclasses.replace(study, heatmap=made["heat"], activation=made["looked"])

        self.panel.logic._runner = with_maps
        self.panel.logic.process(node)
        self.panel.updatePanel()
        self.pick(0)
        heat, looked = (mrml_workup.map_of(node, kind) for kind in (mrml_workup.HEAT, mrml_workup.LOOKED))
        composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
        ui = self.panel.ui
        self.assertTrue(ui.shownMapComboBox.isHidden())
        ui.mapCheckBox.checked = True
        self.assertFalse(ui.shownMapComboBox.isHidden())
        self.assertEqual(composite.GetForegroundVolumeID(), heat.GetID())
        ui.shownMapComboBox.currentIndex = 1
        self.assertEqual(composite.GetForegroundVolumeID(), looked.GetID())
        self.assertGreater(heat.GetDisplayNode().GetUpperThreshold(), 2.5)  # the hottest are no holes
        self.assertGreaterEqual(looked.GetDisplayNode().GetLowerThreshold(), 1.0)  # of whole numbers, or 0 would be shown
        self.until(lambda: self.panel.overview.ready)
        self.assertGreater(self.panel.overview._navigator.heat.max(), 0.5)
        study, _ = mrml_workup.current(mrml_workup.workup_of(node))()
        for kept, was in ((study.heatmap, made["heat"]), (study.activation, made["looked"])):
            np.testing.assert_array_equal(sitk.GetArrayViewFromImage(kept), sitk.GetArrayViewFromImage(was))
            self.assertEqual(kept.GetSpacing(), was.GetSpacing())

    def test_a_map_stays_over_its_own_image(self):
        first, second = volume("A"), volume("B")
        self.choose(first, second)
        self.apply()
        self.views()
        over = self.map_of(first)
        self.panel._parameterNode.showMap = True
        rows, seen = [row.image for row in self.panel.findings.rows], {}
        for name in ("A", "B", "A", "B"):
            self.pick(rows.index(name))
            for i in range(count("SliceComposite")):
                view = slicer.mrmlScene.GetNthNodeByClass(i, "vtkMRMLSliceCompositeNode")
                seen.setdefault(view.GetBackgroundVolumeID(), set()).add(view.GetForegroundVolumeID())
        self.assertEqual(seen, {first.GetID(): {over.GetID()}, second.GetID(): {None}})
        # Over another image all the same, as by a script: gone with the map of its own.
        view.SetForegroundVolumeID(over.GetID())
        mrml_overlay.show_over(first, None)
        self.assertIsNone(view.GetForegroundVolumeID())
        self.assertEqual(view.GetForegroundOpacity(), 0.0)  # as at Slicer's start
        # What a person laid over an image is none of ours.
        view.SetForegroundVolumeID(first.GetID())
        mrml_workup.show_image(second)
        mrml_workup.show_map(first, False)
        self.assertEqual(view.GetForegroundVolumeID(), first.GetID())
        # A map that goes with its result leaves the view as it was.
        view.SetForegroundVolumeID(over.GetID())
        view.SetForegroundOpacity(mrml_overlay.OPACITY)
        mrml_workup.remove(self.shown(first))
        self.assertEqual((view.GetForegroundVolumeID(), view.GetForegroundOpacity()), (None, 0.0))

    def test_images_have_no_overview(self):
        self.choose(image())
        self.apply()
        self.assertTrue(self.panel.ui.overviewButton.isHidden())

    def test_clock_positions_where_the_nipple_was_placed(self):
        self.choose(volume())
        self.apply()
        self.assertIsNone(self.cell(0, "Clock"))
        nipple = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "nipple")
        nipple.AddControlPoint(SECOND[0] + 30, 0.0, SECOND[2])  # the finding lies 30 mm to the patient's left
        self.panel._parameterNode.nipple = nipple
        self.assertIn("laterality", self.panel.ui.clockLabel.text)
        self.panel._parameterNode.breast = module.Breast.LEFT
        self.assertEqual((self.cell(0, "Clock"), self.panel.ui.clockLabel.text), ("3 h, 30 mm", ""))


class InAnotherView(PanelCase):
    """The same place in another volume of the breast, and both side by side."""

    def setUp(self):
        super().setUp()
        self.sliceViews = self.views()
        self.camera()
        layout = slicer.vtkMRMLLayoutNode()
        layout.SetSingletonTag("vtkMRMLLayoutNode")
        self.layout = slicer.mrmlScene.AddNode(layout)
        self.layout.SetViewArrangement(layout.SlicerLayoutFourUpView)

    def beside(self, origin=(0.0, 0.0, 0.0), size=(40, 20, 30)):
        """Two volumes, the first of which was worked up; the second begins elsewhere (RAS mm)."""
        first, second = volume("AP"), volume("LAT", size)
        second.SetOrigin(*origin)
        self.choose(first)
        self.apply()
        self.panel._parameterNode.otherView = second
        return first, second

    def look(self, row):
        """A click, on a row that may be chosen already."""
        self.pick(row)
        self.panel.onRow()

    def view(self, name):
        """The volume of a slice view, and where its middle is."""
        composite = slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLSliceCompositeNode")
        matrix = slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLSliceNode").GetSliceToRAS()
        return composite.GetBackgroundVolumeID(), [matrix.GetElement(i, 3) for i in range(3)]

    def mark(self):
        """Volume's transform, label and world position of the mark; None where there is none."""
        node = mrml_other_view.marked(slicer.mrmlScene)
        if node is None:
            return None
        return node.GetNthControlPointLabel(0), list(node.GetNthControlPointPositionWorld(0))

    def words(self):
        label = self.panel.ui.placeLabel
        self.assertEqual(label.isHidden(), not label.text)
        return label.text

    def test_a_finding_is_marked_there_and_both_stand_side_by_side(self):
        first, second = self.beside(origin=(3.0, 0.0, -4.0))
        self.assertEqual(self.layout.GetViewArrangement(), self.layout.SlicerLayoutSideBySideView)
        for row, (name, at) in enumerate((("L2", SECOND), ("L1", FIRST))):
            self.look(row)
            label, where = self.mark()
            self.assertEqual(label, f"{name} (AP)")
            np.testing.assert_allclose(where, at, atol=1e-4)
            for view, node in (("Red", first), ("Yellow", second)):
                shown, middle = self.view(view)
                self.assertEqual(shown, node.GetID())
                np.testing.assert_allclose(middle, at, atol=1e-4)
            self.assertEqual(self.words(), f"The place of {name} is marked in LAT.")
        self.assertEqual(self.errors, [])

    def test_its_findings_near_the_place_are_named_and_the_way_leads_back(self):
        first, second = self.beside(origin=(0.0, 0.0, 2.0))
        mrml_workup.set_further_image(self.panel._parameterNode.parameterNode, second, True)
        self.apply()
        rows = [(r.image, r.finding.id) for r in self.panel.findings.rows]
        self.look(rows.index(("AP", "L2")))
        self.assertEqual(self.words(), "The place of L2 is marked in LAT. Its finding L2 lies 2 mm from there.")
        self.look(rows.index(("LAT", "L2")))
        self.assertEqual(self.words(), "The place of L2 is marked in AP. Its finding L2 lies 2 mm from there.")
        # The views do not change their sides; the mark is in the other one now.
        expected = np.add(SECOND, (0.0, 0.0, 2.0))
        for view, node in (("Red", first), ("Yellow", second)):
            shown, middle = self.view(view)
            self.assertEqual(shown, node.GetID())
            np.testing.assert_allclose(middle, expected, atol=1e-4)
        for finding in ("L1", "L2"):
            slicer.mrmlScene.RemoveNode(mrml.parts_of(self.shown(first)).boxes[finding])
        self.panel.onRow()
        self.assertIn("None of its findings lies within 20 mm.", self.words())

    def test_a_map_stays_over_its_own_image_and_goes_when_it_is_switched_off(self):
        first = volume("AP")
        self.choose(first)
        self.apply()
        heat = sitk.Cast(mrml.image_from_volume(first), sitk.sitkFloat32) / 255
        second = volume("LAT")
        maps = [mrml_overlay.add_map(slicer.mrmlScene, heat, node, "heatmap", 1.0) for node in (first, second)]
        for node in maps:
            node.SetAttribute(mrml_workup.WORKUP, "1")
        left, _green, right = (
            slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLSliceCompositeNode") for name in ("Red", "Green", "Yellow")
        )
        self.panel._parameterNode.showMap = True
        self.pick(0)
        self.assertEqual({view.GetForegroundVolumeID() for view in (left, right)}, {maps[0].GetID()})
        self.panel._parameterNode.otherView = second
        self.assertEqual([v.GetBackgroundVolumeID() for v in (left, right)], [first.GetID(), second.GetID()])
        self.assertEqual([v.GetForegroundVolumeID() for v in (left, right)], [maps[0].GetID(), None])
        right.SetForegroundVolumeID(maps[1].GetID())
        self.panel._parameterNode.showMap = False
        self.assertEqual([v.GetForegroundVolumeID() for v in (left, right)], [None, None])

    def test_a_place_outside_is_said_and_not_marked(self):
        _first, second = self.beside(origin=(-26.0 * SPACING[0], 0.0, 0.0))
        self.look(1)  # L1: its middle is 16.5 voxels beside the other volume's first one, 16 beside its edge
        self.assertIsNone(self.mark())
        self.assertEqual(self.words(), "The place of L1 lies 13 mm outside LAT, which does not show it.")
        self.assertEqual(self.view("Yellow")[0], second.GetID())
        self.look(0)
        self.assertEqual(self.mark()[0], "L2 (AP)")

    def test_transforms_above_the_volumes_count(self):
        import vtk

        _first, second = self.beside()
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "turned")
        turn = vtk.vtkTransform()
        turn.RotateZ(90)
        transform.SetMatrixTransformToParent(turn.GetMatrix())
        second.SetAndObserveTransformNodeID(transform.GetID())
        local = np.array(turn.GetInverse().TransformPoint(*SECOND))
        second.SetOrigin(*(local + (2.0, 3.0, -4.0)))  # its first two axes point to the left and backwards
        self.look(0)
        label, where = self.mark()
        np.testing.assert_allclose(where, SECOND, atol=1e-4)
        self.assertEqual(mrml_other_view.marked(slicer.mrmlScene).GetTransformNodeID(), transform.GetID())

    def test_volumes_without_a_common_frame_need_nipples(self):
        first, second = self.beside()
        frames = {"1.2": "2.25.1", "3.4": "2.25.2"}
        for node, uid in zip((first, second), frames, strict=True):
            node.SetAttribute("DICOM.instanceUIDs", f"{uid} 9.9")
        had = getattr(slicer, "dicomDatabase", None)
        slicer.dicomDatabase = types.SimpleNamespace(instanceValue=lambda uid, tag: frames[uid] if tag == "0020,0052" else "")
        try:
            self.look(0)
            self.assertIsNone(self.mark())
            self.assertIn("AP and LAT do not share a frame of reference; mark the nipple in both", self.words())
            parameters = self.panel._parameterNode
            for name, at in (("nipple", (0.0, 0.0, 0.0)), ("otherNipple", (-2.0, 0.5, 1.0))):
                node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
                setattr(parameters, name, node)
                self.assertIsNone(self.mark())
                node.AddControlPoint(*at)  # later, with a click in a view
            np.testing.assert_allclose(self.mark()[1], np.add(SECOND, (-2.0, 0.5, 1.0)), atol=1e-4)
        finally:
            if had is None:
                del slicer.dicomDatabase
            else:
                slicer.dicomDatabase = had

    def test_a_transform_above_both_lays_nothing_over_each_other(self):
        first, second = self.beside()
        had, mrml_other_view.frame_of_reference = mrml_other_view.frame_of_reference, lambda node: f"2.25.{node.GetName()}"
        try:
            both, one = (slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", n) for n in ("both", "one"))
            for node in (first, second):
                node.SetAndObserveTransformNodeID(both.GetID())
            self.look(0)
            self.assertIsNone(self.mark())
            self.assertIn("AP and LAT do not share a frame of reference", self.words())
            one.SetAndObserveTransformNodeID(both.GetID())
            second.SetAndObserveTransformNodeID(one.GetID())
            self.look(0)
            np.testing.assert_allclose(self.mark()[1], SECOND, atol=1e-4)
        finally:
            mrml_other_view.frame_of_reference = had

    def test_what_cannot_be_laid_over_each_other_is_said(self):
        first, _second = self.beside()
        self.panel._parameterNode.otherView = image("picture")
        self.look(0)
        self.assertIn("picture is no volume", self.words())
        self.panel._parameterNode.otherView = first
        self.assertEqual((self.words(), self.mark()), ("Choose another volume than AP itself.", None))
        self.assertEqual(self.errors, [])

    def test_without_the_other_view_all_is_as_before(self):
        first, _second = self.beside()
        self.look(0)
        self.panel._parameterNode.otherView = None
        self.assertEqual((self.words(), self.mark()), ("", None))
        self.assertEqual(self.layout.GetViewArrangement(), self.layout.SlicerLayoutFourUpView)
        self.assertEqual({self.view(v)[0] for v in ("Red", "Yellow", "Green")}, {first.GetID()})
        self.assertTrue(self.panel.ui.otherNippleSelector.isHidden())

    def test_the_choice_is_saved_with_the_scene(self):
        self.beside()
        lists = count("MarkupsFiducial")
        self.look(0)
        self.look(1)
        self.assertEqual((self.mark()[0], count("MarkupsFiducial")), ("L1 (AP)", lists))  # one mark
        self.saveAndOpenScene()  # without voxels, which lie in files of their own
        self.assertEqual(self.panel.ui.otherViewSelector.currentNode().GetName(), "LAT")
        self.assertEqual(self.panel.ui.inputSelector.currentNode().GetName(), "AP")
        self.look(1)
        self.assertEqual((self.errors, self.mark()), ([], None))


class Judging(PanelCase):
    def test_verdicts_and_notes_are_kept_with_the_result(self):
        node = self.choose(volume())
        self.apply()
        self.pick(0)
        self.panel.ui.acceptButton.click()
        self.assertEqual(mrml_workup.reviews_of(self.shown(node)), {"L2": Review(ACCEPTED)})
        self.panel.ui.noteEdit.text = "looks like <scar> & more"
        self.panel.review.keep_note()
        self.pick(1)
        self.assertEqual((self.panel.ui.noteEdit.text, self.panel.ui.acceptButton.checked), ("", False))
        self.panel.ui.rejectButton.click()
        expected = {"L2": Review(ACCEPTED, "looks like <scar> & more"), "L1": Review(REJECTED)}
        self.assertEqual(mrml_workup.reviews_of(self.shown(node)), expected)
        self.assertEqual((self.cell(0, "Verdict"), self.cell(1, "Verdict")), ("✓ accepted", "✗ rejected"))
        self.assertEqual((self.panel.ui.acceptButton.text, self.panel.ui.rejectButton.text), ("Accept", "✗ Rejected"))
        self.assertEqual(self.cell(0, "Note"), "looks like <scar> & more")
        self.assertTrue(self.panel.ui.findingsTable.item(1, 0).font().strikeOut())
        self.panel.ui.rejectButton.click()  # taken back
        self.assertEqual(mrml_workup.reviews_of(self.shown(node))["L2"].verdict, ACCEPTED)
        self.assertEqual(self.panel.findings.rows[1].review.verdict, NONE)

    def test_a_note_that_is_being_typed_is_not_lost(self):
        node = self.choose(volume())
        self.apply()
        self.pick(0)
        self.panel.ui.noteEdit.text = "half a sen"
        self.panel.showFindings()  # e.g. as another view is finished
        self.assertEqual(self.panel.ui.noteEdit.text, "half a sen")
        self.panel.onNext()  # by key: the line keeps the focus
        self.assertEqual(mrml_workup.reviews_of(self.shown(node)), {"L2": Review(NONE, "half a sen")})
        self.assertEqual(self.panel.ui.noteEdit.text, "")
        self.panel.ui.noteEdit.text = "more"
        self.panel.review.accept()
        self.assertEqual(mrml_workup.reviews_of(self.shown(node))["L1"], Review(ACCEPTED, "more"))

    def test_a_script_may_judge_and_the_list_follows(self):
        node = self.choose(image())
        self.apply()
        mrml_workup.set_review(self.shown(node), "L1", Review(REJECTED, "artefact"))
        self.assertEqual((self.cell(0, "Verdict"), self.cell(0, "Note")), ("✗ rejected", "artefact"))

    def test_a_second_run_keeps_what_was_said_of_the_same_lesions(self):
        node = self.choose(volume())
        self.apply()
        for row, verdict in ((0, self.panel.review.accept), (1, self.panel.review.reject)):
            self.pick(row)
            verdict()
        self.apply()
        said = {i: r.verdict for i, r in mrml_workup.reviews_of(self.shown(node)).items()}
        self.assertEqual((said, count("Table"), count("MarkupsROI")), ({"L1": REJECTED, "L2": ACCEPTED}, 1, 2))
        # And once there are outlines, in place of the table there is a segmentation.
        self.panel._parameterNode.outlineFolder = self.model()
        self.apply()
        said = {i: r.verdict for i, r in mrml_workup.reviews_of(self.shown(node)).items()}
        self.assertEqual((said, count("Table"), count("Segmentation"), count("MarkupsROI")), ({"L1": REJECTED, "L2": ACCEPTED}, 1, 1, 2))

    def draw(self, shown, name="biopsy tract"):
        """As a person draws a segment of their own into a result: four voxels; returns their place, RAS mm."""
        segment = slicer.vtkSegment()
        segment.SetName(name)
        labelmap = slicer.vtkOrientedImageData()
        labelmap.DeepCopy(shown.GetBinaryLabelmapInternalRepresentation(mrml.parts_of(shown).segments["L1"]))
        segment.AddRepresentation("Binary labelmap", labelmap)
        self.assertTrue(shown.GetSegmentation().AddSegment(segment, name))
        return shown.GetSegmentCenterRAS(name)

    def test_what_a_person_drew_stays_when_nothing_is_outlined_any_more(self):
        node = self.choose(volume(), outlines=True)
        self.apply()
        shown = self.shown(node)
        where = self.draw(shown)
        self.pick(0)
        self.panel.review.accept()
        self.panel._parameterNode.outlineFolder = ""  # its model was taken out
        self.apply()
        self.assertEqual((self.errors, self.ids()), ([], ["L2", "L1"]))
        self.assertTrue(self.shown(node).IsA("vtkMRMLTableNode"))
        self.assertEqual(mrml_workup.reviews_of(self.shown(node)), {"L2": Review(ACCEPTED)})
        self.assertFalse(self.panel.ui.undoButton.enabled)
        self.assertEqual((count("Segmentation"), count("Table"), count("MarkupsROI")), (1, 1, 2))
        self.assertTrue(slicer.mrmlScene.IsNodePresent(shown))
        self.assertEqual((shown.GetSegmentation().GetSegmentIDs(), shown.GetSegmentCenterRAS("biopsy tract")), (("biopsy tract",), where))
        self.assertFalse(mrml.shows_other_image(shown, volume("case 2")))  # it is no result any more
        # Without a person's segments nothing is left of an earlier result.
        self.panel._parameterNode.outlineFolder = self.model()
        self.apply()
        self.assertEqual((count("Segmentation"), count("Table")), (2, 1))
        self.panel._parameterNode.outlineFolder = ""
        self.apply()
        self.assertEqual((self.errors, count("Segmentation"), count("Table")), ([], 1, 1))

    def test_what_a_person_drew_stays_where_it_is_when_the_volume_goes_under_a_transform(self):
        node = self.choose(volume(), outlines=True)
        self.apply()
        before = self.shown(node)
        where = self.draw(before)
        self.pick(0)
        self.panel.review.accept()
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "registered")
        node.SetAndObserveTransformNodeID(transform.GetID())
        self.apply()
        now = self.shown(node)
        self.assertEqual((self.errors, self.ids(), now.GetTransformNodeID()), ([], ["L2", "L1"], transform.GetID()))
        self.assertEqual(now.GetSegmentation().GetNumberOfSegments(), 2)
        self.assertEqual(mrml_workup.reviews_of(now), {"L2": Review(ACCEPTED)})
        self.assertEqual((before.GetSegmentation().GetSegmentIDs(), before.GetSegmentCenterRAS("biopsy tract")), (("biopsy tract",), where))
        self.assertEqual((before.GetTransformNodeID(), count("Segmentation"), count("Table"), count("MarkupsROI")), (None, 2, 1, 2))

    def test_what_was_said_and_dragged_is_taken_back_step_by_step(self):
        node = self.choose(volume())
        self.apply()
        ui, shown = self.panel.ui, self.shown(node)
        self.assertFalse(ui.undoButton.enabled)
        self.pick(0)
        ui.acceptButton.click()
        ui.noteEdit.text = "scar"
        self.panel.review.keep_note()
        box = mrml.parts_of(shown).boxes["L2"]
        before = [0.0, 0.0, 0.0]
        box.GetCenter(before)
        size = box.GetSize()
        ui.editBoxButton.click()
        box.SetCenter(before[0] + 3, before[1], before[2])
        box.SetSize(9, 8, 7)
        ui.editBoxButton.click()
        ui.editBoxButton.click()  # and looked at once more, without a change
        ui.editBoxButton.click()
        self.pick(1)
        ui.rejectButton.click()
        said = lambda: {i: r for i, r in mrml_workup.reviews_of(shown).items() if r != Review()}  # noqa: E731
        self.assertEqual(said(), {"L2": Review(ACCEPTED, "scar"), "L1": Review(REJECTED)})
        ui.undoButton.click()
        self.assertEqual(said(), {"L2": Review(ACCEPTED, "scar")})
        self.assertEqual(self.cell(1, "Verdict"), "")
        ui.undoButton.click()
        after = [0.0, 0.0, 0.0]
        box.GetCenter(after)
        np.testing.assert_allclose((*after, *box.GetSize()), (*before, *size), atol=1e-6)
        ui.undoButton.click()
        self.assertEqual(said(), {"L2": Review(ACCEPTED)})
        self.assertTrue(ui.undoButton.enabled)
        ui.undoButton.click()
        self.assertEqual((said(), ui.undoButton.enabled), ({}, False))
        self.panel.review.undo()  # by key: nothing is left
        self.assertEqual((said(), self.errors), ({}, []))
        # What was done in a scene is not done to the next one.
        ui.rejectButton.click()
        slicer.mrmlScene.Clear(False)
        self.assertFalse(ui.undoButton.enabled)

    def test_what_was_said_of_a_result_is_not_taken_back_from_the_next(self):
        """A second run shows its findings in the same node and under the same names."""
        node = self.choose(volume())
        self.apply()
        ui = self.panel.ui
        self.pick(0)
        ui.acceptButton.click()
        ui.editBoxButton.click()
        first = self.shown(node)
        mrml.parts_of(first).boxes["L2"].SetSize(9, 8, 7)
        self.assertTrue(ui.undoButton.enabled)
        self.apply()
        again = self.shown(node)
        self.assertEqual(first.GetID(), again.GetID())
        self.assertFalse(ui.undoButton.enabled)
        mrml.parts_of(again).boxes["L2"].SetSize(3, 4, 5)
        said = mrml_workup.reviews_of(again)
        self.panel.review.undo()  # by key
        self.assertEqual(mrml.parts_of(again).boxes["L2"].GetSize(), (3, 4, 5))
        self.assertEqual((mrml_workup.reviews_of(again), self.errors), (said, []))
        # What is done now can be taken back.
        self.pick(1)
        ui.rejectButton.click()
        self.assertTrue(ui.undoButton.enabled)
        ui.undoButton.click()
        self.assertEqual(mrml_workup.reviews_of(again).get("L1", Review()), said.get("L1", Review()))

    def test_the_box_is_dragged_when_asked_for(self):
        node = self.choose(volume())
        self.apply()
        self.pick(0)
        box = mrml.parts_of(self.shown(node)).boxes["L2"]
        for editable in (False, True, False):
            self.assertEqual(bool(box.GetDisplayNode().GetHandlesInteractive()), editable)
            self.assertEqual(bool(box.GetLocked()), not editable)  # without handles, Slicer moves a box by its centre all the same
            self.assertEqual(self.panel.ui.editBoxButton.checked, editable)
            self.panel.ui.editBoxButton.click()


class Reporting(PanelCase):
    def test_the_report_says_what_was_said_and_measures_what_was_edited(self):
        node = self.choose(volume(), outlines=True)
        self.apply()
        self.pick(0)
        self.panel.review.accept()
        self.panel.ui.noteEdit.text = "biopsy"
        self.panel.review.keep_note()
        shown = self.shown(node)
        segment = mrml.parts_of(shown).segments["L2"]
        # The outline loses its last slice of 5 x 5 voxels.
        voxels = slicer.vtkOrientedImageData()
        shown.GetBinaryLabelmapRepresentation(segment, voxels)
        from vtk.util.numpy_support import vtk_to_numpy

        array = vtk_to_numpy(voxels.GetPointData().GetScalars()).reshape(voxels.GetDimensions()[::-1])
        index = np.argwhere(array == array.max())
        array[index[:, 0].max()][array[index[:, 0].max()] == array.max()] = 0
        shown.SetBinaryLabelmapToSegment(voxels, segment) if hasattr(shown, "SetBinaryLabelmapToSegment") else None
        labelmap = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
        shown.GetSegmentation().GetSegment(segment).RemoveRepresentation(labelmap)
        shown.GetSegmentation().GetSegment(segment).AddRepresentation(labelmap, voxels)
        shown.GetSegmentation().GetSegment(segment).SetLabelValue(int(array.max()))
        self.pick(1)
        self.panel.review.reject()
        self.export()
        self.assertEqual(self.errors, [])
        folder = self.folder / "reports" / "case_1"
        self.assertEqual(self.panel.export.written, folder / "report.html")
        self.assertTrue(self.panel.ui.openReportButton.enabled)
        study = json.loads((folder / "study.json").read_text())
        self.assertEqual([f["id"] for f in study["findings"]], ["L2"])
        finding = study["findings"][0]
        self.assertAlmostEqual(finding["measurements"]["volume_ml"], 100 * np.prod(SPACING) / 1000, places=6)
        self.assertIn("Accepted by the reader: biopsy.", finding["notes"])
        self.assertTrue(any("edited by a person" in note for note in finding["notes"]))
        self.assertIn(b"DICOM.SegmentAlgorithmType:SEMIAUTOMATIC", (folder / "lesions.seg.nrrd").read_bytes()[:20000])
        self.assertTrue(any(note.startswith("L1 (score 0.90) was rejected") for note in study["provenance"]["notes"]))
        self.assertEqual(study["provenance"]["reviews"]["L1"]["verdict"], REJECTED)
        html = (folder / "report.html").read_text()
        self.assertIn("biopsy", html)
        self.assertIn("was rejected by the reader", html)
        with (folder / "findings.csv").open(newline="") as stream:
            self.assertEqual(len(list(csv.DictReader(stream))), 1)
        self.assertTrue((folder / "lesions.seg.nrrd").is_file())

    def test_a_transform_that_is_hardened_on_the_volume_alone_leaves_the_report_as_it_was(self):
        node = volume()
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
        matrix = vtk.vtkMatrix4x4()
        for row, shift in enumerate((4.0, 1.8, 2.2)):
            matrix.SetElement(row, 3, shift)
        transform.SetMatrixTransformToParent(matrix)
        node.SetAndObserveTransformNodeID(transform.GetID())
        self.choose(node, outlines=True)
        self.apply()
        shown, before = self.shown(node), mrml_workup.current(self.shown(node))()[0]
        node.HardenTransform()
        after = mrml_workup.current(shown)()[0]
        for a, b in zip(before.findings, after.findings, strict=True):
            self.assertEqual((a.measurements, a.notes), (b.measurements, b.notes))
            np.testing.assert_allclose(np.subtract(b.box.center, a.box.center), (-4.0, -1.8, 2.2), atol=1e-4)
        node.SetAndObserveTransformNodeID(transform.GetID())  # once more, without its findings
        self.export()
        self.assertEqual(len(self.errors), 1)
        self.assertIn("does not lie on the image case 1 as it was made", self.errors[0])

    def test_other_pixels_than_were_analysed_are_not_reported(self):
        node = self.choose(image("cine"))
        self.apply()
        analysed, other = node.GetImageData(), vtk.vtkImageData()
        other.DeepCopy(analysed)  # another frame in the same node, as a sequence browser shows it
        other.GetPointData().GetScalars().SetValue(7, 99)
        node.SetAndObserveImageData(other)
        self.export()
        self.assertEqual(len(self.errors), 1)
        self.assertIn("the image cine shows other pixels than those in which", self.errors[0])
        self.assertFalse((self.folder / "reports").exists())
        node.SetAndObserveImageData(analysed)
        self.export()
        self.assertEqual((len(self.errors), len(list((self.folder / "reports").glob("*/report.html")))), (1, 1))
        node.SetAndObserveImageData(other)
        self.apply()  # is what cures it
        self.export()
        self.assertEqual(len(self.errors), 1)

    def showOthers(self, node):
        """Another frame in the same node, as a sequence browser shows it; returns the one before."""
        before, other = node.GetImageData(), vtk.vtkImageData()
        other.DeepCopy(before)
        other.GetPointData().GetScalars().SetValue(7, 99)
        node.SetAndObserveImageData(other)
        return before

    def test_the_lists_say_which_images_show_other_pixels_than_were_analysed(self):
        ui, views = self.panel.ui, self.panel.ui.viewsList
        marked = "picture (shows other pixels than its findings)"
        cine, other, plain = image("cine"), volume("case 1"), image("never analysed")
        self.choose(cine, other)
        self.apply()
        before = {node.GetID(): self.showOthers(node) for node in (cine, plain)}
        self.until(lambda: "Not the pixels in which the findings were found: cine (" in ui.clockLabel.text)
        self.assertFalse(ui.clockLabel.isHidden())
        self.assertEqual([views.item(i).text() for i in range(views.count)], ["case 1", "never analysed"])
        frame = self.showOthers(other)
        self.until(lambda: ": cine, case 1 (" in ui.clockLabel.text)
        self.assertEqual(views.item(0).text(), marked.replace("picture", "case 1"))
        self.assertIn("found: case 1 (another frame", views.item(0).toolTip())
        self.assertEqual(views.item(1).text(), "never analysed")
        # The way back: the pixels that were analysed, or another analysis.
        other.SetAndObserveImageData(frame)
        self.until(lambda: "case 1" not in ui.clockLabel.text)
        self.assertEqual(views.item(0).text(), "case 1")
        self.apply()
        self.assertTrue(ui.clockLabel.isHidden())
        cine.SetAndObserveImageData(before[cine.GetID()])
        self.until(lambda: "found: cine (" in ui.clockLabel.text)

    def test_images_are_read_for_the_lists_where_their_pixels_changed_and_no_more(self):
        from BreastUSAILib import slicer_other_pixels

        node = self.choose(image("cine"))
        self.apply()
        read, of = [], mrml_workup.shows_other_pixels
        mrml_workup.shows_other_pixels = lambda shown: read.append(shown) or of(shown)
        self.addCleanup(setattr, mrml_workup, "shows_other_pixels", of)
        for _ in range(3):
            self.panel.updatePanel()
        self.assertEqual(read, [])
        before = self.showOthers(node)
        self.showOthers(node)
        self.until(lambda: "cine" in self.panel.ui.clockLabel.text)
        self.assertEqual(len(read), 1)  # of several changes in a row the last
        most = slicer_other_pixels.MOST_BYTES
        self.addCleanup(setattr, slicer_other_pixels, "MOST_BYTES", most)
        slicer_other_pixels.MOST_BYTES = 80 * 60 - 1
        self.panel.updatePanel()
        self.assertNotIn("cine", self.panel.ui.clockLabel.text)
        slicer_other_pixels.MOST_BYTES = most
        self.panel.updatePanel()
        node.SetAndObserveImageData(before)
        self.until(lambda: "cine" not in self.panel.ui.clockLabel.text)

    def test_a_report_of_each_image(self):
        self.choose(image("a/b"), image("a?b"))
        self.apply()
        self.export()
        self.assertEqual(self.errors, [])
        names = sorted(p.parent.name for p in (self.folder / "reports").glob("*/report.html"))
        self.assertEqual(names, ["a_b", "a_b_2"])

    def again(self, node):
        """Another person's or day's scene: a new one, with this image alone, worked up and reported into the same folder."""
        self.choose(node)
        self.apply()
        self.export()
        self.assertEqual(self.errors, [])
        return [p.parent.name for p in sorted((self.folder / "reports").glob("*/study.json"))]

    def test_a_report_never_takes_the_place_of_another_images(self):
        reports = self.folder / "reports"
        self.assertEqual(self.again(image("1: B-mode")), ["1_B-mode"])
        self.assertEqual(self.panel.ui.statusLabel.text, f"Report: {reports / '1_B-mode' / 'report.html'}")
        first = (reports / "1_B-mode" / "study.json").read_bytes()
        slicer.mrmlScene.Clear(False)
        self.assertEqual(self.again(image("1: B-mode", at=(50, 35))), ["1_B-mode", "1_B-mode_2"])
        self.assertEqual((reports / "1_B-mode" / "study.json").read_bytes(), first)
        second = reports / "1_B-mode_2" / "report.html"
        self.assertEqual(self.panel.export.written, second)
        said = f"Report: {second}. Folders of these names that hold something else were left as they are: 1_B-mode."
        self.assertEqual(self.panel.ui.statusLabel.text, said)
        # Each image again goes where it was.
        (node,) = mrml_workup.images(slicer.mrmlScene)
        mrml_workup.set_review(self.shown(node), "L1", Review(ACCEPTED, "seen again"))
        self.export()
        self.assertEqual(self.panel.export.written, second)
        self.assertIn("seen again", second.read_text())
        slicer.mrmlScene.Clear(False)
        self.assertEqual(self.again(image("1: B-mode", known=False)), ["1_B-mode", "1_B-mode_2"])
        self.assertEqual(self.panel.export.written, reports / "1_B-mode" / "report.html")

    def test_a_report_never_takes_the_place_of_what_is_no_report(self):
        theirs = self.folder / "reports" / "1_B-mode" / "findings.csv"
        theirs.parent.mkdir(parents=True)
        theirs.write_text("the department's own")
        self.assertEqual(self.again(image("1: B-mode")), ["1_B-mode_2"])
        self.assertIn("hold something else were left as they are: 1_B-mode.", self.panel.ui.statusLabel.text)
        self.assertEqual([p.name for p in theirs.parent.iterdir()], ["findings.csv"])
        self.assertEqual(theirs.read_text(), "the department's own")

    def test_a_report_of_which_nobody_knows_the_image_stays(self):
        reports = self.folder / "reports"
        self.again(image())
        kept = reports / "picture" / "study.json"
        study = json.loads(kept.read_text())
        del study["provenance"]["reported"]  # as earlier versions wrote it
        for number, text in enumerate((json.dumps(study), "{", "\xff")):
            kept.write_text(text, encoding="latin-1")
            shutil.rmtree(reports / "picture_2", ignore_errors=True)
            self.export()
            self.assertEqual((self.errors, kept.read_text(encoding="latin-1")), ([], text), number)
            self.assertEqual(self.panel.export.written, reports / "picture_2" / "report.html")
        known = json.loads((reports / "picture_2" / "study.json").read_text())["provenance"]["reported"]
        study["provenance"]["input"] = known  # as the analysis read them
        kept.write_text(json.dumps(study))
        self.export()
        self.assertEqual(self.panel.export.written, reports / "picture" / "report.html")
        # What was never finished is no report.
        mark_unfinished(kept.parent)
        self.panel.export.written = None
        self.export()
        self.assertEqual((self.errors, self.panel.export.written), ([], reports / "picture" / "report.html"))
        self.assertTrue(kept.is_file())

    def test_reports_of_views_of_one_name_go_where_they_were(self):
        first, second = image(), image(at=(50, 35))
        for node in (first, second):
            node.SetName("AP")
        self.choose(second, first)
        for _ in range(2):
            self.apply()
            self.export()
            self.choose(first, second)
        self.assertEqual(self.errors, [])
        names = sorted(p.parent.name for p in (self.folder / "reports").glob("*/study.json"))
        self.assertEqual(names, ["AP", "AP_2"])

    def test_a_run_and_a_report_at_once_both_end(self):
        self.choose(image())
        self.apply()
        self.panel._parameterNode.reportFolder = str(self.folder / "reports")
        self.panel.ui.exportButton.click()
        self.panel.onApplyButton()
        self.until(lambda: not self.panel.export.running and self.panel._job is None)
        self.assertEqual(self.errors, [])
        self.assertTrue((self.folder / "reports" / "picture" / "report.html").is_file())

    def test_a_folder_that_cannot_be_written_is_one_message(self):
        self.choose(image())
        self.apply()
        (self.folder / "reports").write_text("in the way")
        self.export()
        self.assertEqual(len(self.errors), 1)
        self.assertIn("cannot be written", self.errors[0])
        self.assertTrue(self.panel.ui.exportButton.enabled)

    def test_a_result_that_cannot_be_shown_as_nobody_expected_is_one_message(self):
        self.choose(image())

        def show(*_):
            raise MemoryError("too large")

        self.panel.logic.show = show
        self.apply()
        self.assertEqual(self.errors, ["picture: This failed unexpectedly (MemoryError: too large); see the log."])
        self.assertTrue(self.panel.ui.applyButton.enabled)

    def test_what_came_before_an_analysis_fails_as_nobody_expected_is_kept_and_said(self):
        said = "This failed unexpectedly (MemoryError: too large); see the log."

        def fail(*_):
            raise MemoryError("too large")

        for shows, failures in ((True, [said]), (False, [said, said])):
            with self.subTest(shows=shows):
                slicer.mrmlScene.Clear(False)
                self.errors.clear()
                first, second = image("first"), image("second")
                self.choose(first, second)
                self.panel.ui.applyButton.click()
                job = self.panel._job
                poll = job.poll

                def poll_and_fail(job=job, poll=poll):
                    """In the moment in which the first result came: the panel has not seen it yet."""
                    poll()
                    if job.outcomes:
                        fail()

                job.poll = poll_and_fail
                if not shows:
                    self.panel.showOutcomes = fail
                self.until(lambda: self.errors)
                self.assertEqual(self.errors, ["\n".join(failures)])
                self.assertEqual(self.shown(first) is not None, shows)
                self.assertIsNone(self.panel._job)
                self.assertFalse(self.panel._timer.active)

    def test_a_report_that_fails_as_nobody_expected_is_one_message(self):
        self.choose(image())
        self.apply()

        def write():
            raise MemoryError("too large")

        self.panel.export._start = lambda folder: BackgroundTask(write)
        self.export()
        self.assertEqual(self.errors, ["This failed unexpectedly (MemoryError: too large); see the log."])
        self.assertTrue(self.panel.ui.exportButton.enabled)
        self.assertTrue(self.panel.ui.applyButton.enabled)


    def test_a_report_that_is_cancelled_is_written_all_the_same(self):
        """In Slicer its thread works only while it is polled (`background`), and stood still until some other work was."""

        class Task:
            polls = 0

            def poll(self):
                self.polls += 1
                return self.polls > 5

        self.choose(image())
        self.apply()
        task = Task()
        self.panel.export._start = lambda folder: task
        self.panel._parameterNode.reportFolder = str(self.folder / "reports")
        self.panel.ui.exportButton.click()
        self.panel.cancelJob()
        self.panel.updatePanel()
        self.assertFalse(self.panel.ui.exportButton.enabled)  # no two write into one folder
        self.until(lambda: task.polls > 5)
        self.until(lambda: self.panel.ui.exportButton.enabled)
        self.assertEqual((self.errors, self.panel.export.written), ([], None))


class Life(PanelCase):
    def test_closing_the_panel_ends_its_analysis_and_observers_whatever_is_gone_already(self):
        """When Slicer ends, widgets go before modules do."""
        self.inProcesses()
        self.choose(volume())
        self.panel._parameterNode.detectFolder = self.model("0.13")  # for ever
        self.apply(wait=False)
        self.until(lambda: self.panel._job is not None)
        job = self.panel._job

        def gone():
            raise ValueError("Trying to call 'hide' on a destroyed QWidget object")

        close, self.panel.overview.close = self.panel.overview.close, gone
        forget, self.panel.export.forget = self.panel.export.forget, gone
        with self.assertRaises(ValueError):
            self.panel.cleanup()
        close()
        self.panel.export.forget = forget
        self.assertEqual((self.panel._timer, self.panel._parameterNode), (None, None))
        self.until(job.poll, timeout=5)
        self.assertEqual(list(self.panel.Observations), [])
        self.panel._removed.connect("timeout()", self.panel.onRemoved)
        self.panel.setup()  # for tearDown

    def test_findings_views_and_choices_survive_saving_and_opening_the_scene(self):
        other = volume("other")
        self.choose(volume("main"), other)
        self.apply()
        self.pick(0)
        self.panel.review.reject()
        self.panel.ui.noteEdit.text = "scar"
        self.panel.review.keep_note()
        before = [(r.image, r.finding.id, r.review) for r in self.panel.findings.rows]
        self.saveAndOpenScene()
        self.assertEqual([(r.image, r.finding.id, r.review) for r in self.panel.findings.rows], before)
        names = [v.GetName() for v in self.panel.logic.images(self.panel._parameterNode)]
        self.assertEqual((names, self.panel.ui.detectFolderEdit.currentPath), (["main", "other"], self.model()))
        self.pick(1)
        self.panel.review.accept()
        self.assertEqual(self.panel.findings.rows[1].review.verdict, ACCEPTED)

    def test_closing_the_scene_ends_the_analysis_and_the_panel_starts_anew(self):
        self.inProcesses()
        self.choose(image())
        self.apply()
        self.panel._parameterNode.modelFolder = self.model("0.13")
        self.apply(wait=False)
        self.until(lambda: "arguments" in self.panel.ui.logTextEdit.plainText)
        process = self.panel._job._child._child._process
        slicer.mrmlScene.Clear(False)
        self.until(lambda: process.poll() is not None, timeout=5)
        self.assertIsNone(self.panel._job)
        self.assertEqual((self.ids(), self.panel.ui.findingsTable.rowCount), ([], 0))
        self.assertIsNone(self.panel.ui.inputSelector.currentNode())
        self.assertEqual(self.panel.ui.detailsLabel.text, "")
        self.choose(image("again"))
        self.apply()
        self.assertEqual((self.ids(), self.errors), (["L1"], []))

    def test_leaving_the_module_lets_the_analysis_finish(self):
        node = self.choose(image())
        self.apply(wait=False)
        self.panel.exit()
        self.until(lambda: self.panel._job is None)
        self.assertEqual(self.errors, [])
        self.assertIsNotNone(self.shown(node))
        self.panel.enter()
        self.assertEqual(self.ids(), ["L1"])

    def test_an_analysis_that_ends_in_another_module_leaves_the_views_there_alone(self):
        self.views()
        camera = self.camera()
        node = self.choose(volume())
        self.apply()
        self.panel.findings._choose(-1)  # as in a scene that was opened: rows, and none is chosen
        camera.SetFocalPoint(1, 2, 3)
        self.apply(wait=False)
        self.panel.exit()
        self.until(lambda: self.panel._job is None)
        self.assertEqual((self.errors, camera.GetFocalPoint()), ([], (1, 2, 3)))
        self.assertEqual(self.panel.ui.statusLabel.text, "2 lesions found.")
        self.assertIsNotNone(self.shown(node))
        self.panel.onRow()  # by a script
        self.panel.enter()
        self.assertEqual(self.ids(), ["L2", "L1"])

    def test_a_closed_panel_leaves_no_observer_and_reacts_no_more(self):
        node = self.choose(image())
        self.apply()
        other = self.openPanel()
        other.enter()
        self.assertEqual(len(other.findings.rows), 1)
        parameters, ui = other._parameterNode, other.ui
        shown = self.shown(node)
        self.closePanel(other)
        self.assertEqual((list(other.Observations), other._timer, other.shortcuts.all), ([], None, []))
        ui.pixelSpacingSpinBox.value = 0.77
        self.assertNotAlmostEqual(parameters.pixelSpacing, 0.77)
        mrml_workup.set_review(shown, "L1", Review(ACCEPTED))
        self.assertEqual(other.findings.rows[0].review.verdict, NONE)

    def test_removing_the_result_empties_the_list(self):
        node = self.choose(image())
        self.apply()
        mrml_workup.remove(self.shown(node))
        self.panel.showFindings()
        self.assertEqual((self.ids(), count("Table"), count("MarkupsROI")), ([], 0, 0))

    def test_a_result_that_is_removed_elsewhere_leaves_the_list(self):
        node = self.choose(volume(), outlines=True)
        self.apply()
        self.until(lambda: self.panel.overview.ready)
        slicer.mrmlScene.RemoveNode(self.shown(node))  # in another panel, or by a script
        # Before the list has looked: nothing can be gone to any more, and nothing is raised.
        self.pick(1)
        for react in (self.panel.onNext, self.panel.onPrevious, self.panel.review.accept, self.panel.review.edit_box):
            react()
        self.panel.onOverviewFinding("L1")
        self.panel.onOverviewPlace((0.0, 0.0, 0.0))
        slicer.app.processEvents()
        self.assertEqual((self.ids(), self.panel.ui.detailsLabel.text), ([], ""))
        for button in ("nextButton", "previousButton", "acceptButton", "editBoxButton", "exportButton"):
            self.assertFalse(getattr(self.panel.ui, button).enabled, button)
        self.assertTrue(self.panel.ui.overviewButton.isHidden())
        self.panel._parameterNode.reportFolder = str(self.folder)
        self.panel.export.begin()  # by a script
        self.assertEqual(self.errors, ["There is nothing to report; run the workup first."])
        self.apply()
        self.assertEqual(self.ids(), ["L2", "L1"])

    def test_a_finding_that_is_removed_elsewhere_leaves_the_list(self):
        node = self.choose(volume())
        self.apply()
        self.pick(0)
        slicer.mrmlScene.RemoveNode(mrml.parts_of(self.shown(node)).boxes["L1"])  # in the context menu of its box
        slicer.app.processEvents()
        self.assertEqual((self.ids(), self.panel.findings.current().finding.id), (["L2"], "L2"))
        slicer.mrmlScene.StartState(slicer.mrmlScene.BatchProcessState)
        slicer.mrmlScene.RemoveNode(mrml.parts_of(self.shown(node)).boxes["L2"])
        slicer.app.processEvents()
        self.assertEqual(self.ids(), ["L2"])
        slicer.mrmlScene.EndState(slicer.mrmlScene.BatchProcessState)
        slicer.app.processEvents()
        self.assertEqual((self.ids(), self.errors), ([], []))

    def test_undo_takes_a_verdict_back(self):
        scene = slicer.mrmlScene
        node = self.choose(image())
        self.apply()
        shown = self.shown(node)
        shown.SetUndoEnabled(True)
        scene.SetUndoOn()
        try:
            self.panel.review.accept()
            scene.Undo()
            self.assertEqual(mrml_workup.reviews_of(self.shown(node)), {})
            self.panel.showFindings()
            self.assertEqual(self.panel.findings.rows[0].review.verdict, NONE)
        finally:
            scene.SetUndoOff()
            scene.ClearUndoStack()


if __name__ == "__main__":
    sys.exit("run by test_module_workup.py or run_in_slicer.py")
