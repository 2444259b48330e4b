"""The page for people: report.html of one input.

It holds everything in itself (style, pictures, outlines as vector graphics), so it can be sent or archived alone. The
templates escape every text they are given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import SimpleITK as sitk

from . import pictures, volume_pictures
from .atomic import write_bytes, write_text
from .findings import Study
from .grade_report import grade_card, other_notes
from .grid import as_2d
from .report_parts import drawing, facts, measurement_rows, render, scores
from .volume_report import volume_page

REPORT = "report.html"
PREVIEW = "preview.jpg"


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
        rejected=study.rejected,
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
        "lesions": [_lesion(study, image, whole, index) for index in range(len(study.findings))],
    }


def _lesion(study: Study, image: sitk.Image, whole: pictures.View, index: int) -> dict[str, Any]:
    finding = study.findings[index]
    tables = [("Measurements", measurement_rows(finding.measurements)), ("Scores and position", scores(finding, study.image))]
    return {
        "id": finding.id,
        "color": pictures.hex_color(pictures.lesion_color(index)),
        "crop": drawing(pictures.crop(whole, finding.id), f"crop-{index + 1}", study, boxes=False),
        "tables": [(title, rows) for title, rows in tables if rows],
        "grade": grade_card(study, image, finding, str(index + 1), whole),
        "notes": other_notes(finding),
    }
