"""Where a lesion lies: between skin and muscle, in contact, and not in a shadow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .anatomy import Anatomy
from .lesion_plan import Plan

TRIES = 60
SHRINK_AT = (25, 40, 50)  # tries after which a lesion that fits nowhere becomes smaller
LEAST_MM = 3.9  # longest diameter
IN_GLAND = 20  # so many tries ask for gland, where a lesion prefers it


def place(
    rng: np.random.Generator,
    plan: Plan,
    anatomy: Anatomy,
    step: tuple[float, float, float],
    placed: Sequence[Plan],
    floor_db: float,
) -> bool:
    """Give a plan its centre, and smaller radii where it must be; False where there is no room.

    Parameters
    ----------
    step : voxel of the anatomy, mm (z, y, x).
    placed : lesions that are there already.
    floor_db : of the scanner's noise; a lesion must lie well above it to be seen.
    """
    uniform = rng.uniform
    nz, ny, nx = anatomy.echo.shape
    wants_gland = rng.random() < 0.65
    for number in range(TRIES):
        if number in SHRINK_AT:
            plan.radii = plan.radii * 0.75
        if 2 * plan.radii.max() < LEAST_MM:
            return False
        lateral, deep = max(plan.radii[0], plan.radii[2]), plan.radii[1] * 1.12
        z = uniform(lateral + 1, nz * step[0] - lateral - 1)
        x = uniform(lateral + 1, nx * step[2] - lateral - 1)
        if nz * step[0] < 2 * lateral + 3 or nx * step[2] < 2 * lateral + 3:
            continue
        above = _window(z, x, lateral, step)
        if anatomy.contact[above].min() < 0.85:
            continue
        top = anatomy.skin[above].max() + 0.8 + deep
        bottom = min(anatomy.pectoral[above].min() - 0.6, ny * step[1] - 1.0) - deep
        if bottom <= top:
            continue
        y = uniform(top, bottom)
        voxel = tuple(int(c / s) for c, s in zip((z, y, x), step, strict=True))
        if wants_gland and number < IN_GLAND and anatomy.gland[voxel] < 0.5:
            continue
        about = (above[0], slice(max(0, voxel[1] - 3), voxel[1] + 4), above[1])
        attenuation = anatomy.attenuation[about].mean()
        if (anatomy.echo[about].mean() + attenuation) < floor_db + 9 or attenuation < -14:
            continue
        if any(_too_near((z, y, x), plan, other) for other in placed):
            continue
        plan.centre = np.array([z, y, x])
        return True
    return False


def _window(z: float, x: float, radius: float, step: tuple[float, float, float]) -> tuple[slice, slice]:
    """The part of a map (z, x) within so many mm of a point."""
    return (
        slice(int((z - radius) / step[0]), int((z + radius) / step[0]) + 2),
        slice(int((x - radius) / step[2]), int((x + radius) / step[2]) + 2),
    )


def _too_near(centre: tuple[float, float, float], plan: Plan, other: Plan) -> bool:
    z, y, x = (a - b for a, b in zip(centre, other.centre, strict=True))
    return bool(np.hypot(np.hypot(z, x), y) < 1.35 * (plan.radii.max() + other.radii.max()) + 2)
