"""Bad input through the command line: one clear sentence each, a non-zero exit, nothing half-written, the rest done.

One batch holds every bad file and some good ones; all share one run of the real model.
"""

import csv
import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from BreastUSAILib import atomic, cli, files
from BreastUSAILib.models import catalog

SAMPLE = Path(__file__).parents[1] / "Data" / "images" / "bus_0030-s.png"
PIXELS = sitk.GetArrayFromImage(sitk.ReadImage(str(SAMPLE)))

RESULTS = {"run.json", "summary.csv", "studies.csv", "index.html"}
HERE = ("--jobs", "0")  # in this process: what is replaced here is replaced there, and PyTorch is not imported anew
FINISHED = {"study.json", "findings.csv", "boxes.mrk.json", "points.mrk.json", "report.html", "preview.jpg"}


def write(path, array, **options):
    sitk.WriteImage(sitk.GetImageFromArray(array, **options), str(path))


def nrrd(path, sizes, *fields, kind="uchar", data=b""):
    """A NRRD file with a header of our own making."""
    lines = ["NRRD0004", f"type: {kind}", f"dimension: {len(sizes)}", f"sizes: {' '.join(map(str, sizes))}"]
    if np.dtype({"uchar": "u1", "float": "f4"}[kind]).itemsize > 1:
        lines.append("endian: little")
    path.write_bytes("\n".join([*lines, *fields, "encoding: raw", "", ""]).encode() + data)


# File name -> what its sentence must say, or None where it must be done.
EXPECTED = {
    "good.png": None,
    "colour.png": None,
    "sixteen.tif": None,
    "float.nrrd": None,
    "some-nan.nrrd": None,
    "one-slice.nrrd": None,
    "text.png": "not an image",
    "truncated.png": "truncated|damaged|cut",
    "truncated.nrrd": "truncated|damaged|short|cut|cannot be read",
    "no-bytes.png": r"empty \(0 bytes\)",
    "one-dimension.nrrd": "dimension",
    "four-dimensions.nrrd": "dimension|4D",
    "volume.nrrd": "volume",
    "no-pixels.nrrd": "empty|no pixels|0|cannot be read",
    "constant.png": "constant|one value|same value",
    "all-nan.nrrd": "finite",
    "zero-spacing.nrrd": "spacing",
    "negative-spacing.mha": "spacing",
    "huge.nrrd": "pixels",
    "broken.dcm": "DICOM|cannot be read|not an image",
}


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """The folder of inputs, the folder of results, the exit code and what was printed."""
    folder = tmp_path_factory.mktemp("bad") / "in"
    folder.mkdir()
    shutil.copy(SAMPLE, folder / "good.png")
    write(folder / "colour.png", np.stack([PIXELS, PIXELS, PIXELS // 2], -1), isVector=True)
    write(folder / "sixteen.tif", PIXELS.astype(np.uint16) * 200 + 5000)
    write(folder / "float.nrrd", PIXELS.astype(np.float32) / 255 - 0.5)
    some = PIXELS.astype(np.float32)
    some[:3] = np.nan
    write(folder / "some-nan.nrrd", some)
    write(folder / "one-slice.nrrd", PIXELS[None])
    (folder / "text.png").write_text("this is no picture\n" * 50)
    (folder / "truncated.png").write_bytes(SAMPLE.read_bytes()[:3000])
    nrrd(folder / "truncated.nrrd", [320, 305], data=PIXELS.tobytes()[:5000])
    (folder / "no-bytes.png").touch()
    nrrd(folder / "one-dimension.nrrd", [500], data=bytes(range(250)) * 2)
    nrrd(folder / "four-dimensions.nrrd", [8, 9, 4, 3], data=bytes(range(216)) * 4)
    write(folder / "volume.nrrd", np.stack([PIXELS] * 4))
    nrrd(folder / "no-pixels.nrrd", [0, 0])
    write(folder / "constant.png", np.full((50, 60), 7, np.uint8))
    write(folder / "all-nan.nrrd", np.full((50, 60), np.nan, np.float32))
    nrrd(folder / "zero-spacing.nrrd", [320, 305], "spacings: 0 0", data=PIXELS.tobytes())
    (folder / "negative-spacing.mha").write_bytes(
        b"ObjectType = Image\nNDims = 2\nDimSize = 320 305\nElementSpacing = -0.1 -0.1\nElementType = MET_UCHAR\n"
        b"ElementDataFile = LOCAL\n" + PIXELS.tobytes()
    )
    nrrd(folder / "huge.nrrd", [60000, 60000], data=b"\0" * 100)
    (folder / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\x00\x10\x00garbage" * 20)
    (folder / "notes.txt").write_text("not for us")
    output = folder.parent / "out"
    command = [sys.executable, "-m", "BreastUSAILib", "run", str(folder), str(folder / "missing.png")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [*command, "--output", str(output), "--no-scene", "--device", "cpu"],
        capture_output=True,
        text=True,
        env=environment,
    )
    return folder, output, process


def test_the_exit_code_says_that_some_failed(batch):
    assert batch[2].returncode == 1
    failed = sum(expected is not None for expected in EXPECTED.values()) + 1
    assert f"{len(EXPECTED) + 1} inputs: " in batch[2].stdout and f"{failed} failed." in batch[2].stdout
    assert "Left out, as not images: 1 (notes.txt)" in batch[2].stdout


def test_each_failure_is_one_sentence_on_standard_error(batch):
    folder, _, process = batch
    lines = process.stderr.splitlines()
    said = {line.split(str(folder))[1].split(" ")[0].strip("/:"): line for line in lines if line.startswith("error: ")}
    assert len(lines) == len(said), process.stderr  # nothing else, no traceback, no library's warnings
    assert set(said) == {n for n, expected in EXPECTED.items() if expected} | {"missing.png"}
    for name, pattern in {**EXPECTED, "missing.png": "does not exist"}.items():
        if pattern:
            assert re.search(pattern, said[name]), said[name]
            assert "unexpected" not in said[name] and "Error" not in said[name], said[name]


def test_the_others_are_done_and_nothing_is_half_written(batch):
    _, output, _ = batch
    good = {Path(n).stem for n, expected in EXPECTED.items() if expected is None}
    assert {p.name for p in output.iterdir()} == good | RESULTS | {"failures.csv"}
    for name in good:
        left = {p.name for p in (output / name).iterdir()}
        assert FINISHED <= left <= FINISHED | {"lesions.seg.nrrd", "activation.nrrd"}
        assert files.read_study(output / name).findings


def test_what_was_done_to_an_image_is_said(batch):
    notes = {n: " ".join(files.read_study(batch[1] / n).provenance["notes"]) for n in ("colour", "some-nan", "good")}
    assert re.search("colour", notes["colour"], re.IGNORECASE)
    assert re.search("finite|NaN", notes["some-nan"])
    assert not re.search("colour|finite|NaN", notes["good"])


def test_the_range_of_the_values_changes_nothing(batch):
    masks = {
        n: sitk.GetArrayFromImage(files.read_study(batch[1] / n).findings[0].mask).squeeze() > 0
        for n in ("good", "sixteen", "float", "one-slice")
    }
    for name, mask in masks.items():
        overlap = 2 * (mask & masks["good"]).sum() / (mask.sum() + masks["good"].sum())
        assert overlap > 0.98, name


def test_the_failures_are_listed_in_the_overview(batch):
    folder, output, process = batch
    record = json.loads((output / "run.json").read_text())
    assert record["counts"]["failed"] == len(record["failures"]) == process.stderr.count("error: ")
    with (output / "summary.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {r["input"]: r["message"] for r in rows if r["status"] == "failed"} == {
        f["input"]: f["message"] for f in record["failures"]
    }
    with (output / "failures.csv").open(encoding="utf-8", newline="") as stream:
        listed = list(csv.DictReader(stream))
    assert {r["input"]: r["message"] for r in listed} == {f["input"]: f["message"] for f in record["failures"]}
    # Without its script the page says what failed, too.
    page = (output / "index.html").read_text(encoding="utf-8")
    plain = html.unescape(re.search("<noscript>(.*?)</noscript>", page, re.DOTALL)[1])
    assert all(f["input"] in plain and f["message"] in plain for f in record["failures"])


def test_a_huge_image_is_done_when_it_is_asked_for(tmp_path, capsys):
    arguments = ["run", str(SAMPLE), "--output", str(tmp_path), "--no-scene", "--device", "cpu", *HERE]
    assert cli.main([*arguments, "--max-pixels", "1000"]) == 1
    assert re.search(r"error: .*bus_0030-s.png .*pixels.*max", capsys.readouterr().err)
    assert cli.main([*arguments, "--max-pixels", str(PIXELS.size)]) == 0


# -------------------------------------------------------------------------------------------------- the whole run


def run_sample(output, *options):
    common = ["--output", str(output), "--device", "cpu", "--no-scene", *HERE]
    return cli.main(["run", str(SAMPLE), *common, *map(str, options)])


def model_folder(path, **changes):
    entry = catalog.default_for("segment")
    path.mkdir()
    shutil.copy(catalog.WEIGHTS / entry.file, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({**entry.to_dict(), "file": "model.safetensors", **changes}))
    return path


def test_an_unknown_model(tmp_path, capsys):
    assert run_sample(tmp_path / "out", "--model", "nonsense") == 1
    assert "error: Model 'nonsense' is unknown; there are roi-cnn-compact" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_weights_with_a_wrong_checksum(tmp_path, capsys):
    model = model_folder(tmp_path / "model", sha256="0" * 64)
    assert run_sample(tmp_path / "out", "--model", model) == 1
    assert "damaged or were exchanged: SHA-256 is" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_weights_of_another_network(tmp_path, capsys):
    arguments = {**catalog.default_for("segment").arguments}
    key = next(k for k, v in arguments.items() if isinstance(v, int) and not isinstance(v, bool))
    model = model_folder(tmp_path / "model", arguments={**arguments, key: arguments[key] * 2})
    assert run_sample(tmp_path / "out", "--model", model) == 1
    assert "do not fit the network" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_model(tmp_path, capsys):
    assert run_sample(tmp_path / "out", "--model", tmp_path) == 1
    assert "config.json is missing" in capsys.readouterr().err


def test_a_users_own_model_folder_is_used(tmp_path):
    assert run_sample(tmp_path / "out", "--model", model_folder(tmp_path / "model", id="mine")) == 0
    study = files.read_study(tmp_path / "out" / "bus_0030-s")
    assert study.provenance["models"][0]["id"] == "mine" and study.findings[0].models["segment"] == "mine"


def test_a_device_that_is_not_there(tmp_path, capsys):
    import torch

    if torch.backends.mps.is_available():
        pytest.skip("this machine has an Apple GPU")
    assert run_sample(tmp_path / "out", "--device", "mps") == 2
    assert "use --device auto" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_input_folder_without_images(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    assert cli.main(["run", str(tmp_path / "in"), "--output", str(tmp_path / "out")]) == 1
    assert "has no image files in it" in capsys.readouterr().err


def test_an_unreadable_image(tmp_path, monkeypatch, capsys):
    locked = tmp_path / "locked.png"
    shutil.copy(SAMPLE, locked)
    real = Path.open

    def deny(self, *args, **kwargs):  # the tests may run as root, whom no permission stops
        if self == locked:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", deny)
    names = ["run", str(locked), str(SAMPLE), "--output", str(tmp_path / "out")]
    assert cli.main([*names, "--device", "cpu", "--no-scene", *HERE]) == 1
    assert f"error: {locked} cannot be read (Permission denied); check its permissions." in capsys.readouterr().err
    assert (tmp_path / "out" / "bus_0030-s" / "study.json").exists()


def test_a_name_that_is_too_long_costs_its_input_alone(tmp_path, capsys):
    long = "x" * 300
    names = ["run", f"{long}.png", str(SAMPLE), "--output", str(tmp_path / "out")]
    assert cli.main([*names, "--device", "cpu", "--no-scene", *HERE]) == 1
    said = capsys.readouterr().err
    assert said.count("error: ") == 1 and re.search(f"{long}.png cannot be read .*too long", said)
    assert (tmp_path / "out" / "bus_0030-s" / "study.json").exists()
    assert run_sample(tmp_path / "out", "--model", long) == 1
    assert f"Model '{long}' is unknown" in capsys.readouterr().err


def test_an_output_that_is_a_file(tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert run_sample(tmp_path / "out") == 1
    assert "is a file; choose a folder for --output" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


def test_an_output_without_permission(tmp_path, capsys):
    if os.name == "nt" or os.geteuid() == 0:
        folder = "/proc/breastusai"  # nobody can make a folder there, root neither
        if not Path("/proc/self").exists():
            pytest.skip("there is no folder here that the test may not write to")
    else:
        tmp_path.chmod(0o500)
        folder = tmp_path / "out"
    assert run_sample(folder) == 1
    assert re.search(r"error: .* cannot be written: .*choose ", capsys.readouterr().err)


def test_a_read_only_file_system(tmp_path, monkeypatch, capsys):
    def refuse(self, data):
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    assert run_sample(tmp_path / "out") == 1
    assert "the disk is read-only; choose another output folder" in capsys.readouterr().err


def test_a_disk_that_gets_full_while_an_input_is_written(tmp_path, monkeypatch, capsys):
    images = tmp_path / "in"
    images.mkdir()
    for name in ("a", "b", "c"):
        shutil.copy(SAMPLE, images / f"{name}.png")
    real, written = atomic.os.replace, []

    def replace(source, target):
        if Path(target).name == "points.mrk.json":
            written.append(target)
            if len(written) == 2:  # b's
                raise OSError(28, "No space left on device", str(source))
        return real(source, target)

    monkeypatch.setattr(atomic.os, "replace", replace)
    arguments = ["run", str(images), "--output", str(tmp_path / "out"), "--device", "cpu", "--no-scene", *HERE]
    assert cli.main(arguments) == 1
    said = capsys.readouterr().err
    assert said == (
        f"error: {images}/b.png: {tmp_path}/out/b/points.mrk.json cannot be written: the disk is full; free some space "
        "or choose another output folder.\n"
    )
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a", "c", "failures.csv"} | RESULTS
    monkeypatch.undo()
    assert cli.main(arguments) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a", "b", "c"} | RESULTS


def test_a_disk_that_is_really_full(tmp_path, capsys):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)]
    if os.name == "nt" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("making a small disk needs root and mount")
    try:
        (small / "ballast").write_bytes(b"x" * 120_000)
        assert run_sample(small / "out") == 1
        said = capsys.readouterr().err
        assert "the disk is full; free some space" in said and "Traceback" not in said
        assert not (small / "out" / "bus_0030-s").exists() and not list((small / "out").glob(".tmp-*"))
        (small / "ballast").unlink()
    finally:
        subprocess.run(["umount", str(small)], check=True)


# ----------------------------------------------------------------------------------------- a variable that is not set


@pytest.mark.parametrize(
    "words",
    [
        ["run", str(SAMPLE), "--output", "", "--no-scene"],
        ["run", str(SAMPLE), "-o", "x", "--anonymize", ""],
        *([command, str(SAMPLE), "--output="] for command in ("detect", "segment", "heatmap", "grade")),
        ["grade", "", "-o", "x"],
        ["grade", str(SAMPLE), "-o", "x", "--findings", ""],
        ["phantom", "--n", "1", "--output", ""],
        ["samples", "-o", ""],
        ["train", "roi-cnn", "--data", "x", "--output", ""],
        ["train", "detect", "--data", "", "--output", "x"],
        ["evaluate", "segment", "--data", "x", "--output", ""],
    ],
)
def test_an_empty_path_is_not_the_folder_that_one_is_in(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].endswith("is empty; give a path (. is the folder that you are in).")
    assert list(tmp_path.iterdir()) == []
