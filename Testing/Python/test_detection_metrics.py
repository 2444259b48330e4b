"""Figures of merit of detection against hand-worked numbers and plain loops that were written independently."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from BreastUSAILib.evaluation import detection_metrics as dm
from BreastUSAILib.evaluation.bootstrap import percentile_intervals, weights_of
from BreastUSAILib.evaluation.classification_metrics import binary_figures, roc_curve
from BreastUSAILib.evaluation.metrics import roc_auc
from BreastUSAILib.findings import Box


def box(x, y=0, z=0, size=10):
    """A cube with its low corner at (x, y, z)."""
    return [x, y, z, x + size, y + size, z + size]


def volume(lesions, candidates):
    """From boxes, and pairs of box and score."""
    return dm.VolumeBoxes(
        np.array(lesions, float).reshape(-1, 6),
        np.array([b for b, _ in candidates], float).reshape(-1, 6),
        np.array([s for _, s in candidates], float),
    )


# --- boxes -----------------------------------------------------------------------------------------------------------


def test_iou_by_hand():
    a = np.array([box(0), box(0, size=20), [0, 0, 0, 0, 0, 0]], float)
    b = np.array([box(5), box(10), box(0)], float)
    # 5 of 15 along one axis; touching is no overlap; a cube in one of eight times its volume.
    np.testing.assert_allclose(
        dm.iou_matrix(a, b),
        [[500 / 1500, 0, 1], [1000 / 8000, 1000 / 8000, 1 / 8], [0, 0, 0]],
    )
    assert dm.iou_matrix(np.zeros((0, 6)), b).shape == (0, 3)


edges = st.lists(st.integers(0, 6), min_size=2, max_size=2, unique=True).map(sorted)
boxes = st.tuples(edges, edges, edges).map(lambda e: [e[0][0], e[1][0], e[2][0], e[0][1], e[1][1], e[2][1]])


@settings(max_examples=80, deadline=None)
@given(boxes, boxes)
def test_iou_is_that_of_counted_voxels(a, b):
    def voxels(edges):
        return set(itertools.product(*(range(edges[i], edges[i + 3]) for i in range(3))))

    expected = len(voxels(a) & voxels(b)) / len(voxels(a) | voxels(b))
    assert dm.iou_matrix(np.array([a], float), np.array([b], float))[0, 0] == pytest.approx(expected)


def test_boxes_of_an_oblique_image_are_compared_along_its_own_axes():
    turned = np.array([[0.36, 0.48, -0.8], [-0.8, 0.60, 0.0], [0.48, 0.64, 0.60]])
    centres = np.array([[1.0, 2.0, 3.0], [5.0, 2.0, 3.0]])
    found = dm.extents([Box(tuple(turned @ c), (8, 6, 4)) for c in centres], turned.ravel())
    np.testing.assert_allclose(found, [[-3, -1, 1, 5, 5, 5], [1, -1, 1, 9, 5, 5]], atol=1e-12)
    assert dm.iou_matrix(found[:1], found[1:])[0, 0] == pytest.approx(4 / 12)
    assert dm.extents([], turned.ravel()).shape == (0, 6)


def test_the_torch_and_the_numpy_iou_agree():
    torch = pytest.importorskip("torch")
    from BreastUSAILib.boxes import iou_matrix

    random = np.random.default_rng(3)
    low = random.uniform(0, 10, (2, 20, 3))
    first, second = np.concatenate([low, low + random.uniform(0, 8, (2, 20, 3))], -1)
    found = iou_matrix(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    np.testing.assert_allclose(found, dm.iou_matrix(first, second), atol=1e-9)


# --- the FROC curve, by hand -----------------------------------------------------------------------------------------

# Four volumes with three lesions. By falling score: hit A, alarm, hit A again, alarm and hit B at once, alarm; C is missed.
BY_HAND = [
    volume([box(0)], [(box(1), 0.9), (box(2), 0.7)]),
    volume([box(0), box(50)], [(box(52), 0.6), (box(100), 0.8)]),
    volume([], [(box(0), 0.6), (box(30), 0.2)]),
    volume([], []),
]


def test_froc_by_hand():
    hits = dm.match(BY_HAND, dm.CHALLENGE_IOU)
    assert hits.volumes == 4 and hits.lesions == 3
    assert hits.lesion.tolist() == [0, 0, 2, -1, -1, -1]
    curve = dm.froc(hits)
    assert curve.thresholds.tolist() == [np.inf, 0.9, 0.8, 0.6, 0.2]
    np.testing.assert_allclose(curve.false_positives, [0, 0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(curve.sensitivity, [0, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    # At 0.125: still 1/3; at 0.375: half-way from 1/3 to 2/3; beyond the end: 2/3.
    np.testing.assert_allclose(curve.at([0, 0.125, 0.25, 0.375, 0.5, 8]), [1 / 3, 1 / 3, 1 / 3, 0.5, 2 / 3, 2 / 3])
    assert curve.score == pytest.approx((1 / 3 + 1 / 3 + 5 * 2 / 3) / 7)


def test_the_figures_of_the_paper_by_hand():
    # At scores from 0.6: A with IoU 9/11 (the better of two), B with 8/12, two alarms in four volumes.
    hits = dm.match([dm.at_operating_point(v, 0.6) for v in BY_HAND], dm.PAPER_IOU)
    assert dm.sensitivity(hits) == pytest.approx(2 / 3)
    assert dm.false_positives(hits) == pytest.approx(2 / 4)
    assert dm.mean_iou(hits) == pytest.approx((9 / 11 + 8 / 12) / 2)
    # One box a volume: B's is not the first of its volume.
    hits = dm.match([dm.at_operating_point(v, 0.0, most=1) for v in BY_HAND], dm.PAPER_IOU)
    assert dm.sensitivity(hits) == pytest.approx(1 / 3) and dm.false_positives(hits) == pytest.approx(2 / 4)


def test_any_touch_is_a_hit_for_the_paper_and_a_miss_for_the_challenge():
    slight = [volume([box(0)], [(box(9), 0.5)])]
    assert dm.sensitivity(dm.match(slight, dm.PAPER_IOU)) == 1 and dm.false_positives(dm.match(slight, dm.PAPER_IOU)) == 0
    hits = dm.match(slight, dm.CHALLENGE_IOU)
    assert dm.sensitivity(hits) == 0 and dm.false_positives(hits) == 1 and hits.iou[0] == pytest.approx(1 / 19)
    touching = dm.match([volume([box(0)], [(box(10), 0.5)])], dm.PAPER_IOU)
    assert dm.sensitivity(touching) == 0 and dm.false_positives(touching) == 1 and np.isnan(dm.mean_iou(touching))


def test_an_iou_of_exactly_the_limit_is_no_hit():
    # Two of length 13 that share 6 have 6 / 20.
    a, b = [0, 0, 0, 13, 1, 1], [7, 0, 0, 20, 1, 1]
    assert dm.iou_matrix(np.array([a], float), np.array([b], float))[0, 0] == 0.3
    assert dm.match([volume([a], [(b, 0.5)])], dm.CHALLENGE_IOU).lesion.tolist() == [-1]


def test_a_candidate_belongs_to_the_lesion_that_it_overlaps_most():
    both = volume([box(0), box(8)], [(box(3), 0.9), (box(6), 0.8)])
    hits = dm.match([both], dm.PAPER_IOU)
    assert hits.lesion.tolist() == [0, 1] and hits.surest().tolist() == [0, 1]
    one = dm.match([volume([box(0), box(8)], [(box(3), 0.9)])], dm.PAPER_IOU)
    assert dm.sensitivity(one) == 0.5


def test_the_surest_candidate_of_a_lesion():
    hits = dm.match([volume([box(0), box(90)], [(box(1), 0.4), (box(2), 0.8), (box(3), 0.8)])], dm.PAPER_IOU)
    assert hits.surest().tolist() == [1, -1]
    np.testing.assert_allclose(hits.lesion_iou, [9 / 11, 0])


def test_lesions_of_one_kind():
    hits = dm.match(BY_HAND, dm.CHALLENGE_IOU)
    assert dm.sensitivity(hits, among=[True, False, False]) == 1
    assert dm.sensitivity(hits, among=[False, True, False]) == 0
    assert np.isnan(dm.sensitivity(hits, among=[False] * 3))
    assert dm.froc(hits, among=np.array([False, True, True])).sensitivity[-1] == 0.5


def test_nothing_at_all():
    empty = dm.match([], dm.PAPER_IOU)
    assert np.isnan([dm.sensitivity(empty), dm.false_positives(empty), dm.mean_iou(empty), dm.froc(empty).score]).all()
    silent = dm.match([volume([box(0)], [])], dm.PAPER_IOU)
    assert dm.sensitivity(silent) == 0 and dm.false_positives(silent) == 0 and dm.froc(silent).score == 0
    healthy = dm.match([volume([], [(box(0), 0.5)])], dm.PAPER_IOU)
    assert np.isnan(dm.sensitivity(healthy)) and dm.false_positives(healthy) == 1


# --- against plain loops ---------------------------------------------------------------------------------------------


def plain_iou(a, b):
    common = 1.0
    for axis in range(3):
        common *= max(0.0, min(a[axis + 3], b[axis + 3]) - max(a[axis], b[axis]))
    sizes = [np.prod([e[axis + 3] - e[axis] for axis in range(3)]) for e in (a, b)]
    return common / (sum(sizes) - common)


def plain_point(volumes, limit, threshold):
    """False positives a volume and sensitivity at one threshold, as the challenge's scorer counts."""
    alarms, found, lesions = 0, 0, 0
    for v in volumes:
        hit = set()
        for candidate, score in zip(v.candidates, v.scores, strict=True):
            if score < threshold:
                continue
            overlaps = [plain_iou(candidate, lesion) for lesion in v.lesions]
            if overlaps and max(overlaps) > limit:
                hit.add(int(np.argmax(overlaps)))
            else:
                alarms += 1
        found += len(hit)
        lesions += len(v.lesions)
    return alarms / len(volumes), found / lesions


def random_volumes(seed, number=12):
    random = np.random.default_rng(seed)
    made = []
    for _ in range(number):
        lesions = [box(*random.uniform(0, 40, 3)) for _ in range(random.integers(0, 3))]
        near = [(np.add(b, np.tile(random.normal(0, 3, 3), 2)), s) for b in lesions for s in random.integers(1, 9, 2) / 10]
        far = [(box(*random.uniform(0, 40, 3), size=8), s) for s in random.integers(1, 9, random.integers(0, 4)) / 10]
        made.append(volume(lesions, near + far))
    return made


@pytest.mark.parametrize("limit", [dm.PAPER_IOU, dm.CHALLENGE_IOU])
@pytest.mark.parametrize("seed", range(4))
def test_the_curve_is_that_of_plain_loops_over_thresholds(seed, limit):
    volumes = random_volumes(seed)
    curve = dm.froc(dm.match(volumes, limit))
    assert len(curve.thresholds) > 5
    points = [plain_point(volumes, limit, t) for t in curve.thresholds]
    np.testing.assert_allclose(np.c_[curve.false_positives, curve.sensitivity], points)
    for t in (0.35, 0.65):
        hits = dm.match([dm.at_operating_point(v, t) for v in volumes], limit)
        assert (dm.false_positives(hits), dm.sensitivity(hits)) == pytest.approx(plain_point(volumes, limit, t))


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_copies_of_volumes(seed):
    volumes = random_volumes(seed)
    drawn = np.random.default_rng(seed).integers(0, len(volumes), len(volumes))
    weights = weights_of(drawn)
    assert weights.sum() == len(volumes)
    once, copied = dm.match(volumes, 0.3), dm.match([volumes[i] for i in drawn], 0.3)
    for figure in (dm.sensitivity, dm.false_positives, dm.mean_iou, lambda *a: dm.froc(*a).score):
        assert figure(once, weights) == pytest.approx(figure(copied))


# --- benign and malignant --------------------------------------------------------------------------------------------


def test_binary_figures_by_hand():
    probability = np.array([0.9, 0.6, 0.4, 0.4, 0.1])
    malignant = np.array([True, False, True, False, False])
    figures = binary_figures(probability, malignant, 0.5)
    # Six pairs: 3 won by the first, 1 won, half of one, one lost by the third lesion.
    assert figures.auc == pytest.approx(4.5 / 6)
    assert (figures.accuracy, figures.sensitivity, figures.specificity) == (0.6, 0.5, pytest.approx(2 / 3))
    rates = roc_curve(probability, malignant)
    np.testing.assert_allclose(np.c_[rates], [[0, 0], [0, 0.5], [1 / 3, 0.5], [2 / 3, 1], [1, 1]])
    only_benign = binary_figures(probability, np.zeros(5, bool), 0.5)
    assert np.isnan([only_benign.auc, only_benign.sensitivity]).all() and only_benign.accuracy == 0.6


def test_scores_that_are_no_numbers_have_no_auc():
    assert np.isnan(roc_auc([np.nan, np.nan, 0.5], [True, False, False]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 3)), min_size=1, max_size=12))
def test_the_auc_is_the_share_of_pairs_in_order(rows):
    scores, positive, weights = (np.array(column) for column in zip(*rows, strict=True))
    pairs = [
        (weights[i] * weights[j], float(scores[i] > scores[j]) + 0.5 * float(scores[i] == scores[j]))
        for i in range(len(rows))
        for j in range(len(rows))
        if positive[i] and not positive[j]
    ]
    total = sum(weight for weight, _ in pairs)
    found = roc_auc(scores, positive, weights)
    if not total:
        assert np.isnan(found)
        return
    assert found == pytest.approx(sum(weight * won for weight, won in pairs) / total)
    copies = np.repeat(np.arange(len(rows)), weights)
    assert found == pytest.approx(roc_auc(scores[copies], positive[copies]))
    if (weights == 1).all():
        false_rate, true_rate = roc_curve(scores, positive)
        assert found == pytest.approx(np.diff(false_rate) @ (true_rate[1:] + true_rate[:-1]) / 2)


# --- bootstrap -------------------------------------------------------------------------------------------------------


def test_the_bootstrap_of_several_figures_at_once():
    values = np.random.default_rng(1).normal(3.0, 1.0, 80)

    def both(drawn):
        return np.array([values[drawn].mean(), weights_of(drawn) @ values / len(values), np.nan])

    low, high = percentile_intervals(80, both)
    assert low[0] == pytest.approx(low[1]) and high[0] == pytest.approx(high[1]) and np.isnan([low[2], high[2]]).all()
    half = 1.96 * values.std() / np.sqrt(80)
    assert (low[0], high[0]) == (
        pytest.approx(values.mean() - half, abs=0.2 * half),
        pytest.approx(values.mean() + half, abs=0.2 * half),
    )


def test_draws_that_define_no_figure_are_left_out():
    # One malignant lesion in eight: a third of all draws have none, and their AUC is undefined.
    scores, malignant = np.arange(8.0), np.arange(8) == 7
    low, high = percentile_intervals(8, lambda drawn: roc_auc(scores, malignant, weights_of(drawn)))
    assert low == high == 1.0
    assert np.isnan(percentile_intervals(0, lambda drawn: 1.0)).all()


def test_one_group_says_nothing_of_an_interval():
    """All draws of one volume are that volume: an interval without width would pass for certainty."""
    low, high = percentile_intervals(1, lambda drawn: np.array([1.0, 0.5]))
    assert low.shape == high.shape == (2,) and np.isnan([low, high]).all()
    assert np.isnan(percentile_intervals(1, lambda drawn: 1.0)).tolist() == [True, True]
    assert percentile_intervals(2, lambda drawn: 1.0) == (1.0, 1.0)
