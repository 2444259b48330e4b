"""What the commands for one image have in common: what they read, and where they write. Real files; networks whose weights are not learnt."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_samples import save, slices, speckle
from grade_cases import grade_folder, image_of
from small_models import detector_folder

from BreastUSAILib import cli
from BreastUSAILib.files import read_study
from BreastUSAILib.image import write_image

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
