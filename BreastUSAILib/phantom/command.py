"""``breastusai phantom``: synthetic ABUS volumes with exact ground truth."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import PhantomError, UsageError
from ..progress import add_progress_arguments, show_progress
from .batch import Batch, BatchResult, make_batch, share
from .grids import GRIDS
from .layouts import HONESTY, LAYOUTS
from .seeds import BLOCK, BLOCKS, SPLITS
from .spec import DENSITIES, PhantomSpec

EPILOG = (
    "Volumes that are there are skipped, so a run that was ended goes on where it stopped. The same seed makes the same "
    "volumes on every machine; those of train, validation and test are never the same. Exit codes: 0 all made, 1 some "
    f"failed, 2 wrong usage, 130 cancelled. {HONESTY}"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument("--n", type=int, required=True, metavar="N", help="how many volumes")
    parser.add_argument("--output", "-o", type=Path, required=True, metavar="DIR", help="folder for the data set")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help=f"0 to {BLOCKS - 1}; each has {BLOCK} volumes a split (default: 0)"
    )
    parser.add_argument(
        "--split", choices=SPLITS, help="what the volumes are for (default: train; tdsc-abus: all three as 100:30:70)"
    )
    parser.add_argument(
        "--size", choices=tuple(GRIDS), default=PhantomSpec.grid, help=f"the grid (default: {PhantomSpec.grid})"
    )
    parser.add_argument(
        "--layout", choices=LAYOUTS, default="native", help="how the folder is laid out (default: native)"
    )
    parser.add_argument(
        "--lesions", type=int, metavar="N", help="lesions in each volume (default: 0 to 3, drawn; tdsc-abus: 1)"
    )
    parser.add_argument("--density", choices=DENSITIES, help="composition of the breast (default: drawn)")
    parser.add_argument(
        "--malignant-share",
        type=float,
        default=PhantomSpec.malignant_share,
        metavar="P",
        help=f"prior probability of malignancy (default: {PhantomSpec.malignant_share:g})",
    )
    parser.add_argument(
        "--acquisition",
        nargs="+",
        default=(),
        metavar="NAME=VALUE",
        help="settings of the scan instead of drawn ones, e.g. gain_db=3 frequency_mhz=12 (an unknown name lists all)",
    )
    parser.add_argument(
        "--no-hard-negatives", dest="hard_negatives", action="store_false", help="no vessels, ducts, nodes, stray shadows"
    )
    parser.add_argument("--jobs", "-j", type=int, default=1, metavar="N", help="volumes made at a time (default: 1)")
    parser.add_argument("--overwrite", action="store_true", help="make again what is there")
    parser.add_argument(
        "--contact-sheet", action="store_true", help="also pictures in three planes, contact-sheet-*.png, of the first 24"
    )
    add_progress_arguments(parser)


def main(args: argparse.Namespace) -> int:
    try:
        batch = batch_of(args)
    except PhantomError as error:
        raise UsageError(str(error)) from error
    with show_progress(args.progress, args.quiet) as (progress, log):
        result = make_batch(batch, progress, log)
    sheets = []
    if args.contact_sheet:
        from .contact_sheet import write_sheets

        names = {task.name for task in batch.tasks()}
        sheets = write_sheets([record for record in result.records if record.name in names], batch.output)
    if not args.quiet:
        _print(batch, result, sheets)
    if result.failures:
        raise PhantomError(_failed(result))
    return 0


def batch_of(args: argparse.Namespace) -> Batch:
    """The data set that a command line asks for. Raises `PhantomError`."""
    if args.n < 1:
        raise PhantomError(f"--n is {args.n}; it must be 1 or more.")
    spec = PhantomSpec(
        grid=args.size,
        lesions=args.lesions,
        density=args.density,
        malignant_share=args.malignant_share,
        acquisition=dict(_setting(text) for text in args.acquisition),
        hard_negatives=args.hard_negatives,
    )
    numbers = share(args.n, args.layout, args.split)
    return Batch(args.output, numbers, args.seed, spec, args.layout, args.jobs, args.overwrite)


def _setting(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        if equals:
            return name.strip(), float(value)
    except ValueError:
        pass
    raise PhantomError(f"--acquisition {text!r} must read NAME=NUMBER, e.g. gain_db=3.")


def _print(batch: Batch, result: BatchResult, sheets: list[Path]) -> None:
    lesions = [lesion for record in result.records for lesion in record.lesions]
    healthy = sum(not record.lesions for record in result.records)
    malignant = sum(lesion.malignant for lesion in lesions)
    print(
        f"{result.made} made, {result.skipped} there already, {len(result.failures)} failed. {batch.output} holds "
        f"{len(result.records)} volumes: {healthy} without a lesion, {len(lesions)} lesions, {malignant} of them malignant."
    )
    for path in sheets:
        print(f"Pictures: {path}")
    print(HONESTY)


def _failed(result: BatchResult) -> str:
    shown = " ".join(result.failures[:5])
    more = f" And {len(result.failures) - 5} more failed." if len(result.failures) > 5 else ""
    return shown + more
