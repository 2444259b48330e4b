"""A batch with two processes of one thread against one process of two threads. Size: (inputs, 2 for images or 3 for volumes)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from runner import Case, Contender

SIZES = ((100, 2), (20, 3))
QUICK = ((2, 2),)
ROOT = Path(__file__).resolve().parents[3]


def cases(size: tuple[int, ...], seed: int) -> Iterator[Case]:
    number, dimension = size
    samples = ROOT / "BreastUSAILib" / "sample_data" / "files"
    volumes = [samples / "abus-phantom-earlier.nrrd", samples / "abus-phantom-later.nrrd"]
    sources = volumes if dimension == 3 else sorted((ROOT / "Testing" / "Data" / "images").iterdir())
    kind = "images" if dimension == 2 else "volumes of 100 x 43 x 99 mm"

    def run(jobs: int, threads: int) -> float:
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            folder = Path(name) / "in"
            folder.mkdir()
            for place, source in enumerate(islice(cycle(sources), seed, seed + number)):
                (folder / f"{place:04}{source.suffix}").write_bytes(source.read_bytes())
            command = [
                sys.executable,
                "-m",
                "BreastUSAILib",
                "run",
                str(folder),
                "-o",
                str(Path(name) / "out"),
                "--no-scene",
                "--quiet",
            ]
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
            subprocess.run([*command, "--jobs", str(jobs)], cwd=ROOT, check=True, env=environment)
            return float(sum(1 for _ in (Path(name) / "out").glob("*/study.json")))

    yield Case(
        f"Batch of {number} {kind}",
        Contender("ours", lambda: run(2, 1)),
        [Contender("one process of two threads", lambda: run(1, 2))],
        lambda done: done,
        "inputs done",
        {"one process of two threads": 1.15},
        note="memory over a run: Testing/benchmarks/load_run.py.",
    )
