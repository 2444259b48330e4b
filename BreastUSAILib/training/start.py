"""Going on from the weights of a model: ``--start ID|DIR`` of the recipes; and which folders a run may leave its own in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..axes import along_axes
from ..errors import ModelError, UsageError
from ..run_lock import run_lock

if TYPE_CHECKING:
    from torch import nn

_LOCK = ".training"  # a folder of the lock's own, which goes with the run


@contextmanager
def alone_in(output: Path, first: bool = True) -> Iterator[None]:
    """Hold `output` for one run, inside the block: two would write one checkpoint and one model. Of a run's several processes the `first` holds it.

    Raises OutputError where another run holds it, or it cannot be written.
    """
    if not first:
        yield
        return
    with run_lock(output / _LOCK):
        yield


def check_start(name: Path | str | None, output: Path, option: str = "--start") -> None:
    """UsageError where a run would replace the model that it goes on from, or uses otherwise (`option`): it would be lost, and nobody could say
    what the new one had learnt from."""
    if name and Path(name).resolve() == output.resolve():
        raise UsageError(f"{option} {name} is the folder of --output, whose model this run replaces; choose another --output.")


def check_output(output: Path, task: str, resume: bool, cure: str = "choose another --output, or give --restart") -> None:
    """UsageError where a run would replace a model of another task than the one that it leaves; without `resume` (--restart) that is meant."""
    from ..models.folder import CONFIG

    if not resume:
        return
    try:
        config = json.loads((output / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none, or none that any command could use
        return
    other = config.get("task") if isinstance(config, dict) else None
    if other is not None and other != task:
        raise UsageError(
            f"--output {output} holds the model {config.get('id')!r} of the task {other!r}, which this run would replace with one of the task {task!r}; {cure}."
        )


def go_on_from(
    name: str, task: str, network: nn.Module, spacing: Sequence[float] | None = None, *, stays: bool = False
) -> None:
    """Give a network the weights of a model that ships, or of a folder.

    spacing : mm along x, y, z of this network's voxels. Where they are a whole part of those of the model's, and its first convolution is larger and
        strides further by as much, it begins with one that answers as the model's did (`finer_grid`); None: they are the same.
    stays : whether the weights are to stay as they are, so that the voxels must be the model's own.

    Raises ModelError where there is none for this task, UsageError where it is another network, or on another grid though the weights are to stay.
    """
    from ..models.zoo import read_state, resolve
    from .finer_grid import on_finer_grid

    entry, weights = resolve(name, task)
    state = read_state(entry, weights)
    try:
        if spacing is not None:
            old, strides = entry.preprocessing["spacing"], along_axes(entry.arguments.get("stem_stride", 1))
            if stays and not np.allclose(old, spacing):
                raise UsageError(
                    f"--start {name} --epochs 0: {entry.id} sees voxels of {_mm(old)} mm and this configuration's network of {_mm(spacing)} mm, "
                    "so that its weights cannot stay as they are; train for some epochs, or choose another model."
                )
            state = on_finer_grid(state, network, old, spacing, strides)
        network.load_state_dict(state)
    except ValueError as error:
        raise UsageError(f"--start {name}: {entry.id} cannot be gone on from on this grid: {error}; choose another model or --configuration.") from error
    except RuntimeError as error:
        raise UsageError(
            f"--start {name}: {entry.id} is another network than this configuration's; choose another model or --configuration."
        ) from error


def _mm(spacing: Sequence[float]) -> str:
    return " x ".join(f"{s:g}" for s in spacing)


def learnt(now: str, name: str, task: str, epochs: int = 1) -> str:
    """What a run's model has learnt from, as words: `now`, and what the model `name` had that it went on from ("": fresh weights).

    epochs : of the run; with 0 of them nothing was learnt now.
    """
    from ..models.zoo import resolve

    if not name:
        return now
    went_on = f"{now}; went on from" if epochs else "the weights of"
    try:
        entry, _ = resolve(name, task)
    except ModelError:  # was removed while this trained, which is no reason to lose the run
        return f"{went_on} {name}, which is no longer there"
    return f"{went_on} {entry.id} {entry.version}, which had learnt from: {entry.trained_on}"
