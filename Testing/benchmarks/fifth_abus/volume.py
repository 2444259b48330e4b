"""A volume from its seed: tissue, artefacts, lesions where they can be seen, speckle, grey."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from abus_records import Volume

from .artefacts import contact, draw_artefacts
from .background import STYLES, Scene, draw_background
from .clutter import draw_clutter
from .display import Display, draw_display, shown
from .fields import upsample
from .lesion_paint import draw_posterior, painted
from .lesion_plan import Plan, draw_plan
from .lesion_shape import shape_of
from .speckle import UNIT, Speckle, draw_speckle, grain_voxels, other_speckle, speckle_field

SIZE = (400, 100, 400)  # voxels (lateral, depth, slice)
HEALTHY = 0.14  # and some more, where no lesion finds a place
PLANS = 2  # for a lesion, and for each
TRIES = 15  # places
LEAST_GREY = 9.0  # levels between a lesion and what lies about it; not of isoechoic ones


@dataclass(frozen=True)
class Lesion:
    """`label` in the label map; `contrast_db` is the echo inside against outside as painted, before shadows."""

    label: int
    plan: Plan
    contrast_db: float


def make_volume(seed: int, index: int, size: tuple[int, int, int] = SIZE) -> Volume:
    """Volume `index` of a series; `size` is voxels (lateral, depth, slice)."""
    rng = np.random.default_rng([5, seed, index])
    spacing = tuple(round(float(rng.uniform(*ends)), 4) for ends in ((0.33, 0.42), (0.42, 0.6), (0.38, 0.55)))
    style = str(rng.choice(list(STYLES), p=np.array(list(STYLES.values())) / sum(STYLES.values())))
    scene = Scene(rng, style, size[::-1], spacing[::-1])
    draw_background(scene)
    draw_clutter(scene)
    draw_artefacts(scene)
    seen = contact(scene)

    both = (scene.tissue + scene.shade)[::3, ::2, ::3]
    low, middle, high = np.quantile(both, (0.1, 0.5, 0.9))
    display = draw_display(rng, float(middle), float(high - low))
    weak = bool(rng.uniform() < 0.2)
    speckle = draw_speckle(rng, weak)
    grains = speckle_field(rng, scene.size, speckle)
    echo = upsample(scene.tissue + scene.shade, scene.size[0], scene.size[2])
    labels = np.zeros(scene.size, np.uint8)
    number = 0 if rng.uniform() < HEALTHY else int(rng.choice([1, 2, 3], p=[0.55, 0.3, 0.15]))
    lesions = []
    for _ in range(number):
        for _ in range(PLANS):
            lesion = _add_lesion(scene, len(lesions) + 1, (echo, grains, labels), seen, display, speckle)
            if lesion is not None:
                lesions.append(lesion)
                break

    for z in range(0, len(echo), 8):
        grains[z : z + 8] += np.clip(echo[z : z + 8] * UNIT, -16000, 16000).astype(np.int16)
    image, after = shown(rng, grains, display)
    if not seen.all():
        image *= seen[:, None].astype(np.uint8)
    scene.facts |= {
        "density": "abcd"[int(np.searchsorted((0.2, 0.45, 0.7), (both > scene.fat / 2).mean()))],
        "style": style,
        "curve": display.curve,
        "speckle": {name: getattr(speckle, name) for name in ("coarseness", "law", "strength", "envelope")},
        **after,
    }
    return Volume(image, labels, spacing, tuple(lesions), scene.facts)


def _add_lesion(
    scene: Scene,
    label: int,
    maps: tuple[np.ndarray, np.ndarray, np.ndarray],
    seen: np.ndarray,
    display: Display,
    speckle: Speckle,
) -> Lesion | None:
    """Draw a lesion into echo (dB), speckle and labels, in place; None where none finds a place in which it can be seen."""
    rng = scene.rng
    echo, grains, labels = maps
    room = min(scene.extent[0] / 2.2, scene.extent[2] / 2.2, (scene.extent[1] - 4) / 1.8)
    plan = draw_plan(rng, room)
    shapes = (shape_of(rng, plan, scene.spacing) for _ in range(6))
    shape = next((s for s in shapes if s is not None), None)
    if shape is None:
        return None
    value, mask = shape
    inner = other_speckle(rng, speckle, plan.strength) if plan.strength else speckle
    inner_grains = speckle_field(rng, mask.shape, inner)
    for _ in range(TRIES):
        corner = _place(scene, value.shape, mask, labels, seen)
        if corner is None:
            continue
        window = tuple(slice(c, c + n) for c, n in zip(corner, mask.shape, strict=True))
        tissue, shade = (_part(a, window) for a in (scene.tissue, scene.shade))
        made, outside, inside = painted(scene, plan, value, mask, tissue)
        echoes, both = (tissue, made, shade), (grains[window], inner_grains)
        if _visible(scene, plan, value, mask, echoes, both, display, grain_voxels(speckle)):
            break
    else:
        return None
    echo[window] += made - tissue
    if plan.strength:
        grains[window] = np.where(value < 1, inner_grains, grains[window])
    draw_posterior(scene, plan, mask, echo, corner)
    labels[window][mask] = label
    return Lesion(label, plan, inside - outside)


def _part(coarse: np.ndarray, window: tuple[slice, slice, slice]) -> np.ndarray:
    """A part of the half grid at full size; slice and lateral begin on even voxels."""
    z, y, x = window
    part = coarse[z.start // 2 : (z.stop + 1) // 2 + 1, y, x.start // 2 : (x.stop + 1) // 2 + 1]
    return upsample(part, z.stop - z.start, x.stop - x.start)


def _place(scene: Scene, box: tuple[int, ...], mask: np.ndarray, labels: np.ndarray, seen: np.ndarray) -> tuple | None:
    """The first voxel of a box in which the lesion lies below the skin, in the picture, and not above or below another."""
    rng, step = scene.rng, scene.spacing[1]
    if any(b + 2 > n for b, n in zip(box[::2], scene.size[::2], strict=True)):
        return None
    z, x = (2 * int(rng.integers(0, (n - b) // 2 + 1)) for n, b in zip(scene.size[::2], box[::2], strict=True))
    skin = scene.skin[z // 2 : (z + box[0]) // 2 + 1, x // 2 : (x + box[2]) // 2 + 1].max()
    rows = np.flatnonzero(mask.any((0, 2)))
    deepest = scene.extent[1] if rng.uniform() < 0.1 else min(scene.floor, scene.extent[1])
    first = int(np.ceil((skin + 1) / step)) - rows[0]
    last = int((deepest - 1.5) / step) - rows[-1] - 1
    first, last = max(first, 0), min(last, scene.size[1] - box[1])
    if first > last:
        return None
    window = np.s_[z : z + box[0], :, x : x + box[2]]
    if labels[window].any() or not seen[window[0], window[2]].all():
        return None
    return z, int(rng.integers(first, last + 1)), x


def _visible(
    scene: Scene,
    plan: Plan,
    value: np.ndarray,
    mask: np.ndarray,
    echoes: tuple[np.ndarray, np.ndarray, np.ndarray],
    speckles: tuple[np.ndarray, np.ndarray],
    display: Display,
    grain: float,
) -> bool:
    """Whether a careful reader can see it: by its grey, or, isoechoic, by its rim and texture, against what lies about it.

    Parameters
    ----------
    value, mask : the lesion's shape, over its box.
    echoes : of the box, dB: tissue before it, tissue with it, gain.
    speckles : dB / `UNIT`, of the tissue and of the lesion. `grain` : voxels of a grain.
    """
    (tissue, made, shade), (outer_grains, inner_grains) = echoes, speckles
    around = (value > 1.05) & (value < 1.6)
    gain, outside = float(shade[around].mean()), float(tissue[around].mean())
    some = outer_grains[::3, ::3, ::3].ravel()
    grey = display.grey(outside + gain, some)
    noise = np.std(
        display.table[np.clip((outside + gain) * UNIT + some, -32000, 32000).astype(np.int16).view(np.uint16)]
    )
    if plan.echo == "isoechoic":
        line = display.grey(outside + gain + plan.rim_db, some) - grey
        return 35 < grey < 215 and line > max(1.5 * LEAST_GREY, 0.8 * noise)
    within = float(made[mask].mean())
    difference = display.grey(within + gain, inner_grains[::2, ::2, ::2].ravel()) - grey
    uneven = float((tissue + shade)[around].std())
    if scene.lobules is not None and not (plan.rim_db or plan.halo_db or plan.shade_db):
        if outside - 2 > within > scene.lobules - 3:  # it would be one lobule of many
            return False
    least = max(LEAST_GREY, noise * max(0.3, 4 * np.sqrt(grain / mask.sum())))
    return abs(difference) > least and abs(within - outside) > 1.2 * uneven and difference * plan.contrast_db > 0
