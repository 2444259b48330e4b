"""Round things that are no lesions: fat lobules in the gland, lobules that look like cysts, lymph nodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .grids import PhantomGrid
from .layers import Layers, voxel_centres
from .noise import how_many, smooth_noise, uniform
from .stamps import Stamp
from .tissue import FAT, NODE_CORTEX


@dataclass(frozen=True)
class Inclusion:
    """A lobulated ellipsoid.

    Attributes
    ----------
    centre : depth, slice, lateral in mm from the first voxel's corner.
    axes : semi-axes in mm: in depth, across, along.
    angle : of the long axis to the lateral axis, in the plane of the probe's face, radians.
    tilt : depth gained per mm along the long axis.
    lobulation : how far the surface wobbles, share of the radius.
    softness : width of the border, mm.
    echo, attenuation : inside.
    rim : reflection of the surface where it faces the probe.
    """

    centre: tuple[float, float, float]
    axes: tuple[float, float, float]
    angle: float
    tilt: float
    lobulation: float
    softness: float
    echo: float
    attenuation: float
    rim: float


def draw_lobules(grid: PhantomGrid, layers: Layers, density: str, generator: np.random.Generator) -> list[Inclusion]:
    """Fat lobules caught in the gland (more of them the denser it is), and a few darker ones that pass for cysts."""
    area = grid.extent[0] * grid.extent[2] / 25500.0
    found = []
    for _ in range(how_many(generator, area * {"a": 6.0, "b": 14.0, "c": 26.0, "d": 26.0}[density])):
        found.append(_lobule(grid, layers, generator, uniform(generator, 0.75, 1.15), FAT.attenuation, uniform(generator, 0.5, 2.5)))
    for _ in range(how_many(generator, area * 4.0)):
        found.append(_lobule(grid, layers, generator, uniform(generator, 0.3, 0.55), 0.45, uniform(generator, 1.5, 3.5)))
    return found


def draw_nodes(grid: PhantomGrid, layers: Layers, generator: np.random.Generator) -> list[Inclusion]:
    """Lymph nodes in one corner of the scan (the upper outer quadrant), deep in the breast: a dark oval, then its bright hilum."""
    found = []
    width, _, sweep = grid.extent
    left, low = bool(generator.random() < 0.5), bool(generator.random() < 0.5)
    for _ in range(how_many(generator, 1.4 * width * sweep / 25500.0)):
        u, v = 0.35 * float(generator.random()) + 0.04, 0.45 * float(generator.random()) + 0.04
        z, x = sweep * (v if low else 1.0 - v), width * (u if left else 1.0 - u)
        thick, across = uniform(generator, 1.6, 3.2), uniform(generator, 2.2, 3.8)
        axes = (thick, across, across * uniform(generator, 1.2, 1.8))
        top, bottom = _room(grid, layers, z, x)
        depth = bottom - thick - uniform(generator, 0.0, 0.35) * max(bottom - top - 2.0 * thick, 0.0)
        angle, tilt = uniform(generator, -1.5, 1.5), uniform(generator, -0.2, 0.2)
        cortex = Inclusion(
            (depth, z, x), axes, angle, tilt, 0.05, 0.5, uniform(generator, 0.8, 1.3) * NODE_CORTEX.echo, NODE_CORTEX.attenuation, 2.0
        )
        share = uniform(generator, 0.35, 0.62)
        aside = (1.0 - share) * uniform(generator, 0.1, 0.8) * axes[1]
        sine, cosine = round(float(np.sin(angle)), 6), round(float(np.cos(angle)), 6)
        hilum = Inclusion(
            (depth - 0.1 * thick, z + aside * cosine, x - aside * sine),
            tuple(share * a for a in axes),
            angle, tilt, 0.15, 0.8, uniform(generator, 2.2, 3.4), FAT.attenuation, 0.0,
        )  # fmt: skip
        found += [cortex, hilum]
    return found


def _lobule(
    grid: PhantomGrid, layers: Layers, generator: np.random.Generator, echo: float, attenuation: float, rim: float
) -> Inclusion:
    width, _, sweep = grid.extent
    z, x = uniform(generator, 0.0, sweep), uniform(generator, 0.0, width)
    size = float(generator.random())
    across = 1.8 + 4.2 * size * size
    axes = (across * uniform(generator, 0.4, 0.75), across, across * uniform(generator, 1.0, 1.7))
    top, bottom = _room(grid, layers, z, x)
    depth = uniform(generator, top, bottom)
    angle, tilt = uniform(generator, -1.57, 1.57), uniform(generator, -0.35, 0.35)
    return Inclusion(
        (depth, z, x), axes, angle, tilt, uniform(generator, 0.06, 0.2), uniform(generator, 0.3, 0.9), echo, attenuation, rim
    )


def _room(grid: PhantomGrid, layers: Layers, z: float, x: float) -> tuple[float, float]:
    iz = min(max(int(z / grid.spacing[2]), 0), grid.size[2] - 1)
    ix = min(max(int(x / grid.spacing[0]), 0), grid.size[0] - 1)
    return float(layers.gland[iz, ix]), float(layers.retromammary[iz, ix])


def inclusion_stamp(grid: PhantomGrid, inclusion: Inclusion, generator: np.random.Generator) -> Stamp | None:
    """The inclusion's voxels; None where it lies outside the volume."""
    centres = ((np.arange(grid.size[1]) + 0.5) * grid.spacing[1], *voxel_centres(grid))
    a, b, c = inclusion.axes
    reach = 1.35 * max(b, c) + inclusion.softness
    reaches = (1.35 * a + reach * abs(inclusion.tilt) + inclusion.softness + grid.spacing[1], reach, reach)
    window, offsets = [], []
    for axis in range(3):
        middle = inclusion.centre[axis]
        part = slice(*(int(i) for i in np.searchsorted(centres[axis], (middle - reaches[axis], middle + reaches[axis]))))
        if part.start >= part.stop:
            return None
        window.append(part)
        shape = [1, 1, 1]
        shape[axis] = -1
        offsets.append((centres[axis][part] - middle).astype(np.float32).reshape(shape))
    sine, cosine = np.float32(round(float(np.sin(inclusion.angle)), 6)), np.float32(round(float(np.cos(inclusion.angle)), 6))
    along = offsets[2] * cosine + offsets[1] * sine
    across = (offsets[1] * cosine - offsets[2] * sine) / np.float32(b)
    depth = (offsets[0] - along * np.float32(inclusion.tilt)) / np.float32(a)
    along = along / np.float32(c)
    radius = np.sqrt(depth * depth + across * across + along * along)
    bumps = (1.1 * a, 1.1 * b, 1.1 * b)
    nodes = [axis[part] for axis, part in zip(centres, window, strict=True)]
    radius += np.float32(inclusion.lobulation) * smooth_noise(generator, nodes, bumps)
    # Distance from the surface in mm, about: the radius is counted in semi-axes, the shortest of which is in depth.
    distance = (radius - np.float32(1.0)) * np.float32(a)
    soft = np.float32(max(inclusion.softness, grid.spacing[1]))
    weight = np.clip(np.float32(0.5) - distance / soft, 0.0, 1.0)
    near = np.nonzero(weight > 0.0)
    if len(near[0]) == 0:
        return None
    facing = (depth / np.maximum(radius, np.float32(0.1)))[near]
    rim = np.maximum(np.float32(1.0) - np.abs(distance[near]) / np.float32(max(0.45, grid.spacing[1])), 0.0)
    specular = rim * facing * facing * np.float32(inclusion.rim)
    echo = np.full(len(near[0]), inclusion.echo, np.float32)
    voxels = tuple(i + part.start for i, part in zip(near, window, strict=True))
    return Stamp(voxels, grid.size[0], weight[near], echo, specular, inclusion.attenuation)
