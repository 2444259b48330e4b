"""Stand-in for ``slicer.parameterNodeWrapper``: typed parameters in a real vtkMRMLScriptedModuleNode, bound both ways.

Only the types and widgets that the panels use; any other is refused, as Slicer's own refuses what it does not know. Where Slicer's own is
awkward, so is this: values are kept until the node says that it was modified, `connectGui` returns no tag, and `disconnectGui` leaves an
observer behind that holds the parameters (Slicer up to 5.10; https://github.com/Slicer/Slicer/pull/9063).
"""

from __future__ import annotations

import enum
import typing
import weakref
from dataclasses import dataclass

import slicer
import vtk

from . import qt
from . import widgets as ctk


@dataclass
class WithinRange:
    minimum: float
    maximum: float


def parameterNodeWrapper(cls):
    hints = typing.get_type_hints(cls, include_extras=True)
    cls._parameters = {name: _Parameter(name, hint, cls.__dict__.get(name)) for name, hint in hints.items()}
    for name in cls._parameters:
        setattr(cls, name, property(lambda s, n=name: s._values[n].get(), lambda s, v, n=name: s._values[n].set(v)))
    for name, function in _METHODS.items():
        if name != "__init__" and hasattr(cls, name):
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
        setattr(cls, name, function)
    return cls


class _Parameter:
    """How a value of one type is written to the node and read from it."""

    def __init__(self, name, hint, default):
        self.name = name
        self.type, *notes = typing.get_args(hint) if typing.get_origin(hint) is typing.Annotated else (hint,)
        self.range = next((n for n in notes if isinstance(n, WithinRange)), None)
        union = typing.get_origin(self.type) is typing.Union
        types = typing.get_args(self.type) if union else (self.type,)
        if union and type(None) not in types:
            raise TypeError(f"{name} could never be None: {hint}")
        self.nodeTypes = tuple(t for t in types if isinstance(t, type) and issubclass(t, slicer.vtkMRMLNode))
        if self.nodeTypes:
            known = len(self.nodeTypes) == len(types) - union
        else:
            known = self.type in (bool, float, str) or isinstance(self.type, type) and issubclass(self.type, enum.Enum)
        if not known:
            raise TypeError(f"the stand-in has no serializer for {hint}")
        self.default = default

    def read(self, node):
        if not node.HasParameter(self.name):
            self.write(node, self.default)
        if self.nodeTypes:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        if self.type is bool:
            return text == "True"
        return self.type[text] if issubclass(self.type, enum.Enum) else self.type(text)

    def write(self, node, value):
        if self.nodeTypes:
            if value is not None and not isinstance(value, self.nodeTypes):
                raise TypeError(f"{self.name} must be one of {self.nodeTypes}")
            node.SetParameter(self.name, "")
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
            return
        if not isinstance(value, (int, float) if self.type is float else self.type):
            raise TypeError(f"{self.name} must be a {self.type.__name__}, not {value!r}")
        if self.range is not None and not self.range.minimum <= value <= self.range.maximum:
            raise ValueError(f"{self.name} must be within {self.range}")
        node.SetParameter(self.name, value.name if isinstance(value, enum.Enum) else str(value))


class _Value:
    """A parameter's value, read again when the node was modified."""

    def __init__(self, parameter, node):
        self._parameter, self._node, self._writing = parameter, node, False
        self._value = parameter.read(node)
        itself = weakref.ref(self)
        self._tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: itself()._modified())

    def __del__(self):
        self._node.RemoveObserver(self._tag)

    def _modified(self):
        if not self._writing:
            self._value = self._parameter.read(self._node)

    def get(self):
        return self._value

    def set(self, value):
        self._writing = True
        try:
            with slicer.util.NodeModify(self._node):
                self._parameter.write(self._node, value)
                self._value = self._parameter.read(self._node)
        finally:
            self._writing = False


def _init(self, parameterNode):
    self.parameterNode = parameterNode
    self._guis, self._nextTag, self._showing = {}, 0, False
    self._values = {name: _Value(parameter, parameterNode) for name, parameter in self._parameters.items()}


def _connectGui(self, ui):
    self.connectParametersToGui(
        {w.property("SlicerParameterName"): w for w in vars(ui).values() if w.property("SlicerParameterName")}
    )


def _connectParametersToGui(self, mapping):
    bindings = [(name, *_access(widget, self._parameters[name])) for name, widget in mapping.items()]
    connections = []
    for name, read, write, signal in bindings:
        write(self._values[name].get())

        def changed(*_, name=name, read=read):
            with slicer.util.NodeModify(self):
                if not self._showing:
                    self._values[name].set(read())

        signal.connect(changed)
        connections.append((signal, changed))
    tag = self._nextTag
    self._nextTag += 1
    self._guis[tag] = bindings, connections
    self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: _show(self))
    return tag


def _show(self):
    if self._showing:
        return
    self._showing = True
    try:
        for bindings, _connections in self._guis.values():
            for name, _read, write, _signal in bindings:
                write(self._values[name].get())
    finally:
        self._showing = False


def _disconnectGui(self, tag):
    if tag in self._guis:
        _bindings, connections = self._guis.pop(tag)
        for signal, slot in connections:
            signal.disconnect(slot)


_METHODS = {
    "__init__": _init,
    "connectGui": _connectGui,
    "connectParametersToGui": _connectParametersToGui,
    "disconnectGui": _disconnectGui,
    "StartModify": lambda self: self.parameterNode.StartModify(),
    "EndModify": lambda self, wasModified: self.parameterNode.EndModify(wasModified),
    "AddObserver": lambda self, event, callback, priority=0.0: self.parameterNode.AddObserver(
        event, callback, priority
    ),
    "RemoveObserver": lambda self, tag: self.parameterNode.RemoveObserver(tag),
    "Modified": lambda self: self.parameterNode.Modified(),
    **dict.fromkeys(
        ("allParameters", "default", "isCached", "dataType", "getValue", "setValue")
    ),  # Slicer's own, used by no panel
}


def _access(widget, parameter):
    """(read, write, signal) of a widget for a parameter."""
    kind = type(widget)
    if kind is qt.QCheckBox and parameter.type is bool:
        return lambda: widget.checked, widget.setChecked, widget.toggled
    if kind in (qt.QDoubleSpinBox, ctk.ctkSliderWidget) and parameter.type is float:
        widget.setRange(parameter.range.minimum, parameter.range.maximum)
        return lambda: widget.value, widget.setValue, widget.valueChanged
    if kind is slicer.qMRMLNodeComboBox and parameter.nodeTypes:
        widget.nodeTypes = [node().GetClassName() for node in parameter.nodeTypes]
        return widget.currentNode, widget.setCurrentNode, widget.currentNodeChanged
    if kind is qt.QComboBox and isinstance(parameter.type, type) and issubclass(parameter.type, enum.Enum):
        members = list(parameter.type)
        widget.clear()
        widget.addItems([getattr(m, "label", lambda m=m: m.name)() for m in members])
        show = lambda value: widget.setCurrentIndex(members.index(value))  # noqa: E731
        return lambda: members[widget.currentIndex], show, widget.currentIndexChanged
    if kind is qt.QLineEdit and parameter.type is str:
        return lambda: widget.text, widget.setText, widget.textChanged
    raise RuntimeError(f"no connector from {parameter.type} to {kind}")
