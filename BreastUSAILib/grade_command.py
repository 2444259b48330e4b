"""``breastusai grade``: grade the lesions of one image, and write them as a study."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .command_arguments import add_grading, add_model, add_one_image, check_models, check_one_image, grading_options
from .grade_terms import stated_category
from .one_image_command import analyse, findings_for

if TYPE_CHECKING:
    from .findings import Finding, ImageInfo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Malignancy, BI-RADS category, solid nodule or not, and descriptors of the lesions of an image. A 2D image's lesions are found "
        "and outlined first, unless --findings names a result; those of a volume must be given."
    )
    add_one_image(parser, "IMAGE", "a 2D image, or an ABUS volume")
    parser.add_argument(
        "--findings",
        type=Path,
        metavar="DIR",
        help="result of an earlier run for this image, whose findings are graded",
    )
    models = parser.add_argument_group(
        "models (ids of models that ship, or folders of your own; default: those that ship)"
    )
    add_grading(models)
    add_model(models, help="the segmentation of 2D images; default: the one that ships")


def main(args: argparse.Namespace) -> int:
    from .files import read_study
    from .workup import run_grading

    options = grading_options(args, model=args.model)
    check_one_image(args)
    check_models(options.models())
    earlier = None if args.findings is None else read_study(args.findings)

    def work(loaded, tell):
        findings = None if earlier is None else findings_for(args, earlier, loaded)
        return run_grading(loaded, findings, options, tell)

    return analyse(args, work, sentence, earlier)


def sentence(finding: Finding, image: ImageInfo) -> str:
    """A finding's grade in one line, and its notes below."""
    parts = [finding.id]
    if finding.malignancy is not None:
        parts.append(f"malignancy {finding.malignancy:.2f}")
    if finding.birads:
        category = stated_category(finding.birads)
        parts.append(f"BI-RADS {category} ({finding.birads[category]:.2f})")
    if finding.solid_nodule is not None:
        parts.append(f"solid nodule {finding.solid_nodule:.2f}")
    return "\n".join(["  ".join(parts), *(f"    {note}" for note in finding.notes)])
