"""The crops that the joint network learns from: turned, mirrored, stretched, bent, and off the mark as a detected box is.

A crop is drawn from a number alone (seed, epoch, place in the epoch), as in `detection_crops`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset

from ..lesion_crop import CropRule, crop_input
from ..volume_input import LEVELS_A_DEVIATION, MEAN_LEVEL
from .detection_crops import generator_of, vary_intensities
from .segment_3d_data import ZOOM, LesionPatch


@dataclass(frozen=True)
class Variation:
    """How crops differ from what the rule says.

    Attributes
    ----------
    turn : whether they are turned by any angle about the depth axis.
    mirror : whether slices and lateral are mirrored, each in half the crops; depth never, as nobody scans from below.
    stretch : factor (or its inverse) by which each axis is stretched, at most.
    bend : the standard deviation of an elastic displacement, in sides of the crop.
    shift : how far the crop's centre lies from the lesion's at most, in sides of the lesion's box, and 1 mm on top.
    zoom : factor (or its inverse) by which the crop is too large, at most: what the sides of a detected box are off by.
    wide_share : share of the crops whose shift and zoom are twice that: a click lies anywhere in a lesion.
    intensities : see `detection_crops.vary_intensities`.
    """

    turn: bool = True
    mirror: bool = True
    stretch: float = 1.1
    bend: float = 0.012
    shift: float = 0.12
    zoom: float = 1.2
    wide_share: float = 0.2
    intensities: bool = True


NONE = Variation(False, False, 1.0, 0.0, 0.0, 1.0, 0.0, False)


class Crop(NamedTuple):
    """`volume` (1, z, y, x) float32 for the network; `outline` (z, y, x) bool; `spacing` mm; `malignant`."""

    volume: torch.Tensor
    outline: torch.Tensor
    spacing: float
    malignant: bool


def draw_crop(patch: LesionPatch, rule: CropRule, vary: Variation, generator: torch.Generator | None = None) -> Crop:
    """A crop of a lesion; `generator` may be None where nothing is varied (`NONE`)."""

    def uniform(*size: int) -> torch.Tensor:
        if generator is None:
            return torch.zeros(size, dtype=torch.float64)
        return torch.rand(size, generator=generator, dtype=torch.float64) * 2 - 1

    wide = 2.0 if generator is not None and float(torch.rand((), generator=generator)) < vary.wide_share else 1.0
    off = float(uniform()) * wide
    zoom = min(max(vary.zoom**off, 1 / ZOOM), ZOOM)
    size = torch.tensor(patch.size[::-1], dtype=torch.float64)
    spacing = min(max(rule.spacing(patch.size) * zoom, rule.finest / ZOOM), rule.coarsest * ZOOM)
    shift = uniform(3) * vary.shift * size * wide + (uniform(3) if vary.shift else 0.0)
    # The lesion moves in the crop by an eighth of its sides at most: what is in the middle is what is meant.
    limit = torch.tensor(rule.shape, dtype=torch.float64) * spacing / 8
    shift = torch.minimum(torch.maximum(shift, -limit), limit)

    matrix = torch.eye(3, dtype=torch.float64)
    if vary.turn:
        angle = math.pi * float(uniform())
        c, s = math.cos(angle), math.sin(angle)
        matrix = torch.tensor([[c, 0, -s], [0, 1, 0], [s, 0, c]], dtype=torch.float64)
    signs = torch.ones(3, dtype=torch.float64)
    if vary.mirror:
        signs[[0, 2]] = torch.where(uniform(2) < 0, -1.0, 1.0).to(torch.float64)
    stretch = vary.stretch ** uniform(3)
    matrix = matrix @ torch.diag(signs * stretch)

    # Where each voxel of the crop lies in the patch, as grid_sample wants it: x, y, z, -1 to 1 from edge to edge.
    axes = [(torch.arange(n) - (n - 1) / 2) * spacing for n in rule.shape]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).float()
    places = places @ matrix.T.float() + shift.float()
    if vary.bend:
        extent = torch.tensor(rule.shape) * spacing
        coarse = torch.randn((1, 3, 5, 4, 5), generator=generator) * vary.bend * extent.reshape(1, 3, 1, 1, 1)
        bend = F.interpolate(coarse, size=rule.shape, mode="trilinear", align_corners=True)[0]
        places = places + bend.permute(1, 2, 3, 0)
    half = torch.tensor(patch.voxels.shape[1:]) * patch.spacing / 2
    grid = (places / half).flip(-1)[None]

    voxels = torch.from_numpy(np.array(patch.voxels, np.float32))[None]
    voxels[:, 0] -= MEAN_LEVEL  # outside the patch there is the mean, and no lesion
    levels, share = F.grid_sample(voxels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
    volume = crop_input((levels + MEAN_LEVEL)[None])[0]
    if vary.intensities:
        varied = vary_intensities(volume[0], generator)
        volume = crop_input((varied * LEVELS_A_DEVIATION + MEAN_LEVEL)[None])[0]
    return Crop(volume, share > 127.5, spacing * float(stretch.log().mean().exp()), patch.malignant)


class CropSet(Dataset):
    """The crops of an epoch, for `torch.utils.data.DataLoader`; `epoch` says which, set it before each pass.

    Each lesion comes once before any comes twice.
    """

    def __init__(self, patches: Sequence[LesionPatch], rule: CropRule, vary: Variation, length: int, seed: int) -> None:
        self.patches, self.rule, self.vary = patches, rule, vary
        self.length, self.seed, self.epoch = length, seed, 0
        self._order: tuple[int, list[int]] = (-1, [])

    def __len__(self) -> int:
        return self.length

    def order(self) -> list[int]:
        """Which lesion each crop of this epoch shows."""
        if self._order[0] != self.epoch:
            generator = generator_of(self.seed, self.epoch, 2**31)
            drawn: list[int] = []
            while len(drawn) < self.length:
                drawn += torch.randperm(len(self.patches), generator=generator).tolist()
            self._order = (self.epoch, drawn[: self.length])
        return self._order[1]

    def __getitem__(self, place: int) -> Crop:
        patch = self.patches[self.order()[place]]
        return draw_crop(patch, self.rule, self.vary, generator_of(self.seed, self.epoch, place))


class Batch(NamedTuple):
    """`volumes` (N, 1, z, y, x), `outlines` (N, z, y, x) bool, `spacings` (N,) float32 mm, `malignant` (N,) bool."""

    volumes: torch.Tensor
    outlines: torch.Tensor
    spacings: torch.Tensor
    malignant: torch.Tensor


def collate(crops: Sequence[Crop]) -> Batch:
    """A batch of crops."""
    volumes, outlines, spacings, malignant = zip(*crops, strict=True)
    return Batch(torch.stack(volumes), torch.stack(outlines), torch.tensor(spacings), torch.tensor(malignant))
