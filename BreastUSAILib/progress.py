"""How commands show what they are doing: a bar in a terminal, JSON lines for programs, or nothing."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

MODES = ("auto", "bar", "json", "lines", "none")

_LINE_S = 60.0  # between two lines
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROLS_BUT_LINES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

Progress = Callable[[float, str], None]
Log = Callable[[str], None]


def add_progress_arguments(parser: argparse.ArgumentParser) -> None:
    """``--progress`` and ``--quiet``."""
    parser.add_argument(
        "--progress",
        choices=MODES,
        default="auto",
        help='auto: a bar in a terminal; json: a line {"progress": 0.42, "message": ...} a step; lines: one a minute',
    )
    parser.add_argument("--quiet", "-q", action="store_true", help="print errors only")


def to_nowhere(*streams: TextIO) -> None:
    """Let what is still written go nowhere, as its reader has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream.fileno())


def on_terminal(text: str, lines: bool = False) -> str:
    """A text as a terminal may have it: control characters, which names of files may hold, as escapes, so that they do nothing there.

    lines : line ends and tabs stay, as in a text of several lines.

    >>> on_terminal("a" + chr(27) + "[2J" + chr(10) + ".png")
    'a\\\\x1b[2J\\\\n.png'
    """
    controls = _CONTROLS_BUT_LINES if lines else _CONTROLS
    return controls.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


@contextmanager
def show_progress(mode: str, quiet: bool, without_terminal: str = "none") -> Iterator[tuple[Progress, Log]]:
    """How progress and sentences are shown: (progress function, log function).

    Parameters
    ----------
    mode : one of `MODES`.
    quiet : sentences are not printed.
    without_terminal : what "auto" is where there is no terminal.
    """

    def log(text: str) -> None:
        if not quiet:
            print(on_terminal(text, lines=True), flush=True)

    if mode == "auto":
        mode = "none" if quiet else "bar" if _is_terminal() else without_terminal
    if mode == "json":
        yield _print_progress, log
    elif mode == "lines":
        yield _Lines(), log
    elif mode == "bar":
        from tqdm import tqdm

        form = "{percentage:3.0f}% |{bar}| {elapsed}<{remaining} {desc}"
        with tqdm(total=100, bar_format=form, dynamic_ncols=True, leave=False, file=sys.stderr) as bar:

            def show(fraction: float, message: str) -> None:
                bar.set_description_str(on_terminal(message), refresh=False)
                bar.update(100 * fraction - bar.n)

            yield show, lambda text: None if quiet else bar.write(on_terminal(text, lines=True), file=sys.stderr)
    else:
        yield (lambda fraction, message: None), log


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()  # None where it was closed, as services do


class _Lines:
    """A line a minute, for logs."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _LINE_S

    def __call__(self, fraction: float, message: str) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_S
            print(f"{100 * fraction:.0f} %: {on_terminal(message)}", flush=True)


class Estimate:
    """How long the rest will take if it goes on as before, by a clock that nobody sets."""

    def __init__(self) -> None:
        self._start: float | None = None
        self._before = 0.0

    def begin(self, done: float) -> None:
        """The work begins now, with so much done; later calls change nothing."""
        if self._start is None:
            self._start, self._before = time.monotonic(), done

    def left(self, done: float, total: float) -> str:
        """In words, "about 5 min"; "" while it is too early to tell."""
        if self._start is None or done - self._before < 1:
            return ""
        elapsed = time.monotonic() - self._start
        return duration(elapsed * (total - done) / (done - self._before))


def duration(seconds: float) -> str:
    """A length of time for a person.

    >>> duration(5000), duration(200), duration(20)
    ('about 1.4 h', 'about 3 min', 'less than a minute')
    """
    if seconds >= 3600:
        return f"about {seconds / 3600:.1f} h" if seconds < 36_000 else f"about {seconds / 3600:.0f} h"
    return f"about {seconds / 60:.0f} min" if seconds >= 60 else "less than a minute"


def _print_progress(fraction: float, message: str) -> None:
    print(json.dumps({"progress": round(fraction, 4), "message": message}), flush=True)
