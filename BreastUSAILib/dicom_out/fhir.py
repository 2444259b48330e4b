"""The findings of a study as FHIR: a Bundle with a DiagnosticReport, an Observation a finding, and the Device.

R4 and R5 differ here in two names: DiagnosticReport.imagingStudy became study, Device.deviceName.name became name.value.
"""

from __future__ import annotations

import re
import uuid
from typing import Any

from .. import RESEARCH_USE, __version__
from ..errors import UsageError
from ..findings import Finding, Study
from ..terminology import BREAST, MASS, Code
from . import FHIR_VERSIONS, codes
from .equipment import MANUFACTURER, algorithm, device_uid, made, model_of
from .source import Original, as_written, uid_of

_SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "UCUM": "http://unitsofmeasure.org",
    "IBSI": "urn:oid:1.2.840.10008.2.16.13",
    codes.SCHEME: f"urn:oid:{uid_of('coding scheme', codes.SCHEME)}",
}
# FHIR has no agreed name of the scheme BI; SNOMED CT knows category 4 as a whole, and the text says which part of it.
_CATEGORY_4 = Code("SCT", "397144001", "4 - Suspicious")


def bundle(study: Study, original: Original | None, version: str = "R4") -> dict[str, Any]:
    """The study as a FHIR Bundle of the type "collection", JSON-serialisable.

    Parameters
    ----------
    study : what was found.
    original : the DICOM original, from which the patient and the imaging study are; None: the report has no subject.
    version : "R4" or "R5".

    Raises
    ------
    UsageError : another version.
    """
    if version not in FHIR_VERSIONS:
        raise UsageError(f"FHIR {version} is not written; choose one of {', '.join(FHIR_VERSIONS)}.")
    device = _device(version)
    observations = [_observation(study, original, finding, device["id"]) for finding in study.findings]
    report = _report(study, original, observations, version)
    return {
        "resourceType": "Bundle",
        "type": "collection",
        **_instant("timestamp", study),
        "entry": [{"fullUrl": f"urn:uuid:{r['id']}", "resource": r} for r in (report, *observations, device)],
    }


def _instant(name: str, study: Study) -> dict[str, str]:
    when = made(study)
    return {} if when is None else {name: when.isoformat(timespec="seconds")}


def _id(*parts: object) -> str:
    return str(uuid.UUID(int=int(uid_of(*parts).removeprefix("2.25."))))


def _key(study: Study, original: Original | None) -> str:
    return str(original.header.SOPInstanceUID) if original is not None else study.image.path


def _coding(code: Code) -> dict[str, str]:
    return {"system": _SYSTEMS[code.scheme], "code": code.value, "display": code.meaning}


def _concept(code: Code) -> dict[str, Any]:
    return {"coding": [_coding(code)], "text": code.meaning}


def _subject(original: Original | None) -> dict[str, Any]:
    """Patient, date and imaging study, as far as the original says them."""
    if original is None:
        return {}
    header = original.header
    found: dict[str, Any] = {}
    # A name may be written several times, in Latin letters, ideographs and sounds (PS3.5, 6.2.1.2): the first that is there.
    names = (name.strip(" ^") for name in str(header.PatientName).split("="))
    name, patient = next(filter(None, names), ""), as_written(header, "PatientID").strip()
    subject = {
        **({"identifier": {"value": patient}} if patient else {}),
        **({"display": " ".join(p for p in reversed(name.split("^")[:2]) if p)} if name else {}),
    }
    if subject:
        found["subject"] = {"type": "Patient", **subject}
    date = re.fullmatch(r"(\d{4})(\d{2})(\d{2})", str(header.StudyDate))
    if date:
        found["effectiveDateTime"] = "-".join(date.groups())
    return found


def _imaging_study(original: Original | None) -> list[dict[str, Any]]:
    if original is None:
        return []
    uid = f"urn:oid:{original.header.StudyInstanceUID}"
    return [{"type": "ImagingStudy", "identifier": {"system": "urn:dicom:uid", "value": uid}}]


def _device(version: str) -> dict[str, Any]:
    name = {"name": MANUFACTURER, "type": "user-friendly-name"}
    names = {"deviceName": [name]} if version == "R4" else {"name": [{"value": MANUFACTURER, "type": name["type"]}]}
    return {
        "resourceType": "Device",
        "id": _id("fhir device", __version__),
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{device_uid()}"}],
        "manufacturer": MANUFACTURER,
        **names,
        "version": [{"value": __version__}],
        "note": [{"text": RESEARCH_USE}],
    }


def _report(
    study: Study, original: Original | None, observations: list[dict[str, Any]], version: str
) -> dict[str, Any]:
    images = _imaging_study(original)
    return {
        "resourceType": "DiagnosticReport",
        "id": _id("fhir report", _key(study, original), study.provenance.get("created")),
        "status": "preliminary",  # no person has looked at it
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/v2-0074",
                        "code": "RUS",
                        "display": "Radiology ultrasound",
                    }
                ]
            }
        ],
        "code": _concept(codes.ULTRASOUND_OF_BREAST),
        **_subject(original),
        **_instant("issued", study),
        **({("imagingStudy" if version == "R4" else "study"): images} if images else {}),
        **({"result": [{"reference": f"urn:uuid:{o['id']}"} for o in observations]} if observations else {}),
        "conclusion": f"{study.summary} {RESEARCH_USE}",
    }


def _observation(study: Study, original: Original | None, finding: Finding, device: str) -> dict[str, Any]:
    key = _key(study, original)
    tracking = original.tracking_uid(finding.id) if original is not None else uid_of(key, "tracking", finding.id)
    name, version, _ = algorithm(
        next((m for t in ("segment", "detect") if t in finding.models and (m := model_of(study, finding, t))), None)
    )
    side = original.laterality if original is not None else None
    site = _concept(BREAST)
    if side is not None:
        site["text"] = f"{side[1]} breast"
    images = _imaging_study(original)
    return {
        "resourceType": "Observation",
        "id": _id("fhir observation", key, study.provenance.get("created"), finding.id),
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{tracking}"}],
        "status": "preliminary",
        "category": [
            {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "imaging"}]}
        ],
        "code": {**_concept(MASS), "text": f"Lesion {finding.id}"},
        **_subject(original),
        "bodySite": site,
        "method": {"text": f"{name} {version}"},
        "device": {"reference": f"urn:uuid:{device}"},
        **({"derivedFrom": images} if images else {}),
        **({"note": [{"text": note} for note in finding.notes]} if finding.notes else {}),
        "component": _components(study, finding),
    }


def _quantity(concept: Code, value: float, unit: Code) -> dict[str, Any]:
    quantity = {"value": float(f"{value:.7g}"), "unit": unit.meaning, "system": _SYSTEMS["UCUM"], "code": unit.value}
    return {"code": _concept(concept), "valueQuantity": quantity}


def _components(study: Study, finding: Finding) -> list[dict[str, Any]]:
    found = [_quantity(*score) for score in codes.scores(finding)]
    if finding.malignancy is not None:
        found.append(_quantity(codes.PROBABILITY_OF_CANCER, 100 * finding.malignancy, codes.PERCENT))
    category = codes.assessment(finding.birads)
    if category is not None:
        code = codes.BIRADS[category]
        value = {"coding": [_coding(code if code.scheme == "SCT" else _CATEGORY_4)], "text": f"BI-RADS {code.meaning}"}
        found.append({"code": _concept(codes.ASSESSMENT_CATEGORY), "valueCodeableConcept": value})
    found += [
        {"code": _concept(n), "valueCodeableConcept": _concept(v)} for n, v in codes.descriptors(finding.measurements)
    ]
    # Width and the like are those of the box where both were measured: they are in the body.
    sides = codes.box_extents(study, finding)
    names = {code for code, _, _ in sides}
    figures = (figure for figure in codes.figures(study, finding) if figure[0] not in names)
    return found + [_quantity(*figure) for figure in (*sides, *figures)]
