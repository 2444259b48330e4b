#!/usr/bin/env python3
"""Spoils files by the thousand and reads them: a result or a clear error is right, everything else is a fault.

    python Testing/fuzz/fuzz_inputs.py --cases 2000 --seed 1 [--kind nrrd] [--keep FOLDER]

Each file is read in a worker process, as `breastusai run` does it, under limits of time and memory. A fault is: an exception
that is no BreastUSAIError, a process that ended, a limit that was reached, pixels from outside the folder, or a file that
reading left behind. Faults are printed with the number of their case, which makes the same file again: --only NUMBER.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).resolve().parents[2])]

import mutations  # noqa: E402
import seeds  # noqa: E402

from BreastUSAILib.errors import BreastUSAIError  # noqa: E402
from BreastUSAILib.image import read_image  # noqa: E402
from BreastUSAILib.workers import Limits, Pool, cores  # noqa: E402

KINDS = ("nrrd", "meta", "nifti", "png", "jpeg", "tiff", "bmp", "dicom", "json", "safetensors")
CANARY = 201  # the value of every pixel outside the folder; no seed's pixels are all this
SECONDS, MEMORY = 20.0, 2 * 2**30


@dataclass(frozen=True)
class Case:
    """One spoiled file: its number, kind, and the folder that it lies in by itself."""

    number: int
    kind: str
    path: Path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000, help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--jobs", type=int, default=cores())
    parser.add_argument("--only", type=int, help="the number of one case; its file is kept")
    parser.add_argument("--keep", type=Path, help="copy the files of faults here")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="a file's limit; more on a machine that is busy")
    args = parser.parse_args(arguments)
    start = time.monotonic()
    limits = Limits(args.seconds, MEMORY)
    counts, faults = fuzz(args.kind or KINDS, args.cases, args.seed, args.jobs, args.only, args.keep, limits)
    for (kind, outcome), count in sorted(counts.items()):
        print(f"{kind:12} {outcome:40} {count}")
    print(f"{sum(counts.values())} files in {time.monotonic() - start:.0f} s, seed {args.seed}: {len(faults)} faults.")
    return bool(faults)


def fuzz(
    kinds: tuple[str, ...],
    cases: int,
    seed: int,
    jobs: int,
    only: int | None = None,
    keep: Path | None = None,
    limits: Limits = Limits(SECONDS, MEMORY),
) -> tuple[collections.Counter, list[str]]:
    """(kind, outcome) -> how often, and a line for each fault, which is printed as well."""
    counts: collections.Counter = collections.Counter()
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        (folder / "cases").mkdir()
        # Beside the folders of the cases: where "../" leads.
        (folder / "cases" / "canary.raw").write_bytes(bytes([CANARY]) * 100_000)
        todo = _cases(folder, kinds, cases, seed, only)
        waiting: dict[int, Case] = {}
        with Pool(reader, (kinds,), jobs, limits) as pool:
            more = True
            while more or pool.busy:
                while more and pool.free:
                    case = next(todo, None)
                    more = case is not None
                    if case is not None:
                        waiting[case.number] = case
                        pool.give(case.number, case)
                for event in pool.events():
                    if event.kind == "fatal":
                        raise event.value
                    if event.kind == "progress":
                        continue
                    case = waiting.pop(event.task)
                    outcome, fault = event.value if event.kind == "done" else ("ended", str(event.value))
                    counts[case.kind, outcome] += 1
                    if fault:
                        faults.append(f"case {case.number} ({case.kind}, {case.path.name}): {fault}")
                        print(f"FAULT {faults[-1]}", flush=True)
                        if keep is not None:
                            shutil.copytree(case.path.parent, keep / str(case.number), dirs_exist_ok=True)
                    if only is None:
                        shutil.rmtree(case.path.parent, ignore_errors=True)
                    else:
                        print(f"{case.path.name}: {outcome}")
    return counts, faults


def _cases(folder: Path, kinds: tuple[str, ...], cases: int, seed: int, only: int | None) -> Iterator[Case]:
    files = {**seeds.image_files(folder / "seeds"), **seeds.record_files(folder / "records")}
    model = seeds.model_folder(folder / "model") if "safetensors" in kinds else None
    if model is not None:
        files["safetensors"] = [model / "model.safetensors"]
    everything = [path.read_bytes() for paths in files.values() for path in paths]
    for kind in kinds:
        for index in range(cases):
            # A case follows from its number alone, so that it can be made again by itself.
            number = KINDS.index(kind) * 10_000_000 + index
            if only is not None and number != only:
                continue
            chance = random.Random(f"{seed}-{number}")
            source = chance.choice(files[kind])
            place = folder / "cases" / str(number)
            place.mkdir()
            for beside in source.parent.iterdir():
                if beside.suffix == ".raw" or kind == "safetensors":
                    shutil.copy(beside, place)
            data = mutations.spoil(source.read_bytes(), chance, everything)
            if kind == "png" and chance.random() < 0.5:
                data = mutations.mended_png(data)
            (place / source.name).write_bytes(data)
            if kind == "safetensors":
                # Whoever forges weights forges the checksum beside them too.
                config = json.loads((place / "config.json").read_text())
                config["sha256"] = hashlib.sha256(data).hexdigest()
                (place / "config.json").write_text(json.dumps(config))
            yield Case(number, kind, place / source.name)


def reader(kinds: tuple[str, ...]) -> Callable[[Case, object], tuple[str, str]]:
    """Made in each worker process: reads a case; (outcome, "" or what is wrong). `kinds`: of the cases that come."""
    import SimpleITK as sitk

    # What reading imports, not at the cost of the first case's time.
    with tempfile.TemporaryDirectory(prefix="fuzz-first-") as name:
        files = seeds.image_files(Path(name) / "images")
        for kind in {"nrrd", *kinds} & set(files):
            read_image(files[kind][0])
    if "safetensors" in kinds:
        import torch

        import BreastUSAILib.networks.roi_cnn  # noqa: F401

        torch.set_num_threads(1)

    def read(case: Case, progress: object) -> tuple[str, str]:
        before = _listing(case.path.parent)
        try:
            image = _READERS[case.kind](case.path) if case.kind in _READERS else read_image(case.path).image
        except BreastUSAIError as error:
            outcome, fault = f"refused ({type(error).__name__})", ""
            if "\n" in str(error) or len(str(error)) > 9000:
                fault = f"not one sentence: {str(error)[:200]!r}"
        except MemoryError:
            outcome, fault = "refused (MemoryError)", ""  # of which `run` makes a sentence
        except Exception:
            outcome, fault = "exception", "".join(traceback.format_exc().splitlines(keepends=True)[-4:])
        else:
            outcome, fault = "read", ""
            if image is not None and (sitk.GetArrayViewFromImage(image) == CANARY).mean() > 0.5:
                fault = "holds pixels from outside its folder"
        if _listing(case.path.parent) != before:
            fault = f"left files behind: {_listing(case.path.parent)}"
        return outcome, fault

    return read


def _listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(p), p.stat().st_size) for p in (*folder.iterdir(), *folder.parent.glob("*.*")))


def _read_json(path: Path) -> None:
    from BreastUSAILib.findings import Study
    from BreastUSAILib.inputs import read_run
    from BreastUSAILib.run_input import read_finished
    from BreastUSAILib.run_journal import Journal
    from BreastUSAILib.run_manifest import read_manifest

    if path.name == "study.json":
        read_finished(path.parent)
        Study.from_json(path.read_text(encoding="utf-8", errors="surrogateescape"))
    elif path.name == "run.json":
        list(Journal(path.parent / "journal.jsonl", read_run(path.parent)))
        read_manifest(path).run_options(output=path.parent)
    else:
        list(Journal(path, {}))


def _read_model(path: Path) -> None:
    from BreastUSAILib.models import zoo

    zoo.load(path.parent, "segment", "cpu")


_READERS = {"json": _read_json, "safetensors": _read_model}


if __name__ == "__main__":
    raise SystemExit(main())
