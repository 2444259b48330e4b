"""Work in a thread, also under a main thread that keeps the interpreter's lock while it waits, as Slicer's does."""

from __future__ import annotations

import ctypes
import os
import time

import pytest

from BreastUSAILib.background import BackgroundTask

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


@pytest.mark.skipif(os.name == "nt", reason="usleep is POSIX's")
def test_work_goes_on_although_the_main_thread_keeps_the_lock():
    wait = ctypes.PyDLL(None).usleep  # of a PyDLL: the lock is kept, as by Slicer while it waits for events

    def work():
        for _ in range(TURNS):
            time.sleep(0)
        return "done"

    task, polls = BackgroundTask(work), 0
    while not task.poll():
        wait(10_000)
        polls += 1
    assert task.result() == "done"
    assert polls < TURNS / 4
