"""Anchors: the boxes that a region proposal network starts from, and what each of them is to learn.

Ren et al. 2015 (Faster R-CNN), with a third axis. Rules of labelling: Yu et al. 2020 (MICCAI, see `networks.detection`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch

from .axes import along_axes
from .boxes import from_centres, iou_matrix

IGNORED, NEGATIVE = -1, 0


def combinations(sides: Sequence[float]) -> tuple[tuple[float, float, float], ...]:
    """Every combination of the sides along z, y and x: 5 sides are 125 anchors a cell."""
    return tuple(product(sides, repeat=3))


def anchor_grid(cells: Sequence[int], stride: int | Sequence[int], sizes: Sequence[Sequence[float]]) -> torch.Tensor:
    """All anchors of a feature map.

    Parameters
    ----------
    cells : (z, y, x) cells of the map.
    stride : voxels a cell along z, y, x, or one number along all; an anchor's centre is that of its cell.
    sizes : (z, y, x) of each anchor of a cell, in voxels.

    Returns
    -------
    (cells x len(sizes), 6) float32 : x runs fastest over the cells, and the anchors of a cell follow one another, as in the
        network's output.
    """
    axes = [(torch.arange(n, dtype=torch.float32) + 0.5) * step for n, step in zip(cells, along_axes(stride), strict=True)]
    centres = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 1, 3)
    extents = torch.tensor(sizes, dtype=torch.float32).reshape(1, -1, 3)
    return from_centres(*torch.broadcast_tensors(centres, extents)).reshape(-1, 6)


@dataclass(frozen=True)
class AnchorRule:
    """When an anchor is to say "lesion".

    Attributes
    ----------
    positive : IoU with a lesion above which it is.
    negative : IoU with every lesion below which it is background; between the two it does not count.
    best : so many anchors of each lesion, those with the highest IoU, are positive in any case (paper: 1). A lesion of 4 mm lies
        between the cells of a map: one anchor in seventy thousand would be all that stands up for it.
    """

    positive: float = 0.2
    negative: float = 0.1
    best: int = 1


@dataclass(frozen=True)
class AnchorLabels:
    """What the anchors are to learn.

    Attributes
    ----------
    state : (n,) int64: `IGNORED`, `NEGATIVE`, or the lesion's class (1 benign, 2 malignant).
    lesion : (n,) int64: index of the lesion that a positive anchor belongs to; 0 elsewhere.
    overlap : (n,) float32: IoU with that lesion, elsewhere the highest with any.
    """

    state: torch.Tensor
    lesion: torch.Tensor
    overlap: torch.Tensor


def label_anchors(
    anchors: torch.Tensor,
    lesions: torch.Tensor,
    classes: torch.Tensor,
    rule: AnchorRule = AnchorRule(),
    unsure: torch.Tensor | None = None,
) -> AnchorLabels:
    """Label anchors by their overlap with the lesions.

    Parameters
    ----------
    anchors : (n, 6).
    lesions, classes : (m, 6) boxes and (m,) int64, 1 benign or 2 malignant; m may be 0.
    unsure : (k, 6) boxes of lesions of which a crop shows too little to learn from: an anchor that overlaps one by
        `rule.negative` or more, or that has its centre in one, is background no more, and is left out.

    An anchor that two lesions claim goes to the one with the higher IoU.
    """
    n = len(anchors)
    state = torch.full((n,), NEGATIVE, dtype=torch.int64)
    lesion = torch.zeros(n, dtype=torch.int64)
    overlap = torch.zeros(n)
    if len(lesions):
        ious = iou_matrix(anchors, lesions)
        overlap, lesion = ious.max(dim=1)
        positive = overlap > rule.positive
        best, which = ious.topk(min(rule.best, n), dim=0)
        # The k best of each lesion, lowest IoU first, so that of two claims to an anchor the higher is the last.
        claims = [
            (float(best[rank, j]), int(which[rank, j]), j)
            for rank in range(len(best))
            for j in range(len(lesions))
            if best[rank, j] > 0
        ]
        for value, anchor, j in sorted(claims):
            positive[anchor] = True
            if not overlap[anchor] > max(value, rule.positive):
                lesion[anchor], overlap[anchor] = j, value
        state[overlap >= rule.negative] = IGNORED
        state[positive] = classes[lesion[positive]]
    if unsure is not None and len(unsure):
        near = (iou_matrix(anchors, unsure) >= rule.negative).any(1)
        centre = ((anchors[:, :3] + anchors[:, 3:]) / 2)[:, None]
        near |= ((centre >= unsure[None, :, :3]) & (centre <= unsure[None, :, 3:])).all(-1).any(1)
        state[near & (state == NEGATIVE)] = IGNORED
    return AnchorLabels(state, torch.where(state > 0, lesion, 0), overlap)
