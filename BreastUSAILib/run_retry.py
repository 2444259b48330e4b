"""What failed in earlier runs, found again as the inputs that it was, with the options that it had (``run --retry-failed``).

A record names an input by one file. Where that file was one of a series, the whole series is looked for anew, in the folders
where it lay: a slice that was missing may have been put there since.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .dicom_out import DicomOptions
from .errors import DataError
from .inputs import Found, Source
from .run_input import RunOptions
from .run_journal import FAILED, REDO, Entry
from .run_manifest import HOW, Manifest, absolute_models, known_options, used_models

if TYPE_CHECKING:
    from .workup import WorkupOptions

_NAMED = 5  # inputs in one sentence


def failed(entries: Iterable[Entry]) -> list[Entry]:
    """Those that failed when they were last worked on, or whose old results were to be replaced and were not."""
    return [entry for entry in entries if entry.status in (FAILED, REDO)]


def find_again(entries: Iterable[Entry]) -> Iterator[Found]:
    """The inputs of these entries, under the names that they had, with the files that they have now.

    A series of DICOM files that is none any more is an input with a `Source.trouble`: its first file alone would pass for an
    image of its own.
    """
    groups: dict[tuple[str, ...], list[Entry]] = {}  # no folder is sorted out twice
    for entry in entries:
        groups.setdefault(_folders(entry), []).append(entry)
    for folders, members in groups.items():
        series = _series_in(folders)
        yield Found(tuple(_source(entry, series) for entry in members))


def _folders(entry: Entry) -> tuple[str, ...]:
    """Where the files of an input may lie besides its own; empty where it is one file."""
    from .dicom_series import is_dicom

    if entry.series_in is not None:
        return entry.series_in
    return (os.path.dirname(entry.input),) if is_dicom(Path(entry.input)) else ()


def _series_in(folders: Sequence[str]) -> dict[Path, tuple[Path, ...]]:
    """File -> all files of its series, for those that are of one."""
    from .dicom_series import sort_out

    found = sort_out([path for folder in folders for path in _dicom_files(folder)]) if folders else None
    return {} if found is None else {path: i.files for i in found.inputs for path in i.files}


def _dicom_files(folder: str) -> list[Path]:
    from .dicom_series import is_dicom

    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        return []  # no series is found there then, and that is told
    return [path for name in names if os.path.isfile(path := Path(folder, name)) and is_dicom(path)]


def _source(entry: Entry, series: Mapping[Path, tuple[Path, ...]]) -> Source:
    path, shown = Path(entry.input), entry.shown or entry.input
    files, trouble = series.get(path, ()), ""
    if entry.series_in is None and files and files[0] != path:
        files = ()  # a series goes by its first file; the record does not say that this one was given by itself
    if entry.series_in and not files:
        trouble = (
            f"{shown} belongs to no series of DICOM files any more, as it did when it failed; put the files of the series "
            "back, or give their folder to breastusai run."
        )
    return Source(path, shown, Path(path.name), files, trouble)


# --------------------------------------------------------------------------------------------------- which options


def options_again(manifest: Manifest, given: RunOptions, said: Iterable[str] = ()) -> tuple[RunOptions, list[str]]:
    """The options of a run for its retry, where what was given with the retry wins; and sentences on what is not as it was.

    How the work is done is said anew, but for the de-identified copies: without them the folder of copies would lack what is retried.

    Parameters
    ----------
    given : the options of the retry; what is as by default was not given.
    said : fields of `WorkupOptions` that were given all the same.

    Raises
    ------
    DataError : the manifest was written by another version.
    """
    from .workup import WorkupOptions

    then = manifest.run_options(**{name: getattr(given, name) for name in HOW})
    device = given.workup.device  # every record has it: one that differs in nothing else was not given
    plain = RunOptions(given.output, WorkupOptions(device=device, **dict.fromkeys(said)))
    of_results = [f.name for f in fields(RunOptions) if f.name not in HOW]
    chosen = {name: _chosen(*(getattr(options, name) for options in (given, plain, then))) for name in of_results}
    if device != WorkupOptions().device:
        chosen["workup"] = replace(chosen["workup"], device=device)
    chosen["dicom"] = DicomOptions.of((*then.dicom, *given.dicom)).names  # an option each
    for name in ("anonymize", "key_file"):
        was = manifest.how.get(name)
        chosen[name] = getattr(given, name) or (was if isinstance(was, str) else None)
    options = replace(then, **chosen)
    others = _differences(then, options)
    told = [f"Other options than the run's: {', '.join(others)}."] if others else []
    told += [f"Note: {text}" for text in (*_other_models(manifest, then, options), *manifest.other_software())]
    return options, told


def failed_otherwise(manifest: Manifest, now: RunOptions, entries: Iterable[Entry]) -> list[str]:
    """A sentence for the inputs that failed in another run than the one whose options are taken, and with other ones than now.

    Parameters
    ----------
    manifest : of the run whose options are taken.
    now : the options of the retry (`options_again`).
    entries : what is retried; those of old records, which do not tell, pass for inputs of the run.
    """
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.failed_with, []).append(entry)
    of_run, sentences = manifest.run_options(output=now.output), []
    for text, members in groups.items():
        names = ", ".join(entry.shown or entry.input for entry in members[:_NAMED])
        more = f" and {len(members) - _NAMED} more" if len(members) > _NAMED else ""
        try:
            known = known_options(absolute_models(json.loads(text), manifest.folder)) if text else manifest.options
            then = replace(manifest, options=known).run_options(output=now.output)
            others = _differences(then, now) if _differences(then, of_run) else []  # what was given now is told already
        except (DataError, ValueError, TypeError, AttributeError):
            others = ["those of another version, which run.json has as failed_with"]
        if others:
            who = "they" if len(members) > 1 else "it"
            sentences.append(
                f"Redone with other options than in the run where {who} failed: {names}{more} ({', '.join(others)})."
            )
    return sentences


def _chosen(given: Any, plain: Any, then: Any) -> Any:
    """What was given, or what was then where nothing was; of records field by field."""
    if given == plain:
        return then
    if given is None or then is None or not is_dataclass(given):
        return given
    values = {f.name: _chosen(*(getattr(record, f.name) for record in (given, plain, then))) for f in fields(given)}
    return replace(then, **values)


def _differences(then: Any, now: Any, within: str = "") -> list[str]:
    """The options that change results and are others now, as run.json calls them; where the networks run changes none."""
    found = []
    for f in fields(now):
        old, new = getattr(then, f.name), getattr(now, f.name)
        if f.name in HOW or f.name == "device" or old == new:
            continue
        name = f"{within}{f.name}"
        if is_dataclass(old) and is_dataclass(new):
            found += _differences(old, new, "" if name == "workup" else f"{name}.")
        elif is_dataclass(old) or is_dataclass(new):
            found.append(f"{name} {'left out' if new is None else 'not left out'}")
        else:
            found.append(f"{name} {_told(new)} instead of {_told(old)}")
    return found


def _told(value: Any) -> str:
    return "the default" if value in (None, "") else repr(value)


def _other_models(manifest: Manifest, then: RunOptions, now: RunOptions) -> list[str]:
    """A sentence for each model that goes by the same name as then, and is another one."""
    names_then, names_now = _model_names(then.workup), _model_names(now.workup)
    told = []
    for model in used_models(now):
        task = model["task"]
        were = [m for m in manifest.models if m["task"] == task]
        if were and names_then.get(task) == names_now.get(task) and model["sha256"] not in [m["sha256"] for m in were]:
            was = " and ".join(f"{m['id']} {m['version']} (SHA-256 {m['sha256'][:12]}...)" for m in were)
            told.append(f"the model for {task} is {model['id']} {model['version']} (SHA-256 {model['sha256'][:12]}...) here; it was {was} then.")
    return told


def _model_names(workup: WorkupOptions) -> dict[str, str]:
    return {**workup.models("segment"), **workup.models("detect")}
