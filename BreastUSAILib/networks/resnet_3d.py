"""The 3D ResNet of the weakly supervised system: is there a lesion in this patch, and what of it says so?

A patch classifier that learns from one central point a lesion and from healthy volumes, whose last convolution is read with
Grad-CAM (Selvaraju et al. 2017). In the paper's configuration it is the 18-layer residual network of He et al. 2016 with a third
axis, as Hara et al. 2018 build it: a first convolution of 7 x 7 x 7 that keeps the slices, a maximum, four stages of two
blocks, a mean over all cells and one sigmoid unit; 33 million parameters.

Because what follows the last map is a mean and one linear unit, the map that Grad-CAM finds by a backward pass is a weighted
sum of the last map's channels with the unit's own weights: see `gradcam_3d`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import nn

from ..axes import along_axes
from .residual3d import ResidualBlock

PAPER: dict = {
    "stem_channels": 64,
    "stem_kernel": 7,
    "stem_stride": (1, 2, 2),
    "stem_pool": True,
    "channels": (64, 128, 256, 512),
    "blocks": (2, 2, 2, 2),
    "strides": (1, 2, 2, 2),
}
"""The published configuration, for patches of 16 x 160 x 160 voxels, whose last map is 1 x 5 x 5 cells."""

COMPACT: dict = {
    "stem_channels": 16,
    "stem_kernel": (3, 7, 7),
    "stem_stride": (2, 4, 4),
    "stem_pool": False,
    "channels": (16, 48, 96),
    "blocks": (1, 2, 2),
    "strides": (1, 2, 1),
    "evidence": 32,
    "gain": 64.0,
}
"""The small configuration, for patches of 32 x 32 x 32 mm with slices of 1 mm and voxels of 0.5 mm in them: 1.1 million parameters. All but the
first convolution is as it was up to 1.4.0, whose voxels were 1 mm along all axes: finer voxels cost nothing but that one. The last map has cells of 4 mm, as a lesion
of 6 mm falls between cells of 8; a stage more would mostly see what lies outside of the patch. A lesion of 8 mm fills 8 of a patch's 512 cells; with the gain their evidence
counts as it would alone, and with units of evidence that are silent the other 504 do not drown it."""

_SILENT = -1.0  # where units of evidence begin, in standard deviations: one cell in six speaks


class ResNet3d(nn.Module):
    """Volume in, one logit out: that the volume shows a lesion. Fully convolutional but for the mean.

    Parameters
    ----------
    in_channels : of the volume (1: echo).
    stem_channels, stem_kernel, stem_stride, stem_pool : of the first convolution (its size, odd, and its stride along z, y, x; one size: the same along
        all), and whether a maximum over 3 x 3 x 3 with stride 2 follows it.
    channels, blocks, strides : of each stage: the width, the number of residual blocks, and the first block's stride.
    evidence : width of a last 1 x 1 x 1 convolution whose units begin mostly silent; 0 (paper): none. Without it what speaks for and against
        a lesion in ordinary tissue must cancel out to a hundredth in every cell, as the mean is over hundreds of them.
    gain : what the mean over the cells is multiplied with before the unit. Where a lesion is one cell in a hundred the mean hardly
        moves, and the unit's weights would have to become a hundred times as large as an optimiser's steps make them.

    Attributes
    ----------
    scale : voxels of the volume a cell of the last map, along z, y, x.
    reach : voxels along z, y, x that the last map's cells see beyond their own middle on either side.
    """

    def __init__(
        self,
        in_channels: int = 1,
        stem_channels: int = 64,
        stem_kernel: int | Sequence[int] = 7,
        stem_stride: Sequence[int] = (1, 2, 2),
        stem_pool: bool = True,
        channels: Sequence[int] = (64, 128, 256, 512),
        blocks: Sequence[int] = (2, 2, 2, 2),
        strides: Sequence[int] = (1, 2, 2, 2),
        evidence: int = 0,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        if not len(channels) == len(blocks) == len(strides) or not channels:
            raise ValueError("`channels`, `blocks` and `strides` must have one number a stage.")
        stem_stride = tuple(stem_stride)
        stem_kernel = along_axes(stem_kernel)
        self.stem = nn.Sequential(
            nn.Conv3d(in_channels, stem_channels, stem_kernel, stem_stride, tuple(k // 2 for k in stem_kernel), bias=False),
            nn.BatchNorm3d(stem_channels),
            nn.ReLU(inplace=True),
            nn.MaxPool3d(3, 2, 1) if stem_pool else nn.Identity(),
        )
        layers, inputs = [], stem_channels
        for outputs, number, stride in zip(channels, blocks, strides, strict=True):
            for block in range(number):
                layers.append(ResidualBlock(inputs, outputs, stride if block == 0 else 1))
                inputs = outputs
        self.stages = nn.Sequential(*layers)
        self.evidence = nn.Identity()
        if evidence:
            self.evidence = nn.Sequential(
                nn.Conv3d(inputs, evidence, 1, bias=False), nn.BatchNorm3d(evidence), nn.ReLU(inplace=True)
            )
            nn.init.constant_(self.evidence[1].bias, _SILENT)
            inputs = evidence
        self.head = nn.Linear(inputs, 1)
        self.gain = gain
        if evidence:
            nn.init.uniform_(self.head.weight, 0.5 / gain, 1 / gain)
            nn.init.zeros_(self.head.bias)
        self.scale = tuple(s * (2 if stem_pool else 1) * prod(strides) for s in stem_stride)
        self.reach = tuple(self._reach(s, k, stem_pool, blocks, strides) for s, k in zip(stem_stride, stem_kernel, strict=True))
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for block in self.stages:
            # Blocks begin as the identity: what is added grows from nothing (Goyal et al. 2017).
            nn.init.zeros_(block.second[1].weight)

    @staticmethod
    def _reach(stride: int, kernel: int, pool: bool, blocks: Sequence[int], strides: Sequence[int]) -> int:
        """Half of the receptive field along an axis whose first convolution has this stride."""
        reach, step = kernel // 2, stride
        if pool:
            reach, step = reach + step, 2 * step
        for number, first in zip(blocks, strides, strict=True):
            reach, step = reach + step, step * first  # the convolution that strides
            reach += step * (2 * number - 1)
        return reach

    def features(self, volume: torch.Tensor) -> torch.Tensor:
        """The last map (N, C, z / s, y / s, x / s, rounded up) of a volume (N, in_channels, z, y, x), `s` being the `scale`; not negative."""
        return self.evidence(self.stages(self.stem(volume)))

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Logits (N,) of volumes (N, in_channels, z, y, x)."""
        return self.judge(self.features(volume))

    def judge(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (N,) of patches whose last maps are `features` (N, C, z, y, x)."""
        return self.head(self.gain * features.mean((2, 3, 4)))[:, 0]

    @property
    def class_weights(self) -> torch.Tensor:
        """(C,): w of logit = sum_k w_k mean(A_k) + b, A being the last map."""
        return self.gain * self.head.weight[0]

    def activation(self, features: torch.Tensor) -> torch.Tensor:
        """(N, z, y, x): sum_k w_k A_k of every cell of `features` (N, C, z, y, x), without b. Its mean, and b, are the logit."""
        return torch.einsum("c,nczyx->nzyx", self.class_weights, features)
