"""The panel of BreastUSAI Segment, offscreen. These tests run on the STAND-IN for Slicer's GUI side (slicer_standin); the
scene below is the real one. The same cases run in a real Slicer where SLICER_EXECUTABLE names one.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from panel_on_standin import case_names, picture, run_case

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

HERE = Path(__file__).resolve().parent
MODULE = HERE.parents[1] / "BreastUSAI" / "BreastUSAISegment" / "BreastUSAISegment.py"
CASES = "segment_widget_cases"


@pytest.fixture(scope="module")
def standin():
    from slicer_standin import slicer_application

    with slicer_application(MODULE) as slicer:
        yield slicer, importlib.import_module(CASES)
    sys.modules.pop(CASES, None)


@pytest.mark.parametrize("name", case_names(CASES))
def test_on_the_standin(standin, name):
    _slicer, cases = standin
    run_case(cases, name)


def test_nodes_that_a_person_adds_are_heard_of_by_the_name_that_the_signal_has(standin):
    from BreastUSAILib.slicer_panel import on_new_node

    heard = []
    until_5_12 = SimpleNamespace(connect=lambda *what: heard.append(what))
    on_new_node(until_5_12, print)
    on_new_node(SimpleNamespace(connect=until_5_12.connect, nodeAddedByUserAction=None), print)
    assert heard == [("nodeAddedByUser(vtkMRMLNode*)", print), ("nodeAddedByUserAction(vtkMRMLNode*)", print)]


def test_a_picture_of_the_panel(standin, tmp_path):
    """Renders the panel after a run; BREASTUSAI_SCREENSHOTS names a folder to keep it."""
    slicer, cases = standin
    case = cases.PanelCase()
    case.setUp()
    try:
        case.panel._parameterNode.inputVolume = cases.image()[0]
        case.apply()
        picture(case.panel, slicer, "BreastUSAISegment", tmp_path)
    finally:
        case.tearDown()


def test_a_picture_of_the_panel_with_a_volume(standin, tmp_path):
    slicer, cases = standin
    case = cases.Volumes()
    case.setUp()
    try:
        cases.detected(case.ready(cases.module.Where.DETECTED))
        case.panel._parameterNode.detections = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLTableNode")
        case.apply()
        picture(case.panel, slicer, "BreastUSAISegment-volume", tmp_path)
    finally:
        case.tearDown()


@pytest.mark.skipif(
    not os.environ.get("SLICER_EXECUTABLE"), reason="SLICER_EXECUTABLE does not name a 3D Slicer; the stand-in was used"
)
def test_in_a_real_slicer():
    command = [os.environ["SLICER_EXECUTABLE"], "--no-splash", "--no-main-window", "--testing", "--python-script"]
    modules = MODULE.parents[1]
    paths = ["--additional-module-paths", *(str(p.parent) for p in modules.glob("*/Resources"))]
    done = subprocess.run(
        [*command, str(HERE / "run_in_slicer.py"), *paths], capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
