"""PySide6 with the habits of PythonQt: properties are attributes, ``connect("signal(args)", slot)``, a .ui reader."""

from __future__ import annotations

import ctypes
import sys
import xml.etree.ElementTree as ElementTree

from PySide6 import QtCore, QtGui, QtWidgets

if sys.version_info < (3, 12):
    # PySide6 6.12 takes None, True and False for immortal, which they are from Python 3.12 on: it gives back references
    # that it never took (one a signal), until Python 3.11 aborts on its way out. Give them references enough.
    for _constant in (None, True, False):
        ctypes.c_ssize_t.from_address(id(_constant)).value += 1 << 40

for _module in (QtCore, QtGui, QtWidgets):
    globals().update({n: getattr(_module, n) for n in dir(_module) if not n.startswith("_")})

_get, _set = QtCore.QObject.property, QtCore.QObject.setProperty
_SPELLINGS = (
    ("", ""),
    ("vtkMRMLNode*", "PyObject"),
)  # Slicer's name of a type, and that of PySide for signals in Python


def _connect(self, signal, slot):
    # PythonQt only warns of a signal that is not there, and nothing ever happens.
    written = bytes(QtCore.QMetaObject.normalizedSignature(signal)).decode()
    if not any(self.metaObject().indexOfSignal(written.replace(*spelling)) >= 0 for spelling in _SPELLINGS):
        raise RuntimeError(f"{self.metaObject().className()} has no signal {signal}")
    name, _, arguments = signal.partition("(")
    bound, arguments = getattr(self, name), arguments.rstrip(")")
    try:
        (bound[arguments] if arguments else bound).connect(slot)
    except (KeyError, IndexError, TypeError):
        bound.connect(slot)
    return True


def _disconnect(self, signal, slot):
    getattr(self, signal.partition("(")[0]).disconnect(slot)
    return True


def _attributes(cls) -> None:
    """Make the Qt properties of a class Python attributes."""
    meta = cls.staticMetaObject
    for index in range(meta.propertyOffset(), meta.propertyCount()):
        name = meta.property(index).name()
        # What Qt itself asks a widget for must stay a function: an attribute that asks Qt would never come back.
        virtual = name in ("sizeHint", "minimumSizeHint") or (cls is QtWidgets.QProgressBar and name == "text")
        if not virtual:
            setattr(cls, name, property(lambda s, n=name: _get(s, n), lambda s, v, n=name: _set(s, n, v)))


def _connections(cls) -> None:
    """PySide looks up ``connect`` and ``disconnect`` on instances by itself; catch them before."""
    original = cls.__getattribute__

    def lookup(self, name):
        if name == "connect":
            return lambda *arguments: _connect(self, *arguments)
        if name == "disconnect":
            return lambda *arguments: _disconnect(self, *arguments)
        return original(self, name)

    cls.__getattribute__ = lookup


for _module in (QtCore, QtGui, QtWidgets):
    for _class in vars(_module).values():
        if isinstance(_class, type) and issubclass(_class, QtCore.QObject):
            _attributes(_class)
for _class in (
    *(QtCore.QTimer, QtGui.QShortcut, QtWidgets.QApplication, QtWidgets.QPushButton, QtWidgets.QComboBox),
    *(QtWidgets.QLineEdit, QtWidgets.QListWidget, QtWidgets.QTableWidget),
):
    _connections(_class)
QtCore.QObject.name = property(lambda self: _get(self, "objectName"), lambda self, v: _set(self, "objectName", v))
QtCore.QObject.className = lambda self: self.metaObject().className()


class QUiLoader:
    """Reads a .ui file. PySide6's own loader crashed with widgets that are written in Python.

    It refuses what Qt's own would pass over in silence: properties, signals and slots that a widget does not have.
    """

    def load(self, file):
        root = ElementTree.parse(file.fileName()).getroot()
        widget = self._widget(root.find("widget"), None)
        for item in root.iterfind("connections/connection"):
            sender, receiver = (self._named(widget, item.findtext(end)) for end in ("sender", "receiver"))
            signal, slot = (item.findtext(end).partition("(")[0] for end in ("signal", "slot"))
            getattr(sender, signal).connect(getattr(receiver, slot))
        return widget

    def _named(self, root, name):
        found = root if _get(root, "objectName") == name else root.findChild(QtCore.QObject, name)
        if found is None:
            raise RuntimeError(f"the .ui file connects {name}, which is not in it")
        return found

    def _class(self, name):
        for module in (sys.modules[__name__], sys.modules["ctk"], sys.modules["slicer"]):
            if hasattr(module, name):
                return getattr(module, name)
        raise RuntimeError(f"the stand-in has no widget {name}")

    def _value(self, element):
        value = element[0]
        readers = {
            "string": lambda e: e.text or "",
            "cstring": lambda e: e.text or "",
            "bool": lambda e: e.text == "true",
            "number": lambda e: int(e.text),
            "double": lambda e: float(e.text),
            "size": lambda e: QtCore.QSize(*(int(x.text) for x in e)),
            "stringlist": lambda e: [x.text for x in e],
        }
        return readers[value.tag](value) if value.tag in readers else None

    def _widget(self, element, parent):
        widget = self._class(element.get("class"))(parent)
        widget.setObjectName(element.get("name"))
        for item in element.findall("property"):
            value = self._value(item)
            if value is None:
                continue
            if item.get("stdset") != "0" and widget.metaObject().indexOfProperty(item.get("name")) < 0:
                raise RuntimeError(f"{element.get('class')} has no property {item.get('name')}")
            _set(widget, item.get("name"), value)
        for layout in element.findall("layout"):
            self._fill(layout, self._class(layout.get("class"))(widget), widget)
        return widget

    def _fill(self, element, layout, host):
        for item in element.findall("item"):
            child, row = item[0], item.get("row")
            if child.tag == "widget":
                made = self._widget(child, host)
                if row is None:
                    layout.addWidget(made)
                else:
                    roles = QtWidgets.QFormLayout.ItemRole
                    role = roles.LabelRole if item.get("column") == "0" else roles.FieldRole
                    layout.setWidget(int(row), role, made)
            elif child.tag == "layout":
                layout.addLayout(self._fill(child, self._class(child.get("class"))(), host))
            elif child.tag == "spacer":
                layout.addStretch(1)
        return layout
