"""Training on several processes, started by ``torchrun``: each takes a part of every batch, all make the same step.

Gradients are averaged in one message, with the statistics of batch normalisation, so that every process holds the same
network after every step. Without torchrun there is one process and nothing to do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed, nn

_TIMEOUT = timedelta(hours=3)  # the others wait while one validates or prepares volumes


@dataclass(frozen=True)
class Team:
    """`rank` of this process among `size`; `device` it works on."""

    rank: int
    size: int
    device: str

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            distributed.barrier()

    def part(self, items: Sequence[Any]) -> Sequence[Any]:
        """The items that this process takes of a list that all have."""
        return items[self.rank :: self.size]

    def gather(self, own: list[Any]) -> list[Any]:
        """Give all processes what each made of its `part` of a list, an answer an item, in the list's order; `own`: this process's answers.

        The answers are pickled on their way, and every process holds them all.
        """
        if self.size == 1:
            return own
        parts: list[list[Any]] = [[] for _ in range(self.size)]
        distributed.all_gather_object(parts, own)
        return [parts[i % self.size][i // self.size] for i in range(sum(map(len, parts)))]

    def average(self, network: nn.Module, figures: torch.Tensor) -> torch.Tensor:
        """Give all processes the mean of their gradients and of their buffers; returns the mean of their `figures` (n,).

        A parameter that none of them has a gradient of is left without, as it is in one process: the optimiser passes it over.
        """
        if self.size == 1:
            return figures
        buffers = [value for value in network.buffers() if value.is_floating_point()]
        parameters = [p for p in network.parameters() if p.requires_grad]
        learnt = torch.tensor([p.grad is not None for p in parameters])
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        tensors = [*(p.grad for p in parameters), *buffers]
        message = torch.cat([figures.to(tensors[0]), learnt.to(tensors[0]), *(t.reshape(-1) for t in tensors)])
        distributed.all_reduce(message)
        message /= self.size
        start = len(figures) + len(parameters)
        shares = message[len(figures) : start].tolist()
        for tensor in tensors:
            tensor.copy_(message[start : start + tensor.numel()].reshape(tensor.shape))
            start += tensor.numel()
        for parameter, share in zip(parameters, shares, strict=True):
            if share == 0:  # of the processes that had a gradient
                parameter.grad = None
        return message[: len(figures)].to(figures)


@contextmanager
def team(device: str) -> Iterator[Team]:
    """The processes that torchrun started, or this one alone.

    `device` "cuda" becomes that of this process; they talk through nccl there, through gloo elsewhere.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team(0, 1, device)
        return
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=_TIMEOUT)
    try:
        yield Team(distributed.get_rank(), size, device)
    finally:
        distributed.destroy_process_group()
