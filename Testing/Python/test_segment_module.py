"""What stands behind the panel of BreastUSAI Segment: files to and from the child, packages in Slicer, the Logic.

The Logic runs on the STAND-IN for Slicer's Python base (slicer_standin) with the real scene below, and in a real Slicer
through run_in_slicer.py; everything else here is the real thing.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import types
import unittest
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from BreastUSAILib import child_workup, slicer_install
from BreastUSAILib.child_detection import AbusPixels
from BreastUSAILib.child_process import ChildError
from BreastUSAILib.child_workup import ChildWorkup, VolumePixels, load_input, read_result, write_input
from BreastUSAILib.errors import Cancelled, DataError, DependencyError, ImageError, OutputError
from BreastUSAILib.files import write_study
from BreastUSAILib.findings import Box, Finding, ImageInfo, Study
from BreastUSAILib.workup import WorkupOptions

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODULE = ROOT / "BreastUSAI" / "BreastUSAISegment" / "BreastUSAISegment.py"
OBLIQUE = (0.36, 0.48, -0.8, -0.8, 0.60, 0.0, 0.48, 0.64, 0.60)


def _pixels(dtype=np.uint8, known=True, components=1, slices=1) -> VolumePixels:
    rng = np.random.default_rng(5)
    shape = (slices, 30, 40) if components == 1 else (slices, 30, 40, components)
    image = sitk.GetImageFromArray(rng.integers(0, 200, shape).astype(dtype), isVector=components > 1)
    if known:
        image.SetSpacing((0.07, 0.11, 2.0))
        image.SetOrigin((4.0, -5.0, 6.0))
        image.SetDirection(OBLIQUE)
    return VolumePixels(image, "case 7", known)


# --- to the child and back -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
@pytest.mark.parametrize("known", [True, False])
def test_the_child_reads_the_image_that_the_scene_holds(dtype, known):
    pixels = _pixels(dtype, known)
    loaded = load_input(pixels)
    assert (str(loaded.path), loaded.spacing_known) == ("case 7", known)
    found = sitk.GetArrayFromImage(loaded.image)
    np.testing.assert_array_equal(found.reshape(30, 40), sitk.GetArrayFromImage(pixels.image)[0])
    if known:
        assert loaded.image.GetSpacing() == pytest.approx(pixels.image.GetSpacing())
        assert loaded.image.GetOrigin() == pytest.approx(pixels.image.GetOrigin())
        assert loaded.image.GetDirection() == pytest.approx(OBLIQUE)
    else:
        assert any("pixels" in note for note in loaded.notes)


@pytest.mark.parametrize("known", [True, False])
def test_colour_becomes_grey(known):
    loaded = load_input(_pixels(known=known, components=3))
    assert loaded.image.GetNumberOfComponentsPerPixel() == 1 and loaded.image.GetSize()[:2] == (40, 30)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("components", [3, 4])
@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_colours_of_more_than_8_bits_lose_nothing(dtype, components, known):
    """Without a spacing they ended as black pictures of 8 bits, or the disk was blamed."""
    pixels = _pixels(dtype, known, components)
    red, green, blue = np.moveaxis(sitk.GetArrayFromImage(pixels.image)[0], -1, 0)[:3].astype(float)
    found = sitk.GetArrayFromImage(load_input(pixels).image).reshape(30, 40)
    np.testing.assert_allclose(found, 0.299 * red + 0.587 * green + 0.114 * blue, atol=0.51)


@pytest.mark.parametrize(("dtype", "components"), [(np.uint8, 2), (np.float32, 3), (np.int16, 4)])
@pytest.mark.parametrize("known", [True, False])
def test_what_is_no_colour_is_refused_and_not_the_disk_blamed(tmp_path, dtype, components, known):
    with pytest.raises(ImageError, match=f"case 7 holds {components} values a pixel that are no colours.*Vector to Scalar Volume"):
        write_input(_pixels(dtype, known, components), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name, stem", [("case 7", "case_7"), ("../a/b.c", "a_b_c"), ("…", "image"), ("a" * 99, "a" * 60), ("Müller 左乳 AP", "M_ller_AP"), ("左乳", "image")])
def test_any_name_makes_a_file(tmp_path, name, stem):
    """Of letters that every system spells alike: on Windows, ITK in the child finds no other files."""
    path = write_input(replace(_pixels(), name=name), tmp_path)
    assert path == tmp_path / f"{stem}.nrrd" and path.is_file()


@pytest.mark.parametrize("short, expected", [("C:/Users/JRG~1", "C:/Users/JRG~1"), ("", "C:/Users/Jörg")])
def test_the_childs_folder_has_its_short_name_on_windows(monkeypatch, short, expected):
    def short_name(folder, buffer, size):
        assert folder == "C:/Users/Jörg" and size > len(folder)
        buffer.value = short
        return len(short)

    assert child_workup._in_ascii("C:/Users/Jörg") == "C:/Users/Jörg"
    windll = types.SimpleNamespace(kernel32=types.SimpleNamespace(GetShortPathNameW=short_name))
    monkeypatch.setattr("ctypes.windll", windll, raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    assert child_workup._in_ascii("C:/Users/Jörg") == expected
    assert child_workup._in_ascii("C:/Users/Jane") == "C:/Users/Jane"


def test_volumes_of_several_slices_are_never_analysed(tmp_path):
    with pytest.raises(ImageError, match="case 7 is a volume of 3 slices.*Choose a 2D image"):
        write_input(_pixels(slices=3), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert "holds no pixels" in child_workup.reason_against_size((), "case 7")
    assert "single line" in child_workup.reason_against_size((40, 1, 1), "case 7")


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("known", [True, False])
def test_one_slice_may_lie_along_any_axis(axis, known):
    array = np.random.default_rng(1).integers(0, 200, (30, 40)).astype(np.uint8)
    image = sitk.GetImageFromArray(np.expand_dims(array, 2 - axis))
    image.SetSpacing((0.1, 0.2, 0.3))
    loaded = load_input(VolumePixels(image, "case 7", known))
    assert loaded.spacing_known is known
    np.testing.assert_array_equal(sitk.GetArrayFromImage(loaded.image).reshape(30, 40), array)
    given = VolumePixels(image, "case 7", known).with_spacing(0.05)
    assert given.spacing_known and image.GetSpacing() == (0.1, 0.2, 0.3)
    assert given.image.GetSpacing() == tuple((0.1, 0.2, 0.3)[a] if a == axis else 0.05 for a in range(3))
    assert not given.with_spacing(0).spacing_known


def _full(*_, **__):
    raise RuntimeError("sitk::ERROR: disk full")


def _no_room(*_, **__):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("place, broken", [("sitk.WriteImage", _full), ("tempfile.TemporaryDirectory", _no_room)])
def test_a_full_temporary_disk_is_one_sentence(monkeypatch, place, broken):
    monkeypatch.setattr(f"BreastUSAILib.child_workup.{place}", broken)
    for work in (load_input, lambda pixels: ChildWorkup(pixels, WorkupOptions())):
        with pytest.raises(OutputError, match="case 7 cannot be handed.*free some space"):
            work(_pixels())


def test_a_result_that_cannot_be_read_is_one_sentence(tmp_path):
    (tmp_path / "case_7").mkdir()
    (tmp_path / "case_7" / "study.json").write_text("{}")
    (tmp_path / "case_7" / "lesions.seg.nrrd").write_text("NRRD0004\n")
    with pytest.raises(OutputError, match="result of case 7 cannot be read.*start again"):
        read_result(tmp_path, "case 7")


def test_a_sheared_volume_is_refused_by_its_own_name_and_with_a_cure_that_cures():
    """Hardening a transform is what shears a volume in Slicer; and nobody knows the temporary file in which it goes out."""
    image = sitk.GetImageFromArray(np.random.default_rng(3).integers(0, 200, (6, 7, 8)).astype(np.uint8))
    image.SetDirection((1, 0.2, 0, 0, 0.98, 0, 0, 0, 1))
    with pytest.raises(ImageError) as caught:
        load_input(AbusPixels(image, "case 7", True))
    assert str(caught.value).startswith("case 7 has axes that are not at right angles to each other; resample it")
    assert "harden" not in str(caught.value) and "Resample Scalar/Vector/DWI Volume" in str(caught.value)


def test_the_childs_error_names_the_volume_and_no_temporary_file():
    code = "import sys; print('loading'); print(f'error: {sys.argv[2]} is constant.'); sys.exit(1)"
    job = ChildWorkup(_pixels(), WorkupOptions(), command=[sys.executable, "-c", code])
    job._child.wait(30)
    with pytest.raises(ChildError) as caught:
        job.result()
    assert str(caught.value) == "case 7 is constant."


@pytest.mark.parametrize("flat", [True, False])
def test_a_result_comes_back_with_masks_on_the_images_own_grid(tmp_path, flat):
    image = _pixels().image[:, :, 0] if flat else _pixels().image
    array = np.zeros((30, 40) if flat else (1, 30, 40), np.uint8)
    array[..., 4:9, 10:20] = 1
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(image)
    finding = Finding("L1", Box((1, 2, 0), (3, 4, 0)), 0.8, mask=mask, label=1)
    study = Study(ImageInfo.of(image, "/tmp/x/image.nrrd"), (finding,))
    write_study(study, tmp_path / "image")
    back = read_result(tmp_path, "case 7")
    assert back == replace(study, image=replace(study.image, path="case 7"))
    found = back.findings[0].mask
    assert found.GetDirection() == pytest.approx(mask.GetDirection())
    assert found.GetOrigin() == pytest.approx(mask.GetOrigin())
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), array)


def test_a_run_without_result_says_so(tmp_path):
    with pytest.raises(DataError, match="case 7 left 0 results"):
        read_result(tmp_path, "case 7")


def test_a_job_leaves_no_files_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    job = ChildWorkup(_pixels(), WorkupOptions(), command=[sys.executable, str(HERE / "standin_cli.py")])
    assert len(list(tmp_path.iterdir())) == 1
    job._child.wait(60)
    assert job.result().image.path == "case 7"
    cancelled = ChildWorkup(
        _pixels(), WorkupOptions(threshold=0.13), command=[sys.executable, str(HERE / "standin_cli.py")]
    )
    cancelled.cancel()
    with pytest.raises(Cancelled):
        cancelled._child.wait(10)
        cancelled.result()
    with pytest.raises(ImageError):
        ChildWorkup(_pixels(slices=2), WorkupOptions())
    assert list(tmp_path.iterdir()) == []


# --- packages in Slicer ----------------------------------------------------------------------------------------------


@pytest.fixture
def installed(monkeypatch):
    """Pretends which packages are installed; returns the dictionary name -> version."""
    versions = {"numpy": "2.1.0", "SimpleITK": "2.5.0", "torch": "2.8.0", "pydicom": "3.0.1"}
    for requirement in slicer_install.requirements():
        versions[slicer_install._requirement(requirement).name] = "99.0"

    def version(name):
        if name not in versions:
            raise slicer_install.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(slicer_install.metadata, "version", version)
    return versions


def test_nothing_is_asked_when_nothing_is_missing(installed):
    slicer_install.ensure_dependencies(lambda text: pytest.fail(f"asked: {text}"))


def test_what_is_missing_or_too_old_is_found(installed):
    del installed["scikit-image"]
    installed["torch"] = "1.13.0"
    assert slicer_install.missing() == ["torch>=2.4", "scikit-image>=0.22"]


def test_slicers_old_pydicom_is_left_and_told(installed, monkeypatch, capsys):
    assert slicer_install.notes() == []
    installed["pydicom"] = "2.4.4"
    assert slicer_install.missing() == []
    (note,) = slicer_install.notes()
    assert "pydicom 2.4.4" in note and "pydicom>=3.0" in note
    from BreastUSAILib import cli

    script = _batch()
    monkeypatch.setattr(script, "application", lambda: object())
    monkeypatch.setattr(cli, "main", lambda arguments: 0)
    assert script.main(["a.png"]) == 0
    assert note in capsys.readouterr().err
    del installed["pydicom"]  # not bundled: nothing of Slicer is overwritten
    assert (slicer_install.missing(), slicer_install.notes()) == (["pydicom>=3.0"], [])


def test_nothing_is_installed_without_consent(installed, monkeypatch):
    monkeypatch.setattr(slicer_install, "_install", lambda names: pytest.fail("installed"))
    monkeypatch.setattr(slicer_install, "_install_torch", lambda: pytest.fail("installed"))
    del installed["safetensors"]
    asked = []
    with pytest.raises(DependencyError, match="safetensors.*start again and agree"):
        slicer_install.ensure_dependencies(lambda text: asked.append(text))
    assert len(asked) == 1 and "safetensors" in asked[0]


def test_torch_comes_through_the_extension_pytorch(installed, monkeypatch):
    monkeypatch.setattr(slicer_install, "_is_loaded", lambda requirement: False)  # other tests have imported it here
    del installed["torch"]
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    with pytest.raises(DependencyError, match="extension PyTorch.*Extensions Manager"):
        slicer_install.ensure_dependencies(lambda text: True)

    calls = []

    class Logic:
        def installTorch(self, **kwargs):
            calls.append(kwargs)
            installed["torch"] = "2.8.0"
            return object()

    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.SimpleNamespace(PyTorchUtilsLogic=Logic))
    slicer_install.ensure_dependencies(lambda text: True)
    assert calls == [{"askConfirmation": False, "torchVersionRequirement": ">=2.4"}]

    Logic.installTorch = lambda self, **kwargs: None
    del installed["torch"]
    with pytest.raises(DependencyError, match="was not installed"):
        slicer_install.ensure_dependencies(lambda text: True)


@pytest.mark.parametrize("modern", [True, False])
def test_the_rest_is_installed_with_what_slicer_bundles_pinned(installed, monkeypatch, modern):
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    import slicer.util

    calls = []

    def done(names, constraints):
        calls.append(([str(n) for n in names], Path(constraints).read_text()))
        installed["tqdm"] = "4.67"

    def ensure(requirements, constraints, prompt_install, requester):
        assert not prompt_install and requester == "BreastUSAI"
        done(requirements, constraints)

    def install(arguments):
        assert arguments[0] == "--constraint"
        done(arguments[2:], arguments[1])

    packaging = types.SimpleNamespace(pip_ensure=ensure) if modern else None
    monkeypatch.setattr(slicer_install, "_slicer_packaging", lambda: packaging)
    monkeypatch.setattr(slicer.util, "pip_install", install)
    monkeypatch.setattr(slicer_install, "_is_loaded", lambda requirement: False)  # other tests have imported it here
    del installed["tqdm"]
    slicer_install.ensure_dependencies(lambda text: True)
    assert calls == [(["tqdm>=4.60"], "numpy==2.1.0\nSimpleITK==2.5.0\npydicom==3.0.1\n")]


@pytest.mark.parametrize("asks", [True, False])
def test_slicer_does_not_ask_for_a_restart_itself(installed, monkeypatch, asks):
    """The panel does, after it has kept what was about to be done."""
    given = []

    def asking(requirements, constraints=None, prompt_install=True, prompt_restart=True, requester=None):
        given.append(prompt_restart)
        installed["tqdm"] = "4.67"

    def older(requirements, constraints=None, prompt_install=True, requester=None):
        asking(requirements, constraints, prompt_install, False, requester)

    packaging = types.SimpleNamespace(pip_ensure=asking if asks else older)
    monkeypatch.setattr(slicer_install, "_slicer_packaging", lambda: packaging)
    monkeypatch.setattr(slicer_install, "_is_loaded", lambda requirement: False)  # other tests have imported it here
    del installed["tqdm"]
    slicer_install.ensure_dependencies(lambda text: True)
    assert given == [False]


def test_what_came_along_in_place_of_something_loaded_needs_a_restart(installed, monkeypatch):
    installed.update({"numpy": "2.1.0", "fsspec": "2024.1", "unused": "1.0"})
    modules = {"numpy": ["numpy"], "fsspec_of_a_test": ["fsspec"], "never_imported": ["unused"]}
    monkeypatch.setattr(slicer_install.metadata, "packages_distributions", lambda: modules)
    monkeypatch.setitem(sys.modules, "fsspec_of_a_test", types.ModuleType("fsspec_of_a_test"))
    monkeypatch.setattr(slicer_install, "_is_loaded", lambda requirement: False)
    monkeypatch.setattr(
        slicer_install, "_install", lambda names: installed.update(tqdm="4.67", fsspec="2025.1", unused="2.0")
    )
    del installed["tqdm"]
    with pytest.raises(slicer_install.RestartNeeded, match="A newer fsspec was installed; restart Slicer") as told:
        slicer_install.ensure_dependencies(lambda text: True)
    assert told.value.installed


def test_what_an_older_version_is_loaded_of_needs_a_restart(installed, monkeypatch):
    installed["safetensors"] = "0.1"
    monkeypatch.setitem(sys.modules, "safetensors", types.ModuleType("safetensors"))
    monkeypatch.setattr(slicer_install, "_install", lambda names: installed.update(safetensors="99.0"))
    with pytest.raises(slicer_install.RestartNeeded, match="newer safetensors was installed; restart Slicer") as told:
        slicer_install.ensure_dependencies(lambda text: True)
    assert told.value.installed
    slicer_install.ensure_dependencies(lambda text: pytest.fail(f"asked: {text}"))
    # What nobody imported yet is used at once.
    installed["safetensors"] = "0.1"
    monkeypatch.delitem(sys.modules, "safetensors")
    slicer_install.ensure_dependencies(lambda text: True)


def test_without_the_extension_pytorch_a_restart_is_not_enough(installed, monkeypatch):
    del installed["torch"]
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    with pytest.raises(slicer_install.RestartNeeded) as told:
        slicer_install.ensure_dependencies(lambda text: True)
    assert not told.value.installed


def test_a_failed_installation_is_a_message(installed, monkeypatch):
    pytest.importorskip("slicer", reason="slicer-core is not installed")

    def ensure(*_, **__):
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(slicer_install, "_slicer_packaging", lambda: types.SimpleNamespace(pip_ensure=ensure))
    del installed["tqdm"]
    with pytest.raises(DependencyError, match="tqdm>=4.60 could not be installed.*check the network"):
        slicer_install.ensure_dependencies(lambda text: True)


# --- the Logic, on the stand-in --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def application():
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    pytest.importorskip("PySide6", reason="PySide6 is not installed")
    from slicer_standin import slicer_application

    with slicer_application(MODULE) as slicer:
        yield slicer, importlib.import_module("BreastUSAISegment")


@pytest.fixture
def module(application):
    slicer, module = application
    slicer.mrmlScene.Clear(False)
    return module


def _volume(module, slices=1):
    return module.BreastUSAISegmentTest().syntheticImage(slices)[0]


def test_process_hands_options_and_progress_on_and_shows_the_study(module):
    from BreastUSAILib import mrml

    given = []

    def runner(loaded, options, progress):
        given.append((loaded, options))
        progress(0.5, "half")
        return Study(ImageInfo.of(loaded.image, str(loaded.path), loaded.spacing_known))

    seen = []
    volume = _volume(module)
    options = WorkupOptions(refine=False)
    nodes = module.BreastUSAISegmentLogic(runner=runner).process(
        volume, options=options, progress=lambda *p: seen.append(p)
    )
    loaded, got = given[0]
    assert got is options and seen == [(0.5, "half")]
    assert str(loaded.path) == "synthetic" and loaded.spacing_known
    assert mrml.study_from_nodes(volume, nodes.segmentation).image.path == "synthetic"


def test_process_changes_nothing_when_the_runner_fails(module):
    def runner(loaded, options, progress):
        raise ImageError("synthetic is constant; choose another image.")

    before = module.slicer.mrmlScene.GetNumberOfNodes
    volume = _volume(module)
    count = before()
    with pytest.raises(ImageError, match="constant"):
        module.BreastUSAISegmentLogic(runner=runner).process(volume)
    assert before() == count


def test_volumes_of_several_slices_are_refused_before_any_work(module):
    logic = module.BreastUSAISegmentLogic(
        runner=lambda *_: pytest.fail("was run"), childWorkup=lambda *_: pytest.fail("was started")
    )
    volume = _volume(module, slices=3)
    for work in (logic.process, lambda v: logic.start(v, WorkupOptions())):
        with pytest.raises(ImageError, match="3 slices"):
            work(volume)


def test_the_self_test_in_a_child_process_and_in_line_with_the_shipped_model(module):
    """The module's own self-test: real image file, real network, real command line."""
    module.BreastUSAISegmentTest().runTest()


def test_the_self_test_is_skipped_where_packages_are_missing(module, monkeypatch):
    """As on the machine that builds extensions, which has no PyTorch."""
    monkeypatch.setattr(slicer_install, "missing", lambda: ["torch>=2.4"])
    said = []
    test = module.BreastUSAISegmentTest()
    monkeypatch.setattr(test, "delayDisplay", lambda text, *_: said.append(text))
    test.runTest()
    assert said[:3] == ["Skipped: torch>=2.4 are not installed in this Slicer."] * 3
    assert len(said) == 4 and "volume" in said[3]
    result = unittest.TestResult()
    module.BreastUSAISegmentTest("test_inLine").run(result)
    assert len(result.skipped) == 1 and result.wasSuccessful()


# --- the batch script ------------------------------------------------------------------------------------------------


def _batch():
    path = ROOT / "BreastUSAI" / "BreastUSAIBatch" / "BreastUSAIBatch.py"
    spec = importlib.util.spec_from_file_location("BreastUSAIBatch", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_the_batch_script_says_in_slicer_what_is_missing(monkeypatch, capsys):
    script = _batch()
    monkeypatch.setattr(script, "application", lambda: object())
    monkeypatch.setattr(slicer_install, "missing", lambda: ["torch>=2.4"])
    assert script.main(["a.png", "--output", "out"]) == 2
    assert "needs torch>=2.4" in capsys.readouterr().err


@pytest.mark.parametrize("inside", [True, False])
def test_the_batch_script_hands_its_arguments_to_the_command_line(monkeypatch, capsys, inside):
    from BreastUSAILib import cli

    given = []
    monkeypatch.setattr(cli, "main", lambda arguments: given.append(arguments) or 3)
    monkeypatch.setattr(slicer_install, "missing", lambda: [])
    script = _batch()
    monkeypatch.setattr(script, "application", lambda: object() if inside else None)
    assert script.main(["a.png", "--output", "out"]) == 3
    limited = ["a.png", "--output", "out", "--memory", "8G"]
    assert script.main([*limited, "-j2"]) == 3 and given.pop()[-2:] == ["8G", "-j2"]
    assert script.main(limited) == (2 if inside else 3)
    said = capsys.readouterr().err
    assert ("leave --time-limit and --memory-limit out, or run this script in plain Python" in said) == inside and "--jobs" not in said
    if not inside:
        given.pop()
    first = ["--jobs", "0"] if inside else []  # inside Slicer, worker processes would be Slicers
    assert given == [["run", *first, "a.png", "--output", "out"]]
    for asked in (["--jobs=2"], ["--jobs", "2"], ["-j", "2"], ["-j2"]):
        script.main(["a.png", "--output", "out", *asked])
        assert cli.build_parser(given[-1]).parse_args(given[-1]).jobs == 2


def test_the_batch_script_in_plain_python_ends_with_the_runs_status(tmp_path):
    script = ROOT / "BreastUSAI" / "BreastUSAIBatch" / "BreastUSAIBatch.py"
    command = [sys.executable, str(script), str(tmp_path / "no.png"), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode not in (0, -6) and "no.png" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_every_option_of_the_workup_reaches_the_child(tmp_path):
    from BreastUSAILib.child_workup import cli_arguments
    from BreastUSAILib.cli import build_parser

    options = WorkupOptions("some-model", "cpu", False, "all", 0.4, 0.7)
    arguments = cli_arguments(tmp_path / "a.nrrd", tmp_path / "out", options)
    parsed = build_parser(arguments).parse_args(arguments)
    told = WorkupOptions(parsed.model, parsed.device, parsed.refine, parsed.lesions, parsed.threshold, parsed.minimum_score)
    assert told == options
