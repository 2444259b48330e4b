"""A child whose input is written and whose results are read in threads: what a timer asks of it."""

from __future__ import annotations

import threading
import time

import pytest

from BreastUSAILib.background_child import BackgroundChild
from BreastUSAILib.errors import Cancelled, DataError, ImageError


class Child:
    """A `ChildWorkup` for tests: it notes in which threads it is used."""

    def __init__(self):
        self.started_in = threading.get_ident()
        self.polled_in, self.read_in, self.cancelled = set(), None, threading.Event()
        self.ended = False

    def poll(self):
        self.polled_in.add(threading.get_ident())
        return self.ended

    def result(self):
        self.read_in = threading.get_ident()
        return "study"

    def cancel(self):
        self.cancelled.set()


def _until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_files_are_written_and_read_in_threads_and_words_come_in_the_pollers():
    job = BackgroundChild(Child)
    _until(lambda: job.poll() or job.child is not None)
    child, here = job.child, threading.get_ident()
    assert not job.poll()
    child.ended = True
    _until(job.poll)
    assert job.result() == "study"
    assert child.polled_in == {here}
    assert here not in (child.started_in, child.read_in)


def test_a_script_may_wait_for_the_result():
    def start():
        child = Child()
        child.ended = True
        return child

    assert BackgroundChild(start).result() == "study"


def test_what_fails_at_the_start_or_at_the_end_is_raised_by_the_result():
    def refuse():
        raise ImageError("no image.")

    job = BackgroundChild(refuse)
    _until(job.poll)
    with pytest.raises(ImageError, match="no image"):
        job.result()

    class Broken(Child):
        def result(self):
            raise DataError("no study.")

    job = BackgroundChild(Broken)
    _until(lambda: job.poll() or job.child is not None)
    job.child.ended = True
    _until(job.poll)
    with pytest.raises(DataError, match="no study"):
        job.result()


def test_cancelled_while_it_runs_and_before_it_began():
    job = BackgroundChild(Child)
    _until(lambda: job.poll() or job.child is not None)
    job.cancel()
    assert job.poll() and job.child.cancelled.wait(60)
    with pytest.raises(Cancelled):
        job.result()

    go, made = threading.Event(), []

    def start():
        go.wait(60)
        made.append(Child())
        return made[0]

    job = BackgroundChild(start)
    job.cancel()
    assert job.poll()
    go.set()
    _until(lambda: made)
    assert made[0].cancelled.wait(60)
