"""The application object and the few CTK and qMRML widgets that the panels use."""

from __future__ import annotations

import tempfile
from functools import cache

from PySide6.QtCore import Property, QObject, Signal
from PySide6.QtGui import QStandardItem, QStandardItemModel

from . import qt


class _ModuleManager(QObject):
    moduleAboutToBeUnloaded = Signal(str)


qt._connections(_ModuleManager)


class _Application(qt.QApplication):
    startupCompleted = Signal()

    def __init__(self):
        super().__init__(["standin"])
        self._manager = _ModuleManager()
        self.temporaryPath = tempfile.gettempdir()

    def moduleManager(self):
        return self._manager

    def testingEnabled(self):
        return True

    def translate(self, context, text):
        return text

    def layoutManager(self):
        return None


@cache
def application() -> _Application:
    """Qt allows one application a process."""
    return _Application()


class qMRMLWidget(qt.QWidget):
    def setMRMLScene(self, scene):
        for child in self.findChildren(qt.QWidget):
            if hasattr(child, "setMRMLScene"):
                child.setMRMLScene(scene)


class qMRMLNodeComboBox(qt.QComboBox):
    """The current node, or None."""

    currentNodeChanged = Signal(object)
    nodeAddedByUser = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._node = self._scene = None
        self._types, self._none = [], "None"

    def setMRMLScene(self, scene):
        self._scene = scene

    def currentNode(self):
        return self._node

    def setCurrentNode(self, node):
        if node is self._node:
            return
        self._node = node
        self.clear()
        self.addItem(node.GetName() if node is not None else self._none)
        self.currentNodeChanged.emit(node)

    nodeTypes = Property("QStringList", lambda s: s._types, lambda s, v: setattr(s, "_types", list(v)))
    noneDisplay = Property(str, lambda s: s._none, lambda s, v: setattr(s, "_none", v))


qt._connections(qMRMLNodeComboBox)


class qMRMLTableView(qt.QTableView):
    def setMRMLScene(self, scene):
        pass

    def setMRMLTableNode(self, node):
        self._node = node
        model = QStandardItemModel(self)
        if node is not None:
            columns = range(node.GetNumberOfColumns())
            model.setHorizontalHeaderLabels([node.GetColumnTitle(node.GetColumnName(c)) for c in columns])
            for row in range(node.GetNumberOfRows()):
                model.appendRow([QStandardItem(node.GetCellText(row, c)) for c in columns])
        self.setModel(model)

    def mrmlTableNode(self):
        return getattr(self, "_node", None)


qt._connections(qMRMLTableView)


class ctkSliderWidget(qt.QWidget):
    valueChanged = Signal(float)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._value, self._range, self._step = 0.0, (0.0, 1.0), 0.01
        self._slider = qt.QSlider(qt.Qt.Orientation.Horizontal, self)
        self._slider.setRange(0, 1000)
        qt.QHBoxLayout(self).addWidget(self._slider)

    def setRange(self, minimum, maximum):
        self._range = (minimum, maximum)

    def setValue(self, value):
        value = min(max(value, self._range[0]), self._range[1])
        if value != self._value:
            self._value = value
            self._slider.setValue(round(1000 * (value - self._range[0]) / (self._range[1] - self._range[0])))
            self.valueChanged.emit(value)

    value = Property(float, lambda s: s._value, setValue)
    singleStep = Property(float, lambda s: s._step, lambda s, v: setattr(s, "_step", v))
    maximum = Property(float, lambda s: s._range[1], lambda s, v: s.setRange(s._range[0], v))


class ctkCollapsibleButton(qt.QGroupBox):
    text = Property(str, lambda s: s.title(), lambda s, v: s.setTitle(v))

    def setCollapsed(self, collapsed):
        self._collapsed = collapsed
        self.setMaximumHeight(20 if collapsed else 16_777_215)

    collapsed = Property(bool, lambda s: getattr(s, "_collapsed", False), setCollapsed)


class ctkPathLineEdit(qt.QLineEdit):
    currentPathChanged = Signal(str)

    def __init__(self, parent=None):
        super().__init__(parent)
        self.textChanged.connect(self.currentPathChanged)

    currentPath = Property(str, lambda s: qt._get(s, "text"), lambda s, v: s.setText(v))


qt._connections(ctkPathLineEdit)
