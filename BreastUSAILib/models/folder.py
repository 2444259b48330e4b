"""A model as a folder: ``config.json`` (a catalogue entry) and ``model.safetensors``. What training writes and
``--model DIR`` reads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import atomic_path, write_text

if TYPE_CHECKING:
    from torch import nn

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def sha256(path: Path) -> str:
    """The file's SHA-256, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else hashlib.sha256(stream.read()).hexdigest()


def save_model(folder: Path, network: nn.Module, config: dict[str, Any], *, half: bool = False) -> Path:
    """Write a network's weights and its config (size and SHA-256 filled in) to `folder`.

    `half` stores floating-point weights as fp16: half the size, for networks where it was measured to cost nothing.
    """
    import torch
    from safetensors.torch import save_file

    state = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    if half:
        state = {k: v.to(torch.float16) if v.is_floating_point() else v for k, v in state.items()}
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / WEIGHTS
    with atomic_path(weights) as temporary:
        save_file(state, str(temporary))
    config = {**config, "file": WEIGHTS, "size_bytes": weights.stat().st_size, "sha256": sha256(weights)}
    write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    return folder
