"""What tables of measured models have in common: their rows as the command line names them, and figures as text."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import UsageError


def add_rows_argument(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument("--rows", nargs="+", required=True, metavar="NAME=DIR", help=meaning)


def rows_of(texts: Sequence[str]) -> list[tuple[str, Path]]:
    """Names and folders of ``--rows``. Raises `UsageError` for what is not NAME=DIR, and for a name given twice."""
    pairs = []
    for text in texts:
        name, sign, folder = text.partition("=")
        if not sign or not name.strip() or not folder:
            raise UsageError(f"--rows has {text!r}; it must be NAME=DIR.")
        pairs.append((name.strip(), Path(folder)))
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise UsageError(f"--rows names {', '.join(names)}; each name can be there once.")
    return pairs


LESION_FACTS = ("malignant", "volume_ml", "posterior")
"""What lesions.csv says of a lesion whatever was measured: names alone do not tell lesions apart, as the volumes of every TDSC-ABUS are 000 to 199."""
Facts = tuple[float | None, ...]


def lesion_facts(row: Mapping[str, str | None]) -> Facts:
    """`LESION_FACTS` of a row of lesions.csv; None for what is open, and for columns that earlier versions did not write. Raises `ValueError`."""
    return tuple(float(row[name]) if row.get(name) else None for name in LESION_FACTS)


def same_facts(one: Sequence[Facts], other: Sequence[Facts]) -> bool:
    """Whether two tables of lesions, in one order, agree in all that both know."""
    return len(one) == len(other) and all(
        a is None or b is None or math.isclose(a, b, rel_tol=_ROUNDING)
        for facts, others in zip(one, other, strict=True)
        for a, b in zip(facts, others, strict=True)
    )


_ROUNDING = 1e-4  # lesions.csv has six digits


def counted(number: int, noun: str) -> str:
    """
    >>> counted(1, "lesion"), counted(0, "lesion")
    ('1 lesion', '0 lesions')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def cell(text: str) -> str:
    """Text within a table in Markdown.

    >>> cell("a|b")
    'a\\\\|b'
    """
    return text.replace("|", "\\|")


def stated(value: float | None = None, low: float | None = None, high: float | None = None) -> str:
    """A value and its interval, or "-" where there is none."""
    if value is None:
        return "-"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f} to {high:.3f})"
