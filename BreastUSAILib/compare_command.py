"""``breastusai compare``: the findings of two examinations of a breast side by side."""

from __future__ import annotations

import argparse
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from . import RESEARCH_USE, same_person
from .analysed import OPTION, OPTION_HELP, OTHER_FILE, check, compared, cure, difference, not_checked
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
    parser.add_argument(OPTION, action="store_true", help=OPTION_HELP)
    parser.add_argument(same_person.OPTION, action="store_true", help=same_person.OPTION_HELP)
    parser.add_argument("--laterality", choices=("R", "L"), default="", help="which breast, where the files do not say; refused where they say the other one")
    parser.add_argument("--quiet", "-q", action="store_true", help="print errors only")


def main(args: argparse.Namespace) -> int:
    from .atomic import write_text
    from .breast_position import NIPPLE, check_side, side_of, with_positions
    from .comparison import compare, comparison_csv
    from .comparison_page import comparison_html
    from .files import read_study

    folders = [study_folder(folder) for folder in (args.earlier, args.later)]
    if folders[0].resolve() == folders[1].resolve():
        raise UsageError(f"{folders[0]} is given twice; give the results of two examinations.")
    studies = [read_study(folder) for folder in folders]
    if _same_image(*studies):
        raise UsageError(f"{folders[0]} and {folders[1]} are results of the very same image; give the results of two examinations.")
    for study in studies:
        check_side(study, args.laterality)
    nipples = (args.earlier_nipple, args.later_nipple)
    studies = [
        s if n is None else with_positions(s, n, args.laterality or side_of(s)) for s, n in zip(studies, nipples, strict=True)
    ]
    if any(n is not None for n in nipples) and not all(s.provenance.get(NIPPLE) for s in studies):
        raise UsageError("The nipple is known in one of the two volumes only; give --earlier-nipple and --later-nipple.")
    named = ((args.earlier_image, "--earlier-image"), (args.later_image, "--later-image"))
    checked = [_original(s, *image, args.other_file) for s, image in zip(studies, named, strict=True)]
    originals = [path for path, _ in checked]
    dates = [None if path is None else _date(path) for path in originals]
    person = same_person.check(*originals, args.same_person)
    days, told = _days(args.days, dates)
    comparison = compare(*studies, limit_mm=args.limit, days=days)
    comparison = replace(comparison, notes=(*person, *told, *comparison.notes))
    images = [_image(s, path, bool(given)) for s, path, (given, _) in zip(studies, originals, named, strict=True)]
    page = comparison_html(comparison, *images, names=tuple("" if d is None else d.isoformat() for d in dates))
    write_text(args.output / TABLE, comparison_csv(comparison))
    write_text(args.output / PAGE, page)
    if not args.quiet:
        for pair in comparison.pairs:
            growth = comparison.growth(pair)
            size = (
                ""
                if growth is None
                else f"  longest {growth.diameters_mm[0][0]:.1f} -> {growth.diameters_mm[0][1]:.1f} mm, volume {round(growth.volume_change_percent):+d} %"
            )
            print(f"{pair.name}{size}")
        print(comparison.summary)
        print(f"Results: {args.output / PAGE}")
        for note in (*(note for _, notes in checked for note in notes), *comparison.notes):
            print(f"Note: {note}.")
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


def _days(given: int | None, dates: list[date | None]) -> tuple[int | None, tuple[str, ...]]:
    """The days between the examinations, as given or else by their dates; and a note where the two differ by more than the hours of a day
    can explain. Raises `UsageError` where the dates are in the wrong order, also where the days are given."""
    from .comparison import days_between

    known = days_between(*dates)
    if given is None or known is None or abs(given - known) <= 1:
        return known if given is None else given, ()
    return given, (f"--days says {given} between the examinations and the dates in their files {known}; {given} was taken",)


def _same_image(earlier: Study, later: Study) -> bool:
    """Whether both are of the same file, or of the same pixels."""
    before, after = (study.provenance.get("input") or {} for study in (earlier, later))
    return any(before.get(name) and before[name] == after.get(name) for name in ("sha256", "pixels_sha256"))


def _date(path: Path) -> date | None:
    from .study_image import examination_date

    return examination_date(path)


def _original(study: Study, given: Path | None, option: str, other_file: bool) -> tuple[Path | None, tuple[str, ...]]:
    """Where a study's volume is; and what is to be said of it. None where the file under its path is another one by now, whose pictures and
    date would be those of another examination.

    Raises
    ------
    DataError : the user named another file (`analysed.check`).
    ImageError : the file that the user named cannot be read.
    """
    path = given or Path(study.image.path)
    if not path.exists():
        return path, ()  # reading it says so, where the user named it
    if given is not None:
        same = check(study, path, option, other_file).same
    else:
        try:
            match = compared(study, path)
        except BreastUSAIError:
            return path, ()  # `_image` leaves it out
        same = match.same
        if same is False and not other_file:
            return None, (f"{difference(study, path, match)}, so neither its pictures nor its date are used; {cure(option)}",)
    if same is None:
        return path, (not_checked(path),)
    return path, () if same else (f"{path}: {OTHER_FILE}",)


def _image(study: Study, path: Path | None, asked: bool) -> sitk.Image | None:
    """The volume on the study's grid; None where it is not there as it was, unless the user named it."""
    from .study_image import read_study_image

    if path is None or (not path.exists() and not asked):
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
