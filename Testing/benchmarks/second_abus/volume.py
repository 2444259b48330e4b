"""One volume: a seed in, grey levels and labels with their truth out."""

from __future__ import annotations

import numpy as np
from abus_records import Volume

from .lesion import Lesion, draw_plan, insert, place
from .tissue import make_tissue
from .ultrasound import draw_scanner, scan

SIZE = (400, 100, 400)
"""Voxels, lateral x depth x slice: ABUS halved on each axis."""
HEALTHY = 0.25
NUMBERS = (0.68, 0.22, 0.10)
"""Shares of volumes with 1, 2, 3 lesions among those with any."""


def make_volume(seed: int, index: int, size: tuple[int, int, int] = SIZE, lesions: int | None = None) -> Volume:
    """Volume `index` of the series of a seed: the same bits for the same two numbers, size and version of numpy.

    Parameters
    ----------
    size : voxels, lateral x depth x slice, for a field of view of about 150 x 48 x 165 mm: a smaller size shows a smaller part, not coarser voxels.
    lesions : so many are tried; None: drawn. A lesion for which there is no room is drawn anew, thirty times at most, then left out.
    """
    random = np.random.default_rng([seed, index, 0x5EC0])
    lateral = random.uniform(0.36, 0.42)
    deep = random.uniform(0.42, 0.54)
    across = random.uniform(0.38, 0.46)
    spacing = tuple(round(float(s), 4) for s in (deep, across, lateral))
    shape = (size[1], size[2], size[0])
    if lesions is None:
        lesions = 0 if random.uniform() < HEALTHY else int(random.choice((1, 2, 3), p=NUMBERS))
    scanner = draw_scanner(random, shape[0] * spacing[0])
    tissue = make_tissue(random, shape, spacing)
    labels = np.zeros(shape, np.uint8)
    made: list[Lesion] = []
    taken: list[np.ndarray] = []
    for _ in range(lesions):
        lesion, about = _one(random, tissue, spacing, taken)
        if lesion is None:
            continue
        made.append(lesion)
        taken.append(about)
        box = tuple(slice(a, a + n) for a, n in zip(lesion.start, lesion.mask.shape, strict=True))
        labels[box][lesion.mask] = len(made)
    grey = scan(random, tissue, scanner, spacing)
    facts = {"density": tissue.density, "fat_level_db": round(tissue.fat_level, 2), "scanner": scanner.to_dict()}
    return Volume(
        np.ascontiguousarray(grey.transpose(1, 0, 2)),
        np.ascontiguousarray(labels.transpose(1, 0, 2)),
        (spacing[2], spacing[0], spacing[1]),
        tuple(made),
        facts,
    )


def _one(random, tissue, spacing, taken) -> tuple[Lesion | None, np.ndarray | None]:
    """Draw a lesion and put it where there is room, drawing anew where there is none."""
    for _ in range(30):
        plan = draw_plan(random)
        centre = place(random, plan, tissue, spacing, taken)
        if centre is not None:
            return insert(random, plan, centre, tissue, spacing), np.array([*centre, max(plan.radii)])
    return None, None
