"""What a run is to do: its inputs, found in a thread while others are being worked on, and which of them are done already."""

from __future__ import annotations

import os
import queue
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import run_copies, run_manifest
from .errors import ImageError, ModelError
from .identity import identity, instance_digest
from .inputs import OF_A_RUN, OWN, FolderNames, Found, Source
from .run_input import (
    RunOptions,
    Task,
    file_stamp,
    finished_folders,
    is_others,
    is_text,
    looked_at,
    mark_unfinished,
    names_of_others,
    read_finished,
)
from .run_journal import DONE, FAILED, GONE, REDO, WAITING, Entry, Journal, options_text
from .study_image import image_files

if TYPE_CHECKING:
    from .findings import Study

_AHEAD = 10_000  # inputs that are found before they are worked on; more are looked for as these are done
NAMED = 3  # in one sentence
_DIGITS = 8  # of the digest of an image in the name of a folder
_LEFT = 1000  # files that are no images are counted, and so many named


@dataclass
class Plan:
    """What the search has found so far. Filled by `Search`, in a thread of its own."""

    order: list[str] = field(default_factory=list)  # the inputs of this run, absolute
    to_do: int = 0
    skipped: int = 0
    differing: set[str] = field(default_factory=set)  # inputs that were finished with other options
    uncopied: int = 0  # inputs that were finished without a de-identified copy
    changed: list[str] = field(default_factory=list)  # inputs, as they were named, that are others than when they were finished
    grown: list[str] = field(default_factory=list)  # series, as they were named, that went by another first file when they were finished
    absorbed: list[str] = field(default_factory=list)  # folders of results of files that belong to a series by now
    beside: list[str] = field(default_factory=list)  # inputs, as they were named, that have the path of another image that is finished
    left: list[Path] = field(default_factory=list)  # files, and folders with the results of runs
    left_count: int = 0
    results: set[Path] = field(default_factory=set)  # those of `left` that BreastUSAI wrote
    result_count: int = 0
    result_folders: list[str] = field(default_factory=list)  # where they lie, the first ones
    reasons: dict[Path, str] = field(default_factory=dict)
    troubles: list[tuple[str, str]] = field(default_factory=list)  # what the user named, sentence
    complete: bool = False


class Search:
    """Finds the inputs and decides which of them are to be done, while others are being worked on."""

    def __init__(
        self, found: Iterator[Found], options: RunOptions, journal: Journal, run_id: str, retry: bool = False
    ) -> None:
        self._thread = threading.Thread(target=self._run, name="search", daemon=True)
        self.plan = Plan()
        self._options, self._journal, self._run_id = options, journal, run_id
        self._found, self._retry = found, retry
        self._failed_with = options_text(run_manifest.told_options(options))
        taken = _taken(options.output, journal)
        self._folders = FolderNames(taken, names_of_others(options.output, taken))
        self._tasks: queue.Queue[Task | BaseException | None] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self.differs = _Differs(options)
        self._uncopied = run_copies.Missing(options)
        self._copies = options.anonymize and Path(os.path.abspath(options.anonymize))
        self._over = False
        self._mine: set[str] = set()  # the paths of the inputs that were found
        self._shared = {entry.input for entry in journal if entry.instance}  # paths that several images had, one after the other

    def start(self) -> None:
        self._thread.start()

    def take(self, timeout: float | None) -> Task | None:
        """The next task; None when there is none within `timeout` seconds, or none any more (`over`)."""
        if self._over:
            return None
        try:
            item = self._tasks.get(timeout=timeout) if timeout != 0 else self._tasks.get_nowait()
        except queue.Empty:
            return None
        if isinstance(item, BaseException):
            raise item
        self._over = item is None
        return item

    @property
    def over(self) -> bool:
        return self._over

    def wait_for(self, tasks: int, seconds: float) -> int:
        """Wait until so many tasks are found, all are, or the time is over; how many there are."""
        deadline = time.monotonic() + seconds
        while self._thread.is_alive() and self.plan.to_do < tasks and time.monotonic() < deadline:
            self._thread.join(0.01)
        return self.plan.to_do

    def end(self) -> None:
        """Stop searching."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        last = None
        try:
            for found in self._found:
                self._take_in(found)
                if self._stop.is_set():
                    return
            self.plan.complete = True
        except BaseException as error:
            last = error  # is raised where the tasks are taken
        self._put(last)

    def _take_in(self, found: Found) -> None:
        plan = self.plan
        plan.left_count += len(found.left)
        plan.left += found.left[: max(0, _LEFT - len(plan.left))]
        plan.reasons |= dict(found.reasons[: max(0, _LEFT - len(plan.reasons))])
        plan.results.update(found.results[: max(0, _LEFT - len(plan.results))])
        plan.result_count += len(found.results)
        for folder in found.runs:
            if Path(os.path.abspath(folder)) != self._copies:  # of this run as well
                plan.left.append(folder)
                plan.left_count += 1
                plan.reasons[folder] = OF_A_RUN
        for folder in dict.fromkeys(str(path.parent) for path in found.results):
            if len(plan.result_folders) <= NAMED and folder not in plan.result_folders:
                plan.result_folders.append(folder)
        plan.troubles += found.failures
        self._mine.update(str(source.path) for source in found.sources)
        for source in found.sources:
            self._supersede(source)
        names = self._folders.of(found.sources)
        for source in found.sources:
            if self._stop.is_set():
                return
            task = self._decide(source, names[source.path])
            plan.order.append(str(source.path))
            if task is not None:
                plan.to_do += 1
                self._put(task)

    def _decide(self, source: Source, name: str) -> Task | None:
        """The task of an input, or None when it is finished or cannot be begun."""
        path, output = str(source.path), self._options.output
        entry = self._journal.get(path)
        if source.trouble:
            entry = entry or Entry(path, name)
            self._journal.note(replace(entry, status=FAILED, message=source.trouble, failed_with=self._failed_with))
            return None
        if not is_text(source.path):
            # ITK ends the whole process when it is given such a name.
            sentence = f"{source.shown} has a name that is not valid UTF-8; rename it."
            entry = Entry(path, name, FAILED, source.shown, sentence, "", source.series_in, self._failed_with)
            self._journal.note(entry)
            return None
        study = read_finished(output / name)
        if study is not None and (is_another(source, study) or _fell_apart(source, study)):
            name = self._beside(source, name, study)
            entry, study = self._journal.get(path), read_finished(output / name)
        elif study is None and (back := self._back(source)) is not None:
            name = back
            entry, study = self._journal.get(path), read_finished(output / name)
        redo = study is not None and self._options.overwrite
        if study is not None and entry is not None and entry.status in (FAILED, REDO):
            # An attempt to redo it that failed, or was killed, left the old results; unless they are that attempt's.
            redo = redo or not (entry.status == REDO and entry.run and entry.run == study.provenance.get("run"))
        if study is not None and not redo and is_changed(source, study):
            redo = True
            self.plan.changed.append(source.shown)
        if study is not None and not redo:
            self.plan.skipped += 1
            if self.differs(study):
                self.plan.differing.add(path)
            self.plan.uncopied += self._uncopied(study)
            self._journal.note(Entry(path, name, DONE, source.shown))
            return None
        if study is None and entry is not None and entry.folder == name and _had_results(entry) and is_others(output / name):
            # Their study.json is gone or damaged, or a version that left no mark was killed while it replaced them: these may be replaced.
            with suppress(OSError):  # what cannot be written fails when it is moved into place
                mark_unfinished(output / name)
        # Its cause is the cause until it ends in another way, and a run that is cut short leaves it to be retried.
        cause = (entry.message, entry.failed_with) if entry is not None else ("", "")
        status = REDO if redo or self._retry or cause[0] else WAITING
        self._journal.note(Entry(path, name, status, source.shown, cause[0], self._run_id, source.series_in, cause[1]))
        return Task(source, output / OWN / uuid.uuid4().hex[:12], output / name, self._run_id)

    def _supersede(self, source: Source) -> None:
        """Where files of a series were inputs by themselves, as others of it had not arrived (a series goes by its first file): they are none
        any more. The results of a part of the series give way to those of the whole; those of single images stay, and are told of no more.

        Results of other images, whose paths these files have now (the next CD), or of which nobody can tell, stay and are told of."""
        path = str(source.path)
        for file in source.files:
            entry = self._journal.get(str(file))
            if entry is None or entry.input in self._mine:
                continue
            study = read_finished(self._options.output / entry.folder)
            if study is not None and not _is_still(file, study):
                continue
            self._journal.note(replace(entry, status=GONE))
            if study is None:
                continue
            if study.provenance.get("input", {}).get("files", 1) > 1 and self._journal.get(path) is None:
                self._folders.give(source, entry.folder)
                self._journal.note(Entry(path, entry.folder, REDO, source.shown, "", self._run_id, source.series_in))
                self.plan.grown.append(source.shown)
            else:
                self.plan.absorbed.append(entry.folder)

    def _beside(self, source: Source, name: str, study: Study) -> str:
        """The folder of an image that has the path of another one, whose results in the folder `name` stay: its own of before, or a new one.
        From now on the path is its."""
        path, then, now = str(source.path), _instance(study), instance_digest(source.path)
        if _fell_apart(source, study):  # of a series that goes by its first file both may be the same image
            then, own = str(study.provenance["input"].get("sha256", name)), f"{name}-{now[:_DIGITS] or '2d'}"
        else:
            first = name.removesuffix(f"-{then[:_DIGITS]}")  # of the image that had the path first
            there = read_finished(self._options.output / first)
            back = there is not None and _instance(there) == now and not _fell_apart(source, there)
            own = first if back else f"{first}-{now[:_DIGITS]}"
        self._journal.note(Entry(path, name, DONE, source.shown, instance=then[:_DIGITS]))
        self._journal.note(Entry(path, own, GONE, instance=now[:_DIGITS]))
        self._journal.note(Entry(path, own, WAITING, source.shown))
        self._folders.give(source, own)
        self.plan.beside.append(source.shown)
        return own

    def _back(self, source: Source) -> str | None:
        """The folder of an image that is there again, where another one that had its path since was not finished; None of others. From now
        on the path is its, and of the other nothing is there that would be lost."""
        path = str(source.path)
        if path not in self._shared or not (now := instance_digest(source.path)):
            return None
        before = self._journal.get(f"{path}\n{now[:_DIGITS]}")
        study = None if before is None else read_finished(self._options.output / before.folder)
        if study is None or _instance(study) != now or _fell_apart(source, study):
            return None
        self._journal.note(replace(before, status=GONE))
        self._journal.note(Entry(path, before.folder, WAITING, source.shown))
        self._folders.give(source, before.folder)
        return before.folder

    def _put(self, item: Task | BaseException | None) -> None:
        while not self._stop.is_set():
            try:
                self._tasks.put(item, timeout=0.2)
                return
            except queue.Full:
                continue


def is_another(source: Source, study: Study) -> bool:
    """Whether an input is another DICOM image than the one that a study was made from, under the same name; False where nobody can tell."""
    kept, then = study.provenance.get("input", {}), _instance(study)
    if not then or os.path.abspath(study.image.path) != str(source.path) or kept.get("stamp") == file_stamp(source.path, source.files):
        return False
    return instance_digest(source.path) not in ("", then)


def _fell_apart(source: Source, study: Study) -> bool:
    """Whether an input is a single image, and a study under its path is of a series that is none any more: its files are images by themselves
    (other versions join others), or it is down to this one."""
    if source.files or study.provenance.get("input", {}).get("files", 1) == 1 or os.path.abspath(study.image.path) != str(source.path):
        return False
    try:
        return os.path.isfile(source.path) and not image_files(study, source.path)
    except ImageError:
        return False  # the folder cannot be listed: nobody can tell


def _instance(study: Study) -> str:
    return str(study.provenance.get("input", {}).get("instance_sha256", ""))


def _is_still(file: Path, study: Study) -> bool:
    """Whether a file is the one that a study was made from, or the first of its series; False where nobody can tell."""
    kept, then = study.provenance.get("input", {}), _instance(study)
    if then:
        return instance_digest(file) == then
    try:  # made by a version that did not keep it; of several files nobody knows which they were
        return bool(kept.get("sha256")) and kept.get("files", 1) == 1 and identity(file).get("sha256") == kept["sha256"]
    except ImageError:
        return False


def is_changed(source: Source, study: Study) -> bool:
    """Whether an input is another than the one that a study was made from, under the same name; False where nobody can tell.

    Nothing is read where sizes and times are as they were then. Else the SHA-256 decides: a file that was only touched, or copied back, is the
    same.
    """
    kept = study.provenance.get("input", {})
    if not kept.get("sha256"):
        return False  # made by a version that did not keep it
    try:
        # One file of a series, named by itself, is told of by the series' result, as long as the series is there.
        files = source.files or image_files(study, source.path)
        looked = looked_at(source.path, files)
        if not looked or _as_then(kept, looked, file_stamp(source.path, files), study.provenance.get("created")):
            return False
        return identity(source.path, files).get("sha256", kept["sha256"]) != kept["sha256"]
    except ImageError:
        return False  # it is not there: no other picture is told of


def _as_then(kept: Mapping[str, Any], looked: Sequence[tuple[int, int]], stamp: str, created: Any) -> bool:
    """Whether sizes and times of an input's files are those that a study keeps; of earlier versions, which kept no times: whether the size is,
    and none is newer than the study."""
    if kept.get("stamp"):
        return kept["stamp"] == stamp
    try:
        finished = datetime.fromisoformat(str(created)).timestamp()
    except ValueError:
        return False
    return sum(size for size, _ in looked) == kept.get("bytes") and max(changed for _, changed in looked) / 1e9 <= finished


class _Differs:
    """Whether a finished study was made with other options or another model, by what it tells itself."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self._checksums: dict[str, set[str]] = {}

    def __call__(self, study: Any) -> bool:
        made = study.provenance.get("options", {})
        models = study.provenance.get("models", ())
        task = models[0]["task"] if models else "segment"
        # The device changes no result; a model has several names, and its checksum is compared.
        asked = {k: v for k, v in self._options.of_results(task).items() if k not in ("device", "model", "classifier")}
        if task not in self._checksums:
            self._checksums[task] = self._resolve(task)
        other = {m["sha256"] for m in models} != self._checksums[task]
        return bool(models and other) or any(k in made and made[k] != v for k, v in asked.items())

    def _resolve(self, task: str) -> set[str]:
        """Checksums of the models that an input would be worked on with; empty where one is not there."""
        from .models.zoo import resolve

        try:
            return {resolve(name, of)[0].sha256 for of, name in self._options.workup.models(task).items()}
        except ModelError:
            return set()  # made with others, then


def _had_results(entry: Entry) -> bool:
    """Whether the folder of an input held results once, by the records. What is done again after it failed may never have had any."""
    return entry.status == DONE or (entry.status == REDO and not entry.message)


def _taken(output: Path, journal: Journal) -> dict[str, str]:
    """Folder name -> source of what earlier runs did, by their records, and by the studies where these are lost."""
    # Earlier versions took what a killed process had left for a result; their records may name it as an input's folder.
    taken = {
        entry.folder: entry.key
        for entry in journal
        # What failed, or was not begun, had no results; a person may have put something else there.
        if not entry.folder.startswith(".") and (_had_results(entry) or not is_others(output / entry.folder))
    }
    for folder in finished_folders(output):
        if folder.name not in taken:
            study = read_finished(folder)
            if study is not None:
                taken[folder.name] = os.path.abspath(study.image.path)
    return taken
