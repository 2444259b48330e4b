"""Grade the findings of a volume: each by sections of it in the plane that the scanner swept, averaged.

The grading networks are for 2D images. A finding is looked at in its largest section in the acquisition plane (lateral by depth: the
volume's first two axes) and in the sections beside it; what each system says is averaged before it is pooled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from .activation import ActivationImage
from .errors import ImageError
from .findings import Finding
from .grade import (
    NOTHING_TO_SEE,
    Graded,
    GradeModels,
    GradeOptions,
    answers,
    check_grids,
    graded_one_by_one,
    lesion_mask,
    main_map,
)
from .grade_pooling import FEATURES, Answers
from .lesion_view import shows_anything

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
    """The slices (first axis) of a mask (z, y, x) with its largest section, the middle one of equals, and those beside it; empty where
    nothing is marked."""
    areas = mask.sum((1, 2))
    if not areas.any():
        return []
    largest = np.flatnonzero(areas == areas.max())
    best = int(largest[len(largest) // 2])
    return [i for i in range(best - neighbours, best + neighbours + 1) if 0 <= i < len(areas) and areas[i]]


def grade_3d(
    image: sitk.Image,
    findings: Sequence[Finding],
    models: GradeModels,
    options: GradeOptions = GradeOptions(),
    *,
    progress: Callable[[float, str], None] | None = None,
) -> Graded:
    """Grade the findings of a volume; see `grade.grade`.

    Parameters
    ----------
    image : 3D, scalar, finite; axes lateral, depth, slice.
    findings : with masks on the volume's grid, or with boxes alone. One that lies outside the volume, or where none of its sections shows
        anything (`lesion_view.shows_anything`), comes back as it was before it was graded, with a note.

    Raises
    ------
    ImageError : the image is not a volume, or a mask is on another grid.
    UsageError : see `grade.grade`.
    """
    if image.GetDimension() != 3:
        raise ImageError("The image is not a volume; grade it as a 2D image.")
    check_grids(image, findings)
    if options.enhance:
        models.check_same_view()
    spacing = image.GetSpacing()
    aspect = spacing[1] / spacing[0]
    voxels = sitk.GetArrayViewFromImage(image)
    maps = ActivationImage(image)

    def look(finding: Finding) -> Answers:
        mask = lesion_mask(image, finding)
        places = sections(mask)
        if not places:
            raise ImageError("its outline is empty")
        said = []
        for section in places:
            if not shows_anything(voxels[section], mask[section], models.margin, aspect):
                continue
            part, seen = answers(voxels[section], mask[section], models, options, aspect)
            said.append(part)
            if seen:
                maps.add(main_map(seen).on(voxels.shape[1:]), section=section)
        if not said:
            raise ImageError(NOTHING_TO_SEE)
        return mean_answers(said)

    graded, notes = graded_one_by_one(findings, look, models, progress)
    return Graded(graded, notes, maps.image)
