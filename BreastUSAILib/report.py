"""The pages for people: report.html of one input, index.html and summary.csv of a run.

report.html holds everything in itself (style, pictures, outlines as vector graphics), so it can be sent or archived
alone. index.html links to the folders beside it. The templates escape every text they are given.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import SimpleITK as sitk

from . import RESEARCH_USE, __version__, pictures
from .atomic import write_bytes, write_text
from .files import MEASUREMENTS, finding_columns, finding_row, printable, to_csv
from .findings import BIRADS_CATEGORIES, Finding, Study

REPORT = "report.html"
PREVIEW = "preview.jpg"
INDEX = "index.html"
SUMMARY = "summary.csv"

_ASSETS = Path(__file__).parent / "report_assets"

_TITLES = {
    "major_diameter": "Longest diameter",
    "minor_diameter": "Longest chord perpendicular to it",
    "equivalent_diameter": "Diameter of a circle of equal area",
    "width": "Width, along the skin",
    "height": "Height, into the depth",
    "depth": "Depth below the upper edge of the image",
    "orientation": "Angle of the long axis to the skin",
    "aspect_ratio": "Long / short axis of the fitted ellipse",
    "eccentricity": "Eccentricity of that ellipse (0: round)",
    "height_to_width_ratio": "Height / width (above 1: taller than wide)",
    "circularity": "Circularity (1: a disc)",
    "solidity": "Solidity (1: no indentations)",
    "contrast_ratio": "Echo inside / around (below 1: darker)",
    "posterior_ratio": "Echo behind / beside (above 1: enhancement)",
    "echo_heterogeneity": "Echo variation inside (deviation / mean)",
}
_UNITS = {"mm": "mm", "mm2": "mm²", "mm3": "mm³", "ml": "ml", "deg": "°", "px": "pixels", "px2": "pixels²"}
_KEY_FIGURES = ("major_diameter_mm", "major_diameter_px")  # what an overview shows of a lesion's size
_SCALE_BARS_MM = (50, 20, 10, 5, 2, 1)


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
    preview = pictures.preview(pictures.view(image, study))
    return [
        write_text(folder / REPORT, report_html(study, image)),
        write_bytes(folder / PREVIEW, preview),
    ]


def report_html(study: Study, image: sitk.Image) -> str:
    """The report of one input as a page without outside references."""
    info = study.image
    name = Path(info.path).name or info.path
    whole = pictures.view(image, study)
    overview = _drawing(whole, "image", study, boxes=True)
    unit = "mm" if info.spacing_known else "pixels"
    size = " x ".join(map(str, info.size))
    extent = " x ".join(f"{n * s:.4g}" for n, s in zip(info.size, info.spacing, strict=True))
    return _render(
        "report.html.j2",
        name=name,
        summary=study.summary,
        spacing_known=info.spacing_known,
        overview=overview,
        alt=f"The ultrasound image {name}. {study.summary}",
        caption=f"{size} pixels" + (f", {extent} mm." if info.spacing_known else "."),
        lesions=[_lesion(study, image, whole, finding, unit) for finding in study.findings],
        notes=list(study.provenance.get("notes", ())),
        facts=list(_facts(study)),
    )


def _lesion(study: Study, image: sitk.Image, whole: pictures.View, finding: Finding, unit: str) -> dict[str, Any]:
    own = whole if image.GetDimension() == 2 else pictures.view(image, study, finding)
    index = study.findings.index(finding)
    tables = [("Measurements", measurement_rows(finding.measurements)), ("Scores and position", _scores(finding, unit))]
    return {
        "id": finding.id,
        "color": pictures.hex_color(pictures.lesion_color(index)),
        "crop": _drawing(pictures.crop(own, finding.id), f"crop-{index + 1}", study, boxes=False),
        "tables": [(title, rows) for title, rows in tables if rows],
        "notes": finding.notes,
    }


def measurement_rows(measurements: Mapping[str, float | None]) -> list[dict[str, str]]:
    """Measurements as rows of name, value and unit for a person; in the order of the CSV files."""
    order = [*(n for n in MEASUREMENTS if n in measurements), *sorted(set(measurements).difference(MEASUREMENTS))]
    return [_row(*title_and_unit(name), measurements[name]) for name in order]


def title_and_unit(name: str) -> tuple[str, str]:
    """A measurement's name in plain words, and its unit.

    >>> title_and_unit("area_mm2")
    ('Area', 'mm²')
    """
    stem, _, unit = name.rpartition("_")
    if not stem or unit not in _UNITS:
        stem, unit = name, ""
    plain = stem.replace("_", " ")
    return _TITLES.get(stem, plain[:1].upper() + plain[1:]), _UNITS.get(unit, "")


def _scores(finding: Finding, unit: str) -> list[dict[str, str]]:
    rows = [_row("Detection score", "0 to 1", finding.score, 3)]
    if finding.malignancy is not None:
        rows.append(_row("Probability of malignancy", "0 to 1", finding.malignancy, 3))
    for category in BIRADS_CATEGORIES:
        if finding.birads is not None and finding.birads.get(category) is not None:
            rows.append(_row(f"Probability of BI-RADS {category}", "0 to 1", finding.birads[category], 3))
    if finding.solid_nodule is not None:
        rows.append(_row("Probability of a solid nodule", "0 to 1", finding.solid_nodule, 3))
    flat = finding.box.size[2] == 0
    for title, values in (("Box centre", finding.box.center), ("Box size", finding.box.size)):
        shown = values[:2] if flat else values
        rows.append({"name": title, "value": " x ".join(f"{v:.2f}" for v in shown), "unit": unit})
    rows[-2]["value"] = rows[-2]["value"].replace(" x ", ", ")
    rows += [_row(*title_and_unit(name), value) for name, value in finding.evidence.items()]
    return rows


def _row(name: str, unit: str, value: float | None, digits: int | None = None) -> dict[str, str]:
    if value is None:
        return {"name": name, "value": "not measured", "unit": ""}
    return {"name": name, "value": f"{value:.{digits}f}" if digits is not None else _number(value), "unit": unit}


def _number(value: float) -> str:
    """Three significant digits or more, never an exponent."""
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    size = abs(value)
    return f"{value:.1f}" if size >= 100 else f"{value:.2f}" if size >= 1 else f"{value:.3f}"


def _facts(study: Study) -> list[tuple[str, list[str]]]:
    """What the provenance says, as names and lines; what it does not say is left out."""
    provenance, info = study.provenance, study.image
    models = []
    for model in provenance.get("models", ()):
        models += [f"{model['id']} {model['version']} ({model['task']})"]
        models += [f"trained on {model['trained_on']}"] if model.get("trained_on") else []
        models += [f"SHA-256 {model['sha256']}"]
    device = provenance.get("device", {})
    spacing = " x ".join(f"{s:.6g}" for s in info.spacing)
    facts = [
        ("File", [info.path]),
        ("Pixel size", [f"{spacing} mm" if info.spacing_known else "unknown"]),
        ("Made", [str(provenance["created"])] if "created" in provenance else []),
        ("Model", models),
        ("Device", [f"{device['name']}: {device['reason']}"] if device else []),
        ("Options", [f"{_words(k)}: {_option(v)}" for k, v in provenance.get("options", {}).items()]),
        ("Seconds", [f"{_words(k)}: {v:.2f}" for k, v in provenance.get("seconds", {}).items()]),
        ("Software", [", ".join(f"{k} {v}" for k, v in provenance.get("software", {}).items())]),
    ]
    return [(name, lines) for name, lines in facts if any(lines)]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _option(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "default" if value in (None, "") else str(value)


def _drawing(view: pictures.View, name: str, study: Study, boxes: bool) -> dict[str, Any]:
    """A view as the template's macro draws it: all coordinates undistorted, in units of the smaller pixel side."""
    width, height = view.drawn_size
    across, down = view.scale
    text = 0.024 * (width + height) / 1.6
    shapes = []
    for outline in view.outlines:
        left, top, right, bottom = outline.box
        # Above the box, or inside where there is no room above.
        label = top * down - 0.35 * text
        shapes.append(
            {
                "id": outline.id,
                "color": outline.color,
                "path": "".join(_path(p * (across, down)) for p in outline.polygons),
                "x": f"{left * across:.2f}",
                "y": f"{top * down:.2f}",
                "width": f"{(right - left) * across:.2f}",
                "height": f"{(bottom - top) * down:.2f}",
                "label_y": f"{label if label > text else top * down + 1.1 * text:.2f}",
            }
        )
    return {
        "id": name,
        "width": f"{width:.2f}",
        "height": f"{height:.2f}",
        "png": base64.b64encode(pictures.png(view.pixels)).decode(),
        "shapes": shapes,
        "boxes": boxes,
        "text": f"{text:.2f}",
        "text_halo": f"{0.16 * text:.2f}",
        "bar": _scale_bar(view, text) if study.image.spacing_known else None,
    }


def _path(polygon) -> str:
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in polygon[:-1]) + "Z"


def _scale_bar(view: pictures.View, text: float) -> dict[str, str] | None:
    """A bar of a round length, at most a third of the width, in the lower right corner."""
    width, height = view.drawn_size
    unit = min(view.pixel_size)  # mm
    length = next((mm for mm in _SCALE_BARS_MM if mm / unit <= width / 3), None)
    if length is None:
        return None
    right, bottom = width - 0.6 * text, height - 0.6 * text
    return {
        "x1": f"{right - length / unit:.2f}",
        "x2": f"{right:.2f}",
        "y": f"{bottom:.2f}",
        "text_y": f"{bottom - 0.35 * text:.2f}",
        "label": f"{length} mm",
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
    measured = {n for r in results if r.study for f in r.study.findings for n in f.measurements}
    sizes = [name for name in _KEY_FIGURES if name in measured]
    columns = ["Input", "Found", "Detection score", *(_with_unit(name) for name in sizes)]
    return _render(
        "index.html.j2",
        counts=counts(results),
        status=status,
        failures=[{"input": r.source, "message": r.message} for r in results if r.study is None],
        columns=columns,
        rows=[_index_row(r, sizes, files.get(r.folder, ())) for r in results if r.study is not None],
        script=(_ASSETS / "sort.js").read_text(encoding="utf-8"),
    )


def key_figure(finding: Finding) -> str:
    """A finding's size for a line of text, ``", longest diameter 9.52 mm"``; "" where it was not measured."""
    name = next((n for n in _KEY_FIGURES if finding.measurements.get(n) is not None), "")
    if not name:
        return ""
    title, unit = title_and_unit(name)
    return f", {title.lower()} {_number(finding.measurements[name])} {unit}"


def _with_unit(name: str) -> str:
    title, unit = title_and_unit(name)
    return f"{title}, {unit}" if unit else title


def _index_row(result: Result, sizes: Sequence[str], files: Sequence[str]) -> dict[str, Any]:
    first = next(iter(result.study.findings), None)
    name = Path(result.source).name
    report = _link(result.folder, REPORT)
    cells = [
        {"text": name, "sort": name, "number": False, "href": report},
        {"text": result.study.summary, "sort": len(result.study.findings), "number": False, "href": ""},
        _number_cell(first.score if first else None, "{:.2f}"),
    ]
    cells += [_number_cell(first.measurements.get(name) if first else None) for name in sizes]
    return {
        "preview": _link(result.folder, PREVIEW),
        "report": report,
        "alt": f"Preview of {name}. {result.study.summary}",
        "cells": cells,
        "files": [(file, _link(result.folder, file)) for file in files],
    }


def _number_cell(value: float | None, form: str = "") -> dict[str, Any]:
    text = "" if value is None else form.format(value) if form else _number(value)
    return {"text": text, "sort": "" if value is None else value, "number": True, "href": ""}


def _link(folder: str, name: str) -> str:
    """A relative address; the leading ./ keeps a colon in a name from being read as a scheme."""
    return f"./{quote(folder, safe='')}/{quote(name, safe='')}"


def _render(template: str, **values: Any) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ASSETS), autoescape=True, undefined=jinja2.StrictUndefined
    )
    # Our own style sheet and script are not text to be escaped.
    style = jinja2.utils.markupsafe.Markup((_ASSETS / "style.css").read_text(encoding="utf-8"))
    if "script" in values:
        values["script"] = jinja2.utils.markupsafe.Markup(values["script"])
    page = environment.get_template(template).render(
        style=style, version=__version__, research_use=RESEARCH_USE, **values
    )
    return printable(page) + "\n"
