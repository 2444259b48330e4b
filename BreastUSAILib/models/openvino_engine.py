"""Networks run by OpenVINO (https://docs.openvino.ai) on CPUs: compiled for each shape of input once, in bfloat16 where the CPU is fast at it."""

from __future__ import annotations

import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree

_SHAPES_KEPT = 4  # compiled networks, each with buffers as large as its maps


def import_openvino() -> Any:
    """The package, without its telemetry: importing OpenVINO sends a message to its makers, and medical software keeps to itself."""
    # None is an ImportError there, which OpenVINO meets with a stand-in that sends nothing. It stays so: parts are imported later.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino  # noqa: F401

    return sys.modules["openvino"]


class Call(nn.Module):
    """A call of a network with some arguments, as a function of its tensors alone that returns tensors alone: what is traced and exported."""

    def __init__(self, network: nn.Module, arguments: Sequence[Any], named: Mapping[str, Any]) -> None:
        super().__init__()
        self.network, self.named = network, dict(named)
        self.arguments = tuple(None if isinstance(a, torch.Tensor) else (a,) for a in arguments)
        self.layout: Any = None
        self.places: list[int] = []
        self.eval()  # exporters put a module back into the mode that they found it in

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rest = iter(tensors)
        answer = self.network(*(next(rest) if a is None else a[0] for a in self.arguments), **self.named)
        leaves, self.layout = _pytree.tree_flatten(answer)
        self.places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor) and leaf.numel()]
        self.others = [None if i in self.places else leaf for i, leaf in enumerate(leaves)]
        return tuple(leaves[i] for i in self.places)

    def answer(self, tensors: Sequence[torch.Tensor]) -> Any:
        """What the network returns, from its tensors."""
        leaves = list(self.others)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor
        return _pytree.tree_unflatten(leaves, self.layout)


class OpenVinoNetwork(nn.Module):
    """A network whose calls OpenVINO runs; everything else about it (scales, anchors, its methods) is the network's own.

    Parameters
    ----------
    network : on the CPU, in evaluation mode, in float32. Its arguments are tensors, and numbers or None that stay the same from call to call.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._compiled: OrderedDict[Any, Callable] = OrderedDict()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("network"), name)

    def forward(self, *arguments: Any, **named: Any) -> Any:
        shapes = tuple(tuple(a.shape) if isinstance(a, torch.Tensor) else ("is", a) for a in arguments)
        key = shapes, tuple(sorted(named.items()))
        if key not in self._compiled:
            self._compiled[key] = self._compile(arguments, named)
            while len(self._compiled) > _SHAPES_KEPT:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(key)
        return self._compiled[key]([a for a in arguments if isinstance(a, torch.Tensor)])

    def _compile(self, arguments: Sequence[Any], named: Mapping[str, Any]) -> Callable:
        openvino = import_openvino()
        call = Call(self.network, arguments, named)
        tensors = [a.float().contiguous() for a in arguments if isinstance(a, torch.Tensor)]
        # Tasks call under autocast, whose casts the front end does not know; OpenVINO chooses its own numbers.
        with torch.autocast("cpu", enabled=False):
            model = _converted(call, tensors)
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        compiled = openvino.Core().compile_model(model, "CPU", settings)
        request = compiled.create_infer_request()

        def run(tensors: Sequence[torch.Tensor]) -> Any:
            # Copies: the request's own memory is written anew by the next call.
            results = request.infer([t.float().contiguous().numpy() for t in tensors])
            return call.answer([torch.from_numpy(results[i].copy()) for i in range(len(call.places))])

        return run


def _converted(call: Call, tensors: Sequence[torch.Tensor]) -> Any:
    """OpenVINO's model of a call for inputs of these very shapes. Through the front end itself: `convert_model` is where telemetry is sent."""
    import_openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    # The tracer warns of sizes that become constants (every shape is traced anew), and that it is not the newest of tracers.
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(call, tuple(tensors), check_trace=False)
    front_end = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced, example_input=tuple(tensors))
    model = front_end.convert(front_end.load(decoder))
    model.reshape({place: list(tensor.shape) for place, tensor in enumerate(tensors)})
    model.validate_nodes_and_infer_types()
    return model
