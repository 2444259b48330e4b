"""Child processes: progress, cancelling the whole tree, and crashes."""

from __future__ import annotations

import os
import sys
import time

import pytest

from BreastUSAILib.child_process import ChildError, ChildRun, library_environment, parse_progress, python_executable
from BreastUSAILib.errors import Cancelled


def _run(code: str, **kwargs) -> ChildRun:
    return ChildRun([sys.executable, "-c", code], **kwargs)


def _until(condition, timeout=20.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_progress_and_log_are_told_apart_and_kept_in_order():
    seen, said = [], []
    run = _run(
        "print('loading é'); print('{\"progress\": 0.25, \"message\": \"Segmenting\"}'); print('{\"progress\": oops')\n"
        "import sys; print('careful', file=sys.stderr, flush=True); print('{\"progress\": 1.0, \"message\": \"Done\"}')",
        on_progress=lambda *p: seen.append(p),
        on_log=said.append,
    )
    run.wait(20)
    assert run.poll()
    assert seen == [(0.25, "Segmenting"), (1.0, "Done")]
    assert sorted(said) == sorted(["loading é", '{"progress": oops', "careful"])
    assert run.result() == "\n".join(said)


@pytest.mark.parametrize("line", ["", "{}", '{"progress": "x"}', '{"progress": [1]}', ' {"progress": 1}', '{"a": 1}'])
def test_other_lines_are_no_progress(line):
    assert parse_progress(line) is None


def test_progress_is_clamped():
    assert parse_progress('{"progress": 7, "message": "m"}') == (1.0, "m")
    assert parse_progress('{"progress": -1}') == (0.0, "")


def test_polling_never_waits_for_the_child():
    run = _run("import time; time.sleep(60)")
    try:
        started = time.monotonic()
        assert not run.poll()
        with pytest.raises(ChildError, match="not ended"):
            run.result()
        assert time.monotonic() - started < 5
    finally:
        run.cancel()


@pytest.mark.skipif(os.name == "nt", reason="reads /proc")
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_cancel_ends_the_whole_tree_even_when_it_ignores_the_polite_signal():
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    said = []
    run = _run(
        f"import subprocess, sys, os\ncode = {stubborn!r}\n"
        "worker = subprocess.Popen([sys.executable, '-c', code])\nprint(worker.pid, flush=True)\n"
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nworker.wait()",
        on_log=said.append,
    )
    _until(lambda: run.poll() or len(said) == 2)
    worker = next(int(line) for line in said if line.isdigit())
    assert _alive(worker)
    run.cancel()
    _until(lambda: run.poll() and not _alive(worker), timeout=5)
    with pytest.raises(Cancelled):
        run.result()
    run.cancel()  # a second time does no harm


def test_a_failure_is_a_message_with_the_last_words():
    run = _run("print('one'); raise SystemExit('case 7.png is not an image')")
    run.wait(20)
    with pytest.raises(ChildError, match=r"failed with code 1(.|\n)*case 7.png is not an image"):
        run.result()


def test_a_failure_that_the_child_reports_is_that_sentence_alone():
    run = _run("print('error: one.'); print('error: case 7.png is not an image.'); print('more'); raise SystemExit(1)")
    run.wait(20)
    with pytest.raises(ChildError) as caught:
        run.result()
    assert str(caught.value) == "case 7.png is not an image."


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_crash_is_a_message():
    run = _run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    run.wait(20)
    with pytest.raises(ChildError, match="SIGSEGV"):
        run.result()


def test_cancelling_what_has_ended_keeps_its_result():
    run = _run("print('fine')")
    run.wait(20)
    run.cancel()
    assert run.result() == "fine"


def test_a_program_that_is_not_there():
    with pytest.raises(ChildError, match="no-such-program cannot be started"):
        ChildRun(["no-such-program"])


def test_the_child_imports_this_library_from_any_folder(tmp_path, monkeypatch):
    import BreastUSAILib

    monkeypatch.chdir(tmp_path)
    run = ChildRun([python_executable(), "-c", "import BreastUSAILib; print(BreastUSAILib.__file__)"])
    run.wait(20)
    assert run.result() == BreastUSAILib.__file__


def test_the_environment_keeps_what_was_there():
    environment = library_environment({"PYTHONPATH": f"/a{os.pathsep}/b", "HOME": "/h"})
    assert environment["HOME"] == "/h"
    assert environment["PYTHONPATH"].split(os.pathsep)[1:] == ["/a", "/b"]
    again = library_environment(environment)
    assert again["PYTHONPATH"] == environment["PYTHONPATH"]


def test_inside_the_application_python_slicer_is_found(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    launcher = tmp_path / "bin" / ("PythonSlicer.exe" if os.name == "nt" else "PythonSlicer")
    launcher.touch(mode=0o755)
    monkeypatch.setenv("SLICER_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "SlicerApp-real"))
    assert python_executable() == str(launcher)
    launcher.unlink()
    with pytest.raises(ChildError, match="PythonSlicer was not found"):
        python_executable()
    monkeypatch.delenv("SLICER_HOME")
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3.12")
    assert python_executable() == "/usr/bin/python3.12"
