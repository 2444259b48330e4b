"""Diameters of convex hulls: every pair's distance, and shapes whose diameters are known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from BreastUSAILib.hull_3d import Hull, farthest_pair


def on_ellipsoid(number, half_axes, seed=0):
    directions = np.random.default_rng(seed).normal(size=(number, len(half_axes)))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True) * half_axes


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(2, 3),
    st.sampled_from([2, 30, 501, 1100]),
    st.sampled_from(["ball", "long", "cloud", "lattice", "clusters"]),
)
def test_the_farthest_pair_is_that_of_all_distances(seed, dimensions, number, kind):
    random = np.random.default_rng(seed)
    if kind in ("ball", "long"):
        points = on_ellipsoid(
            number, (9.0, 9.0, 9.0)[:dimensions] if kind == "ball" else (20.0, 5.0, 3.0)[:dimensions], seed
        )
    elif kind == "lattice":  # many pairs are equally far
        points = random.integers(-3, 4, (number, dimensions)).astype(float) * 0.3
    else:
        points = random.normal(size=(number, dimensions))
        if kind == "clusters":
            points = points * 0.01 + random.integers(0, 4, (number, 1)) * 100.0
    distances = cdist(points, points)
    assert farthest_pair(points) == np.unravel_index(int(distances.argmax()), distances.shape)


def test_points_that_are_all_one_have_a_pair():
    assert farthest_pair(np.full((600, 3), 4.0)) == (0, 0)


@pytest.mark.parametrize("half_axes", [(17.3, 8.6, 17.8), (25.0, 12.0, 24.0), (13.8, 13.8, 13.8)])
def test_an_ellipsoid_of_many_corners(half_axes):
    hull = Hull(on_ellipsoid(6000, half_axes))
    assert len(hull.corners) == 6000 and len(hull.edges) == 3 * 6000 - 6  # Euler's formula: of triangles alone
    # Corners lie apart by half a millimetre, so the longest chords end near the axes' ends.
    for found, half in zip(hull.diameters(), sorted(half_axes, reverse=True), strict=True):
        assert found == pytest.approx(2 * half, rel=0.01)
    assert hull.volume == pytest.approx(4 / 3 * math.pi * math.prod(half_axes), rel=0.005)


def test_a_box_with_points_inside():
    corners = np.array(np.meshgrid([0, 3.0], [0, 4.0], [0, 12.0])).reshape(3, -1).T
    hull = Hull(np.concatenate([corners, np.random.default_rng(0).uniform(0.5, 2.5, (50, 3))]))
    assert hull.volume == pytest.approx(144.0)
    assert np.array_equal(np.sort(hull.corners, axis=0), np.sort(corners, axis=0))
    major, second, third = hull.diameters()
    assert major == pytest.approx(13.0)
    # Across the diagonal, in the rectangle of 5 by 12 that it lies in; and across that, in the one of 3 by 4.
    assert second == pytest.approx(5 * 13 / 12)
    assert third == pytest.approx(3 * 5 / 4)
