"""Keeping C libraries quiet: what they print is for their developers, and would stand between our own lines."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import SimpleITK as sitk

_lock = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Discard ITK's warnings and what C code writes to the process's standard error inside the block.

    File descriptor 2 belongs to the whole process, so one thread at a time is in such a block; keep it short.
    """
    with _lock:
        warnings = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        try:
            if sys.stderr is not None:
                sys.stderr.flush()
            saved = os.dup(2)
        except (OSError, ValueError, AttributeError):  # no standard error at all, as in a program with windows only
            saved = None
        try:
            if saved is not None:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 2)
                os.close(nowhere)
            yield
        finally:
            if saved is not None:
                os.dup2(saved, 2)
                os.close(saved)
            sitk.ProcessObject.SetGlobalWarningDisplay(warnings)
