"""A run: many inputs in, one folder of results for each, and an overview of all of them.

Work begins before all inputs are found, and what a run holds in memory is a line for each input. Everything of a run that is
not a result lies in ``.run`` in the output folder while the run lasts: its lock, its journal, and what is being made.
"""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from . import run_copies, run_manifest, run_retry
from .atomic import write_text
from .errors import Cancelled, ModelError, OutputError, UsageError
from .inputs import RUN, RUN_SCHEMA, FolderNames, Found, Source, discover, read_run
from .processor import cores
from .progress import Estimate
from .run_input import InputWorker, Outcome, RunOptions, Task, finished_folders, is_text, read_finished
from .run_journal import DONE, FAILED, REDO, WAITING, Entry, Journal, options_text
from .run_lock import run_lock
from .workers import End, Event, Pool

if TYPE_CHECKING:
    from .run_overview import Counts, Result

OWN = ".run"  # in the output folder: what belongs to the run that is going on
TEMPORARY = ".tmp-"  # of single files in the output folder, see `atomic`
JOURNAL = "journal.jsonl"

_AHEAD = 10_000  # inputs that are found before they are worked on; more are looked for as these are done
_LEFT = 1000  # files that are no images are counted, and so many named
_PATIENCE_S = 2.0  # for the search to find as many inputs as there are processes, before these share the cores
_LOOK_S = 0.5

Progress = Callable[[float, str], None]
MakeWorker = Callable[[RunOptions], Callable[[Task, Progress], Outcome]]


class Processes(Protocol):
    """Where tasks are done: processes on this machine (`workers.Pool`) or on others (`cluster.DaskPool`)."""

    @property
    def free(self) -> int: ...
    @property
    def busy(self) -> int: ...
    def give(self, number: int, task: Any) -> None: ...
    def events(self, timeout: float | None = None) -> list[Event]: ...
    def __enter__(self) -> Processes: ...
    def __exit__(self, *exception) -> None: ...


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes
    ----------
    results : of all inputs of this run that ended, in the order they were found; read from disk when they are asked for.
    counts : of these.
    failures : inputs that failed, then what is missing of the overview.
    skipped : how many were finished by an earlier run.
    left : files in the given folders that are no images, the first ones.
    left_count : how many there are.
    reasons : those of `left` that are DICOM -> why they are none to work on, as a phrase.
    cancelled : whether the user ended it early.
    """

    results: Sequence[Result]
    counts: Counts
    failures: tuple[Result, ...] = ()
    skipped: int = 0
    left: tuple[Path, ...] = ()
    left_count: int = 0
    reasons: Mapping[Path, str] = field(default_factory=dict)
    cancelled: bool = False


def run(
    names: Sequence[str],
    options: RunOptions,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
    make_worker: MakeWorker = InputWorker,
    retry: bool = False,
) -> RunResult:
    """Work on all inputs and write what DESIGN section 6 lists to ``options.output``.

    An input that fails does not keep the others from being done; Ctrl-C ends the run, and what was finished until then
    is in the overview.

    Parameters
    ----------
    names : files, folders and wildcard patterns (`inputs.discover`).
    options : see `RunOptions`.
    progress : called with the fraction of the whole run (0 while inputs are still being found) and what is being done.
    log : called with sentences for the user.
    make_worker : makes the function that does one task; called once, or once in each process.
    retry : the inputs are those that failed when they were last worked on, by the records in ``options.output``; no other is
        looked for. `names` is what the record tells of the run.

    Raises
    ------
    OutputError : nothing can be written to the output folder, or another run is writing to it; nothing was done.
    ModelError, UsageError : the model or the device is not there; nothing was done.
    """
    tell = log or (lambda text: None)
    output = options.output
    # os.path says "no" where Path raises: folders that may not be looked into, names that are too long.
    if os.path.exists(output) and not os.path.isdir(output):
        raise OutputError(f"{output} is a file; choose a folder for --output.")
    _refuse_another_command_s(output)
    run_copies.check(options)
    ours = [output / RUN, output / OWN, output, *output.parents]
    if options.anonymize is not None:
        copies = options.anonymize
        ours = [run_copies.key_file(options), copies / RUN, copies, *copies.parents, *ours]
    made = [path for path in ours if not os.path.exists(path)]
    if options.scene and importlib.util.find_spec("slicer") is None:
        tell("No scene.mrb is written: scenes need slicer-core; install it with: pip install breastusai[slicer]")
        options = replace(options, scene=False)
    with run_lock(output / OWN):
        run_ = _Run(names, options, progress or (lambda fraction, message: None), tell, retry)
        run_.begin()
        try:
            run_.work(make_worker)
        except (KeyboardInterrupt, Cancelled):
            run_.cancelled = True
            again = "the same command without --overwrite" if options.overwrite else "the same command"
            tell(f"Cancelled; what was finished is kept, and {again} goes on from there.")
        except BaseException as error:
            if run_.anything_happened():
                with suppress(OutputError):  # the error that ended the run is the one to tell
                    run_.write_record("failed", trouble=str(error))
                raise
            run_.close()
            run_.clear()
            shutil.rmtree(output / OWN, ignore_errors=True)
            for path in made:  # leave everything as it was
                with suppress(OSError):  # no longer empty: somebody else uses it
                    path.rmdir() if path.is_dir() else path.unlink()
            raise
        finally:
            run_.close()
        return run_.finish()


def _refuse_another_command_s(output: Path) -> None:
    """UsageError where a folder holds what ``breastusai grade`` or the like left: it would count as done, or be replaced."""
    if not os.path.isdir(output) or read_run(output):
        return
    for folder in finished_folders(output):
        study = read_finished(folder)
        if study is not None and study.provenance and not study.provenance.get("run"):
            raise UsageError(f"{folder} is the result of another command than run; choose another folder for --output.")


def failed_inputs(output: Path) -> list[str]:
    """The inputs that ``run(..., retry=True)`` works on: those that failed when they were last worked on, by the records in a
    folder of results. Of a series of DICOM files it is the first file.

    Raises
    ------
    UsageError : the folder holds no results.
    """
    return [entry.input for entry in failed_entries(output)]


def failed_entries(output: Path) -> list[Entry]:
    """The same with all that is known of them."""
    record = read_run(output)
    if not record:
        raise UsageError(f"{output} holds no results; --retry-failed goes with the --output of an earlier run.")
    return run_retry.failed(Journal(output / OWN / JOURNAL, record))


# -------------------------------------------------------------------------------------------------- what is to be done


@dataclass
class _Plan:
    """What the search has found so far. Filled by `_Search`, in a thread of its own."""

    order: list[str] = field(default_factory=list)  # the inputs of this run, absolute
    to_do: int = 0
    skipped: int = 0
    differing: set[str] = field(default_factory=set)  # inputs that were finished with other options
    uncopied: int = 0  # inputs that were finished without a de-identified copy
    left: list[Path] = field(default_factory=list)
    left_count: int = 0
    reasons: dict[Path, str] = field(default_factory=dict)
    troubles: list[tuple[str, str]] = field(default_factory=list)  # what the user named, sentence
    complete: bool = False


class _Search:
    """Finds the inputs and decides which of them are to be done, while others are being worked on."""

    def __init__(
        self, found: Iterator[Found], options: RunOptions, journal: Journal, run_id: str, retry: bool = False
    ) -> None:
        self._thread = threading.Thread(target=self._run, name="search", daemon=True)
        self.plan = _Plan()
        self._options, self._journal, self._run_id = options, journal, run_id
        self._found, self._retry = found, retry
        self._failed_with = options_text(run_manifest.told_options(options))
        self._folders = FolderNames(_taken(options.output, journal))
        self._tasks: queue.Queue[Task | BaseException | None] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self.differs = _Differs(options)
        self._uncopied = run_copies.Missing(options)
        self._over = False

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
        plan.troubles += found.failures
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
        redo = study is not None and self._options.overwrite
        if study is not None and entry is not None and entry.status in (FAILED, REDO):
            # An attempt to redo it that failed, or was killed, left the old results; unless they are that attempt's.
            redo = redo or not (entry.status == REDO and entry.run and entry.run == study.provenance.get("run"))
        if study is not None and not redo:
            self.plan.skipped += 1
            if self.differs(study):
                self.plan.differing.add(path)
            self.plan.uncopied += self._uncopied(study)
            self._journal.note(Entry(path, name, DONE, source.shown))
            return None
        # Its cause is the cause until it ends in another way, and a run that is cut short leaves it to be retried.
        cause = (entry.message, entry.failed_with) if entry is not None else ("", "")
        status = REDO if redo or self._retry or cause[0] else WAITING
        self._journal.note(Entry(path, name, status, source.shown, cause[0], self._run_id, source.series_in, cause[1]))
        return Task(source, output / OWN / uuid.uuid4().hex[:12], output / name, self._run_id)

    def _put(self, item: Task | BaseException | None) -> None:
        while not self._stop.is_set():
            try:
                self._tasks.put(item, timeout=0.2)
                return
            except queue.Full:
                continue


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


def _taken(output: Path, journal: Journal) -> dict[str, str]:
    """Folder name -> source of what earlier runs did, by their records, and by the studies where these are lost."""
    # Earlier versions took what a killed process had left for a result; their records may name it as an input's folder.
    taken = {entry.folder: entry.input for entry in journal if not entry.folder.startswith(".")}
    for folder in finished_folders(output):
        if folder.name not in taken:
            study = read_finished(folder)
            if study is not None:
                taken[folder.name] = os.path.abspath(study.image.path)
    return taken


# ------------------------------------------------------------------------------------------------------------ the run


class _Run:
    """The state of one run, while it lasts."""

    def __init__(
        self, names: Sequence[str], options: RunOptions, progress: Progress, log: Callable[[str], None], retry: bool
    ) -> None:
        self.names, self.options, self.progress, self.log = tuple(names), options, progress, log
        self.cancelled = False
        self.id = uuid.uuid4().hex
        self.created = _now()
        self.failed_with = options_text(run_manifest.told_options(options))  # what fails in this run
        self.own = options.output / OWN
        record = read_run(options.output)
        self.retried = record if retry else None  # the record of the run that is completed, and stays its record
        self.journal = Journal(self.own / JOURNAL, record)
        self.otherwise = self._otherwise(record)
        found = run_retry.find_again(run_retry.failed(self.journal)) if retry else discover(names, options.output)
        self.search = _Search(found, options, self.journal, self.id, retry)
        self.estimate = Estimate()
        self.fractions: dict[int, float] = {}  # of the tasks that are being worked on
        self.ended = 0  # tasks

    def _otherwise(self, record: Mapping[str, Any]) -> set[str]:
        """The inputs of earlier runs that may have been done with other options than run.json will tell of all."""
        told = {str(item.get("input")) for item in record.get("inputs", ()) if isinstance(item, dict) and "options" in item}
        if self.retried is None and record.get("options") != run_manifest.told_options(self.options):
            told |= {entry.input for entry in self.journal}  # they were done with those that give way now
        return told | self.journal.unrecorded

    def _options_of(self, entry: Entry) -> dict[str, Any] | None:
        """The options of an input of an earlier run, by its study; None where run.json's are its own, or none are known."""
        if entry.status != DONE or entry.input not in self.otherwise:
            return None
        study = read_finished(self.options.output / entry.folder)
        if study is None or (self.retried is None and not self.search.differs(study)):
            return None
        return study.provenance.get("options", {})

    def begin(self) -> None:
        """Prove that the output folder can be written to, and remove what a run that was killed left behind."""
        output = self.options.output
        self.clear()
        for old in output.glob(f"{TEMPORARY}*"):
            with suppress(OSError):
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        if self.options.anonymize is not None:
            run_copies.begin(self.options)
        self.write_record("running")

    def clear(self) -> None:
        """Remove what was being made. Nobody else is at work in this folder: the lock is ours."""
        for path in self.own.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        self.search.end()
        self.journal.close()

    def anything_happened(self) -> bool:
        """Whether any input ended, in this run or before."""
        return any(entry.status in (DONE, FAILED) for entry in self.journal)

    def work(self, make_worker: MakeWorker) -> None:
        """Do all tasks, here, in processes of their own, or on other machines."""
        options = self.options
        self.search.start()
        tasks = self.search.wait_for(options.jobs, _PATIENCE_S)
        if tasks == 0 and self.search.plan.complete:
            self._tell_skipped()
            return
        self.progress(0.0, "loading the model")
        if options.scheduler or options.slurm is not None:
            from .cluster import DaskPool

            with DaskPool(make_worker, options, self.log) as pool:
                self._work_in(pool)
        else:
            jobs = min(options.jobs, cores(), max(1, tasks) if self.search.plan.complete else options.jobs)
            if jobs < options.jobs and jobs == cores():
                self.log(f"Working in {jobs} processes, as many as there are processor cores.")
            if jobs > 1 or options.isolate or options.limits != type(options.limits)():
                with Pool(make_worker, (options,), jobs, options.limits) as pool:
                    self._work_in(pool)
            else:
                self._work_here(make_worker(options))
        self._tell_skipped()

    def _work_here(self, worker: Callable[[Task, Progress], Outcome]) -> None:
        for number, task in enumerate(self._tasks()):

            def tell(fraction: float, message: str, number=number, task=task) -> None:
                self._tell(number, fraction, task, message)

            tell(0.0, "reading")
            self._record(number, task, worker(task, tell))

    def _tasks(self) -> Iterator[Task]:
        while not self.search.over:
            task = self.search.take(None)
            if task is not None:
                yield task

    def _work_in(self, pool: Processes) -> None:
        tasks: dict[int, Task] = {}
        number = 0
        while True:
            while pool.free and not self.search.over:
                task = self.search.take(0 if pool.busy else _LOOK_S)
                if task is None:
                    break
                tasks[number] = task
                pool.give(number, task)
                number += 1
            if not pool.busy:
                if self.search.over:
                    return
                continue
            # Where the search is not over it may find something for a process that is free.
            for event in pool.events(_LOOK_S if pool.free and not self.search.over else None):
                if event.kind == "fatal":
                    raise event.value
                if event.kind == "progress":
                    self._tell(event.task, event.value[0], tasks[event.task], event.value[1])
                    continue
                task = tasks.pop(event.task)
                outcome = event.value
                if event.kind == "died":
                    shutil.rmtree(task.temporary, ignore_errors=True)
                    outcome = Outcome(_death(task, event.value))
                self._record(event.task, task, outcome)

    def _tell(self, number: int, fraction: float, task: Task, message: str) -> None:
        self.fractions[number] = fraction
        plan = self.search.plan
        done, total = self.ended + sum(self.fractions.values()), plan.to_do
        if self.ended == 0 and fraction > 0:
            self.estimate.begin(done)
        counted = ""
        if total > 1:
            left = self.estimate.left(done, total)
            more = "" if plan.complete else "+"
            counted = f"; {self.ended} of {total}{more}" + (
                f", {left}{' or more' if more else ''} left" if left else ""
            )
        # How much the whole is, is not known before all is found.
        self.progress(done / total if plan.complete else 0.0, f"{task.source.path.name}: {message}{counted}")

    def _record(self, number: int, task: Task, outcome: Outcome) -> None:
        message = outcome.failure
        if not message and read_finished(task.folder) is None:
            message = f"{task.source.shown} left no result; run it again."
            if self.options.scheduler or self.options.slurm is not None:
                message = f"{message[:-1]}, with an output folder that all machines see under the same name."
        entry = Entry(str(task.source.path), task.folder.name, DONE, task.source.shown)
        if message:
            entry = replace(
                entry, status=FAILED, message=message, series_in=task.source.series_in, failed_with=self.failed_with
            )
        self.journal.note(entry)
        if message and outcome.details:
            self.log(outcome.details)
        self._tell(number, 1.0, task, "failed" if message else "done")
        del self.fractions[number]
        self.ended += 1

    def _tell_skipped(self) -> None:
        plan = self.search.plan
        if plan.skipped:
            n = len(plan.differing)
            differ = f" Done with other options: {n if n < plan.skipped else 'all of them'}." if n else ""
            self.log(f"{_inputs(plan.skipped)} finished earlier and skipped; --overwrite redoes them.{differ}")
        if plan.uncopied:
            self.log(
                f"{_inputs(plan.uncopied)} finished without a de-identified copy; {run_copies.how_to_make(self.options)}"
            )

    # ------------------------------------------------------------------------------------------------------- its end

    def finish(self) -> RunResult:
        """Write the overview of all that the output folder holds, earlier runs included.

        What cannot be written (disk full) is added to the failures: how the inputs ended must reach the user all the same.
        """
        from .run_overview import Result, Results, write_overview

        self.clear()
        plan, output = self.search.plan, self.options.output
        mine = [_failed_before(self.journal.get(path), output) for path in plan.order]
        ended = [entry for entry in mine if entry.status in (DONE, FAILED)]
        results = Results(output, ended, plan.troubles)
        earlier = Results(output, [_as_earlier(entry, output) for entry in self._others() if _counts(entry, output)])
        when = f"{'Cancelled' if self.cancelled else 'Finished'} {_now().replace('T', ' ')[:16]} UTC."
        overview = write_overview(output, self.own, results, earlier, when, self.options.parquet)
        failures = [*results.failures(), *overview.unwritten]
        if self.options.anonymize is not None:
            failures += run_copies.finish(self.options, self.own)
        counts = {**asdict(overview.all_counts), "skipped": plan.skipped}
        try:
            self.write_record("cancelled" if self.cancelled else "done", counts, overview.models)
            (self.own / JOURNAL).unlink(missing_ok=True)  # what it held is in the record now
        except OutputError as error:
            failures.append(Result(str(output / RUN), message=str(error)))
        except OSError:
            pass  # it is read again by the next run, which does no harm
        return RunResult(
            results,
            overview.counts,
            tuple(failures),
            plan.skipped,
            tuple(plan.left),
            plan.left_count,
            {path: plan.reasons[path] for path in plan.left if path in plan.reasons},
            self.cancelled,
        )

    def _others(self) -> list[Entry]:
        """What the output folder holds of earlier runs."""
        mine = set(self.search.plan.order)
        return sorted((entry for entry in self.journal if entry.input not in mine), key=lambda entry: entry.folder)

    def write_record(
        self, status: str, counts: Mapping[str, int] | None = None, models: Sequence[Mapping] = (), trouble: str = ""
    ) -> None:
        """Write run.json: how this run can be repeated, and what became of its inputs. Raises `OutputError`."""
        plan = self.search.plan
        if self.retried is None:
            manifest = run_manifest.manifest(self.names, self.options, models)
        else:  # `models` has those of all studies, not of the retry alone
            manifest = run_manifest.of_retry(self.retried, run_manifest.manifest(self.names, self.options))
        others = manifest["options"] != manifest.get("retry", manifest)["options"]  # than the ones that are told of all
        told = options_text(manifest["options"])
        inputs, failures = [], [{"input": name, "message": text} for name, text in plan.troubles]
        for path in plan.order:
            entry = self.journal.get(path)
            item = _item(entry, entry.status, told)
            if _failed_before(entry, self.options.output).status == FAILED:
                failures.append({"input": entry.shown, "message": entry.message})
            if path in plan.differing or (others and entry.status == DONE):
                study = read_finished(self.options.output / entry.folder)
                item["options"] = study.provenance.get("options", {}) if study is not None else {}
            inputs.append(item)
        for entry in self._others():
            status_of = "earlier" if entry.status == DONE else entry.status
            if entry.status == FAILED and read_finished(self.options.output / entry.folder) is not None:
                status_of = REDO  # old results are there, which shall be replaced
            item = _item(entry, status_of, told)
            options = self._options_of(entry)
            if options is not None:
                item["options"] = options
            inputs.append(item)
        record = {
            "schema": RUN_SCHEMA,
            "status": status,
            "run": self.id,
            "created": self.created,
            "finished": None if status == "running" else _now(),
            **manifest,
            "counts": dict(counts or {}),
            "inputs": inputs,
            "failures": failures,
            "left": [str(path) for path in plan.left],
            "left_because": {str(path): plan.reasons[path] for path in plan.left if path in plan.reasons},
            "left_count": plan.left_count,
        }
        if self.retried is not None:  # nothing is searched
            record |= {name: self.retried[name] for name in ("left", "left_because", "left_count") if name in self.retried}
        if trouble:
            record["trouble"] = trouble
        write_text(self.options.output / RUN, json.dumps(record, indent=2) + "\n")


def _item(entry: Entry, status: str, told: str) -> dict[str, Any]:
    """An input as run.json lists it; `told`: the options that it tells of all inputs."""
    item = {"input": entry.input, "folder": entry.folder, "status": status, "shown": entry.shown}
    if status == FAILED or entry.message:  # one that is to be redone has a cause where it failed before
        item["message"] = entry.message
        if entry.failed_with not in ("", told):
            item["failed_with"] = json.loads(entry.failed_with)
    if entry.series_in is not None:
        item["series_in"] = list(entry.series_in)
    return item


def _failed_before(entry: Entry, output: Path) -> Entry:
    """An input of this run; as failed where it failed before and this run was cut short before it ended: its cause is still one."""
    if entry.status != REDO or not entry.message:
        return entry
    study = read_finished(output / entry.folder)
    made = study is not None and study.provenance.get("run") == entry.run  # and only its line of the journal is missing
    return entry if made else replace(entry, status=FAILED)


def _counts(entry: Entry, output: Path) -> bool:
    """Whether an input of an earlier run belongs in the overview: it is finished, or failed and is still there."""
    if entry.status == WAITING:
        return read_finished(output / entry.folder) is not None
    return entry.status == DONE or os.path.lexists(entry.input) or read_finished(output / entry.folder) is not None


def _as_earlier(entry: Entry, output: Path) -> Entry:
    """An input of an earlier run as the overview tells it."""
    if entry.status == WAITING:
        return replace(entry, status=DONE)
    if entry.status == DONE:
        return entry
    shown = entry.shown or entry.input
    # A redo that was killed has no cause, nor has what versions before wrote down of a failure.
    none = read_finished(output / entry.folder) is None
    how = "was not finished when it was last worked on" if none else "failed when it was last redone"
    return replace(entry, status=FAILED, message=entry.message or f"{shown} {how}; run it again.")


def _death(task: Task, end: End) -> str:
    """The failure of an input whose process ended before it was done."""
    cure = {
        "time": "give it longer with --time-limit, or leave it out",
        "memory": "give it more with --memory-limit, or leave it out",
    }.get(
        end.why,
        "perhaps the file is damaged in a way that its reader does not bear, or memory ran out; run it again with fewer --jobs",
    )
    return f"{task.source.shown} was not finished: the process that worked on it {end}; {cure}."


def _inputs(n: int) -> str:
    return f"{n} input{'s' if n != 1 else ''}"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
