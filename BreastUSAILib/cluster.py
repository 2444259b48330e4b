"""The tasks of a run on many machines, by Dask: on a scheduler that is there, or on workers started as Slurm jobs.

Dask moves the tasks, starts them again elsewhere when a worker is lost, and tells what became of them. What is ours: each
Dask worker hands a task to one child process (`workers.Pool`), as a run on one machine does, so that time and memory limits
and crashes cost the input and not the worker; and a task that another worker has finished meanwhile is not done again.
All machines must see inputs, models and the output folder under the same names.
"""

from __future__ import annotations

import multiprocessing
import queue
import shutil
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .errors import BreastUSAIError, DependencyError, OutputError, UsageError
from .workers import End, Event, Pool, cores

if TYPE_CHECKING:
    from .run_input import Outcome, RunOptions, Task

_CONNECT_S = 30
_AHEAD = 2  # tasks a thread of a worker, so that none waits for us


@dataclass(frozen=True)
class SlurmOptions:
    """The Slurm jobs that are started, one worker each.

    Attributes
    ----------
    jobs : how many.
    cores : of each; one input is worked on at a time and uses them all.
    memory : of each, as Dask writes it ("16GB").
    walltime : of each, "HH:MM:SS"; the run goes on while any is left, and the next run where this one stopped.
    directives : further ``#SBATCH`` options, such as "--partition=gpu" and "--gres=gpu:1".
    """

    jobs: int
    cores: int = 4
    memory: str = "16GB"
    walltime: str = "04:00:00"
    directives: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.jobs < 1 or self.cores < 1:
            raise UsageError("--slurm and --slurm-cores must be 1 or more.")


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
    UsageError : there is no scheduler at the address, or no Slurm on this machine.
    """

    def __init__(self, make: Callable[..., Any], options: RunOptions, log: Callable[[str], None]) -> None:
        try:
            import distributed
        except ImportError as error:
            raise DependencyError(
                "Many machines need Dask; install it with: pip install breastusai[cluster]"
            ) from error
        self._make = make
        # What a worker's child is told: the work, and nothing about the cluster.
        self._options = replace(options, scheduler="", slurm=None)
        self._cluster = _slurm_cluster(options.slurm, log) if options.slurm is not None else None
        try:
            address = options.scheduler if self._cluster is None else self._cluster
            self._client = distributed.Client(address, timeout=_CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"There is no Dask scheduler at {options.scheduler} ({error}); check the address."
            ) from error
        self._numbers: dict[Any, int] = {}  # future -> number of its task
        self._ended: queue.Queue[Any] = queue.Queue()  # futures

    def __enter__(self) -> DaskPool:
        return self

    def __exit__(self, *exception) -> None:
        unfinished = list(self._numbers)
        self._numbers.clear()
        if self._client.status == "running":
            self._client.cancel(unfinished)
            self._client.run(_end_children)
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()

    @property
    def free(self) -> int:
        return max(1, _AHEAD * sum(self._client.nthreads().values())) - self.busy

    @property
    def busy(self) -> int:
        return len(self._numbers)

    def give(self, number: int, task: Task) -> None:
        key = f"breastusai-{task.temporary.name}"
        arguments = (self._make, self._options, task)
        future = self._client.submit(_do, *arguments, key=key, pure=False)
        self._numbers[future] = number
        future.add_done_callback(self._ended.put)

    def events(self, timeout: float | None = None) -> list[Event]:
        try:
            future = self._ended.get(timeout=timeout)
        except queue.Empty:
            return []
        number = self._numbers.pop(future, None)
        return [] if number is None else [_event(number, future)]


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


def _slurm_cluster(options: SlurmOptions, log: Callable[[str], None]) -> Any:
    try:
        with _ctrl_c_kept():
            from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise DependencyError(
            "--slurm needs dask-jobqueue; install it with: pip install breastusai[cluster]"
        ) from error
    if shutil.which("sbatch") is None:
        raise UsageError("--slurm needs sbatch; give the command on a machine from which Slurm jobs are submitted.")
    # One task at a time in each job, on all its cores.
    cluster = SLURMCluster(
        processes=1,
        cores=1,
        job_cpu=options.cores,
        memory=options.memory,
        walltime=options.walltime,
        job_extra_directives=list(options.directives),
        python=sys.executable,
    )
    cluster.scale(jobs=options.jobs)
    log(f"{options.jobs} Slurm jobs are asked for; the work begins with the first that runs.")
    return cluster


@contextmanager
def _ctrl_c_kept() -> Iterator[None]:
    """dask-jobqueue, when it is imported, makes Ctrl-C end the process on the spot; here it cancels the run."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if before is not None and signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)


# --------------------------------------------------------------------------------------------------- on the workers

_pools: dict[int, tuple[Any, Pool]] = {}  # thread of the worker -> what its child was made for, the child


def _do(make: Callable[..., Any], options: RunOptions, task: Task) -> tuple[str, Outcome | End]:
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
    pool = _pool(make, options, threads)
    pool.give(0, task)
    try:
        while True:
            for event in pool.events():
                if event.kind == "fatal":
                    raise event.value
                if event.kind in ("done", "died"):
                    return event.kind, event.value
            if not pool.busy:  # closed by the end of the run
                return "died", End("crash", "was ended with the run")
    finally:
        shutil.rmtree(task.temporary, ignore_errors=True)


def _pool(make: Callable[..., Any], options: RunOptions, threads: int) -> Pool:
    # Dask's workers are daemonic processes, which may not have children; ours end by themselves when their parent does.
    multiprocessing.current_process().daemon = False
    thread, purpose = threading.get_ident(), (make, options)
    made, pool = _pools.get(thread, (None, None))
    if made != purpose:
        if pool is not None:
            pool.close()
        pool = Pool(make, (options,), 1, options.limits, threads)
        _pools[thread] = (purpose, pool)
    return pool


def _end_children() -> None:
    # The worker's own threads wait for these children: see `Pool.end`.
    for _, pool in list(_pools.values()):
        pool.end()
    _pools.clear()
