"""What the command lines of the recipes have in common."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError

MOST_SEED = 2**32 - 1
_SCHEDULE = {
    "epochs": (int, None, "epochs"),
    "crops": (int, "N", "crops an epoch"),
    "batch": (int, None, "crops a step"),
    "rate": (float, None, "highest learning rate"),
}


def add_run_arguments(parser: argparse.ArgumentParser, data: str, seed: int) -> None:
    """Arguments of every recipe: where from, where to, and how it runs. `data` says what a folder holds."""
    parser.add_argument("--data", nargs="+", required=True, type=Path, metavar="DIR", help=data)
    parser.add_argument(
        "--output",
        required=True,
        type=Path,
        metavar="DIR",
        help="where the model folder goes; a killed run resumes there",
    )
    parser.add_argument("--seed", type=_seed, default=seed)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--restart", action="store_true", help="ignore the checkpoint in --output")


def add_configuration_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--configuration", choices=("compact", "paper"), default="compact", help="what ships, or the published network"
    )


def add_image_arguments(
    parser: argparse.ArgumentParser, seed: int, train_folds: tuple[int, ...], validation_fold: int
) -> None:
    """Arguments of every recipe on 2D images."""
    add_run_arguments(parser, "folders with images/, masks/, labels.csv", seed)
    add_configuration_argument(parser)
    parser.add_argument("--from-scratch", action="store_true", help="do not start from ImageNet weights")
    parser.add_argument("--train-folds", type=int, nargs="+", default=list(train_folds), metavar="FOLD")
    parser.add_argument("--validation-fold", type=int, default=validation_fold, metavar="FOLD")


def folds_of(args: argparse.Namespace) -> dict[str, Any]:
    """The folds of `add_image_arguments` as fields of a recipe."""
    return {"train_folds": tuple(args.train_folds), "validation_fold": args.validation_fold}


def check_folds(train_folds: Sequence[int], validation_fold: int) -> None:
    """UsageError where what is learnt from would be judged on, too: every choice and every figure would be too good."""
    if validation_fold in train_folds:
        raise UsageError(
            f"fold {validation_fold} cannot both teach and validate; leave it out of --train-folds, or give another --validation-fold."
        )


def _whole(text: str) -> int:
    """A whole number from 0 for argparse."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0")
    return value


def _seed(text: str) -> int:
    """A seed for argparse: what recipes make of it for each epoch is to stay one for all generators."""
    value = _whole(text)
    if value > MOST_SEED:
        raise argparse.ArgumentTypeError(f"{text} is more than {MOST_SEED}")
    return value


def check_positive(options: Mapping[str, float | None]) -> None:
    """UsageError that names the options whose numbers are not above 0, or not finite; None: an option that was not given."""
    wrong = [name for name, value in options.items() if value is not None and not 0 < value < math.inf]
    if wrong:
        raise UsageError(f"{' and '.join(wrong)} must be above 0{'' if len(wrong) > 1 else f', not {options[wrong[0]]}'}.")


def _millimetres(text: str) -> float:
    """A length for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 100:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of mm")
    return value


def add_volume_data_arguments(parser: argparse.ArgumentParser, seed: int) -> None:
    """Arguments of every recipe on volumes."""
    add_run_arguments(parser, "phantoms, or data in the layout of TDSC-ABUS", seed)
    parser.add_argument(
        "--spacing",
        type=_millimetres,
        nargs=3,
        metavar="MM",
        help="true spacing (lateral, depth, slice) of data in the layout of TDSC-ABUS",
    )


def add_volume_arguments(
    parser: argparse.ArgumentParser, seed: int, prepared: str = "volumes", validate_every: int = 2
) -> None:
    """Arguments of recipes that draw crops from a cache of volumes, or of what else is `prepared` of them."""
    add_volume_data_arguments(parser, seed)
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help=f"where prepared {prepared} are kept (default: cache in --output)"
    )
    parser.add_argument("--workers", type=_whole, default=0, metavar="N", help="processes that prepare crops (default: 0)")
    parser.add_argument(
        "--validate-every",
        type=int,
        default=validate_every,
        metavar="N",
        help=f"epochs between looks at the validation {prepared}",
    )


def volume_options(args: argparse.Namespace) -> dict[str, Any]:
    """What `add_volume_arguments` says, as arguments of a recipe's `train`."""
    return {
        "cache": args.cache,
        "spacing_mm": args.spacing,
        "resume": not args.restart,
        "validate_every": max(1, args.validate_every),
        "device": args.device,
        "workers": args.workers,
    }


def add_schedule_arguments(
    parser: argparse.ArgumentParser, recipe: Any, paper: Any = None, names: tuple[str, ...] = tuple(_SCHEDULE)
) -> None:
    """--epochs, --crops, --batch and --rate, or those of `names`, with what they are in a `recipe` and in that of the `paper`."""
    for name in names:
        kind, metavar, meaning = _SCHEDULE[name]
        default = f"default: {getattr(recipe, name)}" + ("" if paper is None else f"; paper: {getattr(paper, name)}")
        parser.add_argument(f"--{name}", type=kind, metavar=metavar, help=f"{meaning} ({default})")


def add_start_argument(parser: argparse.ArgumentParser, anew: str = "what follows them") -> None:
    """--start; `anew` says what is chosen where no epochs are asked for."""
    parser.add_argument(
        "--start",
        default="",
        metavar="ID|DIR",
        help=f"go on from the weights of this model; with --epochs 0 they stay, and {anew} is chosen anew",
    )


def schedule_of(args: argparse.Namespace, names: tuple[str, ...] = tuple(_SCHEDULE)) -> dict[str, Any]:
    """What `add_schedule_arguments` says otherwise than the recipe. Raises `UsageError` for a number that is not above 0, or not finite; with
    --start there may be no epochs at all: the model's weights stay, and what follows them is chosen anew."""
    changes = {name: value for name in names if (value := getattr(args, name)) is not None}
    kept = changes.get("epochs") == 0 and getattr(args, "start", "")
    check_positive({f"--{name}": value for name, value in changes.items() if not (kept and name == "epochs")})
    return changes
