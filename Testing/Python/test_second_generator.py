"""The second generator of ABUS volumes: reproducible, exact in its labels, read by what the evaluations read, and no kin of the project's own."""

import sys
from functools import partial
from pathlib import Path

import generator_cases as cases
import numpy as np
import pytest

sys.path.insert(0, str(cases.BENCHMARKS))

import second_generator
from second_abus import lesion as lesions
from second_abus.noise import smooth_noise
from second_abus.volume import make_volume

SIZE = (96, 100, 80)  # voxels (lateral, depth, slice)
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
made = partial(cases.make, second_generator, number=4, seed=3, size=SIZE)


@pytest.fixture(scope="module")
def data_set(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("second")
    assert made(folder) == 0
    return folder


def test_a_seed_gives_the_same_volume_and_another_gives_another():
    cases.check_seeds(partial(make_volume, lesions=1), (64, 60, 48))


def test_evaluations_read_the_data_set_with_its_exact_truth(data_set):
    assert any(case.lesions for case in cases.check_truth(data_set, "test", 4, SIZE))


def test_series_are_not_mixed(data_set, capsys):
    cases.check_refused(made, data_set, capsys, seed=4)
    cases.check_refused(made, data_set, capsys, number=2)


def test_a_run_that_was_stopped_makes_only_what_is_missing(data_set):
    cases.check_stopped_run(made, data_set, {"test": 4})


@pytest.mark.parametrize(("pattern", "sign"), [("hypoechoic", -1), ("anechoic", -1), ("hyperechoic", 1)])
def test_a_lesion_is_as_dark_or_bright_as_its_echo_pattern_says(monkeypatch, pattern, sign):
    """In the map and, after speckle and compression, in grey levels."""
    table = {pattern: (1.0, 1.0)}
    plain = {
        "posterior_features": {"none": (1.0, 1.0)},
        "margin": {"circumscribed": (1.0, 1.0)},
        "halo": {"absent": (1.0, 1.0)},
    }
    monkeypatch.setattr(
        lesions, "TABLES", {**lesions.TABLES, **plain, "echo_pattern": table, "calcifications": {"none": (1.0, 1.0)}}
    )
    volume = make_volume(11, 0, (110, 100, 100), 1)
    (lesion,) = volume.lesions
    assert sign * lesion.contrast_db > 3
    inside = volume.labels == 1
    place = np.argwhere(inside)
    about = tuple(slice(max(a - 6, 0), b + 7) for a, b in zip(place.min(0), place.max(0), strict=True))
    grey, inside = volume.image[about].astype(float), inside[about]
    assert sign * (grey[inside].mean() - grey[~inside].mean()) > 5


def test_a_lesion_has_the_volume_that_was_drawn_and_its_posterior_follows_bayes():
    random = np.random.default_rng(0)
    plans = [lesions.draw_plan(random) for _ in range(3000)]
    posterior, malignant = (np.array([getattr(p, name) for p in plans], float) for name in ("posterior", "malignant"))
    for low, high in ((0.0, 0.2), (0.2, 0.8), (0.8, 1.0)):  # of what is called p, a share of p is malignant
        among = (posterior >= low) & (posterior <= high)
        assert malignant[among].mean() == pytest.approx(posterior[among].mean(), abs=0.06)
    volumes = np.array([p.volume_ml for p in plans])
    assert volumes.min() >= 0.05 and volumes.max() <= 15 and 0.7 < np.mean((volumes > 0.2) & (volumes < 3)) < 0.9
    assert np.mean([p.descriptors["echo_pattern"] in ("isoechoic", "hyperechoic") for p in plans]) < 0.08
    volume = make_volume(2, 0, (110, 100, 100), 1)
    (lesion,) = volume.lesions
    assert lesion.mask.sum() * np.prod(volume.spacing_mm) / 1000 == pytest.approx(lesion.plan.volume_ml, rel=0.1)


def test_noise_has_unit_variance_and_the_length_that_was_asked_for():
    cases.check_noise(smooth_noise(np.random.default_rng(1), (200, 300), (4.0, 12.0)))


def test_it_imports_nothing_of_the_projects_phantoms_or_the_other_generators():
    cases.check_independence("second", least=5)
