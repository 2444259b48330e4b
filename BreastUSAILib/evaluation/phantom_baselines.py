"""How far simple methods come on phantoms: ``breastusai evaluate phantom --output DIR``.

A test set on which a threshold finds the lesions, or their size tells what they are, measures nothing. So, on the seeds that
later systems are tested on: the sensitivity of a detector of dark blobs (settings chosen on validation seeds), the AUC of
volume alone, and, as the posterior of every lesion is known, the best AUC that any reader can reach. Beside it, the
statistics of the volumes.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import PhantomError, UsageError
from ..phantom import statistics
from ..phantom.grids import GRIDS
from ..phantom.ideal import lexicon_auc
from ..phantom.seeds import volume_seed
from ..phantom.spec import PhantomSpec
from ..processor import cores
from ..progress import add_progress_arguments, show_progress
from ..workers import run_tasks
from .blob_detector import IOU, BlobSettings, SmallVolume, judged, sensitivity, shrink, tune
from .metrics import bootstrap_interval, roc_auc

FALSE_POSITIVES = 5.0  # a volume


@dataclass(frozen=True)
class Sample:
    """What is kept of a volume: it at 1 mm, and its figures."""

    small: SmallVolume
    statistics: statistics.VolumeStatistics


class Sampler:
    """Makes a volume from its seed and keeps what is needed of it; one a process."""

    def __init__(self, spec: PhantomSpec) -> None:
        self._spec = spec

    def __call__(self, seed: int, progress: Callable[[float, str], None]) -> Sample:
        from ..phantom import generate

        phantom = generate(seed, self._spec)
        return Sample(shrink(phantom), statistics.measure(phantom))


def samples(
    spec: PhantomSpec, seeds: Sequence[int], jobs: int, progress: Callable[[float, str], None] | None = None
) -> list[Sample]:
    """The volumes of these seeds, in their order. Raises `PhantomError` when a process dies."""
    tell = progress or (lambda fraction, message: None)
    made: dict[int, Sample] = {}
    jobs = min(jobs, len(seeds), cores())
    if jobs <= 1:
        work = Sampler(spec)
        for number, seed in enumerate(seeds):
            made[number] = work(seed, tell)
            tell(len(made) / len(seeds), f"seed {seed}")
    else:
        events = run_tasks(Sampler, (spec,), seeds, jobs)
        try:
            for event in events:
                if event.kind == "fatal":
                    raise event.value
                if event.kind == "died":
                    raise PhantomError(f"The process that made seed {seeds[event.task]} {event.value}; run with fewer --jobs.")
                if event.kind == "done":
                    made[event.task] = event.value
                    tell(len(made) / len(seeds), f"seed {seeds[event.task]}")
        finally:
            events.close()
    return [made[number] for number in range(len(seeds))]


def baselines(settings: BlobSettings, volumes: Sequence[SmallVolume]) -> dict[str, Any]:
    """The figures of the simple methods on these volumes, with bootstrap intervals over volumes."""
    number = [len(volume.lesions) for volume in volumes]
    easy, touching, strict = ([judged(volume, settings, overlap) for volume in volumes] for overlap in (None, 0.0, IOU))

    def of_some(chosen: np.ndarray) -> float:
        # Volumes are drawn anew, and with them the false alarms that each brings.
        some = [int(i) for i in chosen]
        return sensitivity([easy[i] for i in some], [number[i] for i in some], FALSE_POSITIVES)

    names = [str(i) for i in range(len(volumes))]
    lesions = [lesion for volume in volumes for lesion in volume.lesions]
    malignant = [lesion.malignant for lesion in lesions]
    return {
        "volumes": len(volumes),
        "lesions": len(lesions),
        "malignant": sum(malignant),
        "false_positives": FALSE_POSITIVES,
        "sensitivity": sensitivity(easy, number, FALSE_POSITIVES),
        "sensitivity_interval": bootstrap_interval(range(len(volumes)), names, of_some),
        "sensitivity_iou_0": sensitivity(touching, number, FALSE_POSITIVES),
        f"sensitivity_iou_{IOU:g}": sensitivity(strict, number, FALSE_POSITIVES),
        "median_ml": float(np.median([lesion.volume_ml for lesion in lesions])) if lesions else None,
        "auc_volume_alone": roc_auc([lesion.volume_ml for lesion in lesions], malignant),
        "auc_best_possible": roc_auc([lesion.posterior for lesion in lesions], malignant),
        "auc_volume_alone_expected": lexicon_auc(descriptors=False),
        "auc_best_possible_expected": lexicon_auc(),
    }


def as_markdown(figures: dict[str, Any]) -> str:
    """The figures as a table."""
    f = figures
    low, high = f["sensitivity_interval"]
    interval = "" if math.isnan(low) else f" ({_cell(low)} to {_cell(high)})"
    of = f"sensitivity at {f['false_positives']:g} false positives a volume"
    return "\n".join(
        [
            f"{f['volumes']} test volumes, {f['lesions']} lesions, {f['malignant']} of them malignant. Expected: over all "
            "lesions that can be drawn.",
            "",
            "| method | figure | test volumes | expected |",
            "|---|---|---|---|",
            f"| dark compact blobs; found: centre in the lesion's box, or IoU > {IOU:g} | {of} "
            f"| {_cell(f['sensitivity'])}{interval} | - |",
            f"| the same; found: boxes touch (IoU > 0) | {of} | {_cell(f['sensitivity_iou_0'])} | - |",
            f"| the same; found: IoU > {IOU:g} | {of} | {_cell(f[f'sensitivity_iou_{IOU:g}'])} | - |",
            "| volume alone | AUC, malignant against benign "
            f"| {_cell(f['auc_volume_alone'])} | {f['auc_volume_alone_expected']:.3f} |",
            "| exact posterior: the best that any reader can do | AUC, malignant against benign "
            f"| {_cell(f['auc_best_possible'])} | {f['auc_best_possible_expected']:.3f} |",
            "",
        ]
    )


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _without_nan(value: Any) -> Any:
    """The same with None for what is not a number, such as an AUC where all lesions are benign: JSON has no word for it."""
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", "-o", type=Path, required=True, metavar="DIR", help="where figures.json/.md and statistics go")
    parser.add_argument("--validation", type=int, default=40, metavar="N", help="volumes to choose settings on (default: 40)")
    parser.add_argument("--test", type=int, default=60, metavar="N", help="volumes to measure on (default: 60)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="block of seeds, as of breastusai phantom (default: 0)")
    parser.add_argument("--size", choices=tuple(GRIDS), default=PhantomSpec.grid, help=f"the grid (default: {PhantomSpec.grid})")
    parser.add_argument("--jobs", "-j", type=int, default=1, metavar="N", help="volumes made at a time (default: 1)")
    add_progress_arguments(parser)


def main(args: argparse.Namespace) -> int:
    from ..atomic import atomic_path, check_writable, write_text

    check_writable(args.output)
    for name in ("validation", "test", "jobs"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} is {getattr(args, name)}; it must be 1 or more.")
    spec = PhantomSpec(grid=args.size)
    parts = {
        split: [volume_seed(split, args.seed, index) for index in range(getattr(args, split))]
        for split in ("validation", "test")
    }
    with show_progress(args.progress, args.quiet) as (progress, log):
        log(f"Making {args.validation} validation volumes and choosing the detector's settings on them.")
        chosen_on = samples(spec, parts["validation"], args.jobs, lambda f, m: progress(0.4 * f, m))
        settings = tune([sample.small for sample in chosen_on], FALSE_POSITIVES)
        log(f"Making {args.test} test volumes and measuring on them.")
        tested = samples(spec, parts["test"], args.jobs, lambda f, m: progress(0.5 + 0.4 * f, m))
        figures = baselines(settings, [sample.small for sample in tested])
        small = [sample.small for sample in chosen_on]
        there = sensitivity([judged(v, settings) for v in small], [len(v.lesions) for v in small], FALSE_POSITIVES)
        figures["sensitivity_validation"] = there
    volumes = [sample.statistics for sample in tested]
    summary = statistics.summarise(volumes)
    about = {"grid": args.size, "seed": args.seed, "blob_detector": asdict(settings), "baselines": figures}
    record = _without_nan({**about, "statistics": summary})
    write_text(args.output / "figures.json", json.dumps(record, indent=1, allow_nan=False) + "\n")
    text = as_markdown(figures)
    write_text(args.output / "figures.md", f"{text}\n{statistics.as_markdown(summary)}")
    write_text(args.output / "lesions.csv", _csv(statistics.lesion_rows(volumes)))
    with atomic_path(args.output / "statistics.png") as temporary:
        statistics.figure(volumes, temporary)
    if not args.quiet:
        print(text)
        print(f"Figures, a table of lesions and a plot are in {args.output}.")
    return 0


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()

