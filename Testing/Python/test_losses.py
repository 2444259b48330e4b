"""Losses against numbers worked out by hand."""

import math

import pytest
import torch

from BreastUSAILib.training.losses import dice_cross_entropy_loss, soft_dice_loss


def _logit(p):
    return math.log(p / (1 - p))


def test_soft_dice_by_hand():
    # p = (0.8, 0.4), g = (1, 0): 1 - (2 * 0.8 + 1) / (1.2 + 1 + 1) = 1 - 2.6 / 3.2
    logits = torch.tensor([_logit(0.8), _logit(0.4)]).view(1, 1, 1, 2)
    target = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    assert soft_dice_loss(logits, target).item() == pytest.approx(1 - 2.6 / 3.2, abs=1e-6)


def test_soft_dice_is_the_mean_over_images():
    logits = torch.tensor([[_logit(0.8), _logit(0.4)], [_logit(0.5), _logit(0.5)]]).view(2, 1, 1, 2)
    target = torch.tensor([[1.0, 0.0], [1.0, 1.0]]).view(2, 1, 1, 2)
    # Second image: 1 - (2 * 1 + 1) / (1 + 2 + 1) = 1/4
    assert soft_dice_loss(logits, target).item() == pytest.approx(((1 - 2.6 / 3.2) + 0.25) / 2, abs=1e-6)


def test_soft_dice_limits():
    target = torch.zeros(1, 1, 4, 4)
    target[..., :2] = 1
    assert soft_dice_loss((target * 2 - 1) * 50, target).item() == pytest.approx(0, abs=1e-6)
    empty = torch.zeros(1, 1, 4, 4)
    assert soft_dice_loss(empty - 50, empty).item() == pytest.approx(0, abs=1e-6)


def test_cross_entropy_is_added_with_its_weight():
    logits = torch.tensor([_logit(0.8), _logit(0.4)]).view(1, 1, 1, 2)
    target = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    entropy = -(math.log(0.8) + math.log(0.6)) / 2
    assert dice_cross_entropy_loss(logits, target, weight=0.3).item() == pytest.approx(1 - 2.6 / 3.2 + 0.3 * entropy, abs=1e-6)
