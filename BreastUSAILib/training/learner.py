"""What learns, epoch by epoch, and survives a kill: the part of a training run that recipes on volumes share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from ..errors import UsageError
from .loop import ExponentialAverage, Journal, check_finite, cosine_rate, load_checkpoint, save_checkpoint
from .parallel import Team

LONGEST_GRADIENT = 5.0
"""Norm to which a step's gradient is cut, unless a recipe says otherwise."""


class Schedule(Protocol):
    """What `Learner` asks of a recipe."""

    @property
    def epochs(self) -> int: ...
    @property
    def rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def decay(self) -> float: ...


class Learner:
    """A network in training: its running average, its optimiser, and the checkpoint at which a killed run goes on.

    Parameters
    ----------
    network : on the team's device.
    checkpoint : the file.
    recipe : how many epochs there are in all, rate and weight decay of AdamW, decay of the averaged weights. The rate is the highest of
        a cosine.
    data : what is learnt from, in a few words; a checkpoint of another recipe or other data is refused.
    resume : whether a checkpoint counts.
    optimiser : makes another optimiser of the parameters than AdamW, for recipes that follow a paper; `rate` and `weight_decay`
        are then its maker's business.
    groups : the network's parameters for AdamW in groups, each {"params": ..., and maybe "share": ...}: taught at that share of the rate.
    schedule : the rate at `progress` 0..1 of the run, instead of the cosine.
    longest_gradient : the norm to which the gradient of all parameters together is cut; None: it is left as it is.

    Attributes
    ----------
    average : the averaged network, which is what a run leaves.
    first_epoch : the one to go on with.
    notes : what else a recipe is to know again when the run goes on; plain values, kept in the checkpoint.

    Raises
    ------
    UsageError : a checkpoint of another recipe or other data.
    DataError : a checkpoint that is damaged.
    """

    def __init__(
        self,
        network: nn.Module,
        checkpoint: Path,
        recipe: Schedule,
        data: str,
        group: Team,
        *,
        resume: bool,
        optimiser: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None,
        schedule: Callable[[float], float] | None = None,
        groups: Sequence[dict[str, Any]] | None = None,
        longest_gradient: float | None = LONGEST_GRADIENT,
    ) -> None:
        settings = f"{recipe!r} on {data}"
        self.network, self.path, self.settings, self.group = network, checkpoint, settings, group
        self.epochs = epochs = recipe.epochs
        self._longest_gradient = longest_gradient
        state = load_checkpoint(checkpoint) if resume else None
        if state is not None and state["recipe"] != settings:
            raise UsageError(
                f"{checkpoint} belongs to another recipe or other data; choose another --output, or begin anew with --restart."
            )
        self._average = ExponentialAverage(network, recipe.decay)
        if optimiser is None:
            learnt = groups or network.parameters()
            self.optimiser = torch.optim.AdamW(learnt, lr=recipe.rate, weight_decay=recipe.weight_decay)
        else:
            self.optimiser = optimiser(network.parameters())
        self._schedule = schedule or (lambda progress: cosine_rate(progress, recipe.rate))
        self.first_epoch = 0
        self.notes: dict[str, Any] = {} if state is None else dict(state.get("notes", {}))
        if state is not None:
            network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self._average.steps = state["steps"]
            self.optimiser.load_state_dict(state["optimiser"])
            self.first_epoch = state["epoch"] + 1
            if group.first:
                print(f"resuming after epoch {self.first_epoch} of {epochs}", flush=True)

    @property
    def average(self) -> nn.Module:
        return self._average.network

    def step(self, loss: torch.Tensor, figures: torch.Tensor, progress: float) -> torch.Tensor:
        """Learn from the loss of one batch; returns the means of `figures` (n,) over the team.

        `progress` : epochs done, with the part of this one.

        Raises
        ------
        DataError : the loss is not finite. A step from there would leave weights that are no numbers, and a model that finds nothing.
        """
        check_finite(loss, int(progress))
        for parameters in self.optimiser.param_groups:
            parameters["lr"] = parameters.get("share", 1.0) * self._schedule(progress / self.epochs)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        figures = self.group.average(self.network, figures.detach().float().cpu())
        if self._longest_gradient is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self._longest_gradient)
        self.optimiser.step()
        self._average.update(self.network)
        return figures

    def save(self, epoch: int) -> None:
        """Write the checkpoint after an epoch (counted from 0)."""
        save_checkpoint(
            self.path,
            recipe=self.settings,
            epoch=epoch,
            network=self.network.state_dict(),
            average=self.average.state_dict(),
            steps=self._average.steps,
            optimiser=self.optimiser.state_dict(),
            notes=self.notes,
        )


class Run(Protocol):
    """A recipe at work, as `run_epochs` drives it; `epoch` is for every process of the team, the rest for the first."""

    learner: Learner

    def epoch(self, epoch: int) -> dict[str, Any]:
        """Train one epoch; its figures for the log."""

    def validate(self) -> dict[str, float]:
        """Figures of the averaged network on the validation volumes."""

    def save(self) -> None:
        """Leave the model."""


def run_epochs(
    run: Run, folder: Path, validate_every: int = 2, watch: Callable[[int, nn.Module], None] | None = None
) -> None:
    """Train the epochs that are left: validate, write log, checkpoint and at the end the model in `folder`.

    A run that is finished is not trained further, but leaves its model anew: what follows the network may be chosen in another way by now.
    `watch` is called after each epoch, in every process, with its number and the network.
    """
    learner = run.learner
    group, epochs = learner.group, learner.epochs
    journal = Journal(folder, on=learner.first_epoch > 0) if group.first else None
    group.wait()  # before the first writes a new checkpoint
    if learner.first_epoch >= epochs and group.first:
        run.save()
    for epoch in range(learner.first_epoch, epochs):
        record = {"epoch": epoch + 1, "of": epochs, **run.epoch(epoch)}
        if watch is not None:
            watch(epoch, learner.network)
        if not group.first:
            continue
        last = epoch + 1 == epochs
        if (epoch + 1) % validate_every == 0 or last:
            record |= run.validate()
        if last:
            run.save()
        journal.write(**record)
        learner.save(epoch)
    group.wait()
