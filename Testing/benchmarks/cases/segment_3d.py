"""The joint network on one lesion's crop, two passes. Size: (z, y, x), multiples of 16."""

from __future__ import annotations

from collections.abc import Iterator

from runner import Case, Contender

from cases.networks import OPENVINO, contenders, flops_of, lived, on, weights_of

SIZES = ((128, 64, 128),)
QUICK = ((32, 32, 32),)


def cases(size: tuple[int, ...], seed: int) -> Iterator[Case]:
    import torch
    from monai.networks.nets import VNet as MonaiVNet

    from BreastUSAILib.networks.vnet import PAPER, VNet, passes

    volume = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(seed))
    network = lived(VNet(**PAPER), seed)
    network.leave.bias.fill_(0.0)  # random weights: let about half of the voxels be lesion

    def run(n):
        given = on(n, volume)
        return passes(n, given, on(n, torch.ones(1)), 2).outline

    with torch.inference_mode():
        expected = run(network) > 0
    ours, plain, variants = contenders(network, run, True)
    theirs = MonaiVNet(spatial_dims=3, in_channels=2, out_channels=1).eval().requires_grad_(False)

    def monai():
        with torch.inference_mode():
            probability = torch.zeros_like(volume)
            for _ in range(2):
                probability = torch.sigmoid(theirs(torch.cat([volume, probability], 1)))
        # Another network, whose outline says nothing of ours.
        return None

    def agreement(outline):
        found = outline.float() > 0
        return 2 * float((found & expected).sum()) / max(1.0, float(found.sum() + expected.sum()))

    yield Case(
        f"Segment 3D (paper), {'x'.join(map(str, size))}, N = 2",
        ours,
        [Contender("MONAI VNet fp32", monai), plain],
        agreement,
        "Dice to fp32",
        {"MONAI VNet fp32": 5.0, OPENVINO: 7.5},
        flops=flops_of(network, run),
        bytes=4.0 * volume.numel() + weights_of(network),
        wants="bfloat16",
        note="the goals are those of processors with AMX; random weights.",
        variants=variants,
    )
