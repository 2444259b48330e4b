"""The overview of a run: tables for analysis, and index.html for people.

Studies are read from disk one after the other, and what the overview shows of each goes through a file, so that thousands
take no more memory than ten.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from . import run_index, run_table
from .atomic import output_error
from .errors import DependencyError, OutputError
from .files import other_columns
from .findings import Study
from .run_input import SCENE, read_finished
from .run_journal import DONE, FAILED, LOST, Entry

SPOOL = "overview.jsonl"


@dataclass(frozen=True)
class Result:
    """One input of a run.

    Attributes
    ----------
    source : path of the input, as it is shown.
    folder : name of its folder of results; "" for one that failed.
    study : without masks; None for an input that failed.
    message : why it failed.
    path : the input's path from the root, which tells inputs apart that were named in several folders; "" of de-identified copies, and of what
        led to no input.
    """

    source: str
    folder: str = ""
    study: Study | None = None
    message: str = ""
    path: str = ""


class Results(Sequence[Result]):
    """The results of inputs that ended; a study is read when it is asked for.

    Parameters
    ----------
    output : folder of results.
    entries : of the inputs, `DONE` or `FAILED`.
    troubles : (what the user named, sentence) for what led to no input; they come last.

    Attributes
    ----------
    lost : entries that were `DONE` and whose study, when it was asked for, was gone or damaged, with the sentence for the user.
    """

    def __init__(self, output: Path, entries: Sequence[Entry], troubles: Sequence[tuple[str, str]] = ()) -> None:
        self._output, self._entries, self._troubles = output, entries, troubles
        self.lost: dict[Entry, str] = {}

    def __len__(self) -> int:
        return len(self._entries) + len(self._troubles)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        if index >= len(self._entries):
            name, text = self._troubles[index - len(self._entries)]
            return Result(name, message=text)
        entry = self._entries[index]
        source, path = entry.shown or entry.input, _path(entry)
        if entry.status == DONE:
            study = read_finished(self._output / entry.folder)
            if study is not None:
                return Result(source, entry.folder, study, path=path)
            self.lost[entry] = f"{source} {LOST}; run it again."
            return Result(source, message=self.lost[entry], path=path)
        return Result(source, message=entry.message, path=path)

    def failures(self) -> list[Result]:
        """Those that failed, and those that are `lost`, without a look at the others."""
        failed = [
            Result(e.shown or e.input, message=self.lost.get(e, e.message), path=_path(e))
            for e in self._entries
            if e.status == FAILED or e in self.lost
        ]
        return failed + [Result(name, message=text) for name, text in self._troubles]


def _path(entry: Entry) -> str:
    """The path from the root of an input; that of a de-identified copy is its name alone, and none."""
    return entry.input if os.path.isabs(entry.input) else ""


@dataclass
class Counts:
    """How many inputs, with and without a lesion, failed, and lesions in all."""

    inputs: int = 0
    with_lesion: int = 0
    without_lesion: int = 0
    lesions: int = 0
    failed: int = 0

    def add(self, result: Result) -> None:
        self.inputs += 1
        if result.study is None:
            self.failed += 1
        else:
            found = len(result.study.findings)
            self.with_lesion += found > 0
            self.without_lesion += found == 0
            self.lesions += found


@dataclass
class Overview:
    """What was written, and what is known of all results.

    Attributes
    ----------
    counts, all_counts : of this run's inputs, and with those of earlier runs.
    models : id, version, task and SHA-256 of every model that had a part.
    unwritten : files that could not be written, with the reason.
    twins : how many results have the bytes (SHA-256) of others whose input is gone: files that were moved or renamed count twice.
    twins_of : the folders of these others.
    """

    counts: Counts = field(default_factory=Counts)
    all_counts: Counts = field(default_factory=Counts)
    models: list[Mapping[str, str]] = field(default_factory=list)
    unwritten: list[Result] = field(default_factory=list)
    twins: int = 0
    twins_of: list[str] = field(default_factory=list)

    def look_for_twins(self, inputs: Mapping[str, Sequence[tuple[str, str]]]) -> None:
        """inputs : SHA-256 -> path and folder of the results of all inputs with these bytes."""
        for same in inputs.values():
            gone = [folder for path, folder in same if not os.path.lexists(path)] if len(same) > 1 else []
            if gone and len(gone) < len(same):
                self.twins += len(same) - len(gone)
                self.twins_of += gone


def write_overview(
    output: Path, work: Path, results: Results, earlier: Results, when: str, parquet: bool = False
) -> Overview:
    """Write summary.csv, studies.csv, failures.csv, index.html and, on request, studies.parquet and findings.parquet.

    Parquet files that are there already are written anew without a request: beside newer tables they would tell what is no
    longer so. Where that cannot be done, it is told.

    Parameters
    ----------
    output : folder of results.
    work : for a file that is removed in the end.
    results, earlier : of this run, and of earlier ones into the same folder.
    when : one sentence on when and how the run ended.
    parquet : the request.
    """
    overview = Overview()
    old = [output / name for name in (run_table.STUDIES_PARQUET, run_table.FINDINGS_PARQUET) if (output / name).exists()]
    if old and not parquet:
        try:
            run_table.need_parquet()
            parquet = True
        except DependencyError:
            overview.unwritten += [Result(str(path), message=_outdated(path)) for path in old]
    spool = work / SPOOL
    columns: set[str] = set()
    shown = run_index.Columns()
    models: dict[str, Mapping[str, str]] = {}
    inputs: dict[str, list[tuple[str, str]]] = {}
    try:
        with spool.open("w", encoding="utf-8") as stream:
            for number, result in enumerate(chain(results, earlier)):
                overview.all_counts.add(result)
                if number < len(results):
                    overview.counts.add(result)
                if result.study is not None:
                    columns.update(name for finding in result.study.findings for name in other_columns(finding))
                    models.update((m["sha256"], m) for m in result.study.provenance.get("models", ()))
                    shown.take_in(result.study)
                    digest = result.study.provenance.get("input", {}).get("sha256")
                    if digest and result.path:
                        inputs.setdefault(digest, []).append((result.path, result.folder))
                line = {
                    "study": run_table.study_row(result),
                    "findings": run_table.finding_rows(result),
                    "index": run_index.row(result, _links(output, result)),
                }
                stream.write(json.dumps(line) + "\n")
        overview.models = list(models.values())
        overview.look_for_twins(inputs)
        _write_all(output, spool, sorted(columns), shown, overview, when, parquet)
    except OSError as error:
        overview.unwritten.append(Result(str(output), message=str(output_error(spool, error))))
    finally:
        try:
            spool.unlink(missing_ok=True)
        except OSError:
            pass  # goes with its folder when the next run begins
    return overview


def _write_all(
    output: Path,
    spool: Path,
    measurements: Sequence[str],
    shown: run_index.Columns,
    overview: Overview,
    when: str,
    parquet: bool,
) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        with spool.open(encoding="utf-8") as stream:
            yield from map(json.loads, stream)

    def studies() -> Iterator[dict[str, Any]]:
        return (row["study"] for row in rows())

    def findings() -> Iterator[dict[str, Any]]:
        return (finding for row in rows() for finding in row["findings"])

    def index_rows() -> Iterator[dict[str, Any]]:
        return (row["index"] for row in rows())

    def broken_rows() -> Iterator[dict[str, Any]]:
        return (row for row in index_rows() if row.get("failed"))

    def failures() -> Iterator[dict[str, Any]]:
        return (row for row in studies() if row["status"] == "failed")

    columns = run_table.finding_columns(measurements)
    write: dict[str, Callable[[Path], None]] = {
        run_table.SUMMARY: lambda path: run_table.write_csv(path, columns, map(run_table.with_empty, rows())),
        run_table.STUDIES: lambda path: run_table.write_csv(path, run_table.STUDY_COLUMNS, studies()),
        run_index.INDEX: lambda path: run_index.write_index(
            path, overview.all_counts, when, shown, index_rows(), broken_rows(), parquet
        ),
    }
    if overview.all_counts.failed:
        write[run_table.FAILURES] = lambda path: run_table.write_csv(path, run_table.FAILURE_COLUMNS, failures())
    else:
        _remove(output / run_table.FAILURES)
    if parquet:
        write[run_table.STUDIES_PARQUET] = lambda path: run_table.write_parquet(
            path, run_table.STUDY_COLUMNS, studies()
        )
        write[run_table.FINDINGS_PARQUET] = lambda path: run_table.write_parquet(path, columns, findings())
    for name, function in write.items():
        try:
            function(output / name)
        except OutputError as error:
            overview.unwritten.append(Result(str(output / name), message=str(error)))


def _outdated(path: Path) -> str:
    return f"{path} is of an earlier run, and pyarrow to write it anew is missing; install it with: pip install breastusai[tables], or remove the file."


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        pass  # it can be told by its date


def _links(output: Path, result: Result) -> list[str]:
    """The files beside the report that the index links to."""
    names = (SCENE, "findings.csv", "lesions.seg.nrrd", "study.json")
    return [name for name in names if result.folder and os.path.exists(output / result.folder / name)]
