"""The masks of a study as a DICOM Segmentation (SEG, PS3.3 A.51): one segment a finding.

The object's geometry is that of the study's grid, so that it lies over the volume wherever the volume's own reader puts it: each
frame has its Plane Position, also where the original has none (GE and Siemens ABUS, 2D images); the frame of
reference is then one of our own, as dcmqi makes one. Each frame names the frame of the original that it was drawn on; one
on a slice that was missing, and was interpolated, names none.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from .. import RESEARCH_USE, __version__
from ..errors import DataError
from ..findings import Finding, Study
from ..terminology import BREAST, CATEGORY, MASS, algorithm_type, lesion_color
from .codes import concept
from .equipment import MANUFACTURER, Result, algorithm, finish, identification, model_of, result
from .source import Original, mask_array

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom import Dataset

_SINGLE = "1.2.840.10008.5.1.4.1.1.6.1"  # Ultrasound Image Storage
_LEVELS = 255  # Maximum Fractional Value


def drawn(study: Study) -> tuple[Finding, ...]:
    """The findings that have a mask which is not empty, in their order."""
    return tuple(f for f in study.findings if f.mask is not None and mask_array(f.mask).any())


def segmentation(
    study: Study, original: Original, probabilities: Mapping[str, sitk.Image] | None = None
) -> Segmentation | None:
    """The SEG of a study; None where no finding has a mask (boxes alone, or nothing found), and of a volume whose pixels' size is not
    known, as its frames are told apart by their positions alone.

    Parameters
    ----------
    study : its masks lie on the grid of `original`.
    original : see `source.read_original`.
    probabilities : finding id -> probability of each voxel, float 0 to 1, on that grid: the segments are then FRACTIONAL,
        stored in steps of 1/255. None: BINARY.

    Raises
    ------
    DataError : a mask or a map is not on the grid; a map is missing or leaves 0 to 1.
    DependencyError : highdicom is not installed.
    """
    from .source import require_highdicom

    require_highdicom()
    from highdicom import PixelMeasuresSequence
    from highdicom.seg import Segmentation

    findings = drawn(study)
    physical = bool(original.frame_of_reference)
    if not findings or (original.grid.size[2] > 1 and not physical):
        return None
    masks = [_checked(f.id, mask_array(f.mask), original) for f in findings]
    if probabilities is not None:
        masks = [_levels(f.id, probabilities.get(f.id), original) for f in findings]
    # Only slices with a lesion become frames; between the first and the last, so that memory does not grow with the volume.
    used = np.flatnonzero(np.any([m.any(axis=(1, 2)) for m in masks], axis=0))
    slices = range(int(used[0]), int(used[-1]) + 1)
    stack = _stack([m[slices.start : slices.stop] for m in masks])
    stand_ins = [_stand_in(original, k) for k in slices]
    x, y, z = original.grid.spacing
    made_as = result(original, study, "seg", *_details(original, probabilities is not None, masks))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = Segmentation(
            source_images=stand_ins,
            pixel_array=stack,
            segmentation_type="BINARY" if probabilities is None else "FRACTIONAL",
            segment_descriptions=[_description(study, original, f, n) for n, f in enumerate(findings, 1)],
            **identification(made_as),
            fractional_type="PROBABILITY",
            max_fractional_value=_LEVELS,
            content_label="LESIONS",
            content_description=RESEARCH_USE.partition(".")[0],
            pixel_measures=PixelMeasuresSequence((y, x), z, z) if physical else None,
            omit_empty_frames=True,
        )
    organization = original.uid("dimensions", made_as.instance_uid)
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    if not physical:
        dataset.PatientOrientation = ""
    _refer_to(dataset, original, {s.SOPInstanceUID: k for s, k in zip(stand_ins, slices, strict=True)})
    return finish(dataset, original, study, made_as)


def identity(study: Study, original: Original, version: str = __version__) -> Result:
    """The UIDs of the BINARY segmentation that a version of the software writes."""
    masks = [mask_array(f.mask) for f in drawn(study)]
    return result(original, study, "seg", *_details(original, False, masks), version=version)


def segment_number(study: Study, finding: Finding) -> int | None:
    """The segment that a finding is in `segmentation`, None where it has none."""
    ids = [f.id for f in drawn(study)]
    return ids.index(finding.id) + 1 if finding.id in ids else None


def _checked(name: str, array: np.ndarray, original: Original) -> np.ndarray:
    if array.shape != original.grid.size[::-1]:
        raise DataError(
            f"{name} is drawn on {array.shape[::-1]} voxels and the image has {original.grid.size}; export the result anew."
        )
    return array


def _levels(name: str, image: sitk.Image | None, original: Original) -> np.ndarray:
    if image is None:
        raise DataError(f"there is no map of probabilities for {name}; give one for each finding with a mask, or none.")
    array = sitk.GetArrayFromImage(image).astype(np.float32)
    array = _checked(name, array if array.ndim == 3 else array[None], original)
    if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
        raise DataError(f"the map of probabilities for {name} leaves the range 0 to 1.")
    return array


def _stack(masks: list[np.ndarray]) -> np.ndarray:
    """Masks as highdicom takes them: segment numbers (slices, rows, columns) where they do not overlap, which is a byte a voxel
    for all of them; else (slices, rows, columns, segments), as maps of probabilities always."""
    plain = all(m.dtype == bool for m in masks)
    if plain and len(masks) < 256:
        labels = np.zeros(masks[0].shape, np.uint8)
        for number, mask in enumerate(masks, 1):
            if labels[mask].any():
                break
            labels[mask] = number
        else:
            return labels
    return np.stack(masks, axis=-1)


def _details(original: Original, fractional: bool, masks: list[np.ndarray]) -> tuple[object, ...]:
    """What changes a segmentation's content beside the analysis (`equipment.result`)."""
    return (fractional, *_shape_of(masks), *(("own frame of reference",) if original.has_unused_place else ()))


def _shape_of(masks: list[np.ndarray]) -> tuple[str, ...]:
    """What tells two sets of masks apart: a digest."""
    import hashlib

    return tuple(hashlib.sha256(np.packbits(m > 0).tobytes()).hexdigest() for m in masks)


def _stand_in(original: Original, k: int) -> Dataset:
    """The k-th slice as a single image on the study's grid, from which highdicom takes patient, study and geometry.

    highdicom knows multi-frame originals with standard functional groups only, which ABUS scanners do not write; single
    images with positions it always knows. `_refer_to` then puts the true references in.
    """
    from pydicom import Dataset

    header = original.header
    ds = Dataset()
    for element in header:
        # Patient, study, and what says that the pixels are damaged; not the image's own modules.
        if element.tag.group in (0x0008, 0x0010, 0x0032, 0x0038, 0x0040) or element.keyword in (
            "StudyInstanceUID",
            "StudyID",
        ):
            ds.add(deepcopy(element))
    for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if keyword in header:
            setattr(ds, keyword, header.get(keyword))
    columns, rows, _ = original.grid.size
    ds.SOPClassUID = _SINGLE
    ds.SOPInstanceUID = original.uid("slice", k)
    ds.SeriesInstanceUID = header.SeriesInstanceUID
    ds.Rows, ds.Columns = rows, columns
    ds.Modality = header.Modality
    if original.frame_of_reference:
        x, y, z = original.grid.spacing
        ds.FrameOfReferenceUID = original.frame_of_reference
        ds.PositionReferenceIndicator = header.get("PositionReferenceIndicator") or ""
        ds.ImagePositionPatient = [_number(v) for v in original.position((0, 0, k))]
        ds.ImageOrientationPatient = [_number(v) for v in original.axes()[:, :2].T.ravel()]
        ds.PixelSpacing, ds.SliceThickness, ds.SpacingBetweenSlices = [_number(y), _number(x)], _number(z), _number(z)
    return ds


def _number(value: float):
    """A decimal string of at most 16 characters (DS)."""
    from pydicom.valuerep import DSfloat

    return DSfloat(float(value), auto_format=True)


def _refer_to(dataset: Dataset, original: Original, slices: Mapping[str, int]) -> None:
    """Let a segmentation of stand-ins refer to the original's files and frames."""

    def true(item: Dataset) -> None:
        if item.ReferencedSOPInstanceUID not in slices:  # one item may stand in several places
            return
        frame = original.frames[slices[item.ReferencedSOPInstanceUID]]
        header = original.headers[frame.file]
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
        if frame.number is not None:
            item.ReferencedFrameNumber = frame.number

    # An interpolated slice is of no frame; one named all the same would be taken for it. The sequence may be empty (type 2).
    missing = {stand_in for stand_in, k in slices.items() if original.frames[k] is None}
    for groups in (*dataset.SharedFunctionalGroupsSequence, *dataset.PerFrameFunctionalGroupsSequence):
        for derivation in groups.get("DerivationImageSequence") or ():
            for source in derivation.SourceImageSequence:
                if source.ReferencedSOPInstanceUID in missing:
                    groups.DerivationImageSequence = []
                else:
                    true(source)
    for series in dataset.ReferencedSeriesSequence:
        series.ReferencedInstanceSequence = _files(original, slices.values())
    if "SourceImageSequence" in dataset:
        dataset.SourceImageSequence = _files(original, slices.values())


def _files(original: Original, slices: Iterable[int]) -> list[Dataset]:
    """References to the files that some slices are from, each once, whichever of its frames was meant."""
    from pydicom import Dataset

    found = []
    for file in dict.fromkeys(frame.file for frame in original.sources(slices)):
        item, header = Dataset(), original.headers[file]
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
        found.append(item)
    return found


def _description(study: Study, original: Original, finding: Finding, number: int) -> SegmentDescription:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom import Dataset
    from pydicom.sr.codedict import codes

    name, version, parameters = algorithm(model_of(study, finding, "segment"))
    color = [round(255 * c) for c in lesion_color(study.findings.index(finding))]
    description = SegmentDescription(
        segment_number=number,
        segment_label=finding.id[:64],
        segmented_property_category=concept(CATEGORY),
        segmented_property_type=concept(MASS),
        algorithm_type=algorithm_type(finding.outline_edited),
        algorithm_identification=AlgorithmIdentificationSequence(
            name, codes.cid7162.ArtificialIntelligence, version, source=MANUFACTURER, parameters=parameters or None
        ),
        tracking_uid=original.tracking_uid(finding.id),
        tracking_id=finding.id[:64],
        anatomic_regions=[concept(BREAST)],
        display_color=CIELabColor.from_rgb(*color),
    )
    if original.laterality is not None:
        value, meaning = original.laterality
        modifier = Dataset()
        modifier.CodeValue, modifier.CodingSchemeDesignator, modifier.CodeMeaning = value, "SCT", meaning
        description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [modifier]
    return description
