"""What Mt-Net and Sn-Net share: an image pathway and a pathway for a class activation map, added and classified together.

Qi X, Zhang L, Chen Y, Pi Y, Chen Y, Lv Q, Yi Z. Automated diagnosis of breast ultrasonography images using deep neural networks.
Medical Image Analysis 2019;52:185-198.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from .efficientnet_lite import SCALES, EfficientNetLite
from .grade_heads import Heads

_MIDDLE = 5  # stages of EfficientNet-Lite up to stride 16


class EfficientNetHalves(nn.Module):
    """EfficientNet-Lite in two halves: `start` to stride 16, `end` to stride 32."""

    def __init__(self, in_channels: int, variant: str) -> None:
        super().__init__()
        self.trunk = EfficientNetLite(in_channels, variant)
        self.channels = (self.trunk.stages[_MIDDLE - 1][-1].layers[-1].num_features, self.trunk.channels[-1])

    def start(self, image: torch.Tensor) -> torch.Tensor:
        features = self.trunk.stem(image)
        for stage in self.trunk.stages[:_MIDDLE]:
            features = stage(features)
        return features

    def end(self, features: torch.Tensor) -> torch.Tensor:
        for stage in self.trunk.stages[_MIDDLE:]:
            features = stage(features)
        return features


class Halves(nn.Module):
    """Two modules as the halves of a trunk."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.channels = (first.channels, second.channels)

    def start(self, image: torch.Tensor) -> torch.Tensor:
        return self.first(image)

    def end(self, features: torch.Tensor) -> torch.Tensor:
        return self.second(features)


class MapPathway(nn.Module):
    """A small pathway for a map: four 3 x 3 convolutions with stride 2, and a 1 x 1 convolution that begins at nothing.

    A class activation map holds a few dozen numbers; the compact networks do not spend a second trunk on it.
    """

    def __init__(self, channels: int, widths: tuple[int, ...] = (8, 16, 32, 64)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = 1
        for width in widths:
            convolution = nn.Conv2d(previous, width, 3, 2, 1, bias=False)
            layers += [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            previous = width
        self.layers = nn.Sequential(*layers)
        self.project = nn.Conv2d(previous, channels, 1)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.project(self.layers(maps))


class Look(NamedTuple):
    """`answers` as `grade_heads.Heads`; the class activation map (N, 1, H, W), 0 to 1; and `vector` (N, channels), the means of the features
    half way, of the image alone: what it looks like, where the last features only hold what it is taken for."""

    answers: dict[str, torch.Tensor]
    map: torch.Tensor
    vector: torch.Tensor


class TwoPathway(nn.Module):
    """Image and map in, answers out.

    Parameters
    ----------
    trunk : with `start`, `end` and `channels` (of both); see `Halves`.
    map_pathway : map (N, 1, H, W) to what `trunk.start` gives of an image of that size.
    main : the output whose activation map is taken.
    outputs : output -> number of classes, `main` among them; the others are learnt beside it.
    ordered : see `grade_heads.Heads`.
    dropout : before the last layer.
    map_weight : lambda of F_img + lambda F_cam.

    Input: image (N, C, H, W) float; map (N, 1, H, W) float, 0 to 1, or None for the image alone (cross training lets
    the network work without). Output: as `grade_heads.Heads`.
    """

    def __init__(
        self,
        trunk: nn.Module,
        map_pathway: nn.Module,
        main: str,
        outputs: Mapping[str, int],
        ordered: bool,
        dropout: float,
        map_weight: float,
    ) -> None:
        super().__init__()
        self.halves, self.map_pathway = trunk, map_pathway
        self.main, self.map_weight = main, map_weight
        self.dropout = nn.Dropout(dropout)
        self.heads = Heads(trunk.channels[1], outputs, ordered)

    def features(self, image: torch.Tensor, maps: torch.Tensor | None = None) -> torch.Tensor:
        """The last features, (N, channels, h, w)."""
        return self._end(self.halves.start(image), maps)

    def _end(self, middle: torch.Tensor, maps: torch.Tensor | None) -> torch.Tensor:
        return self.halves.end(middle if maps is None else middle + self.map_weight * self.map_pathway(maps))

    def forward(self, image: torch.Tensor, maps: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        return self.heads(self.dropout(self.features(image, maps).mean((2, 3))))

    def look(self, image: torch.Tensor, maps: torch.Tensor | None = None) -> Look:
        """The answers, and the class activation map of the likelier class of `main` (eq. 3 of the paper).

        M(x, y) = sum_k w_k f_k(x, y), with the weights of that class's last layer; brought to 0..1 for each image and
        resized to the input. A map without contrast is 0.
        """
        middle = self.halves.start(image)
        vector = middle.mean((2, 3))
        features = self._end(middle, maps)
        answers = self.heads(self.dropout(features.mean((2, 3))))
        weights = self.heads.layers[self.main].weight[answers[self.main].argmax(1)]
        activation = torch.einsum("nchw,nc->nhw", features, weights)[:, None]
        low, high = activation.amin((2, 3), keepdim=True), activation.amax((2, 3), keepdim=True)
        activation = (activation - low) / (high - low).clamp_min(1e-6)
        activation = F.interpolate(activation, size=image.shape[-2:], mode="bilinear", align_corners=False)
        return Look(answers, activation, vector)

    def load_imagenet(self, published: Mapping[str, torch.Tensor]) -> None:
        """EfficientNet-Lite's weights for a trunk of that kind; a second grey channel begins at nothing. ValueError otherwise."""
        if not isinstance(self.halves, EfficientNetHalves):
            raise ValueError("only a trunk of EfficientNet-Lite starts from the packaged ImageNet weights")
        load_grey(self.halves.trunk, published)


def load_grey(trunk: EfficientNetLite, published: Mapping[str, torch.Tensor]) -> None:
    """ImageNet weights for a trunk whose first channel is grey and whose others are something else: those begin at nothing."""
    channels = trunk.stem[0].in_channels
    if channels > 1:
        grey = published["_conv_stem.weight"].sum(1, keepdim=True)
        rest = grey.new_zeros(len(grey), channels - 1, *grey.shape[2:])
        published = {**published, "_conv_stem.weight": torch.cat([grey, rest], 1)}
    trunk.load_imagenet(published)


def is_efficientnet(trunk: str) -> bool:
    return trunk in SCALES
