"""What the stand-in for grading models says of findings."""

from __future__ import annotations

from dataclasses import replace

import SimpleITK as sitk
from standin_findings import worked_up

from BreastUSAILib.findings import ImageInfo, Study
from BreastUSAILib.same_pixels import findings_on


def graded(loaded, given: Study | None, nothing: bool = False) -> Study:
    """The findings of a study, or what `standin_findings.worked_up` finds, with grades: each a little more suspicious than the
    one before, the second not surely so; and a map where the image is dark."""
    study = worked_up(loaded, nothing=nothing)
    if given is not None:
        info = ImageInfo.of(loaded.image, str(loaded.path), loaded.spacing_known)
        study = Study(info, findings_on(given, loaded.image), provenance={"notes": []})
    made = []
    for number, finding in enumerate(study.findings):
        evidence = {"malignancy_threshold": 0.3, "not_sure": float(number == 1), "shape_oval": 0.8, "shape_round": 0.2}
        first = {"3": 0.5, "4A": 0.2, "4B": 0.1, "4C": 0.1, "5": 0.1}
        birads = first if number == 0 else {"3": 0.1, "4C": 0.3, "5": 0.6}
        said = {"malignancy": 0.2 + 0.3 * number, "solid_nodule": 0.75, "birads": birads, "evidence": evidence}
        notes = ("Not sure: the systems disagree.",) if number == 1 else ()
        made.append(replace(finding, **said, models={**finding.models, "grade-mtnet": "stand-in"}, notes=notes))
    dark = loaded.image < 0.5 * float(sitk.GetArrayViewFromImage(loaded.image).mean())
    return replace(study, findings=tuple(made), activation=sitk.Cast(dark, sitk.sitkUInt8) * 90)
