"""Files of other people in a folder of results, under the names of ours: nothing of theirs is replaced or removed."""

import json
import os
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from grade_cases import grade_folder, image_of
from test_run import fake_run, image_at, source, tree

from BreastUSAILib import cli, run_input
from BreastUSAILib.errors import OutputError, UsageError
from BreastUSAILib.files import read_study
from BreastUSAILib.image import write_image
from BreastUSAILib.inputs import OVERVIEW, name_folders, read_run
from BreastUSAILib.run_input import move_results

THEIRS = ("lesions.seg.nrrd", "report.html", "findings.csv", "heatmap.nrrd")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def with_theirs(folder, names=THEIRS):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("work of hours")
    return folder


def folders_of(output):
    return {item["input"]: item["folder"] for item in read_run(output)["inputs"]}


@pytest.mark.parametrize("name", ["case1/case1.png", "heatmap/heatmap.nrrd", "preview/preview.jpg", "CASE1/case1.png"])
def test_a_run_leaves_a_folder_of_the_input_s_name_as_it_is(tmp_path, name):
    path = image_at(tmp_path / name)
    folder = with_theirs(path.parent, [n for n in THEIRS if n != path.name])
    before = contents(folder)
    assert not fake_run([path], tmp_path).failures
    assert contents(folder) == before
    given = folders_of(tmp_path)
    assert given == {str(path): path.name.replace(".", "_")}
    for lost in ((), ("run.json",)):
        for record in lost:
            os.unlink(tmp_path / record)
        assert fake_run([path], tmp_path).skipped == 1 and folders_of(tmp_path) == given
    fake_run([path], tmp_path, overwrite=True)
    assert folders_of(tmp_path) == given and contents(folder) == before


def test_a_folder_that_came_after_an_input_failed_is_left(tmp_path):
    path = tmp_path / "in" / "a.png"
    path.parent.mkdir()
    path.write_bytes(b"no image")
    assert len(fake_run([path], tmp_path / "out").failures) == 1 and folders_of(tmp_path / "out")[str(path)] == "a"
    before = contents(with_theirs(tmp_path / "out" / "a"))
    image_at(path)
    for _ in range(2):
        assert not fake_run([path], tmp_path / "out").failures
        assert folders_of(tmp_path / "out") == {str(path): "a_png"} and contents(tmp_path / "out" / "a") == before


def test_an_empty_folder_is_written_to(tmp_path):
    path = image_at(tmp_path / "in" / "a.png")
    (tmp_path / "out" / "a").mkdir(parents=True)
    fake_run([path], tmp_path / "out")
    assert folders_of(tmp_path / "out") == {str(path): "a"}
    assert run_input.UNFINISHED not in tree(tmp_path / "out" / "a")


def test_a_file_of_the_input_s_name_is_left(tmp_path):
    path = tmp_path / "scan"  # as DICOM files are called
    image_at(tmp_path / "scan.png").rename(path)
    before = path.read_bytes()
    fake_run([path], tmp_path)
    assert path.read_bytes() == before and folders_of(tmp_path)[str(path)] == f"{tmp_path.name}_scan"


def test_names_are_found_where_others_have_all_of_them():
    one = source("/d/sub/a.png")
    others = []
    for _ in range(6):
        others.append(name_folders([one], {}, others)[one.path].upper())
    assert others[:3] == ["A", "A_PNG", "SUB_A_PNG"] and len(set(others)) == 6


def cut_short(path, output, monkeypatch):
    """Redo an input; the disk is full while its old results are being replaced."""
    real = os.replace

    def full(old, new):
        if str(new) == str(output / path.stem / "report.html"):
            raise OSError(28, "No space left on device")
        real(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(run_input.os, "replace", full)
        assert len(fake_run([path], output, overwrite=True).failures) == 1


def test_what_a_run_left_when_it_was_cut_short_is_cleaned(tmp_path, monkeypatch):
    path, out = image_at(tmp_path / "in" / "a.png"), tmp_path / "out"
    fake_run([path], out)
    whole = tree(out / "a")
    (out / "a" / "heatmap.nrrd").write_text("of an earlier analysis")
    (out / "a" / "notes.txt").write_text("mine")
    cut_short(path, out, monkeypatch)
    assert "study.json" not in tree(out / "a") and run_input.UNFINISHED in tree(out / "a")
    shutil.rmtree(out / ".run", ignore_errors=True)
    (out / "run.json").unlink()
    assert not fake_run([path], out).failures
    assert folders_of(out) == {str(path): "a"} and tree(out / "a") == sorted([*whole, "notes.txt"])


def test_what_earlier_versions_left_when_they_were_cut_short_is_cleaned(tmp_path):
    """They left no mark; the records say that the folder held results."""
    path, out = image_at(tmp_path / "in" / "a.png"), tmp_path / "out"
    fake_run([path], out)
    whole = tree(out / "a")
    (out / "a" / "study.json").unlink()
    (out / "a" / "heatmap.nrrd").write_text("of an earlier analysis")
    assert not fake_run([path], out).failures
    assert folders_of(out) == {str(path): "a"} and tree(out / "a") == whole


def results_at(folder, names=("findings.csv", "study.json")):
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text('{"schema": "breastusai/study/1.0"}')
    return folder


def test_results_replace_nothing_in_a_folder_that_held_none(tmp_path):
    before = contents(with_theirs(tmp_path / "out" / "a"))
    with pytest.raises(OutputError, match=r"out/a/findings.csv is no result of BreastUSAI and would be replaced; move it, or choose another"):
        move_results(results_at(tmp_path / "made"), tmp_path / "out" / "a")
    assert contents(tmp_path / "out" / "a") == before
    (tmp_path / "out" / "b").mkdir()
    (tmp_path / "out" / "b" / "study.json").write_text(json.dumps({"schema": "another program's"}))
    with pytest.raises(OutputError, match=r"b/study.json is no result of BreastUSAI"):
        move_results(tmp_path / "made", tmp_path / "out" / "b")


def test_results_never_replace_a_file_of_their_input(tmp_path):
    folder = results_at(tmp_path / "out" / "a", ("findings.csv", "study.json", "heatmap.nrrd"))
    before = contents(folder)
    with pytest.raises(OutputError, match=r"a/heatmap.nrrd is a file of the input and would be replaced; choose another folder"):
        move_results(results_at(tmp_path / "made"), folder, [tmp_path / "out" / ".." / "out" / "a" / "heatmap.nrrd"])
    assert contents(folder) == before


def test_a_command_for_one_image_leaves_a_folder_of_its_name_as_it_is(tmp_path):
    weights = grade_folder(tmp_path / "mtnet", "mtnet")
    pixels, _ = image_of(True, np.random.default_rng(3))
    data = tmp_path / "data"
    (data / "heatmap").mkdir(parents=True)
    path = write_image(sitk.GetImageFromArray(pixels), data / "heatmap" / "heatmap.nrrd")
    before = contents(with_theirs(path.parent, ("lesions.seg.nrrd",)))
    for _ in range(2):  # the second takes the place of the first's
        arguments = ["grade", path, "--mtnet", weights, "--output", data, "--device", "cpu", "--one-crop", "--quiet"]
        assert cli.main([str(a) for a in arguments]) == 0
        assert contents(path.parent) == before
        assert tree(data).count("heatmap_nrrd/study.json") == 1 and {p.name for p in data.iterdir()} <= {"heatmap", "heatmap_nrrd", ".lock"}
    assert read_study(data / "heatmap_nrrd").image.path == str(path)


@pytest.mark.parametrize("name", OVERVIEW)
def test_a_run_replaces_no_table_that_is_not_of_a_run(tmp_path, name):
    path = image_at(tmp_path / "in" / "a.png")
    before = contents(with_theirs(tmp_path / "out", [name]))
    with pytest.raises(UsageError, match=rf"out holds a {name} that is not of a run; choose another folder for --output\.$"):
        fake_run([path], tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_copies_replace_no_table_that_is_not_of_a_run(tmp_path):
    pytest.importorskip("dicomanonymizer")
    path = image_at(tmp_path / "in" / "a.png")
    before = contents(with_theirs(tmp_path / "copies", ["summary.csv"]))
    with pytest.raises(UsageError, match=r"copies holds a summary.csv that is not of a run; choose another folder for --anonymize\.$"):
        fake_run([path], tmp_path / "out", anonymize=tmp_path / "copies")
    assert contents(tmp_path / "copies") == before and not (tmp_path / "out").exists()


def test_a_run_whose_record_is_damaged_goes_on(tmp_path):
    path, out = image_at(tmp_path / "in" / "a.png"), tmp_path / "out"
    fake_run([path], out)
    (out / "run.json").write_text("{")
    assert fake_run([path], out).skipped == 1
