"""`breastusai phantom` as a person uses it: on real volumes where they are small, else with phantoms made by hand."""

import json
import subprocess
import sys
from pathlib import Path

import hand_made_phantom
import pytest

from BreastUSAILib import cli
from BreastUSAILib.phantom import layouts, tdsc_abus
from BreastUSAILib.phantom.command import add_arguments, batch_of
from BreastUSAILib.phantom.records import read_records

ROOT = Path(__file__).parents[2]


@pytest.fixture()
def by_hand(monkeypatch):
    """Volumes made by hand in place of the real ones."""
    from BreastUSAILib.phantom import volume

    monkeypatch.setattr(volume, "generate", hand_made_phantom.generate)


def phantom(*arguments) -> int:
    return cli.main(["phantom", *map(str, arguments)])


def test_a_data_set_is_made_and_told(tmp_path, capsys, by_hand):
    assert phantom("--n", 2, "--seed", 1, "--output", tmp_path / "set", "--size", "cube", "--lesions", 2) == 0
    out = capsys.readouterr().out
    assert "2 made, 0 there already, 0 failed." in out and "2 volumes: 0 without a lesion, 4 lesions, 2 of them" in out
    assert layouts.HONESTY in out
    records = layouts.read_native(tmp_path / "set")
    assert [r.seed for r in records] == [100_000, 100_001] and {r.split for r in records} == {"train"}
    assert phantom("--n", 3, "--seed", 1, "--output", tmp_path / "set", "--size", "cube", "--lesions", 2) == 0
    assert "1 made, 2 there already" in capsys.readouterr().out
    # An empty file, as a full disk leaves it, is no volume.
    image = records[1].image
    image.write_bytes(b"")
    assert phantom("--n", 3, "--seed", 1, "--output", tmp_path / "set", "--size", "cube", "--lesions", 2) == 0
    assert "1 made, 2 there already" in capsys.readouterr().out and image.stat().st_size


def test_the_challenges_layout(tmp_path, capsys, by_hand):
    assert phantom("--n", 4, "--output", tmp_path, "--size", "cube", "--layout", "tdsc-abus", "--quiet") == 0
    assert capsys.readouterr().out == ""
    assert [c.case_id for c in tdsc_abus.read_tdsc_abus(tmp_path)] == [0, 1, 100, 130]
    assert [r.seed // 10**9 for r in read_records(tmp_path)] == [0, 0, 1, 2]


def test_options_reach_the_specification(tmp_path):
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    line = "--n 3 --seed 2 --output x --size full --split test --lesions 2 --density d --malignant-share 0.5 --jobs 4"
    args = parser.parse_args([*line.split(), "--no-hard-negatives", "--acquisition", "gain_db=3", "looks=2"])
    batch = batch_of(args)
    assert batch.numbers == {"test": 3} and (batch.seed, batch.jobs, batch.layout) == (2, 4, "native")
    spec = batch.spec
    assert (spec.grid, spec.lesions, spec.density, spec.malignant_share) == ("full", 2, "d", 0.5)
    assert spec.acquisition == {"gain_db": 3.0, "looks": 2.0} and not spec.hard_negatives


def test_json_progress(tmp_path, capsys, by_hand):
    assert phantom("--n", 2, "--output", tmp_path, "--size", "cube", "--progress", "json", "--quiet") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["progress"] for line in lines] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n", "0"], "--n is 0; it must be 1 or more."),
        (["--n", "1", "--seed", "-1"], "The seed is -1; it must be from 0 to 9999."),
        (["--n", "1", "--malignant-share", "2"], "The malignant share is 2; it must be from 0 to 1."),
        (["--n", "1", "--lesions", "99"], "The number of lesions is 99; it must be from 0 to 8."),
        (["--n", "1", "--jobs", "0"], "The number of jobs is 0; it must be 1 or more."),
        (["--n", "1", "--acquisition", "gain"], "--acquisition 'gain' must read NAME=NUMBER, e.g. gain_db=3."),
        (["--n", "1", "--acquisition", "gain=1"], "'gain' is no setting of the acquisition; there are: frequency_mhz"),
        (["--n", "201", "--layout", "tdsc-abus"], "TDSC-ABUS has 200 volumes, not 201"),
        (["--n", "1", "--layout", "tdsc-abus", "--lesions", "2"], "Volumes of TDSC-ABUS have exactly one lesion, not 2"),
    ],
)
def test_wrong_usage_is_one_sentence_and_makes_nothing(tmp_path, capsys, arguments, message):
    assert phantom(*arguments, "--output", tmp_path / "set") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}") and error.count("\n") == 1
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("arguments", [[], ["--n", "x"], ["--n", "1"], ["--n", "1", "--output", "x", "--size", "big"]])
def test_wrong_arguments_are_wrong_usage(arguments, capsys):
    assert phantom(*arguments) == 2 and "usage: breastusai phantom" in capsys.readouterr().err


def test_failures_have_their_exit_code_and_name_the_seed(tmp_path, capsys, monkeypatch):
    from BreastUSAILib.phantom import volume

    monkeypatch.setattr(volume, "generate", hand_made_phantom.generate_but_odd_seeds)
    assert phantom("--n", 2, "--output", tmp_path, "--size", "cube") == 1
    captured = capsys.readouterr()
    assert "1 made, 0 there already, 1 failed." in captured.out
    assert captured.err == (
        "error: phantom-train-0000000001 (seed 1): A lesion of 18 cm3 cannot fit; ask for a smaller one.\n"
    )


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path, capsys, by_hand):
    (tmp_path / "file").write_text("")
    assert phantom("--n", 1, "--output", tmp_path / "file" / "set", "--size", "cube") == 1
    assert "a part of the path is a file" in capsys.readouterr().err


def test_the_command_line_starts_without_the_generator():
    code = (
        "import sys; from BreastUSAILib import cli; cli.build_parser(['phantom', '--n', '1', '--output', 'x']);"
        "sys.exit(bool({'scipy', 'torch', 'PIL', 'matplotlib', 'BreastUSAILib.phantom.volume'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# --------------------------------------------------------------------------------------------------- with real volumes


@pytest.fixture(scope="module")
def cubes(tmp_path_factory):
    """Three real cubes of the test split, made by two processes, with pictures: folder and what was printed."""
    folder = tmp_path_factory.mktemp("cubes")
    command = [sys.executable, "-m", "BreastUSAILib", "phantom", "--n", "3", "--size", "cube", "--split", "test"]
    command += ["--output", str(folder), "--jobs", "2", "--contact-sheet", "--lesions", "1"]
    return folder, subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_real_volumes_have_the_truth_of_their_label_maps(cubes):
    import numpy as np
    import SimpleITK as sitk

    folder, process = cubes
    assert process.returncode == 0, process.stderr
    assert "3 made" in process.stdout and f"Pictures: {folder / 'contact-sheet-01.png'}" in process.stdout
    records = layouts.read_native(folder, ["test"])
    assert [r.seed for r in records] == [2_000_000_000 + i for i in range(3)]
    for record in records:
        image, labels = sitk.ReadImage(str(record.image)), sitk.ReadImage(str(record.labels))
        assert image.GetSize() == labels.GetSize() == (128, 64, 128)
        assert len(np.unique(sitk.GetArrayViewFromImage(image))) > 50
        (lesion,) = record.lesions
        measured = hand_made_phantom.truth_of(labels, 1, lesion.malignant)
        assert (measured.first, measured.last) == (lesion.first, lesion.last)
        assert lesion.centre == pytest.approx(measured.centre) and lesion.size == pytest.approx(measured.size)
        assert lesion.volume_ml == pytest.approx(measured.volume_ml)


def test_real_volumes_are_the_same_from_python(cubes):
    from BreastUSAILib import phantom as package
    from BreastUSAILib.phantom.records import voxel_sum

    record = layouts.read_native(cubes[0])[1]
    again = package.generate(record.seed, package.PhantomSpec(grid="cube", lesions=1))
    assert {"image": voxel_sum(again.image), "labels": voxel_sum(again.labels)} == record.sha256
    assert again.lesions == record.lesions and again.facts == record.facts


def test_the_contact_sheet_is_a_picture(cubes):
    from PIL import Image

    with Image.open(cubes[0] / "contact-sheet-01.png") as sheet:
        assert sheet.size[0] > 800 and sheet.size[1] > 1200 and sheet.format == "PNG"
