"""``breastusai detect``: find the lesions of one ABUS volume, and write them as a study."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .command_arguments import add_detection, add_one_image, check_models, check_one_image, detection_options
from .one_image_command import analyse

if TYPE_CHECKING:
    from .findings import Finding, ImageInfo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_one_image(parser, "VOLUME", "an ABUS volume")
    add_detection(parser)


def main(args: argparse.Namespace) -> int:
    from .workup import run_detection

    options = detection_options(args)
    check_one_image(args)
    check_models(options.models())
    return analyse(args, lambda loaded, tell: run_detection(loaded, options, tell), sentence)


def sentence(finding: Finding, image: ImageInfo) -> str:
    """A finding in one line."""
    malignancy = "" if finding.malignancy is None else f"  malignancy {finding.malignancy:.2f}"
    size = " x ".join(f"{s:.1f}" for s in finding.box.size)
    return f"{finding.id}  score {finding.score:.2f}{malignancy}  {size} {'mm' if image.spacing_known else 'pixels'}"
