"""The convolutional part of VGG: features of an image at strides 1 to 16.

Simonyan K, Zisserman A. Very deep convolutional networks for large-scale image recognition. ICLR 2015, table 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class Vgg(nn.Module):
    """Five blocks of 3 x 3 convolutions with a 2 x 2 max pooling after each of the first four.

    Parameters
    ----------
    in_channels : image channels.
    channels : width of the five blocks (VGG-16: 64, 128, 256, 512, 512).
    convolutions : number of convolutions in each (VGG-16, configuration D: 2, 2, 3, 3, 3).
    batch_norm : batch normalisation after each convolution.

    Input: (N, in_channels, H, W) float, H and W multiples of 16. Output: five feature maps, with `channels` channels at `strides`.
    """

    strides = (1, 2, 4, 8, 16)

    def __init__(
        self, in_channels: int, channels: Sequence[int], convolutions: Sequence[int], batch_norm: bool = False
    ) -> None:
        super().__init__()
        if len(channels) != 5 or len(convolutions) != 5:
            raise ValueError("VGG has five blocks: `channels` and `convolutions` need five numbers each.")
        self.channels = tuple(channels)
        blocks, previous = [], in_channels
        for width, count in zip(channels, convolutions, strict=True):
            layers: list[nn.Module] = []
            for _ in range(count):
                layers.append(nn.Conv2d(previous, width, 3, padding=1, bias=not batch_norm))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(width))
                layers.append(nn.ReLU(inplace=True))
                previous = width
            blocks.append(nn.Sequential(*layers))
        self.blocks = nn.ModuleList(blocks)
        self.pool = nn.MaxPool2d(2)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        features, maps = image, []
        for index, block in enumerate(self.blocks):
            features = block(self.pool(features) if index else features)
            maps.append(features)
        return maps
