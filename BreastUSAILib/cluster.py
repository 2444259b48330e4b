"""The tasks of a run on many machines, by Dask: on a scheduler that is there, or on workers started as Slurm jobs.

Dask moves the tasks, starts them again elsewhere when a worker is lost, and tells what became of them. What is ours: each
Dask worker hands a task to one child process (`workers.Pool`), as a run on one machine does, so that time and memory limits
and crashes cost the input and not the worker; and a task that another worker has finished meanwhile is not done again.
All machines must see inputs, models and the output folder under the same names.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .errors import BreastUSAIError, DependencyError, OutputError, UsageError
from .models.engine_names import ENGINE_VARIABLE
from .processor import cores
from .slurm import SlurmJobs
from .workers import End, Event, Pool

if TYPE_CHECKING:
    from .run_input import Outcome, RunOptions, Task

_CONNECT_S = 30
_LOOK_S = 15  # between two looks whether there is anybody to do the work
_AHEAD = 2  # tasks a thread of a worker, so that none waits for us


class DaskPool:
    """Workers of a Dask cluster, with the methods of `workers.Pool`.

    Parameters
    ----------
    make : makes the function that does one task, called in a child of each worker as ``make(options)``.
    options : with `scheduler` or `slurm`.
    log : called with sentences for the user.

    Raises
    ------
    DependencyError : Dask is not installed.
    UsageError : there is no scheduler at the address, no Slurm on this machine, or it does not take the jobs.
    """

    def __init__(self, make: Callable[..., Any], options: RunOptions, log: Callable[[str], None]) -> None:
        try:
            import distributed
        except ImportError as error:
            raise DependencyError(
                "Many machines need Dask; install it with: pip install breastusai[cluster]"
            ) from error
        self._make = _WithEngine(make, os.environ.get(ENGINE_VARIABLE, ""))
        # What a worker's child is told: the work, and nothing about the cluster.
        self._options = replace(options, scheduler="", slurm=None)
        self._log, self._address, self._told = log, options.scheduler, False
        self._jobs = SlurmJobs(options.slurm, log) if options.slurm is not None else None
        try:
            address = options.scheduler if self._jobs is None else self._jobs.cluster
            self._client = distributed.Client(address, timeout=_CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"There is no Dask scheduler at {options.scheduler} ({error}); check the address."
            ) from error
        self._id = uuid.uuid4().hex
        self._numbers: dict[Any, int] = {}  # future -> number of its task
        self._ended: queue.Queue[Any] = queue.Queue()  # futures

    def __enter__(self) -> DaskPool:
        return self

    def __exit__(self, *exception) -> None:
        unfinished = list(self._numbers)
        self._numbers.clear()
        if self._client.status == "running":
            self._client.cancel(unfinished)
            self._client.run(_end_children, self._id)
        self._client.close()
        if self._jobs is not None:
            self._jobs.close()

    @property
    def free(self) -> int:
        return max(1, _AHEAD * sum(self._client.nthreads().values())) - self.busy

    @property
    def busy(self) -> int:
        return len(self._numbers)

    def give(self, number: int, task: Task) -> None:
        key = f"breastusai-{task.temporary.name}"
        arguments = (self._make, self._options, task)
        future = self._client.submit(_do, self._id, *arguments, key=key, pure=False)
        self._numbers[future] = number
        future.add_done_callback(self._ended.put)

    def events(self, timeout: float | None = None) -> list[Event]:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _LOOK_S if deadline is None else max(0.0, min(_LOOK_S, deadline - time.monotonic()))
            try:
                future = self._ended.get(timeout=left)
            except queue.Empty:
                error = self._nobody_left()
                if error is not None:
                    return [Event(-1, "fatal", error)]
                if deadline is not None and time.monotonic() >= deadline:
                    return []
                continue
            number = self._numbers.pop(future, None)
            return [] if number is None else [_event(number, future)]

    def _nobody_left(self) -> OutputError | None:
        """Why there is nobody who does the work, nor will be; said to the user, where somebody may still come."""
        if self._client.status != "running" or self._client.nthreads():
            return None
        if self._jobs is not None:
            return self._jobs.ended()
        if not self._told:
            self._told = True
            self._log(f"No worker is connected to the Dask scheduler at {self._address}; the run waits until one is.")
        return None


@dataclass(frozen=True)
class _WithEngine:
    """`make` with the engine of the command (``--engine``), which stands in its environment and not in that of other machines.

    It is called in a child of a worker that does this run's tasks and no others. engine: "" leaves the worker's own.
    """

    make: Callable[..., Any]
    engine: str

    def __call__(self, options: RunOptions) -> Any:
        if self.engine:
            os.environ[ENGINE_VARIABLE] = self.engine
        return self.make(options)


def _event(number: int, future: Any) -> Event:
    """What became of a task."""
    from distributed.scheduler import KilledWorker

    if future.status == "finished":
        kind, value = future.result()
        return Event(number, kind, value)
    if future.status == "cancelled":
        return Event(
            -1, "fatal", OutputError("The Dask scheduler was lost; give the same command again, and it goes on.")
        )
    error = future.exception()
    if isinstance(error, KilledWorker):
        return Event(number, "died", End("crash", "was lost with its worker, several times"))
    if not isinstance(error, BreastUSAIError):
        text = f"A Dask worker cannot do the work ({type(error).__name__}: {error}); install the same BreastUSAI there."
        error = UsageError(text)
    return Event(-1, "fatal", error)


# --------------------------------------------------------------------------------------------------- on the workers

_ended: set[str] = set()  # runs that are over; written down before their children are ended, see `_do`
_pools: dict[int, tuple[Any, Pool]] = {}  # thread of the worker -> what its child was made for (its run first), the child


def _do(run: str, make: Callable[..., Any], options: RunOptions, task: Task) -> tuple[str, Outcome | End]:
    """One task in a child of this worker: ("done", its outcome) or ("died", why).

    Raises what making the worker raised: no task can be done.
    """
    from distributed import get_worker

    from .run_input import Outcome, read_finished

    # A worker that was held to be lost may have finished it.
    study = read_finished(task.folder)
    if study is not None and task.run and study.provenance.get("run") == task.run:
        return "done", Outcome()
    # It may also be at work on it still.
    task = replace(task, temporary=task.temporary.with_name(f"{task.temporary.name}-{uuid.uuid4().hex[:6]}"))
    threads = max(1, cores() // get_worker().state.nthreads)
    ended = "died", End("crash", "was ended with the run")
    if run in _ended:
        return ended
    pool = _pool(run, make, options, threads)
    if run in _ended:  # while its child was made, which nobody else may have seen
        _end_children(run)
        return ended
    pool.give(0, task)
    try:
        while True:
            for event in pool.events():
                if event.kind == "fatal":
                    raise event.value
                if event.kind in ("done", "died"):
                    return event.kind, event.value
            if not pool.busy:  # closed by the end of the run
                return ended
    finally:
        shutil.rmtree(task.temporary, ignore_errors=True)


def _pool(run: str, make: Callable[..., Any], options: RunOptions, threads: int) -> Pool:
    # Dask's workers are daemonic processes, which may not have children; ours end by themselves when their parent does.
    multiprocessing.current_process().daemon = False
    thread, purpose = threading.get_ident(), (run, make, options)
    made, pool = _pools.get(thread, (None, None))
    if made != purpose:
        if pool is not None:
            pool.close()
        pool = Pool(make, (options,), 1, options.limits, threads)
        _pools[thread] = (purpose, pool)
    return pool


def _end_children(run: str) -> None:
    _ended.add(run)
    # The worker's own threads wait for these children: see `Pool.end`.
    for thread, ((of, *_), pool) in list(_pools.items()):
        if of != run:
            continue
        # Before its child is ended: the thread that waits for it may take another run's task at once, and make its own.
        if _pools.get(thread, (None, None))[1] is pool:
            _pools.pop(thread, None)
        pool.end()
