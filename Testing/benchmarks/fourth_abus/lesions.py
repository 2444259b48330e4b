"""What a lesion does to backscatter and attenuation about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from .fields import noise
from .lesion_plan import UNLABELLED, Plan
from .shapes import Outline, by_direction
from .tissue import Tissue

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Patch:
    """Attributes
    ----------
    box : its part of the full grid, (z, y, x).
    change_db : what to add to the backscatter there.
    inside : the lesion's voxels there, exactly; `contrast_db` is their mean echo against what lies about them, before shadows and
        without calcifications. `echo` is the lexicon's word for it against fat.
    """

    box: Box
    change_db: np.ndarray
    inside: np.ndarray
    contrast_db: float
    echo: str


def _unit(place: np.ndarray, tilt: float) -> np.ndarray:
    """Tilts (3: x, y, z; ...) about both axes across the beam."""
    c, s = np.cos(tilt), np.sin(tilt)
    x, y, z = place
    x, y = c * x + s * y, c * y - s * x
    return np.stack([x, c * y + s * z, c * z - s * y])


def insert(
    rng: np.random.Generator,
    plan: Plan,
    outline: Outline,
    centre: np.ndarray,
    tissue: Tissue,
    shape: tuple[int, int, int],
    spacing,
) -> Patch:
    """Put a lesion at `centre` (z, y, x; mm): changes the tissue's attenuation, and tells what becomes of its backscatter.

    `shape` is the full grid's, (z, y, x), and `spacing` mm (x, y, z).
    """
    steps = np.array(spacing[::-1])
    margin = max(2.5, plan.halo_mm + 1.5, plan.strand_mm * bool(plan.strands))
    reach = plan.radii.max() * outline.reach + margin
    first = np.maximum(np.floor((centre - reach) / steps).astype(int), 0) // 2 * 2
    last = np.minimum(np.ceil((centre + reach) / steps).astype(int) + 1, shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    axes = [(np.arange(a, b) * s).astype(np.float32) for a, b, s in zip(first, last, steps, strict=True)]
    dz, dy, dx = np.meshgrid(*(a - np.float32(c) for a, c in zip(axes, centre, strict=True)), indexing="ij")
    p = _unit(np.stack([dx, dy, dz]), plan.tilt) / plan.radii.astype(np.float32)[:, None, None, None]
    level = np.sqrt(np.square(p).sum(0)) / by_direction(outline.radius, p)
    gz, gy, gx = np.gradient(level, *steps)
    slope = np.sqrt(gz**2 + gy**2 + gx**2) + 0.3 / plan.radii.max()
    far = (level - 1) / slope  # mm, below 0 inside
    facing = gy / slope  # -1 on top, 1 beneath, 0 on the flanks
    inside = level < 1

    # The tissue as it was, on the full grid.
    coarse = np.meshgrid(*(np.arange(a, b) / f for a, b, f in zip(first, last, (2, 1, 2), strict=True)), indexing="ij")
    before = map_coordinates(tissue.db, coarse, order=1, mode="nearest")
    about = (far > 1) & (far < 4)
    around = float(before[about].mean()) if about.any() else 0.0

    echo = plan.level_db
    # The smaller, and the rougher what is about it, the plainer a lesion must be for anybody to see it.
    least = 2 + 5 / plan.radii.min() + (0.4 * float(before[about].std()) if about.any() else 0)
    width = min(plan.edge_mm, 0.5 * plan.radii.min())
    pattern = plan.echo
    if pattern == "hypoechoic" or pattern == "isoechoic" and plan.kind not in ("fibroadenoma", *UNLABELLED):
        echo = min(echo, around - least)
        pattern = "hypoechoic" if echo <= -3.5 else "isoechoic"
    elif plan.kind == "fat necrosis":
        echo = max(echo, around + 1.5 * least)
    elif plan.echo == "heterogeneous":
        echo = min(echo, around - 2 * least)
    body = echo + plan.grain_db * noise(rng, axes, (plan.grain_mm,) * 3)
    body += rng.standard_normal(body.shape, dtype=np.float32) * (0.3 + 0.3 * plan.grain_db)
    body += _fluid(rng, plan, axes, p, far)
    if plan.kind == "lymph node":  # its hilum is fat and bright
        body += (12 + around) * np.exp(
            -(((p[0] - 0.15) / 0.55) ** 2 + ((p[1] + 0.1) / 0.45) ** 2 + (p[2] / 0.55) ** 2) * 1.6
        )
    if plan.echo == "anechoic":  # echoes of what is above blur into the top
        top = np.clip(dy + plan.radii[1], 0, None)
        body += rng.uniform(0, 14) * np.exp(-top / rng.uniform(0.8, 2)) * np.cos(top * rng.uniform(1, 4)) ** 2
    ragged = far + (0.45 * width * noise(rng, axes, (2.5,) * 3) if width > 1.1 else 0)
    share = np.clip(0.5 - ragged / width, 0, 1)
    after = before + share * (body - before)
    if plan.capsule_db:
        after += plan.capsule_db * np.exp(-np.square((far - 0.2) / 0.45)) * (0.15 + 0.85 * facing**2)
    if plan.halo_db:
        ring = np.exp(-np.clip(far, 0, None) / (0.6 * plan.halo_mm)) * (1 - share) * np.clip(far + 0.5, 0, 1)
        after += ring * np.clip(0.6 + 0.5 * noise(rng, axes, (5.0,) * 3), 0.1, 1.3) * plan.halo_db
    if plan.strands:
        line = by_direction(outline.strands, p) * np.clip(1 - far / plan.strand_mm, 0, 1) * (1 - share)
        after += line * (plan.strand_db if plan.strand_db > 0 else np.minimum(plan.strand_db, echo - before))
    mean = 10 * np.log10(np.mean(10 ** (after[inside] / 10)))
    beside = 10 * np.log10(np.mean(10 ** (before[about] / 10))) if about.any() else 0.0
    if plan.malignant and mean > beside - least:  # small and ragged, it would be all border
        after[inside] -= mean - beside + least
        mean = beside - least
    if plan.specks:
        _specks(rng, plan, after, level)

    # Attenuation, where the coarse grid has nodes.
    nodes = tuple(
        slice(b.start // f, b.start // f + (b.stop - b.start + f - 1) // f) for b, f in zip(box, (2, 1, 2), strict=True)
    )
    thin = (slice(None, None, 2), slice(None), slice(None, None, 2))
    alpha = tissue.alpha[nodes]
    here = plan.attenuation
    if plan.patchy:
        here = plan.attenuation * np.clip(
            1 + 1.2 * noise(rng, [a[::f] for a, f in zip(axes, (2, 1, 2), strict=True)], (7.0, 99.0, 7.0)), 0, 2.5
        )
    alpha += share[thin] * (here - alpha)
    alpha += plan.refraction_db * (1 - facing[thin] ** 2) ** 6 * np.exp(-np.square(far[thin] / 0.7))
    if plan.specks > 12 or plan.kind == "fibroadenoma" and plan.specks:
        alpha += 0.6 * (level[thin] < 0.6)
    return Patch(box, after - before, inside, float(mean - beside), pattern)


def _fluid(rng, plan: Plan, axes, p: np.ndarray, far: np.ndarray) -> np.ndarray | float:
    """What fluid takes from the echo: clefts and pockets, the free part of a cyst with a nodule, or a cluster's walls that stay."""
    if plan.cystic < 0:
        walls = np.abs(noise(rng, axes, (max(2.5, 0.45 * plan.radii.min()),) * 3))
        return rng.uniform(8, 15) * np.exp(-np.square(walls / 0.16))
    if not plan.cystic:
        return 0.0
    drop = rng.uniform(14, 24)
    if plan.cystic > 0.3 and plan.kind == "papilloma":  # one nodule on the wall
        angle = rng.uniform(0, 2 * np.pi)
        side = np.array([np.cos(angle) * 0.6, np.sin(angle) * 0.6, rng.uniform(-0.4, 0.4)])[:, None, None, None]
        return -drop * np.clip((np.sqrt(np.square(p - side).sum(0)) - rng.uniform(0.4, 0.65)) * 6, 0, 1)
    size = max(2.5, 0.4 * plan.radii.mean())
    pockets = noise(rng, axes, (size, 0.7 * size, size))
    inner = pockets[far < -0.6] if (far < -0.6).sum() > 20 else pockets
    return -drop * np.clip((pockets - np.quantile(inner, 1 - plan.cystic)) * 4, 0, 1) * np.clip(-far - 0.3, 0, 1)


def _specks(rng, plan: Plan, db: np.ndarray, level: np.ndarray) -> None:
    """Calcifications: single bright voxels within, or in rows along a duct that ends outside."""
    spots = np.argwhere(level < 0.75)
    if plan.calcifications == "intraductal":
        start, end = spots[rng.integers(len(spots), size=2)]
        way = start + rng.uniform(-0.4, 1.5, (plan.specks, 1)) * (end - start) + rng.normal(0, 0.8, (plan.specks, 3))
        chosen = np.clip(np.rint(way).astype(int), 0, np.array(db.shape) - 1)
        chosen = chosen[level[tuple(chosen.T)] < 1.25]
    else:
        chosen = spots[rng.integers(len(spots), size=plan.specks)]
    db[tuple(chosen.T)] = np.maximum(db[tuple(chosen.T)], 0) + rng.uniform(14, 24, len(chosen))
