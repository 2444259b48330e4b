"""Boxes and anchors against brute force and counted by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from BreastUSAILib import boxes as b
from BreastUSAILib.anchors import IGNORED, NEGATIVE, AnchorRule, anchor_grid, combinations, label_anchors

corner = st.integers(-6, 12)
side = st.integers(0, 8)


@st.composite
def some_boxes(draw, least=0, most=8, flat=True):
    rows = []
    for _ in range(draw(st.integers(least, most))):
        first = [draw(corner) for _ in range(3)]
        rows.append([*first, *(f + draw(side if flat else st.integers(1, 8)) for f in first)])
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)


def voxels(box):
    z1, y1, x1, z2, y2, x2 = (int(v) for v in box)
    return {(z, y, x) for z in range(z1, z2) for y in range(y1, y2) for x in range(x1, x2)}


@given(some_boxes(), some_boxes())
@settings(max_examples=50, deadline=None)
def test_iou_is_that_of_the_voxels(first, second):
    found = b.iou_matrix(first, second)
    assert found.shape == (len(first), len(second))
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            union = len(voxels(one) | voxels(other))
            expected = len(voxels(one) & voxels(other)) / union if union else 0.0
            assert float(found[i, j]) == pytest.approx(expected, abs=1e-6)


def brute_force_suppression(boxes, scores, overlap, most):
    left = sorted(range(len(boxes)), key=lambda i: (-float(scores[i]), i))
    kept = []
    while left and (most is None or len(kept) < most):
        best, *left = left
        kept.append(best)
        left = [i for i in left if float(b.paired_iou(boxes[i], boxes[best])) <= overlap]
    return kept


@given(some_boxes(), st.data(), st.sampled_from([0.0, 0.1, 0.3, 0.7]), st.sampled_from([None, 1, 3]))
@settings(max_examples=100, deadline=None)
def test_suppression_is_that_of_brute_force(boxes, data, overlap, most):
    # Few different scores, so that equal ones are met.
    scores = torch.tensor([data.draw(st.sampled_from([0.1, 0.5, 0.9])) for _ in boxes])
    kept = b.non_maximum_suppression(boxes, scores, overlap, most)
    assert kept.tolist() == brute_force_suppression(boxes, scores, overlap, most)


def test_suppression_by_hand():
    # The second overlaps the first by 2/3, the third touches it, the fourth is the first once more.
    boxes = torch.tensor([[0, 0, 0, 4, 4, 5], [0, 0, 1, 4, 4, 6], [0, 0, 5, 4, 4, 9], [0, 0, 0, 4, 4, 5]]).float()
    scores = torch.tensor([0.5, 0.9, 0.1, 0.5])
    assert b.non_maximum_suppression(boxes, scores, 0.5).tolist() == [1, 2]
    assert b.non_maximum_suppression(boxes, scores, 0.7).tolist() == [1, 0, 2]


@given(some_boxes(1, 6, flat=False), some_boxes(1, 1, flat=False))
@settings(max_examples=50, deadline=None)
def test_decoding_undoes_encoding(boxes, anchor):
    anchors = anchor.expand(len(boxes), 6)
    torch.testing.assert_close(b.decode(b.encode(boxes, anchors), anchors), boxes, rtol=1e-4, atol=1e-4)


def test_encoding_by_hand():
    anchor = torch.tensor([0.0, 0.0, 0.0, 2.0, 4.0, 8.0])
    box = torch.tensor([1.0, 1.0, -1.0, 5.0, 3.0, 7.0])  # centre (3, 2, 3) from (1, 2, 4); size (4, 2, 8) from (2, 4, 8)
    expected = torch.tensor([1.0, 0.0, -0.125, 2.0, 0.5, 1.0])
    expected[3:] = expected[3:].log()
    torch.testing.assert_close(b.encode(box, anchor), expected)


def test_wild_parameters_stay_finite():
    assert torch.isfinite(b.decode(torch.full((1, 6), 1e4), torch.tensor([[0.0, 0, 0, 1, 1, 1]]))).all()


@given(some_boxes())
@settings(max_examples=50, deadline=None)
def test_clipping_keeps_what_lies_inside(boxes):
    shape = (5, 6, 7)
    inside = {(z, y, x) for z in range(5) for y in range(6) for x in range(7)}
    for before, after in zip(boxes, b.clip(boxes, shape), strict=True):
        assert voxels(after) == voxels(before) & inside


def test_the_papers_anchors_are_125_a_cell():
    sizes = combinations((8, 16, 28, 40, 55))
    assert len(sizes) == len(set(sizes)) == 125
    assert (8, 55, 16) in sizes and (16, 8, 55) in sizes
    # 320 x 96 x 320 voxels at 8 a cell.
    assert len(anchor_grid((40, 12, 40), 8, sizes)) == 40 * 12 * 40 * 125


def test_anchors_lie_where_the_network_says():
    sizes = ((2.0, 4.0, 6.0), (1.0, 1.0, 1.0))
    grid = anchor_grid((2, 3, 5), 4, sizes)
    cell = (1 * 3 + 2) * 5 + 3  # z = 1, y = 2, x = 3
    assert grid[cell * 2].tolist() == [5.0, 8.0, 11.0, 7.0, 12.0, 17.0]
    assert grid[cell * 2 + 1].tolist() == [5.5, 9.5, 13.5, 6.5, 10.5, 14.5]
    along_each = anchor_grid((2, 3, 5), (4, 8, 2), sizes)
    assert along_each[cell * 2].tolist() == [5.0, 18.0, 4.0, 7.0, 22.0, 10.0]
    with pytest.raises(ValueError, match="one whole number, or one for each of z, y and x"):
        anchor_grid((2, 3, 5), (4, 8), sizes)


def _row(*starts, length=10.0):
    """Boxes of 10 x 1 x 1 (x, y, z) that begin at these x."""
    return torch.tensor([[0, 0, s, 1, 1, s + length] for s in starts]).float()


def test_labels_follow_the_rules():
    # Shifts of 0, 6, 7, 8.5 and 20: IoU 1, 4/16 = 0.25, 3/17 = 0.18, 1.5/18.5 = 0.08 and 0.
    labels = label_anchors(_row(0, 6, 7, 8.5, 20), _row(0), torch.tensor([2]))
    assert labels.state.tolist() == [2, 2, IGNORED, NEGATIVE, NEGATIVE]
    assert labels.overlap.tolist() == pytest.approx([1, 0.25, 3 / 17, 1.5 / 18.5, 0])


def test_every_lesion_has_its_best_anchor():
    labels = label_anchors(_row(0, 30, 60), _row(8.5, 60), torch.tensor([1, 2]))
    assert labels.state.tolist() == [1, NEGATIVE, 2]
    assert labels.lesion.tolist() == [0, 0, 1]


def test_the_k_best_are_positive_but_never_one_that_does_not_touch():
    labels = label_anchors(_row(7, 8, 9, 20), _row(0), torch.tensor([1]), AnchorRule(best=2))
    assert labels.state.tolist() == [1, 1, NEGATIVE, NEGATIVE]
    labels = label_anchors(_row(7, 20, 30), _row(0), torch.tensor([1]), AnchorRule(best=3))
    assert labels.state.tolist() == [1, NEGATIVE, NEGATIVE]


def test_a_claimed_anchor_stays_with_the_lesion_that_it_shows():
    # The first anchor is the best of both lesions; it shows the first by 1 and the second by 0.25.
    labels = label_anchors(_row(0, 40), _row(0, 6), torch.tensor([1, 2]))
    assert labels.state.tolist() == [1, NEGATIVE]
    assert labels.lesion.tolist() == [0, 0]


def test_without_lesions_all_is_background():
    labels = label_anchors(_row(0, 5), torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64))
    assert labels.state.tolist() == [NEGATIVE, NEGATIVE] and labels.overlap.tolist() == [0, 0]


def test_what_a_crop_shows_half_of_is_no_background():
    # An anchor within a large unsure lesion has a low IoU with it and is left out all the same.
    unsure = torch.tensor([[-10.0, -10, 0, 10, 10, 12]])
    labels = label_anchors(_row(0, 11, 30), torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64), unsure=unsure)
    assert labels.state.tolist() == [IGNORED, NEGATIVE, NEGATIVE]
    labels = label_anchors(_row(0, 30), _row(0), torch.tensor([1]), unsure=unsure)
    assert labels.state.tolist() == [1, NEGATIVE]
