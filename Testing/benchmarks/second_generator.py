"""Synthetic ABUS volumes of a second, independent generator: ``python Testing/benchmarks/second_generator.py --n 60 --seed 1 --output DIR``.

To measure on, never to train on (see `second_abus`). The folder is read by ``breastusai evaluate detect|segment-3d|heatmap --data DIR``. A run that
was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]


def main(arguments: list[str] | None = None) -> int:
    from second_abus.records import SOFTWARE, others, read_record, write_tables, write_volume
    from second_abus.volume import SIZE, make_volume
    from tqdm import tqdm

    from BreastUSAILib.errors import BreastUSAIError

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=60, help="volumes (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="of the series (default: 1)")
    parser.add_argument(
        "--size",
        type=int,
        nargs=3,
        default=SIZE,
        metavar=("X", "Y", "Z"),
        help="voxels, lateral, depth, slice (default: 400 100 400)",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    args = parser.parse_args(arguments)
    if args.n < 1 or args.seed < 0 or min(args.size) < 32:
        parser.error("--n must be 1 or more, --seed 0 or more, and --size 32 or more on each axis")
    if strangers := others(args.output, args.seed, args.n):
        parser.error(
            f"{args.output} holds {strangers[0]} and {len(strangers) - 1} more of another series; choose another --output"
        )
    settings = {"seed": args.seed, "size": list(args.size)}
    records = []
    try:
        for index in tqdm(range(args.n), unit="volume"):
            record = read_record(args.output, args.seed, index)
            if record is None or record["settings"] != settings or record["software"] != SOFTWARE:
                volume = make_volume(args.seed, index, tuple(args.size))
                record = write_volume(args.output, args.seed, index, volume, settings)
            records.append(record)
        write_tables(args.output, records, settings)
    except BreastUSAIError as error:
        print(error, file=sys.stderr)
        return 1
    healthy = sum(not r["lesions"] for r in records)
    print(
        f"{len(records)} volumes ({healthy} healthy), {sum(len(r['lesions']) for r in records)} lesions in {args.output}."
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
