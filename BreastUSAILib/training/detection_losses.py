"""The losses of the detection network.

L = L_reg + L_cls + 0.7 L_sim (Yu et al. 2020, see `networks.detection`):

- L_reg: smooth L1 of the box parameters of positive anchors.
- L_cls: cross-entropy, that of positive anchors weighted by the IoU of their predicted box with the lesion (Wu et al. 2020,
  IoU-balanced loss functions for single-stage object detection), so that a high score comes to mean a good box.
- L_sim: embeddings of anchors of a lesion shall resemble one another and not those of the background.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from .. import boxes as b
from ..anchors import NEGATIVE, AnchorLabels
from ..networks.detection import DetectionNetwork, Predictions

NEGATIVES = ("all", "hardest", "focal")
_TYPICAL_ANCHORS = 32.0  # positive anchors of a lesion, where `DetectionLoss.evening` neither adds nor takes


@dataclass(frozen=True)
class DetectionLoss:
    """Which losses, and how they are weighted.

    Attributes
    ----------
    eta : power of the IoU in L_cls; 0: plain cross-entropy. The paper does not say; Wu et al. found 1.5 best.
    similarity : weight of L_sim (paper: 0.7); 0: none.
    beta : where smooth L1 turns from a parabola to a line, in box parameters.
    negatives : which background anchors L_cls counts. "all" (paper): each. "hardest": the `ratio` x positives that are
        most wrong, and `least` an image in any case: the few that look like lesions are not drowned by the many that do not.
        "focal": each, weighted by p**2 of its wrong answer (Lin et al. 2017).
    lesion_iou, pair_iou : L_sim asks that anchors with more IoU than this with their lesion, and with each other, resemble one another.
    most_embeddings : anchors of an image that L_sim looks at; of more, as many are drawn.
    evening : each of a lesion's n positive anchors counts (32 / n) ** `evening` in L_reg and L_cls. 0 (paper): 1, whereby a lesion of
        30 mm, with 800 of them, counts a hundred times one of 5 mm, and small ones are learnt last. 1: each lesion counts the same.
    """

    eta: float = 1.5
    similarity: float = 0.7
    beta: float = 1.0
    negatives: str = "all"
    ratio: float = 4.0
    least: int = 48
    lesion_iou: float = 0.3
    pair_iou: float = 0.2
    most_embeddings: int = 32
    evening: float = 0.0


VARIANTS = {"rpn": {"eta": 0.0, "similarity": 0.0}, "rpn-iou": {"similarity": 0.0}, "rpn-iou-sim": {}}
"""The paper's ablations: what each changes in `DetectionLoss`."""


def smooth_l1(predicted: torch.Tensor, target: torch.Tensor, beta: float = 1.0) -> torch.Tensor:
    """(n,) of box parameters (n, 6): the sum over the six of d**2 / 2 beta below beta, of d - beta / 2 above it."""
    return F.smooth_l1_loss(predicted, target, reduction="none", beta=beta).sum(-1)


def iou_weights(losses: torch.Tensor, ious: torch.Tensor, eta: float) -> torch.Tensor:
    """The weights w_i = iou_i**eta sum(CE) / sum(iou**eta CE) of positive anchors (Wu et al. 2020, equations 2 and 3).

    They leave the sum of the positives' losses as it is, and are 1 for eta = 0. Constants for the gradient, as in Wu et al. All are 1
    where no predicted box touches its lesion.

    losses, ious : (n,), the cross-entropies of the positives and the IoU of their predicted boxes with their lesions.
    """
    with torch.no_grad():
        powered = ious.clamp(0, 1) ** eta
        weighted = (powered * losses).sum()
        if not weighted > 0:
            return torch.ones_like(losses)
        return powered * (losses.sum() / weighted)


def evened_weights(labels: list[AnchorLabels], evening: float) -> torch.Tensor:
    """What each positive anchor counts, see `DetectionLoss.evening`: (p,) in the order of images and, in each, of anchors."""
    weights = [torch.zeros(0)]
    for each in labels:
        lesion = each.lesion[each.state > 0]
        weights.append((_TYPICAL_ANCHORS / torch.bincount(lesion)[lesion].float()) ** evening)
    return torch.cat(weights)


def classification_loss(
    positives: torch.Tensor,
    ious: torch.Tensor,
    negatives: torch.Tensor,
    images: int,
    rule: DetectionLoss = DetectionLoss(),
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """L_cls: a scalar from the cross-entropies (p,) of positive and (n,) of negative anchors of `images` images.

    The paper's sums are divided by the sum of the positives' `weights` (p,; None: 1 each), or by the number of images where that is more
    (it does not say by what); with the hardest negatives by the number of anchors that count.
    """
    if rule.negatives not in NEGATIVES:
        raise ValueError(f"negatives is {rule.negatives!r}; choose one of {', '.join(NEGATIVES)}.")
    weights = torch.ones_like(positives) if weights is None else weights
    found = (iou_weights((weights * positives).detach(), ious, rule.eta) * weights * positives).sum()
    count = max(float(weights.sum()), images)
    if rule.negatives == "focal":
        negatives = (1 - torch.exp(-negatives.detach())) ** 2 * negatives
    elif rule.negatives == "hardest":
        number = min(len(negatives), round(max(rule.ratio * len(positives), rule.least * images)))
        negatives = negatives.topk(number).values
        count = max(1, len(positives) + number)
    return (found + negatives.sum()) / count


def similarity_loss(lesion: torch.Tensor, background: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor | None:
    """L_sim = (2 - log(exp(S_pp) / exp(S_pn))) / 4 = (2 - S_pp + S_pn) / 4 of one image: 0 at best, 1 at worst.

    S_pp is the mean cosine similarity of the pairs of anchors of lesions, S_pn that of every such anchor with every one of the
    background.

    Parameters
    ----------
    lesion, background : (p, n) and (q, n) embeddings.
    pairs : (p, p) bool, which anchors count as a pair; an anchor is none with itself.

    Returns
    -------
    A scalar, or None where there is no pair or no background.
    """
    pairs = pairs & ~torch.eye(len(pairs), dtype=torch.bool, device=pairs.device)
    if not bool(pairs.any()) or not len(background):
        return None
    lesion, background = F.normalize(lesion, dim=1), F.normalize(background, dim=1)
    positive = (lesion @ lesion.T)[pairs].mean()
    return (2 - positive + (lesion @ background.T).mean()) / 4


def embedded_anchors(anchors: torch.Tensor, labels: AnchorLabels, rule: DetectionLoss, generator: torch.Generator):
    """Which anchors of an image L_sim looks at: those with IoU > 0.3 with their lesion, and as many of the background, drawn.

    Returns
    -------
    positives, negatives : (p,) and (q,) int64; of more than `most_embeddings` positives as many are drawn.
    pairs : (p, p) bool, anchors with IoU > 0.2 with each other.
    """
    positives = torch.nonzero((labels.state > 0) & (labels.overlap > rule.lesion_iou))[:, 0]
    if len(positives) > rule.most_embeddings:
        positives = positives[torch.randperm(len(positives), generator=generator)[: rule.most_embeddings]]
    background = torch.nonzero(labels.state == NEGATIVE)[:, 0]
    if len(background):
        background = background[torch.randint(len(background), (len(positives),), generator=generator)]
    pairs = b.iou_matrix(anchors[positives], anchors[positives]) > rule.pair_iou
    return positives, background, pairs


def detection_loss(
    network: DetectionNetwork,
    predictions: Predictions,
    anchors: torch.Tensor,
    labels: list[AnchorLabels],
    lesions: list[torch.Tensor],
    rule: DetectionLoss,
    generator: torch.Generator,
) -> dict[str, torch.Tensor]:
    """All losses of a batch.

    Parameters
    ----------
    predictions : for N images and n anchors an image.
    anchors : (n, 6), on the CPU, as are labels and lesions.
    labels, lesions : for each image; lesions (m, 6) are the boxes that `labels.lesion` counts.
    generator : draws the anchors of L_sim.

    Returns
    -------
    "regression", "classification", "similarity" and their weighted sum "total": scalars.
    """
    device = predictions.logits.device
    logits, parameters = predictions.logits.float(), predictions.parameters.float()
    state = torch.stack([each.state for each in labels])
    image, anchor = (index.to(device) for index in torch.nonzero(state > 0, as_tuple=True))
    # The paper's five sides make 2.4 million anchors: entropies are taken of those that count alone.
    counts = (state >= 0).to(device)
    target = state.clamp_min(0).to(device)
    entropy = torch.zeros_like(logits[..., 0])
    entropy[counts] = F.cross_entropy(logits[counts], target[counts], reduction="none")
    nothing = logits.sum() * 0 + parameters.sum() * 0
    weights = evened_weights(labels, rule.evening).to(device)

    if len(image):
        true = torch.cat([boxes[each.lesion[each.state > 0]] for boxes, each in zip(lesions, labels, strict=True)]).to(
            device
        )
        start = anchors.to(device)[anchor]
        chosen = parameters[image, anchor]
        regression = (weights * smooth_l1(chosen, b.encode(true, start), rule.beta)).sum() / weights.sum()
        ious = b.paired_iou(b.decode(chosen.detach(), start), true)
    else:
        regression, ious = nothing, torch.zeros(0, device=device)
    negatives = entropy[counts & (target == 0)]
    classification = classification_loss(entropy[image, anchor], ious, negatives, len(labels), rule, weights)

    similarity = nothing
    if rule.similarity:
        terms = []
        for number, each in enumerate(labels):
            positives, background, pairs = embedded_anchors(anchors, each, rule, generator)
            if not len(positives) or not len(background):
                continue
            chosen = torch.cat([positives, background]).to(device)
            made = network.embed(predictions.features, torch.full_like(chosen, number), chosen).float()
            term = similarity_loss(made[: len(positives)], made[len(positives) :], pairs.to(device))
            if term is not None:
                terms.append(term)
        if terms:
            similarity = torch.stack(terms).mean()
    total = regression + classification + rule.similarity * similarity
    return {"total": total, "regression": regression, "classification": classification, "similarity": similarity}
