"""What the stand-in for the models finds: what is darker than half the mean, the largest piece first in volumes."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from BreastUSAILib.findings import Finding, ImageInfo, Study
from BreastUSAILib.image import as_2d, box_of_mask, from_2d

BIRADS = {"3": 0.1, "4A": 0.2, "4B": 0.4, "4C": 0.2, "5": 0.1}


def found_in_image(loaded) -> tuple[Finding, ...]:
    """The one lesion of a 2D image, outlined."""
    flat = as_2d(loaded.image)
    values = sitk.GetArrayFromImage(flat)
    mask = sitk.GetImageFromArray((values < 0.5 * values.mean()).astype(np.uint8))
    mask.CopyInformation(flat)
    mask = from_2d(mask, loaded.image)
    pixels = int(sitk.GetArrayViewFromImage(mask).sum())
    known = loaded.spacing_known
    area = {"area_mm2": pixels * float(np.prod(flat.GetSpacing()))} if known else {"area_px2": float(pixels)}
    return (Finding("L1", box_of_mask(mask), 0.9, mask=mask, label=1, measurements=area),)


def found_in_volume(loaded, outlined: bool) -> tuple[Finding, ...]:
    """Two lesions of a volume, graded; the smaller is the more suspicious."""
    dark = loaded.image < 0.5 * float(sitk.GetArrayViewFromImage(loaded.image).mean())
    pieces = sitk.RelabelComponent(sitk.ConnectedComponent(dark), sortByObjectSize=True)
    findings = []
    for i, score, malignancy in ((1, 0.9, 0.2), (2, 0.6, 0.8)):
        mask = sitk.Cast(pieces == i, sitk.sitkUInt8)
        box = box_of_mask(mask)
        figures = {f"{n}_mm": v for n, v in zip(("width", "height", "length"), box.size, strict=True)}
        drawn = {"mask": mask, "label": i} if outlined else {}
        if outlined:
            voxels = int(sitk.GetArrayViewFromImage(mask).sum())
            figures["volume_ml"] = voxels * float(np.prod(mask.GetSpacing())) / 1000
        findings.append(Finding(f"L{i}", box, score, malignancy, birads=BIRADS, measurements=figures, **drawn))
    return tuple(findings)


def worked_up(loaded, outlined: bool = False, nothing: bool = False) -> Study:
    """The study of an image or a volume; `nothing`: without findings."""
    is_image = as_2d(loaded.image) is not None
    found = () if nothing else found_in_image(loaded) if is_image else found_in_volume(loaded, outlined)
    info = ImageInfo.of(loaded.image, str(loaded.path), loaded.spacing_known)
    return Study(info, found, provenance={"notes": list(loaded.notes)})
