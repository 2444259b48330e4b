"""Reports of a panel's findings: their folder, a thread that writes them, and the button that opens them.

Imported by the Slicer modules only: it needs Slicer's Qt.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import qt
from slicer.i18n import tr as _

from . import mrml_workup
from .background import BackgroundTask
from .errors import DataError
from .review_report import report_folder, with_pixels, write_reviewed
from .slicer_panel import told
from .slicer_workup_rows import positioner

_POLL_MS = 30  # often: in Slicer a thread works while it is polled (`background`)


class Written(NamedTuple):
    """A report that was written, and the folders of its name that hold reports of other images and stay as they are."""

    report: Path
    others: tuple[Path, ...] = ()


def start_export(results, parameters, folder):
    """Begin to write the reports of some results, with all files of a run; returns a task to poll, whose result is a `Written` each.

    Parameters
    ----------
    results : the results' nodes.
    parameters : the wrapped parameter node: nipple and breast.
    folder : where the reports' folders go.

    Raises
    ------
    DataError : there is nothing to report, or an image was removed.
    """
    work = []
    for shown in results:  # nodes are read here and now
        image = mrml_workup.image_of(shown)
        finish, reviews = mrml_workup.current(shown), mrml_workup.reviews_of(shown)
        work.append((image.GetName(), finish, reviews, positioner(image, parameters)))
    if not work:
        raise DataError(_("There is nothing to report; run the workup first."))

    def write():
        written, taken = [], set()
        for name, finish, reviews, position in work:
            study, image = finish()
            study = with_pixels(position(study), image)
            target, others = report_folder(Path(folder), name, study, taken)
            taken.add(target.name.lower())
            written.append(Written(write_reviewed(study, image, reviews, target), others))
        return written

    return BackgroundTask(write)


class ReportExport:
    """The buttons exportButton and openReportButton of a panel.

    Parameters
    ----------
    panel : its `ui`, `showStatus` and `showError`, and the parent of the question for a folder.
    start : called with a folder; begins to write and returns the task. Raises `BreastUSAIError`.
    parameters : returns the wrapped parameter node, which has reportFolder.
    on_end : called when the reports were written or failed.
    """

    def __init__(self, panel, start, parameters, on_end):
        self._panel, self._start, self._parameters, self._on_end = panel, start, parameters, on_end
        self._task = None
        self._forgotten = []  # tasks whose end nobody waits for: they are polled on, without which their threads would stand still
        self.written = None  # the report that was written last
        self._timer = qt.QTimer()
        self._timer.interval = _POLL_MS
        self._timer.connect("timeout()", self._poll)
        panel.ui.exportButton.connect("clicked(bool)", self.begin)
        panel.ui.openReportButton.connect("clicked(bool)", self.open)

    @property
    def running(self):
        return self._task is not None or bool(self._forgotten)

    def begin(self, checked=False):
        """Write the reports into the folder that was chosen, or asked for now."""
        parameters = self._parameters()
        folder = parameters.reportFolder
        if not folder:
            folder = qt.QFileDialog.getExistingDirectory(self._panel.parent, _("Folder for the report"))
            if not folder:
                return
            parameters.reportFolder = folder
        try:
            self._task = self._start(folder)
        except Exception as error:
            self._panel.showError(told(error))
            return
        self._panel.showStatus(_("writing the report"))
        self._panel.ui.exportButton.enabled = self._panel.ui.applyButton.enabled = False
        self._timer.start()

    def open(self, checked=False):
        """Open the report that was written last, in the browser."""
        if self.written is not None:
            qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self.written)))

    def forget(self):
        """Wait no more: the files are written all the same, without a word of it."""
        if self._task is not None:
            self._forgotten.append(self._task)
            self._task = None

    def clear(self):
        """Forget what was written, too."""
        self.forget()
        self.written = None

    def close(self):
        self.clear()
        self._forgotten = []
        self._timer.stop()
        self._timer.disconnect("timeout()", self._poll)

    def _poll(self):
        self._forgotten = [task for task in self._forgotten if not task.poll()]
        task, ended = self._task, self._task is not None and self._task.poll()
        if ended:
            self._task = None
        if not self.running:
            self._timer.stop()
        if ended:
            self._tell(task)
        if not self.running:
            self._on_end()

    def _tell(self, task):
        """What a task that has ended wrote, or why it could not."""
        try:
            written = task.result()
            self.written = written[0].report
            self._panel.showStatus(_told(written))
        except Exception as error:  # also no memory: said, and the buttons work again
            self._panel.showError(told(error))


def _told(written):
    """Where the reports went, and which folders of their names were left alone."""
    said = _("Report: {files}").format(files=", ".join(str(w.report) for w in written))
    others = [other.name for w in written for other in w.others]
    if not others:
        return said
    left = _("Folders of these names that hold something else were left as they are: {folders}.").format(folders=", ".join(others))
    return f"{said}. {left}"
