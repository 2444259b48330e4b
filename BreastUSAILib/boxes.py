"""Boxes on a network's grid: overlap, non-maximum suppression, encoding against anchors.

A box is (z1, y1, x1, z2, y2, x2) in voxels of the grid, from edge to edge: voxel i covers [i, i + 1], so that a box around
voxels 2, 3, 4 is 2 to 5 and its size is the plain difference. Boxes come as float tensors (n, 6). What leaves a task is
a `findings.Box`, in millimetres.
"""

from __future__ import annotations

import math

import torch

from .suppression import suppress

# exp() of this is 1000: no lesion is so much larger than its anchor, and nothing overflows.
_MOST_LOG_SCALE = math.log(1000.0)


def centres_and_sizes(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres and sizes, (..., 3) each, of boxes (..., 6)."""
    first, last = boxes[..., :3], boxes[..., 3:]
    return (first + last) / 2, last - first


def from_centres(centres: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Boxes (..., 6) with these centres and sizes (..., 3)."""
    return torch.cat([centres - sizes / 2, centres + sizes / 2], dim=-1)


def volumes(boxes: torch.Tensor) -> torch.Tensor:
    """Volumes (...) of boxes (..., 6); 0 where a box ends before it begins."""
    return (boxes[..., 3:] - boxes[..., :3]).clamp_min(0).prod(-1)


def paired_iou(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Intersection over union of boxes with boxes, pair by pair; the shapes (..., 6) broadcast. Two empty boxes: 0."""
    low = torch.maximum(first[..., :3], second[..., :3])
    high = torch.minimum(first[..., 3:], second[..., 3:])
    common = (high - low).clamp_min(0).prod(-1)
    union = volumes(first) + volumes(second) - common
    return torch.where(union > 0, common / union.clamp_min(1e-12), torch.zeros_like(common))


def iou_matrix(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Intersection over union (n, m) of every one of n boxes with every one of m."""
    return paired_iou(first[:, None], second[None])


def non_maximum_suppression(boxes: torch.Tensor, scores: torch.Tensor, overlap: float, most: int | None = None) -> torch.Tensor:
    """The boxes to keep: the surest, then the surest of those that do not overlap it, and so on; see `suppression.suppress`.

    Parameters
    ----------
    boxes, scores : (n, 6) and (n,). Equal scores: the one that comes first is taken as the surer.
    overlap : a box goes when its IoU with a surer one that stays is above this.
    most : how many to keep at most; None: all.

    Returns
    -------
    (k,) int64 : indices of those that stay, by falling score.
    """
    found = suppress(boxes.detach().cpu().numpy(), scores.detach().cpu().numpy(), overlap, most)
    return torch.from_numpy(found).to(boxes.device)


def clip(boxes: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Boxes cut off at the edges of a grid of `shape` (z, y, x) voxels; one wholly outside becomes empty."""
    limit = torch.tensor(shape, dtype=boxes.dtype, device=boxes.device).repeat(2)
    return torch.minimum(boxes.clamp_min(0), limit)


def encode(boxes: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Box parameters (..., 6) that take anchors to boxes: shifts in anchor sizes, then logarithms of the scales.

    The parametrisation of R-CNN (Girshick et al. 2014), with a third axis. Sizes must be positive.
    """
    centre, size = centres_and_sizes(boxes)
    anchor_centre, anchor_size = centres_and_sizes(anchors)
    return torch.cat([(centre - anchor_centre) / anchor_size, torch.log(size / anchor_size)], dim=-1)


def decode(parameters: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """The boxes (..., 6) that parameters make of anchors; undoes `encode`. Scales beyond 1000 are held there."""
    anchor_centre, anchor_size = centres_and_sizes(anchors)
    scale = parameters[..., 3:].clamp(-_MOST_LOG_SCALE, _MOST_LOG_SCALE).exp()
    return from_centres(anchor_centre + parameters[..., :3] * anchor_size, anchor_size * scale)


def vote(boxes: torch.Tensor, scores: torch.Tensor, kept: torch.Tensor, overlap: float, values: torch.Tensor) -> torch.Tensor:
    """For each box that suppression kept, the mean of `values` over all boxes like it, weighted by their scores.

    Neighbouring anchors see the same lesion from other places; their mean is steadier than what the surest says (Gidaris
    & Komodakis 2015). Alike are boxes with an IoU of `overlap` or more, the box itself among them.

    Parameters
    ----------
    boxes, scores : (n, 6) and (n,), all of them, scores above 0.
    kept : (k,) indices, see `non_maximum_suppression`.
    values : (n, v); the boxes themselves, say.

    Returns
    -------
    (k, v).
    """
    weights = (iou_matrix(boxes[kept], boxes) >= overlap).to(scores.dtype) * scores
    weights[torch.arange(len(kept)), kept] = scores[kept]
    return weights @ values / weights.sum(1, keepdim=True)
