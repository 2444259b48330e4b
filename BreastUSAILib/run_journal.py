"""What became of each input of a run: in memory, and line by line on disk, so that a run that is killed is known.

The journal is an index. Whether an input is finished is said by its study.json alone; the journal says which folder is
whose, what failed and why, and which old results are being replaced. A line is one write at the end of the file; a line
that was cut by a crash is passed over when the journal is read.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from .atomic import output_error

WAITING, DONE, FAILED, REDO = "waiting", "done", "failed", "redo"
GONE = "gone"  # of a line: the input is none any more


@dataclass(frozen=True, slots=True)  # thousands are held in memory
class Entry:
    """One input.

    Attributes
    ----------
    input : its absolute path.
    folder : the name of its folder of results.
    status : `WAITING`; `DONE`; `FAILED`; `REDO`: it is done again, and results in the folder
        shall be replaced and do not count.
    shown : the path as the user named it.
    message : why it failed; while it is done again, why it failed before.
    run : the run that has it to do, or did.
    failed_with : the options of the run in which it failed (`run_manifest.told_options`), as JSON: as a string, thousands share one.
    series_in : the folders that hold the files of a DICOM series, whose first is `input`; empty where it is one file. None: not
        known (records of versions before), or of no more use, as it is done. The files themselves would fill the memory.
    instance : which image it was (the beginning of `identity.instance_digest`), where another has its path by now (the next CD); of a
        series whose first file is an image by itself by now the beginning of its `identity.identity`; else "".
    """

    input: str
    folder: str
    status: str = WAITING
    shown: str = ""
    message: str = ""
    run: str = ""
    series_in: tuple[str, ...] | None = None
    failed_with: str = ""
    instance: str = ""

    @property
    def key(self) -> str:
        """What an entry goes by: its input; of an image whose path another has by now this and which image it was."""
        return f"{self.input}\n{self.instance}" if self.instance else self.input


_TEXTS = tuple(field.name for field in fields(Entry) if field.name != "series_in")


LOST = "was finished, and its study.json is gone or damaged"
"""In the message of what failed so; where the study is there again (a disk that was away), it never failed."""


class Journal:
    """The entries of a folder of results, by their `Entry.key`; every change is a line at the end of `path`.

    Parameters
    ----------
    path : the file; read when it is there.
    earlier : the run.json of an earlier run, or empty.

    Attributes
    ----------
    unrecorded : inputs that `earlier` does not tell as they are, as the run that worked on them was killed.
    """

    def __init__(self, path: Path, earlier: Mapping[str, Any]) -> None:
        self._path = path
        self._lock = threading.Lock()  # the search for inputs has a thread of its own
        self._entries = {entry.key: entry for entry in _of_record(earlier)}
        self.unrecorded: set[str] = set()
        for entry in _of_lines(path):
            self._keep(entry)
            self.unrecorded.add(entry.input)
        self._stream = None
        self._closed = False

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def get(self, path: str) -> Entry | None:
        return self._entries.get(path)

    def note(self, entry: Entry) -> None:
        """Keep a new state of an input. Raises `OutputError` where it cannot be written; it is kept in memory then.

        Raises `ValueError` once it is closed: a search that outlives its run changes nothing any more.
        """
        with self._lock:
            if self._closed:
                raise ValueError(f"{self._path} is closed")
            self._keep(entry)
            try:
                if self._stream is None:
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    # Unbuffered: a line that was written survives the end of the process. It starts with a line end, in
                    # case the line before was cut.
                    self._stream = self._path.open("ab", buffering=0)
                self._stream.write(b"\n" + json.dumps(asdict(entry)).encode())
            except OSError as error:
                raise output_error(self._path, error) from error

    def amend(self, entry: Entry) -> None:
        """Keep a new state of an input in memory alone, for the record that is written next."""
        with self._lock:
            self._keep(entry)

    def _keep(self, entry: Entry) -> None:
        if entry.status == GONE:
            self._entries.pop(entry.key, None)
        else:
            self._entries[entry.key] = entry

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._stream is not None:
                self._stream.close()
                self._stream = None


@lru_cache(maxsize=16)
def _is_options(text: str) -> bool:
    return isinstance(json.loads(text), dict)


def _of_lines(path: Path) -> Iterator[Entry]:
    try:
        with path.open("rb") as stream:
            for line in stream:
                try:
                    item = json.loads(line)
                    if not isinstance(item, dict) or not all(isinstance(item.get(name, ""), str) for name in _TEXTS):
                        continue
                    with_ = sys.intern(item.get("failed_with", ""))
                    if with_ and not _is_options(with_):
                        continue
                    yield Entry(**{**item, "series_in": _folders(item.get("series_in")), "failed_with": with_})
                except (ValueError, TypeError, RecursionError):
                    continue
    except OSError:
        return


def _of_record(record: Mapping[str, Any]) -> Iterator[Entry]:
    """The inputs of a run.json, as far as they are well formed."""
    options = record.get("options")
    for item in recorded_inputs(record):
        if isinstance(item.get("folder"), str) and isinstance(item.get("input"), str):
            status = item.get("status")
            status = {"earlier": DONE}.get(status, status)
            message = str(item.get("message", ""))
            yield Entry(
                item["input"],
                item["folder"],
                status if status in (DONE, FAILED, REDO) else WAITING,
                str(item.get("shown", "")),
                message,
                series_in=_folders(item.get("series_in")),
                # Options that it does not tell are those of the run; versions before did not tell any.
                failed_with=options_text(item.get("failed_with", options)) if message else "",
                instance=str(item.get("instance", "")),
            )


def recorded_inputs(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The inputs that a run.json lists; what is none is passed over."""
    inputs = record.get("inputs")
    return [item for item in inputs if isinstance(item, dict)] if isinstance(inputs, list) else []


def options_text(options: Any) -> str:
    """`Entry.failed_with` of options as run.json has them; "" where these are none."""
    return sys.intern(json.dumps(options, sort_keys=True)) if isinstance(options, dict) else ""


def _folders(value: Any) -> tuple[str, ...] | None:
    """`Entry.series_in` as JSON has it; None where it is not there, or is something else."""
    return tuple(value) if isinstance(value, list) and all(isinstance(name, str) for name in value) else None
