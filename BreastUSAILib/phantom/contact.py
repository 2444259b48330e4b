"""Where the probe's membrane couples to the skin: an irregular border, dark corners, and now and then a bubble."""

from __future__ import annotations

import numpy as np

from .grids import PhantomGrid
from .layers import voxel_centres
from .noise import how_many, octaves, smooth_noise, smoothstep, uniform


def draw_contact(grid: PhantomGrid, bubbles: bool, generator: np.random.Generator) -> np.ndarray:
    """Coupling 0 to 1, float32 (slice, lateral). Pieces from the middle of a breast have contact everywhere.

    Parameters
    ----------
    bubbles : also poor contact in a few small spots, whose shadows have no mass above them.
    """
    z, x = voxel_centres(grid)
    if not grid.whole:
        return np.ones((len(z), len(x)), np.float32)
    across, along = (_from_middle(axis, generator)[s] for axis, s in ((z, np.s_[:, None]), (x, np.s_[None, :])))
    # A circle of the fourth power: sides nearly straight, corners round.
    quartic = across * across * across * across + along * along * along * along
    radius = np.sqrt(np.sqrt(quartic)) + np.float32(0.04) * smooth_noise(generator, (z, x), (60.0, 60.0))
    radius += np.float32(0.012) * octaves(generator, (z, x), (24.0, 24.0), (1.0, 0.7, 0.6))
    contact = smoothstep((np.float32(1.0) - radius) * np.float32(uniform(generator, 14.0, 32.0)))
    if bubbles:
        for _ in range(how_many(generator, 1.5 * grid.extent[0] * grid.extent[2] / 25500.0)):
            contact *= _bubble(generator, z, x)
    return contact.astype(np.float32)


def _from_middle(axis: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """-1 to 1 over the part with contact; each end loses its own share."""
    width = float(axis[0] + axis[-1])
    low = width * uniform(generator, -0.05, 0.07)
    high = width * (1.0 - uniform(generator, -0.05, 0.07))
    return ((axis - 0.5 * (low + high)) / (0.5 * (high - low))).astype(np.float32)


def _bubble(generator: np.random.Generator, z: np.ndarray, x: np.ndarray) -> np.ndarray:
    cz, cx = uniform(generator, z[0], z[-1]), uniform(generator, x[0], x[-1])
    rz, rx = uniform(generator, 1.0, 4.0), uniform(generator, 1.5, 7.0)
    square = (((z - cz) / rz) ** 2)[:, None] + (((x - cx) / rx) ** 2)[None, :]
    ragged = square.astype(np.float32) + np.float32(0.35) * smooth_noise(generator, (z, x), (4.0, 4.0))
    inside = smoothstep(np.float32(1.0) - ragged)
    return np.float32(1.0) - np.float32(uniform(generator, 0.25, 0.65)) * inside
