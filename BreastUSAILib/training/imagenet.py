"""A user's own ImageNet weights for the published networks: what matches by name and shape is taken, the rest is told.

Layouts: torchvision's and timm's Inception-v3 and ResNet-50, timm's and Cadene's Inception-ResNet-v2, plain or as "state_dict" or "model" of
a checkpoint, as .safetensors or as a PyTorch file of tensors (nothing else in it is read).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch import nn

_PREFIXES = ("module.", "model.", "backbone.")
_COUNTER = "num_batches_tracked"
_NAMED = 4  # names that a sentence lists


@dataclass(frozen=True)
class Matched:
    """`taken` names of the network's tensors that were filled; `missing` ones that were not, which stay as they were drawn (but for batch
    normalisation's counters, which are no weights); `unused` names of the file."""

    taken: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def sentence(self, path: Path) -> str:
        return (
            f"{path}: {len(self.taken)} of {len(self.taken) + len(self.missing)} tensors of the network were taken over"
            + (f"; not found for the network: {_some(self.missing)}" if self.missing else "")
            + (f"; not used of the file: {_some(self.unused)}" if self.unused else "")
            + "."
        )


def _some(names: Sequence[str]) -> str:
    """A few names, and how many there are beside them."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a weight file, without the prefixes that wrappers add. ModelError where it is none."""
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, weights_only=True, map_location="cpu")
            for key in ("state_dict", "model"):
                if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
                    state = state[key]
        tensors = {str(name): value for name, value in state.items() if torch.is_tensor(value)}
    except Exception as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{path} cannot be read as weights ({first}); give a .safetensors file or a PyTorch file of tensors."
        ) from error
    if not tensors:
        raise ModelError(f"{path} holds no tensors; give a file of weights.")
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name[len(prefix) :]: value for name, value in tensors.items()}
    return tensors


def _plain(name: str) -> str:
    """A published name as our modules have it: "_" for "." between the steps of a branch."""
    return re.sub(r"(branch\d)\.(\d)", r"\1_\2", name)


def _fitting(value: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor | None:
    """The tensor in the wanted shape: the filters of three colours added up for one grey channel, with nothing for further channels."""
    import torch

    if value.shape == wanted.shape:
        return value
    same = (
        value.ndim == 4
        and wanted.ndim == 4
        and value.shape[0] == wanted.shape[0]
        and value.shape[2:] == wanted.shape[2:]
    )
    if same and value.shape[1] == 3:
        grey = value.sum(1, keepdim=True)
        return torch.cat([grey, grey.new_zeros(len(grey), wanted.shape[1] - 1, *grey.shape[2:])], 1)
    return None


def load_matching(network: nn.Module, path: Path) -> Matched:
    """Fill `network` with what `path` holds: a tensor goes wherever a parameter ends in its name and has its shape.

    Both pathways of Mt-Net and Sn-Net are filled from one file. Raises ModelError where not one tensor fits.
    """
    published = {_plain(name): value for name, value in read_tensors(path).items()}
    own = network.state_dict()
    taken, used = {}, set()
    for name, wanted in own.items():
        parts = name.split(".")
        for start in range(len(parts)):
            value = published.get(".".join(parts[start:]))
            fitting = None if value is None else _fitting(value, wanted)
            if fitting is not None:
                taken[name] = fitting
                used.add(".".join(parts[start:]))
                break
    if not any(value.ndim > 1 for value in taken.values()):
        raise ModelError(
            f"{path} holds no weights that fit this network by name and shape; take those of its published trunk."
        )
    network.load_state_dict({**own, **taken})
    missing = tuple(n for n in own if n not in taken and not n.endswith(_COUNTER))
    return Matched(tuple(taken), missing, tuple(n for n in published if n not in used))
