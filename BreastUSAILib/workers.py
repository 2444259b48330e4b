"""Work on many tasks in several processes, where a process that dies costs its task and nothing more.

``concurrent.futures`` gives up all tasks when one process is killed, as the kernel does when memory runs out. Here each
process has its own pipe: the task it had is known, and a new process takes its place.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

# What numerical libraries read when they are first imported.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    "VTK_SMP_MAX_THREADS",
)

Progress = Callable[[float, str], None]
Work = Callable[[Any, Progress], Any]


@dataclass(frozen=True)
class Event:
    """What a process reports of a task.

    Attributes
    ----------
    task : index of the task; -1 for "fatal", which concerns all.
    kind : "progress" (value: fraction, message), "done" (value: what the work returned), "died" (value: why, as
        words) or "fatal" (value: the exception that making the worker raised; no task will be done).
    """

    task: int
    kind: str
    value: Any


@dataclass
class _Process:
    process: multiprocessing.process.BaseProcess
    connection: Connection
    task: int | None = None
    ended: bool = field(default=False)


def cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_tasks(make: Callable[..., Work], arguments: tuple, tasks: Sequence[Any], jobs: int) -> Iterator[Event]:
    """Do all tasks in `jobs` processes; yield what happens as it happens.

    Closing the generator early (cancel) ends all processes at once.

    Parameters
    ----------
    make : called once in each process as ``make(*arguments)``; returns the function that is then called with
        ``(task, progress)`` for one task after the other. What it loads is loaded once a process.
    arguments, tasks, results : must be picklable, `make` importable.
    jobs : processes; each uses cores // jobs threads.
    """
    context = multiprocessing.get_context("spawn")
    waiting = list(reversed(range(len(tasks))))
    processes: list[_Process] = []
    try:
        with _threads(max(1, cores() // jobs)):
            while waiting or any(p.task is not None for p in processes):
                while waiting and len(processes) < jobs:
                    processes.append(_start(context, make, arguments))
                for p in processes:
                    if p.task is None and waiting:
                        p.task = waiting.pop()
                        _send(p, tasks[p.task])
                for event in _events(processes):
                    yield event
                    if event.kind == "fatal":
                        return
                processes = [p for p in processes if not p.ended]
    finally:
        for p in processes:
            p.process.terminate()
        for p in processes:
            p.process.join(2)
            if p.process.is_alive():
                p.process.kill()
                p.process.join()
            p.connection.close()


def _start(context, make: Callable[..., Work], arguments: tuple) -> _Process:
    ours, theirs = context.Pipe()
    process = context.Process(target=_main, args=(theirs, make, arguments), daemon=True)
    process.start()
    # Only the child holds this end then, so that the pipe ends when the child does.
    theirs.close()
    return _Process(process, ours)


def _send(p: _Process, task: Any) -> None:
    try:
        p.connection.send(task)
    except OSError:
        pass  # it died while it waited; its pipe ends, and the task is reported as died


def _events(processes: Sequence[_Process]) -> Iterator[Event]:
    ready = wait([p.connection for p in processes if p.task is not None])
    for p in processes:
        if p.connection not in ready:
            continue
        try:
            kind, value = p.connection.recv()
        except (EOFError, OSError):
            p.process.join()
            p.connection.close()
            p.ended = True
            task, p.task = p.task, None
            yield Event(task, "died", _end(p.process.exitcode))
            continue
        task = p.task
        if kind == "done":
            p.task = None
        yield Event(-1 if kind == "fatal" else task, kind, value)


def _end(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"
    return f"ended with code {code}"


def _main(connection: Connection, make: Callable[..., Work], arguments: tuple) -> None:
    # Ctrl-C reaches the whole group; the parent decides. SIGTERM ends this process as usual.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
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
        connection.send(("done", work(task, progress)))


def _picklable(error: Exception) -> Exception:
    import pickle

    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Let processes that start inside the block use at most `number` threads each."""
    saved = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    for name, value in saved.items():
        lower = int(value) if value and value.isdigit() and int(value) > 0 else number
        os.environ[name] = str(min(number, lower))
    try:
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
