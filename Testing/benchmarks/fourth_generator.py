"""Synthetic ABUS volumes of a fourth, independent generator: ``python Testing/benchmarks/fourth_generator.py --n 160 --seed 1 --output DIR``.

To train on, never to measure on (see `fourth_abus`). The folder is read by ``breastusai train ... --data DIR``. A seed gives the same volumes in
either split, so that training and validation need seeds of their own. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]
SPLITS = ("train", "validation")


def main(arguments: list[str] | None = None) -> int:
    from abus_command import make_data_set, parser_of
    from fourth_abus.records import series_of, write_volume
    from fourth_abus.volume import SIZE, make_volume

    parser = parser_of(__doc__.splitlines()[0], SIZE)
    parser.add_argument(
        "--split",
        choices=SPLITS,
        default=SPLITS[0],
        help="what they are for; give each split another --seed (default: train)",
    )
    args = parser.parse_args(arguments)
    series = series_of(args.split)

    def make(index: int, settings: dict) -> dict:
        volume = make_volume(args.seed, index, tuple(args.size))
        return write_volume(series, args.output, args.seed, index, volume, settings)

    return make_data_set(parser, args, series, make)


if __name__ == "__main__":
    raise SystemExit(main())
