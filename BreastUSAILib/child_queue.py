"""Several images, each worked up in a child process, one after the other: the views of an examination.

Writing the pixels for a child and reading its masks take seconds for a volume, so threads do that; `ChildQueue.poll` is meant for a
timer and waits for no more than a moment (`background.SHARE_S`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .background import BackgroundTask, soon
from .child_workup import ChildWorkup
from .errors import BreastUSAIError, Cancelled
from .findings import Study
from .mrml import MaskCrop, mask_crops
from .progress import Estimate, Log, Progress
from .review import outline_keys

StartChild = Callable[[Progress, Log], ChildWorkup]


@dataclass(frozen=True)
class Outcome:
    """How one image ended: a study with its outlines' keys (`review.outline_keys`) and cropped masks (`mrml.mask_crops`), or the error
    that there was."""

    name: str
    study: Study | None = None
    keys: dict[str, str] | None = None
    crops: tuple[MaskCrop, ...] | None = None
    error: BreastUSAIError | None = None


class ChildQueue:
    """Children that run one after the other.

    Parameters
    ----------
    starts : (name of the image, function that starts its child) in their order; the function is called in a thread, with
        the progress and log functions that the child calls from its `poll`.
    on_progress : called from `poll` with the fraction of all work, what is being done, and how long the rest will take, in words
        or "".
    on_log : called from `poll` with each line that children say.
    """

    def __init__(
        self,
        starts: Sequence[tuple[str, StartChild]],
        on_progress: Callable[[float, str, str], None] | None = None,
        on_log: Log | None = None,
    ) -> None:
        self._starts = list(starts)
        self._on_progress, self._on_log = on_progress, on_log
        self._outcomes: list[Outcome] = []
        self._estimate = Estimate()
        self._preparing: BackgroundTask[ChildWorkup] | None = None
        self._child: ChildWorkup | None = None
        self._reading: BackgroundTask[tuple[Study, dict[str, str], tuple[MaskCrop, ...]]] | None = None
        self._cancelled = False
        self._next()

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Of the images that have ended so far."""
        return tuple(self._outcomes)

    def poll(self) -> bool:
        """Hand on what children say and start the next; True when the last has ended or all was cancelled."""
        if self._cancelled:
            return True
        if self._preparing is not None and self._preparing.poll():
            task, self._preparing = self._preparing, None
            self._child = self._take(task)
        if self._child is not None and self._reading is None and self._child.poll():
            child = self._child
            self._reading = BackgroundTask(lambda: _read(child))
        if self._reading is not None and self._reading.poll():
            task, self._reading, self._child = self._reading, None, None
            found = self._take(task)
            if found is not None:
                self._end(Outcome(self._name, *found))
        return len(self._outcomes) == len(self._starts)

    def cancel(self) -> None:
        """End the child that runs and start no more. Waits a moment at most: the child's processes are gone within a second."""
        self._cancelled = True
        preparing, child = self._preparing, self._child
        if preparing is not None:
            soon(lambda: preparing.result().cancel())
        elif child is not None:
            soon(child.cancel)

    def result(self) -> tuple[Outcome, ...]:
        """How all images ended, in their order.

        Raises
        ------
        Cancelled : `cancel` ended it; `outcomes` has those that had ended before.
        """
        if self._cancelled:
            raise Cancelled("cancelled.")
        return self.outcomes

    @property
    def _name(self) -> str:
        return self._starts[len(self._outcomes)][0]

    def _take(self, task: BackgroundTask[Any]) -> Any:
        """What a thread gave; None where it failed, which ends this image."""
        try:
            return task.result()
        except BreastUSAIError as error:
            self._end(Outcome(self._name, error=error))
        except Exception as error:  # e.g. no memory for a mask: this image alone is lost, and said so
            text = f"{self._name} failed unexpectedly ({type(error).__name__}: {error}); see the log."
            self._end(Outcome(self._name, error=BreastUSAIError(text)))
        return None

    def _end(self, outcome: Outcome) -> None:
        self._child = None
        self._outcomes.append(outcome)
        self._next()

    def _next(self) -> None:
        if len(self._outcomes) < len(self._starts):
            start = self._starts[len(self._outcomes)][1]
            self._preparing = BackgroundTask(lambda: start(self._progress, self._log))

    def _progress(self, fraction: float, message: str) -> None:
        done, count = len(self._outcomes), len(self._starts)
        overall = (done + fraction) / count
        self._estimate.begin(100 * overall)
        if self._on_progress is not None:
            which = f"{self._name} ({done + 1} of {count}): " if count > 1 else ""
            self._on_progress(overall, f"{which}{message}", self._estimate.left(100 * overall, 100))

    def _log(self, line: str) -> None:
        if self._on_log is not None:
            self._on_log(line)


def _read(child: ChildWorkup) -> tuple[Study, dict[str, str], tuple[MaskCrop, ...]]:
    study = child.result()
    return study, outline_keys(study), mask_crops(study)
