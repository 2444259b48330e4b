"""ROI-CNN: the network that finds the region of the lesion in a 2D breast ultrasound image.

Huang Y, Han L, Dou H, et al. Two-stage CNNs for computerized BI-RADS categorization in breast ultrasound images.
BioMed Eng OnLine 2019;18:8, section "ROI-CNN"; upsampling: Long, Shelhamer & Darrell 2015 (FCN-16s).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from .efficientnet_lite import SCALES, EfficientNetLite
from .vgg import Vgg

PAPER: dict = {
    "trunk": "vgg",
    "channels": (64, 128, 256, 512, 512),
    "convolutions": (2, 2, 3, 3, 3),
    "context_channels": 512,
    "decoder_channels": (),
    "batch_norm": False,
}
"""The published configuration: VGG-16 trunk, stride 16, 18 x 18 features of a 288 x 288 input, one x16 upsampling."""

COMPACT: dict = {
    "trunk": "efficientnet-lite0",
    "channels": (),
    "convolutions": (),
    "context_channels": 128,
    "decoder_channels": (96, 64, 48, 32),
    "batch_norm": True,
}
"""The configuration that ships. The paper's trunk brings what ImageNet taught it; that of VGG-16 alone would be 29 MB. This one keeps
the idea at a fifth of that: an ImageNet-trained EfficientNet-Lite0, and FCN's fusion of finer stages carried on to stride 2."""


def _convolution(inputs: int, outputs: int, batch_norm: bool, kernel: int = 3, dilation: int = 1) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=not batch_norm)
    ]
    if batch_norm:
        layers.append(nn.BatchNorm2d(outputs))
    layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _bilinear_upsampling(channels: int, factor: int) -> nn.ConvTranspose2d:
    """A learnt upsampling that starts as bilinear interpolation, as in FCN."""
    kernel = 2 * factor
    layer = nn.ConvTranspose2d(channels, channels, kernel, stride=factor, padding=factor // 2, bias=False)
    position = torch.arange(kernel, dtype=torch.float32)
    ramp = 1 - (position - (factor - 0.5)).abs() / factor
    with torch.no_grad():
        layer.weight.zero_()
        for channel in range(channels):
            layer.weight[channel, channel] = torch.outer(ramp, ramp)
    return layer


class RoiCnn(nn.Module):
    """Fully convolutional network: image in, one map of lesion logits out.

    The trunk's last features are seen twice: by a 1 x 1 *transitional* convolution (the trunk's own receptive field) and by a
    3 x 3 *atrous* convolution of rate 2 (a wider one); the two are concatenated and upsampled to the input's size. The
    paper names these parts and does not draw the order of the two; side by side was chosen, as only then are two
    receptive fields there to be concatenated.

    Parameters
    ----------
    in_channels : image channels (1: luminance).
    trunk : "vgg" (paper: four poolings, features at stride 16) or one of
        "efficientnet-lite0" to "-lite2" (features at stride 32).
    channels, convolutions, batch_norm : of the VGG trunk (see `vgg.Vgg`); `batch_norm` also of the layers after any
        trunk. Not in the paper: a VGG without ImageNet weights does not train without it.
    context_channels : filters of the atrous and of the transitional convolution (paper: 512).
    decoder_channels : empty for the paper's single upsampling by the trunk's stride. Otherwise the widths of up to four
        stages that upsample by 2 and fuse the trunk's finer features as FCN-8s does for one more stage; what is
        left to the input's size is interpolated. This is ours, not the paper's: contours at stride 16 are too coarse
        to measure a lesion from.

    Input: (N, in_channels, H, W) float, any H, W >= the trunk's stride (16 or 32); sides that it does not divide are padded by
    replication and cropped back. Output: (N, 1, H, W) logits; ``sigmoid`` gives the probability map.

    Raises
    ------
    ValueError : an unknown trunk, or numbers that do not describe one.
    """

    def __init__(
        self,
        in_channels: int = 1,
        trunk: str = PAPER["trunk"],
        channels: Sequence[int] = PAPER["channels"],
        convolutions: Sequence[int] = PAPER["convolutions"],
        context_channels: int = PAPER["context_channels"],
        decoder_channels: Sequence[int] = (),
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if len(decoder_channels) > 4:
            raise ValueError("`decoder_channels` can name at most four stages, one for each of the trunk's finer features.")
        if trunk == "vgg":
            self.trunk = Vgg(in_channels, channels, convolutions, batch_norm)
        elif trunk in SCALES:
            self.trunk = EfficientNetLite(in_channels, trunk)
        else:
            raise ValueError(f"trunk {trunk!r} is unknown; choose one of vgg, {', '.join(SCALES)}.")
        last = self.trunk.channels[-1]
        self.atrous = _convolution(last, context_channels, batch_norm, dilation=2)
        self.transitional = _convolution(last, context_channels, batch_norm, kernel=1)

        self.fusions = nn.ModuleList()
        previous = 2 * context_channels
        for width, skip in zip(decoder_channels, reversed(self.trunk.channels[:4]), strict=False):
            self.fusions.append(
                nn.ModuleDict(
                    {
                        "reduce": _convolution(previous, width, batch_norm, kernel=1),
                        "fuse": _convolution(width + skip, width, batch_norm),
                    }
                )
            )
            previous = width
        self.score = nn.Conv2d(previous, 1, 1)
        self.upsampling = None if decoder_channels else _bilinear_upsampling(1, self.trunk.strides[-1])
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # Each filter of a depthwise convolution sees one channel only, which "fan in" takes into account.
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # Lesions cover about a tenth of an image: start there rather than at one half.
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.constant_(self.score.bias, -2.2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        height, width = image.shape[-2:]
        stride = self.trunk.strides[-1]
        pad = (-width % stride, -height % stride)
        if any(pad):
            image = F.pad(image, (0, pad[0], 0, pad[1]), mode="replicate")
        *skips, features = self.trunk(image)
        features = torch.cat([self.transitional(features), self.atrous(features)], dim=1)
        for fusion, skip in zip(self.fusions, reversed(skips), strict=False):
            # The 1 x 1 reduction commutes with the interpolation and is four times cheaper before it.
            features = F.interpolate(fusion["reduce"](features), scale_factor=2, mode="bilinear", align_corners=False)
            features = fusion["fuse"](torch.cat([features, skip], dim=1))
        logits = self.score(features)
        if self.upsampling is not None:
            logits = self.upsampling(logits)
        elif logits.shape[-1] != image.shape[-1]:
            logits = F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)
        return logits[..., :height, :width]
