"""The overview in a panel: a whole volume from the front with its findings marked, to be clicked (`navigator`).

Imported by the Slicer modules only: it needs Slicer's Qt. The projection takes a moment and is made in a thread.
"""

from __future__ import annotations

import qt

from . import mrml
from .background import BackgroundTask

_POLL_MS = 30  # often: in Slicer a thread works while it is polled (`background`)
_LONGEST = 320  # pixels; the findings below shall stay in sight


class Overview:
    """The picture in a flat push button, which tells where it was clicked.

    Parameters
    ----------
    button : the QPushButton.
    on_finding : called with the id of a finding whose box was clicked.
    on_place : called with the position of any other place: (x, y, z) on the volume's grid, LPS, mm.
    """

    def __init__(self, button, on_finding, on_place):
        self._button = button
        self._on_finding, self._on_place = on_finding, on_place
        self._key = self._wanted = None  # of the picture that is there, and of the one that is being made
        self._navigator = None
        self._selected = ""
        self._task = None
        self._timer = qt.QTimer()
        self._timer.interval = _POLL_MS
        self._timer.connect("timeout()", self.poll)
        button.connect("clicked(bool)", self._clicked)
        button.setVisible(False)

    def close(self):
        self.clear()
        self._timer.disconnect("timeout()", self.poll)
        self._button.disconnect("clicked(bool)", self._clicked)

    def clear(self):
        """Show nothing."""
        self._timer.stop()
        self._key = self._wanted = self._navigator = self._task = None
        self._button.setVisible(False)

    @property
    def ready(self):
        """Whether the picture that was asked for last is shown."""
        return self._navigator is not None and self._key == self._wanted

    def show(self, volume_node, study, selected, map_node=None):
        """Show the overview of a volume with the findings of a study, one of them drawn bold; 2D images have none.

        :param map_node: the volume's heatmap, whose greatest heat along the depth is painted over it; None: there is none.
        """
        data = volume_node.GetImageData()
        if data is None or min(data.GetDimensions()) < 2:
            self.clear()
            return
        # Findings that moved, and volumes that changed or were moved, are other pictures.
        boxes = tuple((f.id, f.box.center, f.box.size) for f in study.findings)
        info = mrml.info_of(volume_node)
        hot = None if map_node is None else map_node.GetImageData()
        if hot is not None and hot.GetDimensions() != data.GetDimensions():
            hot = None
        key = (volume_node.GetID(), data.GetMTime(), info.spacing, info.origin, info.direction, boxes, hot and hot.GetMTime())
        if key == self._key:
            if (self._wanted, self._selected) != (key, selected):
                self._wanted, self._task = key, None  # another one that was asked for meanwhile is wanted no more
                self._timer.stop()
                self._selected = selected
                self._paint()
            return
        self._selected = selected
        if key == self._wanted:
            return
        self._wanted = key
        image = mrml.image_for(info, volume_node)
        heatmap = None if hot is None else mrml.image_for(info, map_node)
        self._task = BackgroundTask(lambda: _navigate(image, study, heatmap))
        self._timer.start()

    def poll(self):
        if self._task is None or not self._task.poll():
            return
        self._timer.stop()
        task, self._task = self._task, None
        try:
            self._navigator, self._key = task.result(), self._wanted
        except Exception:  # a helper to look around with: what it cannot show is no message worth, and a timer must not raise
            self.clear()
            return
        self._paint()
        self._button.setVisible(True)

    def click(self, x, y):
        """As a click at a pixel of the picture."""
        if not self.ready:  # what is still to be seen may be of another volume than what was chosen since
            return
        finding = self._navigator.finding_at(x, y)
        if finding is not None:
            self._on_finding(finding)
        else:
            self._on_place(self._navigator.position(x, y))

    def _paint(self):
        from .navigator import paint, png

        pixmap = qt.QPixmap()
        pixmap.loadFromData(png(paint(self._navigator, selected=self._selected)))
        self._button.setIcon(qt.QIcon(pixmap))
        self._button.setIconSize(pixmap.size())
        self._button.setFixedHeight(pixmap.height() + 4)

    def _clicked(self, checked=False):
        at, icon = self._button.mapFromGlobal(qt.QCursor.pos()), self._button.iconSize
        # A button shows its icon in its middle.
        self.click(at.x() - (self._button.width - icon.width()) / 2, at.y() - (self._button.height - icon.height()) / 2)


def _navigate(image, study, heatmap):
    from .navigator import navigate

    return navigate(image, study, heatmap=heatmap, longest=_LONGEST)
