"""Fat: the ground on which the other tissues are painted, and the ligaments of Cooper that part it into lobules."""

from __future__ import annotations

import numpy as np

from .cells import cell_distances, flatness, two_smallest
from .grids import PhantomGrid
from .layers import Layers
from .noise import Field, Lattice, octaves, smooth_noise, streams, uniform
from .strip import Strip
from .tissue import FAT, LIGAMENT


class FatPainter:
    """Fat everywhere, and ligaments from the skin to the fascia.

    Ligaments are the walls of Worley cells flattened by the compression: thin, bright where they lie flat to the beam; some are
    conspicuous, most are hardly seen. With `shadows`, some upright ones attenuate, as they do by refraction: shadows without a mass.
    """

    def __init__(self, grid: PhantomGrid, layers: Layers, shadows: bool, generator: np.random.Generator):
        cells, strength, tone, fibrous = streams(generator, 4)
        self.top, self.bottom = layers.skin, layers.fascia
        depths = (float(self.top.min()) - 1.0, min(float(self.bottom.max()) + 1.0, grid.extent[1]))
        lattice = Lattice(grid, (1.0, 1.4, 1.4), depths)
        across = uniform(cells, 9.0, 13.0)
        size = (uniform(cells, 4.8, 7.0), across, across)
        distances = cell_distances(cells, lattice, size)
        low, high = two_smallest(list(distances.copy()))
        self.distances = [Field(lattice, d) for d in distances]
        self.flat = Field(lattice, flatness(high - low, lattice))
        # Half a wall's width in units of cells; never so thin that it falls between two rows of voxels.
        self.width = max(0.10, 2.0 * 0.9 * grid.spacing[1] / size[0])
        coarse = Lattice(grid, (2.0, 3.0, 3.0), depths)
        clear = np.clip(np.float32(0.5) + np.float32(0.5) * octaves(strength, coarse.nodes, (12.0, 22.0, 22.0), (1.0, 0.6)), 0.06, 1.5)
        # A wall that is drawn thicker than it is shines less.
        clear *= np.float32(uniform(strength, 0.8, 1.2) * round((0.1 / self.width) ** 0.5, 6))
        self.strength = Field(coarse, clear)
        self.tone = Field(coarse, np.float32(0.2) * octaves(tone, coarse.nodes, (9.0, 15.0, 15.0), (1.0, 0.8)) + np.float32(FAT.echo))
        self.shadow = None
        if shadows:
            strands = smooth_noise(fibrous, coarse.nodes, (12.0, 14.0, 14.0))
            self.shadow = Field(coarse, np.float32(uniform(fibrous, 1.2, 3.2)) * np.clip(strands - np.float32(0.45), 0.0, 1.0))

    def paint(self, strip: Strip) -> None:
        strip.attenuation.fill(FAT.attenuation)
        strip.specular.fill(0.0)
        if not strip.between(self.top[strip.slices], self.bottom[strip.slices], 0.5):
            strip.echo.fill(FAT.echo)
            return
        self.tone.row(strip.depth, strip.slices, strip.echo)
        rows = [field.row(strip.depth, strip.slices, out) for field, out in zip(self.distances, strip.scratch, strict=False)]
        wall, spare = two_smallest(rows, strip.scratch[4])
        np.subtract(spare, wall, out=wall)
        wall *= np.float32(-1.0 / self.width)
        wall += np.float32(1.0)
        np.maximum(wall, 0.0, out=wall)
        wall *= self.strength.row(strip.depth, strip.slices, strip.scratch[5])
        flat = self.flat.row(strip.depth, strip.slices, strip.scratch[6])
        spare = strip.scratch[7]
        share = np.multiply(flat, np.float32(0.6), out=strip.scratch[5])
        share += np.float32(0.4)
        share *= wall
        np.minimum(share, 1.0, out=share)
        for target, value in ((strip.echo, LIGAMENT.echo), (strip.attenuation, LIGAMENT.attenuation)):
            np.subtract(np.float32(value), target, out=spare)
            spare *= share
            target += spare
        if self.shadow is not None:
            self.shadow.row(strip.depth, strip.slices, spare)
            spare *= share
            strip.attenuation += spare
        flat *= flat
        flat *= np.float32(7.0)
        flat += np.float32(0.4)
        np.multiply(wall, flat, out=strip.specular)
