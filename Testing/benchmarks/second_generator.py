"""Synthetic ABUS volumes of a second, independent generator: ``python Testing/benchmarks/second_generator.py --n 60 --seed 1 --output DIR``.

To measure on, never to train on (see `second_abus`). The folder is read by ``breastusai evaluate detect|segment-3d|heatmap --data DIR``. A run that
was stopped goes on where it was.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]


def main(arguments: list[str] | None = None) -> int:
    from abus_command import run
    from second_abus.records import SERIES, lesions_of
    from second_abus.volume import SIZE, make_volume

    return run(arguments, __doc__, SERIES, SIZE, make_volume, lesions_of)


if __name__ == "__main__":
    raise SystemExit(main())
