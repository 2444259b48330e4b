"""What a lesion is to be like, drawn by its nature: every look occurs in both natures, and few are as frequent in either."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MALIGNANT = 0.43
FORMS = {  # form: (its margins, how often when benign, when malignant)
    "ellipsoid": (("circumscribed",), 0.36, 0.08),
    "harmonic": (("circumscribed", "indistinct"), 0.22, 0.10),
    "balls": (("circumscribed",), 0.14, 0.10),
    "lobules": (("microlobulated", "circumscribed"), 0.10, 0.12),
    "warped": (("indistinct",), 0.10, 0.22),
    "polytope": (("angular",), 0.05, 0.16),
    "spikes": (("spiculated",), 0.03, 0.22),
}
ECHOES = {  # echo: (dB against the tissue about it, how often when benign, when malignant)
    "anechoic": ((-30, -17), 0.24, 0.05),
    "hypoechoic": ((-15, -4), 0.45, 0.52),
    "isoechoic": ((-1.5, 1.5), 0.10, 0.05),
    "hyperechoic": ((4, 9), 0.07, 0.03),
    "complex cystic and solid": ((-10, -4), 0.06, 0.09),
    "heterogeneous": ((-12, -4), 0.08, 0.26),
}
POSTERIOR = ("none", "enhancement", "shadowing", "combined")


@dataclass(frozen=True)
class Plan:
    """Attributes
    ----------
    radii : mm (slice, depth, lateral) of the ellipsoid it is made from. `volume_ml` of what is made.
    contrast_db : of its inside. `texture_db`, `texture_mm` : what varies there.
    keep : share of the tissue's own structure that shows within.
    border_mm : over which inside becomes outside.
    strength, coarser : of the speckle inside, against that outside; None for the same speckle.
    shade_db, shade_fade_mm : below it; negative is shadow. `edge_db` : shadows of its edges alone.
    halo_db, halo_mm : a bright rim, wide and vague. `rim_db` : a thin line.
    calcifications : "none", "in mass" or "outside mass".
    """

    malignant: bool
    form: str
    margin: str
    radii: tuple[float, float, float]
    volume_ml: float
    echo: str
    contrast_db: float
    texture_db: float
    texture_mm: float
    keep: float
    border_mm: float
    strength: float | None
    posterior: str
    shade_db: float
    shade_fade_mm: float
    edge_db: float
    halo_db: float
    halo_mm: float
    rim_db: float
    calcifications: str


def draw_plan(rng: np.random.Generator, longest: float) -> Plan:
    """A lesion of a nature, 4 to `longest` mm (at most 32) across or thereabouts."""
    malignant = bool(rng.uniform() < MALIGNANT)

    def pick(table: dict) -> str:
        chances = np.array([row[1 + malignant] for row in table.values()])
        return str(rng.choice(list(table), p=chances / chances.sum()))

    form, echo = pick(FORMS), pick(ECHOES)
    diameter = min(np.exp(rng.normal(np.log(12), 0.5)) * (1.1 if malignant else 1), 32, longest)
    diameter = max(diameter, rng.uniform(4.6, 6))
    tall = rng.uniform() < (0.45 if malignant else 0.12)
    ratio = rng.uniform(1.1, 1.7) if tall else 1 / rng.uniform(1.0, 2.1)
    other = rng.uniform(0.7, 1.0, 2)
    shape = np.array([other[0], ratio * other.max(), other[1]])
    radii = diameter / 2 * shape / shape.max()
    radii = np.maximum(radii, 2.0)
    margin = str(rng.choice(FORMS[form][0], p=[0.75, 0.25] if len(FORMS[form][0]) == 2 else None))
    texture = rng.uniform(3.5, 8) if echo == "heterogeneous" else rng.uniform(0, 1.5)
    low, high = ECHOES[echo][0]
    chances = [0.28, 0.1, 0.5, 0.12] if malignant else [0.47, 0.38, 0.12, 0.03]
    if echo == "anechoic" and not malignant:
        chances = [0.2, 0.78, 0.01, 0.01]
    posterior = str(rng.choice(POSTERIOR, p=chances))
    sign = {
        "none": 0,
        "enhancement": rng.uniform(2.5, 8),
        "shadowing": -rng.uniform(4, 18),
        "combined": rng.uniform(5, 9),
    }
    haloed = rng.uniform() < (0.35 if malignant else 0.07)
    rim = rng.uniform() < 0.15 + 0.25 * (not malignant and margin == "circumscribed")
    calcified = rng.uniform() < (0.33 if malignant else 0.1)
    strength = float(rng.uniform(0.5, 1.3)) if rng.uniform() < 0.5 else None
    if echo == "isoechoic":  # something must show it
        rim, strength = True, float(rng.choice([0.45, 1.5]))
        haloed = haloed or rng.uniform() < 0.3
    return Plan(
        malignant=malignant,
        form=form,
        margin=margin,
        radii=tuple(map(float, radii)),
        volume_ml=max(float(4 / 3 * np.pi * radii.prod() * rng.uniform(0.8, 1) / 1000), 0.05),
        echo=echo,
        contrast_db=float(rng.uniform(low, high)),
        texture_db=float(texture),
        texture_mm=float(rng.uniform(1.5, 5)),
        keep=float(rng.choice([0, rng.uniform(0, 0.5)])),
        border_mm=float(rng.uniform(2, 5) if margin == "indistinct" else rng.uniform(0.3, 1.2)),
        strength=strength,
        posterior=posterior,
        shade_db=float(sign[posterior]),
        shade_fade_mm=float(rng.choice([10, 20, 40, 200])),
        edge_db=float(-rng.uniform(2, 8) if margin == "circumscribed" and rng.uniform() < 0.25 else 0),
        halo_db=float(rng.uniform(3.5, 8) if haloed else 0),
        halo_mm=float(rng.uniform(0.7, 1.8)),
        rim_db=float(rng.uniform(3.5, 8) * (rim or 0)),
        calcifications=str(rng.choice(["in mass", "outside mass"], p=[0.85, 0.15])) if calcified else "none",
    )
