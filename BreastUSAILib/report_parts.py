"""What the pages are put together from: rows of tables, pictures as vector graphics, templates."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import RESEARCH_USE, __version__, pictures
from .breast_position import position_of
from .files import MEASUREMENTS, printable
from .findings import BIRADS_CATEGORIES, Finding, ImageInfo, Study
from .grade_terms import is_of_grade

ASSETS = Path(__file__).parent / "report_assets"

_TITLES = {
    "major_diameter": "Longest diameter",
    "minor_diameter": "Longest chord perpendicular to it",
    "second_diameter": "Longest chord perpendicular to it",
    "third_diameter": "Longest chord perpendicular to both",
    "equivalent_diameter": "Diameter of a circle of equal area",
    "equal_volume_diameter": "Diameter of a ball of equal volume",
    "width": "Width, along the skin",
    "height": "Height, into the depth",
    "length": "Length, across the slices",
    "longest_side": "Longest side of the box",
    "clock_position": "Clock position about the nipple, from the front",
    "nipple_distance": "Distance from the nipple, along the breast",
    "depth": "Depth below the upper edge of the ultrasound image",
    "spiculation": "Spiculation: how far narrow processes stand out",
    "orientation": "Angle of the long axis to the skin",
    "parallel_to_skin": "Parallel to the skin (wider than tall)",
    "aspect_ratio": "Long / short axis of the fitted ellipse",
    "eccentricity": "Eccentricity of that ellipse (0: round)",
    "height_to_width_ratio": "Height / width (above 1: taller than wide)",
    "circularity": "Circularity (1: a disc)",
    "sphericity": "Sphericity (1: a ball)",
    "solidity": "Solidity (1: no indentations)",
    "surface_roughness": "Surface roughness (0: smooth)",
    "contrast_ratio": "Echo inside / around (below 1: darker)",
    "posterior_ratio": "Echo behind / beside (above 1: enhancement)",
    "echo_heterogeneity": "Echo variation inside (deviation / mean)",
    "outline_uncertainty": "Uncertainty of the outline (0 to 0.5)",
}
_UNITS = {
    "mm": "mm",
    "mm2": "mm²",
    "mm3": "mm³",
    "ml": "ml",
    "deg": "°",
    "h": "o’clock",
    "px": "pixels",
    "px2": "pixels²",
    "px3": "voxels",
}
_YES_OR_NO = ("parallel_to_skin",)  # measured as 1 or 0
_SCALE_BARS_MM = (50, 20, 10, 5, 2, 1)


def measurement_rows(measurements: Mapping[str, float | None]) -> list[dict[str, str]]:
    """Measurements as rows of name, value and unit for a person; in the order of the CSV files."""
    order = [*(n for n in MEASUREMENTS if n in measurements), *sorted(set(measurements).difference(MEASUREMENTS))]
    rows = [row(*title_and_unit(name), measurements[name]) for name in order]
    for name, shown in zip(order, rows, strict=True):
        if name in _YES_OR_NO and measurements[name] is not None:
            shown["value"] = "yes" if measurements[name] else "no"
    return rows


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


def scores(finding: Finding, image: ImageInfo) -> list[dict[str, str]]:
    """Scores, probabilities, box and evidence of a finding of an image as rows."""
    rows = [row("Detection score", "0 to 1", finding.score, 3)]
    if finding.malignancy is not None:
        rows.append(row("Probability of malignancy", "0 to 1", finding.malignancy, 3))
    for category in BIRADS_CATEGORIES:
        if finding.birads is not None and finding.birads.get(category) is not None:
            rows.append(row(f"Probability of BI-RADS {category}", "0 to 1", finding.birads[category], 3))
    if finding.solid_nodule is not None:
        rows.append(row("Probability of a solid nodule", "0 to 1", finding.solid_nodule, 3))
    flat = finding.box.size[2] == 0
    for title, values in (("Box centre", image.place(finding.box.center)), ("Box size", finding.box.size)):
        shown = values[:2] if flat else values
        rows.append({"name": title, "value": " x ".join(f"{v:.2f}" for v in shown), "unit": "mm" if image.spacing_known else "pixels"})
    rows[-2]["value"] = rows[-2]["value"].replace(" x ", ", ")
    # What belongs to a grade is shown with it (`grade_report`).
    shown = {name: value for name, value in image.told_evidence(finding.evidence).items() if not is_of_grade(name)}
    rows += [row(*title_and_unit(name), value) for name, value in shown.items()]
    return rows


def physical_rows(study: Study, finding: Finding) -> list[dict[str, str]]:
    """Where a finding lies in the breast, where the nipple was marked, and in the body, for volumes whose grid is not there (a curved
    transducer)."""
    place = position_of(study, finding)
    rows = [] if place is None else [{"name": "In the breast", "value": str(place), "unit": ""}]
    if study.image.acquisition is None:
        return rows
    box = study.physical_box(finding)
    center, size = (", ".join(f"{v:.2f}" for v in box.center), " x ".join(f"{v:.2f}" for v in box.size))
    return [
        *rows,
        {"name": "Centre in the body (LPS)", "value": center, "unit": "mm"},
        {"name": "Size in the body", "value": size, "unit": "mm"},
    ]


def row(name: str, unit: str, value: float | None, digits: int | None = None) -> dict[str, str]:
    if value is None:
        return {"name": name, "value": "not measured", "unit": ""}
    return {"name": name, "value": f"{value:.{digits}f}" if digits is not None else number(value), "unit": unit}


def number(value: float) -> str:
    """Three significant digits or more, but no more than six decimals; never an exponent.

    >>> number(0.0004), number(0.5), number(12.345), number(3.0)
    ('0.000400', '0.500', '12.35', '3')
    """
    if not math.isfinite(value):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    size = abs(value)
    if size >= 1:
        return f"{value:.1f}" if size >= 100 else f"{value:.2f}"
    decimals = 2 - math.floor(math.log10(size)) if size else 3
    return f"{value:.{min(decimals, 6)}f}"


def facts(study: Study) -> list[tuple[str, list[str]]]:
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
        ("Breast", [_seen(info)]),
        ("Voxel size" if info.dimension == 3 else "Pixel size", [f"{spacing} mm" if info.spacing_known else "unknown"]),
        ("Transducer", [f"curved, radius {info.acquisition.radius:g} mm"] if info.acquisition is not None else []),
        ("Made", [str(provenance["created"])] if "created" in provenance else []),
        ("Model", models),
        ("Device", [f"{device['name']}: {device['reason']}"] if device else []),
        ("Options", [f"{_words(k)}: {_option(v)}" for k, v in provenance.get("options", {}).items()]),
        ("Seconds", [f"{_words(k)}: {v:.2f}" for k, v in provenance.get("seconds", {}).items()]),
        ("Software", [", ".join(f"{k} {v}" for k, v in provenance.get("software", {}).items())]),
    ]
    return [(name, lines) for name, lines in facts if any(lines)]


def _seen(info: ImageInfo) -> str:
    side = {"R": "right", "L": "left", "B": "both"}.get(info.laterality, "")
    return ", ".join(part for part in (side, f"{info.view} view" if info.view else "") if part)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _option(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "default" if value in (None, "") else str(value)


def drawing(
    view: pictures.View,
    name: str,
    study: Study,
    boxes: bool,
    letters: float | None = None,
    over: np.ndarray | None = None,
) -> dict[str, Any]:
    """A view as the template's macro draws it: all coordinates undistorted, in units of the smaller pixel side.

    `letters` is the height of the text as a share of the picture's width; None: by the picture's size. `over`, of the view's pixels
    (H, W, 4), lies over them.
    """
    width, height = view.drawn_size
    across, down = view.scale
    text = 0.015 * (width + height) if letters is None else letters * width
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
        "png": _png(view.pixels),
        "over": None if over is None else _png(over),
        "shapes": shapes,
        "boxes": boxes,
        "text": f"{text:.2f}",
        "text_halo": f"{0.16 * text:.2f}",
        "bar": _scale_bar(view, text) if study.image.spacing_known else None,
    }


def _png(pixels: np.ndarray) -> str:
    return base64.b64encode(pictures.png(pixels)).decode()


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


def render(template: str, **values: Any) -> str:
    """A page from a template of `ASSETS`; what is not our own style sheet or script is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS), autoescape=True, undefined=jinja2.StrictUndefined
    )
    # Our own style sheet and script are not text to be escaped.
    style = jinja2.utils.markupsafe.Markup((ASSETS / "style.css").read_text(encoding="utf-8"))
    if "script" in values:
        values["script"] = jinja2.utils.markupsafe.Markup(values["script"])
    page = environment.get_template(template).render(
        style=style, version=__version__, research_use=RESEARCH_USE, **values
    )
    return printable(page) + "\n"
