"""The losses of the weakly supervised patch classifier.

The paper has one: cross-entropy of the patch. It says nothing of where in the patch the lesion is, although the point says so, and through a
mean over hundreds of cells it hardly begins to learn (docs/heatmap.md). `point_loss` asks the same question of the map's single places, whose
answers the patch's is the mean of: yes at the point, no anywhere in a healthy volume. It needs nothing but the points.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ..gradcam_3d import interpolation

PRIOR = -4.0
"""The logit of a cell with no evidence: lesions are rare among cells (Lin et al. 2017, focal loss, section 4.1)."""


def at_points(maps: torch.Tensor, points: torch.Tensor, scale: tuple[int, int, int], degree: int) -> torch.Tensor:
    """(N,): what maps (N, z, y, x) say at a point each, read as hot spots are: interpolated by splines of this degree.

    points : (N, 3) voxels (z, y, x) from the crops' edges. Cell i of a map lies at the centre of voxel i `scale`.
    """
    places = points.detach().cpu().double().numpy() - 0.5
    along = (
        torch.from_numpy(interpolation(maps.shape[axis + 1], scale[axis], places[:, axis], degree)).to(maps)
        for axis in range(3)
    )
    return torch.einsum("nzyx,nz,ny,nx->n", maps, *along)


def point_loss(
    activation: torch.Tensor,
    lesion: torch.Tensor,
    points: torch.Tensor,
    scale: tuple[int, int, int],
    gain: float,
    degree: int = 1,
) -> torch.Tensor:
    """Focal cross-entropy (gamma = 2) of what is known: a scalar.

    Known are the map at the point of each crop with a lesion, and all cells of healthy crops. The map is asked between its cells, as it is read:
    so cells learn to answer by how near the point is to them, and the map's maximum comes to lie at the point and not at a cell's centre. What is about a point is not known to be the
    lesion, and what is further off not to be healthy. Divided by the number of points, as background is many and mostly easy.

    Parameters
    ----------
    activation : (N, z, y, x) float32, `ResNet3d.activation`.
    lesion : (N,) 1.0 where the crop shows a lesion.
    points : (N, 3) voxels (z, y, x) from the crops' edges; of healthy crops not looked at.
    scale, gain : the network's. Evidence is divided by the gain, so that a cell is judged by as much of it as it adds to its patch's logit
        where it is one in `gain`.
    degree : of the map's splines, see `gradcam_3d.interpolation`.
    """
    logits = activation / gain + PRIOR
    shown = lesion > 0.5
    positive = at_points(logits[shown], points[shown.to(points.device)], scale, degree)
    negative = logits[~shown]
    found = (F.softplus(-positive) * torch.sigmoid(-positive.detach()) ** 2).sum()
    spared = (F.softplus(negative) * torch.sigmoid(negative.detach()) ** 2).sum()
    return (found + spared) / max(1, len(positive))
