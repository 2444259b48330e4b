"""Making many phantoms: which are there already, in how many processes, what failed."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..errors import BreastUSAIError, OutputError, PhantomError
from ..processor import cores
from ..workers import run_tasks
from .layouts import TEMPORARY, finished, for_layout, layout_of, volume_names, write_phantom, write_tables
from .records import GENERATOR, VolumeRecord, read_records
from .spec import PhantomSpec
from .tdsc_abus import IDS
from .truth import Phantom

Progress = Callable[[float, str], None]
Generate = Callable[[int, PhantomSpec], Phantom]

_STALE_S = 3600  # a temporary file this old is left from a run that was killed


@dataclass(frozen=True)
class Batch:
    """A data set that is asked for.

    Attributes
    ----------
    output : its folder.
    numbers : split -> how many volumes.
    seed : block of seeds (`seeds.volume_seed`).
    spec : settings of every volume.
    layout : one of `layouts.LAYOUTS`.
    jobs : processes; more than there are cores or volumes are not started.
    overwrite : make also what is there already.

    Raises
    ------
    PhantomError : settings that contradict each other.
    """

    output: Path
    numbers: dict[str, int]
    seed: int = 0
    spec: PhantomSpec = field(default_factory=PhantomSpec)
    layout: str = "native"
    jobs: int = 1
    overwrite: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "output", Path(self.output).absolute())
        try:
            str(self.output).encode()
        except UnicodeEncodeError:  # ITK would end the whole process
            raise PhantomError(
                f"--output is {str(self.output)!r}, whose name is not valid UTF-8; choose another folder."
            ) from None
        if self.jobs < 1:
            raise PhantomError(f"The number of jobs is {self.jobs}; it must be 1 or more.")
        if any(number < 0 for number in self.numbers.values()) or not sum(self.numbers.values()):
            raise PhantomError("The number of volumes must be 1 or more.")
        object.__setattr__(self, "spec", for_layout(self.layout, self.spec))
        self.tasks()  # refuses unknown names and too many volumes

    def tasks(self) -> list[Task]:
        """All volumes of the data set."""
        return [
            Task(name, split, seed)
            for split, number in self.numbers.items()
            for name, seed in volume_names(self.layout, split, self.seed, number).items()
        ]


@dataclass(frozen=True)
class Task:
    """A volume to make: its name, its split, its seed."""

    name: str
    split: str
    seed: int


@dataclass(frozen=True)
class BatchResult:
    """How it ended: records of all that the folder holds now, how many volumes were made in this run and how many were
    there, and a sentence for each that failed."""

    records: tuple[VolumeRecord, ...]
    made: int
    skipped: int
    failures: tuple[str, ...]


def share(number: int, layout: str, split: str | None) -> dict[str, int]:
    """How many volumes of each split: all of the one that is named; train where none is.

    In the layout of TDSC-ABUS a number without a split is dealt out as the challenge deals its 200: 100, 30, 70.

    Raises
    ------
    PhantomError : more than 200 of them.

    >>> share(20, "tdsc-abus", None)
    {'train': 10, 'validation': 3, 'test': 7}
    """
    if split is not None or layout != "tdsc-abus":
        return {split or "train": number}
    whole = sum(map(len, IDS.values()))
    if number > whole:
        raise PhantomError(f"TDSC-ABUS has {whole} volumes, not {number}; ask for fewer, or for the layout native.")
    parts = {name: number * len(ids) // whole for name, ids in IDS.items()}
    # What rounding down leaves goes where most was cut off, to train first where equal.
    rest = sorted(IDS, key=lambda name: number * len(IDS[name]) / whole - parts[name], reverse=True)
    for name in rest[: number - sum(parts.values())]:
        parts[name] += 1
    return {name: part for name, part in parts.items() if part}


def make_batch(
    batch: Batch,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
    generate: Generate | None = None,
) -> BatchResult:
    """Make the volumes that are not there yet, then the tables over all that the folder holds.

    A volume that cannot be made does not keep the others from being made. However the run ends, what was finished stays, and
    the same call goes on from there: a process that is killed loses the volume that it had in hand.

    Parameters
    ----------
    progress : called with the fraction done and what was made; may raise `Cancelled`.
    log : called with sentences for the user.
    generate : importable function that makes a volume from seed and specification (default: `volume.generate`).

    Raises
    ------
    OutputError : the folder or a file cannot be written (full, read-only).
    PhantomError : the folder holds these volumes made with other settings, volumes of another version of the generator, or another layout.
    """
    tell, log = progress or (lambda fraction, message: None), log or (lambda text: None)
    tasks = batch.tasks()
    todo = _left_to_do(batch, tasks)
    if len(todo) < len(tasks):
        log(f"{len(tasks) - len(todo)} of {len(tasks)} volumes are there already; --overwrite makes them again.")
    _prepare(batch)
    failures: list[str] = []
    made = 0
    try:
        for done, (task, failure) in enumerate(_work(batch, todo, generate, log), start=1):
            if failure:
                failures.append(failure)
            made += not failure
            tell(done / len(todo), f"{task.name}: {'failed' if failure else 'made'}")
    except BaseException:
        try:
            write_tables(batch.layout, batch.output, batch.spec.to_dict())
        except BreastUSAIError:
            pass  # what ended the run is what to tell
        raise
    records = write_tables(batch.layout, batch.output, batch.spec.to_dict())
    return BatchResult(tuple(records), made, len(tasks) - len(todo), tuple(failures))


class VolumeMaker:
    """Makes one volume after the other and writes them; one a process."""

    def __init__(
        self, layout: str, output: Path, spec: PhantomSpec, scratch: Path, generate: Generate | None = None, jobs: int = 1
    ) -> None:
        if generate is None:
            from .volume import generate
        self._layout, self._output, self._spec = layout, output, spec
        self._scratch, self._generate, self._jobs = scratch, generate, jobs

    def __call__(self, task: Task, progress: Progress) -> OutputError | str:
        """"" where all went well, the sentence of a failure, or the error of a disk that takes no more."""
        try:
            phantom = self._generate(task.seed, self._spec)
            write_phantom(
                self._layout, self._output, task.name, task.split, self._spec, phantom, self._scratch
            )
        except OutputError as error:
            return error
        except BreastUSAIError as error:
            return f"{task.name} (seed {task.seed}): {error}"
        except MemoryError:
            cure = "run with fewer --jobs" if self._jobs > 1 else "close other programs"
            return f"{task.name} needs more memory than there is; {cure}, or make smaller volumes."
        except Exception as error:  # one volume in thousands must not cost the others
            text = " ".join(str(error).split())
            return f"{task.name} (seed {task.seed}) failed unexpectedly ({type(error).__name__}: {text})."
        return ""


def _left_to_do(batch: Batch, tasks: Sequence[Task]) -> list[Task]:
    """The tasks whose volumes are not there. Raises `PhantomError` where some are there, but others than asked for."""
    there = layout_of(batch.output)
    if there not in (None, batch.layout):
        raise PhantomError(f"{batch.output} holds phantoms in the layout {there}; choose another folder for --output.")
    made_again = {task.name for task in tasks} if batch.overwrite else set()
    for record in read_records(batch.output, leave_out_damaged=True):
        if record.generator != GENERATOR and record.name not in made_again:
            raise PhantomError(
                f"{batch.output} holds phantoms of another version of the generator, {record.image.name} for one, which would be "
                "mixed with these; choose another folder for --output."
            )
    if batch.overwrite:
        return list(tasks)
    todo, settings = [], batch.spec.to_dict()
    for task in tasks:
        record = finished(batch.layout, batch.output, task.split, task.name)
        if record is None:
            todo.append(task)
            continue
        different = [name for name, value in settings.items() if record.settings.get(name) != value]
        if record.seed != task.seed:
            different.append("seed")
        if different:
            raise PhantomError(
                f"{record.image} was made with another {' and '.join(different)}; choose another folder for --output, or "
                "--overwrite."
            )
    return todo


def _prepare(batch: Batch) -> None:
    """Make the folder, prove that it can be written to, and clear away what killed runs left in it."""
    write_tables(batch.layout, batch.output, batch.spec.to_dict())
    for old in batch.output.glob(f"{TEMPORARY}*"):
        try:
            if time.time() - old.stat().st_mtime > _STALE_S:
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        except OSError:
            continue  # another run is clearing up as well


def _work(batch: Batch, todo: Sequence[Task], generate: Generate | None, log: Callable[[str], None]):
    """Yield each task as it ends, with the sentence of its failure or "". Raises `OutputError`."""
    jobs = min(batch.jobs, len(todo), cores())
    if jobs < min(batch.jobs, len(todo)):
        log(f"Working in {jobs} processes, as many as there are processor cores.")
    scratch = batch.output / f"{TEMPORARY}{uuid.uuid4().hex[:12]}"
    arguments = (batch.layout, batch.output, batch.spec, scratch, generate, jobs)
    try:
        yield from (_work_here if jobs <= 1 else partial(_work_in_processes, jobs))(arguments, todo)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _work_here(arguments: tuple, todo: Sequence[Task]):
    make = VolumeMaker(*arguments) if todo else None
    for task in todo:
        yield task, _ended(make(task, _ignore))


def _work_in_processes(jobs: int, arguments: tuple, todo: Sequence[Task]):
    events = run_tasks(VolumeMaker, arguments, todo, jobs)
    try:
        for event in events:
            if event.kind == "fatal":
                raise event.value
            task = todo[event.task]
            if event.kind == "done":
                yield task, _ended(event.value)
            elif event.kind == "died":
                yield task, (
                    f"{task.name} was not finished: the process that made it {event.value}, perhaps for lack of memory; run "
                    "it again with fewer --jobs."
                )
    finally:
        events.close()


def _ended(outcome: OutputError | str) -> str:
    if isinstance(outcome, OutputError):
        raise outcome
    return outcome


def _ignore(fraction: float, message: str) -> None:
    """Progress within a volume, which is short."""
