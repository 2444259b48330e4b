"""Workers for tests of what goes wrong. In a file of its own because each worker process imports it."""

import ctypes
import os
import time

import fake_worker
from fake_worker import FakeWorker

from BreastUSAILib.run_input import move_results


class CountedWorker(FakeWorker):
    """Writes a line when the results of a study are in place, and its process when it starts."""

    def __init__(self, options):
        super().__init__(options)
        log = options.output.with_name(f"{options.output.name}-moved.log")
        _append(log.with_suffix(".pids"), str(os.getpid()))

        def counted(temporary, folder):
            time.sleep(0.03)
            move_results(temporary, folder)
            _append(log, str(folder))

        fake_worker.move_results = counted


def _append(path, line):
    with open(path, "ab", buffering=0) as stream:
        stream.write(line.encode() + b"\n")


def misbehave():
    """A worker that does what its task says."""

    def work(task, progress):
        if task == "slow":
            time.sleep(600)
        if task == "greedy":
            held = []
            while len(held) < 60:
                held.append(b"x" * (50 << 20))
            time.sleep(600)
        if task == "crash":
            ctypes.string_at(0)
        return task

    return work
