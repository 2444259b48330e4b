"""What the commands for one image have in common: read it, work, write the study, say what was found."""

from __future__ import annotations

import argparse
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import RESEARCH_USE
from .errors import DataError, OtherSpacingError, OutputError, UsageError
from .progress import Progress, show_progress
from .run_lock import run_lock

if TYPE_CHECKING:
    from .findings import Finding, Study
    from .image import LoadedImage

_LOCK = ".lock"
_PATIENCE_S = 60.0  # another command writes a moment


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

    Raises
    ------
    UsageError : the folder of results is a run's; nothing was done.
    """
    from .workup import trained_on_phantoms

    _refuse_a_run_s(args.output)
    with show_progress(args.progress, args.quiet) as (progress, log):
        progress(0.0, "reading")
        loaded, record = _read(args.input, args.spacing, earlier)
        known = (args.output, args.input, loaded, record["input"].get("sha256"))
        _folder(*known)  # what speaks against it is said before the work
        study = work(loaded, lambda fraction, message: progress(0.05 + 0.9 * fraction, message))
        image = replace(study.image, path=os.path.abspath(loaded.path))  # the command may be given in another folder next
        study = replace(study, image=image, provenance=_with_record(study.provenance, record))
        with run_lock(args.output / _LOCK, _PATIENCE_S):  # another command may give the same name to another image by now
            folder = _folder(*known)
            _write(study, folder)
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


def findings_for(args: argparse.Namespace, earlier: Study, loaded: LoadedImage) -> tuple[Finding, ...]:
    """The findings of an earlier result on the image's grid, see `same_pixels.findings_on`; where they do not fit, with the option
    that cures it."""
    from .same_pixels import findings_on

    try:
        return findings_on(earlier, loaded.image, str(args.input), spacing_known=loaded.spacing_known)
    except OtherSpacingError as error:
        option = f"--spacing {' '.join(f'{mm:g}' for mm in error.made_on)}" if error.made_on else ""
        if not option and args.spacing is not None:
            option = "or leave out --spacing"
        # Another program, such as 3D Slicer, shows the sentence to a person who gives no options.
        if not option or args.progress == "json":
            raise
        raise DataError(f"{str(error).removesuffix('.')} ({option}).") from error


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


def _refuse_a_run_s(output: Path) -> None:
    """UsageError where a run keeps its results: its tables and reports would no longer go with them."""
    from .inputs import read_run

    if read_run(output):
        raise UsageError(f"{output} holds the results of a run; choose another folder for --output.")


def _folder(output: Path, named: Path, loaded: LoadedImage, sha256: str | None) -> Path:
    """The folder of results for an image: the one that it has, or a new one, named after the file or folder that was named."""
    from .inputs import Source, name_folders
    from .run_input import finished_folders, read_finished

    taken = {}
    for folder in finished_folders(output):
        study = read_finished(folder)
        if study is None:
            continue
        if _is_of(study, loaded, sha256):
            if study.provenance.get("run"):
                raise UsageError(f"{folder} is the result of a run; choose another folder for --output.")
            return folder
        taken[folder.name] = ""
    where = Path(os.path.abspath(named))
    # The name comes from what was named; the hash in the longest names tells images apart that lie in one folder, too.
    unique = where.with_name(f"{where.name} {loaded.path.name} {len(loaded.files)}") if where.name else where
    source = Source(unique, str(named), Path(where.name or "image"))
    return output / name_folders([source], taken)[source.path]


def _is_of(study: Study, loaded: LoadedImage, sha256: str | None) -> bool:
    """Whether a result is this input's: of the same file, or of the series that has the same first file.

    One file of a series may be an input by itself. Where an image lies tells it, not its bytes: a file that was mended is the same
    input, and a copy of a file elsewhere is another.
    """
    before = study.provenance.get("input", {})
    if not before:  # earlier versions did not keep it; a series and its first file differ in size
        return study.image.size == loaded.image.GetSize() and _same_path(study, loaded)
    if (before.get("files", 1) > 1) != (len(loaded.files) > 1):
        return False
    if not os.path.isabs(study.image.path) and "sha256" in before:
        # Earlier versions wrote the path as it was given, and nobody knows in which folder: here its bytes must do.
        return before["sha256"] == sha256
    return _same_path(study, loaded)


def _same_path(study: Study, loaded: LoadedImage) -> bool:
    return os.path.abspath(study.image.path) == os.path.abspath(loaded.path)


def _write(study: Study, folder: Path) -> None:
    """Write a study, all of it or nothing; no file of an older result stays beside it. Raises `OutputError`."""
    from .files import write_study
    from .run_input import move_results

    temporary = folder.with_name(f".tmp-{uuid.uuid4().hex[:12]}")
    try:
        write_study(study, temporary)
        move_results(temporary, folder)
    except OutputError as error:
        raise OutputError(str(error).replace(str(temporary), str(folder))) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
