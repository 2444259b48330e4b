"""``breastusai compare``: the findings of two examinations of a breast side by side."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from . import RESEARCH_USE
from .comparison import LIMIT_MM
from .errors import BreastUSAIError, DataError, UsageError

if TYPE_CHECKING:
    import SimpleITK as sitk

    from .findings import Study

PAGE, TABLE = "comparison.html", "comparison.csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Compare the results of two examinations of the same breast in the same view: findings are matched by position, their growth is "
        f"tabled ({TABLE}) and shown ({PAGE})."
    )
    parser.epilog = RESEARCH_USE
    for side in ("earlier", "later"):
        parser.add_argument(
            side, type=Path, metavar=side.upper(), help=f"folder of results of the {side} volume (with its study.json)"
        )
    parser.add_argument("--output", "-o", required=True, type=Path, metavar="DIR", help="folder for the comparison")
    parser.add_argument(
        "--limit",
        type=float,
        default=LIMIT_MM,
        metavar="MM",
        help=f"findings further apart are not the same (default: {LIMIT_MM:g})",
    )
    parser.add_argument(
        "--days",
        type=int,
        metavar="N",
        help="between the examinations (default: by the dates in the DICOM files, if any)",
    )
    for side in ("earlier", "later"):
        parser.add_argument(
            f"--{side}-nipple",
            nargs=3,
            type=float,
            metavar=("X", "Y", "Z"),
            help=f"the nipple in the {side} volume, LPS mm",
        )
        parser.add_argument(
            f"--{side}-image",
            type=Path,
            metavar="FILE",
            help=f"the {side} volume (file, or folder of a series), where it is not where it was",
        )
    parser.add_argument("--laterality", choices=("R", "L"), default="", help="which breast, where the files do not say")
    parser.add_argument("--quiet", "-q", action="store_true", help="print errors only")


def main(args: argparse.Namespace) -> int:
    from .atomic import write_text
    from .breast_position import NIPPLE, with_positions
    from .comparison import compare, comparison_csv
    from .comparison_page import comparison_html
    from .files import read_study

    folders = [study_folder(folder) for folder in (args.earlier, args.later)]
    if folders[0].resolve() == folders[1].resolve():
        raise UsageError(f"{folders[0]} is given twice; give the results of two examinations.")
    studies = [read_study(folder) for folder in folders]
    nipples = (args.earlier_nipple, args.later_nipple)
    studies = [s if n is None else with_positions(s, n, args.laterality) for s, n in zip(studies, nipples, strict=True)]
    if any(n is not None for n in nipples) and not all(s.provenance.get(NIPPLE) for s in studies):
        raise UsageError("The nipple is known in one of the two volumes only; give --earlier-nipple and --later-nipple.")
    originals = [
        given or Path(s.image.path) for given, s in zip((args.earlier_image, args.later_image), studies, strict=True)
    ]
    dates = [_date(path) for path in originals]
    comparison = compare(*studies, limit_mm=args.limit, days=_days(args.days, dates))
    images = [
        _image(s, path, bool(given))
        for s, path, given in zip(studies, originals, (args.earlier_image, args.later_image), strict=True)
    ]
    page = comparison_html(comparison, *images, names=tuple("" if d is None else d.isoformat() for d in dates))
    write_text(args.output / TABLE, comparison_csv(comparison))
    write_text(args.output / PAGE, page)
    if not args.quiet:
        for pair in comparison.pairs:
            growth = comparison.growth(pair)
            size = (
                ""
                if growth is None
                else f"  longest {growth.diameters_mm[0][0]:.1f} -> {growth.diameters_mm[0][1]:.1f} mm, volume {growth.volume_change_percent:+.0f} %"
            )
            print(f"{pair.name}{size}")
        print(comparison.summary)
        print(f"Results: {args.output / PAGE}")
        print(RESEARCH_USE)
    return 0


def study_folder(path: Path) -> Path:
    """The folder with the study.json that a person means: it itself, the file's, or the only one right below.

    Raises
    ------
    DataError : there is none, or several.
    """
    from .files import STUDY
    from .run_input import finished_folders

    if path.name == STUDY and path.is_file():
        return path.parent
    if (path / STUDY).is_file():
        return path
    found = finished_folders(path) if path.is_dir() else []
    if not found:
        raise DataError(f"{path} holds no {STUDY}; give the folder of one input's results, as breastusai run makes it.")
    if len(found) > 1:
        names = ", ".join(f.name for f in found[:5]) + (", ..." if len(found) > 5 else "")
        raise DataError(f"{path} holds the results of {len(found)} inputs; give one of them: {names}.")
    return found[0]


def _days(given: int | None, dates: list[date | None]) -> int | None:
    from .comparison import days_between

    return given if given is not None else days_between(*dates)


def _date(path: Path) -> date | None:
    from .study_image import examination_date

    return examination_date(path)


def _image(study: Study, path: Path, asked: bool) -> sitk.Image | None:
    """The volume on the study's grid; None where it is not there as it was, unless the user named it."""
    from .study_image import read_study_image

    if not path.exists() and not asked:
        return None
    try:
        image = read_study_image(study, path).image
    except BreastUSAIError:
        if asked:
            raise
        return None  # the results are whole without it; the page says that there are no pictures of it
    # A spacing that was given by hand is in the study alone.
    image.SetSpacing(study.image.spacing)
    image.SetOrigin(study.image.origin)
    image.SetDirection(study.image.direction)
    return image
