"""The real image that is built in, in a scene as Slicer reads it from its file, and how findings agree with the outline that its publishers
drew: what the modules' self-tests look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from . import sample_data
from .errors import DataError
from .grid import as_2d

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLScene

    from .findings import Finding

REAL_IMAGE = "breast-2d"  # its id in `sample_data`: a lesion of 15 x 9 mm that no model was trained on
LEAST_DICE = 0.85  # the model that ships has 0.95
_MOST_MM = 1.5  # between the middles of a finding's and the reference's box; those of the model that ships are 0.14 mm apart
_MOST_AREA = 0.25  # by which share areas may differ; that of the model that ships is 8 % less


def add_real_image(scene: vtkMRMLScene) -> vtkMRMLScalarVolumeNode:
    """The sample as a volume node that Slicer's own reader filled. Raises `DataError` where its file is missing, damaged or cannot be read."""
    path = sample_data.sample_path(REAL_IMAGE)
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", sample_data.sample(REAL_IMAGE).title)
    if not storage.ReadData(volume):
        raise DataError(f"{path} was not read as a volume; install BreastUSAI again.")
    volume.SetAndObserveStorageNodeID(storage.GetID())
    volume.CreateDefaultDisplayNodes()
    return volume


def reference_center() -> tuple[float, float, float]:
    """World RAS (mm) of the middle of the box about the reference outline. Raises as `sample_data.truth_path`."""
    reference = _reference()
    rows, columns = np.nonzero(sitk.GetArrayViewFromImage(reference))
    middle = [(float(v.min()) + float(v.max())) / 2 for v in (columns, rows)]
    left, back = reference.TransformContinuousIndexToPhysicalPoint(middle)
    return -left, -back, 0.0


def disagreements(finding: Finding, place: Sequence[float] | None) -> list[str]:
    """What speaks against a finding's being the lesion of the real image, one sentence each; empty where nothing does.

    Parameters
    ----------
    finding : with its mask, on the grid of the image, and its area.
    place : world RAS (mm) of the finding's middle in the scene; None: it is nowhere.

    Raises
    ------
    UsageError, DataError : as `sample_data.truth_path`.
    """
    found = []
    reference = _reference()
    inside = sitk.GetArrayFromImage(reference) > 0
    mask = None if finding.mask is None else sitk.GetArrayFromImage(as_2d(finding.mask)) > 0
    if mask is None or mask.shape != inside.shape:
        found.append(f"{finding.id} has no outline on the grid of the image.")
    else:
        dice = 2 * float((mask & inside).sum()) / float(mask.sum() + inside.sum())
        if dice < LEAST_DICE:
            found.append(f"The Dice coefficient of {finding.id} and the reference outline is {dice:.2f}; at least {LEAST_DICE} is expected.")
    area = finding.measurements.get("area_mm2")
    expected = float(inside.sum() * np.prod(reference.GetSpacing()))
    if area is None or abs(area - expected) > _MOST_AREA * expected:
        found.append(f"The area of {finding.id} is {area} mm2, that of the reference outline {expected:.1f} mm2.")
    center = reference_center()
    if place is None or np.linalg.norm(np.subtract(place, center)) > _MOST_MM:
        found.append(f"{finding.id} is shown at {place}, and the reference outline lies about {center} (RAS, mm).")
    return found


def _reference() -> sitk.Image:
    """2D label map, 1 inside the lesion, spacing in mm."""
    return sitk.ReadImage(str(sample_data.truth_path(REAL_IMAGE)))
