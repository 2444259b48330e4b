"""``breastusai segment``: outline lesions of one ABUS volume that were found before, and write them as a study."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from .command_arguments import add_one_image, add_segmentation, check_models, check_one_image, segmentation_options
from .errors import DataError, ImageError, UsageError
from .one_image_command import analyse, findings_for

if TYPE_CHECKING:
    from .findings import Finding, ImageInfo, Study
    from .image import LoadedImage
    from .workup import SegmentationRequest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Outline, judge and measure lesions of an ABUS volume: those in boxes that were drawn in 3D Slicer, those that "
        "were clicked on, or those that breastusai detect found. 2D images: breastusai run."
    )
    add_one_image(parser, "VOLUME", "an ABUS volume")
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
    add_segmentation(parser)


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
    from .workup import run_segmentation

    options = segmentation_options(args)
    if not (args.boxes or args.box or args.point or args.findings):
        raise UsageError("Say where the lesions are: --boxes, --box, --point or --findings.")
    check_one_image(args)
    check_models(options.models())
    earlier = None if args.findings is None else _earlier(args.findings)

    def work(loaded, tell):
        return run_segmentation(loaded, _requested(args, loaded, earlier), options, tell)

    return analyse(args, work, sentence, earlier)


def sentence(finding: Finding, image: ImageInfo) -> str:
    """A finding in one line."""
    known = image.spacing_known
    names = ("volume_ml", "major_diameter_mm") if known else ("volume_px3", "major_diameter_px")
    volume, diameter = (finding.measurements.get(name) for name in names)
    size = "" if finding.label is not None else "  not outlined"
    size += "" if volume is None else f"  {volume:.2f} ml" if known else f"  {volume:.0f} voxels"
    size += "" if diameter is None else f"  longest diameter {diameter:.1f} {'mm' if known else 'pixels'}"
    malignancy = "" if finding.malignancy is None else f"  malignancy {finding.malignancy:.2f}"
    return f"{finding.id}{size}{malignancy}"


def _earlier(path: Path) -> Study:
    """The study in a folder of results, or in a file (without its masks)."""
    from .files import read_study
    from .findings import Study

    if path.is_dir():
        return read_study(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); name what breastusai detect wrote.") from error
    return Study.from_json(text, source=str(path))


def _requested(args: argparse.Namespace, loaded: LoadedImage, earlier: Study | None) -> SegmentationRequest:
    """The lesions that the command line means, in a volume."""
    from .findings import Box
    from .markups import read_markups
    from .workup import SegmentationRequest

    image = loaded.image
    if image.GetDimension() != 3:
        raise ImageError(f"{args.input} is a 2D image; outline its lesions with breastusai run.")
    signs = (-1.0, -1.0, 1.0) if args.ras else (1.0, 1.0, 1.0)
    boxes = [Box(_times(numbers[:3], signs), numbers[3:]) for numbers in args.box]
    points = [_times(numbers, signs) for numbers in args.point]
    for path in args.boxes:
        markups = read_markups(path)
        boxes += [box.along(image) for box in markups.boxes]
        points += markups.points
    findings = () if earlier is None else findings_for(args, earlier, loaded)
    return SegmentationRequest(tuple(findings), tuple(boxes), tuple(points))


def _times(values: tuple[float, ...], signs: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(v * s for v, s in zip(values, signs, strict=True))
