"""Running the cases of a panel, by name, on the stand-in for Slicer's GUI side."""

from __future__ import annotations

import ast
import importlib
import os
import sys
import unittest
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
MODULES = HERE.parents[1] / "BreastUSAI"


def standin_fixture(module: str, cases: str):
    """A fixture for all tests of a file: the stand-in's `slicer` with one module in it, and the imported module of its cases."""

    @pytest.fixture(scope="module")
    def standin():
        pytest.importorskip("slicer", reason="slicer-core is not installed")
        pytest.importorskip("PySide6", reason="PySide6 is not installed")
        from slicer_standin import slicer_application

        with slicer_application(MODULES / module / f"{module}.py") as slicer:
            yield slicer, importlib.import_module(cases)
        sys.modules.pop(cases, None)

    return standin


def case_names(module: str) -> list[str]:
    """Read from the source: the cases can be imported only where there is a Slicer or its stand-in."""
    names = []
    for node in ast.parse((HERE / f"{module}.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            names += [f"{node.name}.{f.name}" for f in node.body if getattr(f, "name", "").startswith("test_")]
    return names


def run_case(cases, name: str) -> None:
    """Run one case of the imported module `cases`; its failure is an AssertionError."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromName(name, cases).run(result)
    assert result.testsRun == 1
    problems = [text for _, text in result.failures + result.errors]
    assert not problems, problems[0]


def picture(panel, slicer, name: str, folder: Path) -> Path:
    """The panel as PNG, in `folder`, or in the folder that BREASTUSAI_SCREENSHOTS names; beside it as it is in the dark theme."""
    folder = Path(os.environ.get("BREASTUSAI_SCREENSHOTS", folder))
    light = slicer.app.palette()
    try:
        _grab(panel, slicer, folder / f"{name}.png")
        slicer.app.setPalette(dark_palette())
        _grab(panel, slicer, folder / f"{name}-dark.png")
    finally:
        slicer.app.setPalette(light)
    return folder / f"{name}.png"


def dark_palette():
    """Colours as Slicer's dark style has them (qSlicerStyle)."""
    import qt

    palette, role = qt.QPalette(), qt.QPalette.ColorRole
    for color, roles in {
        "#2d2d2d": (role.Window, role.Button),
        "#1e1e1e": (role.Base,),
        "#3a3a3a": (role.AlternateBase, role.ToolTipBase),
        "#dcdcdc": (role.WindowText, role.Text, role.ButtonText, role.ToolTipText, role.BrightText),
        "#2a82da": (role.Link, role.Highlight),
        "#ffffff": (role.HighlightedText,),
        "#8c8c8c": (role.PlaceholderText,),
    }.items():
        for each in roles:
            palette.setColor(each, qt.QColor(color))
    for each in (role.WindowText, role.Text, role.ButtonText):
        palette.setColor(qt.QPalette.ColorGroup.Disabled, each, qt.QColor("#7f7f7f"))
    return palette


def _grab(panel, slicer, file: Path) -> None:
    panel.parent.show()
    slicer.app.processEvents()
    # Labels of several lines are higher than a window's least height allows for.
    panel.parent.resize(460, max(900, panel.parent.layout().totalHeightForWidth(460)))
    slicer.app.processEvents()
    assert panel.parent.grab().save(str(file))
    assert file.stat().st_size > 5000
