"""The panel of BreastUSAI Heatmap: cases that run on the stand-in (test_module_heatmap.py) and in a real Slicer
(run_in_slicer.py). They use nothing that one of the two does not have.
"""

from __future__ import annotations

import functools
import json
import sys

import BreastUSAIHeatmap as module
import numpy as np
import panel_cases
import SimpleITK as sitk
import slicer
from panel_cases import STANDIN_CLI, Row, count
from standin_heat import AWAY_MM
from two_dark_boxes import FIRST, SECOND, SPACING, volume

from BreastUSAILib import mrml, mrml_grades, mrml_heatmap
from BreastUSAILib.child_heatmap import ChildHeatmap
from BreastUSAILib.findings import ImageInfo, Study

NO_MODEL = "No heatmap model is installed; train one with breastusai train heatmap, or choose a model folder."


class PanelCase(panel_cases.FolderCase):
    widget = module.BreastUSAIHeatmapWidget

    def logic(self):
        return module.BreastUSAIHeatmapLogic(childHeatmap=functools.partial(ChildHeatmap, command=STANDIN_CLI))

    def model(self, behaviour="mine", threshold=0.5):
        """A model folder as far as a panel looks at it; its name chooses what the stand-in for the command line does."""
        folder = self.folder / behaviour
        folder.mkdir(exist_ok=True)
        config = {"id": f"model {behaviour}", "version": "1", "task": "heatmap", "network": "resnet_3d.ResNet3d"}
        sizes = {"spacing": [1.0, 1.0, 1.0], "patch": [8, 8, 8], "crop": [4, 4, 4]}
        config |= {"arguments": {}, "preprocessing": sizes, "file": "model.safetensors", "sha256": "0" * 64}
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
        self.assertTrue(ui.showMapCheckBox.checked)
        self.assertAlmostEqual(ui.mapOpacitySlider.value, 0.3)
        parameters.inputVolume = volume()
        parameters.minimumScore, parameters.mapOpacity, parameters.leastHeat = 0.35, 0.6, 0.25
        parameters.showMap = False
        parameters.device = module.Device.CPU
        parameters.modelFolder = "/models/mine"
        self.assertIs(ui.inputSelector.currentNode(), parameters.inputVolume)
        sliders = (ui.minimumScoreSlider, ui.mapOpacitySlider, ui.leastHeatSlider)
        for slider, expected in zip(sliders, (0.35, 0.6, 0.25), strict=True):
            self.assertAlmostEqual(slider.value, expected)
        self.assertFalse(ui.showMapCheckBox.checked)
        self.assertEqual(ui.modelFolderEdit.currentPath, "/models/mine")
        options = self.panel.logic.options(parameters)
        self.assertEqual((options.model, options.device), ("/models/mine", "cpu"))
        self.assertEqual((options.threshold, options.maximum), (0.0, None))  # all: the slider chooses
        ui.mapOpacitySlider.value = 0.1
        ui.leastHeatSlider.value = 0.5
        self.assertAlmostEqual(parameters.mapOpacity, 0.1)
        self.assertAlmostEqual(parameters.leastHeat, 0.5)

    def test_every_parameter_has_its_widget(self):
        bound = {w.property("SlicerParameterName") for w in vars(self.panel.ui).values()} - {None, ""}
        mine = {"inputVolume", "outputTable", "showMap", "mapOpacity", "leastHeat", "minimumScore", "device"}
        self.assertEqual(bound, mine)
        self.assertTrue(hasattr(self.panel.ui, "modelFolderEdit"))


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
        ui.modelFolderEdit.currentPath = self.model()
        self.assertTrue(ui.applyButton.enabled)
        self.assertEqual(ui.statusLabel.text, "")

    def test_a_2d_image_is_refused_with_what_to_use_instead(self):
        image = sitk.Image((40, 20, 1), sitk.sitkUInt8)
        image.SetSpacing(SPACING)
        self.panel._parameterNode.inputVolume = mrml.add_volume(slicer.mrmlScene, image, "flat")
        self.assertFalse(self.panel.ui.applyButton.enabled)
        self.assertIn("Grade it with BreastUSAI Grade", self.panel.ui.statusLabel.text)


class Running(PanelCase):
    def view(self, chosen):
        """A slice view that shows the volume, as Slicer's layout would."""
        view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode", "Red")
        view.SetBackgroundVolumeID(chosen.GetID())
        return view

    def test_apply_shows_map_and_hot_spots(self):
        chosen = self.ready()
        view = self.view(chosen)
        self.apply()
        self.assertEqual(self.errors, [])
        self.assertEqual(
            self.panel.ui.statusLabel.text,
            "1 hot spot found. Hidden below, for their lower score: 1. Searched in one piece.",
        )
        table = self.panel._parameterNode.outputTable
        heat = mrml_heatmap.map_of(table)
        self.assertEqual(heat.GetName(), "case 1 heatmap")
        self.assertEqual(
            (view.GetForegroundVolumeID(), heat.GetImageData().GetScalarRange()), (heat.GetID(), (0.0, 1.5))
        )
        self.assertAlmostEqual(view.GetForegroundOpacity(), 0.3)
        self.assertEqual(self.boxesShown(table), {"H1": True, "H2": False})
        self.assertEqual(table.GetTable().GetColumnByName("heat_peak").GetValue(0), 1.5)
        # Points are the hottest places: LPS, of which RAS turns the first two.
        points = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLMarkupsFiducialNode")
        away = np.multiply(AWAY_MM, (-1, -1, 1))
        for index, middle in enumerate((FIRST, SECOND)):
            position = [0.0, 0.0, 0.0]
            points.GetNthControlPointPositionWorld(index, position)
            np.testing.assert_allclose(position, np.add(middle, away), atol=1e-6)

    def test_the_map_is_laid_over_faded_and_taken_away_without_computing(self):
        chosen = self.ready()
        view = self.view(chosen)
        self.apply()
        ui, heat = self.panel.ui, mrml_heatmap.map_of(self.panel._parameterNode.outputTable)
        self.panel.logic.start = lambda *_: self.fail("was computed again")
        ui.mapOpacitySlider.value = 0.8
        self.assertAlmostEqual(view.GetForegroundOpacity(), 0.8)
        ui.leastHeatSlider.value = 0.6
        self.assertAlmostEqual(heat.GetDisplayNode().GetLowerThreshold(), 0.6)
        self.assertGreater(heat.GetDisplayNode().GetUpperThreshold(), 1.5)  # the hottest stay
        ui.showMapCheckBox.checked = False
        self.assertIsNone(view.GetForegroundVolumeID())
        ui.showMapCheckBox.checked = True
        self.assertEqual(view.GetForegroundVolumeID(), heat.GetID())

    def test_of_a_graded_2d_image_where_its_networks_looked_is_shown(self):
        image = sitk.GetImageFromArray(np.full((1, 20, 40), 90, np.uint8))
        image.SetSpacing(SPACING)
        flat = mrml.add_volume(slicer.mrmlScene, image, "flat")
        activation = sitk.GetImageFromArray(np.linspace(0, 100, 800, dtype=np.float32).reshape(1, 20, 40))
        activation.CopyInformation(image)
        study = Study(ImageInfo.of(image, "flat.nrrd"), (), activation=activation)
        nodes = mrml_grades.show_grades(slicer.mrmlScene, study, flat)
        view = self.view(flat)
        ui, parameters = self.panel.ui, self.panel._parameterNode
        parameters.inputVolume = flat
        self.panel.enter()
        self.assertFalse(ui.applyButton.enabled)
        self.assertIn("the map over it is of where the networks looked that graded it", ui.statusLabel.text)
        self.assertEqual(view.GetForegroundVolumeID(), nodes.activation.GetID())
        self.assertAlmostEqual(view.GetForegroundOpacity(), parameters.mapOpacity)
        ui.leastHeatSlider.value = 0.4
        self.assertAlmostEqual(nodes.activation.GetDisplayNode().GetLowerThreshold(), 40.0)
        ui.mapOpacitySlider.value = 0.7
        self.assertAlmostEqual(view.GetForegroundOpacity(), 0.7)
        ui.showMapCheckBox.checked = False
        self.assertIsNone(view.GetForegroundVolumeID())

    def test_the_slider_hides_and_shows_hot_spots(self):
        self.ready()
        self.apply()
        ui, table = self.panel.ui, self.panel._parameterNode.outputTable
        for score, shown in ((0.2, [True, True]), (0.95, [False, False]), (0.9, [True, False])):
            ui.minimumScoreSlider.value = score
            self.assertEqual(self.boxesShown(table), dict(zip(("H1", "H2"), shown, strict=True)))
            self.assertEqual(self.rowsHidden(), [not s for s in shown])
            self.assertEqual(ui.shownLabel.text, f"{sum(shown)} of 2 hot spots shown.")

    def test_a_click_on_a_row_takes_all_slice_views_there(self):
        view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", "A")
        view.SetOrientationToAxial()
        self.ready()
        self.apply()
        for row, expected in enumerate((FIRST, SECOND)):
            self.panel.onRow(Row(row))
            matrix = view.GetSliceToRAS()
            np.testing.assert_allclose([matrix.GetElement(i, 3) for i in range(3)], expected, atol=1e-4)

    def test_a_second_run_replaces_the_first_and_other_tables_are_left_alone(self):
        self.ready()
        self.apply()
        table = self.panel._parameterNode.outputTable
        first = mrml_heatmap.map_of(table)
        self.apply()
        self.assertIs(self.panel._parameterNode.outputTable, table)
        self.assertIsNot(mrml_heatmap.map_of(table), first)
        self.assertEqual([count(k) for k in ("MarkupsROI", "MarkupsFiducial", "Table")], [2, 1, 1])
        self.assertEqual(count("ScalarVolume"), 2)  # the volume and one map
        # What Detect found in this volume is not replaced.
        found = mrml.show_detections(slicer.mrmlScene, mrml.detected_in(table), self.panel._parameterNode.inputVolume)
        self.panel._parameterNode.outputTable = found.table
        self.assertIsNone(self.panel.ui.resultsTableView.mrmlTableNode())
        self.apply()
        self.assertIsNot(self.panel._parameterNode.outputTable, found.table)
        self.assertEqual((self.errors, count("Table")), ([], 3))

    def test_options_reach_the_command_line(self):
        self.ready()
        self.panel._parameterNode.device = module.Device.CPU
        self.apply()
        log = self.panel.ui.logTextEdit.plainText
        for part in ("arguments: heatmap", "--device cpu", "--threshold 0.0", f"--model {self.model()}"):
            self.assertIn(part, log)

    def test_nothing_found_is_an_ordinary_result_and_a_failure_a_message(self):
        self.ready("0.14")
        self.apply()
        self.assertEqual(self.errors, [])
        self.assertTrue(self.panel.ui.statusLabel.text.startswith("No hot spot found."))
        self.assertEqual((count("Table"), count("MarkupsROI"), count("ScalarVolume")), (1, 0, 2))
        self.panel._parameterNode.modelFolder = self.model("0.12")
        self.apply()
        self.assertIn("the model is broken; choose another one.", self.errors[-1])

    def test_results_map_and_sliders_survive_saving_and_opening_the_scene(self):
        self.ready()
        self.apply()
        self.panel.ui.minimumScoreSlider.value = 0.4
        self.panel.ui.mapOpacitySlider.value = 0.55
        self.saveAndOpenScene()
        table = self.panel._parameterNode.outputTable
        self.assertTrue(self.panel.logic.isOurs(table))
        self.assertAlmostEqual(self.panel.ui.mapOpacitySlider.value, 0.55)
        self.assertEqual(self.boxesShown(table), {"H1": True, "H2": False})
        self.panel.ui.minimumScoreSlider.value = 0.1
        self.assertEqual(self.boxesShown(table), {"H1": True, "H2": True})


if __name__ == "__main__":
    sys.exit("run by test_module_heatmap.py or run_in_slicer.py")
