"""Model cards: the catalogue's facts in plain words, as Markdown."""

from __future__ import annotations

from .. import RESEARCH_USE
from .entry import ModelEntry

# Task -> the page that says how it was made.
_PAGES = {"segment": "segmentation", "detect": "detection", "lesion-classifier": "detection", "segment-3d": "segmentation-3d",
          "grade-gcnn": "grading", "grade-mtnet": "grading", "grade-snnet": "grading"}  # fmt: skip
_LONGEST_LIST = 12  # numbers that a person reads


def _value(value) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict) and "value" in value:
        interval = "" if value.get("low") is None else f" ({_value(value['low'])} to {_value(value['high'])})"
        return f"{_value(value['value'])}{interval}"
    if isinstance(value, (list, tuple)):
        return " to ".join(_value(v) for v in value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _figures(measured) -> list[str]:
    lines = []
    for name, figures in measured.items():
        if not isinstance(figures, dict):
            lines += [f"{figures}", ""]
            continue
        lines += [f"**{name}**", "", "| figure | value |", "|---|---|"]
        lines += [f"| {name.replace('_', ' ')} | {_value(value)} |" for name, value in figures.items()]
        lines.append("")
    return lines


def _setting(value) -> str:
    """A setting in words; of long lists only how long they are."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} {_setting(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)) and len(value) > _LONGEST_LIST:
        return f"({len(value)} numbers)"
    return str(value)


def card(entry: ModelEntry) -> str:
    """The model card of an entry (Markdown)."""
    lines = [
        f"# {entry.id} {entry.version}",
        "",
        f"**Trained on {entry.trained_on}.**",
        "",
        RESEARCH_USE,
        "",
        entry.description,
        "",
        "## What it is",
        "",
        f"- task: {entry.task}",
        f"- network: {entry.network} ({', '.join(f'{k} = {v}' for k, v in entry.arguments.items())})",
        f"- input: {', '.join(f'{k} {v}' for k, v in entry.preprocessing.items())}",
        f"- weights: {entry.file}, {entry.size_bytes / 1e6:.1f} MB, SHA-256 {entry.sha256}",
        f"- licence: {entry.licence}",
        "",
        "## Figures",
        "",
        *_figures(entry.measured),
        "## How it was made",
        "",
        f"`{entry.reproduce}`" if entry.reproduce else "Trained with `breastusai train`.",
        "",
    ]
    if entry.postprocessing:
        lines += [f"After the network (how each was chosen: docs/{_PAGES.get(entry.task, entry.task)}.md): " + ", ".join(f"{k} {_setting(v)}" for k, v in entry.postprocessing.items()) + ".", ""]
    if entry.references:
        lines += ["## Cite", "", *[f"- {r}" for r in entry.references], ""]
    return "\n".join(lines)
