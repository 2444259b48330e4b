"""The pages for people: report.html of one input, index.html and summary.csv of a run.

report.html holds everything in itself (style, pictures, outlines as vector graphics), so it can be sent or archived
alone. index.html links to the folders beside it. The templates escape every text they are given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import SimpleITK as sitk

from . import pictures, volume_pictures
from .atomic import write_bytes, write_text
from .files import finding_columns, finding_row, to_csv
from .findings import Finding, Study
from .grid import as_2d
from .report_parts import ASSETS, drawing, facts, measurement_rows, number, render, scores, title_and_unit
from .volume_report import volume_page

REPORT = "report.html"
PREVIEW = "preview.jpg"
INDEX = "index.html"
SUMMARY = "summary.csv"

# What an overview shows of a lesion's size: measured in its mask, or else in its box.
_KEY_FIGURES = ("major_diameter_mm", "major_diameter_px")
_LONGEST_SIDES = ("longest_side_mm", "longest_side_px")


@dataclass(frozen=True)
class Result:
    """One input of a run, as the overview pages need it.

    Attributes
    ----------
    source : path of the input, as it is shown.
    folder : name of its folder of results; "" for one that failed.
    study : without masks; None for an input that failed.
    message : why it failed.
    """

    source: str
    folder: str = ""
    study: Study | None = None
    message: str = ""


# ------------------------------------------------------------------------------------------------------- one input


def write_report(study: Study, image: sitk.Image, folder: Path) -> list[Path]:
    """Write report.html and the preview.jpg that index.html shows. Raises `OutputError`.

    Parameters
    ----------
    study : its masks lie on the grid of `image`.
    image : the image it is about.
    folder : where to write.
    """
    folder = Path(folder)
    is_volume = as_2d(image) is None
    shown = volume_pictures.projection(image, study)[0] if is_volume else pictures.view(image, study)
    return [
        write_text(folder / REPORT, report_html(study, image)),
        write_bytes(folder / PREVIEW, pictures.preview(shown)),
    ]


def report_html(study: Study, image: sitk.Image) -> str:
    """The report of one input as a page without outside references."""
    info = study.image
    name = Path(info.path).name or info.path
    template, values = ("volume.html.j2", volume_page) if as_2d(image) is None else ("image.html.j2", _image_page)
    return render(
        template,
        name=name,
        summary=study.summary,
        spacing_known=info.spacing_known,
        notes=list(study.provenance.get("notes", ())),
        facts=list(facts(study)),
        **values(study, image, name),
    )


def _image_page(study: Study, image: sitk.Image, name: str) -> dict[str, Any]:
    """What the template of 2D images shows beyond what all reports have."""
    info = study.image
    whole = pictures.view(image, study)
    size = " x ".join(map(str, info.size))
    extent = " x ".join(f"{n * s:.4g}" for n, s in zip(info.size, info.spacing, strict=True))
    return {
        "overview": drawing(whole, "image", study, boxes=True),
        "alt": f"The ultrasound image {name}. {study.summary}",
        "caption": f"{size} pixels" + (f", {extent} mm." if info.spacing_known else "."),
        "lesions": [_lesion(study, whole, index) for index in range(len(study.findings))],
    }


def _lesion(study: Study, whole: pictures.View, index: int) -> dict[str, Any]:
    finding = study.findings[index]
    unit = "mm" if study.image.spacing_known else "pixels"
    tables = [("Measurements", measurement_rows(finding.measurements)), ("Scores and position", scores(finding, unit))]
    return {
        "id": finding.id,
        "color": pictures.hex_color(pictures.lesion_color(index)),
        "crop": drawing(pictures.crop(whole, finding.id), f"crop-{index + 1}", study, boxes=False),
        "tables": [(title, rows) for title, rows in tables if rows],
        "notes": finding.notes,
    }


# ------------------------------------------------------------------------------------------------------- whole runs


def summary_csv(results: Sequence[Result]) -> str:
    """One row a finding; one row, with n_findings 0, for an input without; one row for an input that failed."""
    studies = [r.study for r in results if r.study is not None]
    columns = ["input", "status", "n_findings", "folder", "message"]
    rows: list[dict[str, Any]] = []
    for result in results:
        row = {"input": result.source, "folder": result.folder, "message": result.message}
        if result.study is None:
            rows.append({**row, "status": "failed"})
            continue
        row |= {"status": "done", "n_findings": len(result.study.findings)}
        found = [finding_row(result.study, finding) for finding in result.study.findings]
        rows += [{**row, **f} for f in found or [{"spacing_known": result.study.image.spacing_known}]]
    columns += [c for c in finding_columns(studies) if c != "image"]
    return to_csv(columns, [{k: v for k, v in row.items() if k in columns} for row in rows])


def counts(results: Sequence[Result]) -> dict[str, int]:
    """How many inputs, with and without a lesion, failed, and lesions in all."""
    studies = [r.study for r in results if r.study is not None]
    return {
        "inputs": len(results),
        "with_lesion": sum(bool(s.findings) for s in studies),
        "without_lesion": sum(not s.findings for s in studies),
        "lesions": sum(len(s.findings) for s in studies),
        "failed": len(results) - len(studies),
    }


def index_html(results: Sequence[Result], status: str, files: Mapping[str, Sequence[str]]) -> str:
    """The overview of a run.

    Parameters
    ----------
    results : of all inputs, in the order they are shown.
    status : one sentence on when and how the run ended.
    files : folder -> names of the files to link to, report.html apart.
    """
    found = [f for r in results if r.study for f in r.study.findings]
    measured = {name for finding in found for name in _sizes(finding)}
    sizes = [name for name in (*_KEY_FIGURES, *_LONGEST_SIDES) if name in measured]
    judged = any(finding.malignancy is not None for finding in found)
    columns = ["Input", "Found", "Detection score", *["Highest malignancy"] * judged, *(_with_unit(name) for name in sizes)]
    return render(
        "index.html.j2",
        counts=counts(results),
        status=status,
        failures=[{"input": r.source, "message": r.message} for r in results if r.study is None],
        columns=columns,
        rows=[_index_row(r, judged, sizes, files.get(r.folder, ())) for r in results if r.study is not None],
        script=(ASSETS / "sort.js").read_text(encoding="utf-8"),
    )


def key_figure(finding: Finding) -> str:
    """A finding's size for a line of text, ``", longest diameter 9.52 mm"``; "" where it was not measured."""
    for name, value in _sizes(finding).items():
        title, unit = title_and_unit(name)
        return f", {title.lower()} {number(value)} {unit}"
    return ""


def _sizes(finding: Finding) -> dict[str, float]:
    """The one figure that an overview shows of a finding's size, by its name; empty where nothing was measured."""
    for name in _KEY_FIGURES:
        if finding.measurements.get(name) is not None:
            return {name: finding.measurements[name]}
    for name in _LONGEST_SIDES:
        unit = name.rpartition("_")[2]
        sides = [finding.measurements.get(f"{side}_{unit}") for side in ("width", "height", "length")]
        if None not in sides:
            return {name: max(sides)}
    return {}


def _with_unit(name: str) -> str:
    title, unit = title_and_unit(name)
    return f"{title}, {unit}" if unit else title


def _index_row(result: Result, judged: bool, sizes: Sequence[str], files: Sequence[str]) -> dict[str, Any]:
    findings = result.study.findings
    first = next(iter(findings), None)
    measured = _sizes(first) if first else {}
    name = Path(result.source).name
    report = _link(result.folder, REPORT)
    cells = [
        {"text": name, "sort": name, "number": False, "href": report},
        {"text": result.study.summary, "sort": len(result.study.findings), "number": False, "href": ""},
        _number_cell(first.score if first else None, "{:.2f}"),
    ]
    if judged:
        cells.append(_number_cell(max((f.malignancy for f in findings if f.malignancy is not None), default=None), "{:.2f}"))
    cells += [_number_cell(measured.get(name)) for name in sizes]
    return {
        "preview": _link(result.folder, PREVIEW),
        "report": report,
        "alt": f"Preview of {name}. {result.study.summary}",
        "cells": cells,
        "files": [(file, _link(result.folder, file)) for file in files],
    }


def _number_cell(value: float | None, form: str = "") -> dict[str, Any]:
    text = "" if value is None else form.format(value) if form else number(value)
    return {"text": text, "sort": "" if value is None else value, "number": True, "href": ""}


def _link(folder: str, name: str) -> str:
    """A relative address; the leading ./ keeps a colon in a name from being read as a scheme."""
    return f"./{quote(folder, safe='')}/{quote(name, safe='')}"
