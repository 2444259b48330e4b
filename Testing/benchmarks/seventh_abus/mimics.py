"""What is taken for a lesion and is none: nodes, fat lobules in gland, tubes, scars."""

from __future__ import annotations

import numpy as np

from . import fields, shapes
from .placement import Scene


def paint(rng: np.random.Generator, scene: Scene) -> dict[str, int]:
    """Paint some of each into a scene; returns how many."""
    makers = {
        "node": (_node, 0.4, 2),
        "fat lobule": (_lobule, 0.6, 5),
        "tube": (_tube, 0.6, 4),
        "scar": (_scar, 0.12, 1),
    }
    painted = {}
    for name, (maker, often, most) in makers.items():
        if rng.random() < often:
            painted[name] = sum(maker(rng, scene) for _ in range(rng.integers(1, most + 1)))
    return painted


def _node(rng: np.random.Generator, scene: Scene) -> bool:
    """A bean with a dark cortex about a bright hilum that reaches its border on one side."""
    wide = rng.uniform(2.2, 6)
    radii = wide, rng.uniform(0.5, 0.7) * wide, rng.uniform(0.8, 1.2) * wide
    centre = scene.somewhere(rng, radii)
    if centre is None:
        return False
    index, _, offsets = scene.around(centre, 1.6 * wide)
    turn = rng.uniform(0, np.pi)
    cortex, (u, v, w) = shapes.ellipsoid(offsets, radii, turn)
    notch = np.float32(rng.choice([-1, 1]) * rng.uniform(0.25, 0.45))
    hilum = np.sqrt(np.square((u - notch) / 0.65) + np.square(v / 0.5) + np.square(w / 0.6)) - 1
    echo = scene.echo[index]
    echo += fields.step(-cortex, 0.3) * (np.float32(rng.uniform(-13, -6)) - echo)
    echo += fields.step(-hilum, 0.12) * (np.float32(rng.uniform(5, 10)) - echo)
    scene.taken.append((centre, 1.2 * wide))
    return True


def _lobule(rng: np.random.Generator, scene: Scene) -> bool:
    """Fat as dark as all other fat, in thin bright septa, with a septum across it, drawn out to one side."""
    wide = rng.uniform(2.5, 8)
    radii = wide, rng.uniform(0.35, 0.6) * wide, rng.uniform(0.7, 1.3) * wide
    centre = scene.somewhere(rng, radii)
    if centre is None:
        return False
    index, part, offsets = scene.around(centre, 1.6 * wide)
    apart, (u, v, w) = shapes.ellipsoid(offsets, radii, rng.uniform(0, np.pi))
    apart += np.float32(0.15 * wide) * fields.in_mm(rng, part, (0.6 * wide,) * 3)
    echo = scene.echo[index]
    inside = fields.step(-apart, 0.4)
    fat = 0.8 * fields.in_mm(rng, part, (2, 1, 2))
    echo += inside * (fat - echo)
    septa = np.exp(-np.square(apart / np.float32(0.45)))
    septa += inside * np.exp(
        -np.square((v + 0.4 * w - np.float32(rng.uniform(-0.4, 0.4))) * radii[1] / np.float32(0.45))
    )
    echo += np.clip(septa, 0, 1) * np.float32(rng.uniform(2, 7))
    return True


def _tube(rng: np.random.Generator, scene: Scene) -> bool:
    """A vessel or wide duct: long, winding, dark, its walls bright."""
    long, deep, wide = scene.grid.extent
    level = rng.uniform(0.2, 0.75) * deep
    way, radius = rng.uniform(0, np.pi), rng.uniform(0.6, 1.7)
    length = rng.uniform(18, 80)
    start = np.array([rng.uniform(0, long), level, rng.uniform(0, wide)])
    index, part, (z, y, x) = scene.around(start, min(length, 45))
    along = z * np.sin(way) + x * np.cos(way)
    bend = rng.uniform(1, 4) * fields.smooth(rng, (64,), (rng.uniform(6, 16),))
    sink = rng.uniform(0.5, 2.5) * fields.smooth(rng, (64,), (rng.uniform(10, 20),)) + rng.uniform(-4, 4) * np.linspace(
        -1, 1, 64
    )
    nodes = np.linspace(-45, 45, 64)
    side = z * np.cos(way) - x * np.sin(way) - np.interp(along, nodes, bend).astype(np.float32)
    depth = y - np.interp(along, nodes, sink).astype(np.float32)
    flat = (np.abs(side).min(1, keepdims=True) < 3 * radius) & (np.abs(along) < length / 2)
    columns = np.nonzero(flat[:, 0, :])
    if not len(columns[0]):
        return False
    where = columns[0], slice(None), columns[1]
    narrow = np.float32(radius) * np.sqrt(np.clip(1 - np.square(along[where] / np.float32(length / 2)), 0, 1))
    across = np.sqrt(np.square(side[where]) + np.square(depth[where])) - narrow
    ends = np.clip(3 * narrow / np.float32(radius) - 0.5, 0, 1)
    echo = scene.echo[index]
    lines = echo[where]
    lines += ends * np.exp(-np.square(across / np.float32(0.4))) * np.float32(rng.uniform(0, 6))
    lines += ends * fields.step(-across, 0.25) * (np.float32(rng.uniform(-18, -6)) - lines)
    echo[where] = lines
    return True


def _scar(rng: np.random.Generator, scene: Scene) -> bool:
    """A dark, thin leaf that reaches from the skin into the depth, with a shadow under it."""
    centre = scene.somewhere(rng, (3.0, 3.0, 3.0))
    if centre is None:
        return False
    index, part, (z, y, x) = scene.around(centre, 16)
    way, lean = rng.uniform(0, np.pi), rng.uniform(-0.4, 0.4)
    side = z * np.cos(way) + x * np.sin(way) + lean * y + 0.8 * fields.map_mm(rng, part, 5)[:, None, :]
    length = np.abs(z * np.sin(way) - x * np.cos(way))
    leaf = np.exp(-np.square(side / np.float32(rng.uniform(0.6, 1.3)))) * fields.step(rng.uniform(6, 13) - length, 2)
    fat = scene.breast.layers.fat
    skin = float(fat.mean())
    leaf = leaf * fields.step(centre[1] + y - np.float32(skin), 0.5) * fields.step(rng.uniform(0, 5) - y, 1.5)
    echo = scene.echo[index]
    echo += leaf * (np.float32(rng.uniform(-9, -4)) - echo)
    shadow = np.cumsum(leaf, axis=1, dtype=np.float32) * np.float32(part.spacing[1] * rng.uniform(0.2, 0.8))
    scene.loss[index] -= np.minimum(shadow, 14) * (1 - leaf)
    scene.taken.append((centre, 5.0))
    return True
