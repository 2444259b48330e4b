"""The text of tables that users give."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .errors import DataError


@contextmanager
def one_table(path: Path) -> Iterator[None]:
    """DataError where what is read inside the block is no table, as one with a quotation mark that is never closed: the rest is one endless field."""
    try:
        yield
    except csv.Error as error:
        raise DataError(f"{path} does not read as a table ({error}); close the quotation mark that is open, or save it as CSV anew.") from error


def other_separator(columns: Sequence[str] | None) -> str:
    """The end of a sentence on columns that a table lacks, where its first line has semicolons or tabs in the place of commas, as Excel writes them; else ""."""
    if columns and len(columns) == 1 and (";" in columns[0] or "\t" in columns[0]):
        return f"; separate its columns by commas, not by {'semicolons' if ';' in columns[0] else 'tabs'}"
    return ""


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
