"""Work on many tasks in several processes, where a process that dies costs its task and nothing more.

``concurrent.futures`` gives up all tasks when one process is killed, as the kernel does when memory runs out. Here each
process has its own pipe: the task it had is known, and a new process takes its place. So a task may also be ended: one
that takes too long, or whose process takes too much memory.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from .processor import cores
from .torch_import import import_torch_briefly

# What numerical libraries read when they are first imported.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    "VTK_SMP_MAX_THREADS",
)
_LOOK_S = 0.1  # between two looks at the memory of the processes
_STARTS = 3  # processes that may die before they begin a task until the task is given up

Progress = Callable[[float, str], None]
Work = Callable[[Any, Progress], Any]


@dataclass(frozen=True)
class Event:
    """What a process reports of a task.

    Attributes
    ----------
    task : number of the task; -1 for "fatal", which concerns all.
    kind : "progress" (value: fraction, message), "done" (value: what the work returned), "died" (value: `End`) or
        "fatal" (value: the exception that making the worker raised; no task will be done).
    """

    task: int
    kind: str
    value: Any


@dataclass(frozen=True)
class End:
    """Why a process ended before its task did.

    Attributes
    ----------
    why : "crash", "time" or "memory".
    text : goes on after "the process that worked on it".
    """

    why: str
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Limits:
    """What one task may take; None: no limit.

    Attributes
    ----------
    seconds : from the moment the process begins the task, by a clock that nobody sets.
    memory_bytes : of main memory that the process holds (resident set), with all that it has loaded.
    """

    seconds: float | None = None
    memory_bytes: int | None = None


@dataclass
class _Process:
    process: multiprocessing.process.BaseProcess
    connection: Connection
    number: int | None = None  # of its task
    task: Any = None
    begun: float | None = None  # time.monotonic() when it began the task
    ended: End | None = None  # we ended it


class Pool:
    """Processes that each do one task after the other. To be used in a ``with`` block, whose end ends them at once.

    Parameters
    ----------
    make : called once in each process as ``make(*arguments)``; returns the function that is then called with
        ``(task, progress)`` for one task after the other. What it loads is loaded once a process.
    arguments, tasks, results : must be picklable, `make` importable.
    jobs : processes at most, started when there is work for them.
    limits : see `Limits`.
    threads : of each process at most; None: cores // jobs.
    """

    def __init__(
        self,
        make: Callable[..., Work],
        arguments: tuple,
        jobs: int,
        limits: Limits = Limits(),
        threads: int | None = None,
    ) -> None:
        self._make, self._arguments, self._jobs, self._limits = make, arguments, jobs, limits
        self._threads = threads or max(1, cores() // jobs)
        self._context = multiprocessing.get_context("spawn")
        self._processes: list[_Process] = []
        self._starts: dict[int, int] = {}  # number of a task -> processes that died before they began it
        self._ending = False  # none is started again

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    @property
    def free(self) -> int:
        """How many tasks may be given now."""
        return self._jobs - self.busy

    @property
    def busy(self) -> int:
        """How many tasks are being worked on."""
        return sum(p.number is not None for p in self._processes)

    def give(self, number: int, task: Any) -> None:
        """Let a process do a task; only while there are `free` ones."""
        idle = [p for p in self._processes if p.number is None]
        for p in [p for p in idle if not p.process.is_alive()]:  # ended while it waited: no task's fault
            self._drop(p)
            idle.remove(p)
        p = idle[0] if idle else self._start()
        p.number, p.task, p.begun = number, task, None
        with suppress(OSError):  # it has just died; its pipe ends, which `events` sees
            p.connection.send(task)

    def events(self, timeout: float | None = None) -> list[Event]:
        """What happened; waits for it, at most `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            events = []
            for p in self._ready(deadline):
                events += self._receive(p)
            self._end_those_over_limits()
            if events or (deadline is not None and time.monotonic() >= deadline) or not self.busy:
                return events

    def close(self) -> None:
        """End all processes, whatever they are doing."""
        for p in self._processes:
            p.process.terminate()
        for p in self._processes:
            p.process.join(2)
            if p.process.is_alive():
                p.process.kill()
                p.process.join()
            p.connection.close()
        self._processes.clear()

    def end(self) -> None:
        """End all processes, called by another thread than the one that waits for `events`.

        That one sees them die, and cleans up: pipes must not be closed under a thread that reads them.
        """
        self._ending = True
        for p in list(self._processes):
            p.process.kill()

    # -------------------------------------------------------------------------------------------------- the processes

    def _start(self) -> _Process:
        with _threads(self._threads):
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=_main, args=(theirs, self._make, self._arguments), daemon=True)
            process.start()
        # Only the child holds this end then, so that the pipe ends when the child does.
        theirs.close()
        p = _Process(process, ours)
        self._processes.append(p)
        return p

    def _drop(self, p: _Process) -> None:
        p.process.join()
        p.connection.close()
        self._processes.remove(p)

    def _ready(self, deadline: float | None) -> list[_Process]:
        now = time.monotonic()
        waits = [] if deadline is None else [deadline - now]
        if self._limits.memory_bytes is not None:
            waits.append(_LOOK_S)
        if self._limits.seconds is not None:
            waits += [p.begun + self._limits.seconds - now for p in self._processes if p.begun is not None]
            waits.append(1.0)  # one may begin meanwhile
        busy = [p for p in self._processes if p.number is not None]
        ready = wait([p.connection for p in busy], max(0.0, min(waits)) if waits else None)
        return [p for p in busy if p.connection in ready]

    def _receive(self, p: _Process) -> list[Event]:
        try:
            kind, value = p.connection.recv()
        except (EOFError, OSError):
            return self._died(p)
        number = p.number
        if kind == "begun":
            p.begun = time.monotonic()
            return []
        if kind == "done":
            p.number = p.task = p.begun = None
            self._starts.pop(number, None)
        return [Event(-1 if kind == "fatal" else number, kind, value)]

    def _died(self, p: _Process) -> list[Event]:
        self._drop(p)
        if p.begun is None and p.ended is None and not self._ending:
            self._starts[p.number] = self._starts.get(p.number, 0) + 1
            if self._starts[p.number] < _STARTS:
                self.give(p.number, p.task)
                return []
        self._starts.pop(p.number, None)
        return [Event(p.number, "died", p.ended or End("crash", _end(p.process.exitcode)))]

    def _end_those_over_limits(self) -> None:
        for p in self._processes:
            if p.number is None or p.begun is None or p.ended is not None:
                continue
            seconds, memory = self._limits.seconds, self._limits.memory_bytes
            if seconds is not None and time.monotonic() - p.begun > seconds:
                p.ended = End("time", f"was ended after {seconds:g} s, the time limit")
            elif memory is not None and _resident(p.process.pid) > memory:
                p.ended = End("memory", f"was ended when it held more than {memory / 2**30:.3g} GB, the memory limit")
            if p.ended is not None:
                p.process.kill()


def run_tasks(make: Callable[..., Work], arguments: tuple, tasks: Iterable[Any], jobs: int) -> Iterator[Event]:
    """Do all tasks in `jobs` processes (see `Pool`), numbered from 0; yield what happens as it happens.

    Closing the generator early (cancel) ends all processes at once.
    """
    numbered = enumerate(tasks)
    with Pool(make, arguments, jobs) as pool:
        more = True
        while True:
            while more and pool.free:
                number, task = next(numbered, (-1, None))
                more = number >= 0
                if more:
                    pool.give(number, task)
            if not pool.busy:
                return
            for event in pool.events():
                yield event
                if event.kind == "fatal":
                    return


def _resident(pid: int) -> int:
    """Bytes of main memory that a process holds; 0 when it has ended."""
    import psutil

    try:
        return psutil.Process(pid).memory_info().rss
    except psutil.Error:
        return 0


def _end(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"
    return f"ended with code {code}"


def _main(connection: Connection, make: Callable[..., Work], arguments: tuple) -> None:
    # Ctrl-C, and the end of a terminal, reach the whole group; the parent decides. SIGTERM ends this process as usual.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _offer_to_the_kernel()
    import_torch_briefly()
    try:
        work = make(*arguments)
    except Exception as error:
        connection.send(("fatal", _picklable(error)))
        return

    def progress(fraction: float, message: str) -> None:
        connection.send(("progress", (fraction, message)))

    while True:
        try:
            task = connection.recv()
        except EOFError:  # the parent has ended
            return
        connection.send(("begun", None))
        connection.send(("done", work(task, progress)))


def _end_with_parent() -> None:
    """End this process when its parent has, even in the middle of a task: the next run begins the task anew."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _offer_to_the_kernel() -> None:
    """When memory runs out on Linux, a process that works on one task is ended, not the one that keeps account."""
    try:
        with open("/proc/self/oom_score_adj", "r+") as stream:
            score = int(stream.read())
            stream.seek(0)
            stream.write(str(min(1000, score + 300)))
    except (OSError, ValueError):
        pass


def _picklable(error: Exception) -> Exception:
    import pickle

    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Let processes that start inside the block use at most `number` threads each; lower numbers of the user count."""
    saved = {name: os.environ.get(name) for name in _THREAD_VARIABLES}

    def lower(name: str, most: int) -> int:
        value = saved[name]
        return min(most, int(value)) if value and value.isdigit() and int(value) > 0 else most

    # MKL and OpenBLAS go by OMP_NUM_THREADS where their own is not set.
    number = lower("OMP_NUM_THREADS", number)
    for name in saved:
        os.environ[name] = str(lower(name, number))
    try:
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
