"""``breastusai run --retry-failed``: the same inputs as when they failed, with the same options, by the real command line."""

import json
import os
import shutil

import pytest
from dicom_samples import save, slices, speckle
from fake_worker import FakeWorker
from small_models import detector_folder
from test_run import image_at

from BreastUSAILib import cli
from BreastUSAILib.files import read_study
from BreastUSAILib.inputs import read_run
from BreastUSAILib.run import failed_inputs, run
from BreastUSAILib.run_input import RunOptions
from BreastUSAILib.run_journal import DONE, FAILED, Entry, Journal
from BreastUSAILib.run_manifest import manifest, read_manifest
from BreastUSAILib.run_retry import find_again, options_again
from BreastUSAILib.workup import DetectionOptions, SegmentationOptions, WorkupOptions

VOXELS, SPACING = speckle((6, 24, 60)), (0.9, 0.7, 2.0)


def retry(*arguments):
    return cli.main(["run", "--device", "cpu", "--jobs", "0", "--no-scene", *map(str, arguments)])


def size_of(output, name):
    return json.loads((output / name / "study.json").read_text())["image"]["size"]


# ---------------------------------------------------------------------------------------------------- which inputs


def series_at(folder, places=range(0, 12, 2)):
    """A volume as a series of files with their slices in these places; some may be left out (None)."""
    for k, (ds, z) in enumerate(zip(slices(VOXELS, SPACING), places, strict=True)):
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = "1.2.3", "1.2.4", "1.2.5"
        path = folder / f"IM{k}"
        if z is None:
            path.unlink(missing_ok=True)
        else:
            ds.ImagePositionPatient = [0.0, 0.0, float(z)]
            save(ds, path)
    return folder


@pytest.fixture
def volumes(tmp_path):
    """The arguments of a run over volumes, without its inputs and output."""
    model = detector_folder(tmp_path / "model")
    return ("--detect-model", model, "--no-outlines", "--no-grades", "--no-heatmap")


@pytest.mark.parametrize("recorded", [True, False])
def test_a_series_is_retried_as_a_series(tmp_path, volumes, capsys, recorded):
    folder, out = series_at(tmp_path / "in", (0, 2, 4, 7.3, 8, 11)), tmp_path / "out"
    assert retry(folder, "-o", out, *volumes) == 1
    assert "uneven distances" in capsys.readouterr().err
    if not recorded:  # as versions before wrote it
        record = read_run(out)
        for item in record["inputs"]:
            del item["series_in"]
        (out / "run.json").write_text(json.dumps(record))
    assert retry("-o", out, "--retry-failed", *volumes) == 1  # nothing was mended
    assert "uneven distances" in capsys.readouterr().err
    series_at(folder)
    assert retry("-o", out, "--retry-failed", *volumes) == 0
    assert size_of(out, "IM0") == [60, 24, 6]
    assert retry("-o", out, "--retry-failed", *volumes) == 0 and "Nothing failed" in capsys.readouterr().out


def test_a_slice_that_was_put_back_is_part_of_the_retry(tmp_path, volumes):
    folder, out = series_at(tmp_path / "in", (None, 2, 4, 7.3, 8, 11)), tmp_path / "out"
    assert retry(folder, "-o", out, *volumes) == 1
    series_at(folder)
    assert retry("-o", out, "--retry-failed", *volumes) == 0
    assert size_of(out, "IM1") == [60, 24, 6]


def test_the_first_slice_alone_is_no_result(tmp_path, volumes, capsys):
    folder, out = series_at(tmp_path / "in", (0, 2, 4, 7.3, 8, 11)), tmp_path / "out"
    assert retry(folder, "-o", out, *volumes) == 1
    shutil.move(folder, tmp_path / "away")
    series_at(folder, (0, None, None, None, None, None))
    for _ in range(2):
        capsys.readouterr()
        assert retry("-o", out, "--retry-failed", *volumes) == 1
        assert f"{folder / 'IM0'} belongs to no series of DICOM files any more" in capsys.readouterr().err
        assert not (out / "IM0").exists()
    series_at(folder)
    assert retry("-o", out, "--retry-failed", *volumes) == 0 and size_of(out, "IM0") == [60, 24, 6]


def test_a_slice_that_was_given_by_itself_stays_alone(tmp_path, volumes):
    folder, out = series_at(tmp_path / "in"), tmp_path / "out"
    slice_ = folder / "IM2"
    whole = slice_.read_bytes()
    slice_.write_bytes(whole[: len(whole) // 2])
    assert retry(slice_, "-o", out, *volumes) == 1
    slice_.write_bytes(whole)
    assert retry("-o", out, "--retry-failed", *volumes) == 0
    assert size_of(out, "IM2") == [60, 24, 1]


def test_a_series_of_a_dicomdir_is_looked_for_in_all_its_folders(tmp_path):
    series_at(tmp_path)
    folders = [tmp_path / "S1", tmp_path / "S2"]
    for k, file in enumerate(sorted(tmp_path.glob("IM*"))):
        folders[k % 2].mkdir(exist_ok=True)
        file.rename(folders[k % 2] / file.name)
    entry = Entry(str(tmp_path / "S1" / "IM0"), "IM0", FAILED, "IM0", series_in=tuple(map(str, folders)))
    (source,) = next(find_again([entry])).sources
    assert len(source.files) == 6 and set(source.series_in) == set(entry.series_in) and not source.trouble


def test_a_retry_that_was_cut_short_is_taken_up_by_the_next(tmp_path):
    out = tmp_path / "out"
    options = RunOptions(out, WorkupOptions(grading=None), scene=False)
    files = [tmp_path / "1-imageerror.png", tmp_path / "2-imageerror-interrupt.png"]
    out.mkdir()
    (out / "go-on").touch()
    assert len(run([str(image_at(file)) for file in files], options, make_worker=FakeWorker).failures) == 2
    (out / "go-on").unlink()
    assert run([], options, make_worker=FakeWorker, retry=True).cancelled
    assert failed_inputs(out) == [str(file) for file in files]
    run([str(image_at(tmp_path / "a.png"))], options, make_worker=FakeWorker)
    assert all(f"{file} is broken; get another one." in (out / "failures.csv").read_text() for file in files)
    (out / "go-on").touch()
    assert len(run([], options, make_worker=FakeWorker, retry=True).results) == 2


@pytest.mark.parametrize("again", ["retry", "run"])
def test_what_is_cancelled_keeps_the_causes_of_the_failures_before(tmp_path, again):
    out = tmp_path / "out"
    options = RunOptions(out, WorkupOptions(grading=None), scene=False)
    files = [tmp_path / "1-imageerror-interrupt.png", tmp_path / "2-imageerror.png"]
    names = [str(image_at(file)) for file in files]
    causes = [{"input": name, "message": f"{name} is broken; get another one."} for name in names]
    out.mkdir()
    (out / "go-on").touch()
    run(names, options, make_worker=FakeWorker)
    assert read_run(out)["failures"] == causes
    (out / "go-on").unlink()
    result = run(names if again == "run" else [], options, make_worker=FakeWorker, retry=again == "retry")
    assert result.cancelled and [failure.message for failure in result.failures] == [cause["message"] for cause in causes]
    record = read_run(out)
    assert record["failures"] == causes and record["counts"]["failed"] == 2
    assert [item["message"] for item in record["inputs"]] == [cause["message"] for cause in causes]
    assert all(cause["message"] in (out / "failures.csv").read_text() for cause in causes)
    assert failed_inputs(out) == names
    (out / "go-on").touch()
    assert len(run([], options, make_worker=FakeWorker, retry=True).failures) == 2


# --------------------------------------------------------------------------------------------------- which options


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_names_with_control_characters_do_nothing_to_a_terminal(tmp_path, capsys):
    image_at(tmp_path / "in" / "good\x1b[2J.nrrd")
    (tmp_path / "in" / "bad\x1b]0;x\x07\n.png").write_bytes(b"no image")
    (tmp_path / "in" / "left\x9b.txt").write_text("x")
    (tmp_path / "in" / "bad\x1b.nrrd").write_bytes(b"no image")
    for _ in range(2):  # the second time there is a line on each that is done again
        assert retry(tmp_path / "in", "-o", tmp_path / "out", "--no-grades") == 1
        streams = capsys.readouterr()
        assert not set("\x1b\x07\x9b") & set(streams.out + streams.err)
        assert all(line.startswith("error: ") for line in streams.err.splitlines()) and "\\x1b]0;x\\x07\\n.png" in streams.err
        assert "good\\x1b[2J.nrrd" in streams.out and "left\\x9b.txt" in streams.out
        image_at(tmp_path / "in" / "good\x1b[2J.nrrd", value=200)


@pytest.fixture
def mended(tmp_path, monkeypatch, capsys):
    """A folder of results with a.png done, and b.png, which failed and is mended now."""
    image_at(tmp_path / "in" / "a.png")
    bad = tmp_path / "in" / "b.png"
    bad.write_bytes(b"\x89PNG not yet")
    (tmp_path / "in" / "notes.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    chosen = ("--spacing", 0.08, "--no-refine", "--lesions", "all", "--no-grades", "--time-limit", "5m", "--jobs", 1)
    assert retry("in", "-o", "out", *chosen) == 1
    image_at(bad)
    capsys.readouterr()
    return tmp_path / "out"


def test_a_retry_has_the_options_of_the_run_and_the_run_can_be_repeated(mended, capsys, monkeypatch):
    first = read_run(mended)
    monkeypatch.chdir("/")
    assert retry("-o", mended, "--retry-failed") == 0
    assert "Other options" not in capsys.readouterr().out
    a, b = (read_study(mended / name) for name in "ab")
    assert b.image.spacing_known and b.image.spacing == a.image.spacing == (0.08, 0.08)
    assert b.provenance["options"] == a.provenance["options"]
    record = read_run(mended)
    kept = ("command", "named", "folder", "options", "how", "left", "left_count", "models")
    assert {name: record[name] for name in kept} == {name: first[name] for name in kept} and record["named"] == ["in"]
    assert record["retry"]["folder"] == "/" and record["retry"]["options"] == first["options"]
    again = mended.with_name("again")
    assert cli.main(["run", "--from-manifest", str(mended / "run.json"), "-o", str(again), "--jobs", "0"]) == 0
    assert [read_study(again / name).image for name in "ab"] == [a.image, b.image]


def test_options_that_are_given_with_the_retry_win_and_are_told(mended, capsys):
    first = read_run(mended)
    assert retry("-o", mended, "--retry-failed", "--spacing", 0.1, "--lesions", "central", "--no-heatmap") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Other options")]
    assert line.startswith("Other options than the run's: ") and "spacing_mm 0.1 instead of 0.08" in line
    assert "lesions 'central' instead of 'all'" in line and "refine" not in line and "grading" not in line
    options = read_study(mended / "b").provenance["options"]
    assert (options["spacing_mm"], options["lesions"], options["refine"]) == (0.1, "central", False)
    record = read_run(mended)
    assert record["options"] == first["options"] and record["retry"]["options"]["spacing_mm"] == 0.1
    items = {item["folder"]: item for item in record["inputs"]}
    assert items["b"]["options"]["spacing_mm"] == 0.1 and "options" not in items["a"]


def test_what_failed_in_a_run_with_other_options_is_told(mended, capsys):
    bad, worse = mended.with_name("in") / "b.png", mended.with_name("c.png")
    bad.write_bytes(b"\x89PNG not yet")
    worse.write_bytes(b"\x89PNG not yet")
    first = read_run(mended)["options"]
    # Another run into the folder, whose options are those of run.json from now on.
    assert retry(worse, "-o", mended, "--no-refine", "--lesions", "all", "--no-grades") == 1
    items = {item["folder"]: item for item in read_run(mended)["inputs"]}
    assert items["b"]["failed_with"] == first and "failed_with" not in items["c"]
    capsys.readouterr()
    told = "Redone with other options than in the run where"
    for more, line in (
        ((), f"{told} it failed: in/b.png (spacing_mm the default instead of 0.08)."),
        (("--spacing", 0.1), ""),  # is told as what was given
        ((), f"{told} they failed: {worse}, in/b.png (spacing_mm the default instead of 0.1)."),
    ):
        assert retry("-o", mended, "--retry-failed", *more) == 1
        assert [text for text in capsys.readouterr().out.splitlines() if text.startswith(told)] == [line] * bool(line)
    # As versions before wrote it: nothing is known, nothing is told.
    record = read_run(mended)
    for item in record["inputs"]:
        item.pop("failed_with", None)
    (mended / "run.json").write_text(json.dumps(record))
    image_at(bad)
    image_at(worse)
    assert retry("-o", mended, "--retry-failed") == 0
    assert "Redone" not in capsys.readouterr().out
    assert not any("failed_with" in item for item in read_run(mended)["inputs"])


@pytest.mark.parametrize("before", [False, True])
def test_folders_of_models_are_found_from_wherever_a_run_is_repeated(tmp_path, monkeypatch, capsys, before):
    """before: as versions before wrote them, relative to the folder of the command."""
    detector_folder(tmp_path / "site" / "m")
    detector_folder(tmp_path / "elsewhere" / "m", name="another")  # of the same name, and another model
    image_at(tmp_path / "site" / "in" / "a.png")
    (tmp_path / "site" / "in" / "b.png").write_bytes(b"\x89PNG not yet")
    monkeypatch.chdir(tmp_path / "site")
    chosen = ("--detect-model", "m", "--no-outlines", "--no-grades", "--no-heatmap")
    assert retry("in", "-o", "out", *chosen) == 1
    out, own = tmp_path / "site" / "out", str(tmp_path / "site" / "m")
    record = read_run(out)
    assert record["options"]["workup"]["detection"]["model"] == own
    if before:
        record["options"]["workup"]["detection"]["model"] = "m"
        (out / "run.json").write_text(json.dumps(record))
    image_at(tmp_path / "site" / "in" / "b.png")
    monkeypatch.chdir(tmp_path / "elsewhere")
    capsys.readouterr()
    assert retry("-o", out, "--retry-failed") == 0
    told = capsys.readouterr().out
    assert "ther options" not in told and "the model for" not in told
    record = read_run(out)
    assert [m["id"] for m in record["retry"]["models"] if m["task"] == "detect"] == ["small-detector"]
    assert not any("options" in item for item in record["inputs"])
    assert cli.main(["run", "--from-manifest", str(out), "-o", "again", "--jobs", "0", "--no-scene"]) == 2  # options come with it
    assert cli.main(["run", "--from-manifest", str(out), "-o", "again", "--jobs", "0"]) == 0
    assert read_run(tmp_path / "elsewhere" / "again")["options"]["workup"]["detection"]["model"] == own
    capsys.readouterr()
    monkeypatch.chdir(tmp_path / "site")
    assert retry("in", "-o", "out", *chosen) == 0  # the same once more: by whatever name a model goes, nothing is done again
    told = capsys.readouterr().out
    assert "2 inputs finished earlier and skipped" in told and "Done with other options" not in told
    shutil.rmtree("m")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert retry("-o", out, "--retry-failed") == 0 and "Nothing failed" in capsys.readouterr().out
    assert cli.main(["run", "--from-manifest", str(out), "-o", "third", "--jobs", "0"]) == 1
    assert f"Model '{own}' is unknown" in capsys.readouterr().err


@pytest.mark.parametrize("killed", [False, True])
def test_options_of_their_own_stay_in_the_record_after_later_runs(tmp_path, killed):
    out, names = tmp_path / "out", {name: str(image_at(tmp_path / f"{name}.png")) for name in "abcde"}

    def go(inputs, spacing=None, **more):
        options = RunOptions(out, WorkupOptions(grading=None), scene=False, spacing_mm=spacing)
        run([names[name] for name in inputs], options, make_worker=FakeWorker, **more)

    def spacings():
        items = {item["folder"]: item for item in read_run(out)["inputs"]}
        return {name: item["options"]["spacing_mm"] for name, item in items.items() if "options" in item}

    (tmp_path / "b.png").write_bytes(b"\x89PNG not yet")
    go("ab")
    image_at(tmp_path / "b.png")
    before = (out / "run.json").read_bytes()
    go("", 0.1, retry=True)
    assert spacings() == {"b": 0.1}
    if killed:  # before it wrote its record
        (out / "run.json").write_bytes(before)
        Journal(out / ".run" / "journal.jsonl", {}).note(Entry(names["b"], "b", DONE))
    go("c")
    assert spacings() == {"b": 0.1}
    (tmp_path / "d.png").write_bytes(b"\x89PNG not yet")
    go("d", 0.2)  # and run.json says 0.2 of all
    others = {"a": None, "b": 0.1, "c": None}
    assert spacings() == others
    image_at(tmp_path / "d.png")
    go("", 0.2, retry=True)
    assert spacings() == others
    go("e", 0.1)
    assert spacings() == {"a": None, "c": None, "d": 0.2}  # b's are the run's now
    go("e", 0.2)
    assert spacings() == {"a": None, "b": 0.1, "c": None, "e": 0.1}


def test_a_record_that_does_not_say_how_is_told_before_any_work(mended, capsys):
    record = read_run(mended)
    del record["options"]
    (mended / "run.json").write_text(json.dumps(record))
    assert retry("-o", mended, "--retry-failed") == 1
    assert "run.json does not say how its run was made" in capsys.readouterr().err
    assert not (mended / "b").exists()


def test_another_model_of_the_same_name_is_told(mended, capsys):
    record = read_run(mended)
    for model in record["models"]:
        model |= {"sha256": "0" * 64, "version": "0.9"}
    (mended / "run.json").write_text(json.dumps(record))
    assert retry("-o", mended, "--retry-failed") == 0
    said = capsys.readouterr().out
    assert "Note: the model for segment is " in said and " 0.9 (SHA-256 000000000000...) then." in said


def test_a_run_can_be_repeated_with_its_models_after_a_retry_with_a_newer_one(mended):
    record = read_run(mended)
    newer = {model["sha256"] for model in record["models"]}
    study_file = mended / "a" / "study.json"
    study = json.loads(study_file.read_text())
    for model in (*record["models"], *study["provenance"]["models"]):
        model |= {"sha256": "0" * 64, "version": "0.9"}
    (mended / "run.json").write_text(json.dumps(record))
    study_file.write_text(json.dumps(study))
    assert retry("-o", mended, "--retry-failed") == 0
    then = read_manifest(mended)
    assert [model["sha256"] for model in then.models] == ["0" * 64]
    then.differences(record["models"])  # the installation of then repeats it
    assert newer <= {model["sha256"] for model in read_run(mended)["retry"]["models"]}


def test_options_are_taken_one_by_one(tmp_path):
    detection = DetectionOptions(threshold=0.2, maximum=3)
    then = WorkupOptions(threshold=0.3, detection=detection, segmentation=None, grading=None)
    options = RunOptions(tmp_path, then, frame=2, dicom=("seg", "fhir-R4"), anonymize=tmp_path / "copies", time_limit_s=9.0)
    record = {"schema": "breastusai/run/1.0", **manifest(["in"], options)}
    (tmp_path / "run.json").write_text(json.dumps(record))

    def again(workup=None, **options):
        return options_again(read_manifest(tmp_path), RunOptions(tmp_path, workup or WorkupOptions(), **options))

    same, told = again(jobs=2)
    assert same == RunOptions(tmp_path, then, jobs=2, frame=2, dicom=options.dicom, anonymize=options.anonymize) and told == []
    other = WorkupOptions(device="cpu", detection=DetectionOptions(maximum=5), segmentation=SegmentationOptions(iterations=1))
    options, told = again(other, max_pixels=10, dicom=("sr", "fhir-R5"), anonymize=tmp_path / "elsewhere")
    assert options.workup.threshold == 0.3 and options.workup.detection == DetectionOptions("", "", "cpu", 0.2, 5)
    assert options.workup.segmentation == other.segmentation and options.workup.grading is None
    assert (options.frame, options.max_pixels, options.dicom) == (2, 10, ("seg", "sr", "fhir-R5"))
    assert options.anonymize == tmp_path / "elsewhere"
    assert told == [
        "Other options than the run's: detection.maximum 5 instead of 3, segmentation not left out, max_pixels 10 instead of the "
        "default, dicom ('seg', 'sr', 'fhir-R5') instead of ('seg', 'fhir-R4')."
    ]
    assert again(WorkupOptions(heatmap=None))[0].workup.heatmap is None
