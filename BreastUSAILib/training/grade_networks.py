"""The grading networks of a recipe with the weights that they start from, and what they say of lesions that are not varied."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atomic import write_text
from ..errors import UsageError
from .grade_recipe import NETWORKS, PARTNER, GradeRecipe

if TYPE_CHECKING:
    from torch import nn

    from .grade_batches import Lesions


def build_networks(
    recipe: GradeRecipe, start: Mapping[str, Path], fresh: bool = True, told: Path | None = None
) -> tuple[nn.ModuleDict, dict[str, dict[str, Any]]]:
    """Fresh networks by system, with the weights that they start from, and their arguments.

    start : system -> a weight file: ImageNet's in the usual layouts, or a model's own (`imagenet.load_matching`).
    fresh : or else a checkpoint has the weights, and no file is looked for.
    told : where to write, system by system, which tensors the files filled, which they did not, and which of theirs were not used; all
        by name, where the screen has a few. It is written where the networks are fresh and weights are given.
    """
    import importlib

    from torch import nn

    from .imagenet import load_matching
    from .pretrained import PACKAGES, imagenet_weights

    networks, arguments, matches = nn.ModuleDict(), {}, {}
    for system in recipe.systems:
        module, name = NETWORKS[system]
        loaded = importlib.import_module(f"..networks.{module}", __package__)
        values = dict(getattr(loaded, recipe.configuration.upper()))
        if recipe.trunk is not None:
            values["trunk"] = recipe.trunk
        if recipe.one_stage:
            values["in_channels"] = 1  # no outline, which would come from a first stage
        try:
            network = getattr(loaded, name)(**values)
        except ValueError as error:
            raise UsageError(str(error)) from error
        if fresh and system in start:
            matched = load_matching(network, start[system])
            print(matched.sentence(start[system]), flush=True)
            matches[system] = {"file": str(start[system]), **asdict(matched)}
        elif fresh and recipe.imagenet and values["trunk"] in PACKAGES:
            network.load_imagenet(imagenet_weights(values["trunk"]))
        networks[system], arguments[system] = network, values
    if fresh and told is not None:
        if matches:
            write_text(told, json.dumps(matches, indent=2) + "\n")
        else:
            told.unlink(missing_ok=True)  # an earlier run's, which this one is not
    return networks, arguments


def answers_of(
    networks: Mapping[str, nn.Module], lesions: Lesions, batch: int, device: str
) -> dict[str, dict[str, np.ndarray]]:
    """System -> output -> probabilities (N, K) of lesions that are not varied, the mean of a whole image's crops; with the partner's map of
    the same crop where it is there.

    networks : system -> network on `device`, in evaluation mode.
    """
    import torch

    said: dict[str, dict[str, list]] = {name: {} for name in networks}
    with torch.inference_mode():
        for indices in torch.arange(len(lesions)).split(batch):
            crops = lesions.crops(indices)
            of_crops: dict[str, dict[str, list]] = {name: {} for name in networks}
            for inputs in lesions.plain(indices).to(device).split(batch):
                for name, network in networks.items():
                    maps = None
                    if PARTNER.get(name) in networks:
                        maps = networks[PARTNER[name]].look(inputs).map
                    answers = network(inputs) if maps is None else network(inputs, maps)
                    for output, values in answers.items():
                        of_crops[name].setdefault(output, []).append(torch.softmax(values.float(), 1).cpu())
            for name, outputs in of_crops.items():
                for output, parts in outputs.items():
                    means = [chances.mean(0) for chances in torch.cat(parts).split(crops)]
                    said[name].setdefault(output, []).append(torch.stack(means))
    return {name: {o: torch.cat(parts).numpy() for o, parts in outputs.items()} for name, outputs in said.items()}
