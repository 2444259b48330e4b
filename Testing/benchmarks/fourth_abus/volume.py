"""A volume with its labels and all that is known of its lesions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from abus_records import Volume

from . import beam
from .anatomy import draw_breast
from .fields import coarse_axis, upsample
from .image import render
from .lesion_draft import draw_kind, draw_plan
from .lesion_plan import KINDS, Plan
from .lesions import Patch, insert
from .placing import find_place
from .scanner import Scanner, draw_scanner
from .shapes import draw_outline
from .tissue import make_tissue
from .tubes import add_tubes

SIZE = (400, 100, 400)  # lateral, depth, slice
HEALTHY = 0.18
POSTERIOR_DB = 2.5  # the least two-way difference that counts as a shadow or as enhancement
SMALLEST_ML, LARGEST_ML = 0.05, 10.0


@dataclass(frozen=True)
class Lesion:
    """A lesion with its label; `posterior` is the lexicon's word for what lies behind it, `contrast_db` its echo against its surroundings."""

    label: int
    plan: Plan
    posterior: str
    contrast_db: float


def make_volume(seed: int, index: int, size: tuple[int, int, int] = SIZE) -> Volume:
    """Volume `index` of a seed's series, of `size` voxels (lateral, depth, slice)."""
    rng = np.random.default_rng([seed, index, 4])
    nx, ny, nz = size
    shape = (nz, ny, nx)
    dx, dy, dz = spacing = tuple(round(float(rng.uniform(*r)), 4) for r in ((0.33, 0.42), (0.42, 0.6), (0.38, 0.55)))
    scanner = draw_scanner(rng, shape, spacing)
    axes = (coarse_axis(nz, dz), np.arange(ny, dtype=np.float32) * np.float32(dy), coarse_axis(nx, dx))
    breast = draw_breast(rng, axes[0], axes[2], ny * dy)
    tissue = make_tissue(rng, breast, axes)
    add_tubes(rng, breast, tissue)
    lost = beam.losses(tissue.alpha, breast.contact_db, scanner, dy)
    gain = beam.time_gain(lost, breast.contact_db, scanner)
    noise_db = beam.noise_level(gain, scanner)
    level = beam.heard(lost, gain, scanner)
    above = level - noise_db.astype(np.float32)[None, :, None]

    labels = np.zeros(shape, np.uint8)
    patches: list[tuple[Plan, Patch]] = []
    taken: list[tuple[np.ndarray, float]] = []
    limit = np.array([(n - 1) * s for n, s in zip(shape, (dz, dy, dx), strict=True)])
    plain = [
        *["fat lobule"] * rng.poisson(2.5 if breast.density in "cd" else 0.8),
        *["lymph node"] * (rng.random() < 0.15),
    ]
    count = 0 if rng.random() < HEALTHY else int(rng.choice([1, 2, 3], p=[0.6, 0.27, 0.13]))
    for kind in [*(draw_kind(rng) for _ in range(count)), *plain]:
        for attempt in range(14):  # the kind stays while smaller ones are tried, or kinds that need room would be rare
            plan = draw_plan(rng, kind).scaled(0.93**attempt)
            outline = draw_outline(rng, plan)
            ml = 4 / 3 * np.pi * np.prod(plan.radii) / 1000
            if ml < 1.15 * SMALLEST_ML or ml > 0.8 * LARGEST_ML:
                plan = plan.scaled((np.clip(ml, 1.15 * SMALLEST_ML, 0.8 * LARGEST_ML) / ml) ** (1 / 3))
            centre = find_place(rng, plan, outline.reach, breast, tissue, above, taken, limit)
            if centre is not None:
                break
        else:
            continue
        patch = insert(rng, plan, outline, centre, tissue, shape, spacing)
        taken.append((centre, float(plan.radii.max() * outline.reach)))
        patches.append((plan, patch))
        if kind in KINDS:
            labels[patch.box][patch.inside] = len(patches)
    before = level
    level = beam.heard(beam.losses(tissue.alpha, breast.contact_db, scanner, dy), gain, scanner)
    db = upsample(tissue.db + level, nz, nx)
    for _, patch in patches:
        db[patch.box] += patch.change_db
    lesions = []
    for label, (plan, patch) in enumerate(patches, 1):
        if plan.kind in KINDS:  # they come first; what has no label follows
            lesions.append(
                Lesion(label, replace(plan, echo=patch.echo), _posterior(before, level, patch), patch.contrast_db)
            )
    image = render(rng, db, noise_db, scanner, spacing)
    _move(image, labels, scanner)
    facts = {
        "density": breast.density,
        "acquisition": {
            "mhz": round(scanner.mhz, 3),
            "dynamic_range_db": round(scanner.range_db, 2),
            "noise_db": round(scanner.noise_db, 2),
            "focus_mm": round(scanner.focus_mm, 2),
        },
        "distractors": [plan.kind for plan, _ in patches[len(lesions) :]],
    }
    return Volume(image, labels, spacing, tuple(lesions), facts)


def _posterior(before: np.ndarray, after: np.ndarray, patch: Patch) -> str:
    """What lies behind a lesion, from the levels heard (coarse, dB) without and with it, over the columns through its inner part."""
    columns = patch.inside[::2, :, ::2].sum(1)
    inner = columns >= 0.6 * columns.max()
    bottom = min(patch.box[1].start + int(np.argwhere(patch.inside.any((0, 2))).max()) + 2, after.shape[1] - 1)
    nodes = tuple(
        slice(patch.box[a].start // 2, patch.box[a].start // 2 + columns.shape[i]) for i, a in enumerate((0, 2))
    )
    extra = (before[:, bottom] - after[:, bottom])[nodes][inner]
    shadow, bright = np.mean(extra > POSTERIOR_DB), np.mean(extra < -POSTERIOR_DB)
    if min(shadow, bright) > 0.2:
        return "combined"
    return "shadowing" if shadow > 0.5 else "enhancement" if bright > 0.5 else "none"


def _move(image: np.ndarray, labels: np.ndarray, scanner: Scanner) -> None:
    """Shift slices, and their labels with them, as breathing and the carriage did; borders are repeated."""
    nz, ny, nx = image.shape
    for k in np.flatnonzero((scanner.shift_y != 0) | (scanner.shift_x != 0)):
        rows = np.clip(np.arange(ny) - scanner.shift_y[k], 0, ny - 1)[:, None]
        columns = np.clip(np.arange(nx) - scanner.shift_x[k], 0, nx - 1)
        image[k], labels[k] = image[k][rows, columns], labels[k][rows, columns]
