"""Classes of markups are had also where Slicer reads a module before `slicer` has them."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest


@pytest.fixture
def fresh(monkeypatch):
    """Import `slicer_markups` anew, from the modules given by name."""

    def read(**modules):
        for name, names in modules.items():
            module = ModuleType(name)
            for each in names:
                setattr(module, each, f"{name}.{each}")
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.delitem(sys.modules, "BreastUSAILib.slicer_markups", raising=False)
        return importlib.import_module("BreastUSAILib.slicer_markups")

    yield read
    sys.modules.pop("BreastUSAILib.slicer_markups", None)


CLASSES = ("vtkMRMLMarkupsFiducialNode", "vtkMRMLMarkupsROINode")


def test_they_are_slicers_where_it_has_them(fresh):
    found = fresh(slicer=CLASSES)
    assert [getattr(found, name) for name in CLASSES] == [f"slicer.{name}" for name in CLASSES]


def test_they_come_from_their_own_library_where_slicer_has_them_not_yet(fresh):
    found = fresh(slicer=(), vtkSlicerMarkupsModuleMRMLPython=CLASSES)
    assert [getattr(found, name) for name in CLASSES] == [f"vtkSlicerMarkupsModuleMRMLPython.{name}" for name in CLASSES]
