"""Which components of a mask are kept."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from BreastUSAILib.components import keep_components
from BreastUSAILib.errors import UsageError


def _mask(shape, *boxes):
    mask = np.zeros(shape, bool)
    for box in boxes:
        mask[tuple(slice(a, b) for a, b in box)] = True
    return mask


BIG, MIDDLE, SMALL = ((2, 12), (2, 12)), ((24, 31), (24, 31)), ((18, 24), (0, 6))  # 100, 49 and 36 pixels


def test_components_below_forty_percent_of_the_largest_are_dropped():
    mask = _mask((60, 60), BIG, MIDDLE, SMALL)
    assert [int(m.sum()) for m in keep_components(mask, (1, 1), keep="all")] == [100, 49]
    assert [int(m.sum()) for m in keep_components(mask, (1, 1), keep="all", min_fraction=0.36)] == [100, 49, 36]


def test_central_keeps_the_one_closest_to_the_centre_and_largest_the_largest():
    mask = _mask((60, 60), BIG, MIDDLE, SMALL)
    (central,) = keep_components(mask, (1, 1))
    (largest,) = keep_components(mask, (1, 1), keep="largest")
    assert np.array_equal(central, _mask((60, 60), MIDDLE))
    assert np.array_equal(largest, _mask((60, 60), BIG))


def test_closest_is_measured_in_millimetres():
    # 10 rows or 14 columns from the centre: the spacing decides.
    mask = _mask((61, 61), ((38, 43), (28, 33)), ((28, 33), (42, 47)))
    (square,) = keep_components(mask, (1, 1))
    (tall,) = keep_components(mask, (2, 1))
    assert square[40, 30] and not square[30, 44]
    assert tall[30, 44] and not tall[40, 30]


def test_a_component_too_small_is_not_kept_though_it_is_central():
    mask = _mask((41, 41), ((0, 10), (0, 10)), ((18, 23), (18, 23)))
    (kept,) = keep_components(mask, (1, 1))
    assert kept[5, 5]


def test_volumes_and_diagonal_contact():
    mask = _mask((9, 9, 9), ((1, 4), (1, 4), (1, 4)), ((4, 6), (4, 6), (4, 6)))
    (kept,) = keep_components(mask, (3, 1, 1), keep="all")
    assert np.array_equal(kept, mask)


@pytest.mark.parametrize("keep", ["central", "largest", "all"])
def test_an_empty_mask_has_no_components(keep):
    assert keep_components(np.zeros((5, 5), bool), (1, 1), keep=keep) == []


@pytest.mark.parametrize(
    ("mask", "spacing", "options"),
    [
        (np.ones((4, 4)), (1, 1), {"keep": "some"}),
        (np.ones((4, 4)), (1,), {}),
        (np.ones((4, 4)), (1, 0), {}),
        (np.ones((4, 4)), (1, float("nan")), {}),
        (np.ones(4), (1,), {}),
        (np.ones((4, 4)), (1, 1), {"min_fraction": 1.5}),
    ],
)
def test_what_has_no_meaning_is_refused(mask, spacing, options):
    with pytest.raises(UsageError):
        keep_components(mask, spacing, **options)


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.floats(0, 1))
def test_parts_are_disjoint_subsets_ordered_by_size(mask, fraction):
    parts = keep_components(mask, (1.0, 0.5), keep="all", min_fraction=fraction)
    sizes = [int(p.sum()) for p in parts]
    assert sizes == sorted(sizes, reverse=True)
    assert bool(parts) == bool(mask.any())
    together = np.sum(parts, axis=0) if parts else np.zeros(mask.shape)
    assert together.max() <= 1 and not (together.astype(bool) & ~mask).any()
    if fraction == 0:
        assert np.array_equal(together.astype(bool), mask)
    for keep in ("central", "largest"):
        one = keep_components(mask, (1.0, 0.5), keep=keep, min_fraction=fraction)
        assert len(one) == min(1, len(parts))
        assert all(any(np.array_equal(one[0], p) for p in parts) for _ in one)


def test_a_faint_component_near_the_centre_does_not_displace_a_sure_one():
    mask = np.zeros((40, 60), bool)
    mask[15:25, 25:35] = mask[5:15, 45:55] = True
    probability = np.where(mask, 0.55, 0.1)
    probability[5:15, 45:55] = 0.95
    (central,) = keep_components(mask, (1, 1))
    assert central[20, 30]
    (sure,) = keep_components(mask, (1, 1), probability=probability, min_confidence=0.9)
    assert sure[10, 50] and not sure[20, 30]
    # 0.55 / 0.95 = 0.58: not fainter than that is near enough
    (central,) = keep_components(mask, (1, 1), probability=probability, min_confidence=0.5)
    assert central[20, 30]
    assert len(keep_components(mask, (1, 1), keep="all", probability=probability, min_confidence=0.9)) == 2
    with pytest.raises(UsageError, match="min_confidence is 2"):
        keep_components(mask, (1, 1), min_confidence=2)


def test_of_too_many_the_surest_are_left_in_the_order_of_their_size():
    mask = _mask((60, 60), BIG, MIDDLE, SMALL)
    probability = np.where(mask, 0.6, 0.1)
    probability[24:31, 24:31] = 0.9
    kept = keep_components(mask, (1, 1), keep="all", min_fraction=0.36, probability=probability, most=2)
    assert [int(m.sum()) for m in kept] == [100, 49]
    probability[18:24, :6] = 0.8
    kept = keep_components(mask, (1, 1), keep="all", min_fraction=0.36, probability=probability, most=2)
    assert [int(m.sum()) for m in kept] == [49, 36]
    assert [int(m.sum()) for m in keep_components(mask, (1, 1), keep="all", min_fraction=0.36, most=1)] == [100]


def test_ten_thousand_specks_take_the_memory_of_those_that_are_left():
    """A full mask was made of each: 1.6 GB of an image of 400 x 400 pixels."""
    mask = np.zeros((400, 400), bool)
    mask[1::4, 1::4] = True
    tracemalloc.start()
    kept = keep_components(mask, (1, 1), keep="all", most=255)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(kept) == 255 and peak < 100e6
