"""Who made a result: this software as equipment, the models as algorithms, when, and under which UIDs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from .. import __version__, dicom_header
from ..findings import Finding, Study
from .source import Original, uid_of

if TYPE_CHECKING:
    from pydicom import Dataset

MANUFACTURER = "BreastUSAI"
MODEL_NAME = "BreastUSAI"
SERIAL_NUMBER = "0"  # software has none; the attribute must be there (C.7.5.2)
DUMMY_DATE = "19000101"  # where a date must stand and was removed
_NUMBERS = {"seg": 1, "sr": 2, "report": 3}  # the last digit of the series' numbers
_DESCRIPTIONS = {
    "seg": "BreastUSAI lesions, research use only",
    "sr": "BreastUSAI measurements, research use only",
    "report": "BreastUSAI report, research use only",
}


@dataclass(frozen=True)
class Result:
    """The identity of one DICOM result.

    Attributes
    ----------
    series_uid, instance_uid : of one analysis always the same, so that an export that is repeated makes no doubles in an archive;
        another analysis (another time, model or version) has others.
    series_number, description : of the series.
    """

    series_uid: str
    instance_uid: str
    series_number: int
    description: str


def result(original: Original, study: Study, kind: str, *details: object, version: str = __version__) -> Result:
    """The identity of the result of one kind ("seg", "sr", "report").

    details : what else changes the result's content.
    version : of the software that writes it.
    """
    models = sorted(m["sha256"] for m in study.provenance.get("models", ()))
    identity = (kind, study.provenance.get("created", ""), version, *models, *details)
    number = int(dicom_header.number(original.header, "SeriesNumber") or 0)
    return Result(
        original.uid("series", *identity),
        original.uid("instance", *identity),
        (100 * number if 0 <= number < 10**7 else 0) + 90 + _NUMBERS[kind],
        _DESCRIPTIONS[kind],
    )


def frame_of(study: Study) -> str:
    """The frame of a cine that a study is about, from 1, as a detail of `result`; "" of other images."""
    frame = study.provenance.get("options", {}).get("frame")
    return "" if frame is None else str(frame)


def identification(identity: Result) -> dict[str, Any]:
    """What highdicom's classes take of a result's identity, and of the equipment that made it."""
    return {
        "series_instance_uid": identity.series_uid,
        "series_number": identity.series_number,
        "sop_instance_uid": identity.instance_uid,
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL_NAME,
        "software_versions": __version__,
        "device_serial_number": SERIAL_NUMBER,
    }


def device_uid() -> str:
    """The UID of this version of the software as an observer."""
    return uid_of("device", MODEL_NAME, __version__)


def made(study: Study) -> datetime | None:
    """When the analysis was made, in the time zone that the study says it in, so that an export has the same times wherever it is done; None
    where the study does not say (de-identified)."""
    try:
        when = datetime.fromisoformat(str(study.provenance.get("created")))
    except ValueError:
        return None
    return when if when.tzinfo is not None else when.replace(tzinfo=timezone.utc)


def _offset(original: Original) -> timezone | None:
    """The time zone that the original says its dates and times are in; None where it says none."""
    stated = re.fullmatch(r"([+-])(\d\d)([0-5]\d)", dicom_header.text(original.header, "TimezoneOffsetFromUTC"))
    if stated is None:
        return None
    offset = timedelta(hours=int(stated[2]), minutes=int(stated[3]))
    return timezone(-offset if stated[1] == "-" else offset) if offset < timedelta(days=1) else None


_TASKS = {"segment": ("segment", "segment-3d")}
"""Key of a finding's models -> tasks of the models that it may name, where these are not the key itself."""


def model_of(study: Study, finding: Finding | None, task: str) -> Mapping[str, Any] | None:
    """The record (id, version, sha256, task) of the model that did a task, None where none did. "segment" is that of volumes as well."""
    wanted = finding.models.get(task) if finding is not None else None
    for model in study.provenance.get("models", ()):
        if model.get("task") in _TASKS.get(task, (task,)) and wanted in (None, model.get("id")):
            return model
    return None


def judges_of(study: Study, finding: Finding) -> list[Mapping[str, Any]]:
    """The records of the models whose word a finding's malignancy is: of the graders, who are asked last, or the one before them."""
    named = [task for task in finding.models if task.startswith("grade-")]
    spoke = [task for task in named if f"malignancy_{task.removeprefix('grade-')}" in finding.evidence]
    # Earlier versions did not keep each grader's word; one that says nothing of malignancy leaves what others said.
    others = {finding.evidence.get(name) for name in ("malignancy_detect", "malignancy_segment_3d")}
    spoke = spoke or ([] if finding.malignancy in others else named)
    graders = [model for task in spoke if (model := model_of(study, finding, task)) is not None]
    if graders:
        return graders
    outlined = model_of(study, finding, "segment") if "segment" in finding.models else None
    said = finding.malignancy != finding.evidence.get("malignancy_detect")
    if outlined is not None and outlined["task"] == "segment-3d" and (said or "detect" not in finding.models):
        return [outlined]
    found = (model_of(study, finding, task) for task in ("lesion-classifier", "detect") if task in finding.models)
    return [model for model in found if model is not None][:1]


def algorithm(model: Mapping[str, Any] | None) -> tuple[str, str, dict[str, str]]:
    """Name, version and parameters of a model as an algorithm; of the software itself where no model is known."""
    if model is None:
        return MODEL_NAME, __version__, {}
    name = f"{MODEL_NAME} {model['id']}"
    return name[:64], str(model["version"])[:64], {"SHA-256": str(model["sha256"])}


# What says that the original's header was de-identified (PS3.15 E.1.1).
_DEIDENTIFIED = ("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence")


def finish(dataset: Dataset, original: Original, study: Study, identity: Result) -> Dataset:
    """What all results have in common: the series' description and the times of the analysis."""
    when, zone = made(study), _offset(original)
    dataset.SeriesDescription = identity.description
    if zone is not None and when is not None:
        # It is of all times in the object, those of the original's study among them: of an original that says none, none can be said.
        when, dataset.TimezoneOffsetFromUTC = when.astimezone(zone), original.header.TimezoneOffsetFromUTC
    # Content Date must have a value; the profile's dummy stands where the time was removed.
    dataset.ContentDate, dataset.ContentTime = (DUMMY_DATE, "000000") if when is None else _date_and_time(when)
    for name in ("Series", "InstanceCreation"):
        for part, value in zip(("Date", "Time"), (dataset.ContentDate, dataset.ContentTime), strict=True):
            if when is not None:
                setattr(dataset, f"{name}{part}", value)
            elif f"{name}{part}" in dataset:
                delattr(dataset, f"{name}{part}")
    for equipment in dataset.get("ContributingEquipmentSequence") or ():
        if "ContributionDateTime" in equipment:
            exactly = "" if when is None else when.strftime("%z")[:5]
            equipment.ContributionDateTime = f"{dataset.ContentDate}{dataset.ContentTime}{exactly}"
    for keyword in _DEIDENTIFIED:
        if keyword in original.header:
            setattr(dataset, keyword, original.header.get(keyword))
    if when is None:
        dataset.LongitudinalTemporalInformationModified = "REMOVED"
    return dataset


def made_at(study: Study, original: Original) -> tuple[tuple[str, str], ...]:
    """The Content Dates and Times that a study's results may have: as they are written now, and in the time zone of this machine, as
    versions before wrote them. Empty where it does not say when it was made."""
    when = made(study)
    return () if when is None else tuple(_date_and_time(w) for w in (when.astimezone(_offset(original) or when.tzinfo), when.astimezone()))


def _date_and_time(when: datetime) -> tuple[str, str]:
    return when.strftime("%Y%m%d"), when.strftime("%H%M%S")
