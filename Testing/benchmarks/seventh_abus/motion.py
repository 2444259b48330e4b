"""The patient's motion during a sweep: slices shifted against one another."""

from __future__ import annotations

import numpy as np

from . import fields


def move(rng: np.random.Generator, image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Image and labels (slice, depth, lateral), in a third of volumes with slices shifted laterally by up to some
    voxels.
    """
    if rng.random() > 0.35:
        return image, labels
    path = rng.uniform(0.5, 1.5) * fields.smooth(rng, (len(image),), (rng.uniform(4, 15),))
    shifts = np.round(np.clip(path, -3, 3)).astype(int)
    places = np.arange(image.shape[2])
    for z in np.nonzero(shifts)[0]:
        at = np.clip(places + shifts[z], 0, image.shape[2] - 1)
        image[z], labels[z] = image[z][:, at], labels[z][:, at]
    return image, labels
