"""One child process whose input is written and whose results are read in a thread, so that the window of whoever polls it stays live."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .background import BackgroundTask, soon
from .errors import Cancelled

if TYPE_CHECKING:
    from .child_workup import ChildWorkup
    from .findings import Study


class BackgroundChild:
    """A job as `child_workup.ChildWorkup` is one: poll, cancel, result; errors at its start are raised by `result`.

    Parameters
    ----------
    start : writes the input and starts the child; called once, in a thread. Touches no MRML node and no widget.
    """

    def __init__(self, start: Callable[[], ChildWorkup]) -> None:
        self._preparing: BackgroundTask[ChildWorkup] | None = BackgroundTask(start)
        self._child: ChildWorkup | None = None
        self._reading: BackgroundTask[Study] | None = None
        self._error: BaseException | None = None
        self._cancelled = False

    @property
    def child(self) -> ChildWorkup | None:
        """What was started; None as long as its input is written."""
        return self._child

    def poll(self) -> bool:
        """Hand on what the child says; True when its results were read. Never waits long, see `BackgroundTask.poll`."""
        if self._cancelled or self._error is not None:
            return True
        if self._preparing is not None:
            if not self._preparing.poll():
                return False
            task, self._preparing = self._preparing, None
            try:
                self._child = task.result()
            except BaseException as error:  # raised where it is asked for
                self._error = error
                return True
        if self._reading is None:
            if not self._child.poll():
                return False
            self._reading = BackgroundTask(self._child.result)
        return self._reading.poll()

    def cancel(self) -> None:
        """End the child, or start none. Waits a moment at most: its processes are gone within a second."""
        self._cancelled = True
        preparing, child = self._preparing, self._child
        if preparing is not None:
            soon(lambda: preparing.result().cancel())
        elif child is not None and self._reading is None:
            soon(child.cancel)

    def result(self) -> Study:
        """What was found; waits for it where it is not there yet.

        Raises
        ------
        Cancelled : `cancel` ended it.
        BreastUSAIError : what the child's start and its `result` raise.
        """
        if self._cancelled:
            raise Cancelled("cancelled.")
        if self._preparing is not None:
            self._preparing.result()
        while not self.poll():
            pass
        if self._error is not None:
            raise self._error
        return self._reading.result()
