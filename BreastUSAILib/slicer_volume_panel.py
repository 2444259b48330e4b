"""What the panels of modules that search an ABUS volume share: a table of findings, a score from which they are shown, a jump to each.

Slicer's side: imported by the modules alone.
"""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from . import child_detection, child_workup, mrml
from .background_child import BackgroundChild
from .errors import ImageError
from .slicer_panel import AnalysisLogic, AnalysisPanel


class VolumePanel(AnalysisPanel):
    """The panel of a module whose logic is a `VolumeLogic`.

    Its parameter node has inputVolume, outputTable, minimumScore and minimumScoreOf besides what `AnalysisPanel` asks for, its .ui file
    resultsTableView, shownLabel and optionsCollapsibleButton.

    Attributes
    ----------
    shownText : how many of all are shown, with the fields {shown} and {all}.
    """

    shownText = ""

    def __init__(self, parent=None):
        AnalysisPanel.__init__(self, parent)
        self._jobTableID = ""
        self._jobModel = ("", 0.0)  # id, and the score from which it reports by itself
        self._shown = None  # what the views and the rows stand at: table, score, and what `viewChoices` holds

    def viewChoices(self):
        """Further choices of the panel on what the views show, as a tuple."""
        return ()

    def showInViews(self, table, *choices):
        """What the views show of a table besides its findings, after `viewChoices`."""

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
        table, least, choices = self._parameterNode.outputTable, self._parameterNode.minimumScore, self.viewChoices()
        if table is not None and not self.logic.isOurs(table):
            table = None
        state = (table.GetID() if table is not None else "", least, *choices)
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
            self.showInViews(table, *choices)
        self.ui.shownLabel.text = self.shownText.format(shown=sum(shown), all=len(shown)) if shown else ""

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


class VolumeLogic(AnalysisLogic):
    """From nodes to the library and back, for a task on volumes. No GUI: it runs in a Slicer without window as well.

    Parameters
    ----------
    runner : works on a loaded volume in line, with options and progress; None: `run`.
    child : makes the job that `start` returns, of pixels, options, and what is called with progress and lines of the log.
    """

    noImage = _("Choose an ABUS volume.")

    def __init__(self, runner, child):
        AnalysisLogic.__init__(self)
        self._runner, self._child = runner or self.run, child

    def run(self, loaded, options, progress):
        """The library's work in line; `options` None: as by default."""
        raise NotImplementedError(f"{type(self).__name__} must say what it runs")

    def thresholdOf(self, entry):
        """The score from which a model of the catalogue reports by itself."""
        raise NotImplementedError(f"{type(self).__name__} must say where its findings begin")

    def words(self, study, shown):
        """The findings that are shown (a bool for each), in words."""
        raise NotImplementedError(f"{type(self).__name__} must say what it found")

    def ownThreshold(self, options):
        """Id of the model that options name, and the score from which it reports by itself. ModelError when it is not there."""
        from .models.zoo import resolve

        entry, _weights = resolve(options.model, self.task)
        return f"{entry.id} {entry.sha256[:12]}", self.thresholdOf(entry)

    def reasonAgainst(self, volume, parameterNode=None):
        reason = AnalysisLogic.reasonAgainst(self, volume, parameterNode)
        if volume is not None and reason:
            return reason
        return self.reasonAgainstModel(parameterNode) or reason

    def reasonAgainstModel(self, parameterNode):
        """Why there is no model to work with; "" when there is one or a folder was chosen."""
        if parameterNode is None or parameterNode.modelFolder or parameterNode.model or self.models():
            return ""
        from .models import catalog

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
        """Begin the work in a child process; returns the job to poll, cancel and ask for its result."""
        pixels = self.pixels(volume)  # nodes are read here and now
        return BackgroundChild(lambda: self._child(pixels, options, onProgress, onLog))

    def process(self, volume, table=None, options=None, progress=None):
        """Work on a volume in line and show what was found; returns the nodes, see `show`.

        :param table: see `show`.
        :param options: as `options` makes them of a parameter node; None: as by default.
        :param progress: called with a fraction (0 to 1) and a message.
        :raises BreastUSAIError: one sentence for the user; the scene was not changed then.
        """
        loaded = child_workup.load_input(self.pixels(volume))
        return self.show(self._runner(loaded, options, progress), volume, table)

    def summary(self, study, shown):
        """What was found, in words: the findings that are shown (a bool for each); how many are hidden is said apart, and
        whether what found them learnt from phantoms."""
        from .workup import trained_on_phantoms

        said, hidden = self.words(study, shown), len(shown) - sum(shown)
        if hidden:
            said = _("{said} Hidden below, for their lower score: {hidden}.").format(said=said, hidden=hidden)
        if trained_on_phantoms(study):
            said += " " + _("The model was trained on phantoms, not on patients.")
        return said

    def showFromScore(self, table, leastScore):
        """Show the findings that score at least this, hide the others; returns for each row whether it is shown."""
        return mrml.show_from_score(table, leastScore)

    def jumpTo(self, table, row):
        """Let all slice views show the finding in a row; returns where, world RAS mm, or None where it was deleted."""
        return mrml.jump_to_finding(table, row)
