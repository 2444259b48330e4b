"""``breastusai heatmap``: what in one ABUS volume speaks for a lesion, as a volume and as findings, written as a study."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .command_arguments import add_heatmap, add_one_image, check_models, check_one_image, heatmap_options
from .findings import PEAK
from .one_image_command import analyse

if TYPE_CHECKING:
    from .findings import Finding, ImageInfo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_one_image(parser, "VOLUME", "an ABUS volume")
    add_heatmap(parser)


def main(args: argparse.Namespace) -> int:
    from .workup import run_heatmap

    options = heatmap_options(args)
    check_one_image(args)
    check_models(options.models())
    return analyse(args, lambda loaded, tell: run_heatmap(loaded, options, tell), sentence)


def sentence(finding: Finding, image: ImageInfo) -> str:
    """A hot spot in one line."""
    evidence = image.told_evidence(finding.evidence)
    place = ", ".join(f"{evidence[name]:.1f}" for name in PEAK)
    return f"{finding.id}  score {finding.score:.2f}  heat {evidence['heat_peak']:.2f} at ({place}) {'mm' if image.spacing_known else 'pixels'}"
