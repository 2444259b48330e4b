"""Outcomes as text, Markdown and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from machine import Machine
from runner import Figures, Outcome

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def seconds(value: float) -> str:
    """
    >>> seconds(0.00123), seconds(0.25), seconds(12.34)
    ('1.2 ms', '250 ms', '12 s')
    """
    return f"{value * 1e3:.2g} ms" if value < 0.0995 else f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.3g} s"


def _quality(figures: Figures) -> str:
    return "" if figures.quality is None else f"{figures.quality:.4g}"


def lines(outcome: Outcome, machine: Machine) -> list[str]:
    """Rows of a Markdown table, a peer a row."""
    case, ours = outcome.case, outcome.ours
    used = f"{machine.fraction(case.flops, case.bytes, ours.seconds):.0%}" if case.flops or case.bytes else ""
    rows = []
    for peer, (clock, processor) in zip(outcome.peers, outcome.ratios, strict=True):
        goal = (case.goals or {}).get(peer.name)
        rows.append(
            f"| {case.name} | {peer.name} | {clock:.1f}x ({processor:.1f}x) | {f'{goal:g}x' if goal else ''} | {seconds(ours.seconds)} | "
            f"{seconds(peer.seconds)} | {ours.memory:.0f} | {peer.memory:.0f} | {case.quality_name} | {_quality(ours)} | {_quality(peer)} | {used} |"
        )
    if not rows:
        rows = [
            f"| {case.name} | - | | | {seconds(ours.seconds)} | | {ours.memory:.0f} | | {case.quality_name} | {_quality(ours)} | | {used} |"
        ]
    return rows


HEADER = (
    "| case | peer | ratio, clock (processor) | goal | ours | peer's | ours MiB | peer's MiB | quality | ours | peer's | of the roofline |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def markdown(outcomes: Sequence[Outcome], machine: Machine, how: str) -> str:
    rows = [row for outcome in outcomes for row in lines(outcome, machine)]
    notes = [f"- {o.case.name}: {o.case.note}" for o in outcomes if o.case.note]
    roof = [
        f"| {o.case.name} | {o.case.flops / 1e9:.3g} | {o.case.bytes / 1e6:.3g} | {o.case.flops / o.ours.seconds / 1e9:.3g} | "
        f"{machine.fraction(o.case.flops, o.case.bytes, o.ours.seconds):.0%} |"
        for o in outcomes
        if o.case.flops or o.case.bytes
    ]
    parts = [
        f"Machine: {machine.name}, {machine.threads} thread(s); matrix product {machine.peak / 1e9:.0f} GFLOP/s ({machine.kind}), memory "
        f"{machine.bandwidth / 1e9:.1f} GB/s (copied, read + written), both measured in the same run. {how}",
        HEADER + "\n" + "\n".join(rows),
        "\n".join(notes),
        "Roofline (least possible time over time taken):\n\n| case | GFLOP | MB | GFLOP/s reached | fraction |\n|---|---|---|---|---|\n"
        + "\n".join(roof)
        if roof
        else "",
    ]
    return "\n\n".join(part for part in parts if part)


def write(path: Path, text: str) -> None:
    """Put measured text between the marks of a document; the rest of it stays."""
    before = path.read_text(encoding="utf-8") if path.exists() else f"# Performance\n\n{BEGIN}\n{END}\n"
    head, _, rest = before.partition(BEGIN)
    _, _, tail = rest.partition(END)
    path.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf-8")


def draw(path: Path, outcomes: Sequence[Outcome]) -> None:
    """A bar for each peer: how many times our time it takes; a mark at the goal."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    bars = [
        (f"{o.case.name}\nbeside {p.name}", clock, (o.case.goals or {}).get(p.name))
        for o in outcomes
        for p, (clock, _) in zip(o.peers, o.ratios, strict=True)
    ]
    figure, axes = plt.subplots(figsize=(9, 0.8 + 0.5 * len(bars)), layout="constrained")
    for place, (_, ratio, goal) in enumerate(bars):
        axes.barh(place, ratio, color="#3465a4" if not goal or ratio >= goal else "#c17d11")
        axes.text(ratio, place, f" {ratio:.1f}", va="center", fontsize=7)
        if goal:
            axes.plot([goal, goal], [place - 0.4, place + 0.4], color="black")
    axes.set_yticks(range(len(bars)), [name for name, _, _ in bars], fontsize=6)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_xlabel("peer's time / ours (black: goal; orange: goal missed)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
