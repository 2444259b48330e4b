"""What becomes of a run when something goes wrong: killed at any moment, time and memory limits, crashes, full disks, locks."""

import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fake_worker import FakeWorker
from test_run import fake_run, image_at, statuses

from BreastUSAILib import cli, image, run_input
from BreastUSAILib.errors import ImageError, OutputError, UsageError
from BreastUSAILib.identity import pixels_digest
from BreastUSAILib.inputs import read_run
from BreastUSAILib.run import failed_inputs, run
from BreastUSAILib.run_input import RunOptions, Task, identity, move_results
from BreastUSAILib.run_journal import DONE, FAILED, Entry, Journal
from BreastUSAILib.run_lock import run_lock
from BreastUSAILib.workers import Limits, Pool
from BreastUSAILib.workup import WorkupOptions

HERE = Path(__file__).parent


def finished(output):
    return sorted(p.parent.name for p in output.glob("*/study.json"))


# ------------------------------------------------------------------------------------------------------------- killed


@pytest.fixture
def counted_run(tmp_path):
    """A function that starts a run of its own process group whose worker writes a line for each study it finishes."""
    script = tmp_path / "counted.py"
    script.write_text(
        "import sys\n"
        "sys.path[:0] = sys.argv[1:3]\n"
        "from pathlib import Path\n"
        "from counted_worker import CountedWorker\n"
        "from BreastUSAILib.run import run\n"
        "from BreastUSAILib.run_input import RunOptions\n"
        "from BreastUSAILib.workup import WorkupOptions\n"
        "if __name__ == '__main__':\n"
        "    options = RunOptions(Path(sys.argv[4]), WorkupOptions(), jobs=int(sys.argv[5]), scene=False, isolate=True)\n"
        "    result = run([sys.argv[3]], options, make_worker=CountedWorker)\n"
        "    print(result.skipped, result.counts)\n"
    )

    def start(source, output, jobs):
        command = [sys.executable, str(script), str(HERE), str(HERE.parents[1]), str(source), str(output), str(jobs)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_run_that_is_killed_at_any_moment_goes_on_and_does_nothing_twice(tmp_path, counted_run):
    names = [f"s{i:02}" for i in range(14)]
    for name in names:
        image_at(tmp_path / "in" / f"{name[:2]}" / f"{name}.png")
    output, log = tmp_path / "out", tmp_path / "out-moved.log"
    chance = random.Random(5)
    seen: set[str] = set()
    for _ in range(2):
        process = counted_run(tmp_path / "in", output, 2)
        # Kill in the middle of the work, some studies after the last time.
        aim = len(seen) + chance.randint(1, 3)
        while len(finished(output)) < min(aim, len(names)) and process.poll() is None:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.05)
        process.kill()
        process.communicate()
        _wait_for_workers(log)
        now = set(finished(output))
        assert seen <= now, "a study was lost"
        for name in now:  # no partial file is taken for a whole one
            left = {p.name for p in (output / name).iterdir()}
            assert {"study.json", "findings.csv", "report.html", "preview.jpg", "lesions.seg.nrrd"} <= left
        seen = now
    done = counted_run(tmp_path / "in", output, 2)
    out, errors = done.communicate(timeout=300)
    assert done.returncode == 0, errors
    assert len(finished(output)) == len(names) and f"{len(seen)} Counts(inputs=14, with_lesion=14" in out
    moved = log.read_text().split()
    assert sorted(set(moved)) == sorted(moved), "a study was done twice"
    assert {Path(name).name for name in moved} == {f"s0_s0{i}" if i < 10 else f"s{i // 10}_s{i}" for i in range(14)}
    assert not (output / ".run").exists() and read_run(output)["status"] == "done"


def _wait_for_workers(log):
    """The workers of a killed run end by themselves."""
    pids = [int(p) for p in log.with_suffix(".pids").read_text().split()] if log.with_suffix(".pids").exists() else []
    deadline = time.monotonic() + 60
    for pid in pids:
        while time.monotonic() < deadline:
            try:
                if Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] == "Z":
                    break
            except OSError:
                break
            time.sleep(0.01)
        else:
            pytest.fail(f"worker {pid} lives on")


def test_a_kill_in_the_middle_of_overwriting_redoes_only_what_was_not_redone(tmp_path):
    image_at(tmp_path / "in" / "a.png")
    image_at(tmp_path / "in" / "b.png")
    out = tmp_path / "out"
    fake_run([tmp_path / "in"], out)
    # As a killed run leaves it: both were to be redone; a's new results are in place, and say whose they are.
    journal = Journal(out / ".run" / "journal.jsonl", {})
    for name in ("a", "b"):
        journal.note(Entry(str(tmp_path / "in" / f"{name}.png"), name, "redo", run="killed"))
    journal.close()
    study = json.loads((out / "a" / "study.json").read_text())
    study["provenance"]["run"] = "killed"
    (out / "a" / "study.json").write_text(json.dumps(study))
    assert fake_run([tmp_path / "in"], out).skipped == 1
    assert json.loads((out / "a" / "study.json").read_text())["provenance"]["run"] == "killed"
    assert statuses(out) == {"a": "done", "b": "done"}


def test_a_journal_with_a_line_that_was_cut_is_read_and_written_on(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, {})
    journal.note(Entry("/a", "a", DONE))
    journal.close()
    path.write_bytes(path.read_bytes() + b'\n{"input": "/b", "fol')
    journal = Journal(path, {})
    journal.note(Entry("/c", "c", FAILED, message="x"))
    journal.close()
    assert [(e.input, e.status) for e in Journal(path, {})] == [("/a", DONE), ("/c", FAILED)]


UNTOLD = '{"input": "/a", "folder": "a", "status": "failed", "message": "m", "failed_with": "x"}'


@pytest.mark.parametrize("line", ["null", "[]", "3", '"x"', '{"input": null, "folder": "a"}', '{"input": "/a", "folder": 3}', "{}", UNTOLD])
def test_a_line_that_is_none_of_a_journal_is_passed_over(tmp_path, line):
    path = tmp_path / "journal.jsonl"
    path.write_text(f'{line}\n{{"input": "/b", "folder": "b", "status": "done"}}\n')
    assert [(e.input, e.folder, e.status) for e in Journal(path, {})] == [("/b", "b", DONE)]


@pytest.mark.parametrize("inputs", [None, 3, {}, "x", [None, 3, {"input": None, "folder": "a"}]])
def test_a_record_without_a_list_of_inputs_blocks_no_run(tmp_path, inputs):
    image_at(tmp_path / "in" / "a.png")
    fake_run([tmp_path / "in"], tmp_path / "out")
    path = tmp_path / "out" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "inputs": inputs}))
    result = fake_run([tmp_path / "in"], tmp_path / "out")
    assert result.skipped == 1 and statuses(tmp_path / "out") == {"a": "done"}


# ------------------------------------------------------------------------------------------------- limits and crashes


def ends(tasks, limits):
    """How each task ends in a pool with limits."""
    from counted_worker import misbehave

    ended = {}
    with Pool(misbehave, (), 1, limits) as pool:
        for number, task in enumerate(tasks):
            pool.give(number, task)
            while pool.busy:
                for event in pool.events():
                    ended[task, event.kind] = event.value
    return ended


def test_limits_and_crashes_cost_their_task_alone():
    ended = ends(["slow", "crash", "fine"], Limits(seconds=2))
    assert set(ended) == {("slow", "died"), ("crash", "died"), ("fine", "done")}
    assert ended["slow", "died"].why == "time" and "after 2 s, the time limit" in str(ended["slow", "died"])
    assert ended["crash", "died"].why == "crash" and "SIGSEGV" in str(ended["crash", "died"])
    ended = ends(["greedy", "fine"], Limits(memory_bytes=1 << 30))
    assert set(ended) == {("greedy", "died"), ("fine", "done")}
    assert ended["greedy", "died"].why == "memory" and "1 GB, the memory limit" in str(ended["greedy", "died"])


def test_limits_become_failures_with_cause_and_cure(tmp_path):
    for name in ("a", "hang", "kill", "z"):
        image_at(tmp_path / "in" / f"{name}.png")
    result = fake_run([tmp_path / "in"], tmp_path / "out", time_limit_s=5.0)
    assert [r.folder for r in result.results if r.study] == ["a", "z"]
    said = [f.message for f in result.failures]
    assert "after 5 s, the time limit; give it longer with --time-limit" in said[0]
    assert "SIGKILL" in said[1] and "damaged" in said[1]
    rows = (tmp_path / "out" / "failures.csv").read_text().splitlines()
    assert len(rows) == 3 and "hang.png" in rows[1]


def test_a_process_that_dies_while_it_waits_costs_no_task():
    from counted_worker import misbehave

    with Pool(misbehave, (), 1) as pool:
        pool.give(0, "fine")
        while not [e for e in pool.events() if e.kind == "done"]:
            pass
        for child in multiprocessing.active_children():
            child.kill()
            child.join()
        pool.give(1, "fine")
        assert [(e.task, e.kind) for e in pool.events()] == [(1, "done")]


def test_only_what_failed_is_retried(tmp_path):
    for name in ("a", "imageerror", "hang"):
        image_at(tmp_path / "in" / f"{name}.png")
    out = tmp_path / "out"
    fake_run([tmp_path / "in"], out, time_limit_s=5.0)
    assert sorted(Path(name).name for name in failed_inputs(out)) == ["hang.png", "imageerror.png"]
    (out / "go-on").touch()
    result = fake_run(failed_inputs(out), out)
    assert [Path(r.source).name for r in result.results if r.study] == ["hang.png"]
    assert [Path(name).name for name in failed_inputs(out)] == ["imageerror.png"]
    rows = (out / "studies.csv").read_text().splitlines()
    assert len(rows) == 4  # the earlier ones are in the overview still
    with pytest.raises(UsageError, match="holds no results"):
        failed_inputs(tmp_path / "in")


# ------------------------------------------------------------------------------------------------------------- locks


def test_two_runs_on_one_folder_do_not_meet(tmp_path):
    image_at(tmp_path / "a.png")
    with run_lock(tmp_path / "out" / ".run"):
        with pytest.raises(OutputError, match=rf"by another run \(process {os.getpid()} on .*wait until it has ended"):
            fake_run([tmp_path / "a.png"], tmp_path / "out")
    assert not fake_run([tmp_path / "a.png"], tmp_path / "out").failures
    assert not (tmp_path / "out" / ".run").exists()


def test_the_lock_of_a_run_that_was_killed_is_nobodys(tmp_path):
    code = (
        "import sys, os; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from BreastUSAILib.run_lock import run_lock\n"
        "with run_lock(Path(sys.argv[2])): print('held', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(HERE.parents[1]), str(tmp_path / ".run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match="another run"), run_lock(tmp_path / ".run"):
            pass
        process.kill()
    with run_lock(tmp_path / ".run"):
        pass


def test_locks_come_and_go_without_two_holders(tmp_path):
    holders, worst, lock = [0], [0], threading.Lock()

    def take(number):
        for _ in range(30):
            try:
                with run_lock(tmp_path / ".run"):
                    with lock:
                        holders[0] += 1
                        worst[0] = max(worst[0], holders[0])
                    time.sleep(0.001)
                    with lock:
                        holders[0] -= 1
            except OutputError:
                time.sleep(0.001)

    threads = [threading.Thread(target=take, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worst == [1]


# ------------------------------------------------------------------------------------------------------------- faults


def test_a_disk_that_fills_up_costs_no_study_that_was_finished(tmp_path):
    """RLIMIT_FSIZE stands in for the disk: every write beyond it fails."""
    for name in ("a", "b"):
        image_at(tmp_path / "in" / f"{name}.png")
    out = tmp_path / "out"
    fake_run([tmp_path / "in" / "a.png"], out)
    before = {p.name: p.read_bytes() for p in (out / "a").iterdir()}
    room = len(before["report.html"]) - 1  # enough for the run's own record
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, old[1]))
        result = fake_run([tmp_path / "in"], out, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert result.failures and all("cannot be written" in f.message for f in result.failures)
    assert {p.name: p.read_bytes() for p in (out / "a").iterdir()} == before and finished(out) == ["a"]
    assert not list(out.glob("**/.tmp-*"))
    again = fake_run([tmp_path / "in"], out)
    assert not again.failures and finished(out) == ["a", "b"]


def test_a_folder_that_becomes_read_only_is_told(tmp_path, monkeypatch):
    image_at(tmp_path / "a.png")

    def refuse(source, target):  # the tests may run as root, whom no permission stops
        raise PermissionError(13, "Permission denied", str(target))

    monkeypatch.setattr(run_input.os, "rename", refuse)
    result = fake_run([tmp_path / "a.png"], tmp_path / "out")
    assert "permission is denied; choose a folder that you may write to" in result.failures[0].message
    monkeypatch.undo()
    assert not fake_run([tmp_path / "a.png"], tmp_path / "out").failures


def test_a_file_that_vanishes_is_a_failure(tmp_path, monkeypatch):
    a, b = image_at(tmp_path / "in" / "a.png"), image_at(tmp_path / "in" / "b.png")
    real = FakeWorker.__call__

    def vanish(self, task, progress):
        b.unlink(missing_ok=True)  # after it was found
        return real(self, task, progress)

    monkeypatch.setattr(FakeWorker, "__call__", vanish)
    result = fake_run([tmp_path / "in"], tmp_path / "out")
    assert [r.source for r in result.failures] == [str(b)] and finished(tmp_path / "out") == ["a"]
    assert identity(a)["bytes"] == a.stat().st_size
    with pytest.raises(ImageError, match="cannot be read any more"):
        identity(b)


def test_an_input_that_is_replaced_while_it_is_read_fails_and_is_done_by_the_next_run(tmp_path, monkeypatch):
    a, other = image_at(tmp_path / "in" / "a.png"), image_at(tmp_path / "other.png", value=200)
    options = RunOptions(tmp_path / "out", WorkupOptions(grading=None), scene=False)
    real = image.read_image

    def replaced(path, **how):
        loaded = real(path, **how)
        if other.exists():
            os.replace(other, a)
        return loaded

    monkeypatch.setattr(image, "read_image", replaced)
    (failure,) = run([str(a)], options).failures
    assert failure.message == f"{a} changed while it was read; run it again." and finished(tmp_path / "out") == []
    (result,) = run([str(a)], options).results
    assert result.study.provenance["input"]["pixels_sha256"] == pixels_digest(real(a).image)


@pytest.mark.skipif(os.name == "nt", reason="Windows lets nobody remove a folder that one is in")
def test_the_folder_of_the_command_may_go_while_the_run_lasts(tmp_path, monkeypatch, capsys):
    a = image_at(tmp_path / "in" / "a.png")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    fake_run([a], tmp_path / "out", progress=lambda fraction, message: shutil.rmtree(tmp_path / "here", ignore_errors=True))
    record = read_run(tmp_path / "out")
    assert (record["status"], record["folder"]) == ("done", str(tmp_path / "here")) and not (tmp_path / "out" / ".run").exists()
    assert cli.main(["run", str(a), "--output", str(tmp_path / "again")]) == 2  # now it is gone from the beginning
    assert "The folder that you are in was removed" in capsys.readouterr().err and not (tmp_path / "again").exists()


def test_a_clock_that_is_set_back_changes_nothing(tmp_path, monkeypatch):
    for name in ("a", "b"):
        image_at(tmp_path / "in" / f"{name}.png")
    fake_run([tmp_path / "in" / "a.png"], tmp_path / "out")
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    for path in (tmp_path / "out" / "a").iterdir():
        os.utime(path, (4_000_000_000, 4_000_000_000))
    result = fake_run([tmp_path / "in"], tmp_path / "out", time_limit_s=60.0)
    assert result.skipped == 1 and not result.failures and finished(tmp_path / "out") == ["a", "b"]


def test_results_come_into_a_new_folder_in_one_step(tmp_path, monkeypatch):
    made = tmp_path / "made"
    made.mkdir()
    for name in ("study.json", "findings.csv"):
        (made / name).write_text("x")
    monkeypatch.setattr(run_input.os, "replace", lambda *args: pytest.fail("file by file"))
    move_results(made, tmp_path / "out" / "a")
    assert {p.name for p in (tmp_path / "out" / "a").iterdir()} == {"study.json", "findings.csv"} and not made.exists()


@pytest.mark.parametrize("bad", [{"time_limit_s": 0.0}, {"time_limit_s": float("nan")}, {"memory_limit_bytes": 0}])
def test_limits_that_make_no_sense_are_refused(tmp_path, bad):
    from BreastUSAILib.workup import WorkupOptions

    with pytest.raises(UsageError, match="must be"):
        RunOptions(output=tmp_path, workup=WorkupOptions(), **bad)


def test_tasks_travel_between_machines(tmp_path):
    import pickle

    from test_run import source

    task = Task(source("/d/a.png"), tmp_path / "t", tmp_path / "a", "run")
    assert pickle.loads(pickle.dumps(task)) == task
