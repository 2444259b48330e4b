"""Lesions in the echo map: the inside with its border and rim, dots of lime, and what is seen below."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .background import Scene
from .fields import ramp, random_field
from .lesion_plan import Plan


def painted(
    scene: Scene, plan: Plan, value: np.ndarray, mask: np.ndarray, tissue: np.ndarray
) -> tuple[np.ndarray, float, float]:
    """The tissue of a box with the lesion in it, dB, and the echoes outside and inside it, dB.

    Parameters
    ----------
    value, mask : the lesion's shape (`lesion_shape`), over the box.
    tissue : dB, the box as it was, (slice, depth, lateral).
    """
    rng = scene.rng
    around = (value > 1.05) & (value < 1.6)
    outside = float(tissue[around].mean())
    mean_radius = np.float32(np.cbrt(np.prod(plan.radii)))
    distance = (value - 1) * mean_radius  # mm or thereabouts, outwards
    texture = plan.texture_db * random_field(rng, mask.shape, scene.spacing, plan.texture_mm)
    texture -= texture[mask].mean()  # or small lesions would not be as bright as planned
    inside = outside + plan.contrast_db + texture + plan.keep * (tissue - outside)
    if plan.echo == "complex cystic and solid":
        holes = random_field(rng, mask.shape, scene.spacing, rng.uniform(0.5, 0.9) * mean_radius)
        limit = np.quantile(holes[mask], rng.uniform(0.55, 0.75))
        inside -= rng.uniform(10, 18) * ramp((holes - limit) * 3)
    border = min(plan.border_mm, 0.9 * float(min(plan.radii)))
    weight = ramp(-distance / np.float32(border))
    echo = tissue + weight * (inside - tissue)
    if plan.halo_db:
        ring = np.exp(-((np.clip(distance - plan.halo_mm * 0.6, 0, None) / plan.halo_mm) ** 2)) * (1 - weight)
        echo += ring * np.maximum(outside + plan.halo_db - echo, 0)
    if plan.rim_db:
        line = np.clip(1 - np.abs(distance - 0.1) / 0.65, 0, None)
        echo += line * np.maximum(outside + plan.rim_db - echo, 0)
    if plan.calcifications != "none":
        where = mask & (value < 0.85) if plan.calcifications == "in mass" else (value > 1.15) & (value < 1.5)
        places = np.argwhere(where)
        for place in places[rng.integers(0, len(places), int(rng.integers(5, 18)))]:
            dot = tuple(slice(p, p + n) for p, n in zip(place, rng.integers(1, [3, 2, 4]), strict=True))
            echo[dot] = np.maximum(echo[dot], outside + rng.uniform(7, 15))
    return echo, outside, float(echo[mask].mean())


def draw_posterior(scene: Scene, plan: Plan, mask: np.ndarray, echo: np.ndarray, corner: tuple[int, int, int]) -> None:
    """Add shadow or enhancement below a lesion to a volume's echo, float, in place; `corner` is the first voxel of its box."""
    rng = scene.rng
    if not (plan.shade_db or plan.edge_db):
        return
    z, y, x = corner
    window = echo[z : z + mask.shape[0], :, x : x + mask.shape[2]]
    footprint = mask.sum(1).astype(np.float32) * np.float32(scene.spacing[1])  # mm of lesion along each line
    lowest = np.where(footprint > 0, y + mask.shape[1] - 1 - mask[:, ::-1].argmax(1), 0)
    start = ndimage.maximum_filter(lowest, 3).astype(np.float32) * np.float32(scene.spacing[1])
    start = np.where(start > 0, start, (y + mask.shape[1] / 2) * scene.spacing[1])
    share = footprint / footprint.max()
    core = ramp(share * rng.uniform(1.5, 4) - 0.5)
    if plan.posterior == "combined":  # shadow on one side, enhancement on the other
        side = np.sign(np.arange(mask.shape[2]) - mask.shape[2] / 2) * rng.choice([-1, 1])
        core = core * np.where(side > 0, -1.0, 0.7)
    edges = np.clip(1 - np.abs(share - 0.3) / 0.3, 0, None) * plan.edge_db
    sigma = [rng.choice([0.6, 1.5, 3]) / s for s in scene.spacing[::2]]
    amount = ndimage.gaussian_filter(core * plan.shade_db + edges, sigma).astype(np.float32)
    wide = ndimage.gaussian_filter(amount, [2.5 / s for s in scene.spacing[::2]])
    below = scene.depth - start[:, None]
    far = np.clip(below / np.float32(40), 0, 1)
    fade = ramp(below / np.float32(1.2)) * np.exp(-np.clip(below, 0, None) / np.float32(plan.shade_fade_mm))
    window += fade * (amount[:, None] * (1 - far) + wide[:, None] * far)
