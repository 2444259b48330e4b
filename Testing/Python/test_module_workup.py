"""BreastUSAI Workup: the panel and the Logic.

They run on the STAND-IN for Slicer's GUI side (slicer_standin) with the real scene below, and in a real Slicer through
run_in_slicer.py; the child process is standin_cli.py, and the real command line in the self-test.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from panel_on_standin import case_names, picture, run_case

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

HERE = Path(__file__).resolve().parent
MODULE = HERE.parents[1] / "BreastUSAI" / "BreastUSAIWorkup" / "BreastUSAIWorkup.py"
CASES = "workup_widget_cases"


@pytest.fixture(scope="module")
def standin():
    from slicer_standin import slicer_application

    with slicer_application(MODULE) as slicer:
        yield slicer, importlib.import_module(CASES)
    sys.modules.pop(CASES, None)


@pytest.mark.parametrize("name", case_names(CASES))
def test_on_the_standin(standin, name):
    run_case(standin[1], name)


def test_a_picture_of_the_panel(standin, tmp_path):
    slicer, cases = standin
    case = cases.PanelCase()
    case.setUp()
    try:
        case.choose(cases.volume("left AP"), cases.volume("left LAT"), outlines=True)
        case.apply()
        case.pick(0)
        case.panel.review.accept()
        case.panel.ui.noteEdit.text = "biopsy advised"
        case.panel.review.keep_note()
        case.pick(3)
        case.panel.review.reject()
        case.until(lambda: case.panel.overview.ready)
        case.panel.parent.show()
        slicer.app.processEvents()  # the overview took its place
        picture(case.panel, slicer, "BreastUSAIWorkup", tmp_path)
    finally:
        case.tearDown()


def test_every_option_of_the_workup_reaches_the_child(tmp_path):
    from BreastUSAILib import cli, run_command
    from BreastUSAILib.child_workup import cli_arguments
    from BreastUSAILib.workup_options import DetectionOptions, GradingOptions, SegmentationOptions, WorkupOptions

    chosen = WorkupOptions(
        *("some-model", "cpu", False, "all", 0.4, 0.7),
        detection=DetectionOptions("d", "c", threshold=0.2, maximum=3),
        segmentation=SegmentationOptions("s", threshold=0.3, iterations=2, uncertainty=False, refine=True),
        grading=GradingOptions("g", "m", "s", enhance=False, several=False),
    )
    for options in (chosen, WorkupOptions(), WorkupOptions(segmentation=None, grading=None)):
        arguments = cli_arguments(tmp_path / "a.nrrd", tmp_path / "out", options)
        parsed = cli.build_parser(arguments).parse_args(arguments)
        assert run_command._options(parsed).workup == options


def test_the_self_test(standin):
    """With the model that ships and a real child process."""
    standin[1].module.BreastUSAIWorkupTest().runTest()


def test_the_self_test_is_skipped_where_packages_are_missing(standin, monkeypatch):
    from BreastUSAILib import slicer_install

    monkeypatch.setattr(slicer_install, "missing", lambda: ["torch>=2.4"])
    said = []
    test = standin[1].module.BreastUSAIWorkupTest()
    monkeypatch.setattr(test, "delayDisplay", lambda text, *_: said.append(text))
    test.runTest()
    assert said[1:] == ["Skipped: torch>=2.4 are not installed in this Slicer."] * 2
