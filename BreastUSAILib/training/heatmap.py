"""The recipe of the weakly supervised patch classifier: ``breastusai train heatmap --data DIR --output DIR``.

It learns from one central point a lesion and from healthy volumes. The paper cuts patches of 28 x 280 x 280 voxels about the points,
takes crops of 16 x 160 x 160 of them and as many from healthy volumes, mirrors them along two axes, and trains a 3D
ResNet-18 for 250 epochs. The compact network takes crops of 32 x 32 x 32 mm from patches of 56 x 48 x 56, at 1 mm from slice to slice and 0.5 mm in them.
Volumes for training and validation are the data sets' own splits, or folds of both together; the test split is never read.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atomic import output_error, write_text
from ..errors import DataError, UsageError
from ..models.folder import UNPUBLISHED
from .command_line import (
    add_configuration_argument,
    add_schedule_arguments,
    add_start_argument,
    add_volume_arguments,
    schedule_of,
    volume_options,
)
from .detect import check_batches, shares, tell_of
from .start import alone_in, check_output, check_start, go_on_from, learnt

if TYPE_CHECKING:
    from ..evaluation.heatmap_patches import Patch
    from ..evaluation.volume_data import VolumeCase
    from .detection_data import TrainingVolume
    from .parallel import Team

CHECKPOINT = "checkpoint.pt"
CROSS_VALIDATION = "cross-validation.json"


@dataclass(frozen=True)
class HeatmapRecipe:
    """Settings of a training run.

    Attributes
    ----------
    configuration : "compact" or "paper" (see `networks.resnet_3d`).
    spacing : mm along x, y, z of the network's grid.
    patch, crop : (z, y, x) voxels that are kept about a point, and that the network sees of them.
    healthy : patches of a volume without lesions that are kept (`patch_store.PatchStore`).
    far : whether what lies far from all lesions of a volume is learnt as healthy, too; otherwise healthy volumes alone are (paper).
    epochs, crops : how many epochs, of how many crops each, half of them healthy; None: twice as many as there are lesions.
    batch : crops a step, over all processes.
    rate, weight_decay : the highest learning rate of a cosine, with AdamW. With `published`, the rate of Adam throughout.
    zoom, stretch, vary, same_places : see `heatmap_crops.CropRule`.
    point : weight of `heatmap_losses.point_loss` beside the cross-entropy of the patch (paper: 0).
    spline : degree of the map's interpolation, which the point loss reads it with, too (`gradcam_3d.interpolation`; paper: 1).
    decay : of the averaged weights; 0: the last step's weights.
    published : see `rate`.
    start : a model that ships, or a folder, whose weights are gone on from; "": fresh ones.
    seed : fixes initial weights and crops; other thread counts, CPUs or numbers of processes still round otherwise.
    """

    configuration: str = "compact"
    spacing: tuple[float, float, float] = (0.5, 0.5, 1.0)
    patch: tuple[int, int, int] = (56, 96, 112)
    crop: tuple[int, int, int] = (32, 64, 64)
    healthy: int = 16
    far: bool = False
    epochs: int = 40
    crops: int | None = 1280
    batch: int = 16
    rate: float = 2e-3
    weight_decay: float = 0.01
    zoom: float = 1.2
    stretch: float = 1.1
    vary: bool = True
    same_places: float = 0.5
    point: float = 1.0
    spline: int = 2
    decay: float = 0.998
    published: bool = False
    start: str = ""
    seed: int = 1


PAPER = HeatmapRecipe(
    configuration="paper",
    spacing=(0.2, 0.2, 0.5),
    patch=(28, 280, 280),
    crop=(16, 160, 160),
    epochs=250,
    crops=None,
    batch=14,
    rate=1e-3,
    weight_decay=0.0,
    zoom=1.0,
    stretch=1.0,
    vary=False,
    same_places=0.0,
    point=0.0,
    spline=1,
    decay=0.0,
    published=True,
)
"""The published system as far as the paper says. The spacing was chosen here: about that of the scanners, the same for all of them."""


def build_network(configuration: str):
    """A fresh ResNet3d of a named configuration, and its arguments."""
    from .configurations import build

    return build("resnet_3d", "ResNet3d", configuration)


def train(
    data: Sequence[Path | str],
    output: Path | str,
    recipe: HeatmapRecipe = HeatmapRecipe(),
    *,
    fold: tuple[int, int] | None = None,
    cache: Path | str | None = None,
    spacing_mm: Sequence[float] | None = None,
    resume: bool = True,
    validate_every: int = 2,
    device: str = "auto",
    workers: int = 0,
    watch: Callable[[int, Any], None] | None = None,
) -> Path:
    """Train the patch classifier and leave a model folder (config.json, model.safetensors, log.jsonl, checkpoint.pt) in `output`.

    A run that was killed goes on at its last finished epoch when called again. Under torchrun the processes share each batch.

    Parameters
    ----------
    data : data sets with the splits train and validation: phantoms, or the layout of TDSC-ABUS. Of lesions the centres are read,
        nothing else. Some volumes of either split must be healthy.
    fold : (k, n) validates on the k-th (from 1) of n folds of the volumes of both splits, and trains on the others.
    cache : where patches and prepared volumes are kept; None: ``cache`` in `output`.
    spacing_mm : true spacing of data in the layout of TDSC-ABUS, where it is another than the challenge's.
    workers : processes that prepare crops while the network computes; 0: none.
    watch : called after each epoch, in every process, with its number and the network.

    Raises
    ------
    DataError : a data set's layout is wrong, a split lacks lesions or healthy volumes, or one volume both teaches and validates.
    UsageError : unknown configuration or device; a batch that the processes cannot share; a checkpoint of another recipe, or the
        model of another task, in `output`; `start` is `output`; with `fold`, volumes that are there twice.
    OutputError : `output` or `cache` cannot be written, or another run is writing to `output`.
    """
    from ..models.devices import choose_device
    from .learner import run_epochs
    from .parallel import team

    output = Path(output)
    check_start(recipe.start, output)
    check_output(output, "heatmap", resume)
    cache = Path(cache) if cache is not None else output / "cache"
    with team(choose_device(device).name) as group, alone_in(output, group.first):
        sets = open_patches(data, output, cache, recipe, fold, spacing_mm, group)
        if recipe.crops is None:
            recipe = replace(recipe, crops=2 * sum(p.point is not None for p in sets.training))
        check_batches(recipe.batch, recipe.crops, group.size)
        run = _Run(output, recipe, sets, group, workers, resume, fold)
        run_epochs(run, output, validate_every, watch)
    return output


@dataclass(frozen=True)
class PatchSets:
    """What is learnt from, and what is validated on: patches, and the validation volumes whole."""

    training_cases: list[VolumeCase]
    training: list[Patch]
    validation: list[Patch]
    volumes: list[TrainingVolume]


def open_patches(
    data: Sequence[Path | str],
    output: Path,
    cache: Path,
    recipe: HeatmapRecipe,
    fold: tuple[int, int] | None,
    spacing_mm: Sequence[float] | None,
    group: Team,
) -> PatchSets:
    """Make the folder `output`, and prepare the patches; the team shares the work. Raises as `train` does."""
    from . import detection_data
    from .apart import check_volumes_apart
    from .patch_store import PatchStore

    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(output, error) from error
    cases = [detection_data.read_split(data, split, spacing_mm) for split in ("train", "validation")]
    if fold is not None:
        cases = split_into_folds([*cases[0], *cases[1]], *fold)
    check_volumes_apart(*cases)
    for name, part in zip(("train", "validation"), cases, strict=True):
        _check_kinds(name if fold is None else f"{name} of fold {fold[0]}", part, data)
    # What is judged on validation volumes is the paper's question: healthy is what healthy volumes show.
    judged = PatchStore(cache, recipe.spacing, recipe.patch, recipe.healthy)
    learnt = replace(judged, whole=recipe.far)
    mine = [split[group.rank :: group.size] for split in cases]
    tell = tell_of(group.first)
    learnt.prepare(mine[0], tell)
    judged.prepare(mine[1], tell)
    detection_data.prepare(mine[1], cache, recipe.spacing, tell)
    group.wait()
    volumes = detection_data.load(cases[1], cache, recipe.spacing)
    return PatchSets(cases[0], learnt.load(cases[0]), judged.load(cases[1]), volumes)


def _check_kinds(name: str, cases: Sequence[VolumeCase], data: Sequence[Path | str]) -> None:
    where = f"the split {name} of {', '.join(map(str, data))}"
    if not any(case.lesions for case in cases):
        raise DataError(f"{where} has no lesion; make more volumes.")
    if all(case.lesions for case in cases):
        raise DataError(
            f"{where} has no volume without lesions, from which healthy patches are taken; add a data set that has some."
        )


def split_into_folds(cases: Sequence[VolumeCase], fold: int, folds: int) -> list[list[VolumeCase]]:
    """Training and validation cases of the k-th (from 1) of n folds. Volumes with lesions and healthy ones are dealt out evenly.

    A volume is a patient's only one in the data sets that are read.

    Raises
    ------
    UsageError : a fold that there is not, more folds than volumes, or a volume that is there twice.
    """
    from .detection_data import check_once

    check_once(cases)
    if not 2 <= folds <= len(cases) or not 1 <= fold <= folds:
        raise UsageError(
            f"fold {fold} of {folds} cannot be made of {len(cases)} volumes; there must be 2 folds or more."
        )
    random = np.random.default_rng(folds)
    dealt = sorted(random.permutation(len(cases)).tolist(), key=lambda i: bool(cases[i].lesions))
    held = {i for place, i in enumerate(dealt) if place % folds == fold - 1}
    parts = [i not in held for i in range(len(cases))], [i in held for i in range(len(cases))]
    return [[case for case, kept in zip(cases, part, strict=True) if kept] for part in parts]


class _Run:
    """A training run of the patch classifier, for `learner.run_epochs`."""

    def __init__(
        self, output: Path, recipe: HeatmapRecipe, sets: PatchSets, group: Team, workers: int, resume: bool, fold: tuple[int, int] | None = None
    ) -> None:
        import torch
        from torch.utils.data import DataLoader

        from .heatmap_crops import CropRule, CropSet
        from .learner import Learner
        from .patch_store import fingerprint

        self.output, self.recipe, self.group, self.sets, self.kept = output, recipe, group, sets, fold is None
        self.taught_by = "split train" if fold is None else f"all but fold {fold[0]} of {fold[1]} of the splits train and validation"
        torch.manual_seed(recipe.seed)
        network, self.arguments = build_network(recipe.configuration)
        if recipe.start and not (resume and (output / CHECKPOINT).is_file()):
            go_on_from(recipe.start, "heatmap", network, recipe.spacing, stays=recipe.epochs == 0)
        published = {
            "optimiser": lambda parameters: torch.optim.Adam(parameters, lr=recipe.rate),
            "schedule": lambda progress: recipe.rate,
        }
        self.learner = Learner(
            network.to(group.device).to(memory_format=torch.channels_last_3d),
            output / CHECKPOINT,
            recipe,
            fingerprint(sets.training),
            group,
            resume=resume,
            **(published if recipe.published else {}),
        )
        names = ("zoom", "stretch", "vary", "same_places")
        fields = {name: getattr(recipe, name) for name in names}
        rule = CropRule(shape=tuple(recipe.crop), spacing=tuple(recipe.spacing[::-1]), **fields)
        self.crops = CropSet(sets.training, rule, recipe.crops, recipe.seed)
        mine = shares(recipe.crops, recipe.batch, group)
        self.loader = DataLoader(self.crops, batch_sampler=mine, num_workers=workers)

    def epoch(self, epoch: int) -> dict[str, Any]:
        """Train one epoch; returns the losses and the share of right answers, the means over all processes."""
        import torch
        from torch.nn import functional as F

        from ..models.devices import autocast
        from .heatmap_losses import point_loss

        network, device = self.learner.network, self.group.device
        self.crops.epoch = epoch
        network.train()
        totals, steps = torch.zeros(3), len(self.loader)
        for step, (volumes, lesion, points) in enumerate(self.loader):
            lesion = lesion.to(device)
            with autocast(device):
                features = network.features(volumes.to(device, memory_format=torch.channels_last_3d))
            features = features.float()
            logits = network.judge(features)
            patch = F.binary_cross_entropy_with_logits(logits, lesion)
            loss, place = patch, patch.new_zeros(())
            if self.recipe.point:
                evidence = network.activation(features)
                place = point_loss(evidence, lesion, points, network.scale, network.gain, self.recipe.spline)
                loss = patch + self.recipe.point * place
            right = ((logits > 0) == (lesion > 0)).float().mean()
            figures = torch.stack([patch.detach(), place.detach(), right])
            totals += self.learner.step(loss, figures, epoch + step / steps)
        return dict(zip(("loss", "point_loss", "accuracy"), (totals / steps).tolist(), strict=True))

    def validate(self) -> dict[str, float]:
        """AUC and accuracy of the averaged network on the validation patches, by kind."""
        from ..evaluation.heatmap_patches import ask
        from ..gradcam_3d import patch_probability

        def judge(levels: np.ndarray) -> float:
            return patch_probability(self.learner.average, levels, device=self.group.device)

        answers = ask(judge, self.sets.validation, self.recipe.patch, self.recipe.crop)
        return {
            f"{kind.replace('-', '_')}_{name}": value
            for kind, answer in answers.items()
            for name, value in answer.figures().items()
        }

    def save(self) -> None:
        """Choose what follows the network, and leave the model: the averaged network of the last epoch."""
        from ..hot_spots import SpotRule
        from ..mirrors import CHOICES
        from ..models.folder import save_model
        from .heatmap_choice import choose

        network = self.learner.average
        # The model of a fold is measured and not used: whether more looks are worth their time is not asked.
        looks = (1,) if self.recipe.published or not self.kept else CHOICES
        choice, figures = choose(
            self.sets.volumes,
            network,
            self.recipe.crop,
            SpotRule(),
            self.group.device,
            looks,
            self.recipe.spline,
        )
        measured = {**self.validate(), **figures}
        config = _config(self.recipe, self.arguments, self.sets.training_cases, choice, measured, self.taught_by)
        save_model(self.output, network, config)


def _config(recipe: HeatmapRecipe, arguments: dict, cases: Sequence, choice: dict, measured: dict, taught_by: str) -> dict[str, Any]:
    from ..evaluation.volume_data import described

    return {
        "id": f"heatmap-{recipe.configuration}",
        "task": "heatmap",
        "version": UNPUBLISHED,
        "network": "resnet_3d.ResNet3d",
        "arguments": json.loads(json.dumps(arguments)),
        "preprocessing": {
            "dimension": 3,
            "spacing": list(recipe.spacing),
            "intensity": "standardised above the lowest value, 8-bit levels",
            "patch": list(recipe.patch),
            "crop": list(recipe.crop),
        },
        "postprocessing": choice,
        "trained_on": learnt(
            f"{described(cases)} ({taught_by}, one central point a lesion)", recipe.start, "heatmap", recipe.epochs
        ),
        "licence": "unspecified",
        "measured": {"validation": measured},
        "recipe": asdict(recipe),
    }


def cross_validate(data: Sequence[Path | str], output: Path, recipe: HeatmapRecipe, folds: int, **options) -> Path:
    """Train a model for each fold in ``fold-1``, ``fold-2`` ... of `output`; mean and standard deviation of their figures in
    ``cross-validation.json``. `options` are those of `train`; the folds share the cache."""
    cache = options.pop("cache", None) or output / "cache"
    measured = []
    for fold in range(1, folds + 1):
        folder = train(data, output / f"fold-{fold}", recipe, fold=(fold, folds), cache=cache, **options)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        measured.append(config["measured"]["validation"])
    summary = {
        name: {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)), "folds": values}
        for name in measured[0]
        for values in [[m[name] for m in measured]]
    }
    write_text(output / CROSS_VALIDATION, json.dumps(summary, indent=2) + "\n")
    return output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_volume_arguments(parser, HeatmapRecipe.seed, prepared="patches")
    add_schedule_arguments(parser, HeatmapRecipe, PAPER)
    add_configuration_argument(parser)
    parser.add_argument("--prepare-only", action="store_true", help="cut the patches and stop")
    add_start_argument(parser)
    parser.add_argument(
        "--far", action="store_true", help="learn as healthy what lies far from all lesions of a volume, too"
    )
    parser.add_argument(
        "--folds", type=int, metavar="N", help="cross-validation: a model for each of N folds of both splits (paper: 5)"
    )


def recipe_of(args: argparse.Namespace) -> HeatmapRecipe:
    """The configuration's recipe with what the command line says otherwise. Raises `UsageError`."""
    recipe = PAPER if args.configuration == "paper" else HeatmapRecipe()
    if args.folds is not None and args.folds < 2:
        raise UsageError(f"--folds is {args.folds}; a cross-validation needs 2 folds or more.")
    if args.start and args.folds:
        raise UsageError(
            "--start with --folds would measure each fold on volumes that the model may have learnt from; leave one of them out."
        )
    return replace(recipe, start=args.start, seed=args.seed, far=args.far, **schedule_of(args))


def main(args: argparse.Namespace) -> int:
    recipe = recipe_of(args)
    if args.prepare_only:
        from .parallel import Team

        cache = args.cache or args.output / "cache"
        open_patches(args.data, args.output, cache, recipe, None, args.spacing, Team(0, 1, "cpu"))
        print(f"The patches are in {cache}.")
        return 0
    if args.folds is not None:
        folder = cross_validate(args.data, args.output, recipe, args.folds, **volume_options(args))
        print(f"The figures of {args.folds} folds are in {folder / CROSS_VALIDATION}.")
        return 0
    folder = train(args.data, args.output, recipe, **volume_options(args))
    print(f"The model is in {folder}; measure it with: breastusai evaluate heatmap --model {folder} --data DATA --output FIGURES")
    return 0
