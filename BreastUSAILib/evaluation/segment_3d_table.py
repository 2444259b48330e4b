"""Several measured joint networks side by side, in the order of the paper's tables: ``breastusai evaluate segment-3d-table --rows NAME=DIR ...``.

Each DIR is what ``breastusai evaluate segment-3d --output DIR`` left. All must have been measured on the very same lesions, jittered boxes be the
same and detected ones those of one detector; what was not is refused rather than put side by side. The paper's figures were measured on patients (170 volumes of 107), and are not to be
beaten by phantoms.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic import write_text
from ..errors import DataError, in_words
from .tables import Facts, add_rows_argument, cell, counted, lesion_facts, rows_of, same_facts, stated

PAPER = (
    "Zhou Y, Chen H, Li Y, et al. Multi-task learning for segmentation and classification of tumors in 3D automated breast ultrasound "
    "images. Medical Image Analysis 70:101918, 2021"
)
PAPER_FIGURES: dict[str, dict[str, float]] = {}
"""Row -> figure -> the paper's value. Its tables 2 to 6 are in no text that this project had access to (the abstract states no figure); the
cells are left open rather than guessed."""

SEGMENTATION = {
    "dsc": "DSC",
    "ji": "JI",
    "hd95_mm": "95HD (mm)",
    "dsc_small": "DSC, up to 1 cm3",
    "dsc_large": "DSC, above 1 cm3",
}
CLASSIFICATION = {"acc": "ACC", "rec": "REC", "pre": "PRE", "fpr": "FPR", "f1": "F1", "auc": "AUC"}
TABLES: tuple[tuple[str, tuple[str, ...], Mapping[str, str]], ...] = (
    ("Outlines: one task against both, with and without refinement", ("VNet", "CVNet", "CVNet_Iter", "C_MS VNet", "C_MS VNet_Iter"), SEGMENTATION),
    ("Malignancy: one task against both, with and without refinement", ("ClsNet", "CVNet", "CVNet_Iter", "C_MS VNet", "C_MS VNet_Iter"), CLASSIFICATION),
    ("Stages that the classification branch takes (Table 4)", ("stages 1-9", "stages 2-8", "stages 3-7", "stages 4-6", "stages 5"), {**SEGMENTATION, **CLASSIFICATION}),
)  # fmt: skip
_COUNTS = ("volumes", "lesions", "malignant", "small")
_LESION = ("source", "volume", "lesion")
_BOXES = {"jittered": "jitter", "detected": "detector"}
"""Way to give boxes -> what in figures.json says where they come from."""


@dataclass(frozen=True)
class Row:
    """One network, measured with one way to give boxes.

    Attributes
    ----------
    summary : `segment_3d_summary.summarise`.
    counts : how many volumes, lesions, malignant ones and small ones.
    split : that it was measured on.
    lesions : (data set, volume, number) of each, sorted.
    facts : of each, `tables.lesion_facts`.
    boxes : what jittered boxes come from, how far they are off and their seed, or detected ones, which model and threshold; None for true ones.
    """

    summary: Mapping[str, Any]
    counts: tuple[int, ...]
    split: str
    lesions: tuple[tuple[str, str, str], ...]
    facts: tuple[Facts, ...]
    boxes: Mapping[str, Any] | None


def read_row(folder: Path, way: str) -> Row:
    """Read what `evaluate segment-3d` left.

    Raises
    ------
    DataError : the folder has no figures.json of this protocol, was not measured in this way, or its lesions.csv does not say on which
        lesions.
    """
    path = folder / "figures.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        summary = about["figures"][way]
        lesions = _lesions(folder / "lesions.csv", way, summary["lesions"])
        return Row(
            summary=summary,
            counts=tuple(summary[name] for name in _COUNTS),
            split=about["split"],
            lesions=tuple(name for name, _ in lesions),
            facts=tuple(facts for _, facts in lesions),
            boxes=about[_BOXES[way]] if way in _BOXES else None,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} has no figures with {way} boxes ({in_words(error)}); make it with breastusai evaluate segment-3d."
        ) from error


def _lesions(path: Path, way: str, expected: int) -> list[tuple[tuple[str, str, str], Facts]]:
    """(data set, volume, number) of each lesion, by which they are sorted, and what is known of it. Raises `DataError`."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = csv.DictReader(stream)
            missing = [name for name in ("boxes", *_LESION) if name not in (rows.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{path} lacks the columns {', '.join(missing)}, so it does not say which lesions were measured; make it again with "
                    "breastusai evaluate segment-3d."
                )
            found = [(tuple(row[name] for name in _LESION), lesion_facts(row)) for row in rows if row["boxes"] == way]
        if len(found) != expected:
            raise ValueError(f"{len(found)} lesions with {way} boxes, {expected} in figures.json")
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise DataError(
            f"{path} does not say which lesions were measured ({in_words(error)}); make it again with breastusai evaluate segment-3d."
        ) from error
    return sorted(found, key=lambda lesion: lesion[0])


def table(rows: Mapping[str, Path], way: str = "true") -> str:
    """The tables as Markdown. Rows that the paper has stand in its order and under its titles, others in a table of their own.

    Raises
    ------
    DataError : see `read_row`; rows that were not measured on the same lesions, or with other jittered or detected boxes.
    """
    read = {name: read_row(folder, way) for name, folder in rows.items()}
    first = next(iter(read.values()))
    if any(
        (r.split, r.counts, r.lesions) != (first.split, first.counts, first.lesions) or not same_facts(r.facts, first.facts)
        for r in read.values()
    ):
        raise DataError(f"the rows {', '.join(rows)} were not measured on the same lesions; measure all of them alike.")
    if any(r.boxes != first.boxes for r in read.values()):
        cure = "--detector and --least-score" if way == "detected" else "--seed"
        raise DataError(f"the rows {', '.join(rows)} were not measured with the same {way} boxes; measure all with one {cure}.")
    volumes, lesions, malignant, small = first.counts
    text = [
        f"{counted(lesions, 'lesion')} of {counted(volumes, 'volume')} ({malignant} malignant, {small} of up to 1 cm3); {way} boxes. "
        "In brackets: 95 % bootstrap intervals by volume.",
        f"Paper: {PAPER}. A dash: not known to this project, or not measured.",
    ]
    named = {name for _, names, _ in TABLES for name in names}
    others = tuple(name for name in rows if name not in named)
    for title, names, columns in (*TABLES, ("Other networks", others, {**SEGMENTATION, **CLASSIFICATION})):
        present = [name for name in names if name in rows]
        if present:
            text += ["", f"## {title}", "", *_lines(present, columns, read)]
    return "\n".join(text) + "\n"


def _lines(names: Sequence[str], columns: Mapping[str, str], read: Mapping[str, Row]) -> list[str]:
    lines = [
        "| network | " + " | ".join(f"{t} | paper" for t in columns.values()) + " |",
        "|---|" + "---|---|" * len(columns),
    ]
    for name in names:
        cells = []
        for figure in columns:
            paper = PAPER_FIGURES.get(name, {}).get(figure)
            cells += [stated(**read[name].summary["figures"].get(figure) or {}), "-" if paper is None else f"{paper:.3f}"]
        lines.append(f"| {cell(name)} | " + " | ".join(cells) + " |")
    return lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_rows_argument(parser, "what evaluate segment-3d left; the paper's names go to its tables")
    parser.add_argument("--boxes", choices=("true", "jittered", "detected"), default="true", help="default: true")
    parser.add_argument(
        "--output", type=Path, metavar="FILE.md", help="where the tables go (default: the screen alone)"
    )


def main(args: argparse.Namespace) -> int:
    text = table(dict(rows_of(args.rows)), args.boxes)
    if args.output is not None:
        write_text(args.output, text)
    print(text)
    return 0
