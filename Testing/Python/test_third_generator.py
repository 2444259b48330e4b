"""The third generator of ABUS volumes, to train on: reproducible, exact in its labels, read by what training reads, and no kin of the others."""

import sys
from functools import partial
from pathlib import Path

import generator_cases as cases
import numpy as np
import pytest

sys.path.insert(0, str(cases.BENCHMARKS))

import third_generator
from third_abus.filters import upsample
from third_abus.lesion_plan import KINDS, draw_plan
from third_abus.noise import smooth
from third_abus.volume import make_volume

from BreastUSAILib.evaluation.volume_data import read_volumes

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
made = partial(cases.make, third_generator, number=5, seed=3)


@pytest.fixture(scope="module")
def data_set(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("third")
    assert made(folder) == 0
    return folder


@pytest.fixture(scope="module")
def small_volumes() -> list:
    return [make_volume(7, index, (128, 80, 128)) for index in range(24)]


def test_a_seed_gives_the_same_volume_and_another_gives_another():
    cases.check_seeds(make_volume)


def test_training_reads_the_data_set_with_its_exact_truth(data_set):
    healthy = [not case.lesions for case in cases.check_truth(data_set, "train", 5)]
    assert 0 < sum(healthy) < 5


def test_records_speak_the_lexicon_and_do_not_make_up_a_posterior(data_set):
    cases.check_words(data_set)
    for case in read_volumes(data_set, ["train"]):
        assert all(lesion.posterior is None and "category" not in lesion.descriptors for lesion in case.lesions)


def test_the_second_opinion_learns_its_lesions_by_pathology(data_set):
    lesion_classifier = pytest.importorskip("BreastUSAILib.training.lesion_classifier", exc_type=ImportError)
    volumes = read_volumes(data_set, ["train"])
    crops = lesion_classifier._lesions(volumes, lesion_classifier.LesionClassifierRecipe(shape=(16, 16, 16)))
    assert crops.told.tolist() == [float(lesion.malignant) for case in volumes for lesion in case.lesions]


def test_series_and_splits_are_not_mixed(data_set, capsys):
    cases.check_refused(made, data_set, capsys, seed=4)
    cases.check_refused(made, data_set, capsys, number=2)
    cases.check_refused(made, data_set, capsys, "--split", "validation")
    with pytest.raises(SystemExit):  # nothing is measured on them
        made(data_set, "--split", "test")


def test_a_split_can_be_asked_for(tmp_path):
    cases.check_validation(made, tmp_path, "third")


def test_a_run_that_was_stopped_makes_only_what_is_missing(data_set):
    cases.check_stopped_run(made, data_set, {"train": 5})


def test_lesions_are_as_dark_or_bright_as_their_echo_patterns_say(small_volumes):
    """In grey levels against what lies beside them at the same depths, on average: shadows and gains blur each single one."""
    for lesion in (lesion for volume in small_volumes for lesion in volume.lesions):
        sign = 1 if lesion.plan.echo == "hyperechoic" else -1
        assert lesion.plan.echo == "isoechoic" or sign * lesion.contrast_db > 2
    differences = cases.grey_differences(small_volumes)
    assert sum(map(len, differences.values())) >= 20
    assert np.mean(differences["anechoic"]) < -25
    assert np.mean(differences["hypoechoic"] + differences["heterogeneous"]) < -15
    assert np.mean(differences["hyperechoic"]) > 0


def test_volumes_differ_widely(small_volumes):
    means = np.array([volume.image.mean() for volume in small_volumes])
    assert means.min() < 50 and means.max() > 110
    numbers = [len(volume.lesions) for volume in small_volumes]
    assert 0 in numbers and max(numbers) >= 3
    cases.check_spacings(small_volumes)


def test_plans_have_the_kinds_and_sizes_that_were_asked_for():
    rng = np.random.default_rng(0)
    plans = [draw_plan(rng, 30.0) for _ in range(2000)]
    for kind, share in KINDS.items():
        assert np.mean([plan.kind == kind for plan in plans]) == pytest.approx(share, abs=0.04)
    longest = np.array([2 * plan.radii.max() for plan in plans])
    assert longest.min() >= 3.9 and longest.max() <= 30 + 1e-9
    assert 0.35 < np.mean([plan.malignant for plan in plans]) < 0.5
    assert not any(plan.malignant for plan in plans if plan.kind in ("cyst", "cluster", "fibroadenoma", "iso", "hyper"))
    assert all((plan.through_db > 0) == (plan.posterior == "enhancement") for plan in plans)


def test_noise_has_unit_variance_and_the_length_that_was_asked_for():
    cases.check_noise(smooth(np.random.default_rng(1), (200, 300), (0.5, 0.5), (2.0, 6.0)))


@cases.even_and_odd_sides
def test_coarse_nodes_lie_on_even_voxels(nz, nx):
    coarse, expected = cases.ramps(nz, nx, lambda side: side // 2 + 1)
    assert np.array_equal(upsample(coarse, nz, nx), expected)
    assert np.array_equal(upsample(coarse, 4, 4, 2, 4), expected[2:6, :, 4:8])


def test_it_imports_nothing_of_the_other_generators():
    cases.check_independence("third", least=13)
