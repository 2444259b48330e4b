"""The panel of BreastUSAI Segment, offscreen. These tests run on the STAND-IN for Slicer's GUI side (slicer_standin); the
scene below is the real one. The same cases run in a real Slicer where SLICER_EXECUTABLE names one.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import unittest
from pathlib import Path

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

HERE = Path(__file__).resolve().parent
MODULE = HERE.parents[1] / "BreastUSAI" / "BreastUSAISegment" / "BreastUSAISegment.py"
CASES = "segment_widget_cases"


def case_names() -> list[str]:
    """Read from the source: the cases can be imported only where there is a Slicer or its stand-in."""
    import ast

    names = []
    for node in ast.parse((HERE / f"{CASES}.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            names += [f"{node.name}.{f.name}" for f in node.body if getattr(f, "name", "").startswith("test_")]
    return names


@pytest.fixture(scope="module")
def standin():
    from slicer_standin import slicer_application

    with slicer_application(MODULE) as slicer:
        yield slicer, importlib.import_module(CASES)
    sys.modules.pop(CASES, None)


@pytest.mark.parametrize("name", case_names())
def test_on_the_standin(standin, name):
    _slicer, cases = standin
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromName(name, cases).run(result)
    assert result.testsRun == 1
    problems = [text for _, text in result.failures + result.errors]
    assert not problems, problems[0]


def test_a_picture_of_the_panel(standin, tmp_path):
    """Renders the panel after a run; BREASTUSAI_SCREENSHOT names a file to keep it."""
    slicer, cases = standin
    case = cases.PanelCase()
    case.setUp()
    try:
        case.panel._parameterNode.inputVolume = cases.image()[0]
        case.apply()
        case.panel.parent.resize(460, 900)
        case.panel.parent.show()
        slicer.app.processEvents()
        file = Path(os.environ.get("BREASTUSAI_SCREENSHOT", tmp_path / "panel.png"))
        assert case.panel.parent.grab().save(str(file))
        assert file.stat().st_size > 5000
    finally:
        case.tearDown()


@pytest.mark.skipif(
    not os.environ.get("SLICER_EXECUTABLE"), reason="SLICER_EXECUTABLE does not name a 3D Slicer; the stand-in was used"
)
def test_in_a_real_slicer():
    command = [os.environ["SLICER_EXECUTABLE"], "--no-splash", "--no-main-window", "--testing", "--python-script"]
    paths = ["--additional-module-paths", str(MODULE.parent)]
    done = subprocess.run(
        [*command, str(HERE / "run_in_slicer.py"), *paths], capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
