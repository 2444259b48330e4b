"""From layers to acoustics: backscatter and attenuation on the coarse grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .anatomy import Breast
from .fields import noise, ramp

Axes = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass
class Tissue:
    """Attributes
    ----------
    db : mean backscatter against fat, dB, (z, y, x) on the coarse grid; `alpha` is attenuation, dB/cm/MHz.
    gland : how much of it is gland, 0 to 1.
    axes : places of the coarse grid, mm, (z, y, x).
    """

    db: np.ndarray
    alpha: np.ndarray
    gland: np.ndarray
    axes: Axes


def make_tissue(rng: np.random.Generator, breast: Breast, axes: Axes) -> Tissue:
    """The tissues of a breast, without lesions."""
    y = axes[1][None, :, None]
    front, back, skin, wall = (
        s[:, None, :].astype(np.float32) for s in (breast.front, breast.back, breast.skin, breast.pectoral)
    )
    scale = rng.uniform(0.7, 1.4)
    lobes = noise(rng, axes, (9 * scale, 6 * scale, 9 * scale))
    fine = noise(rng, axes, tuple(rng.uniform(1.8, 3.2, 3)))
    zone = np.minimum(y - front, back - y) + lobes * rng.uniform(1, 2.5)
    islands = 0.7 * noise(rng, axes, (13 * scale, 6 * scale, 13 * scale)) + 0.4 * lobes + 0.35 * fine
    islands += 0.45 * noise(rng, axes, (5 * scale, 3 * scale, 5 * scale))
    islands += rng.uniform(0, 0.7) * _segments(rng, breast, axes)[:, None, :]
    level = np.quantile(islands[::7, ::5, ::7], 1 - breast.share)
    gland = ramp(zone, 1.2) * ramp(islands - level, rng.uniform(0.2, 1.1))
    # Fat: lobules a little unlike each other between septa; gland: brighter, with a weave of its own.
    db = lobes * rng.uniform(0.6, 2.2)
    db += gland * (rng.uniform(4.5, 10) + fine * rng.uniform(1.2, 3) + islands * rng.uniform(0, 1.5))
    clumped = rng.uniform(0.5, 2.5)  # dB of each coarse cell: few scatterers make more of it, and fat has fewer
    db += rng.standard_normal(db.shape, dtype=np.float32) * (clumped * (1.3 - 0.6 * gland))
    alpha = np.float32(rng.uniform(0.45, 0.65)) + gland * np.float32(rng.uniform(0.15, 0.55))
    bright, shade = rng.uniform(6, 13), rng.uniform(0.1, 1.6)
    for size in (rng.uniform(8, 14), rng.uniform(5, 9)):
        sheet, level_on = _septa(rng, axes, size)
        sheet *= 1 - 0.7 * gland
        alpha += sheet * (1 - level_on) * shade  # a ligament along the beam costs it more than one across
        db += sheet * (0.45 + 0.55 * level_on) * bright
    _skin(rng, breast, db, alpha, y, skin)
    _nipple(rng, breast, db, alpha, y)
    top = int(np.searchsorted(axes[1], wall.min() - 2))
    if top < db.shape[1]:
        _wall(rng, breast, db[:, top:], alpha[:, top:], gland[:, top:], tuple([axes[0], axes[1][top:], axes[2]]))
    return Tissue(db, alpha, gland, axes)


def _septa(rng, axes: Axes, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Thin sheets between lobules of `size` mm: how much of a voxel is sheet, and how level it lies (1: across the beam)."""
    field = noise(rng, axes, (size, size * rng.uniform(0.55, 1.0), size))
    steps = [float(a[1] - a[0]) for a in axes]
    gy = np.empty_like(field)
    np.subtract(field[:, 2:], field[:, :-2], out=gy[:, 1:-1])
    gy[:, 0], gy[:, -1] = gy[:, 1], gy[:, -2]
    gy *= 0.5 / steps[1]
    rest = np.zeros_like(field)
    for axis, step in ((0, steps[0]), (2, steps[2])):
        ahead = np.diff(field, axis=axis, append=np.take(field, [-1], axis=axis))
        ahead *= 1 / step
        rest += np.square(ahead, out=ahead)
    gy *= gy
    rest += gy
    rest += np.float32(0.15 / size**2)
    level = gy / rest
    far = np.square(field, out=field)
    far /= rest  # mm squared from the sheet
    far *= -1 / rng.uniform(0.4, 0.9) ** 2
    return np.exp(np.maximum(far, -20, out=far), out=far), level


def _segments(rng, breast: Breast, axes: Axes) -> np.ndarray:
    """The gland's sectors about the nipple, (z, x)."""
    angle = np.arctan2(axes[0][:, None] - breast.nipple[0], axes[2][None, :] - breast.nipple[1])
    angle += 0.4 * np.sin(breast.nipple_far / rng.uniform(8, 20))
    waves = [np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in rng.integers(3, 15, 4)]
    return (np.sum(waves, axis=0) / np.sqrt(2)).astype(np.float32)


def _skin(rng, breast: Breast, db, alpha, y, skin) -> None:
    rows = int(min(db.shape[1], 5 + np.ceil(skin.max() / (y[0, 1, 0] - y[0, 0, 0]))))
    y, db, alpha = y[:, :rows], db[:, :rows], alpha[:, :rows]
    inside = ramp(skin - y, 0.7)
    flat = rng.uniform(4, 10)
    lines = np.exp(-np.square((y - skin) / 0.5)) + np.exp(-np.square((y - 0.4) / 0.6))
    db += inside * (flat - db) + lines * rng.uniform(2, 9)
    alpha += inside * (1.4 - alpha)
    echo = np.cos(2 * np.pi * y / rng.uniform(1.1, 2.4)) * rng.uniform(0, 4) * np.exp(-y / 3)  # of the plate
    db += echo + np.minimum(breast.contact_db, 14)[:, None, :] * (0.5 + 0.5 * np.sign(echo)) * np.exp(-y / 4)


def _nipple(rng, breast: Breast, db, alpha, y) -> None:
    core = ramp(breast.nipple_mm - breast.nipple_far, 2.5)[:, None, :] * np.exp(-y / rng.uniform(4, 9))
    db -= core * rng.uniform(0, 5)
    alpha += core * rng.uniform(0.5, 6)


def _wall(rng, breast: Breast, db, alpha, gland, axes: Axes) -> None:
    """Muscle with its fibres, ribs, pleura and lung, in the part of the volume that `axes` tell of."""
    y = axes[1][None, :, None]
    deep = y - breast.pectoral[:, None, :].astype(np.float32)
    muscle = ramp(deep, 0.8)
    gland *= 1 - muscle
    bend = noise(rng, axes, (14, 5, 14))
    fibres = np.sin(deep * np.float32(2 * np.pi / rng.uniform(1.6, 3.4)) + bend * 1.6) * (1.2 + 0.6 * bend)
    db += muscle * (rng.uniform(-7, -1) + fibres * rng.uniform(0.8, 2.6) - 0.6 * db)
    db += np.exp(-np.square(deep / 0.6)) * rng.uniform(4, 11)
    alpha += muscle * (rng.uniform(0.7, 1.1) - alpha)
    below = y - breast.chest[:, None, :].astype(np.float32)
    if below.max() < -1:
        return
    u = np.clip(1 - np.square(breast.rib / breast.rib_half), 0, None)[:, None, :].astype(np.float32)
    half = breast.rib_height * np.sqrt(u)
    inside = half - np.abs(below - breast.rib_height)  # mm from the surface, in depth
    rib = ramp(inside, 0.8) * (u > 0.02)
    front = np.exp(-np.square(inside / 0.7)) * (below < breast.rib_height) * u
    pleura_at = 2 * breast.rib_height + rng.uniform(0, 3)
    lung = ramp(below - pleura_at, 0.8)
    waves = np.cos((below - pleura_at) * np.float32(2 * np.pi / rng.uniform(3, 7)))
    db += lung * (rng.uniform(0, 6) + 2.5 * waves - db) + np.exp(-np.square((below - pleura_at) / 0.7)) * rng.uniform(
        5, 12
    )
    alpha += lung * rng.uniform(0.5, 4)
    if breast.cartilage:
        db += rib * (rng.uniform(-9, -4) - db) + np.exp(-np.square(inside / 0.5)) * u * rng.uniform(3, 8)
        alpha += rib * rng.uniform(0.3, 1.5)
    else:
        db += rib * (rng.uniform(-12, -4) - db) + front * rng.uniform(8, 16)
        alpha += rib * rng.uniform(6, 14)
