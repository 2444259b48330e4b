"""The errors that a user sees: one clear sentence each, that names the file and the cure."""

from __future__ import annotations


class BreastUSAIError(Exception):
    """Base of every error that BreastUSAI raises on purpose; ``str(error)`` is the sentence for the user."""


class ImageError(BreastUSAIError):
    """The input is not an image that can be worked on (unreadable, empty, wrong dimensions, no finite values ...)."""


class ModelError(BreastUSAIError):
    """A model is unknown, incomplete, of another kind than asked for, or its checksum does not match."""


class OutputError(BreastUSAIError):
    """A result cannot be written (folder not writable, disk full)."""


class DataError(BreastUSAIError):
    """A training or evaluation data set does not have the layout that is needed."""


class OtherSpacingError(DataError):
    """Findings were made on another pixel spacing than their image has now.

    Attributes
    ----------
    made_on : the spacing that they were made on, in mm; empty where it was not known.
    """

    def __init__(self, sentence: str, made_on: tuple[float, ...] = ()) -> None:
        super().__init__(sentence)
        self.made_on = made_on


class UsageError(BreastUSAIError):
    """Options that contradict each other or have no meaning."""


class NoFramesError(UsageError):
    """One frame was asked for of a volume, which is read whole."""


class DependencyError(BreastUSAIError):
    """An optional package is needed and is not installed; the sentence says how to install it."""


class PhantomError(BreastUSAIError):
    """What is asked of a phantom cannot be made (impossible size, unknown descriptor, a lesion that does not fit)."""


class Cancelled(BreastUSAIError):
    """The user cancelled the work."""


def in_words(error: Exception) -> str:
    """What an error of Python says, as part of a sentence: a key that is missing, the system's reason, or its own words."""
    if isinstance(error, KeyError):
        return f"it lacks {error.args[0]!r}" if error.args else "something is missing in it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnicodeDecodeError):
        return "it is no text in UTF-8"
    return str(error) or type(error).__name__
