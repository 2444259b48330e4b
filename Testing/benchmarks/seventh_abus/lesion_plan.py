"""How many lesions a volume has, and what each is to be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .kind import Kind
from .kinds import BENIGN, KINDS, MALIGNANT

NUMBERS = (0.15, 0.42, 0.24, 0.13, 0.06)  # of 0, 1, 2, 3, 4 lesions
SMALLEST, LARGEST = 0.03, 12.0  # ml


@dataclass(frozen=True)
class Plan:
    """A lesion as drawn; echo in dB against fat, `attenuation` dB/mm, `halo_db` and `capsule_db` dB brighter than
    fat, 0: none.
    """

    kind: str
    malignant: bool
    margin: str
    echo: str
    level_db: float
    posterior: str
    attenuation: float
    edge_shadow: float
    calcifications: str
    halo_db: float
    capsule_db: float
    distortion: float
    blur: float
    radii: tuple[float, float, float]
    turn: float
    volume_ml: float

    @property
    def looks(self) -> Kind:
        return KINDS[self.kind]

    @property
    def irregular(self) -> bool:
        return self.looks.form in ("angular", "rough")


def draw_plans(rng: np.random.Generator) -> list[Plan]:
    return [draw(rng) for _ in range(rng.choice(len(NUMBERS), p=NUMBERS))]


def draw(rng: np.random.Generator) -> Plan:
    malignant = bool(rng.random() < 0.4)
    kinds = MALIGNANT if malignant else BENIGN
    weights = np.array([kind.weight for kind in kinds.values()])
    name = str(rng.choice(list(kinds), p=weights / weights.sum()))
    kind = kinds[name]
    volume = 0.0
    while not SMALLEST <= volume <= LARGEST:
        volume = float(0.45 * kind.size * np.exp(1.25 * rng.standard_normal()))
    attenuation = rng.uniform(*kind.attenuation)
    calcifications = next((word for word, often in kind.calcified if rng.random() < often), "none")
    if malignant and calcifications == "none" and rng.random() < 0.05:
        calcifications = "outside mass"
    edge = rng.uniform(1, 5) * (kind.form in ("smooth", "oval") and rng.random() < 0.5)
    return Plan(
        kind=name,
        malignant=malignant,
        margin=str(rng.choice(kind.margins)),
        echo=kind.echo,
        level_db=kind.level[0] + (kind.level[1] - kind.level[0]) * rng.beta(1.8, 1.1),
        posterior=_posterior(attenuation, edge),
        attenuation=attenuation,
        edge_shadow=edge,
        calcifications=calcifications,
        halo_db=rng.uniform(5, 10) * (rng.random() < kind.halo),
        capsule_db=rng.uniform(5, 10) * (rng.random() < kind.capsule),
        distortion=rng.uniform(6, 12) * (rng.random() < kind.distortion),
        blur=rng.uniform(*kind.blur),
        radii=_radii(rng, kind, volume),
        turn=rng.uniform(-0.4, 0.4) + rng.choice([0, np.pi / 2]),
        volume_ml=volume,
    )


def _posterior(attenuation: float, edge: float) -> str:
    if attenuation < -0.15:
        return "combined" if edge > 3 else "enhancement"
    return "shadowing" if attenuation > 0.25 else "none"


def _radii(rng: np.random.Generator, kind: Kind, volume: float) -> tuple[float, float, float]:
    """mm (one across, depth, other across) of an ellipsoid of `volume` ml."""
    flat, long = rng.uniform(*kind.flat), rng.uniform(0.9, 1.35 if kind.form != "smooth" else 1.15)
    wide = (volume * 1000 * 3 / (4 * np.pi * flat * long)) ** (1 / 3)
    return float(wide), float(flat * wide), float(long * wide)
