"""``breastusai run --retry-failed``: the same inputs as when they failed, by the real command line."""

import json
import shutil

import pytest
from dicom_samples import save, slices, speckle
from small_models import detector_folder

from BreastUSAILib import cli
from BreastUSAILib.inputs import read_run
from BreastUSAILib.run_journal import FAILED, Entry
from BreastUSAILib.run_retry import find_again

VOXELS, SPACING = speckle((6, 24, 60)), (0.9, 0.7, 2.0)


def retry(*arguments):
    return cli.main(["run", *map(str, arguments), "--device", "cpu", "--jobs", "0", "--no-scene"])


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
