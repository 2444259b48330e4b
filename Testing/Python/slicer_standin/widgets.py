"""The application object and the few CTK and qMRML widgets that the panels use.

Each is what the real one is to Python: a class has the properties, slots and signals that PythonQt shows of the real one and that the
panels use, and is a QWidget and no more where the real one is.
"""

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
    """Tells what is connected to it in the .ui file of the scene; its children do not get it by themselves."""

    mrmlSceneChanged = Signal(object)

    def setMRMLScene(self, scene):
        self.mrmlSceneChanged.emit(scene)


class qMRMLNodeComboBox(qt.QWidget):
    """Nodes of the scene to choose from; `currentNode` is the chosen one, or None.

    As the real one: nodes of other types cannot be chosen; without "None", the first node of an empty scene is chosen by itself; where the
    chosen one is about to be removed, its predecessor in the list is; disabled without a scene; a scene that is closed or read is looked at
    when that has ended.
    """

    currentNodeChanged = Signal(object)
    nodeAddedByUserAction = Signal(object)  # 5.13's; until 5.12 nodeAddedByUser

    def __init__(self, parent=None):
        super().__init__(parent)
        self._box = qt.QComboBox(self)
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self._scene = self._requested = None
        self._index, self._nodes = -1, []  # of the list: "None" first where that may be chosen
        self._types, self._hidden, self._none, self._noneEnabled = [], [], "None", False
        self._observer = None
        self._box.activated.connect(lambda index: self._choose(index))
        self.setEnabled(False)

    def setMRMLScene(self, scene):
        if scene is self._scene:
            return
        wanted = self._requested if self._scene is None else self.currentNode()
        if self._observer is not None:
            self._observer.stop()
        self._scene = scene
        self._observer = _SceneObserver(scene, self) if scene is not None else None
        self.setEnabled(scene is not None)
        self._refresh()
        if wanted is not None:
            self.setCurrentNode(wanted)

    def currentNode(self):
        node = self._nodes[self._index] if 0 <= self._index < len(self._nodes) else None
        return node if node is not None and node.GetScene() is self._scene else None

    def setCurrentNode(self, node):
        if self._scene is None:
            self._requested = node
            return
        self._choose(self._nodes.index(node) if node in self._nodes else self._noIndex())

    def _noIndex(self):
        return 0 if self._noneEnabled else -1

    def _choose(self, index):
        before, self._index = self.currentNode(), index
        self._box.setCurrentIndex(index)
        if self.currentNode() is not before:
            self.currentNodeChanged.emit(self.currentNode())

    def _refresh(self, without=None):
        chosen = self._nodes[self._index] if 0 <= self._index < len(self._nodes) else None
        position, wasEmpty = self._index, not any(node is not None for node in self._nodes)
        count = self._scene.GetNumberOfNodes() if self._scene is not None else 0
        accepted = (
            [n for n in map(self._scene.GetNthNode, range(count)) if n is not without and self._accepts(n)]
            if count
            else []
        )
        self._nodes = [*([None] if self._noneEnabled else []), *accepted]
        blocked = self._box.blockSignals(True)
        self._box.clear()
        self._box.addItems([node.GetName() or "" if node is not None else self._none for node in self._nodes])
        self._box.blockSignals(blocked)
        if chosen is not None and chosen in self._nodes:
            index = self._nodes.index(chosen)
        elif chosen is not None:
            index = min(max(position - 1, 0), len(self._nodes) - 1)
        else:
            index = self._noIndex() if self._noneEnabled or not wasEmpty or not accepted else 0
        self._index = index
        self._box.setCurrentIndex(index)
        if self.currentNode() is not chosen:
            self.currentNodeChanged.emit(self.currentNode())

    def _accepts(self, node):
        if node.GetHideFromEditors() or any(node.IsA(name) for name in self._hidden):
            return False
        return any(node.IsA(name) for name in self._types)

    def _set(self, name, value):
        setattr(self, name, value)
        self._refresh()

    nodeTypes = Property("QStringList", lambda s: s._types, lambda s, v: s._set("_types", list(v)))
    hideChildNodeTypes = Property("QStringList", lambda s: s._hidden, lambda s, v: s._set("_hidden", list(v)))
    noneDisplay = Property(str, lambda s: s._none, lambda s, v: s._set("_none", v))
    noneEnabled = Property(bool, lambda s: s._noneEnabled, lambda s, v: s._set("_noneEnabled", v))
    currentNodeID = Property(str, lambda s: s.currentNode().GetID() if s.currentNode() is not None else "")
    addEnabled = Property(bool, lambda s: getattr(s, "_add", True), lambda s, v: setattr(s, "_add", v))
    removeEnabled = Property(bool, lambda s: getattr(s, "_remove", True), lambda s, v: setattr(s, "_remove", v))
    renameEnabled = Property(bool, lambda s: getattr(s, "_rename", False), lambda s, v: setattr(s, "_rename", v))
    editEnabled = Property(bool, lambda s: getattr(s, "_edit", False), lambda s, v: setattr(s, "_edit", v))


qt._connections(qMRMLNodeComboBox)


class _SceneObserver:
    """Lets a widget follow a scene, and neither keeps the widget nor calls it when it is gone."""

    def __init__(self, scene, widget):
        import weakref

        import vtk
        from shiboken6 import isValid

        self._scene, reference = scene, weakref.ref(widget)

        def refresh(without=None):
            there = reference()
            if there is not None and isValid(there):
                there._refresh(without)
            else:
                self.stop()

        def added(*_):
            if not scene.IsImporting() and not scene.IsClosing():
                refresh()

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def leaving(_scene, _event, node):
            if not scene.IsClosing():
                refresh(node)

        # As of qMRMLSceneModel.
        self._tags = [
            scene.AddObserver(scene.NodeAddedEvent, added, 10.0),
            scene.AddObserver(scene.NodeAboutToBeRemovedEvent, leaving, -10.0),
            scene.AddObserver(scene.EndCloseEvent, lambda *_: refresh()),
            scene.AddObserver(scene.EndImportEvent, lambda *_: refresh()),
        ]

    def stop(self):
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._tags = []


class qMRMLTableView(qt.QTableView):
    """As the real one, names of columns are the first line of the model unless the table says that they are its header. One that knows the scene, and
    has no view node that says what it shows, shows nothing any more after any batch in the scene."""

    def setMRMLScene(self, scene):
        if scene is not None:
            scene.AddObserver(scene.EndBatchProcessEvent, lambda *_: self.setMRMLTableNode(None))

    def setMRMLTableNode(self, node):
        self._node = node
        model = QStandardItemModel(self)
        if node is not None:
            columns = range(int(node.GetUseFirstColumnAsRowHeader()), node.GetNumberOfColumns())
            titles = [node.GetColumnTitle(node.GetColumnName(c)) for c in columns]
            if node.GetUseColumnTitleAsColumnHeader():
                model.setHorizontalHeaderLabels(titles)
            else:
                model.appendRow([QStandardItem(title) for title in titles])
            for row in range(node.GetNumberOfRows()):
                model.appendRow([QStandardItem(node.GetCellText(row, c)) for c in columns])
        self.setModel(model)

    def mrmlTableNode(self):
        return getattr(self, "_node", None)


qt._connections(qMRMLTableView)


class ctkSliderWidget(qt.QWidget):
    """A slider and a number, rounded to as many decimals as are shown."""

    valueChanged = Signal(float)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._value, self._range, self._step, self._decimals = 0.0, (0.0, 99.0), 1.0, 2
        self._slider = qt.QSlider(qt.Qt.Orientation.Horizontal, self)
        self._slider.setRange(0, 1000)
        qt.QHBoxLayout(self).addWidget(self._slider)

    def setRange(self, minimum, maximum):
        self._range = (minimum, maximum)
        self.setValue(self._value)

    def setValue(self, value):
        value = round(min(max(value, self._range[0]), self._range[1]), self._decimals)
        width = self._range[1] - self._range[0]
        self._slider.setValue(round(1000 * (value - self._range[0]) / width) if width else 0)
        if value != self._value:
            self._value = value
            self.valueChanged.emit(value)

    value = Property(float, lambda s: s._value, setValue)
    singleStep = Property(float, lambda s: s._step, lambda s, v: setattr(s, "_step", v))
    decimals = Property(int, lambda s: s._decimals, lambda s, v: setattr(s, "_decimals", v))
    minimum = Property(float, lambda s: s._range[0], lambda s, v: s.setRange(v, max(v, s._range[1])))
    maximum = Property(float, lambda s: s._range[1], lambda s, v: s.setRange(min(v, s._range[0]), v))


class ctkCollapsibleButton(qt.QGroupBox):
    text = Property(str, lambda s: s.title, lambda s, v: s.setTitle(v))

    def setCollapsed(self, collapsed):
        self._collapsed = collapsed
        self.setMaximumHeight(20 if collapsed else 16_777_215)

    collapsed = Property(bool, lambda s: getattr(s, "_collapsed", False), setCollapsed)


class ctkPathLineEdit(qt.QWidget):
    currentPathChanged = Signal(str)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._line = qt.QLineEdit(self)
        layout = qt.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._line)
        self._line.textChanged.connect(self.currentPathChanged)

    def setCurrentPath(self, path):
        self._line.setText(path)

    currentPath = Property(str, lambda s: s._line.text, setCurrentPath)


qt._connections(ctkPathLineEdit)


def _unused(name):
    """A widget that no panel has, and that Slicer's parameterNodeWrapper knows by name."""
    return type(name, (qt.QWidget,), {"unused": True})


for _name in (
    *(
        "ctkCheckBox",
        "ctkColorPickerButton",
        "ctkComboBox",
        "ctkDirectoryButton",
        "ctkDoubleRangeSlider",
        "ctkDoubleSlider",
    ),
    *("ctkDoubleSpinBox", "ctkRangeWidget", "qMRMLRangeWidget", "qMRMLSliderWidget", "qMRMLSpinBox"),
    *("qMRMLCheckableNodeComboBox", "qMRMLSubjectHierarchyComboBox"),
):
    globals()[_name] = _unused(_name)
