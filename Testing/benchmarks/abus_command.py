"""The command line that the independent generators of ABUS volumes share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from abus_records import Series


def parser_of(description: str, size: tuple[int, int, int]) -> argparse.ArgumentParser:
    """A parser of --n, --seed, --size (default: `size`) and --output."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--n", type=int, default=60, help="volumes (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="of the series (default: 1)")
    parser.add_argument(
        "--size",
        type=int,
        nargs=3,
        default=size,
        metavar=("X", "Y", "Z"),
        help=f"voxels, lateral, depth, slice (default: {' '.join(map(str, size))})",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    return parser


def make_data_set(
    parser: argparse.ArgumentParser,
    args: argparse.Namespace,
    series: Series,
    make: Callable[[int, dict[str, Any]], dict[str, Any]],
) -> int:
    """Make what is missing of a series, and the tables of all of it; returns the command's exit status.

    Parameters
    ----------
    args : what `parser` read.
    make : makes and writes volume `index` with the run's settings, and returns its record.
    """
    from tqdm import tqdm

    from BreastUSAILib.errors import BreastUSAIError

    if args.n < 1 or args.seed < 0 or min(args.size) < 32:
        parser.error("--n must be 1 or more, --seed 0 or more, and --size 32 or more on each axis")
    if strangers := series.others(args.output, args.seed, args.n):
        parser.error(
            f"{args.output} holds {strangers[0]} and {len(strangers) - 1} more of another series; choose another --output"
        )
    settings = {"seed": args.seed, "size": list(args.size)}
    records = []
    try:
        for index in tqdm(range(args.n), unit="volume"):
            record = series.read_record(args.output, args.seed, index, settings)
            records.append(make(index, settings) if record is None else record)
        series.write_tables(args.output, records, settings)
    except BreastUSAIError as error:
        print(error, file=sys.stderr)
        return 1
    healthy = sum(not r["lesions"] for r in records)
    print(
        f"{len(records)} volumes ({healthy} healthy), {sum(len(r['lesions']) for r in records)} lesions in {args.output}."
    )
    return 0
