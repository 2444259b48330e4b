"""Where in the breast lesions and what looks like them can be."""

from __future__ import annotations

import numpy as np

from .anatomy import Breast
from .lesion_plan import Plan
from .tissue import Tissue

FATTY = ("fat necrosis", "lymph node")


def find_place(
    rng: np.random.Generator,
    plan: Plan,
    reach: float,
    breast: Breast,
    tissue: Tissue,
    above_noise_db: np.ndarray,
    taken: list[tuple[np.ndarray, float]],
    limit_mm: np.ndarray,
) -> np.ndarray | None:
    """A centre (z, y, x) in mm for an outline that reaches `reach` times its radii; None where none was found.

    It lies between skin and muscle, is heard above the noise, and keeps clear of `taken` (centres and radii). `limit_mm` is the volume's last voxel.
    """
    radii = plan.radii[::-1] * reach * np.array([1, 1 + 0.3 * abs(plan.tilt), 1])
    radii[0], radii[2] = (
        np.hypot(r * np.cos(plan.tilt), radii.max() * np.sin(plan.tilt)) for r in (radii[0], radii[2])
    )
    low, high = radii + (3, 1.5, 3), limit_mm - radii - (3, 1.5, 3)
    if np.any(low >= high):
        return None
    steps = [a[1] - a[0] for a in tissue.axes]
    best, score = None, 0.0
    wanted = float(rng.random() < (0.2 if plan.kind in FATTY else 0.5))  # gland, or fat
    for _ in range(60):
        place = rng.uniform(low, high)
        z, y, x = (int(round(p / s)) for p, s in zip(place, steps, strict=True))
        skin, wall = breast.skin[z, x] + 1.2, breast.pectoral[z, x] - 0.6
        if not skin + radii[1] < place[1] < wall - radii[1]:
            continue
        over = [int(radii[k] / steps[k]) for k in (0, 2)]
        under = breast.contact_db[max(z - over[0], 0) : z + over[0] + 1, max(x - over[1], 0) : x + over[1] + 1]
        if above_noise_db[z, y, x] < 9 or under.max() > 7:
            continue
        if any(np.linalg.norm(place - other) < radii.max() + r + 2 for other, r in taken):
            continue
        gland = float(tissue.gland[z, y, x])
        good = 0.2 + (1 - abs(gland - wanted)) + 0.4 * rng.random()
        if good > score:
            best, score = place, good
        if score > 1.0:
            break
    return best
