"""The 3D detection network: where the lesions of an ABUS volume are, and how malignant each looks.

Yu J, Chen C, Yang X, et al. Computer-aided Tumor Diagnosis in Automated Breast Ultrasound using 3D Detection Network.
MICCAI 2020. A region proposal network (Ren et al. 2015) in 3D: a trunk of 5 residual blocks; on its last map a
classification and a regression branch of four 3 x 3 x 3 convolutions each; heads of 1 x 1 x 1 with, for each anchor,
6 box parameters, K + 1 class scores (background, benign, malignant) and an embedding of n numbers. Anchors have sides
of 8, 16, 28, 40 and 55 voxels on each axis: 125 a cell.

The paper leaves open, and here was chosen: the widths, the first convolution, where the trunk strides (after three of
its blocks the map has 1/8 of the volume's size along each axis), batch normalisation, and that the embedding is made
of the classification branch's features, whose classes it is to tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from ..anchors import combinations
from .residual3d import ResidualTrunk, convolution

PAPER: dict = {
    "stem_channels": 24,
    "stem_stride": 1,
    "channels": (32, 64, 64, 96, 96),
    "strides": (2, 2, 2, 1, 1),
    "top_down": None,
    "head_channels": 96,
    "head_convolutions": 4,
    "anchors": combinations((8, 16, 28, 40, 55)),
    "embedding": 64,
}
"""The published configuration, for volumes of 400 x 100 x 400 voxels in patches of 320 x 96 x 320 (x, y, z)."""

COMPACT: dict = {
    "stem_channels": 16,
    "stem_stride": 2,
    "channels": (16, 32, 48, 80, 80),
    "strides": (1, 2, 1, 2, 1),
    "top_down": 2,
    "head_channels": 32,
    "head_convolutions": 2,
    # mm on its grid of 1 mm, (z, y, x): five scales, as long as deep and lying flat, as most lesions do.
    # Lesions of 3 to 45 mm, from 1.4 times as deep as long to half as deep, overlap one of them by a quarter or more.
    "anchors": (
        (4.5, 3.5, 4.5),
        (7.0, 4.5, 7.0),
        (8.0, 8.0, 8.0),
        (12.0, 7.0, 12.0),
        (13.0, 13.0, 13.0),
        (20.0, 11.0, 20.0),
        (21.0, 20.0, 21.0),
        (32.0, 18.0, 32.0),
        (45.0, 26.0, 45.0),
    ),
    "embedding": 32,
}
"""The small configuration, for volumes of 1 mm: 0.9 million parameters, most of its work on maps of 4 mm a cell. The last two blocks
see 8 mm a cell and bring what they know of the surroundings back to the finer map (`top_down`): lesions of 4 mm fall between cells of 8."""


class Predictions(NamedTuple):
    """What the network says of n anchors, in the order of `anchors.anchor_grid`.

    `logits` (N, n, K + 1), background first; `parameters` (N, n, 6), see `boxes.decode`; `features` (N, C, z, y, x), from
    which `DetectionNetwork.embed` makes embeddings, and whose last three sizes are the cells of the anchor grid.
    """

    logits: torch.Tensor
    parameters: torch.Tensor
    features: torch.Tensor


class DetectionNetwork(nn.Module):
    """Volume in; class scores, box parameters and embeddings for each anchor out. Fully convolutional.

    Parameters
    ----------
    in_channels : of the volume (1: echo).
    stem_channels, stem_stride, channels, strides : see `residual3d.ResidualTrunk`.
    top_down : None for the paper's anchors on the last map. Otherwise the block (from 0) on whose finer map they lie: the last map is
        upsampled and added to it (Lin et al. 2017, feature pyramid). Ours, not the paper's.
    head_channels, head_convolutions : of the two branches (paper: 4).
    anchors : (z, y, x) in voxels of each anchor of a cell.
    embedding : numbers an embedding (paper: 32, 64 or 128).
    classes : besides the background.
    stem_kernel : see `residual3d.ResidualTrunk`.

    Attributes
    ----------
    scale : voxels (z, y, x) a cell of the map with the anchors.
    multiple : what the sides (z, y, x) of a volume are padded to multiples of, the trunk's last scale.

    Input: (N, in_channels, z, y, x) float of any size; see `padded`.

    Raises
    ------
    ValueError : numbers that do not describe a network.
    """

    def __init__(
        self,
        in_channels: int = 1,
        stem_channels: int = PAPER["stem_channels"],
        stem_stride: int | Sequence[int] = PAPER["stem_stride"],
        channels: Sequence[int] = PAPER["channels"],
        strides: Sequence[int] = PAPER["strides"],
        top_down: int | None = None,
        head_channels: int = PAPER["head_channels"],
        head_convolutions: int = PAPER["head_convolutions"],
        anchors: Sequence[Sequence[float]] = PAPER["anchors"],
        embedding: int = PAPER["embedding"],
        classes: int = 2,
        stem_kernel: int | Sequence[int] = 3,
    ) -> None:
        super().__init__()
        if not anchors or any(len(a) != 3 or min(a) <= 0 for a in anchors):
            raise ValueError("`anchors` must name three positive sides for each anchor of a cell.")
        self.trunk = ResidualTrunk(in_channels, stem_channels, stem_stride, channels, strides, stem_kernel)
        self.anchors = tuple(tuple(float(side) for side in a) for a in anchors)
        self.classes, self.embedding_size, self.top_down = classes, embedding, top_down
        inputs, self.scale = channels[-1], self.trunk.scales[-1]
        self.multiple = self.scale
        if top_down is not None:
            if not 0 <= top_down < len(channels):
                raise ValueError(f"`top_down` is {top_down}; it must be one of the {len(channels)} blocks, from 0.")
            inputs, self.scale = channels[top_down], self.trunk.scales[top_down]
            self.lateral = nn.Conv3d(inputs, inputs, 1, bias=False)
            self.from_top = nn.Conv3d(channels[-1], inputs, 1, bias=False)
            self.fused = nn.BatchNorm3d(inputs)
        widths = [inputs, *[head_channels] * head_convolutions]
        pairs = list(zip(widths, widths[1:], strict=False))
        self.classification = nn.Sequential(*(convolution(a, b) for a, b in pairs))
        self.regression = nn.Sequential(*(convolution(a, b) for a, b in pairs))
        self.scores = nn.Conv3d(widths[-1], len(anchors) * (classes + 1), 1)
        self.boxes = nn.Conv3d(widths[-1], len(anchors) * 6, 1)
        self.embeddings = nn.Conv3d(widths[-1], len(anchors) * embedding, 1)
        self._initialise()

    def _initialise(self, prior: float = 0.01) -> None:
        for module in (self.classification, self.regression):
            for layer in module.modules():
                if isinstance(layer, nn.Conv3d):
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        for layer in (self.scores, self.boxes):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        # Hardly an anchor shows a lesion: start where each says so with p = 0.01 (Lin et al. 2017, focal loss).
        odds = torch.tensor([1 - prior] + [prior / self.classes] * self.classes).log()
        with torch.no_grad():
            self.scores.bias.copy_(odds.repeat(len(self.anchors)))

    def padded(self, volume: torch.Tensor) -> torch.Tensor:
        """A volume (N, C, z, y, x) that goes on at its end as it ends there, up to a multiple of `multiple`.

        With zeros, which are the mean of the tissue, a shadow at the volume's edge gets a bright border there and looks like a lesion.
        """
        pad = [(-n) % m for n, m in zip(volume.shape[2:], self.multiple, strict=True)]
        return F.pad(volume, (0, pad[2], 0, pad[1], 0, pad[0]), mode="replicate") if any(pad) else volume

    def forward(self, volume: torch.Tensor) -> Predictions:
        volume = self.padded(volume)
        maps = self.trunk(volume)
        features = maps[-1]
        if self.top_down is not None:
            finer = maps[self.top_down]
            # The 1 x 1 x 1 convolution commutes with the upsampling and is eight times cheaper before it.
            above = F.interpolate(self.from_top(features), size=finer.shape[2:], mode="nearest")
            features = F.relu(self.fused(self.lateral(finer) + above), inplace=True)
        seen = self.classification(features)
        logits = self._by_anchor(self.scores(seen), self.classes + 1)
        return Predictions(logits, self._by_anchor(self.boxes(self.regression(features)), 6), seen)

    @staticmethod
    def _by_anchor(maps: torch.Tensor, numbers: int) -> torch.Tensor:
        """(N, anchors x numbers, z, y, x) as (N, z y x anchors, numbers); no copy where channels come last in memory."""
        return maps.permute(0, 2, 3, 4, 1).reshape(len(maps), -1, numbers)

    def embed(self, features: torch.Tensor, image: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
        """Embeddings (m, n) of some anchors: those with index `anchors` (m,) of the images `image` (m,).

        The same as the 1 x 1 x 1 convolution would give for all anchors, of which training needs a few dozen and the
        published configuration has 2.4 million a patch.
        """
        kinds = len(self.anchors)
        cells = features.permute(0, 2, 3, 4, 1).reshape(len(features), -1, features.shape[1])
        seen = cells[image, torch.div(anchors, kinds, rounding_mode="floor")]
        weight = self.embeddings.weight.reshape(kinds, self.embedding_size, -1)[anchors % kinds]
        bias = self.embeddings.bias.reshape(kinds, self.embedding_size)[anchors % kinds]
        return torch.einsum("mnc,mc->mn", weight.to(seen.dtype), seen) + bias
