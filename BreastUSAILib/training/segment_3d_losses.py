"""What the joint network is taught by (Zhou et al. 2021, equations 2 to 4), and the balance between its two tasks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

LAMBDA, GAMMA = 0.3, 2.0


def class_weights(malignant: Sequence[bool]) -> tuple[float, float]:
    """Weights of a benign and a malignant lesion from how many there are of each (eq. 3): n / (2 n_c), so that both kinds count
    the same in sum and the mean weight is 1. A kind of which there is none has the weight 1.

    >>> class_weights([False, False, False, True])
    (0.6666666666666666, 2.0)
    """
    n = len(malignant)
    counts = (n - sum(map(bool, malignant)), sum(map(bool, malignant)))
    return tuple(n / (2 * c) if c and n > c else 1.0 for c in counts)


def focal_loss(
    logits: torch.Tensor, malignant: torch.Tensor, weights: tuple[float, float] = (1.0, 1.0), gamma: float = GAMMA
) -> torch.Tensor:
    """Weighted focal loss (eq. 2): the mean of -w_c (1 - p_c)^gamma log p_c, p_c the probability of the true class.

    logits : (N,) or (N, k), malignant against benign; several opinions each count by themselves. malignant : (N,) bool.
    """
    truth = malignant.to(logits.dtype).reshape(len(malignant), *[1] * (logits.dim() - 1)).expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    probability = torch.exp(-entropy)
    weight = truth * weights[1] + (1 - truth) * weights[0]
    return (weight * (1 - probability) ** gamma * entropy).mean()


def dice_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Soft Dice loss (eq. 4): 1 - (2 sum p g + 1) / (sum p + sum g + 1), the mean over crops.

    logits, truth : (N, z, y, x), truth 0 or 1. An empty truth is allowed.
    """
    probability, truth = torch.sigmoid(logits.float()).flatten(1), truth.float().flatten(1)
    common = (probability * truth).sum(1)
    return (1 - (2 * common + 1) / (probability.sum(1) + truth.sum(1) + 1)).mean()


def outline_loss(logits: torch.Tensor, truth: torch.Tensor, cross_entropy: float = 0.0) -> torch.Tensor:
    """Dice loss plus `cross_entropy` x the mean cross-entropy of a voxel (ours; 0: the paper's), which keeps probabilities honest."""
    loss = dice_loss(logits, truth)
    if cross_entropy:
        loss = loss + cross_entropy * F.binary_cross_entropy_with_logits(logits.float(), truth.float())
    return loss


class Balance(nn.Module):
    """How the two losses make one.

    Parameters
    ----------
    weight : lambda of lambda L_cls + (1 - lambda) L_seg (paper: 0.3).
    learnt : instead of it, weights by homoscedastic uncertainty (Kendall et al. 2018): the sum of exp(-s) L + s / 2 over both tasks,
        with s, the logarithm of a task's variance, learnt.
    """

    def __init__(self, weight: float = LAMBDA, learnt: bool = False) -> None:
        super().__init__()
        self.weight = weight
        self.variances = nn.Parameter(torch.zeros(2)) if learnt else None

    def forward(self, classification: torch.Tensor | None, segmentation: torch.Tensor | None) -> torch.Tensor:
        """One loss of two, of which one may be None (single-task ablations): the other then stands alone."""
        if classification is None or segmentation is None:
            alone = segmentation if classification is None else classification
            if alone is None:
                raise ValueError("there is nothing to learn.")
            return alone
        if self.variances is None:
            return self.weight * classification + (1 - self.weight) * segmentation
        losses = torch.stack([classification, segmentation])
        return (torch.exp(-self.variances) * losses + self.variances / 2).sum()

    def shares(self) -> list[float]:
        """The weights of classification and segmentation as they stand."""
        if self.variances is None:
            return [self.weight, 1 - self.weight]
        return torch.exp(-self.variances.detach()).tolist()
