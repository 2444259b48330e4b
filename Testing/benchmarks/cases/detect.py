"""The detection network on a patch and a whole volume. Size: (z, y, x)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from runner import Case, Contender

from cases.networks import contenders, flops_of, lived, on, weights_of

SIZES = ((320, 96, 320), (400, 104, 400))
QUICK = ((32, 32, 32),)


def cases(size: tuple[int, ...], seed: int) -> Iterator[Case]:
    import torch

    from BreastUSAILib.networks.detection import COMPACT, PAPER, DetectionNetwork

    volume = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(seed))
    for name, configuration in (("shipped, compact", COMPACT), ("paper", PAPER)):
        network = lived(DetectionNetwork(**configuration), seed)

        def run(n):
            return n(
                on(n, volume).to(memory_format=torch.channels_last_3d) if not hasattr(n, "_compiled") else volume
            ).logits

        with torch.inference_mode():
            expected = network(volume).logits.softmax(-1)[..., 1:].sum(-1)
        ours, plain, variants = contenders(network, run, True)
        peers = [plain]
        if name == "shipped, compact" and importlib.util.find_spec("torchvision") is not None:
            peers.insert(0, Contender("MONAI RetinaNet (ResNet-50 FPN)", _retina_net(volume)))

        def off(logits, expected=expected):
            if not torch.is_tensor(logits):
                return None  # another network
            return float((logits.float().softmax(-1)[..., 1:].sum(-1) - expected).abs().max())

        yield Case(
            f"Detect ({name}), {'x'.join(map(str, size))}",
            ours,
            peers,
            off,
            "largest error of a score",
            {"same network, plain fp32": 6.0},
            flops=flops_of(network, run),
            bytes=4.0 * volume.numel() + weights_of(network),
            wants="bfloat16",
            note="the goal is that of processors with AMX; 400x104x400: 4 s and 3 GiB for the published network, "
            "1.5 s for the compact one; random weights.",
            variants=variants,
        )


def _retina_net(volume):
    import torch
    from monai.apps.detection.networks.retinanet_network import RetinaNet, resnet_fpn_feature_extractor
    from monai.networks.nets import resnet50

    backbone = resnet50(spatial_dims=3, n_input_channels=1)
    extractor = resnet_fpn_feature_extractor(backbone, 3, False, [1, 2], None)
    network = RetinaNet(3, 3, 3, extractor, size_divisible=[32, 32, 32]).eval()

    def run():
        with torch.inference_mode():
            return network(volume)

    return run
