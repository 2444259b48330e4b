"""The recipe of ROI-CNN: ``breastusai train roi-cnn --data DIR --output DIR``.

The paper trains at 288 x 288 with Dice loss from ImageNet weights. So does this, with a smaller trunk, and with what two
CPU cores and a thousand images ask for: sizes that grow during training (most steps are cheap), strong
augmentation, and averaged weights. Later cycles widen the augmentation towards scanners that are not in the data, in turn
with the usual one, and the weights that they end with are averaged (Izmailov et al. 2018, "Averaging weights leads to wider optima and
better generalization"; for data of other origin: Cha et al. 2021, "SWAD"). Folds 2, 3 and 4 train; fold 1 shows the progress and chooses what follows the network
(`postprocessing`); fold 0 is never read.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..atomic import output_error
from ..errors import DataError, UsageError
from ..evaluation.segmentation_data import (
    VALIDATION_FOLD,
    Case,
    check_folds_filled,
    check_masks,
    in_folds,
    load_picture,
    load_pixels,
    read_data_sets,
)
from ..models.folder import UNPUBLISHED, is_there
from .apart import check_images_apart
from .command_line import add_image_arguments, check_folds, check_positive, folds_of
from .fingerprint import fingerprint_of_cases
from .start import alone_in, check_output, check_start, go_on_from, learnt

LEAST_SIZE = 64  # pixels: of 32 the trunk leaves a single place, and a last batch of one image then has no statistics
CACHE_RATIO = 1.2  # images wait this much larger than the network's input, so that zooming in finds detail


@dataclass(frozen=True)
class Cycle:
    """One fall of the learning rate, from its peak to nearly nothing.

    Attributes
    ----------
    stages : (input size in pixels, epochs) one after the other.
    rate : the peak.
    wide : whether augmentation is for scanners that are not in the data (`augment.augment`), and small data sets are seen more often.
    """

    stages: tuple[tuple[int, int], ...]
    rate: float = 1e-3
    wide: bool = False

    @property
    def epochs(self) -> int:
        return sum(epochs for _, epochs in self.stages)


_FINE = ((160, 8), (192, 8))


@dataclass(frozen=True)
class RoiCnnRecipe:
    """Settings of a training run.

    Attributes
    ----------
    configuration : "compact" or "paper" (see `networks.roi_cnn`).
    cycles : one after the other. The model has the mean of the weights that all but the first end with; those of the first where
        it is the only one. The last size of all is the one the model works at.
    loss : "dice" (paper) or "dice+ce".
    seed : fixes initial weights, order and augmentation; other thread counts or CPUs still round otherwise.
    imagenet : whether the compact trunk starts from ImageNet weights (`pretrained`) or from nothing.
    balance : how often a data set's images are seen relative to its size, by folder name (others: 1), in usual and in
        wide cycles.
    start : a model that ships, or a folder, whose weights are gone on from; "": ImageNet's, or none. The end of the first cycle counts then, too.
    """

    configuration: str = "compact"
    cycles: tuple[Cycle, ...] = (
        Cycle(((160, 24),)),
        Cycle(((160, 10), (192, 10)), 5e-4, wide=True),
        Cycle(_FINE, 5e-4),
        Cycle(_FINE, 5e-4, wide=True),
    )
    batch: int = 16
    weight_decay: float = 0.01
    loss: str = "dice+ce"
    seed: int = 1
    train_folds: tuple[int, ...] = (2, 3, 4)
    validation_fold: int = VALIDATION_FOLD
    balance: tuple[tuple[str, float, float], ...] = (("breast", 2.0, 4.0),)
    imagenet: bool = True
    start: str = ""


PAPER = RoiCnnRecipe(configuration="paper", cycles=(Cycle(((288, 100),)),), loss="dice", imagenet=False)
"""The published network as published, as far as the paper says: 288 x 288, Dice loss, plain Chan-Vese. The paper does not state
the number of epochs; 100 was chosen. It starts from ImageNet weights, this from nothing."""


def build_network(configuration: str):
    """A fresh RoiCnn of a named configuration, and its arguments."""
    from .configurations import build

    return build("roi_cnn", "RoiCnn", configuration)


class _Cache:
    """Images, masks and valid areas of some cases as (N, 1, C, C) tensors of one size; `lesion` (N,) bool: whether a case's own mask has a pixel, which at
    that size may have none."""

    def __init__(self, cases: Sequence[Case], size: int) -> None:
        import torch

        from ..letterbox import Letterbox, to_unit_range

        images, masks, valid, lesion = [], [], [], []
        for case in cases:
            seen = load_picture(case)
            pixels, mask = seen.pixels[seen.part], seen.mask[seen.part]
            box = Letterbox.fit(pixels.shape, size, seen.pixel_aspect)
            images.append(box.place(to_unit_range(pixels)).half())
            masks.append((box.place(mask) > 0.5).to(torch.uint8))
            valid.append(box.valid().to(torch.uint8))
            lesion.append(bool(seen.mask.any()))
        self.lesion = torch.tensor(lesion)
        self.images, self.masks, self.valid = torch.cat(images), torch.cat(masks), torch.cat(valid)

    def batch(self, indices):
        return self.images[indices].float(), self.masks[indices].float(), self.valid[indices].float()


def _validate(network, cache: _Cache, batch: int, device: str) -> tuple[float, float]:
    """Mean and median Dice at the input's resolution over images with a lesion, threshold 0.5, no post-processing. A lesion of which nothing
    is left at that size is one that is not found."""
    import torch

    from ..letterbox import standardise

    scores = []
    with torch.inference_mode():
        for start in range(0, len(cache.images), batch):
            images, masks, valid = cache.batch(slice(start, start + batch))
            found = (network(standardise(images, valid).to(device)) > 0).float().cpu()
            overlap, total = (found * masks).sum((1, 2, 3)), (found + masks).sum((1, 2, 3))
            scores.append((2 * overlap / total.clamp_min(1))[cache.lesion[start : start + batch]])
    dice = torch.cat(scores)
    return float(dice.mean()), float(dice.median())


def train(
    data: Sequence[Path | str],
    output: Path | str,
    recipe: RoiCnnRecipe = RoiCnnRecipe(),
    *,
    resume: bool = True,
    validate_every: int = 2,
    device: str = "auto",
) -> Path:
    """Train ROI-CNN and leave a model folder (config.json, model.safetensors, log.jsonl, checkpoint.pt) in `output`.

    A run that was killed goes on at its last finished epoch when called again; one that is finished leaves its model anew where that is gone. `device` as for inference. Returns the folder.

    Raises
    ------
    DataError : a data folder's layout is wrong, two folders have one name or one of several is called "all", a fold that is needed is empty or has
        no lesion, a class and a mask contradict each other, one image both teaches and validates, the checkpoint is damaged, or the loss is not finite.
    UsageError : unknown configuration, loss or device; a checkpoint of another recipe or other data, or the model of another task, in `output`; `start` is another
        network, or `output` itself; the validation fold is one of the training's; several processes (torchrun).
    ModelError : there is no model `start`.
    OutputError : `output` cannot be written, or another run is writing to it.
    """
    from ..models.devices import choose_device
    from . import losses

    criteria = {"dice": losses.soft_dice_loss, "dice+ce": losses.dice_cross_entropy_loss}
    if recipe.loss not in criteria:
        raise UsageError(f"loss {recipe.loss!r} is unknown; choose one of {', '.join(criteria)}.")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("ROI-CNN trains in one process; start it without torchrun.")
    output = Path(output)
    check_start(recipe.start, output)
    check_output(output, "segment", resume)
    check_folds(recipe.train_folds, recipe.validation_fold)
    cases = read_data_sets(data)
    training, validation = in_folds(cases, recipe.train_folds), in_folds(cases, (recipe.validation_fold,))
    if not training or not validation:
        raise DataError(
            f"the folds {recipe.train_folds} (training) and {recipe.validation_fold} (validation) of {list(map(str, data))} must not be empty."
        )
    check_folds_filled(cases, recipe.train_folds, data)
    check_images_apart(training, validation)
    for part, folds, what, option in (
        (training, f"the folds {', '.join(map(str, recipe.train_folds))}", "learn from", "other --train-folds"),
        (validation, f"fold {recipe.validation_fold}", "validate on", "another --validation-fold"),
    ):
        if not any(load_pixels(case)[1].any() for case in part if case.mask is not None):
            has = "has" if part is validation else "have"
            raise DataError(
                f"{folds} of {list(map(str, data))} {has} no image with a lesion to {what} (masks without a pixel are none); "
                f"give {option} or correct the masks."
            )
    check_masks([*training, *validation])
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(output, error) from error
    with alone_in(output):
        _learn(training, validation, output, recipe, criteria[recipe.loss], resume, validate_every, choose_device(device).name)
    return output


def _learn(
    training: Sequence[Case],
    validation: Sequence[Case],
    output: Path,
    recipe: RoiCnnRecipe,
    criterion: Callable[..., Any],
    resume: bool,
    validate_every: int,
    device: str,
) -> None:
    """What `train` does once the data are checked and `output` is there."""
    import torch

    from ..letterbox import standardise
    from ..models.folder import save_model
    from .augment import augment
    from .loop import (
        ExponentialAverage,
        Journal,
        WeightMean,
        check_finite,
        cosine_rate,
        load_checkpoint,
        save_checkpoint,
    )
    from .postprocessing import choose_and_record
    from .pretrained import imagenet_weights

    checkpoint_path = output / "checkpoint.pt"
    # Without a start a recipe reads as it did before there were any: runs of then go on.
    settings = f"{recipe!r} on {fingerprint_of_cases(training)}".replace(", start=''", "")
    state = load_checkpoint(checkpoint_path) if resume else None
    if state is not None and state["recipe"] != settings:
        raise UsageError(
            f"{checkpoint_path} belongs to another recipe or other data; choose another --output, or begin anew with --restart."
        )

    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    network, arguments = build_network(recipe.configuration)
    if recipe.start and state is None:
        go_on_from(recipe.start, "segment", network)
    elif recipe.imagenet and state is None:
        network.trunk.load_imagenet(imagenet_weights(network.trunk.variant))
    network = network.to(device).to(memory_format=torch.channels_last)
    average = ExponentialAverage(network)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.cycles[0].rate, weight_decay=recipe.weight_decay)
    # One row an epoch: the number of its cycle, how far into it, at what size.
    plan = [
        (number, index, size)
        for number, cycle in enumerate(recipe.cycles)
        for index, size in enumerate(size for size, epochs in cycle.stages for _ in range(epochs))
    ]
    weights = [
        torch.tensor(
            [{name: values[wide] for name, *values in recipe.balance}.get(case.source, 1.0) for case in training]
        )
        for wide in (0, 1)
    ]
    ends = WeightMean()
    first = 0

    if state is not None:
        network.load_state_dict(state["network"])
        average.network.load_state_dict(state["average"])
        average.steps = state["steps"]
        optimiser.load_state_dict(state["optimiser"])
        generator.set_state(state["generator"])
        ends = WeightMean(state["ends"], state["ended"])
        first = state["epoch"] + 1
        print(f"resuming after epoch {state['epoch'] + 1} of {len(plan)}", flush=True)

    journal = Journal(output, on=first > 0)
    cached_size = None
    for epoch in range(first, len(plan)):
        number, index, size = plan[epoch]
        cycle = recipe.cycles[number]
        if size != cached_size:
            cached_size = size
            cache, validation_cache = _Cache(training, round(size * CACHE_RATIO)), _Cache(validation, size)
        network.train()
        seen = weights[cycle.wide]
        uneven = bool((seen != seen[0]).any())
        order = torch.multinomial(seen, len(training), replacement=uneven, generator=generator)
        batches = order.split(recipe.batch)
        total = 0.0
        for step, indices in enumerate(batches):
            rate = cosine_rate((index + step / len(batches)) / cycle.epochs, cycle.rate)
            for group in optimiser.param_groups:
                group["lr"] = rate
            images, masks, valid = augment(*cache.batch(indices), size, generator, wide=cycle.wide)
            inputs = standardise(images, valid).contiguous(memory_format=torch.channels_last)
            loss = criterion(network(inputs.to(device)), masks.to(device))
            check_finite(loss, epoch)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            average.update(network)
            total += float(loss.detach()) * len(indices)
        record = {"epoch": epoch + 1, "of": len(plan), "size": size, "loss": total / len(training)}
        last = epoch + 1 == len(plan)
        if (epoch + 1) % validate_every == 0:
            mean, median = _validate(average.network, validation_cache, recipe.batch, device)
            record |= {"dice": mean, "median": median}
        if index + 1 == cycle.epochs and (number > 0 or last or recipe.start):
            ends = ends.with_weights(average.network.state_dict())
        if last:
            # The averaged weights, not those of the epoch that happened to validate best: the choice
            # would lean towards the scanners of the validation fold, and the model is for others.
            average.network.load_state_dict(ends.mean)
            mean, median = _validate(average.network, validation_cache, recipe.batch, device)
            record |= {"dice": mean, "median": median}
            save_model(output, average.network, _config(recipe, arguments, size, training, mean, median))
        journal.write(**record)
        save_checkpoint(
            checkpoint_path,
            recipe=settings,
            epoch=epoch,
            network=network.state_dict(),
            average=average.network.state_dict(),
            steps=average.steps,
            optimiser=optimiser.state_dict(),
            generator=generator.get_state(),
            ends=ends.mean,
            ended=ends.count,
        )
    if first == len(plan) and not is_there(output):  # a finished run whose model is gone: the checkpoint has its weights
        size = plan[-1][2]
        mean, median = _validate(average.network, _Cache(validation, size), recipe.batch, device)
        save_model(output, average.network, _config(recipe, arguments, size, training, mean, median))
    if recipe.configuration != "paper":
        print("choosing sizes, threshold and refiner on the validation fold", flush=True)
        choose_and_record(output, validation)


def _config(recipe, arguments, size, cases, dice, median) -> dict:
    sources = sorted({case.source for case in cases})
    return {
        "id": f"roi-cnn-{recipe.configuration}",
        "task": "segment",
        "version": UNPUBLISHED,
        "network": "roi_cnn.RoiCnn",
        "arguments": {k: list(v) if isinstance(v, tuple) else v for k, v in arguments.items()},
        "preprocessing": {"dimension": 2, "size": size, "intensity": "percentile-0.5-99.5, standardised"},
        "postprocessing": {"threshold": 0.5, **({"refiner": "paper"} if recipe.configuration == "paper" else {})},
        "trained_on": learnt(
            f"{len(cases)} images of {', '.join(sources)} (folds {', '.join(map(str, recipe.train_folds))})", recipe.start, "segment"
        ),
        "licence": "unspecified",
        "measured": {"validation": {"mean_dice_network_only": dice, "median_dice_network_only": median}},
        "recipe": asdict(recipe),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_image_arguments(parser, RoiCnnRecipe.seed, RoiCnnRecipe.train_folds, VALIDATION_FOLD)
    parser.add_argument(
        "--stages",
        default=None,
        metavar="SIZE:EPOCHS,...",
        help="input sizes and epochs of a single cycle, e.g. 128:40,192:14",
    )
    parser.add_argument(
        "--wide-stages",
        default=None,
        metavar="SIZE:EPOCHS,...",
        help="the same for a second cycle, at half the rate, for unseen scanners",
    )
    parser.add_argument("--batch", type=int, default=None, help=f"images a step (default: {RoiCnnRecipe.batch})")
    parser.add_argument("--rate", type=float, default=None, help="peak learning rate of --stages (default: 0.001)")
    parser.add_argument(
        "--start",
        default="",
        metavar="ID|DIR",
        help="go on from the weights of this model, e.g. of roi-cnn-compact with images of your own; the long first cycle is left out",
    )
    parser.add_argument("--loss", choices=("dice", "dice+ce"), default=None, help="default: dice+ce; paper: dice")


def parse_stages(text: str, option: str = "--stages") -> tuple[tuple[int, int], ...]:
    """``"128:40,192:14"`` as ((128, 40), (192, 14)); UsageError, which names the option, when it does not read so."""
    try:
        stages = tuple((int(size), int(epochs)) for size, epochs in (part.split(":") for part in text.split(",")))
    except ValueError:
        raise UsageError(f"{option} {text!r} must read SIZE:EPOCHS,SIZE:EPOCHS, e.g. 128:40,192:14.") from None
    if any(size < LEAST_SIZE or epochs < 1 for size, epochs in stages):
        raise UsageError(f"{option} {text!r}: sizes must be at least {LEAST_SIZE} pixels and epochs at least 1.")
    return stages


def recipe_of(args: argparse.Namespace) -> RoiCnnRecipe:
    """The configuration's recipe with what the command line says otherwise."""
    recipe = PAPER if args.configuration == "paper" else RoiCnnRecipe()
    check_positive({"--batch": args.batch, "--rate": args.rate})
    changes = {name: value for name in ("batch", "loss") if (value := getattr(args, name)) is not None}
    if (args.wide_stages or args.rate is not None) and not args.stages:
        raise UsageError("--wide-stages and --rate go with --stages, which says what the first cycle is.")
    if args.stages:
        rate = args.rate if args.rate is not None else Cycle.rate
        cycles = [Cycle(parse_stages(args.stages), rate)]
        if args.wide_stages:
            cycles.append(Cycle(parse_stages(args.wide_stages, "--wide-stages"), rate / 2, wide=True))
        changes["cycles"] = tuple(cycles)
    elif args.start:
        changes["cycles"] = recipe.cycles[1:] or recipe.cycles
    if args.from_scratch and args.start:
        raise UsageError("--from-scratch and --start contradict each other; give one of them.")
    if args.from_scratch:
        changes["imagenet"] = False
    return replace(recipe, start=args.start, seed=args.seed, **folds_of(args), **changes)


def main(args: argparse.Namespace) -> int:
    folder = train(args.data, args.output, recipe_of(args), resume=not args.restart, device=args.device)
    print(f"The model is in {folder}; use it with: breastusai run IMAGE --model {folder} --output DIR")
    return 0
