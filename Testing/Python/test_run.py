"""Many inputs: which files, which folders, resuming, failures, processes, cancelling. A fake takes the model's place."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from fake_worker import FakeWorker, slow_square
from hypothesis import given, settings
from hypothesis import strategies as st

from BreastUSAILib import run as runs
from BreastUSAILib import run_command, run_input, run_overview, workers
from BreastUSAILib.errors import ImageError, ModelError, OutputError, UsageError
from BreastUSAILib.image import read_image
from BreastUSAILib.inputs import Found, Source, discover, name_folders, read_run
from BreastUSAILib.processor import cores
from BreastUSAILib.run import RunOptions, failed_inputs, run
from BreastUSAILib.run_input import InputWorker, Task
from BreastUSAILib.run_manifest import read_manifest
from BreastUSAILib.workers import run_tasks
from BreastUSAILib.workup import WorkupOptions


def image_at(path, value=100):
    array = np.full((24, 32), 20, np.uint8)
    array[8:16, 10:20] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    return path


def fake_run(names, output, log=None, progress=None, retry=False, **options):
    workup = WorkupOptions(model=options.pop("model", ""), grading=None)
    return run(
        [str(n) for n in names],
        RunOptions(output=output, workup=workup, scene=False, **options),
        progress,
        log,
        make_worker=FakeWorker,
        retry=retry,
    )


def find_inputs(names, output):
    """All that is discovered, in one."""
    parts = list(discover(names, output))
    return Found(*(tuple(x for part in parts for x in getattr(part, name)) for name in ("sources", "left", "failures")))


def tree(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


# ---------------------------------------------------------------------------------------------------- which inputs


def test_folders_are_searched_and_sorted_and_the_rest_named(tmp_path):
    for name in ("b.png", "a.png", "sub/deep/c.nrrd", "sub/mask.seg.nrrd", ".hidden/x.png"):
        image_at(tmp_path / "in" / name)
    (tmp_path / "in" / "labels.csv").write_text("id")
    (tmp_path / "in" / ".DS_Store").write_text("x")
    found = find_inputs([str(tmp_path / "in")], tmp_path / "out")
    assert [str(s.within) for s in found.sources] == ["a.png", "b.png", "sub/deep/c.nrrd"]
    assert sorted(p.name for p in found.left) == ["labels.csv", "mask.seg.nrrd"]
    assert found.failures == ()


def test_each_file_is_taken_once(tmp_path):
    a = image_at(tmp_path / "in" / "a.png")
    image_at(tmp_path / "in" / "b.png")
    found = find_inputs([str(a), str(tmp_path / "in"), str(tmp_path / "in" / "*.png")], tmp_path / "out")
    assert [s.path.name for s in found.sources] == ["a.png", "b.png"]


def test_patterns(tmp_path):
    for name in ("a1.png", "a2.png", "b.png", "sub/a3.png", "sub/[x].png"):
        image_at(tmp_path / name)
    (tmp_path / "a9.txt").write_text("x")

    def names(pattern):
        return [s.path.name for s in find_inputs([str(tmp_path / pattern)], tmp_path / "out").sources]

    assert names("a*") == ["a1.png", "a2.png"]
    assert names("**/a*.png") == ["a1.png", "a2.png", "a3.png"]
    assert names("**") == ["a1.png", "a2.png", "b.png", "[x].png", "a3.png"]
    assert names("s*") == ["[x].png", "a3.png"]
    assert names("sub/[x].png") == ["[x].png"]  # a file of that very name is no pattern
    assert [p.name for p in find_inputs([str(tmp_path / "a*")], tmp_path / "out").left] == ["a9.txt"]
    assert "matches no file" in find_inputs([str(tmp_path / "z*")], tmp_path / "out").failures[0][1]


def test_a_folder_that_is_there_is_no_pattern_whatever_its_name(tmp_path, monkeypatch):
    folder = tmp_path / "[2024] study"
    for name in ("a1.png", "sub [x]/a2.png", "sub [x]/b.png"):
        image_at(folder / name)
    assert [s.shown for s in find_inputs([f"{folder}/a*"], tmp_path / "out").sources] == [str(folder / "a1.png")]
    assert [s.path.name for s in find_inputs([f"{folder}/sub [x]/[ab]*.png"], tmp_path / "out").sources] == ["a2.png", "b.png"]
    assert [s.path.name for s in find_inputs([f"{folder}/**/a*.png"], tmp_path / "out").sources] == ["a1.png", "a2.png"]
    (missing,) = find_inputs([f"{folder}/gone.png"], tmp_path / "out").sources  # reading it says that it is missing
    assert missing.path == folder / "gone.png"
    monkeypatch.chdir(folder)
    fake_run(["a*.png"], tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    again = read_manifest(tmp_path / "out").inputs()
    assert [s.path for s in find_inputs(again, tmp_path / "again").sources] == [folder / "a1.png"]


def test_a_pattern_of_folders_finds_what_is_in_them(tmp_path):
    for name in ("p1/a.png", "x/y/p1/b.png", "x/y/p2/c.png", "p1/deep/d.png"):
        image_at(tmp_path / name)
    for pattern, expected in (("**/p1", "abd"), ("**/p*", "abcd"), ("**/*", "abcd"), ("*/y", "bc")):
        found = find_inputs([str(tmp_path / pattern)], tmp_path / "out")
        assert sorted(s.path.stem for s in found.sources) == list(expected) and found.failures == (), pattern


def test_all_below_a_pattern_is_what_is_in_its_folders(tmp_path):
    for name in ("x/sub/a.png", "sub/b.png", "sub/deep/c.png", "other/d.png"):
        image_at(tmp_path / "in" / name)
    found = find_inputs([f"{tmp_path}/in/**/sub/*"], tmp_path / "out")
    assert sorted(s.path.stem for s in found.sources) == ["a", "b", "c"]


def test_links_to_folders_are_followed_and_never_in_a_circle(tmp_path):
    image_at(tmp_path / "elsewhere" / "a.png")
    image_at(tmp_path / "in" / "sub" / "b.png")
    for link, target in (
        ("in/away", "elsewhere"),
        ("in/again", "elsewhere"),  # what was come to already
        ("in/own", "in/sub"),  # what the search comes to by itself
        ("in/up", "."),
        ("elsewhere/back", "in"),
        ("elsewhere/self", "elsewhere"),
    ):
        (tmp_path / link).symlink_to(tmp_path / target, target_is_directory=True)
    found = find_inputs([str(tmp_path / "in")], tmp_path / "out")
    assert sorted(s.path.name for s in found.sources) == ["a.png", "b.png"] and found.failures == ()


def test_a_link_to_a_hidden_folder_is_followed(tmp_path):
    """Its images were lost without a word: the search comes to no hidden folder by itself."""
    for name in ("in/.store/v1/a.png", "in/b.png", "away/.store/c.png", "in/.store/.v0/d.png"):
        image_at(tmp_path / name)
    for link, target in (
        ("in/current", "in/.store/v1"),
        ("in/.store/v1/up", "in"),
        ("in/.store/v1/self", "in/.store/v1"),
        ("in/away", "away"),
        ("away/own", "away/.store"),
    ):
        (tmp_path / link).symlink_to(tmp_path / target, target_is_directory=True)
    found = find_inputs([str(tmp_path / "in")], tmp_path / "out")
    assert sorted(str(s.within) for s in found.sources) == ["away/own/c.png", "b.png", "current/a.png"]


def test_a_link_into_the_results_of_a_run_is_followed(tmp_path):
    """The search comes to no such folder by itself."""
    for name in ("in/a/y.png", "in/run/imgs/x.png", "in/run/z.png"):
        image_at(tmp_path / name)
    (tmp_path / "in/run/run.json").write_text(json.dumps({"schema": "breastusai/run/1.0"}))
    (tmp_path / "in/wanted").symlink_to(tmp_path / "in/run/imgs", target_is_directory=True)
    for name in ("in", "in/**/*.png"):
        found = find_inputs([str(tmp_path / name)], tmp_path / "out")
        assert sorted(s.path.name for s in found.sources) == ["x.png", "y.png"], name


def test_a_pattern_finds_what_lies_right_in_the_folder_that_it_begins_with(tmp_path):
    for name in ("p/a.png", "p/sub/b.png"):
        image_at(tmp_path / name)
    (tmp_path / "p/run.json").write_text(json.dumps({"schema": "breastusai/run/1.0"}))
    for name in ("p/*.png", "p/**/*.png", "p/**"):
        found = find_inputs([str(tmp_path / name)], tmp_path / "out")
        assert [s.path.name for s in found.sources] == ["a.png"] and not found.failures, name
    (tmp_path / "p/a.png").unlink()
    found = find_inputs([str(tmp_path / "p/**/*.png")], tmp_path / "out")
    assert "p/**/*.png matches results, not images" in found.failures[0][1]


def test_a_pattern_that_matches_the_output_folder_alone_says_so(tmp_path):
    image_at(tmp_path / "img/a.png")
    found = find_inputs([str(tmp_path / "im*")], tmp_path / "img")
    assert found.failures[0][1] == f"{tmp_path / 'img'} is the output folder as well; choose another folder for --output."


@pytest.mark.parametrize("backwards", [False, True])
def test_links_are_followed_in_the_order_of_their_names(tmp_path, monkeypatch, backwards):
    """A file system lists them in any; what is run again must find the same paths."""
    image_at(tmp_path / "all" / "sub" / "s.png")
    image_at(tmp_path / "all" / "t.png")
    (tmp_path / "in").mkdir()
    for name, target in (("1", "all/sub"), ("2", "all"), ("3", "all"), ("4", "all/sub")):
        (tmp_path / "in" / name).symlink_to(tmp_path / target, target_is_directory=True)
    real = os.scandir

    class Listing:
        def __init__(self, path):
            self._entries = iter(sorted(real(path), key=lambda entry: entry.name, reverse=backwards))

        def __iter__(self):
            return self._entries

        def __next__(self):
            return next(self._entries)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def close(self):
            pass

    monkeypatch.setattr(os, "scandir", Listing)
    found = find_inputs([str(tmp_path / "in")], tmp_path / "out")
    assert [str(s.within) for s in found.sources] == ["1/s.png", "2/t.png"]


def test_an_image_comes_once_by_whatever_folders(tmp_path):
    one = image_at(tmp_path / "P" / "one.png")
    (tmp_path / "P" / "notes.txt").write_text("x")
    (tmp_path / "P" / "two.png").symlink_to(one)  # a link to a file is a file of its own
    (tmp_path / "Q").mkdir()
    (tmp_path / "Q" / "p").symlink_to(tmp_path / "P", target_is_directory=True)
    for names in (["P", "Q"], ["Q", "P"], ["*"], ["P/*", "Q"], ["P", "Q/p"], ["Q/p/*.png", "P"], ["**/*.png"], ["Q/p/one.png", "P"]):
        found = find_inputs([str(tmp_path / name) for name in names], tmp_path / "out")
        assert [s.path.name for s in found.sources] == ["one.png", "two.png"] and found.failures == (), names
        assert len(found.left) == (names != ["**/*.png"]), names


def test_all_that_is_below_is_searched_without_a_circle(tmp_path):
    """Two links back were as good as endless: each doubles the ways to a file, forty times over."""
    for name in ("in/x.png", "in/sub/y.png", "in/sub/p1/z.png", "away/w.png", "in/.hidden/h.png", "beside.png"):
        image_at(tmp_path / name)
    for link, target in (
        ("in/loop", "in"), ("in/again", "in"), ("in/up", "."), ("in/sub/away", "away"), ("in/other", "away"), ("away/back", "in/sub"), ("in/p2", "in/sub/p1")
    ):  # fmt: skip
        (tmp_path / link).symlink_to(tmp_path / target, target_is_directory=True)

    def names(pattern):
        found = find_inputs([str(tmp_path / pattern)], tmp_path / "out")
        assert found.failures == ()
        return [str(s.path.relative_to(tmp_path)) for s in found.sources]

    everything = ["in/other/w.png", "in/sub/p1/z.png", "in/sub/y.png", "in/x.png"]
    for pattern in ("in/**/*.png", "in/**", "in/**/**/*.png", "in/**/*", "i*/**/*.png"):
        assert names(pattern) == everything, pattern
    assert names("in/**/z.png") == ["in/sub/p1/z.png"]
    assert names("in/**/p*/*.png") == ["in/p2/z.png"]  # named by the link as well, and one image
    assert names("in/**/.h*/*.png") == ["in/.hidden/h.png"]


def test_results_are_never_taken_for_images(tmp_path):
    image_at(tmp_path / "in" / "a.png")
    for output in (tmp_path / "in" / "results", tmp_path / "in" / "results2", tmp_path / "in" / "results"):
        result = fake_run([tmp_path / "in"], output, overwrite=True)
        assert [r.folder for r in result.results] == ["a"]
    # preview.jpg is an image file; neither a pattern nor the output folder of another run brings it in
    found = find_inputs([str(tmp_path / "in" / "**"), str(tmp_path / "in" / "*")], tmp_path / "elsewhere")
    assert [s.path.name for s in found.sources] == ["a.png"]
    assert "holds results" in find_inputs([str(tmp_path / "in" / "results")], tmp_path / "x").failures[0][1]
    assert "choose another folder" in find_inputs([str(tmp_path / "in")], tmp_path / "in").failures[0][1]


def test_a_pattern_finds_images_in_the_output_folder(tmp_path, monkeypatch):
    """No shell of Windows expands patterns; where one does, these are files that are named."""
    for name in ("img/a.png", "img/sub/b.png", "c.png"):
        image_at(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # the second time the folder holds results
        for names, expected in (
            (["img/*.png"], ["a.png"]),
            (["*/*.png"], ["a.png"]),
            (["*.png"], ["c.png"]),
            (["**/*.png"], ["c.png", "a.png", "b.png"]),
            (["i*"], ["a.png", "b.png"]),
        ):
            found = find_inputs(names, Path("."))
            assert ([s.path.name for s in found.sources], found.failures) == (expected, ()), names
        result = fake_run(["**/*.png"], Path("."))
        assert [r.folder for r in result.results] == ["c", "a", "b"] and not result.failures
    image_at(tmp_path / ".run" / "x" / "preview.jpg")
    for pattern in ("**/*.jpg", "*/*.jpg", "a/*", ".run/*/*.jpg", "a", "[a]"):  # previews are image files
        assert find_inputs([pattern], Path(".")).sources == (), pattern
    # Seen from elsewhere it is a folder of results, in which only what is named is found.
    image_at(tmp_path / "d.png")
    assert [s.path.name for s in find_inputs([f"{tmp_path}/d*.png"], tmp_path / "out").sources] == ["d.png"]
    assert find_inputs([f"{tmp_path}/*/*.png"], tmp_path / "out").sources == ()


def test_a_pattern_without_images_is_a_failure(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("x")
    study_at(tmp_path / "in" / "study")
    (tmp_path / "in" / "empty").mkdir()
    fake_run([image_at(tmp_path / "a.png")], tmp_path / "in" / "results")
    for pattern, why in (
        ("*.txt", "matches no image file; check the pattern"),
        ("*.png", "matches no file; check the pattern"),
        ("s*/*.jpg", "matches results, not images"),
        ("res*/*", "matches results, not images"),
        ("**/typo*.png", "matches no file; check the pattern"),
        ("emp*", "has no image files in it"),
    ):
        ((named, sentence),) = find_inputs([f"{tmp_path}/in/{pattern}"], tmp_path / "out").failures
        assert why in sentence and named == str(tmp_path / "in" / pattern).replace("emp*", "empty")


def test_the_record_of_a_run_is_read_once_for_a_pattern(tmp_path, monkeypatch):
    """It lists every input of its run: a run over many images took minutes to begin."""
    from BreastUSAILib import inputs

    for k in range(4):
        image_at(tmp_path / "in" / f"{k}" / "deep" / "a.png")
    fake_run([tmp_path / "in" / "0"], tmp_path / "in" / "results")
    looked, real = [], inputs.read_run
    monkeypatch.setattr(inputs, "read_run", lambda folder: looked.append(folder) or real(folder))
    for pattern in ("*/*/*", "**/*.*", "*"):
        looked.clear()
        find_inputs([str(tmp_path / "in" / pattern)], tmp_path / "out")
        assert looked.count(tmp_path / "in" / "results") == 1 and tmp_path not in looked, pattern


def study_at(folder, schema="breastusai/study/1.0", **pictures):
    """What a command for one image leaves, or a folder of a run that was copied elsewhere; pictures that it has, by their names without suffix."""
    for name in ("preview.jpg", "heatmap.nrrd", "activation.nrrd", "lesions.seg.nrrd"):
        image_at(folder / name)
    for name in ("findings.csv", "report.html"):
        (folder / name).write_text("x")
    (folder / "study.json").write_text(json.dumps({"schema": schema, "image": {}, "findings": [], "provenance": {}}))
    return folder


def test_results_beside_a_study_are_passed_over_and_images_there_are_not(tmp_path):
    study_at(tmp_path / "in" / "maps" / "vol")
    image_at(tmp_path / "in" / "maps" / "vol" / "vol.nrrd")  # the image, beside which its result was exported
    image_at(tmp_path / "in" / "mine" / "heatmap.nrrd")  # no study there: a user's image that happens to be called so
    study_at(tmp_path / "in" / "foreign", schema="another/program")
    for names in ([tmp_path / "in"], [tmp_path / "in", tmp_path / "in" / "maps"], [tmp_path / "in" / "*"], [tmp_path / "in" / "**"]):
        parts = list(discover([str(name) for name in names], tmp_path / "out"))
        found = sorted("/".join(s.path.parts[-2:]) for part in parts for s in part.sources)
        assert found == ["foreign/activation.nrrd", "foreign/heatmap.nrrd", "foreign/preview.jpg", "mine/heatmap.nrrd", "vol/vol.nrrd"]
        ours = [path for part in parts for path in part.results]
        assert sorted(path.name for path in ours) == sorted(p.name for p in (tmp_path / "in/maps/vol").iterdir() if p.name != "vol.nrrd")
        assert set(ours) <= {path for part in parts for path in part.left}
    # What is named by itself is an input, whatever it is.
    assert len(find_inputs([str(tmp_path / "in/maps/vol/heatmap.nrrd")], tmp_path / "out").sources) == 1
    (tmp_path / "in/maps/vol/vol.nrrd").unlink()
    found = find_inputs([str(tmp_path / "in" / "maps")], tmp_path / "out")
    assert found.sources == () and "holds results, not images" in found.failures[0][1]


def test_a_study_that_another_program_wrote_anew_is_a_study(tmp_path):
    folder = study_at(tmp_path / "in")
    data = {"findings": [], "image": {"path": "x" * 9000}, "schema": "breastusai/study/1.7"}
    (folder / "study.json").write_text(json.dumps(data))
    assert find_inputs([str(folder)], tmp_path / "out").sources == ()


def test_names_decide_before_a_study_is_looked_into(tmp_path, monkeypatch):
    from BreastUSAILib import inputs

    for k in range(3):
        image_at(tmp_path / "in" / f"{k}" / "a.png")
        (tmp_path / "in" / f"{k}" / "other.json").write_text("{}")
    study_at(tmp_path / "in" / "r")
    looked, real = [], inputs.is_study
    monkeypatch.setattr(inputs, "is_study", lambda path: looked.append(path) or real(path))
    find_inputs([str(tmp_path / "in")], tmp_path / "out")
    assert looked == [tmp_path / "in" / "r" / "study.json"]  # once for all that lies there


def test_why_files_were_left_is_recorded(tmp_path):
    folder, said = tmp_path / "in", []
    image_at(folder / "a.png")
    image_at(folder / "mask.seg.nrrd")
    (folder / "notes.txt").write_text("x")
    (folder / "gone.txt").symlink_to(tmp_path / "nothing")
    study_at(folder / "r")
    result = fake_run([folder], tmp_path / "out", log=said.append)
    record = read_run(tmp_path / "out")
    why = record["left_because"]
    assert set(why) == set(record["left"]) and record["left_count"] == 10
    assert "link to a file that does not exist" in why[str(folder / "gone.txt")]
    assert "segmentation" in why[str(folder / "mask.seg.nrrd")] and "no image by its name" in why[str(folder / "notes.txt")]
    assert why[str(folder / "r" / "heatmap.nrrd")] == why[str(folder / "r" / "study.json")] == "a result of BreastUSAI, not an image of a scanner"
    assert said == [f"7 files are left out, as BreastUSAI wrote them: in {folder / 'r'}."]
    assert [r.folder for r in result.results] == ["a"] and not result.reasons  # the screen has those of DICOM files


def test_folders_of_results_that_are_passed_over_are_told_of(tmp_path, capsys):
    """A user's own images beside a run.json were left out without a word."""
    image_at(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "notes.txt").write_text("x")
    patient = image_at(tmp_path / "in" / "p1" / "mine.png").parent
    fake_run([patient / "mine.png"], patient)
    own = tmp_path / "in" / "out"
    (tmp_path / "in" / "last").symlink_to(own, target_is_directory=True)
    for names in ([tmp_path / "in"], [tmp_path / "in" / "*"], [tmp_path / "in" / "**"], [tmp_path / "in", tmp_path / "in" / "p*"]):
        result = fake_run(names, own)
        record = read_run(own)
        assert [r.folder for r in result.results if r.study] == ["a"]
        assert record["left"].count(str(patient)) == 1 and record["left_count"] == len(record["left"]) == 2
        assert record["left_because"][str(patient)] == "a folder with the results of a run, which is not looked into"
        run_command._print_left(result)
        assert capsys.readouterr().out == (
            f"Left out, as not images: 1 (notes.txt)\n1 folder holds results of a run and was not looked into: {patient}\n"
        )
    fake_run([tmp_path / "in" / "a.png"], tmp_path / "in" / "p2")
    (tmp_path / "in" / "notes.txt").unlink()
    run_command._print_left(fake_run([tmp_path / "in"], own))
    assert capsys.readouterr().out == f"2 folders hold results of runs and were not looked into: {patient}, {tmp_path / 'in' / 'p2'}\n"
    (tmp_path / "in" / "a.png").unlink()
    ((_, sentence),) = find_inputs([str(tmp_path / "in")], own).failures
    assert "in holds results, not images" in sentence


def test_the_folder_of_copies_is_this_run_s_own(tmp_path):
    image_at(tmp_path / "in" / "a.png")
    copies = tmp_path / "in" / "share"
    for _ in range(2):
        assert fake_run([tmp_path / "in"], tmp_path / "out", anonymize=copies).left == ()
    assert fake_run([tmp_path / "in"], tmp_path / "other").left == (copies,)


def test_a_link_to_an_image_that_is_missing_is_an_input_that_fails(tmp_path):
    image_at(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nothing.png")
    (tmp_path / "in" / "gone.seg.nrrd").symlink_to(tmp_path / "nothing.seg.nrrd")
    found = find_inputs([str(tmp_path / "in")], tmp_path / "out")
    assert [s.path.name for s in found.sources] == ["a.png", "gone.png"] and [p.name for p in found.left] == ["gone.seg.nrrd"]
    result = fake_run([tmp_path / "in"], tmp_path / "out")
    assert [r.source for r in result.failures] == [str(tmp_path / "in" / "gone.png")]
    with pytest.raises(ImageError, match="gone.png does not exist; check the name"):
        read_image(tmp_path / "in" / "gone.png")


def test_an_empty_name_is_not_the_folder_that_one_is_in(tmp_path, monkeypatch):
    image_at(tmp_path / "in" / "a.png")
    monkeypatch.chdir(tmp_path / "in")
    found = find_inputs(["", "a.png"], tmp_path / "out")
    assert [s.path.name for s in found.sources] == ["a.png"] and "empty text" in found.failures[0][1]


def test_names_that_cannot_be_looked_at_cost_their_input_alone(tmp_path):
    good, long = image_at(tmp_path / "good.png"), "x" * 300
    result = fake_run([f"{long}.png", tmp_path / long / "a.png", good, f"{long}*"], tmp_path / "out")
    assert [r.folder for r in result.results if r.study] == ["good"]
    assert [r.source for r in result.failures] == [f"{long}.png", str(tmp_path / long / "a.png"), f"{long}*"]
    with pytest.raises(OutputError, match="the name is too long; choose a shorter one"):
        fake_run([good], tmp_path / long)


def test_files_that_may_not_be_looked_at_are_inputs_that_fail(tmp_path, monkeypatch):
    image_at(tmp_path / "in" / "a.png")
    locked = image_at(tmp_path / "in" / "locked" / "b.png")
    real = os.stat

    def stat(path, *args, **kwargs):  # the tests may run as root, whom no permission stops
        if isinstance(path, (str, Path)) and Path(path) == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    def is_file(self):  # as Path.is_file of Python 3.10 to 3.13: what stat raises passes
        return stat(self) is not None

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(Path, "is_file", is_file)
    found = find_inputs([str(tmp_path / "in"), str(tmp_path / "in" / "locked" / "*")], tmp_path / "out")
    assert [s.path.name for s in found.sources] == ["a.png", "b.png"]


def test_empty_folders_and_missing_files_are_failures(tmp_path):
    (tmp_path / "empty").mkdir()
    found = find_inputs([str(tmp_path / "empty"), str(tmp_path / "missing.png")], tmp_path / "out")
    assert "no image files" in found.failures[0][1]
    assert [s.path.name for s in found.sources] == ["missing.png"]  # reading it says that it is missing


def test_a_folder_that_cannot_be_listed_is_a_failure_and_the_others_are_read(tmp_path, monkeypatch):
    image_at(tmp_path / "in" / "a.png")
    locked = image_at(tmp_path / "in" / "locked" / "b.png").parent
    real = os.scandir

    def scandir(path):  # the tests may run as root, whom no permission stops
        if Path(path) == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = find_inputs([str(tmp_path / "in")], tmp_path / "out")
    assert [s.path.name for s in found.sources] == ["a.png"]
    assert found.failures == ((str(locked), f"{locked} cannot be listed (Permission denied); check its permissions."),)


# -------------------------------------------------------------------------------------------------- folder names


def source(path, within=None):
    path = Path(path)
    return Source(path, str(path), Path(within or path.name))


def test_names_are_readable_and_clashes_are_told_apart():
    names = name_folders(
        [source("/d/a.png"), source("/d/sub/b.png", "sub/b.png"), source("/d/b.nii.gz"), source("/d/1.2.840.1")], {}
    )
    assert list(names.values()) == ["a", "sub_b", "b", "1.2.840.1"]
    assert set(name_folders([source("/d/a.png"), source("/d/a.dcm")], {}).values()) == {"a_png", "a_dcm"}
    assert set(name_folders([source("/x/a.png"), source("/y/a.png")], {}).values()) == {"x_a_png", "y_a_png"}
    formulas = {f"{first}1+1": "_1+1" for first in "=+-@"}
    assert {n: name_folders([source(f"/d/{n}.png")], {})[Path(f"/d/{n}.png")] for n in formulas} == formulas
    both = name_folders([source("/p/x/a.png"), source("/q/x/a.png")], {})
    assert len(set(both.values())) == 2 and all(n.startswith("x_a_png-") for n in both.values())
    assert name_folders([source("/d/INDEX.html.png"), source("/d/run.json.png")], {})[Path("/d/run.json.png")] == "run.json_png"


def test_a_source_keeps_its_name_and_nobody_else_gets_it():
    taken = {"a": "/x/a.png"}
    assert name_folders([source("/y/a.png"), source("/x/a.png")], taken) == {
        Path("/x/a.png"): "a",
        Path("/y/a.png"): "a_png",
    }


path_names = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="/\0"), min_size=1, max_size=60)
paths = st.lists(st.lists(path_names.filter(lambda n: n not in (".", "..")), min_size=1, max_size=3), min_size=1, max_size=8)


@given(paths)
@settings(max_examples=150, deadline=None)
def test_names_are_unique_possible_and_stable(parts):
    sources = list({p: source(p, p.relative_to("/d")) for p in (Path("/d", *x) for x in parts)}.values())
    names = name_folders(sources, {})
    assert set(names) == {s.path for s in sources}
    folded = [n.casefold() for n in names.values()]
    assert len(set(folded)) == len(folded)
    for name in names.values():
        assert name not in ("", ".", "..", "run.json") and not set(name) & set('<>:"/\\|?*\0')
        assert len(name.encode()) <= 110 and not name.endswith((" ", "."))
    taken = {name: str(path) for path, name in names.items()}
    assert name_folders(reversed(sources), taken) == names
    assert name_folders(reversed(sources), {}) == names


# ------------------------------------------------------------------------------------------------------ one run


def test_a_run_leaves_what_it_promises(tmp_path):
    image_at(tmp_path / "in" / "a.png")
    image_at(tmp_path / "in" / "none.png")
    result = fake_run([tmp_path / "in"], tmp_path / "out")
    assert [(r.folder, len(r.study.findings)) for r in result.results] == [("a", 1), ("none", 0)]
    common = {"study.json", "findings.csv", "boxes.mrk.json", "points.mrk.json", "report.html", "preview.jpg"}
    assert {p.name for p in (tmp_path / "out" / "a").iterdir()} == common | {"lesions.seg.nrrd"}
    assert {p.name for p in (tmp_path / "out" / "none").iterdir()} == common
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a", "none", "run.json", "summary.csv", "studies.csv", "index.html"}
    record = read_run(tmp_path / "out")
    assert record["status"] == "done"
    assert record["counts"] == {
        "inputs": 2, "with_lesion": 1, "without_lesion": 1, "lesions": 1, "failed": 0, "skipped": 0,
    }  # fmt: skip


def test_finished_inputs_are_skipped_and_overwrite_redoes_them(tmp_path):
    a = image_at(tmp_path / "in" / "a.png")
    fake_run([a], tmp_path / "out")
    study = tmp_path / "out" / "a" / "study.json"
    first = study.stat().st_mtime_ns
    said = []
    assert fake_run([a], tmp_path / "out", log=said.append).skipped == 1
    assert study.stat().st_mtime_ns == first
    assert "1 input finished earlier and skipped" in said[0] and "other options" not in said[0]
    said.clear()
    assert fake_run([a], tmp_path / "out", log=said.append, spacing_mm=0.1).skipped == 1
    assert "other options" in said[0]
    assert fake_run([a], tmp_path / "out", overwrite=True).skipped == 0
    assert study.stat().st_mtime_ns > first


def same_time(path, then):
    os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))


def size_of_finding(output, name="a"):
    study = json.loads((output / name / "study.json").read_text())
    return study["findings"][0]["box"]["size"] if study["findings"] else None


def wider(path):
    """Another picture of the same number of bytes."""
    array = np.full((24, 32), 20, np.uint8)
    array[4:20, 4:28] = 100
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


def test_an_input_that_was_replaced_under_its_name_is_redone(tmp_path):
    a, b = image_at(tmp_path / "in" / "a.mha"), image_at(tmp_path / "in" / "b.mha")
    out, said = tmp_path / "out", []
    fake_run([a, b], out)
    before, then = size_of_finding(out), a.stat()
    wider(a)
    assert a.stat().st_size == then.st_size
    result = fake_run([a, b], out, log=said.append)
    assert result.skipped == 1 and not result.failures and size_of_finding(out) != before
    assert said[0] == f"1 input was changed since it was finished and is not skipped: {a}."
    said.clear()
    assert fake_run([a, b], out, log=said.append).skipped == 2 and "changed" not in said[0]


def test_an_older_file_that_takes_the_name_is_another_all_the_same(tmp_path):
    """As `mv` and `cp -p` bring it: with a time before the run, and the same size."""
    a, out = image_at(tmp_path / "in" / "a.mha"), tmp_path / "out"
    other = tmp_path / "other.mha"
    wider(other)
    os.utime(other, (1_000_000_000, 1_000_000_000))
    fake_run([a], out)
    os.replace(other, a)
    assert fake_run([a], out).skipped == 0 and fake_run([a], out).skipped == 1


def test_what_was_only_touched_is_the_same_and_what_was_not_is_not_read(tmp_path, monkeypatch):
    from BreastUSAILib import run_search

    a, out, read = image_at(tmp_path / "in" / "a.mha"), tmp_path / "out", []
    fake_run([a], out)
    real = run_search.identity
    monkeypatch.setattr(run_search, "identity", lambda *args: read.append(args) or real(*args))
    assert fake_run([a], out).skipped == 1 and not read
    a.touch()
    assert fake_run([a], out).skipped == 1 and len(read) == 1
    a.unlink()  # its results stand: they are of no other picture
    assert fake_run([a], out).skipped == 1


@pytest.mark.parametrize("kept", ["size", "all", "nothing"])
def test_what_earlier_versions_kept_of_an_input_is_compared(tmp_path, kept):
    """They kept size and SHA-256, and when the study was made; before that, nothing."""
    a, out = image_at(tmp_path / "in" / "a.mha"), tmp_path / "out"
    fake_run([a], out)
    path = out / "a" / "study.json"
    data = json.loads(path.read_text())
    del data["provenance"]["input"]["stamp"]
    data["provenance"]["created"] = "2020-01-01T00:00:00+00:00" if kept == "all" else "2999-01-01T00:00:00+00:00"
    if kept == "nothing":
        del data["provenance"]["input"]
    path.write_text(json.dumps(data))
    assert fake_run([a], out).skipped == 1
    if kept == "size":
        a.write_bytes(a.read_bytes() + b"more")
    else:
        wider(a)
    assert fake_run([a], out).skipped == (1 if kept == "nothing" else 0)


def test_a_replaced_input_that_fails_keeps_the_old_results_and_is_tried_again(tmp_path, monkeypatch):
    a, out = image_at(tmp_path / "in" / "a.png"), tmp_path / "out"
    fake_run([a], out)
    before = {p.name: p.read_bytes() for p in (out / "a").iterdir()}
    a.write_text("no picture any more")
    for _ in range(2):
        assert len(fake_run([a], out).failures) == 1 and statuses(out) == {"a": "failed"}
        assert {p.name: p.read_bytes() for p in (out / "a").iterdir()} == before
    image_at(a, value=120)
    assert not fake_run([a], out).failures and statuses(out) == {"a": "done"}


def test_a_series_is_compared_as_a_whole_and_not_with_its_first_file(tmp_path):
    from dicom_samples import save, slices, speckle

    from BreastUSAILib.identity import identity
    from BreastUSAILib.run_input import file_stamp
    from BreastUSAILib.run_search import is_changed

    paths = tuple(save(ds, tmp_path / "s" / f"IM{k}.dcm") for k, ds in enumerate(slices(speckle((5, 12, 16)), (0.9, 0.7, 1.1))))

    def study(*files):
        kept = {**identity(paths[0], files), "stamp": file_stamp(paths[0], files)}
        return SimpleNamespace(provenance={"input": kept}, image=SimpleNamespace(path=str(paths[0])))

    whole, alone = Source(paths[0], "s", Path("s"), paths), Source(paths[0], "IM0", Path("IM0"))
    of_series, of_one = study(*paths), study()
    assert not is_changed(whole, of_series) and not is_changed(alone, of_one)
    assert not is_changed(alone, of_series)  # the series is told of, of which it is a part
    assert is_changed(whole, of_one)  # and now the whole series is asked for
    assert is_changed(replace(whole, files=paths[:4]), of_series)
    then = paths[3].stat()
    content = bytearray(paths[3].read_bytes())
    content[-1] ^= 1
    paths[3].write_bytes(content)
    assert is_changed(whole, of_series)
    same_time(paths[3], then)  # nobody sees that without reading all of it each time
    assert not is_changed(whole, of_series)
    for path in paths[1:]:
        path.unlink()
    assert is_changed(alone, of_series)  # the next medium has one file of this name


def test_the_pixels_beside_a_header_belong_to_the_input(tmp_path):
    from BreastUSAILib.run_input import file_stamp

    path = tmp_path / "a.mhd"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5), np.uint8)), str(path))
    before = file_stamp(path)
    os.utime(tmp_path / "a.raw", (1, 1))
    assert before and file_stamp(path) != before and file_stamp(tmp_path / "none.mhd") == ""


def test_unfinished_and_damaged_folders_are_redone(tmp_path):
    names = ("unfinished", "damaged", "good")
    for name in names:
        image_at(tmp_path / "in" / f"{name}.png")
    fake_run([tmp_path / "in"], tmp_path / "out")
    (tmp_path / "out" / "unfinished" / "study.json").unlink()
    (tmp_path / "out" / "damaged" / "study.json").write_text('{"schema": ')
    result = fake_run([tmp_path / "in"], tmp_path / "out")
    assert result.skipped == 1 and [r.folder for r in result.results if r.study] == sorted(names)


@pytest.mark.parametrize("damaged", [False, True])
def test_results_that_are_gone_when_a_run_ends_are_failures_in_all_its_records(tmp_path, damaged):
    names = [image_at(tmp_path / "in" / f"{name}.png") for name in "abc"]
    output = tmp_path / "out"

    def lose(folder):
        (folder / "study.json").write_bytes(b"") if damaged else shutil.rmtree(folder)

    def meanwhile(fraction, message):
        if message.startswith("b.png: done"):
            lose(output / "a")

    result = fake_run(names[:2], output, progress=meanwhile)
    why = f"{names[0]} was finished, and its study.json is gone or damaged; run it again."
    assert [failure.message for failure in result.failures] == [why]
    record = read_run(output)
    assert statuses(output) == {"a": "failed", "b": "done"} and [f["message"] for f in record["failures"]] == [why]
    assert failed_inputs(output) == [str(names[0])]
    lose(output / "b")
    assert not fake_run(names[2:], output).failures  # those of earlier runs are told of in the tables
    assert failed_inputs(output) == [str(names[0]), str(names[1])]
    assert (output / "failures.csv").read_text(encoding="utf-8").count("is gone or damaged") == 2
    again = fake_run([], output, retry=True)
    assert not again.failures and statuses(output) == {"a": "done", "b": "done", "c": "earlier"}
    assert not (output / "failures.csv").exists() and not list(output.glob("*/.study.json.replaced"))


def test_results_that_were_away_and_came_back_are_not_done_again(tmp_path):
    """As on a disk that was not there: what a person said of them would be lost."""
    names = [image_at(tmp_path / "in" / f"{name}.png") for name in "abc"]
    output = tmp_path / "out"
    fake_run(names[:2], output)
    (output / "a").rename(tmp_path / "away")
    fake_run(names[2:], output)
    assert failed_inputs(output) == [str(names[0])]
    (tmp_path / "away").rename(output / "a")
    before = (output / "a" / "study.json").stat()
    assert failed_inputs(output) == []
    assert fake_run(names, output).skipped == 3 and (output / "a" / "study.json").stat() == before
    assert statuses(output) == dict.fromkeys("abc", "done") and not (output / "failures.csv").exists()


def test_redoing_removes_old_results_and_keeps_what_a_person_put_there(tmp_path):
    a = image_at(tmp_path / "in" / "a.png")
    fake_run([a], tmp_path / "out")
    folder = tmp_path / "out" / "a"
    (folder / "scene.mrb").write_bytes(b"old")
    (folder / "my notes.txt").write_text("mine")
    fake_run([a], tmp_path / "out", overwrite=True)
    assert not (folder / "scene.mrb").exists() and (folder / "my notes.txt").read_text() == "mine"


def test_a_failed_redo_keeps_the_old_results(tmp_path, monkeypatch):
    a = image_at(tmp_path / "in" / "a.png")
    fake_run([a], tmp_path / "out")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out" / "a").iterdir()}

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_input.os, "replace", lambda *args: fail() if "findings" in str(args[1]) else os.rename(*args))
    result = fake_run([a], tmp_path / "out", overwrite=True)
    assert "disk is full" in result.failures[0].message
    monkeypatch.undo()
    left = {p.name: p.read_bytes() for p in (tmp_path / "out" / "a").iterdir()}
    assert left == before
    assert not list((tmp_path / "out").glob(".tmp-*"))


def statuses(output):
    return {i["folder"]: i["status"] for i in read_run(output)["inputs"]}


def test_a_failed_redo_is_done_again_by_the_next_run(tmp_path, monkeypatch):
    a, b = image_at(tmp_path / "in" / "a.png"), image_at(tmp_path / "in" / "b.png")
    out = tmp_path / "out"
    fake_run([a, b], out)
    with monkeypatch.context() as patch:
        patch.setattr("fake_worker.move_results", lambda *args: (_ for _ in ()).throw(OutputError("full.")))
        assert len(fake_run([a], out, overwrite=True).failures) == 1
    assert (out / "a" / "study.json").exists() and statuses(out) == {"a": "failed", "b": "earlier"}
    # A run of other inputs does not make it a success either.
    assert fake_run([b], out).skipped == 1
    assert statuses(out) == {"a": "redo", "b": "done"}
    rows = (out / "summary.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows[1:]] == ["done", "failed"] and "full." in rows[2]
    result = fake_run([a, b], out)
    assert result.skipped == 1 and not result.failures and statuses(out) == {"a": "done", "b": "done"}
    assert fake_run([a, b], out).skipped == 2


def test_the_cause_of_a_failure_is_told_until_it_is_mended(tmp_path):
    bad, a = image_at(tmp_path / "imageerror.png"), image_at(tmp_path / "a.png")
    out = tmp_path / "out"
    fake_run([bad], out)
    for _ in range(3):
        fake_run([a], out)
        item = next(i for i in read_run(out)["inputs"] if i["folder"] == "imageerror")
        assert (item["status"], item["shown"]) == ("failed", str(bad))
        for told in ((out / "failures.csv").read_text(), item["message"]):
            assert f"{bad} is broken; get another one." in told
    assert [Path(name).name for name in runs.failed_inputs(out)] == ["imageerror.png"]
    fake_run([bad.rename(tmp_path / "good.png"), a], out)
    assert not (out / "failures.csv").exists()


def test_what_a_cancelled_overwrite_had_before_it_is_redone(tmp_path):
    a = image_at(tmp_path / "in" / "a-interrupt.png")
    out = tmp_path / "out"
    out.mkdir()
    (out / "go-on").touch()
    fake_run([a], out)
    (out / "go-on").unlink()
    assert fake_run([a], out, overwrite=True).cancelled and statuses(out) == {"a-interrupt": "redo"}
    (out / "go-on").touch()
    assert fake_run([a], out).skipped == 0 and statuses(out) == {"a-interrupt": "done"}


def test_that_options_differ_is_said_as_long_as_they_do(tmp_path, monkeypatch):
    a, b = image_at(tmp_path / "a.png"), image_at(tmp_path / "b.png")
    out, said = tmp_path / "out", []
    fake_run([a], out)
    for _ in range(2):
        said.clear()
        fake_run([a, b], out, log=said.append, spacing_mm=0.1)
        assert "Done with other options" in said[0]
        records = {i["folder"]: i.get("options", {}).get("spacing_mm", "none told") for i in read_run(out)["inputs"]}
        assert records == {"a": None, "b": "none told"}
    assert said == ["2 inputs finished earlier and skipped; --overwrite redoes them. Done with other options: 1."]


def test_another_model_is_another_option_and_another_device_is_not(tmp_path, monkeypatch):
    from BreastUSAILib.models import zoo

    monkeypatch.setattr(zoo, "resolve", lambda name, task: (SimpleNamespace(id="m", version="1", sha256=name.removeprefix("alias of ")), None))
    a, said = image_at(tmp_path / "a.png"), []
    fake_run([a], tmp_path / "out", model="one")
    for model, differs in (("one", False), ("alias of one", False), ("two", True), ("two", True)):
        said.clear()
        options = RunOptions(tmp_path / "out", WorkupOptions(model=model, device="cpu", grading=None), scene=False)
        assert run([str(a)], options, None, said.append, make_worker=FakeWorker).skipped == 1
        assert ("other options" in said[0]) == differs
    monkeypatch.undo()  # a model that is gone is another one, too
    assert run([str(a)], options, None, said.append, make_worker=FakeWorker).skipped == 1 and "other options" in said[-1]


def test_another_image_of_the_same_name_does_not_meet_old_results(tmp_path):
    fake_run([image_at(tmp_path / "x" / "a.png")], tmp_path / "out")
    result = fake_run([image_at(tmp_path / "y" / "a.png")], tmp_path / "out")
    assert result.skipped == 0 and result.results[0].folder == "a_png"
    shutil.rmtree(tmp_path / "y")
    (tmp_path / "out" / "run.json").unlink()  # the studies still say whose they are
    assert fake_run([image_at(tmp_path / "z" / "a.png")], tmp_path / "out").results[0].folder == "z_a_png"
    assert fake_run([tmp_path / "x" / "a.png"], tmp_path / "out").skipped == 1


def test_the_overview_covers_earlier_runs_too(tmp_path):
    fake_run([image_at(tmp_path / "a.png")], tmp_path / "out")
    fake_run([image_at(tmp_path / "none.png")], tmp_path / "out")
    lines = (tmp_path / "out" / "summary.csv").read_text().splitlines()
    assert [line.split(",")[1:4] for line in lines[1:]] == [["done", "0", "none"], ["done", "1", "a"]]
    assert '"at": "./a/"' in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize("jobs", [1, 2])
def test_failures_cost_their_input_alone(tmp_path, jobs):
    if jobs > cores():
        pytest.skip(f"this machine has {cores()} core")
    names = ["a", "bug", "half", "imageerror", "none", "z"] + (["kill"] if jobs > 1 else [])
    for name in names:
        image_at(tmp_path / "in" / f"{name}.png")
    steps = []
    result = fake_run(
        [tmp_path / "in", tmp_path / "nothing*"], tmp_path / "out", jobs=jobs, progress=lambda f, m: steps.append(f)
    )
    done = [r.folder for r in result.results if r.study]
    assert done == ["a", "none", "z"]
    said = {Path(f.source).name: f.message for f in result.failures}
    assert "failed unexpectedly (ValueError: a bug of two lines); run it again with --debug" in said["bug.png"]
    assert said["half.png"] == f"{tmp_path}/in/half.png: {tmp_path}/out/half/scene.mrb cannot be written: the disk is full."
    assert said["imageerror.png"].startswith(f"{tmp_path}/in/imageerror.png is broken")
    if jobs > 1:
        assert "SIGKILL" in said["kill.png"] and "fewer --jobs" in said["kill.png"]
    assert "matches no file" in said["nothing*"]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*done, "run.json", "summary.csv", "studies.csv", "failures.csv", "index.html"}
    assert steps == sorted(steps) and steps[-1] == pytest.approx(1)
    record = read_run(tmp_path / "out")
    assert {f["input"]: f["message"] for f in record["failures"]} == {f.source: f.message for f in result.failures}
    index = (tmp_path / "out" / "index.html").read_text()
    assert all(index.count(name) > 1 for name in said)  # among the rows, and for browsers without scripts
    rows = (tmp_path / "out" / "summary.csv").read_text().splitlines()
    assert sum(",failed," in row for row in rows) == len(said)


@pytest.mark.parametrize("jobs, cure", [(1, "close other programs, or crop or resample it."), (2, "close other programs, or run with fewer --jobs.")])
def test_where_memory_runs_out_fewer_jobs_are_named_where_there_are_several(tmp_path, jobs, cure):
    task = run_input.Task(Source(tmp_path / "a.png", "a.png", Path("a.png")), tmp_path / "t", tmp_path / "f")
    assert run_input.failure_sentence(task, MemoryError(), jobs) == f"a.png needs more memory than there is; {cure}"
    assert runs._death(task, workers.End("crash", "was ended by SIGKILL"), jobs).endswith(f"or memory ran out: {cure}")


def test_processes_share_the_cores(tmp_path):
    if cores() < 2:
        pytest.skip("this machine has 1 core")
    for name in "abcd":
        image_at(tmp_path / "in" / f"{name}.png")
    before = dict(os.environ)
    result = fake_run([tmp_path / "in"], tmp_path / "out", jobs=2)
    threads = {int(r.study.provenance["options"]["threads"]) for r in result.results}
    assert all(2 * n <= cores() for n in threads)
    assert dict(os.environ) == before


def test_fewer_threads_that_the_user_asks_for_count_for_all_libraries(monkeypatch):
    for name in workers._THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "8")
    with workers._threads(4):
        numbers = {name: os.environ[name] for name in workers._THREAD_VARIABLES}
    assert numbers.pop("MKL_NUM_THREADS") == "1" and set(numbers.values()) == {"2"}
    assert os.environ["OPENBLAS_NUM_THREADS"] == "8" and "VTK_SMP_MAX_THREADS" not in os.environ


def test_one_process_for_each_core_at_most(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "cores", lambda: 1)
    image_at(tmp_path / "in" / "a.png")
    image_at(tmp_path / "in" / "b.png")
    said = []
    assert not fake_run([tmp_path / "in"], tmp_path / "out", jobs=8, log=said.append).failures
    assert said == ["Working in 1 processes, as many as there are processor cores."]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_missing_model_ends_the_run_and_leaves_nothing(tmp_path, jobs):
    image_at(tmp_path / "in" / "a.png")
    image_at(tmp_path / "in" / "b.png")
    with pytest.raises(ModelError, match="unknown"):
        fake_run([tmp_path / "in"], tmp_path / "new" / "out", jobs=jobs, model="missing")
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    with pytest.raises(ModelError):
        fake_run([tmp_path / "in"], tmp_path / "mine", jobs=jobs, model="missing")
    assert tree(tmp_path / "mine") == ["file"]


def test_cancel_keeps_what_is_finished_and_the_next_run_goes_on(tmp_path):
    for name in ("a", "b-interrupt", "c"):
        image_at(tmp_path / "in" / f"{name}.png")
    result = fake_run([tmp_path / "in"], tmp_path / "out")
    assert result.cancelled and [r.folder for r in result.results] == ["a"]
    assert not list((tmp_path / "out").glob(".tmp-*"))
    record = read_run(tmp_path / "out")
    assert record["status"] == "cancelled"
    assert [i["status"] for i in record["inputs"]] == ["done", "waiting", "waiting"]
    (tmp_path / "out" / "go-on").touch()
    again = fake_run([tmp_path / "in"], tmp_path / "out")
    assert again.skipped == 1 and [r.folder for r in again.results] == ["a", "b-interrupt", "c"]


def test_cancel_does_not_wait_for_a_folder_that_is_being_sorted_out(tmp_path, monkeypatch):
    first, late = (image_at(tmp_path / "in" / f"{name}.png") for name in ("a-interrupt", "b"))
    sorted_out = threading.Event()

    def slow(names, output):
        yield Found((source(first, first.name),))
        sorted_out.wait(30)
        yield Found((source(late, late.name),))

    monkeypatch.setattr(runs, "discover", slow)
    assert fake_run([tmp_path / "in"], tmp_path / "out").cancelled
    (search,) = [thread for thread in threading.enumerate() if thread.name == "search"]
    record = (tmp_path / "out" / "run.json").read_bytes()
    assert json.loads(record)["status"] == "cancelled"
    sorted_out.set()
    search.join(30)
    # It outlived its run, whose lock may be another's by now, and wrote nothing.
    assert tree(tmp_path / "out") == ["index.html", "run.json", "studies.csv", "summary.csv"] and (tmp_path / "out" / "run.json").read_bytes() == record


def test_a_reader_of_progress_that_has_gone_is_not_blamed_on_the_image(tmp_path):
    a = image_at(tmp_path / "in" / "a.png")
    options = RunOptions(tmp_path / "out", WorkupOptions(grading=None), scene=False)

    def gone(fraction, message):
        if fraction > 0:
            raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        InputWorker(options)(Task(Source(a, "a.png", Path("a.png")), tmp_path / "tmp", tmp_path / "out" / "a"), gone)
    assert not (tmp_path / "tmp").exists() and not (tmp_path / "out").exists()
    with pytest.raises(BrokenPipeError):
        run([str(a)], options, gone)
    assert not (tmp_path / "out").exists()  # nothing ended: neither done nor failed


def test_ending_early_ends_the_processes():
    pids = []
    events = run_tasks(slow_square, (60,), [1, 2, 3], 2)
    for event in events:
        pids.append(int(event.value[1]))
        if len(pids) == 2:
            break
    events.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_every_task_is_done_once():
    done = {e.task: e.value for e in run_tasks(slow_square, (0,), list(range(7)), 2) if e.kind == "done"}
    assert done == {i: i * i for i in range(7)}


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups on this system")
def test_processes_end_when_the_parent_is_killed(tmp_path):
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from BreastUSAILib.workers import run_tasks\n"
        "from fake_worker import slow_square\n"
        "if __name__ == '__main__':\n"
        "    for e in run_tasks(slow_square, (0.5,), [1, 2, 3, 4], 2): print(e.value[1], flush=True)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    here = Path(__file__).parent
    with subprocess.Popen(
        [sys.executable, str(script), str(here), str(here.parents[1])], stdout=subprocess.PIPE, text=True
    ) as parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] == "Z":
                return  # ended; nobody here is its parent to collect it
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the process lives on")


# --------------------------------------------------------------------------------------------------------- output


def test_the_output_folder_is_proven_before_any_work(tmp_path, monkeypatch):
    a = image_at(tmp_path / "a.png")
    monkeypatch.setattr(FakeWorker, "__call__", lambda *args: pytest.fail("work was begun"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="is a file; choose a folder"):
        fake_run([a], tmp_path / "file")
    with pytest.raises(OutputError, match="cannot be written"):
        fake_run([a], tmp_path / "file" / "out")
    assert tree(tmp_path) == ["a.png", "file"]


def test_a_disk_that_is_full_at_the_end_hides_no_failure(tmp_path, monkeypatch):
    for name in ("a", "bug"):
        image_at(tmp_path / "in" / f"{name}.png")
    real = run_overview.run_table.write_csv

    def write(path, *args):
        if path.name == "summary.csv":
            raise OutputError(f"{path} cannot be written: the disk is full.")
        return real(path, *args)

    monkeypatch.setattr(run_overview.run_table, "write_csv", write)
    result = fake_run([tmp_path / "in"], tmp_path / "out")
    assert [Path(f.source).name for f in result.failures] == ["bug.png", "summary.csv"]
    assert result.failures[1].message == f"{tmp_path}/out/summary.csv cannot be written: the disk is full."
    assert [Path(r.source).name for r in result.results] == ["a.png", "bug.png"]
    assert read_run(tmp_path / "out")["status"] == "done" and (tmp_path / "out" / "index.html").exists()


def test_what_a_killed_run_was_making_is_removed(tmp_path):
    left = (tmp_path / "out" / ".run" / "0123456789ab", tmp_path / "out" / ".tmp-0123456789ab.csv")
    for path in left:
        path.mkdir(parents=True)
        (path / "x").write_text("x")
    fake_run([image_at(tmp_path / "a.png")], tmp_path / "out")
    assert not any(path.exists() for path in left) and not (tmp_path / "out" / ".run").exists()


@pytest.mark.parametrize("recorded", [False, True])
def test_what_a_killed_process_left_is_no_folder_of_an_input(tmp_path, recorded):
    """The run removes it as it begins, and the results that it would write there with the next."""
    a, out = image_at(tmp_path / "a.png"), tmp_path / "out"
    fake_run([a], out)
    left = (out / "a").rename(out / ".tmp-0123456789ab")
    record = json.loads((out / "run.json").read_text())
    assert record["inputs"][0]["folder"] == "a"
    (out / "run.json").unlink()
    if recorded:  # as versions did that took it for the input's
        record["inputs"][0]["folder"] = left.name
        (out / "run.json").write_text(json.dumps(record))
    for skipped in (0, 1):
        assert fake_run([a], out).skipped == skipped
        assert (out / "a" / "study.json").exists() and not left.exists()


@pytest.mark.parametrize(
    "bad", [{"jobs": 0}, {"max_pixels": 0}, {"spacing_mm": -1.0}, {"spacing_mm": float("nan")}, {"frame": 0}]
)
def test_impossible_options(tmp_path, bad):
    with pytest.raises(UsageError, match=f"--{next(iter(bad)).replace('_mm', '').replace('_', '-')} is"):
        RunOptions(output=tmp_path, workup=WorkupOptions(), **bad)


def test_strange_names_survive(tmp_path):
    names = ["ärzte #1 100%.png", "@rows@ bug.png", "a b?&.png", "'quote\".png", "日本.png"]
    for name in names:
        image_at(tmp_path / "in ü" / name)
    result = fake_run([tmp_path / "in ü"], tmp_path / "out #%20 ö")
    assert [Path(f.source).name for f in result.failures] == ["@rows@ bug.png"]
    page = (tmp_path / "out #%20 ö" / "index.html").read_text(encoding="utf-8")
    rows = re.search('<script type="application/json" id="rows">(.*?)</script>', page, re.DOTALL)[1]
    assert sorted(row["name"] for row in json.loads(rows)) == sorted(names)
    record = json.loads((tmp_path / "out #%20 ö" / "run.json").read_text())
    assert sorted(Path(i["input"]).name for i in record["inputs"]) == sorted(names)


def test_names_that_are_not_text_survive(tmp_path):
    raw = os.fsencode(tmp_path) + b"/bad-\xff.png"
    image_at(tmp_path / "good.png")
    try:
        shutil.copy(tmp_path / "good.png", raw)
    except OSError:
        pytest.skip("this file system takes no such names")
    result = fake_run([os.fsdecode(raw), tmp_path / "good.png"], tmp_path / "out")
    assert [r.folder for r in result.results if r.study] == ["good"]
    assert "not valid UTF-8; rename it" in result.failures[0].message
    with pytest.raises(UsageError, match="UTF-8"):
        RunOptions(output=os.fsdecode(raw), workup=WorkupOptions())
    assert {"index.html", "summary.csv", "run.json"} <= {p.name for p in (tmp_path / "out").iterdir()}


def test_results_carry_no_pixels(tmp_path):
    result = fake_run([image_at(tmp_path / "a.png")], tmp_path / "out")
    assert all(f.mask is None for r in result.results for f in r.study.findings)
    assert replace(result.results[0].study, findings=()).heatmap is None
