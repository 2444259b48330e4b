"""A model as a folder: ``config.json`` (a catalogue entry) and ``model.safetensors``. What training writes and
``--model DIR`` reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import write_bytes, write_text
from ..errors import DataError

if TYPE_CHECKING:
    import torch
    from torch import nn

CONFIG, WEIGHTS = "config.json", "model.safetensors"
UNPUBLISHED = "unpublished"
"""The version of a model as training leaves it: one of the same id may ship, and this is none of its versions."""


def is_there(folder: Path) -> bool:
    """Whether a folder has a model's files; what they hold is looked at when it is loaded."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def sha256(path: Path) -> str:
    """The file's SHA-256, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_weights(path: Path, state: Mapping[str, torch.Tensor], *, half: bool = False) -> Path:
    """Write tensors as safetensors, moved into place when complete.

    `half` stores floating-point weights as fp16: half the size, for networks where it was measured to cost nothing.
    """
    return write_bytes(path, _serialised(state, half))


def published_sha256(state: Mapping[str, torch.Tensor]) -> str:
    """The SHA-256 of the file that a model's weights become when it is published: they are known by it before and after."""
    return hashlib.sha256(_serialised(state, half=True)).hexdigest()


def _serialised(state: Mapping[str, torch.Tensor], half: bool) -> bytes:
    import torch
    from safetensors.torch import save

    state = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    if half:
        state = {k: v.to(torch.float16) if v.is_floating_point() else v for k, v in state.items()}
    return save(state)


def save_model(folder: Path, network: nn.Module, config: dict[str, Any]) -> Path:
    """Write a network's weights and its config (file, size and SHA-256 filled in) to `folder`.

    Raises
    ------
    DataError : a weight is no finite number, as of a training that diverged: the model would find nothing in anything.
    OutputError : `folder` cannot be written.
    """
    wrong = [name for name, values in network.state_dict().items() if not bool(values.isfinite().all())]
    if wrong:
        raise DataError(
            f"the training diverged: {len(wrong)} of the network's weights are no finite numbers (the first is {wrong[0]}); begin anew with a lower --rate."
        )
    weights = save_weights(folder / WEIGHTS, network.state_dict())
    config = {**config, "file": WEIGHTS, "size_bytes": weights.stat().st_size, "sha256": sha256(weights)}
    write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    return folder
