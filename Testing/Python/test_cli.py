"""The command line as a person or a program uses it, with the model that ships and the sample images."""

import csv
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import SimpleITK as sitk

import BreastUSAILib
from BreastUSAILib import cli, files
from BreastUSAILib.models import catalog
from BreastUSAILib.progress import show_progress

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "Testing" / "Data" / "images"
HERE = ("--jobs", "0")  # in this process, which has imported PyTorch


def breastusai(*arguments, **options):
    """Run the program in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "BreastUSAILib", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=environment, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two sample images worked up with scenes: the folder of results and what was printed."""
    output = tmp_path_factory.mktemp("run") / "results"
    names = [IMAGES / "case038.nrrd", IMAGES / "bus_0030-s.png"]
    return output, breastusai("run", *names, "--output", output, "--progress", "json", "--device", "cpu")


def test_a_run_on_the_sample_images(finished):
    output, process = finished
    assert process.returncode == 0, process.stderr
    assert "2 inputs: 2 with a lesion, 0 without, 0 failed." in process.stdout
    assert f"Results: {output / 'index.html'}" in process.stdout and BreastUSAILib.RESEARCH_USE in process.stdout
    assert {p.name for p in output.iterdir()} == {"case038", "bus_0030-s", "run.json", "summary.csv", "studies.csv", "index.html"}
    known = {"case038": True, "bus_0030-s": False}
    for folder, spacing_known in known.items():
        study = files.read_study(output / folder)
        assert study.image.spacing_known == spacing_known
        assert 0 < study.findings[0].score <= 1 and study.findings[0].mask is not None
        assert {"read", "load_model", "segment"} <= set(study.provenance["seconds"])
    with (output / "summary.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["folder"], bool(r["area_mm2"]), bool(r["area_px2"])) for r in rows] == [
        ("case038", True, False), ("bus_0030-s", False, True),
    ]  # fmt: skip
    record = json.loads((output / "run.json").read_text())
    assert record["models"][0]["sha256"] == catalog.default_for("segment").sha256


def test_scenes_are_written_where_slicer_core_is(finished):
    pytest.importorskip("slicer", reason="slicer-core is not installed (pip install breastusai[slicer])")
    assert all((finished[0] / folder / "scene.mrb").stat().st_size > 1000 for folder in ("case038", "bus_0030-s"))


def test_the_study_follows_the_published_schema(finished):
    jsonschema = pytest.importorskip("jsonschema")
    from BreastUSAILib.findings import study_schema

    jsonschema.validate(json.loads((finished[0] / "case038" / "study.json").read_text()), study_schema())


def test_progress_lines_are_json_and_rise_to_one(finished):
    lines = [json.loads(x) for x in finished[1].stdout.splitlines() if x.startswith('{"progress":')]
    fractions = [line["progress"] for line in lines]
    assert fractions == sorted(fractions) and fractions[-1] == 1 and len(fractions) > 8
    said = {line["message"] for line in lines}
    assert "loading the model" in said and "case038.nrrd: reading; 0 of 2" in said
    assert any(message.startswith("case038.nrrd: writing; 0 of 2") for message in said)


def test_masks_lie_on_the_lesions(finished):
    for name in ("case038", "bus_0030-s"):
        truth = sitk.GetArrayFromImage(sitk.ReadImage(str(IMAGES.parent / "masks" / f"{name}.png"))) > 0
        mask = sitk.GetArrayFromImage(files.read_study(finished[0] / name).findings[0].mask) > 0
        assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.7


def test_a_second_run_skips_what_is_finished(finished, capsys):
    output, _ = finished
    before = {p: p.stat().st_mtime_ns for p in output.glob("*/*")}
    assert cli.main(["run", str(IMAGES / "case038.nrrd"), "--output", str(output), "--device", "cpu"]) == 0
    assert "1 input finished earlier and skipped" in capsys.readouterr().out
    assert before == {p: p.stat().st_mtime_ns for p in output.glob("*/*")}


def test_options_reach_the_workup(tmp_path, capsys):
    image = str(IMAGES / "bus_0030-s.png")
    options = ["--no-scene", "--no-refine", "--lesions", "all", "--spacing", "0.08", "--threshold", "0.4", "--device", "cpu", *HERE]
    assert cli.main(["run", image, "--output", str(tmp_path), *options, "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    study = files.read_study(tmp_path / "bus_0030-s")
    chosen = study.provenance["options"]
    assert (chosen["refine"], chosen["lesions"], chosen["threshold"]) == (False, "all", 0.4)
    assert study.image.spacing_known and study.image.spacing == (0.08, 0.08)
    assert not (tmp_path / "bus_0030-s" / "scene.mrb").exists()


def test_nothing_found_is_no_failure(tmp_path, capsys):
    arguments = ["run", str(IMAGES / "bus_0030-s.png"), "--output", str(tmp_path), "--minimum-score", "0.9999"]
    assert cli.main([*arguments, "--no-scene", "--device", "cpu", *HERE]) == 0
    assert "No lesion found." in capsys.readouterr().out
    assert "No lesion found." in (tmp_path / "index.html").read_text()
    assert not (tmp_path / "bus_0030-s" / "lesions.seg.nrrd").exists()


def test_without_slicer_core_scenes_are_left_out_and_that_is_said_once(tmp_path, monkeypatch, capsys):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "slicer" else real(name, *a))
    names = [str(IMAGES / "bus_0030-s.png"), str(IMAGES / "bus_0096-s.png")]
    assert cli.main(["run", *names, "--output", str(tmp_path), "--device", "cpu", *HERE]) == 0
    assert capsys.readouterr().out.count("pip install breastusai[slicer]") == 1
    assert not list(tmp_path.glob("*/scene.mrb")) and len(list(tmp_path.glob("*/study.json"))) == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
@pytest.mark.parametrize("jobs", [0, 1])
def test_sigterm_ends_a_run_cleanly_and_it_goes_on_later(tmp_path, jobs):
    for i in range(40):
        (tmp_path / "in" / f"{i:02}.png").parent.mkdir(exist_ok=True)
        (tmp_path / "in" / f"{i:02}.png").write_bytes((IMAGES / "bus_0030-s.png").read_bytes())
    output = tmp_path / "out"
    command = [sys.executable, "-m", "BreastUSAILib", "run", tmp_path / "in", "--output", output, "--no-scene"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, "--jobs", str(jobs), "--device", "cpu"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        while not list(output.glob("*/study.json")) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
    assert process.returncode == 130, err
    assert b"Cancelled" in out and b"Traceback" not in err
    finished = len(list(output.glob("*/study.json")))
    assert 0 < finished < 40
    assert not list(output.glob(".tmp-*"))
    assert json.loads((output / "run.json").read_text())["status"] == "cancelled"
    for folder in (p for p in output.iterdir() if p.is_dir()):
        assert (folder / "study.json").exists() and (folder / "report.html").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP on this system")
@pytest.mark.parametrize("jobs", [0, 1])
def test_a_terminal_that_is_lost_ends_a_run_cleanly_unless_nohup_says_otherwise(tmp_path, jobs):
    import pty

    for i in range(6):
        (tmp_path / "in" / f"{i:02}.png").parent.mkdir(exist_ok=True)
        (tmp_path / "in" / f"{i:02}.png").write_bytes((IMAGES / "bus_0030-s.png").read_bytes())
    command = [sys.executable, "-m", "BreastUSAILib", "run", tmp_path / "in", "--no-scene", "--no-grades", "--jobs", str(jobs), "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for way, ended in ((), ("cancelled", range(1, 6))), (("nohup",), ("done", [6])):
        output = tmp_path / f"out{len(way)}"
        master, slave = pty.openpty()
        with subprocess.Popen(
            [*way, *command, "--output", output], env=environment, cwd=tmp_path, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=slave, stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # the tests themselves may run under nohup
        ) as process:  # fmt: skip
            os.close(slave)
            while not list(output.glob("*/study.json")) and process.poll() is None:
                time.sleep(0.02)
            os.close(master)  # what is printed from now on is an error
            for _ in range(2):  # as the shell and the system do, one after the other: the processes of the run get it, too
                os.killpg(process.pid, signal.SIGHUP)
                time.sleep(0.05)
            process.communicate()
        assert process.returncode == (0 if way else 130)
        record = json.loads((output / "run.json").read_text())
        assert record["status"] == ended[0] and record["failures"] == []
        assert len(list(output.glob("*/study.json"))) in ended[1]


# ---------------------------------------------------------------------------------------------------------- models


def test_models(capsys):
    entry = catalog.default_for("segment")
    assert cli.main(["models", "list"]) == 0
    assert entry.id in capsys.readouterr().out
    assert cli.main(["models", "show", entry.id]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == entry.sha256
    assert cli.main(["models", "card", entry.id]) == 0
    card = capsys.readouterr().out
    assert card.startswith(f"# {entry.id}") and BreastUSAILib.RESEARCH_USE in card
    assert cli.main(["models", "verify"]) == 0
    assert entry.sha256 in capsys.readouterr().out


def test_unknown_models(capsys):
    for action in ("show", "card", "verify"):
        assert cli.main(["models", action, "nonsense"]) == 1
        assert "error: Model 'nonsense' is unknown; there are" in capsys.readouterr().err


def test_verify_finds_damaged_weights(tmp_path, monkeypatch, capsys):
    entry = catalog.default_for("segment")
    (tmp_path / entry.file).parent.mkdir(parents=True, exist_ok=True)
    data = bytearray((catalog.WEIGHTS / entry.file).read_bytes())
    data[-1] ^= 1
    (tmp_path / entry.file).write_bytes(data)
    monkeypatch.setattr(catalog, "WEIGHTS", tmp_path)
    assert cli.main(["models", "verify"]) == 1
    for words in (["models", "verify", "--debug"], ["models", "--debug", "verify"]):
        assert cli.build_parser(words).parse_args(words).debug
        assert cli.main(words) == 1
    assert "damaged or were exchanged" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------- common


def test_help_is_light():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from BreastUSAILib.cli import main\n"
        "assert main(['--help']) == 0 and main(['run', '--help']) == 0 and main(['models', 'list']) == 0\n"
        "heavy = {'torch', 'monai', 'slicer', 'SimpleITK', 'numpy', 'skimage', 'scipy', 'PIL', 'pydicom', 'tqdm', 'jinja2'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    process = subprocess.run([sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_version_and_help(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"BreastUSAI {BreastUSAILib.__version__}\n"
    assert cli.main(["run", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert BreastUSAILib.RESEARCH_USE in said
    for option in (
        "--output", "--model", "--device", "--jobs", "--overwrite", "--spacing", "--frame", "--no-refine", "--lesions",
        "--threshold", "--minimum-score", "--max-pixels", "--no-scene", "--progress", "--debug", "--quiet",
    ):  # fmt: skip
        assert option in said


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["nonsense"], ["run"], ["run", "a.png"], ["run", "a.png", "--output"], ["train"], ["train", "nonsense"],
        ["run", "a.png", "--output", "x", "--device", "tpu"], ["run", "a.png", "--output", "x", "--jobs", "two"],
        ["run", "a.png", "--output", "x", "--jobs", "-1"], ["run", "a.png", "--output", "x", "--threshold", "1.5"],
        ["run", "a.png", "--output", "x", "--spacing", "0"], ["run", "a.png", "--output", "x", "--spacing", "nan"],
        ["run", "a.png", "--output", "x", "--spacing", "0.1,-1"], ["run", "a.png", "--output", "x", "--spacing", "0.1,0.1,0.1"],
        ["run", "a.png", "--output", "x", "--jobs", "0", "--time-limit", "9"], ["run", "a.png", "--output", "x", "--max-pixels", "-1"], ["run", "a.png", "--output", "x", "--frame", "0"],
        ["evaluate", "segment", "--nonsense"], ["models", "show"],
    ],
)  # fmt: skip
def test_wrong_usage_is_exit_code_2_and_nothing_is_written(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert "error: " in said and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["train", "roi-cnn"], ["evaluate", "segment"]])
def test_training_and_evaluation_are_wired(arguments, capsys):
    assert cli.main([*arguments, "--help"]) == 0
    said = capsys.readouterr().out
    assert "--data" in said and "--output" in said
    assert cli.main([*arguments, "--data", "/nonexistent", "--output", "/nonexistent"]) == 1
    assert capsys.readouterr().err.startswith("error: /nonexistent")


@pytest.mark.parametrize("name", ["heatmap", "segment-3d"])
def test_training_ends_with_a_whole_command_that_measures(name, monkeypatch, capsys):
    module = importlib.import_module(f"BreastUSAILib.training.{name.replace('-', '_')}")
    monkeypatch.setattr(module, "train", lambda *args, **more: Path("m"))
    assert cli.main(["train", name, "--data", "d", "--output", "o"]) == 0
    named = capsys.readouterr().out.split("breastusai ")[1].split()
    parsed = cli.build_parser(named).parse_args(named)
    assert (named[:2], parsed.model, parsed.output) == (["evaluate", name], "m", Path("FIGURES"))


@pytest.mark.parametrize("package", ["monai", "matplotlib"])
def test_evaluation_without_its_packages_says_what_to_install_before_any_work(package, tmp_path, monkeypatch, capsys):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == package else real(name, *a))
    assert cli.main(["evaluate", "segment", "--data", "/nonexistent", "--output", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == (
        f"error: breastusai evaluate segment needs {package}; install it with: pip install breastusai[train]\n"
    )
    assert not (tmp_path / "out").exists()
    assert cli.main(["evaluate", "segment", "--help"]) == 0


def test_training_that_meets_a_missing_package_says_what_to_install(monkeypatch, capsys):
    from BreastUSAILib.training import roi_cnn

    def main(args):
        name = str(args.data[0])
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(roi_cnn, "main", main)
    assert cli.main(["train", "roi-cnn", "--data", "monai.metrics", "--output", "x"]) == 1
    assert "train roi-cnn needs monai; install it with: pip install breastusai[train]" in capsys.readouterr().err
    assert cli.main(["train", "roi-cnn", "--data", "json5", "--output", "x"]) == 1
    assert "unexpected ModuleNotFoundError" in capsys.readouterr().err


def test_a_handler_that_was_not_installed_from_python_is_left_alone(monkeypatch):
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    monkeypatch.setattr(signal, "signal", lambda *args: pytest.fail("the handler was replaced"))
    assert cli.main(["models", "list"]) == 0


def test_errors_nobody_expected_are_one_sentence_and_debug_shows_where(monkeypatch, capsys):
    def broken():
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(catalog, "entries", broken)
    assert cli.main(["models", "list"]) == 1
    assert capsys.readouterr().err == "error: unexpected ZeroDivisionError: oh; --debug shows where.\n"
    assert cli.main(["models", "--debug", "list"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_closed_pipe_is_no_traceback():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "BreastUSAILib", "models", "show", catalog.default_for("segment").id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


def test_models_show_reads_a_folder_of_any_task(tmp_path, capsys):
    config = {
        "id": "mine", "task": "detect", "version": "1", "network": "detection.DetectionNetwork", "arguments": {},
        "preprocessing": {"spacing": [1, 1, 1]}, "trained_on": "nothing", "file": "model.safetensors", "sha256": "0" * 64,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert cli.main(["models", "show", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["task"] == "detect"


def test_progress_needs_no_stderr(monkeypatch, capsys):
    """Services and pythonw close it."""
    monkeypatch.setattr("sys.stderr", None)
    with show_progress("auto", False) as (progress, log):
        progress(0.5, "half")
        log("a word")
    assert capsys.readouterr().out == "a word\n"


def test_pixels_may_be_wider_than_high(tmp_path, capsys):
    """One number across and one down; a run of the same takes it for the same."""
    image = str(IMAGES / "bus_0030-s.png")
    arguments = ["run", image, "--output", str(tmp_path), "--no-scene", "--no-grades", "--quiet", *HERE]
    assert cli.main([*arguments, "--spacing", "0.1,0.2"]) == 0
    study = files.read_study(tmp_path / "bus_0030-s")
    assert study.image.spacing == (0.1, 0.2) and study.image.spacing_known
    assert study.provenance["options"]["spacing_mm"] == [0.1, 0.2]
    capsys.readouterr()
    assert cli.main([a for a in arguments if a != "--quiet"] + ["--spacing", "0.1,0.2"]) == 0
    said = capsys.readouterr().out
    assert "1 input finished earlier and skipped" in said and "other options" not in said
    for given in ("a", "0.1,", "0.1 0.2"):
        assert cli.main([*arguments, "--spacing", given]) == 2
        assert "no number of mm, nor one across and one down" in capsys.readouterr().err
