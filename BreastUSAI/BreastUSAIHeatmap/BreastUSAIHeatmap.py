"""The Slicer module BreastUSAI Heatmap: what in an automated breast ultrasound (ABUS) volume speaks for a lesion.

The work is BreastUSAILib's; here are the panel, and the logic that carries nodes to the library and back.
"""

import importlib.util
import logging
import sys
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

from BreastUSAILib import RESEARCH_USE, child_heatmap, mrml, mrml_grades, mrml_heatmap, mrml_overlay, slicer_resume
from BreastUSAILib.errors import ImageError
from BreastUSAILib.slicer_panel import Device
from BreastUSAILib.slicer_volume_panel import VolumeLogic, VolumePanel


class BreastUSAIHeatmap(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("BreastUSAI Heatmap")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Ultrasound")]
        self.parent.dependencies = []
        self.parent.contributors = ["The BreastUSAI contributors"]
        self.parent.helpText = (
            _(
                "Maps what in an automated breast ultrasound (ABUS) volume speaks for a lesion. Choose the volume and press "
                "Apply: the map lies over it in colours, and its hot spots appear as boxes, points and a table. A hot spot "
                "is a place to look at, not the outline of a lesion; a click on a row takes all slice views there. Of a 2D image that "
                "was graded, the map of where the grading networks looked is shown."
            )
            + f"<p><b>{RESEARCH_USE}</b></p>"
        )
        self.parent.acknowledgementText = _(
            "Grad-CAM after Selvaraju et al., Grad-CAM: Visual explanations from deep networks via gradient-based "
            "localization, ICCV 2017."
        )
        slicer_resume.offer_after_start("BreastUSAIHeatmap", self.parent.title)


@parameterNodeWrapper
class BreastUSAIHeatmapParameterNode:
    """The panel's state, kept in the scene.

    inputVolume - the volume.
    outputTable - the table of hot spots, with which map, boxes and points go; None makes a new one.
    showMap, mapOpacity, leastHeat - whether slice views show the map over the volume, how strongly, and from which heat on.
    minimumScore - hot spots that score less are hidden.
    minimumScoreOf - the model whose own threshold that was set to, so that a person's choice lasts from run to run.
    device - see the workup's options.
    model - id in the catalogue; "": the default.
    modelFolder - the user's own model; "": none.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    outputTable: vtkMRMLTableNode
    showMap: bool = True
    mapOpacity: Annotated[float, WithinRange(0.0, 1.0)] = mrml_overlay.OPACITY
    leastHeat: Annotated[float, WithinRange(0.0, 1.0)] = mrml_heatmap.LEAST_HEAT
    minimumScore: Annotated[float, WithinRange(0.0, 1.0)] = 0.0
    minimumScoreOf: str = ""
    device: Device = Device.AUTO
    model: str = ""
    modelFolder: str = ""


class BreastUSAIHeatmapWidget(VolumePanel):
    """The panel."""

    applyToolTip = _("Map what in the volume speaks for a lesion.")
    shownText = _("{shown} of {all} hot spots shown.")

    def makeLogic(self):
        return BreastUSAIHeatmapLogic()

    def viewChoices(self):
        parameters = self._parameterNode
        return (parameters.mapOpacity if parameters.showMap else None, parameters.leastHeat)

    def showInViews(self, table, opacity, leastHeat):
        self.logic.showMap(table, opacity, leastHeat)

    def showFindings(self):
        """Of a 2D image, that has no hot spots: where the networks that graded it looked."""
        VolumePanel.showFindings(self)
        volume = self._parameterNode.inputVolume
        if volume is not None:
            self.logic.showActivation(volume, *self.viewChoices())


class BreastUSAIHeatmapLogic(VolumeLogic):
    """From nodes to the library and back.

    Parameters
    ----------
    runner : maps a loaded volume in line; `BreastUSAILib.workup.run_heatmap` by default.
    childHeatmap : makes the job that `start` returns; `BreastUSAILib.child_heatmap.ChildHeatmap` by default.
    """

    task = "heatmap"

    def __init__(self, runner=None, childHeatmap=None):
        VolumeLogic.__init__(self, runner, childHeatmap or child_heatmap.ChildHeatmap)

    def getParameterNode(self):
        return BreastUSAIHeatmapParameterNode(super().getParameterNode())

    def options(self, parameterNode):
        """The options that the parameters mean: all hot spots, as the slider hides and shows them."""
        from BreastUSAILib.workup import HeatmapOptions

        return HeatmapOptions(
            model=parameterNode.modelFolder or parameterNode.model,
            device=parameterNode.device.value,
            threshold=0.0,
        )

    def run(self, loaded, options, progress):
        from BreastUSAILib.workup import HeatmapOptions, run_heatmap

        return run_heatmap(loaded, options or HeatmapOptions(), progress)

    def thresholdOf(self, entry):
        from BreastUSAILib.heatmap import HeatOptions

        return HeatOptions().threshold_of(entry)

    def show(self, study, volume, table=None):
        """The nodes of a study (`mrml_heatmap.HeatNodes`); a word to the log.

        :param table: of hot spots; what was found in this volume before is replaced. None makes a new one, and so does one
            that holds anything else.
        """
        if table is not None and (mrml.holds_other_detections(table, volume) or not self.isOurs(table)):
            table = None
        nodes = mrml_heatmap.show_heatmap(volume.GetScene(), study, volume, table)
        logging.info("BreastUSAI Heatmap, %s: %s hot spots.", volume.GetName(), len(study.findings))
        return nodes

    def words(self, study, shown):
        found = sum(shown)
        if not found:
            return _("No hot spot found.")
        return _("{found} hot spots found.").format(found=found) if found > 1 else _("1 hot spot found.")

    def isOurs(self, table):
        """Whether a table was made by `show`."""
        return mrml_heatmap.is_heatmap(table)

    def showMap(self, table, opacity, leastHeat):
        """Let the slice views that show the volume show its map over it; opacity None: no more."""
        mrml_heatmap.show_map(table, opacity, leastHeat)


    def reasonAgainstSize(self, size, volume):
        if min(size, default=0) != 1:
            return VolumeLogic.reasonAgainstSize(self, size, volume)
        if mrml_overlay.map_over(volume) is not None:
            said = _("{name} is a 2D image: the map over it is of where the networks looked that graded it. Hot spots are those of ABUS volumes.")
        else:
            said = _("{name} is a 2D image; hot spots are those of ABUS volumes. Grade it with BreastUSAI Grade, which maps where its networks look.")
        return said.format(name=volume.GetName())

    def showActivation(self, image, opacity, least):
        """Let the slice views that show a 2D image show where the networks looked that graded it (`mrml_grades.show_activation`)."""
        return mrml_grades.show_activation(image, opacity, least)


class BreastUSAIHeatmapTest(ScriptedLoadableModuleTest):
    """The self-test: what the module shows and hides, and what it refuses; it needs no model and no further packages."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self, **kwargs):
        for test in (self.test_aMapIsShown, self.test_imagesOfOneSlice):
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

    def twoSpots(self, loaded, options, progress):
        """Stands for a model: two hot spots in any volume, and a map that is as warm as their scores there."""
        import numpy as np
        import SimpleITK as sitk

        from BreastUSAILib.findings import Finding, Study
        from BreastUSAILib.grid import index_box

        heat = np.zeros(loaded.image.GetSize()[::-1], np.float32)
        findings = []
        for number, (start, score) in enumerate((((20, 8, 6), 0.9), ((70, 25, 20), 0.3)), 1):
            x, y, z = start
            heat[z : z + 8, y : y + 10, x : x + 12] = score
            findings.append(Finding(f"H{number}", index_box(loaded.image, start, (12, 10, 8)), score))
        image = sitk.GetImageFromArray(heat)
        image.CopyInformation(loaded.image)
        return Study(loaded.info, tuple(findings), heatmap=image)

    def test_aMapIsShown(self):
        self.delayDisplay("A map is laid over its volume; its hot spots are shown, hidden, and jumped to")
        volume = self.syntheticVolume()
        logic = BreastUSAIHeatmapLogic(runner=self.twoSpots)
        nodes = logic.process(volume)
        self.assertEqual((len(nodes.boxes), nodes.table.GetNumberOfRows()), (2, 2))
        self.assertEqual(nodes.map.GetImageData().GetDimensions(), volume.GetImageData().GetDimensions())
        self.assertEqual(logic.showFromScore(nodes.table, 0.5), (True, False))
        # The middle of voxels 20 to 31, 8 to 17 and 6 to 13 of a volume whose first axes point to the left and backwards.
        where = logic.jumpTo(nodes.table, 0)
        for found, expected in zip(where, (-25.5 * 1.2, -12.5 * 0.9, 9.5 * 1.5), strict=True):
            self.assertAlmostEqual(found, expected, delta=1e-4)

    def test_imagesOfOneSlice(self):
        self.delayDisplay("A 2D image is refused, with what to use instead")
        with self.assertRaisesRegex(ImageError, "BreastUSAI Grade"):
            BreastUSAIHeatmapLogic().process(self.syntheticVolume(slices=1))
