"""What the cases of networks share: the network as PyTorch has it, as it is shipped, and on OpenVINO."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from typing import Any

from runner import Contender


def lived(network: Any, seed: int) -> Any:
    """With weights and statistics that are not those of the beginning, so that no branch is empty and folding has something to fold."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
            module.running_var.uniform_(0.8, 1.2)
    return network.eval().requires_grad_(False)


OPENVINO = "on OpenVINO"


def contenders(network: Any, run: Callable[[Any], Any], volumes: bool) -> tuple[Contender, Contender, list[Contender]]:
    """Ours as shipped (`models.inference.prepared`, under autocast); the same network plain, in float32; ours on OpenVINO, where it is installed.

    `run` takes a network.
    """
    import torch

    from BreastUSAILib.models.devices import autocast
    from BreastUSAILib.models.inference import fold_normalisation, prepared

    fast = prepared(copy.deepcopy(network), "cpu", volumes)

    def ours() -> Any:
        with torch.inference_mode(), autocast("cpu"):
            return run(fast)

    def plain() -> Any:
        with torch.inference_mode():
            return run(network)

    variants = []
    if importlib.util.find_spec("openvino") is not None:
        from BreastUSAILib.models.openvino_engine import OpenVinoNetwork

        compiled = OpenVinoNetwork(fold_normalisation(copy.deepcopy(network)))

        def openvino() -> Any:
            with torch.inference_mode():
                return run(compiled)

        variants.append(Contender(OPENVINO, openvino))
    return Contender("ours", ours), Contender("same network, plain fp32", plain), variants


def flops_of(network: Any, run: Callable[[Any], Any]) -> float:
    """Of the convolutions and products of a network, counted by PyTorch on tensors without memory."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    meta = copy.deepcopy(network).to("meta")
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        run(meta)
    return float(counter.get_total_flops())


def weights_of(network: Any) -> float:
    return 4.0 * sum(p.numel() for p in network.parameters())


def on(network: Any, tensor: Any) -> Any:
    """A tensor on the network's device, so that FLOPs can be counted without memory."""
    parameter = next(iter(network.parameters()))
    return tensor.to(parameter.device) if parameter.device.type == "meta" else tensor
