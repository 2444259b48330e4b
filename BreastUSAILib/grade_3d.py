"""Grade the findings of a volume: each by sections of it in the plane that the scanner swept, averaged.

The grading networks are for 2D images. A finding is looked at in its largest section in the acquisition plane (lateral by depth: the
volume's first two axes) and in the sections beside it; what each system says is averaged before it is pooled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from .errors import ImageError
from .findings import Finding
from .grade import FEATURES, Answers, GradeModels, GradeOptions, answers, concluded, with_grade
from .grid import physical_to_index

if TYPE_CHECKING:
    from collections.abc import Iterable

NEIGHBOURS = 1
"""Sections on each side of the largest that are looked at, as far as the finding reaches."""


def mean_answers(parts: Iterable[Answers]) -> Answers:
    """The mean of the probabilities, and of the features, that sections of one finding got."""
    parts = list(parts)
    result: Answers = {}
    for system, outputs in parts[0].items():
        result[system] = {}
        for name in outputs:
            values = np.stack([part[system][name] for part in parts])
            result[system][name] = values.mean(0) if name == FEATURES else np.log(np.exp(values).mean(0))
    return result


def sections(mask: np.ndarray, neighbours: int = NEIGHBOURS) -> list[int]:
    """The slices (first axis) of a mask (z, y, x) with its largest section and those beside it; empty where nothing is marked."""
    areas = mask.sum((1, 2))
    if not areas.any():
        return []
    best = int(areas.argmax())
    return [i for i in range(best - neighbours, best + neighbours + 1) if 0 <= i < len(areas) and areas[i]]


def _mask_of(finding: Finding, image: sitk.Image) -> np.ndarray:
    """The finding's mask (z, y, x) bool, or its box where it has none. ImageError for a mask of another grid."""
    if finding.mask is not None:
        if finding.mask.GetSize() != image.GetSize():
            raise ImageError(f"The mask of {finding.id} is not on the volume's grid; segment this volume again.")
        return sitk.GetArrayViewFromImage(finding.mask) > 0
    index = physical_to_index(image, finding.box.center) + 0.5
    half = np.array(finding.box.size) / image.GetSpacing() / 2
    low = np.clip(np.floor(index - half), 0, image.GetSize()).astype(int)
    high = np.clip(np.ceil(index + half), 0, image.GetSize()).astype(int)
    mask = np.zeros(image.GetSize()[::-1], bool)
    mask[tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1], strict=True))] = True
    return mask


def grade_3d(
    image: sitk.Image,
    findings: Sequence[Finding],
    models: GradeModels,
    options: GradeOptions = GradeOptions(),
    *,
    progress: Callable[[float, str], None] | None = None,
) -> tuple[Finding, ...]:
    """Grade the findings of a volume; see `grade.grade`.

    Parameters
    ----------
    image : 3D, scalar, finite; axes lateral, depth, slice.
    findings : with masks on the volume's grid, or with boxes alone. One that lies outside the volume comes back as it is, with a note.

    Raises
    ------
    ImageError : the image is not a volume, or a mask is on another grid.
    """
    from dataclasses import replace

    if image.GetDimension() != 3:
        raise ImageError("The image is not a volume; grade it as a 2D image.")
    spacing = image.GetSpacing()
    voxels = sitk.GetArrayViewFromImage(image)
    pooling = models.pooling
    graded = []
    for number, finding in enumerate(findings):
        if progress is not None:
            progress(number / len(findings), f"grading {finding.id}")
        mask = _mask_of(finding, image)
        chosen = sections(mask)
        if not chosen:
            graded.append(replace(finding, notes=(*finding.notes, "Not graded: it lies outside the volume.")))
            continue
        said = mean_answers(answers(voxels[i], mask[i], models, options, spacing[1] / spacing[0])[0] for i in chosen)
        graded.append(with_grade(finding, concluded(said, pooling), models, pooling))
    if progress is not None:
        progress(1.0, "done")
    return tuple(graded)
