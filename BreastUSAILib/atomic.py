"""Writing files so that a reader finds either the whole new file or the old one, never a half of it."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import OutputError

_CURES = {
    errno.ENOSPC: "the disk is full; free some space or choose another output folder.",
    errno.EDQUOT: "your disk quota is used up; free some space or choose another output folder.",
    errno.EACCES: "permission is denied; choose a folder that you may write to, or close the program that has it open.",
    errno.EPERM: "permission is denied; choose a folder that you may write to, or close the program that has it open.",
    errno.EROFS: "the disk is read-only; choose another output folder.",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another output folder.",
    errno.EEXIST: "a part of the path is a file, not a folder; choose another output folder.",
    errno.EISDIR: "a folder of that name is in the way; choose another name.",
    errno.ENOTEMPTY: "a folder of that name is in the way; choose another name.",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one.",
}


def output_error(path: str | os.PathLike, error: OSError) -> OutputError:
    """The sentence for the user about an `OSError` met while `path` was being written."""
    reason = error.strerror or str(error) or type(error).__name__
    cure = _CURES.get(error.errno, f"{reason}; choose another output folder.")
    return OutputError(f"{path} cannot be written: {cure}")


def check_writable(folder: str | os.PathLike) -> None:
    """`OutputError` where no file could be written in a folder, before the work whose results are to lie there. Nothing is made: where the
    folder is not there yet, the nearest one that is above it is tried."""
    place = Path(os.path.abspath(folder))
    try:
        with tempfile.TemporaryFile(dir=next(path for path in (place, *place.parents) if path.exists())):
            pass
    except OSError as error:
        raise output_error(folder, error) from error


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path to write to; the file moves to `path` when the block ends without an exception.

    The temporary file lies in the same folder (a move within one file system is atomic) and ends in the same
    suffixes (``.seg.nrrd``, ``.mrk.json``), by which writers choose their format. Missing parent folders are made.
    When the block raises, the temporary file is removed and what stood at `path` before is untouched.

    Parameters
    ----------
    path : where the file shall be in the end.

    Yields
    ------
    Path : the temporary path; nothing exists there yet. The block must create a file there.

    Raises
    ------
    OutputError : the folder cannot be made, the disk is full, permission is denied ...; also when the block raises
        such an `OSError` about this file. An `OSError` that names another file passes unchanged.
    """
    target = Path(path)
    # The name itself may be as long as the file system allows, so only its suffixes go into the temporary one.
    temporary = target.with_name(f".tmp-{uuid.uuid4().hex[:12]}{''.join(target.suffixes[-2:])}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        # Writers name the temporary file, or no file at all (disk full); anything else is not about our output.
        named = [Path(os.fsdecode(n)) for n in (error.filename, error.filename2) if isinstance(n, (str, bytes))]
        ours = {temporary, target, *target.parents}
        if named and not ours.intersection(named):
            raise
        raise output_error(target, error) from error
    finally:
        # Gone already after a success; a failure to clean up must not hide the first error.
        try:
            temporary.unlink(missing_ok=True)
        except OSError:
            pass


@contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary folder to fill; it moves to `path` when the block ends without an exception.

    It lies beside `path`, for the same reason as in `atomic_path`. Missing parent folders are made.

    Parameters
    ----------
    path : where the folder shall be in the end; nothing, or an empty folder, may be there.

    Yields
    ------
    Path : the temporary folder, which is there and empty.

    Raises
    ------
    OutputError : `path` is a file or a folder that is not empty; otherwise see `atomic_path`.
    """
    # What the user named may be a link, "." or end in ".."; a place beside it has a name of its own.
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".tmp-{uuid.uuid4().hex[:12]}")
    try:
        if target.exists() and os.listdir(target):  # of a file: ENOTDIR
            raise OutputError(f"{path} is not empty; choose a new folder.")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        if target.exists():
            target.rmdir()  # Windows moves nothing onto a folder, be it empty
        os.replace(temporary, target)
    except OSError as error:
        named = [Path(os.fsdecode(n)) for n in (error.filename, error.filename2) if isinstance(n, (str, bytes))]
        ours = {temporary, target, *target.parents}
        if named and not any(name in ours or temporary in name.parents for name in named):
            raise
        raise output_error(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: str | os.PathLike, data: bytes) -> Path:
    """Write `data` to `path` atomically and return the path. Raises `OutputError`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def write_text(path: str | os.PathLike, text: str) -> Path:
    """Write `text` to `path` atomically, as UTF-8 with its own line ends, and return the path. Raises `OutputError`."""
    return write_bytes(path, text.encode("utf-8"))
