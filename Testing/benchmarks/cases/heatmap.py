"""Grad-CAM of the heatmap network, closed form against a backward pass. Size: (z, y, x)."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
from runner import Case, Contender

from cases.networks import flops_of, lived, on, weights_of

SIZES = ((16, 160, 160), (9, 400, 400), (100, 400, 400))
QUICK = ((32, 96, 96),)
GOALS = {16: 16.0, 9: 18.0, 100: 8.0}


def cases(size: tuple[int, ...], seed: int) -> Iterator[Case]:
    import torch
    from monai.visualize import GradCAM
    from torch import nn

    from BreastUSAILib.gradcam_3d import activation, published_map
    from BreastUSAILib.models.inference import prepared
    from BreastUSAILib.networks.resnet_3d import PAPER, ResNet3d
    from BreastUSAILib.volume_input import to_tensor

    levels = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    network = lived(ResNet3d(**PAPER), seed)
    with torch.no_grad():
        network.head.weight.abs_()  # a map of random signs is mostly below zero, where both maps would be nothing and agree
    fast = prepared(copy.deepcopy(network), "cpu", True)

    class Answers(nn.Module):
        """As MONAI wants it: (N, classes)."""

        def __init__(self) -> None:
            super().__init__()
            self.network = copy.deepcopy(network).requires_grad_(True)

        def forward(self, volume):
            return self.network(volume)[:, None]

    camera = GradCAM(nn_module=Answers(), target_layers="network.stages")

    def ours() -> np.ndarray:
        return published_map(activation(fast, levels, slab=size[0]), float(fast.head.bias[0]))

    def theirs() -> np.ndarray:
        # Its map is ReLU of the weighted sum too, before it is resized and scaled.
        return torch.relu(camera.compute_map(to_tensor(levels)[None, None], class_idx=0))[0, 0].detach().numpy()

    expected = theirs()

    def run(n):
        return n(on(n, to_tensor(levels)[None, None]))

    yield Case(
        f"Heatmap (paper), {'x'.join(map(str, size))}",
        Contender("ours", ours),
        [Contender("MONAI GradCAM", theirs)],
        lambda found: float(np.abs(found - expected).max() / max(expected.max(), 1e-12)),
        "largest difference to GradCAM's map",
        {"MONAI GradCAM": GOALS.get(size[0], 8.0)},
        flops=flops_of(network, run),
        bytes=float(levels.nbytes) + weights_of(network),
        wants="bfloat16",
        note="the goal is that of processors with AMX; random weights.",
    )
