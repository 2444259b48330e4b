"""The protocol for grading: ``breastusai evaluate grade --data DIR... --gcnn M --mtnet M --snnet M --output DIR``.

Without models those that ship are measured. Every image with a lesion of the chosen folds: its outline comes from the segmentation as in a workup (or from where --outline says), the
systems look at it, and what they say together is compared with pathology and the readers' categories. Where no outline is found the
whole image is looked at, and counted. Intervals are bootstrapped by group.

Switches of the papers' comparisons: --no-maps and --one-crop (Qi et al.: BASIC is both, REM is --one-crop, MIP is
--no-maps); --outline none, unrefined, refined (Huang et al.: No ROI-CNN, No Refined, Refined, of one network that was taught about outlines; their
one-stage is another network, of `train grade --one-stage`, with --outline none); each system by itself is measured as well.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..grade_pooling import Answers, Grade, Pooling, concluded
from ..grade_terms import ANSWERS, CATEGORIES, DESCRIPTORS
from .bootstrap import percentile_intervals, weights_of
from .data_set_names import TOGETHER
from .grade_answers import add_model_arguments, answers_on, models_of, options_of, outlines_for
from .grade_data import allowed, check_labels_known, gradable
from .grade_metrics import (
    category_figures,
    confusion,
    exact,
    quadratic_kappa,
    single_class,
    stated_classes,
    within_one,
    yes_no_figures,
)
from .illustrated import illustrated
from .known_images import in_paragraphs, notes_on_known
from .segmentation_data import TEST_FOLD, Case, check_folds_filled, in_folds, read_data_sets

COARSE = ("2", "3", "4", "5")
"""What BUS-BRA's labels tell apart."""
_COARSE_OF = np.array([0, 1, 2, 2, 2, 3])  # of `CATEGORIES`


@dataclass(frozen=True)
class Row:
    """The result of one image: its labels (output -> (K,) bool), what was said, and whether it had an outline."""

    case: Case
    grade: Grade
    outlined: bool

    def labels(self, output: str) -> np.ndarray:
        return np.array(allowed(self.case, output), bool)


def _column(rows: Sequence[Row], value: Callable[[Row], float | None]) -> np.ndarray:
    return np.array([np.nan if (v := value(row)) is None else v for row in rows], float)


def _with_intervals(
    rows: Sequence[Row], figures: Callable[[np.ndarray], dict[str, float]]
) -> dict[str, dict[str, Any]]:
    """Figure -> value and interval; `figures` of weights (n,)."""
    patients = [(row.case.source, row.case.group) for row in rows]  # those of two data sets may have one name
    groups = sorted(set(patients))
    place = {group: i for i, group in enumerate(groups)}
    of_row = np.array([place[patient] for patient in patients])
    values = figures(np.ones(len(rows)))
    low, high = percentile_intervals(
        len(groups), lambda drawn: np.array(list(figures(weights_of(drawn)[of_row]).values()))
    )
    return {
        name: {"value": _number(value), "low": _number(a), "high": _number(b)}
        for (name, value), a, b in zip(values.items(), np.atleast_1d(low), np.atleast_1d(high), strict=True)
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _yes_no(rows: Sequence[Row], output: str, said: np.ndarray, threshold: float) -> dict[str, Any]:
    labels = np.stack([row.labels(output) for row in rows])
    known = single_class(labels) & np.isfinite(said)
    if not known.any():
        return {}
    chosen = [row for row, k in zip(rows, known, strict=True) if k]
    truth, said = labels[known, 1], said[known]
    return {
        "images": len(chosen),
        "positive": int(truth.sum()),
        "threshold": threshold,
        "figures": _with_intervals(chosen, lambda w: yes_no_figures(said, truth, threshold, w)),
    }


def chances_of(rows: Sequence[Row]) -> np.ndarray:
    """Probabilities (n, 6) of `CATEGORIES`; 0 for those that the model does not know. NaN where nothing was said."""
    return np.array(
        [[r.grade.birads.get(c, 0.0) if r.grade.birads else np.nan for c in CATEGORIES] for r in rows], float
    )


def coarse_chances(chances: np.ndarray) -> np.ndarray:
    """(n, 4) of `COARSE`."""
    return np.stack([chances[:, _COARSE_OF == i].sum(1) for i in range(len(COARSE))], 1)


def finely_labelled(rows: Sequence[Row]) -> np.ndarray:
    """Which images (n,) bool are labelled 3, 4A, 4B, 4C or 5 by readers who told 4A, 4B and 4C apart.

    Not those of a data set whose only 4 is "4": its 3s and 5s alone would be a scale without a middle.
    """
    labels = np.stack([row.labels("birads") for row in rows])
    single = single_class(labels) & ~labels[:, 0]
    sources = np.array([row.case.source for row in rows])
    telling = set(sources[single & labels[:, 2:5].any(1)])
    return single & np.isin(sources, list(telling))


def _categories(rows: Sequence[Row]) -> dict[str, Any]:
    """On labels 3 to 5 with their sub-category, among those (the papers' task), and on all labels, 4 as one."""
    chances = chances_of(rows)
    labels = np.stack([row.labels("birads") for row in rows])
    said = np.isfinite(chances[:, 0])
    result = {}
    fine = finely_labelled(rows) & said
    if fine.any():
        chosen = [row for row, k in zip(rows, fine, strict=True) if k]
        among = chances[fine][:, 1:]
        truth = labels[fine].argmax(1) - 1
        result["3_to_5"] = {
            "images": len(chosen),
            "figures": _with_intervals(chosen, lambda w: category_figures(among, truth, w)),
        }
    known = ~labels.all(1) & said
    if known.any():
        chosen = [row for row, k in zip(rows, known, strict=True) if k]
        coarse, truth4 = coarse_chances(chances[known]), _COARSE_OF[labels[known].argmax(1)]
        result["2_to_5"] = {
            "images": len(chosen),
            "figures": _with_intervals(chosen, lambda w: category_figures(coarse, truth4, w)),
        }
    return result


def _descriptors(rows: Sequence[Row]) -> dict[str, Any]:
    """Share right and unweighted kappa-free majority share of each descriptor that is labelled and predicted."""
    result = {}
    for name in DESCRIPTORS:
        labels = np.stack([row.labels(name) for row in rows])
        known = [i for i in np.flatnonzero(single_class(labels)) if name in rows[i].grade.descriptors]
        if not known:
            continue
        words = ANSWERS[name]
        said = np.array([max(rows[i].grade.descriptors[name].items(), key=lambda item: item[1])[0] for i in known])
        truth = np.array([words[labels[i].argmax()] for i in known])
        right = (said == truth).astype(float)
        chosen = [rows[i] for i in known]
        result[name] = {
            "images": len(known),
            "most_frequent": float(max((truth == word).mean() for word in words)),
            "figures": _with_intervals(chosen, lambda w, right=right: {"exact": float((w * right).sum() / w.sum())}),
        }
    return result


def summarise(rows: Sequence[Row], threshold: float) -> dict[str, Any]:
    """All figures of some rows."""
    summary: dict[str, Any] = {
        "images": len(rows),
        "without_outline": sum(not row.outlined for row in rows),
        "not_sure": sum(bool(row.grade.doubts) for row in rows),
        "malignancy": _yes_no(rows, "malignancy", _column(rows, lambda r: r.grade.malignancy), threshold),
        "solid": _yes_no(rows, "solid", _column(rows, lambda r: r.grade.solid), 0.5),
        "birads": _categories(rows),
        "descriptors": _descriptors(rows),
        "systems": {},
    }
    for name in sorted({n for row in rows for n in row.grade.of_each}):
        said = _column(rows, lambda r, name=name: r.grade.of_each.get(name))
        summary["systems"][name] = _yes_no(rows, "malignancy", said, threshold)
    sure = [row for row in rows if not row.grade.doubts]
    if 0 < len(sure) < len(rows):
        said = _column(sure, lambda r: r.grade.malignancy)
        summary["malignancy_where_sure"] = _yes_no(sure, "malignancy", said, threshold)
    # The same in one level, as model cards show it.
    parts = {name: summary[name] for name in ("malignancy", "solid")}
    parts |= {f"birads_{name}": part for name, part in summary["birads"].items()}
    parts |= {f"malignancy_{name}_alone": part for name, part in summary["systems"].items()}
    summary["figures"] = {f"{name}_{k}": v for name, part in parts.items() for k, v in part.get("figures", {}).items()}
    return summary


def rows_of(cases: Sequence[Case], said: Sequence[Answers], outlined: Sequence[bool], pooling: Pooling) -> list[Row]:
    return [Row(c, concluded(s, pooling), o) for c, s, o in zip(cases, said, outlined, strict=True)]


def summaries(rows: Sequence[Row], threshold: float) -> dict[str, dict[str, Any]]:
    """Of each data set, and of all together where there are several."""
    if not rows:
        raise DataError("There are no images with a lesion in the chosen folds; choose others with --folds.")
    sources = sorted({row.case.source for row in rows})
    parts = {source: [row for row in rows if row.case.source == source] for source in sources}
    if len(sources) > 1:
        parts[TOGETHER] = list(rows)
    return {name: summarise(part, threshold) for name, part in parts.items()}


def _cell(part: dict[str, Any], name: str) -> str:
    figure = part.get("figures", {}).get(name)
    if figure is None or figure["value"] is None:
        return "-"
    low, high = figure["low"], figure["high"]
    return f"{figure['value']:.3f} ({low:.3f} to {high:.3f})" if low is not None else f"{figure['value']:.3f}"


def as_markdown(figures: dict[str, dict[str, Any]]) -> str:
    """The figures as tables, with 95 % intervals."""
    names = ("auc", "sensitivity", "specificity", "accuracy", "f_beta", "calibration_error")
    lines = []
    for output in ("malignancy", "solid"):
        if not any(f[output] for f in figures.values()):
            continue
        lines += [
            f"## {output.capitalize()}",
            "",
            "| data | images (positive) | AUC | sensitivity | specificity | accuracy | F2 | calibration error |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for source, f in figures.items():
            systems = f["systems"].items() if output == "malignancy" and len(f["systems"]) > 1 else ()
            for title, part in ((source, f[output]), *((f"{source}, {n} alone", s) for n, s in systems)):
                if part:
                    cells = " | ".join(_cell(part, name) for name in names)
                    lines.append(f"| {title} | {part['images']} ({part['positive']}) | {cells} |")
        lines.append("")
    if any(f["birads"] for f in figures.values()):
        lines += [
            "## BI-RADS",
            "",
            "| data | categories | images | exact | within one | quadratic kappa |",
            "|---|---|---|---|---|---|",
        ]
        for source, f in figures.items():
            for key, part in f["birads"].items():
                words = "3, 4A, 4B, 4C, 5" if key == "3_to_5" else ", ".join(COARSE)
                cells = " | ".join(_cell(part, name) for name in ("exact", "within_one", "quadratic_kappa"))
                lines.append(f"| {source} | {words} | {part['images']} | {cells} |")
        lines.append("")
    if any(f["descriptors"] for f in figures.values()):
        lines += [
            "## Descriptors",
            "",
            "| data | descriptor | images | right | the most frequent answer |",
            "|---|---|---|---|---|",
        ]
        for source, f in figures.items():
            for name, part in f["descriptors"].items():
                lines.append(
                    f"| {source} | {name} | {part['images']} | {_cell(part, 'exact')} | {part['most_frequent']:.3f} |"
                )
        lines.append("")
    counts = [
        f"{s}: {f['without_outline']} of {f['images']} without an outline, {f['not_sure']} not sure"
        for s, f in figures.items()
    ]
    return "\n".join([*lines, "; ".join(counts) + "."]) + "\n"


def draw(folder: Path, rows: Sequence[Row], threshold: float) -> list[Path]:
    """roc.png, reliability.png, birads.png (3 to 5) and birads-coarse.png, as far as there are labels."""
    from .grade_figures import draw_confusion, draw_reliability, draw_roc

    drawn = []
    labels = np.stack([row.labels("malignancy") for row in rows])
    said = _column(rows, lambda r: r.grade.malignancy)
    known = single_class(labels) & np.isfinite(said)
    if known.any() and 0 < labels[known, 1].sum() < known.sum():
        truth = labels[:, 1]
        sources = np.array([row.case.source for row in rows])
        curves = []
        for source in sorted(set(sources)):
            part = known & (sources == source)
            if 0 < truth[part].sum() < part.sum():
                curves.append((source, said[part], truth[part]))
        at = yes_no_figures(said[known], truth[known], threshold)
        drawn.append(draw_roc(folder / "roc.png", curves, (1 - at["specificity"], at["sensitivity"])))
        drawn.append(draw_reliability(folder / "reliability.png", said[known], truth[known]))
    chances = chances_of(rows)
    categories = np.stack([row.labels("birads") for row in rows])
    stated = np.isfinite(chances[:, 0])
    fine = finely_labelled(rows) & stated
    if fine.any():
        table = confusion(categories[fine].argmax(1) - 1, stated_classes(chances[fine][:, 1:]), 5)
        drawn.append(draw_confusion(folder / "birads.png", table, CATEGORIES[1:], CATEGORIES[1:], _title(table)))
    some = ~categories.all(1) & stated
    if some.any():
        table = confusion(_COARSE_OF[categories[some].argmax(1)], stated_classes(coarse_chances(chances[some])), 4)
        drawn.append(draw_confusion(folder / "birads-coarse.png", table, COARSE, COARSE, _title(table)))
    return drawn


def _title(table: np.ndarray) -> str:
    kappa = quadratic_kappa(table)  # one class alone has none
    kappa = "-" if np.isnan(kappa) else f"{kappa:.2f}"
    return f"exact {exact(table):.2f}, within one {within_one(table):.2f}, quadratic kappa {kappa}"


def write(folder: Path, rows: Sequence[Row], figures: dict[str, dict[str, Any]], about: dict[str, Any]) -> list[Path]:
    """rows.csv, figures.json, figures.md and the pictures in `folder`; returns the pictures, as far as there are labels to draw."""
    from ..atomic import atomic_path, write_text

    folder.mkdir(parents=True, exist_ok=True)
    table = []
    for row in rows:
        c, g = row.case, row.grade
        table.append(
            {"id": c.id, "source": c.source, "group": c.group, "class": c.label, "birads": c.row.get("birads", "")}
            | {"malignancy": g.malignancy, "solid": g.solid, **{f"malignancy_{n}": p for n, p in g.of_each.items()}}
            | {f"birads_{category}": p for category, p in g.birads.items()}
            | {name: max(chances, key=chances.get) for name, chances in g.descriptors.items()}
            | {"outlined": row.outlined, "not_sure": bool(g.doubts)}
        )
    with atomic_path(folder / "rows.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    write_text(folder / "figures.json", json.dumps({**about, "figures": figures}, indent=2) + "\n")
    pictures = draw(folder, rows, about["threshold"])
    write_text(folder / "figures.md", illustrated(as_markdown(figures) + in_paragraphs(about.get("notes", ())), pictures))
    return pictures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", nargs="+", required=True, type=Path, metavar="DIR", help="folders with images/, masks/, labels.csv"
    )
    parser.add_argument(
        "--folds", nargs="+", type=int, default=[TEST_FOLD], metavar="FOLD", help="default: 0, the test fold"
    )
    parser.add_argument("--all-folds", action="store_true", help="every image, for data that nothing was trained on")
    add_model_arguments(parser, "where none of the three is named: all that ship")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="where rows.csv, figures.json/.md and the pictures go"
    )


def main(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ..atomic import check_writable

    check_writable(args.output)
    listed = read_data_sets(args.data)
    if not args.all_folds:
        check_folds_filled(listed, args.folds, args.data, "--folds")
        listed = in_folds(listed, args.folds)
    cases = [case for case in listed if gradable(case)]
    check_labels_known(cases)
    models = models_of(args, shipped=True)
    found = outlines_for((args.outline,), args.segmentation, args.outline_cache, args.device)
    with tqdm(total=len(cases), unit="image") as bar:
        said, outlined = answers_on(
            cases, models, options_of(args), args.outline, found, lambda n: bar.update(n - bar.n)
        )
    pooling = models.pooling
    rows = rows_of(cases, said, outlined, pooling)
    figures = summaries(rows, pooling.threshold)
    about = {
        "models": [model.provenance() for model in models.present.values()],
        "data": [str(d) for d in args.data],
        "folds": "all" if args.all_folds else args.folds,
        "outline": args.outline,
        "maps": not args.no_maps,
        "several_crops": not args.one_crop,
        "calibrated": pooling.calibrated,
        "uncalibrated": list(pooling.uncalibrated),
        "threshold": pooling.threshold,
        "notes": notes_on_known([model.entry for model in (*models.present.values(), *([found.model] if found else []))], cases),
    }
    pictures = write(args.output, rows, figures, about)
    print(as_markdown(figures))
    for note in about["notes"]:
        print(f"Note: {note}")
    print(f"{'Rows, figures and pictures' if pictures else 'Rows and figures'} are in {args.output}.")
    return 0
