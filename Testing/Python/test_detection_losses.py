"""The losses of the detection network against numbers worked out by hand."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from BreastUSAILib import boxes as b
from BreastUSAILib.anchors import AnchorLabels, anchor_grid, label_anchors
from BreastUSAILib.networks.detection import DetectionNetwork
from BreastUSAILib.training import detection_losses as losses
from BreastUSAILib.training.detection_losses import DetectionLoss

positive_numbers = st.floats(0.01, 5)
shares = st.floats(0, 1)


def test_smooth_l1_by_hand():
    predicted = torch.tensor([[0.5, 2.0, 0, 0, 0, 0], [0, 0, 0, 0, 0, -3.0]])
    # beta 1: 0.5 * 0.25 + (2 - 0.5), and 3 - 0.5; beta 2: 0.25 / 4 + 4 / 4, and 3 - 1.
    assert losses.smooth_l1(predicted, torch.zeros(2, 6)).tolist() == pytest.approx([1.625, 2.5])
    assert losses.smooth_l1(predicted, torch.zeros(2, 6), beta=2.0).tolist() == pytest.approx([1.0625, 2.0])


def test_iou_weights_by_hand():
    # CE 1 and 2, IoU 0.25 and 1, eta 0.5: powers 0.5 and 1; sum(CE) / sum(power x CE) = 3 / 2.5 = 1.2.
    weights = losses.iou_weights(torch.tensor([1.0, 2.0]), torch.tensor([0.25, 1.0]), 0.5)
    assert weights.tolist() == pytest.approx([0.6, 1.2])


@given(st.lists(st.tuples(positive_numbers, shares), min_size=1, max_size=10), st.floats(0, 3))
@settings(max_examples=100, deadline=None)
def test_the_positives_sum_stays(rows, eta):
    entropy, ious = torch.tensor(rows, dtype=torch.float64).T
    weights = losses.iou_weights(entropy, ious, eta)
    assert float((weights * entropy).sum()) == pytest.approx(float(entropy.sum()), rel=1e-9)
    if bool((ious > 0).any()):  # a better box never weighs less
        ordered = weights[ious.argsort()].tolist()
        assert all(first <= second * (1 + 1e-9) for first, second in pairwise(ordered))


@given(st.lists(st.tuples(positive_numbers, shares), min_size=1, max_size=10), st.lists(positive_numbers, max_size=10))
@settings(max_examples=50, deadline=None)
def test_eta_0_is_plain_cross_entropy(rows, negatives):
    entropy, ious = torch.tensor(rows, dtype=torch.float64).T
    background = torch.tensor(negatives, dtype=torch.float64)
    found = losses.classification_loss(entropy, ious, background, 1, DetectionLoss(eta=0))
    assert float(found) == pytest.approx(float(entropy.sum() + background.sum()) / len(rows), rel=1e-9)


def test_classification_loss_by_hand():
    positives, ious = torch.tensor([1.0, 2.0]), torch.tensor([0.25, 1.0])
    negatives = torch.tensor([0.1, 3.0, 0.2, 0.7])
    # Weighted or not, the positives' sum is 3; 2 positives, 1 image.
    assert float(losses.classification_loss(positives, ious, negatives, 1, DetectionLoss(eta=0.5))) == pytest.approx(3.5)
    # The 2 hardest, 3 and 0.7, for a ratio of 1: (3 + 3.7) / 4 anchors.
    hardest = DetectionLoss(eta=0.5, negatives="hardest", ratio=1, least=0)
    assert float(losses.classification_loss(positives, ious, negatives, 1, hardest)) == pytest.approx(6.7 / 4)
    # Focal: (1 - exp(-CE))**2 CE.
    focal = DetectionLoss(eta=0.5, negatives="focal")
    expected = (3 + sum((1 - math.exp(-v)) ** 2 * v for v in (0.1, 3.0, 0.2, 0.7))) / 2
    assert float(losses.classification_loss(positives, ious, negatives, 1, focal)) == pytest.approx(expected)
    # No lesion in 2 images: the 3 hardest negatives alone.
    none = torch.zeros(0)
    few = DetectionLoss(negatives="hardest", ratio=4, least=1)
    assert float(losses.classification_loss(none, none, negatives, 2, few)) == pytest.approx((3 + 0.7) / 2)


def test_evened_lesions_by_hand():
    # 128 anchors of one lesion and 8 of another in the first image, none in the second, 2 in the third.
    states = [torch.tensor([1] * 128 + [0] + [2] * 8), torch.zeros(3, dtype=torch.int64), torch.tensor([-1, 1, 1])]
    lesion = [torch.tensor([0] * 129 + [1] * 8), torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)]
    labels = [AnchorLabels(*each, torch.ones(len(each[0]))) for each in zip(states, lesion, strict=True)]
    assert losses.evened_weights(labels, 0.0).tolist() == [1.0] * 138
    # (32 / 128) ** 0.5, (32 / 8) ** 0.5, (32 / 2) ** 0.5
    assert losses.evened_weights(labels, 0.5).tolist() == pytest.approx([0.5] * 128 + [2.0] * 8 + [4.0] * 2)
    assert losses.evened_weights(labels, 1.0).tolist() == pytest.approx([0.25] * 128 + [4.0] * 8 + [16.0] * 2)
    assert losses.evened_weights(labels[1:2], 0.5).shape == (0,)
    # CE 1 and 2, weights 0.5 and 2: positives 0.5 + 4, whatever eta is, over 2.5; negatives as they are.
    positives, ious, weights = torch.tensor([1.0, 2.0]), torch.tensor([0.25, 1.0]), torch.tensor([0.5, 2.0])
    for eta in (0, 0.5):
        found = losses.classification_loss(positives, ious, torch.tensor([1.0]), 1, DetectionLoss(eta=eta), weights)
        assert float(found) == pytest.approx((4.5 + 1.0) / 2.5)


def test_weights_are_constants_for_the_gradient():
    positives = torch.tensor([1.0, 2.0], requires_grad=True)
    ious = torch.tensor([0.25, 1.0])
    losses.classification_loss(positives, ious, torch.zeros(0), 1, DetectionLoss(eta=0.5)).backward()
    assert positives.grad.tolist() == pytest.approx([0.3, 0.6])


def test_similarity_by_hand():
    root = math.sqrt(0.5)
    lesion = torch.tensor([[2.0, 0.0], [3.0, 3.0], [0.0, 1.0]])
    background = torch.tensor([[-1.0, 0.0]])
    all_pairs = torch.ones(3, 3, dtype=torch.bool)
    # Cosines of the pairs: root (1, 2), 0 (1, 3), root (2, 3); with the background -1, -root, 0.
    expected = (2 - 2 * root / 3 + (-1 - root) / 3) / 4
    assert float(losses.similarity_loss(lesion, background, all_pairs)) == pytest.approx(expected)
    # As the paper writes it, with exponentials.
    positive, negative = 2 * root / 3, (-1 - root) / 3
    assert expected == pytest.approx((2 - math.log(math.exp(positive) / math.exp(negative))) / 4)
    # Of pairs that lie apart, (1, 3) here, nothing is asked.
    near = all_pairs.clone()
    near[0, 2] = near[2, 0] = False
    assert float(losses.similarity_loss(lesion, background, near)) == pytest.approx((2 - root + (-1 - root) / 3) / 4)


def test_similarity_lies_between_0_and_1_and_needs_pairs():
    same, other = torch.tensor([[1.0, 0], [2.0, 0]]), torch.tensor([[-1.0, 0]])
    pairs = torch.ones(2, 2, dtype=torch.bool)
    assert float(losses.similarity_loss(same, other, pairs)) == pytest.approx(0)
    assert float(losses.similarity_loss(torch.cat([same[:1], other]), same[:1], pairs)) == pytest.approx(3 / 4)
    assert losses.similarity_loss(same[:1], other, pairs[:1, :1]) is None
    assert losses.similarity_loss(same, other[:0], pairs) is None


def _row(*starts):
    return torch.tensor([[0, 0, s, 1, 1, s + 10] for s in starts]).float()


def test_which_anchors_are_embedded():
    # IoU with the lesion 1, 0.43 (shift 4), 0.25 (6), 0.67 (-2), 0; of the third and fourth with each other 2/18.
    anchors = _row(0, 4, 6, -2, 40, 60)
    labels = label_anchors(anchors, _row(0), torch.tensor([1]))
    positives, negatives, pairs = losses.embedded_anchors(anchors, labels, DetectionLoss(), torch.Generator().manual_seed(0))
    assert positives.tolist() == [0, 1, 3]
    assert len(negatives) == 3 and set(negatives.tolist()) <= {4, 5}
    # Of 1 and 3: shift 6, IoU 0.25.
    assert bool(pairs.all())
    few = DetectionLoss(most_embeddings=2, pair_iou=0.3)
    positives, negatives, pairs = losses.embedded_anchors(anchors, labels, few, torch.Generator().manual_seed(0))
    assert len(positives) == len(negatives) == 2 and pairs.shape == (2, 2)


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return DetectionNetwork(
        stem_channels=4, stem_stride=2, channels=(4, 4, 4, 4, 4), strides=(1, 2, 1, 2, 1), top_down=2,
        head_channels=4, head_convolutions=1, anchors=((6, 6, 6), (10, 8, 10)), embedding=4,
    )  # fmt: skip


def _batch(network, lesions):
    predictions = network(torch.randn(len(lesions), 1, 16, 16, 16))
    anchors = anchor_grid(predictions.features.shape[2:], network.scale, network.anchors)
    labels = [label_anchors(anchors, boxes, torch.full((len(boxes),), 2)) for boxes in lesions]
    return predictions, anchors, labels


def test_the_whole_loss_is_made_of_its_parts(tiny):
    lesions = [torch.tensor([[3.0, 3, 3, 10, 9, 10]]), torch.zeros(0, 6)]
    predictions, anchors, labels = _batch(tiny, lesions)
    rule = DetectionLoss(eta=0, similarity=0.7)
    found = losses.detection_loss(tiny, predictions, anchors, labels, lesions, rule, torch.Generator().manual_seed(1))
    # Anchor by anchor, in plain loops.
    regression, entropy, positives = 0.0, 0.0, 0
    for image, each in enumerate(labels):
        for anchor, state in enumerate(each.state.tolist()):
            if state < 0:
                continue
            entropy += float(F.cross_entropy(predictions.logits[image, anchor][None], torch.tensor([state])).detach())
            if state > 0:
                positives += 1
                target = b.encode(lesions[image][0], anchors[anchor])
                regression += float(F.smooth_l1_loss(predictions.parameters[image, anchor], target, reduction="sum"))
    assert positives > 2
    assert float(found["regression"]) == pytest.approx(regression / positives, rel=1e-4)
    assert float(found["classification"]) == pytest.approx(entropy / positives, rel=1e-4)
    assert 0 < float(found["similarity"]) < 1
    parts = found["regression"] + found["classification"] + 0.7 * found["similarity"]
    assert float(found["total"]) == pytest.approx(float(parts), rel=1e-5)


def test_small_lesions_count_as_much_as_large_ones_when_evened(tiny):
    lesions = [torch.tensor([[1.0, 1, 1, 12, 11, 12], [13.0, 11, 13, 16, 14, 16]])]
    predictions, anchors, labels = _batch(tiny, lesions)
    numbers = torch.bincount(labels[0].lesion[labels[0].state > 0])
    assert numbers.min() < numbers.max()
    rule = DetectionLoss(eta=0, similarity=0, evening=1.0)
    found = losses.detection_loss(tiny, predictions, anchors, labels, lesions, rule, torch.Generator())
    means = []
    for lesion in range(2):
        mine = (labels[0].state > 0) & (labels[0].lesion == lesion)
        target = b.encode(lesions[0][lesion].expand(int(mine.sum()), 6), anchors[mine])
        means.append(losses.smooth_l1(predictions.parameters[0, mine], target).mean())
    assert float(found["regression"]) == pytest.approx(float(sum(means) / 2), rel=1e-4)


def test_gradient_reaches_every_parameter(tiny):
    for module in tiny.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.ones_(module.weight)  # blocks begin as the identity, where inner weights have no gradient yet
    lesions = [torch.tensor([[3.0, 3, 3, 10, 9, 10]])]
    predictions, anchors, labels = _batch(tiny, lesions)
    rule = DetectionLoss(negatives="hardest")
    losses.detection_loss(tiny, predictions, anchors, labels, lesions, rule, torch.Generator())["total"].backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in tiny.parameters() if p.ndim > 1)


def test_without_a_lesion_there_is_still_something_to_learn(tiny):
    lesions = [torch.zeros(0, 6)]
    predictions, anchors, labels = _batch(tiny, lesions)
    found = losses.detection_loss(tiny, predictions, anchors, labels, lesions, DetectionLoss(), torch.Generator())
    assert float(found["regression"]) == float(found["similarity"]) == 0 and float(found["classification"]) > 0
    found["total"].backward()
    assert all(torch.isfinite(p.grad).all() for p in tiny.parameters() if p.grad is not None)


def test_unknown_rules_are_refused():
    with pytest.raises(ValueError, match="choose one of all, hardest, focal"):
        losses.classification_loss(torch.ones(1), torch.ones(1), torch.ones(1), 1, DetectionLoss(negatives="some"))


def test_variants_are_the_papers():
    full = DetectionLoss(**losses.VARIANTS["rpn-iou-sim"])
    assert full.eta > 0 and full.similarity == 0.7
    assert DetectionLoss(**losses.VARIANTS["rpn-iou"]).similarity == 0 < DetectionLoss(**losses.VARIANTS["rpn-iou"]).eta
    assert DetectionLoss(**losses.VARIANTS["rpn"]).eta == DetectionLoss(**losses.VARIANTS["rpn"]).similarity == 0
