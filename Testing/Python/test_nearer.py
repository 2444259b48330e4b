"""What was found is looked at again from nearer: which part of the image, and what the looks amount to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from BreastUSAILib.nearer import LEAST_SIDE, looked_again, mean_of_looks, square_about


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


def _full(window):
    return np.ones((window[0].stop - window[0].start, window[1].stop - window[1].start))


def _parts(mask_of):
    """What keeps all components above 0.5, the largest first, as `mask_of` chooses from them."""

    def keep(probability):
        labels, count = ndimage.label(probability > 0.5)
        return mask_of(sorted((labels == k for k in range(1, count + 1)), key=lambda m: -m.sum()))

    return keep


def test_each_region_is_looked_at_from_each_distance():
    asked, told = [], []
    regions = [_region((100, 100), 60, 60, 30, 30), _region((100, 100), 10, 10, 20, 20)]
    first = np.where(regions[0] | regions[1], 0.9, 0.0)

    def look(window):
        asked.append(window)
        return first[window]

    again = looked_again(first, _parts(lambda parts: parts), (1.5, 2.0), look, progress=told.append)
    assert asked == [square_about(r, z) for r in regions for z in (1.5, 2.0)] and told == [0, 1 / 4, 2 / 4, 3 / 4]
    assert again.confirmed and all(np.array_equal(a, b) for a, b in zip(again.regions, regions, strict=True))
    np.testing.assert_allclose(again.probability, first, atol=1e-6)
    nothing = looked_again(np.zeros((9, 9)), _parts(lambda parts: parts), (2.0,), look)
    assert nothing.regions == [] and nothing.confirmed and not nothing.probability.any()
    once = looked_again(first, _parts(lambda parts: parts), (), look)
    assert len(asked) == 4 and len(once.regions) == 2 and once.confirmed


def test_looking_again_can_be_ended():
    looks = []

    def cancel(done):
        if done > 0:
            raise KeyboardInterrupt

    first = np.where(_region((60, 60), 5, 5, 10, 10) | _region((60, 60), 40, 40, 10, 10), 0.9, 0.0)
    with pytest.raises(KeyboardInterrupt):
        looked_again(first, _parts(lambda parts: parts), (1.5, 2.0), lambda w: looks.append(w) or _full(w), progress=cancel)
    assert len(looks) == 1


@pytest.mark.parametrize("is_there", [True, False])
def test_what_comes_in_the_place_of_a_lesion_is_looked_at_as_well(is_there):
    """From nearer the first is smaller, so that the other is the larger one; that one is looked at before it is believed."""
    first, other = _region((200, 200), 20, 20, 40, 40), _region((200, 200), 130, 130, 36, 36)
    smaller = _region((200, 200), 20, 20, 20, 20)
    looks = []

    def look(window):
        looks.append(window)
        return np.where(smaller | other if is_there else smaller, 0.9, 0.0)[window]

    # 0.45 is the mean of 0.9 and nothing: what one look alone sees goes.
    again = looked_again(np.where(first | other, 0.9, 0.0), _parts(lambda parts: parts[:1]), (1.5,), look)
    assert looks == [square_about(first, 1.5), square_about(other, 1.5)]
    assert again.confirmed and len(again.regions) == 1
    assert np.array_equal(again.regions[0], other if is_there else smaller)


def test_what_is_not_confirmed_stays():
    first = _region((80, 80), 10, 10, 20, 20)
    again = looked_again(np.where(first, 0.8, 0.0), _parts(lambda parts: parts), (2.0,), lambda window: 0 * _full(window))
    assert not again.confirmed and np.array_equal(again.regions[0], first) and again.probability.max() == pytest.approx(0.4)
