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

if TYPE_CHECKING:
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
    crop : (z, y, x) voxels.
    epochs, crops : how many epochs, of how many crops each; a checkpoint is written after each.
    batch : crops a step, over all processes.
    rate, weight_decay : of AdamW; the rate is the highest of a cosine.
    loss : fields of `detection_losses.DetectionLoss` that differ from the published loss, besides those of the variant.
    best : see `anchors.AnchorRule`.
    lesion_share, small_weight, isoechoic_weight, zoom, vary : see `detection_crops.CropRecipe`.
    search : fields of `candidates.Search` that the model shall have; None: the paper's.
    decay : of the averaged weights.
    seed : fixes initial weights and crops; other thread counts, CPUs or numbers of processes still round otherwise.
    """

    configuration: str = "compact"
    variant: str = "rpn-iou-sim"
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    crop: tuple[int, int, int] = (96, 48, 96)
    epochs: int = 40
    crops: int = 800
    batch: int = 4
    rate: float = 2e-3
    weight_decay: float = 0.01
    loss: dict[str, Any] = field(default_factory=lambda: {"negatives": "hardest", "beta": 1 / 9})
    best: int = 6
    lesion_share: float = 0.75
    small_weight: float = 2.0
    isoechoic_weight: float = 1.5
    zoom: float = 1.25
    vary: bool = True
    search: dict[str, Any] | None = field(default_factory=dict)
    decay: float = 0.998
    seed: int = 1


PAPER = DetectRecipe(
    configuration="paper",
    spacing=(0.384, 0.5, 0.425),
    crop=(320, 96, 320),
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
    search=None,
)
"""The published system as far as the paper says: its network, anchors, loss with every negative, and crops about a lesion. The spacing makes
400 x 100 x 400 voxels of 154 x 50 x 170 mm. The paper does not state optimiser, rate or number of epochs; these were chosen."""


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
    DataError : a data set's layout is wrong, or a split is empty or has no lesion.
    UsageError : unknown configuration, variant or device; a batch that the processes cannot share; a checkpoint of another recipe.
    OutputError : `output` or `cache` cannot be written.
    """
    from ..models.devices import choose_device
    from . import detection_data
    from .parallel import team

    output = Path(output)
    cache = Path(cache) if cache is not None else output / "cache"
    with team(choose_device(device).name) as group:
        _check(recipe, group.size)
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(output, error) from error
        cases = [detection_data.read_split(data, split, spacing_mm) for split in ("train", "validation")]
        for split in cases:
            detection_data.prepare(split[group.rank :: group.size], cache, recipe.spacing, _tell(group.first))
        group.wait()
        training, validation = (detection_data.load(split, cache, recipe.spacing) for split in cases)
        for name, volumes in (("train", training), ("validation", validation)):
            if not any(len(volume.boxes) for volume in volumes):
                raise DataError(f"the split {name} of {', '.join(map(str, data))} has no lesion; make more volumes.")
        run = _Run(output, recipe, training, group, workers, resume)
        group.wait()  # before the first writes a new checkpoint
        for epoch in range(run.first_epoch, recipe.epochs):
            record = run.epoch(epoch)
            if watch is not None:
                watch(epoch, run.network)
            if not group.first:
                continue
            last = epoch + 1 == recipe.epochs
            if (epoch + 1) % validate_every == 0 or last:
                record |= run.validate(validation)
            if last:
                run.save(cases[0], validation)
            run.journal.write(**record)
            run.checkpoint(epoch)
        group.wait()
    return output


def _check(recipe: DetectRecipe, processes: int) -> None:
    """Refuse what cannot be trained, before any work is done."""
    if recipe.variant not in VARIANTS:
        raise UsageError(f"variant {recipe.variant!r} is unknown; choose one of {', '.join(VARIANTS)}.")
    if recipe.batch % processes or recipe.crops < recipe.batch:
        raise UsageError(
            f"a batch of {recipe.batch} crops cannot be shared by {processes} processes, or is more than the {recipe.crops} crops "
            "of an epoch; choose another --batch."
        )


class _Run:
    """A training run: the network, its average and its optimiser, begun or taken up again at a checkpoint."""

    def __init__(self, output: Path, recipe: DetectRecipe, training: Sequence, group: Team, workers: int, resume: bool) -> None:
        import torch
        from torch.utils.data import DataLoader

        from ..anchors import AnchorRule
        from ..candidates import PAPER as PAPER_SEARCH
        from ..candidates import Search
        from .detection_crops import CropRecipe, CropSet, collate, crop_anchors
        from .detection_data import fingerprint
        from .detection_losses import VARIANTS as LOSSES
        from .detection_losses import DetectionLoss
        from .loop import ExponentialAverage, Journal, load_checkpoint

        self.output, self.recipe, self.group = output, recipe, group
        # The variant comes last: that of an ablation is not to be changed by anything else.
        self.rule = DetectionLoss(**{**recipe.loss, **LOSSES[recipe.variant]})
        self.search = PAPER_SEARCH if recipe.search is None else Search(**recipe.search)
        self.settings = f"{recipe!r} on {fingerprint(training)}"
        path = output / CHECKPOINT
        state = load_checkpoint(path) if resume else None
        if state is not None and state["recipe"] != self.settings:
            raise UsageError(f"{path} belongs to another recipe or other data; choose another --output or delete it.")

        torch.manual_seed(recipe.seed)
        network, self.arguments = build_network(recipe.configuration)
        self.network = network.to(group.device).to(memory_format=torch.channels_last_3d)
        self.average = ExponentialAverage(self.network, recipe.decay)
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay)
        self.first_epoch = 0
        if state is not None:
            self.network.load_state_dict(state["network"])
            self.average.network.load_state_dict(state["average"])
            self.average.steps = state["steps"]
            self.optimiser.load_state_dict(state["optimiser"])
            self.first_epoch = state["epoch"] + 1
            if group.first:
                print(f"resuming after epoch {self.first_epoch} of {recipe.epochs}", flush=True)

        self.anchors = crop_anchors(self.network, recipe.crop)
        stretch = {"stretch": 1.0} if recipe.zoom == 1 else {}
        names = ("lesion_share", "small_weight", "isoechoic_weight", "zoom", "vary")
        crops = CropRecipe(shape=recipe.crop, **{name: getattr(recipe, name) for name in names}, **stretch)
        self.crops = CropSet(training, crops, self.anchors, AnchorRule(best=recipe.best), recipe.crops, recipe.seed)
        starts = range(0, recipe.crops - recipe.batch + 1, recipe.batch)
        mine = [list(range(start, start + recipe.batch))[group.rank :: group.size] for start in starts]
        self.loader = DataLoader(self.crops, batch_sampler=mine, collate_fn=collate, num_workers=workers)
        self.journal = Journal(output) if group.first else None

    def epoch(self, epoch: int) -> dict[str, Any]:
        """Train one epoch; returns its losses, the means over all processes."""
        import torch

        from ..models.devices import autocast
        from .detection_crops import generator_of
        from .detection_losses import detection_loss
        from .loop import cosine_rate

        recipe, network, device = self.recipe, self.network, self.group.device
        self.crops.epoch = epoch
        network.train()
        totals, steps = torch.zeros(4), len(self.loader)
        for step, (volumes, lesions, labels) in enumerate(self.loader):
            rate = cosine_rate((epoch + step / steps) / recipe.epochs, recipe.rate)
            for parameters in self.optimiser.param_groups:
                parameters["lr"] = rate
            with autocast(device):
                predictions = network(volumes.to(device, memory_format=torch.channels_last_3d))
            generator = generator_of(recipe.seed, epoch, step, self.group.rank, 1)
            losses = detection_loss(network, predictions, self.anchors, labels, lesions, self.rule, generator)
            self.optimiser.zero_grad(set_to_none=True)
            losses["total"].backward()
            totals += self.group.average(network, torch.stack([v.detach() for v in losses.values()]).float().cpu())
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            self.optimiser.step()
            self.average.update(network)
        values = dict(zip(("loss", "regression", "classification", "similarity"), (totals / steps).tolist(), strict=True))
        return {"epoch": epoch + 1, "of": recipe.epochs, **values}

    def validate(self, validation: Sequence) -> dict[str, float]:
        """Figures of the averaged network on the validation volumes, with the search as the recipe has it."""
        from .detection_choice import candidates_of, figures, see

        seen = see(validation, self.average.network, self.search, self.group.device)
        return figures(validation, candidates_of(validation, seen, self.search))

    def save(self, cases: Sequence, validation: Sequence) -> None:
        """Choose what follows the network, and leave the model.

        It is the averaged network of the last epoch, not the one that happened to validate best.
        """
        from ..models.folder import save_model
        from .detection_choice import choose, see

        seen = see(validation, self.average.network, self.search, self.group.device)
        choice, tried = choose(validation, seen, self.search, published=self.recipe.search is None)
        write_text(self.output / "postprocessing.json", json.dumps({"choice": choice, "tried": tried}, indent=2) + "\n")
        save_model(self.output, self.average.network, _config(self.recipe, self.arguments, cases, choice, tried["figures"]))

    def checkpoint(self, epoch: int) -> None:
        from .loop import save_checkpoint

        save_checkpoint(
            self.output / CHECKPOINT,
            recipe=self.settings,
            epoch=epoch,
            network=self.network.state_dict(),
            average=self.average.network.state_dict(),
            steps=self.average.steps,
            optimiser=self.optimiser.state_dict(),
        )


def _tell(first: bool) -> Callable[[float, str], None] | None:
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
    sources = sorted({case.source for case in cases})
    return {
        "id": f"detection-{recipe.configuration}",
        "task": "detect",
        "version": "1.0.0",
        "network": "detection.DetectionNetwork",
        "arguments": json.loads(json.dumps(arguments)),
        "preprocessing": {"dimension": 3, "spacing": list(recipe.spacing), "intensity": "standardised above the lowest value, 8-bit levels"},
        "postprocessing": choice,
        "trained_on": f"{len(cases)} volumes of {', '.join(sources)} (split train)",
        "licence": "unspecified",
        "measured": {"validation": measured},
        "recipe": asdict(recipe),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", nargs="+", required=True, type=Path, metavar="DIR", help="phantoms, or data in the layout of TDSC-ABUS")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="where the model folder goes; a killed run resumes there")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="where prepared volumes are kept (default: cache in --output)")
    parser.add_argument("--prepare-only", action="store_true", help="fill the cache and stop")
    parser.add_argument("--configuration", choices=("compact", "paper"), default="compact", help="what ships, or the published network")
    parser.add_argument("--variant", choices=VARIANTS, default=DetectRecipe.variant, help="the paper's ablations (default: the whole)")
    parser.add_argument("--epochs", type=int, help=f"default: {DetectRecipe.epochs}; paper: {PAPER.epochs}")
    parser.add_argument("--crops", type=int, metavar="N", help=f"crops an epoch (default: {DetectRecipe.crops}; paper: {PAPER.crops})")
    parser.add_argument("--batch", type=int, help=f"crops a step (default: {DetectRecipe.batch}; paper: {PAPER.batch})")
    parser.add_argument("--rate", type=float, help=f"highest learning rate (default: {DetectRecipe.rate}; paper: {PAPER.rate})")
    parser.add_argument("--negatives", choices=("all", "hardest", "focal"), help="background anchors that count (default: hardest; paper: all)")
    parser.add_argument("--seed", type=int, default=DetectRecipe.seed)
    parser.add_argument("--spacing", type=float, nargs=3, metavar="MM", help="true spacing (lateral, depth, slice) of data in the layout of TDSC-ABUS")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that prepare crops (default: 0)")
    parser.add_argument("--validate-every", type=int, default=2, metavar="N", help="epochs between looks at the validation volumes")
    parser.add_argument("--restart", action="store_true", help="ignore the checkpoint in --output")


def recipe_of(args: argparse.Namespace) -> DetectRecipe:
    """The configuration's recipe with what the command line says otherwise. Raises `UsageError`."""
    recipe = PAPER if args.configuration == "paper" else DetectRecipe()
    changes = {name: value for name in ("epochs", "crops", "batch", "rate") if (value := getattr(args, name)) is not None}
    if any(value <= 0 for value in changes.values()):
        raise UsageError("--epochs, --crops, --batch and --rate must be above 0.")
    if args.negatives:
        changes["loss"] = {**recipe.loss, "negatives": args.negatives}
    return replace(recipe, variant=args.variant, seed=args.seed, **changes)


def main(args: argparse.Namespace) -> int:
    recipe = recipe_of(args)
    if args.prepare_only:
        from .detection_data import prepare, read_split

        cache = args.cache or args.output / "cache"
        for split in ("train", "validation"):
            prepare(read_split(args.data, split, args.spacing), cache, recipe.spacing, _tell(True))
        print(f"The volumes are in {cache}.")
        return 0
    folder = train(
        args.data,
        args.output,
        recipe,
        cache=args.cache,
        spacing_mm=args.spacing,
        resume=not args.restart,
        validate_every=max(1, args.validate_every),
        device=args.device,
        workers=args.workers,
    )
    print(f"The model is in {folder}; measure it with: breastusai evaluate detect --model {folder}")
    return 0
