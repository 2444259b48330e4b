"""What the stand-in for ``breastusai heatmap`` finds: the findings that it is given as hot spots, and a map that is warm in the dark."""

from dataclasses import replace

import SimpleITK as sitk

AWAY_MM = (0.5, -0.25, 1.0)  # from the middle of a box to its hottest place


def heated(study, dark):
    """A study's findings with peaks, and a map of 1.5 where `dark` is not 0."""
    findings = []
    for number, finding in enumerate(study.findings, 1):
        peak = {f"peak_{a}": c + d for a, c, d in zip("xyz", finding.box.center, AWAY_MM, strict=True)}
        findings.append(replace(finding, id=f"H{number}", malignancy=None, evidence={"heat_peak": 1.5, **peak}))
    return replace(study, findings=tuple(findings), heatmap=sitk.Cast(dark, sitk.sitkFloat32) * 1.5)
