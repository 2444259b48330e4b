"""The anatomy of phantoms: layers in order, tissues where they belong, the same bits whichever way the rows are asked for."""

from __future__ import annotations

import functools
import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from BreastUSAILib.phantom.anatomy import Anatomy, build_anatomy
from BreastUSAILib.phantom.cells import cell_distances, two_smallest
from BreastUSAILib.phantom.grids import GRIDS, PhantomGrid
from BreastUSAILib.phantom.inclusions import Inclusion, inclusion_stamp
from BreastUSAILib.phantom.layers import draw_layers
from BreastUSAILib.phantom.nipple import draw_nipple
from BreastUSAILib.phantom.noise import Field, Lattice, bspline, how_many, smooth_noise, streams
from BreastUSAILib.phantom.randomness import Stream, open_stream
from BreastUSAILib.phantom.tissue import FAT, Tissue
from BreastUSAILib.phantom.tubes import Tube, tube_stamp

# A whole scan, coarse enough for tests; no two axes alike.
SCAN = PhantomGrid((90, 64, 76), (1.2, 0.8, 1.4))
BORDERS = ("surface", "skin", "gland", "retromammary", "fascia", "wall", "pleura")


@functools.cache
def anatomy(grid: PhantomGrid = SCAN, density: str = "c", seed: int = 1, hard_negatives: bool = True) -> Anatomy:
    return build_anatomy(grid, density, hard_negatives, open_stream(seed, Stream.ANATOMY))


def volume(made: Anatomy, block: int = 1000) -> Tissue:
    depth = made.grid.size[1]
    parts = []
    for first in range(0, depth, block):
        tissue = made.rows(first, min(first + block, depth))
        parts.append([a.copy() for a in (tissue.echo, tissue.attenuation, tissue.specular)])
    return Tissue(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def depths(grid: PhantomGrid) -> np.ndarray:
    return ((np.arange(grid.size[1]) + 0.5) * grid.spacing[1])[:, None, None]


def assert_same(one: Tissue, other: Tissue) -> None:
    for name in ("echo", "attenuation", "specular"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("block", [1, 7])
def test_rows_do_not_depend_on_the_blocks_they_are_asked_for_in(block):
    assert_same(volume(anatomy()), volume(build_anatomy(SCAN, "c", True, open_stream(1, Stream.ANATOMY)), block))


def test_rows_do_not_depend_on_their_order():
    made = anatomy()
    forward = volume(made)
    for row in (40, 3, 63, 0, 41):
        tissue = made.rows(row, row + 1)
        np.testing.assert_array_equal(tissue.echo[0], forward.echo[row])
        np.testing.assert_array_equal(tissue.specular[0], forward.specular[row])


def test_a_seed_means_the_same_bits_everywhere():
    """The digest was made on x86-64 with AVX2; another machine, or another numpy, must come to the same."""
    tissue = volume(anatomy(PhantomGrid((40, 50, 36), (0.9, 1.0, 1.1)), "b", 11))
    digest = hashlib.sha256(b"".join(a.tobytes() for a in (tissue.echo, tissue.attenuation, tissue.specular)))
    assert digest.hexdigest()[:16] == "3c6abaf2d51d8001"


def test_another_seed_is_another_breast():
    assert not np.array_equal(anatomy(seed=1).layers.fascia, anatomy(seed=2).layers.fascia)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    density=st.sampled_from("abcd"),
    size=st.tuples(*[st.integers(16, 41)] * 3),
    spacing=st.tuples(*[st.floats(0.5, 2.0)] * 3),
    top=st.floats(0.0, 8.0),
    whole=st.booleans(),
    hard_negatives=st.booleans(),
)
def test_any_grid_holds_layers_in_order_and_plausible_tissue(seed, density, size, spacing, top, whole, hard_negatives):
    made = anatomy(PhantomGrid(size, spacing, 0.0 if whole else top, whole), density, seed, hard_negatives)
    maps = [getattr(made.layers, name) for name in BORDERS]
    for (upper, above), (lower, below) in itertools.pairwise(zip(BORDERS, maps, strict=True)):
        assert below.dtype == np.float32
        assert below.shape == (size[2], size[0])
        assert (below > above).all(), (upper, lower)
    tissue = volume(made, 5)
    for array in (tissue.echo, tissue.attenuation, tissue.specular):
        assert array.dtype == np.float32
        assert array.shape == made.grid.shape
        assert np.isfinite(array).all()
    assert tissue.echo.min() > 0.0
    assert tissue.echo.max() < 20.0
    assert 0.0 < tissue.attenuation.min()
    assert tissue.attenuation.max() < 40.0
    assert tissue.specular.min() >= 0.0
    assert tissue.specular.max() < 80.0
    zone_top, zone_bottom = made.lesion_zone
    assert (zone_top >= 0.0).all()
    assert (zone_bottom >= zone_top).all()
    assert (zone_bottom <= made.grid.extent[1] + 1e-3).all()
    assert 0.0 <= made.contact.min()
    assert made.contact.max() <= 1.0
    assert made.contact.dtype == np.float32


@pytest.mark.parametrize("seed", range(3))
def test_thicknesses_are_those_of_a_breast(seed):
    layers = anatomy(seed=seed).layers
    for upper, lower, least, most in (
        ("surface", "skin", 0.7, 3.2),
        ("skin", "gland", 2.0, 16.0),
        ("retromammary", "fascia", 0.4, 6.0),
        ("fascia", "wall", 4.0, 12.0),
    ):
        middle = float(np.median(getattr(layers, lower) - getattr(layers, upper)))
        assert least < middle < most, (upper, lower)


def test_gland_grows_with_density():
    grid = PhantomGrid((48, 50, 48), (2.0, 1.0, 2.0))
    fractions = [
        np.mean([anatomy(grid, d, s, hard_negatives=False).gland_fraction.mean() for s in range(3)]) for d in "abcd"
    ]
    assert fractions == sorted(fractions)
    assert fractions[0] < 0.15
    assert fractions[3] > 0.7


def test_gland_is_brighter_than_fat_and_attenuates_more():
    made = anatomy(density="d", hard_negatives=False)
    tissue, y = volume(made), depths(made.grid)
    layers = made.layers
    gland = (y > layers.gland + 2.0) & (y < layers.retromammary - 2.0)
    fat_breast = anatomy(density="a", hard_negatives=False)
    fat = (y > fat_breast.layers.skin + 1.0) & (y < fat_breast.layers.gland - 2.0)
    fat_tissue = volume(fat_breast)
    ratio_db = 20.0 * np.log10(np.median(tissue.echo[gland]) / np.median(fat_tissue.echo[fat]))
    assert 7.0 < ratio_db < 14.0
    assert np.median(tissue.attenuation[gland]) > np.median(fat_tissue.attenuation[fat])


def test_fascia_shines_and_the_skin_too():
    made = anatomy(hard_negatives=False)
    tissue, y = volume(made), depths(made.grid)
    for border in (made.layers.fascia, made.layers.skin):
        on = np.abs(y - border) < 0.5
        beside = np.abs(np.abs(y - border) - 3.0) < 0.8
        assert tissue.specular[on].mean() > 2.0 * tissue.specular[beside].mean()


def test_ribs_run_in_rows_along_the_sweep_unevenly_and_stop_the_beam():
    # Seeds 0 to 5: some breasts' ribs are cartilage in part.
    bony, gaps = 0, []
    for seed in range(6):
        made = anatomy(PhantomGrid((16, 60, 170), (2.0, 1.0, 1.0)), seed=seed, hard_negatives=False)
        attenuation = volume(made).attenuation
        bone = attenuation.max(axis=0) > 10.0
        bony += bool(bone.any())
        # Along the sweep, in the middle of the image, bone alternates with what lies between ribs.
        column = bone[:, 8].astype(int)
        starts = np.nonzero(np.diff(column) == 1)[0]
        gaps += list(np.diff(starts))
    assert bony >= 5
    assert len(gaps) >= 10
    assert 15.0 < np.median(gaps) < 40.0
    assert np.std(gaps) > 1.5


def test_ribs_lie_below_the_muscle_fascia():
    made = anatomy(seed=3)
    attenuation = volume(made).attenuation
    deep = np.broadcast_to(depths(made.grid), attenuation.shape)[attenuation > 10.0]
    assert deep.size
    assert deep.min() > made.layers.fascia.min()


def test_ligaments_part_the_fat():
    made = anatomy(PhantomGrid((160, 60, 60), (0.5, 0.4, 0.8)), "a", 2, hard_negatives=False)
    tissue, y = volume(made), depths(made.grid)
    fat = (y > made.layers.skin + 1.0) & (y < made.layers.fascia - 2.0)
    bright = tissue.specular[fat] > 0.8
    # Thin sheets: some, not most, of the fat's voxels.
    assert 0.01 < bright.mean() < 0.3
    assert tissue.echo[fat][bright].mean() > 1.2 * tissue.echo[fat][~bright].mean()


def test_walls_lie_where_two_cells_are_equally_near():
    lattice = Lattice(PhantomGrid((60, 40, 60), (1.0, 1.0, 1.0)), (1.0, 1.0, 1.0), (0.0, 40.0))
    distances = cell_distances(np.random.default_rng(4), lattice, (8.0, 12.0, 12.0))
    ordered = np.sort(distances, axis=0)
    low, high = two_smallest(list(distances.copy()))
    np.testing.assert_array_equal(low, ordered[0])
    np.testing.assert_array_equal(high, ordered[1])
    # Every place has a seed within reach, so no part of the fat is without cells.
    assert ordered[0].max() < 1.3


def test_hard_negatives_are_made_only_when_asked_for():
    with_them, without = volume(anatomy(hard_negatives=True)), volume(anatomy(hard_negatives=False))
    assert with_them.attenuation.min() < 0.4 < without.attenuation[20:].min()


def test_a_lumen_is_dark_and_its_walls_shine_above_and_below():
    grid = PhantomGrid((80, 60, 40), (0.25, 0.25, 0.25))
    tube = Tube(np.array([[7.5, 5.0, -3.0], [7.5, 5.0, 23.0]]), np.array([1.5, 1.5]), 0.3, 0.05, 1.8, 3.0, 0.15)
    tissue = Tissue(*(np.full(grid.shape, v, np.float32) for v in (1.0, 0.7, 0.0)))
    stamp = tube_stamp(grid, tube)
    for row in range(grid.size[1]):
        stamp.paint(row, tissue, row)
    y, z = int(7.5 / 0.25), int(5.0 / 0.25)
    np.testing.assert_allclose(tissue.echo[y, z], 0.05, atol=1e-6)
    np.testing.assert_allclose(tissue.attenuation[y, z], 0.15, atol=1e-6)
    above, beside = tissue.specular[:y, z, 40].max(), tissue.specular[y, :z, 40].max()
    assert above > 1.5
    assert beside < 0.1 * above
    # The lumen's cross-section: pi r^2 along the whole lateral axis.
    area = np.count_nonzero(tissue.echo[:, :, 40] < 0.5) * 0.25**2
    assert area == pytest.approx(np.pi * 1.5**2, rel=0.2)
    assert tissue.echo[0, 0, 0] == 1.0


def test_a_stamp_outside_the_volume_is_none():
    tube = Tube(np.array([[7.5, 500.0, 0.0], [7.5, 510.0, 0.0]]), np.array([1.0, 1.0]), 0.3, 0.05, 1.8, 3.0, 0.15)
    lobule = Inclusion((7.0, 900.0, 10.0), (2.0, 3.0, 4.0), 0.3, 0.1, 0.1, 0.5, 1.0, 0.7, 1.0)
    assert tube_stamp(SCAN, tube) is None
    assert inclusion_stamp(SCAN, lobule, np.random.default_rng(1)) is None


def test_an_inclusion_has_the_volume_of_its_ellipsoid():
    grid = PhantomGrid((80, 60, 80), (0.25, 0.25, 0.25))
    lobule = Inclusion((7.5, 10.0, 10.0), (2.0, 3.0, 4.0), 0.6, 0.2, 0.0, 0.3, 0.4, 0.45, 0.0)
    tissue = Tissue(*(np.full(grid.shape, v, np.float32) for v in (1.0, FAT.attenuation, 0.0)))
    stamp = inclusion_stamp(grid, lobule, np.random.default_rng(1))
    for row in range(grid.size[1]):
        stamp.paint(row, tissue, row)
    inside = (1.0 - tissue.echo.astype(float)).sum() / 0.6 * 0.25**3
    assert inside == pytest.approx(4.0 / 3.0 * np.pi * 2.0 * 3.0 * 4.0, rel=0.05)


def test_pieces_have_contact_everywhere_and_whole_scans_dark_corners():
    assert (anatomy(GRIDS["cube"]).contact == 1.0).all()
    for seed in range(4):
        contact = anatomy(seed=seed).contact
        corners = [contact[z, x] for z in (0, -1) for x in (0, -1)]
        assert max(corners) < 0.5
        assert contact[30:46, 36:54].mean() > 0.8
        assert np.mean(contact > 0.9) > 0.6


def test_pieces_show_gland_and_fat_mostly_and_the_muscle_sometimes():
    visible = []
    for seed in range(40):
        grid, generator = GRIDS["cube"], open_stream(seed, Stream.ANATOMY)
        layers = draw_layers(grid, "c", draw_nipple(grid, generator), generator)
        visible.append(float(np.mean(layers.fascia < grid.extent[1])))
    assert 5 <= sum(share > 0.5 for share in visible) <= 22
    assert sum(share == 0.0 for share in visible) >= 10


def test_the_nipple_shadows():
    made = anatomy(hard_negatives=False)
    nipple, grid = made.nipple, made.grid
    assert 0.0 < nipple.lateral < grid.extent[0]
    off = nipple.distance((np.arange(grid.size[2]) + 0.5) * grid.spacing[2], (np.arange(grid.size[0]) + 0.5) * grid.spacing[0])
    # The upper 6 mm.
    losses = volume(made).attenuation[:8].mean(axis=0)
    assert losses[off < 0.6 * nipple.radius].mean() > 1.4 * np.median(losses)
    beyond = losses[(off > 2.0 * nipple.radius) & (off < 3.0 * nipple.radius)]
    assert beyond.mean() < 1.3 * np.median(losses)


@pytest.mark.parametrize(("first", "last"), [(-1, 3), (60, 65), (5, 4)])
def test_rows_beyond_the_volume_are_refused(first, last):
    with pytest.raises(ValueError, match="64 rows"):
        anatomy().rows(first, last)


def test_smooth_noise_has_mean_0_and_variance_1():
    nodes = (np.arange(0.0, 60.0), np.arange(0.0, 60.0), np.arange(0.0, 60.0))
    noise = smooth_noise(np.random.default_rng(2), nodes, (5.0, 6.0, 7.0))
    assert noise.dtype == np.float32
    assert abs(noise.mean()) < 0.05
    assert noise.std() == pytest.approx(1.0, abs=0.06)


def test_splines_reproduce_straight_lines():
    knots = np.arange(12, dtype=np.float32)
    positions = np.linspace(0.0, 8.9, 50)
    np.testing.assert_allclose(bspline(knots, 0, positions), positions + 1.0, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(spacing=st.floats(0.3, 2.0), step=st.floats(0.3, 4.0), depth=st.floats(0.0, 1.0))
def test_fields_reproduce_linear_functions(spacing, step, depth):
    grid = PhantomGrid((31, 33, 29), (spacing,) * 3)
    lattice = Lattice(grid, (step, step, step), (0.0, grid.extent[1]))
    y, z, x = np.meshgrid(*lattice.nodes, indexing="ij")
    field = Field(lattice, (0.3 * y - 0.2 * z + 0.1 * x).astype(np.float32))
    at = depth * grid.extent[1]
    out = np.empty((9, 31), np.float32)
    field.row(at, slice(20, 29), out)
    centres_z, centres_x = (np.arange(20, 29) + 0.5) * spacing, (np.arange(31) + 0.5) * spacing
    np.testing.assert_allclose(out, 0.3 * at - 0.2 * centres_z[:, None] + 0.1 * centres_x, atol=2e-4)


def test_streams_do_not_reshuffle_each_other():
    one, other = (streams(np.random.default_rng(5), 2) for _ in range(2))
    one[0].random(1000)
    assert one[1].random() == other[1].random()


def test_how_many_is_right_on_average():
    generator = np.random.default_rng(6)
    counts = [how_many(generator, 1.3) for _ in range(2000)]
    assert set(counts) == {1, 2}
    assert np.mean(counts) == pytest.approx(1.3, abs=0.05)
