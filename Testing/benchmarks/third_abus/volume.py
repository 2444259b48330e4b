"""One volume: a seed in, grey levels and labels with their truth out."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from abus_records import Volume

from . import anatomy, lesion_place, lesion_plan, lesion_render
from .anatomy import Anatomy
from .filters import upsample
from .lesion_plan import Plan
from .lesion_render import Rendered
from .scan import acquire
from .scanner import draw_scanner

SIZE = (400, 100, 400)
"""Voxels, lateral x depth x slice: ABUS halved on each axis."""
NUMBERS = (0.31, 0.32, 0.2, 0.11, 0.06)
"""Shares of volumes in which 0, 1 ... 4 lesions are tried; one for which there is no room is left out."""
LEAST_VOXELS = 8
"""A lesion of which less is seen is left out."""
_VOXELS = (((0.425, 0.04), (0.38, 0.55)), ((0.5, 0.04), (0.42, 0.6)), ((0.384, 0.02), (0.33, 0.42)))
"""Mean and standard deviation, least and most mm of a voxel, (z, y, x)."""
_STREAM = 7741  # tells these random numbers from others of the same seed


@dataclass(frozen=True)
class Lesion:
    """A lesion that was drawn.

    Attributes
    ----------
    label : its value in the label map, from 1.
    plan : what was asked for.
    contrast_db : its level against the surroundings, before shadows and compression.
    """

    label: int
    plan: Plan
    contrast_db: float


def make_volume(seed: int, index: int, size: tuple[int, int, int] = SIZE) -> Volume:
    """Volume `index` of the series of a seed (both from 0): the same bits for the same numbers, size and machine.

    Parameters
    ----------
    size : voxels, lateral x depth x slice; a smaller size shows a smaller breast, not coarser voxels.
    """
    rng = np.random.default_rng([seed, index, _STREAM])
    nx, ny, nz = size
    voxel = tuple(float(np.clip(rng.normal(*typical), *range_)) for typical, range_ in _VOXELS)
    step = (2 * voxel[0], voxel[1], 2 * voxel[2])
    scanner = draw_scanner(rng)
    breast = anatomy.build(rng, (nz // 2 + 1, ny, nx // 2 + 1), step)

    plans: list[Plan] = []
    for _ in range(int(rng.choice(range(len(NUMBERS)), p=NUMBERS))):
        plan = lesion_plan.draw_plan(rng, 0.6 * min(nz * voxel[0], nx * voxel[2]))
        if lesion_place.place(rng, plan, breast, step, plans, scanner.floor_db):
            plans.append(plan)

    labels = np.zeros((nz, ny, nx), np.uint8)
    lesions: list[Lesion] = []
    changes: list[tuple[tuple[slice, ...], np.ndarray]] = []
    for plan in plans:
        drawn = lesion_render.render(rng, plan, labels.shape, voxel)
        drawn.inside &= labels[drawn.window] == 0
        if drawn.inside.sum() < LEAST_VOXELS:
            continue
        change, contrast = _insert(rng, plan, drawn, breast, voxel[1])
        lesions.append(Lesion(len(lesions) + 1, plan, contrast))
        labels[drawn.window][drawn.inside] = len(lesions)
        changes.append((drawn.window, change))

    breast.echo += breast.attenuation
    echo = upsample(breast.echo, nz, nx)
    for window, change in changes:
        echo[window] += change
    image = acquire(rng, echo, voxel, scanner)
    if rng.random() < 0.12:
        _breathe(rng, image, labels, voxel[0])
    facts = {"density": round(breast.density, 3), "fat_level_db": round(breast.fat_db, 2), "scanner": asdict(scanner)}
    return Volume(image, labels, voxel[::-1], tuple(lesions), facts)


def _insert(
    rng: np.random.Generator, plan: Plan, drawn: Rendered, breast: Anatomy, step_y: float
) -> tuple[np.ndarray, float]:
    """The change of echoes in a lesion's box, dB (z, y, x), and its contrast, dB. What lies below is changed in `breast`."""
    start, window = drawn.start, drawn.window
    nz, _, nx = drawn.alpha.shape
    tissue = upsample(breast.echo, nz, nx, start[0], start[2])[:, window[1]]
    ring = drawn.alpha < 0.1
    surroundings = float(tissue[ring].mean()) if ring.any() else float(tissue.mean())
    level = _level(rng, plan, surroundings, breast.fat_db)
    drawn.texture[drawn.inside] -= drawn.texture[drawn.inside].mean()
    change = drawn.alpha * (level + drawn.texture - tissue) + drawn.added
    rate = drawn.rate[::2, :, ::2]
    rate = np.pad(rate, ((0, 0), (0, breast.echo.shape[1] - window[1].stop), (0, 0)))
    below = lesion_render.posterior_echoes(rng, rate, step_y, plan.posterior == "enhancement")
    z, x = start[0] // 2, start[2] // 2
    breast.attenuation[z : z + rate.shape[0], start[1] :, x : x + rate.shape[2]] += below
    return change, float(level - surroundings)


def _level(rng: np.random.Generator, plan: Plan, surroundings: float, fat_db: float) -> float:
    """A lesion's mean echo, dB: its contrast, and against fat what its echo pattern says."""
    level = surroundings + plan.contrast_db
    if plan.echo in ("hypoechoic", "heterogeneous"):
        return min(level, fat_db - (rng.uniform(-1, 2) if plan.subtle else rng.uniform(0.5, 5)))
    if plan.echo == "anechoic":
        return min(level, fat_db - 12)
    if plan.echo == "hyperechoic":
        return max(level, fat_db + 7)
    return level


def _breathe(rng: np.random.Generator, image: np.ndarray, labels: np.ndarray, step_z: float) -> None:
    """Move whole slices up and down, as breathing does while the transducer sweeps."""
    z = np.arange(len(image)) * step_z
    moves = np.round(rng.uniform(0.6, 1.6) * np.sin(z * 2 * np.pi / rng.uniform(12, 40))).astype(int)
    for index in np.flatnonzero(moves):
        image[index] = _moved(image[index], moves[index])
        labels[index] = _moved(labels[index], moves[index], outside=0)


def _moved(plane: np.ndarray, voxels: int, outside: int | None = None) -> np.ndarray:
    """A slice (y, x) so many voxels deeper; what comes in repeats the border, or is `outside`."""
    source = np.arange(plane.shape[0]) - voxels
    moved = plane[np.clip(source, 0, plane.shape[0] - 1)]
    if outside is not None:
        moved[(source < 0) | (source >= plane.shape[0])] = outside
    return moved
