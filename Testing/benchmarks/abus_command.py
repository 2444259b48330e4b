"""The command line that the independent generators of ABUS volumes share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from abus_records import Series, Volume


def run(
    arguments: list[str] | None,
    description: str,
    series: Sequence[Series],
    size: tuple[int, int, int],
    make_volume: Callable[[int, int, tuple[int, int, int]], Volume],
    lesions_of: Callable[[Any], list[dict[str, Any]]],
) -> int:
    """Make the data set that a generator's command line asks for; returns the command's exit status.

    Parameters
    ----------
    arguments : of the command line; None: those of this process.
    description : the command's docstring; its first line is said in the help.
    series : one for each split that the generator's volumes may be for, the default first. With a single one there is no --split to choose.
    size : voxels (lateral, depth, slice) where none are asked for.
    make_volume : makes a volume from the series' seed, its index in it, and voxels (lateral, depth, slice).
    lesions_of : gives a volume's lesions as records have them, in the order of their labels.
    """
    by_split = {one.split: one for one in series}
    parser = _parser_of(description.splitlines()[0], size, list(by_split))
    args = parser.parse_args(arguments)
    chosen = by_split[args.split]

    def make(index: int, settings: dict[str, Any]) -> dict[str, Any]:
        volume = make_volume(args.seed, index, tuple(args.size))
        return chosen.write_volume(args.output, args.seed, index, volume, lesions_of(volume), settings)

    return _make_data_set(parser, args, chosen, make)


def _parser_of(description: str, size: tuple[int, int, int], splits: list[str]) -> argparse.ArgumentParser:
    """A parser of --n, --seed, --size (default: `size`), --output and, where there is a choice, --split (default: the first)."""
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
    parser.set_defaults(split=splits[0])
    if len(splits) > 1:
        parser.add_argument(
            "--split",
            choices=splits,
            help=f"what they are for; give each split another --seed (default: {splits[0]})",
        )
    return parser


def _make_data_set(
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
            f"{args.output} holds {strangers[0]} and {len(strangers) - 1} more that are not among the first {args.n} of seed {args.seed}; "
            "give the --n and --seed that it was made with, or choose another --output"
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
