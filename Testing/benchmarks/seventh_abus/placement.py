"""Where lesions lie: within the breast, apart, and where they are seen."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from . import lesion_plan, painter, visibility
from .breast import Breast
from .display import Display
from .grid import Grid
from .lesion_plan import Plan

TRIES = 14  # of places for a lesion; another lesion is drawn after half of them


@dataclass(frozen=True)
class Lesion:
    label: int
    plan: Plan
    contrast_db: float


@dataclass
class Scene:
    """A volume in the making: dB against fat, dB lost, speckle's dB and labels, (slice, depth, lateral)."""

    grid: Grid
    breast: Breast
    display: Display
    echo: np.ndarray
    loss: np.ndarray
    speckle: np.ndarray
    labels: np.ndarray
    lesions: list[Lesion] = field(default_factory=list)
    taken: list[tuple[np.ndarray, float]] = field(default_factory=list)

    def place(self, rng: np.random.Generator, plan: Plan) -> bool:
        """Paint a lesion where it fits and is seen; after some places another of its nature is drawn. False where
        none was.
        """
        for attempt in range(TRIES):
            if attempt == TRIES // 2:
                plan = _like(rng, plan)
            centre = self.somewhere(rng, plan.radii)
            if centre is not None and self._try(rng, plan, centre):
                return True
        return False

    def somewhere(self, rng: np.random.Generator, radii) -> np.ndarray | None:
        """mm (slice, depth, lateral) of a free place for a body between skin and muscle; None where it would not
        fit.
        """
        wide = max(radii[0], radii[2])
        for _ in range(8):
            z, x = (rng.uniform(min(0.8 * wide, e / 2), max(e - 0.8 * wide, e / 2)) for e in self.grid.extent[::2])
            iz, ix = (int(v / s) for v, s in zip((z, x), self.grid.half.spacing[::2], strict=True))
            top = self.breast.layers.fat[iz, ix] + 0.9 * radii[1]
            bottom = min(self.breast.layers.chest[iz, ix], self.grid.extent[1]) - 0.9 * radii[1]
            if bottom <= top:
                continue
            y = rng.uniform(top, bottom)
            iy = min(int(y / self.grid.spacing[1]), self.grid.shape[1] - 1)
            lost = self.breast.loss[iz, iy, ix]
            centre = np.array([z, y, x])
            apart = all(np.linalg.norm(centre - c) > r + 1.25 * max(wide, radii[1]) + 2 for c, r in self.taken)
            if lost > -12 and apart:
                return centre
        return None

    def around(self, centre: np.ndarray, reach: float) -> tuple[tuple[slice, slice, slice], Grid, list[np.ndarray]]:
        """Of the columns within `reach` mm of a centre: their index, grid, and offsets from the centre, mm."""
        index, offsets = [], []
        for axis, (n, s) in enumerate(zip(self.grid.shape, self.grid.spacing, strict=True)):
            low, high = (
                (0, n)
                if axis == 1
                else (max(int((centre[axis] - reach) / s), 0), min(int((centre[axis] + reach) / s) + 2, n))
            )
            index.append(slice(low, high))
            shape = [1, 1, 1]
            shape[axis] = high - low
            offsets.append(
                (np.arange(low, high, dtype=np.float32) * np.float32(s) - np.float32(centre[axis])).reshape(shape)
            )
        part = Grid(tuple(s.stop - s.start for s in index), self.grid.spacing)
        return tuple(index), part, offsets

    def _try(self, rng: np.random.Generator, plan: Plan, centre: np.ndarray) -> bool:
        wide = max(plan.radii)
        index, part, offsets = self.around(centre, 1.5 * wide + 4)
        painted = painter.paint(rng, plan, part, offsets, self.echo[index], self.loss[index])
        if painted is None:
            return False
        size = painted.body.sum() * np.prod(self.grid.spacing)
        if size < 20 or size < 0.4 * plan.volume_ml * 1000 or self._touches(index, painted.body):
            return False
        grey = self.display.grey(painted.echo, painted.loss, self.speckle[index])
        if not visibility.seen(grey, painted.body, painted.rim, plan.echo):
            return False
        label = len(self.lesions) + 1
        self.echo[index], self.loss[index] = painted.echo, painted.loss
        self.labels[index][painted.body] = label
        self.lesions.append(Lesion(label, plan, painted.contrast_db))
        self.taken.append((centre, 1.25 * wide))
        return True

    def _touches(self, index, body: np.ndarray) -> bool:
        others = self.labels[index] > 0
        return bool(others.any() and (ndimage.binary_dilation(body, np.ones((3, 3, 3)), 4) & others).any())


def _like(rng: np.random.Generator, plan: Plan) -> Plan:
    """Another lesion of the same nature and about the same volume."""
    least, most = 0.5 * min(plan.volume_ml, 1.0), max(2 * plan.volume_ml, 0.3)
    while True:
        other = lesion_plan.draw(rng)
        if other.malignant == plan.malignant and least <= other.volume_ml <= most:
            return other
