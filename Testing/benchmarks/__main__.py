"""Each case beside its peers: ``python Testing/benchmarks [CASE ...] [--quick] [--size 64x128x128] [--seed 0] [--write]``.

In one process, in turns; ratio, both times, peak memory, and the quality of both results. `make bench` runs all and writes
docs/performance.md; `--write` with one case puts its new figures in the place of the old. Cases: the modules of `cases/`; each says its sizes.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RECORDS = ROOT / "docs" / "performance" / "measured.json"
# In the order of the table; the slow ones last.
CASES = (
    "suppression",
    "chan_vese_2d",
    "chan_vese_3d",
    "halve",
    "segment_3d",
    "lesion",
    "heatmap",
    "grading",
    "detect",
    "cold_start",
    "batch",
)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python Testing/benchmarks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)} (default: all)")
    parser.add_argument("--size", nargs="+", metavar="AxBxC", help="other sizes (with one case): numpy order")
    parser.add_argument("--quick", action="store_true", help="small sizes: a check that all runs, not a measurement")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=5, help="turns (default: 5)")
    parser.add_argument(
        "--budget", type=float, default=60.0, metavar="SECONDS", help="a contender that used it up takes no more turns"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of all libraries (default: all cores)")
    parser.add_argument(
        "--write", action="store_true", help="keep each case as it is done: docs/performance.md, docs/performance/"
    )
    args = parser.parse_args()
    if unknown := set(args.cases) - set(CASES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    if args.size and len(args.cases) != 1:
        parser.error("--size needs one case")
    # Before numpy and torch are imported: they read it once.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ[name] = str(args.threads)
    sys.path[:0] = [str(ROOT)]
    from BreastUSAILib.openmp import wait_briefly

    wait_briefly(os.environ)  # as every command of ours; the peers gain by it, too
    import records
    import torch
    from machine import measure_machine
    from report import HEADER, draw, lines, markdown, write
    from runner import measure

    if args.write and args.quick:
        parser.error("--quick measures nothing that is worth writing")

    torch.set_num_threads(args.threads)
    machine = measure_machine(512 if args.quick else 2048, 32 if args.quick else 256)
    print(f"{machine}\n{HEADER}", flush=True)
    kept = records.read(RECORDS) if args.write else []
    how = f"{time.strftime('%Y-%m-%d')}, seed {args.seed}, {args.repeats} turns"
    left_out = []
    for name in args.cases or CASES:
        module = importlib.import_module(f"cases.{name}")
        sizes = module.QUICK if args.quick else module.SIZES
        if args.size:
            sizes = [tuple(int(n) for n in size.split("x")) for size in args.size]
        for size in sizes:
            # One at a time: the files and networks of a case go before the next comes.
            cases = module.cases(size, args.seed)
            while True:
                try:
                    case = next(cases)
                except StopIteration:
                    break
                except ImportError as error:  # a peer that is not installed
                    left_out.append(f"{name} ({error})")
                    break
                record = records.Record(measure(case, args.repeats, args.budget), machine, how)
                print("\n".join(lines(record.outcome, machine)), flush=True)
                if args.write:
                    # At once: an hour's work is not lost with its last case.
                    kept = records.merged(kept, record)
                    records.write(RECORDS, kept)
                    write(ROOT / "docs" / "performance.md", markdown(kept))
                    draw(RECORDS.with_name("ratios.png"), kept)
    for name in left_out:
        print(f"left out: {name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
