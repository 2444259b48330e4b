"""Runs a case beside its peers: in one process, in turns, with times, peak memory and the quality of both."""

from __future__ import annotations

import gc
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_MIB = 2**20


@dataclass(frozen=True)
class Contender:
    """A way to a result: `name`, and `run`, which returns it."""

    name: str
    run: Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes
    ----------
    name : with its size.
    ours, peers : who does it. The ratio is a peer's time over ours.
    quality : of a result, a number; `quality_name` says which.
    goals : the ratio to reach, by the peer's name.
    flops, bytes : of ours at least: operations, and what must come from and go to memory; 0: not known.
    note : a sentence for the reader.
    """

    name: str
    ours: Contender
    peers: Sequence[Contender]
    quality: Callable[[Any], float] | None = None
    quality_name: str = ""
    goals: dict[str, float] | None = None
    flops: float = 0.0
    bytes: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Figures:
    """Of one contender: median seconds (by the clock, and of the processor), peak memory above what there was before in MiB, quality."""

    name: str
    seconds: float
    processor: float
    memory: float
    quality: float | None


@dataclass(frozen=True)
class Outcome:
    """Of a case: `ours`, the peers' figures, and for each peer the median ratio by the clock and by the processor's time."""

    case: Case
    ours: Figures
    peers: tuple[Figures, ...]
    ratios: tuple[tuple[float, float], ...]


def measure(case: Case, repeats: int = 5, budget: float = 60.0) -> Outcome:
    """Run a case.

    Each contender runs once unmeasured (caches, compiled kernels), which says its memory and quality, then in turns with the
    others. A contender that has used up `budget` seconds runs no more, and keeps what it has: at least one measured run.
    """
    everyone = [case.ours, *case.peers]
    memory, quality = [], []
    for contender in everyone:
        result, peak = with_peak(contender.run)
        memory.append(peak)
        quality.append(None if case.quality is None or result is None else float(case.quality(result)))
        del result
    times: list[list[tuple[float, float]]] = [[] for _ in everyone]
    for turn in range(repeats):
        for number, contender in enumerate(everyone):
            if turn and sum(wall for wall, _ in times[number]) > budget:
                continue
            gc.collect()
            wall, processor = time.perf_counter(), time.process_time()
            contender.run()
            times[number].append((time.perf_counter() - wall, time.process_time() - processor))
    figures = [
        Figures(c.name, *(statistics.median(column) for column in zip(*t, strict=True)), m, q)
        for c, t, m, q in zip(everyone, times, memory, quality, strict=True)
    ]
    ratios = []
    for theirs in times[1:]:
        # Neighbours in time met the same neighbours on the machine.
        pairs = list(zip(theirs, times[0], strict=False))
        ratios.append(tuple(statistics.median(a[i] / max(b[i], 1e-9) for a, b in pairs) for i in (0, 1)))
    return Outcome(case, figures[0], tuple(figures[1:]), tuple(ratios))


def with_peak(run: Callable[[], Any]) -> tuple[Any, float]:
    """What a function returns, and by how many MiB this process grew at most while it ran."""
    gc.collect()
    process = psutil.Process()
    before = process.memory_info().rss
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the kernel's own peak begins anew
    except OSError:
        return _sampled(run, process, before)
    result = run()
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    return result, max(0.0, (peak - before) / _MIB)


def _sampled(run: Callable[[], Any], process: psutil.Process, before: int) -> tuple[Any, float]:
    peak, ended = [before], threading.Event()

    def watch() -> None:
        while not ended.wait(0.002):
            peak[0] = max(peak[0], process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        result = run()
    finally:
        ended.set()
        thread.join()
    return result, (max(peak[0], process.memory_info().rss) - before) / _MIB
