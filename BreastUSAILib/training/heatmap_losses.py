"""The losses of the weakly supervised patch classifier.

The paper has one: cross-entropy of the patch. It says nothing of where in the patch the lesion is, although the point says so, and through a
mean over hundreds of cells it hardly begins to learn (docs/heatmap.md). `point_loss` asks the same question of single cells, whose
answers the patch's is the mean of: yes at the point, no anywhere in a healthy volume. It needs nothing but the points.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

PRIOR = -4.0
"""The logit of a cell with no evidence: lesions are rare among cells (Lin et al. 2017, focal loss, section 4.1)."""


def cell_at(point: torch.Tensor, scale: tuple[int, int, int], cells: tuple[int, int, int]) -> torch.Tensor:
    """(N, 3) int64: the cells (z, y, x) in which points lie.

    point : (N, 3) voxels (z, y, x) from the crops' edges. Cell i of the map lies at the centre of voxel i `scale`.
    cells : the map's size.
    """
    size = point.new_tensor(cells)
    index = torch.round((point - 0.5) / point.new_tensor(scale)).clamp(min=0)
    return torch.minimum(index, size - 1).long()


def point_loss(
    activation: torch.Tensor, lesion: torch.Tensor, points: torch.Tensor, scale: tuple[int, int, int], gain: float
) -> torch.Tensor:
    """Focal cross-entropy (gamma = 2) of the cells that are known: a scalar.

    Known are the cell at the point of each crop with a lesion, and all cells of healthy crops. What is about a point is not known to be the
    lesion, and what is further off not to be healthy. Divided by the number of points, as background is many and mostly easy.

    Parameters
    ----------
    activation : (N, z, y, x) float32, `ResNet3d.activation`.
    lesion : (N,) 1.0 where the crop shows a lesion.
    points : (N, 3) voxels (z, y, x) from the crops' edges; of healthy crops not looked at.
    scale, gain : the network's. Evidence is divided by the gain, so that a cell is judged by as much of it as it adds to its patch's logit
        where it is one in `gain`.
    """
    logits = activation / gain + PRIOR
    shown = lesion > 0.5
    at = cell_at(points[shown], scale, tuple(activation.shape[1:]))
    positive = logits[shown][torch.arange(len(at), device=logits.device), at[:, 0], at[:, 1], at[:, 2]]
    negative = logits[~shown]
    found = (F.softplus(-positive) * torch.sigmoid(-positive.detach()) ** 2).sum()
    spared = (F.softplus(negative) * torch.sigmoid(negative.detach()) ** 2).sum()
    return (found + spared) / max(1, len(at))
