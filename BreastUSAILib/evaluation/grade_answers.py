"""What grading models say of labelled images; shared by the choice of how they are pooled and by their evaluation."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import UsageError
from ..grade import GradeModels, GradeOptions, answers
from ..grade_pooling import SYSTEMS, Answers
from .grade_outlines import OUTLINES, FoundOutlines, outline
from .segmentation_data import Case, load_picture


def answers_on(
    cases: Sequence[Case],
    models: GradeModels,
    options: GradeOptions,
    which: str,
    found: FoundOutlines | None,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[Answers], list[bool]]:
    """What the models say of each case, and whether its outline was there (the whole image is looked at otherwise)."""
    said, outlined = [], []
    for number, case in enumerate(cases, start=1):
        seen = load_picture(case)
        mask = outline(case, which, found)
        said.append(answers(seen.pixels[seen.part], mask[seen.part], models, options, seen.pixel_aspect)[0])
        outlined.append(bool(mask.any()))
        if progress is not None:
            progress(number)
    return said, outlined


def outlines_for(which: Sequence[str], segmentation: str, cache: Path | None, device: str) -> FoundOutlines | None:
    """What finds the outlines, where any but the annotated ones are asked for."""
    from ..models.zoo import load

    if not set(which) & {"refined", "unrefined"}:
        return None
    return FoundOutlines(load(segmentation, "segment", device), cache)


def add_model_arguments(parser: argparse.ArgumentParser, which: str) -> None:
    """The models and how they look, alike for pooling and evaluation; `which` of the three models are needed, in words."""
    for system in SYSTEMS:
        parser.add_argument(f"--{system}", metavar="ID|DIR", help=f"model of the task grade-{system} ({which})")
    parser.add_argument(
        "--outline",
        choices=OUTLINES,
        default="refined",
        help="of the lesion: found, with or without Chan-Vese, annotated, or none: the whole image",
    )
    parser.add_argument(
        "--segmentation", default="", metavar="ID|DIR", help="segmentation model; default: the one that ships"
    )
    parser.add_argument("--outline-cache", type=Path, metavar="DIR", help="keeps what the segmentation finds")
    parser.add_argument("--no-maps", action="store_true", help="without each other's activation maps (no REM)")
    parser.add_argument("--one-crop", action="store_true", help="one crop of each lesion instead of several (no MIP)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")


def models_of(args: argparse.Namespace, shipped: bool = False) -> GradeModels:
    """The models that the command line names. Where it names none: those that ship, if `shipped`, else UsageError."""
    from ..models import catalog
    from ..models.zoo import load

    names = {s: name for s in SYSTEMS if (name := getattr(args, s))}
    if not names and shipped:
        names = {s: "" for s in SYSTEMS if catalog.ships(f"grade-{s}")}
    if not names:
        raise UsageError(f"No grading model is named; give one or more of {', '.join(f'--{s}' for s in SYSTEMS)}, each an id or a folder.")
    return GradeModels(**{s: load(name, f"grade-{s}", args.device) for s, name in names.items()})


def options_of(args: argparse.Namespace) -> GradeOptions:
    return GradeOptions(enhance=not args.no_maps, several=not args.one_crop)
