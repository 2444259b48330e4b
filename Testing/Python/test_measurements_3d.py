"""Measurements of volumes against shapes whose figures are known."""

import itertools
import math

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from BreastUSAILib.errors import ImageError, UsageError
from BreastUSAILib.measurements import measure_2d
from BreastUSAILib.measurements_3d import measure_3d
from BreastUSAILib.surface_3d import smooth_surface

UNIT_FREE = {
    "orientation_deg",
    "parallel_to_skin",
    "height_to_width_ratio",
    "sphericity",
    "solidity",
    "surface_roughness",
    "contrast_ratio",
    "posterior_ratio",
    "echo_heterogeneity",
}
LENGTHS = {
    "major_diameter",
    "second_diameter",
    "third_diameter",
    "equal_volume_diameter",
    "width",
    "height",
    "length",
    "depth",
    "spiculation",
}
DIAMETERS = ("major_diameter_mm", "second_diameter_mm", "third_diameter_mm")
OBLIQUE = (0.36, 0.48, -0.8, -0.8, 0.60, 0.0, 0.48, 0.64, 0.60)
GRIDS = [(0.5, 0.5, 0.5), (0.2, 0.08, 0.5), (0.384, 0.5, 0.425)]  # x, y, z


def image_of(array, spacing, direction=None, origin=(12.0, -7.0, 3.0)):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(direction)
    return image


def coordinates(extent, spacing):
    """x, y, z in mm from the middle of a grid of about `extent` (x, y, z) mm, each (z, y, x)."""
    axes = [(np.arange(round(e / s)) - (round(e / s) - 1) / 2) * s for e, s in zip(extent, spacing, strict=True)]
    z, y, x = np.meshgrid(*axes[::-1], indexing="ij")
    return x, y, z


def turned(x, y, z, degrees):
    """Coordinates along axes that are turned from x towards depth, and then from there towards the slices."""
    a, b = (math.radians(d) for d in degrees)
    x, y = x * math.cos(a) + y * math.sin(a), -x * math.sin(a) + y * math.cos(a)
    return x * math.cos(b) + z * math.sin(b), y, -x * math.sin(b) + z * math.cos(b)


def ellipsoid(half_axes, spacing, degrees=(0.0, 0.0), room=2.0):
    extent = [2 * max(half_axes) + 2 * room] * 3 if any(degrees) else [2 * a + 2 * room for a in half_axes]
    x, y, z = turned(*coordinates(extent, spacing), degrees)
    return sum((c / a) ** 2 for c, a in zip((x, y, z), half_axes, strict=True)) <= 1


def measured(inside, spacing, echoes=None, **where):
    echoes = np.where(inside, 50.0, 100.0) if echoes is None else echoes
    return measure_3d(image_of(inside.astype(np.uint8), spacing, **where), image_of(echoes, spacing, **where))


@pytest.mark.parametrize("slices", [0.525, 1.0, 2.0, 3.0])
@pytest.mark.parametrize(("half_axes", "degrees"), [((1.5, 0.7, 6.0), 0), ((0.5, 0.3, 6.0), 0), ((0.5, 0.4, 6.0), 35), ((0.3, 0.3, 6.0), 0)])
def test_slender_lesions_are_as_long_as_they_are(half_axes, degrees, slices):
    """The smoothing that takes the staircase away takes the ends of what is as thin as the slices are thick: 7.6 of 12 mm were left."""
    spacing = (0.2, 0.07, slices)
    inside = ellipsoid(half_axes, spacing, (0.0, degrees))
    centres = np.argwhere(inside) * spacing[::-1]
    apart = float(pdist(centres[ConvexHull(centres).vertices]).max())
    assert apart > 6  # as much of the 12 mm as the slices show
    found = measured(inside, spacing)
    assert apart <= found["major_diameter_mm"] <= apart + math.hypot(*spacing)
    assert found["second_diameter_mm"] <= 2 * half_axes[0] + math.hypot(*spacing)


def ellipsoid_area(a, b, c):
    """Surface of an ellipsoid by integration of its area element over the sphere."""
    u, v = np.meshgrid((np.arange(400) + 0.5) / 400 * np.pi, (np.arange(800) + 0.5) / 800 * 2 * np.pi, indexing="ij")
    element = np.sin(u) * np.sqrt(
        (b * c * np.sin(u) * np.cos(v)) ** 2 + (a * c * np.sin(u) * np.sin(v)) ** 2 + (a * b * np.cos(u)) ** 2
    )
    return float(element.sum() * np.pi / 400 * 2 * np.pi / 800)


@pytest.mark.parametrize("spacing", GRIDS)
@pytest.mark.parametrize("half_axes", [(4.0, 4.0, 4.0), (6.0, 3.5, 4.5), (3.0, 5.0, 4.0)])
def test_ellipsoids(half_axes, spacing):
    found = measured(ellipsoid(half_axes, spacing), spacing)
    volume, area = 4 / 3 * math.pi * math.prod(half_axes), ellipsoid_area(*half_axes)
    assert found["volume_ml"] == pytest.approx(volume / 1000, rel=0.02)
    assert found["surface_mm2"] == pytest.approx(area, rel=0.02)
    assert found["sphericity"] == pytest.approx(math.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area, rel=0.01)
    assert found["equal_volume_diameter_mm"] == pytest.approx((6 * volume / math.pi) ** (1 / 3), rel=0.01)
    for name, half in zip(DIAMETERS, sorted(half_axes, reverse=True), strict=True):
        assert found[name] == pytest.approx(2 * half, abs=max(spacing)), name
    for name, half, step in zip(("width_mm", "height_mm", "length_mm"), half_axes, spacing, strict=True):
        assert found[name] == pytest.approx(2 * half, abs=step + 1e-9)
    assert found["height_to_width_ratio"] == pytest.approx(half_axes[1] / half_axes[0], rel=0.1)
    assert found["parallel_to_skin"] == float(found["height_to_width_ratio"] < 1)
    assert found["solidity"] > 0.95
    assert found["spiculation_mm"] < 0.25


@pytest.mark.parametrize("degrees", [(0.0, 0.0), (30.0, 0.0), (0.0, 40.0), (60.0, 25.0), (90.0, 0.0)])
def test_a_turned_ellipsoid_keeps_its_diameters_and_shows_its_angle(degrees):
    half_axes, spacing = (7.0, 3.0, 4.5), (0.4, 0.45, 0.5)
    found = measured(ellipsoid(half_axes, spacing, degrees), spacing)
    for name, diameter in zip(DIAMETERS, (14.0, 9.0, 6.0), strict=True):
        assert found[name] == pytest.approx(diameter, abs=0.4), name
    # The long axis after both turns: (cos a cos b, sin a cos b, sin b) along x, y, z.
    a, b = (math.radians(d) for d in degrees)
    expected = math.degrees(math.asin(math.sin(a) * math.cos(b)))
    assert found["orientation_deg"] == pytest.approx(expected, abs=1.0)
    assert found["volume_ml"] == pytest.approx(4 / 3 * math.pi * math.prod(half_axes) / 1000, rel=0.02)
    assert found["surface_mm2"] == pytest.approx(ellipsoid_area(*half_axes), rel=0.02)


@pytest.mark.parametrize("shape, spacing", [((3, 1, 1), (0.1, 0.3, 0.3)), ((1, 3, 1), (0.3, 0.1, 0.3))])
def test_equal_sides_are_not_parallel_whatever_their_last_digit(shape, spacing):
    inside = np.zeros((9, 9, 9), bool)
    inside[3 : 3 + shape[2], 3 : 3 + shape[1], 3 : 3 + shape[0]] = True  # 3 x 0.1 or 0.3 mm wide, 0.3 or 3 x 0.1 mm high
    assert measured(inside, spacing)["parallel_to_skin"] == 0.0


def test_a_box_is_where_and_as_large_as_it_is():
    inside = np.zeros((40, 36, 50), bool)
    inside[5:25, 8:18, 10:40] = True
    found = measured(inside, (0.4, 0.6, 0.5))
    assert found["volume_ml"] == pytest.approx(12.0 * 6.0 * 10.0 / 1000)
    assert (found["width_mm"], found["height_mm"], found["length_mm"]) == pytest.approx((12.0, 6.0, 10.0))
    assert found["depth_mm"] == pytest.approx(8 * 0.6)
    assert found["orientation_deg"] == pytest.approx(0.0, abs=1e-6)
    assert found["parallel_to_skin"] == 1.0
    # Across the longest diagonal; blunt corners are a little nearer than sharp ones.
    assert found["major_diameter_mm"] == pytest.approx(math.sqrt(144 + 36 + 100), rel=0.05)
    # The surface cuts sharp edges, 112 mm of them here, by about a third of a millimetre each.
    assert 504 - 0.6 * 112 < found["surface_mm2"] < 504
    assert found["solidity"] > 0.95


def test_chords_lie_across_the_longest_diameter():
    """A cross of two bars in one plane, and a short one through their middle along the third axis."""
    x, y, z = coordinates((26, 20, 14), (0.5, 0.5, 0.5))
    bars = [
        (abs(x) < 11, abs(y) < 1, abs(z) < 1),
        (abs(x) < 1, abs(y) < 8, abs(z) < 1),
        (abs(x) < 1, abs(y) < 1, abs(z) < 5),
    ]
    inside = np.any([np.logical_and.reduce(bar) for bar in bars], axis=0)
    found = measured(inside, (0.5, 0.5, 0.5))
    assert [found[name] for name in DIAMETERS] == pytest.approx([22.1, 16.1, 10.1], abs=0.6)
    assert found["solidity"] < 0.4 and found["sphericity"] < 0.6


def star(height, spikes=14, radius=4.0, spacing=(0.4, 0.4, 0.4), width=0.9):
    """A ball with pointed processes, spread evenly, that stand out by `height` mm and are `width` mm thick at their roots."""
    x, y, z = coordinates([2 * (radius + height) + 4] * 3, spacing)
    inside = x**2 + y**2 + z**2 <= radius**2
    for k in range(spikes):
        up = 1 - (2 * k + 1) / spikes
        turn, flat = k * math.pi * (3 - math.sqrt(5)), math.sqrt(1 - up * up)
        way = (flat * math.cos(turn), up, flat * math.sin(turn))
        along = x * way[0] + y * way[1] + z * way[2]
        across = np.sqrt(np.maximum(x**2 + y**2 + z**2 - along**2, 0))
        inside |= (
            (along > 0) & (across <= width * np.clip((radius + height - along) / (height or 1), 0, 1)) & (height > 0)
        )
    return inside


def lobed(height, spacing=(0.4, 0.4, 0.4)):
    """A ball whose surface goes up and down by `height` in wide lobes."""
    x, y, z = coordinates([2 * (5 + height) + 4] * 3, spacing)
    r = np.sqrt(x**2 + y**2 + z**2) + 1e-9
    wave = (x * y * z) / r**3 * 3 * math.sqrt(3)  # -1 to 1, eight lobes
    return r <= 5 + height * wave


def test_spikes_raise_the_spiculation_index_in_proportion_and_lobes_hardly():
    spacing = (0.4, 0.4, 0.4)
    by_height = [measured(star(h), spacing)["spiculation_mm"] for h in (0.0, 1.5, 3.0)]
    assert by_height[0] < 0.2 < by_height[1] < by_height[2]
    assert by_height[2] > 1.0
    lobes = measured(lobed(1.2), spacing)
    spikes = measured(star(3.0), spacing)
    assert lobes["spiculation_mm"] < 0.4 * spikes["spiculation_mm"]
    # Both are rough, a ball is not; spikes make less volume and so less sphericity.
    assert measured(star(0.0), spacing)["surface_roughness"] < 0.02
    assert min(lobes["surface_roughness"], spikes["surface_roughness"]) > 0.04
    assert spikes["sphericity"] < lobes["sphericity"] < 0.99


def test_lobes_are_rough_however_large_the_lesion_is():
    large = measured(lobed(1.2), (0.4, 0.4, 0.4))
    twice = measured(lobed(1.2), (0.8, 0.8, 0.8))  # the same shape, twice as large
    for name in ("sphericity", "solidity", "surface_roughness"):
        assert twice[name] == pytest.approx(large[name], rel=0.12), name


# ------------------------------------------------------------------------------------------------------------ echoes


def scene(behind=1.0, inside_level=40.0, around=100.0, spacing=(0.5, 0.5, 0.5)):
    """A ball of 4 mm radius in even tissue; below it the tissue's echo times `behind`, within its own beams."""
    x, y, z = coordinates((24, 26, 24), spacing)
    y = y + 5
    ball = x**2 + y**2 + z**2 <= 16
    echoes = np.full(ball.shape, around)
    beams = (x**2 + z**2 <= 16) & (y > 0)
    echoes[beams] = around * behind
    echoes[ball] = inside_level
    return ball, echoes


@pytest.mark.parametrize("behind", [0.3, 1.0, 1.6])
def test_the_posterior_ratio_is_the_echo_behind_over_that_beside(behind):
    assert measured(*_swap(scene(behind)))["posterior_ratio"] == pytest.approx(behind, rel=1e-6)


def _swap(pair, spacing=(0.5, 0.5, 0.5)):
    return pair[0], spacing, pair[1]


def test_echoes_are_compared_at_the_same_depth():
    ball, echoes = scene(0.5)
    fading = np.linspace(1.0, 0.2, echoes.shape[1])[None, :, None]
    assert measured(ball, (0.5, 0.5, 0.5), echoes * fading)["posterior_ratio"] == pytest.approx(0.5, rel=1e-6)


def test_contrast_and_heterogeneity():
    ball, echoes = scene()
    found = measured(ball, (0.5, 0.5, 0.5), echoes)
    assert found["contrast_ratio"] == pytest.approx(0.4)
    assert found["echo_heterogeneity"] == pytest.approx(0.0)
    echoes[ball] = np.random.default_rng(3).choice([20.0, 60.0], ball.sum())
    assert measured(ball, (0.5, 0.5, 0.5), echoes)["echo_heterogeneity"] == pytest.approx(0.5, abs=0.02)
    assert measured(ball, (0.5, 0.5, 0.5), echoes * 0)["contrast_ratio"] is None


def test_a_lesion_at_the_bottom_has_no_posterior_ratio_and_one_at_an_edge_has():
    ball, echoes = scene(0.5)
    last = np.flatnonzero(ball.any(axis=(0, 2)))[-1]
    cut = slice(0, last + 3)
    assert measured(ball[:, cut], (0.5, 0.5, 0.5), echoes[:, cut])["posterior_ratio"] is None
    first = np.flatnonzero(ball.any(axis=(0, 1)))[0]
    edge = measured(ball[..., first + 4 :], (0.5, 0.5, 0.5), echoes[..., first + 4 :])
    assert edge["posterior_ratio"] == pytest.approx(0.5, rel=0.05)
    assert edge["contrast_ratio"] == pytest.approx(0.4, rel=0.2)


def test_a_lesion_that_fills_the_volume_has_nothing_around():
    found = measured(np.ones((6, 6, 6), bool), (0.5, 0.5, 0.5))
    assert (found["contrast_ratio"], found["posterior_ratio"], found["depth_mm"]) == (None, None, 0.0)
    assert found["volume_ml"] == pytest.approx(0.027)


# ------------------------------------------------------------------------------------------------------------ grids


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    mirror=st.tuples(st.booleans(), st.booleans()),
    swap=st.booleans(),
)
def test_left_and_right_and_slices_may_be_swapped(seed, mirror, swap):
    """The skin's plane has no direction of its own; only width and length change places."""
    rng = np.random.default_rng(seed)
    blob = sitk.GetArrayFromImage(sitk.DiscreteGaussian(sitk.GetImageFromArray(rng.normal(size=(14, 12, 16))), 3.0))
    inside, echoes = np.pad(blob > np.quantile(blob, 0.8), 4), np.pad(rng.uniform(50, 90, blob.shape), 4, mode="edge")
    spacing = (0.6, 0.5, 0.7)
    found = measured(inside, spacing, echoes)
    for axis, flip in zip((0, 2), mirror, strict=True):
        if flip:
            inside, echoes = np.flip(inside, axis), np.flip(echoes, axis)
    if swap:
        inside, echoes, spacing = inside.transpose(2, 1, 0), echoes.transpose(2, 1, 0), spacing[::-1]
    other = measured(inside.copy(), spacing, echoes.copy())
    if swap:
        other["width_mm"], other["length_mm"] = other["length_mm"], other["width_mm"]
    own = {"height_to_width_ratio", "parallel_to_skin"}  # these look at the width alone
    for name in set(found) - (own if swap else set()):
        # Marching cubes join ambiguous corners by the order of the axes: up to 0.2 % of a blob's surface was seen.
        expected = pytest.approx(found[name], rel=5e-3, abs=2e-3) if found[name] is not None else None
        assert other[name] == expected, name


@pytest.mark.parametrize("spacing", GRIDS[1:])
def test_the_same_lesion_measures_the_same_on_every_grid(spacing):
    reference = measured(ellipsoid((5.0, 3.0, 4.0), GRIDS[0], (20.0, 30.0)), GRIDS[0])
    found = measured(ellipsoid((5.0, 3.0, 4.0), spacing, (20.0, 30.0)), spacing)
    for name in ("volume_ml", "surface_mm2", "sphericity", "equal_volume_diameter_mm"):
        assert found[name] == pytest.approx(reference[name], rel=0.02), name
    for name in (*DIAMETERS, "width_mm", "height_mm", "length_mm"):
        assert found[name] == pytest.approx(reference[name], abs=0.6), name


def test_direction_and_origin_do_not_matter_and_a_crop_of_the_mask_is_enough():
    ball, echoes = scene(0.5)
    plain = measured(ball, (0.4, 0.5, 0.6), echoes)
    assert measured(ball, (0.4, 0.5, 0.6), echoes, direction=OBLIQUE, origin=(3.0, 2.0, 1.0)) == plain
    where = {"spacing": (0.4, 0.5, 0.6), "direction": OBLIQUE}
    mask, image = image_of(ball.astype(np.uint8), **where), image_of(echoes, **where)
    filled = np.argwhere(ball)
    first, size = filled.min(0)[::-1], np.ptp(filled, axis=0)[::-1] + 1
    crop = sitk.RegionOfInterest(mask, [int(n) + 1 for n in size], [int(n) - 1 for n in first])
    assert measure_3d(crop, image) == plain


def test_only_the_surroundings_are_looked_at():
    ball, echoes = scene()
    echoes[0, 0, 0] = np.nan
    assert measured(ball, (0.5, 0.5, 0.5), echoes)["contrast_ratio"] == pytest.approx(0.4)
    echoes[ball] = np.inf
    with pytest.raises(ImageError, match="not finite"):
        measured(ball, (0.5, 0.5, 0.5), echoes)


def test_unknown_spacing_gives_voxels():
    ball, echoes = scene()
    mask, image = image_of(ball.astype(np.uint8), (1.0, 1.0, 1.0)), image_of(echoes, (1.0, 1.0, 1.0))
    found = measure_3d(mask, image, spacing_known=False)
    assert set(found) == {f"{n}_px" for n in LENGTHS} | {"surface_px2", "volume_px3"} | UNIT_FREE
    assert found["volume_px3"] == ball.sum()
    assert found["width_px"] == 16 and found["spiculation_px"] is None


def test_names_are_those_of_2d_where_the_meaning_is():
    ball, echoes = scene()
    in_3d = measured(ball, (0.5, 0.5, 0.5), echoes)
    assert set(in_3d) == {f"{n}_mm" for n in LENGTHS} | {"surface_mm2", "volume_ml"} | UNIT_FREE
    middle = ball.shape[0] // 2
    flat = measure_2d(
        sitk.GetImageFromArray(ball[middle].astype(np.uint8)), sitk.GetImageFromArray(echoes[middle]), False
    )
    for name in ("height_to_width_ratio", "contrast_ratio", "posterior_ratio", "echo_heterogeneity"):
        assert flat[name] == pytest.approx(in_3d[name], rel=0.02), name


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (1, 6, 6), (2, 2, 2)])
def test_specks_and_sheets_have_figures_and_no_error(shape):
    inside = np.pad(np.ones(shape, bool), 6)
    found = measured(inside, (0.5, 0.5, 0.5))
    assert found["volume_ml"] == pytest.approx(math.prod(shape) * 0.125 / 1000)
    assert all(v is None or math.isfinite(v) for v in found.values())
    assert 0 < found["sphericity"] <= 1 and 0 < found["solidity"] <= 1
    a, b, c = (found[name] for name in DIAMETERS)
    assert 0 < c <= b * 1.001 and b <= a * 1.001


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 2), (2, 2, 2), (1, 5, 2), (2, 6, 6), (9, 1, 1)])
@pytest.mark.parametrize("spacing", [(0.21, 0.07, 0.52), (0.2, 0.082, 1.0), (0.23, 0.06, 2.0), (0.02, 0.02, 3.0)])
def test_small_outlines_on_fine_grids_have_figures(shape, spacing, known):
    """Masks of no more than a block, and of a few voxels of a block of thousands; a person paints them."""
    inside = np.pad(np.ones(shape, bool), 6)
    image, echoes = image_of(inside.astype(np.uint8), spacing), image_of(np.where(inside, 50.0, 100.0), spacing)
    found = measure_3d(image, echoes, known)
    unit, volume = ("mm", math.prod(shape) * math.prod(spacing)) if known else ("px", math.prod(shape))
    assert found["volume_ml" if known else "volume_px3"] == pytest.approx(volume / (1000 if known else 1))
    assert all(v is None or math.isfinite(v) for v in found.values())
    assert found[f"surface_{unit}2"] >= (math.pi * 36 * volume**2) ** (1 / 3) * 0.999  # that of the ball
    assert 0 < found["sphericity"] <= 1 and 0 < found["solidity"] <= 1
    a, b, c = (found[name.replace("mm", unit)] for name in DIAMETERS)
    assert 0 < c <= b * 1.001 and b <= a * 1.001
    assert a > 0.5 * found[f"equal_volume_diameter_{unit}"]  # no surface has shrunk to a point


def test_the_surface_of_a_speck_is_around_its_volume():
    for spacing in ((1.0, 0.082, 0.2), (2.0, 0.06, 0.23)):
        speck = smooth_surface(np.ones((1, 2, 2), bool), spacing, max(spacing), speck=True)
        assert speck._triangles[1] == pytest.approx(speck.volume, rel=1e-3)


def test_an_empty_mask_has_no_figures():
    found = measured(np.zeros((5, 6, 7), bool), (0.5, 0.5, 0.5))
    assert set(found.values()) == {None} and "volume_ml" in found


def test_what_does_not_fit_is_refused():
    ball, echoes = scene()
    mask, image = image_of(ball.astype(np.uint8), (0.5, 0.5, 0.5)), image_of(echoes, (0.5, 0.5, 0.5))
    moved = sitk.Image(mask)
    moved.SetOrigin((12.2, -7.0, 3.0))
    beyond = sitk.Image(mask)
    beyond.SetOrigin((12.5, -7.0, 3.0))
    finer = sitk.Image(mask)
    finer.SetSpacing((0.4, 0.5, 0.5))
    for wrong in (moved, beyond, finer, mask[:, :, 0]):
        with pytest.raises(UsageError, match="not on the grid"):
            measure_3d(wrong, image)
    with pytest.raises(ImageError, match="components"):
        measure_3d(mask, sitk.Compose(image, image))


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_shape_alone_does_not_know_the_axes(axes):
    inside = star(2.0, spikes=5, spacing=(0.6, 0.6, 0.6))[:, :-4]
    found = measured(np.ascontiguousarray(inside.transpose(axes)), (0.6, 0.6, 0.6))
    first = measured(inside, (0.6, 0.6, 0.6))
    for name in (
        "volume_ml",
        "surface_mm2",
        "sphericity",
        "solidity",
        "spiculation_mm",
        "surface_roughness",
        *DIAMETERS,
    ):
        assert found[name] == pytest.approx(first[name], rel=2e-3), name


# ------------------------------------------------------------------------------------------------------------ large ones


@pytest.mark.parametrize(
    ("half_axes", "degrees"),
    [((17.3, 8.6, 17.65), (0.0, 0.0)), ((13.8, 13.8, 13.8), (0.0, 0.0)), ((25.5, 11.5, 24.4), (12.0, 20.0))],
    ids=["11 ml", "11 ml, a ball", "30 ml, turned"],
)
def test_large_lesions_on_fine_oblique_grids_measure_what_they_are(half_axes, degrees):
    """Surfaces are made and shells are measured on grids that are coarser than the voxels here, and figures must not show it."""
    spacing = (0.2, 0.08, 0.5)
    a, b, c = half_axes
    ball = 2 * (a * b * c) ** (1 / 3)
    shell = 0.2 * ball
    reach = [max(half_axes) + shell + 1] * 3 if any(degrees) else [half + shell + 1 for half in half_axes]
    axes = [np.arange(-int(r / s), int(r / s) + 1) * s for r, s in zip(reach, spacing, strict=True)]
    z, y, x = np.meshgrid(*(axis.astype(np.float32) for axis in axes[::-1]), indexing="ij", sparse=True)
    # Echoes that rise along the depth and the slices: their mean over what is symmetrical is that of its middle.
    echoes = (100 + y + 0.5 * z + 0 * x).astype(np.uint8)
    u, v, w = turned(x, y, z, degrees)
    inside = (u / a) ** 2 + (v / b) ** 2 + (w / c) ** 2 <= 1
    del u, v, w
    echoes[inside] = 40
    found = measured(inside, spacing, echoes, direction=OBLIQUE)

    volume, area = 4 / 3 * math.pi * a * b * c, ellipsoid_area(a, b, c)
    assert found["volume_ml"] == pytest.approx(volume / 1000, rel=0.005)
    assert found["surface_mm2"] == pytest.approx(area, rel=0.01)
    assert found["sphericity"] == pytest.approx(math.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area, rel=0.01)
    for name, half in zip(DIAMETERS, sorted(half_axes, reverse=True), strict=True):
        assert found[name] == pytest.approx(2 * half, abs=0.4), name
    assert found["solidity"] > 0.98 and found["spiculation_mm"] < 0.25
    assert found["surface_roughness"] < (0.02 if a == b == c else 0.08)
    if any(degrees):
        way = [math.cos(math.radians(d)) for d in degrees]
        tilt = math.degrees(math.asin(math.sin(math.radians(degrees[0])) * way[1]))
        assert found["orientation_deg"] == pytest.approx(tilt, abs=1.0)
    # Half a grey level is lost on whole ones.
    assert found["contrast_ratio"] == pytest.approx(40 / 99.5, rel=0.003)
    assert found["echo_heterogeneity"] == 0.0


def test_a_large_lesion_needs_little_memory():
    """Nothing may be made of every voxel but masks: a lesion of 30 ml has millions of them, and once took two gigabytes."""
    import tracemalloc

    inside = ellipsoid((20.0, 10.0, 14.0), (0.2, 0.1, 0.4), room=4.0)
    mask, image = (
        image_of(v, (0.2, 0.1, 0.4)) for v in (inside.astype(np.uint8), np.where(inside, 40, 100).astype(np.uint8))
    )
    measured(*_swap(scene()))  # what is loaded on first use
    tracemalloc.start()
    try:
        measure_3d(mask, image)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    box = math.prod(2 * half / step for half, step in zip((20.0, 10.0, 14.0), (0.2, 0.1, 0.4), strict=True))
    assert peak < 24 * box
