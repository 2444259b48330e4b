"""The benchmarks' runner: turns, ratios, memory and quality of work that takes a known time."""

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
    for name in ("machine", "report", "runner"):
        sys.modules.pop(name, None)


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
    outcome = runner.measure(runner.Case("sleep", runner.Contender("fast", lambda: time.sleep(0.001)), [slow]), repeats=5, budget=0.1)
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


def test_a_table_and_a_document_that_keeps_its_words(modules, tmp_path):
    runner, machine, report = modules
    here = machine.Machine("a machine", 1, "float32", peak=1e9, bandwidth=1e9)
    assert here.fraction(flops=1e8, bytes=1e6, seconds=0.2) == pytest.approx(0.5)
    figures = [runner.Figures(name, s, s, 10.0, 0.9) for name, s in (("ours", 0.2), ("peer", 2.0))]
    case = runner.Case("case", runner.Contender("ours", int), [runner.Contender("peer", int)], goals={"peer": 7.0}, flops=1e8)
    text = report.markdown([runner.Outcome(case, figures[0], (figures[1],), ((10.0, 9.0),))], here, "Seed 0.")
    assert "| case | peer | 10.0x (9.0x) | 7x | 200 ms | 2 s | 10 | 10 |" in text and "| 50% |" in text
    path = tmp_path / "page.md"
    path.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", encoding="utf-8")
    report.write(path, text)
    report.write(path, text)
    page = path.read_text(encoding="utf-8")
    assert page.startswith("before\n") and page.endswith("after\n") and "old" not in page and page.count("Seed 0.") == 1
