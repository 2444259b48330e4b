"""Running the cases of a panel, by name, on the stand-in for Slicer's GUI side."""

from __future__ import annotations

import ast
import os
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent


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
    """The panel as PNG, in `folder`, or in the folder that BREASTUSAI_SCREENSHOTS names."""
    panel.parent.resize(460, 900)
    panel.parent.show()
    slicer.app.processEvents()
    file = Path(os.environ.get("BREASTUSAI_SCREENSHOTS", folder)) / f"{name}.png"
    assert panel.parent.grab().save(str(file))
    assert file.stat().st_size > 5000
    return file
