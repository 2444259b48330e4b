"""How commands show what they are doing: a bar in a terminal, JSON lines for programs, or nothing."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MODES = ("auto", "bar", "json", "none")

Progress = Callable[[float, str], None]
Log = Callable[[str], None]


def add_progress_arguments(parser: argparse.ArgumentParser) -> None:
    """``--progress`` and ``--quiet``."""
    parser.add_argument(
        "--progress",
        choices=MODES,
        default="auto",
        help="auto: a bar in a terminal; json: a line {\"progress\": 0.42, \"message\": ...} a step",
    )
    parser.add_argument("--quiet", "-q", action="store_true", help="print errors only")


@contextmanager
def show_progress(mode: str, quiet: bool) -> Iterator[tuple[Progress, Log]]:
    """How progress and sentences are shown: (progress function, log function).

    Parameters
    ----------
    mode : one of `MODES`.
    quiet : sentences are not printed.
    """

    def log(text: str) -> None:
        if not quiet:
            print(text, flush=True)

    if mode == "auto":
        mode = "bar" if sys.stderr.isatty() and not quiet else "none"
    if mode == "json":
        yield _print_progress, log
    elif mode == "bar":
        from tqdm import tqdm

        form = "{percentage:3.0f}% |{bar}| {elapsed}<{remaining} {desc}"
        with tqdm(total=100, bar_format=form, dynamic_ncols=True, leave=False, file=sys.stderr) as bar:

            def show(fraction: float, message: str) -> None:
                bar.set_description_str(message, refresh=False)
                bar.update(100 * fraction - bar.n)

            yield show, lambda text: None if quiet else bar.write(text, file=sys.stderr)
    else:
        yield (lambda fraction, message: None), log


def _print_progress(fraction: float, message: str) -> None:
    print(json.dumps({"progress": round(fraction, 4), "message": message}), flush=True)
