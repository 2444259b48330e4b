"""The recipe of the joint network: ``breastusai train segment-3d --data DIR --output DIR``.

The paper's crops are 64 x 32 x 64 mm at 0.5 mm about a lesion, and its network is taught after each of N passes (Algorithm 1). What ships
is taught the same way on crops that are scaled to the lesion, off the mark as a detector's boxes are. Volumes for
training and validation are the data sets' own splits, or, with ``--fold``, both of them dealt out anew; the test split is never read.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import output_error, write_text
from ..errors import DataError, UsageError
from ..lesion_crop import CropRule
from ..models.folder import UNPUBLISHED
from .command_line import (
    add_configuration_argument,
    add_schedule_arguments,
    add_volume_arguments,
    schedule_of,
    volume_options,
)
from .detect import check_batches, shares, tell_of
from .start import alone_in, check_output

if TYPE_CHECKING:
    from ..evaluation.volume_data import VolumeCase
    from .parallel import Team
    from .segment_3d_data import LesionPatch

CHECKPOINT = "checkpoint.pt"
MOST_ITERATIONS = 4
ABLATIONS = (
    *("VNet", "ClsNet", "CVNet", "CVNet_Iter", "C_MS VNet", "C_MS VNet_Iter"),
    *("stages 1-9", "stages 2-8", "stages 3-7", "stages 4-6", "stages 5"),
)
"""The names of `networks.vnet.ABLATIONS`, which stand there beside what they mean."""


@dataclass(frozen=True)
class Segment3dRecipe:
    """Settings of a training run.

    Attributes
    ----------
    configuration : "compact" or "paper" (see `networks.vnet`).
    ablation : a name of `networks.vnet.ABLATIONS`; "" for the whole.
    rule : how crops are made.
    iterations : N, passes that are each taught, 0 to 4. 0: the network takes no probability map and makes one pass.
    epochs, crops : how many epochs, of how many crops each; a checkpoint is written after each.
    batch : crops a step, over all processes.
    rate, weight_decay : of AdamW (paper: Adam); the rate is the highest of a cosine.
    branch_rate : the highest rate of the published classification branch. What it is given hardly differs from lesion to lesion, so that at the rate
        of the compact decoder a common push soon puts all its rectified units below zero, from where nothing learns (docs/segmentation-3d.md).
    weight, uncertainty, cross_entropy : see `segment_3d_losses.Balance` and `outline_loss`.
    vary : fields of `segment_3d_crops.Variation` that differ.
    decay : of the averaged weights.
    fold, folds : with a fold (from 0), train and validation volumes are dealt out anew and this one of `folds` is held out.
    seed : fixes initial weights and crops; other thread counts, CPUs or numbers of processes still round otherwise.
    """

    configuration: str = "compact"
    ablation: str = ""
    rule: CropRule = CropRule()
    iterations: int = 2
    epochs: int = 40
    crops: int = 400
    batch: int = 4
    rate: float = 2e-3
    branch_rate: float = 2e-4
    weight_decay: float = 0.02
    weight: float = 0.3
    uncertainty: bool = False
    cross_entropy: float = 0.5
    vary: dict[str, Any] = field(default_factory=dict)
    decay: float = 0.998
    fold: int | None = None
    folds: int = 4
    seed: int = 1


PAPER = Segment3dRecipe(
    configuration="paper",
    rule=CropRule(shape=(128, 64, 128), finest=0.5, coarsest=0.5, margin=1.0),
    epochs=200,
    crops=400,
    batch=2,
    rate=1e-4,
    weight_decay=0.0,
    cross_entropy=0.0,
    vary={"intensities": False, "shift": 0.0, "zoom": 1.0, "wide_share": 0.0},
    decay=0.0,
)
"""The published system as far as the paper says: 64 x 32 x 64 mm at 0.5 mm, Adam at 1e-4, batches of 2, lambda 0.3, N = 2, turned, mirrored, bent
and scaled; the last step's weights. How the rate decays, the number of epochs and the extent of the variation were chosen, and gradients are cut at 5."""


def build_network(recipe: Segment3dRecipe):
    """A fresh VNet after the recipe, and its arguments. Raises `UsageError` for an unknown configuration or ablation."""
    from ..networks import vnet

    named = {"compact": vnet.COMPACT, "paper": vnet.PAPER}
    if recipe.configuration not in named:
        raise UsageError(f"configuration {recipe.configuration!r} is unknown; choose compact or paper.")
    arguments = dict(named[recipe.configuration])
    if recipe.ablation:
        if recipe.ablation not in vnet.ABLATIONS:
            raise UsageError(f"ablation {recipe.ablation!r} is unknown; choose one of {', '.join(vnet.ABLATIONS)}.")
        arguments |= vnet.ABLATIONS[recipe.ablation]
    if recipe.iterations == 0:
        arguments["iterative"] = False
    return vnet.VNet(**arguments), arguments


def train(
    data: Sequence[Path | str],
    output: Path | str,
    recipe: Segment3dRecipe = Segment3dRecipe(),
    *,
    cache: Path | str | None = None,
    spacing_mm: Sequence[float] | None = None,
    resume: bool = True,
    validate_every: int = 5,
    device: str = "auto",
    workers: int = 0,
    watch: Callable[[int, Any], None] | None = None,
) -> Path:
    """Train the joint network and leave a model folder (config.json, model.safetensors, log.jsonl, checkpoint.pt) in `output`.

    A run that was killed goes on at its last finished epoch when called again. Under torchrun the processes share each batch.

    Parameters
    ----------
    data : data sets with the splits train and validation: phantoms, or the layout of TDSC-ABUS.
    cache : where prepared lesions are kept; None: ``cache`` in `output`.
    spacing_mm : true spacing of data in the layout of TDSC-ABUS, where it is another than the challenge's.
    workers : processes that prepare crops while the network computes; 0: none.
    watch : called after each epoch, in every process, with its number and the network.

    Raises
    ------
    DataError : a data set's layout is wrong, a split has no lesion, or not both kinds where both are to be told apart; one volume both teaches and validates.
    UsageError : unknown configuration, ablation, fold or device; a batch that the processes cannot share; a checkpoint of another recipe, or
        the model of another task, in `output`.
    OutputError : `output` or `cache` cannot be written, or another run is writing to `output`.
    """
    from ..models.devices import choose_device
    from . import segment_3d_data as lesions
    from .learner import run_epochs
    from .parallel import team

    output = Path(output)
    check_output(output, "segment-3d", resume)
    cache = Path(cache) if cache is not None else output / "cache"
    with team(choose_device(device).name) as group, ExitStack() as held:
        check_batches(recipe.batch, recipe.crops, group.size)
        _check(recipe)
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(output, error) from error
        held.enter_context(alone_in(output, group.first))
        cases = split_cases(data, recipe, spacing_mm)
        for split in cases:
            lesions.prepare(split[group.rank :: group.size], cache, recipe.rule, tell_of(group.first))
        group.wait()
        sets = _Sets(cases[0], *(lesions.load(split, cache, recipe.rule) for split in cases))
        for name, patches in (("training", sets.training), ("validation", sets.validation)):
            if not patches:
                raise DataError(
                    f"the volumes for {name} of {', '.join(map(str, data))} have no lesion; make more volumes."
                )
        run_epochs(_Run(output, recipe, sets, group, workers, resume), output, validate_every, watch)
    return output


@dataclass(frozen=True)
class _Sets:
    """The cases that are learnt from, their lesions, and those on which choices are made."""

    cases: list[VolumeCase]
    training: list[LesionPatch]
    validation: list[LesionPatch]


def split_cases(
    data: Sequence[Path | str], recipe: Segment3dRecipe, spacing_mm: Sequence[float] | None = None
) -> list[list[VolumeCase]]:
    """The cases to learn from and to validate on: the data sets' splits, or a fold of both together.

    Raises
    ------
    DataError : see `train`; fewer volumes than folds.
    UsageError : with a fold, a volume that is there twice.
    """
    from .apart import check_volumes_apart
    from .detection_data import check_once, read_split
    from .segment_3d_data import folds

    cases = []
    for split in ("train", "validation"):
        try:
            cases.append(read_split(data, split, spacing_mm))
        except DataError:
            if recipe.fold is None or (split == "validation" and not cases[0]):
                raise
            cases.append([])
    if recipe.fold is None:
        check_volumes_apart(*cases)
        return cases
    together = [*cases[0], *cases[1]]
    check_once(together)
    if len(together) < recipe.folds:
        raise DataError(f"{len(together)} volumes cannot be dealt out in {recipe.folds} folds; make more volumes.")
    dealt = folds(together, recipe.folds, recipe.fold)
    check_volumes_apart(*dealt)
    return list(dealt)


def _check(recipe: Segment3dRecipe) -> None:
    """Refuse what cannot be trained, before any work is done."""
    if not 0 <= recipe.iterations <= MOST_ITERATIONS:
        raise UsageError(f"the number of iterations is {recipe.iterations}; it must be from 0 to {MOST_ITERATIONS}.")
    if recipe.fold is not None and not (recipe.folds >= 2 and 0 <= recipe.fold < recipe.folds):
        raise UsageError(
            f"fold {recipe.fold} of {recipe.folds} is not possible; with --folds K (2 or more), --fold is from 0 to K - 1."
        )


class _Run:
    """A training run of the joint network, for `learner.run_epochs`."""

    def __init__(
        self, output: Path, recipe: Segment3dRecipe, sets: _Sets, group: Team, workers: int, resume: bool
    ) -> None:
        import torch
        from torch import nn
        from torch.utils.data import DataLoader

        from .learner import Learner
        from .segment_3d_crops import CropSet, Variation, collate
        from .segment_3d_data import fingerprint
        from .segment_3d_losses import Balance, class_weights

        self.output, self.recipe, self.group, self.sets = output, recipe, group, sets
        torch.manual_seed(recipe.seed)
        network, self.arguments = build_network(recipe)
        malignant = [p.malignant for p in sets.training]
        if network.answers and len(set(malignant)) < 2:
            raise DataError("the lesions to learn from are all benign or all malignant; add volumes of the other kind.")
        self.class_weights = class_weights(malignant)
        # The network and the balance of its two tasks learn together.
        both = nn.ModuleDict({"network": network, "balance": Balance(recipe.weight, recipe.uncertainty)})
        self.learner = Learner(
            both.to(group.device).to(memory_format=torch.channels_last_3d),
            output / CHECKPOINT,
            recipe,
            fingerprint(sets.training),
            group,
            resume=resume,
            groups=_groups(both, recipe),
        )
        self.crops = CropSet(sets.training, recipe.rule, Variation(**recipe.vary), recipe.crops, recipe.seed)
        mine = shares(recipe.crops, recipe.batch, group)
        self.loader = DataLoader(self.crops, batch_sampler=mine, collate_fn=collate, num_workers=workers)

    def epoch(self, epoch: int) -> dict[str, Any]:
        """Train one epoch; returns its losses, the means over all passes and processes."""
        import torch

        from ..models.devices import autocast

        recipe, learner, device = self.recipe, self.learner, self.group.device
        network, balance = learner.network["network"], learner.network["balance"]
        passes = max(1, recipe.iterations) if network.iterative else 1
        self.crops.epoch = epoch
        network.train()
        # Dropout is to be the same in a run that was killed and goes on.
        torch.manual_seed((recipe.seed * 1_000_003 + epoch) * 64 + self.group.rank)
        totals, steps = torch.zeros(3), len(self.loader)
        for step, batch in enumerate(self.loader):
            volumes = batch.volumes.to(device, memory_format=torch.channels_last_3d)
            outlines, spacings, malignant = (v.to(device) for v in batch[1:])
            probability = None
            for turn in range(passes):  # Algorithm 1: a loss and a step after each pass
                with autocast(device):
                    said = network(volumes, probability, spacings, opinion=turn + 1 == passes)
                total, figures = self._loss(network, balance, said, outlines, malignant)
                totals += learner.step(total, figures, epoch + step / steps) / passes
                if said.outline is not None:
                    probability = torch.sigmoid(said.outline.detach().float())[:, None]
        values = dict(zip(("loss", "outline", "malignancy"), (totals / steps).tolist(), strict=True))
        if recipe.uncertainty:
            values["shares"] = [round(share, 3) for share in balance.shares()]
        return values

    def _loss(self, network, balance, said, outlines, malignant):
        """The loss, and for the journal: itself, that of the outline and that of malignancy (0 where there is none)."""
        import torch

        from .segment_3d_losses import focal_loss, outline_loss

        segmentation = classification = second = None
        if said.outline is not None:
            segmentation = outline_loss(said.outline, outlines, self.recipe.cross_entropy)
        first = 1 if network.branch is not None else 0
        logits = said.malignancy.float()
        if first:
            classification = focal_loss(logits[:, 0], malignant, self.class_weights)
        if logits.shape[1] > first:  # the second opinion shares nothing with the rest and needs no balance
            second = focal_loss(logits[:, first], malignant, self.class_weights)
        total = balance(classification, segmentation)
        if second is not None:
            total = total + second
        none = logits.new_zeros(())
        figures = [
            total,
            none if segmentation is None else segmentation,
            none if classification is None else classification,
        ]
        return total, torch.stack([v.detach() for v in figures])

    def validate(self) -> dict[str, float]:
        """Figures of the averaged network on the validation lesions, in crops of their true boxes."""
        from .segment_3d_choice import figures, look

        network = self.learner.average["network"].eval()
        seen = look(
            network, self.sets.validation, self.recipe.rule, self.group.device, most_passes=self.recipe.iterations
        )
        return figures(self.sets.validation, seen)

    def save(self) -> None:
        """Choose what follows the network, and leave the model: the averaged network of the last epoch."""
        from ..models.folder import save_model
        from .segment_3d_choice import choose

        recipe, network = self.recipe, self.learner.average["network"].eval()
        choice, tried = choose(
            network,
            self.sets.validation,
            recipe.rule,
            self.group.device,
            recipe.iterations,
            fixed=recipe.configuration == "paper",
        )
        measured = {**self.validate(), **{k: v for k, v in tried.items() if k == "best_possible_auc"}}
        write_text(self.output / "postprocessing.json", json.dumps({"choice": choice, "tried": tried}, indent=2) + "\n")
        save_model(self.output, network, _config(recipe, self.arguments, self.sets.cases, choice, measured))


def _groups(both, recipe: Segment3dRecipe) -> list[dict[str, Any]]:
    """For `learner.Learner`: all at the recipe's rate, but the published branch at no more than `branch_rate`."""
    from ..networks.vnet import GlobalBranch

    branch = both["network"].branch
    slow = list(branch.parameters()) if isinstance(branch, GlobalBranch) else []
    known = set(map(id, slow))
    groups = [{"params": [p for p in both.parameters() if id(p) not in known]}]
    if slow:
        groups.append({"params": slow, "share": min(1.0, recipe.branch_rate / recipe.rate)})
    return groups


def _config(recipe: Segment3dRecipe, arguments: dict, cases: Sequence, choice: dict, measured: dict) -> dict[str, Any]:
    from ..evaluation.volume_data import described

    part = "split train" if recipe.fold is None else f"all but fold {recipe.fold} of {recipe.folds}"
    rule = recipe.rule
    return {
        "id": f"segmentation-3d-{recipe.configuration}",
        "task": "segment-3d",
        "version": UNPUBLISHED,
        "network": "vnet.VNet",
        "arguments": json.loads(json.dumps(arguments)),
        "preprocessing": {
            "dimension": 3,
            "shape": list(rule.shape),
            "finest": rule.finest,
            "coarsest": rule.coarsest,
            "margin": rule.margin,
            "intensity": "standardised within the crop",
        },
        "postprocessing": choice,
        "trained_on": f"lesions of {described(cases)} ({part})",
        "licence": "unspecified",
        "measured": {"validation": measured},
        "recipe": json.loads(json.dumps(asdict(recipe))),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_volume_arguments(parser, Segment3dRecipe.seed, "lesions", validate_every=5)
    add_schedule_arguments(parser, Segment3dRecipe, PAPER)
    add_configuration_argument(parser)
    parser.add_argument("--prepare-only", action="store_true", help="fill the cache and stop")
    parser.add_argument(
        "--ablation", choices=ABLATIONS, default="", help="one of the paper's ablations (default: the whole)"
    )
    parser.add_argument(
        "--iterations",
        type=int,
        metavar="N",
        help=f"passes that are taught, 0 to {MOST_ITERATIONS} (default: 2; 0: no probability map)",
    )
    parser.add_argument(
        "--lambda",
        dest="weight",
        type=float,
        metavar="L",
        help="weight of malignancy against the outline (default: 0.3)",
    )
    parser.add_argument(
        "--uncertainty", action="store_true", help="learn that weight instead (homoscedastic uncertainty)"
    )
    parser.add_argument(
        "--fold", type=int, metavar="K", help="hold out this fold, from 0, of the volumes for training and validation"
    )
    parser.add_argument(
        "--folds", type=int, metavar="N", help=f"with --fold: how many folds there are (default: {Segment3dRecipe.folds})"
    )


def recipe_of(args: argparse.Namespace) -> Segment3dRecipe:
    """The configuration's recipe with what the command line says otherwise. Raises `UsageError`."""
    recipe = PAPER if args.configuration == "paper" else Segment3dRecipe()
    changes = schedule_of(args)
    if args.weight is not None:
        if not 0 <= args.weight <= 1:
            raise UsageError(f"--lambda is {args.weight}; it must lie between 0 and 1.")
        changes["weight"] = args.weight
    if args.folds is not None and args.fold is None:
        raise UsageError(f"--folds {args.folds} says nothing without --fold, the one to hold out; give both or leave --folds out.")
    changes |= {name: value for name in ("iterations", "folds") if (value := getattr(args, name)) is not None}
    same = {name: getattr(args, name) for name in ("ablation", "uncertainty", "fold", "seed")}
    return replace(recipe, **same, **changes)


def main(args: argparse.Namespace) -> int:
    recipe = recipe_of(args)
    if args.prepare_only:
        from .segment_3d_data import prepare

        _check(recipe)
        cache = args.cache or args.output / "cache"
        for cases in split_cases(args.data, recipe, args.spacing):
            prepare(cases, cache, recipe.rule, tell_of(True))
        print(f"The lesions are in {cache}.")
        return 0
    folder = train(args.data, args.output, recipe, **volume_options(args))
    print(f"The model is in {folder}; measure it with: breastusai evaluate segment-3d --model {folder} --data DATA --output FIGURES")
    return 0
