"""Which engine runs a network: PyTorch, or OpenVINO on CPUs, where its answers are those of PyTorch."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import DependencyError, ModelError, UsageError
from ..processor import fast_bf16
from .engine_names import ENGINES

if TYPE_CHECKING:
    from .entry import ModelEntry

# Norm of the difference over the norm of PyTorch's answer, over all outputs.
_TOLERANCE, _TOLERANCE_BF16 = 1e-3, 3e-2
_SIDE = 32


def with_engine(network: nn.Module, entry: ModelEntry, device: str, engine: str) -> tuple[nn.Module, str]:
    """The network, run by the engine that was asked for, and the name of that engine.

    Parameters
    ----------
    network : on the CPU, in evaluation mode, in float32; not yet made ready for PyTorch (`inference.prepared`).
    device : "cpu", "cuda" or "mps".
    engine : "torch"; "openvino"; or "auto": OpenVINO for volumes on CPUs that are fast at bfloat16, where it is installed and its answer
        to an example is that of PyTorch. Elsewhere it did not gain what compiling costs (docs/performance.md).

    Raises
    ------
    UsageError : an unknown name, or OpenVINO on another device than a CPU.
    DependencyError : OpenVINO was asked for and is not installed.
    ModelError : OpenVINO was asked for, and cannot run the network or answers otherwise than PyTorch.
    """
    if engine not in ENGINES:
        raise UsageError(f"Engine {engine!r} is unknown; choose one of {', '.join(ENGINES)}.")
    asked = engine == "openvino"
    if engine == "torch" or not (asked or worth_compiling(entry, device)):
        return network, "torch"
    if device != "cpu":
        raise UsageError(f"OpenVINO was asked for and the device is {device}; use --device cpu or --engine torch.")
    if importlib.util.find_spec("openvino") is None:
        if asked:
            raise DependencyError("OpenVINO is not installed; install it with: pip install breastusai[openvino]")
        return network, "torch"
    from .openvino_engine import OpenVinoNetwork

    example = example_input(entry)
    if example is None:
        problem = f"the network {entry.network} has parts that only PyTorch runs"
    else:
        fast = OpenVinoNetwork(network)
        try:
            problem = disagreement(network, fast, example)
        except Exception as error:  # the converter raises what it likes
            problem = f"it cannot be converted ({str(error).splitlines()[0]})"
        if not problem:
            return fast, "openvino"
    if asked:
        raise ModelError(f"Model {entry.id!r} does not run on OpenVINO: {problem}; use --engine torch.")
    return network, "torch"


def worth_compiling(entry: ModelEntry, device: str) -> bool:
    """Whether OpenVINO is to be tried without having been asked for."""
    return device == "cpu" and entry.preprocessing.get("dimension") == 3 and fast_bf16("cpu")


def example_input(entry: ModelEntry, shape: tuple[int, ...] | None = None) -> tuple[Any, ...] | None:
    """Arguments that a network of the catalogue takes, of a `shape` (z, y, x) or (y, x), None: a small one.

    None is returned for networks of which the tasks use more than one function (`look`, `features`). The numbers are fixed: noise with mean 0 and deviation 1, as images are after standardisation.
    """
    noise = torch.Generator().manual_seed(0)

    def image(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=noise)

    channels = int(entry.arguments.get("in_channels", 1))
    if entry.network == "roi_cnn.RoiCnn":
        return (image(1, 1, *(shape or (2 * _SIDE, 2 * _SIDE))),)
    shape = shape or (_SIDE, _SIDE, _SIDE)
    if entry.network in ("detection.DetectionNetwork", "unet.SegmentationUNet"):
        return (image(1, channels, *shape),)
    if entry.network == "vnet.VNet":
        return image(1, channels, *shape), None, torch.ones(1)
    if entry.network == "lesion_classifier.LesionClassifier":
        return image(2, channels, *shape), torch.zeros(2, int(entry.arguments.get("sizes", 3)))
    return None


def disagreement(network: nn.Module, fast: nn.Module, example: tuple[Any, ...]) -> str:
    """Why the answers of an engine are not those of a network in float32, as a phrase; "" where they are."""
    with torch.inference_mode():
        expected, found = _tensors(network(*example)), _tensors(fast(*example))
    tolerance = _TOLERANCE_BF16 if fast_bf16("cpu") else _TOLERANCE
    for one, other in zip(expected, found, strict=True):
        if one.shape != other.shape:
            return f"an output has the shape {tuple(other.shape)} instead of {tuple(one.shape)}"
        difference = float((one - other.float()).norm() / one.norm().clamp_min(1e-6))
        if not difference <= tolerance:  # NaN too
            return f"its answer differs from that of PyTorch by {difference:.1%}"
    return ""


def _tensors(answer: Any) -> list[torch.Tensor]:
    from torch.utils import _pytree

    return [t for t in _pytree.tree_leaves(answer) if isinstance(t, torch.Tensor) and t.numel()]
