"""A trunk of 3D residual blocks (He et al. 2016, with a third axis), shared by the two stages of the detection system."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import nn
from torch.nn import functional as F

from ..axes import along_axes


def convolution(inputs: int, outputs: int, stride: int | Sequence[int] = 1, kernel: int | Sequence[int] = 3) -> nn.Sequential:
    """Convolution (its size odd), batch normalisation, ReLU; the size divided by `stride`; along z, y, x where there are three of them."""
    kernel = along_axes(kernel)
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, kernel, along_axes(stride), tuple(k // 2 for k in kernel), bias=False),
        nn.BatchNorm3d(outputs),
        nn.ReLU(inplace=True),
    )


class ResidualBlock(nn.Module):
    """Two 3 x 3 x 3 convolutions, added to their input, which a 1 x 1 x 1 convolution brings to size where it must be."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, stride)
        self.second = nn.Sequential(nn.Conv3d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm3d(outputs))
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return F.relu(self.second(self.first(features)) + self.shortcut(features), inplace=True)


class ResidualTrunk(nn.Module):
    """A first convolution and residual blocks one after the other.

    Parameters
    ----------
    in_channels : of the image.
    stem_channels, stem_stride : of the first convolution; the stride along z, y, x, or one along all.
    channels, strides : of each block.
    stem_kernel : voxels (odd) that the first convolution sees along z, y, x, or one number along all.

    Attributes
    ----------
    scales : voxels (z, y, x) of the image a cell of each block's map.

    Input (N, in_channels, z, y, x), each side a multiple of the last scale along its axis; output: each block's map, (N, channels[i], z / s, y / s, x / s).
    """

    def __init__(
        self,
        in_channels: int,
        stem_channels: int,
        stem_stride: int | Sequence[int],
        channels: Sequence[int],
        strides: Sequence[int],
        stem_kernel: int | Sequence[int] = 3,
    ) -> None:
        super().__init__()
        if len(channels) != len(strides) or not channels:
            raise ValueError("`channels` and `strides` must have one number a block.")
        if any(k % 2 == 0 for k in along_axes(stem_kernel)):
            raise ValueError(f"`stem_kernel` is {stem_kernel}; along each axis it must be odd, with its middle on a voxel.")
        self.stem = convolution(in_channels, stem_channels, stem_stride, stem_kernel)
        inputs = [stem_channels, *channels]
        self.blocks = nn.ModuleList(ResidualBlock(*args) for args in zip(inputs, channels, strides, strict=False))
        self.channels = tuple(channels)
        first = along_axes(stem_stride)
        self.scales = tuple(tuple(s * prod(strides[: i + 1]) for s in first) for i in range(len(strides)))
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        for block in self.blocks:
            # Blocks begin as the identity: what is added grows from nothing (Goyal et al. 2017).
            nn.init.zeros_(block.second[1].weight)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        features, maps = self.stem(image), []
        for block in self.blocks:
            features = block(features)
            maps.append(features)
        return maps
