"""The benchmarks' runner: turns, ratios, memory and quality of work that takes a known time."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import machine
    import report
    import runner

    yield runner, machine, report
    for name in ("machine", "records", "report", "runner"):
        sys.modules.pop(name, None)


@pytest.fixture
def records(modules):
    import records

    return records


def test_contenders_take_turns_and_are_scored(modules):
    runner, _, _ = modules
    order = []
    contenders = [runner.Contender(name, lambda name=name: order.append(name) or name) for name in "abc"]
    case = runner.Case("letters", contenders[0], contenders[1:], quality=lambda result: float(ord(result)))
    outcome = runner.measure(case, repeats=2)
    assert order == list("abc" * 3)  # once for memory and quality, twice for the times
    assert [f.quality for f in (outcome.ours, *outcome.peers)] == [97.0, 98.0, 99.0]
    assert len(outcome.ratios) == 2


def test_the_ratio_is_the_peers_time_over_ours_and_a_budget_ends_its_turns(modules):
    runner, _, _ = modules
    runs = []
    slow = runner.Contender("slow", lambda: runs.append(1) or time.sleep(0.2))
    outcome = runner.measure(
        runner.Case("sleep", runner.Contender("fast", lambda: time.sleep(0.001)), [slow]), repeats=5, budget=0.1
    )
    assert len(runs) == 2
    assert outcome.ratios[0][0] == pytest.approx(outcome.peers[0].seconds / outcome.ours.seconds, rel=50)
    assert outcome.ratios[0][0] > 1


def test_peak_memory_is_that_of_the_run_though_it_was_given_back(modules):
    runner, _, _ = modules

    def run():
        return float(np.ones(2**24, np.float32).sum())  # 64 MiB

    result, mebibytes = runner.with_peak(run)
    assert result == 2**24
    assert 60 <= mebibytes < 200


def test_a_first_run_that_is_long_counts(modules, monkeypatch):
    runner, _, _ = modules
    monkeypatch.setattr(runner, "LONG", 0.05)
    runs = []
    slow = runner.Contender("slow", lambda: runs.append(1) or time.sleep(0.1))
    outcome = runner.measure(runner.Case("sleep", runner.Contender("fast", int), [slow]), repeats=5, budget=0.05)
    assert len(runs) == 1
    assert outcome.peers[0].seconds >= 0.1


def test_the_time_of_other_processes_is_of_the_processors_too(modules):
    runner, _, _ = modules
    busy = runner.Contender("busy", lambda: subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True))
    assert runner.measure(runner.Case("process", busy, []), repeats=1).ours.processor > 0.05


@pytest.fixture
def outcome(modules):
    runner, _, _ = modules
    times = {"ours": 0.2, "peer": 2.0, "engine": 0.1}
    figures = {name: runner.Figures(name, s, s, 10.0, 0.9) for name, s in times.items()}
    ours, peer, engine = (runner.Contender(name, int) for name in times)
    case = runner.Case(
        "case", ours, [peer], goals={"peer": 7.0, "engine": 9.0}, flops=1e8, note="a note.", variants=[engine]
    )
    return runner.Outcome(case, figures["ours"], (figures["peer"],), ((10.0, 9.0), (120.0, 19.0)), (figures["engine"],))


def test_a_variants_ratio_is_the_last_peers_time_over_its_own(modules):
    runner, _, _ = modules
    slow, fast = runner.Contender("slow", lambda: time.sleep(0.05)), runner.Contender("fast", lambda: time.sleep(0.005))
    case = runner.Case("sleep", slow, [runner.Contender("peer", lambda: time.sleep(0.1))], variants=[fast])
    to_ours, of_variant = (clock for clock, _ in runner.measure(case, repeats=2).ratios)
    assert to_ours == pytest.approx(2, rel=0.5)
    assert of_variant > 1.5 * to_ours  # ten times, but for what sleeping little costs on a busy machine


def test_a_table_and_a_document_that_keeps_its_words(modules, records, outcome, tmp_path):
    _, machine, report = modules
    here = machine.Machine("a machine", 1, "float32", peak=1e9, bandwidth=1e9)
    assert here.fraction(flops=1e8, bytes=1e6, seconds=0.2) == pytest.approx(0.5)
    text = report.markdown([records.Record(outcome, here, "Seed 0")])
    assert (
        "| case | peer | 10.0x (9.0x) | 7x | 200 ms | 2 s | 10 | 10 |" in text
        and "| 50% |" in text
        and "a note." in text
    )
    assert "| case, engine | peer | 120x (19.0x) | 9x | 100 ms | 2 s |" in text
    path = tmp_path / "page.md"
    path.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", encoding="utf-8")
    report.write(path, text)
    report.write(path, text)
    page = path.read_text(encoding="utf-8")
    assert page.startswith("before\n") and page.endswith("after\n") and "old" not in page and page.count("Seed 0.") == 1


def test_a_case_measured_again_takes_the_place_of_its_old_figures(modules, records, outcome, tmp_path):
    _, machine, report = modules
    here, other = (machine.Machine(name, 1, "float32", 1e9, 1e9) for name in ("here", "elsewhere"))
    path = tmp_path / "folder" / "measured.json"
    assert records.read(path) == []
    kept = records.merged(
        records.merged([], records.Record(outcome, here, "old")), records.Record(outcome, other, "other")
    )
    records.write(path, kept)
    again = records.merged(records.read(path), records.Record(outcome, here, "new"))
    assert [(r.machine.name, r.how) for r in again] == [("here", "new"), ("elsewhere", "other")]
    # What was read back makes the page that was written.
    assert report.markdown(records.read(path)) == report.markdown(kept)
    assert [p.name for p in path.parent.iterdir()] == ["measured.json"]
    report.draw(tmp_path / "ratios.png", again)
    assert (tmp_path / "ratios.png").stat().st_size > 1000
