"""The sixth, independent generator of ABUS volumes: what its volumes and records promise, and that it is a hand of its own."""

import json
import sys
import warnings
from functools import lru_cache

import generator_cases as cases
import numpy as np
import pytest
from scipy import ndimage

sys.path[:0] = [str(cases.BENCHMARKS)]

import sixth_generator  # noqa: E402
from sixth_abus import fields, grid, lesion_plan, lobules, tubes, visibility  # noqa: E402
from sixth_abus.volume import make_volume  # noqa: E402

NUMBER, SEED, SMALL = 6, 3, (112, 72, 105)


def made(folder, *options, number=NUMBER, seed=SEED, size=SMALL):
    return cases.make(sixth_generator, folder, *options, number=number, seed=seed, size=size)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set that the command made."""
    path = tmp_path_factory.mktemp("sixth")
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
    assert [case.id for case in read] == [f"sixth-{SEED}-{index:04d}" for index in range(NUMBER)]


def test_records_speak_the_lexicon(folder):
    cases.check_words(folder)


def test_a_folder_takes_no_other_series(folder, capsys):
    cases.check_refused(made, folder, capsys, seed=SEED + 1)
    cases.check_refused(made, folder, capsys, "--split", "validation")


def test_a_stopped_run_goes_on(folder):
    cases.check_stopped_run(made, folder, {"train": NUMBER})


def test_volumes_for_validation(tmp_path):
    cases.check_validation(made, tmp_path, "sixth")


def test_it_is_independent():
    cases.check_independence("sixth", 12)


def test_lesions_are_whole_apart_and_in_the_picture():
    numbers = set()
    for volume in volumes():
        numbers.add(len(volume.lesions))
        assert [lesion.label for lesion in volume.lesions] == list(range(1, len(volume.lesions) + 1))
        masks = [volume.labels == lesion.label for lesion in volume.lesions]
        lit = ndimage.maximum_filter(volume.image, 5) > 0  # anechoic is not outside
        for mask in masks:
            assert ndimage.label(mask, np.ones((3, 3, 3)))[1] == 1
            assert mask.sum() * np.prod(volume.spacing_mm) > 15 and lit[mask].mean() > 0.5
            others = (volume.labels > 0) & ~mask
            assert not (ndimage.binary_dilation(mask, np.ones((3, 3, 3)), 3) & others).any()
    assert numbers >= {0, 1, 2}


def test_lesions_can_be_seen():
    by_echo = cases.grey_differences(volumes())
    assert len(by_echo) >= 3 and len(by_echo["hypoechoic"]) > 8
    dark = by_echo["hypoechoic"] + by_echo["anechoic"]
    assert np.mean(dark) < -18 and np.mean(np.array(dark) < -5) > 0.9
    contrasts = [lesion.contrast_db for v in volumes() for lesion in v.lesions if lesion.plan.echo == "anechoic"]
    assert max(contrasts) < -8


def test_voxels_are_those_of_abus():
    cases.check_spacings(volumes())
    assert len({volume.spacing_mm for volume in volumes()}) == len(volumes())


def test_volumes_differ_as_scanners_do():
    facts = [volume.facts for volume in volumes()]
    json.dumps(facts)
    assert len({fact["vendor"] for fact in facts}) == 4 and {fact["density"] for fact in facts} >= {"b", "c"}
    greys = [float(volume.image[volume.image > 0].mean()) for volume in volumes()]
    assert min(greys) > 15 and max(greys) < 190 and np.std(greys) > 12


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
    assert np.mean([not some for some in drawn]) == pytest.approx(0.14, abs=0.02)
    assert 0.36 < np.mean([plan.malignant for plan in plans]) < 0.45
    assert 0.45 < np.mean(millilitres < 0.5) < 0.55 and millilitres.min() >= 0.03 and millilitres.max() <= 15
    echoes = [plan.echo for plan in plans]
    assert echoes.count("isoechoic") / len(plans) == pytest.approx(0.08, abs=0.02)
    assert echoes.count("hyperechoic") / len(plans) == pytest.approx(0.06, abs=0.02)
    assert all(plan.halo_db or plan.capsule_db for plan in plans if plan.echo == "isoechoic")


def test_fields_have_unit_variance_and_their_lengths():
    field = fields.smooth(np.random.default_rng(1), (1200, 1200), (4, 12))
    cases.check_noise(field)


@cases.even_and_odd_sides
def test_the_full_grid_goes_through_the_half_grids_nodes(nz, nx):
    whole = grid.Grid((nz, 3, nx), (1.0, 1.0, 1.0))
    coarse, fine = cases.ramps(nz, nx, lambda n: (n + 1) // 2)
    full = grid.to_full(np.repeat(coarse, 3, 1), whole)
    assert full.shape == whole.shape
    inner = np.s_[: nz - 1 + nz % 2, :, : nx - 1 + nx % 2]  # the last even voxel has a node on one side only
    assert np.allclose(full[inner], np.broadcast_to(fine, whole.shape)[inner])
    assert np.array_equal(full[::2, :, ::2], np.repeat(coarse, 3, 1))


def test_cells_are_those_of_the_nearest_seed():
    rng = np.random.default_rng(4)
    places = np.meshgrid(*(np.arange(24, dtype=np.float32),) * 3, indexing="ij")
    seen = {}
    cells = lobules.divide(rng, tuple(places), (6.0, 6.0, 6.0), lambda seeds: seen.setdefault("seeds", {"at": seeds}))
    far = np.linalg.norm(np.stack(places, -1)[..., None, :] - seen["seeds"]["at"][cells.own][..., None, :], axis=-1)
    assert far.max() < 9 and len(np.unique(cells.own)) > 40
    border = np.zeros(cells.own.shape, bool)
    border[:-1] = cells.own[:-1] != cells.own[1:]
    assert cells.edge[border].mean() < 0.5 * cells.edge[~border].mean() and cells.edge.min() >= 0


def test_tubes_are_where_their_paths_are():
    half = grid.Grid((40, 20, 40), (0.5, 0.5, 0.5))
    path = np.array([[10.0, 5.0, 5.0 + 0.5 * i] for i in range(10)])
    field = tubes.splat(half, path, np.full(10, 1.0))
    assert field.max() == 1 and field[10, 10, 5:9].min() > 0.9
    assert field[10, 12, 7] == pytest.approx(np.exp(-1), abs=0.01) and field[:6].max() == 0


def test_what_cannot_be_seen_is_told():
    image = np.random.default_rng(0).normal(100, 12, (24, 24, 24))
    mask = np.zeros(image.shape, bool)
    mask[9:15, 9:15, 9:15] = True
    assert not visibility.seen(image, mask, False) and not visibility.seen(image, mask, True)
    assert visibility.seen(image - 30 * mask, mask, False)
    shell = ndimage.binary_dilation(mask) & ~ndimage.binary_erosion(mask)
    assert visibility.seen(image + 30 * (shell & ~mask), mask, True)
    assert not visibility.seen(image + 30 * (shell & ~mask), mask, False)
