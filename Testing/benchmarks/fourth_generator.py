"""Synthetic ABUS volumes of a fourth, independent generator: ``python Testing/benchmarks/fourth_generator.py --n 60 --seed 1 --output DIR``.

To measure on, never to train on (see `fourth_abus`). The folder is read by ``breastusai evaluate detect|segment-3d|heatmap --data DIR``. A run that
was stopped goes on where it was.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]


def main(arguments: list[str] | None = None) -> int:
    from abus_command import make_data_set, parser_of
    from fourth_abus.records import SERIES, write_volume
    from fourth_abus.volume import SIZE, make_volume

    parser = parser_of(__doc__.splitlines()[0], SIZE)
    args = parser.parse_args(arguments)

    def make(index: int, settings: dict) -> dict:
        return write_volume(args.output, args.seed, index, make_volume(args.seed, index, tuple(args.size)), settings)

    return make_data_set(parser, args, SERIES, make)


if __name__ == "__main__":
    raise SystemExit(main())
