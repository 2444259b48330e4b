"""The Slicer module BreastUSAI Detect: finds lesions in an automated breast ultrasound (ABUS) volume.

The work is BreastUSAILib's; here are the panel, and the logic that carries nodes to the library and back.
"""

import importlib.util
import logging
import sys
from dataclasses import replace
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

from BreastUSAILib import RESEARCH_USE, child_detection, child_workup, mrml
from BreastUSAILib.errors import ImageError
from BreastUSAILib.slicer_panel import AnalysisLogic, AnalysisPanel, Device


class BreastUSAIDetect(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("BreastUSAI Detect")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Ultrasound")]
        self.parent.dependencies = []
        self.parent.contributors = ["The BreastUSAI contributors"]
        self.parent.helpText = (
            _(
                "Finds lesions in an automated breast ultrasound (ABUS) volume and says how suspicious each is. Choose the "
                "volume and press Apply: boxes, centres and a table of findings appear beside it. The slider hides "
                "findings of low score; a click on a row takes all slice views to the finding."
            )
            + f"<p><b>{RESEARCH_USE}</b></p>"
        )
        self.parent.acknowledgementText = _(
            "After Yu et al., Computer-aided tumor diagnosis in automated breast ultrasound using 3D detection network, "
            "MICCAI 2020."
        )


@parameterNodeWrapper
class BreastUSAIDetectParameterNode:
    """The panel's state, kept in the scene.

    inputVolume - the volume.
    outputTable - the table of findings, with which boxes and points go; None makes a new one.
    minimumScore - findings that score less are hidden.
    minimumScoreOf - the model whose own threshold that was set to, so that a person's choice lasts from run to run.
    device - see the workup's options.
    model - id in the catalogue; "": the default.
    modelFolder, classifierFolder - the user's own models; "": none.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    outputTable: vtkMRMLTableNode
    minimumScore: Annotated[float, WithinRange(0.0, 1.0)] = 0.0
    minimumScoreOf: str = ""
    device: Device = Device.AUTO
    model: str = ""
    modelFolder: str = ""
    classifierFolder: str = ""


class BreastUSAIDetectWidget(AnalysisPanel):
    """The panel."""

    applyToolTip = _("Find the lesions of the volume.")
    folders = ("modelFolder", "classifierFolder")

    def __init__(self, parent=None):
        AnalysisPanel.__init__(self, parent)
        self._jobTableID = ""
        self._jobModel = ("", 0.0)  # id, and the score from which it reports by itself
        self._shown = None  # table and score that the views and the rows stand at

    def makeLogic(self):
        return BreastUSAIDetectLogic()

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
        """The chosen table below, and of its findings those that score enough, there and in the views."""
        table, least = self._parameterNode.outputTable, self._parameterNode.minimumScore
        if table is not None and not self.logic.isOurs(table):
            table = None
        state = (table.GetID() if table is not None else "", least)
        if self._shown == state:
            return
        self._shown = state
        view = self.ui.resultsTableView
        if view.mrmlTableNode() is not table:
            view.setMRMLTableNode(table)
        shown = self.logic.showFromScore(table, least) if table is not None else ()
        for row, visible in enumerate(shown):
            view.setRowHidden(row, not visible)
        self.ui.shownLabel.text = _("{shown} of {all} findings shown.").format(shown=sum(shown), all=len(shown)) if shown else ""

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


class BreastUSAIDetectLogic(AnalysisLogic):
    """From nodes to the library and back. No GUI: it runs in a Slicer without window as well.

    Parameters
    ----------
    runner : detects in a loaded volume in line; `BreastUSAILib.workup.run_detection` by default.
    childDetection : makes the job that `start` returns; `BreastUSAILib.child_detection.ChildDetection` by default.
    """

    task = "detect"
    noImage = _("Choose an ABUS volume.")

    def __init__(self, runner=None, childDetection=None):
        AnalysisLogic.__init__(self)
        self._runner = runner
        self._childDetection = childDetection or child_detection.ChildDetection

    def getParameterNode(self):
        return BreastUSAIDetectParameterNode(super().getParameterNode())

    def options(self, parameterNode):
        """The options of the detection that the parameters mean: all candidates, as the slider hides and shows them."""
        from BreastUSAILib.workup import DetectionOptions

        return DetectionOptions(
            model=parameterNode.modelFolder or parameterNode.model,
            classifier=parameterNode.classifierFolder,
            device=parameterNode.device.value,
            threshold=0.0,
        )

    def ownThreshold(self, options):
        """Id of the model that options name, and the score from which it reports by itself. ModelError when it is not there."""
        from BreastUSAILib.detect import DetectOptions
        from BreastUSAILib.models.zoo import resolve

        entry, _weights = resolve(options.model, self.task)
        return f"{entry.id} {entry.sha256[:12]}", DetectOptions().threshold_of(entry)

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
        """Begin the detection in a child process; returns the job to poll, cancel and ask for its result."""
        return self._childDetection(self.pixels(volume), options, onProgress, onLog)

    def process(self, volume, table=None, options=None, progress=None):
        """Detect in a volume in line and show what was found; returns the nodes (`mrml.DetectionNodes`).

        :param table: see `show`.
        :param options: `BreastUSAILib.workup.DetectionOptions`.
        :param progress: called with a fraction (0 to 1) and a message.
        :raises BreastUSAIError: one sentence for the user; the scene was not changed then.
        """
        from BreastUSAILib.workup import DetectionOptions, run_detection

        loaded = child_workup.load_input(self.pixels(volume))
        study = (self._runner or run_detection)(loaded, options or DetectionOptions(), progress)
        return self.show(study, volume, table)

    def show(self, study, volume, table=None):
        """The nodes of a study; a word to the log.

        :param table: of findings; what was found in this volume before is replaced. None makes a new one, and so does one
            that holds anything else.
        """
        if table is not None and mrml.holds_other_detections(table, volume):
            table = None
        nodes = mrml.show_detections(volume.GetScene(), study, volume, table)
        logging.info("BreastUSAI Detect, %s: %s", volume.GetName(), study.summary)
        return nodes

    def summary(self, study, shown):
        """What was found, in words: the findings that are shown (a bool for each); how many are hidden is said apart, and
        whether what found them learnt from phantoms."""
        from BreastUSAILib.workup import trained_on_phantoms

        kept = replace(study, findings=tuple(f for f, s in zip(study.findings, shown, strict=True) if s))
        said, hidden = kept.summary, len(shown) - sum(shown)
        if hidden:
            said = _("{summary} Hidden below, for their lower score: {hidden}.").format(summary=said, hidden=hidden)
        if trained_on_phantoms(study):
            said += " " + _("The model was trained on phantoms, not on patients.")
        return said

    def isOurs(self, table):
        """Whether a table was made by `show`."""
        return table.GetAttribute(mrml.STUDY) is not None

    def showFromScore(self, table, leastScore):
        """Show the findings that score at least this, hide the others; returns for each row whether it is shown."""
        return mrml.show_from_score(table, leastScore)

    def jumpTo(self, table, row):
        """Let all slice views show the finding in a row; returns where, world RAS mm, or None where it was deleted."""
        return mrml.jump_to_finding(table, row)


class BreastUSAIDetectTest(ScriptedLoadableModuleTest):
    """The self-test: what the module shows and hides, and what it refuses; it needs no model and no further packages."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self, **kwargs):
        for test in (self.test_findingsAreShownAndHidden, self.test_imagesOfOneSlice):
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

    def twoFindings(self, loaded, options, progress):
        """Stands for a model: two findings in any volume."""
        from BreastUSAILib.findings import Finding, Study
        from BreastUSAILib.grid import index_box

        boxes = [index_box(loaded.image, start, (12, 10, 8)) for start in ((20, 8, 6), (70, 25, 20))]
        findings = [Finding(f"L{i}", box, s, 0.4) for i, box, s in zip((1, 2), boxes, (0.9, 0.3), strict=True)]
        return Study(loaded.info, tuple(findings))

    def test_findingsAreShownAndHidden(self):
        self.delayDisplay("Findings are shown, hidden, and jumped to")
        volume = self.syntheticVolume()
        logic = BreastUSAIDetectLogic(runner=self.twoFindings)
        nodes = logic.process(volume)
        self.assertEqual((len(nodes.boxes), nodes.table.GetNumberOfRows()), (2, 2))
        self.assertEqual(logic.showFromScore(nodes.table, 0.5), (True, False))
        self.assertEqual([bool(box.GetDisplayNode().GetVisibility()) for box in nodes.boxes], [True, False])
        self.assertEqual(logic.showFromScore(nodes.table, 0.0), (True, True))
        # The middle of voxels 20 to 31, 8 to 17 and 6 to 13 of a volume whose first axes point to the left and backwards.
        where = logic.jumpTo(nodes.table, 0)
        for found, expected in zip(where, (-25.5 * 1.2, -12.5 * 0.9, 9.5 * 1.5), strict=True):
            self.assertAlmostEqual(found, expected, delta=1e-4)

    def test_imagesOfOneSlice(self):
        self.delayDisplay("A 2D image is refused, with what to use instead")
        with self.assertRaisesRegex(ImageError, "BreastUSAI Segment"):
            BreastUSAIDetectLogic().process(self.syntheticVolume(slices=1))
