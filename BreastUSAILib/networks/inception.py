"""The convolutional parts of Inception-v3 and Inception-ResNet-v2, each in two halves between which a second pathway joins.

Szegedy C, Vanhoucke V, Ioffe S, Shlens J, Wojna Z. Rethinking the Inception architecture for computer vision. CVPR 2016.
Szegedy C, Ioffe S, Vanhoucke V, Alemi A. Inception-v4, Inception-ResNet and the impact of residual connections on learning. AAAI 2017.

Blocks are tables of parallel paths; layers have the names that torchvision and timm give them, with "_" for "." within a
block, so that weights in those layouts find their place (`training.imagenet`). Channels can be scaled by a `width`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

_EPSILON = 1e-3  # of batch normalisation, as the published weights have it


def _scaled(channels: int, width: float) -> int:
    return max(4, round(channels * width))


class Convolution(nn.Module):
    """Convolution without bias, batch normalisation, ReLU. `padding` None: the size stays (for odd kernels)."""

    def __init__(self, inputs: int, outputs: int, kernel, stride: int = 1, padding=None) -> None:
        super().__init__()
        kernel = (kernel, kernel) if isinstance(kernel, int) else tuple(kernel)
        padding = tuple(k // 2 for k in kernel) if padding is None else padding
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=_EPSILON)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.bn(self.conv(features)))


class Mixed(nn.Module):
    """Parallel paths, joined along the channels.

    Parameters
    ----------
    inputs : channels.
    paths : each a sequence of steps: ("name", channels, kernel[, stride[, padding]]) for a convolution; "avg" for a
        mean of 3 x 3 that keeps the size, with the padding or, "avg-inside", without; "max2" for a maximum of 3 x 3 with stride 2; a
        list of convolutions for a fork, whose ends are joined.
    width : factor of all channels.

    Attributes
    ----------
    channels : of the result.
    """

    def __init__(self, inputs: int, paths: Sequence[Sequence], width: float = 1.0) -> None:
        super().__init__()
        self._paths: list[list] = []
        self.channels = 0
        for path in paths:
            steps, channels = [], inputs
            for step in path:
                if isinstance(step, str):
                    steps.append(step)
                elif isinstance(step, list):
                    steps.append([part[0] for part in step])
                    for name, count, *rest in step:
                        self.add_module(name, Convolution(channels, _scaled(count, width), *rest))
                    channels = sum(_scaled(part[1], width) for part in step)
                else:
                    name, count, *rest = step
                    self.add_module(name, Convolution(channels, _scaled(count, width), *rest))
                    steps.append(name)
                    channels = _scaled(count, width)
            self._paths.append(steps)
            self.channels += channels

    def _step(self, step, features: torch.Tensor) -> torch.Tensor:
        if isinstance(step, list):
            return torch.cat([self.get_submodule(name)(features) for name in step], 1)
        if step == "avg":
            return nn.functional.avg_pool2d(features, 3, 1, 1)
        if step == "avg-inside":
            return nn.functional.avg_pool2d(features, 3, 1, 1, count_include_pad=False)
        if step == "max2":
            return nn.functional.max_pool2d(features, 3, 2)
        return self.get_submodule(step)(features)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        results = []
        for path in self._paths:
            result = features
            for step in path:
                result = self._step(step, result)
            results.append(result)
        return torch.cat(results, 1)


class Residual(Mixed):
    """An Inception-ResNet block: the paths, projected to the input's channels, scaled and added to it; ReLU unless the last."""

    def __init__(self, inputs: int, paths: Sequence[Sequence], scale: float, width: float, active: bool = True) -> None:
        super().__init__(inputs, paths, width)
        self.conv2d = nn.Conv2d(self.channels, inputs, 1)
        self.channels = inputs
        self.scale, self.active = scale, active

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        result = features + self.scale * self.conv2d(super().forward(features))
        return torch.relu(result) if self.active else result


_BLOCK35 = (
    (("branch0", 32, 1),),
    (("branch1_0", 32, 1), ("branch1_1", 32, 3)),
    (("branch2_0", 32, 1), ("branch2_1", 48, 3), ("branch2_2", 64, 3)),
)
_BLOCK17 = (
    (("branch0", 192, 1),),
    (("branch1_0", 128, 1), ("branch1_1", 160, (1, 7)), ("branch1_2", 192, (7, 1))),
)
_BLOCK8 = (
    (("branch0", 192, 1),),
    (("branch1_0", 192, 1), ("branch1_1", 224, (1, 3)), ("branch1_2", 256, (3, 1))),
)
_RESNET_5B = (
    (("branch0", 96, 1),),
    (("branch1_0", 48, 1), ("branch1_1", 64, 5)),
    (("branch2_0", 64, 1), ("branch2_1", 96, 3), ("branch2_2", 96, 3)),
    ("avg-inside", ("branch3_1", 64, 1)),
)
_RESNET_6A = (
    (("branch0", 384, 3, 2, 0),),
    (("branch1_0", 256, 1), ("branch1_1", 256, 3), ("branch1_2", 384, 3, 2, 0)),
    ("max2",),
)
_RESNET_7A = (
    (("branch0_0", 256, 1), ("branch0_1", 384, 3, 2, 0)),
    (("branch1_0", 256, 1), ("branch1_1", 288, 3, 2, 0)),
    (("branch2_0", 256, 1), ("branch2_1", 288, 3), ("branch2_2", 320, 3, 2, 0)),
    ("max2",),
)


class InceptionResNetStart(nn.Module):
    """Stem, `blocks[0]` blocks at 35 x 35, a reduction, and `blocks[1]` blocks at 17 x 17 (of 299 x 299).

    Input: (N, in_channels, H, W), sides 75 at least. Output: (N, channels, h, w); 1088 x 17 x 17 in the paper.
    """

    def __init__(self, in_channels: int, blocks: Sequence[int], scales: Sequence[float], width: float = 1.0) -> None:
        super().__init__()

        def w(channels: int) -> int:
            return _scaled(channels, width)

        self.conv2d_1a = Convolution(in_channels, w(32), 3, 2, 0)
        self.conv2d_2a = Convolution(w(32), w(32), 3, 1, 0)
        self.conv2d_2b = Convolution(w(32), w(64), 3)
        self.conv2d_3b = Convolution(w(64), w(80), 1)
        self.conv2d_4a = Convolution(w(80), w(192), 3, 1, 0)
        self.mixed_5b = Mixed(w(192), _RESNET_5B, width)
        channels = self.mixed_5b.channels
        self.repeat = nn.Sequential(*(Residual(channels, _BLOCK35, scales[0], width) for _ in range(blocks[0])))
        self.mixed_6a = Mixed(channels, _RESNET_6A, width)
        self.channels = self.mixed_6a.channels
        self.repeat_1 = nn.Sequential(*(Residual(self.channels, _BLOCK17, scales[1], width) for _ in range(blocks[1])))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(image)))
        features = self.conv2d_4a(self.conv2d_3b(nn.functional.max_pool2d(features, 3, 2)))
        features = self.mixed_5b(nn.functional.max_pool2d(features, 3, 2))
        return self.repeat_1(self.mixed_6a(self.repeat(features)))


class InceptionResNetEnd(nn.Module):
    """A reduction, `count` blocks at 8 x 8 and one more without scale and ReLU, and a 1 x 1 convolution to `channels` (1536)."""

    def __init__(self, inputs: int, count: int, scale: float, width: float = 1.0) -> None:
        super().__init__()
        self.mixed_7a = Mixed(inputs, _RESNET_7A, width)
        middle = self.mixed_7a.channels
        self.repeat_2 = nn.Sequential(*(Residual(middle, _BLOCK8, scale, width) for _ in range(count)))
        self.block8 = Residual(middle, _BLOCK8, 1.0, width, active=False)
        self.channels = _scaled(1536, width)
        self.conv2d_7b = Convolution(middle, self.channels, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.conv2d_7b(self.block8(self.repeat_2(self.mixed_7a(features))))


def _inception_a(pool: int) -> tuple:
    return (
        (("branch1x1", 64, 1),),
        (("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)),
        (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)),
        ("avg", ("branch_pool", pool, 1)),
    )


_INCEPTION_B = (
    (("branch3x3", 384, 3, 2, 0),),
    (("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3, 2, 0)),
    ("max2",),
)


def _inception_c(c: int) -> tuple:
    return (
        (("branch1x1", 192, 1),),
        (("branch7x7_1", c, 1), ("branch7x7_2", c, (1, 7)), ("branch7x7_3", 192, (7, 1))),
        (
            ("branch7x7dbl_1", c, 1),
            ("branch7x7dbl_2", c, (7, 1)),
            ("branch7x7dbl_3", c, (1, 7)),
            ("branch7x7dbl_4", c, (7, 1)),
            ("branch7x7dbl_5", 192, (1, 7)),
        ),
        ("avg", ("branch_pool", 192, 1)),
    )


_INCEPTION_D = (
    (("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, 2, 0)),
    (
        ("branch7x7x3_1", 192, 1),
        ("branch7x7x3_2", 192, (1, 7)),
        ("branch7x7x3_3", 192, (7, 1)),
        ("branch7x7x3_4", 192, 3, 2, 0),
    ),
    ("max2",),
)
_INCEPTION_E = (
    (("branch1x1", 320, 1),),
    (("branch3x3_1", 384, 1), [("branch3x3_2a", 384, (1, 3)), ("branch3x3_2b", 384, (3, 1))]),
    (
        ("branch3x3dbl_1", 448, 1),
        ("branch3x3dbl_2", 384, 3),
        [("branch3x3dbl_3a", 384, (1, 3)), ("branch3x3dbl_3b", 384, (3, 1))],
    ),
    ("avg", ("branch_pool", 192, 1)),
)
_V3_START = (
    ("Mixed_5b", _inception_a(32)),
    ("Mixed_5c", _inception_a(64)),
    ("Mixed_5d", _inception_a(64)),
    ("Mixed_6a", _INCEPTION_B),
    ("Mixed_6b", _inception_c(128)),
    ("Mixed_6c", _inception_c(160)),
    ("Mixed_6d", _inception_c(160)),
    ("Mixed_6e", _inception_c(192)),
)
_V3_END = (("Mixed_7a", _INCEPTION_D), ("Mixed_7b", _INCEPTION_E), ("Mixed_7c", _INCEPTION_E))


def _chain(owner: nn.Module, table: Sequence[tuple[str, tuple]], channels: int, width: float) -> int:
    """Add the blocks of a table to a module; returns the channels of the last."""
    for name, paths in table:
        block = Mixed(channels, paths, width)
        owner.add_module(name, block)
        channels = block.channels
    return channels


class InceptionV3Start(nn.Module):
    """Inception-v3 up to its last block at 17 x 17 (of 299 x 299).

    Input: (N, in_channels, H, W), sides 75 at least. Output: (N, channels, h, w); 768 x 17 x 17 in the paper.

    `blocks` : how many of the four blocks at 17 x 17 belong to this half; the rest to `InceptionV3End`.
    """

    def __init__(self, in_channels: int, blocks: int = 4, width: float = 1.0) -> None:
        super().__init__()

        def w(channels: int) -> int:
            return _scaled(channels, width)

        self.Conv2d_1a_3x3 = Convolution(in_channels, w(32), 3, 2, 0)
        self.Conv2d_2a_3x3 = Convolution(w(32), w(32), 3, 1, 0)
        self.Conv2d_2b_3x3 = Convolution(w(32), w(64), 3)
        self.Conv2d_3b_1x1 = Convolution(w(64), w(80), 1)
        self.Conv2d_4a_3x3 = Convolution(w(80), w(192), 3, 1, 0)
        table = _V3_START[: 4 + blocks]
        self._blocks = tuple(name for name, _ in table)
        self.channels = _chain(self, table, w(192), width)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(image)))
        features = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(nn.functional.max_pool2d(features, 3, 2)))
        features = nn.functional.max_pool2d(features, 3, 2)
        for name in self._blocks:
            features = self.get_submodule(name)(features)
        return features


class InceptionV3End(nn.Module):
    """The rest of Inception-v3 after `blocks` blocks at 17 x 17, down to `channels` (2048) x 8 x 8."""

    def __init__(self, inputs: int, blocks: int = 4, width: float = 1.0) -> None:
        super().__init__()
        table = (*_V3_START[4 + blocks :], *_V3_END)
        self._blocks = tuple(name for name, _ in table)
        self.channels = _chain(self, table, inputs, width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        for name in self._blocks:
            features = self.get_submodule(name)(features)
        return features
