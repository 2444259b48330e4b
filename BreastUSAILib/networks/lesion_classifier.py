"""The second stage of the detection system: is this lesion benign or malignant?

Yu J, Chen C, Yang X, et al. Computer-aided Tumor Diagnosis in Automated Breast Ultrasound using 3D Detection Network.
MICCAI 2020: "a classification network like the backbone" on each candidate. So it is the residual trunk of
`networks.detection`, a mean over its last map, and one linear layer.

The paper leaves open how a candidate is cut out. Here every lesion is stretched to the same number of voxels, so that its
margin is seen in the same detail whatever its size; the size, which the picture then does not show, is told beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .residual3d import ResidualTrunk

PAPER: dict = {
    "stem_channels": 24,
    "stem_stride": 1,
    "channels": (32, 64, 64, 96, 96),
    "strides": (2, 2, 2, 1, 1),
    "dropout": 0.0,
}
"""The trunk of `networks.detection.PAPER`."""

COMPACT: dict = {
    "stem_channels": 12,
    "stem_stride": 1,
    "channels": (16, 32, 48, 64, 64),
    "strides": (2, 2, 1, 2, 1),
    "dropout": 0.3,
}
"""The small configuration: 0.6 million parameters."""


class LesionClassifier(nn.Module):
    """A crop about a lesion in, one logit of malignancy out.

    Parameters
    ----------
    in_channels : of the volume (1: echo).
    stem_channels, stem_stride, channels, strides : see `residual3d.ResidualTrunk`.
    sizes : numbers told beside the picture (3: logarithms of the sides).
    dropout : share of the features left out in training.

    Input: crops (N, in_channels, z, y, x), each side a multiple of the trunk's last scale; sizes (N, sizes). Output: (N,).
    """

    def __init__(
        self,
        in_channels: int = 1,
        stem_channels: int = PAPER["stem_channels"],
        stem_stride: int = PAPER["stem_stride"],
        channels: Sequence[int] = PAPER["channels"],
        strides: Sequence[int] = PAPER["strides"],
        sizes: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.trunk = ResidualTrunk(in_channels, stem_channels, stem_stride, channels, strides)
        self.dropout = nn.Dropout(dropout)
        self.answer = nn.Linear(2 * channels[-1] + sizes, 1)
        nn.init.normal_(self.answer.weight, std=0.01)
        nn.init.zeros_(self.answer.bias)

    def features(self, crops: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        """What the answer is drawn from, (N, `answer.in_features`)."""
        features = self.trunk(crops)[-1]
        # The mean says what the lesion is like, the maximum that there is one spicule.
        pooled = torch.cat([features.mean((2, 3, 4)), features.amax((2, 3, 4))], dim=1)
        return torch.cat([self.dropout(pooled), sizes.to(pooled.dtype)], dim=1)

    def forward(self, crops: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
        return self.answer(self.features(crops, sizes))[:, 0]
