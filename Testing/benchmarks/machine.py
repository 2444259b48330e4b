"""What this machine can do at most: matrix products and memory traffic, measured; and what it is."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Machine:
    """`peak`: operations a second of a large matrix product, `kind` says in which numbers; `bandwidth`: bytes a second copied, read and written."""

    name: str
    threads: int
    kind: str
    peak: float
    bandwidth: float

    def words(self) -> str:
        return f"{self.name}, fastest in {self.kind}, {self.threads} thread{'s' * (self.threads > 1)}."

    def fraction(self, flops: float, bytes: float, seconds: float) -> float:
        """The least time that this machine could take (roofline: Williams et al. 2009) over the time taken."""
        return max(flops / self.peak, bytes / self.bandwidth) / seconds


def measure_machine(size: int = 2048, megabytes: int = 256) -> Machine:
    import torch

    from BreastUSAILib.processor import fast_bf16

    kind = torch.bfloat16 if fast_bf16("cpu") else torch.float32
    one, other = (torch.randn(size, size).to(kind) for _ in range(2))
    alike = one.float().numpy()
    # Whichever library is better on this processor.
    peak = 2 * size**3 / min(_time(lambda: one @ other), _time(lambda: alike @ alike))
    source = np.ones(megabytes * 2**18, np.float32)
    target = np.empty_like(source)
    bandwidth = 2 * source.nbytes / _time(lambda: np.copyto(target, source))
    return Machine(_name(), torch.get_num_threads(), str(kind).removeprefix("torch."), peak, bandwidth)


def _time(run: Callable[[], object]) -> float:
    run()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _name() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
