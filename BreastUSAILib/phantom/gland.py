"""Fibroglandular tissue: a ragged, streaky body between subcutaneous and retromammary fat."""

from __future__ import annotations

import numpy as np

from .grids import PhantomGrid
from .layers import Layers
from .nipple import Nipple
from .noise import Field, Lattice, octaves, streams, uniform
from .strip import Strip
from .tissue import GLAND

# How much of the noise the threshold leaves, in standard deviations, by density (ACR a to d: fatty, scattered, heterogeneous, dense).
THRESHOLD = {"a": (1.15, 1.5), "b": (0.35, 0.75), "c": (-0.55, -0.15), "d": (-1.5, -1.0)}
# Sharpness of the border: share of gland per standard deviation of the noise.
SHARPNESS = np.float32(3.0)


class GlandPainter:
    """Gland where multi-octave noise passes a threshold that rises above and below its zone and away from the nipple."""

    def __init__(self, grid: PhantomGrid, layers: Layers, density: str, nipple: Nipple, generator: np.random.Generator):
        shape, texture = streams(generator, 2)
        self.top, self.bottom = layers.gland, layers.retromammary
        depths = (float(self.top.min()) - 3.0, min(float(self.bottom.max()) + 2.0, grid.extent[1]))
        lattice = Lattice(grid, (0.8, 1.2, 1.2), depths)
        body = octaves(shape, lattice.nodes, (7.0, 17.0, 17.0), (1.0, 0.6, 0.4))
        top, bottom = (_at_nodes(border, lattice, grid) for border in (self.top, self.bottom))
        y = lattice.y.astype(np.float32)[:, None, None]
        body -= np.maximum(top - y, 0.0) * np.float32(1.0 / 1.3)
        body -= np.maximum(y - bottom, 0.0) * np.float32(1.0 / 0.6)
        away = nipple.distance(lattice.z, lattice.x) * np.float32(1.0 / 75.0)
        body -= np.minimum(np.float32(0.7) * away * away, np.float32(1.2))
        body -= np.float32(uniform(shape, *THRESHOLD[density]) - 0.25)
        self.body = Field(lattice, body)
        share = np.clip(body * SHARPNESS + np.float32(0.5), 0.0, 1.0)
        zone = (y >= top) & (y <= bottom)
        # Sums of whole numbers (256ths of a share): exact whatever the order of adding.
        self.fraction = (np.rint(share * 256.0).astype(np.int64) * zone).sum(0) / np.maximum(256 * zone.sum(0), 1)

        fine = Lattice(grid, (0.6, 0.8, 0.8), depths)
        streaks = octaves(texture, fine.nodes, (5.2, 13.0, 13.0), (0.8, 1.0, 0.8))
        streaks *= np.float32(uniform(texture, 0.26, 0.4))
        streaks += np.float32(1.0)
        np.clip(streaks, 0.22, 2.2, out=streaks)
        streaks *= np.float32(GLAND.echo * uniform(texture, 0.8, 1.3))
        self.texture = Field(fine, streaks)

    def paint(self, strip: Strip) -> None:
        if not strip.between(self.top[strip.slices], self.bottom[strip.slices], 3.0):
            return
        share, texture, spare = strip.scratch[:3]
        self.body.row(strip.depth, strip.slices, share)
        share *= SHARPNESS
        share += np.float32(0.5)
        np.clip(share, 0.0, 1.0, out=share)
        self.texture.row(strip.depth, strip.slices, texture)
        for target, value in ((strip.echo, texture), (strip.attenuation, np.float32(GLAND.attenuation))):
            np.subtract(value, target, out=spare)
            spare *= share
            target += spare
        # Ligaments run on into the gland, fainter than in fat.
        share *= np.float32(-0.75)
        share += np.float32(1.0)
        strip.specular *= share


def _at_nodes(border: np.ndarray, lattice: Lattice, grid: PhantomGrid) -> np.ndarray:
    """A map of voxels (slice, lateral) at the lattice's nodes, nearest voxel."""
    z = np.clip((lattice.z / grid.spacing[2]).astype(np.intp), 0, grid.size[2] - 1)
    x = np.clip((lattice.x / grid.spacing[0]).astype(np.intp), 0, grid.size[0] - 1)
    return border[z[:, None], x[None, :]]
