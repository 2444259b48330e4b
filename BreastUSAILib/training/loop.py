"""What every recipe's training loop needs: averaged weights, a schedule, checkpoints that survive a kill."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import DataError


class ExponentialAverage:
    """Running average of a network's weights (and of batch-normalisation statistics): steadier than the last step's.

    The decay grows with the number of steps, (1 + t) / (10 + t) up to `decay`, so that the start is forgotten.
    """

    def __init__(self, network: nn.Module, decay: float = 0.998) -> None:
        self.network = copy.deepcopy(network).eval()
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        source = network.state_dict()
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                value.lerp_(source[name], 1 - decay)
            else:
                value.copy_(source[name])


@dataclass(frozen=True)
class WeightMean:
    """The mean of several weights of one network (batch-normalisation statistics too); `mean` is empty before the first."""

    mean: dict[str, torch.Tensor] = field(default_factory=dict)
    count: int = 0

    def with_weights(self, weights: Mapping[str, torch.Tensor]) -> WeightMean:
        """The mean of one more; counters are the last one's."""
        share = 1 / (self.count + 1)
        mean = {
            name: torch.lerp(self.mean[name], value, share) if self.count and value.is_floating_point() else value.clone()
            for name, value in weights.items()
        }
        return WeightMean(mean, self.count + 1)


def check_finite(loss: torch.Tensor, epoch: int) -> None:
    """DataError where a loss is no finite number; `epoch` is counted from 0."""
    if not bool(torch.isfinite(loss)):
        raise DataError(f"the loss is not finite in epoch {epoch + 1}; begin anew with a lower --rate.")


def cosine_rate(progress: float, peak: float, warm_up: float = 0.03, last: float = 0.01) -> float:
    """Learning rate at `progress` 0..1: linear to `peak`, then half a cosine down to `last` x peak."""
    if progress < warm_up:
        return peak * (progress + 1e-3) / (warm_up + 1e-3)
    t = (progress - warm_up) / (1 - warm_up)
    return peak * (last + (1 - last) * 0.5 * (1 + math.cos(math.pi * min(1.0, t))))


def save_checkpoint(path: Path, **state: Any) -> None:
    """Write a checkpoint to a temporary name and move it into place: a kill leaves the previous one whole."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state that `save_checkpoint` wrote (tensors and plain values only), or None if there is none. DataError where it is damaged."""
    if not path.is_file():
        return None
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        state["recipe"]  # which every checkpoint has
    except Exception as error:  # a damaged file raises whatever its reader stumbles on
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path} cannot be read ({reason}); it may be damaged: delete it or give --restart, and the run begins anew."
        ) from error
    return state


class Journal:
    """One JSON line an epoch in ``log.jsonl``, and the same in words on the screen. One that does not go `on` leaves nothing of an earlier run's."""

    def __init__(self, folder: Path, on: bool) -> None:
        self.path = folder / "log.jsonl"
        if not on:
            self.path.unlink(missing_ok=True)
        self.start = time.monotonic()

    def write(self, **values: Any) -> None:
        values = {"time": round(time.monotonic() - self.start, 1), **values}
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(values) + "\n")
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items()), flush=True)
