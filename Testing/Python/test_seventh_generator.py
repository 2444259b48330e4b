"""The seventh, independent generator of ABUS volumes: what its volumes and records promise, and that it is a hand of its own."""

import json
import sys
import warnings
from functools import lru_cache

import generator_cases as cases
import numpy as np
import pytest
from scipy import ndimage

sys.path[:0] = [str(cases.BENCHMARKS)]

import seventh_generator  # noqa: E402
from seventh_abus import fields, grid, kinds, lesion_plan, shapes, visibility  # noqa: E402
from seventh_abus.volume import make_volume  # noqa: E402

NUMBER, SEED, SMALL = 6, 3, (112, 72, 105)


def made(folder, *options, number=NUMBER, seed=SEED, size=SMALL):
    return cases.make(seventh_generator, folder, *options, number=number, seed=seed, size=size)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set that the command made."""
    path = tmp_path_factory.mktemp("seventh")
    assert made(path) == 0
    return path


@lru_cache
def volumes():
    """Volumes, without a warning in any of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return tuple(make_volume(11, index, (128, 90, 128)) for index in range(24))


def test_a_seed_gives_one_volume():
    cases.check_seeds(make_volume)


def test_training_reads_what_the_command_wrote(folder):
    read = cases.check_truth(folder, "train", NUMBER, SMALL)
    assert [case.id for case in read] == [f"seventh-{SEED}-{index:04d}" for index in range(NUMBER)]


def test_records_speak_the_lexicon(folder):
    cases.check_words(folder)


def test_a_folder_takes_no_other_series(folder, capsys):
    cases.check_refused(made, folder, capsys, seed=SEED + 1)
    cases.check_refused(made, folder, capsys, "--split", "validation")


def test_a_stopped_run_goes_on(folder):
    cases.check_stopped_run(made, folder, {"train": NUMBER})


def test_volumes_for_validation(tmp_path):
    cases.check_validation(made, tmp_path, "seventh")


def test_it_is_independent():
    cases.check_independence("seventh", 12)


def test_lesions_are_whole_and_apart():
    numbers = set()
    for volume in volumes():
        numbers.add(len(volume.lesions))
        assert [lesion.label for lesion in volume.lesions] == list(range(1, len(volume.lesions) + 1))
        for lesion in volume.lesions:
            mask = volume.labels == lesion.label
            assert ndimage.label(mask, np.ones((3, 3, 3)))[1] == 1
            assert mask.sum() * np.prod(volume.spacing_mm) > 15
            others = (volume.labels > 0) & ~mask
            assert not (ndimage.binary_dilation(mask, np.ones((3, 3, 3)), 3) & others).any()
    assert numbers >= {0, 1, 2}


def test_lesions_can_be_seen():
    by_echo = cases.grey_differences(volumes())
    assert len(by_echo) >= 3 and len(by_echo["hypoechoic"]) > 6
    dark = by_echo["hypoechoic"] + by_echo.get("anechoic", [])
    assert np.mean(dark) < -18 and np.mean(np.array(dark) < -5) > 0.9
    assert all(difference > 0 for difference in by_echo.get("hyperechoic", []))


def test_dark_lesions_are_darker_than_fat():
    lesions = [lesion for volume in volumes() for lesion in volume.lesions]
    dark = [lesion for lesion in lesions if lesion.plan.echo in ("hypoechoic", "anechoic")]
    assert dark and all(lesion.plan.level_db <= -5 for lesion in dark)
    assert np.mean([lesion.contrast_db < -4 for lesion in dark]) > 0.9


def test_voxels_are_those_of_abus():
    cases.check_spacings(volumes())
    assert len({volume.spacing_mm for volume in volumes()}) == len(volumes())


def test_volumes_differ_as_scanners_do():
    facts = [volume.facts for volume in volumes()]
    json.dumps(facts)
    assert len({fact["scanner"]["make"] for fact in facts}) >= 4
    assert len({fact["gland"] for fact in facts}) >= 4 and {fact["density"] for fact in facts} >= {"b", "c"}
    greys = [float(volume.image.mean()) for volume in volumes()]
    assert min(greys) > 10 and max(greys) < 190 and np.std(greys) > 12


@pytest.mark.parametrize("size", [(32, 32, 32), (45, 33, 40)])
def test_small_volumes(size):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        some = [make_volume(2, index, size) for index in range(10)]
    assert all(v.image.shape == v.labels.shape == size[::-1] and v.image.dtype == np.uint8 for v in some)
    assert any(v.lesions for v in some)


def test_plans_are_as_patients_are():
    rng = np.random.default_rng(0)
    drawn = [lesion_plan.draw_plans(rng) for _ in range(3000)]
    plans = [plan for some in drawn for plan in some]
    millilitres = np.array([plan.volume_ml for plan in plans])
    assert np.mean([not some for some in drawn]) == pytest.approx(0.15, abs=0.02)
    assert 0.36 < np.mean([plan.malignant for plan in plans]) < 0.44
    assert 0.44 < np.mean(millilitres < 0.5) < 0.56 and millilitres.min() >= 0.03 and millilitres.max() <= 12
    assert {plan.kind for plan in plans} == set(kinds.KINDS)
    same = [plan for plan in plans if plan.echo == "isoechoic"]
    assert 0.03 < len(same) / len(plans) < 0.12
    assert all(abs(p.level_db) <= 2 and (p.halo_db or p.capsule_db or p.distortion) for p in same)
    assert all(4 / 3 * np.pi * np.prod(p.radii) == pytest.approx(1000 * p.volume_ml) for p in plans)


def test_fields_have_unit_variance_and_their_lengths():
    cases.check_noise(fields.smooth(np.random.default_rng(1), (1200, 1200), (4, 12)))


@cases.even_and_odd_sides
def test_the_full_grid_goes_through_the_half_grids_nodes(nz, nx):
    whole = grid.Grid((nz, 3, nx), (1.0, 1.0, 1.0))
    coarse, fine = cases.ramps(nz, nx, lambda n: (n + 1) // 2)
    full = grid.to_full(np.repeat(coarse, 3, 1), whole)
    inner = np.s_[: nz - 1 + nz % 2, :, : nx - 1 + nx % 2]  # the last even voxel has a node on one side only
    assert full.shape == whole.shape
    assert np.allclose(full[inner], np.broadcast_to(fine, whole.shape)[inner])


@pytest.mark.parametrize("form", ["smooth", "oval", "lobed", "angular", "rough"])
def test_bodies_have_about_the_volume_asked_for(form):
    rng = np.random.default_rng(3)
    part = grid.Grid((60, 60, 60), (0.5, 0.5, 0.5))
    offsets = [axis - 15 for axis in part.axes()]
    sizes = [(shapes.body(rng, part, offsets, (5, 4, 6), 0.3, form, "indistinct") < 0).sum() / 8 for _ in range(8)]
    assert 0.6 < np.mean(sizes) / (4 / 3 * np.pi * 120) < 1.6


def test_what_cannot_be_seen_is_told():
    image = np.random.default_rng(0).normal(100, 12, (24, 24, 24))
    body = np.zeros(image.shape, bool)
    body[9:15, 9:15, 9:15] = True
    rim = ndimage.binary_dilation(body) & ~ndimage.binary_erosion(body)
    words = ("hypoechoic", "hyperechoic", "isoechoic")
    assert not any(visibility.seen(image, body, rim, echo) for echo in words)
    assert visibility.seen(image - 30 * body, body, rim, "hypoechoic")
    assert not visibility.seen(image + 30 * body, body, rim, "hypoechoic")
    assert visibility.seen(image + 30 * (rim & ~body), body, rim, "isoechoic")
    assert not visibility.seen(image + 30 * (rim & ~body), body, rim, "hypoechoic")
