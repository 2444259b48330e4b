"""Work in a thread, also under a main thread that keeps the interpreter's lock while it waits, as Slicer's does."""

from __future__ import annotations

import ctypes
import os
import sys
import time

import pytest

from BreastUSAILib.background import BackgroundTask
from BreastUSAILib.child_process import ChildRun

POSIX = pytest.mark.skipif(os.name == "nt", reason="usleep is POSIX's")
TURNS = 400  # how often the work gives the lock away and needs it again


def test_what_the_work_returns_or_raises():
    task = BackgroundTask(lambda: 7)
    while not task.poll():
        pass
    assert task.result() == 7

    def fails():
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        BackgroundTask(fails).result()


def wait():
    """As Slicer waits for events: the interpreter's lock is kept, which is what a PyDLL does."""
    ctypes.PyDLL(None).usleep(10_000)


@POSIX
def test_work_goes_on_although_the_main_thread_keeps_the_lock():
    def work():
        for _ in range(TURNS):
            time.sleep(0)
        return "done"

    task, polls = BackgroundTask(work), 0
    while not task.poll():
        wait()
        polls += 1
    assert task.result() == "done"
    assert polls < TURNS / 4


@POSIX
def test_what_a_child_says_arrives_although_the_main_thread_keeps_the_lock():
    says = 'import json\nfor i in range(50): print(json.dumps({"progress": i / 50, "message": "m"}), flush=True)\nprint("end")'
    seen, log = [], []
    child = ChildRun(
        [sys.executable, "-c", says], lambda fraction, message: seen.append(round(50 * fraction)), log.append
    )
    while not child.poll():
        wait()
    assert (seen, log) == (list(range(50)), ["end"])
