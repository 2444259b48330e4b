"""The recipe of the detection network: ``breastusai train detect --data DIR --output DIR``.

The paper crops 400 x 98 x 360 voxels about a lesion and gives the network 320 x 96 x 320 of them. The compact network takes
crops of 96 x 48 x 96 mm, most of them about a lesion, at 1 mm, which two CPU cores can pay for. Volumes for
training and validation are the data sets' own splits; the test split is never read.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from .start import alone_in, check_output, check_start, go_on_from, learnt

if TYPE_CHECKING:
    from torch import nn

    from ..evaluation.volume_data import VolumeCase
    from .detection_data import TrainingVolume
    from .parallel import Team

CHECKPOINT = "checkpoint.pt"
VARIANTS = ("rpn", "rpn-iou", "rpn-iou-sim")


@dataclass(frozen=True)
class DetectRecipe:
    """Settings of a training run.

    Attributes
    ----------
    configuration : "compact" or "paper" (see `networks.detection`).
    variant : the paper's ablations: "rpn" (plain cross-entropy), "rpn-iou" (IoU-balanced), "rpn-iou-sim" (and similarity).
    spacing : mm along x, y, z of the network's grid.
    crop, around : (z, y, x) voxels; see `detection_crops.CropRecipe`.
    epochs, crops : how many epochs, of how many crops each; a checkpoint is written after each.
    batch : crops a step, over all processes.
    rate, weight_decay : of AdamW; the rate is the highest of a cosine.
    loss : fields of `detection_losses.DetectionLoss` that differ from the published loss, besides those of the variant.
    best : see `anchors.AnchorRule`.
    lesion_share, small_weight, isoechoic_weight, zoom, vary, shallow, levelled : see `detection_crops.CropRecipe`.
    search : fields of `candidates.Search` that the model shall have; None: the paper's.
    decay : of the averaged weights.
    start : a model that ships, or a folder, whose weights are gone on from; where its voxels are coarser, in whole steps, the first convolution is taken to these
        (`finer_grid`); "": fresh ones.
    seed : fixes initial weights and crops; other thread counts, CPUs or numbers of processes still round otherwise.
    """

    configuration: str = "compact"
    variant: str = "rpn-iou-sim"
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    crop: tuple[int, int, int] = (96, 48, 96)
    around: tuple[int, int, int] | None = field(default=None, repr=False)
    epochs: int = 28
    crops: int = 800
    batch: int = 4
    rate: float = 2e-3
    weight_decay: float = 0.01
    loss: dict[str, Any] = field(default_factory=lambda: {"negatives": "focal", "beta": 1 / 9, "evening": 0.5})
    best: int = 6
    lesion_share: float = 0.75
    small_weight: float = 2.0
    isoechoic_weight: float = 1.5
    zoom: float = 1.25
    vary: bool = True
    shallow: float = 0.35
    levelled: float = 0.35
    search: dict[str, Any] | None = field(default_factory=dict)
    decay: float = 0.998
    start: str = ""
    seed: int = 1


PAPER = DetectRecipe(
    configuration="paper",
    spacing=(0.384, 0.5, 0.425),
    crop=(320, 96, 320),
    around=(360, 98, 400),
    epochs=100,
    crops=400,
    batch=1,
    rate=1e-3,
    loss={},
    best=1,
    lesion_share=1.0,
    small_weight=1.0,
    isoechoic_weight=1.0,
    zoom=1.0,
    shallow=0.0,
    levelled=0.0,
    search=None,
)
"""The published system as far as the paper says: its network, anchors, loss with every negative, and crops about a lesion in two steps. The spacing makes
400 x 100 x 400 voxels of 154 x 50 x 170 mm; the paper halves the raw volume, whatever its voxels measure. The paper does not state optimiser, rate, number
of epochs or how crops are varied; these were chosen (what varies intensities is about as many millimetres wide on any grid)."""


def build_network(configuration: str):
    """A fresh DetectionNetwork of a named configuration, and its arguments."""
    from .configurations import build

    return build("detection", "DetectionNetwork", configuration)


def train(
    data: Sequence[Path | str],
    output: Path | str,
    recipe: DetectRecipe = DetectRecipe(),
    *,
    cache: Path | str | None = None,
    spacing_mm: Sequence[float] | None = None,
    resume: bool = True,
    validate_every: int = 2,
    device: str = "auto",
    workers: int = 0,
    watch: Callable[[int, Any], None] | None = None,
) -> Path:
    """Train the detection network and leave a model folder (config.json, model.safetensors, log.jsonl, checkpoint.pt) in `output`.

    A run that was killed goes on at its last finished epoch when called again. Under torchrun the processes share each batch.

    Parameters
    ----------
    data : data sets with the splits train and validation: phantoms, or the layout of TDSC-ABUS.
    cache : where prepared volumes are kept; None: ``cache`` in `output`.
    spacing_mm : true spacing of data in the layout of TDSC-ABUS, where it is another than the challenge's.
    workers : processes that prepare crops while the network computes; 0: none.
    watch : called after each epoch, in every process, with its number and the network.

    Raises
    ------
    DataError : a data set's layout is wrong, or a split is empty or has no lesion, or one volume both teaches and validates.
    UsageError : unknown configuration, variant or device; a batch that the processes cannot share; a checkpoint of another recipe, or the
        model of another task, in `output`; `start` is `output`.
    OutputError : `output` or `cache` cannot be written, or another run is writing to `output`.
    """
    from ..models.devices import choose_device
    from .learner import run_epochs
    from .parallel import team

    output = Path(output)
    check_start(recipe.start, output)
    check_output(output, "detect", resume)
    cache = Path(cache) if cache is not None else output / "cache"
    with team(choose_device(device).name) as group:
        check_batches(recipe.batch, recipe.crops, group.size)
        _check(recipe)
        with alone_in(output, group.first):
            sets = open_volumes(data, output, cache, recipe.spacing, spacing_mm, group)
            run = _Run(output, recipe, sets, group, workers, resume)
            run_epochs(run, output, validate_every, watch)
    return output


@dataclass(frozen=True)
class VolumeSets:
    """What is learnt from and what choices are made on: the cases on disk, the same prepared (`detection_data`), and where that is kept."""

    training_cases: list[VolumeCase]
    validation_cases: list[VolumeCase]
    training: list[TrainingVolume]
    validation: list[TrainingVolume]
    cache: Path


def open_volumes(
    data: Sequence[Path | str],
    output: Path,
    cache: Path,
    spacing: Sequence[float],
    spacing_mm: Sequence[float] | None,
    group: Team,
) -> VolumeSets:
    """Make the folder `output`, and prepare the volumes of the splits train and validation; the team shares the work.

    Raises
    ------
    DataError, OutputError : see `train`.
    """
    from . import detection_data
    from .apart import check_volumes_apart

    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(output, error) from error
    cases = [detection_data.read_split(data, split, spacing_mm) for split in ("train", "validation")]
    check_volumes_apart(*cases)
    for split in cases:
        detection_data.prepare(split[group.rank :: group.size], cache, spacing, tell_of(group.first))
    group.wait()
    volumes = [detection_data.load(split, cache, spacing) for split in cases]
    for name, part in zip(("train", "validation"), volumes, strict=True):
        if not any(len(volume.boxes) for volume in part):
            raise DataError(f"the split {name} of {', '.join(map(str, data))} has no lesion; make more volumes.")
    return VolumeSets(*cases, *volumes, cache)


def check_batches(batch: int, crops: int, processes: int) -> None:
    """Refuse a batch that the processes cannot share, before any work is done. Raises `UsageError`."""
    if batch % processes or crops < batch:
        raise UsageError(
            f"a batch of {batch} crops cannot be shared by {processes} processes, or is more than the {crops} crops "
            "of an epoch; choose another --batch."
        )


def _check(recipe: DetectRecipe) -> None:
    if recipe.variant not in VARIANTS:
        raise UsageError(f"variant {recipe.variant!r} is unknown; choose one of {', '.join(VARIANTS)}.")


def shares(crops: int, batch: int, group: Team) -> list[list[int]]:
    """The numbers of the crops of each step of an epoch that this process takes."""
    starts = range(0, crops - batch + 1, batch)
    return [list(range(start, start + batch))[group.rank :: group.size] for start in starts]


class _Run:
    """A training run of the detection network, for `learner.run_epochs`."""

    def __init__(
        self, output: Path, recipe: DetectRecipe, sets: VolumeSets, group: Team, workers: int, resume: bool
    ) -> None:
        import torch
        from torch.utils.data import DataLoader

        from ..anchors import AnchorRule
        from ..candidates import PAPER as PAPER_SEARCH
        from ..candidates import Search
        from .detection_crops import CropRecipe, CropSet, collate, crop_anchors
        from .detection_data import fingerprint
        from .detection_losses import VARIANTS as LOSSES
        from .detection_losses import DetectionLoss
        from .learner import Learner

        self.output, self.recipe, self.group, self.sets = output, recipe, group, sets
        # The variant comes last: that of an ablation is not to be changed by anything else.
        self.rule = DetectionLoss(**{**recipe.loss, **LOSSES[recipe.variant]})
        self.search = PAPER_SEARCH if recipe.search is None else Search(**recipe.search)

        torch.manual_seed(recipe.seed)
        network, self.arguments = build_network(recipe.configuration)
        if recipe.start and not (resume and (output / CHECKPOINT).is_file()):
            go_on_from(recipe.start, "detect", network, recipe.spacing, stays=recipe.epochs == 0)
        self.learner = Learner(
            network.to(group.device).to(memory_format=torch.channels_last_3d),
            output / CHECKPOINT,
            recipe,
            fingerprint(sets.training),
            group,
            resume=resume,
        )

        self.anchors = crop_anchors(network, recipe.crop)
        stretch = {"stretch": 1.0} if recipe.zoom == 1 else {}
        names = ("around", "lesion_share", "small_weight", "isoechoic_weight", "zoom", "vary", "shallow", "levelled")
        crops = CropRecipe(shape=recipe.crop, spacing=recipe.spacing[::-1], **{name: getattr(recipe, name) for name in names}, **stretch)
        self.crops = CropSet(
            sets.training, crops, self.anchors, AnchorRule(best=recipe.best), recipe.crops, recipe.seed
        )
        mine = shares(recipe.crops, recipe.batch, group)
        self.loader = DataLoader(self.crops, batch_sampler=mine, collate_fn=collate, num_workers=workers)

    def epoch(self, epoch: int) -> dict[str, Any]:
        """Train one epoch; returns its losses, the means over all processes."""
        import torch

        from ..models.devices import autocast
        from .detection_crops import generator_of
        from .detection_losses import detection_loss

        recipe, network, device = self.recipe, self.learner.network, self.group.device
        self.crops.epoch = epoch
        network.train()
        totals, steps = torch.zeros(4), len(self.loader)
        for step, (volumes, lesions, labels) in enumerate(self.loader):
            with autocast(device):
                predictions = network(volumes.to(device, memory_format=torch.channels_last_3d))
            generator = generator_of(recipe.seed, epoch, step, self.group.rank, 1)
            losses = detection_loss(network, predictions, self.anchors, labels, lesions, self.rule, generator)
            values = torch.stack([v.detach() for v in losses.values()])
            totals += self.learner.step(losses["total"], values, epoch + step / steps)
        return dict(zip(("loss", "regression", "classification", "similarity"), (totals / steps).tolist(), strict=True))

    def validate(self) -> dict[str, float]:
        """Figures of the averaged network on the validation volumes, with the search as the recipe has it."""
        from .detection_choice import candidates_of, figures, see

        validation = self.sets.validation
        seen = see(validation, self._looking(), self.search, self.group.device)[self.search.mirrors]
        return figures(validation, candidates_of(validation, seen, self.search))

    def save(self) -> None:
        """Choose what follows the network, and leave the model.

        It is the averaged network of the last epoch, not the one that happened to validate best.
        """
        from ..models.folder import save_model
        from .detection_choice import choose

        published = self.recipe.search is None
        finer = {} if published else self._finer()
        choice, tried = choose(
            self.sets.validation, self._looking(), self.search, self.group.device, published=published, finer=finer
        )
        write_text(self.output / "postprocessing.json", json.dumps({"choice": choice, "tried": tried}, indent=2) + "\n")
        config = _config(self.recipe, self.arguments, self.sets.training_cases, choice, tried["figures"])
        save_model(self.output, self.learner.average, config)

    def _looking(self) -> nn.Module:
        """The averaged network as inference has it, which sees a volume in a third of the time; the learner's own stays as it is."""
        from copy import deepcopy

        from ..models.inference import prepared

        return prepared(deepcopy(self.learner.average), self.group.device, volumes=True)

    def _finer(self) -> dict[float, list[TrainingVolume]]:
        """The validation volumes on the grids of `multi_scale.CHOICES`."""
        from ..multi_scale import CHOICES
        from . import detection_data

        cases, cache, finer = self.sets.validation_cases, self.sets.cache, {}
        for scale in CHOICES:
            spacing = [scale * s for s in self.recipe.spacing]
            detection_data.prepare(cases, cache, spacing, tell_of(self.group.first))
            finer[scale] = detection_data.load(cases, cache, spacing)
        return finer


def tell_of(first: bool) -> Callable[[float, str], None] | None:
    """Words on the screen, twenty lines in all, of the first process only."""
    if not first:
        return None
    told = [-1]

    def tell(fraction: float, message: str) -> None:
        if int(fraction * 20) != told[0]:
            told[0] = int(fraction * 20)
            print(message, flush=True)

    return tell


def _config(recipe: DetectRecipe, arguments: dict, cases: Sequence, choice: dict, measured: dict) -> dict[str, Any]:
    from ..evaluation.volume_data import described

    return {
        "id": f"detection-{recipe.configuration}",
        "task": "detect",
        "version": UNPUBLISHED,
        "network": "detection.DetectionNetwork",
        "arguments": json.loads(json.dumps(arguments)),
        "preprocessing": {
            "dimension": 3,
            "spacing": list(recipe.spacing),
            "intensity": "standardised above the lowest value, 8-bit levels",
        },
        "postprocessing": choice,
        "trained_on": learnt(f"{described(cases)} (split train)", recipe.start, "detect", recipe.epochs),
        "licence": "unspecified",
        "measured": {"validation": measured},
        "recipe": asdict(recipe),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_volume_arguments(parser, DetectRecipe.seed)
    add_schedule_arguments(parser, DetectRecipe, PAPER)
    add_configuration_argument(parser)
    parser.add_argument("--prepare-only", action="store_true", help="fill the cache and stop")
    parser.add_argument(
        "--variant", choices=VARIANTS, default=DetectRecipe.variant, help="the paper's ablations (default: the whole)"
    )
    add_start_argument(parser)
    for name, what in (("shallow", "end early"), ("levelled", "are levelled in depth")):
        default = f"default: {getattr(DetectRecipe, name)}; paper: {getattr(PAPER, name)}"
        parser.add_argument(f"--{name}", type=float, metavar="P", help=f"share of crops that {what} ({default})")
    parser.add_argument(
        "--negatives",
        choices=("all", "hardest", "focal"),
        help="background anchors that count (default: focal; paper: all)",
    )


def recipe_of(args: argparse.Namespace) -> DetectRecipe:
    """The configuration's recipe with what the command line says otherwise. Raises `UsageError`."""
    recipe = PAPER if args.configuration == "paper" else DetectRecipe()
    changes = schedule_of(args)
    if args.negatives:
        changes["loss"] = {**recipe.loss, "negatives": args.negatives}
    for name in ("shallow", "levelled"):
        if (share := getattr(args, name)) is not None:
            if not 0 <= share <= 1:
                raise UsageError(f"--{name} is {share}; it must be from 0 to 1, a share of the crops.")
            changes[name] = share
    return replace(recipe, variant=args.variant, start=args.start, seed=args.seed, **changes)


def main(args: argparse.Namespace) -> int:
    recipe = recipe_of(args)
    if args.prepare_only:
        from .detection_data import prepare, read_split

        cache = args.cache or args.output / "cache"
        for split in ("train", "validation"):
            prepare(read_split(args.data, split, args.spacing), cache, recipe.spacing, tell_of(True))
        print(f"The volumes are in {cache}.")
        return 0
    folder = train(args.data, args.output, recipe, **volume_options(args))
    print(f"The model is in {folder}; measure it with: breastusai evaluate detect --data DATA --model {folder} --output FIGURES")
    return 0
