"""Several measured detectors side by side, and what the paper states: ``breastusai evaluate detect-table --rows NAME=DIR ...``.

Each DIR is what ``breastusai evaluate detect --output DIR`` left. All must have been measured on the very same volumes and
lesions; what was not is refused rather than put side by side. The paper's figures were measured on patients, and stand
in columns of their own that say so: they are there for orientation, and are not to be beaten by phantoms.
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
from .detection_summary import MALIGNANT_FROM
from .tables import Facts, add_rows_argument, cell, counted, lesion_facts, rows_of, same_facts, stated

PAPER = (
    "Yu J, Chen C, Yang X, et al. Computer-aided Tumor Diagnosis in Automated Breast Ultrasound using 3D Detection Network. "
    "MICCAI 2020, arXiv:2007.16133"
)
PAPER_DATA = "418 patients, 145 benign and 273 malignant tumours"
PAPER_ROWS = ("2D-U-Net", "3D-U-Net", "RPN", "RPN-IoU", "RPN-IoU-Sim")
"""The methods that the paper compares."""
PAPER_FIGURES: dict[str, dict[str, float]] = {
    "RPN-IoU-Sim": {"sensitivity": 0.9766, "false_positives": 1.23, "malignancy_auc_found": 0.8720},
}
"""Row -> figure -> the paper's value. These three are in its abstract, which states them of the whole network. The other cells
of its tables 1 and 2 are in no text that this project had access to; they are left open rather than guessed."""

# Figure of `detection_summary.figures` -> title.
DETECTION = {"mean_iou": "mIoU", "false_positives": "FPs a volume", "sensitivity": "sensitivity"}
DETECTION_OURS = {**DETECTION, "froc_mean": "FROC mean (IoU > 0.3)"}
DIAGNOSIS = {
    "malignancy_auc_found": "AUC",
    "malignancy_accuracy_found": "accuracy",
    "malignancy_sensitivity_found": "sensitivity",
    "malignancy_specificity_found": "specificity",
}
DIAGNOSIS_OURS = {**DIAGNOSIS, "malignancy_best_auc_found": "best possible AUC"}
_COUNTS = ("volumes", "healthy_volumes", "lesions", "malignant")


@dataclass(frozen=True)
class Row:
    """One detector.

    Attributes
    ----------
    name : as it is called in the table.
    folder : what `evaluate detect` left.
    split : that it was measured on.
    least_score : from which on findings were reported.
    most : how many a volume at most; None: all.
    malignant_from : probability from which on they were called malignant.
    counts : how many volumes, healthy volumes, lesions and malignant ones.
    figures : name (`detection_summary.figures`) -> value, low and high end of its interval; None where undefined.
    lesions : (data set, volume, number) of each.
    facts : of each, `tables.lesion_facts`.
    phantom : whether all volumes are synthetic.
    models : what each model is, and what it was trained on.
    """

    name: str
    folder: Path
    split: str
    least_score: float
    most: int | None
    malignant_from: float
    counts: Mapping[str, int]
    figures: Mapping[str, tuple[float | None, float | None, float | None]]
    lesions: tuple[tuple[str, str, str], ...]
    facts: tuple[Facts, ...]
    phantom: bool
    models: tuple[str, ...]


def read_row(name: str, folder: Path, data_set: str | None = None) -> Row:
    """Read what `evaluate detect` left.

    Parameters
    ----------
    data_set : of several, which; None: all together.

    Raises
    ------
    DataError : the folder holds something else, or not this data set.
    """
    path = folder / "figures.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        sets = about["data_sets"]
        chosen = list(sets)[-1] if data_set is None else data_set
        if chosen not in sets:
            raise DataError(f"{path} has no data set {chosen!r}; choose from {', '.join(sets)}.")
        summary = sets[chosen]
        with (folder / "lesions.csv").open(newline="", encoding="utf-8") as stream:
            # The last set is the only one, or all together.
            lesions = [row for row in csv.DictReader(stream) if chosen in (list(sets)[-1], row["data"])]
        if len(lesions) != summary["lesions"]:
            raise ValueError(f"{len(lesions)} lesions in the table, {summary['lesions']} in the figures")
        known = {
            "split": about["split"],
            "least_score": float(about["operating_point"]["least_score"]),
            "most": about["operating_point"].get("most"),
            "malignant_from": float(about.get("malignant_from", MALIGNANT_FROM)),
            "counts": {name: int(summary[name]) for name in _COUNTS},
            "figures": {name: (f["value"], f["low"], f["high"]) for name, f in summary["figures"].items()},
            "lesions": tuple((row["data"], row["volume"], row["lesion"]) for row in lesions),
            "facts": tuple(lesion_facts(row) for row in lesions),
            "phantom": _synthetic(summary, lesions),
            "models": tuple(
                f"{m['id']} {m['version']} (SHA-256 {m['sha256'][:12]}, trained on {m['trained_on']})"
                for m in about["models"]
            ),
        }
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(
            f"{folder} is not what breastusai evaluate detect left ({in_words(error)}); measure {name} again."
        ) from error
    return Row(name, folder, **known)


def _synthetic(summary: Mapping[str, Any], lesions: Sequence[Mapping[str, str]]) -> bool:
    """Whether all volumes are synthetic; earlier versions say it only by the posterior of each lesion, which a phantom may leave open."""
    if "synthetic_volumes" in summary:
        return summary["synthetic_volumes"] == summary["volumes"]
    return bool(lesions) and all(row.get("posterior") for row in lesions)


def check_same(rows: Sequence[Row]) -> None:
    """Raises `DataError` where rows were measured on other volumes or lesions than the first."""
    first = rows[0]
    for row in rows[1:]:
        alike = (row.split, row.counts, row.lesions) == (first.split, first.counts, first.lesions)
        if not alike or not same_facts(row.facts, first.facts):
            raise DataError(
                f"{row.name} ({row.folder}) and {first.name} ({first.folder}) were measured on different volumes, so they cannot be "
                "compared; measure both with the same --data, --split and --limit."
            )


def paper_name(name: str) -> str | None:
    """The paper's method that a row is named after, however it is spelt; None where there is none.

    >>> paper_name("rpn-iou-sim"), paper_name("3D U-Net"), paper_name("ours")
    ('RPN-IoU-Sim', '3D-U-Net', None)
    """
    plain = _plain(name)
    return next((known for known in PAPER_ROWS if _plain(known) == plain), None)


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def as_markdown(rows: Sequence[Row]) -> str:
    """Two tables, of detection and of diagnosis, with the paper's figures beside this project's.

    Raises
    ------
    DataError : see `check_same`.
    """
    check_same(rows)
    counts = rows[0].counts
    ours = "synthetic phantoms" if rows[0].phantom else "the volumes below"
    points = ", ".join(f"{row.name} {row.least_score:.3g}" for row in rows)
    return "\n".join(
        [
            f"**Not the same data.** The columns *this project* were measured on {ours}, the columns *paper* on clinical volumes of "
            f"patients ({PAPER_DATA}). They must not be compared with each other; what can be compared is the order of the rows.",
            "",
            f"This project: {counted(counts['volumes'], 'volume')} of the split {rows[0].split} ({counts['healthy_volumes']} healthy), "
            f"{counted(counts['lesions'], 'lesion')} ({counts['malignant']} malignant)"
            + (", all of them synthetic" if rows[0].phantom else "")
            + ". In brackets: 95 % intervals, bootstrap by volume.",
            "",
            "### Detection",
            "",
            *_table(rows, DETECTION_OURS, DETECTION),
            "",
            "A lesion is found when a reported box overlaps it at all, a false positive overlaps none, and mIoU is the mean IoU of the "
            f"lesions that were found. Reported was from these scores on: {points}.{_most(rows)} The mean of the FROC curve, over 0.125 to 8 false "
            "positives a volume (TDSC-ABUS), depends on no such choice.",
            "",
            "### Diagnosis of the lesions that were found",
            "",
            *_table(rows, DIAGNOSIS_OURS, DIAGNOSIS),
            "",
            "Each row judges the lesions that it found itself. The best possible AUC is that of the exact posterior of the same lesions, "
            f"where the data have one.{_malignant_from(rows)}",
            "",
            *(f"- {row.name}: {', '.join(row.models) or 'candidates from a file'}" for row in rows),
            "",
            f"Paper: {PAPER}. Its columns hold what its abstract states of the whole network (RPN-IoU-Sim); \"-\" stands for figures of its "
            "tables 1 and 2 that are in no text this project had access to. How it made its U-Nets is not known here either: those of "
            "this project are its own choice.",
            "",
        ]
    )  # fmt: skip


def _most(rows: Sequence[Row]) -> str:
    """A sentence on how many findings were reported a volume, where a row has a limit."""
    if all(row.most is None for row in rows):
        return ""
    points = ", ".join(f"{row.name} {'all' if row.most is None else row.most}" for row in rows)
    return f" At most so many were reported a volume: {points}."


def _malignant_from(rows: Sequence[Row]) -> str:
    """A sentence on the probabilities from which on lesions were called malignant, where one is not the usual."""
    if all(row.malignant_from == MALIGNANT_FROM for row in rows):
        return ""
    points = ", ".join(f"{row.name} {row.malignant_from:.3g}" for row in rows)
    return f" They were called malignant from these probabilities on: {points}; the AUC depends on no such choice."


def _table(rows: Sequence[Row], ours: Mapping[str, str], papers: Mapping[str, str]) -> list[str]:
    titles = [
        "method",
        *(f"this project: {t}" for t in ours.values()),
        *(f"paper (clinical): {t}" for t in papers.values()),
    ]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for row in rows:
        published = PAPER_FIGURES.get(paper_name(row.name) or "", {})
        cells = [stated(*row.figures.get(figure, ())) for figure in ours]
        cells += [_published(figure, published.get(figure)) for figure in papers]
        lines.append("| " + " | ".join([cell(row.name), *cells]) + " |")
    return lines


def _published(figure: str, value: float | None) -> str:
    """As exact as the paper states it: two decimals of false positives, four of all else."""
    if value is None:
        return "-"
    return f"{value:.2f}" if figure == "false_positives" else f"{value:.4f}"


# ---------------------------------------------------------------------------------------------------------- command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_rows_argument(
        parser,
        "what each row is called, and the --output of evaluate detect; names of the paper "
        f"({', '.join(PAPER_ROWS)}) get its figures beside them",
    )
    parser.add_argument(
        "--data-set", metavar="NAME", help="of several that were measured, this one (default: all together)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table there too (Markdown)")


def main(args: argparse.Namespace) -> int:
    table = as_markdown([read_row(name, folder, args.data_set) for name, folder in rows_of(args.rows)])
    if args.output is not None:
        write_text(args.output, table)
    print(table)
    return 0
