"""Letterbox: where pixels go and that they come back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from BreastUSAILib.letterbox import Letterbox, standardise, to_unit_range


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([32, 128, 192]), st.floats(0.3, 3))
def test_fits_keeps_the_aspect_and_comes_back_at_the_same_size(height, width, size, aspect):
    box = Letterbox.fit((height, width), size, aspect)
    assert max(box.scaled) == size and min(box.scaled) >= 1
    factor = size / max(height * aspect, width)
    assert abs(box.scaled[0] - height * aspect * factor) <= 1 and abs(box.scaled[1] - width * factor) <= 1
    placed = box.place(np.ones((height, width)))
    assert placed.shape == (1, 1, size, size)
    torch.testing.assert_close(placed, box.valid())
    torch.testing.assert_close(box.restore(placed), torch.ones(1, 1, height, width))


def test_a_disc_comes_back_in_its_place():
    y, x = np.mgrid[:230, :310]
    disc = ((y - 90.0) ** 2 + (x - 200.0) ** 2 < 40**2).astype(np.float32)
    box = Letterbox.fit(disc.shape, 192)
    found = box.restore(box.place(disc))[0, 0].numpy() > 0.5
    overlap = 2 * (found & (disc > 0)).sum() / (found.sum() + disc.sum())
    assert overlap > 0.985
    assert abs(y[found].mean() - 90) < 0.3 and abs(x[found].mean() - 200) < 0.3


@pytest.mark.parametrize("dtype,scale", [(np.uint8, 1), (np.uint16, 200), (np.float32, 1e-3), (np.float64, 1e6)])
def test_intensity_range_does_not_matter(dtype, scale):
    image = np.random.default_rng(0).integers(0, 256, (40, 50))
    np.testing.assert_allclose(to_unit_range((image * scale).astype(dtype)), to_unit_range(image), atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    exponent=st.floats(-250, 307.9),
    offset=st.floats(-1, 1),
    dtype=st.sampled_from([np.float64, np.float32]),
    seed=st.integers(0, 99),
)
def test_levels_survive_any_scale(exponent, offset, dtype, seed):
    """Nothing is lost to a cast, an overflow or an offset."""
    levels = np.random.default_rng(seed).integers(0, 256, (40, 50)) / 255
    exponent = exponent if dtype == np.float64 else np.clip(exponent, -30, 38.2)
    image = ((levels - 0.5 + offset / 2) * 10.0**exponent).astype(dtype)
    found = to_unit_range(image)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, to_unit_range(levels), atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.int64])
@pytest.mark.parametrize("offset", [1e6, -2e9])
def test_levels_far_from_zero_survive(dtype, offset):
    levels = np.random.default_rng(0).integers(0, 256, (40, 50)) * (0.001 if dtype == np.float64 else 1)
    np.testing.assert_allclose(to_unit_range((levels + offset).astype(dtype)), to_unit_range(levels), atol=1e-3)


def test_the_input_is_left_as_it_is():
    image = np.arange(400, dtype=np.float32).reshape(20, 20)
    to_unit_range(image)
    np.testing.assert_array_equal(image, np.arange(400).reshape(20, 20))


def test_constant_image_becomes_zero():
    assert not to_unit_range(np.full((5, 5), 7)).any()


def test_a_nearly_constant_image_keeps_its_few_bright_pixels():
    image = np.zeros((100, 100))
    image[3, 4] = 9
    assert to_unit_range(image)[3, 4] == 1


def test_standardise_uses_the_valid_pixels_alone():
    images = torch.rand(2, 1, 16, 16) * 3 + 5
    valid = torch.zeros(2, 1, 16, 16)
    valid[..., 4:12, :] = 1
    result = standardise(images, valid)
    inside = result[valid > 0].view(2, -1)
    assert inside.mean(1).abs().max() < 1e-4 and (inside.std(1) - 1).abs().max() < 0.01
    assert (result[valid == 0] == 0).all()
