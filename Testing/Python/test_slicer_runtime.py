"""A MRML scene outside the application, on the real slicer-core."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from BreastUSAILib import slicer_runtime
from BreastUSAILib.errors import DependencyError

ROOT = Path(__file__).resolve().parents[2]


def _run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_importing_the_mrml_rooms_loads_neither_slicer_nor_vtk():
    code = (
        "import sys, BreastUSAILib.mrml, BreastUSAILib.slicer_runtime, BreastUSAILib.terminology\n"
        "print([m for m in ('slicer', 'vtk', 'vtkmodules', 'torch', 'skimage', 'qt') if m in sys.modules])"
    )
    assert _run(code).stdout.strip() == "[]"


def test_missing_slicer_core_names_the_cure():
    code = (
        "import sys; sys.modules['slicer'] = None\n"
        "from BreastUSAILib import slicer_runtime\n"
        "try:\n    slicer_runtime.import_slicer()\n"
        "except Exception as e:\n    print(type(e).__name__, e)"
    )
    assert _run(code).stdout.startswith("DependencyError")
    assert "pip install breastusai[slicer]" in _run(code).stdout


def test_another_package_named_slicer_is_told_apart(monkeypatch):
    import types

    monkeypatch.setitem(sys.modules, "slicer", types.ModuleType("slicer"))
    with pytest.raises(DependencyError, match="not 3D Slicer's"):
        slicer_runtime.import_slicer()


def test_a_segment_can_be_added_which_needs_the_segmentations_logic():
    with slicer_runtime.private_scene() as scene:
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        assert node.GetSegmentation().AddEmptySegment("L1") == "L1"


def test_private_scenes_are_separate_and_freed():
    freed = []
    with slicer_runtime.private_scene() as first, slicer_runtime.private_scene() as second:
        first.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        assert second.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
        first.AddObserver("DeleteEvent", lambda *_: freed.append("first"))
    del first
    assert freed == ["first"]


def test_scene_is_the_applications_where_there_is_one(monkeypatch):
    import slicer

    with slicer_runtime.private_scene() as application:
        application.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        monkeypatch.setattr(slicer, "mrmlScene", application, raising=False)
        with slicer_runtime.scene() as scene:
            assert scene is application
        assert application.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 1
    monkeypatch.delattr(slicer, "mrmlScene")
    with slicer_runtime.scene() as scene:
        assert scene is not application


def test_nothing_is_said_on_standard_error():
    code = (
        "from BreastUSAILib.slicer_runtime import private_scene\n"
        "with private_scene() as scene:\n"
        "    for kind in ('Segmentation', 'MarkupsROI', 'MarkupsFiducial', 'Table', 'ScalarVolume'):\n"
        "        scene.AddNewNodeByClass(f'vtkMRML{kind}Node')\n"
        "print('done')"
    )
    done = _run(code)
    assert (done.stdout.strip(), done.stderr.strip()) == ("done", "")
