"""What was about to be done before a restart is offered once after it; on the stand-in for Slicer's GUI side."""

from __future__ import annotations

import json

import pytest
from panel_on_standin import standin_fixture

standin = standin_fixture("BreastUSAIWorkup", "workup_widget_cases")
INSTALLED, NO_EXTENSION = True, False


@pytest.fixture
def case(standin, monkeypatch, tmp_path):
    """A case of the panel, with settings of its own and dialogs that are noted."""
    import qt

    from BreastUSAILib import slicer_resume

    slicer, cases = standin
    case = cases.PanelCase()
    case.setUp()
    case.settings = qt.QSettings(str(tmp_path / "settings.ini"), qt.QSettings.Format.IniFormat)
    monkeypatch.setattr(slicer_resume.qt, "QSettings", lambda: case.settings)
    case.asked, case.answer, case.restarts = [], True, []

    def confirm(text, *_, **__):
        case.asked.append(text)
        return case.answer

    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", confirm)
    monkeypatch.setattr(slicer.util, "restart", lambda: case.restarts.append(True))
    monkeypatch.setattr(slicer.util, "selectModule", lambda name: case.panel.enter())
    monkeypatch.setattr(slicer.util, "getModuleWidget", lambda name: case.panel)
    yield case
    case.tearDown()


def _needs_restart(case, installed):
    from BreastUSAILib.slicer_install import RestartNeeded

    def ensure(confirm):
        raise RestartNeeded(
            "A newer torch was installed; restart Slicer, which still uses the one from before.", installed
        )

    case.panel.logic.ensureDependencies = ensure


def _saved(cases, folder):
    """A volume node that has a file, as one that was loaded."""
    import slicer

    from BreastUSAILib import mrml

    node = cases.image("kept")
    path = folder / "kept.nrrd"
    import SimpleITK as sitk

    sitk.WriteImage(mrml.image_from_volume(node), str(path))
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    node.SetAndObserveStorageNodeID(storage.GetID())
    return node, path


def test_after_the_restart_it_is_offered_once_and_done(standin, case, monkeypatch, tmp_path):
    from BreastUSAILib import mrml, mrml_workup, slicer_resume

    slicer, cases = standin
    node, path = _saved(cases, tmp_path)
    case.choose(node)
    case.panel._parameterNode.allLesions = True
    _needs_restart(case, INSTALLED)
    case.panel.ui.applyButton.click()
    assert case.restarts == [True] and case.panel._job is None
    assert "restart Slicer" in case.asked[0] and "whether to go on with kept" in case.asked[0]
    assert "What was not saved is lost" in case.asked[0]

    # Slicer starts anew: an empty scene, a new panel, packages that work.
    slicer.mrmlScene.Clear(False)
    case.closePanel(case.panel)
    case.panel = case.openPanel()
    case.asked.clear()
    assert not case.panel._parameterNode.allLesions
    monkeypatch.setattr(slicer.util, "loadVolume", lambda file: case.image_from(file), raising=False)
    case.image_from = lambda file: mrml.add_volume(slicer.mrmlScene, _read(file), "kept") if file == str(path) else None
    assert not slicer_resume.offer("BreastUSAISegment", "BreastUSAI Segment")  # it was not that module's
    assert slicer_resume.offer("BreastUSAIWorkup", "BreastUSAI Workup")
    (question,) = case.asked
    assert "BreastUSAI Workup was about to work on kept" in question and str(path) in question
    case.until(lambda: case.panel._job is None)
    assert (case.errors, case.ids()) == ([], ["L1"])
    assert case.panel._parameterNode.allLesions
    assert mrml_workup.image_of(case.shown(case.panel._parameterNode.inputVolume)).GetName() == "kept"
    # Once.
    assert not slicer_resume.offer("BreastUSAIWorkup", "BreastUSAI Workup")
    assert len(case.asked) == 1


def _read(file):
    import SimpleITK as sitk

    return sitk.ReadImage(file)


def _put_off(standin, case, tmp_path):
    """A press on Apply that needs a restart, which the person does not want now."""
    node, _path = _saved(standin[1], tmp_path)
    case.choose(node)
    _needs_restart(case, INSTALLED)
    case.answer = False
    case.panel.ui.applyButton.click()


def test_who_says_no_is_not_asked_again(standin, case, tmp_path):
    from BreastUSAILib import slicer_resume

    _put_off(standin, case, tmp_path)
    assert case.restarts == []
    assert case.settings.contains(slicer_resume.KEY)
    assert not slicer_resume.offer("BreastUSAIWorkup", "BreastUSAI Workup")
    assert not case.settings.contains(slicer_resume.KEY)
    assert case.panel._job is None


def test_without_the_extension_nothing_is_restarted_but_all_is_kept(standin, case, tmp_path):
    from BreastUSAILib import slicer_resume

    node, path = _saved(standin[1], tmp_path)
    case.choose(node)
    _needs_restart(case, NO_EXTENSION)
    case.panel.ui.applyButton.click()
    assert (len(case.errors), case.asked, case.restarts) == (1, [], [])
    kept = json.loads(case.settings.value(slicer_resume.KEY))
    assert (kept["module"], kept["image"], kept["file"], kept["scene"]) == ("BreastUSAIWorkup", "kept", str(path), "")
    assert kept["parameters"]["device"] == "AUTO" and "inputVolume" not in kept["parameters"]


def test_a_slicer_without_a_window_leaves_the_offer_to_the_next(standin, case, monkeypatch, tmp_path):
    from BreastUSAILib import slicer_resume

    slicer, _cases = standin
    _put_off(standin, case, tmp_path)
    case.asked.clear()
    monkeypatch.setattr(slicer.app, "testingEnabled", lambda: False)
    slicer_resume.offer_after_start("BreastUSAIWorkup", "BreastUSAI Workup")
    monkeypatch.setattr(slicer.util, "mainWindow", lambda: None)  # --no-main-window, as in the batch
    slicer.app.startupCompleted.emit()
    assert (case.asked, case.settings.contains(slicer_resume.KEY)) == ([], True)
    monkeypatch.setattr(slicer.util, "mainWindow", lambda: case.panel.parent)
    slicer.app.startupCompleted.emit()
    assert (len(case.asked), case.settings.contains(slicer_resume.KEY)) == (1, False)


@pytest.mark.parametrize("opens", [True, False])
def test_an_image_that_the_saved_scene_does_not_hold_is_opened_from_its_file(
    standin, case, monkeypatch, tmp_path, opens
):
    from BreastUSAILib import mrml, slicer_resume

    slicer, cases = standin
    node, path = _saved(cases, tmp_path)
    scene = tmp_path / "before.mrml"
    scene.write_text("<MRML></MRML>")
    case.choose(node)
    case.panel.ui.pixelSpacingSpinBox.value = 0.07
    slicer.mrmlScene.SetURL(str(scene))
    _needs_restart(case, INSTALLED)
    case.panel.ui.applyButton.click()
    slicer.mrmlScene.Clear(False)
    slicer.mrmlScene.SetURL("")
    opened = []

    def load_scene(file):
        opened.append(file)
        if not opens:
            raise RuntimeError(f"Failed to load node from file: {file}")

    def load(file):
        opened.append(file)
        return mrml.add_volume(slicer.mrmlScene, _read(file), "kept", spacing_known=False)

    monkeypatch.setattr(slicer.util, "loadScene", load_scene, raising=False)
    monkeypatch.setattr(slicer.util, "loadVolume", load, raising=False)
    case.panel.logic.ensureDependencies = lambda confirm: None
    assert slicer_resume.offer("BreastUSAIWorkup", "BreastUSAI Workup")
    case.until(lambda: case.panel._job is None)
    assert (opened, case.errors, case.ids()) == ([str(scene), str(path)], [], ["L1"])
    # What was typed is of this image.
    assert mrml.spacing_by_user(case.panel._parameterNode.inputVolume) == pytest.approx(0.07)


def test_an_image_without_a_file_is_asked_for(standin, case):
    from BreastUSAILib import slicer_resume

    slicer, cases = standin
    case.choose(cases.image("drawn"))
    _needs_restart(case, INSTALLED)
    case.panel.ui.applyButton.click()
    slicer.mrmlScene.Clear(False)
    assert not slicer_resume.offer("BreastUSAIWorkup", "BreastUSAI Workup")
    assert case.panel.ui.statusLabel.text == "Load drawn again, then press Run workup."
    assert case.panel._job is None


def test_a_file_that_is_gone_is_no_error(standin, case, monkeypatch, tmp_path):
    from BreastUSAILib import slicer_resume

    slicer, cases = standin
    node, path = _saved(cases, tmp_path)
    case.choose(node)
    _needs_restart(case, INSTALLED)
    case.panel.ui.applyButton.click()
    slicer.mrmlScene.Clear(False)
    path.unlink()

    def load(file):
        raise RuntimeError(f"Failed to load node from file: {file}")

    monkeypatch.setattr(slicer.util, "loadVolume", load, raising=False)
    assert not slicer_resume.offer("BreastUSAIWorkup", "BreastUSAI Workup")
    assert (case.errors, case.panel.ui.statusLabel.text) == ([], "Load kept again, then press Run workup.")


def test_work_that_begins_without_a_restart_is_not_offered_again(standin, case, tmp_path):
    from BreastUSAILib import slicer_resume

    _put_off(standin, case, tmp_path)
    case.panel.logic.ensureDependencies = lambda confirm: None
    case.apply()
    assert (case.errors, case.settings.contains(slicer_resume.KEY)) == ([], False)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"module": "BreastUSAIWorkup"}', "null"])
def test_settings_of_another_version_are_passed_over(standin, case, text):
    from BreastUSAILib import slicer_resume

    case.settings.setValue(slicer_resume.KEY, text)
    assert slicer_resume.take("BreastUSAIWorkup") is None
