"""Work in a thread, asked for its result by a timer: for what Python does without the interpreter's lock (files, SimpleITK)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

SHARE_S = 0.02  # of each poll, for the thread
_SOON_POLLS = 4  # not longer than a window may stand still


class BackgroundTask(Generic[T]):
    """One call in a thread of its own.

    Parameters
    ----------
    work : called once, without arguments; touches no MRML node and no widget, which belong to the main thread.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work, self._value, self._error = work, None, None
        self._thread = threading.Thread(target=self._run, name="BreastUSAI background")
        self._thread.start()

    def poll(self) -> bool:
        """Whether it has ended. Waits for that for a moment, `SHARE_S` at most, as it may be the only one in which the work goes on.

        Slicer's main thread keeps the interpreter's lock while it waits for events (CTK's ctkAbstractPythonManager starts PythonQt
        without support for threads): other threads have their turn only where the main thread is in Python and waits.
        """
        self._thread.join(SHARE_S)
        return not self._thread.is_alive()

    def cancel(self) -> None:
        """Nothing can end it; whoever asked for it forgets it."""

    def result(self) -> T:
        """What the work returned, waiting for it; what it raised is raised here."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value

    def _run(self) -> None:
        try:
            self._value = self._work()
        except BaseException as error:  # raised where it is asked for
            self._error = error


def soon(work: Callable[[], object]) -> None:
    """Do something in a thread that nobody polls afterwards, such as ending a child; waits a moment at most, in which it has its turns."""
    task = BackgroundTask(work)
    for _ in range(_SOON_POLLS):
        if task.poll():
            return
