"""A volume searched on several grids, of whose answers the mean counts (multi-scale testing).

On finer voxels a small lesion is as large as one twice its volume is on the network's own grid, and what is wrongly found on one grid is often
not found on the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from . import boxes as b
from .candidates import Candidates, Search, find_candidates
from .volume_input import VolumeInput

CHOICES = (0.8,)
"""Voxel sizes, in those of the network's grid, of the second grid that validation chooses about."""
SAME_IOU = 0.1
"""From this overlap on boxes of two grids speak for the same lesion. With 0.02 to 0.3 validation's figures are the same."""


def find_on_grids(
    volumes: Sequence[VolumeInput],
    network: nn.Module,
    search: Search,
    *,
    device: str = "cpu",
    progress: Callable[[float, str], None] | None = None,
) -> tuple[Candidates, tuple[str, ...]]:
    """Search one volume on the grids of `search.scales`; see `candidates.find_candidates`.

    Parameters
    ----------
    volumes : the same image on each of them.

    Returns
    -------
    candidates : in voxels of the first grid.
    notes : sentences on how it was done.
    """
    found, notes, done = [], [], 0
    total = sum(volume.levels.size for volume in volumes)
    for number, volume in enumerate(volumes):
        share = volume.levels.size / total

        def tell(fraction: float, message: str, begun: float = done / total, share: float = share) -> None:
            if progress is not None:
                progress(begun + share * fraction, message)

        candidates, more = find_candidates(
            volume.levels, volume.spacing, network, search.on_grid(number), device=device, progress=tell
        )
        found.append(scaled(candidates, np.divide(volume.scale, volumes[0].scale)))
        notes += [note for note in more if note not in notes]
        done += volume.levels.size
    return merged(found, search), tuple(notes)


def scaled(found: Candidates, factor: Sequence[float]) -> Candidates:
    """Candidates with their boxes taken to a grid on which a voxel of theirs is `factor` (z, y, x) voxels."""
    return replace(found, boxes=(found.boxes * np.tile(factor, 2)).astype(found.boxes.dtype))


def merged(found: Sequence[Candidates], search: Search) -> Candidates:
    """The candidates of several grids as one set.

    A box's score is the mean over the grids of the highest score with which one of theirs overlaps it (`SAME_IOU`), 0 where none does; its edges
    and its malignancy are means of these boxes', weighted by these scores. Of boxes that overlap (`Search.suppression_iou`) the surest stays, and
    of equals, as all that two grids agree on are, the one that was the surer on its own grid.

    found : of each grid, all in voxels of one; a single one is given back as it is.
    """
    if len(found) == 1:
        return found[0]
    boxes, own, malignancy = (
        torch.from_numpy(np.concatenate([getattr(f, name) for f in found]).astype(np.float32))
        for name in ("boxes", "scores", "malignancy")
    )
    values = torch.cat([boxes, malignancy[:, None]], dim=1)
    total, means = torch.zeros(len(boxes)), torch.zeros_like(values)
    for grid in found:
        if not len(grid.boxes):
            continue
        its_boxes, its_scores, its_malignancy = (torch.from_numpy(v).float() for v in (grid.boxes, grid.scores, grid.malignancy))
        best, which = torch.where(b.iou_matrix(boxes, its_boxes) > SAME_IOU, its_scores, 0.0).max(1)
        total += best
        means += best[:, None] * torch.cat([its_boxes, its_malignancy[:, None]], dim=1)[which]
    means = torch.where(total[:, None] > 0, means / total.clamp_min(1e-9)[:, None], values)
    order = torch.from_numpy(np.lexsort((-own.numpy(), -total.numpy())))
    kept = order[b.non_maximum_suppression(boxes[order], total[order], search.suppression_iou, search.maximum)]
    means, scores = means[kept], total[kept] / len(found)
    return Candidates(means[:, :6].numpy(), scores.numpy(), means[:, 6].clamp(0, 1).numpy())
