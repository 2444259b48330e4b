"""The list of further views of an examination in a panel: the other images of the scene, to be checked.

Imported by the Slicer modules only: it needs Slicer's Qt.
"""

from __future__ import annotations

from typing import NamedTuple

import qt
import slicer
from slicer.i18n import tr as _

from . import mrml_workup


class _Row(NamedTuple):
    node_id: str
    name: str
    other_pixels: bool


class ViewsList:
    """Images in a QListWidget; which of them are checked is kept with the module's parameter node.

    Parameters
    ----------
    widget, label : the QListWidget, and what stands before it; both are shown where there are other images.
    other_pixels : `slicer_other_pixels.OtherPixels`, which tells the images that are marked.
    on_change : called after a person checked one or took the check away.
    """

    def __init__(self, widget, label, other_pixels, on_change):
        self._widget, self._label, self._on_change = widget, label, on_change
        self._other_pixels = other_pixels
        self._parameters = None
        self._rows = None  # what is listed; None: look again
        widget.connect("itemChanged(QListWidgetItem*)", self._checked)

    def show(self, parameters):
        """Offer the images of the scene but the one that is chosen; `parameters` is the wrapped parameter node, None: follow none."""
        if parameters is not self._parameters:
            self._parameters, self._rows = parameters, None
        if parameters is None:
            return
        chosen = {v.GetID() for v in mrml_workup.further_images(parameters.parameterNode)}
        main = parameters.inputVolume
        others = [v for v in mrml_workup.images(slicer.mrmlScene) if v is not main] if main is not None else []
        rows = [_Row(v.GetID(), v.GetName(), self._other_pixels.of(v)) for v in others]
        blocked = self._widget.blockSignals(True)
        try:
            if rows != self._rows:
                self._rebuild(rows)
            for index, row in enumerate(rows):
                self._widget.item(index).setCheckState(qt.Qt.Checked if row.node_id in chosen else qt.Qt.Unchecked)
        finally:
            self._widget.blockSignals(blocked)
        for widget in (self._widget, self._label):
            widget.setVisible(bool(rows))

    def _rebuild(self, rows):
        item = self._widget.currentItem()
        current = None if item is None else item.data(qt.Qt.UserRole)
        self._rows = None  # until all are there
        self._widget.clear()
        for row in rows:
            item = qt.QListWidgetItem(
                _("{image} (shows other pixels than its findings)").format(image=row.name) if row.other_pixels else row.name
            )
            if row.other_pixels:
                item.setToolTip(self._other_pixels.sentence([slicer.mrmlScene.GetNodeByID(row.node_id)]))
            item.setData(qt.Qt.UserRole, row.node_id)
            self._widget.addItem(item)
            if row.node_id == current:
                self._widget.setCurrentItem(item)  # who goes through the list with the keyboard goes on there
        self._rows = rows

    def _checked(self, item):
        volume = slicer.mrmlScene.GetNodeByID(item.data(qt.Qt.UserRole))
        if self._parameters is not None and volume is not None:
            chosen = item.checkState() == qt.Qt.Checked
            mrml_workup.set_further_image(self._parameters.parameterNode, volume, chosen)
            self._on_change()
