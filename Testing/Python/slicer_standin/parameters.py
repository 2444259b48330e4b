"""Stand-in for ``slicer.parameterNodeWrapper``: typed parameters in a real vtkMRMLScriptedModuleNode, bound both ways.

Only the types and widgets that the panels use; any other is refused, as Slicer's own refuses what it does not know.
"""

from __future__ import annotations

import enum
import typing
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
    for name, parameter in cls._parameters.items():
        setattr(cls, name, property(lambda s, p=parameter: p.read(s.parameterNode), lambda s, v, p=parameter: p.write(s.parameterNode, v)))
    for function in (_init, connectGui, disconnectGui, AddObserver, RemoveObserver):
        setattr(cls, "__init__" if function is _init else function.__name__, function)
    return cls


class _Parameter:
    def __init__(self, name, hint, default):
        self.name = name
        self.type, *notes = typing.get_args(hint) if typing.get_origin(hint) is typing.Annotated else (hint,)
        self.range = next((n for n in notes if isinstance(n, WithinRange)), None)
        self.isNode = issubclass(self.type, slicer.vtkMRMLNode)
        if not (self.isNode or self.type in (bool, float, str) or issubclass(self.type, enum.Enum)):
            raise TypeError(f"the stand-in has no serializer for {hint}")
        self.default = default

    def read(self, node):
        if self.isNode:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        if self.type is bool:
            return text == "True"
        return self.type[text] if issubclass(self.type, enum.Enum) else self.type(text)

    def write(self, node, value):
        if self.isNode:
            if value is not None and not isinstance(value, self.type):
                raise TypeError(f"{self.name} must be a {self.type.__name__}")
            node.SetParameter(self.name, "")
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
            return
        if not isinstance(value, (int, float) if self.type is float else self.type):
            raise TypeError(f"{self.name} must be a {self.type.__name__}, not {value!r}")
        if self.range is not None and not self.range.minimum <= value <= self.range.maximum:
            raise ValueError(f"{self.name} must be within {self.range}")
        node.SetParameter(self.name, value.name if isinstance(value, enum.Enum) else str(value))


def _init(self, parameterNode):
    self.parameterNode = parameterNode
    self._guis, self._nextTag = {}, 0
    self._writing = False
    for name, parameter in self._parameters.items():
        if not parameterNode.HasParameter(name):
            parameter.write(parameterNode, parameter.default)


def AddObserver(self, event, callback, priority=0.0):
    return self.parameterNode.AddObserver(event, callback, priority)


def RemoveObserver(self, tag):
    self.parameterNode.RemoveObserver(tag)


def connectGui(self, ui):
    bindings = []
    for widget in vars(ui).values():
        name = widget.property("SlicerParameterName")
        if name:
            bindings.append((self._parameters[name], *_access(widget, self._parameters[name])))

    def toWidgets(*_):
        if not self._writing:
            self._writing = True
            try:
                for parameter, _read, write, _signal in bindings:
                    write(parameter.read(self.parameterNode))
            finally:
                self._writing = False

    connections = []
    toWidgets()
    for parameter, read, _write, signal in bindings:

        def toNode(*_, parameter=parameter, read=read):
            if not self._writing:
                parameter.write(self.parameterNode, read())

        signal.connect(toNode)
        connections.append((signal, toNode))
    observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, toWidgets)
    self._guis[self._nextTag] = observer, connections
    self._nextTag += 1  # and, as in Slicer 5.10 to 5.13, the tag is not returned


def disconnectGui(self, tag):
    if tag not in self._guis:
        return
    observer, connections = self._guis.pop(tag)
    for signal, slot in connections:
        signal.disconnect(slot)
    self.RemoveObserver(observer)


def _access(widget, parameter):
    """(read, write, signal) of a widget for a parameter."""
    if type(widget) is qt.QCheckBox and parameter.type is bool:
        return lambda: widget.checked, widget.setChecked, widget.toggled
    if type(widget) in (qt.QDoubleSpinBox, ctk.ctkSliderWidget) and parameter.type is float:
        widget.setRange(parameter.range.minimum, parameter.range.maximum)
        return lambda: widget.value, widget.setValue, widget.valueChanged
    if type(widget) is slicer.qMRMLNodeComboBox and parameter.isNode:
        return widget.currentNode, widget.setCurrentNode, widget.currentNodeChanged
    if type(widget) is qt.QComboBox and issubclass(parameter.type, enum.Enum):
        members = list(parameter.type)
        widget.clear()
        widget.addItems([getattr(m, "label", lambda m=m: m.name)() for m in members])
        return lambda: members[widget.currentIndex], lambda v: widget.setCurrentIndex(members.index(v)), widget.currentIndexChanged
    raise RuntimeError(f"no connector from {parameter.type} to {type(widget)}")
