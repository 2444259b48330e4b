"""The breast under the probe: its layers as maps (slice, lateral) of the half grid, and where its nipple is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .fields import smooth, steps_of
from .grid import Grid

DENSITIES = ("a", "b", "c", "d")
_DENSITY_SHARES = (0.13, 0.37, 0.36, 0.14)  # c and d are what supplemental ultrasound is made for


@dataclass(frozen=True)
class Breast:
    """What was drawn of a breast.

    Attributes
    ----------
    density : composition, "a" to "d".
    face : mm, where the probe touches; above it there is nothing.
    skin : mm, the skin's lower side.
    muscle : mm, the fascia above the pectoral muscle.
    gland : mm, the middle of the glandular plate.
    thickness : mm, half the plate's thickness, 0 where there is none.
    nipple : mm (slice, lateral); may be outside the picture.
    """

    density: str
    face: np.ndarray
    skin: np.ndarray
    muscle: np.ndarray
    gland: np.ndarray
    thickness: np.ndarray
    nipple: tuple[float, float]


def draw_breast(rng: np.random.Generator, grid: Grid, curvature_mm: float) -> Breast:
    """Draw a breast; `curvature_mm` is how much deeper the probe's face lies at the sides than in the middle (or less, if negative)."""
    shape, spacing = (grid.half_shape[0], grid.half_shape[2]), (grid.half_spacing[0], grid.half_spacing[2])
    ez, ey, ex = grid.extent

    def waves(length: float) -> np.ndarray:
        return smooth(rng, shape, steps_of((length, length), spacing))

    z, _, x = (a.squeeze() for a in grid.half_axes())
    side = np.square(x / ex * 2 - 1)[None, :] * np.ones((len(z), 1), np.float32)
    face = curvature_mm * (side if curvature_mm >= 0 else side - 1)
    thick = rng.uniform(1.1, 2.6)
    skin = face + min(0.1 * ey, thick) * (1 + 0.12 * waves(25))
    nipple = (ez * rng.uniform(0.25, 0.75), ex * rng.uniform(0.2, 0.8))
    radius = np.hypot(z[:, None] - nipple[0], x[None, :] - nipple[1])
    depth = ey * rng.uniform(0.58, 1.05)
    tilt = rng.normal(0, 0.08, 2)  # the chest wall is seldom parallel to the probe
    plane = tilt[0] * (z[:, None] - ez / 2) + tilt[1] * (x[None, :] - ex / 2)
    muscle = np.clip(depth + np.clip(plane, -0.2 * ey, 0.2 * ey) + 0.03 * ey * waves(30), 0.45 * ey, 1.4 * ey)
    muscle = np.maximum(muscle, skin + 0.35 * ey)
    density = DENSITIES[rng.choice(4, p=_DENSITY_SHARES)]
    rank = DENSITIES.index(density)
    room = muscle - skin
    reach = rng.uniform(0.55, 0.8) * max(min(ez, ex), 30) * (0.55 + 0.2 * rank)
    fullness = np.clip(1.15 - np.square(radius / reach), 0, 1) * (0.16 + 0.09 * rank) + 0.035 * waves(14)
    rise = rng.uniform(0.08, 0.2) * np.exp(-np.square(radius / 18))  # ducts come up to the nipple
    gland = skin + room * (rng.uniform(0.46, 0.6) - rise + 0.04 * waves(35))
    return Breast(density, face, skin, muscle, gland, np.clip(fullness, 0, None) * room, nipple)
