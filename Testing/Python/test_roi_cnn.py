"""ROI-CNN: the paper's numbers, counted and worked out independently of the code."""

import pytest
import torch
from torch.nn import functional as F

from BreastUSAILib.networks.efficientnet_lite import SCALES, EfficientNetLite, scaled_stages
from BreastUSAILib.networks.roi_cnn import COMPACT, PAPER, RoiCnn, _bilinear_upsampling


def _parameters(module):
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def paper():
    torch.manual_seed(0)
    return RoiCnn(in_channels=3, **PAPER).eval()


def test_paper_trunk_is_vgg16(paper):
    # The 13 convolutions of VGG-16 (configuration D) have 14,714,688 parameters: torchvision's `vgg16().features`.
    assert _parameters(paper.trunk.blocks) == 14_714_688


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
    network(torch.randn(2, 1, 128, 128)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters() if p.ndim > 1)


def test_compact_is_small_and_the_same_class():
    assert _parameters(RoiCnn(**COMPACT)) < 4e6
    assert set(COMPACT) == set(PAPER)


def test_wrong_configurations_are_refused():
    with pytest.raises(ValueError, match="five blocks"):
        RoiCnn(channels=(8, 8))
    with pytest.raises(ValueError, match="at most four"):
        RoiCnn(decoder_channels=(8,) * 5)
    with pytest.raises(ValueError, match="choose one of vgg, efficientnet-lite0"):
        RoiCnn(trunk="resnet")


@pytest.mark.parametrize(("variant", "millions"), [("efficientnet-lite0", 4.7), ("efficientnet-lite1", 5.4), ("efficientnet-lite2", 6.1)])
def test_efficientnet_lite_has_the_published_size(variant, millions):
    # tensorflow/tpu states the parameters with the head: 1 x 1 convolution to 1280 (batch-normalised) and 1000 classes.
    trunk = EfficientNetLite(3, variant)
    head = trunk.channels[-1] * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    assert round((_parameters(trunk) + head) / 1e6, 1) == millions


def test_stages_are_scaled_as_published():
    assert [stage[0] for stage in scaled_stages("efficientnet-lite2")] == [1, 3, 3, 4, 4, 5, 1]
    assert [stage[4] for stage in scaled_stages("efficientnet-lite2")] == [16, 24, 48, 88, 120, 208, 352]
    with pytest.raises(ValueError, match="choose one of efficientnet-lite0, efficientnet-lite1, efficientnet-lite2"):
        scaled_stages("efficientnet-b7")


@pytest.mark.parametrize("variant", SCALES)
def test_efficientnet_lite_has_the_strides_and_channels_it_states(variant):
    trunk = EfficientNetLite(variant=variant).eval()
    with torch.inference_mode():
        maps = trunk(torch.zeros(1, 1, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [(c, 64 // s, 96 // s) for c, s in zip(trunk.channels, trunk.strides, strict=True)]


def _published_names(trunk):
    """The trunk's weights in the names of the port, written out here by hand for the first blocks and counted for the rest."""
    state, published, number = trunk.state_dict(), {}, 0
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    published["_conv_stem.weight"] = state["stem.0.weight"]
    published |= {f"_bn0.{n}": state[f"stem.1.{n}"] for n in norm}
    for stage, count in enumerate((1, 2, 2, 3, 3, 4, 1)):
        for block in range(count):
            names = ["_expand_conv", "_depthwise_conv", "_project_conv"] if stage else ["_depthwise_conv", "_project_conv"]
            for place, name in enumerate(names):
                ours = f"stages.{stage}.{block}.layers.{3 * place}"
                published[f"_blocks.{number}.{name}.weight"] = state[f"{ours}.weight"]
                bn = {"_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2"}[name]
                published |= {f"_blocks.{number}.{bn}.{n}": state[ours[:-1] + f"{3 * place + 1}.{n}"] for n in norm}
            number += 1
    assert number == 16
    return published


def test_imagenet_weights_are_taken_over_and_colours_add_up_to_grey():
    torch.manual_seed(0)
    colour, grey = EfficientNetLite(3).eval(), EfficientNetLite(1).eval()
    for module in colour.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
    published = _published_names(colour)
    grey.load_imagenet(published)
    image = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        for found, expected in zip(grey(image), colour(image.expand(1, 3, 64, 64)), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    published.pop("_blocks.3._bn1.bias")
    with pytest.raises(ValueError, match="_blocks.3._bn1.bias"):
        grey.load_imagenet(published)


def test_weights_of_another_network_are_refused():
    published = _published_names(EfficientNetLite(3))
    published["_blocks.2._project_conv.weight"] = torch.zeros(3, 3, 1, 1)
    with pytest.raises(ValueError, match="not the weights of efficientnet-lite0"):
        EfficientNetLite(1).load_imagenet(published)
