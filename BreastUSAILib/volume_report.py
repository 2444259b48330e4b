"""What report.html shows of a volume: all findings from the skin, a table, and three cuts through each."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk

from . import pictures, volume_pictures
from .activation import PERCENT
from .detect import box_measurements
from .earlier import BY_USER, OPERATING_POINT
from .findings import Finding, Study
from .grade_report import colored, grade_card, other_notes
from .grade_terms import stated_category
from .report_parts import drawing, measurement_rows, number, physical_rows, row, scores
from .workup import trained_on_phantoms

MOST_PICTURED = 20  # findings with pictures of their own, the surest; a page with more is too large to open or send
_FLAT = 0.75  # pictures of less height than this share of their width stand above each other


def volume_page(study: Study, image: sitk.Image, name: str) -> dict[str, Any]:
    """What the template of volumes shows beyond what all reports have.

    Parameters
    ----------
    study : its findings have boxes; masks, where there are any, lie on the grid of `image`.
    image : 3D, of several slices.
    name : of the image, for the descriptions of the pictures.
    """
    info = study.image
    unit = "mm" if info.spacing_known else "pixels"
    view, (first, last) = volume_pictures.projection(image, study)
    greys = volume_pictures.grey_range(image)
    pictured = study.findings[:MOST_PICTURED]
    extent = " x ".join(f"{n * s:.4g}" for n, s in zip(info.size, info.spacing, strict=True))
    return {
        "unit": unit,
        "phantoms": trained_on_phantoms(study),
        "operating_point": _operating_point(study),
        "overview": drawing(view, "overview", study, boxes=True, letters=0.03),
        "alt": f"The volume {name}, seen from the skin. {study.summary}",
        "axes": volume_pictures.axes_in_words(image, volume_pictures.CORONAL),
        "lies": volume_pictures.seen_from_the_skin(image),
        "depths": f"{first:.1f} to {last:.1f} {unit}",
        "caption": f"{' x '.join(map(str, info.size))} voxels" + (f", {extent} mm." if info.spacing_known else "."),
        "heat": study.heatmap is not None,
        "table": _table(study, image),
        "lesions": [_lesion(study, image, index, greys, unit) for index in range(len(pictured))],
        "without_pictures": [f.id for f in study.findings[MOST_PICTURED:]],
        "middle": None if study.findings else _cuts(study, image, None, "middle", greys),
    }


def _operating_point(study: Study) -> str:
    """From which score on findings were reported, in words; "" where the study does not say."""
    point = study.provenance.get(OPERATING_POINT) or {}
    if point.get("threshold") is None:
        return ""
    by_user = point.get(BY_USER, study.provenance.get("options", {}).get("threshold") is not None)
    whose = "chosen by the user" if by_user else "the model's own"
    most = f"; at most {point['maximum']}, the surest" if point.get("maximum") is not None else ""
    return f"Reported are findings with a score of {number(float(point['threshold']))} or more ({whose}){most}."


def _table(study: Study, image: sitk.Image) -> dict[str, Any]:
    """All findings, one row each; a column that no finding fills is left out."""
    unit = "mm" if study.image.spacing_known else "pixels"
    titles = {
        "finding": "Finding",
        "score": "Detection score",
        "malignancy": "Malignancy",
        "category": "BI-RADS",
        "volume": "Volume, ml",
        "size": f"Size, {unit}",
        "depth": f"Depth, {unit}",
        "slice": "Slice",
    }
    rows = [_cells(image, finding) for finding in study.findings]
    kept = [name for name in titles if any(cells[name] for cells in rows)]
    colors = [pictures.hex_color(pictures.lesion_color(index)) for index in range(len(rows))]
    return {
        "titles": [titles[name] for name in kept],
        "rows": [(color, [cells[name] for name in kept]) for color, cells in zip(colors, rows, strict=True)],
    }


def _cells(image: sitk.Image, finding: Finding) -> dict[str, str]:
    volume = finding.measurements.get("volume_ml")
    return {
        "finding": finding.id,
        "score": f"{finding.score:.2f}",
        "malignancy": "" if finding.malignancy is None else f"{finding.malignancy:.2f}",
        "category": stated_category(finding.birads) if finding.birads else "",
        "volume": "" if volume is None else number(volume),
        "size": " x ".join(f"{s:.1f}" for s in finding.box.size),
        "depth": f"{_depth(image, finding):.1f}",
        "slice": str(volume_pictures.voxel_at(image, finding.box.center)[2] + 1),
    }


def _depth(image: sitk.Image, finding: Finding) -> float:
    return box_measurements(image, finding.box)["depth_mm"]


def _lesion(study: Study, image: sitk.Image, index: int, greys, unit: str) -> dict[str, Any]:
    finding = study.findings[index]
    position = [*scores(finding, study.image), *physical_rows(study, finding), row("Depth below the upper edge of the volume", unit, _depth(image, finding), 2)]
    # Without a mask, all that is measured is the box.
    measured = finding.measurements if finding.mask is not None else {}
    tables = [("Scores and position", position), ("Measurements", measurement_rows(measured))]
    return {
        "id": finding.id,
        "color": pictures.hex_color(pictures.lesion_color(index)),
        "cuts": _cuts(study, image, finding, f"cut-{index + 1}", greys),
        "tables": [(title, rows) for title, rows in tables if rows],
        "grade": grade_card(study, image, finding, str(index + 1)),
        "notes": other_notes(finding),
    }


def _cuts(study: Study, image: sitk.Image, finding: Finding | None, name: str, greys) -> dict[str, Any]:
    """The three cuts, and whether they are flat: much wider than deep."""
    of = f"Finding {finding.id}" if finding else "The middle of the volume"
    cuts = volume_pictures.cuts(image, study, finding, greys)
    heat = (None,) * len(cuts)
    if study.heatmap is not None:
        heat = volume_pictures.cuts(study.heatmap, study, finding, (0.0, 1.0))
    width, height = cuts[0].view.drawn_size
    flat = height < _FLAT * width
    made = []
    for cut, warm in zip(cuts, heat, strict=True):
        over = None if warm is None else colored(np.rint(warm.view.pixels / 255 * PERCENT).astype(np.uint8))
        axes, through = volume_pictures.axes_in_words(image, cut.plane), volume_pictures.AXES[cut.plane.through]
        made.append(
            {
                "name": cut.plane.name,
                "axes": f"{axes}; {through} {cut.number} of {image.GetSize()[cut.plane.through]}",
                "alt": f"{of}, {cut.plane.name.lower()} cut",
                "picture": drawing(
                    cut.view,
                    f"{name}-{cut.plane.name.lower()}",
                    study,
                    boxes=True,
                    letters=0.03 if flat else 0.045,
                    over=over,
                ),
            }
        )
    return {"pictures": made, "flat": flat}
