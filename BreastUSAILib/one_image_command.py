"""What the commands for one image have in common: read it, work, write the study, say what was found."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import RESEARCH_USE
from .progress import Progress, show_progress

if TYPE_CHECKING:
    from .findings import Finding, Study
    from .image import LoadedImage


def analyse(
    args: argparse.Namespace,
    work: Callable[[LoadedImage, Progress], Study],
    sentence: Callable[[Finding], str],
    earlier: Study | None = None,
) -> int:
    """Analyse one image; the exit code.

    Parameters
    ----------
    args : those of `command_arguments.add_one_image`.
    work : what is done with the image.
    sentence : a finding in a line or more.
    earlier : result of the same image that is gone on from; None where there is none. The image is read as it was then: with the
        spacing that was given by hand (unless there is another now), and the same frame.
    """
    from .files import write_study
    from .inputs import Source, name_folders
    from .workup import trained_on_phantoms

    with show_progress(args.progress, args.quiet) as (progress, log):
        progress(0.0, "reading")
        loaded, record = _read(args.input, args.spacing, earlier)
        study = work(loaded, lambda fraction, message: progress(0.05 + 0.9 * fraction, message))
        study = replace(study, provenance=_with_record(study.provenance, record))
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


def _read(
    path: Path, spacing_mm: Sequence[float] | None, earlier: Study | None
) -> tuple[LoadedImage, dict[str, Any]]:
    """The image; and what was read and how, as `run` keeps it in a study, by which the image is known and read again."""
    from .identity import identity
    from .image import read_image
    from .study_image import given_spacing, read_again

    frame = None
    if earlier is None:
        loaded = read_image(path, spacing_mm=spacing_mm)
    else:
        frame = earlier.provenance.get("options", {}).get("frame")
        spacing_mm = given_spacing(earlier, path) if spacing_mm is None else spacing_mm
        loaded = read_again(earlier, path, spacing_mm)
    options = {"spacing_mm": spacing_mm, "frame": frame}
    return loaded, {"input": identity(loaded.path, loaded.files), "options": options}


def _with_record(provenance: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """A study's provenance and what `_read` says."""
    return {**provenance, **record, "options": {**provenance.get("options", {}), **record["options"]}}
