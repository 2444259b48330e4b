"""Losses of the recipes, as functions of logits and targets."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def soft_dice_loss(logits: torch.Tensor, target: torch.Tensor, smoothing: float = 1.0) -> torch.Tensor:
    """1 - soft Dice, the mean over the images of a batch.

    Dice = (2 sum(p g) + s) / (sum(p) + sum(g) + s) with p = sigmoid(logits), g the target. ROI-CNN's loss (Huang et al.
    2019, "Dice loss"); the paper gives no formula: the form with plain sums and smoothing s = 1, for each image by
    itself, was chosen, as the figure that is reported is the mean of each image's Dice.

    logits, target : (N, 1, H, W); target 0 to 1. Returns a scalar between 0 and 1.
    """
    probability = torch.sigmoid(logits)
    dims = tuple(range(1, logits.ndim))
    overlap = (probability * target).sum(dims)
    total = probability.sum(dims) + target.sum(dims)
    return 1 - ((2 * overlap + smoothing) / (total + smoothing)).mean()


def dice_cross_entropy_loss(logits: torch.Tensor, target: torch.Tensor, weight: float = 0.5) -> torch.Tensor:
    """`soft_dice_loss` + `weight` x binary cross-entropy.

    The cross-entropy keeps a gradient on images without a lesion, where Dice is flat, and keeps probabilities from
    saturating, so that they can serve as a score.
    """
    return soft_dice_loss(logits, target) + weight * F.binary_cross_entropy_with_logits(logits, target)
