"""What the commands for one image have in common: what they read, and where they write. Real files; networks whose weights are not learnt."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_samples import save, slices, speckle
from small_models import detector_folder

from BreastUSAILib import cli
from BreastUSAILib.files import read_study

SPACING = (0.9, 0.7, 1.1)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return detector_folder(tmp_path_factory.mktemp("models") / "detector")


def detect(path, model, output, *more):
    """The exit code of ``breastusai detect``, all candidates kept."""
    own = ["--model", model, "--output", output, "--device", "cpu", "--threshold", "0", "--maximum", "2"]
    return cli.main(["detect", *map(str, (path, *own, *more))])


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
