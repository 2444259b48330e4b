"""Options that evaluations on volumes have in common, and what they refuse."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..atomic import check_writable
from ..errors import UsageError
from .data_set_names import check_names

if TYPE_CHECKING:
    from .volume_data import VolumeCase


def check_options(args: argparse.Namespace, shares: Sequence[str], counts: Sequence[str]) -> None:
    """Refuse options that have no meaning, before any work is done.

    shares, counts : names of options that, if given, must lie between 0 and 1, or be 1 or more. --spacing, --data and --output are looked at, too.

    Raises
    ------
    UsageError : one of them.
    OutputError : nothing could be written in --output.
    """
    for option in shares:
        value = _value(args, option)
        if value is not None and not 0 <= value <= 1:
            raise UsageError(f"{option} is {value}; it must lie between 0 and 1.")
    for option in counts:
        value = _value(args, option)
        if value is not None and value < 1:
            raise UsageError(f"{option} is {value}; it must be 1 or more.")
    if args.spacing is not None and not all(0 < s < 100 for s in args.spacing):
        raise UsageError(f"--spacing is {args.spacing}; each must be a positive number of mm.")
    check_names(args.data, UsageError)
    check_writable(args.output)


def cases_of(args: argparse.Namespace) -> list[VolumeCase]:
    """The volumes that a command line asks for: --data, --split, --spacing, --limit. Raises `DataError`, see `volume_data.read_volumes`."""
    from .volume_data import read_volumes, with_spacing

    folders = with_spacing(args.data, args.spacing)
    return [case for folder, spacing in folders for case in read_volumes(folder, [args.split], spacing)[: args.limit]]


def _value(args: argparse.Namespace, option: str) -> float | None:
    return getattr(args, option.removeprefix("--").replace("-", "_"))
