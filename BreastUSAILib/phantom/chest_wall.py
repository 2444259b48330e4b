"""The chest wall: ribs and their cartilage, muscle between them, pleura, and what air throws back."""

from __future__ import annotations

import numpy as np

from .grids import PhantomGrid
from .layers import Layers, voxel_centres
from .noise import octaves, smooth_noise, smoothstep, streams, uniform
from .strip import Strip
from .tissue import BONE, CARTILAGE, LUNG

NOWHERE = np.float32(1e3)
# The outer share of a rib's half width over which it thins out.
_FLANK = 0.3


class Ribs:
    """Fronts and backs of the ribs as depth maps, float32 (slice, lateral), mm; `NOWHERE` between ribs.

    Ribs run along the lateral axis and follow one another along the sweep, 20 to 34 mm apart. Each has its own spacing, tilt, bow, width,
    thickness, depth and roundness, all of which change along it; towards the sternum some become cartilage.

    Attributes
    ----------
    front, back : depth of both surfaces.
    bone : 1 bone, 0 cartilage.
    facing : how far the front faces the probe, 0 to 1.
    cover : how much of the beam a rib meets: 1 in its middle, 0 at its flanks.
    """

    def __init__(self, grid: PhantomGrid, wall: np.ndarray, generator: np.random.Generator):
        z, x = voxel_centres(grid)
        shape = (len(z), len(x))
        self.front, self.back = np.full(shape, NOWHERE, np.float32), np.full(shape, NOWHERE, np.float32)
        self.bone, self.facing = np.ones(shape, np.float32), np.zeros(shape, np.float32)
        self.cover = np.zeros(shape, np.float32)
        tilt, bow = uniform(generator, -0.22, 0.22), uniform(generator, -0.0012, 0.0012)
        sternum = 1.0 if generator.random() < 0.5 else -1.0
        junction = uniform(generator, 0.45, 0.95) if generator.random() < 0.55 else 2.0
        off = x - 0.5 * (x[0] + x[-1])
        middle = -uniform(generator, 0.0, 25.0) - 0.2 * float(off[-1])
        while middle < z[-1] + 0.25 * float(off[-1]) + 12.0:
            own_tilt = tilt + uniform(generator, -0.06, 0.06)
            own_bow = bow + uniform(generator, -0.0004, 0.0004)
            along = middle + own_tilt * off + own_bow * off * off + 1.0 * octaves(generator, (x,), (40.0,), (1.0, 0.5, 0.3))
            half_width = uniform(generator, 4.6, 7.6) * (1.0 + 0.10 * smooth_noise(generator, (x,), (30.0,)))
            half_depth = uniform(generator, 2.6, 4.2) * (1.0 + 0.10 * smooth_noise(generator, (x,), (35.0,)))
            sunk = uniform(generator, -0.6, 2.2) + 0.7 * smooth_noise(generator, (x,), (60.0,))
            round_share = uniform(generator, 0.75, 1.0)
            here = (junction + uniform(generator, -0.12, 0.12)) * x[-1]
            self._add(z, along, half_width, half_depth, wall, sunk, round_share)
            bone = smoothstep((here - (x if sternum > 0 else x[-1] - x)) * 0.25 + 0.5).astype(np.float32)
            near = np.abs(z[:, None] - along[None, :]) < 13.0
            self.bone = np.where(near, bone[None, :], self.bone)
            middle += uniform(generator, 20.0, 34.0)

    def _add(self, z, along, half_width, half_depth, wall, sunk, round_share) -> None:  # noqa: PLR0913
        t = ((z[:, None] - along[None, :]) / half_width[None, :]).astype(np.float32)
        t *= t
        inside = t < 1.0
        t = np.minimum(t, 1.0)
        height = np.sqrt(1.0 - t * (np.float32(round_share) + np.float32(1.0 - round_share) * t))
        depth = half_depth.astype(np.float32)[None, :]
        centre = wall + (sunk.astype(np.float32)[None, :] + depth)
        front = centre - depth * height
        steep = np.zeros_like(front)
        if len(z) > 1:
            steep[1:] = (front[1:] - front[:-1]) / np.float32(z[1] - z[0])
        facing = 1.0 / np.sqrt(1.0 + steep * steep)
        nearer = inside & (front < self.front)
        cover = smoothstep((np.float32(1.0) - np.sqrt(t)) * np.float32(1.0 / _FLANK))
        self.cover = np.where(nearer, cover, self.cover)
        self.facing = np.where(nearer, facing, self.facing)
        self.back = np.where(nearer, centre + np.float32(0.9) * depth * height, self.back)
        self.front = np.where(nearer, front, self.front)


class ChestWallPainter:
    """Intercostal space, pleura, haze below it, and ribs; over muscle that reaches down without end."""

    def __init__(self, grid: PhantomGrid, layers: Layers, generator: np.random.Generator):
        ribs, sheets, air = streams(generator, 3)
        z, x = voxel_centres(grid)
        self.wall, self.pleura = layers.wall, layers.pleura
        self.ribs = Ribs(grid, layers.wall, ribs)
        patchy = np.float32(1.0) + np.float32(0.4) * octaves(sheets, (z, x), (24.0, 24.0), (1.0, 0.8, 0.6))
        self.bright = np.clip(patchy, 0.1, 2.0)
        dim = np.clip(np.float32(0.8) + np.float32(0.6) * octaves(air, (z, x), (18.0, 18.0), (1.0, 0.8)), 0.1, 1.6)
        facing = self.ribs.facing * self.ribs.facing
        facing *= self.ribs.facing
        facing *= self.ribs.cover
        self.cortex = (np.float32(5.0) + np.float32(uniform(sheets, 6.0, 12.0)) * self.ribs.bone) * facing * self.bright
        self.rib_attenuation = np.float32(CARTILAGE.attenuation) + self.ribs.bone * np.float32(BONE.attenuation - CARTILAGE.attenuation)
        breaks = np.clip(np.float32(0.5) + np.float32(0.7) * smooth_noise(sheets, (z, x), (18.0, 25.0)), 0.0, 1.4)
        self.wall_bright = breaks * np.float32(uniform(sheets, 1.2, 3.0))
        self.pleura_bright = dim * np.float32(uniform(sheets, 3.5, 7.5))
        self.spacing = uniform(air, 1.8, 4.0)
        comets = np.clip(np.float32(0.6) + np.float32(0.6) * octaves(air, (z, x), (9.0, 7.0), (1.0, 0.9, 0.8)), 0.05, 2.5)
        self.haze = comets * np.float32(LUNG.echo * uniform(air, 1.2, 3.6))
        self.first = min(float(self.wall.min()), float(self.ribs.front.min())) - 1.0

    def give_way(self, deeper: np.ndarray) -> None:
        """Move the ribs down by `deeper` mm (slice, lateral); wall and pleura are the layers' own maps."""
        self.ribs.front += deeper
        self.ribs.back += deeper

    def paint(self, strip: Strip) -> None:
        if strip.depth < self.first:
            return
        part = strip.slices
        share, spare, value = strip.scratch[:3]
        pleura = self.pleura[part]
        wall = self.wall[part]
        if strip.between(wall, wall, 1.0):
            strip.line(wall, 0.35, share)
            share *= self.wall_bright[part]
            strip.specular += share
        if strip.depth > float(pleura.min()) - 1.0:
            self._paint_lung(strip, pleura)
        front, back = self.ribs.front[part], self.ribs.back[part]
        if strip.depth > float(front.min()) - 1.0:
            strip.below(front, 0.3, share)
            strip.below(back, 0.5, value)
            share -= value
            np.maximum(share, 0.0, out=share)
            share *= self.ribs.cover[part]
            for target, to in ((strip.echo, np.float32(BONE.echo)), (strip.attenuation, self.rib_attenuation[part]), (strip.specular, 0.0)):
                np.subtract(to, target, out=spare)
                spare *= share
                target += spare
            strip.line(front, 0.45, share)
            share *= self.cortex[part]
            strip.specular += share

    def _paint_lung(self, strip: Strip, pleura: np.ndarray) -> None:
        share, spare, value = strip.scratch[:3]
        # Haze that fades with depth: 1 / (1 + d/4 mm)^2.
        np.subtract(np.float32(strip.depth), pleura, out=value)
        np.maximum(value, 0.0, out=value)
        value *= np.float32(0.25)
        value += np.float32(1.0)
        value *= value
        np.divide(self.haze[strip.slices], value, out=value)
        strip.below(pleura, 0.3, share)
        strip.blend(value, LUNG.attenuation, share, spare)
        for k in range(3):
            np.add(pleura, np.float32(k * self.spacing), out=spare)
            strip.line(spare, 0.5 + 0.4 * k, share)
            share *= self.pleura_bright[strip.slices]
            share *= np.float32(0.25**k)
            strip.specular += share
