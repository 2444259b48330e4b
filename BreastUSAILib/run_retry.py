"""What failed in earlier runs, found again as the inputs that it was (``run --retry-failed``).

A record names an input by one file. Where that file was one of a series, the whole series is looked for anew, in the folders
where it lay: a slice that was missing may have been put there since.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from .inputs import Found, Source
from .run_journal import FAILED, REDO, Entry


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
