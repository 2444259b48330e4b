"""Networks made ready for inference say what they said before."""

import pytest
import torch
from torch import nn

from BreastUSAILib.models import inference
from BreastUSAILib.models.inference import (
    GuardedConv3d,
    OneDnnConv3d,
    by_onednn,
    fold_normalisation,
    guard,
    half_weights,
    prepared,
)
from BreastUSAILib.networks.detection import DetectionNetwork
from BreastUSAILib.networks.vnet import VNet

TINY = {"stem_channels": 4, "stem_stride": 2, "channels": (4, 6, 8), "strides": (1, 2, 1), "head_channels": 4, "head_convolutions": 1}
VNET = {"channels": (2, 4, 4, 6, 6), "convolutions": (1, 1, 1, 1, 1), "hidden": 4}


def lived(network):
    """With statistics and weights of batch normalisation that are not those it begins with."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return network.eval()


def detector():
    return lived(DetectionNetwork(**TINY, anchors=[(4.0, 4.0, 4.0), (8.0, 8.0, 8.0)], embedding=4))


@pytest.mark.parametrize("make", [detector, lambda: lived(VNet(**VNET)), lambda: lived(VNet(**VNET, full_ends=False))])
def test_folding_changes_nothing_but_the_rounding(make):
    network, volume = make(), torch.randn(1, 1, 16, 32, 16)
    with torch.inference_mode():
        before = network(volume)
        count = sum(isinstance(m, nn.BatchNorm3d) for m in network.modules())
        folded = fold_normalisation(network)
        after = folded(volume)
    assert sum(isinstance(m, nn.BatchNorm3d) for m in folded.modules()) < count / 2
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [detector, lambda: lived(VNet(**VNET, branch="regions"))])
def test_weights_kept_in_bfloat16_give_the_bits_of_autocast(make):
    network, volume = fold_normalisation(make()), torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        before = network(volume)
        after = half_weights(network)(volume)
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("autocast", [True, False])
def test_strided_convolutions_are_right_in_bfloat16_whatever_the_innermost_size(size, autocast):
    """pytorch/pytorch issue 169688: 3 x 3 x 3, stride 2, one voxel wide at the end."""
    torch.manual_seed(size)
    convolution, volume = nn.Conv3d(16, 16, 3, 2, 1), torch.randn(2, 16, 8, 8, size)
    with torch.inference_mode():
        exact = convolution(volume)
        network = guard(half_weights(nn.Sequential(convolution)).to(memory_format=torch.channels_last_3d))
        volume = volume.to(memory_format=torch.channels_last_3d)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = network(volume if autocast else volume.bfloat16())
    assert isinstance(network[0], GuardedConv3d) and found.dtype == torch.bfloat16
    assert (found.float() - exact).abs().max() < 0.02 * exact.abs().max()


def test_what_pytorch_computes_wrongly_is_left_to_float32(monkeypatch):
    network = guard(half_weights(nn.Sequential(nn.Conv3d(2, 2, 3, 2, 1))))
    kinds = []
    plain = nn.Conv3d._conv_forward
    monkeypatch.setattr(nn.Conv3d, "_conv_forward", lambda self, x, w, b: kinds.append(w.dtype) or plain(self, x, w, b))
    with torch.inference_mode():
        for size in (2, 3):
            network(torch.randn(1, 2, 4, 4, size).bfloat16())
    assert kinds == [torch.float32, torch.bfloat16]


def test_bfloat16_is_for_devices_that_are_fast_at_it(monkeypatch):
    def kind(fast, volumes):
        monkeypatch.setattr(inference, "fast_bf16", lambda device: fast)
        return prepared(detector() if volumes else nn.Sequential(nn.Conv2d(1, 1, 3)), "cpu", volumes)

    assert kind(True, True).trunk.stem[0].weight.dtype == torch.bfloat16
    assert kind(True, False)[0].weight.dtype == torch.bfloat16
    assert kind(False, True).trunk.stem[0].weight.dtype == kind(False, False)[0].weight.dtype == torch.float32
    assert not any(p.requires_grad for p in kind(True, True).parameters())


onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch was built without oneDNN")


@onednn
@pytest.mark.parametrize("make", [detector, lambda: lived(VNet(**VNET)), lambda: nn.Conv3d(3, 6, 3, 2, 1, dilation=2, groups=3)])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_onednn_changes_nothing_but_the_rounding(make, batch, layout):
    network = make()
    channels = network.in_channels if isinstance(network, nn.Conv3d) else 1
    volume = torch.randn(batch, channels, 16, 16, 32)
    with torch.inference_mode():
        before = network(volume)
        after = by_onednn(network.to(memory_format=layout))(volume.to(memory_format=layout))
    for one, other in zip(
        *((a,) if isinstance(a, torch.Tensor) else tuple(a) for a in (before, after)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@onednn
def test_convolutions_of_a_small_volume_are_all_onednns(monkeypatch):
    """What PyTorch itself computes otherwise: 12 channels of 16 slices and 16 rows are fewer than 20480."""

    def operators(network):
        with torch.inference_mode(), torch.profiler.profile() as profile:
            network(torch.randn(1, 1, 32, 32, 32))
        return [event.key for event in profile.key_averages()]

    monkeypatch.setattr(inference, "fast_bf16", lambda device: False)
    assert any("slow_conv3d" in name for name in operators(detector()))
    ready = prepared(detector(), "cpu", True)
    assert any(isinstance(m, OneDnnConv3d) for m in ready.modules())
    assert not any("slow_conv3d" in name for name in operators(ready))


@onednn
def test_onednn_takes_float32_on_the_cpu_and_nothing_else():
    convolution, volume = by_onednn(nn.Sequential(nn.Conv3d(2, 3, 3, padding=1))), torch.randn(1, 2, 8, 8, 8)
    with torch.inference_mode():
        exact = convolution(volume)
        with torch.autocast("cpu", torch.bfloat16):
            assert convolution(volume).dtype == torch.bfloat16
        assert convolution.double()(volume.double()).dtype == torch.float64
    convolution.float()(volume.requires_grad_()).sum().backward()
    assert volume.grad is not None and exact.dtype == torch.float32
    circular = by_onednn(nn.Sequential(nn.Conv3d(1, 1, 3, padding=1, padding_mode="circular"), nn.Conv3d(1, 1, 3, padding="same")))
    assert not any(isinstance(m, OneDnnConv3d) for m in circular)
