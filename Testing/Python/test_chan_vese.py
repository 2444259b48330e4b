"""The refiner: on shapes whose truth is known, against scikit-image, on real images, and where it must refuse."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from BreastUSAILib.chan_vese import ChanVeseParameters, _signed_distance, refine
from BreastUSAILib.errors import ImageError, UsageError
from BreastUSAILib.evaluation.metrics import dice
from BreastUSAILib.evaluation.tune_refiner import tune

PAPER = ChanVeseParameters.paper()
BUSBRA = Path(__file__).resolve().parents[3] / "shared" / "data" / "busbra"


def ellipsoid(shape, axes, shift=0.0, scale=1.0):
    """Bool mask of an ellipse (ellipsoid) in the middle; `axes` in pixels."""
    grid = np.indices(shape)
    inside = sum(((g - n / 2 - shift) / (a * scale)) ** 2 for g, n, a in zip(grid, shape, axes, strict=True))
    return inside <= 1


def speckled(truth, seed, noise=0.3, dark=70.0, bright=130.0):
    """A dark lesion in bright tissue under multiplicative Rayleigh speckle of coefficient of variation `noise`."""
    speckle = ndimage.gaussian_filter(np.random.default_rng(seed).rayleigh(size=truth.shape), 0.7)
    speckle = (speckle - speckle.mean()) / speckle.std()
    return np.clip(np.where(truth, dark, bright) * (1 + noise * speckle), 0, 255).astype(np.uint8)


def blob(shape, radius, seed, roughness):
    """An irregular outline: a circle whose distance function is disturbed by smooth noise."""
    grid = np.indices(shape)
    distance = radius - np.sqrt(sum((g - n / 2) ** 2 for g, n in zip(grid, shape, strict=True)))
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), radius / 3)
    labels, _ = ndimage.label(distance + roughness * radius * noise / noise.std() > 0)
    return labels == labels[tuple(n // 2 for n in shape)]


@pytest.mark.parametrize("parameters", [PAPER, ChanVeseParameters()], ids=["paper", "default"])
@pytest.mark.parametrize(
    ("shape", "axes"), [((160, 160), (40, 40)), ((160, 200), (30, 60)), ((40, 64, 64), (12, 20, 18))]
)
def test_a_shifted_and_shrunken_start_finds_the_outline(shape, axes, parameters):
    truth = ellipsoid(shape, axes)
    start = ellipsoid(shape, axes, shift=2.0, scale=0.95)
    result = refine(speckled(truth, 0), start, (1.0,) * len(shape), parameters)
    assert result.refined and result.reason == ""
    assert 1 <= result.iterations <= 50
    assert result.mask.dtype == bool and result.mask.shape == shape
    assert dice(result.mask, truth) > max(0.95, dice(start, truth) + 0.02)


@pytest.mark.parametrize(("shape", "radius", "seed"), [((144, 144), 36, 1), ((144, 144), 36, 2), ((32, 56, 56), 13, 3)])
def test_dice_is_no_lower_than_that_of_scikit_image(shape, radius, seed):
    from skimage.segmentation import chan_vese, morphological_chan_vese

    truth = blob(shape, radius, seed, roughness=0.1)
    start = ndimage.shift(truth.astype(float), 2, order=1) > 0.5
    image = speckled(truth, seed)
    unit = image / 255.0
    theirs = [morphological_chan_vese(unit, 50, init_level_set=start.astype(np.int8)).astype(bool)]
    if len(shape) == 2:
        outside, inside = (ndimage.distance_transform_edt(m) for m in (~start, start))
        theirs.append(chan_vese(unit, mu=0.25, max_num_iter=50, init_level_set=inside - outside))
    ours = refine(image, start, (1.0,) * len(shape), PAPER)
    best = max(max(dice(t, truth), dice(~t, truth)) for t in theirs)  # chan_vese may swap inside and outside
    assert ours.refined
    assert dice(ours.mask, truth) >= best - 0.002


def test_a_clean_image_is_recovered_to_the_pixel():
    truth = ellipsoid((120, 120), (30, 40))
    result = refine(np.where(truth, 0.2, 0.8), ellipsoid((120, 120), (30, 40), scale=0.9), (1, 1), PAPER)
    wrong = result.mask ^ truth
    assert wrong.sum() < 0.01 * truth.sum()
    # Only pixels of the outline can be wrong.
    assert not (wrong & ndimage.binary_erosion(truth, iterations=2)).any()


def test_the_result_depends_neither_on_grey_levels_nor_on_the_unit_of_length():
    truth = ellipsoid((96, 96), (20, 28))
    image, start = speckled(truth, 4), ellipsoid((96, 96), (20, 28), shift=2.0)
    first = refine(image, start, (0.08, 0.08)).mask
    assert np.array_equal(first, refine(image, start, (80.0, 80.0)).mask)
    for other in (image.astype(np.float64) * 1e200, image.astype(np.int32) * 1000 - 70_000, image / 255.0):
        assert (refine(other, start, (1, 1)).mask ^ first).sum() <= 3  # rounding may decide a pixel
    assert (refine(255 - image.astype(int), start, (1, 1)).mask ^ first).sum() <= 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_an_image_that_spans_all_that_its_type_holds_is_refined_like_any_other(dtype):
    truth = ellipsoid((96, 96), (20, 28))
    image, start = speckled(truth, 4), ellipsoid((96, 96), (20, 28), shift=2.0)
    spanning = (image.astype(dtype) / 127.5 - 1) * dtype(0.99 * np.finfo(dtype).max)
    refined = refine(spanning, start, (1, 1))
    assert refined.refined
    assert (refined.mask ^ refine(image, start, (1, 1)).mask).sum() <= 3


def test_size_in_pixels_does_not_matter_beyond_the_sampling():
    shape, axes = (80, 80), (18, 24)
    truth, start = ellipsoid(shape, axes), ellipsoid(shape, axes, shift=2.0)
    clean = ndimage.gaussian_filter(np.where(truth, 70.0, 130.0), 1)
    small = refine(clean, start, (1, 1)).mask
    large = refine(np.kron(clean, np.ones((3, 3))), np.kron(start, np.ones((3, 3))), (1 / 3, 1 / 3)).mask
    assert dice(np.kron(small, np.ones((3, 3))) > 0, large) > 0.98


def test_anisotropic_spacing_is_respected():
    # The same physical disc on a grid with pixels twice as tall as wide.
    truth, start = ellipsoid((60, 120), (15, 30)), ellipsoid((60, 120), (15, 30), scale=0.9)
    result = refine(speckled(truth, 5), start, (2.0, 1.0))
    assert dice(result.mask, truth) > 0.97
    # max_change is a distance: it allows half as many rows as columns.
    limited = replace(ChanVeseParameters(), max_change=4.0 / 30, alpha=0.1)
    flat = np.where(np.indices((60, 120))[1] >= 0, 100.0, 0.0)
    flat[truth] = 20
    grown = refine(flat, ellipsoid((60, 120), (15, 30), scale=0.7), (2.0, 1.0), limited).mask
    rows, columns = (np.flatnonzero(grown.any(axis=a)) for a in (1, 0))
    begin = ellipsoid((60, 120), (15, 30), scale=0.7)
    rows0, columns0 = (np.flatnonzero(begin.any(axis=a)) for a in (1, 0))
    radius = math.sqrt(begin.sum() * 2 / math.pi)
    allowed = limited.max_change * radius
    assert 0 < (rows0[0] - rows[0]) * 2.0 <= allowed + 2
    assert 0 < (columns0[0] - columns[0]) * 1.0 <= allowed + 1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), limit=st.floats(0.01, 3.0), dimension=st.integers(2, 3))
def test_distances_are_exact_as_far_as_the_outline_may_go(seed, limit, dimension):
    """They are measured near the mask alone, also where it touches the image's border; farther away it is too far."""
    rng = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(rng.standard_normal(rng.integers(3, 30, dimension)), 2) > rng.uniform(0, 0.3)
    if not mask.any() or mask.all():
        return
    steps = rng.uniform(0.02, 0.3, dimension)
    plain = ndimage.distance_transform_edt(mask, steps) - ndimage.distance_transform_edt(~mask, steps)
    plain -= np.sign(plain) * 0.5 * steps.min()
    found = _signed_distance(mask, steps, ChanVeseParameters(max_change=limit))
    near = plain >= -limit
    np.testing.assert_allclose(found[near], plain[near], rtol=1e-5, atol=1e-6)
    assert (found[~near] < -limit + 1e-6).all()


@pytest.mark.parametrize("limit", [0.05, 0.1, 0.2])
def test_the_outline_moves_no_farther_than_max_change(limit):
    truth, start = ellipsoid((128, 128), (44, 44)), ellipsoid((128, 128), (36, 36))
    result = refine(speckled(truth, 6), start, (1, 1), replace(ChanVeseParameters(), max_change=limit))
    outside = ndimage.distance_transform_edt(~start)
    reached = outside[result.mask].max()
    assert 1 <= reached <= limit * 36 + 1.5


def test_the_prior_decides_where_the_image_is_silent():
    # The image shows a notch of tissue that the network is sure belongs to the lesion.
    truth = ellipsoid((120, 120), (35, 35))
    image = np.where(truth, 60.0, 130.0)
    image[:60, 50:70] = 130.0
    sure = np.where(truth, 0.99, 0.01)
    free = replace(ChanVeseParameters(), max_change=math.inf)
    with_prior = refine(image, truth, (1, 1), replace(free, prior=3.0), sure).mask
    without = refine(image, truth, (1, 1), replace(free, prior=0.0), sure).mask
    notch = np.s_[35:50, 55:65]
    assert with_prior[notch].all()
    assert not without[notch].any()


def test_local_means_follow_a_gain_that_falls_with_depth():
    # The tissue at the bottom is as dark as the lesion at the top: two means for all cannot separate them.
    truth = ellipsoid((160, 160), (45, 45))
    gain = np.linspace(1.6, 0.4, 160)[:, None]
    image = np.where(truth, 70.0, 130.0) * gain + np.random.default_rng(0).normal(0, 4, truth.shape)
    start = ellipsoid((160, 160), (45, 45), shift=2.0)
    free = replace(ChanVeseParameters(), max_change=math.inf)
    local, plain = (refine(image, start, (1, 1), replace(free, window=w)) for w in (0.4, math.inf))
    assert dice(local.mask, truth) > 0.98
    assert dice(plain.mask, truth) < dice(local.mask, truth) - 0.02


def test_an_evolution_that_is_as_good_as_settled_may_end():
    truth = blob((48, 72, 64), 18, 4, 0.12)
    image, start = speckled(truth, 5), ndimage.shift(truth.astype(float), 2.0, order=1) > 0.5
    to_the_end, settled = (refine(image, start, (1.0,) * 3, replace(PAPER, settled=share)) for share in (0.0, 0.001))
    assert settled.iterations < to_the_end.iterations
    assert dice(settled.mask, to_the_end.mask) > 0.997


def test_bfloat16_draws_the_same_outline(monkeypatch):
    truth = blob((48, 72, 64), 18, 6, 0.12)
    image, start = speckled(truth, 7), ndimage.shift(truth.astype(float), 2.0, order=1) > 0.5
    exact = refine(image, start, (1.0,) * 3, PAPER)
    asked = []
    monkeypatch.setattr("BreastUSAILib.axis_products.fast_bf16", lambda device: asked.append(device) or True)
    fast = refine(image, start, (1.0,) * 3, PAPER)
    assert asked and fast.refined
    assert dice(fast.mask, exact.mask) > 0.99


def test_the_result_is_one_component_and_repeatable():
    truth = ellipsoid((100, 100), (25, 25))
    image = speckled(truth, 8, noise=0.6)
    first, second = (refine(image, truth, (1, 1), PAPER) for _ in range(2))
    assert np.array_equal(first.mask, second.mask) and first.iterations == second.iterations
    assert ndimage.label(first.mask, np.ones((3, 3)))[1] == 1


def test_inputs_are_left_alone_and_a_lesion_at_the_border_is_no_trouble():
    truth = ellipsoid((100, 100), (30, 30), shift=-45)
    image, start = speckled(truth, 9), ndimage.binary_dilation(truth, iterations=2)
    copies = image.copy(), start.copy()
    result = refine(image, start, (1, 1))
    assert np.array_equal(image, copies[0]) and np.array_equal(start, copies[1])
    assert result.refined and dice(result.mask, truth) > dice(start, truth)


def _square(size=12, shape=(48, 48)):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(n // 2 - size // 2, n // 2 + size // 2) for n in shape)] = True
    return mask


NOISE = np.random.default_rng(1).normal(100, 20, (48, 48))
NAN = NOISE.copy()
NAN[24, 24] = np.nan


@pytest.mark.parametrize(
    ("image", "mask", "word"),
    [
        (NOISE, np.zeros((48, 48), bool), "empty"),
        (NOISE, np.ones((48, 48), bool), "fills the image"),
        (np.full((48, 48), 7.0), _square(), "flat"),
        (NAN, _square(), "not finite"),
        (NOISE, _square(2), "only 4 pixels"),
    ],
)
def test_what_cannot_be_refined_comes_back_as_it_was_with_the_reason(image, mask, word):
    result = refine(image, mask, (1, 1))
    assert not result.refined and result.iterations == 0
    assert word in result.reason and result.reason.endswith(".")
    assert np.array_equal(result.mask, mask)


def test_a_non_finite_pixel_far_away_does_not_matter():
    truth = ellipsoid((128, 128), (20, 20))
    image = speckled(truth, 3).astype(float)
    image[0, 0] = np.inf
    assert refine(image, truth, (1, 1)).refined


def test_a_vanishing_outline_returns_the_start():
    truth = _square(12)
    image = np.where(truth, 99.0, 101.0) + np.random.default_rng(0).normal(0, 1, truth.shape)
    result = refine(image, truth, (1, 1), replace(PAPER, length_scale=1.0))
    assert not result.refined and "vanished" in result.reason and result.iterations > 0
    assert np.array_equal(result.mask, truth)


def test_a_flooding_outline_returns_the_start():
    # The mask covers the bright tip of a bright half of the image.
    image = np.zeros((96, 96))
    image[:, 40:] = 100.0
    start = np.zeros((96, 96), bool)
    start[40:56, 42:58] = True
    weak = replace(PAPER, alpha=0.05)
    result = refine(image, start, (1, 1), weak)
    assert not result.refined and "flooded" in result.reason
    assert np.array_equal(result.mask, start)
    # With that check off the next one holds, and so on.
    assert "size changed" in refine(image, start, (1, 1), replace(weak, max_border=1.0)).reason
    assert "moved too far" in refine(image, start, (1, 1), replace(weak, max_border=1.0, max_size_factor=9.0)).reason


def test_an_outline_that_moves_too_far_returns_the_start():
    truth = ellipsoid((96, 96), (20, 20))
    start = ellipsoid((96, 96), (20, 20), shift=5)
    strict = replace(PAPER, min_dice=0.99)
    assert "moved too far" in refine(speckled(truth, 2), start, (1, 1), strict).reason


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((NOISE, np.ones((4, 4), bool), (1, 1)), UsageError),
        ((NOISE, _square(), (1, 0)), UsageError),
        ((NOISE, _square(), (1, 1, 1)), UsageError),
        ((NOISE.astype(complex), _square(), (1, 1)), ImageError),
        ((NOISE[0], _square()[0], (1,)), ImageError),
        ((NOISE, _square(), (1, 1), ChanVeseParameters(), np.full((48, 48), 1.5)), UsageError),
        ((NOISE, _square(), (1, 1), ChanVeseParameters(), np.full((48, 48), np.nan)), UsageError),
        ((NOISE, _square(), (1, 1), ChanVeseParameters(), np.zeros((4, 4))), UsageError),
    ],
)
def test_wrong_inputs_are_refused(arguments, error):
    with pytest.raises(error):
        refine(*arguments)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mu1": -1},
        {"alpha": math.nan},
        {"length_scale": 0},
        {"window": 0},
        {"max_iterations": 0},
        {"levels": 1.5},
        {"max_size_factor": 1},
        {"min_dice": 2},
        {"settled": -0.1},
    ],
)
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(UsageError):
        ChanVeseParameters(**wrong)


def _blurred(truth, seed):
    """A probability map as a network whose features are 8 times coarser would give: smooth, shifted by a few pixels."""
    random = np.random.default_rng(seed)
    padded = np.pad(truth.astype(float), [(0, -n % 8) for n in truth.shape])
    padded = ndimage.shift(padded, random.uniform(-3, 3, 2), order=1)
    coarse = padded.reshape(padded.shape[0] // 8, 8, padded.shape[1] // 8, 8).mean(axis=(1, 3))
    soft = ndimage.zoom(ndimage.gaussian_filter(coarse, 0.6), 8, order=1, grid_mode=True, mode="nearest")
    return 1 / (1 + np.exp(-6 * (soft[: truth.shape[0], : truth.shape[1]] - 0.5)))


@pytest.mark.skipif(not BUSBRA.is_dir(), reason="the real images of ../shared/data/busbra are not here")
def test_on_real_images_the_defaults_do_not_lower_the_mean_dice():
    from PIL import Image

    with (BUSBRA / "labels.csv").open(newline="") as stream:
        rows = [r for r in csv.DictReader(stream) if r["fold"] in ("2", "3", "4")][::40]
    cases = []
    for seed, row in enumerate(rows):
        image, mask = (np.asarray(Image.open(BUSBRA / row[k]).convert("L")) for k in ("file", "mask"))
        cases.append((image, _blurred(mask > 127, seed), mask > 127, (1.0, 1.0)))
    plain = {"window": math.inf, "prior": 0.0, "max_change": math.inf}
    best, worst = tune(cases, [plain, {}])
    assert "prior" not in best and worst["prior"] == 0.0  # our defaults do better than the plain energy
    assert best["cases"] >= 15 and best["mean_change"] > 0
    assert best["dice_after"] == pytest.approx(best["dice_before"] + best["mean_change"])


def test_tune_reports_every_setting_of_a_grid_and_leaves_out_what_cannot_be_refined():
    truth = ellipsoid((80, 80), (20, 24))
    probability = ndimage.gaussian_filter(ellipsoid((80, 80), (20, 24), shift=2.0).astype(float), 3)
    nothing = np.zeros_like(truth)
    cases = [(speckled(truth, 1), probability, truth, (1, 1)), (speckled(truth, 1), probability, nothing, (1, 1))]
    report = tune(iter(cases), {"prior": (0.0, 1.0), "max_change": (0.05, 0.2)})
    assert {(r["prior"], r["max_change"]) for r in report} == {(0.0, 0.05), (0.0, 0.2), (1.0, 0.05), (1.0, 0.2)}
    changes = [r["mean_change"] for r in report]
    assert changes == sorted(changes, reverse=True)
    assert all(r["cases"] == 1 and r["kept"] == 0 for r in report)


def test_tune_counts_data_sets_alike_and_starts_from_the_outlines_that_it_is_given():
    truth = ellipsoid((80, 80), (20, 24))
    image, probability = speckled(truth, 1), np.full(truth.shape, 0.4)
    near, far = ndimage.binary_dilation(truth, iterations=1), ndimage.binary_dilation(truth, iterations=5)
    cases = [(image, probability, truth, (1, 1), [start], name) for start, name in ((near, "a"), (near, "a"), (far, "b"))]
    (both,) = tune(cases, [{}])
    (a,), (b,) = tune(cases[:2], [{}]), tune(cases[2:], [{}])
    assert both["cases"] == 3 and a["dice_before"] == pytest.approx(dice(near, truth)) != b["dice_before"]
    for figure in ("dice_before", "dice_after", "mean_change"):
        assert both[figure] == pytest.approx((a[figure] + b[figure]) / 2)


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_matrices_are_those_of_their_formulas(n):
    from BreastUSAILib.axis_products import gaussian, interpolation

    for sigma in (0.8, 5.0, 100.0):
        line = np.arange(-n, 2 * n)  # a pixel and its two mirror images beyond the ends
        weights = np.exp(-0.5 * ((np.arange(n)[:, None] - line) / sigma) ** 2)
        mirrored = weights[:, n : 2 * n] + weights[:, :n][:, ::-1] + weights[:, 2 * n :][:, ::-1]
        expected = mirrored / mirrored.sum(axis=1, keepdims=True)
        assert np.allclose(gaussian(n, sigma), expected, atol=1e-6)
        some = np.arange(0, n, 3)
        assert np.array_equal(gaussian(n, sigma, some), gaussian(n, sigma)[some])
    for places in (np.unique([0, n // 2, n - 1]), np.arange(0, n, 3)):
        heights = np.random.default_rng(0).random(len(places))
        assert np.allclose(interpolation(n, places) @ heights, np.interp(np.arange(n), places, heights), atol=1e-6)


@pytest.mark.parametrize("shape", [(160, 170), (30, 32, 34)])
def test_products_need_not_look_beyond_the_mask(shape):
    from BreastUSAILib.axis_products import along_axes, gaussian
    from BreastUSAILib.chan_vese import _part

    inside = np.zeros(shape, bool)
    inside[tuple(slice(n // 4, n // 2) for n in shape)] = (
        np.random.default_rng(1).random([n // 2 - n // 4 for n in shape]) < 0.5
    )
    part = _part(inside)
    assert all(p.stop - p.start < n / 2 for p, n in zip(part, shape, strict=True))
    matrices = [gaussian(n, 3.0) for n in shape]
    whole = along_axes(inside.astype(np.float32), matrices)
    assert np.allclose(along_axes(inside.astype(np.float32), matrices, part), whole, atol=1e-6)
    assert _part(np.zeros(shape, bool)) == (slice(None),) * len(shape)


@given(st.integers(1, 400), st.integers(0, 2**32 - 1), st.integers(1, 256))
@settings(max_examples=80, deadline=None)
def test_percentiles_of_eight_bits_are_counted_as_numpy_has_them(size, seed, levels):
    from BreastUSAILib.chan_vese import _percentiles

    sample = np.random.default_rng(seed).integers(0, levels, size).astype(np.uint8)
    assert _percentiles(sample) == pytest.approx(np.percentile(sample, [1, 99]), abs=1e-6)
    assert _percentiles(sample.astype(np.int16)) == pytest.approx(np.percentile(sample, [1, 99]), abs=1e-4)


def test_the_prior_alone_leaves_an_outline_where_its_threshold_drew_it():
    """The map rises slowly: its levels of 0.3 and 0.5 lie 8 pixels apart."""
    y, x = np.mgrid[:160, :160]
    distance = np.hypot(y - 80, x - 80)
    probability = np.clip(0.5 - (distance - 40) / 40, 0, 1)
    image = np.random.default_rng(3).normal(100, 1, probability.shape)
    parameters = ChanVeseParameters(mu1=0, mu2=0, alpha=0, prior=1.0, levels=1, max_change=math.inf)
    start = probability > 0.3
    drawn = refine(image, start, (1, 1), parameters, probability, 0.3)
    moved = refine(image, start, (1, 1), parameters, probability)
    assert dice(drawn.mask, start) > 0.99
    assert dice(moved.mask, probability > 0.5) > 0.99 and moved.mask.sum() < 0.8 * start.sum()
    with pytest.raises(UsageError, match="neutral probability is 1"):
        refine(image, start, (1, 1), parameters, probability, 1.0)
