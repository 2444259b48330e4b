"""The fifth generator of ABUS volumes, to train on: reproducible, exact in its labels, read by what training reads, wide, and no kin of the others."""

import sys
from functools import partial
from pathlib import Path

import generator_cases as cases
import numpy as np
import pytest
from scipy import ndimage

sys.path.insert(0, str(cases.BENCHMARKS))

import fifth_generator
from fifth_abus.background import STYLES
from fifth_abus.fields import half, random_field, upsample
from fifth_abus.lesion_plan import ECHOES, FORMS, MALIGNANT, draw_plan
from fifth_abus.lesion_shape import LEAST_MM3, shape_of
from fifth_abus.records import descriptors
from fifth_abus.speckle import UNIT, Speckle, speckle_field
from fifth_abus.volume import make_volume

from BreastUSAILib.phantom.layouts import read_native
from BreastUSAILib.phantom.spec import DESCRIPTORS

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
made = partial(cases.make, fifth_generator, number=6, seed=3)


@pytest.fixture(scope="module")
def data_set(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fifth")
    assert made(folder) == 0
    return folder


@pytest.fixture(scope="module")
def small_volumes() -> list:
    return [make_volume(7, index, (128, 90, 128)) for index in range(40)]


def test_a_seed_gives_the_same_volume_and_another_gives_another():
    cases.check_seeds(make_volume)


@pytest.mark.parametrize("size", [(32, 32, 32), (33, 100, 47)])
def test_the_smallest_volumes_can_be_made(size):
    for index in range(3):
        assert make_volume(1, index, size).image.shape == size[::-1]


def test_training_reads_the_data_set_with_its_exact_truth(data_set):
    assert sum(len(case.lesions) for case in cases.check_truth(data_set, "train", 6)) > 2


def test_records_speak_the_lexicon_and_do_not_make_up_a_posterior(data_set):
    cases.check_words(data_set)
    assert {record.facts["style"] for record in read_native(data_set)} <= set(STYLES)


def test_series_and_splits_are_not_mixed(data_set, capsys):
    cases.check_refused(made, data_set, capsys, seed=4)
    cases.check_refused(made, data_set, capsys, number=2)
    for split in ("validation", "test"):  # nothing is measured on them
        with pytest.raises(SystemExit):
            made(data_set, "--split", split)


def test_a_split_can_be_asked_for(tmp_path):
    cases.check_validation(made, tmp_path, "fifth")


def test_lesions_are_whole_in_the_picture_and_apart(small_volumes):
    for volume in small_volumes:
        black = (volume.image == 0).all(axis=1)  # margins, from top to bottom
        for lesion in volume.lesions:
            inside = volume.labels == lesion.label
            assert ndimage.label(inside)[1] == 1
            assert not black[inside.any(axis=1)].all() and np.argwhere(inside)[:, 1].min() > 1
        near = ndimage.grey_dilation(volume.labels, size=3)
        assert all(set(np.unique(near[volume.labels == n.label])) == {n.label} for n in volume.lesions)


def test_lesions_are_as_dark_or_bright_as_their_echo_patterns_say(small_volumes):
    """In grey levels against what lies beside them at the same depths, on average: shadows and gains blur each single one."""
    for lesion in (lesion for volume in small_volumes for lesion in volume.lesions):
        sign = 1 if lesion.plan.echo == "hyperechoic" else -1
        assert lesion.plan.echo == "isoechoic" or sign * lesion.contrast_db > 1
    differences = cases.grey_differences(small_volumes)
    assert sum(map(len, differences.values())) >= 25
    assert np.mean(differences["anechoic"]) < np.mean(differences["hypoechoic"]) < -8
    assert np.mean(differences["hyperechoic"]) > 3


def test_volumes_differ_widely(small_volumes):
    means, deviations = (np.array([f(v.image) for v in small_volumes]) for f in (np.mean, np.std))
    assert means.min() < 45 and means.max() > 120 and deviations.max() > 2.5 * deviations.min()
    assert len({v.facts["style"] for v in small_volumes}) >= 7 and {v.facts["curve"] for v in small_volumes} == {
        "log",
        "power",
        "sigmoid",
    }
    assert {0, 1, 2} <= {len(v.lesions) for v in small_volumes}
    cases.check_spacings(small_volumes)


def test_plans_overlap_in_every_look_and_give_words_of_the_lexicon():
    rng = np.random.default_rng(0)
    plans = [draw_plan(rng, 32.0) for _ in range(3000)]
    assert np.mean([plan.malignant for plan in plans]) == pytest.approx(MALIGNANT, abs=0.03)
    for malignant in (True, False):
        those = [plan for plan in plans if plan.malignant == malignant]
        assert {plan.form for plan in those} == set(FORMS) and {plan.echo for plan in those} == set(ECHOES)
    for plan in plans:
        words = descriptors(plan, [2 * r for r in plan.radii[::-1]])
        assert all(words[name] in known for name, known in DESCRIPTORS.items())
        assert (plan.shade_db != 0) == (plan.posterior != "none")
    volumes = np.array([plan.volume_ml for plan in plans])
    assert volumes.min() >= 0.05 and 4 < volumes.max() < 17 and 0.3 < np.mean(volumes < 0.5) < 0.8


@pytest.mark.parametrize("form", FORMS)
def test_shapes_are_one_piece_within_their_box(form):
    rng = np.random.default_rng(1)
    plans = [plan for plan in (draw_plan(rng, 20.0) for _ in range(200)) if plan.form == form][:6]
    assert len(plans) >= 4
    shapes = [shape_of(rng, plan, (0.45, 0.5, 0.38)) for plan in plans]
    assert sum(shape is not None for shape in shapes) >= 4
    for value, mask in filter(None, shapes):
        assert ndimage.label(mask)[1] == 1 and mask.sum() * 0.45 * 0.5 * 0.38 >= LEAST_MM3
        assert mask.sum() == (value < 1).sum() and not mask[[0, -1]].any() and not mask[:, :, [0, -1]].any()


def test_fields_have_unit_variance_and_speckle_its_mean():
    cases.check_unit_variance(random_field(np.random.default_rng(1), (200, 300), (0.5, 0.5), (2.0, 6.0)))
    for law in ("rayleigh", "gamma", "lognormal", "k"):
        for coarseness in ((0, 0, 0), (2, 1, 4), (8, 8, 8)):
            grains = speckle_field(np.random.default_rng(2), (40, 50, 60), Speckle(coarseness, law, 2.0, 1.0, True))
            assert (10 ** (grains / UNIT / 20)).mean() == pytest.approx(1, abs=0.05)


@cases.even_and_odd_sides
def test_the_half_grid_lies_on_even_voxels(nz, nx):
    coarse, expected = cases.ramps(nz, nx, half)
    assert np.array_equal(upsample(coarse, nz, nx), expected)


def test_it_imports_nothing_of_the_other_generators():
    cases.check_independence("fifth", least=10)
