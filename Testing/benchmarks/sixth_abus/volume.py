"""A volume from a seed: a breast, its lesions, and the scanner that looks at it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from abus_records import Volume
from scipy import ndimage

from .breast import draw_breast
from .chest_wall import draw_chest_wall
from .contact import draw_contact, picture_bottom, sweep_gain
from .display import show, time_gain
from .grid import Grid, to_full
from .lesion_paint import paint
from .lesion_plan import Plan, draw_plans
from .lookalikes import draw_lookalikes
from .motion import displace, displace_mask, draw_shifts
from .placement import Placed, place
from .reverberation import add_reverberation
from .scanner import draw_scanner
from .speckle import receive
from .tissue import Pull, draw_tissue
from .visibility import seen

SIZE = (400, 100, 400)  # voxels (lateral, depth, slice)
_STREAM = 0x61B05  # so that a seed of another generator gives other numbers


@dataclass(frozen=True)
class Lesion:
    """A lesion of a volume: its label, its plan, and its echo against what is beside it, dB before shadows."""

    label: int
    plan: Plan
    contrast_db: float


def make_volume(seed: int, index: int, size: tuple[int, int, int]) -> Volume:
    """Make volume `index` of a series; `size` is voxels (lateral, depth, slice)."""
    rng = np.random.default_rng((_STREAM, seed, index))
    nx, ny, nz = size
    dx, dy, dz = (round(float(rng.uniform(*r)), 3) for r in ((0.335, 0.415), (0.425, 0.595), (0.385, 0.545)))
    grid = Grid((nz, ny, nx), (dz, dy, dx))
    scanner = draw_scanner(rng, grid.extent[1])
    breast = draw_breast(rng, grid, scanner.curvature_mm)
    face = to_full(breast.face.astype(np.float32), grid)
    bottom = picture_bottom(rng, grid, face)
    dimmed, contact = draw_contact(rng, grid, breast)
    placed = place(rng, grid, breast, draw_plans(rng), bottom, dimmed)
    tissue = draw_tissue(rng, grid, breast, [_pull(one, grid) for one in placed if one.plan.distortion])
    ribs = draw_chest_wall(rng, grid, breast, tissue)
    counts = draw_lookalikes(rng, grid, breast, tissue)
    echo = to_full(tissue.echo, grid)
    contrasts = [paint(rng, grid, one, echo, tissue.loss) for one in placed]
    echo += _lost(grid, tissue.loss, breast.face, dimmed)
    add_reverberation(rng, grid, face, echo)
    shifts = draw_shifts(rng, grid)
    displace(echo, shifts)
    echo += time_gain(rng, grid)
    echo += sweep_gain(rng, grid)[:, None, :]
    image = show(grid, scanner, receive(rng, grid, scanner, echo))
    _blacken(grid, image, face, bottom)
    labels, lesions = _label(grid, image, placed, contrasts, shifts)
    facts = {
        "density": breast.density,
        **{k: list(v) if isinstance(v, tuple) else v for k, v in asdict(scanner).items()},
        "contact": contact,
        "ribs": bool(ribs),
        "lookalikes": counts,
        "kinds": [one.plan.kind for one in lesions],
    }
    return Volume(image, labels, (dx, dy, dz), tuple(lesions), facts)


def _pull(placed: Placed, grid: Grid) -> Pull:
    z, y, x = (c * s for c, s in zip(placed.centre, grid.spacing, strict=True))
    return Pull((z, y, x), 1.8 * placed.shape.radius + 2, placed.plan.distortion)


def _lost(grid: Grid, loss: np.ndarray, face: np.ndarray, dimmed: np.ndarray) -> np.ndarray:
    """dB to add for what sound has lost on its way, on the full grid; beams are not thin, so that shadows have soft sides."""
    way = np.cumsum(loss, axis=1, dtype=np.float32)
    way *= grid.spacing[1]
    ndimage.gaussian_filter1d(way, 0.8, axis=2, output=way, truncate=2)
    ndimage.gaussian_filter1d(way, 0.5, axis=0, output=way, truncate=2)
    # what the surface takes is told in the depth more than in the skin itself
    deep = np.clip((np.arange(grid.shape[1]) * grid.spacing[1])[None, :, None] - face[:, None, :], 0, 4) / 4
    way += (0.3 + 0.7 * deep.astype(np.float32)) * dimmed[:, None, :]
    np.clip(way, -14, 70, out=way)
    np.negative(way, out=way)
    return to_full(way, grid)


def _blacken(grid: Grid, image: np.ndarray, face: np.ndarray, bottom: np.ndarray) -> None:
    """Black where the picture shows nothing: above the probe's face, and below its own end."""
    depth = (np.arange(grid.shape[1], dtype=np.float32) * grid.spacing[1])[None, :, None]
    rows = int(face.max() / grid.spacing[1]) + 2
    image[:, :rows] *= depth[:, :rows] >= face[:, None, :]
    if bottom.min() < grid.extent[1]:
        image *= depth < bottom[:, None, :]


def _label(
    grid: Grid, image: np.ndarray, placed: list[Placed], contrasts: list[float], shifts: np.ndarray
) -> tuple[np.ndarray, list[Lesion]]:
    """Labels of the lesions that can be seen in the end; what cannot be seen nobody could be asked to find."""
    labels = np.zeros(grid.shape, np.uint8)
    lesions: list[Lesion] = []
    for one, contrast in zip(placed, contrasts, strict=True):
        whole, part = one.windows(grid)
        mask = displace_mask(one.shape.mask[part], shifts[whole[0]])
        if seen(image[whole], mask, one.plan.echo == "isoechoic"):
            lesions.append(Lesion(len(lesions) + 1, one.plan, contrast))
            labels[whole][mask] = len(lesions)
    return labels, lesions
