"""What the commands for one image have in common: what they read, and where they write. Real files; networks whose weights are not learnt."""

from __future__ import annotations

import csv
import errno
import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_samples import save, slices, speckle, us_cine, us_image
from grade_cases import grade_folder, image_of
from small_models import detector_folder, outliner_folder

from BreastUSAILib import cli, one_image_command
from BreastUSAILib.compare_command import study_folder
from BreastUSAILib.dicom_out.anonymize import pseudonym, read_key
from BreastUSAILib.errors import DataError, ImageError
from BreastUSAILib.files import read_study, write_study
from BreastUSAILib.findings import Box, Finding, ImageInfo, Study
from BreastUSAILib.grid import box_of_mask, box_region, index_box
from BreastUSAILib.identity import identity, instance_digest
from BreastUSAILib.image import read_image, write_image
from BreastUSAILib.report import report_html
from BreastUSAILib.same_pixels import findings_on
from BreastUSAILib.study_image import read_study_image

SPACING = (0.9, 0.7, 1.1)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return detector_folder(tmp_path_factory.mktemp("models") / "detector")


def detect(path, model, output, *more):
    """The exit code of ``breastusai detect``, all candidates kept."""
    own = ["--model", model, "--output", output, "--device", "cpu", "--threshold", "0", "--maximum", "2"]
    return cli.main(["detect", *map(str, (path, *own, *more))])


@pytest.fixture(scope="module")
def graders(tmp_path_factory):
    """The words that name one grading network."""
    return ["--mtnet", str(grade_folder(tmp_path_factory.mktemp("graders") / "mtnet", "mtnet"))]


def grade(path, graders, output, *more):
    """The exit code of ``breastusai grade``."""
    own = ["--output", output, "--device", "cpu", "--one-crop", "--quiet"]
    return cli.main(["grade", *map(str, (path, *own, *graders, *more))])


def picture(path, seed=3):
    """A 2D image with a lesion, whose file does not say what a pixel measures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels, _ = image_of(True, np.random.default_rng(seed))
    return write_image(sitk.GetImageFromArray(pixels), path)


def series(folder):
    for k, dataset in enumerate(slices(speckle((20, 24, 30)), SPACING)):
        save(dataset, folder / f"IM{k:03}")
    return folder


def test_a_larger_image_is_read_where_it_is_asked_for_and_again_without_asking(graders, tmp_path, monkeypatch, capsys):
    path, out = picture(tmp_path / "a.png"), tmp_path / "out"
    size = read_image(path).image.GetSize()
    pixels = size[0] * size[1]
    monkeypatch.setattr("BreastUSAILib.pixels.MAX_PIXELS_2D", pixels - 1)
    assert grade(path, graders, out) == 1
    said = capsys.readouterr().err
    assert f"more than the limit of {pixels - 1:,}; crop or resample it, or raise the limit (breastusai run, detect, segment, grade or heatmap: --max-pixels)." in said
    assert grade(path, graders, out, "--max-pixels", "0") == 2
    assert "--max-pixels is 0; it must be 1 or more." in capsys.readouterr().err
    assert grade(path, graders, out, "--max-pixels", pixels) == 0
    # What was allowed once is read again by what has no such option, or is not given it; a limit that is given counts.
    found = out / "a"
    assert read_study_image(read_study(found), path).image.GetSize() == size
    assert cli.main(["export", str(found), "--output", str(tmp_path / "copy"), "--anonymize", "--key-file", str(tmp_path / "key")]) == 0
    assert grade(path, graders, out, "--findings", found) == 0
    assert grade(path, graders, out, "--findings", found, "--max-pixels", pixels - 1) == 1
    larger = write_image(sitk.GetImageFromArray(np.pad(sitk.GetArrayFromImage(read_image(path, max_pixels=pixels).image), ((0, 1), (0, 0)))), tmp_path / "b.png")
    with pytest.raises(ImageError, match=f"more than the limit of {pixels:,};"):
        read_study_image(read_study(found), larger)


@pytest.mark.parametrize("here, named", [("case7", "."), ("case7/below", ".."), ("case7/below", "../../case7/.")])
def test_the_folder_that_one_is_in_is_an_input(detector, tmp_path, monkeypatch, here, named):
    series(tmp_path / "case7")
    (tmp_path / "case7" / "below").mkdir()
    monkeypatch.chdir(tmp_path / here)
    assert detect(named, detector, tmp_path / "out") == 0
    assert np.allclose(read_study(tmp_path / "out" / "case7").image.spacing, SPACING)


@pytest.mark.parametrize("given, spacing", [(("0.08",), (0.08, 0.08)), (("0.08", "0.1"), (0.08, 0.1))])
def test_the_spacing_of_a_2d_image_is_one_number_or_two(graders, tmp_path, given, spacing):
    path = picture(tmp_path / "a.png")
    assert grade(path, graders, tmp_path / "out", "--spacing", *given) == 0
    info = read_study(tmp_path / "out" / "a").image
    assert info.spacing_known and info.spacing == spacing


@pytest.mark.parametrize("given, spacing", [(("0.9",), (0.9, 0.9, 0.9)), (("0.9", "0.7", "1.1"), (0.9, 0.7, 1.1))])
def test_the_spacing_of_a_volume_is_one_number_or_three(detector, tmp_path, given, spacing):
    path = write_image(sitk.GetImageFromArray(speckle((20, 24, 30))), tmp_path / "a.nrrd")
    assert detect(path, detector, tmp_path / "out", "--spacing", *given) == 0
    assert read_study(tmp_path / "out" / "a").image.spacing == spacing


def test_a_spacing_that_does_not_fit_is_told_with_the_file(detector, graders, tmp_path, capsys):
    flat = picture(tmp_path / "a.png")
    deep = write_image(sitk.GetImageFromArray(speckle((20, 24, 30))), tmp_path / "b.nrrd")
    out = tmp_path / "out"
    for command, arguments, words in (
        ("grade", [flat, "--spacing", "1", "1", "1"], f"{flat} is 2D and its spacing is given by 3 numbers; give 1 for all axes, or 2"),
        ("detect", [deep, "--spacing", "1", "2"], f"{deep} is 3D and its spacing is given by 2 numbers; give 1 for all axes, or 3"),
        ("detect", [deep, "--spacing", *"1234"], "--spacing 1 2 3 4 has 4 numbers; give 1, or 1 for each axis"),
        ("detect", [deep, "--spacing", "1", "0", "1"], "--spacing is 1 0 1; each must be a positive number"),
        ("detect", ["--spacing", "1", "1", "1", deep], f"'{deep}' is no number; name the image before --spacing"),
    ):
        own = graders if command == "grade" else ["--model", detector]
        assert cli.main([command, *map(str, (*arguments, "-o", out, "--device", "cpu", *own))]) == 2, words
        assert words in capsys.readouterr().err
    assert not out.exists()


# ------------------------------------------------------------------------------------ going on from an earlier result


def result(path, folder, spacing=None, *, record=True, region=((20, 14), (24, 18))):
    """A result of an image, as a run leaves it: one finding with its outline, and what was read and how."""
    loaded = read_image(path, spacing_mm=spacing)
    start, size = region
    array = np.zeros(loaded.image.GetSize()[::-1], np.uint8)
    array[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))[::-1]] = 1
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(loaded.image)
    finding = Finding("L1", box_of_mask(mask), 0.9, mask=mask, label=1)
    known = {"options": {"spacing_mm": spacing, "frame": None}, "input": identity(path)} if record else {}
    write_study(Study(loaded.info, (finding,), provenance={"models": [], "notes": [], "run": "r", **known}), folder)
    return folder


def test_findings_are_graded_on_the_spacing_that_they_were_made_on(graders, tmp_path):
    path = picture(tmp_path / "a.png")
    found = result(path, tmp_path / "found", 0.08)
    assert grade(path, graders, tmp_path / "out", "--findings", found) == 0
    before, after = read_study(found), read_study(tmp_path / "out" / "a")
    assert after.image.spacing_known and after.image.spacing == (0.08, 0.08)
    image = read_image(path, spacing_mm=0.08).image
    assert box_region(image, after.findings[0].box) == ((20, 14), (24, 18))
    assert after.findings[0].box == before.findings[0].box
    # The graded result knows it as well, for the next that goes on from it.
    assert grade(path, graders, tmp_path / "again", "--findings", tmp_path / "out" / "a") == 0
    assert read_study(tmp_path / "again" / "a").image == after.image


@pytest.mark.parametrize(
    "made, given, words",
    [
        (0.08, ("0.1",), "has pixels of 0.1 x 0.1 mm, and the findings were made on pixels of 0.08 x 0.08 mm; make them"),
        (None, ("0.1",), "has pixels of 0.1 x 0.1 mm, and the findings were made without knowing what a pixel measures; make them"),
        (None, ("1",), "has pixels of 1 x 1 mm, and the findings were made without knowing what a pixel measures"),
    ],
)
def test_findings_on_another_spacing_are_refused(graders, tmp_path, capsys, made, given, words):
    path = picture(tmp_path / "a.png")
    found = result(path, tmp_path / "found", made)
    assert grade(path, graders, tmp_path / "out", "--findings", found, "--spacing", *given) == 1
    said = capsys.readouterr().err
    assert f"{path} {words}" in said
    assert ("(or leave out --spacing)." if made is None else "(--spacing 0.08 0.08).") in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("made, now", [(0.08, 0.1), (0.08, None), (None, 0.1)])
def test_another_program_is_told_no_option(graders, tmp_path, capsys, made, now):
    """As 3D Slicer, whose user gives a spacing in the module Volumes: what the child says, and what is said without one."""
    path = picture(tmp_path / "a.png")
    found = result(path, tmp_path / "found", made, record=False)
    more = [] if now is None else ["--spacing", now]
    assert grade(path, graders, tmp_path / "out", "--findings", found, "--progress", "json", *more) == 1
    said = capsys.readouterr().err
    assert "make them again" in said and "--" not in said
    loaded = read_image(path, spacing_mm=now)
    with pytest.raises(DataError, match="make them again") as error:
        findings_on(read_study(found), loaded.image, str(path), spacing_known=loaded.spacing_known)
    assert str(error.value) in said and "--" not in str(error.value)


@pytest.mark.parametrize("record", [True, False])
def test_another_image_of_the_same_size_does_not_get_the_spacing(graders, tmp_path, capsys, record):
    """Screens of one scanner all have the same size: that alone does not make them the same image."""
    path = picture(tmp_path / "a.png")
    found = result(path, tmp_path / "found", 0.08, record=record)
    other = picture(tmp_path / "b.png", seed=4) if record else path
    assert grade(other, graders, tmp_path / "out", "--findings", found) == 1
    said = capsys.readouterr().err
    assert f"{other} does not say what a pixel measures" in said and "--spacing 0.08 0.08" in said
    assert not (tmp_path / "out").exists()
    assert grade(other, graders, tmp_path / "out", "--findings", found, "--spacing", "0.08") == 0


def test_boxes_in_a_volume_are_outlined_on_the_spacing_that_they_were_made_on(detector, tmp_path, capsys):
    path = write_image(sitk.GetImageFromArray(speckle((20, 24, 30))), tmp_path / "a.nrrd")
    joint = outliner_folder(tmp_path / "joint")
    assert detect(path, detector, tmp_path / "found", "--spacing", "0.9", "0.7", "1.1") == 0
    own = ["--model", joint, "--device", "cpu", "--no-uncertainty", "--quiet"]

    def segment(output, *more):
        return cli.main(["segment", *map(str, (path, "-o", output, "--findings", tmp_path / "found" / "a", *own, *more))])

    assert segment(tmp_path / "out") == 0
    found, outlined = (read_study(tmp_path / name / "a") for name in ("found", "out"))
    assert outlined.image == found.image and outlined.image.spacing == (0.9, 0.7, 1.1)
    assert segment(tmp_path / "other", "--spacing", "1") == 1
    assert "the findings were made on pixels of 0.9 x 0.7 x 1.1 mm" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_volume_elsewhere_in_space_does_not_get_the_findings(graders, tmp_path, capsys):
    image = sitk.GetImageFromArray(speckle((20, 24, 30)))
    image.SetSpacing((0.9, 0.7, 1.1))
    path = write_image(image, tmp_path / "a.nrrd")
    found = result(path, tmp_path / "found", region=((8, 6, 5), (9, 8, 7)))
    study = read_study(found)
    for name, origin, direction in (
        ("moved", (5, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1)),
        ("turned", (0, 0, 0), (0, -1, 0, 1, 0, 0, 0, 0, 1)),
    ):
        image.SetOrigin(origin)
        image.SetDirection(direction)
        other = write_image(image, tmp_path / f"{name}.nrrd")
        assert grade(other, graders, tmp_path / "out", "--findings", found) == 1
        assert f"{other} lies elsewhere in space than the image of the findings" in capsys.readouterr().err
    unknown = sitk.GetImageFromArray(sitk.GetArrayFromImage(image))
    unknown.SetOrigin((5, 0, 0))
    studied = Study(ImageInfo.of(sitk.GetImageFromArray(sitk.GetArrayFromImage(image)), "a", False))
    with pytest.raises(DataError, match="elsewhere in space"):
        findings_on(studied, unknown, spacing_known=False)
    # The same voxels in the other order, as some programs store them.
    flipped = write_image(sitk.Flip(sitk.ReadImage(str(path)), (False, False, True)), tmp_path / "flipped.nrrd")
    assert grade(flipped, graders, tmp_path / "out", "--findings", found) == 0
    after = read_study(tmp_path / "out" / "flipped")
    assert after.findings[0].box == study.findings[0].box
    assert box_of_mask(after.findings[0].mask).center == pytest.approx(study.findings[0].box.center)


def test_the_frame_that_was_looked_at_is_graded(graders, tmp_path):
    path = save(us_cine(np.stack([image_of(True, np.random.default_rng(k))[0] for k in range(5)]), mm=(0.2, 0.2)), tmp_path / "a.dcm")
    loaded = read_image(path, frame=5)
    box = index_box(loaded.image, (20, 14), (24, 18))
    known = {"options": {"spacing_mm": None, "frame": 5}, "input": identity(path)}
    write_study(Study(loaded.info, (Finding("L1", box, 0.9),), provenance={"models": [], "notes": [], **known}), tmp_path / "found")
    assert grade(path, graders, tmp_path / "out", "--findings", tmp_path / "found") == 0
    assert any("frame 5" in note for note in read_study(tmp_path / "out" / "a").provenance["notes"])


# ---------------------------------------------------------------------------------------------------- where they write


def held(folder):
    """All files of a folder of results, and what they hold."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_inputs_of_one_name_have_two_results(graders, tmp_path, monkeypatch):
    first, second = picture(tmp_path / "c1" / "x.png"), picture(tmp_path / "c2" / "x.png", seed=4)
    out = tmp_path / "out"
    assert grade(first, graders, out) == 0
    before = held(out / "x")
    assert grade(second, graders, out) == 0
    assert held(out / "x") == before
    assert {read_study(folder).image.path for folder in out.iterdir()} == {str(first), str(second)}
    # The same, named from where they lie.
    for path in (first, second):
        monkeypatch.chdir(path.parent)
        assert grade("x.png", graders, tmp_path / "here") == 0
    assert {read_study(folder).image.path for folder in (tmp_path / "here").iterdir()} == {str(first), str(second)}


def test_two_commands_at_once_keep_both_results(graders, tmp_path, monkeypatch):
    """Images of one name, and the second command is given while the first is about to write."""
    first, second = picture(tmp_path / "c1" / "x.png"), picture(tmp_path / "c2" / "x.png", seed=4)
    out, said = tmp_path / "out", []
    other = threading.Thread(target=lambda: said.append(grade(second, graders, out)))
    write = one_image_command._write

    def meanwhile(*what):
        if threading.current_thread() is not other:
            other.start()
            other.join(1.5)  # long enough for it to have written, if nothing stops it
        write(*what)

    monkeypatch.setattr(one_image_command, "_write", meanwhile)
    assert grade(first, graders, out) == 0
    other.join()
    assert said == [0]
    assert {read_study(folder).image.path for folder in out.iterdir()} == {str(first), str(second)}


def test_an_input_again_takes_the_place_of_its_own_result(graders, tmp_path):
    path, out = picture(tmp_path / "x.png"), tmp_path / "out"
    assert grade(path, graders, out) == 0
    first = read_study(out / "x")
    for stale in ("report.dcm", "fhir.json", "heatmap.nrrd"):  # made from the result that goes
        (out / "x" / stale).write_bytes(b"old")
    (out / "x" / "my notes.txt").write_text("mine")
    assert grade(os.path.relpath(path), graders, out, "--spacing", "0.08") == 0
    assert [folder.name for folder in out.iterdir()] == ["x"]
    study = read_study(out / "x")
    assert study.image.spacing == (0.08, 0.08) != first.image.spacing
    names = {file.name for file in (out / "x").iterdir()}
    assert "my notes.txt" in names and not names & {"report.dcm", "fhir.json", "heatmap.nrrd"}


def test_a_series_again_takes_the_place_of_its_own_result_and_one_of_its_files_does_not(detector, graders, tmp_path):
    folder, out = series(tmp_path / "case7"), tmp_path / "out"
    for _ in range(2):
        assert detect(folder, detector, out) == 0
        assert [result.name for result in out.iterdir()] == ["case7"]
    before = held(out / "case7")
    assert grade(folder / "IM000", graders, out) == 0
    assert held(out / "case7") == before and len(list(out.iterdir())) == 2


def test_series_that_lie_in_one_folder_have_a_result_each(detector, graders, tmp_path):
    """As an examination comes from an archive: all files of all its series side by side."""
    study, found, out = tmp_path / "S", tmp_path / "found", tmp_path / "out"
    for name in "ab":
        for k, dataset in enumerate(slices(speckle((20, 24, 30), seed=ord(name)), SPACING)):
            save(dataset, study / f"{name}{k:03}")
    command = ["run", study, "-o", found, "--detect-model", detector, "--no-outlines", "--no-grades", "--no-scene", "--device", "cpu"]
    assert cli.main([*map(str, command), "--jobs", "0", "--quiet"]) == 0
    for _ in range(2):
        for name in ("a000", "b000"):
            assert grade(study / name, graders, out, "--findings", found / name) == 0
    firsts = {folder.name: read_study(folder).image.path for folder in out.iterdir()}
    assert firsts == {name: str(study / name) for name in ("a000", "b000")}
    # The same, by the name of their folder.
    for _ in range(2):
        for name in ("a000", "b000"):
            assert grade(study, graders, tmp_path / "by folder", "--findings", found / name) == 0
    results = [read_study(folder).image.path for folder in (tmp_path / "by folder").iterdir()]
    assert sorted(results) == sorted(firsts.values())


def test_the_image_of_the_next_cd_takes_nobody_s_place(graders, tmp_path):
    """It has the path of the former patient's; which image it is tells its copies apart as well."""
    discs = [save(us_image(speckle((72, 64), seed), mm=(0.2, 0.2)), tmp_path / f"{seed}" / "IM1.dcm") for seed in (1, 2)]
    drive, out = tmp_path / "IM1.dcm", tmp_path / "out"

    def insert(number):
        drive.write_bytes(discs[number].read_bytes())
        assert grade(drive, graders, out) == 0
        return {name: held(out / name) for name in results(out)}

    one = insert(0)
    both = insert(1)
    assert list(one) == ["IM1"] and both["IM1"] == one["IM1"] and len(both) == 2
    assert insert(0).keys() == insert(1).keys() == both.keys()  # each has its own
    studies = [read_study(out / name) for name in both]
    assert [s.provenance["input"]["instance_sha256"] for s in studies] == [instance_digest(disc) for disc in discs]
    key = read_key(None)
    assert len({pseudonym(study, key) for study in studies}) == 2


def as_earlier(folder, path, recorded):
    """Make a result look as an earlier version wrote it: the path as it was given; recorded: what was read is told."""
    study = read_study(folder)
    provenance = study.provenance if recorded else {k: v for k, v in study.provenance.items() if k not in ("input", "options")}
    write_study(replace(study, image=replace(study.image, path=path), provenance=provenance), folder)


@pytest.mark.parametrize("recorded", [True, False])
def test_a_result_of_an_earlier_version_is_replaced_by_its_own_input(graders, tmp_path, monkeypatch, recorded):
    path, other = picture(tmp_path / "c1" / "x.png"), picture(tmp_path / "c2" / "x.png", seed=4)
    out = tmp_path / "out"
    assert grade(path, graders, out) == 0
    as_earlier(out / "x", "x.png", recorded)
    if recorded:  # from wherever; and the other of the name is told from it
        monkeypatch.chdir(other.parent)
        before = held(out / "x")
        assert grade("x.png", graders, out) == 0
        assert held(out / "x") == before and len(list(out.iterdir())) == 2
    monkeypatch.chdir(path.parent)
    count = len(list(out.iterdir()))
    assert grade("x.png", graders, out) == 0
    assert read_study(out / "x").image.path == str(path) and len(list(out.iterdir())) == count


@pytest.mark.parametrize("recorded", [True, False])
def test_a_series_result_of_an_earlier_version_is_replaced_by_the_series_alone(detector, graders, tmp_path, monkeypatch, recorded):
    folder, out = series(tmp_path / "case7"), tmp_path / "out"
    assert detect(folder, detector, out) == 0
    as_earlier(out / "case7", "case7/IM000", recorded)
    monkeypatch.chdir(tmp_path)
    before = held(out / "case7")
    assert grade(folder / "IM000", graders, out) == 0
    assert held(out / "case7") == before
    assert detect("case7", detector, out) == 0
    assert sorted(result.name for result in out.iterdir()) == ["IM000", "case7"]
    assert read_study(out / "case7").image.path == str(folder / "IM000")


def test_what_a_killed_process_left_is_no_result(graders, tmp_path):
    """Or what another is about to finish: it is moved or removed, and what was written into it with it."""
    path, out = picture(tmp_path / "x.png"), tmp_path / "out"
    assert grade(path, graders, out) == 0
    left = (out / "x").rename(out / ".tmp-0123456789ab")
    before = held(left)
    assert grade(path, graders, out) == 0
    assert read_study(out / "x").image.path == str(path) and held(left) == before
    assert study_folder(out) == out / "x"


def test_a_run_does_not_take_another_command_s_result_for_its_own(graders, tmp_path, capsys):
    path, out = picture(tmp_path / "x.png"), tmp_path / "out"
    assert grade(path, graders, out) == 0
    before = held(out)
    for more in ([], ["--overwrite"]):
        assert cli.main(["run", str(path), "-o", str(out), "--no-scene", "--jobs", "0", "--quiet", *more]) == 2
        sentence = f"{out / 'x'} is the result of another command than run; choose another folder for --output."
        assert sentence in capsys.readouterr().err
        assert held(out) == before


def test_the_results_of_a_run_are_not_written_into(graders, tmp_path, capsys):
    path, out = picture(tmp_path / "x.png"), tmp_path / "out"
    command = ["run", str(path), "-o", str(out), "--no-scene", "--no-grades", "--device", "cpu", "--jobs", "0", "--quiet"]
    assert cli.main(command) == 0
    before = held(out)
    for more in ([], ["--findings", out / "x"]):
        assert grade(path, graders, out, *more) == 2
        assert f"{out} holds the results of a run; choose another folder for --output." in capsys.readouterr().err
    assert held(out) == before
    (out / "run.json").unlink()  # the same, where the record of the run was lost
    assert grade(path, graders, out) == 2
    assert f"{out / 'x'} is the result of a run; choose another folder for --output." in capsys.readouterr().err
    assert held(out) == {name: data for name, data in before.items() if str(name) != "run.json"}


def test_a_result_that_cannot_be_written_leaves_the_old_one(graders, tmp_path, capsys, monkeypatch):
    path, out = picture(tmp_path / "x.png"), tmp_path / "out"
    assert grade(path, graders, out) == 0
    before = held(out)

    def full(target, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert grade(path, graders, out) == 1
    said = capsys.readouterr().err
    assert f"{out / 'x'}" in said and "the disk is full" in said and ".tmp-" not in said
    assert held(out) == before and [folder.name for folder in out.iterdir()] == ["x"]


# ----------------------------------------------------------------------------------------- several commands, one folder


@pytest.fixture(scope="module")
def outliner(tmp_path_factory):
    return outliner_folder(tmp_path_factory.mktemp("outliners") / "joint")


def volume(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(speckle((20, 24, 30), seed=seed))
    image.SetSpacing(SPACING)
    return write_image(image, path)


def segment(path, outliner, output, findings, *more):
    own = ["--output", output, "--findings", findings, "--model", outliner, "--device", "cpu", "--no-uncertainty", *more]
    return cli.main(["segment", *map(str, (path, *own))])


def heatmap(path, output):
    """With the model that ships, as its map is made of any volume."""
    return cli.main(["heatmap", *map(str, (path, "--output", output, "--device", "cpu"))])


def results(output):
    return sorted(folder.name for folder in output.iterdir())


def test_another_command_s_result_of_an_input_stays(detector, tmp_path, capsys):
    path, out = volume(tmp_path / "v.nrrd"), tmp_path / "out"
    assert detect(path, detector, out) == 0
    before = held(out / "v")
    capsys.readouterr()
    for _ in range(2):  # and each has its own again
        assert heatmap(path, out) == 0
        said = capsys.readouterr()
        assert results(out) == ["v", "v-heatmap"] and held(out / "v") == before
        assert read_study(out / "v-heatmap").heatmap is not None and str(out / "v-heatmap") in said.out + said.err
    assert f"The result of breastusai detect for this input stays in {out / 'v'}." not in said.out + said.err
    map_ = held(out / "v-heatmap")
    assert detect(path, detector, out) == 0
    assert results(out) == ["v", "v-heatmap"] and held(out / "v-heatmap") == map_
    (out / "v-heatmap").rename(out / "renamed")  # known by what made it, not by its name
    assert heatmap(path, out) == 0 and results(out) == ["renamed", "v"]


def test_it_is_said_that_another_command_s_result_stays(graders, detector, tmp_path, capsys):
    folder, out = series(tmp_path / "case7"), tmp_path / "out"
    found = tmp_path / "found"
    assert detect(folder, detector, found) == 0 and detect(folder, detector, out) == 0
    capsys.readouterr()
    assert cli.main(["grade", *map(str, (folder, "-o", out, "--findings", found / "case7", "--device", "cpu", "--one-crop", *graders))]) == 0
    said = capsys.readouterr()
    assert f"The result of breastusai detect for this input stays in {out / 'case7'}." in said.out + said.err
    assert results(out) == ["case7", "case7-grade"]


def test_a_command_that_goes_on_from_a_result_takes_its_place(detector, outliner, graders, tmp_path):
    path, out = volume(tmp_path / "v.nrrd"), tmp_path / "out"
    assert detect(path, detector, out) == 0
    found = [f.id for f in read_study(out / "v").findings]
    assert segment(path, outliner, out, out / "v" / "study.json") == 0 and results(out) == ["v"]
    assert grade(path, graders, out, "--findings", out / "v") == 0 and results(out) == ["v"]
    study = read_study(out / "v")
    assert [f.id for f in study.findings] == found
    assert {"detect", "segment", "grade-mtnet"} <= set().union(*(f.models for f in study.findings))  # one may be a part of the other
    # How the findings came about goes along.
    tasks = [m["task"] for m in study.provenance["models"]]
    assert sorted(tasks) == ["detect", "grade-mtnet", "segment-3d"]
    assert study.provenance["operating_point"] == {"chosen_by_user": True, "maximum": 2, "threshold": 0.0}
    assert "a score of 0 or more (chosen by the user)" in " ".join(report_html(study, read_image(path).image).split())
    # An outline anew takes the grade of the former one away, and what grading said of it.
    assert segment(path, outliner, tmp_path / "anew", out / "v") == 0
    anew = read_study(tmp_path / "anew" / "v")
    for finding in anew.findings:
        if "segment" in finding.models and "grade-mtnet" not in finding.models:
            break
    else:
        raise AssertionError("no lesion was outlined anew")
    assert not any(n.startswith("Malignancy ") for n in finding.notes) and "malignancy_mtnet" not in finding.evidence
    assert "malignancy_detect" in finding.evidence and "malignancy_segment_3d" not in finding.evidence
    # A new search has nothing of that: it has a folder of its own.
    graded = held(out / "v")
    assert detect(path, detector, out) == 0
    assert results(out) == ["v", "v-detect"] and held(out / "v") == graded


def test_grades_go_on_in_the_folder_of_outlines_with_their_map(graders, outliner, tmp_path):
    path, out = volume(tmp_path / "v.nrrd"), tmp_path / "out"
    more = ["--point=10,10,10", "--threshold", "0.01", "--device", "cpu"]
    assert cli.main(["segment", str(path), "--model", str(outliner), "-o", str(out), *more]) == 0
    before = read_study(out / "v")
    assert before.uncertainty is not None
    assert grade(path, graders, out, "--findings", out / "v") == 0 and results(out) == ["v"]
    study = read_study(out / "v")
    assert [f.id for f in study.findings] == [f.id for f in before.findings] and any("grade-mtnet" in f.models for f in study.findings)
    shown, then = (sitk.GetArrayFromImage(s.uncertainty) for s in (study, before))
    assert np.array_equal(shown, then)
    # Of another image it is not carried along, though the findings are.
    other = volume(tmp_path / "other.nrrd", seed=5)
    assert grade(other, graders, out, "--findings", out / "v") == 0 and results(out) == ["other", "v"]
    assert read_study(out / "other").uncertainty is None and read_study(out / "v").uncertainty is not None


def test_a_map_that_would_be_lost_stays(outliner, detector, tmp_path):
    """Hot spots are gone on from, but their map is not part of the outlines."""
    path, out = volume(tmp_path / "v.nrrd"), tmp_path / "out"
    assert heatmap(path, out) == 0
    before = held(out / "v")
    assert segment(path, outliner, out, out / "v", "--point=10,10,10") == 0
    assert results(out) == ["v", "v-segment"] and held(out / "v") == before
    # Findings of another folder are not what lies here, either.
    assert detect(path, detector, tmp_path / "found") == 0 and detect(path, detector, tmp_path / "two") == 0
    assert segment(path, outliner, tmp_path / "two", tmp_path / "found" / "v") == 0
    assert results(tmp_path / "two") == ["v", "v-segment"]


# ------------------------------------------------------------------------------------- findings that were made elsewhere


NOTE = "the findings were made on another file than this one"


def test_findings_of_another_volume_are_told(detector, outliner, tmp_path, capsys):
    """All volumes of one setting of a scanner have one grid."""
    one, two, out = volume(tmp_path / "one.nrrd"), volume(tmp_path / "two.nrrd", seed=5), tmp_path / "out"
    assert detect(one, detector, tmp_path / "found") == 0
    capsys.readouterr()
    assert segment(two, outliner, out, tmp_path / "found" / "one") == 0
    said = capsys.readouterr()
    assert f"Note: the findings were made on {one}, another file than this one." in said.out + said.err
    provenance = read_study(out / "two").provenance
    # The note goes along into de-identified copies, so it names no file; the record beside it does not.
    assert NOTE in provenance["notes"] and not any("one.nrrd" in note for note in provenance["notes"])
    assert provenance["findings_made_on"] == {"path": str(one), "sha256": identity(one)["sha256"]}
    # What goes on from there says so as well.
    assert segment(two, outliner, tmp_path / "next", out / "two") == 0
    assert read_study(tmp_path / "next" / "two").provenance["notes"].count(NOTE) == 1


def test_findings_on_the_same_file_or_pixels_are_not_told(detector, outliner, tmp_path, capsys):
    one = volume(tmp_path / "one.nrrd")
    assert detect(one, detector, tmp_path / "found") == 0
    found = tmp_path / "found" / "one"
    moved = tmp_path / "archive" / "moved.nrrd"
    moved.parent.mkdir()
    moved.write_bytes(one.read_bytes())
    converted = write_image(sitk.ReadImage(str(one)), tmp_path / "converted.mha")
    for path in (one, moved, converted):
        assert segment(path, outliner, tmp_path / "out", found) == 0
        assert NOTE not in read_study(tmp_path / "out" / path.stem).provenance["notes"]
    study = read_study(found)  # of a version that kept no checksum, or de-identified
    write_study(replace(study, provenance={k: v for k, v in study.provenance.items() if k != "input"}), found)
    assert segment(volume(tmp_path / "two.nrrd", seed=5), outliner, tmp_path / "out", found) == 0
    assert NOTE not in read_study(tmp_path / "out" / "two").provenance["notes"]
    assert "the findings were made on" not in "".join(capsys.readouterr())


def test_findings_of_an_image_that_was_replaced_since_are_told(graders, tmp_path, capsys):
    path = picture(tmp_path / "a.png")
    found = result(path, tmp_path / "found", 0.08)
    picture(path, seed=4)
    assert grade(path, graders, tmp_path / "out", "--findings", found, "--spacing", "0.08") == 0
    assert "the file was changed since the findings were made" in read_study(tmp_path / "out" / "a").provenance["notes"]


@pytest.mark.parametrize("known, said", [
    (True, ("4.0 x 5.0 x 6.0 mm", "at (1.0, 2.0, 3.0) mm", "  0.06 ml  longest diameter 6.4 mm")),
    (False, ("4.0 x 5.0 x 6.0 pixels", "at (1.0, 2.0, 3.0) pixels", "  63 voxels  longest diameter 6.4 pixels")),
])  # fmt: skip
def test_findings_are_told_in_pixels_where_nobody_knows_what_these_measure(known, said):
    from BreastUSAILib import detect_command, heatmap_command, segment_command

    image = ImageInfo("a.mha", (9, 9, 9), (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1), spacing_known=known)
    figures = {"volume_ml": 0.063, "major_diameter_mm": 6.4} if known else {"volume_px3": 63.0, "major_diameter_px": 6.4}
    evidence = {"heat_peak": 1.0, "peak_x": 1.0, "peak_y": 2.0, "peak_z": 3.0}
    finding = Finding("L1", Box((1, 2, 3), (4, 5, 6)), 0.5, label=1, measurements=figures, evidence=evidence)
    for command, words in zip((detect_command, heatmap_command, segment_command), said, strict=True):
        assert command.sentence(finding, image).endswith(words)
    assert segment_command.sentence(replace(finding, label=None, measurements={}), image) == "L1  not outlined"


def without_spacing(path, offset="-500 20 632.5", size=(30, 24, 20)):
    """A volume whose file states where it lies, and not what a voxel measures."""
    fields = {"ObjectType": "Image", "NDims": len(size), "BinaryData": True, "BinaryDataByteOrderMSB": False, "Offset": offset}
    fields |= {"DimSize": " ".join(map(str, size)), "ElementType": "MET_UCHAR", "ElementDataFile": "LOCAL"}
    header = "".join(f"{name} = {value}\n" for name, value in fields.items())
    path.write_bytes(header.encode() + speckle(size[::-1]).astype(np.uint8).tobytes())
    return path


def test_a_command_says_pixels_where_the_file_says_no_spacing(detector, tmp_path, capsys):
    path = without_spacing(tmp_path / "a.mha")
    assert detect(path, detector, tmp_path / "out") == 0
    found = [line for line in capsys.readouterr().out.splitlines() if "  score " in line]
    assert found and all(line.endswith(" pixels") for line in found)
    table = (tmp_path / "out" / "a" / "findings.csv").read_text()
    centres = [[float(row[f"center_{axis}_px"]) for axis in "xyz"] for row in csv.DictReader(table.splitlines())]
    assert centres and all(-0.5 <= v <= n for centre in centres for v, n in zip(centre, (30, 24, 20), strict=True))
