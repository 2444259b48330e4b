"""Workers of a Dask cluster that are started as Slurm jobs, by dask-jobqueue; and whether any of them can still come."""

from __future__ import annotations

import getpass
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import DependencyError, OutputError, UsageError

_BETWEEN_S = 10.0  # two looks at the queue; a job that was just submitted may not stand in it yet
_ASK_S = 60.0  # for the queue to answer
_MEMORY = re.compile(r"(?P<number>(\d+\.?\d*|\.\d+)(e\d\d?)?) *(?P<prefix>[kmgtp])?(?(prefix)(?P<binary>i)?)b?")
_LEAST_BYTES = 1e6  # a number without its unit is meant to be more


@dataclass(frozen=True)
class SlurmOptions:
    """The Slurm jobs that are started, one worker each.

    Attributes
    ----------
    jobs : how many.
    cores : of each; one input is worked on at a time and uses them all.
    memory : of each, as Dask writes it ("16GB").
    walltime : of each, "HH:MM:SS"; the run goes on while any is left, and the next run where this one stopped.
    directives : further ``#SBATCH`` options, such as "--partition=gpu" and "--gres=gpu:1".
    """

    jobs: int
    cores: int = 4
    memory: str = "16GB"
    walltime: str = "04:00:00"
    directives: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.jobs < 1 or self.cores < 1:
            raise UsageError("--slurm and --slurm-cores must be 1 or more.")
        if not _bytes(self.memory) >= _LEAST_BYTES:
            raise UsageError(f"--slurm-memory is {self.memory!r}; write a number with its unit, as in 16GB.")


def _bytes(memory: str) -> float:
    """An amount of memory as Dask reads it; 0 where it is none.

    >>> _bytes("16GB"), _bytes("1.5 GiB"), _bytes("16"), _bytes("16XB")
    (16000000000.0, 1610612736.0, 16.0, 0.0)
    """
    match = _MEMORY.fullmatch(memory.strip().lower())
    if match is None:
        return 0.0
    return float(match["number"]) * (1024 if match["binary"] else 1000) ** " kmgtp".index(match["prefix"] or " ")


class SlurmJobs:
    """The Slurm jobs of a run.

    Attributes
    ----------
    cluster : of dask-jobqueue.

    Parameters
    ----------
    options : see `SlurmOptions`.
    log : called with sentences for the user.

    Raises
    ------
    DependencyError : dask-jobqueue is not installed.
    UsageError : there is no Slurm on this machine, or it refuses the jobs.
    """

    def __init__(self, options: SlurmOptions, log: Callable[[str], None]) -> None:
        try:
            with _ctrl_c_kept():
                from dask_jobqueue import SLURMCluster
        except ImportError as error:
            raise DependencyError(
                "--slurm needs dask-jobqueue; install it with: pip install breastusai[cluster]"
            ) from error
        if shutil.which("sbatch") is None:
            raise UsageError("--slurm needs sbatch; give the command on a machine from which Slurm jobs are submitted.")
        # One task at a time in each job, on all its cores.
        self.cluster = SLURMCluster(
            processes=1,
            cores=1,
            job_cpu=options.cores,
            memory=options.memory,
            walltime=options.walltime,
            job_extra_directives=list(options.directives),
            python=sys.executable,
        )
        self._ids: set[str] = set()  # of all jobs that there were: Dask forgets those whose worker is lost
        self._gone_since: float | None = None  # time.monotonic() when no job stood in the queue for the first time
        self._logs = Path.cwd()  # where Slurm writes what jobs print
        self.cluster.scale(jobs=options.jobs)
        try:
            self.cluster.sync(self._submitted)
        except (RuntimeError, ValueError) as error:
            self.close()
            raise UsageError(f"Slurm does not take the jobs ({_reason(error)}); check the --slurm options.") from error
        self._all_ids()
        log(f"{options.jobs} Slurm jobs are asked for; the work begins with the first that runs.")

    async def _submitted(self) -> None:
        await self.cluster
        for job in self.cluster.workers.values():
            if not job.job_id:  # dask-jobqueue goes on without a job that was refused
                await job  # tries once more, and raises what sbatch says

    def close(self) -> None:
        self._give_up()
        self.cluster.close()

    def _give_up(self) -> None:
        """Jobs that never began: Dask does not close a cluster before it is told so.

        A function of its own, as it must let go of the jobs: dask-jobqueue's never say that they are closed, and Dask
        asks all that still exist.
        """
        from distributed.core import Status

        for job in self.cluster.workers.values():
            if not job.job_id:
                job.status = Status.failed

    def ended(self) -> OutputError | None:
        """That all jobs have ended, where they have; None while one runs or waits, and where the queue does not tell.

        To be called while no worker is connected.
        """
        ids = self._all_ids()
        queued = _queue()
        if queued is None or ids & queued:
            self._gone_since = None
            return None
        now = time.monotonic()
        if self._gone_since is None:
            self._gone_since = now
        if now - self._gone_since < _BETWEEN_S:
            return None
        named = ", ".join(sorted(ids)[:5]) + (", ..." if len(ids) > 5 else "")
        return OutputError(
            f"All Slurm jobs of this run have ended ({named}), and inputs are left{self._said(ids)}; see why with "
            f"`sacct -j {sorted(ids)[0]}`, then give the same command again, and it goes on."
        )

    def _all_ids(self) -> set[str]:
        self._ids |= {str(job.job_id) for job in list(self.cluster.workers.values()) if getattr(job, "job_id", None)}
        return self._ids

    def _said(self, ids: set[str]) -> str:
        """The last line that one of the jobs printed, where Slurm wrote it here."""
        for name in sorted(ids):
            try:
                lines = (self._logs / f"slurm-{name}.out").read_text(encoding="utf-8", errors="replace").split("\n")
            except OSError:
                continue
            last = next((line.strip() for line in reversed(lines) if line.strip()), "")
            if last:
                return f"; slurm-{name}.out ends with: {last[:200]}"
        return ""


def _queue() -> set[str] | None:
    """The ids of the user's jobs that wait or run; None where Slurm does not say."""
    if shutil.which("squeue") is None:
        return None
    command = ["squeue", "--noheader", "--format=%A", "--user", getpass.getuser()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return set(done.stdout.split())


def _reason(error: Exception) -> str:
    """What sbatch said, from dask-jobqueue's message of many lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    after = lines.index("stderr:") + 1 if "stderr:" in lines else len(lines) - 1
    return " ".join(lines[after:])[:300] or type(error).__name__


@contextmanager
def _ctrl_c_kept() -> Iterator[None]:
    """dask-jobqueue, when it is imported, makes Ctrl-C end the process on the spot; here it cancels the run."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if before is not None and signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)
