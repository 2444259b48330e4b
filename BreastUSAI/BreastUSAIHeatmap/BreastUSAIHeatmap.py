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

from BreastUSAILib import RESEARCH_USE, child_detection, child_heatmap, child_workup, mrml, mrml_heatmap, mrml_overlay
from BreastUSAILib.errors import ImageError
from BreastUSAILib.slicer_panel import AnalysisLogic, AnalysisPanel, Device


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
                "is a place to look at, not the outline of a lesion; a click on a row takes all slice views there."
            )
            + f"<p><b>{RESEARCH_USE}</b></p>"
        )
        self.parent.acknowledgementText = _(
            "Grad-CAM after Selvaraju et al., Grad-CAM: Visual explanations from deep networks via gradient-based "
            "localization, ICCV 2017."
        )


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


class BreastUSAIHeatmapWidget(AnalysisPanel):
    """The panel."""

    applyToolTip = _("Map what in the volume speaks for a lesion.")

    def __init__(self, parent=None):
        AnalysisPanel.__init__(self, parent)
        self._jobTableID = ""
        self._jobModel = ("", 0.0)  # id, and the score from which it reports by itself
        self._shown = None  # table, score and map that the views and the rows stand at

    def makeLogic(self):
        return BreastUSAIHeatmapLogic()

    def setup(self):
        AnalysisPanel.setup(self)
        # Without a model of its own, the module waits for one to be chosen.
        self.ui.optionsCollapsibleButton.collapsed = bool(self.logic.models())
        for signal in ("clicked(QModelIndex)", "activated(QModelIndex)"):
            self.ui.resultsTableView.connect(signal, self.onRow)

    def setParameterNode(self, parameterNode):
        self._shown = None
        AnalysisPanel.setParameterNode(self, parameterNode)

    def updatePanel(self):
        AnalysisPanel.updatePanel(self)
        if self._parameterNode is not None:
            self.showFindings()

    def showFindings(self):
        """The chosen table below, and of its hot spots those that score enough, there and in the views; the map over the volume."""
        parameters = self._parameterNode
        table, least = parameters.outputTable, parameters.minimumScore
        opacity, heat = parameters.mapOpacity if parameters.showMap else None, parameters.leastHeat
        if table is not None and not self.logic.isOurs(table):
            table = None
        state = (table.GetID() if table is not None else "", least, opacity, heat)
        if self._shown == state:
            return
        self._shown = state
        view = self.ui.resultsTableView
        if view.mrmlTableNode() is not table:
            view.setMRMLTableNode(table)
        shown = self.logic.showFromScore(table, least) if table is not None else ()
        for row, visible in enumerate(shown):
            view.setRowHidden(row, not visible)
        if table is not None:
            self.logic.showMap(table, opacity, heat)
        self.ui.shownLabel.text = _("{shown} of {all} hot spots shown.").format(shown=sum(shown), all=len(shown)) if shown else ""

    def onRow(self, index):
        if self._parameterNode is not None and self._parameterNode.outputTable is not None:
            self.logic.jumpTo(self._parameterNode.outputTable, index.row())

    def beginJob(self, volume):
        table = self._parameterNode.outputTable
        self._jobTableID = table.GetID() if table is not None else ""
        options = self.logic.options(self._parameterNode)
        self._jobModel = self.logic.ownThreshold(options)
        return self.logic.start(volume, options, self.onProgress, self.ui.logTextEdit.appendPlainText)

    def finishJob(self, study, volume):
        table = slicer.mrmlScene.GetNodeByID(self._jobTableID) if self._jobTableID else None
        nodes = self.logic.show(study, volume, table)
        self._shown = None  # a table that was chosen before has new rows
        parameters = self._parameterNode if self._parameterNode is not None else self.logic.getParameterNode()
        modelId, threshold = self._jobModel
        if parameters.minimumScoreOf != modelId:
            parameters.minimumScoreOf, parameters.minimumScore = modelId, threshold
        # Another run on this volume replaces this result instead of adding a second one.
        parameters.outputTable = nodes.table
        shown = self.logic.showFromScore(nodes.table, parameters.minimumScore)
        self.showTable(nodes.table, study, self.logic.summary(study, shown))
        self.updatePanel()


class BreastUSAIHeatmapLogic(AnalysisLogic):
    """From nodes to the library and back. No GUI: it runs in a Slicer without window as well.

    Parameters
    ----------
    runner : maps a loaded volume in line; `BreastUSAILib.workup.run_heatmap` by default.
    childHeatmap : makes the job that `start` returns; `BreastUSAILib.child_heatmap.ChildHeatmap` by default.
    """

    task = "heatmap"
    noImage = _("Choose an ABUS volume.")

    def __init__(self, runner=None, childHeatmap=None):
        AnalysisLogic.__init__(self)
        self._runner = runner
        self._childHeatmap = childHeatmap or child_heatmap.ChildHeatmap

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

    def ownThreshold(self, options):
        """Id of the model that options name, and the score from which it reports by itself. ModelError when it is not there."""
        from BreastUSAILib.heatmap import HeatOptions
        from BreastUSAILib.models.zoo import resolve

        entry, _weights = resolve(options.model, self.task)
        return f"{entry.id} {entry.sha256[:12]}", HeatOptions().threshold_of(entry)

    def reasonAgainst(self, volume, parameterNode=None):
        reason = AnalysisLogic.reasonAgainst(self, volume, parameterNode)
        if volume is not None and reason:
            return reason
        return self.reasonAgainstModel(parameterNode) or reason

    def reasonAgainstModel(self, parameterNode):
        """Why there is no model to work with; "" when there is one or a folder was chosen."""
        if parameterNode is None or parameterNode.modelFolder or parameterNode.model or self.models():
            return ""
        from BreastUSAILib.models import catalog

        return catalog.no_model(self.task)

    def isWorthSaying(self, volume, parameterNode):
        return volume is not None or bool(self.reasonAgainstModel(parameterNode))

    def reasonAgainstSize(self, size, volume):
        return child_detection.reason_against_volume(size, self.spacingKnown(volume), volume.GetName())

    def spacingKnown(self, volume):
        """Whether the volume's millimetres may be real."""
        return mrml.volume_spacing_known(volume)

    def pixels(self, volume):
        """The volume as the library takes it. ImageError when it is not a volume of several slices."""
        reason = self.reasonAgainst(volume)
        if reason:
            raise ImageError(reason)
        return child_detection.AbusPixels(mrml.image_from_volume(volume), volume.GetName(), self.spacingKnown(volume))

    def start(self, volume, options, onProgress=None, onLog=None):
        """Begin the mapping in a child process; returns the job to poll, cancel and ask for its result."""
        return self._childHeatmap(self.pixels(volume), options, onProgress, onLog)

    def process(self, volume, table=None, options=None, progress=None):
        """Map a volume in line and show what was found; returns the nodes (`mrml_heatmap.HeatNodes`).

        :param table: see `show`.
        :param options: `BreastUSAILib.workup.HeatmapOptions`.
        :param progress: called with a fraction (0 to 1) and a message.
        :raises BreastUSAIError: one sentence for the user; the scene was not changed then.
        """
        from BreastUSAILib.workup import HeatmapOptions, run_heatmap

        loaded = child_workup.load_input(self.pixels(volume))
        study = (self._runner or run_heatmap)(loaded, options or HeatmapOptions(), progress)
        return self.show(study, volume, table)

    def show(self, study, volume, table=None):
        """The nodes of a study; a word to the log.

        :param table: of hot spots; what was found in this volume before is replaced. None makes a new one, and so does one
            that holds anything else.
        """
        if table is not None and (mrml.holds_other_detections(table, volume) or not self.isOurs(table)):
            table = None
        nodes = mrml_heatmap.show_heatmap(volume.GetScene(), study, volume, table)
        logging.info("BreastUSAI Heatmap, %s: %s hot spots.", volume.GetName(), len(study.findings))
        return nodes

    def summary(self, study, shown):
        """What was found, in words: how many hot spots are shown (a bool for each) and how many hidden, and whether what found them
        learnt from phantoms."""
        from BreastUSAILib.workup import trained_on_phantoms

        found, hidden = sum(shown), len(shown) - sum(shown)
        said = _("{found} hot spots found.").format(found=found) if found != 1 else _("1 hot spot found.")
        said = said if found else _("No hot spot found.")
        if hidden:
            said = _("{said} Hidden below, for their lower score: {hidden}.").format(said=said, hidden=hidden)
        if trained_on_phantoms(study):
            said += " " + _("The model was trained on phantoms, not on patients.")
        return said

    def isOurs(self, table):
        """Whether a table was made by `show`."""
        return mrml_heatmap.is_heatmap(table)

    def showMap(self, table, opacity, leastHeat):
        """Let the slice views that show the volume show its map over it; opacity None: no more."""
        mrml_heatmap.show_map(table, opacity, leastHeat)

    def showFromScore(self, table, leastScore):
        """Show the hot spots that score at least this, hide the others; returns for each row whether it is shown."""
        return mrml.show_from_score(table, leastScore)

    def jumpTo(self, table, row):
        """Let all slice views show the hot spot in a row; returns where, world RAS mm, or None where it was deleted."""
        return mrml.jump_to_finding(table, row)


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
        with self.assertRaisesRegex(ImageError, "BreastUSAI Segment"):
            BreastUSAIHeatmapLogic().process(self.syntheticVolume(slices=1))
