"""Non-maximum suppression in chunks against the plain rule, and against MONAI's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from BreastUSAILib import suppression
from BreastUSAILib.suppression import suppress


def scene(number, seed, crowded):
    """Boxes (n, 6) of lesion size in a volume, anywhere or in heaps, and scores (n,) of which some are equal."""
    random = np.random.default_rng(seed)
    side = random.uniform(6, 40, (number, 3))
    if crowded:
        heaps = random.uniform(0, 200, (max(3, number // 50), 3))
        at = heaps[random.integers(0, len(heaps), number)] + random.normal(size=(number, 3)) * 4
    else:
        at = random.uniform(0, 200, (number, 3))
    boxes = np.concatenate([at - side / 2, at + side / 2], axis=1).astype(np.float32)
    return boxes, random.integers(0, number, number).astype(np.float32) / number


def plain(boxes, scores, overlap, most):
    """One box at a time, in float32 as the function has it."""
    volumes = np.maximum(boxes[:, 3:] - boxes[:, :3], 0).prod(1)
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        others = boxes[kept].reshape(-1, 6)
        common = np.maximum(np.minimum(others[:, 3:], boxes[i, 3:]) - np.maximum(others[:, :3], boxes[i, :3]), 0).prod(
            1
        )
        union = np.maximum(volumes[kept] + volumes[i] - common, np.float32(1e-12))
        if not (common / union > np.float32(overlap)).any():
            kept.append(i)
    return kept[:most]


@given(
    st.integers(0, 400),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.sampled_from([None, 1, 7, 60]),
)
@settings(max_examples=60, deadline=None)
def test_it_is_the_plain_rule(number, seed, crowded, overlap, most):
    boxes, scores = scene(number, seed, crowded)
    found = suppress(boxes, scores, overlap, most)
    assert found.dtype == np.int64
    assert found.tolist() == plain(boxes, scores, overlap, most)


@pytest.mark.parametrize("most", [None, 5, 40])
def test_chunks_and_tiles_of_any_size_say_the_same(monkeypatch, most):
    boxes, scores = scene(700, 3, True)
    expected = plain(boxes, scores, 0.1, most)
    for name in ("_FIRST_CHUNK", "_LARGEST_CHUNK", "_HEAD", "_TILE"):
        monkeypatch.setattr(suppression, name, 13)
    assert suppress(boxes, scores, 0.1, most).tolist() == expected


@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("group", [1, 7, 500])
def test_boxes_in_groups_of_any_size_say_the_same(monkeypatch, overlap, group):
    boxes, scores = scene(900, 5, True)
    boxes[::50, 3:] = boxes[::50, :3] - 1  # ends before it begins
    boxes[7::90] = np.nan
    expected = plain(boxes, scores, overlap, None)
    for name, value in (("_MANY", 0), ("_LARGEST_CHUNK", 200), ("_GROUP", group)):
        monkeypatch.setattr(suppression, name, value)
    assert suppress(boxes, scores, overlap).tolist() == expected


def test_few_of_many_equal_scores_are_the_first():
    boxes, _ = scene(3000, 1, False)
    scores = np.full(3000, 0.5, np.float32)
    assert suppress(boxes, scores, 0.1, 4).tolist() == plain(boxes, scores, 0.1, 4)


@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize("most", [None, 100])
def test_it_is_monais(crowded, most):
    torch = pytest.importorskip("torch")
    monai = pytest.importorskip("monai.data.box_utils")
    boxes, scores = scene(600, 5, crowded)
    theirs = monai.non_max_suppression(torch.from_numpy(boxes), torch.from_numpy(scores), 0.1, most or -1)
    assert suppress(boxes, scores, 0.1, most).tolist() == theirs.tolist()
