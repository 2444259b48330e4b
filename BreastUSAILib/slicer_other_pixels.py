"""Which images in a panel's lists show other pixels than those in which their findings were found: another frame of a sequence, say, or a filter
was applied in place. Reports of these are refused (`mrml_analysed`); the list says so before.

Imported by the Slicer modules only: it needs Slicer's Qt.
"""

from __future__ import annotations

import time

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from . import mrml_workup
from .errors import BreastUSAIError
from .mrml_grid import axes_of
from .mrml_names import ANALYSED

MOST_BYTES = 2**26
"""Images of more bytes are not looked at: what is below takes 0.1 s at most (0.001 s for a 2D image), a volume of 200 million voxels 0.4 s."""
_QUIET_MS = 200  # a sequence that plays is looked at when it stands still


class OtherPixels:
    """Tells which images show other pixels. An image is read once, and again when its pixels have changed.

    Parameters
    ----------
    on_change : called after the pixels of a followed image have changed and stayed so for a moment.
    """

    def __init__(self, on_change):
        self._told = {}  # id of an image -> (of which result it was told, of which pixels, what)
        self._moving = {}  # id of an image whose pixels changed -> since when they may be looked at, s
        self._waiting = False
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.interval = _QUIET_MS
        self._timer.connect("timeout()", self._stands_still)
        self._on_change = on_change
        self._observed = {}  # image -> tag of its observer

    def follow(self, images):
        """Hear of changed pixels of these images, and of no others."""
        for image in [image for image in self._observed if image not in images]:
            image.RemoveObserver(self._observed.pop(image))
            self._told.pop(image.GetID(), None)
            self._moving.pop(image.GetID(), None)
        for image in images:
            if image not in self._observed:
                event = slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent
                self._observed[image] = image.AddObserver(event, self._modified, 1.0)  # before the panel, which asks about them then

    def of(self, image):
        """Whether an image is known to show other pixels than those in which its findings were found. While they change, what was told before."""
        shown, data = mrml_workup.workup_of(image), image.GetImageData()
        if shown is None or data is None or _bytes_of(data) > MOST_BYTES:
            return False
        result = shown.GetID(), shown.GetAttribute(ANALYSED)
        pixels = data.GetMTime(), np.linalg.det(axes_of(image)) < 0  # of mirrored ones the slices are compared in the other order
        before = self._told.get(image.GetID(), (None, None, False))
        if before[:2] == (result, pixels):
            return before[2]
        if before[0] == result and self._moves(image):
            return before[2]
        self._told[image.GetID()] = result, pixels, _shows_others(shown)
        return self._told[image.GetID()][2]

    def sentence(self, images):
        """What is said of these images where some show other pixels; "" where none does."""
        names = [image.GetName() for image in images if self.of(image)]
        if not names:
            return ""
        said = _(
            "Not the pixels in which the findings were found: {images} (another frame of a sequence, say, or a filter was applied). Show "
            "those again, or repeat the workup."
        )
        return said.format(images=", ".join(names))

    def close(self):
        self.follow(())
        self._timer.stop()
        self._timer.disconnect("timeout()", self._stands_still)

    def _modified(self, caller, event):
        self._moving[caller.GetID()] = time.monotonic() + _QUIET_MS / 1000
        if not self._waiting:  # or one image that plays on would keep the others from being looked at
            self._wait()

    def _moves(self, image):
        return time.monotonic() < self._moving.get(image.GetID(), 0.0)

    def _wait(self):
        self._waiting = True
        self._timer.start()

    def _stands_still(self):
        self._waiting = False
        now = time.monotonic()
        rested = [name for name, until in self._moving.items() if until <= now]
        for name in rested:
            del self._moving[name]
        if self._moving:
            self._wait()
        if rested:
            self._on_change()


def _bytes_of(data):
    return data.GetNumberOfPoints() * data.GetNumberOfScalarComponents() * data.GetScalarSize()


def _shows_others(shown):
    try:
        return mrml_workup.shows_other_pixels(shown)
    except BreastUSAIError:  # what a node keeps cannot be read, or it holds no image: that is said elsewhere
        return False
