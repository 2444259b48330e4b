"""Means over blocks against numpy's, voxel by voxel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from BreastUSAILib import pooling
from BreastUSAILib.pooling import block_means


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 4)), min_size=2, max_size=3),
    st.sampled_from([np.uint8, np.int16, np.float32, np.float64]),
    st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_each_value_is_the_mean_of_its_block(axes, kind, seed):
    shape, factors = zip(*axes, strict=True)
    values = np.random.default_rng(seed).integers(0, 256, shape).astype(kind)
    found = block_means(values, factors)
    assert found.dtype == np.float32 and found.shape == tuple(-(-n // f) for n, f in axes)
    padded = np.pad(values.astype(float), [(0, -n % f) for n, f in axes], mode="edge")
    for place in np.ndindex(found.shape):
        block = padded[tuple(slice(i * f, i * f + f) for i, f in zip(place, factors, strict=True))]
        assert found[place] == pytest.approx(block.mean(), rel=1e-6)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("order", ["C", "F"])
def test_slabs_of_any_size_say_the_same(monkeypatch, kind, order):
    values = np.random.default_rng(1).integers(0, 256, (14, 10, 12)).astype(kind, order=order)
    whole = block_means(values, (2, 2, 2))
    for slab, threaded in ((500, 1 << 25), (500, 1), (1, 1)):
        monkeypatch.setattr(pooling, "_SLAB", slab)
        monkeypatch.setattr(pooling, "_THREADED", threaded)
        for threads in ("1", "2", "3", "50", "many"):
            monkeypatch.setenv("OMP_NUM_THREADS", threads)
            assert np.array_equal(block_means(values, (2, 2, 2)), whole)
    assert whole[3, 2, 1] == values[6:8, 4:6, 2:4].astype(float).mean().astype(np.float32)


def test_halving_eight_bits_is_exact():
    values = np.random.default_rng(0).integers(0, 256, (8, 10, 12), dtype=np.uint8)
    blocks = values.reshape(4, 2, 5, 2, 6, 2).sum((1, 3, 5))
    assert np.array_equal(block_means(values, (2, 2, 2)), blocks / 8)
