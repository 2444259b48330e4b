"""What a run leaves behind for one input, except pictures: plain files that need no Slicer to write or to read.

=================  ==================================================================================================
study.json         the :class:`~BreastUSAILib.findings.Study`; written last, its presence says that the input is done
findings.csv       one row a finding; a header alone when nothing was found
lesions.seg.nrrd   Slicer's segmentation file: one segment a finding, on the input's grid; absent when there is no mask
boxes.mrk.json     Slicer markups: one ROI a finding, along the image's axes
points.mrk.json    Slicer markups: one list with the centre of each finding
heatmap.nrrd       only when the study has a heatmap
activation.nrrd    where the grading networks looked, percent; only when findings were graded by networks that tell
uncertainty.nrrd   of a volume, how unsure its outlines are, percent; only when mirror images were looked at
=================  ==================================================================================================

All positions are LPS, mm. Slicer knows volumes only, so what belongs to a 2D image is written as one slice at z = 0
(`as_volume`), `SLICE_THICKNESS_MM` thick.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from .atomic import write_text
from .errors import DataError
from .findings import BIRADS_CATEGORIES, Finding, ImageInfo, Study
from .grade_terms import WORDS, words_of
from .image import write_image
from .terminology import lesion_color, segment_tags

STUDY = "study.json"
FINDINGS = "findings.csv"
LESIONS = "lesions.seg.nrrd"
BOXES = "boxes.mrk.json"
POINTS = "points.mrk.json"
HEATMAP = "heatmap.nrrd"
ACTIVATION = "activation.nrrd"
UNCERTAINTY = "uncertainty.nrrd"

SLICE_THICKNESS_MM = 1.0  # what Slicer gives a PNG; a 2D image has none of its own
MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)

# In this order they stand in the CSV files and in the reports (`measurements.measure_2d` and `measurements_3d.measure_3d` say
# what each is), in pixels where the spacing is not known. Measurements of other names follow, sorted.
MEASUREMENTS = (
    "volume_ml",
    "volume_px3",
    *(
        f"{name}_{unit}{power}"
        for unit in ("mm", "px")
        for name, power in (
            ("major_diameter", ""),
            ("minor_diameter", ""),
            ("second_diameter", ""),
            ("third_diameter", ""),
            ("equivalent_diameter", ""),
            ("equal_volume_diameter", ""),
            ("area", "2"),
            ("surface", "2"),
            ("perimeter", ""),
            ("width", ""),
            ("height", ""),
            ("length", ""),
            ("depth", ""),
            ("spiculation", ""),
        )
    ),
    "orientation_deg",
    "parallel_to_skin",
    "height_to_width_ratio",
    "aspect_ratio",
    "eccentricity",
    "circularity",
    "sphericity",
    "solidity",
    "surface_roughness",
    "contrast_ratio",
    "posterior_ratio",
    "echo_heterogeneity",
    "outline_uncertainty",
)


def write_study(study: Study, folder: Path) -> list[Path]:
    """Write all files of a study to `folder`, study.json last; return their paths.

    Files of the same names are replaced; a segmentation or picture that the study no longer has is removed.

    Raises
    ------
    OutputError : a file cannot be written.
    """
    folder = Path(folder)
    written = [write_text(folder / FINDINGS, findings_csv([study]))]
    for name, image, write in (
        (LESIONS, study.label_image(), lambda path: write_segmentation(study, path)),
        (HEATMAP, study.heatmap, lambda path: write_image(study.heatmap, path)),
        (ACTIVATION, study.activation, lambda path: write_image(study.activation, path)),
        (UNCERTAINTY, study.uncertainty, lambda path: write_image(study.uncertainty, path)),
    ):
        if image is None:
            (folder / name).unlink(missing_ok=True)
        else:
            write(folder / name)
            written.append(folder / name)
    written.append(write_text(folder / BOXES, _to_json(boxes(study))))
    written.append(write_text(folder / POINTS, _to_json(points(study))))
    written.append(write_text(folder / STUDY, study.to_json()))
    return written


def read_study(folder: Path) -> Study:
    """Read back what `write_study` wrote, masks and maps included.

    Raises
    ------
    DataError : there is no study.json, or a file of the study is missing or cannot be read.
    """
    folder = Path(folder)
    path = folder / STUDY
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); analyse the input again (breastusai run: with --overwrite).") from error
    study = Study.from_json(text, source=str(path))
    if any(f.label is not None for f in study.findings):
        labels = _read_on_grid(folder / LESIONS, study.image)
        study = Study.from_json(text, labels=labels, source=str(path))
    pictures = {"heatmap": folder / HEATMAP, "activation": folder / ACTIVATION, "uncertainty": folder / UNCERTAINTY}
    return replace(study, **{k: _read_on_grid(path, study.image) for k, path in pictures.items() if path.exists()})


def as_volume(image: sitk.Image) -> sitk.Image:
    """A 3D image as it is; a 2D image as one slice at z = 0 whose third axis is z."""
    return image if image.GetDimension() == 3 else sitk.JoinSeries(image, 0.0, SLICE_THICKNESS_MM)


# ---------------------------------------------------------------------------------------------------------- tables


_BOX = ("center_x", "center_y", "center_z", "size_1", "size_2", "size_3")
_PHYSICAL = ("physical_center_x_mm", "physical_center_y_mm", "physical_center_z_mm")


def finding_columns(studies: Iterable[Study] = ()) -> list[str]:
    """The columns of `finding_row`: always these, in this order; measurements unknown to us and evidence come last, sorted."""
    others = {name for study in studies for finding in study.findings for name in other_columns(finding)}
    return [
        "image",
        "laterality",
        "view",
        "finding",
        "score",
        "malignancy",
        *(f"birads_{category}" for category in BIRADS_CATEGORIES),
        "solid_nodule",
        *WORDS,
        "not_sure",
        "label",
        *(f"{name}_{unit}" for unit in ("mm", "px") for name in _BOX),
        *_PHYSICAL,
        "spacing_known",
        *MEASUREMENTS,
        *sorted(others),
        "models",
        "notes",
    ]


def other_columns(finding: Finding) -> set[str]:
    """The columns of a finding that are not always there: measurements that `MEASUREMENTS` does not name, and its evidence."""
    return {*set(finding.measurements).difference(MEASUREMENTS), *(f"evidence_{name}" for name in finding.evidence)}


def finding_row(study: Study, finding: Finding) -> dict[str, Any]:
    """One finding as column -> value; None for what was not computed.

    The centre of its box is LPS, the sizes are along the image's axes 1, 2, 3, in mm; where the spacing is not known both are in pixels along
    the axes and in the columns ``_px`` (`findings.ImageInfo.place`), and so is the peak of a hot spot. The physical centre is where the finding lies in the body: the same, except in
    volumes of a curved transducer (`findings.Study.physical_box`).
    """
    birads = finding.birads or {}
    unit = "mm" if study.image.spacing_known else "px"
    versions = {model["id"]: model["version"] for model in study.provenance.get("models", ())}
    return {
        "image": study.image.path,
        "laterality": study.image.laterality,
        "view": study.image.view,
        "finding": finding.id,
        "score": finding.score,
        "malignancy": finding.malignancy,
        **{f"birads_{category}": birads.get(category) for category in BIRADS_CATEGORIES},
        "solid_nodule": finding.solid_nodule,
        **words_of(finding.birads, finding.evidence),
        "not_sure": bool(finding.evidence["not_sure"]) if "not_sure" in finding.evidence else None,
        "label": finding.label,
        **{f"{n}_{unit}": v for n, v in zip(_BOX, (*study.image.place(finding.box.center), *finding.box.size), strict=True)},
        **(dict(zip(_PHYSICAL, study.physical_box(finding).center, strict=True)) if unit == "mm" else {}),
        "spacing_known": study.image.spacing_known,
        **finding.measurements,
        **{f"evidence_{name}": value for name, value in study.image.told_evidence(finding.evidence).items()},
        "models": "; ".join(f"{task}: {model} {versions.get(model, '')}".rstrip() for task, model in finding.models.items()),
        "notes": " ".join(finding.notes),
    }


def findings_csv(studies: Sequence[Study]) -> str:
    """The findings of some studies as CSV text, one row each."""
    rows = [finding_row(study, finding) for study in studies for finding in study.findings]
    return to_csv(finding_columns(studies), rows)


def to_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV text (RFC 4180, comma, decimal point); missing and None values are empty cells.

    Text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\r\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in row.items()})
    return printable(stream.getvalue())


def printable(text: str) -> str:
    """Text that can be written as UTF-8: bytes of a file name that are not UTF-8 become the replacement character."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # file names that start so would be run by a spreadsheet


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)  # six digits are less than what large areas in pixels have
    return f"{value:.6g}" if isinstance(value, float) else value


# ---------------------------------------------------------------------------------------------------- segmentation


def write_segmentation(study: Study, path: Path) -> Path:
    """Write the masks as Slicer's ``.seg.nrrd``: one layer, one segment a finding, on the input's grid.

    Raises
    ------
    DataError : no finding has a mask.
    OutputError : the file cannot be written.
    """
    labels = study.label_image()
    if labels is None:
        raise DataError(f"{study.image.path} has no finding with a mask; there is no segmentation to write.")
    labels = as_volume(labels)
    header = segmentation_header(study, sitk.GetArrayViewFromImage(labels))
    for key, value in header.items():
        labels.SetMetaData(key, value)
    return write_image(labels, path)


def segmentation_header(study: Study, labels: np.ndarray) -> dict[str, str]:
    """The header fields by which Slicer 5 knows a label image for a segmentation.

    Parameters
    ----------
    study : its findings with a mask become segments, in their order.
    labels : uint8 (z, y, x), the label image.

    Returns
    -------
    dict : NRRD key -> value.
    """
    header = {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    drawn = [(i, f) for i, f in enumerate(study.findings) if f.mask is not None and f.label is not None]
    for number, (index, finding) in enumerate(drawn):
        tags = segment_tags(finding.models.get("segment", ""), finding.outline_edited)
        fields = {
            "ID": finding.id,
            "Name": finding.id,
            "NameAutoGenerated": "0",
            "Color": " ".join(f"{c:g}" for c in lesion_color(index)),
            "ColorAutoGenerated": "0",
            "LabelValue": str(finding.label),
            "Layer": "0",
            "Extent": " ".join(map(str, _extent(labels == finding.label))),
            "Tags": "".join(f"{_header_text(key)}:{_header_text(value)}|" for key, value in tags.items()),
        }
        header.update({f"Segment{number}_{key}": value for key, value in fields.items()})
    return header


def _extent(inside: np.ndarray) -> list[int]:
    """First and last index along x, y, z that is inside; ``0 -1`` thrice, Slicer's empty extent, when none is."""
    extent = []
    for axis in (2, 1, 0):
        others = tuple(a for a in range(3) if a != axis)
        indices = np.flatnonzero(inside.any(axis=others))
        extent += [int(indices[0]), int(indices[-1])] if indices.size else [0, -1]
    return extent


def _header_text(text: str) -> str:
    """Text that neither ends the tag (``|``) nor the header line."""
    return " ".join(text.replace("|", "/").split())


def _read_on_grid(path: Path, info: ImageInfo) -> sitk.Image:
    """Read an image that `write_study` wrote, with the study's own dimension and grid."""
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise DataError(f"{path} is missing or cannot be read; analyse the input again (breastusai run: with --overwrite).") from error
    size = info.size if image.GetDimension() == info.dimension else (*info.size, 1)
    if image.GetSize() != size:
        raise DataError(
            f"{path} has {image.GetSize()} pixels, the study {info.size}; analyse the input again (breastusai run: with --overwrite)."
        )
    if image.GetDimension() > info.dimension:
        image = image[:, :, 0]
    # The text of an NRRD header rounds; the study's own numbers are the grid.
    image.SetSpacing(info.spacing)
    image.SetOrigin(info.origin)
    image.SetDirection(info.direction)
    for key in image.GetMetaDataKeys():
        image.EraseMetaData(key)
    return image


# --------------------------------------------------------------------------------------------------------- markups


def boxes(study: Study) -> dict[str, Any]:
    """The findings' boxes as Slicer markups, one ROI each; an empty list when nothing was found."""
    axes = _axes(study.image)
    markups = []
    for index, finding in enumerate(study.findings):
        size = list(finding.box.size)
        if study.image.dimension == 2:
            size[2] = SLICE_THICKNESS_MM
        markups.append(
            {
                "type": "ROI",
                "name": finding.id,
                "coordinateSystem": "LPS",
                "coordinateUnits": "mm",
                "locked": False,
                "roiType": "Box",
                "center": list(finding.box.center),
                "orientation": axes,
                "size": size,
                "insideOut": False,
                "controlPoints": [_control_point("1", finding.id, finding.box.center, axes)],
                "display": {
                    "visibility": True,
                    "opacity": 1.0,
                    "color": list(lesion_color(index)),
                    "selectedColor": list(lesion_color(index)),
                    "propertiesLabelVisibility": True,
                    "handlesInteractive": False,
                },
            }
        )
    return {"@schema": MARKUPS_SCHEMA, "markups": markups}


def points(study: Study) -> dict[str, Any]:
    """The centres of the findings' boxes as one Slicer point list, which is empty when nothing was found."""
    axes = _axes(study.image)
    control_points = [
        _control_point(str(number), finding.id, finding.box.center, axes, f"score {finding.score:.2f}")
        for number, finding in enumerate(study.findings, 1)
    ]
    return {
        "@schema": MARKUPS_SCHEMA,
        "markups": [
            {
                "type": "Fiducial",
                "name": "Lesion centres",
                "coordinateSystem": "LPS",
                "coordinateUnits": "mm",
                "locked": False,
                "labelFormat": "L%d",
                "lastUsedControlPointNumber": len(control_points),
                "controlPoints": control_points,
            }
        ],
    }


def _control_point(
    number: str, label: str, position: Sequence[float], axes: list[float], description: str = ""
) -> dict[str, Any]:
    return {
        "id": number,
        "label": label,
        "description": description,
        "associatedNodeID": "",
        "position": list(position),
        "orientation": axes,
        "selected": True,
        "locked": False,
        "visibility": True,
        "positionStatus": "defined",
    }


def _axes(info: ImageInfo) -> list[float]:
    """The image's direction cosines as 9 numbers, row by row; the columns are the axes. The third of 2D is z.

    Right-handed, as an ROI needs them: of left-handed images the third axis is reversed, with which a box looks the same.
    """
    axes = np.eye(3)
    axes[: info.dimension, : info.dimension] = np.reshape(info.direction, (info.dimension, info.dimension))
    if np.linalg.det(axes) < 0:
        axes[:, 2] *= -1
    return axes.ravel().tolist()


def _to_json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
