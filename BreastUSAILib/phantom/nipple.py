"""The nipple: where it is, the thickened skin around it, and the tissue under it that swallows the beam."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .grids import PhantomGrid
from .noise import smooth_noise, smoothstep, uniform
from .strip import Strip
from .tissue import NIPPLE


@dataclass(frozen=True)
class Nipple:
    """Middle (slice, lateral) in mm from the first voxel's corner, which may lie outside the volume; radii in mm."""

    slice: float
    lateral: float
    radius: float
    areola: float

    def distance(self, z: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Distance from the nipple's axis at coordinates z and x, float32 (z, x), mm."""
        square = ((z - self.slice) ** 2)[:, None] + ((x - self.lateral) ** 2)[None, :]
        return np.sqrt(square).astype(np.float32)


def draw_nipple(grid: PhantomGrid, generator: np.random.Generator) -> Nipple:
    """A nipple near the middle of anteroposterior views, towards one side in lateral and medial ones; seldom in pieces."""
    width, _, sweep = grid.extent
    if not grid.whole:
        z, x = (0.5 * e + uniform(generator, -110.0, 110.0) for e in (sweep, width))
    else:
        z = sweep * (0.5 + uniform(generator, -0.14, 0.14))
        aside = 0.0 if generator.random() < 0.5 else (0.35 if generator.random() < 0.5 else -0.35)
        x = width * (0.5 + aside + uniform(generator, -0.12, 0.12))
    return Nipple(z, x, uniform(generator, 4.5, 7.0), uniform(generator, 11.0, 19.0))


class NipplePainter:
    """Nipple and the fibrous tissue under it: dark, and attenuating in streaks, so that its shadow is ragged."""

    def __init__(self, grid: PhantomGrid, nipple: Nipple, z: np.ndarray, x: np.ndarray, generator: np.random.Generator):
        self.depth = uniform(generator, 5.0, 9.0)
        self.top = grid.top
        reach = nipple.radius * 1.6
        self.rows = slice(*(int(i) for i in np.searchsorted(z, (nipple.slice - reach, nipple.slice + reach))))
        self.columns = slice(*(int(i) for i in np.searchsorted(x, (nipple.lateral - reach, nipple.lateral + reach))))
        z, x = z[self.rows], x[self.columns]
        if len(z) == 0 or len(x) == 0:
            self.rows = slice(0, 0)
            return
        ragged = nipple.distance(z, x) / np.float32(nipple.radius) + np.float32(0.22) * smooth_noise(generator, (z, x), (7.0, 7.0))
        self.share = smoothstep(np.float32(2.4) - np.float32(1.5) * ragged)
        streaks = np.float32(1.0) + np.float32(0.35) * smooth_noise(generator, (z, x), (4.0, 4.0))
        self.attenuation = np.float32(uniform(generator, 0.5, 1.2) * NIPPLE.attenuation) * np.clip(streaks, 0.25, 2.0)
        self.echo = np.float32(NIPPLE.echo) * np.clip(streaks, 0.3, 1.8)

    def paint(self, strip: Strip) -> None:
        if strip.depth + self.top > self.depth + 3.0:
            return
        first = max(strip.slices.start, self.rows.start)
        last = min(strip.slices.stop, self.rows.stop)
        if first >= last:
            return
        here = slice(first - self.rows.start, last - self.rows.start)
        there = (slice(first - strip.slices.start, last - strip.slices.start), self.columns)
        fade = np.float32(min(max((self.depth + 3.0 - strip.depth - self.top) / 3.0, 0.0), 1.0))
        share = self.share[here] * fade
        for target, value in ((strip.echo, self.echo[here]), (strip.attenuation, self.attenuation[here]), (strip.specular, 0.0)):
            part = target[there]
            part += share * (value - part)
