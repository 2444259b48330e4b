"""Synthetic ABUS volumes of a seventh, independent generator: ``python Testing/benchmarks/seventh_generator.py --n 160 --seed 1 --output DIR``.

To train on, never to measure on (see `seventh_abus`). The folder is read by ``breastusai train ... --data DIR``. A seed gives the same volumes in
either split, so that training and validation need seeds of their own. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]


def main(arguments: list[str] | None = None) -> int:
    from abus_command import run
    from seventh_abus.records import SERIES, lesions_of
    from seventh_abus.volume import SIZE, make_volume

    return run(arguments, __doc__, SERIES, SIZE, make_volume, lesions_of)


if __name__ == "__main__":
    raise SystemExit(main())
