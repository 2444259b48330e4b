#!/usr/bin/env python3
"""Memory and time of one run over many small studies, with the real pipeline and a tiny network of random weights.

    python Testing/benchmarks/load_run.py --studies 500 [--jobs 1]

Prints, for each tenth of the studies, the resident memory of the process that keeps account and of the workers, in MB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "Testing" / "fuzz"), str(ROOT)]

import seeds  # noqa: E402


def make_studies(folder: Path, number: int) -> None:
    """A tree of small noisy images with a dark disc each, twenty in a folder."""
    chance = np.random.default_rng(0)
    y, x = np.mgrid[:96, :128]
    for i in range(number):
        image = chance.normal(120, 25, (96, 128))
        image[
            (x - chance.integers(30, 98)) ** 2 + (y - chance.integers(25, 70)) ** 2 < chance.integers(8, 18) ** 2
        ] -= 80
        path = folder / f"patient{i // 20:04}" / f"view{i % 20:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="load-") as name:
        folder = Path(name)
        make_studies(folder / "in", args.studies)
        model = seeds.model_folder(folder / "model")
        command = [sys.executable, "-m", "BreastUSAILib", "run", str(folder / "in"), "--output", str(folder / "out")]
        command += [
            "--model",
            str(model),
            "--device",
            "cpu",
            "--jobs",
            str(args.jobs),
            "--no-scene",
            "--no-refine",
            "--quiet",
        ]
        start = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT)
        me, tenth = psutil.Process(process.pid), 0
        print("studies  seconds  account MB  workers MB")
        while process.poll() is None:
            done = sum(1 for _ in (folder / "out").glob("*/study.json"))
            if done >= tenth * args.studies / 10 + 1:
                try:
                    workers = sorted((c.memory_info().rss for c in me.children(recursive=True)), reverse=True)[
                        : args.jobs
                    ]
                    row = (done, time.monotonic() - start, me.memory_info().rss / 2**20, sum(workers) / 2**20)
                except psutil.Error:
                    continue
                print("{:7}  {:7.0f}  {:10.0f}  {:10.0f}".format(*row), flush=True)
                tenth += 1
            time.sleep(0.5)
        record = json.loads((folder / "out" / "run.json").read_text())
        print(f"exit {process.returncode}, {time.monotonic() - start:.0f} s in all, {record['counts']}")
        return process.returncode


if __name__ == "__main__":
    raise SystemExit(main())
