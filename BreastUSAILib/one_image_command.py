"""What the commands for one image have in common: read it, work, write the study, say what was found."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from . import RESEARCH_USE
from .progress import Progress, show_progress

if TYPE_CHECKING:
    from .findings import Finding, Study
    from .image import LoadedImage


def analyse(
    args: argparse.Namespace,
    work: Callable[[LoadedImage, Progress], Study],
    sentence: Callable[[Finding], str],
) -> int:
    """Analyse one image; the exit code.

    Parameters
    ----------
    args : those of `command_arguments.add_one_image`.
    work : what is done with the image.
    sentence : a finding in a line or more.
    """
    from .files import write_study
    from .image import read_image
    from .inputs import Source, name_folders
    from .workup import trained_on_phantoms

    with show_progress(args.progress, args.quiet) as (progress, log):
        progress(0.0, "reading")
        loaded = read_image(args.input, spacing_mm=args.spacing)
        study = work(loaded, lambda fraction, message: progress(0.05 + 0.9 * fraction, message))
        path = Path(os.path.abspath(args.input))  # "." and ".." have no name of their own
        source = Source(path, str(args.input), Path(path.name or "image"))
        folder = args.output / name_folders([source], {})[source.path]
        write_study(study, folder)
        progress(1.0, "done")
        for finding in study.findings:
            log(sentence(finding))
        for trained in trained_on_phantoms(study):
            log(f"Trained on phantoms, not on patients: {trained}.")
        for note in study.provenance["notes"]:
            log(f"Note: {note}.")
        log(f"{study.summary} Results: {folder}")
        log(RESEARCH_USE)
    return 0
