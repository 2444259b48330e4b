"""A compressed breast under the transducer: skin, fat with septa, gland, retromammary fat, pectoral muscle, ribs and pleura.

Levels in dB relative to gland. Their order is that of any atlas of breast ultrasound (Stavros, Breast Ultrasound, 2004): gland and fibrous tissue
bright, fat intermediate to dark, muscle like fat with bright fascia, ribs dark behind a bright surface with shadow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .noise import ridges, sigmoid, smooth_noise

DENSITIES = {"a": (0.03, 0.12), "b": (0.12, 0.35), "c": (0.35, 0.65), "d": (0.65, 0.92)}
"""ACR density -> share of the mammary zone that is gland."""


@dataclass
class Tissue:
    """Maps of a breast; (depth, slice, lateral) or (slice, lateral).

    Attributes
    ----------
    level : echogenicity, dB.
    specular : amplitude of smooth reflectors, which echo coherently; 0 elsewhere.
    loss : two-way attenuation beyond what the machine compensates, dB per mm.
    skin, chest : depth of the skin's inner side and of the muscle's fascia, mm.
    contact : 1 where the transducer touches the breast, 0 in air.
    nipple : place (slice, lateral) in mm.
    fat_level : dB.
    density : "a" to "d".
    """

    level: np.ndarray
    specular: np.ndarray
    loss: np.ndarray
    skin: np.ndarray
    chest: np.ndarray
    contact: np.ndarray
    nipple: tuple[float, float]
    fat_level: float
    density: str


def make_tissue(
    random: np.random.Generator, shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> Tissue:
    """Draw a breast. `shape` and `spacing` (mm) are (depth, slice, lateral)."""
    depth_mm, slice_mm, lateral_mm = (n * s for n, s in zip(shape, spacing, strict=True))
    plane, in_plane = shape[1:], np.array(spacing[1:])

    def sheet(mm: float) -> np.ndarray:
        return smooth_noise(random, plane, mm / in_plane)

    def solid(depth: float, slices: float, lateral: float) -> np.ndarray:
        return smooth_noise(random, shape, np.divide((depth, slices, lateral), spacing))

    y = ((np.arange(shape[0], dtype=np.float32) + 0.5) * np.float32(spacing[0]))[:, None, None]
    z = ((np.arange(shape[1], dtype=np.float32) + 0.5) * np.float32(spacing[1]))[:, None]
    x = ((np.arange(shape[2], dtype=np.float32) + 0.5) * np.float32(spacing[2]))[None, :]
    nipple = (slice_mm * random.uniform(0.33, 0.67), lateral_mm * random.uniform(0.33, 0.67))
    radius = np.hypot((z - nipple[0]) / (0.5 * slice_mm), (x - nipple[1]) / (0.5 * lateral_mm))

    # Surfaces.
    skin = random.uniform(1.3, 2.6) + 0.15 * sheet(9.0) + 0.8 * np.exp(-np.square(radius / 0.12))
    tilt = random.normal(0, 0.03, 2)
    chest = depth_mm * random.uniform(0.56, 0.88) + tilt[0] * (z - nipple[0]) + tilt[1] * (x - nipple[1])
    chest = chest - random.uniform(0, 0.18) * depth_mm * np.square(radius) + 0.6 * sheet(18.0)
    chest = np.maximum(chest, skin + 8)
    fat_share = random.uniform(0.1, 0.34)
    fat = skin + (chest - skin) * np.clip(fat_share * (1 + 0.35 * sheet(22.0) + 0.25 * sheet(9.0)), 0.03, 0.6)
    retro = chest - (chest - skin) * np.clip(random.uniform(0.05, 0.22) * (1 + 0.4 * sheet(20.0)), 0.02, 0.4)

    # Gland: thresholded noise in the mammary zone, more of it towards the nipple.
    density = str(random.choice(list(DENSITIES), p=(0.15, 0.4, 0.33, 0.12)))
    share = random.uniform(*DENSITIES[density])
    shape_of_gland = solid(5.0, 11.0, 11.0) + 0.55 * solid(2.2, 4.5, 4.5) + 0.22 * solid(1.0, 1.8, 1.8)
    shape_of_gland -= (random.uniform(0.6, 1.4) * (radius - 0.55)).astype(np.float32)
    zone = sigmoid((y - fat) / 0.8) * sigmoid((retro - y) / 0.8)
    inside = zone > 0.5
    threshold = np.quantile(shape_of_gland[inside][::17], 1 - share) if inside.any() else 0.0
    gland = zone * sigmoid((shape_of_gland - np.float32(threshold)) / random.uniform(0.08, 0.3))
    del shape_of_gland, zone, inside

    # Fat: dark, with lobules of slightly different brightness and bright septa between them.
    fat_level = random.uniform(-15.0, -8.0)
    lobules = solid(3.2, 7.5, 7.5)
    septa = ridges(lobules, random.uniform(0.1, 0.18))
    septa *= sigmoid(1.5 * solid(6.0, 10.0, 10.0) + 0.5)
    fine = ridges(solid(2.4, 4.5, 4.5), 0.1) * sigmoid(2.5 * solid(5.0, 8.0, 8.0) - 1.0)
    level = np.float32(fat_level) + random.uniform(0.4, 1.2) * solid(2.5, 6.0, 6.0)
    level += random.uniform(6.0, 13.0) * septa + random.uniform(3.0, 8.0) * fine
    specular = random.uniform(0.1, 0.35) * septa

    # Gland: bright, streaky, with darker ducts and lobules.
    texture = random.uniform(0.6, 1.8) * solid(0.9, 3.0, 3.0) + random.uniform(0.6, 1.5) * solid(2.5, 6.0, 6.0)
    texture -= random.uniform(1.0, 4.5) * ridges(solid(1.6, 3.2, 3.2), 0.25)
    level += gland * (texture - level)
    specular *= 1 - gland
    del lobules, septa, fine, texture

    # Skin: two bright lines with a grey band between; the film of gel before it.
    in_skin = sigmoid((skin - y) / 0.18)
    level += in_skin * (random.uniform(-3.0, 3.0) - level)
    gel = random.uniform(0.1, 0.7)
    specular += random.uniform(1.2, 2.5) * np.exp(-np.square((y - gel) / 0.35))
    specular += random.uniform(0.5, 1.4) * np.exp(-np.square((y - skin) / 0.3))

    # Muscle with fibres along a random direction, between two fasciae.
    thickness = np.clip(random.uniform(5.0, 11.0) * (1 + 0.15 * sheet(25.0)), 2.5, 15)
    in_muscle = sigmoid((y - chest) / 0.4)
    fibres = solid(0.8, 9.0, 9.0)
    muscle = fat_level + random.uniform(-2.0, 2.5) + random.uniform(1.2, 2.6) * fibres
    level += in_muscle * (muscle - level)
    fascia = np.exp(-np.square((y - chest) / 0.45))
    level += random.uniform(3.0, 8.0) * fascia
    specular += random.uniform(0.2, 0.8) * fascia * (0.7 + 0.3 * sheet(8.0))
    gland *= 1 - in_muscle
    del fibres, muscle, fascia

    loss = np.full(shape, random.uniform(-0.08, 0.08), np.float32) + random.uniform(-0.02, 0.16) * gland
    # Where fibrous tissue is dense it takes sound away in patches, as every reader knows.
    dense = sigmoid(4.0 * (solid(4.0, 6.0, 6.0) - random.uniform(1.1, 2.2)))
    loss += random.uniform(0.3, 1.1) * dense * gland
    del dense, gland, in_muscle

    _ribs(random, level, specular, loss, y, z, x, chest + thickness, sheet)
    contact = _contact(random, plane, spacing, radius, sheet)
    _nipple(random, level, loss, y, np.hypot(z - nipple[0], x - nipple[1]).astype(np.float32), skin, sheet)
    return Tissue(
        level=level.astype(np.float32, copy=False),
        specular=specular.astype(np.float32, copy=False),
        loss=loss.astype(np.float32, copy=False),
        skin=skin.astype(np.float32),
        chest=chest.astype(np.float32),
        contact=contact,
        nipple=nipple,
        fat_level=fat_level,
        density=density,
    )


def _ribs(random, level, specular, loss, y, z, x, depth, sheet) -> None:
    """Ribs (dark, bright in front, shadow behind) with muscle and the pleura between them; changes the maps."""
    angle = random.uniform(-0.6, 0.6)
    along = np.cos(angle) * z + np.sin(angle) * x
    period, width = random.uniform(20.0, 28.0), random.uniform(9.0, 13.0)
    phase = (along + random.uniform(0, period) + 3.0 * sheet(30.0)) % period - period / 2
    half = width / 2 * np.clip(1 + 0.15 * sheet(25.0), 0.6, 1.4)
    bulge = np.sqrt(np.clip(1 - np.square(phase / half), 0, None))  # 0 between the ribs
    front = depth + random.uniform(3.0, 5.5) * (1 - bulge) - 1.0 + 0.3 * sheet(6.0)
    rib = (bulge > 0) & (y > front)
    level += np.where(rib, np.float32(random.uniform(-6.0, -2.0)), np.float32(0))
    loss += np.where(rib, np.float32(random.uniform(1.0, 3.0)), np.float32(0))
    specular += random.uniform(0.5, 2.0) * bulge * np.exp(-np.square((y - front) / 0.45))
    pleura = depth + random.uniform(5.0, 8.0)
    between = (1 - np.clip(bulge * 3, 0, 1)).astype(np.float32)
    specular += random.uniform(0.8, 2.0) * between * np.exp(-np.square((y - pleura) / 0.5))
    level += between * sigmoid((y - pleura) / 0.4) * np.float32(random.uniform(-10.0, 0.0))
    loss += between * sigmoid((y - pleura) / 0.4) * np.float32(random.uniform(0.2, 1.0))


def _contact(random, plane, spacing, radius, sheet) -> np.ndarray:
    """Where the membrane touches skin: the breast is round and the frame square; now and then a bubble."""
    reach = random.uniform(0.95, 1.45) + 0.06 * sheet(28.0) + 0.01 * sheet(4.0)
    contact = sigmoid((reach - radius) / 0.02)
    z = np.arange(plane[0])[:, None] * spacing[1]
    x = np.arange(plane[1])[None, :] * spacing[2]
    for _ in range(random.poisson(0.8)):
        centre = random.uniform(0, 1, 2) * (plane[0] * spacing[1], plane[1] * spacing[2])
        size = random.uniform(3.0, 8.0, 2)
        spot = np.hypot((z - centre[0]) / size[0], (x - centre[1]) / size[1])
        contact *= 1 - random.uniform(0.1, 0.45) * np.exp(-np.square(spot))
    return contact.astype(np.float32)


def _nipple(random, level, loss, y, distance, skin, sheet) -> None:
    """The nipple is dark and uneven and takes the sound away below it; changes the maps."""
    size = random.uniform(4.0, 7.5)
    within = sigmoid((size * (1 + 0.1 * sheet(4.0)) - distance) / 0.8)
    deep = random.uniform(5.0, 10.0)
    part = within * sigmoid((skin + deep - y) / 1.5)
    level += part * (random.uniform(-9.0, -3.0) - level)
    loss += part * np.float32(random.uniform(0.3, 1.8))
