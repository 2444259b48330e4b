"""What tells an input from every other, whatever it is called and wherever it lies."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import ImageError


def identity(path: Path, files: Sequence[Path] = ()) -> dict[str, Any]:
    """What tells an input from every other: its size, and the SHA-256 of its bytes; of several files, of all in turn.

    Of a header whose pixels lie in files beside it (.mhd, .nhdr) these are part of it: many volumes have the same header.

    Raises
    ------
    ImageError : it vanished since it was read.
    """
    digest, size = hashlib.sha256(), 0
    for file in files or (path, *_beside(path)):
        try:
            if file.is_dir():
                return {}
            with file.open("rb") as stream:
                for chunk in iter(lambda: stream.read(1 << 20), b""):  # noqa: B023  used at once
                    digest.update(chunk)
                size += stream.tell()
        except OSError as error:
            raise ImageError(
                f"{file} cannot be read any more ({error.strerror}); was it moved while it was worked on?"
            ) from error
    return {"bytes": size, "sha256": digest.hexdigest(), **({"files": len(files)} if files else {})}


def _beside(path: Path) -> tuple[Path, ...]:
    """The files with the pixels of a header; none where it cannot be read, which is told where its bytes are asked for."""
    from .headers import data_files

    try:
        return data_files(path)
    except OSError:
        return ()
