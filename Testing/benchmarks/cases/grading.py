"""The grading networks of the papers, five crops of one lesion. Size: (crops, y, x)."""

from __future__ import annotations

from collections.abc import Iterator

from runner import Case

from cases.networks import OPENVINO, contenders, flops_of, lived, on, weights_of

SIZES = ((5, 299, 299),)
QUICK = ((1, 96, 96),)


def cases(size: tuple[int, ...], seed: int) -> Iterator[Case]:
    import torch

    from BreastUSAILib.networks import mt_net, sn_net

    number, *sides = size
    crops = torch.randn(number, 1, *sides, generator=torch.Generator().manual_seed(seed))
    for name, network, output in (
        ("Mt-Net", mt_net.MtNet(**mt_net.PAPER), "malignancy"),
        ("Sn-Net", sn_net.SnNet(**sn_net.PAPER), "solid"),
    ):
        network = lived(network, seed)

        def run(n, output=output):
            return n(on(n, crops))[output]

        with torch.inference_mode():
            expected = run(network).softmax(-1)
        ours, plain, variants = contenders(network, run, False)
        yield Case(
            f"{name} (paper), {'x'.join(map(str, size))}",
            ours,
            [plain],
            lambda found, expected=expected: float((found.float().softmax(-1) - expected).abs().max()),
            "largest error of a probability",
            {"same network, plain fp32": 3.5, OPENVINO: 9.0},
            flops=flops_of(network, run),
            bytes=4.0 * crops.numel() + weights_of(network),
            wants="bfloat16",
            note="the goals are those of processors with AMX; random weights.",
            variants=variants,
        )
