"""Whether a result that was written earlier is of the analysis at hand, so that an export of other kinds may leave it where it is.

What DICOM results are called follows from original, analysis and content (`equipment.result`): a file that has the UID that it would be
given now is of this analysis. The version that wrote it stands in it. So is one that refers to the original and has the time of the
analysis: what a run writes may have voxels that its files do not keep (of outlines that overlap), and so another UID.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..findings import Study
from ..native import quiet
from . import FHIR, REPORT, SEG, SR
from .equipment import made_at

if TYPE_CHECKING:
    from pydicom import Dataset

    from .source import Original


def of_this_analysis(file: Path, study: Study, original: Original | None) -> bool | None:
    """Whether a DICOM or FHIR result is of this study; what cannot be read is not. None where the original is not at hand, from which
    the UIDs are made."""
    if file.name == FHIR:
        return _same_bundle(file, study, original)
    if original is None:
        return None
    import pydicom

    try:
        with warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")
            there = pydicom.dcmread(file, stop_before_pixels=True)
            uid, version = str(there.SOPInstanceUID), str(there.SoftwareVersions)
            if str(there.get("PatientID") or "") != str(original.header.PatientID or ""):
                return False  # the original was given another one since
            meant = _refers_to(there, original) and (there.ContentDate, there.ContentTime) in made_at(study, original)
            meant = meant or (file.name == SR and _is_report_of_before(there, study, original))
    except Exception:  # a damaged file makes pydicom raise nearly anything
        return False
    return meant or uid in _uids(file.name, study, original, version)


def _refers_to(there: Dataset, original: Original) -> bool:
    named = {str(e.value) for e in there.iterall() if e.keyword == "ReferencedSOPInstanceUID"}
    return any(str(header.SOPInstanceUID) in named for header in original.headers)


def _uids(name: str, study: Study, original: Original, version: str) -> set[str]:
    """The instance UIDs that a version of the software gives to a result of this analysis."""
    from . import pdf, seg, sr

    if name == REPORT:
        return {pdf.identity(study, original, version).instance_uid}
    outlines = seg.identity(study, original, version=version)
    if name == SEG:
        return {outlines.instance_uid}
    # The Structured Report: written beside a segmentation, or without.
    return {sr.identity(study, original, uid, version).instance_uid for uid in ("", outlines.instance_uid)}


def _is_report_of_before(there: Dataset, study: Study, original: Original) -> bool:
    """Whether a Structured Report has a UID of versions before, which content did not change, and the figures of this study."""
    from . import seg, sr

    version = str(there.SoftwareVersions)
    beside = ("", seg.identity(study, original, version=version).instance_uid)
    if str(there.SOPInstanceUID) not in {sr.identity_before(study, original, uid, version).instance_uid for uid in beside}:
        return False
    # Beside a segmentation it has more groups.
    return _figures(sr.report(study, original)) <= _figures(there)


def _figures(report: Dataset) -> set[str]:
    return {str(e.value) for e in report.iterall() if e.keyword in ("NumericValue", "ReferencedFrameNumber")}


def _same_bundle(file: Path, study: Study, original: Original | None) -> bool | None:
    from .fhir import bundle

    try:
        there = json.loads(file.read_text(encoding="utf-8"))
        version = "R5" if any("name" in r for r in _resources(there, "Device")) else "R4"
        reports = _resources(there, "DiagnosticReport")
        ids, content = _ids(there), _content(there)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    # It may have been written when the original was not at hand, which gives it other ids.
    for now in (bundle(study, known, version) for known in (original, None)):
        # Ids are made from the time of the analysis, which de-identified studies do not say: there the content decides.
        if ids == _ids(now) and (study.provenance.get("created") or content == _content(now)):
            return True
    return None if original is None and any({"subject", "imagingStudy", "study"} & r.keys() for r in reports) else False


def _resources(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def _ids(bundle: dict[str, Any]) -> list[Any]:
    """What a report and its observations are called, and the patient's identifier."""
    both = (r for kind in ("DiagnosticReport", "Observation") for r in _resources(bundle, kind))
    return [(r.get("id", ""), r.get("subject", {}).get("identifier")) for r in both]


def _content(bundle: dict[str, Any]) -> list[Any]:
    return [r.get("conclusion", r.get("component")) for kind in ("DiagnosticReport", "Observation") for r in _resources(bundle, kind)]
