"""Distances on a lattice beside those of every voxel, and echoes whose ratios are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from BreastUSAILib import echoes_3d
from BreastUSAILib.echoes_3d import Echoes, lattice_distances, within
from BreastUSAILib.errors import ImageError

FINE = np.array([0.5, 0.08, 0.2])  # z, y, x mm: volumes of automated breast ultrasound


def ball(radius, spacing, margin=0.0):
    axes = [np.arange(-int((radius + margin) / s), int((radius + margin) / s) + 1) * s for s in spacing]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    return np.sqrt(z**2 + y**2 + x**2)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 10_000),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.sampled_from([(0.5, 0.08, 0.2), (0.3, 0.3, 0.3), (0.2, 0.7, 0.4)]),
    st.tuples(*[st.integers(1, 4)] * 3),
    st.tuples(*[st.integers(-6, 3)] * 3),
)
def test_distances_of_the_lattice_are_those_of_all_voxels(seed, shape, spacing, steps, start):
    inside = np.random.default_rng(seed).random(shape) < 0.1
    inside[tuple(n // 2 for n in shape)] = True
    points = [3, 4, 5]
    found = lattice_distances(inside, np.array(spacing), 1.0, np.array(start), np.array(steps), points)
    whole = np.pad(~inside, 40, constant_values=True)
    distances = ndimage.distance_transform_edt(whole, sampling=spacing)
    places = [40 + a + k * np.arange(n) for a, k, n in zip(start, steps, points, strict=True)]
    assert found.shape == tuple(points)
    assert np.allclose(found, np.minimum(distances[np.ix_(*places)], 1.0), atol=1e-5)


@pytest.mark.parametrize("slab", [1 << 20, 3000])
def test_what_is_near_is_what_all_distances_say_but_for_a_hundredth_of_the_width(monkeypatch, slab):
    monkeypatch.setattr(echoes_3d, "_SLAB", slab)
    width, radius = 3.6, 9.0
    inside = ball(radius, FINE) <= radius
    assert np.all((width / 8 / FINE).astype(int) == (0, 5, 2))  # the lattice is coarser than the voxels
    margin = np.array([7, 45, 18])
    shape = tuple(
        int(n) for n in inside.shape + margin + (3, 20, 9)
    )  # to one side as far as the width, to the other less
    found = np.concatenate([near for _, near in within(inside, FINE, width, -margin, shape)])
    padded = np.pad(~inside, [(m, e) for m, e in zip(margin, (3, 20, 9), strict=True)], constant_values=True)
    distances = ndimage.distance_transform_edt(padded, sampling=FINE)
    assert found.shape == shape and 0.2 < found.mean() < 0.9
    wrong = found != (distances <= width)
    assert wrong.mean() < 0.005
    assert np.abs(distances[wrong] - width).max() < width / 256 + 1e-3


def test_on_a_coarse_grid_what_is_near_is_exact():
    inside = np.random.default_rng(4).random((6, 7, 8)) < 0.2
    spacing = np.array([0.425, 0.5, 0.384])
    for width in (0.425, 0.5, 1.2):
        found = np.concatenate(
            [near for _, near in within(inside, spacing, width, np.array([-3, -3, -3]), (12, 13, 14))]
        )
        distances = ndimage.distance_transform_edt(~np.pad(inside, 3), sampling=spacing)
        assert np.array_equal(found, distances <= width + 1e-6)


def test_the_shell_of_a_ball_has_the_mean_of_calculus():
    """Echoes that grow with the distance from the middle: the mean of r over a shell is 3/4 (b^4 - a^4) / (b^3 - a^3)."""
    radius, diameter = 9.0, 18.0
    outer = radius + 0.2 * diameter
    r = ball(outer, FINE, margin=1.0)
    mask = r <= radius
    place = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    inside = mask[tuple(slice(p[0], p[-1] + 1) for p in place)]
    first = np.array([p[0] for p in place])
    for echoes in ((10 * r).astype(np.float32), np.minimum(10 * r, 255).astype(np.uint8)):
        found = Echoes(echoes, first, inside, FINE).ratios(diameter)
        shell = 10 * 0.75 * (outer**4 - radius**4) / (outer**3 - radius**3)
        within_ball = 10 * 0.75 * radius
        cut = 0.5 if echoes.dtype == np.uint8 else 0.0  # whole grey levels, cut off
        assert found["contrast_ratio"] == pytest.approx((within_ball - cut) / (shell - cut), rel=0.005)
        deviation = 10 * radius * np.sqrt(3 / 5 - 9 / 16)
        assert found["echo_heterogeneity"] == pytest.approx(deviation / (within_ball - cut), rel=0.01)


def test_only_what_is_compared_must_be_finite():
    inside = np.ones((4, 5, 4), bool)
    echoes = np.full((20, 30, 20), 50.0)
    spacing = np.full(3, 0.5)
    for place, counts in (
        ((9, 11, 9), True),
        ((9, 9, 9), True),
        ((10, 18, 10), True),
        ((0, 0, 0), False),
        ((10, 29, 10), False),
    ):
        spoilt = echoes.copy()
        spoilt[place] = np.nan
        there = Echoes(spoilt, np.array([8, 10, 8]), inside, spacing)
        if counts:
            with pytest.raises(ImageError, match="not finite"):
                there.ratios(2.5)
        else:
            assert there.ratios(2.5)["posterior_ratio"] == pytest.approx(1.0)
