"""A run: many inputs in, one folder of results for each, and an overview of all of them.

Work begins before all inputs are found, and what a run holds in memory is a line for each input. Everything of a run that is
not a result lies in ``.run`` in the output folder while the run lasts: its lock, its journal, and what is being made.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from . import run_copies, run_manifest, run_retry
from .atomic import write_text
from .errors import Cancelled, OutputError, UsageError
from .inputs import OVERVIEW, OWN_RESULT, RUN, RUN_SCHEMA, discover, read_run, why_left
from .processor import cores
from .progress import Estimate
from .run_input import (
    InputWorker,
    Outcome,
    RunOptions,
    Task,
    finished_folders,
    is_others,
    is_ours,
    less_memory,
    mark_remains,
    read_finished,
)
from .run_journal import DONE, FAILED, LOST, REDO, WAITING, Entry, Journal, options_text, recorded_inputs
from .run_lock import run_lock
from .run_search import NAMED, OWN, Plan, Search
from .workers import End, Event, Pool

if TYPE_CHECKING:
    from .run_overview import Counts, Result

TEMPORARY = ".tmp-"  # of single files in the output folder, see `atomic`
JOURNAL = "journal.jsonl"

_PATIENCE_S = 2.0  # for the search to find as many inputs as there are processes, before these share the cores
_LOOK_S = 0.5
_END_S = 2.0  # for the search to end

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
    left : files in the given folders that are no images, the first ones, and folders of results.
    left_count : how many there are.
    reasons : those of `left` that are DICOM files, or folders of results -> why they are none to work on, as a phrase.
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
    ModelError, UsageError : the model or the device is not there; or the folder holds results of another command, or a file of
        somebody else's that has the name of one of the overview; nothing was done.
    """
    tell = log or (lambda text: None)
    output = options.output
    # os.path says "no" where Path raises: folders that may not be looked into, names that are too long.
    if os.path.exists(output) and not os.path.isdir(output):
        raise OutputError(f"{output} is a file; choose a folder for --output.")
    _refuse_another_command_s(output)
    _refuse_others_overview(output, "--output")
    run_copies.check(options)
    if options.anonymize is not None:
        _refuse_others_overview(options.anonymize, "--anonymize")
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
            with suppress(OSError):  # the terminal may be what was lost
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


def _refuse_others_overview(folder: Path, option: str) -> None:
    """UsageError where a file in a folder that holds no results would be replaced, or removed, as one of an earlier run's overview."""
    names = [name for name in OVERVIEW if os.path.lexists(folder / name)]
    # A run writes its record before all else; where that is lost or damaged, its journal or its results tell that it was here, unfinished ones, too.
    if not names or read_run(folder) or (folder / OWN / JOURNAL).exists() or any(map(is_ours, folder.glob("*"))):
        return
    raise UsageError(f"{folder} holds a {names[0]} that is not of a run; choose another folder for {option}.")


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
    return run_retry.failed(_opened(output, run_manifest.with_absolute_models(record)))


def _opened(output: Path, record: Mapping[str, Any]) -> Journal:
    """The journal of a folder of results. What was `LOST` and is there again is finished, with what a person said of it."""
    journal = Journal(output / OWN / JOURNAL, record)
    for entry in journal:
        if entry.status in (FAILED, REDO) and LOST in entry.message and read_finished(output / entry.folder) is not None:
            journal.amend(replace(entry, status=DONE, message="", failed_with=""))
    return journal


# ------------------------------------------------------------------------------------------------------------ the run


class _Run:
    """The state of one run, while it lasts."""

    def __init__(
        self, names: Sequence[str], options: RunOptions, progress: Progress, log: Callable[[str], None], retry: bool
    ) -> None:
        self.options, self.progress, self.log = options, progress, log
        self.cancelled = False
        self.id = uuid.uuid4().hex
        self.created = _now()
        self.told = run_manifest.manifest(names, options)  # now: the folder may be removed while the run lasts
        self.failed_with = options_text(run_manifest.told_options(options))  # what fails in this run
        self.own = options.output / OWN
        record = run_manifest.with_absolute_models(read_run(options.output))
        self.retried = record if retry else None  # the record of the run that is completed, and stays its record
        self.journal = _opened(options.output, record)
        self.otherwise = self._otherwise(record)
        found = run_retry.find_again(run_retry.failed(self.journal)) if retry else discover(names, options.output)
        self.search = Search(found, options, self.journal, self.id, retry)
        self.estimate = Estimate()
        self.fractions: dict[int, float] = {}  # of the tasks that are being worked on
        self.ended = 0  # tasks

    def _otherwise(self, record: Mapping[str, Any]) -> set[str]:
        """The inputs of earlier runs that may have been done with other options than run.json will tell of all."""
        told = {str(item.get("input")) for item in recorded_inputs(record) if "options" in item}
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
        """Nothing is written to the journal from here on.

        The search may be at the headers of a folder of thousands, on a slow disk: it ends when it comes from there, and is not waited for.
        """
        ending = threading.Thread(target=self.search.end, daemon=True)
        ending.start()
        ending.join(_END_S)
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
                    outcome = Outcome(_death(task, event.value, self.options.jobs))
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
        if plan.changed:
            n = len(plan.changed)
            was, is_ = ("was changed since it was", "is") if n == 1 else ("were changed since they were", "are")
            self.log(f"{_inputs(n)} {was} finished and {is_} not skipped: {_some(plan.changed)}.")
        if plan.grown:
            n = len(plan.grown)
            had = "has files that came since it was finished and is done again" if n == 1 else "have files that came since they were finished and are done again"
            self.log(f"{_inputs(n)} {had}: {_some(plan.grown)}.")
        if plan.absorbed:
            n = len(plan.absorbed)
            are = "result is of a file that belongs" if n == 1 else "results are of files that belong"
            self.log(f"{n} {are} to a series now, and left out of the overview: {_some(plan.absorbed)}.")
        if plan.beside:
            n = len(plan.beside)
            has = "has the path of another image that was finished earlier, whose results stay" if n == 1 else (
                "have paths of other images that were finished earlier, whose results stay"
            )
            self.log(f"{_inputs(n)} {has}: {_some(plan.beside)}.")
        if plan.result_count:
            files, they = ("1 file is", "it") if plan.result_count == 1 else (f"{plan.result_count} files are", "them")
            self.log(f"{files} left out, as BreastUSAI wrote {they}: in {_some(plan.result_folders)}.")
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
        self._record_lost(results.lost, self.failed_with)
        self._record_lost(earlier.lost)
        if self.options.anonymize is not None:
            failures += run_copies.finish(self.options, self.own)
        counts = {**asdict(overview.all_counts), "skipped": plan.skipped}
        try:
            self.write_record("cancelled" if self.cancelled else "done", counts, overview.models)
        except OutputError as error:
            failures.append(Result(str(output / RUN), message=str(error)))
        else:
            with suppress(OSError):  # it is read again by the next run, which does no harm
                (self.own / JOURNAL).unlink(missing_ok=True)  # what it held is in the record now
        if n := overview.twins:
            has, are = ("result has", "counts") if n == 1 else ("results have", "count")
            self.log(
                f"{n} {has} the same bytes (SHA-256) as others whose files are gone, and {are} twice in all totals; where the files were "
                f"moved or renamed, remove the old folders of results: {_some(sorted(overview.twins_of))}."
            )
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

    def _record_lost(self, lost: Mapping[Entry, str], failed_with: str = "") -> None:
        """Inputs whose results are gone failed, in the record as in the overview: --retry-failed does them again."""
        for entry, message in lost.items():
            if is_others(self.options.output / entry.folder):
                mark_remains(self.options.output / entry.folder)
            self.journal.amend(replace(entry, status=FAILED, message=message, failed_with=failed_with))

    def _others(self) -> list[Entry]:
        """What the output folder holds of earlier runs."""
        mine = set(self.search.plan.order)
        return sorted((entry for entry in self.journal if entry.key not in mine), key=lambda entry: entry.folder)

    def write_record(
        self, status: str, counts: Mapping[str, int] | None = None, models: Sequence[Mapping] = (), trouble: str = ""
    ) -> None:
        """Write run.json: how this run can be repeated, and what became of its inputs. Raises `OutputError`."""
        plan = self.search.plan
        if self.retried is None:
            manifest = {**self.told, "models": list(models) or self.told["models"]}
        else:  # `models` has those of all studies, not of the retry alone
            manifest = run_manifest.of_retry(self.retried, self.told)
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
            "left_because": {str(path): _why_left(path, plan) for path in plan.left},
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
    if entry.instance:
        item["instance"] = entry.instance
    return item


def _failed_before(entry: Entry, output: Path) -> Entry:
    """An input of this run; as failed where it failed before and this run was cut short before it ended: its cause is still one."""
    if entry.status != REDO or not entry.message:
        return entry
    study = read_finished(output / entry.folder)
    made = study is not None and study.provenance.get("run") == entry.run  # and only its line of the journal is missing
    return entry if made else replace(entry, status=FAILED)


def _counts(entry: Entry, output: Path) -> bool:
    """Whether an input of an earlier run belongs in the overview: it is finished and nobody removed both it and its folder, or it failed and is
    still there."""
    if entry.status == WAITING:
        return read_finished(output / entry.folder) is not None
    if entry.status == DONE:
        return os.path.lexists(output / entry.folder) or os.path.lexists(entry.input)
    return os.path.lexists(entry.input) or read_finished(output / entry.folder) is not None


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


def _death(task: Task, end: End, jobs: int) -> str:
    """The failure of an input whose process ended before it was done; `jobs`: how many are worked on at a time."""
    cure = {
        "time": "give it longer with --time-limit, or leave it out",
        "memory": "give it more with --memory-limit, or leave it out",
    }.get(
        end.why,
        f"perhaps the file is damaged in a way that its reader does not bear, or memory ran out: {less_memory(jobs)}",
    )
    return f"{task.source.shown} was not finished: the process that worked on it {end}; {cure}."


def _why_left(path: Path, plan: Plan) -> str:
    return OWN_RESULT if path in plan.results else plan.reasons.get(path) or why_left(path)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def _inputs(n: int) -> str:
    return f"{n} input{'s' if n != 1 else ''}"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
