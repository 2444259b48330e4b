"""``breastusai run``: many images and volumes in, a folder of results and an overview out."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from . import RESEARCH_USE
from .command_arguments import (
    DETECT,
    GRADE,
    SEGMENT_3D,
    add_detection,
    add_device,
    add_grading,
    add_max_pixels,
    add_model,
    add_output,
    add_probability,
    add_segmentation,
    check_models,
    detection_options,
    grading_options,
    plane_spacing,
    segmentation_options,
)
from .dicom_out.export import add_key_file, add_options, options_of
from .errors import UsageError
from .progress import add_progress_arguments, on_terminal, show_progress, to_nowhere

if TYPE_CHECKING:
    from .run import RunResult
    from .run_input import RunOptions
    from .run_overview import Result
    from .workup import WorkupOptions

OK, FAILED, CANCELLED = 0, 1, 130

_TABLE_ROWS = 20
_FAILURES = 100  # told one by one; the others are in failures.csv
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}
_SLURM = {"slurm_option": [], "slurm_cores": 4, "slurm_memory": "16GB", "slurm_walltime": "04:00:00"}
"""The defaults of the options that go with --slurm."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Outline and measure lesions in 2D images, find them in ABUS volumes; outline them there and grade them, where there are "
        "models for it. Each input gets a folder of results; index.html, "
        "summary.csv and studies.csv cover all of them. Finished inputs are skipped, so a run that was ended, in whatever way, "
        "goes on where it stopped."
    )
    parser.epilog = "Exit codes: 0 all done, 1 some inputs failed, 2 wrong usage, 130 cancelled. " + RESEARCH_USE
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="image, volume, folder (with all below), or pattern")
    add_output(parser)
    add_device(parser)
    parser.add_argument("--overwrite", action="store_true", help="redo inputs that are finished")
    parser.add_argument("--no-scene", dest="scene", action="store_false", help="write no scene.mrb for 3D Slicer")
    add_options(parser)
    parser.add_argument(
        "--anonymize",
        type=Path,
        metavar="DIR",
        help="write de-identified copies of the results into this folder as well",
    )
    add_key_file(parser)
    parser.add_argument("--parquet", action="store_true", help="write the tables as Parquet as well")
    add_progress_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    images = parser.add_argument_group("images")
    add_model(images)
    images.add_argument(
        "--spacing",
        type=plane_spacing,
        metavar="MM[,MM]",
        help="what a pixel of 2D images measures, where the file is silent or wrong: one number, or across and down, as in 0.1,0.12",
    )
    images.add_argument("--frame", type=int, metavar="N", help="frame of a cine, from 1 (default: the middle one); other images and volumes are read whole")
    images.add_argument("--no-refine", dest="refine", action="store_false", help="keep the network's outline")
    images.add_argument(
        "--lesions", choices=("central", "all"), help="the one nearest the centre (default), or all"
    )
    add_probability(images, "--threshold", "probability above which a pixel is lesion")
    add_probability(images, "--minimum-score", "do not report lesions that score less")
    add_max_pixels(images, "refuse larger images")
    volumes = parser.add_argument_group("volumes")
    add_detection(volumes, DETECT)
    outlines = parser.add_argument_group("outlines of the lesions of volumes (with a model that ships or is named)")
    outlines.add_argument("--no-outlines", action="store_true", help="find the lesions only")
    add_segmentation(outlines, SEGMENT_3D)
    grades = parser.add_argument_group("grades of lesions (with models that ship or are named; ID|DIR as above)")
    grades.add_argument("--no-grades", action="store_true", help="do not grade")
    add_grading(grades, GRADE)
    heat = parser.add_argument_group(
        "map of what in a volume speaks for a lesion (with a model that ships or is named)"
    )
    heat.add_argument("--no-heatmap", action="store_true", help="no map")
    add_model(heat, "--heatmap-model", "a heatmap model that ships, or the folder of your own")
    many = parser.add_argument_group("many inputs")
    many.add_argument(
        "--jobs", "-j", type=int, default=1, metavar="N",
        help="inputs worked on at a time, each in a process of its own, so that a crash costs that input alone (default: 1); "
        "0: in this very process",
    )  # fmt: skip
    many.add_argument(
        "--time-limit", type=_seconds, metavar="TIME", help="an input that takes longer fails (90, 10m, 1h)"
    )
    many.add_argument(
        "--memory-limit", type=_bytes, metavar="SIZE", help="an input whose process takes more memory fails (900M, 8G)"
    )
    many.add_argument(
        "--retry-failed",
        action="store_true",
        help="only what failed in earlier runs into this folder, with the options of the run; those that are given win",
    )
    many.add_argument(
        "--from-manifest",
        type=Path,
        metavar="RUN.JSON",
        help="repeat a run: its inputs, with its options and its models",
    )
    cluster = parser.add_argument_group("many machines (pip install breastusai[cluster])")
    cluster.add_argument(
        "--scheduler", default="", metavar="ADDRESS", help="of a Dask scheduler whose workers do the work"
    )
    cluster.add_argument("--slurm", type=int, metavar="N", help="start so many workers as Slurm jobs")
    cluster.add_argument(
        "--slurm-option", action="append", default=[], metavar="OPTION", help="a line for their #SBATCH headers"
    )
    cluster.add_argument("--slurm-cores", type=int, default=_SLURM["slurm_cores"], metavar="N", help="cores of each (default: 4)")
    cluster.add_argument("--slurm-memory", default=_SLURM["slurm_memory"], metavar="SIZE", help="memory of each (default: 16GB)")
    cluster.add_argument(
        "--slurm-walltime", default=_SLURM["slurm_walltime"], metavar="HH:MM:SS", help="how long each runs (default: 04:00:00)"
    )
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    from .run import failed_inputs, run
    from .run_manifest import current_folder

    current_folder()  # relative names are nothing where it was removed
    ways = [bool(args.inputs), args.retry_failed, args.from_manifest is not None]
    if sum(ways) != 1:
        raise UsageError("Give inputs, or --retry-failed, or --from-manifest; one of the three.")
    options, names = _options(args), args.inputs
    if args.retry_failed:
        names = failed_inputs(options.output)
        if not names:
            print(f"Nothing failed in {options.output}.")
            return OK
    with show_progress(args.progress, args.quiet, without_terminal="lines") as (progress, log):
        for note in _passed_over(args):
            log(f"Note: {note}")
        if args.from_manifest is not None:
            options, names = _repeated(args, options, log)
        elif args.retry_failed:
            options = _retried(args, options, log)
        check_models(_needed_models(options.workup))
        result = run(names, options, progress, log, retry=args.retry_failed)
    try:
        if not args.quiet:
            _print_results(result, options.output)
        for failure in result.failures[:_FAILURES]:
            _error(failure.message)
        if len(result.failures) > _FAILURES:
            _error(f"... and {len(result.failures) - _FAILURES} more, in {options.output / 'failures.csv'}.")
        sys.stdout.flush()
    except OSError:
        if not result.cancelled:
            raise
        to_nowhere(sys.stdout, sys.stderr)  # the terminal was what ended the run
    if result.cancelled:
        return CANCELLED
    return FAILED if result.failures else OK


def _needed_models(workup: WorkupOptions) -> dict[str, str]:
    """Task -> name of the models that are needed whatever the inputs are, or that are named; of volumes there may be none."""
    every = {**workup.models("segment"), **workup.models("detect")}
    return {task: name for task, name in every.items() if name or task == "segment"}


def _options(args: argparse.Namespace) -> RunOptions:
    from .run_input import RunOptions
    from .workup import HeatmapOptions, WorkupOptions

    if args.jobs < 0:
        raise UsageError(f"--jobs is {args.jobs}; it must be 0 or more.")
    if args.jobs == 0 and (args.time_limit or args.memory_limit):
        raise UsageError("--jobs 0 works in this very process, which cannot end itself; limits need --jobs 1 or more.")
    if args.parquet:
        from .run_table import need_parquet

        need_parquet()
    workup = WorkupOptions(
        args.model,
        args.device,
        args.refine,
        args.lesions or "central",
        args.threshold,
        args.minimum_score,
        detection=detection_options(args, DETECT),
        segmentation=None if args.no_outlines else segmentation_options(args, SEGMENT_3D),
        grading=None if args.no_grades else grading_options(args, GRADE),
        heatmap=None if args.no_heatmap else HeatmapOptions(args.heatmap_model),
    )
    workup.check()
    slurm = None
    if args.slurm is not None:
        from .slurm import SlurmOptions

        slurm = SlurmOptions(
            args.slurm, args.slurm_cores, args.slurm_memory, args.slurm_walltime, tuple(args.slurm_option)
        )
    return RunOptions(
        output=args.output,
        workup=workup,
        jobs=max(1, args.jobs),
        overwrite=args.overwrite,
        spacing_mm=args.spacing,
        frame=args.frame,
        max_pixels=args.max_pixels,
        scene=args.scene,
        debug=args.debug,
        parquet=args.parquet,
        dicom=options_of(args).names,
        anonymize=args.anonymize,
        key_file=args.key_file,
        isolate=args.jobs > 0,
        time_limit_s=args.time_limit,
        memory_limit_bytes=args.memory_limit,
        scheduler=args.scheduler,
        slurm=slurm,
    )


def _passed_over(args: argparse.Namespace) -> list[str]:
    """Sentences on options of a part of the work that is switched off; a script may well name its models at each call."""
    from .workup_options import GradingOptions, SegmentationOptions

    device = args.device
    notes = [
        f"--no-{switch} is given, so that the options of the {switch} do nothing."
        for switch, given in (
            ("outlines", args.no_outlines and segmentation_options(args, SEGMENT_3D) != SegmentationOptions(device=device)),
            ("grades", args.no_grades and grading_options(args, GRADE) != GradingOptions(device=device)),
            ("heatmap", args.no_heatmap and bool(args.heatmap_model)),
        )
        if given
    ]
    if args.slurm is None and any(getattr(args, name) != value for name, value in _SLURM.items()):
        notes.append("No --slurm N is given, so that its options do nothing.")
    return notes


def _repeated(args: argparse.Namespace, given: RunOptions, log) -> tuple[RunOptions, list[str]]:
    """Options and inputs of the run that is to be repeated; how the work is done is said anew."""
    from .run_manifest import HOW, read_manifest, used_models

    plain = type(given)(output=given.output, workup=type(given.workup)(device=given.workup.device))
    if args.lesions is not None or any(
        getattr(given, name) != getattr(plain, name)
        for name in ("workup", "spacing_mm", "frame", "max_pixels", "scene", "dicom")
    ):
        raise UsageError("--from-manifest brings the options that change results; leave them out.")
    manifest = read_manifest(args.from_manifest)
    options = manifest.run_options(**{name: getattr(given, name) for name in HOW})
    if args.device != "auto":
        options = replace(options, workup=replace(options.workup, device=args.device))
    for difference in manifest.differences(used_models(options)):
        log(f"Note: {difference}")
    return options, manifest.inputs()


def _retried(args: argparse.Namespace, given: RunOptions, log) -> RunOptions:
    """Options of the run whose failures are to be tried again, with those that were given now."""
    from .run import failed_entries
    from .run_manifest import read_manifest
    from .run_retry import failed_otherwise, options_again

    said = () if args.lesions is None else ("lesions",)
    manifest = read_manifest(given.output)
    options, notes = options_again(manifest, given, said)
    for note in (*notes, *failed_otherwise(manifest, options, failed_entries(given.output))):
        log(note)
    return options


def _print_results(result: RunResult, output: Path) -> None:
    from .run_index import INDEX

    done = (r for r in result.results if r.study is not None)
    rows = [tuple(map(on_terminal, _table_row(r))) for r in islice(done, _TABLE_ROWS)]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    n = result.counts
    more = n.with_lesion + n.without_lesion - len(rows)
    if more > 0:
        print(f"... and {more} more in {output / 'summary.csv'}")
    skipped = f" ({result.skipped} of them finished earlier)" if result.skipped else ""
    print(
        f"{n.inputs} input{'s' if n.inputs != 1 else ''}{skipped}: {n.with_lesion} with a lesion, "
        f"{n.without_lesion} without, {n.failed} failed."
    )
    _print_left(result)
    print(f"Results: {output / INDEX}")
    print(RESEARCH_USE)


def _print_left(result: RunResult) -> None:
    """What of the given folders is no input, and why."""
    from .inputs import OF_A_RUN

    folders = [path for path, reason in result.reasons.items() if reason == OF_A_RUN]
    runs = set(folders)
    files = [path for path in result.left if path not in runs]
    if files:
        names = ", ".join(path.name for path in files[:3]) + (", ..." if len(files) > 3 else "")
        print(on_terminal(f"Left out, as not images: {result.left_count - len(folders)} ({names})"))
        dicom = [path for path in result.reasons if path not in runs]
        for path in dicom[:3]:
            print(on_terminal(f"  {path.name}: {result.reasons[path]}"))
        if len(dicom) > 3:
            print(f"  and {len(dicom) - 3} more DICOM files; run.json has the reasons (left_because)")
    if folders:
        names = ", ".join(map(str, folders[:3])) + (", ..." if len(folders) > 3 else "")
        hold = "1 folder holds results of a run and was" if len(folders) == 1 else f"{len(folders)} folders hold results of runs and were"
        print(on_terminal(f"{hold} not looked into: {names}"))


def _table_row(result: Result) -> tuple[str, str, str]:
    from .grade_terms import stated_category
    from .run_index import key_figure

    first = next(iter(result.study.findings), None)
    if first is None:
        return Path(result.source).name, result.study.summary, ""
    judged = "" if first.malignancy is None else f", malignancy {first.malignancy:.2f}"
    graded = f", BI-RADS {stated_category(first.birads)}" if first.birads else ""
    return Path(result.source).name, result.study.summary, f"score {first.score:.2f}{key_figure(first)}{judged}{graded}"


def _error(sentence: str) -> None:
    # Errors come after what was printed before, also where both streams are one file.
    sys.stdout.flush()
    print(f"error: {on_terminal(sentence)}", file=sys.stderr, flush=True)


def _seconds(text: str) -> float:
    """
    >>> _seconds("90"), _seconds("1.5m"), _seconds("2h")
    (90.0, 90.0, 7200.0)
    """
    return _quantity(text, _SECONDS, "90, 10m or 1h")


def _bytes(text: str) -> int:
    """
    >>> _bytes("900M"), _bytes("8GB")
    (943718400, 8589934592)
    """
    return int(_quantity(text.lower().removesuffix("b").removesuffix("i"), _UNITS, "900M or 8G"))


def _quantity(text: str, units: dict[str, int], example: str) -> float:
    number = text.strip().lower()
    unit = number[-1:] if number[-1:].isalpha() else ""
    try:
        value = float(number.removesuffix(unit)) * units[unit]
    except (ValueError, KeyError):
        raise argparse.ArgumentTypeError(f"{text!r} is not understood; write {example}") from None
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not possible; write {example}")
    return value
