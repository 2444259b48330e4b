"""The fourth generator of ABUS volumes, to measure on: reproducible, exact in its labels, true to what it drew, and no kin of the others."""

import json
import sys
from functools import partial
from pathlib import Path

import generator_cases as cases
import numpy as np
import pytest
from scipy.ndimage import label as pieces

sys.path.insert(0, str(cases.BENCHMARKS))

import fourth_generator
from fourth_abus import beam
from fourth_abus.fields import noise, upsample
from fourth_abus.lesion_draft import draw_kind, draw_plan
from fourth_abus.lesion_plan import KINDS, MALIGNANT
from fourth_abus.scanner import draw_scanner
from fourth_abus.volume import make_volume

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
made = partial(cases.make, fourth_generator, number=6, seed=2)


@pytest.fixture(scope="module")
def data_set(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fourth")
    assert made(folder) == 0
    return folder


@pytest.fixture(scope="module")
def small_volumes() -> list:
    return [make_volume(10, index, (128, 80, 120)) for index in range(24)]


def test_a_seed_gives_the_same_volume_and_another_gives_another():
    cases.check_seeds(make_volume)


def test_the_smallest_volumes_can_be_made():
    assert make_volume(0, 0, (32, 33, 35)).image.shape == (35, 33, 32)


def test_evaluation_reads_the_data_set_with_its_exact_truth(data_set):
    """And nothing else does: nothing is taught or chosen with it."""
    healthy = [not case.lesions for case in cases.check_truth(data_set, "test", 6)]
    assert 0 < sum(healthy) < 6


def test_records_speak_the_lexicon_and_do_not_make_up_a_posterior(data_set):
    cases.check_words(data_set)


def test_series_are_not_mixed(data_set, capsys):
    cases.check_refused(made, data_set, capsys, seed=9)
    cases.check_refused(made, data_set, capsys, number=2)


def test_records_say_who_made_them(data_set):
    record = json.loads((data_set / "records" / "fourth-2-0000.json").read_text())
    assert (record["seed"], record["software"], record["split"]) == (200_000, "fourth generator 1", "test")


def test_labels_are_whole_and_of_the_sizes_asked_for(small_volumes):
    volumes_ml = []
    for volume in small_volumes:
        assert set(np.unique(volume.labels)) == {0, *(lesion.label for lesion in volume.lesions)}
        for lesion in volume.lesions:
            inside = volume.labels == lesion.label
            volumes_ml.append(inside.sum() * np.prod(volume.spacing_mm) / 1000)
            assert pieces(inside, np.ones((3, 3, 3)))[1] == 1
    assert 0.03 < min(volumes_ml) < 0.3 and 0.5 < max(volumes_ml) < 11


def test_lesions_are_as_dark_or_bright_as_their_echo_patterns_say(small_volumes):
    """In grey levels against what lies beside them at the same depths, on average: shadows and gains blur each single one."""
    for lesion in (lesion for volume in small_volumes for lesion in volume.lesions):
        if lesion.plan.echo in ("anechoic", "hypoechoic"):
            assert lesion.contrast_db < -1
    differences = cases.grey_differences(small_volumes)
    assert sum(map(len, differences.values())) >= 20
    assert np.mean(differences["anechoic"]) < -25
    assert np.mean(differences["hypoechoic"]) < -15
    assert np.mean(differences["hyperechoic"]) > 5


def test_what_lies_behind_lesions_is_what_was_written(small_volumes):
    """In grey levels a little below them, against the same depths beside them."""
    behind: dict[str, list[float]] = {"none": [], "shadowing": [], "enhancement": []}
    for volume in small_volumes:
        for lesion in volume.lesions:
            (z0, _, x0), (z1, y1, x1) = (f(np.argwhere(volume.labels == lesion.label), 0) for f in (np.min, np.max))
            dz, dx = (z1 - z0) // 4, (x1 - x0) // 4
            rows = volume.image[max(z0 - 3 * dz, 0) : z1 + 3 * dz, y1 + 3 : y1 + 11].astype(float)
            here = volume.image[z0 + dz : z1 - dz + 1, y1 + 3 : y1 + 11, x0 + dx : x1 - dx + 1].astype(float)
            beside = np.concatenate(
                [rows[..., max(x0 - 3 * dx - 6, 0) : max(x0 - 2, 0)], rows[..., x1 + 3 : x1 + 3 * dx + 7]], -1
            )
            if here.size and beside.size and lesion.posterior in behind:
                behind[lesion.posterior].append(here.mean() - beside.mean())
    assert np.mean(behind["shadowing"]) < np.mean(behind["none"]) - 5
    assert np.mean(behind["enhancement"]) > np.mean(behind["none"]) + 5


def test_volumes_differ_widely(small_volumes):
    means = np.array([volume.image.mean() for volume in small_volumes])
    assert means.min() < 75 and means.max() > 125
    numbers = [len(volume.lesions) for volume in small_volumes]
    assert 0 in numbers and max(numbers) >= 2
    assert len({volume.facts["density"] for volume in small_volumes}) == 4
    assert any(volume.facts["distractors"] for volume in small_volumes)
    cases.check_spacings(small_volumes)


def test_plans_have_the_kinds_and_sizes_that_were_asked_for():
    rng = np.random.default_rng(0)
    plans = [draw_plan(rng, draw_kind(rng)) for _ in range(2000)]
    for kind, share in KINDS.items():
        assert np.mean([plan.kind == kind for plan in plans]) == pytest.approx(share, abs=0.04)
    longest = np.array([2 * plan.radii.max() for plan in plans])
    assert longest.min() >= 3.5 and longest.max() <= 32.01
    assert 0.38 < np.mean([plan.malignant for plan in plans]) < 0.48
    assert all(plan.malignant == (plan.kind in MALIGNANT) for plan in plans)


def test_losses_add_up_along_the_beam():
    scanner = draw_scanner(np.random.default_rng(0), (20, 40, 20), (0.4, 0.5, 0.4))
    alpha = np.full((10, 40, 10), 0.5, np.float32)
    lost = beam.losses(alpha, np.full((10, 10), 3.0), scanner, 0.5)
    expected = 3 + 2 * scanner.mhz * 0.5 * (np.arange(40) + 0.5) * 0.05
    assert np.allclose(lost, expected[None, :, None], rtol=1e-4)
    level = beam.heard(lost, expected - 3, scanner)
    assert np.all(level < 0) and level.min() > -scanner.fill_db


def test_noise_has_unit_variance_and_the_length_that_was_asked_for():
    axes = (np.arange(200) * 0.5, np.arange(300) * 0.5)
    cases.check_noise(noise(np.random.default_rng(1), axes, (2.0, 6.0)))


@cases.even_and_odd_sides
def test_coarse_nodes_lie_on_even_voxels(nz, nx):
    coarse, expected = cases.ramps(nz, nx, lambda side: side // 2 + 1)
    assert np.array_equal(upsample(coarse, nz, nx), expected)


def test_it_imports_nothing_of_the_other_generators():
    cases.check_independence("fourth", least=11)
