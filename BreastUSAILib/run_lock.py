"""One run at a time in a folder of results.

The lock is the operating system's (``flock``, on Windows ``LockFile``), by the package filelock: it ends with the process
that holds it, however that ends, so no lock is ever left over. Where a file system offers no locks filelock falls back to
a file that names the process, and takes over one whose process has gone.
"""

from __future__ import annotations

import json
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from .atomic import output_error
from .errors import OutputError

_OWNER = "owner.json"
_LOCK = "lock"
_ATTEMPTS = 100


@contextmanager
def run_lock(folder: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock inside the block.

    Parameters
    ----------
    folder : of the run's own files; made when it is not there, removed in the end when it is empty.
    wait_s : seconds to wait for one who holds it.

    Raises
    ------
    OutputError : another run holds the lock, or it cannot be made.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / _LOCK, timeout=wait_s)
    try:
        for attempt in range(_ATTEMPTS):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of the fallback, which the documentation speaks of
                    lock.acquire()
                break
            except FileNotFoundError:  # a run that ended has just removed the folder
                if attempt == _ATTEMPTS - 1:
                    raise
    except Timeout:
        raise OutputError(
            f"{folder.parent} is being written to by another run{_holder(folder)}; wait until it has ended, end it, or choose "
            "another output folder."
        ) from None
    except OSError as error:
        raise output_error(folder / _LOCK, error) from error
    try:
        owner = {"pid": os.getpid(), "host": platform.node(), "since": _now()}
        with suppress(OSError):  # for the other run's message only
            (folder / _OWNER).write_text(json.dumps(owner), encoding="utf-8")
        yield
    finally:
        # Removed while it is held: whoever opened it before sees that it has gone, and makes a new one.
        for name in (_OWNER, _LOCK):
            with suppress(OSError):
                (folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # a file of the fallback has gone by now
            lock.release()
        with suppress(OSError):  # not empty: something is left for the next run
            folder.rmdir()


def _holder(folder: Path) -> str:
    try:
        owner = json.loads((folder / _OWNER).read_text(encoding="utf-8"))
        return f" (process {owner['pid']} on {owner['host']}, since {owner['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
