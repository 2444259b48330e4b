"""The findings of a study as a DICOM Structured Report: Measurement Report, TID 1500 (PS3.16).

One measurement group a finding: planar (TID 1410) in 2D, volumetric (TID 1411) in 3D. Its region is the segment of the
SEG where one is written, else the outline of the mask (2D), else the box: a polyline on the image, six faces in the
patient's frame of reference, or a rectangle on each frame where the original has no frame of reference. Of a volume of a curved
transducer, whose grid is not where it was in the body, the box's centre and faces are given in the body as well (SCOORD3D).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..dicom_header import group
from ..findings import Finding, Study
from ..pictures import polygons
from ..terminology import BREAST, CATEGORY, MASS, Code
from . import codes
from .equipment import (
    MANUFACTURER,
    MODEL_NAME,
    SERIAL_NUMBER,
    Result,
    algorithm,
    device_uid,
    finish,
    frame_of,
    identification,
    judges_of,
    model_of,
    result,
)
from .seg import segment_number
from .source import Frame, Original, mask_array, require_highdicom

if TYPE_CHECKING:
    from highdicom.sr import AlgorithmIdentification, ImageRegion, Measurement, QualitativeEvaluation
    from highdicom.sr.templates import Template
    from pydicom import Dataset

# The corners of a box, as steps of half its size along the image's axes, and its six faces as closed rings of them.
_CORNERS = np.array([(x, y, z) for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)], float)
# CID 219, what a region is of the finding.
OUTLINE = Code("DCM", "111041", "Outline")
BOUNDED_BY = Code("SCT", "75958009", "Bounded by")
_ARC_POINTS = 9  # of the arc across a box in the body: its chords are shorter by less than 0.01 %
_FACES = ((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5))


def report(study: Study, original: Original, segmentation: Dataset | None = None) -> Dataset:
    """The SR of a study; also of one without findings, which says that none was found.

    Parameters
    ----------
    study : its boxes and masks lie on the grid of `original`.
    original : see `source.read_original`.
    segmentation : the SEG (`seg.segmentation`) that is written beside it, or None.

    Raises
    ------
    DependencyError : highdicom is not installed.
    """
    require_highdicom()
    from highdicom.sr import Comprehensive3DSR, ComprehensiveSR, MeasurementReport, ObservationContext, ObserverContext
    from highdicom.sr import DeviceObserverIdentifyingAttributes as Device
    from pydicom.sr.codedict import codes as standard

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        groups = [g for f in study.findings for g in _groups(study, original, f, segmentation)]
        device = Device(
            uid=device_uid(),
            name=MODEL_NAME,
            manufacturer_name=MANUFACTURER,
            model_name=f"{MODEL_NAME} {__version__}",
            serial_number=SERIAL_NUMBER,
        )
        content = MeasurementReport(
            observation_context=ObservationContext(
                observer_device_context=ObserverContext(standard.DCM.Device, device)
            ),
            procedure_reported=codes.concept(codes.ULTRASOUND_OF_BREAST),
            imaging_measurements=groups or [_nothing(study, original)],
            title=standard.DCM.ImagingMeasurementReport,
        )
        spatial = "SCOORD3D" in {item.ValueType for item in _items(content[0])}
        made_as = identity(study, original, segmentation.SOPInstanceUID if segmentation is not None else "")
        evidence = [*original.headers, *([segmentation] if segmentation is not None else [])]
        dataset = (Comprehensive3DSR if spatial else ComprehensiveSR)(
            evidence=evidence,
            content=content[0],
            **identification(made_as),
            is_complete=True,
            is_final=False,
            is_verified=False,
        )
    dataset.CodingSchemeIdentificationSequence = _own_scheme()
    return finish(dataset, original, study, made_as)


def identity(study: Study, original: Original, segmentation: str = "", version: str = __version__) -> Result:
    """The UIDs of the report that a version of the software writes beside a SEG of this instance UID, "" without one."""
    content = [json.dumps(f.to_dict(), sort_keys=True) for f in study.findings]
    place = ["own frame of reference"] if original.has_unused_place else []
    return result(original, study, "sr", segmentation, frame_of(study), *content, *place, version=version)


def identity_before(study: Study, original: Original, segmentation: str, version: str) -> Result:
    """The UIDs that versions before gave to a report, whatever its content."""
    return result(original, study, "sr", segmentation, version=version)


def _items(item: Dataset) -> Iterator[Dataset]:
    yield item
    for child in item.get("ContentSequence") or ():
        yield from _items(child)


def _own_scheme() -> list[Dataset]:
    from pydicom import Dataset

    scheme = Dataset()
    scheme.CodingSchemeDesignator, scheme.CodingSchemeName = codes.SCHEME, codes.SCHEME_NAME
    scheme.CodingSchemeVersion, scheme.CodingSchemeResponsibleOrganization = __version__, MANUFACTURER
    return [scheme]


# ------------------------------------------------------------------------------------------------------------- groups


def _groups(study: Study, original: Original, finding: Finding, segmentation: Dataset | None) -> Iterator[Template]:
    """The groups of a finding: with all that is known of it, its region being the mask or else the box; where it is the mask,
    the box follows in a group of its own under the same tracking UID, as a group has one region."""
    number = segment_number(study, finding) if segmentation is not None else None
    flat = original.grid.size[2] == 1
    box = _box(original, finding)
    if number is not None:
        region, purpose = _segment(original, finding, segmentation, number, flat), None
    elif flat and finding.mask is not None and (outline := _outline(original, finding)) is not None:
        region, purpose = {"referenced_region": outline}, OUTLINE
    else:
        region, purpose = box, BOUNDED_BY
    sides = list(_sides(study, finding))
    measured = list(_measurements(study, finding))
    if region is box:  # the sides of the box, which are in the body, before those of the mask, which are on the grid
        names = {side.name for side in sides}
        measured = [*(m for m in measured if m.name not in names), *sides]
    evaluations = list(_evaluations(finding))
    yield _group(study, original, finding, region, purpose, measured, evaluations, _comments(study, finding))
    if region is not box:
        yield _group(study, original, finding, box, BOUNDED_BY, sides, [], [])


def _group(
    study: Study,
    original: Original,
    finding: Finding,
    region: dict,
    purpose: Code | None,
    measurements: list[Measurement],
    evaluations: list[QualitativeEvaluation],
    comments: list[str],
) -> Template:
    from highdicom.sr import PlanarROIMeasurementsAndQualitativeEvaluations as Planar
    from highdicom.sr import RelationshipTypeValues, TextContentItem, TrackingIdentifier
    from highdicom.sr import VolumetricROIMeasurementsAndQualitativeEvaluations as Volumetric

    template = (Planar if original.grid.size[2] == 1 else Volumetric)(
        tracking_identifier=TrackingIdentifier(original.tracking_uid(finding.id), finding.id),
        finding_type=codes.concept(MASS),
        finding_category=codes.concept(CATEGORY),
        finding_sites=[_site(original)],
        algorithm_id=_algorithm(study, finding, ("segment", "detect")),
        measurements=measurements,
        qualitative_evaluations=evaluations or None,
        geometric_purpose=None if purpose is None else codes.concept(purpose),
        **region,
    )
    # The templates are extensible (PS3.16): what else is known of the lesion follows.
    items = template[0].ContentSequence
    if purpose is BOUNDED_BY:
        items.extend(_in_the_body(study, original, finding))
    for text in comments:
        items.append(TextContentItem(codes.concept(codes.COMMENT), text, RelationshipTypeValues.CONTAINS))
    return template


def _comments(study: Study, finding: Finding) -> list[str]:
    """The notes on a finding, and what figures of a curved volume's grid are in the body."""
    notes = list(finding.notes)
    acquisition = study.image.acquisition
    if acquisition is not None and finding.measurements:
        scale = float(acquisition.lateral_scale(finding.box.center))
        notes.append(
            "Measured on the grid of a curved transducer's volume: in the body lateral lengths, areas across the scan lines and "
            f"volumes at the lesion's depth are {scale:.3f} times these."
        )
    return notes


def _nothing(study: Study, original: Original) -> Template:
    """The group of a study without findings (TID 1501): their number, which is 0."""
    from highdicom.sr import MeasurementsAndQualitativeEvaluations, TrackingIdentifier

    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(original.tracking_uid(""), "No lesion found"),
        finding_sites=[_site(original)],
        algorithm_id=_algorithm(study, None, ("segment", "detect")),
        measurements=[_measurement(codes.NUMBER_OF_LESIONS, 0.0, codes.NO_UNITS)],
    )


def _site(original: Original):
    from highdicom.sr import CodedConcept, FindingSite

    side = original.laterality
    return FindingSite(
        anatomic_location=codes.concept(BREAST),
        laterality=None if side is None else CodedConcept(side[0], "SCT", side[1]),
    )


def _algorithm(study: Study, finding: Finding | None, tasks: tuple[str, ...]) -> AlgorithmIdentification:
    models = (model_of(study, finding, task) for task in tasks if finding is None or task in finding.models)
    return _identified([m for m in models if m is not None][:1])


def _identified(models: Sequence[Mapping[str, Any]]) -> AlgorithmIdentification:
    """Models as one algorithm: names and versions side by side, each parameter with its model's name where there are several."""
    from highdicom.sr import AlgorithmIdentification

    known = [algorithm(model) for model in models] or [algorithm(None)]
    parameters = [
        f"{k}={v}" if len(known) == 1 else f"{name} {k}={v}" for name, _, more in known for k, v in more.items()
    ]
    return AlgorithmIdentification(
        name=" + ".join(name for name, _, _ in known),
        version=" + ".join(version for _, version, _ in known),
        parameters=parameters or None,
    )


def _measurement(concept: Code, value: float, unit: Code, **more) -> Measurement:
    from highdicom.sr import Measurement

    # NUM holds 16 characters; more than seven digits no measurement has.
    return Measurement(name=codes.concept(concept), value=float(f"{value:.7g}"), unit=codes.concept(unit), **more)


def _measurements(study: Study, finding: Finding) -> Iterator[Measurement]:
    """Probabilities in percent, then what was measured; what was not is left out."""
    for score in codes.scores(finding):
        yield _measurement(*score)
    if finding.malignancy is not None:
        judges = _identified(judges_of(study, finding))
        yield _measurement(codes.PROBABILITY_OF_CANCER, 100 * finding.malignancy, codes.PERCENT, algorithm_id=judges)
    for figure in codes.figures(study, finding):
        yield _measurement(*figure)


def _sides(study: Study, finding: Finding) -> Iterator[Measurement]:
    for figure in codes.box_extents(study, finding):
        yield _measurement(*figure)


def _evaluations(finding: Finding) -> Iterator[QualitativeEvaluation]:
    from highdicom.sr import QualitativeEvaluation

    category = codes.assessment(finding.birads)
    pairs = [] if category is None else [(codes.ASSESSMENT_CATEGORY, codes.BIRADS[category])]
    for name, value in [*pairs, *codes.descriptors(finding.measurements)]:
        yield QualitativeEvaluation(codes.concept(name), codes.concept(value))


# ------------------------------------------------------------------------------------------------------------ regions


def _index_box(original: Original, finding: Finding) -> tuple[np.ndarray, np.ndarray]:
    """First and last corner (x, y, z) of a box, in pixels from the outer corner of the first one, within the image."""
    centre = original.index(finding.box.center) + 0.5
    half = np.array(finding.box.size) / original.grid.spacing / 2
    size = np.array(original.grid.size, float)
    return np.clip(centre - half, 0, size), np.clip(centre + half, 0, size)


def _rectangle(original: Original, finding: Finding) -> np.ndarray:
    """The box on its slices: a closed polyline (5, 2) of (column, row), (0, 0) the outer corner of the first pixel (C.18.6)."""
    (x0, y0, _), (x1, y1, _) = _index_box(original, finding)
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)])


def _slices(original: Original, finding: Finding) -> range:
    """The slices of the grid that a box meets, at least one."""
    low, high = (corner[2] for corner in _index_box(original, finding))
    last = original.grid.size[2] - 1
    first = int(np.clip(np.floor(low + 1e-6), 0, last))
    return range(first, int(np.clip(np.ceil(high - 1e-6), first + 1, last + 1)))


def _source(original: Original, frame: Frame, kind):
    """A reference to a frame of the original; kind: the class of the content item."""
    header = original.headers[frame.file]
    return kind(header.SOPClassUID, header.SOPInstanceUID, None if frame.number is None else [frame.number])


def _sources(original: Original, slices: Iterable[int]):
    """References to the originals of some slices: each file once, with its frames."""
    from highdicom.sr import SourceImageForSegmentation

    files: dict[int, list[int]] = {}
    for frame in original.sources(slices):
        files.setdefault(frame.file, []).extend([] if frame.number is None else [frame.number])
    headers = original.headers
    return [
        SourceImageForSegmentation(headers[f].SOPClassUID, headers[f].SOPInstanceUID, numbers or None)
        for f, numbers in files.items()
    ]


def _segment(original: Original, finding: Finding, segmentation: Dataset, number: int, flat: bool) -> dict:
    from highdicom.sr import ReferencedSegment, ReferencedSegmentationFrame

    frames = [
        n
        for n in range(1, int(segmentation.NumberOfFrames) + 1)
        if group(segmentation, n - 1, "SegmentIdentificationSequence").ReferencedSegmentNumber == number
    ]
    uids = segmentation.SOPClassUID, segmentation.SOPInstanceUID
    if flat:
        source = _sources(original, range(1))[0]
        region = ReferencedSegmentationFrame(*uids, frames[0], number, source)
        # The frame says which segment it is of; both together are not allowed (PS3.3 table 10-3).
        del region[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
        return {"referenced_segment": region}
    drawn = set()
    for n in frames:
        derivation = group(segmentation, n - 1, "DerivationImageSequence")
        if derivation is not None:  # of an interpolated slice there is none
            item = derivation.SourceImageSequence[0]
            drawn.add((item.ReferencedSOPInstanceUID, item.get("ReferencedFrameNumber")))
    slices = [
        k
        for k, frame in enumerate(original.frames)
        if frame is not None and (original.headers[frame.file].SOPInstanceUID, frame.number) in drawn
    ]
    sources = _sources(original, slices or _slices(original, finding))
    return {"referenced_segment": ReferencedSegment(*uids, number, source_images=sources)}


def _polyline(original: Original, points: np.ndarray, frame: Frame) -> ImageRegion:
    from highdicom.sr import GraphicTypeValues, ImageRegion, SourceImageForRegion

    columns, rows, _ = original.grid.size
    points = np.clip(points, 0, (columns, rows))
    return ImageRegion(GraphicTypeValues.POLYLINE, points, _source(original, frame, SourceImageForRegion))


def _outline(original: Original, finding: Finding) -> ImageRegion | None:
    """The largest outline of the mask of a 2D finding; None of an empty mask."""
    rings = polygons(mask_array(finding.mask)[0])
    return _polyline(original, max(rings, key=lambda ring: abs(_area(ring))), original.frames[0]) if rings else None


def _area(ring: np.ndarray) -> float:
    x, y = ring[:-1].T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))


def _in_the_body(study: Study, original: Original, finding: Finding) -> Iterator[Dataset]:
    """The box of a finding in a curved volume, in the body: its centre, and its first and its last face along the track, which are
    parts of rings. Nothing where the grid is in the body itself."""
    from highdicom.sr import GraphicTypeValues3D, RelationshipTypeValues, Scoord3DContentItem

    acquisition = study.image.acquisition
    if acquisition is None:
        return

    def item(name: Code, kind: GraphicTypeValues3D, points: np.ndarray) -> Dataset:
        contains = RelationshipTypeValues.CONTAINS
        return Scoord3DContentItem(codes.concept(name), kind, points, original.body, relationship_type=contains)

    yield item(codes.CENTER, GraphicTypeValues3D.POINT, np.array([study.physical_box(finding).center]))
    centre, half = np.array(finding.box.center), np.array(finding.box.size) / 2
    across = np.linspace(-1, 1, _ARC_POINTS)
    ring = [*((x, -1) for x in across), *((x, 1) for x in across[::-1])]
    for z in (-1, 1):
        face = centre + half * np.array([(x, y, z) for x, y in [*ring, ring[0]]])
        yield item(BOUNDED_BY, GraphicTypeValues3D.POLYGON, acquisition.to_physical(face))


def _corners(original: Original, finding: Finding) -> np.ndarray:
    """The eight corners of a box, (8, 3), LPS mm."""
    return np.array(finding.box.center) + (_CORNERS * np.array(finding.box.size) / 2) @ original.axes().T


def _box(original: Original, finding: Finding) -> dict:
    from highdicom.sr import GraphicTypeValues3D, VolumeSurface

    points = _rectangle(original, finding)
    if original.grid.size[2] == 1:
        return {"referenced_region": _polyline(original, points, original.frames[0])}
    slices = _slices(original, finding)
    if original.own_frame or not original.frame_of_reference:
        # A frame of reference that only we know, or none, says nothing to a reader; rectangles on the original's frames do.
        frames = [frame for k in slices if (frame := original.frames[k]) is not None]
        return {"referenced_regions": [_polyline(original, points, f) for f in frames or original.sources(slices)]}
    corners = _corners(original, finding)
    faces = [corners[[*face, face[0]]] for face in _FACES]
    surface = VolumeSurface(
        GraphicTypeValues3D.POLYGON, faces, original.frame_of_reference, source_images=_sources(original, slices)
    )
    return {"referenced_volume_surface": surface}
