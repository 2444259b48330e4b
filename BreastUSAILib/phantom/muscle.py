"""The pectoral muscle: fibrils between fascias."""

from __future__ import annotations

import numpy as np

from .grids import PhantomGrid
from .layers import Layers, voxel_centres
from .noise import Field, Lattice, bspline, octaves, smooth_noise, streams, uniform
from .strip import Strip
from .tissue import MUSCLE

STEP = 0.05


class MusclePainter:
    """Muscle from the fascia down: bright fibrils of uneven spacing that run along the fibres, wander in depth, start and end.

    Fibrils are a random profile over the depth below the fascia; a warp whose bumps are long along the fibres and short across them
    bends and breaks them, so that neighbouring slices differ and no two fibrils are parallel for long.
    """

    def __init__(self, grid: PhantomGrid, layers: Layers, generator: np.random.Generator):
        lines, bends, clear, sheets = streams(generator, 4)
        self.fascia, self.wall = layers.fascia, layers.wall
        self.first = float(self.fascia.min()) - 1.0
        lattice = Lattice(grid, (1.6, 2.0, 2.0), (self.first, grid.extent[1]))
        self.profile = _profile(lines, 1200, max(0.3, 0.8 * grid.spacing[1]))
        angle = uniform(bends, -0.6, 0.6)
        warp = np.float32(1.3) * _along(bends, lattice, (6.0, 7.0, 30.0), angle)
        warp += np.float32(0.7) * _along(bends, lattice, (4.0, 4.2, 14.0), angle)
        warp += np.float32(0.3) * _along(bends, lattice, (3.2, 4.0, 7.0), angle)
        self.warp = Field(lattice, warp)
        fine = Lattice(grid, (0.9, 2.0, 2.0), (self.first, grid.extent[1]))
        shown = np.float32(0.5) + np.float32(0.6) * _along(clear, fine, (2.2, 5.0, 12.0), angle)
        self.shown = Field(fine, np.clip(shown, 0.0, 1.6))
        z, x = voxel_centres(grid)
        patchy = octaves(sheets, (z, x), (26.0, 26.0), (1.0, 0.7, 0.6))
        self.bright = np.clip(np.float32(1.0) + np.float32(0.45) * patchy, 0.15, 2.0) * np.float32(uniform(sheets, 4.0, 7.5))
        # Deep fascia of the pectoralis major over the minor, or of one of its heads: it comes and goes.
        part = np.float32(uniform(sheets, 0.35, 0.7)) + np.float32(0.12) * smooth_noise(sheets, (z, x), (35.0, 35.0))
        self.part = part
        self.follow()
        seen = smooth_noise(sheets, (z, x), (30.0, 40.0)) + np.float32(uniform(sheets, -0.8, 0.8))
        self.sheet_bright = np.clip(seen, 0.0, 1.0) * np.float32(3.5)

    def follow(self) -> None:
        """Lie between fascia and wall as they are now."""
        self.sheet = self.fascia + self.part * (self.wall - self.fascia)

    def paint(self, strip: Strip) -> None:
        fascia = self.fascia[strip.slices]
        if strip.depth < float(fascia.min()) - 1.0:
            return
        phase, shown, share, spare = strip.scratch[:4]
        np.subtract(np.float32(strip.depth), fascia, out=phase)
        phase += self.warp.row(strip.depth, strip.slices, spare)
        phase *= np.float32(1.0 / STEP)
        phase += np.float32(len(self.profile) // 2)
        fibrils = np.take(self.profile, phase.astype(np.intp), mode="clip")
        fibrils *= self.shown.row(strip.depth, strip.slices, shown)
        np.multiply(fibrils, np.float32(2.6), out=shown)
        shown += np.float32(MUSCLE.echo)
        strip.below(fascia, 0.3, share)
        strip.blend(shown, MUSCLE.attenuation, share, spare)
        fibrils *= share
        fibrils *= np.float32(1.3)
        strip.specular += fibrils
        for border, bright, width in ((fascia, self.bright, 0.4), (self.sheet[strip.slices], self.sheet_bright, 0.3)):
            if strip.between(border, border, 1.0):
                strip.line(border, width, share)
                share *= bright[strip.slices]
                strip.specular += share


def _profile(generator: np.random.Generator, length: int, width: float) -> np.ndarray:
    """Brightness 0 to 1 of fibrils `width` mm wide over depth, in steps of `STEP` mm, float32; 0.5 to 2.2 mm from one to the next."""
    at = STEP * np.arange(length)
    profile = np.zeros(length)
    depth = 0.0
    while depth < at[-1]:
        strength = uniform(generator, 0.25, 1.0)
        profile = np.maximum(profile, strength * np.maximum(1.0 - np.abs(at - depth) / width, 0.0))
        gap = float(generator.random())
        depth += 0.5 + 1.7 * gap * gap + 0.6 * width
    return profile.astype(np.float32)


def _along(
    generator: np.random.Generator, lattice: Lattice, wavelengths: tuple[float, float, float], angle: float
) -> np.ndarray:
    """Smooth noise of variance 1 with wavelengths over depth, across and along fibres that lie at `angle` to the lateral axis.

    Cubic B-spline over knots on axes turned with the fibres; float32 (depth, slice, lateral) at the lattice's nodes.
    """
    sine = round(float(np.sin(angle)), 6)
    cosine = round(float(np.cos(angle)), 6)
    z, x = lattice.z[:, None], lattice.x[None, :]
    v, u = z * cosine - x * sine, z * sine + x * cosine
    v, u = (1.0 + (p - p.min()) / (w / 2.0) for p, w in ((v, wavelengths[1]), (u, wavelengths[2])))
    depth = (lattice.y - lattice.y[0]) / (wavelengths[0] / 2.0) + float(generator.random())
    knots = generator.random(size=(int(depth[-1]) + 4, int(v.max()) + 4, int(u.max()) + 4), dtype=np.float32)
    knots -= np.float32(0.5)
    knots *= np.float32((12.0 / (151.0 / 315.0) ** 3) ** 0.5)
    # The spline on a grid four times as fine as the knots, then linear: the turned axes do not separate.
    fine_v, fine_u = (np.arange(4 * (n - 4)) * 0.25 for n in knots.shape[1:])
    fine = bspline(bspline(bspline(knots, 0, depth), 1, fine_v), 2, fine_u)
    v, u = (np.minimum(4.0 * p, n - 1.001) for p, n in ((v, len(fine_v)), (u, len(fine_u))))
    iv, iu = v.astype(np.intp), u.astype(np.intp)
    tv, tu = (v - iv).astype(np.float32), (u - iu).astype(np.float32)
    low = fine[:, iv, iu]
    low += tu * (fine[:, iv, iu + 1] - low)
    high = fine[:, iv + 1, iu]
    high += tu * (fine[:, iv + 1, iu + 1] - high)
    low += tv * (high - low)
    return low
