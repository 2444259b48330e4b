"""What was found is looked at again from nearer: which part of the image, and what the looks amount to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from BreastUSAILib.nearer import LEAST_SIDE, followed, looked_again, mean_of_looks, square_about


def _region(shape, top, left, height, width):
    region = np.zeros(shape, bool)
    region[top : top + height, left : left + width] = True
    return region


def test_the_square_about_a_region_by_hand():
    region = _region((200, 300), 80, 100, 40, 60)  # the middle is (100, 130); the longer side 60
    rows, columns = square_about(region, 2.0)
    assert (rows.start, rows.stop, columns.start, columns.stop) == (40, 160, 70, 190)
    # Pixels twice as high as wide: the region is 80 high in the width's pixels; 160 / 2 rows and 160 columns.
    rows, columns = square_about(region, 2.0, pixel_aspect=2.0)
    assert (rows.start, rows.stop, columns.start, columns.stop) == (60, 140, 50, 210)


def test_a_speck_has_surroundings_and_the_image_an_end():
    rows, columns = square_about(_region((200, 300), 100, 150, 1, 1), 2.0)
    assert rows.stop - rows.start == pytest.approx(2 * LEAST_SIDE, abs=1)
    rows, columns = square_about(_region((50, 60), 0, 40, 30, 20), 3.0)
    assert (rows.start, rows.stop, columns.start, columns.stop) == (0, 50, 5, 60)


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 90), st.integers(1, 120), st.data())
def test_the_part_holds_the_region_and_lies_in_the_image(height, width, data):
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    region = _region(
        (height, width), top, left, data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))
    )
    aspect = data.draw(st.floats(0.2, 5))
    window = square_about(region, data.draw(st.floats(1.0, 8)), aspect)
    assert region[window].sum() == region.sum()
    assert all(0 <= part.start < part.stop <= n for part, n in zip(window, region.shape, strict=True))


def test_each_pixel_has_the_mean_of_the_looks_that_it_lay_in():
    first = np.full((4, 4), 0.2, np.float32)
    looks = [((slice(0, 2), slice(0, 4)), np.full((2, 4), 0.8)), ((slice(1, 3), slice(1, 2)), np.full((2, 1), 0.5))]
    mean = mean_of_looks(first, looks)
    assert mean[3, 0] == pytest.approx(0.2) and mean[0, 0] == pytest.approx(0.5) and mean[1, 1] == pytest.approx(0.5)
    assert mean[2, 1] == pytest.approx(0.35) and mean.dtype == np.float32
    assert (first == np.float32(0.2)).all()
    assert np.array_equal(mean_of_looks(first, []), first)


def test_each_region_is_looked_at_from_each_distance():
    asked = []

    def look(window):
        asked.append(window)
        return np.ones((window[0].stop - window[0].start, window[1].stop - window[1].start))

    regions = [_region((100, 100), 10, 10, 20, 20), _region((100, 100), 60, 60, 30, 30)]
    mean = looked_again(np.zeros((100, 100)), regions, (1.5, 2.0), look)
    assert asked == [square_about(r, z) for r in regions for z in (1.5, 2.0)]
    assert mean[20, 20] == pytest.approx(2 / 3) and mean[99, 0] == 0
    assert not looked_again(np.zeros((9, 9)), [], (2.0,), look).any()


def test_looking_again_tells_how_far_it_is_and_can_be_ended():
    regions, told, looks = [_region((60, 60), 5, 5, 10, 10), _region((60, 60), 40, 40, 10, 10)], [], []

    def look(window):
        looks.append(window)
        return np.ones((window[0].stop - window[0].start, window[1].stop - window[1].start))

    looked_again(np.zeros((60, 60)), regions, (1.5, 2.0), look, progress=told.append)
    assert told == [0.0, 0.25, 0.5, 0.75]

    def cancel(done):
        if done >= 0.5:
            raise KeyboardInterrupt

    looks.clear()
    with pytest.raises(KeyboardInterrupt):
        looked_again(np.zeros((60, 60)), regions, (1.5, 2.0), look, progress=cancel)
    assert len(looks) == 2


def test_a_region_is_followed_and_nothing_comes_in_its_place():
    region = _region((80, 80), 10, 10, 20, 20)
    moved, other = _region((80, 80), 15, 15, 20, 20), _region((80, 80), 36, 36, 40, 40)
    ((found, confirmed),) = followed(np.where(moved | other, 0.9, 0.1), 0.5, [region])
    assert confirmed and np.array_equal(found, moved)  # the other is larger and nearer to the middle
    # It fell in two: the part that shares more with it.
    parts = _region((80, 80), 10, 10, 20, 6), _region((80, 80), 10, 18, 20, 12)
    ((found, _),) = followed(np.where(parts[0] | parts[1], 0.9, 0.1), 0.5, [region])
    assert np.array_equal(found, parts[1])


def test_what_is_not_confirmed_stays_and_what_grew_together_is_one():
    first, second = _region((80, 80), 10, 10, 20, 20), _region((80, 80), 50, 50, 20, 20)
    ((found, confirmed),) = followed(np.full((80, 80), 0.4), 0.5, [first])
    assert not confirmed and np.array_equal(found, first)
    both = _region((80, 80), 10, 10, 60, 60)
    ((found, confirmed),) = followed(np.where(both, 0.9, 0.0), 0.5, [first, second])
    assert confirmed and np.array_equal(found, both)
    assert [c for _, c in followed(np.where(first, 0.9, 0.0), 0.5, [second, first])] == [False, True]
    assert followed(np.zeros((9, 9)), 0.5, []) == []
