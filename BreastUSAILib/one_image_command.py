"""What the commands for one image have in common: read it, work, write the study, say what was found."""

from __future__ import annotations

import argparse
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import RESEARCH_USE
from .earlier import with_earlier
from .errors import DataError, OtherSpacingError, OutputError, UsageError
from .progress import Progress, show_progress
from .run_lock import run_lock

if TYPE_CHECKING:
    from .findings import Finding, ImageInfo, Study
    from .image import LoadedImage

_LOCK = ".lock"
_PATIENCE_S = 60.0  # another command writes a moment
_COMMANDS = {"segment-3d": "segment", "detect": "detect", "heatmap": "heatmap"}  # by the tasks of their models; those of grade have several
_COMMAND = "command"  # in the provenance of a study that goes on from another one: what made it
_MADE_ON = "findings_made_on"  # in a study's provenance: path and SHA-256 of the file that its findings were made on


def analyse(
    args: argparse.Namespace,
    work: Callable[[LoadedImage, Progress], Study],
    sentence: Callable[[Finding, ImageInfo], str],
    earlier: Study | None = None,
) -> int:
    """Analyse one image; the exit code.

    Parameters
    ----------
    args : those of `command_arguments.add_one_image`.
    work : what is done with the image.
    sentence : a finding of the image in a line or more.
    earlier : result of the same image that is gone on from; None where there is none. The image is read as it was then: with the
        spacing that was given by hand (unless there is another now), and the same frame.

    Raises
    ------
    UsageError : the folder of results is a run's; nothing was done.
    """
    from .run_input import input_files
    from .workup import trained_on_phantoms

    _refuse_a_run_s(args.output)
    with show_progress(args.progress, args.quiet) as (progress, log):
        progress(0.0, "reading")
        loaded, record = _read(args.input, args.spacing, args.max_pixels, earlier)
        known = (args.output, loaded, record["input"])
        _results_of(*known)  # what speaks against it is said before the work
        study = work(loaded, lambda fraction, message: progress(0.05 + 0.9 * fraction, message))
        image = replace(study.image, path=os.path.abspath(loaded.path))  # the command may be given in another folder next
        study = replace(study, image=image, provenance=_with_record(study.provenance, record))
        notes = study.provenance["notes"]
        made_on = {} if earlier is None else _made_on(earlier, record["input"])
        if earlier is not None and _command_of(study) == "grade":
            study = _with_maps(study, earlier)
        if made_on:
            kept, told = _on_another(made_on["path"], loaded)
            more = {_MADE_ON: made_on, "notes": [*notes, kept]}
            study, notes = replace(study, provenance={**study.provenance, **more}), [*notes, told]
        if earlier is not None:
            # One that keeps a finding's grade is no grading for it.
            study = replace(study, provenance={**study.provenance, _COMMAND: _command_of(study)})
            study = with_earlier(study, earlier)
        with run_lock(args.output / _LOCK, _PATIENCE_S):  # another command may give the same name to another image by now
            results = _results_of(*known)
            folder = _folder(args, loaded, study, results)
            _write(study, folder, input_files(Path(loaded.path), loaded.files))
        progress(1.0, "done")
        for finding in study.findings:
            log(sentence(finding, study.image))
        for trained in trained_on_phantoms(study):
            log(f"Trained on phantoms, not on patients: {trained}.")
        for note in notes:
            log(f"Note: {note}.")
        for other, command in results.mine.items():
            if folder not in results.mine:
                log(f"The result of breastusai {command} for this input stays in {other}.")
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
    path: Path, spacing_mm: Sequence[float] | None, max_pixels: int | None, earlier: Study | None
) -> tuple[LoadedImage, dict[str, Any]]:
    """The image; and what was read and how, as `run` keeps it in a study, by which the image is known and read again."""
    from .identity import identity, instance_digest, pixels_digest
    from .image import read_image
    from .study_image import given_spacing, read_again

    frame = None
    if earlier is None:
        loaded = read_image(path, spacing_mm=spacing_mm, max_pixels=max_pixels)
    else:
        frame = earlier.provenance.get("options", {}).get("frame")
        spacing_mm = given_spacing(earlier, path) if spacing_mm is None else spacing_mm
        loaded = read_again(earlier, path, spacing_mm, max_pixels)
    options = {"spacing_mm": spacing_mm, "frame": frame}
    kept = {**identity(loaded.path, loaded.files), "pixels_sha256": pixels_digest(loaded.image)}
    kept |= {"instance_sha256": digest} if (digest := instance_digest(Path(loaded.path))) else {}
    return loaded, {"input": kept, "options": options}


def _made_on(earlier: Study, known: Mapping[str, Any]) -> dict[str, str]:
    """Path and SHA-256 of the file that findings were made on, where it is another than the image at hand or was changed since; empty where
    it is this one or nobody can tell. A copy with the same pixels is no other file.

    known : `identity` of the image at hand, and its pixels'.
    """
    before = earlier.provenance.get("input", {})
    same = any(before.get(name) and before[name] == known.get(name) for name in ("sha256", "pixels_sha256"))
    if before.get("sha256") and known.get("sha256") and not same:
        return {"path": earlier.image.path, "sha256": before["sha256"]}
    return earlier.provenance.get(_MADE_ON, {})  # what it was gone on from itself


def _with_maps(study: Study, earlier: Study) -> Study:
    """A study that keeps the findings of an earlier one of the very same image, with the maps about these that it did not make anew. Where the
    networks of a grading looked goes with their grades alone."""
    before, now = (s.provenance.get("input", {}).get("pixels_sha256") for s in (earlier, study))
    same = before and before == now and replace(earlier.image, path="") == replace(study.image, path="")
    if not same or [f.id for f in earlier.findings] != [f.id for f in study.findings]:
        return study
    maps = {name: getattr(earlier, name) for name in ("heatmap", "uncertainty") if getattr(study, name) is None}
    return replace(study, **maps)


def _on_another(path: str, loaded: LoadedImage) -> tuple[str, str]:
    """The note on findings that were made on the file `path`: as the study keeps it, which names no file, as notes go along into de-identified
    copies; and for the screen."""
    if os.path.abspath(path) == os.path.abspath(loaded.path):
        return ("the file was changed since the findings were made",) * 2
    other = "another file than this one"
    return f"the findings were made on {other}", f"the findings were made on {path}, {other}"


def _with_record(provenance: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """A study's provenance and what `_read` says."""
    return {**provenance, **record, "options": {**provenance.get("options", {}), **record["options"]}}


def _refuse_a_run_s(output: Path) -> None:
    """UsageError where a run keeps its results: its tables and reports would no longer go with them."""
    from .inputs import read_run

    if read_run(output):
        raise UsageError(f"{output} holds the results of a run; choose another folder for --output.")


@dataclass(frozen=True)
class _Results:
    """What a folder of results holds: mine (folder -> command that made it) are the results of an image, others the names of all other folders."""

    mine: Mapping[Path, str]
    others: frozenset[str]


def _results_of(output: Path, loaded: LoadedImage, known: Mapping[str, Any]) -> _Results:
    """The results of an image, of which `_read` says `known`, in a folder. UsageError where one is a run's."""
    from .run_input import finished_folders, read_finished

    mine, others = {}, set()
    for folder in finished_folders(output):
        study = read_finished(folder)
        if study is None:
            continue
        if not _is_of(study, loaded, known):
            others.add(folder.name)
        elif study.provenance.get("run"):
            raise UsageError(f"{folder} is the result of a run; choose another folder for --output.")
        else:
            mine[folder] = _command_of(study)
    return _Results(mine, frozenset(others))


def _folder(args: argparse.Namespace, loaded: LoadedImage, study: Study, results: _Results) -> Path:
    """The folder of results for a study: that of the command's result of this image, or of the one that it goes on from; else a new one,
    named after the file or folder that was named, and after the command where another one's result of the image is there. A folder that holds
    anything else is not taken for one."""
    from .inputs import Source, name_folders, split_name
    from .run_input import names_of_others

    command = _command_of(study)
    for folder, made_by in results.mine.items():
        if made_by in ("", command):  # "": nobody can tell, as of what other programs write
            return folder
    for folder in results.mine:
        if _carries_on(study, getattr(args, "findings", None), folder):
            return folder
    where = Path(os.path.abspath(args.input))
    # The name comes from what was named; the hash in the longest names tells images apart that lie in one folder, too.
    unique = where.with_name(f"{where.name} {loaded.path.name} {len(loaded.files)}") if where.name else where
    stem, suffix = split_name(where.name or "image")
    within = Path(f"{stem}-{command}{suffix}" if results.mine else f"{stem}{suffix}")
    taken = dict.fromkeys((*results.others, *(folder.name for folder in results.mine)), "")
    source = Source(unique, str(args.input), within)
    return args.output / name_folders([source], taken, names_of_others(args.output, taken))[source.path]


def _command_of(study: Study) -> str:
    """The command that made a study, as it says, or by the tasks of its models; "" where they do not tell."""
    if study.provenance.get(_COMMAND):
        return str(study.provenance[_COMMAND])
    tasks = {str(model.get("task", "")) for model in study.provenance.get("models", ())}
    if any(task.startswith("grade-") for task in tasks):
        return "grade"
    return next((command for task, command in _COMMANDS.items() if task in tasks), "")


def _carries_on(study: Study, named: Path | None, folder: Path) -> bool:
    """Whether a study has all that another one in a folder has, as it goes on from it: its findings, and its maps where there are any.

    named : what --findings was given, the folder or a file in it.
    """
    from .files import ACTIVATION, HEATMAP, UNCERTAINTY
    from .run_input import read_finished

    if named is None or not os.path.exists(named):
        return False
    before = read_finished(folder)
    if before is None or not os.path.samefile(named if os.path.isdir(named) else named.parent, folder):
        return False
    ids = {finding.id for finding in study.findings}
    maps = ((HEATMAP, study.heatmap), (ACTIVATION, study.activation), (UNCERTAINTY, study.uncertainty))
    return all(f.id in ids for f in before.findings) and not any(m is None and (folder / name).exists() for name, m in maps)


def _is_of(study: Study, loaded: LoadedImage, known: Mapping[str, Any]) -> bool:
    """Whether a result is this input's: of the same file, or of the series that has the same first file.

    One file of a series may be an input by itself. Where an image lies tells it, not its bytes: a file that was mended is the same
    input, and a copy of a file elsewhere is another. But of two DICOM images with one path (the next CD) each is its own.
    """
    before = study.provenance.get("input", {})
    if not before:  # earlier versions did not keep it; a series and its first file differ in size
        return study.image.size == loaded.image.GetSize() and _same_path(study, loaded)
    if (before.get("files", 1) > 1) != (len(loaded.files) > 1):
        return False
    if not os.path.isabs(study.image.path) and "sha256" in before:
        # Earlier versions wrote the path as it was given, and nobody knows in which folder: here its bytes must do.
        return before["sha256"] == known.get("sha256")
    then, now = (kept.get("instance_sha256") for kept in (before, known))
    if then and now and then != now:
        return False
    return _same_path(study, loaded)


def _same_path(study: Study, loaded: LoadedImage) -> bool:
    return os.path.abspath(study.image.path) == os.path.abspath(loaded.path)


def _write(study: Study, folder: Path, inputs: Sequence[Path]) -> None:
    """Write a study, all of it or nothing; no file of an older result stays beside it, and none of `inputs` is replaced. Raises `OutputError`."""
    from .files import write_study
    from .run_input import move_results

    temporary = folder.with_name(f".tmp-{uuid.uuid4().hex[:12]}")
    try:
        write_study(study, temporary)
        move_results(temporary, folder, inputs)
    except OutputError as error:
        raise OutputError(str(error).replace(str(temporary), str(folder))) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
