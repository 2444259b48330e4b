"""The breast's layers as surfaces over (slice, lateral), and what lies at them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .fields import noise

DENSITIES = {"a": 0.13, "b": 0.35, "c": 0.66, "d": 0.9}  # share of the gland's zone that is gland


@dataclass(frozen=True)
class Breast:
    """Surfaces are depths in mm on the coarse grid, (z, x).

    Attributes
    ----------
    density : a to d; `share` of the gland's zone that is gland.
    skin, front, back, pectoral, chest : where the skin ends, the gland's zone begins and ends, and the muscle and the chest wall begin.
    rib : distance from the middle of the nearest rib, mm, across it; `rib_half` is half its width and `rib_height` half its thickness. `cartilage`: ribs
        let sound through and look like oval masses.
    nipple : (z, x) mm; `nipple_far` the distance from it. `nipple_mm` is the radius of what shadows.
    contact_db : what is lost for want of contact, two-way.
    """

    density: str
    share: float
    skin: np.ndarray
    front: np.ndarray
    back: np.ndarray
    pectoral: np.ndarray
    chest: np.ndarray
    rib: np.ndarray
    rib_half: float
    rib_height: float
    cartilage: bool
    nipple: tuple[float, float]
    nipple_far: np.ndarray
    nipple_mm: float
    contact_db: np.ndarray


def draw_breast(rng: np.random.Generator, z: np.ndarray, x: np.ndarray, depth: float) -> Breast:
    """A breast over the coarse places `z`, `x` (mm) in a volume of `depth` mm."""
    zz, xx = z[:, None], x[None, :]
    wide, long = float(x[-1]), float(z[-1])

    def surface(length: float, mm: float) -> np.ndarray:
        return noise(rng, (z, x), (length, length)) * mm

    density = str(rng.choice(list(DENSITIES), p=[0.15, 0.35, 0.33, 0.17]))
    nipple = (rng.uniform(0.3, 0.7) * long, rng.uniform(0.3, 0.7) * wide)
    if rng.random() < 0.25:  # a lateral or medial view has it at the border or not at all
        nipple = (nipple[0], rng.choice([-0.1, 1.1]) * wide)
    far = np.hypot(zz - nipple[0], xx - nipple[1]).astype(np.float32)
    skin = 1.0 + rng.uniform(0.2, 1.4) + surface(40, 0.15)
    # The wall lies deep below the nipple and rises away from it; often it is below what is seen.
    wall = depth * rng.uniform(0.6, 1.25) - (far / 90) ** 2 * rng.uniform(0, 7) + surface(60, 1.2)
    pectoral = np.maximum(wall + rng.uniform(-0.08, 0.08) * (xx - wide / 2), 0.42 * depth)
    chest = pectoral + rng.uniform(4, 13) + surface(50, 0.8)
    thick = pectoral - skin
    fat = {"a": 0.42, "b": 0.32, "c": 0.22, "d": 0.13}[density] * rng.uniform(0.6, 1.3)
    edge = np.clip(far / rng.uniform(60, 130), 0, 1) ** 2
    front = skin + thick * (fat * (0.35 + 0.65 * np.clip(far / 25, 0, 1)) + 0.35 * edge) + surface(9, 0.9)
    back = pectoral - thick * (rng.uniform(0.04, 0.2) + 0.2 * edge) + surface(14, 0.9)
    angle = rng.uniform(-0.7, 0.7) + (np.pi / 2 if rng.random() < 0.3 else 0)
    pitch = rng.uniform(19, 29)
    across = zz * np.cos(angle) + xx * np.sin(angle) + surface(70, 2.5) + rng.uniform(0, pitch)
    return Breast(
        density=density,
        share=float(np.clip(DENSITIES[density] + rng.uniform(-0.09, 0.09), 0.05, 0.97)),
        skin=skin,
        front=front,
        back=back,
        pectoral=pectoral,
        chest=chest,
        rib=np.abs((across % pitch) - pitch / 2),
        rib_half=rng.uniform(4.5, 7.5),
        rib_height=rng.uniform(2.8, 5),
        cartilage=bool(rng.random() < 0.4),
        nipple=nipple,
        nipple_far=far,
        nipple_mm=rng.uniform(3, 7),
        contact_db=_contact(rng, zz, xx, wide, long, far, surface),
    )


def _contact(rng, zz, xx, wide, long, far, surface) -> np.ndarray:
    """dB lost where the plate does not touch: at corners and sides, by the nipple, under a bubble; mostly nowhere."""
    lost = np.zeros(far.shape, np.float32)
    if rng.random() < 0.55:  # beyond a rounded outline
        power = rng.uniform(2.2, 5)
        u = np.abs((zz - long * rng.uniform(0.42, 0.58)) / (long * rng.uniform(0.46, 0.62)))
        v = np.abs((xx - wide * rng.uniform(0.42, 0.58)) / (wide * rng.uniform(0.46, 0.62)))
        beyond = ((u**power + v**power) ** (1 / power) - 1) * min(wide, long) / 2 + surface(12, 1.5)
        lost += np.clip(beyond * rng.uniform(2, 7), 0, 32)
    if rng.random() < 0.3:
        lost += np.clip((rng.uniform(4, 9) - far + surface(5, 1)) * 3, 0, 14)
    for _ in range(rng.poisson(0.5)):
        gap = np.hypot((zz - rng.uniform(0, long)) * rng.uniform(0.5, 1.5), xx - rng.uniform(0, wide))
        lost += np.clip((rng.uniform(1, 5) - gap + surface(4, 0.8)) * 5, 0, 24)
    return lost
