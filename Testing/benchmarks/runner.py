"""Runs a case beside its peers: in one process, in turns, with times, peak memory and the quality of both."""

from __future__ import annotations

import gc
import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_MIB = 2**20
LONG = 20.0


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
    variants : ours by other means (another engine). Their ratio is the last peer's time over theirs.
    quality : of a result, a number; `quality_name` says which. None: nothing can be said of this one.
    goals : the ratio to reach, by the peer's or variant's name.
    flops, bytes : of ours at least: operations, and what must come from and go to memory; 0: not known.
    note : a sentence for the reader.
    wants : the kind of numbers ("bfloat16") that the goals count on the processor to be fast at.
    """

    name: str
    ours: Contender
    peers: Sequence[Contender]
    quality: Callable[[Any], float | None] | None = None
    quality_name: str = ""
    goals: dict[str, float] | None = None
    flops: float = 0.0
    bytes: float = 0.0
    note: str = ""
    wants: str = ""
    variants: Sequence[Contender] = ()


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
    """Of a case: `ours`, the peers' figures, then the variants', and for each of both the median ratio by the clock and by the processor's time."""

    case: Case
    ours: Figures
    peers: tuple[Figures, ...]
    ratios: tuple[tuple[float, float], ...]
    variants: tuple[Figures, ...] = ()


def measure(case: Case, repeats: int = 5, budget: float = 60.0) -> Outcome:
    """Run a case.

    Each contender runs once unmeasured (caches, compiled kernels), which says its memory and quality, then in turns with the
    others. Where that first run took longer than `LONG` seconds it counts: what it warmed is little beside it. A contender that has
    used up `budget` seconds runs no more, and keeps what it has: at least one measured run.
    """
    everyone = [case.ours, *case.peers, *case.variants]
    times: list[list[tuple[float, float]]] = [[] for _ in everyone]
    memory, quality = [], []
    for number, contender in enumerate(everyone):
        clock = _Clock()
        result, peak = with_peak(contender.run)
        took = clock.read()
        if took[0] > LONG:
            times[number].append(took)
        memory.append(peak)
        good = None if case.quality is None or result is None else case.quality(result)
        quality.append(None if good is None else float(good))
        del result
    for _ in range(repeats):
        for number, contender in enumerate(everyone):
            if times[number] and sum(wall for wall, _ in times[number]) > budget:
                continue
            gc.collect()
            clock = _Clock()
            contender.run()
            times[number].append(clock.read())
    figures = [
        Figures(c.name, *(statistics.median(column) for column in zip(*t, strict=True)), m, q)
        for c, t, m, q in zip(everyone, times, memory, quality, strict=True)
    ]
    last = len(case.peers)
    ratios = [_ratio(theirs, times[0]) for theirs in times[1 : 1 + last]] + [
        _ratio(times[last], other) for other in times[1 + last :]
    ]
    return Outcome(case, figures[0], tuple(figures[1 : 1 + last]), tuple(ratios), tuple(figures[1 + last :]))


def _ratio(theirs: Sequence[tuple[float, float]], ours: Sequence[tuple[float, float]]) -> tuple[float, float]:
    # Neighbours in time met the same neighbours on the machine.
    pairs = list(zip(theirs, ours, strict=False))
    by_clock, by_processor = (statistics.median(a[i] / max(b[i], 1e-9) for a, b in pairs) for i in (0, 1))
    return by_clock, by_processor


class _Clock:
    """Seconds since it was made: by the clock, and of the processor, that of processes which were started and have ended included."""

    def __init__(self) -> None:
        self.since = time.perf_counter(), self._processor()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self.since[0], self._processor() - self.since[1]

    @staticmethod
    def _processor() -> float:
        used = os.times()
        return time.process_time() + used.children_user + used.children_system


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
