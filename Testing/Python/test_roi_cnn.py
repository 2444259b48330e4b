"""ROI-CNN: the paper's numbers, counted and worked out independently of the code."""

import pytest
import torch
from torch.nn import functional as F

from BreastUSAILib.networks.roi_cnn import COMPACT, PAPER, RoiCnn, _bilinear_upsampling


def _parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def paper():
    torch.manual_seed(0)
    return RoiCnn(in_channels=3, **PAPER).eval()


def test_paper_trunk_is_vgg16(paper):
    # The 13 convolutions of VGG-16 (configuration D) have 14,714,688 parameters: torchvision's `vgg16().features`.
    assert _parameters(paper.blocks) == 14_714_688


def test_paper_head(paper):
    assert _parameters(paper.atrous) == 512 * 512 * 9 + 512
    assert _parameters(paper.transitional) == 512 * 512 + 512
    assert paper.atrous[0].dilation == (2, 2) and paper.atrous[0].kernel_size == (3, 3)
    assert paper.score.in_channels == 1024
    assert paper.upsampling.stride == (16, 16)


def test_paper_has_18_by_18_features_of_a_288_image(paper):
    seen = []
    hook = paper.atrous.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].shape, output.shape)))
    with torch.inference_mode():
        logits = paper(torch.zeros(1, 3, 288, 288))
    hook.remove()
    assert seen == [((1, 512, 18, 18), (1, 512, 18, 18))]
    assert logits.shape == (1, 1, 288, 288)


def test_learnt_upsampling_starts_as_bilinear_interpolation():
    maps = torch.randn(2, 1, 7, 5)
    expected = F.interpolate(maps, scale_factor=16, mode="bilinear", align_corners=False)
    with torch.no_grad():
        found = _bilinear_upsampling(1, 16)(maps)
    inside = (..., slice(16, -16), slice(16, -16))
    torch.testing.assert_close(found[inside], expected[inside], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(16, 16), (100, 37), (192, 160)])
def test_any_size_comes_back_at_its_own_size(size):
    network = RoiCnn(**COMPACT).eval()
    with torch.inference_mode():
        assert network(torch.randn(1, 1, *size)).shape == (1, 1, *size)


def test_gradient_reaches_every_parameter():
    network = RoiCnn(**COMPACT)
    network(torch.randn(2, 1, 64, 64)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters() if p.ndim > 1)


def test_compact_is_small_and_the_same_class():
    assert _parameters(RoiCnn(**COMPACT)) < 3e6
    assert set(COMPACT) == set(PAPER)


def test_wrong_configurations_are_refused():
    with pytest.raises(ValueError, match="five blocks"):
        RoiCnn(channels=(8, 8))
    with pytest.raises(ValueError, match="at most four"):
        RoiCnn(decoder_channels=(8,) * 5)
