"""Masses that reach under the breast push the chest wall down."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from BreastUSAILib.phantom.anatomy import build_anatomy
from BreastUSAILib.phantom.grids import PhantomGrid
from BreastUSAILib.phantom.mass_effect import displacement, make_room
from BreastUSAILib.phantom.randomness import Stream, open_stream
from BreastUSAILib.phantom.scene import Placed

GRID = PhantomGrid((100, 50, 90), (1.0, 1.0, 1.0))


def ball(radius: int, at: tuple[int, int, int]) -> Placed:
    """A ball of so many mm about a voxel (depth, slice, lateral)."""
    line = np.arange(-radius, radius + 1)
    mask = line[:, None, None] ** 2 + line[:, None] ** 2 + line**2 <= radius * radius
    return Placed(SimpleNamespace(mask=mask), tuple(c - radius for c in at))


def test_only_what_is_in_the_way_moves():
    fascia = np.full((90, 100), 30.0, np.float32)
    assert displacement([ball(5, (20, 45, 50))], fascia, GRID) is None
    push = displacement([ball(8, (25, 45, 50))], fascia, GRID)  # its lowest voxel ends at 34 mm: 4.5 mm with the clearance
    assert push.dtype == np.float32 and push.min() >= 0
    assert 3.5 < push[45, 50] <= 4.5 and push.max() <= 4.5
    assert push[:15].max() < 0.05 and push[:, :15].max() < 0.05  # nothing moves far away
    steps = [np.abs(np.diff(push, axis=axis)).max() for axis in (0, 1)]
    assert max(steps) < 0.8  # bent, not broken
    assert displacement([ball(15, (30, 45, 50))], fascia, GRID).max() <= 6.0  # deeper, it grows into the muscle


def test_layers_and_ribs_give_way_in_order():
    before, after = (build_anatomy(GRID, "b", False, open_stream(4, Stream.ANATOMY)) for _ in range(2))
    depth = int(before.layers.fascia[45, 50])
    make_room(after, [ball(7, (depth, 45, 50))], GRID)
    layers, old = after.layers, before.layers
    assert layers.fascia[45, 50] > old.fascia[45, 50] + 4
    assert np.array_equal(layers.fascia[:10], old.fascia[:10]) and np.array_equal(layers.skin, old.skin)
    order = (layers.skin, layers.gland, layers.retromammary, layers.fascia, layers.wall, layers.pleura)
    assert all((lower >= upper - 1e-3).all() for upper, lower in zip(order, order[1:], strict=False))
    moved = np.abs(layers.fascia - old.fascia).max(axis=1) > 0
    rows = [a.rows(depth, GRID.size[1]) for a in (before, after)]
    assert not np.array_equal(rows[0].specular[:, moved], rows[1].specular[:, moved])  # what is painted has moved as well
