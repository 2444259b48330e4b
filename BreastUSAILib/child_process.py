"""Work in a child process, with progress, cancelling, and crashes that stay outside.

Slicer's window stays live while the child works: `ChildRun.poll` never waits and is meant for a timer. The child is the
same command line program that a person would start; each line that it prints to standard output and that starts with
``{"progress":`` is a JSON record ``{"progress": 0..1, "message": str}``, every other line is its log.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .errors import BreastUSAIError, Cancelled
from .openmp import wait_briefly

PROGRESS_START = '{"progress":'
ERROR_START = "error: "  # of the sentence with which the command line reports a failure
_LOG_TAIL = 12  # lines of the log in an error message
_LOG_KEPT = 2000  # lines of the log kept in memory
_GRACE_S = 0.3  # between asking the process group to end and killing it


class ChildError(BreastUSAIError):
    """The child process failed; the message is its last ``error:`` line or, where it wrote none, ends with its log."""


def parse_progress(line: str) -> tuple[float, str] | None:
    """(fraction 0 to 1, message) of a progress line, None for any other line.

    >>> parse_progress('{"progress": 0.5, "message": "Refining"}')
    (0.5, 'Refining')
    >>> parse_progress("loading the model") is None
    True
    """
    if not line.startswith(PROGRESS_START):
        return None
    try:
        record = json.loads(line)
        fraction = float(record["progress"])
    except (ValueError, KeyError, TypeError):
        return None
    return min(max(fraction, 0.0), 1.0), str(record.get("message", ""))


def library_environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment of a child that imports this very BreastUSAILib, wherever it was started, and prints UTF-8 at once.

    Parameters
    ----------
    base : the environment to start from; this process's by default.
    """
    environment = dict(os.environ if base is None else base)
    root = str(Path(__file__).resolve().parents[1])
    known = [p for p in environment.get("PYTHONPATH", "").split(os.pathsep) if p and p != root]
    environment["PYTHONPATH"] = os.pathsep.join([root, *known])
    environment["PYTHONUNBUFFERED"] = "1"
    environment["PYTHONIOENCODING"] = "utf-8"
    wait_briefly(environment)
    return environment


def python_executable() -> str:
    """The Python to run the child with: PythonSlicer inside the Slicer application, this interpreter elsewhere.

    Inside the application ``sys.executable`` may be the application itself, which would open a second Slicer; Slicer's
    launcher sets SLICER_HOME and puts PythonSlicer on the path.

    Raises
    ------
    ChildError : in a Slicer without PythonSlicer.
    """
    here = Path(sys.executable)
    home = os.environ.get("SLICER_HOME")
    if home:
        folders = os.pathsep.join([str(Path(home) / "bin"), os.environ.get("PATH", ""), str(here.parent)])
        found = shutil.which("PythonSlicer", path=folders)
        if found:
            return found
    if here.name.lower().startswith(("python", "pypy")):
        return str(here)
    raise ChildError(f"PythonSlicer was not found in {home or here.parent}; reinstall 3D Slicer.")


class ChildRun:
    """One child process.

    Parameters
    ----------
    argv : program and arguments.
    on_progress : called from `poll` with a fraction (0 to 1) and a message.
    on_log : called from `poll` with each other line.
    environment : of the child; `library_environment` by default.

    Raises
    ------
    ChildError : the program cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        on_progress: Callable[[float, str], None] | None = None,
        on_log: Callable[[str], None] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._on_progress, self._on_log = on_progress, on_log
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._log: deque[str] = deque(maxlen=_LOG_KEPT)
        self._cancelled = False
        # A group of its own, so that cancelling ends the worker processes of the child as well.
        own_group = (
            {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
            if os.name == "nt"
            else {"start_new_session": True}
        )
        try:
            self._process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=dict(library_environment() if environment is None else environment),
                text=True,
                encoding="utf-8",
                errors="replace",
                **own_group,
            )
        except OSError as error:
            raise ChildError(f"{argv[0]} cannot be started: {error.strerror or error}.") from error
        self._reader = threading.Thread(target=self._read, name="BreastUSAI child output", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        """What the child has said so far, without the progress lines."""
        return "\n".join(self._log)

    def poll(self) -> bool:
        """Hand on what the child has said since the last call. True when it has ended and all was handed on."""
        ended = self._process.poll() is not None
        if ended:
            # What is still in the pipe is read at once. A grandchild that outlives the child may keep the pipe open.
            self._reader.join(timeout=0.5)
        while True:
            try:
                line = self._lines.get_nowait()
            except queue.Empty:
                return ended
            progress = parse_progress(line)
            if progress is None:
                self._log.append(line)
                if self._on_log is not None:
                    self._on_log(line)
            elif self._on_progress is not None:
                self._on_progress(*progress)

    def cancel(self) -> None:
        """End the child and all that it started, within a second; harmless when it has ended already."""
        if self._process.poll() is None:
            self._cancelled = True
        self._end_tree()

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the end, handing on what the child says. Raises ``subprocess.TimeoutExpired``."""
        self._process.wait(timeout)
        self.poll()

    def result(self) -> str:
        """The log of a child that ended well.

        Raises
        ------
        Cancelled : `cancel` ended it.
        ChildError : it failed, crashed, or has not ended.
        """
        if not self.poll():
            raise ChildError("the child process has not ended yet.")
        if self._cancelled:
            raise Cancelled("cancelled.")
        code = self._process.returncode
        if code == 0:
            return self.log
        errors = [line.removeprefix(ERROR_START) for line in self._log if line.startswith(ERROR_START)]
        if errors and code > 0:  # a child that was killed may have reported something else before
            raise ChildError(errors[-1])
        how = f"was ended by {_signal_name(-code)}" if code < 0 else f"failed with code {code}"
        tail = "\n".join(list(self._log)[-_LOG_TAIL:]) or "(it said nothing)"
        raise ChildError(f"the analysis process {how}. Its last words:\n{tail}")

    def _read(self) -> None:
        with self._process.stdout as stream:
            for line in stream:
                self._lines.put(line.rstrip("\r\n"))

    def _end_tree(self) -> None:
        if os.name == "nt":
            subprocess.run(
                ["taskkill", "/F", "/T", "/PID", str(self.pid)],
                capture_output=True,
                check=False,
                creationflags=subprocess.CREATE_NO_WINDOW,
            )
            return
        for ending in (signal.SIGTERM, signal.SIGKILL):
            # The group's number stays reserved for as long as one process of the group lives.
            try:
                os.killpg(self.pid, ending)
            except (ProcessLookupError, PermissionError):
                return
            try:
                self._process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                continue


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
