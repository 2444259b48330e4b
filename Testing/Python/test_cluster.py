"""A run on a Dask cluster of several processes: a worker that is killed, limits, Slurm jobs started by a stand-in for sbatch."""

import importlib.util
import os
import signal
import stat
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_worker import FakeWorker
from test_run import image_at, statuses

from BreastUSAILib.errors import ModelError, OutputError, UsageError
from BreastUSAILib.inputs import read_run
from BreastUSAILib.models.engine_names import ENGINE_VARIABLE
from BreastUSAILib.run import run
from BreastUSAILib.run_input import RunOptions
from BreastUSAILib.slurm import SlurmJobs, SlurmOptions, _bytes
from BreastUSAILib.workup import WorkupOptions

distributed = pytest.importorskip("distributed", reason="Dask is not installed")
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def cluster():
    """A scheduler and two worker processes, each with a nanny that starts it again."""
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = path if not before else path + os.pathsep + before
    try:
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0
        ) as cluster:
            yield cluster
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


def cluster_run(names, output, scheduler="", worker=FakeWorker, progress=None, model="", **options):
    choices = RunOptions(output, WorkupOptions(model=model), scene=False, scheduler=scheduler, **options)
    return run([str(n) for n in names], choices, progress, make_worker=worker)


def test_a_worker_that_is_killed_in_the_middle_costs_nothing(cluster, tmp_path):
    for i in range(12):
        image_at(tmp_path / "in" / f"s{i:02}.png")
    image_at(tmp_path / "in" / "imageerror.png")
    image_at(tmp_path / "in" / "kill.png")  # its child process ends; the worker lives
    image_at(tmp_path / "in" / "hang.png")
    out = tmp_path / "out"
    killed = []

    def kill_one(fraction, message):
        if not killed and "done" in message:
            killed.append(next(iter(cluster.workers.values())).pid)
            os.kill(killed[0], signal.SIGKILL)

    result = cluster_run([tmp_path / "in"], out, cluster.scheduler_address, progress=kill_one, time_limit_s=5.0)
    assert killed
    assert [r.folder for r in result.results if r.study] == [f"s{i:02}" for i in range(12)]
    said = {Path(f.source).name: f.message for f in result.failures}
    assert set(said) == {"imageerror.png", "kill.png", "hang.png"}
    assert "SIGKILL" in said["kill.png"] and "the time limit" in said["hang.png"]
    assert read_run(out)["status"] == "done" and not (out / ".run").exists()
    again = cluster_run([tmp_path / "in" / "s00.png"], out, cluster.scheduler_address)
    assert again.skipped == 1 and statuses(out)["s00"] == "done"


def test_the_engine_of_the_command_is_that_of_the_workers(cluster, tmp_path, monkeypatch):
    image_at(tmp_path / "a.png")
    for engine in ("torch", "openvino"):
        monkeypatch.setenv(ENGINE_VARIABLE, engine)  # as --engine does
        (result,) = cluster_run([tmp_path / "a.png"], tmp_path / engine, cluster.scheduler_address).results
        assert result.study.provenance["options"]["engine"] == engine


def test_a_model_that_is_missing_on_the_workers_ends_the_run(cluster, tmp_path):
    image_at(tmp_path / "a.png")
    with pytest.raises(ModelError, match="unknown"):
        cluster_run([tmp_path / "a.png"], tmp_path / "out", cluster.scheduler_address, model="missing")
    assert not (tmp_path / "out").exists()


def test_no_scheduler_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("BreastUSAILib.cluster._CONNECT_S", 0.5)
    image_at(tmp_path / "a.png")
    with pytest.raises(UsageError, match="no Dask scheduler at tcp://127.0.0.1:9"):
        cluster_run([tmp_path / "a.png"], tmp_path / "out", "tcp://127.0.0.1:9")
    with pytest.raises(UsageError, match="choose one"):
        cluster_run([], tmp_path / "out", "tcp://127.0.0.1:9", slurm=SlurmOptions(1))


@pytest.mark.parametrize("memory", ["16XB", "16", "", "GB", "-4GB", "0GB"])
def test_an_amount_of_memory_that_is_none_is_refused(memory):
    with pytest.raises(UsageError, match=r"--slurm-memory is .*; write a number with its unit, as in 16GB"):
        SlurmOptions(1, memory=memory)


@pytest.mark.parametrize("memory", ["16GB", "16 gib", "16G", "1.5TiB", ".5GB", "1e3MB", "16000000000", "5000000k", "2Mi", "64000000B"])
def test_amounts_of_memory_are_read_as_dask_reads_them(memory):
    from dask.utils import parse_bytes

    assert _bytes(SlurmOptions(1, memory=memory).memory) == parse_bytes(memory)


def test_slurm_jobs_do_the_work(tmp_path, monkeypatch):
    """The stand-in for sbatch runs the very script that dask-jobqueue submits, in the background."""
    if importlib.util.find_spec("dask_jobqueue") is None:
        pytest.skip("dask-jobqueue is not installed")
    ctrl_c = signal.getsignal(signal.SIGINT)  # dask-jobqueue takes it when it is imported
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(UsageError, match="needs sbatch"):
        image_at(tmp_path / "in" / "a.png")
        cluster_run([tmp_path / "in"], tmp_path / "out", slurm=SlurmOptions(1))
    tools, log = tmp_path / "tools", tmp_path / "submitted.sh"
    tools.mkdir()
    for name, text in (
        # As Slurm does, it keeps a copy: dask-jobqueue removes the script as soon as it is submitted.
        (
            "sbatch",
            f'cp "$1" {log}\nnohup bash {log} > {tmp_path}/job.log 2>&1 &\necho $! > {tmp_path}/pid\necho "Submitted batch job 42"\n',
        ),
        ("scancel", f"pkill -P $(cat {tmp_path}/pid) 2>/dev/null; true\n"),
    ):
        (tools / name).write_text("#!/bin/bash\n" + text)
        (tools / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parents[1])]))
    slurm = SlurmOptions(1, cores=2, memory="2GB", walltime="00:10:00", directives=("--partition=short",))
    result = cluster_run([tmp_path / "in"], tmp_path / "out", slurm=slurm)
    assert signal.getsignal(signal.SIGINT) is ctrl_c
    assert [r.folder for r in result.results if r.study] == ["a"], (tmp_path / "job.log").read_text()
    script = log.read_text()
    for line in ("--cpus-per-task=2", "--partition=short", "-t 00:10:00", sys.executable):
        assert line in script


@pytest.fixture
def slurm_tools(tmp_path, monkeypatch):
    """A function that writes stand-ins for Slurm's commands, name -> what they do, and puts them first on the PATH."""
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.chdir(tmp_path)
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setattr("BreastUSAILib.cluster._LOOK_S", 0.1)
    monkeypatch.setattr("BreastUSAILib.slurm._BETWEEN_S", 0.3)

    def write(**commands):
        for name, text in {"scancel": "true", **commands}.items():
            (tools / name).write_text(f"#!/bin/bash\n{text}\n")
            (tools / name).chmod(stat.S_IRWXU)

    yield write
    signal.signal(signal.SIGINT, before)


def test_slurm_jobs_that_end_at_once_end_the_run_with_their_last_words(tmp_path, slurm_tools):
    says = "echo /usr/bin/python: No module named distributed > slurm-77.out; echo Submitted batch job 77"
    slurm_tools(sbatch=says, squeue="echo 78; echo $* > asked")
    image_at(tmp_path / "in" / "a.png")
    with pytest.raises(OutputError, match=r"have ended \(77\).*No module named distributed.*same command again"):
        cluster_run([tmp_path / "in"], tmp_path / "out", slurm=SlurmOptions(1))
    assert "--user" in (tmp_path / "asked").read_text()


def test_slurm_jobs_that_dask_has_forgotten_are_named(slurm_tools, monkeypatch):
    """Dask leaves a lost worker out of its cluster before the run asks for the second time whether its job has ended."""
    slurm_tools(sbatch="echo Submitted batch job 77", squeue="true")
    jobs = SlurmJobs(SlurmOptions(1), lambda _: None)
    try:
        assert jobs.ended() is None
        time.sleep(0.4)
        with monkeypatch.context() as later:
            later.setattr(jobs, "cluster", SimpleNamespace(workers={}))
            assert "`sacct -j 77`" in str(jobs.ended())
    finally:
        jobs.close()


def test_a_slurm_job_that_waits_is_waited_for(tmp_path, slurm_tools):
    """It stands in the queue at the first looks only; before that nothing is said of an end."""
    slurm_tools(
        sbatch="echo Submitted batch job 77",
        squeue=f"echo x >> {tmp_path}/looks; [ $(wc -l < {tmp_path}/looks) -lt 4 ] && echo 77; true",
    )
    image_at(tmp_path / "in" / "a.png")
    with pytest.raises(OutputError, match="have ended"):
        cluster_run([tmp_path / "in"], tmp_path / "out", slurm=SlurmOptions(1))
    assert len((tmp_path / "looks").read_text().split()) >= 5


def test_what_sbatch_says_against_the_jobs_is_told(tmp_path, slurm_tools):
    slurm_tools(sbatch="echo 'sbatch: error: invalid partition specified: shrt' >&2; exit 1")
    image_at(tmp_path / "in" / "a.png")
    with pytest.raises(UsageError, match="invalid partition specified: shrt"):
        cluster_run([tmp_path / "in"], tmp_path / "out", slurm=SlurmOptions(1))
    assert not (tmp_path / "out").exists()


def test_a_scheduler_without_workers_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("BreastUSAILib.cluster._LOOK_S", 0.1)
    image_at(tmp_path / "in" / "a.png")
    told = []
    with distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as nobody:

        def log(text):
            told.append(text)
            raise KeyboardInterrupt  # the user has read it

        choices = RunOptions(tmp_path / "out", WorkupOptions(), scene=False, scheduler=nobody.scheduler_address)
        result = run(
            [str(tmp_path / "in")], choices, None, lambda text: log(text) if "worker" in text else None, FakeWorker
        )
    assert result.cancelled and "the run waits" in told[0]


@pytest.fixture
def ctrl_c():
    """Ctrl-C cancels, also where the shell that began the tests had it ignored, as shells do for what runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_cancel_ends_the_work_of_the_workers(cluster, tmp_path):
    for name in ("hang1", "hang2", "hang3"):
        image_at(tmp_path / "in" / f"{name}.png")

    def stop():
        while not any(task.state == "processing" for task in list(cluster.scheduler.tasks.values())):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop, daemon=True).start()
    result = cluster_run([tmp_path / "in"], tmp_path / "out", cluster.scheduler_address)
    assert result.cancelled and not len(result.results)
    with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
        assert all(not pools for pools in client.run(_children).values())


def test_the_end_of_a_run_leaves_other_runs_children(monkeypatch):
    from BreastUSAILib import cluster as module

    ended = []
    child = {name: SimpleNamespace(end=lambda name=name: ended.append(name)) for name in ("a", "b")}
    pools = {number: ((run, None, None), child[run]) for number, run in enumerate("aba")}
    monkeypatch.setattr(module, "_pools", pools)
    monkeypatch.setattr(module, "_ended", set())
    module._end_children("a")
    assert ended == ["a", "a"] and list(pools) == [1] and module._ended == {"a"}


def _children():
    from BreastUSAILib.cluster import _pools

    return len(_pools)
