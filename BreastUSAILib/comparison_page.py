"""comparison.html: two examinations side by side, finding by finding, in one file without outside references."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from . import navigator, volume_pictures
from .comparison import FOLLOWED, LIMIT_MM, Comparison, Pair
from .findings import Box, Finding, Study
from .report_parts import drawing, number, render
from .workup import trained_on_phantoms

MOST_PICTURED = 20  # pairs with pictures of their own; a page with more is too large to open or send
_FLAT = 0.75  # pictures of less height than this share of their width stand above each other
_TITLES = ("Finding", "Status", "Apart, mm", "Volume, ml", "Longest, mm", "Volume change", "Doubling time")


def comparison_html(
    comparison: Comparison, earlier: sitk.Image | None, later: sitk.Image | None, names: tuple[str, str] = ("", "")
) -> str:
    """The page of a comparison.

    Parameters
    ----------
    comparison : from `comparison.compare`; masks of its findings lie on the grids of the images.
    earlier, later : the volumes; None where one is not at hand, and the page has no pictures of it.
    names : how the examinations are called beside "Earlier" and "Later", such as their dates.
    """
    images = (earlier, later)
    studies = (comparison.earlier, comparison.later)
    titles = [
        " ".join(part for part in (word, f"({name})" if name else "") if part)
        for word, name in zip(("Earlier", "Later"), names, strict=True)
    ]
    greys = [None if image is None else volume_pictures.grey_range(image) for image in images]
    pictured = comparison.pairs[:MOST_PICTURED]
    missing = [study.image.path for study, image in zip(studies, images, strict=True) if image is None]
    return render(
        "comparison.html.j2",
        name=" and ".join(dict.fromkeys(Path(study.image.path).name for study in studies)),
        summary=f"Comparison with an earlier examination: {comparison.summary}",
        spacing_known=True,  # `compare` refuses others
        notes=[
            *(f"{note[:1].upper()}{note[1:]}." for note in comparison.notes),
            *(f"{path} is not there as it was, so there are no pictures of it." for path in missing),
        ],
        facts=_facts(comparison, titles),
        phantoms=list(dict.fromkeys(s for study in studies for s in trained_on_phantoms(study))),
        overviews=[_overview(s, i, t) for s, i, t in zip(studies, images, titles, strict=True) if i is not None],
        table={
            "titles": _TITLES,
            "rows": [_table_row(comparison, pair, n) for n, pair in enumerate(comparison.pairs, 1)],
        },
        nothing="No lesion is reported in either examination; the reader rejected what was found."
        if any(study.rejected for study in studies)
        else "No lesion was found in either examination.",
        how=_how(comparison),
        pairs=[_section(comparison, pair, n, images, greys, titles) for n, pair in enumerate(pictured, 1)],
        without_pictures=[pair.name for pair in comparison.pairs[MOST_PICTURED:]],
    )


def _overview(study: Study, image: sitk.Image, title: str) -> dict[str, Any]:
    view = navigator.navigate(image, study)
    height, width = view.pixels.shape
    return {
        "title": title,
        "png": base64.b64encode(navigator.png(navigator.paint(view))).decode(),
        "width": width,
        "height": height,
        "alt": f"{title}: the whole volume from the front. {study.summary}",
        "depths": f"{view.depths[0]:.0f} to {view.depths[1]:.0f} mm",
    }


def _table_row(comparison: Comparison, pair: Pair, place: int) -> dict[str, Any]:
    growth = comparison.growth(pair)
    apart = "" if pair.distance_mm is None else f"{pair.distance_mm:.1f}"
    anchor = f"pair-{place}" if place <= MOST_PICTURED else ""
    cells = [_arrow(pair.name), pair.status, apart, "", "", "", ""]
    if growth is not None:
        cells[3] = " → ".join(number(v) for v in growth.volumes_ml) + ("" if growth.outlined else " (box)")
        cells[4] = " → ".join(f"{v:.1f}" for v in growth.diameters_mm[0])
        cells[5] = f"{round(growth.volume_change_percent):+d} %"
        cells[6] = _doubling(growth.doubling_days)
    return {"anchor": anchor, "cells": cells}


def _arrow(name: str) -> str:
    return name.replace("->", "→")


def _doubling(days: float | None) -> str:
    """
    >>> _doubling(183.4), _doubling(-90.0), _doubling(1.2), _doubling(None)
    ('183 days', 'halves in 90 days', '1 day', '')
    """
    if days is None:
        return ""
    return _days(round(days)) if days > 0 else f"halves in {_days(round(-days))}"


def _days(number: int) -> str:
    return f"{number} day{'' if number == 1 else 's'}"


def _how(comparison: Comparison) -> str:
    where = (
        "after the nipples were laid over each other"
        if comparison.aligned
        else "by the volumes' own coordinates, as the nipple is not marked in both"
    )
    limit = f"{comparison.limit_mm:g} mm"
    body = " As a curved transducer is among them, volumes are told as in the body, and lengths are of the boxes there." if comparison.curved else ""
    days = "" if comparison.days is not None else " The doubling time needs the dates of both examinations."
    return (
        f"Findings were matched by their positions, {where}; those more than {limit} apart are not taken for the same. A finding is new "
        "or gone where the other volume shows the place and nothing was reported there, which may be the model's doing as well as the "
        f"lesion's. Volumes are of the outlines, or, where one has none, of the ellipsoid in the box.{body}{days}"
    )


def _section(comparison: Comparison, pair: Pair, place: int, images, greys, titles) -> dict[str, Any]:
    studies, findings = (comparison.earlier, comparison.later), (pair.earlier, pair.later)
    largest = tuple(max(sides) for sides in zip(*(f.box.size for f in findings if f is not None), strict=True))
    views = []
    for side, (study, finding, image, grey, title) in enumerate(
        zip(studies, findings, images, greys, titles, strict=True)
    ):
        # Both cut through the same place, with the same field, so that they are of one scale.
        if finding is not None:
            at, text = finding.box.center, f"{title}: {finding.id}"
        else:
            at = pair.place.point
            # What a reader rejected was found, and where is not kept.
            nothing = "nothing is reported at this place" if study.rejected else "nothing was found at this place"
            text = f"{title}: {nothing if pair.place.inside else 'outside the volume'}"
        cuts: list[dict[str, Any]] = []
        if image is not None and (finding is not None or pair.place.inside):
            cuts = _cuts(study, image, Finding("place", Box(at, largest), 0.0), f"pair-{place}-{side}", grey, text)
        views.append({"title": text, "cuts": cuts, "flat": bool(cuts) and cuts[0]["flat"]})
    return {"title": _arrow(pair.name), "views": views, "rows": _figures(comparison, pair)}


def _cuts(study: Study, image: sitk.Image, at: Finding, name: str, greys, of: str) -> list[dict[str, Any]]:
    cuts = volume_pictures.cuts(image, study, at, greys)
    width, height = cuts[0].view.drawn_size
    flat = height < _FLAT * width
    return [
        {
            "name": cut.plane.name,
            "number": f"{volume_pictures.AXES[cut.plane.through]} {cut.number} of {image.GetSize()[cut.plane.through]}",
            "alt": f"{of}, {cut.plane.name.lower()} cut",
            "picture": drawing(
                cut.view, f"{name}-{cut.plane.name.lower()}", study, boxes=True, letters=0.03 if flat else 0.045
            ),
            "flat": flat,
        }
        for cut in cuts
    ]


def _figures(comparison: Comparison, pair: Pair) -> list[tuple[str, str, str, str]]:
    """Rows of name, earlier, later and change."""
    growth = comparison.growth(pair)
    rows = []
    if growth is not None:
        of = "outline" if growth.outlined else "box"
        rows.append(
            (
                f"Volume of the {of}, ml",
                *(number(v) for v in growth.volumes_ml),
                f"{round(growth.volume_change_percent):+d} %",
            )
        )
        for title, (before, after) in zip(("Longest", "Second", "Third"), growth.diameters_mm, strict=True):
            rows.append(
                (
                    f"{title} {'side' if growth.sides else 'diameter'}, mm",
                    f"{before:.1f}",
                    f"{after:.1f}",
                    f"{after - before:+.1f}",
                )
            )
        if growth.doubling_days is not None:
            rows.append(("Volume doubling time", "", "", _doubling(growth.doubling_days)))
    for title, figure in (("Detection score", "score"), ("Probability of malignancy", "malignancy")):
        values = [None if f is None else getattr(f, figure) for f in (pair.earlier, pair.later)]
        if any(v is not None for v in values):
            change = f"{values[1] - values[0]:+.2f}" if None not in values else ""
            rows.append((title, *("" if v is None else f"{v:.2f}" for v in values), change))
    if pair.status == FOLLOWED:
        rows.append(("Distance between the two places, mm", "", "", f"{pair.distance_mm:.1f}"))
    return rows


def _facts(comparison: Comparison, titles: list[str]) -> list[tuple[str, list[str]]]:
    facts = []
    for title, study in zip(titles, (comparison.earlier, comparison.later), strict=True):
        models = [f"{m['id']} {m['version']} ({m['task']})" for m in study.provenance.get("models", ())]
        made = [f"analysed {study.provenance['created']}"] if "created" in study.provenance else []
        facts.append((title, [study.image.path, *made, *models]))
    between = "unknown" if comparison.days is None else _days(comparison.days) if comparison.days else "the same day"
    shift = ", ".join(f"{v:.1f}" for v in comparison.shift)
    return [
        *facts,
        ("Between them", [between]),
        (
            "Positions",
            [f"nipple to nipple: shifted by {shift} mm" if comparison.aligned else "the volumes' own coordinates"],
        ),
        ("Limit", [f"{comparison.limit_mm:g} mm" + (" (default)" if comparison.limit_mm == LIMIT_MM else "")]),
    ]
