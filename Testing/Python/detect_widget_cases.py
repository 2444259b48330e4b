"""The panel of BreastUSAI Detect: cases that run on the stand-in (test_module_detect.py) and in a real Slicer
(run_in_slicer.py). They use nothing that one of the two does not have.
"""

from __future__ import annotations

import functools
import json
import sys
import threading

import BreastUSAIDetect as module
import numpy as np
import panel_cases
import SimpleITK as sitk
import slicer
from panel_cases import STANDIN_CLI, Row, count
from two_dark_boxes import FIRST, SECOND, SPACING, volume

from BreastUSAILib import mrml, mrml_heatmap
from BreastUSAILib.child_detection import ChildDetection
from BreastUSAILib.findings import Finding, ImageInfo, Study
from BreastUSAILib.grid import index_box

NO_MODEL = "No detection model is installed; train one with breastusai train detect, or choose a model folder."


class PanelCase(panel_cases.FolderCase):
    widget = module.BreastUSAIDetectWidget

    def logic(self):
        return module.BreastUSAIDetectLogic(childDetection=functools.partial(ChildDetection, command=STANDIN_CLI))

    def model(self, behaviour="mine", threshold=0.5):
        """A model folder as far as a panel looks at it; its name chooses what the stand-in for the command line does."""
        folder = self.folder / behaviour
        folder.mkdir(exist_ok=True)
        config = {"id": f"model {behaviour}", "version": "1", "task": "detect", "network": "detection.DetectionNetwork"}
        config |= {"arguments": {}, "preprocessing": {"spacing": [1.0, 1.0, 1.0]}, "file": "model.safetensors", "sha256": "0" * 64}
        (folder / "config.json").write_text(json.dumps({**config, "postprocessing": {"threshold": threshold}}))
        return str(folder)

    def ready(self, behaviour="mine", **changes):
        """A volume and a model are chosen; returns the volume."""
        chosen = volume(**changes)
        self.panel._parameterNode.inputVolume = chosen
        self.panel._parameterNode.modelFolder = self.model(behaviour)
        return chosen

    def boxesShown(self, table):
        nodes = [slicer.mrmlScene.GetNthNodeByClass(i, "vtkMRMLMarkupsROINode") for i in range(count("MarkupsROI"))]
        ours = [n for n in nodes if n.GetNodeReferenceID(mrml.SHOWN_WITH) == table.GetID()]
        return {n.GetAttribute(mrml.FINDING): bool(n.GetDisplayNode().GetVisibility()) for n in ours}

    def rowsHidden(self):
        view = self.panel.ui.resultsTableView
        return [view.isRowHidden(row) for row in range(self.panel._parameterNode.outputTable.GetNumberOfRows())]


class Binding(PanelCase):
    def test_the_panel_shows_the_parameters_and_writes_them(self):
        ui, parameters = self.panel.ui, self.panel._parameterNode
        parameters.inputVolume = volume()
        parameters.minimumScore = 0.35
        parameters.device = module.Device.CPU
        parameters.modelFolder, parameters.classifierFolder = "/models/mine", "/models/second"
        self.assertIs(ui.inputSelector.currentNode(), parameters.inputVolume)
        self.assertAlmostEqual(ui.minimumScoreSlider.value, 0.35)
        self.assertEqual(ui.deviceComboBox.currentText, "CPU")
        self.assertEqual(
            (ui.modelFolderEdit.currentPath, ui.classifierFolderEdit.currentPath), ("/models/mine", "/models/second")
        )
        self.assertFalse(ui.modelComboBox.enabled)
        options = self.panel.logic.options(parameters)
        self.assertEqual((options.model, options.classifier, options.device), ("/models/mine", "/models/second", "cpu"))
        self.assertEqual((options.threshold, options.maximum), (0.0, None))  # all: the slider chooses

        ui.minimumScoreSlider.value = 0.6
        ui.deviceComboBox.currentIndex = 0
        ui.modelFolderEdit.currentPath = ""
        ui.classifierFolderEdit.currentPath = ""
        self.assertAlmostEqual(parameters.minimumScore, 0.6)
        self.assertEqual(parameters.device, module.Device.AUTO)
        self.assertEqual((parameters.modelFolder, parameters.classifierFolder), ("", ""))

    def test_every_parameter_has_its_widget(self):
        bound = {w.property("SlicerParameterName") for w in vars(self.panel.ui).values()} - {None, ""}
        self.assertEqual(bound, {"inputVolume", "outputTable", "minimumScore", "device"})
        self.assertTrue(hasattr(self.panel.ui, "modelFolderEdit") and hasattr(self.panel.ui, "classifierFolderEdit"))


class Enabling(PanelCase):
    def setUp(self):
        super().setUp()
        self.panel.logic.models = lambda: []  # also once one ships
        self.panel.updatePanel()

    def test_a_map_is_no_image(self):
        self.refusesMapsOver(self.ready())

    def test_without_a_model_it_says_so_and_waits_for_a_folder(self):
        ui, parameters = self.panel.ui, self.panel._parameterNode
        self.assertEqual(ui.statusLabel.text, NO_MODEL)  # even before a volume is chosen
        parameters.inputVolume = volume()
        self.assertFalse(ui.applyButton.enabled)
        self.assertEqual((ui.statusLabel.text, ui.applyButton.toolTip), (NO_MODEL, NO_MODEL))
        ui.modelFolderEdit.currentPath = self.model()
        self.assertTrue(ui.applyButton.enabled)
        self.assertEqual(ui.statusLabel.text, "")
        ui.modelFolderEdit.currentPath = ""
        self.assertFalse(ui.applyButton.enabled)

    def test_a_model_that_ships_is_enough(self):
        self.panel.logic.models = lambda: [("some-model", "made for this case")]
        self.panel._parameterNode.inputVolume = volume()
        self.assertTrue(self.panel.ui.applyButton.enabled)

    def test_apply_needs_a_volume(self):
        self.panel._parameterNode.modelFolder = self.model()
        self.assertFalse(self.panel.ui.applyButton.enabled)
        self.assertIn("Choose an ABUS volume", self.panel.ui.applyButton.toolTip)
        self.assertEqual(self.panel.ui.statusLabel.text, "")

    def test_a_2d_image_is_refused_with_what_to_use_instead(self):
        for size in ((40, 20, 1), (40, 1, 30), (1, 20, 30)):
            image = sitk.Image(size, sitk.sitkUInt8)
            image.SetSpacing(SPACING)
            self.panel._parameterNode.inputVolume = mrml.add_volume(slicer.mrmlScene, image, "flat")
            self.assertFalse(self.panel.ui.applyButton.enabled)
            self.assertIn("use BreastUSAI Segment for 2D images", self.panel.ui.statusLabel.text)

    def test_an_empty_volume_is_refused(self):
        self.panel._parameterNode.inputVolume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "void")
        self.assertIn("void holds no voxels", self.panel.ui.statusLabel.text)

    def test_a_volume_without_spacing_is_refused_until_it_has_one(self):
        chosen = self.ready(known=False)
        self.assertFalse(self.panel.ui.applyButton.enabled)
        self.assertIn("module Volumes", self.panel.ui.statusLabel.text)
        chosen.SetSpacing(0.2, 0.1, 0.5)
        self.panel.updatePanel()
        self.assertTrue(self.panel.ui.applyButton.enabled)

    def test_a_folder_that_is_no_model_is_a_message(self):
        self.ready()
        self.panel._parameterNode.modelFolder = str(self.folder)
        self.apply()
        self.assertIn("is not a model folder", self.errors[0])
        self.assertEqual((count("Table"), self.panel._job), (0, None))


class Running(PanelCase):
    def test_apply_shows_what_was_found(self):
        chosen = self.ready()
        self.apply(wait=False)
        self.assertFalse(self.panel.ui.applyButton.enabled)
        self.assertTrue(self.panel.ui.cancelButton.enabled)
        self.until(lambda: self.panel._job is None)
        self.assertEqual(self.errors, [])
        self.assertEqual(
            self.panel.ui.statusLabel.text,
            "1 lesion found. Hidden below, for their lower score: 1. Searched in one piece.",
        )
        table = self.panel._parameterNode.outputTable
        self.assertIs(self.panel.ui.resultsTableView.mrmlTableNode(), table)
        self.assertEqual([table.GetCellText(row, 0) for row in (0, 1)], ["L1", "L2"])
        study = mrml.detected_in(table)
        self.assertEqual((study.image.path, len(study.findings)), ("case 1", 2))
        points = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLMarkupsFiducialNode")
        for index, expected in enumerate((FIRST, SECOND)):
            position = [0.0, 0.0, 0.0]
            points.GetNthControlPointPosition(index, position)
            np.testing.assert_allclose(position, expected, atol=1e-6)
        # The model's own threshold, 0.5, hides the second.
        self.assertAlmostEqual(self.panel._parameterNode.minimumScore, 0.5)
        self.assertEqual(self.boxesShown(table), {"L1": True, "L2": False})
        self.assertEqual(chosen.GetNodeReferenceID("nothing of ours"), None)
        self.assertEqual(count("Segmentation"), 0)

    def test_the_slider_hides_and_shows_without_computing(self):
        self.ready()
        self.apply()
        ui, table = self.panel.ui, self.panel._parameterNode.outputTable
        points = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLMarkupsFiducialNode")
        self.panel.logic.start = lambda *_: self.fail("was computed again")
        for score, shown in (
            (0.5, [True, False]),
            (0.2, [True, True]),
            (0.95, [False, False]),
            (0.25, [True, True]),
            (0.9, [True, False]),
        ):
            ui.minimumScoreSlider.value = score
            self.assertEqual(self.boxesShown(table), dict(zip(("L1", "L2"), shown, strict=True)))
            self.assertEqual([bool(points.GetNthControlPointVisibility(i)) for i in (0, 1)], shown)
            self.assertEqual(self.rowsHidden(), [not s for s in shown])
            self.assertEqual(ui.shownLabel.text, f"{sum(shown)} of 2 findings shown.")
        self.assertEqual((count("Table"), count("MarkupsROI"), table.GetNumberOfRows()), (1, 2, 2))

    def test_a_click_on_a_row_takes_all_slice_views_there(self):
        views = [slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", n) for n in ("A", "B", "C")]
        for view, orientation in zip(
            views, ("SetOrientationToAxial", "SetOrientationToSagittal", "SetOrientationToCoronal"), strict=True
        ):
            getattr(view, orientation)()
        self.ready()
        self.apply()
        for row, expected in enumerate((FIRST, SECOND)):
            self.panel.onRow(Row(row))
            for view in views:
                matrix = view.GetSliceToRAS()
                np.testing.assert_allclose([matrix.GetElement(i, 3) for i in range(3)], expected, atol=1e-4)
        box = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLMarkupsROINode")
        slicer.mrmlScene.RemoveNode(box)
        self.assertIsNone(self.panel.logic.jumpTo(self.panel._parameterNode.outputTable, 0))

    def test_a_second_run_replaces_the_first_and_keeps_the_slider(self):
        self.ready()
        self.apply()
        self.panel.ui.minimumScoreSlider.value = 0.2
        table = self.panel._parameterNode.outputTable
        self.apply()
        self.assertIs(self.panel._parameterNode.outputTable, table)
        self.assertEqual([count(k) for k in ("MarkupsROI", "MarkupsFiducial", "Table")], [2, 1, 1])
        self.assertAlmostEqual(self.panel._parameterNode.minimumScore, 0.2)
        self.assertEqual(self.boxesShown(table), {"L1": True, "L2": True})
        self.assertEqual(self.rowsHidden(), [False, False])
        self.panel._parameterNode.modelFolder = self.model("another", threshold=0.3)
        self.apply()
        self.assertAlmostEqual(self.panel._parameterNode.minimumScore, 0.3)
        self.assertEqual(self.boxesShown(table), {"L1": True, "L2": False})
        self.assertEqual(self.rowsHidden(), [False, True])

    def test_another_volumes_results_and_other_tables_are_left_alone(self):
        self.ready()
        self.apply()
        first = self.panel._parameterNode.outputTable
        self.panel._parameterNode.inputVolume = volume(name="case 2")
        self.apply()
        second = self.panel._parameterNode.outputTable
        self.assertIsNot(first, second)
        self.assertEqual((self.errors, first.GetName(), second.GetName()), ([], "case 1 findings", "case 2 findings"))
        self.assertEqual(mrml.detected_in(first).image.path, "case 1")
        mine = mrml.add_table(slicer.mrmlScene, mrml.detected_in(first), self.panel._parameterNode.inputVolume)
        self.panel._parameterNode.outputTable = mine
        self.assertIsNone(self.panel.ui.resultsTableView.mrmlTableNode())
        self.assertEqual(self.panel.ui.shownLabel.text, "")
        self.apply()
        self.assertIsNot(self.panel._parameterNode.outputTable, mine)
        self.assertEqual((count("Table"), count("MarkupsROI")), (4, 6))

    def test_hot_spots_of_heatmap_are_left_alone(self):
        chosen = self.ready()
        image = mrml.image_from_volume(chosen)
        spots = Study(ImageInfo.of(image, "case 1"), (Finding("H1", index_box(image, (5, 4, 6), (10, 8, 12)), 0.7),), heatmap=image)
        hot = mrml_heatmap.show_heatmap(slicer.mrmlScene, spots, chosen)
        self.panel._parameterNode.outputTable = hot.table
        self.assertIsNone(self.panel.ui.resultsTableView.mrmlTableNode())
        self.apply()
        found = self.panel._parameterNode.outputTable
        self.assertIsNot(found, hot.table)
        self.assertEqual((self.errors, [f.id for f in mrml.detected_in(found).findings]), ([], ["L1", "L2"]))
        self.assertEqual([f.id for f in mrml.detected_in(hot.table).findings], ["H1"])
        self.assertIs(mrml_heatmap.map_of(hot.table), hot.map)
        self.assertEqual(mrml.detections_of(chosen), (found,))
        # Whoever writes findings into it by a script has a table of findings.
        mrml.show_detections(slicer.mrmlScene, spots, chosen, hot.table)
        self.assertTrue(self.panel.logic.isOurs(hot.table))

    def test_choosing_an_earlier_table_shows_it_again(self):
        self.ready()
        self.apply()
        first = self.panel._parameterNode.outputTable
        self.panel._parameterNode.outputTable = None
        self.assertIsNone(self.panel.ui.resultsTableView.mrmlTableNode())
        self.panel._parameterNode.outputTable = first
        self.assertIs(self.panel.ui.resultsTableView.mrmlTableNode(), first)
        self.assertEqual(self.rowsHidden(), [False, True])

    def test_options_reach_the_command_line(self):
        self.ready()
        self.panel._parameterNode.device = module.Device.CPU
        self.panel._parameterNode.classifierFolder = "/models/second"
        self.apply()
        log = self.panel.ui.logTextEdit.plainText
        for part in (
            "arguments: detect",
            "--device cpu",
            "--threshold 0.0",
            f"--model {self.model()}",
            "--classifier /models/second",
        ):
            self.assertIn(part, log)

    def test_nothing_found_is_an_ordinary_result(self):
        self.ready("0.14")
        self.apply()
        self.assertEqual(self.errors, [])
        self.assertTrue(self.panel.ui.statusLabel.text.startswith("No lesion found."))
        self.assertEqual((count("Table"), count("MarkupsROI"), count("MarkupsFiducial")), (1, 0, 0))
        self.assertEqual(self.panel.ui.shownLabel.text, "")

    def test_the_input_is_written_beside_the_main_thread(self):
        """Writing a volume's file takes longer than a window may stand still."""
        wrote_in, make = [], self.panel.logic._child

        def child(*arguments):
            wrote_in.append(threading.get_ident())
            return make(*arguments)

        self.panel.logic._child = child
        self.ready()
        self.apply()
        self.assertEqual((self.errors, len(wrote_in)), ([], 1))
        self.assertNotEqual(wrote_in[0], threading.get_ident())

    def test_cancel_ends_it_and_changes_nothing(self):
        self.ready("0.13")
        self.apply(wait=False)
        self.until(lambda: "arguments" in self.panel.ui.logTextEdit.plainText)
        child = self.child()
        self.panel.ui.cancelButton.click()
        self.until(child.poll, timeout=5)
        self.assertEqual((self.panel.ui.statusLabel.text, count("Table"), self.errors), ("Cancelled.", 0, []))
        self.assertTrue(self.panel.ui.applyButton.enabled)

    def test_a_crash_and_a_failure_of_the_child_are_messages(self):
        for behaviour, words in (("0.11", "analysis process"), ("0.12", "the model is broken; choose another one.")):
            self.panel._parameterNode.modelFolder = self.model(behaviour)
            self.panel._parameterNode.inputVolume = volume()
            self.apply()
            self.assertIn(words, self.errors[-1])
            self.assertEqual(count("Table"), 0)

    def test_the_volume_may_be_removed_meanwhile(self):
        chosen = self.ready()
        self.apply(wait=False)
        slicer.mrmlScene.RemoveNode(chosen)
        self.until(lambda: self.panel._job is None)
        self.assertIn("removed from the scene", self.errors[0])

    def test_the_table_stays_when_a_scene_is_added(self):
        self.ready()
        self.apply()
        table = self.panel.ui.resultsTableView.mrmlTableNode()
        for state in (slicer.mrmlScene.StartState, slicer.mrmlScene.EndState):  # as importing and other modules do
            state(slicer.vtkMRMLScene.BatchProcessState)
        self.assertIsNotNone(table)
        self.assertIs(self.panel.ui.resultsTableView.mrmlTableNode(), table)

    def test_leaving_the_module_lets_the_analysis_finish(self):
        self.ready()
        self.apply(wait=False)
        self.panel.exit()
        self.until(lambda: self.panel._job is None)
        self.assertEqual((self.errors, count("Table")), ([], 1))
        table = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLTableNode")
        self.assertEqual(self.boxesShown(table), {"L1": True, "L2": False})
        self.panel.enter()
        self.assertIs(self.panel._parameterNode.outputTable, table)
        self.assertEqual(self.rowsHidden(), [False, True])


class Life(PanelCase):
    def test_results_and_slider_survive_saving_and_opening_the_scene(self):
        self.ready()
        self.apply()
        self.panel.ui.minimumScoreSlider.value = 0.4
        self.saveAndOpenScene()
        table = self.panel._parameterNode.outputTable
        self.assertAlmostEqual(self.panel.ui.minimumScoreSlider.value, 0.4)
        self.assertEqual(self.boxesShown(table), {"L1": True, "L2": False})
        self.panel.ui.minimumScoreSlider.value = 0.1
        self.assertEqual(self.boxesShown(table), {"L1": True, "L2": True})

    def test_closing_the_scene_ends_the_analysis_and_the_panel_starts_anew(self):
        self.ready("0.13")
        self.apply(wait=False)
        child = self.child()
        slicer.mrmlScene.Clear(False)
        self.until(child.poll, timeout=5)
        self.assertIsNone(self.panel._job)
        self.assertIsNone(self.panel.ui.inputSelector.currentNode())
        self.assertIsNone(self.panel.ui.resultsTableView.mrmlTableNode())

    def test_a_closed_panel_leaves_no_observer_and_reacts_no_more(self):
        other = self.openPanel()
        parameters, ui = other._parameterNode, other.ui
        self.closePanel(other)
        self.assertEqual((list(other.Observations), other._timer), ([], None))
        ui.minimumScoreSlider.value = 0.77
        self.assertNotAlmostEqual(parameters.minimumScore, 0.77)


if __name__ == "__main__":
    sys.exit("run by test_module_detect.py or run_in_slicer.py")
