"""G-CNN, Mt-Net and Sn-Net: the papers' numbers, answers and activation maps, weights of one's own."""

import numpy as np
import pytest
import torch
from grade_cases import SMALL_G, SMALL_MT, SMALL_SN
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from BreastUSAILib.errors import ModelError
from BreastUSAILib.networks import g_cnn, inception, mt_net, sn_net
from BreastUSAILib.networks.g_cnn import GCnn
from BreastUSAILib.networks.grade_heads import OrderedScale
from BreastUSAILib.networks.mt_net import MtNet
from BreastUSAILib.networks.sn_net import SnNet
from BreastUSAILib.training.imagenet import Matched, load_matching


def _small(cls, arguments):
    torch.manual_seed(0)
    return cls(**arguments).eval()


def test_mt_net_has_table_1s_blocks_and_joins_at_1088_x_17_x_17():
    with torch.device("meta"):
        network = MtNet(**mt_net.PAPER).eval()
    image = torch.zeros(1, 1, 299, 299, device="meta")
    joined = network.halves.start(image) + network.map_pathway(image)
    assert joined.shape == (1, 1088, 17, 17) and network.halves.end(joined).shape == (1, 1536, 8, 8)
    first, second = network.halves.first, network.halves.second
    assert [len(part) for part in (first.repeat, first.repeat_1, second.repeat_2)] == [10, 20, 9]
    assert {b.scale for b in first.repeat} == {0.17} and {b.scale for b in first.repeat_1} == {0.10}
    assert {b.scale for b in second.repeat_2} == {0.20} and not second.block8.active
    assert network.dropout.p == 0.2
    # 54.3 M weights are published for Inception-ResNet-v2 without its classifier and for colour images.
    trunk = sum(p.numel() for p in network.halves.parameters())
    assert trunk + 2 * 32 * 9 == 54_306_464


def test_sn_net_joins_at_768_x_17_x_17():
    with torch.device("meta"):
        network = SnNet(**sn_net.PAPER).eval()
    image = torch.zeros(1, 1, 299, 299, device="meta")
    joined = network.halves.start(image) + network.map_pathway(image)
    assert joined.shape == (1, 768, 17, 17) and network.halves.end(joined).shape == (1, 2048, 8, 8)
    # torchvision's Inception-v3 has 21,785,568 weights without the auxiliary and the last classifier, for colour images.
    assert sum(p.numel() for p in network.halves.parameters()) + 2 * 32 * 9 == 21_785_568


def test_g_cnn_has_nine_blocks_and_eighteen_convolutions():
    with torch.device("meta"):
        network = GCnn(**g_cnn.PAPER).eval()
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 18 and {c.kernel_size for c in convolutions} == {(3, 3)}
    assert len(network.trunk.blocks) + len(network.context) == 9
    linear = [m.out_features for m in network.modules() if isinstance(m, torch.nn.Linear)]
    assert linear == [4096, 1024, 5]
    assert network(torch.zeros(2, 1, 288, 288, device="meta"))["birads"].shape == (2, 5)


def test_resnet_50_is_the_published_one():
    """He et al. 2016, table 1, at 288 x 288; torchvision's resnet50 has 23,508,032 weights without its classifier."""
    maps = []
    with torch.device("meta"):
        network = GCnn(in_channels=3, trunk="resnet50").eval()
    network.trunk.layer4.register_forward_hook(lambda module, given, made: maps.append(made.shape))
    assert network(torch.zeros(2, 3, 288, 288, device="meta"))["birads"].shape == (2, 5)
    assert maps == [(2, 2048, 9, 9)]
    assert sum(p.numel() for p in network.trunk.parameters()) == 23_508_032


def test_resnet_50_takes_imagenet_weights_in_torchvisions_names(tmp_path):
    def normalised(name, channels):
        shapes = {part: (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
        return {f"{name}.{part}": shape for part, shape in shapes.items()}

    shapes = {"conv1.weight": (64, 3, 7, 7), "fc.weight": (1000, 2048), "fc.bias": (1000,), **normalised("bn1", 64)}
    inputs = 64
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), start=1):
        for number in range(blocks):
            block = f"layer{stage}.{number}"
            for index, shape in enumerate(
                ((width, inputs, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)), start=1
            ):
                shapes |= {f"{block}.conv{index}.weight": shape, **normalised(f"{block}.bn{index}", shape[0])}
            if not number:
                shapes[f"{block}.downsample.0.weight"] = (4 * width, inputs, 1, 1)
                shapes |= normalised(f"{block}.downsample.1", 4 * width)
            inputs = 4 * width
    path = tmp_path / "resnet50.pth"
    # One number seen in the tensor's shape, so that the file is small.
    torch.save({name: torch.tensor(float(i)).expand(shape) for i, (name, shape) in enumerate(shapes.items())}, path)
    network = GCnn(trunk="resnet50", widths=(4,))
    matched = load_matching(network, path)
    assert matched.unused == ("fc.weight", "fc.bias") and len(matched.taken) == len(shapes) - 2
    assert not [n for n in matched.missing if n.startswith("trunk.") and not n.endswith("num_batches_tracked")]
    wanted = list(shapes).index("layer4.0.downsample.0.weight")
    assert bool((network.trunk.layer4[0].downsample[0].weight == wanted).all())


@pytest.mark.parametrize("trunk", ["vgg16", "efficientnet-lite0"])
def test_other_trunks_in_g_cnns_place(trunk):
    with torch.device("meta"):
        network = GCnn(trunk=trunk, widths=(16,)).eval()
    assert network(torch.zeros(2, 1, 96, 96, device="meta"))["birads"].shape == (2, 5)


@pytest.mark.parametrize(("module", "name"), [(mt_net, "MtNet"), (sn_net, "SnNet"), (g_cnn, "GCnn")])
def test_compact_configurations_are_small_and_answer_what_they_say(module, name):
    with torch.device("meta"):
        network = getattr(module, name)(**module.COMPACT).eval()
    # 6 M weights are 12 MB at half precision; all that ships stays below 40 MB.
    assert sum(p.numel() for p in network.parameters()) < 6e6
    answers = network(torch.zeros(2, module.COMPACT["in_channels"], 96, 96, device="meta"))
    assert {k: v.shape[1] for k, v in answers.items()} == module.COMPACT["outputs"]


@pytest.mark.parametrize(("cls", "arguments"), [(MtNet, SMALL_MT), (SnNet, SMALL_SN)])
def test_activation_map_is_the_classs_share_of_its_logit(cls, arguments):
    network = _small(cls, arguments)
    with torch.no_grad():
        torch.nn.init.normal_(network.heads.layers[network.main].weight)
    image = torch.randn(3, 1, 107, 91)
    answers, maps, vector = network.look(image)
    assert maps.shape == (3, 1, 107, 91) and bool(((maps >= 0) & (maps <= 1)).all())
    # Equation 3 before it is normalised: its mean over the positions is the logit of the likelier class without its bias.
    layer = network.heads.layers[network.main]
    features = network.features(image)
    best = answers[network.main].argmax(1)
    assert torch.allclose(vector, network.halves.start(image).mean((2, 3)))
    mean = torch.einsum("nchw,nc->nhw", features, layer.weight[best]).mean((1, 2))
    expected = answers[network.main][range(3), best] - layer.bias[best]
    assert torch.allclose(mean, expected, atol=1e-5)


@pytest.mark.parametrize(("cls", "module"), [(MtNet, mt_net), (SnNet, sn_net)])
def test_map_changes_the_answer_and_its_absence_is_allowed(cls, module):
    small = {MtNet: SMALL_MT, SnNet: SMALL_SN}[cls]
    network = _small(cls, small)
    image, maps = torch.randn(2, 1, 91, 91), torch.rand(2, 1, 91, 91)
    alone, with_map = network(image)[network.main], network(image, maps)[network.main]
    assert not torch.equal(alone, with_map)
    silent = _small(cls, {**small, "map_weight": 0.0})
    assert torch.equal(silent(image, maps)[network.main], alone)


def test_map_pathway_of_the_compact_networks_begins_at_nothing():
    torch.manual_seed(0)
    network = MtNet(**mt_net.COMPACT).eval()
    image, maps = torch.randn(1, 1, 64, 64), torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(network(image)["malignancy"], network(image, maps)["malignancy"])


@settings(max_examples=40)
@given(arrays(np.float32, (4, 3), elements=st.floats(-20, 20, width=32)), st.integers(2, 7))
def test_ordered_scale_gives_probabilities_with_ordered_thresholds(features, classes):
    torch.manual_seed(0)
    scale = OrderedScale(3, classes)
    with torch.no_grad():
        log_probability = scale(torch.from_numpy(features))
    assert log_probability.shape == (4, classes) and torch.isfinite(log_probability).all()
    assert torch.allclose(log_probability.exp().sum(1), torch.ones(4), atol=1e-4)
    assert (scale.thresholds().diff() > 0).all()


def test_thresholds_that_came_together_have_finite_gradients():
    """Their difference was below the resolution of the scores: -inf, and no number in any gradient of the network."""
    scale = OrderedScale(3, 6)
    with torch.no_grad():
        scale.gaps[1] = -40.0
        scale.score.weight.fill_(30.0)
    features = torch.full((2, 3), 7.0, requires_grad=True)
    chances = scale(features)
    assert torch.isfinite(chances).all()
    chances.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in (*scale.parameters(), features))


def test_higher_scores_mean_higher_classes():
    torch.manual_seed(0)
    scale = OrderedScale(1, 6)
    with torch.no_grad():
        scale.score.weight.fill_(1.0)
        chances = scale(torch.linspace(-6, 6, 30)[:, None]).exp()
    expected = (chances * torch.arange(6)).sum(1)
    assert (expected.diff() > 0).all() and chances[0].argmax() == 0 and chances[-1].argmax() == 5


def test_weights_of_ones_own_go_where_names_and_shapes_match_in_both_pathways(tmp_path):
    source = inception.InceptionResNetStart(3, (1, 1), (0.17, 0.1), 0.03)
    published = {
        k.replace("branch1_0", "branch1.0").replace("branch1_1", "branch1.1"): v for k, v in source.state_dict().items()
    }
    published["classif.weight"] = torch.zeros(1001, 46)
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in published.items()}}, path)
    network = _small(MtNet, SMALL_MT)
    matched = load_matching(network, path)
    assert matched.unused == ("classif.weight",)
    for pathway in (network.halves.first, network.map_pathway):
        # The three colours' filters are added up.
        assert torch.allclose(pathway.conv2d_1a.conv.weight, source.conv2d_1a.conv.weight.sum(1, keepdim=True))
        assert torch.equal(pathway.repeat_1[0].branch1_1.conv.weight, source.repeat_1[0].branch1_1.conv.weight)
    assert any(name.startswith("heads") for name in matched.missing)
    said = matched.sentence(path)
    assert f"{len(matched.taken)} of {len(matched.taken) + len(matched.missing)} tensors" in said
    assert "not used of the file: classif.weight." in said
    # The rest of the network begins as it was drawn, and is named.
    few, more = ", ".join(matched.missing[:4]), len(matched.missing) - 4
    assert f"not found for the network: {few} and {more} more;" in said and more > 0
    drawn = _small(MtNet, SMALL_MT).state_dict()
    own = network.state_dict()
    assert all(torch.equal(own[name], drawn[name]) for name in matched.missing)
    assert {*matched.taken, *matched.missing} == {
        n for n in own if not n.endswith("num_batches_tracked") or n in matched.taken
    }


def test_few_names_are_all_named_and_none_are_not_spoken_of(tmp_path):
    assert (
        Matched(("a", "b"), ("c",), ())
        .sentence(tmp_path / "w")
        .endswith("2 of 3 tensors of the network were taken over; not found for the network: c.")
    )
    assert Matched(("a",), (), ("x",)).sentence(tmp_path / "w").endswith("taken over; not used of the file: x.")


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"features.0.weight": torch.zeros(4, 3, 3, 3)}, path)
    with pytest.raises(ModelError, match="other.pth"):
        load_matching(_small(GCnn, SMALL_G), path)
    path.write_bytes(b"no weights at all")
    with pytest.raises(ModelError, match="cannot be read"):
        load_matching(_small(GCnn, SMALL_G), path)
