"""Vessels and ducts: branching tubes with a dark lumen and walls that shine where they face the probe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .grids import PhantomGrid
from .layers import Layers, voxel_centres
from .nipple import Nipple
from .noise import how_many, smooth_noise, uniform
from .stamps import Stamp
from .tissue import BLOOD, FAT, GLAND

STEP = 2.5


@dataclass(frozen=True)
class Tube:
    """A tube along a path.

    Attributes
    ----------
    path : float64 (nodes, 3): depth, slice, lateral in mm from the first voxel's corner.
    radius : float64 (nodes,): of the lumen, mm.
    wall : thickness of the wall, mm.
    lumen, wall_echo, bright : echo in the lumen and in the wall, reflection of the walls' horizontal parts (fat = 1).
    attenuation : dB/cm/MHz.
    """

    path: np.ndarray
    radius: np.ndarray
    wall: float
    lumen: float
    wall_echo: float
    bright: float
    attenuation: float


def draw_vessels(grid: PhantomGrid, layers: Layers, generator: np.random.Generator) -> list[Tube]:
    """Veins and arteries, mostly in the subcutaneous fat, 0.8 to 3 mm wide, each with up to three branches."""
    tubes = []
    width, _, sweep = grid.extent
    for _ in range(how_many(generator, 8.0 * width * sweep / 25500.0)):
        start = (uniform(generator, 0.0, sweep), uniform(generator, 0.0, width))
        deep = generator.random() < 0.25
        share = uniform(generator, 1.0, 1.8) if deep else uniform(generator, 0.3, 1.0)
        radius = 0.45 + 1.1 * float(generator.random()) * float(generator.random())
        radius += uniform(generator, 0.0, 0.35)
        style = dict(
            wall=0.25 + 0.2 * radius,
            lumen=BLOOD.echo,
            wall_echo=uniform(generator, 1.2, 2.0),
            bright=uniform(generator, 1.5, 3.5),
            attenuation=BLOOD.attenuation,
        )
        tubes += _grow(grid, layers, generator, start, uniform(generator, 0.0, 6.28), radius, share, style, 3)
    return tubes


def draw_ducts(grid: PhantomGrid, layers: Layers, nipple: Nipple, generator: np.random.Generator) -> list[Tube]:
    """Ducts that fan out from under the nipple into the gland, narrower the farther, each with up to two branches."""
    tubes = []
    count = 9 + how_many(generator, 5.0)
    for k in range(count):
        heading = 6.2832 * (k + 0.7 * float(generator.random())) / count
        radius = uniform(generator, 0.45, 1.15)
        style = dict(
            wall=0.3,
            lumen=uniform(generator, 0.12, 0.45),
            wall_echo=GLAND.echo,
            bright=uniform(generator, 0.8, 2.0),
            attenuation=FAT.attenuation,
        )
        share = uniform(generator, 1.1, 1.6)
        tubes += _grow(grid, layers, generator, (nipple.slice, nipple.lateral), heading, radius, share, style, 2, taper=True)
    return tubes


def _grow(  # noqa: PLR0913
    grid: PhantomGrid,
    layers: Layers,
    generator: np.random.Generator,
    start: tuple[float, float],
    heading: float,
    radius: float,
    share: float,
    style: dict[str, float],
    branches: int,
    taper: bool = False,
) -> Iterator[Tube]:
    """A tube that wanders from `start` (slice, lateral) along `heading`, after its branches: painted last, its lumen stays open.

    `share` says how deep: 0 at the skin, 1 at the top of the gland's zone, 2 at its bottom. With `taper` it comes up to the skin at its start.
    """
    nodes = 3 + int(uniform(generator, 20.0, 80.0 if branches else 35.0) / STEP)
    turn = uniform(generator, 0.02, 0.07) if taper else uniform(generator, 0.06, 0.16)
    bends = turn * smooth_noise(generator, (np.arange(nodes, dtype=float),), (9.0,)).astype(float)
    depths = share + 0.25 * smooth_noise(generator, (np.arange(nodes, dtype=float),), (11.0,)).astype(float)
    path, radii = [], []
    z, x = start
    for k in range(nodes):
        skin, gland, bottom = _depths(grid, layers, z, x)
        s = float(depths[k])
        if taper:
            s *= min(1.0, 0.35 + 0.12 * k)
        depth = skin + s * (gland - skin) if s < 1.0 else gland + (s - 1.0) * (bottom - gland)
        path.append((max(depth, skin + 1.2 + radius), z, x))
        radii.append(radius * (1.0 - (0.65 if taper else 0.5) * k / nodes))
        heading += float(bends[k])
        z += STEP * round(float(np.sin(heading)), 6)
        x += STEP * round(float(np.cos(heading)), 6)
    # Depth follows the layers, whose maps end at the volume's border; a running mean keeps the path smooth.
    points = np.array(path)
    points[1:-1, 0] = (points[:-2, 0] + 2.0 * points[1:-1, 0] + points[2:, 0]) * 0.25
    for _ in range(int(generator.integers(0, branches + 1)) if branches else 0):
        k = int(generator.integers(1, nodes - 1))
        ahead = points[k + 1] - points[k]
        branch = float(np.arctan2(ahead[1], ahead[2])) + uniform(generator, 0.4, 1.0) * (1.0 if generator.random() < 0.5 else -1.0)
        branch = round(branch, 6)
        begin = (float(points[k, 1]), float(points[k, 2]))
        thin = style | {"wall": 0.8 * style["wall"]}
        for tube in _grow(grid, layers, generator, begin, branch, 0.7 * radii[k], float(depths[k]), thin, 0):
            # It leaves from the trunk itself, and reaches its own depth over its first centimetre.
            fade = np.maximum(1.0 - np.arange(len(tube.path)) / 4.0, 0.0)
            tube.path[:, 0] += fade * (points[k, 0] - tube.path[0, 0])
            yield tube
    yield Tube(points, np.array(radii), **style)


def _depths(grid: PhantomGrid, layers: Layers, z: float, x: float) -> tuple[float, float, float]:
    iz = min(max(int(z / grid.spacing[2]), 0), grid.size[2] - 1)
    ix = min(max(int(x / grid.spacing[0]), 0), grid.size[0] - 1)
    return tuple(float(m[iz, ix]) for m in (layers.skin, layers.gland, layers.retromammary))


def tube_stamp(grid: PhantomGrid, tube: Tube) -> Stamp | None:
    """The tube's voxels; None where it lies outside the volume."""
    centres = ((np.arange(grid.size[1]) + 0.5) * grid.spacing[1], *voxel_centres(grid))
    soft = 0.5 * (grid.spacing[0] + grid.spacing[1])
    parts = []
    reach = np.maximum(tube.radius[:-1], tube.radius[1:]) + tube.wall + soft
    low = np.minimum(tube.path[:-1], tube.path[1:]) - reach[:, None]
    high = np.maximum(tube.path[:-1], tube.path[1:]) + reach[:, None]
    first, last = (np.stack([np.searchsorted(centres[a], p[:, a]) for a in range(3)], -1) for p in (low, high))
    for k in np.nonzero((first < last).all(axis=1))[0]:
        window = tuple(slice(b, e) for b, e in zip(first[k].tolist(), last[k].tolist(), strict=True))
        part = _segment(centres, window, tube, k, float(reach[k]))
        if part is not None:
            parts.append(part)
    if not parts:
        return None
    voxel, distance, radius, flat = (np.concatenate([p[a] for p in parts]) for a in range(4))
    # Segments overlap at their joints: each voxel belongs to the nearest.
    order = np.argsort(distance - radius, kind="stable")
    voxel, first = np.unique(voxel[order], return_index=True)
    chosen = order[first]
    distance, radius, flat = distance[chosen], radius[chosen], flat[chosen]
    y, z, x = np.unravel_index(voxel, grid.shape)
    weight = np.clip((radius + np.float32(tube.wall) - distance) / np.float32(soft) + np.float32(0.5), 0.0, 1.0)
    inside = np.clip((radius - distance) / np.float32(soft) + np.float32(0.5), 0.0, 1.0)
    echo = np.float32(tube.wall_echo) + inside * np.float32(tube.lumen - tube.wall_echo)
    wall = np.maximum(np.float32(1.0) - np.abs(distance - radius) / np.float32(max(tube.wall, soft)), 0.0)
    specular = wall * flat * np.float32(tube.bright)
    return Stamp((y, z, x), grid.size[0], weight, echo, specular, tube.attenuation)


def _segment(
    centres: tuple[np.ndarray, ...], window: tuple[slice, ...], tube: Tube, k: int, reach: float
) -> tuple[np.ndarray, ...] | None:
    """Voxels of a window within `reach` mm of segment `k`: flat index, distance from the axis, lumen's radius there, how far the wall faces the probe."""
    start, end = tube.path[k], tube.path[k + 1]
    offsets = []
    for axis in range(3):
        shape = [1, 1, 1]
        shape[axis] = -1
        offsets.append((centres[axis][window[axis]] - start[axis]).astype(np.float32).reshape(shape))
    along = [np.float32(v) for v in end - start]
    length = along[0] * along[0] + along[1] * along[1] + along[2] * along[2]
    t = (offsets[0] * along[0] + offsets[1] * along[1] + offsets[2] * along[2]) / length
    np.clip(t, 0.0, 1.0, out=t)
    dy = offsets[0] - t * along[0]
    dy *= dy
    square = offsets[1] - t * along[1]
    square *= square
    other = offsets[2] - t * along[2]
    other *= other
    square += other
    square += dy
    near = np.nonzero(square < np.float32(reach * reach))
    if len(near[0]) == 0:
        return None
    square, dy, t = square[near], dy[near], t[near]
    sizes = [len(c) for c in centres]
    index = ((near[0] + window[0].start) * sizes[1] + near[1] + window[1].start) * sizes[2] + near[2] + window[2].start
    radius = np.float32(tube.radius[k]) + t * np.float32(tube.radius[k + 1] - tube.radius[k])
    return index, np.sqrt(square), radius, dy / np.maximum(square, np.float32(1e-6))
