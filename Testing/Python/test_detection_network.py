"""The detection network: shapes, order of its output, the published configuration, the start of training."""

import pytest
import torch

from BreastUSAILib.anchors import anchor_grid
from BreastUSAILib.networks.detection import COMPACT, PAPER, DetectionNetwork
from BreastUSAILib.networks.lesion_classifier import COMPACT as CLASSIFIER
from BreastUSAILib.networks.lesion_classifier import LesionClassifier
from BreastUSAILib.networks.residual3d import ResidualTrunk

TINY = {**COMPACT, "stem_channels": 4, "channels": (4, 4, 6, 8, 8), "head_channels": 6, "embedding": 3}


def _parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return DetectionNetwork(**TINY).eval()


def test_the_published_configuration():
    with torch.device("meta"):
        network = DetectionNetwork(**PAPER)
    assert len(network.trunk.blocks) == 5 and len(network.anchors) == 125 and network.scale == (8, 8, 8)
    for branch in (network.classification, network.regression):
        convolutions = [m for m in branch.modules() if isinstance(m, torch.nn.Conv3d)]
        assert [m.kernel_size for m in convolutions] == [(3, 3, 3)] * 4
    heads = {"scores": 125 * 3, "boxes": 125 * 6, "embeddings": 125 * 64}
    for name, channels in heads.items():
        head = getattr(network, name)
        assert (head.kernel_size, head.out_channels) == ((1, 1, 1), channels)


def test_compact_is_small_and_the_same_class():
    assert 0.8e6 < _parameters(DetectionNetwork(**COMPACT)) < 1.0e6
    assert set(COMPACT) == set(PAPER)
    assert _parameters(LesionClassifier(**CLASSIFIER)) < 0.7e6


def test_compact_anchors_cover_lesions_of_3_to_45_mm():
    from BreastUSAILib.boxes import from_centres, iou_matrix

    anchors = from_centres(torch.zeros(len(COMPACT["anchors"]), 3), torch.tensor(COMPACT["anchors"]))
    for length in (3, 4, 6, 9, 14, 20, 30, 45):
        for depth in (0.5, 0.7, 1.0, 1.4):
            if length * depth < 2 or length * depth > 45:
                continue
            lesion = from_centres(torch.zeros(1, 3), torch.tensor([[length, length * depth, length]]))
            assert float(iou_matrix(anchors, lesion).max()) > 0.25, (length, depth)


@pytest.mark.parametrize("configuration", ["tiny", "one map"])
@pytest.mark.parametrize("size", [(16, 16, 16), (17, 9, 30), (1, 3, 2)])
def test_one_output_an_anchor_of_the_grid(configuration, size):
    network = DetectionNetwork(**(TINY if configuration == "tiny" else {**TINY, "top_down": None})).eval()
    with torch.inference_mode():
        logits, parameters, features = network(torch.randn(2, 1, *size))
    assert network.scale == ((4, 4, 4) if configuration == "tiny" else (8, 8, 8)) and network.multiple == (8, 8, 8)
    padded = [-(-n // 8) * 8 for n in size]
    assert list(features.shape[2:]) == [n // s for n, s in zip(padded, network.scale, strict=True)]
    n = len(anchor_grid(features.shape[2:], network.scale, network.anchors))
    assert logits.shape == (2, n, 3) and parameters.shape == (2, n, 6)


def test_output_is_in_the_order_of_the_anchors(tiny):
    volume = torch.randn(1, 1, 16, 24, 32)
    with torch.inference_mode():
        logits, parameters, features = tiny(volume)
        scores = tiny.scores(features)
    kinds = len(tiny.anchors)
    z, y, x, kind = 1, 4, 6, 2
    place = ((z * 6 + y) * 8 + x) * kinds + kind
    torch.testing.assert_close(logits[0, place], scores[0, kind * 3 : kind * 3 + 3, z, y, x])
    anchor = anchor_grid(features.shape[2:], tiny.scale, tiny.anchors)[place]
    assert ((anchor[:3] + anchor[3:]) / 2).tolist() == [6.0, 18.0, 26.0]
    assert (anchor[3:] - anchor[:3]).tolist() == pytest.approx(tiny.anchors[kind])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_a_change_moves_the_outputs_of_its_own_place(tiny, memory_format):
    # What lies at one end of a long volume does not move what is said of the other.
    tiny = tiny.to(memory_format=memory_format)
    volume = torch.randn(1, 1, 16, 16, 256)
    changed = volume.clone()
    changed[..., :8] += 3
    with torch.inference_mode():
        before, after = tiny(volume), tiny(changed)
    moved = (before.logits - after.logits).abs().sum(-1)[0] > 1e-6
    anchors = anchor_grid(before.features.shape[2:], tiny.scale, tiny.anchors)
    x = (anchors[:, 2] + anchors[:, 5]) / 2
    assert moved[x < 8].any() and not moved[x > 200].any()


def test_embeddings_are_those_of_the_whole_map(tiny):
    features = tiny(torch.randn(2, 1, 16, 16, 16)).features
    maps = tiny._by_anchor(tiny.embeddings(features), 3)
    image, anchors = torch.tensor([0, 1, 1, 0]), torch.tensor([0, 575, 300, 41])
    torch.testing.assert_close(tiny.embed(features, image, anchors), maps[image, anchors])


def test_training_starts_where_hardly_an_anchor_shows_a_lesion():
    torch.manual_seed(0)
    network = DetectionNetwork(**COMPACT).train()
    with torch.no_grad():
        lesion = 1 - network(torch.randn(2, 1, 32, 16, 32)).logits.softmax(-1)[..., 0]
    assert float(lesion.mean()) == pytest.approx(0.01, rel=0.3) and float(lesion.max()) < 0.05


def test_wrong_configurations_are_refused():
    with pytest.raises(ValueError, match="three positive sides"):
        DetectionNetwork(**{**TINY, "anchors": ((4, 4),)})
    with pytest.raises(ValueError, match="one of the 5 blocks"):
        DetectionNetwork(**{**TINY, "top_down": 5})
    with pytest.raises(ValueError, match="one number a block"):
        ResidualTrunk(1, 4, 2, (4, 4), (1,))


def test_bfloat16_is_for_processors_that_are_fast_at_it(tiny, monkeypatch):
    from BreastUSAILib.models.devices import autocast, fast_bf16

    volume = torch.randn(1, 1, 16, 16, 16)
    for fast, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        # AVX512-BF16 alone is no gain; AMX is.
        abilities = {"avx2": True, "avx512_bf16": True, "amx_bf16": fast}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda abilities=abilities: abilities, raising=False)
        assert fast_bf16("cpu") is fast
        with torch.no_grad(), autocast("cpu"):
            assert tiny(volume).logits.dtype is dtype
    assert not fast_bf16("mps")
