"""Networks made ready for inference: batch normalisation folded into the convolutions, weights in bfloat16 where the device is fast at it,
on other CPUs convolutions of volumes always by oneDNN.

All leave what a network computes as it is: folding and oneDNN to float32's rounding, bfloat16 weights to the bit under `devices.autocast`, which
would make the same weights of the same numbers once more in each call.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..processor import fast_bf16

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMALISATIONS = (nn.BatchNorm2d, nn.BatchNorm3d)


class GuardedConv3d(nn.Conv3d):
    """A convolution that computes in float32 where PyTorch is wrong in bfloat16.

    On CPUs a Conv3d of kernel 3 and stride 2 gives wrong numbers in bfloat16 where the innermost size of its output is 1
    (https://github.com/pytorch/pytorch/issues/169688, seen with 2.13 on processors with AMX).
    """

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        kind = image.device.type
        lowered = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else image.dtype
        if kind != "cpu" or lowered != torch.bfloat16 or self._innermost(image.shape[-1]) != 1:
            return super().forward(image)
        with torch.autocast(kind, enabled=False):
            bias = None if self.bias is None else self.bias.float()
            exact = self._conv_forward(image.float(), self.weight.float(), bias)
        return exact.to(torch.bfloat16)

    def _innermost(self, size: int) -> int:
        return (size + 2 * self.padding[-1] - self.dilation[-1] * (self.kernel_size[-1] - 1) - 1) // self.stride[-1] + 1


class OneDnnConv3d(nn.Conv3d):
    """A convolution of float32 on the CPU that oneDNN computes, whatever the sizes.

    For a single input whose batch, channels, slices and rows multiply to 20480 or less PyTorch takes its own convolution, by unfolding
    and a matrix product (https://github.com/pytorch/pytorch/pull/40610, a rule that was found for images; the columns do not count, so
    that volumes of 1 mm fall under it whole). That is several times slower: docs/performance.md.
    """

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.device.type != "cpu" or image.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return super().forward(image)
        return torch.mkldnn_convolution(
            image, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        )


def by_onednn(network: nn.Module) -> nn.Module:
    """Let the 3D convolutions of a network be `OneDnnConv3d`, where PyTorch has oneDNN."""
    if torch.backends.mkldnn.is_available():
        for module in network.modules():
            if type(module) is nn.Conv3d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
                module.__class__ = OneDnnConv3d  # the same module, parameters and all, with another forward
    return network


def prepared(network: nn.Module, device: str, volumes: bool) -> nn.Module:
    """The network for inference: in evaluation mode, on its device, without gradients, channels last in memory.

    Parameters
    ----------
    network : is changed in place where it can be.
    device : "cpu", "cuda" or "mps".
    volumes : whether it takes volumes; otherwise 2D images. Every task runs either under `devices.autocast`.
    """
    network = fold_normalisation(network.eval())
    if fast_bf16(device):
        network = guard(half_weights(network))
    elif device == "cpu":
        network = by_onednn(network)
    memory_format = torch.channels_last_3d if volumes else torch.channels_last
    return network.to(device).to(memory_format=memory_format).requires_grad_(False)


def fold_normalisation(network: nn.Module) -> nn.Module:
    """Fold each batch normalisation that directly follows a convolution in a sequence into its weights."""
    for sequence in [m for m in network.modules() if isinstance(m, nn.Sequential)]:
        for place in range(len(sequence) - 1):
            convolution, normalisation = sequence[place], sequence[place + 1]
            if not (isinstance(convolution, _CONVOLUTIONS) and isinstance(normalisation, _NORMALISATIONS)):
                continue
            if normalisation.running_mean is None or len(convolution._forward_hooks) + len(normalisation._forward_hooks):
                continue
            transposed = isinstance(convolution, (nn.ConvTranspose2d, nn.ConvTranspose3d))
            sequence[place] = fuse_conv_bn_eval(convolution, normalisation, transpose=transposed)
            sequence[place + 1] = nn.Identity()
    return network


def half_weights(network: nn.Module) -> nn.Module:
    """Keep the weights of convolutions in bfloat16. Under autocast alone: what is not a convolution stays in float32."""
    for module in network.modules():
        if isinstance(module, _CONVOLUTIONS):
            module.to(torch.bfloat16)
    return network


def guard(network: nn.Module) -> nn.Module:
    """Let the strided 3D convolutions of a network be `GuardedConv3d`."""
    for module in network.modules():
        if type(module) is nn.Conv3d and max(module.stride) > 1 and max(module.kernel_size) > 2:
            module.__class__ = GuardedConv3d  # the same module, parameters and all, with the guard's forward
    return network
