"""2D and 3D U-Nets that say of each voxel of an ABUS volume whether it is background, benign or malignant.

They are what Yu et al. (MICCAI 2020, see `networks.detection`) compare the detection network with: a 2D U-Net (Ronneberger et
al. 2015) sees one slice at a time, as it was scanned (lateral x depth), a 3D U-Net (Cicek et al. 2016) the volume. What is
known of the paper here says no more of them, so all else was chosen: MONAI's ``UNet`` with batch normalisation, whose first
convolution strides by 2, as the compact detection network's does. Like that one they are fully convolutional.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.networks.nets import UNet
from torch import nn
from torch.nn import functional as F

UNET3D: dict = {"dimension": 3, "channels": (16, 32, 64, 128, 128), "strides": (2, 2, 2, 2)}
"""1.3 million parameters, 16 mm a cell at the bottom of the U on a grid of 1 mm."""
UNET2D: dict = {"dimension": 2, "channels": (24, 48, 96, 192, 192), "strides": (2, 2, 2, 2)}
"""1.0 million parameters: as much work a step as `UNET3D` on every third slice of the same crops."""


class SegmentationUNet(nn.Module):
    """Volume in; a score for each class of each voxel out.

    Parameters
    ----------
    dimension : 3, or 2 for slices (planes of y and x) one by one.
    in_channels : of the volume (1: echo).
    channels, strides : of each level, the finest first, and between the levels.
    residual_units : convolutions of each level that a residual connection spans; 0: one plain convolution.
    classes : besides the background.

    Input: (N, in_channels, z, y, x) float of any size; it is padded at its end, with zeros, to a multiple of the strides' product
    along the axes that the network strides along. Output: (N, classes + 1, z, y, x), background first, of the input's size.

    Raises
    ------
    ValueError : another dimension.
    """

    def __init__(
        self,
        dimension: int = 3,
        in_channels: int = 1,
        channels: Sequence[int] = UNET3D["channels"],
        strides: Sequence[int] = UNET3D["strides"],
        residual_units: int = 0,
        classes: int = 2,
    ) -> None:
        super().__init__()
        if dimension not in (2, 3):
            raise ValueError(f"`dimension` is {dimension}; it must be 2 or 3.")
        self.dimension, self.scale = dimension, math.prod(strides)
        self.unet = UNet(
            dimension, in_channels, classes + 1, channels, strides, num_res_units=residual_units, norm="BATCH"
        )

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        number, _, *shape = volume.shape
        pad = [(-n) % self.scale for n in shape]
        if self.dimension == 2:
            pad[0] = 0
        if any(pad):
            volume = F.pad(volume, (0, pad[2], 0, pad[1], 0, pad[0]), mode="replicate")  # as in training crops
        if self.dimension == 3:
            scores = self.unet(volume)
        else:
            slices = volume.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
            scores = self.unet(slices).unflatten(0, (number, shape[0])).transpose(1, 2)
        return scores[..., : shape[0], : shape[1], : shape[2]]
