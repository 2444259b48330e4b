"""A run: many inputs in, one folder of results for each, and an overview of all of them.

The results of an input are made in a temporary folder inside the output folder and moved into place file by file,
study.json last. So a folder with a study.json is finished, an input that fails leaves nothing behind, redoing one keeps
the old results until the new ones are complete, and what a person put beside the results stays.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .atomic import output_error, write_text
from .errors import BreastUSAIError, Cancelled, DataError, ModelError, OutputError, UsageError
from .inputs import RUN, RUN_SCHEMA, Source, find_inputs, name_folders, read_run
from .workers import cores, run_tasks

if TYPE_CHECKING:
    from .report import Result
    from .workup import WorkupOptions

SCENE = "scene.mrb"
TEMPORARY = ".tmp-"

_STALE_S = 3600  # a temporary folder this old belongs to a run that was killed; no input takes that long


@dataclass(frozen=True)
class RunOptions:
    """Choices of the user for a run.

    Attributes
    ----------
    output : folder of results.
    workup : see `workup.WorkupOptions`.
    jobs : processes; more than there are cores or inputs are not started.
    overwrite : redo inputs that are finished.
    spacing_mm, frame : see `image.read_image`.
    max_pixels : the largest image that is read; None: as `image.read_image` says.
    scene : write scene.mrb.
    debug : tell the traceback of errors that nobody expected.
    """

    output: Path
    workup: WorkupOptions
    jobs: int = 1
    overwrite: bool = False
    spacing_mm: float | None = None
    frame: int | None = None
    max_pixels: int | None = None
    scene: bool = True
    debug: bool = False

    def of_results(self, task: str = "segment") -> dict[str, Any]:
        """The options that change the results of an input that begins with this task; its study keeps them."""
        return {
            **self.workup.of_task(task),
            "spacing_mm": self.spacing_mm,
            "frame": self.frame,
            "scene": self.scene,
        }

    def __post_init__(self) -> None:
        object.__setattr__(self, "output", Path(os.path.abspath(self.output)))
        if not _is_text(self.output):
            raise UsageError(f"--output is {str(self.output)!r}, whose name is not valid UTF-8; choose another folder.")
        if self.jobs < 1:
            raise UsageError(f"--jobs is {self.jobs}; it must be 1 or more.")
        if self.max_pixels is not None and self.max_pixels < 1:
            raise UsageError(f"--max-pixels is {self.max_pixels}; it must be 1 or more.")
        if self.spacing_mm is not None and not 0 < self.spacing_mm < float("inf"):
            raise UsageError(f"--spacing is {self.spacing_mm}; it must be a positive number of millimetres.")
        if self.frame is not None and self.frame < 1:
            raise UsageError(f"--frame is {self.frame}; the first frame is 1.")


@dataclass(frozen=True)
class Task:
    """One input: what to read, where to make its results, and where they belong."""

    source: Source
    temporary: Path
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """How a task ended. `failure` is "" when it went well, `details` a traceback where one was asked for."""

    failure: str = ""
    details: str = ""


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes
    ----------
    results : of all inputs of this run, in their order; those that were never begun (cancel) are left out.
    skipped : how many were finished by an earlier run.
    left : files in the given folders that are no images.
    cancelled : whether the user ended it early.
    unwritten : files of the overview that could not be written, with the reason.
    """

    results: tuple[Result, ...]
    skipped: int = 0
    left: tuple[Path, ...] = ()
    cancelled: bool = False
    unwritten: tuple[Result, ...] = ()

    @property
    def failures(self) -> tuple[Result, ...]:
        """Inputs that failed, then what is missing of the overview."""
        return (*(r for r in self.results if r.study is None), *self.unwritten)


# ------------------------------------------------------------------------------------------------------- one input


class InputWorker:
    """Does one input after the other; the model is loaded once, when the worker is made.

    Raises
    ------
    ModelError, UsageError : the model or the device is not there.
    """

    def __init__(self, options: RunOptions) -> None:
        from .models.zoo import ModelCache

        self._options = options
        self._cache = ModelCache()
        self._cache.get(options.workup.model, "segment", options.workup.device)

    def __call__(self, task: Task, progress: Callable[[float, str], None]) -> Outcome:
        """Read, work up, write. Errors become the outcome's failure; only cancelling passes."""
        try:
            self._do(task, progress)
        except Exception as error:
            if isinstance(error, Cancelled):
                raise
            return Outcome(failure_sentence(task, error), traceback.format_exc() if self._options.debug else "")
        finally:
            shutil.rmtree(task.temporary, ignore_errors=True)
        return Outcome()

    def _do(self, task: Task, progress: Callable[[float, str], None]) -> None:
        from .image import read_image
        from .workup import first_task, run_workup

        options = self._options
        progress(0.0, "reading")
        start = time.perf_counter()
        loaded = read_image(
            task.source.path,
            spacing_mm=options.spacing_mm,
            frame=options.frame,
            max_pixels=options.max_pixels,
        )
        seconds = {"read": round(time.perf_counter() - start, 4)}

        def tell(fraction: float, message: str) -> None:
            if fraction < 1:  # the workup's end is not ours
                progress(0.1 + 0.6 * fraction, message)

        study = run_workup(loaded, options.workup, tell, self._cache)
        provenance = {
            **study.provenance,
            "options": {**study.provenance.get("options", {}), **options.of_results(first_task(loaded.image))},
            "seconds": {**seconds, **study.provenance.get("seconds", {})},
        }
        progress(0.7, "writing")
        write_results(replace(study, provenance=provenance), loaded.image, task.temporary, scene=options.scene)
        move_results(task.temporary, task.folder)


def write_results(study, image, folder: Path, *, scene: bool) -> None:
    """All files of one input, study.json last.

    Raises
    ------
    OutputError : a file cannot be written.
    DependencyError : a scene is asked for and slicer-core is not installed.
    """
    from .files import write_study
    from .report import write_report

    write_report(study, image, folder)
    if scene:
        from .mrml import write_scene

        write_scene(folder / SCENE, image, study)
    write_study(study, folder)


def own_files() -> tuple[str, ...]:
    """The names of all files that a run may write for one input; study.json is the last."""
    from . import files, report

    return (
        files.FINDINGS,
        files.LESIONS,
        files.BOXES,
        files.POINTS,
        files.HEATMAP,
        SCENE,
        report.REPORT,
        report.PREVIEW,
        files.STUDY,
    )


def move_results(temporary: Path, folder: Path) -> None:
    """Move finished results to where they belong, study.json last. Raises `OutputError`.

    Older results of ours are replaced or removed; other files in the folder stay.
    """
    *names, study = own_files()
    target = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # From here on the folder is unfinished until the new study.json stands in it.
        (folder / study).unlink(missing_ok=True)
        for name in names:
            target = folder / name
            if (temporary / name).exists():
                os.replace(temporary / name, target)
            else:
                target.unlink(missing_ok=True)
        target = folder / study
        os.replace(temporary / study, target)
    except OSError as error:
        raise output_error(target, error) from error


def failure_sentence(task: Task, error: Exception) -> str:
    """One sentence for the user about an input that failed, with its name."""
    shown = task.source.shown
    if isinstance(error, BreastUSAIError):
        # Messages name the files as they were opened; the user knows them by other names.
        text = str(error).replace(str(task.temporary), str(task.folder)).replace(str(task.source.path), shown)
        return text if shown in text else f"{shown}: {text}"
    if isinstance(error, MemoryError):
        return f"{shown} needs more memory than there is; close other programs or run with fewer --jobs."
    text = " ".join(str(error).split())
    return f"{shown} failed unexpectedly ({type(error).__name__}: {text}); run it again with --debug to see where."


# ------------------------------------------------------------------------------------------------------ all inputs


def run(
    names: Sequence[str],
    options: RunOptions,
    progress: Callable[[float, str], None] | None = None,
    log: Callable[[str], None] | None = None,
    make_worker: Callable[[RunOptions], Callable[[Task, Callable[[float, str], None]], Outcome]] = InputWorker,
) -> RunResult:
    """Work on all inputs and write what DESIGN section 6 lists to ``options.output``.

    An input that fails does not keep the others from being done; Ctrl-C ends the run, and what was finished until then
    is in the overview.

    Parameters
    ----------
    names : files, folders and wildcard patterns (`inputs.find_inputs`).
    options : see `RunOptions`.
    progress : called with the fraction of the whole run and what is being done.
    log : called with sentences for the user.
    make_worker : makes the function that does one task; called once, or once in each process.

    Raises
    ------
    OutputError : nothing can be written to the output folder; nothing was done.
    ModelError, UsageError : the model or the device is not there; nothing was done.
    """
    tell = log or (lambda text: None)
    run_ = _Run(options, progress or (lambda fraction, message: None), tell)
    run_.prepare_output()
    inputs = find_inputs(names, options.output)
    if options.scene and importlib.util.find_spec("slicer") is None:
        tell("No scene.mrb is written: scenes need slicer-core; install it with: pip install breastusai[slicer]")
        run_.options = options = replace(options, scene=False)
    run_.plan(inputs.sources, inputs.failures)
    run_.write_record("running")
    cancelled = False
    try:
        run_.work(make_worker)
    except (KeyboardInterrupt, Cancelled):
        cancelled = True
        tell("Cancelled; what was finished is kept, and the same command goes on from there.")
    except BaseException:
        run_.give_up()
        raise
    result = RunResult(tuple(run_.results()), run_.skipped, inputs.left, cancelled)
    return run_.finish(result)


@dataclass
class _Run:
    """The state of one run, while it lasts."""

    options: RunOptions
    progress: Callable[[float, str], None]
    log: Callable[[str], None]
    sources: tuple[Source, ...] = ()
    folders: dict[Path, str] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)  # as named by the user -> sentence
    done: dict[Path, Any] = field(default_factory=dict)  # source -> Study without masks
    others: dict[str, Path] = field(default_factory=dict)  # folders of earlier runs' inputs -> their source
    redo: set[Path] = field(default_factory=set)  # sources whose old results shall not count as finished
    differing: set[Path] = field(default_factory=set)  # sources that were finished with other options
    skipped: int = 0
    created: str = field(default_factory=lambda: _now())
    made: list[Path] = field(default_factory=list)  # what was not there before, the last first

    def prepare_output(self) -> None:
        """Make the output folder and prove that it can be written to, before any work is done."""
        output = self.options.output
        # os.path says "no" where Path raises: folders that may not be looked into, names that are too long.
        if os.path.exists(output) and not os.path.isdir(output):
            raise OutputError(f"{output} is a file; choose a folder for --output.")
        self.made = [path for path in (output / RUN, output, *output.parents) if not os.path.exists(path)]
        probe = output / f"{TEMPORARY}{uuid.uuid4().hex[:12]}"
        write_text(probe, "")
        probe.unlink(missing_ok=True)
        for old in output.glob(f"{TEMPORARY}*"):
            try:
                if time.time() - old.stat().st_mtime > _STALE_S:
                    shutil.rmtree(old) if old.is_dir() else old.unlink()
            except OSError:
                continue  # another run is cleaning up as well

    def plan(self, sources: tuple[Source, ...], failures: Iterable[tuple[str, str]]) -> None:
        """Find out what is done already and what is to be done."""
        output = self.options.output
        earlier = read_run(output)
        taken = _taken(output, earlier)
        self.sources, self.failures = sources, dict(failures)
        self.folders = name_folders(sources, taken)
        ours = set(self.folders.values())
        self.others = {name: Path(path) for name, path in taken.items() if name not in ours}
        # An attempt to redo an input that failed left the old results where they were; so did one that was killed.
        again = ("failed", "redo")
        self.redo = {Path(item["input"]) for item in _earlier_inputs(earlier) if item.get("status") in again}
        for source in sources:
            folder = output / self.folders[source.path]
            if not _is_text(source.path):
                # ITK ends the whole process when it is given such a name.
                self.failures[source.shown] = f"{source.shown} has a name that is not valid UTF-8; rename it."
                continue
            study = read_finished(folder)
            if study is not None and self.options.overwrite:
                self.redo.add(source.path)
            if study is not None and source.path not in self.redo:
                self.done[source.path] = study
            else:
                self.tasks.append(Task(source, output / f"{TEMPORARY}{uuid.uuid4().hex[:12]}", folder))
        self.skipped = len(self.done)
        if self.skipped:
            text = f"{_inputs(self.skipped)} finished earlier and skipped; --overwrite redoes them."
            self.differing = self._find_differing()
            if self.differing:
                n = len(self.differing)
                text += f" Done with other options: {n if n < self.skipped else 'all of them'}."
            self.log(text)

    def _find_differing(self) -> set[Path]:
        """Which finished inputs were done with other options or another model, by what their studies tell."""
        checksums = {task: self._checksums(task) for task in ("segment", "detect")}
        differing = set()
        for path, study in self.done.items():
            made = study.provenance.get("options", {})
            models = study.provenance.get("models", ())
            task = models[0]["task"] if models else "segment"
            # The device changes no result; a model has several names, and its checksum is compared.
            options = {k: v for k, v in self.options.of_results(task).items() if k not in ("device", "model", "classifier")}
            sha256 = {m["sha256"] for m in models}
            if (models and sha256 != checksums[task]) or any(k in made and made[k] != v for k, v in options.items()):
                differing.add(path)
        return differing

    def _checksums(self, task: str) -> set[str]:
        """Of the models that an input would be worked on with; empty where one is not there."""
        from .models.zoo import resolve

        try:
            return {resolve(name, of)[0].sha256 for of, name in self.options.workup.models(task).items()}
        except ModelError:
            return set()  # made with others, then

    def work(self, make_worker) -> None:
        """Do all tasks, here or in processes of their own."""
        if not self.tasks:
            return
        jobs = min(self.options.jobs, len(self.tasks), cores())
        if jobs < self.options.jobs and jobs == cores():
            self.log(f"Working in {jobs} processes, as many as there are processor cores.")
        self.progress(0.0, "loading the model")
        if jobs == 1:
            self._work_here(make_worker)
        else:
            self._work_in_processes(make_worker, jobs)

    def _work_here(self, make_worker) -> None:
        worker = make_worker(self.options)
        for number, task in enumerate(self.tasks):

            def tell(fraction: float, message: str, number=number, task=task) -> None:
                self._tell(number + fraction, task, message)

            self._record(task, worker(task, tell))
            tell(1.0, "done")

    def _work_in_processes(self, make_worker, jobs: int) -> None:
        fractions = [0.0] * len(self.tasks)
        events = run_tasks(make_worker, (self.options,), self.tasks, jobs)
        try:
            for event in events:
                if event.kind == "fatal":
                    raise event.value
                task = self.tasks[event.task]
                if event.kind == "progress":
                    fractions[event.task], message = event.value
                    self._tell(sum(fractions), task, message)
                    continue
                fractions[event.task] = 1.0
                outcome = event.value
                if event.kind == "died":
                    shutil.rmtree(task.temporary, ignore_errors=True)
                    outcome = Outcome(
                        f"{task.source.shown} was not finished: the process that worked on it {event.value}, perhaps "
                        "for lack of memory; run it again with fewer --jobs."
                    )
                self._record(task, outcome)
                self._tell(sum(fractions), task, "done")
        finally:
            events.close()
            for task in self.tasks:
                shutil.rmtree(task.temporary, ignore_errors=True)

    def _tell(self, done: float, task: Task, message: str) -> None:
        self.progress(done / len(self.tasks), f"{task.source.path.name}: {message}")

    def _record(self, task: Task, outcome: Outcome) -> None:
        study = None if outcome.failure else read_finished(task.folder)
        if study is None:
            self.failures[task.source.shown] = outcome.failure or f"{task.source.shown} left no result; run it again."
            if outcome.details:
                self.log(outcome.details)
        else:
            self.done[task.source.path] = study

    def give_up(self) -> None:
        """After an error that ends the run before anything is done: leave the output folder as it was."""
        if self.done or self.failures:
            try:
                self.write_record("failed")
            except OutputError:
                pass  # the error that ended the run is the one to tell
            return
        for path in self.made:
            try:
                path.rmdir() if path.is_dir() else path.unlink()
            except OSError:
                return  # no longer empty: somebody else uses it

    def results(self) -> list[Result]:
        """One result for each input of this run that ended, in their order."""
        from .report import Result

        found = []
        for source in self.sources:
            if source.path in self.done:
                found.append(Result(source.shown, self.folders[source.path], self.done[source.path]))
            elif source.shown in self.failures:
                found.append(Result(source.shown, message=self.failures[source.shown]))
        known = {source.shown for source in self.sources}
        return found + [Result(name, message=text) for name, text in self.failures.items() if name not in known]

    def finish(self, result: RunResult) -> RunResult:
        """Write the overview of all that the output folder holds, earlier runs included.

        What cannot be written (disk full) is added to the result: how the inputs ended must reach the user all the same.
        """
        from .report import INDEX, SUMMARY, Result, counts, index_html, summary_csv

        output = self.options.output
        earlier = []
        for name, path in sorted(self.others.items()):
            study = read_finished(output / name)
            if study is not None and path in self.redo:
                earlier.append(Result(str(path), message=f"{path} failed when it was last redone; run it again."))
            elif study is not None:
                earlier.append(Result(str(path), name, study))
        results = [*result.results, *earlier]
        links = [name for name in own_files() if name in (SCENE, "findings.csv", "lesions.seg.nrrd", "study.json")]
        files = {r.folder: [n for n in links if os.path.exists(output / r.folder / n)] for r in results if r.study}
        how = "Cancelled" if result.cancelled else "Finished"
        ended = f"{how} {_now().replace('T', ' ')[:16]} UTC."
        state = "cancelled" if result.cancelled else "done"
        unwritten = []
        for name, write in (
            # First the record: the next run goes by it.
            (RUN, lambda: self.write_record(state, result.left, {**counts(results), "skipped": self.skipped})),
            (SUMMARY, lambda: write_text(output / SUMMARY, summary_csv(results))),
            (INDEX, lambda: write_text(output / INDEX, index_html(results, ended, files))),
        ):
            try:
                write()
            except OutputError as error:
                unwritten.append(Result(str(output / name), message=str(error)))
        return replace(result, unwritten=tuple(unwritten))

    def write_record(self, status: str, left: Iterable[Path] = (), counts: Mapping[str, int] | None = None) -> None:
        """Write run.json. At the start it keeps the folder names of a run that is killed; at the end it is complete."""
        inputs = []
        for source in self.sources:
            item = {"input": str(source.path), "folder": self.folders[source.path], "status": self._status(source)}
            if source.path in self.differing:
                item["options"] = self.done[source.path].provenance.get("options", {})
            inputs.append(item)
        for name, path in self.others.items():
            inputs.append({"input": str(path), "folder": name, "status": "redo" if path in self.redo else "earlier"})
        models: dict[str, Any] = {}
        software = {"breastusai": __version__, "python": platform.python_version()}
        for study in self.done.values():
            software = {**study.provenance.get("software", {}), **software}
            models.update({m["sha256"]: m for m in study.provenance.get("models", ())})
        record = {
            "schema": RUN_SCHEMA,
            "status": status,
            "created": self.created,
            "finished": None if status == "running" else _now(),
            "command": sys.argv,
            "software": software,
            "models": list(models.values()),
            "options": self._options_record(),
            "counts": dict(counts or {}),
            "inputs": inputs,
            "failures": [{"input": name, "message": text} for name, text in self.failures.items()],
            "left": [str(path) for path in left],
        }
        write_text(self.options.output / RUN, json.dumps(record, indent=2) + "\n")

    def _status(self, source: Source) -> str:
        if source.path in self.done:
            return "done"
        if source.shown in self.failures:
            return "failed"
        return "redo" if source.path in self.redo else "waiting"

    def _options_record(self) -> dict[str, Any]:
        """The options that change results."""
        options = asdict(self.options)
        for name in ("output", "jobs", "overwrite", "debug"):
            del options[name]
        return options


def read_finished(folder: Path):
    """The study of a finished input, without masks; None where it is not finished or its study.json is damaged."""
    from .files import STUDY
    from .findings import Study

    try:
        return Study.from_json((folder / STUDY).read_text(encoding="utf-8"), source=str(folder / STUDY))
    except (OSError, UnicodeDecodeError, DataError):
        return None


def _taken(output: Path, earlier: Mapping[str, Any]) -> dict[str, str]:
    """Folder name -> source of what earlier runs did, by run.json, and by the studies where that is lost."""
    taken = {item["folder"]: item["input"] for item in _earlier_inputs(earlier)}
    for study_file in sorted(output.glob("*/study.json")):
        name = study_file.parent.name
        if name not in taken:
            study = read_finished(study_file.parent)
            if study is not None:
                taken[name] = os.path.abspath(study.image.path)
    return taken


def _earlier_inputs(earlier: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The inputs of a run.json, as far as they are well formed."""
    return [
        item
        for item in earlier.get("inputs", ())
        if isinstance(item, dict) and isinstance(item.get("folder"), str) and isinstance(item.get("input"), str)
    ]


def _is_text(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _inputs(n: int) -> str:
    return f"{n} input{'s' if n != 1 else ''}"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
