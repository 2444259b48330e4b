"""``breastusai run`` on the folder of an examination: DICOM of several kinds in, positions in the body out. Real networks, weights not learnt."""

import csv
import json

import jsonschema
import numpy as np
import pytest
import SimpleITK as sitk
from dicom_samples import ge_abus, mr_image, save, slices, speckle, text_report, us_cine, us_image
from PIL import Image
from small_models import detector_folder

from BreastUSAILib import cli
from BreastUSAILib.acquisition import CurvedAcquisition
from BreastUSAILib.errors import NoFramesError, UsageError
from BreastUSAILib.files import read_study
from BreastUSAILib.findings import study_schema
from BreastUSAILib.image import read_image, write_image
from BreastUSAILib.study_image import read_again

VOXELS = speckle((40, 24, 60))
SPACING = (0.9, 0.7, 1.1)


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examination")
    save(ge_abus(VOXELS, SPACING, description="LMED", laterality="L", radius=150.0), folder / "1")
    for k, ds in enumerate(slices(speckle((40, 24, 60), seed=2), SPACING, description="R AP", laterality="R")):
        save(ds, folder / "slices" / f"IM{k:03}")
    save(mr_image(VOXELS[0]), folder / "2")
    save(text_report(), folder / "3")
    output = folder / "out"
    model = detector_folder(folder / ".model")
    arguments = ["run", folder, "--output", output, "--no-scene", "--device", "cpu", "--detect-model", model]
    assert cli.main([*map(str, arguments), "--no-outlines", "--detect-threshold", "0", "--detect-maximum", "3"]) == 0
    return output


def study(output, name):
    data = json.loads((output / name / "study.json").read_text())
    jsonschema.validate(data, study_schema())
    return data


def test_findings_of_a_curved_sweep_lie_in_the_body(output):
    data = study(output, "1")
    assert (data["image"]["laterality"], data["image"]["view"]) == ("L", "MED")
    acquisition = CurvedAcquisition.from_dict(data["image"]["acquisition"])
    assert acquisition.radius == 150
    assert data["findings"]
    for finding in data["findings"]:
        center, size = acquisition.physical_extent(finding["box"]["center"], finding["box"]["size"])
        np.testing.assert_allclose(finding["physical_box"]["center"], center, atol=1e-9)
        np.testing.assert_allclose(finding["physical_box"]["size"], size, atol=1e-9)
    page = (output / "1" / "report.html").read_text()
    assert "left, MED view" in page and "Centre in the body (LPS)" in page


def test_a_series_of_files_is_one_study(output):
    data = study(output, "slices_IM000")
    assert data["image"]["size"] == [60, 24, 40]
    assert data["image"]["acquisition"] is None
    assert (data["image"]["laterality"], data["image"]["view"]) == ("R", "AP")
    assert data["provenance"]["input"]["files"] == 40
    assert "40 files of one series put together" in data["provenance"]["notes"]


def test_a_series_is_exported_and_copied_from_where_it_was(output, tmp_path):
    pytest.importorskip("highdicom", reason="highdicom is not installed (extra `dicom`)")
    pytest.importorskip("dicomanonymizer", reason="dicom-anonymizer is not installed (extra `dicom`)")
    name = next(p.parent.name for p in output.glob("slices*/study.json"))
    arguments = ["export", output / name, "--dicom-sr", "--output", tmp_path]
    assert cli.main([*map(str, arguments)]) == 0
    assert cli.main([*map(str, arguments), "--anonymize"]) == 0
    assert len(list(tmp_path.glob("*/measurements.dcm"))) == 2


def test_the_overview_has_breast_and_view_and_names_what_was_left(output):
    with (output / "summary.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {(row["laterality"], row["view"]) for row in rows} == {("L", "MED"), ("R", "AP")}
    for row in rows:
        same = row["physical_center_x_mm"] == row["center_x_mm"]
        assert same == (row["view"] == "AP")
    left = json.loads((output / "run.json").read_text())["left_because"]
    assert sorted(reason.split(":")[0] for reason in left.values()) == ["not an ultrasound image"] * 2


def test_a_frame_that_is_chosen_is_for_cines(tmp_path, capsys):
    """Single images and volumes of the same folder are read whole, and their results are theirs in all that follows."""
    folder, output = tmp_path / "in", tmp_path / "out"
    save(us_cine(VOXELS[:3], mm=(0.2, 0.2)), folder / "cine.dcm")
    save(us_image(VOXELS[0], mm=(0.2, 0.2)), folder / "single.dcm")
    Image.fromarray(VOXELS[0]).save(folder / "picture.png")
    for k, ds in enumerate(slices(VOXELS[:10], SPACING)):
        save(ds, folder / "slices" / f"IM{k:03}.dcm")
    write_image(sitk.GetImageFromArray(VOXELS[:10]), folder / "volume.nrrd")
    model = detector_folder(tmp_path / "model")
    arguments = ["run", folder, "--output", output, "--no-scene", "--no-grades", "--device", "cpu", "--detect-model", model]
    arguments = [*map(str, arguments), "--no-outlines", "--frame", "2"]
    assert cli.main(arguments) == 0
    frames = {name: read_study(output / name).provenance["options"]["frame"] for name in ("cine", "single", "slices_IM000", "volume")}
    assert frames == {"cine": 2, "single": 2, "slices_IM000": None, "volume": None}
    for name, source in (("cine", "cine.dcm"), ("single", "single.dcm"), ("slices_IM000", "slices"), ("volume", "volume.nrrd")):
        done = read_study(output / name)
        again = read_again(done, folder / source)
        assert again.image.GetSize() == done.image.size
        assert ("frame 2 of 3" in again.notes) == (name == "cine")
    assert cli.main(["export", str(output / "single"), "--dicom-sr"]) == 0
    capsys.readouterr()
    assert cli.main(arguments) == 0
    said = capsys.readouterr()
    assert "other options" not in said.out + said.err


def test_a_frame_that_a_cine_does_not_have_is_told(tmp_path, capsys):
    save(us_cine(VOXELS[:3], mm=(0.2, 0.2)), tmp_path / "cine.dcm")
    assert cli.main(["run", str(tmp_path / "cine.dcm"), "--output", str(tmp_path / "out"), "--no-scene", "--frame", "4"]) == 1
    assert "has no frame 4; choose one of 1 to 3" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["nrrd", "mha", "nii.gz"])
def test_a_volume_is_refused_before_its_voxels_are_read(tmp_path, monkeypatch, suffix):
    """A run with --frame reads it again without one."""
    paths = [tmp_path / f"{name}.{suffix}" for name in ("volume", "slice")]
    for path, count in zip(paths, (10, 1), strict=True):
        write_image(sitk.GetImageFromArray(VOXELS[:count]), path)
    assert read_image(paths[1], frame=2).image.GetSize() == (60, 24, 1)

    class Reader:
        def __getattr__(self, name):
            raise AssertionError("the voxels are read")

    monkeypatch.setattr(sitk, "ImageFileReader", Reader)
    with pytest.raises(NoFramesError, match="has no frame 2"):
        read_image(paths[0], frame=2)


def test_one_frame_of_a_volume_is_not_read(tmp_path):
    """A caller of `read_image` that names one asks for a 2D image."""
    write_image(sitk.GetImageFromArray(VOXELS[:10]), tmp_path / "volume.nrrd")
    with pytest.raises(NoFramesError, match="has no frame 2"):
        read_image(tmp_path / "volume.nrrd", frame=2)
    with pytest.raises(UsageError, match="has no frame 0"):
        read_image(save(us_image(VOXELS[0]), tmp_path / "single.dcm"), frame=0)
    assert read_image(tmp_path / "single.dcm", frame=2).image.GetSize() == (60, 24)


def test_a_picture_with_the_name_of_a_dicom_file_has_its_copy(tmp_path, capsys):
    """The reader goes by content, so that what is written of the image must, too."""
    pytest.importorskip("highdicom", reason="highdicom is not installed (extra `dicom`)")
    pytest.importorskip("dicomanonymizer", reason="dicom-anonymizer is not installed (extra `dicom`)")
    Image.fromarray(VOXELS[0]).save(tmp_path / "a.dcm", format="PNG")
    arguments = ["run", tmp_path / "a.dcm", "--output", tmp_path / "out", "--no-scene", "--no-grades", "--device", "cpu"]
    assert cli.main([*map(str, arguments), "--dicom-sr", "--anonymize", str(tmp_path / "share")]) == 0, capsys.readouterr().err
    assert len(list((tmp_path / "share").glob("*/study.json"))) == 1
    assert "no DICOM results were written, as the input is not a DICOM file" in read_study(tmp_path / "out" / "a").provenance["notes"]
