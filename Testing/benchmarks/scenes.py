"""Lesions of known outline, as images, and outlines to start from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage


class Scene(NamedTuple):
    """`image` uint8; `start` and `truth` bool of its shape; `probability` float32, the map of a network that drew `start`."""

    image: np.ndarray
    start: np.ndarray
    truth: np.ndarray
    probability: np.ndarray


def lesion(shape: tuple[int, ...], seed: int, speckle: float = 0.3, shadowed: bool = False) -> Scene:
    """A dark lesion with an irregular outline under speckle, and a network's mask of it: shifted, and wrong here and there.

    shadowed : the lesion's depth is filled with echoes of its own, gain falls with the depth (the axis before the last), and a shadow lies under it.
    """
    random = np.random.default_rng(seed)
    radius = 0.19 * min(shape[-2:])
    if len(shape) == 3:
        radius = min(radius, 0.38 * shape[0])

    def smooth(sigma: float) -> np.ndarray:
        field = ndimage.gaussian_filter(random.normal(size=shape), sigma)
        return field / field.std()

    grid = np.indices(shape)
    distance = radius - np.sqrt(sum((g - n / 2) ** 2 for g, n in zip(grid, shape, strict=True)))
    distance = distance + 0.12 * radius * smooth(radius / 3)
    labels, _ = ndimage.label(distance > 0)
    truth = labels == labels[tuple(n // 2 for n in shape)]
    drawn = ndimage.shift(distance + 0.06 * radius * smooth(radius / 3), 0.06 * radius, order=1)
    grains = ndimage.gaussian_filter(random.rayleigh(size=shape), 0.7)
    grains = (grains - grains.mean()) / grains.std()
    level = np.where(truth, 70.0, 130.0)
    if shadowed:
        depth = grid[-2] / shape[-2]
        level = np.where(truth, 70 + 12 * smooth(radius / 4), 130 + 8 * smooth(radius / 2))
        under = np.maximum.accumulate(truth, axis=-2) & ~truth
        level = level * (1.15 - 0.35 * depth) * (1 - 0.3 * ndimage.gaussian_filter(under.astype(float), radius / 6))
    image = np.clip(level * (1 + speckle * grains), 0, 255).astype(np.uint8)
    probability = 1 / (1 + np.exp(-np.clip(drawn / (0.1 * radius), -30, 30)))
    return Scene(image, drawn > 0, truth, probability.astype(np.float32))
