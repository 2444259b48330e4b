"""``breastusai detect``: find the lesions of one ABUS volume, and write them as a study."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import RESEARCH_USE
from .errors import UsageError
from .models.devices import NAMES as DEVICES
from .progress import add_progress_arguments, show_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=Path, metavar="VOLUME", help="an ABUS volume")
    parser.add_argument("--output", "-o", required=True, type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument("--model", default="", metavar="ID|DIR", help="a detection model that ships, or the folder of your own")
    parser.add_argument("--classifier", default="", metavar="ID|DIR", help="the second opinion on malignancy, likewise")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where the network runs (default: auto)")
    parser.add_argument("--threshold", type=float, metavar="P", help="report findings that score at least this; 0: all candidates")
    parser.add_argument("--maximum", type=int, metavar="N", help="report at most so many findings")
    parser.add_argument(
        "--spacing", nargs=3, type=float, metavar=("X", "Y", "Z"), help="mm of a voxel, where the file is silent or wrong"
    )
    add_progress_arguments(parser)


def main(args: argparse.Namespace) -> int:
    from .detect import DetectOptions
    from .files import write_study
    from .image import read_image
    from .inputs import Source, name_folders
    from .models.zoo import read_verified, resolve
    from .workup import DetectionOptions, run_detection, trained_on_phantoms

    DetectOptions(args.threshold, args.maximum)  # refuses impossible options
    if args.spacing is not None and not all(0 < s < float("inf") for s in args.spacing):
        raise UsageError(f"--spacing is {args.spacing}; each must be a positive number of millimetres.")
    # A model that is not there is told at once, before PyTorch is imported and the volume is read.
    for name, task in ((args.model, "detect"), (args.classifier, "lesion-classifier")):
        if name or task == "detect":
            read_verified(*resolve(name, task))
    options = DetectionOptions(args.model, args.classifier, args.device, args.threshold, args.maximum)
    with show_progress(args.progress, args.quiet) as (progress, log):
        progress(0.0, "reading")
        loaded = read_image(args.input, spacing_mm=args.spacing)
        study = run_detection(loaded, options, lambda fraction, message: progress(0.05 + 0.9 * fraction, message))
        source = Source(args.input.absolute(), str(args.input), Path(args.input.name))
        folder = args.output / name_folders([source], {})[source.path]
        write_study(study, folder)
        progress(1.0, "done")
        for finding in study.findings:
            malignancy = "" if finding.malignancy is None else f"  malignancy {finding.malignancy:.2f}"
            size = " x ".join(f"{s:.1f}" for s in finding.box.size)
            log(f"{finding.id}  score {finding.score:.2f}{malignancy}  {size} mm")
        for sentence in trained_on_phantoms(study):
            log(f"Trained on phantoms, not on patients: {sentence}.")
        for note in study.provenance["notes"]:
            log(f"Note: {note}.")
        log(f"{study.summary} Results: {folder}")
        log(RESEARCH_USE)
    return 0
