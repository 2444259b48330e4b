"""The life of every panel: described, set up, bound, visited, closed, saved and opened, unloaded; nothing is left behind.

On Slicer's own Python layer (ScriptedLoadableModule, parameterNodeWrapper, i18n) where BREASTUSAI_SLICER_SOURCE names a checkout of
Slicer's source, and on the stand-ins for it elsewhere; the scene and ``slicer.util`` are real in both. With the variable set, the cases of
all panels (test_module_*.py, test_segment_widget.py) run on Slicer's own layer, too.
"""

from __future__ import annotations

import enum
import importlib
import sys
import traceback
import typing
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")
pytest.importorskip("PySide6", reason="PySide6 is not installed")

MODULES = Path(__file__).resolve().parents[2] / "BreastUSAI"
PANELS = ("BreastUSAISegment", "BreastUSAIDetect", "BreastUSAIGrade", "BreastUSAIHeatmap", "BreastUSAIWorkup")
VISITS = 3


class Description:
    """What Slicer lets a module say of itself (the properties of qSlicerScriptedLoadableModule)."""

    __slots__ = ("acknowledgementText", "associatedNodeTypes", "categories", "contributors", "dependencies")
    __slots__ += ("helpText", "hidden", "icon", "index", "path", "title")


@pytest.fixture(scope="module", params=PANELS)
def panel_module(request):
    """A scripted module within the application: `slicer` and the imported module."""
    from slicer_standin import slicer_application

    with slicer_application(MODULES / request.param / f"{request.param}.py") as slicer:
        yield SimpleNamespace(slicer=slicer, name=request.param, module=importlib.import_module(request.param))


@pytest.fixture
def room(panel_module):
    """An empty scene, and room for a panel; what goes wrong in callbacks of Qt and VTK, which go on all the same, fails the test."""
    slicer, problems = panel_module.slicer, []
    slicer.mrmlScene.Clear(True)
    hook, sys.excepthook = (
        sys.excepthook,
        lambda *problem: problems.append("".join(traceback.format_exception(*problem))),
    )
    yield panel_module
    sys.excepthook = hook
    slicer.mrmlScene.Clear(True)
    assert not problems, problems[0]


def open_panel(room):
    import qt

    parent = room.slicer.qMRMLWidget()
    parent.setLayout(qt.QVBoxLayout())
    panel = getattr(room.module, f"{room.name}Widget")(parent)
    panel.setup()
    return panel


def close_panel(room, panel):
    """As Slicer does when the module is unloaded."""
    panel._onModuleAboutToBeUnloaded(room.name)
    panel.parent.deleteLater()


def observers(thing) -> int:
    """How many observers an object of VTK has, as it prints them."""
    return str(thing).count("EventName:")


def parameter_types(room) -> dict[str, type]:
    """Name of each parameter -> its type; of several, the first."""
    hints = typing.get_type_hints(getattr(room.module, f"{room.name}ParameterNode"), include_extras=False)
    return {name: (typing.get_args(hint) or (hint,))[0] for name, hint in hints.items()}


def another(room, panel, name, kind):
    """A value that a parameter does not have."""
    now = getattr(panel._parameterNode, name)
    if kind is bool:
        return not now
    if kind is float:
        return 0.25
    if kind is str:
        return f"/somewhere/{name}"
    if issubclass(kind, enum.Enum):
        return next(member for member in reversed(kind) if member is not now)
    return room.slicer.mrmlScene.AddNewNodeByClass(kind.__name__, name)


def widgets(panel) -> dict:
    """Parameter -> the widget that is bound to it."""
    named = {widget.property("SlicerParameterName"): widget for widget in vars(panel.ui).values()}
    return {name: widget for name, widget in named.items() if name}


def shown(widget):
    """What a widget shows: a node, a number, a bool, or the place in a list."""
    for attribute in ("currentNode", "checked", "value", "currentIndex", "text"):
        if hasattr(widget, attribute):
            value = getattr(widget, attribute)
            return value() if callable(value) else value
    raise AssertionError(f"{widget} shows nothing")


def expected(kind, value):
    return list(kind).index(value) if isinstance(value, enum.Enum) else value


def test_slicers_own_layer_is_used(panel_module):
    from slicer_standin import slicer_layer

    source = slicer_layer.source()
    if source is None:
        pytest.skip(
            f"{slicer_layer.VARIABLE} names no checkout of Slicer's source; the stand-ins for its Python layer were used"
        )
    for name in ("slicer.ScriptedLoadableModule", "slicer.parameterNodeWrapper", "slicer.i18n"):
        assert Path(sys.modules[name].__file__).is_relative_to(source)
    assert issubclass(
        getattr(panel_module.module, f"{panel_module.name}Widget"),
        sys.modules["slicer.ScriptedLoadableModule"].ScriptedLoadableModuleWidget,
    )


def test_the_module_describes_itself(room):
    parent = Description()
    parent.path = str(MODULES / room.name / f"{room.name}.py")
    getattr(room.module, room.name)(parent)
    assert parent.title.startswith("BreastUSAI ") and parent.categories == ["Ultrasound"]
    assert "Research use" in parent.helpText or "research" in parent.helpText.lower()
    assert parent.contributors == ["The BreastUSAI contributors"] and parent.acknowledgementText


def test_parameters_and_widgets_follow_each_other(room):
    panel = open_panel(room)
    kinds, bound = parameter_types(room), widgets(panel)
    assert set(bound) <= set(kinds)
    for name, widget in bound.items():
        before = shown(widget)
        value = another(room, panel, name, kinds[name])
        setattr(panel._parameterNode, name, value)
        assert shown(widget) == pytest.approx(expected(kinds[name], value)), name
        if hasattr(widget, "currentNode"):
            widget.setCurrentNode(None)
            assert getattr(panel._parameterNode, name) is None, name
            continue
        attribute = next(a for a in ("checked", "value", "currentIndex", "text") if hasattr(widget, a))
        setattr(widget, attribute, before)
        assert expected(kinds[name], getattr(panel._parameterNode, name)) == pytest.approx(before), name
    close_panel(room, panel)


def test_visits_leave_nothing_behind(room):
    scene = room.slicer.mrmlScene
    before = observers(scene)
    panel = open_panel(room)
    node = panel._parameterNode.parameterNode
    one_visit, in_the_scene = observers(node), observers(scene)
    for _ in range(VISITS):
        panel.exit()
        assert observers(node) == 0
        panel.enter()
    assert (observers(node), observers(scene)) == (one_visit, in_the_scene)
    close_panel(room, panel)
    assert observers(node) == 0
    assert panel.Observations == []
    for selector in [w for w in vars(panel.ui).values() if hasattr(w, "currentNode")]:
        selector.setMRMLScene(None)  # as it goes
    assert observers(scene) == before


def test_nothing_is_written_while_another_module_is_shown(room):
    panel = open_panel(room)
    kinds = parameter_types(room)
    node = panel._parameterNode
    kept = {name: getattr(node, name) for name in kinds}
    panel.exit()
    for name, widget in widgets(panel).items():
        if kinds[name] is bool:
            widget.checked = not widget.checked
        elif kinds[name] is float:
            widget.value = 0.31
    assert {name: getattr(node, name) for name in kinds} == kept
    panel.enter()
    assert {name: getattr(panel._parameterNode, name) for name in kinds} == kept
    close_panel(room, panel)


def test_a_closed_scene_is_a_new_beginning(room):
    panel = open_panel(room)
    kinds = parameter_types(room)
    fresh = {name: getattr(panel._parameterNode, name) for name in kinds}
    for name, kind in kinds.items():
        setattr(panel._parameterNode, name, another(room, panel, name, kind))
    room.slicer.mrmlScene.Clear(False)
    assert {name: getattr(panel._parameterNode, name) for name in kinds} == fresh
    assert not panel.ui.applyButton.enabled
    close_panel(room, panel)


def test_an_opened_scene_has_the_same_choices(room):
    scene = room.slicer.mrmlScene
    panel = open_panel(room)
    kinds = parameter_types(room)
    chosen = {}
    for name, kind in kinds.items():
        if name != "minimumScoreOf":  # is no choice, and goes with minimumScore
            chosen[name] = another(room, panel, name, kind)
            setattr(panel._parameterNode, name, chosen[name])
    # Some choices follow from others; what the panel holds in the end is what is to come back.
    chosen = {name: getattr(panel._parameterNode, name) for name in chosen}
    names = {name: value.GetName() if hasattr(value, "GetName") else value for name, value in chosen.items()}
    scene.SetSaveToXMLString(True)
    scene.Commit()
    text = scene.GetSceneXMLString()
    scene.SetSaveToXMLString(False)
    scene.Clear(False)
    scene.SetLoadFromXMLString(True)
    scene.SetSceneXMLString(text)
    scene.Import()
    scene.SetLoadFromXMLString(False)
    panel.enter()
    again = {name: getattr(panel._parameterNode, name) for name in chosen}
    assert {name: v.GetName() if hasattr(v, "GetName") else v for name, v in again.items()} == names
    for name, widget in widgets(panel).items():
        assert shown(widget) == pytest.approx(expected(kinds[name], again[name])), name
    close_panel(room, panel)


def test_a_removed_node_is_chosen_no_more(room):
    panel = open_panel(room)
    kinds = {name: kind for name, kind in parameter_types(room).items() if hasattr(kind, "SafeDownCast")}
    for name, kind in kinds.items():
        node = another(room, panel, name, kind)
        setattr(panel._parameterNode, name, node)
        room.slicer.mrmlScene.RemoveNode(node)
        chosen = getattr(panel._parameterNode, name)
        assert chosen is None or chosen.GetScene() is room.slicer.mrmlScene, name
    close_panel(room, panel)


def test_an_image_that_gets_its_pixels_late(room):
    """Slicer's selectors choose a node when it is added to the scene, whether it has pixels yet or not."""
    import vtk

    panel = open_panel(room)
    volume = room.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "late")
    assert panel._parameterNode.inputVolume is volume
    empty = panel.logic.reasonAgainst(volume, panel._parameterNode)
    assert panel.ui.applyButton.toolTip == empty != ""
    image = vtk.vtkImageData()
    image.SetDimensions(80, 60, 1)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    volume.SetAndObserveImageData(image)
    assert panel.ui.applyButton.toolTip != empty
    close_panel(room, panel)


def test_the_window_goes_before_the_modules(room):
    """When Slicer ends: what a panel gave to the main window is gone by the time that the panel is told."""
    import shiboken6

    panel = open_panel(room)
    for shortcut in panel.shortcuts.all if hasattr(panel, "shortcuts") else ():
        shiboken6.delete(shortcut)
    close_panel(room, panel)


def test_the_batch_ends_slicer(panel_module, monkeypatch):
    from BreastUSAILib import cli, slicer_install

    folder = MODULES / "BreastUSAIBatch"
    spec = importlib.util.spec_from_file_location("BreastUSAIBatch", folder / "BreastUSAIBatch.py")
    batch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(batch)
    assert batch.application() is panel_module.slicer
    seen = []
    monkeypatch.setattr(slicer_install, "missing", lambda: [])
    monkeypatch.setattr(cli, "main", lambda arguments: seen.append(arguments) or 0)
    assert batch.main(["a.png", "--output", "b"]) == 0
    assert seen == [["run", "--jobs", "0", "a.png", "--output", "b"]]
