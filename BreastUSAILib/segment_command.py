"""``breastusai segment``: outline lesions of one ABUS volume that were found before, and write them as a study."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from . import RESEARCH_USE
from .errors import DataError, ImageError, UsageError
from .models.devices import NAMES as DEVICES
from .progress import add_progress_arguments, show_progress

if TYPE_CHECKING:
    import SimpleITK as sitk

    from .workup import SegmentationRequest

TASK = "segment-3d"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Outline, judge and measure lesions of an ABUS volume: those in boxes that were drawn in 3D Slicer, those that "
        "were clicked on, or those that breastusai detect found. 2D images: breastusai run."
    )
    parser.add_argument("input", type=Path, metavar="VOLUME", help="an ABUS volume")
    parser.add_argument("--output", "-o", required=True, type=Path, metavar="DIR", help="folder for the results")
    where = parser.add_argument_group("where the lesions are (one or more of these)")
    where.add_argument(
        "--boxes", action="append", default=[], type=Path, metavar="F.mrk.json",
        help="markups file of 3D Slicer: its ROIs, and the points of its point lists",
    )  # fmt: skip
    where.add_argument(
        "--box", action="append", default=[], type=_six, metavar="X,Y,Z,DX,DY,DZ",
        help="centre and sides of a box along the volume's axes, mm",
    )  # fmt: skip
    where.add_argument(
        "--point", action="append", default=[], type=_three, metavar="X,Y,Z",
        help="a point in a lesion, mm, LPS (write --point=-3,4,5 where it begins with a minus)",
    )  # fmt: skip
    where.add_argument("--ras", action="store_true", help="--box and --point are RAS, as 3D Slicer shows them")
    where.add_argument(
        "--findings", type=Path, metavar="DIR|study.json", help="what breastusai detect found in this volume"
    )
    parser.add_argument("--model", default="", metavar="ID|DIR", help="a model that ships, or the folder of your own")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where the network runs (default: auto)")
    parser.add_argument("--threshold", type=float, metavar="P", help="probability above which a voxel is lesion")
    parser.add_argument(
        "--iterations", type=int, metavar="N", help="passes of the network, 0 to 4 (default: the model's)"
    )
    parser.add_argument(
        "--no-uncertainty",
        dest="uncertainty",
        action="store_false",
        help="one look instead of four mirror images: faster",
    )
    refine = parser.add_mutually_exclusive_group()
    refine.add_argument("--refine", action="store_true", default=None, help="let Chan-Vese follow the border")
    refine.add_argument("--no-refine", dest="refine", action="store_false", help="keep the network's border")
    parser.add_argument(
        "--spacing",
        nargs=3,
        type=float,
        metavar=("X", "Y", "Z"),
        help="mm of a voxel, where the file is silent or wrong",
    )
    add_progress_arguments(parser)


def _numbers(text: str, count: int) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.replace(";", ",").split(","))
    except ValueError:
        values = ()
    if len(values) != count or not all(math.isfinite(v) for v in values):
        raise argparse.ArgumentTypeError(f"{text!r} is not {count} numbers with commas between them")
    return values


def _three(text: str) -> tuple[float, ...]:
    return _numbers(text, 3)


def _six(text: str) -> tuple[float, ...]:
    return _numbers(text, 6)


def main(args: argparse.Namespace) -> int:
    from .files import write_study
    from .image import read_image
    from .inputs import Source, name_folders
    from .models.zoo import read_verified, resolve
    from .workup import SegmentationOptions, run_segmentation

    options = SegmentationOptions(
        args.model, args.device, args.threshold, args.iterations, args.uncertainty, args.refine
    )
    options.segment()  # refuses impossible options
    if not (args.boxes or args.box or args.point or args.findings):
        raise UsageError("Say where the lesions are: --boxes, --box, --point or --findings.")
    if args.spacing is not None and not all(0 < s < float("inf") for s in args.spacing):
        raise UsageError(f"--spacing is {args.spacing}; each must be a positive number of millimetres.")
    # A model that is not there is told at once, before PyTorch is imported and the volume is read.
    read_verified(*resolve(args.model, TASK))
    with show_progress(args.progress, args.quiet) as (progress, log):
        progress(0.0, "reading")
        loaded = read_image(args.input, spacing_mm=args.spacing)
        requested = _requested(args, loaded.image)
        study = run_segmentation(
            loaded, requested, options, lambda fraction, message: progress(0.05 + 0.9 * fraction, message)
        )
        source = Source(args.input.absolute(), str(args.input), Path(args.input.name))
        folder = args.output / name_folders([source], {})[source.path]
        write_study(study, folder)
        progress(1.0, "done")
        for finding in study.findings:
            volume, diameter = (finding.measurements.get(name) for name in ("volume_ml", "major_diameter_mm"))
            size = "" if volume is None else f"  {volume:.2f} ml"
            size += "" if diameter is None else f"  longest diameter {diameter:.1f} mm"
            malignancy = "" if finding.malignancy is None else f"  malignancy {finding.malignancy:.2f}"
            log(f"{finding.id}{size or '  not outlined'}{malignancy}")
        for note in study.provenance["notes"]:
            log(f"Note: {note}.")
        log(f"{study.summary} Results: {folder}")
        log(RESEARCH_USE)
    return 0


def _requested(args: argparse.Namespace, image: sitk.Image) -> SegmentationRequest:
    """The lesions that the command line means, in a volume."""
    from .files import read_study
    from .findings import Box, Study
    from .markups import read_markups
    from .workup import SegmentationRequest

    if image.GetDimension() != 3:
        raise ImageError(f"{args.input} is a 2D image; outline its lesions with breastusai run.")
    signs = (-1.0, -1.0, 1.0) if args.ras else (1.0, 1.0, 1.0)
    boxes = [Box(_times(numbers[:3], signs), numbers[3:]) for numbers in args.box]
    points = [_times(numbers, signs) for numbers in args.point]
    for path in args.boxes:
        markups = read_markups(path)
        boxes += [box.along(image) for box in markups.boxes]
        points += markups.points
    findings = ()
    if args.findings is not None:
        if args.findings.is_dir():
            study = read_study(args.findings)
        else:
            try:
                text = args.findings.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise DataError(
                    f"{args.findings} cannot be read ({error}); name what breastusai detect wrote."
                ) from error
            study = Study.from_json(text, source=str(args.findings))
        if study.image.size != image.GetSize():
            raise DataError(
                f"{args.findings} is about a volume of {study.image.size} voxels, {args.input} has {image.GetSize()}; "
                "name the findings of this volume."
            )
        findings = study.findings
    return SegmentationRequest(tuple(findings), tuple(boxes), tuple(points))


def _times(values: tuple[float, ...], signs: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(v * s for v, s in zip(values, signs, strict=True))
