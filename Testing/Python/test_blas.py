"""Products on one thread inside a block, as many as before after it."""

import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))

import seeds  # noqa: E402

from BreastUSAILib import segment as segment_module  # noqa: E402
from BreastUSAILib.blas import _blas, one_thread  # noqa: E402
from BreastUSAILib.refinement_3d import refine_3d  # noqa: E402


def threads():
    return {library["num_threads"] for library in _blas().info()}


@pytest.fixture
def several():
    """Two threads, as on a machine with two cores, whatever this one has."""
    if not _blas().info():
        pytest.skip("NumPy's BLAS library is none that threadpoolctl knows")
    with _blas().limit(limits=2):
        if threads() != {2}:
            pytest.skip("NumPy's BLAS library was built for one thread")
        yield


def test_one_thread_inside_and_as_many_as_before_outside(several):
    with one_thread():
        assert threads() == {1}
    assert threads() == {2}
    with pytest.raises(ValueError, match="within"), one_thread():
        raise ValueError("within")
    assert threads() == {2}


def test_the_refiner_of_volumes_works_on_one_thread(several, monkeypatch):
    seen = []
    monkeypatch.setattr("BreastUSAILib.refinement_3d.refine", lambda *args: seen.append(threads()))
    probability = np.zeros((9, 9, 9), np.float32)
    probability[3:6, 3:6, 3:6] = 0.9
    refine_3d(probability, probability, (1.0, 1.0, 1.0))
    assert seen == [{1}] and threads() == {2}


def test_the_refiner_of_images_works_on_one_thread(several, monkeypatch, tmp_path):
    from BreastUSAILib import chan_vese
    from BreastUSAILib.models import zoo

    seen = []
    real = chan_vese.refine
    monkeypatch.setattr(chan_vese, "refine", lambda *args: seen.append(threads()) or real(*args))
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8))
    model = zoo.load(seeds.model_folder(tmp_path), "segment", "cpu")
    options = segment_module.SegmentOptions(threshold=0.01, minimum_score=1e-6)
    segment_module.segment_2d(image, model, options, spacing_known=True)
    assert seen and all(one == {1} for one in seen) and threads() == {2}
