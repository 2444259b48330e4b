"""The recipe of the U-Nets that the detection network is compared with: ``breastusai train detect-baseline --network unet3d``.

They learn on the same volumes, splits and crops as the detection network (`training.detect`), with the same options, and
leave a model folder that ``breastusai evaluate detect --model DIR`` measures in the same way. See `networks.unet` and
`evaluation.unet_baseline`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atomic import write_text
from ..errors import UsageError
from ..evaluation.unet_baseline import SCORES, TASK, ComponentRule
from ..models.folder import UNPUBLISHED
from .command_line import add_schedule_arguments, add_volume_arguments, schedule_of, volume_options
from .detect import CHECKPOINT, DetectRecipe, VolumeSets, check_batches, open_volumes, shares, tell_of
from .start import alone_in, check_output

if TYPE_CHECKING:
    from torch import nn

    from ..candidates import Candidates
    from .detection_data import TrainingVolume
    from .lesion_masks import LesionMask
    from .parallel import Team

NETWORKS = ("unet2d", "unet3d")
INSIDE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""Probabilities of lesion that are tried as the limit of a component."""


@dataclass(frozen=True)
class BaselineRecipe:
    """Settings of a training run; what is not explained here is as in `detect.DetectRecipe`.

    Attributes
    ----------
    network : "unet2d" or "unet3d" (see `networks.unet`).
    epochs : by default fewer than the detection network's: half an hour of one core.
    every : for slices one by one, every n-th of a crop is learnt from (see `voxel_crops.VoxelCropSet`); 1 for volumes.
    """

    network: str = "unet3d"
    spacing: tuple[float, float, float] = DetectRecipe.spacing
    crop: tuple[int, int, int] = DetectRecipe.crop
    epochs: int = 12
    crops: int = DetectRecipe.crops
    batch: int = DetectRecipe.batch
    rate: float = DetectRecipe.rate
    weight_decay: float = DetectRecipe.weight_decay
    every: int = 1
    lesion_share: float = DetectRecipe.lesion_share
    small_weight: float = DetectRecipe.small_weight
    isoechoic_weight: float = DetectRecipe.isoechoic_weight
    zoom: float = DetectRecipe.zoom
    vary: bool = DetectRecipe.vary
    shallow: float = DetectRecipe.shallow
    levelled: float = DetectRecipe.levelled
    decay: float = DetectRecipe.decay
    seed: int = DetectRecipe.seed


UNET3D = BaselineRecipe()
UNET2D = BaselineRecipe(network="unet2d", every=3)


def build_network(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """A fresh network, and its arguments. Raises `UsageError` for an unknown name."""
    if name not in NETWORKS:
        raise UsageError(f"network {name!r} is unknown; choose one of {', '.join(NETWORKS)}.")
    from ..networks import unet

    arguments = unet.UNET2D if name == "unet2d" else unet.UNET3D
    return unet.SegmentationUNet(**arguments), arguments


def train(
    data: Sequence[Path | str],
    output: Path | str,
    recipe: BaselineRecipe = UNET3D,
    *,
    cache: Path | str | None = None,
    spacing_mm: Sequence[float] | None = None,
    resume: bool = True,
    validate_every: int = 2,
    device: str = "auto",
    workers: int = 0,
    watch: Callable[[int, Any], None] | None = None,
) -> Path:
    """Train a baseline and leave a model folder (config.json, model.safetensors, log.jsonl, checkpoint.pt) in `output`.

    Parameters, kills, torchrun and errors are as in `detect.train`; the cache may be the same, and gets the lesions' masks.

    Raises
    ------
    DataError : also where a label map is missing or does not fit its volume.
    """
    from ..models.devices import choose_device
    from . import lesion_masks
    from .learner import run_epochs
    from .parallel import team

    output = Path(output)
    check_output(output, TASK, resume)
    cache = Path(cache) if cache is not None else output / "cache"
    with team(choose_device(device).name) as group, ExitStack() as held:
        check_batches(recipe.batch, recipe.crops, group.size)
        build_network(recipe.network)  # an unknown one is told before the volumes are prepared
        held.enter_context(alone_in(output, group.first))
        sets = open_volumes(data, output, cache, recipe.spacing, spacing_mm, group)
        mine = slice(group.rank, None, group.size)
        lesion_masks.prepare(
            sets.training_cases[mine], sets.training[mine], cache, recipe.spacing, tell_of(group.first)
        )
        group.wait()
        masks = lesion_masks.load(sets.training_cases, cache, recipe.spacing)
        run_epochs(_Run(output, recipe, sets, masks, group, workers, resume), output, validate_every, watch)
    return output


class _Run:
    """A training run of a baseline, for `learner.run_epochs`."""

    def __init__(
        self,
        output: Path,
        recipe: BaselineRecipe,
        sets: VolumeSets,
        masks: Sequence[Sequence[LesionMask]],
        group: Team,
        workers: int,
        resume: bool,
    ) -> None:
        import torch
        from monai.losses import DiceCELoss
        from torch.utils.data import DataLoader

        from .detection_crops import CropRecipe
        from .detection_data import fingerprint
        from .learner import Learner
        from .voxel_crops import VoxelCropSet

        self.output, self.recipe, self.group, self.sets = output, recipe, group, sets
        torch.manual_seed(recipe.seed)
        network, self.arguments = build_network(recipe.network)
        layout = torch.channels_last if network.dimension == 2 else torch.channels_last_3d
        self.learner = Learner(
            network.to(group.device).to(memory_format=layout),
            output / CHECKPOINT,
            recipe,
            fingerprint(sets.training),
            group,
            resume=resume,
        )
        # Dice of the whole batch: in most crops one of the classes has no voxel (Isensee et al. 2021, nnU-Net).
        self.loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
        stretch = {"stretch": 1.0} if recipe.zoom == 1 else {}
        names = ("lesion_share", "small_weight", "isoechoic_weight", "zoom", "vary", "shallow", "levelled")
        crops = CropRecipe(shape=recipe.crop, spacing=recipe.spacing[::-1], **{name: getattr(recipe, name) for name in names}, **stretch)
        self.crops = VoxelCropSet(sets.training, masks, crops, recipe.crops, recipe.seed, recipe.every)
        self.loader = DataLoader(
            self.crops, batch_sampler=shares(recipe.crops, recipe.batch, group), num_workers=workers
        )

    def epoch(self, epoch: int) -> dict[str, Any]:
        """Train one epoch; returns its loss, the mean over all processes."""
        import torch

        from ..models.devices import autocast

        network, device = self.learner.network, self.group.device
        self.crops.epoch = epoch
        network.train()
        total, steps = torch.zeros(1), len(self.loader)
        for step, (volumes, classes) in enumerate(self.loader):
            with autocast(device):
                scores = network(volumes.to(device, memory_format=torch.channels_last_3d))
            loss = self.loss(scores.float(), classes.to(device))
            total += self.learner.step(loss, loss.reshape(1), epoch + step / steps)
        return {"loss": float(total) / steps}

    def validate(self) -> dict[str, float]:
        """Figures of the averaged network on the validation volumes, with the rule before any choice."""
        from .detection_choice import figures

        rule = ComponentRule()
        return figures(
            self.sets.validation, _found(self.sets.validation, self.learner.average, [rule], self.group.device)[rule]
        )

    def save(self) -> None:
        """Choose what follows the network, and leave the model: the averaged network of the last epoch."""
        from ..models.folder import save_model

        choice, tried = choose(self.sets.validation, self.learner.average, self.group.device)
        write_text(self.output / "postprocessing.json", json.dumps({"choice": choice, "tried": tried}, indent=2) + "\n")
        save_model(self.output, self.learner.average, self._config(choice, tried["figures"]))

    def _config(self, choice: dict[str, Any], measured: dict[str, float]) -> dict[str, Any]:
        cases, recipe = self.sets.training_cases, self.recipe
        sources = sorted({case.source for case in cases})
        seen = "slices of volumes" if self.arguments["dimension"] == 2 else "volumes"
        return {
            "id": f"detection-baseline-{recipe.network}",
            "task": TASK,
            "version": UNPUBLISHED,
            "network": "unet.SegmentationUNet",
            "arguments": json.loads(json.dumps(self.arguments)),
            "preprocessing": {
                "dimension": self.arguments["dimension"],
                "spacing": list(recipe.spacing),
                "intensity": "standardised above the lowest value, 8-bit levels",
            },
            "postprocessing": choice,
            "description": f"A U-Net that segments {seen}, to compare the detection network with",
            "trained_on": f"{len(cases)} volumes of {', '.join(sources)} (split train)",
            "licence": "unspecified",
            "measured": {"validation": measured},
            "recipe": asdict(recipe),
        }


def _found(
    volumes: Sequence[TrainingVolume], network: nn.Module, rules: Sequence[ComponentRule], device: str
) -> dict[ComponentRule, list[Candidates]]:
    """What each rule makes of each volume; the network, which takes the time, looks once."""
    from ..evaluation.unet_baseline import components, probabilities

    found: dict[ComponentRule, list[Candidates]] = {rule: [] for rule in rules}
    for volume in volumes:
        seen = probabilities(np.asarray(volume.levels), network, rules[0], device)
        for rule in rules:
            found[rule].append(components(seen, volume.spacing, rule))
    return found


def choose(volumes: Sequence[TrainingVolume], network: nn.Module, device: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The choices for the model's `postprocessing`, and the table of what was tried.

    The limit and the score of a component by `detection_choice.merit`, the threshold by `threshold_at`: as for the
    detection network.
    """
    from .detection_choice import figures, merit, scored, threshold_at

    tries = [ComponentRule(inside=inside, score=score) for inside, score in product(INSIDE, SCORES)]
    found = _found(volumes, network, tries, device)
    table = [figures(volumes, found[rule]) for rule in tries]
    best = int(np.argmax([merit(row) for row in table]))
    chosen = tries[best]
    rows = [{"inside": rule.inside, "score": rule.score, **row} for rule, row in zip(tries, table, strict=True)]
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(chosen).items()}
    choice = {**values, "threshold": threshold_at(scored(volumes, found[chosen]))}
    record = {"volumes": len(volumes), "lesions": sum(len(v.boxes) for v in volumes), "tried": rows}
    return choice, {**record, "figures": table[best]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--network", choices=NETWORKS, default="unet3d", help="slices one by one, or volumes (default)")
    add_volume_arguments(parser, UNET3D.seed)
    add_schedule_arguments(parser, UNET3D)


def recipe_of(args: argparse.Namespace) -> BaselineRecipe:
    """The network's recipe with what the command line says otherwise. Raises `UsageError`."""
    return replace(UNET2D if args.network == "unet2d" else UNET3D, seed=args.seed, **schedule_of(args))


def main(args: argparse.Namespace) -> int:
    folder = train(args.data, args.output, recipe_of(args), **volume_options(args))
    print(f"The model is in {folder}; measure it with: breastusai evaluate detect --data DATA --model {folder} --output FIGURES")
    return 0
