"""Outcomes as text, Markdown and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from machine import Machine
from records import Record
from runner import Figures, Outcome

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def seconds(value: float) -> str:
    """
    >>> seconds(0.00123), seconds(0.25), seconds(12.34)
    ('1.2 ms', '250 ms', '12.3 s')
    """
    return f"{value * 1e3:.2g} ms" if value < 0.0995 else f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.3g} s"


def _quality(figures: Figures) -> str:
    return "" if figures.quality is None else f"{figures.quality:.4g}"


def compared(outcome: Outcome) -> list[tuple[str, Figures, Figures, tuple[float, float]]]:
    """(the name of the goal, our figures, the peer's, the ratios): ours beside each peer, then each variant beside the last peer."""
    pairs = [(p.name, outcome.ours, p) for p in outcome.peers]
    if outcome.peers:
        pairs += [(v.name, v, outcome.peers[-1]) for v in outcome.variants]
    return [(*pair, ratio) for pair, ratio in zip(pairs, outcome.ratios, strict=False)]


def _times(ratio: float) -> str:
    """
    >>> _times(243.31), _times(8.449), _times(0.0312)
    ('243x', '8.4x', '0.031x')
    """
    return f"{ratio:.0f}x" if ratio >= 100 else f"{ratio:.1f}x" if ratio >= 1 else f"{ratio:.2g}x"


def lines(outcome: Outcome, machine: Machine) -> list[str]:
    """Rows of a Markdown table, a peer a row."""
    case, ours = outcome.case, outcome.ours
    used = f"{machine.fraction(case.flops, case.bytes, ours.seconds):.0%}" if case.flops or case.bytes else ""
    rows = []
    for name, mine, peer, (clock, processor) in compared(outcome):
        goal = (case.goals or {}).get(name)
        rows.append(
            f"| {case.name}{'' if mine is ours else f', {name}'} | {peer.name} | {_times(clock)} ({_times(processor)}) | {f'{goal:g}x' if goal else ''} | "
            f"{seconds(mine.seconds)} | {seconds(peer.seconds)} | {mine.memory:.0f} | {peer.memory:.0f} | {case.quality_name} | {_quality(mine)} | "
            f"{_quality(peer)} | {used if mine is ours else ''} |"
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


def markdown(records: Sequence[Record]) -> str:
    """The table, notes and roofline of what was measured, machine by machine."""
    sections = []
    for machine in dict.fromkeys(r.machine.words() for r in records):
        own = [r for r in records if r.machine.words() == machine]
        named: dict[str, list[str]] = {}
        for r in own:
            if r.outcome.case.note:
                named.setdefault(r.outcome.case.note, []).append(r.outcome.case.name)
        notes = [f"- {'; '.join(names)}: {note}" for note, names in named.items()]
        roof = [_roof(r) for r in own if r.outcome.case.flops or r.outcome.case.bytes]
        how = "; ".join(dict.fromkeys(r.how for r in own))
        sections += [
            f"{machine} {how}.",
            "\n".join([HEADER, *(row for r in own for row in lines(r.outcome, r.machine))]),
            "\n".join(notes),
            "Roofline (least possible time over time taken; the machine's peaks are measured in the run of the case):\n\n"
            "| case | GFLOP | MB | GFLOP/s reached | of the machine's | GB/s of it | fraction |\n|---|---|---|---|---|---|---|\n"
            + "\n".join(roof)
            if roof
            else "",
        ]
    return "\n\n".join(section for section in sections if section)


def _roof(record: Record) -> str:
    case, taken, machine = record.outcome.case, record.outcome.ours.seconds, record.machine
    return (
        f"| {case.name} | {case.flops / 1e9:.3g} | {case.bytes / 1e6:.3g} | {case.flops / taken / 1e9:.3g} | {machine.peak / 1e9:.0f} ({machine.kind}) | "
        f"{machine.bandwidth / 1e9:.1f} | {machine.fraction(case.flops, case.bytes, taken):.0%} |"
    )


def write(path: Path, text: str) -> None:
    """Put measured text between the marks of a document; the rest of it stays."""
    before = path.read_text(encoding="utf-8") if path.exists() else f"# Performance\n\n{BEGIN}\n{END}\n"
    head, _, rest = before.partition(BEGIN)
    _, _, tail = rest.partition(END)
    path.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf-8")


BLUE, ORANGE, PALE, GREY = "#3465a4", "#c17d11", "#e9c891", "#999999"


def draw(path: Path, records: Sequence[Record]) -> None:
    """A bar for each peer: how many times our time it takes; a mark at the goal. A panel for each machine."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    machines = list(dict.fromkeys(r.machine.words() for r in records))
    bars = [_bars([r for r in records if r.machine.words() == machine]) for machine in machines]
    heights = [max(1, len(of)) for of in bars]
    size = (11, 1 + 0.24 * sum(heights) + 0.4 * len(heights))
    figure, panels = plt.subplots(
        len(machines), figsize=size, layout="constrained", height_ratios=heights, squeeze=False, sharex=True
    )
    for axes, machine, of in zip(panels[:, 0], machines, bars, strict=True):
        axes.set_title(machine, fontsize=8, loc="left")
        _panel(axes, of)
    panels[-1, 0].set_xlabel(
        "peer's time / ours, logarithmic; black: goal; blue: reached; orange: missed; grey: no goal\n"
        "pale: missed, and the goal counts on bfloat16, which this processor is not fast at",
        fontsize=7,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _bars(records: Sequence[Record]) -> list[tuple[str, float, float | None, bool]]:
    """(label, ratio, goal, whether the goal counts on what the machine does not have) of each peer and variant."""
    return [
        (
            f"{r.outcome.case.name}{'' if mine is r.outcome.ours else f', {name}'}, beside {peer.name}",
            clock,
            (r.outcome.case.goals or {}).get(name),
            r.outcome.case.wants not in ("", r.machine.kind),
        )
        for r in records
        for name, mine, peer, (clock, _) in compared(r.outcome)
    ]


def _panel(axes: Any, bars: Sequence[tuple[str, float, float | None, bool]]) -> None:
    text = {
        "va": "center",
        "fontsize": 7,
        "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
    }
    for place, (_, ratio, goal, lacking) in enumerate(bars):
        colour = GREY if not goal else BLUE if ratio >= goal else PALE if lacking else ORANGE
        axes.barh(place, ratio - 1, left=1, color=colour)
        axes.annotate(_times(ratio), (max(ratio, 1), place), (3, 0), textcoords="offset points", **text)
        if goal:
            axes.plot([goal, goal], [place - 0.4, place + 0.4], color="black")
    axes.set_yticks(range(len(bars)), [bar[0] for bar in bars], fontsize=7)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.axvline(1, color="grey", linewidth=0.8)
