"""Work on one lesion after the other: what goes wrong with one costs that one alone, and is told."""

from __future__ import annotations

from collections.abc import Iterable

from .errors import BreastUSAIError, Cancelled


class LesionFailed(BreastUSAIError):
    """A lesion that could not be worked on, where the caller asked not to go on without it (`strict`)."""


def reason_of_failure(error: Exception, device: str) -> str:
    """Why one lesion could not be worked on, as the end of a sentence; to be called where the error is caught.

    Parameters
    ----------
    error : what was raised.
    device : where the network runs.

    Raises
    ------
    error itself, where it is not about one lesion: the user cancelled, or the memory of a device is not enough that the CPU can stand in for.
    """
    from .models.devices import is_out_of_memory

    if isinstance(error, Cancelled):
        raise error
    if is_out_of_memory(error):
        if device != "cpu":
            raise error
        return "it needs more memory than there is"
    text = " ".join(str(error).split()).rstrip(".")
    return (
        text if isinstance(error, BreastUSAIError) and text else f"{type(error).__name__}{': ' if text else ''}{text}"
    )


def told_of_failures(verb: str, failures: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """A sentence for the reader of the study, or none where nothing failed.

    >>> told_of_failures("graded", [("L2", "the mask is empty"), ("L5", "the mask is empty")])
    ('2 findings were not graded: L2 (the mask is empty), L5 (the mask is empty)',)
    """
    parts = [f"{finding} ({reason})" for finding, reason in failures]
    if not parts:
        return ()
    return (f"{len(parts)} finding{'s were' if len(parts) > 1 else ' was'} not {verb}: {', '.join(parts)}",)
