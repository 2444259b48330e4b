"""The skin: two bright lines with dermis between, and their echoes of echoes below."""

from __future__ import annotations

import numpy as np

from .grids import PhantomGrid
from .layers import Layers, voxel_centres
from .noise import octaves, uniform
from .strip import Strip
from .tissue import SKIN

GEL_ECHO = 0.04
REVERBERATIONS = 3


class SkinPainter:
    """Gel above the skin, the skin, and with `reverberation` fainter copies of its lower border at multiples of its thickness."""

    def __init__(self, grid: PhantomGrid, layers: Layers, reverberation: bool, generator: np.random.Generator):
        self.surface, self.skin = layers.surface, layers.skin
        z, x = voxel_centres(grid)
        self.thickness = self.skin - self.surface
        self.bright = np.clip(np.float32(1.0) + np.float32(0.3) * octaves(generator, (z, x), (20.0, 20.0), (1.0, 0.8)), 0.3, 1.8)
        self.echo = SKIN.echo * uniform(generator, 0.75, 1.15)
        self.front, self.back = uniform(generator, 4.0, 7.0), uniform(generator, 2.5, 4.5)
        patchy = octaves(generator, (z, x), (30.0, 30.0), (1.0, 0.6)) + np.float32(uniform(generator, -0.5, 0.7))
        self.repeats = np.clip(patchy, 0.0, 1.0) * np.float32(1.7) if reverberation else None

    def paint(self, strip: Strip) -> None:
        part = strip.slices
        skin, thickness = self.skin[part], self.thickness[part]
        repeats = REVERBERATIONS if self.repeats is not None else 0
        if strip.depth > float((skin + thickness * np.float32(repeats)).max()) + 1.0:
            return
        share, spare = strip.scratch[:2]
        # What is above the lower border: skin first, then gel over it.
        for border, echo, attenuation in ((skin, self.echo, SKIN.attenuation), (self.surface[part], GEL_ECHO, 0.05)):
            strip.below(border, 0.25, share)
            np.subtract(np.float32(1.0), share, out=share)
            strip.blend(np.float32(echo), attenuation, share, spare)
        for border, bright in ((self.surface[part], self.front), (skin, self.back)):
            strip.line(border, 0.3, share)
            share *= self.bright[part]
            share *= np.float32(bright)
            strip.specular += share
        for k in range(1, repeats + 1):
            np.multiply(thickness, np.float32(k), out=spare)
            spare += skin
            strip.line(spare, 0.3, share)
            share *= self.repeats[part]
            share *= np.float32(0.55 ** (k - 1))
            strip.specular += share
