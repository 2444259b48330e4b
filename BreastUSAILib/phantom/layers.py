"""How deep the breast's layers lie under the compressed skin: one depth map each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .grids import PhantomGrid
from .nipple import Nipple
from .noise import smooth_noise, smoothstep, uniform

# Share of the tissue between skin and retromammary fat that the fibroglandular zone takes, by density.
ZONE_SHARE = {"a": (0.35, 0.55), "b": (0.45, 0.65), "c": (0.55, 0.75), "d": (0.70, 0.85)}


@dataclass(frozen=True)
class Layers:
    """Depth maps, float32 (slice, lateral), mm from the first voxel's corner; negative above it. Each lies below the one before.

    Attributes
    ----------
    surface : top of the skin, under gel and membrane.
    skin : bottom of the skin.
    gland : top of the zone of fibroglandular tissue; its ridges are where ligaments stand.
    retromammary : bottom of that zone.
    fascia : top of the pectoral muscle.
    wall : bottom of the pectoral muscle; the ribs' fronts lie near it.
    pleura : front of the lung.
    """

    surface: np.ndarray
    skin: np.ndarray
    gland: np.ndarray
    retromammary: np.ndarray
    fascia: np.ndarray
    wall: np.ndarray
    pleura: np.ndarray


def voxel_centres(grid: PhantomGrid) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of voxel centres along slice and lateral, mm, float64."""
    return tuple((np.arange(grid.size[a]) + 0.5) * grid.spacing[a] for a in (2, 0))


def draw_layers(grid: PhantomGrid, density: str, nipple: Nipple, generator: np.random.Generator) -> Layers:
    """Layers of a breast of composition `density` (a to d) on a grid.

    In whole scans the chest wall is within reach for the usual 5 cm of depth; pieces from below the skin mostly end above the muscle.
    Thicknesses: skin 1 to 2 mm, subcutaneous fat from 3 mm, retromammary fat 1 to 4 mm, pectoral muscle 5 to 10 mm.
    """
    centres = voxel_centres(grid)

    def waves(amplitude: float, wavelength: float) -> np.ndarray:
        return np.float32(amplitude) * smooth_noise(generator, centres, (wavelength, wavelength))

    bottom = grid.top + grid.extent[1]
    if grid.whole:
        fascia_depth = min(max(bottom, 24.0), 56.0) / 50.0 * uniform(generator, 23.0, 33.0)
    elif generator.random() < 0.4:
        fascia_depth = bottom * uniform(generator, 0.68, 1.0)
    else:
        fascia_depth = bottom + uniform(generator, 0.5, 10.0)
    fascia_depth = max(fascia_depth, 12.0)
    skin_thickness = uniform(generator, 1.0, 2.0)
    retro_thickness = uniform(generator, 1.0, 3.5)
    muscle_thickness = uniform(generator, 5.0, 9.5)
    tissue = fascia_depth - retro_thickness - skin_thickness - 0.5
    fat_thickness = max(3.0, tissue * (1.0 - uniform(generator, *ZONE_SHARE[density])))

    surface = np.float32(uniform(generator, 0.2, 0.6)) + waves(0.06, 20.0)
    areola = smoothstep((np.float32(nipple.areola) - nipple.distance(*centres)) * np.float32(0.25))
    skin = surface + np.maximum(np.float32(skin_thickness) + waves(0.12, 18.0), np.float32(0.7)) + np.float32(0.8) * areola

    # The breast thins out away from its middle: fascia rises a little, and leans.
    fascia = np.float32(fascia_depth) + waves(0.9, 60.0) + waves(0.3, 17.0)
    for nodes, axis in zip(centres, (0, 1), strict=True):
        u = (nodes / (nodes[0] + nodes[-1]) - 0.5) * (max(nodes[-1], 30.0) / 150.0)
        bent = uniform(generator, -4.0, 4.0) * u - uniform(generator, 0.0, 16.0) * u * u
        fascia += bent.astype(np.float32).reshape((-1, 1) if axis == 0 else (1, -1))
    fascia = np.maximum(fascia, skin + np.float32(6.0))
    retromammary = fascia - np.maximum(np.float32(retro_thickness) * (1.0 + waves(0.45, 24.0)), np.float32(0.5))

    ridges = 1.0 - 0.9 * np.abs(waves(1.0, uniform(generator, 18.0, 30.0)))
    ridges = np.maximum(ridges, 0.0)
    ridges *= ridges
    gland = skin + np.float32(fat_thickness) + waves(0.16 * fat_thickness, 34.0)
    gland -= np.float32(0.42 * fat_thickness) * (ridges - np.float32(0.3))
    gland = np.maximum(gland, skin + np.float32(1.5))
    gland = np.minimum(gland, retromammary - np.float32(2.0))
    gland = np.maximum(gland, skin + np.float32(0.5))

    breathing = _breathing(generator, centres[0])[:, None]
    wall = fascia + np.maximum(np.float32(muscle_thickness) * (1.0 + waves(0.16, 50.0)), np.float32(2.5)) + breathing
    wall = np.maximum(wall, fascia + np.float32(2.0))
    pleura = wall + np.float32(uniform(generator, 6.0, 9.0)) + waves(0.4, 40.0)
    layers = (surface, skin, gland, retromammary, fascia, wall, pleura)
    return Layers(*((layer - np.float32(grid.top)).astype(np.float32) for layer in layers))


def _breathing(generator: np.random.Generator, slices: np.ndarray) -> np.ndarray:
    """Depth wobble of the chest wall along the sweep, which takes a minute: a few mm of travel a breath, irregular."""
    wobble = np.float32(uniform(generator, 0.1, 0.55)) * smooth_noise(generator, (slices,), (uniform(generator, 9.0, 15.0),))
    return wobble
