"""Networks as ONNX files, for engines of other makers."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import torch

from ..atomic import atomic_path
from ..errors import DependencyError, ModelError
from .engine import example_input
from .entry import ModelEntry
from .openvino_engine import Call
from .zoo import read_network


def export_onnx(entry: ModelEntry, weights: Path, path: Path, shape: tuple[int, ...] | None = None) -> None:
    """Write a network as an ONNX file, for inputs of one shape; batch normalisation is folded in, weights are float32.

    Parameters
    ----------
    entry, weights : see `zoo.resolve`.
    shape : (z, y, x) or (y, x) of the input in voxels or pixels; None: that of a small example.

    Raises
    ------
    DependencyError : the package onnx is missing.
    ModelError : see `zoo.load`; a network that is not one function of tensors, or a shape that does not fit it.
    """
    if importlib.util.find_spec("onnx") is None:
        raise DependencyError("ONNX export needs the package onnx; install it with: pip install breastusai[openvino]")
    arguments = example_input(entry, shape)
    if arguments is None:
        raise ModelError(
            f"The network {entry.network} of model {entry.id!r} has parts that only PyTorch runs; it cannot be exported."
        )
    call = Call(read_network(entry, weights), arguments, {})
    tensors = tuple(a for a in arguments if isinstance(a, torch.Tensor))
    try:
        with warnings.catch_warnings(), atomic_path(path) as temporary:
            warnings.simplefilter("ignore")  # of sizes that become constants, and that there is a newer exporter
            # The exporter that goes by tracing: the newer one needs a package more and gains nothing for fixed shapes.
            torch.onnx.export(call, tensors, str(temporary), dynamo=False)
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"The network {entry.network} of model {entry.id!r} cannot be exported as ONNX ({reason})."
        ) from error
