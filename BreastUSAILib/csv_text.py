"""The text of tables that users give."""

from __future__ import annotations

from pathlib import Path

from .errors import DataError


def read_csv_text(path: Path) -> str:
    """A CSV file's text; a byte order mark and the ends of lines of any system are taken for what they are.

    Raises
    ------
    DataError : it cannot be read, or is not in UTF-8, as when Excel saves it as "CSV" or "Unicode text" on Windows.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            return stream.read()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not in UTF-8 (byte {error.start}); save it as CSV UTF-8.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); check its permissions.") from error
