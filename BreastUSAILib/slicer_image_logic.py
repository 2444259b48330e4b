"""What the logics of modules share that take 2D images and volumes.

Imported by the Slicer modules only.
"""

from __future__ import annotations

from . import child_detection, child_workup, mrml
from .slicer_panel import AnalysisLogic


class ImageOrVolumeLogic(AnalysisLogic):
    """From nodes to the library and back, where an image may be of one slice or of many."""

    def isVolume(self, volume):
        """Whether a volume node has several slices along each axis; an image has one slice."""
        return mrml.is_volume(volume)

    def asksForSpacing(self, volume):
        """Whether the user may say what a pixel of an image measures: the image does not, or the user said it before."""
        return not self.isVolume(volume) and (not mrml.spacing_known(volume) or mrml.spacing_by_user(volume) > 0)

    def reasonAgainstSize(self, size, volume):
        if min(size, default=0) > 1:
            return child_detection.reason_against_volume(size, mrml.volume_spacing_known(volume), volume.GetName())
        return child_workup.reason_against_size(size, volume.GetName())

    def reasonAgainstNoModel(self, task, folder, where):
        """Why there is no model for a task; "" when one ships or a folder was chosen. `where` in the panel a folder is chosen."""
        from .models import catalog

        return "" if folder or catalog.ships(task) else catalog.no_model(task, where)
