"""Results in the form that the scorers of the TDSC-ABUS challenge read, and back.

``detection.csv`` has one row a candidate: public_id,coordX,coordY,coordZ,x_length,y_length,z_length,probability. As in
the challenge's own boxes, X, Y, Z are slice, depth, lateral, in voxels, and a length is one less than the number of
voxels. ``classification.csv`` has one row a volume: case,prob.

The challenge's scorer steps through thresholds 0.005 apart, up to 0.995, and gives no credit at few false positives where
a candidate passes even the highest of them. So scores are written times `SCALE`, which keeps their order.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import SimpleITK as sitk

from ..atomic import output_error, write_text
from ..csv_text import one_table, other_separator, read_csv_text
from ..errors import DataError
from ..findings import Box, Finding
from ..grid import index_box, physical_to_index

DETECTION, CLASSIFICATION = "detection.csv", "classification.csv"
COLUMNS = ("public_id", "coordX", "coordY", "coordZ", "x_length", "y_length", "z_length", "probability")
SCALE = 0.99


def box_to_voxels(box: Box, image: sitk.Image) -> tuple[float, ...]:
    """coordX ... z_length of a box in LPS mm along the axes of `image`; fractions of voxels are kept."""
    centre = physical_to_index(image, box.center)
    lengths = (max(size / spacing - 1, 0.0) for size, spacing in zip(box.size, image.GetSpacing(), strict=True))
    return (*(float(c) for c in centre[::-1]), *tuple(lengths)[::-1])


def voxels_to_box(values: Sequence[float], image: sitk.Image) -> Box:
    """The box of coordX ... z_length, undoing `box_to_voxels`."""
    centre, length = list(values[:3])[::-1], list(values[3:])[::-1]
    return index_box(image, [c - n / 2 for c, n in zip(centre, length, strict=True)], [n + 1 for n in length])


def detection_rows(case_id: str, findings: Sequence[Finding], image: sitk.Image) -> list[list[str]]:
    """The rows of detection.csv for one volume."""
    return [
        [public_id(case_id), *(f"{v:.6g}" for v in box_to_voxels(f.box, image)), f"{SCALE * f.score:.6f}"] for f in findings
    ]


def classification_row(case_id: str, findings: Sequence[Finding]) -> list[str]:
    """The row of classification.csv for one volume: the malignancy of its surest finding, 0 where nothing was found."""
    surest = max(findings, key=lambda f: f.score, default=None)
    malignancy = 0.0 if surest is None or surest.malignancy is None else surest.malignancy
    return [public_id(case_id), f"{malignancy:.6f}"]


def write_submission(folder: Path, detections: Sequence[Sequence[str]], classes: Sequence[Sequence[str]]) -> list[Path]:
    """Both files in `folder`; the second only where malignancy was judged (`classes` is not empty): one of an earlier run goes, as both are
    submitted together. Raises `OutputError`."""
    written = [write_text(folder / DETECTION, _csv(COLUMNS, detections))]
    if classes:
        written.append(write_text(folder / CLASSIFICATION, _csv(("case", "prob"), classes)))
    else:
        _remove(folder / CLASSIFICATION)
    return written


def remove_submission(folder: Path) -> None:
    """Take away what an earlier run left in `folder`, so that it does not pass for this one's. Raises `OutputError`."""
    for name in (DETECTION, CLASSIFICATION):
        _remove(folder / name)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise output_error(path, error) from error


def read_detections(path: Path | str) -> Mapping[str, list[tuple[tuple[float, ...], float]]]:
    """Public id -> (coordX ... z_length, probability) of each row of a detection.csv, whoever wrote it.

    Raises
    ------
    DataError : the file cannot be read, lacks a column, or a value is not a number or out of range.
    """
    path = Path(path)
    reader = csv.DictReader(io.StringIO(read_csv_text(path), newline=""), strict=True)
    with one_table(path):
        missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
        if missing:
            raise DataError(f"{path} lacks the columns {', '.join(missing)}{other_separator(reader.fieldnames)}.")
        rows = [(reader.line_num, row) for row in reader]
    found: dict[str, list[tuple[tuple[float, ...], float]]] = {}
    for number, row in rows:
        where = f"{path}, line {number}"
        try:
            values = [float(row[c]) for c in COLUMNS[1:]]
        except (TypeError, ValueError):
            raise DataError(f"{where}: {row} does not hold seven numbers.") from None
        if not all(math.isfinite(v) for v in values) or min(values[3:6]) < 0 or not 0 <= values[6] <= 1:
            raise DataError(f"{where}: a length is negative, or the probability does not lie between 0 and 1.")
        found.setdefault(public_id(row["public_id"]), []).append((tuple(values[:6]), values[6]))
    return found


def findings_of(case_id: str, detections: Mapping[str, list], image: sitk.Image) -> tuple[Finding, ...]:
    """The findings of one volume from `read_detections`, the surest first; none where the file has no row for it."""
    rows = sorted(detections.get(public_id(case_id), ()), key=lambda row: -row[1])
    return tuple(Finding(f"L{i}", voxels_to_box(values, image), score) for i, (values, score) in enumerate(rows, 1))


def public_id(case_id: str) -> str:
    """The challenge's ids are plain numbers: 7, not 007. Other names stay."""
    text = str(case_id).strip()
    return str(int(text)) if text.isdigit() else text


def _csv(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([titles, *rows])
    return stream.getvalue()
