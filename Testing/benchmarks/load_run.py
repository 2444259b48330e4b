#!/usr/bin/env python3
"""Memory and time of one run over many small studies, with the real pipeline and a tiny network of random weights.

    python Testing/benchmarks/load_run.py --studies 500 [--jobs 1] [--refine] [--kill-at 200] [--folder DIR]

Prints, for each tenth of the studies, the resident memory of the process that keeps account and of the workers, in MB; in the end
how memory grew from the second tenth to the last, and whether every study was done once. With --kill-at the run is killed when so
many studies are finished (SIGKILL), and given again. With --folder images and results stay, and the same command goes on with them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
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


def finished(output: Path) -> dict[str, float]:
    """Folder of each finished study -> when its study.json was written."""
    found = {}
    for study in output.glob("*/study.json"):
        found[study.parent.name] = study.stat().st_mtime_ns
    return found


def watch(
    process: subprocess.Popen, output: Path, studies: int, jobs: int, kill_at: int | None
) -> list[tuple[int, float, float]]:
    """Rows (studies done, MB that keep account, MB of the workers), printed as they come; kills the run at `kill_at` studies."""
    me, rows, start = psutil.Process(process.pid), [], time.monotonic()
    before = len(finished(output))
    while process.poll() is None:
        done = len(finished(output))
        if kill_at is not None and done >= kill_at:
            process.kill()
            process.wait()
            print(f"killed after {done} studies", flush=True)
            break
        if done >= before + len(rows) * studies / 10 + 1:
            try:
                workers = sorted((c.memory_info().rss for c in me.children(recursive=True)), reverse=True)[:jobs]
                rows.append((done, me.memory_info().rss / 2**20, sum(workers) / 2**20))
            except psutil.Error:
                continue
            print(f"{done:7}  {time.monotonic() - start:7.0f}  {rows[-1][1]:10.0f}  {rows[-1][2]:10.0f}", flush=True)
        time.sleep(0.5)
    return rows


def growth(rows: Sequence[tuple[int, float, float]]) -> str:
    """How memory grew after the second look, when everything has been loaded and done once."""
    if len(rows) < 3:
        return "too few looks to tell how memory grows"
    first, last = rows[1], rows[-1]
    account, workers = (last[i] - first[i] for i in (1, 2))
    return (
        f"from study {first[0]} to {last[0]} memory grew by {account:+.0f} MB (account) and {workers:+.0f} MB (workers)"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--refine", action="store_true", help="with Chan-Vese")
    parser.add_argument("--kill-at", type=int, help="kill the run at so many studies, and give it again")
    parser.add_argument("--folder", type=Path, help="where images and results are kept (default: they are removed)")
    args = parser.parse_args()
    with nullcontext(args.folder) if args.folder else tempfile.TemporaryDirectory(prefix="load-") as name:
        folder = Path(name)
        output = folder / "out"
        make_studies(folder / "in", args.studies)
        model = seeds.model_folder(folder / "model")
        command = [
            sys.executable,
            "-m",
            "BreastUSAILib",
            "run",
            str(folder / "in"),
            "--output",
            str(output),
            "--model",
            str(model),
        ]
        command += [
            "--device",
            "cpu",
            "--jobs",
            str(args.jobs),
            "--no-scene",
            "--quiet",
            *([] if args.refine else ["--no-refine"]),
        ]
        start, before = time.monotonic(), finished(output)
        print("studies  seconds  account MB  workers MB")
        kept, code, rows = before, 0, []
        for kill_at in (args.kill_at, None) if args.kill_at else (None,):
            kept = finished(output)
            process = subprocess.Popen(command, cwd=ROOT)
            rows = watch(process, output, args.studies, args.jobs, kill_at)
            code = process.returncode
        seconds, after = time.monotonic() - start, finished(output)
        again = sum(after.get(name) != written for name, written in kept.items())
        counts = json.loads((output / "run.json").read_text())["counts"]
        print(growth(rows))
        print(
            f"{len(after)} of {args.studies} studies are finished, {len(after) - len(before)} of them in {seconds:.0f} s "
            f"({seconds / max(1, len(after) - len(before)):.2f} s each); {len(kept)} were finished before, {again} of them done twice"
        )
        print(f"exit {code}, {counts}")
        return code or int(len(after) != args.studies or again > 0)


if __name__ == "__main__":
    raise SystemExit(main())
