"""What a person did to findings in a panel, step by step, to be taken back.

Slicer's own undo is off unless an application switches it on; this one is the panel's. Outlines are corrected in the Segment Editor, which has
an undo of its own.
"""

from __future__ import annotations

_KEPT = 200  # steps


class UndoSteps:
    """The steps, of which the last is taken back first.

    Parameters
    ----------
    on_change : called when there is a first step, or none any more.
    """

    def __init__(self, on_change):
        self._steps, self._on_change = [], on_change

    def __bool__(self):
        return bool(self._steps)

    def add(self, result, back):
        """A step was made on the result of this node id; `back` takes it back and returns whether that changed anything."""
        self._steps = [*self._steps[1 - _KEPT :], (result, back)]
        self._on_change()

    def forget(self, result):
        """Forget the steps made on a result."""
        self._steps = [step for step in self._steps if step[0] != result]
        self._on_change()

    def undo(self):
        """Take the last step back that can be: what was removed meanwhile, or is as it was, is passed over. Whether there was one."""
        done = False
        while self._steps and not done:
            _result, back = self._steps.pop()
            done = back()
        self._on_change()
        return done

    def clear(self):
        self._steps = []
        self._on_change()
