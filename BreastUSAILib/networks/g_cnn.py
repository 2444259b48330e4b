"""G-CNN: the grade of a refined region (Huang et al., BioMedical Engineering OnLine 2019;18:8, second stage).

Nine blocks, 18 convolutions of 3 x 3. Blocks 1 to 4 have two each and a 2 x 2 pooling, block 5 has three. Blocks 6 to 9 join what came
before with blocks 4, 3, 2 and 1, made as small by a convolution and pooling, and convolve it; block 4 is as small already,
which makes 8 + 3 + 4 + 3 = 18. The paper does not say how 18 x 18 positions become the first fully connected layer's input: they are averaged to
6 x 6 here, as all of them would take 680 million weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from .efficientnet_lite import SCALES, EfficientNetLite
from .grade_heads import Heads, fully_connected
from .two_pathway import load_grey
from .vgg import Vgg

PAPER = {
    "in_channels": 1,
    "trunk": "g-cnn",
    "channels": (64, 128, 256, 512, 512),
    "outputs": {"birads": 5},
    "pooled": 6,
    "widths": (4096, 1024),
    "dropout": 0.0,
}
COMPACT = {
    "in_channels": 2,
    "trunk": "efficientnet-lite0",
    "context": 64,
    "outputs": {
        "birads": 6,
        "malignancy": 2,
        "shape": 3,
        "margin": 2,
        "indistinct": 2,
        "angular": 2,
        "microlobulated": 2,
        "spiculated": 2,
        "echogenicity": 6,
        "posterior": 4,
        "halo": 2,
        "calcifications": 2,
    },
    "ordered": True,
    "pooled": 1,
    "widths": (256,),
    "dropout": 0.3,
}
TRUNKS = ("g-cnn", "vgg16", "resnet50", *SCALES)


def _block(inputs: int, outputs: int, convolutions: int) -> nn.Sequential:
    """3 x 3 convolutions with ReLU; the last is normalised."""
    layers: list[nn.Module] = []
    for index in range(convolutions):
        last = index + 1 == convolutions
        layers.append(nn.Conv2d(inputs, outputs, 3, padding=1, bias=not last))
        if last:
            layers.append(nn.BatchNorm2d(outputs))
        layers.append(nn.ReLU(inplace=True))
        inputs = outputs
    return nn.Sequential(*layers)


class _PlainEncoder(nn.Module):
    """Blocks 1 to 5 of the paper: features at strides 1, 2, 4, 8 and 16."""

    def __init__(self, in_channels: int, channels: Sequence[int]) -> None:
        super().__init__()
        inputs = (in_channels, *channels[:-1])
        self.blocks = nn.ModuleList(
            _block(a, b, 3 if i == 4 else 2) for i, (a, b) in enumerate(zip(inputs, channels, strict=True))
        )
        self.channels = tuple(channels)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        features, maps = image, []
        for index, block in enumerate(self.blocks):
            features = block(F.max_pool2d(features, 2) if index else features)
            maps.append(features)
        return maps


class _ContextBlock(nn.Module):
    """One of blocks 6 to 9: joins the features with an encoder block, brought to their size, and convolves them."""

    def __init__(self, inputs: int, skip: int, outputs: int, reduce: bool) -> None:
        super().__init__()
        self.reduce = _block(skip, outputs, 1) if reduce else nn.Identity()
        self.fuse = _block(inputs + (outputs if reduce else skip), outputs, 1)

    def forward(self, features: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        skip = F.adaptive_max_pool2d(self.reduce(skip), features.shape[-2:])
        return self.fuse(torch.cat([features, skip], 1))


class GCnn(nn.Module):
    """G-CNN, or another trunk in its place.

    Parameters
    ----------
    in_channels : 1, or 2 with the outline.
    trunk : "g-cnn" (paper); "vgg16", "resnet50" (the paper's comparisons, without blocks 6 to 9); or an EfficientNet-Lite, whose
        features of five strides take the place of blocks 1 to 5.
    channels : of blocks 1 to 5 of the plain encoder, or of VGG.
    context : channels of blocks 6 to 9; 0: as block 5.
    outputs, ordered : see `grade_heads.Heads`.
    pooled : positions along each side that are left for the fully connected layers.
    widths : of the fully connected layers before the last.
    dropout : after each of them.

    Input: (N, in_channels, H, W) float, sides multiples of 32. Output: as `grade_heads.Heads`.
    """

    def __init__(
        self,
        in_channels: int = 1,
        trunk: str = PAPER["trunk"],
        channels: Sequence[int] = PAPER["channels"],
        context: int = 0,
        outputs: Mapping[str, int] = PAPER["outputs"],
        ordered: bool = False,
        pooled: int = PAPER["pooled"],
        widths: Sequence[int] = PAPER["widths"],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if trunk not in TRUNKS:
            raise ValueError(f"trunk {trunk!r} is unknown; choose one of {', '.join(TRUNKS)}.")
        self.pooled = pooled
        self.context = nn.ModuleList()
        if trunk == "resnet50":
            from monai.networks.nets import resnet50

            # He et al. 2016, table 1: the first convolution has stride 2, and shortcuts have no bias. MONAI's defaults are those of its
            # 3D networks. Its own pooling leaves one vector; the names are torchvision's.
            self.trunk = resnet50(
                spatial_dims=2,
                n_input_channels=in_channels,
                conv1_t_stride=2,
                bias_downsample=False,
                feed_forward=False,
            )
            self.pooled, last = 1, 2048
        elif trunk == "vgg16":
            self.trunk, last = Vgg(in_channels, channels, (2, 2, 3, 3, 3)), channels[-1]
        else:
            plain = trunk == "g-cnn"
            self.trunk = _PlainEncoder(in_channels, channels) if plain else EfficientNetLite(in_channels, trunk)
            previous = self.trunk.channels[-1]
            last = context or previous
            for number, skip in enumerate(reversed(self.trunk.channels[:4])):
                # The paper's pooled block 4 is as small as block 5.
                self.context.append(_ContextBlock(previous, skip, last, reduce=not (plain and number == 0)))
                previous = last
        self.connected = fully_connected(last * self.pooled**2, widths, dropout)
        self.heads = Heads(widths[-1] if widths else last * self.pooled**2, outputs, ordered)
        for module in [
            *self.context.modules(),
            *([] if trunk in SCALES or trunk == "resnet50" else self.trunk.modules()),
        ]:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = self.trunk(image)
        if torch.is_tensor(maps):  # ResNet-50's pooled features
            features = maps.flatten(1)
        else:
            *skips, features = maps
            for block, skip in zip(self.context, reversed(skips), strict=False):
                features = block(features, skip)
            features = F.adaptive_avg_pool2d(features, self.pooled).flatten(1)
        return self.heads(self.connected(features))

    def load_imagenet(self, published: Mapping[str, torch.Tensor]) -> None:
        """EfficientNet-Lite's weights for a trunk of that kind. ValueError otherwise."""
        if not isinstance(self.trunk, EfficientNetLite):
            raise ValueError("only a trunk of EfficientNet-Lite starts from the packaged ImageNet weights")
        load_grey(self.trunk, published)
