"""Keys of a panel that work in the whole window, and only while its module is shown.

Imported by the Slicer modules only: it needs Slicer's Qt.
"""

from __future__ import annotations

import qt
import slicer


class Shortcuts:
    """Keys for buttons: the hand that reads is in a slice view, not in the panel.

    Parameters
    ----------
    parent : of the keys where there is no main window.
    keys : (key, button whose tool tip names it, what it does).

    Attributes
    ----------
    all : the QShortcuts.
    """

    def __init__(self, parent, keys):
        self.all = []
        for key, button, slot in keys:
            shortcut = qt.QShortcut(qt.QKeySequence(key), slicer.util.mainWindow() or parent)
            shortcut.connect("activated()", slot)
            button.toolTip = f"{button.toolTip} ({key})"
            self.all.append(shortcut)

    def enable(self, enabled):
        for shortcut in self.all:
            shortcut.enabled = enabled

    def close(self):
        for shortcut in self.all:
            try:
                shortcut.enabled = False
                shortcut.deleteLater()
            except (AttributeError, RuntimeError, ValueError):
                # When Slicer ends, its window goes before its modules do, and takes the keys along.
                continue
        self.all = []
