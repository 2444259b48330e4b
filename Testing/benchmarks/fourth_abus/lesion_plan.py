"""Kinds of lesions, and what is drawn of one before it has a place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

# Kind -> share of lesions. The malignant ones make 0.43 of all.
KINDS = {
    "cyst": 0.11,
    "complicated cyst": 0.05,
    "cluster": 0.04,
    "fibroadenoma": 0.17,
    "phyllodes": 0.03,
    "papilloma": 0.05,
    "fat necrosis": 0.06,
    "scar": 0.06,
    "ductal": 0.20,
    "lobular": 0.06,
    "circumscribed carcinoma": 0.10,
    "in situ": 0.07,
}
MALIGNANT = ("ductal", "lobular", "circumscribed carcinoma", "in situ")
UNLABELLED = ("fat lobule", "lymph node")


@dataclass(frozen=True)
class Plan:
    """Attributes
    ----------
    kind : of `KINDS` or `UNLABELLED`.
    radii : mm along x (lateral), y (depth), z (slice) before tilting by `tilt` radians.
    irregular : its shape; `margin` and `echo` in the lexicon's words.
    bumps : (number, height as a share of the radius, sharpness) of what is added to an ellipsoid. `facets` cut it flat (0: none).
    level_db : echo against fat; `grain_db`, `grain_mm` of its texture. `cystic` is the share that is fluid (0: solid).
    attenuation : dB/cm/MHz inside. `patchy` : it is so only in parts.
    edge_mm : width of the border. `capsule_db` is the border's specular echo, `refraction_db` (per mm) what its flanks cost beams.
    halo_mm, halo_db : echogenic rim. `strands` spicules reach `strand_mm` out, `strand_db` against what they cross.
    calcifications : number of bright specks, and the lexicon's word for where.
    """

    kind: str
    radii: np.ndarray
    tilt: float = 0.0
    irregular: bool = False
    margin: str = "circumscribed"
    echo: str = "hypoechoic"
    bumps: tuple[int, float, float] = (0, 0.0, 1.0)
    facets: int = 0
    level_db: float = -8.0
    grain_db: float = 0.8
    grain_mm: float = 2.0
    cystic: float = 0.0
    attenuation: float = 0.8
    patchy: bool = False
    edge_mm: float = 0.6
    capsule_db: float = 0.0
    refraction_db: float = 0.0
    halo_mm: float = 0.0
    halo_db: float = 0.0
    strands: int = 0
    strand_mm: float = 0.0
    strand_db: float = 0.0
    specks: int = 0
    calcifications: str = "none"

    @property
    def malignant(self) -> bool:
        return self.kind in MALIGNANT

    def scaled(self, by: float) -> Plan:
        return replace(self, radii=self.radii * by)


def draw_plan(rng: np.random.Generator, kind: str | None = None) -> Plan:
    """A lesion of `kind`; None draws it, too."""
    if kind is None:
        kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    u = rng.uniform
    middle = {
        "phyllodes": 22,
        "papilloma": 7.5,
        "fat necrosis": 10,
        "cyst": 9,
        "complicated cyst": 8,
        "in situ": 11,
        "lobular": 14,
    }
    longest = np.clip(middle.get(kind, 11) * np.exp(rng.normal(0, 0.45)), 4.6, 32)
    flat = dict(
        radii=longest / 2 * np.array([1, u(0.5, 0.8), u(0.72, 1)])[rng.choice([[0, 1, 2], [2, 1, 0]])],
        tilt=rng.normal(0, 0.15),
    )
    plump = dict(radii=longest / 2 * np.array([u(0.75, 1), u(0.7, 1), u(0.75, 1)]), tilt=rng.normal(0, 0.3))
    tall = dict(radii=longest / 2 * np.array([u(0.55, 0.85), 1, u(0.55, 0.9)]), tilt=rng.normal(0, 0.2))
    smooth = dict(capsule_db=u(2, 9), refraction_db=u(0.5, 3.5), edge_mm=u(0.4, 0.8))
    rough = dict(
        irregular=True, bumps=(rng.integers(5, 11), u(0.4, 1.0), u(3, 12)), grain_db=u(0.8, 2.2), edge_mm=u(0.5, 1.2)
    )

    def solid(low: float, high: float) -> dict:
        level = -u(low, high)
        return dict(level_db=level, echo="hypoechoic" if level <= -3.5 else "isoechoic")

    if kind == "cyst":
        return Plan(
            kind,
            **(plump if rng.random() < 0.5 else flat),
            **smooth,
            level_db=-u(20, 36),
            echo="anechoic",
            grain_db=0.5,
            attenuation=u(0.0, 0.12),
        )
    if kind == "complicated cyst":
        body = flat if rng.random() < 0.6 else plump
        return Plan(
            kind, **body, **(smooth | solid(6, 15)), bumps=(4, 0.08, 4.0), grain_db=u(0.3, 1.5), attenuation=u(0.1, 0.4)
        )
    if kind == "cluster":
        many = rng.integers(6, 12)
        part = solid(9, 16) if rng.random() < 0.4 else dict(level_db=-u(18, 30), echo="anechoic")
        return Plan(
            kind,
            **flat,
            **smooth,
            margin="microlobulated",
            bumps=(many, u(0.25, 0.5), u(6, 12)),
            cystic=-1.0,
            attenuation=u(0.05, 0.3),
            **part,
        )
    if kind == "fibroadenoma":
        level = solid(0.5, 3.4) if rng.random() < 0.25 else solid(3.5, 8)
        odd = dict(margin="indistinct", edge_mm=u(1.2, 2.2)) if rng.random() < 0.12 else {}
        coarse = dict(specks=int(rng.integers(2, 7)), calcifications="in mass") if rng.random() < 0.08 else {}
        body = plump if rng.random() < 0.12 else flat
        plan = Plan(
            kind,
            **body,
            **(smooth | odd),
            **level,
            **coarse,
            bumps=(rng.integers(0, 6), u(0.05, 0.2), u(2, 5)),
            grain_db=u(0.3, 1.4),
            attenuation=u(0.45, 1.0),
        )
        return plan if plan.echo != "isoechoic" else replace(plan, capsule_db=u(5, 10), refraction_db=u(1.5, 3.5))
    if kind == "phyllodes":
        cystic = dict(cystic=u(0.06, 0.15), echo="complex cystic and solid") if rng.random() < 0.5 else {}
        return Plan(
            kind,
            **flat,
            **smooth,
            **(solid(4, 10) | cystic),
            bumps=(rng.integers(5, 10), u(0.15, 0.3), u(3, 6)),
            grain_db=u(1, 2.2),
            grain_mm=3.0,
            attenuation=u(0.35, 0.7),
        )
    if kind == "papilloma":
        if rng.random() < 0.4:  # in a cyst
            return Plan(
                kind,
                **plump,
                **smooth,
                level_db=-u(4, 9),
                echo="complex cystic and solid",
                cystic=u(0.35, 0.6),
                attenuation=u(0.2, 0.5),
            )
        margin = (
            dict(margin="microlobulated", bumps=(18, 0.14, 18.0)) if rng.random() < 0.4 else dict(bumps=(5, 0.1, 4.0))
        )
        return Plan(kind, **flat, **smooth, **solid(4, 11), **margin, grain_db=u(0.5, 1.5), attenuation=u(0.5, 0.9))
    if kind == "fat necrosis":
        body = dict(margin="indistinct", edge_mm=u(1.0, 2.2)) if rng.random() < 0.5 else dict(capsule_db=u(0, 4))
        mixed = dict(cystic=u(0.06, 0.2), echo="heterogeneous") if rng.random() < 0.3 else dict(echo="hyperechoic")
        return Plan(
            kind,
            **flat,
            **body,
            **mixed,
            level_db=u(8, 14),
            bumps=(6, 0.15, 4.0),
            grain_db=u(0.8, 2),
            attenuation=u(0.5, 1.3),
        )
    if kind == "scar":  # and other benign lesions that mimic cancer
        body = tall if rng.random() < 0.35 else flat
        many = (
            dict(margin="spiculated", strands=int(rng.integers(6, 14)), strand_mm=u(2, 6), strand_db=u(-5, 5))
            if rng.random() < 0.4
            else dict(margin=str(rng.choice(["indistinct", "angular"])))
        )
        return Plan(
            kind,
            **body,
            **(rough | dict(edge_mm=u(0.9, 2))),
            **solid(4, 10),
            **many,
            facets=rng.integers(0, 9),
            attenuation=u(0.7, 1.7),
        )
    if kind == "ductal":
        body = tall if rng.random() < 0.42 else plump if rng.random() < 0.6 else flat
        margin = str(rng.choice(["spiculated", "angular", "microlobulated", "indistinct"], p=[0.37, 0.23, 0.15, 0.25]))
        level = solid(4.5, 12)
        extra: dict = {}
        if margin == "spiculated":
            extra |= dict(
                strands=int(rng.integers(8, 22)), strand_mm=u(2, 8), strand_db=rng.choice([-u(4, 8), u(3, 7)])
            )
        elif margin == "indistinct":
            extra |= dict(edge_mm=u(1.4, 2.6))
        elif margin == "microlobulated":
            extra |= dict(bumps=(rng.integers(25, 45), u(0.15, 0.28), u(20, 40)))
        if margin == "angular":
            extra |= dict(facets=int(rng.integers(7, 13)), bumps=(4, 0.15, 5.0), edge_mm=0.6)
        if rng.random() < 0.45:
            extra |= dict(halo_mm=u(1.2, 4), halo_db=u(3, 7))
        if rng.random() < 0.25:
            extra |= dict(specks=int(rng.integers(3, 14)), calcifications="in mass")
        if rng.random() < 0.12:
            extra |= dict(grain_db=u(2.5, 3.5), grain_mm=3.0, echo="heterogeneous")
        return Plan(
            kind,
            **body,
            **(rough | level | extra),
            margin=margin,
            attenuation=float(rng.choice([u(1.2, 2.6), u(0.6, 1.2)], p=[0.65, 0.35])),
            patchy=rng.random() < 0.15,
        )
    if kind == "lobular":
        margin = rng.choice(["indistinct", "spiculated"])
        body = flat if rng.random() < 0.5 else plump
        return Plan(
            kind,
            **body,
            **(rough | dict(edge_mm=u(1.4, 2.8), grain_db=u(1.5, 2.8))),
            **solid(3.6, 7),
            margin=str(margin),
            strands=int(rng.integers(8, 18)) if margin == "spiculated" else 0,
            strand_mm=u(4, 12),
            strand_db=u(2, 6),
            attenuation=u(0.9, 2.2),
            patchy=rng.random() < 0.3,
        )
    if kind == "circumscribed carcinoma":
        body = plump if rng.random() < 0.7 else flat
        level = solid(2, 8) if rng.random() < 0.35 else solid(8, 17)  # mucinous ones are nearly as bright as fat
        extra = dict(cystic=u(0.1, 0.35), echo="complex cystic and solid") if rng.random() < 0.22 else {}
        margin = str(rng.choice(["circumscribed", "microlobulated", "indistinct"], p=[0.5, 0.3, 0.2]))
        extra |= (
            dict(bumps=(rng.integers(18, 35), u(0.1, 0.2), u(14, 25)))
            if margin == "microlobulated"
            else dict(bumps=(rng.integers(3, 8), u(0.08, 0.2), u(3, 6)))
        )
        edge = u(1.2, 2) if margin == "indistinct" else u(0.5, 0.9)
        return Plan(
            kind,
            **body,
            **(level | extra),
            margin=margin,
            edge_mm=edge,
            grain_db=u(0.6, 1.8),
            capsule_db=u(0, 4),
            refraction_db=u(0, 1.5),
            attenuation=u(0.1, 0.5),
        )
    if kind == "in situ":
        where = str(rng.choice(["in mass", "intraductal"]))
        margin = str(rng.choice(["indistinct", "microlobulated", "angular"]))
        fine = dict(bumps=(rng.integers(20, 40), u(0.15, 0.4), u(10, 30)))
        return Plan(
            kind,
            **flat,
            **(rough | fine),
            **solid(3.6, 7),
            margin=margin,
            specks=int(rng.integers(8, 30)),
            calcifications=where,
            attenuation=u(0.6, 1.3),
            patchy=rng.random() < 0.2,
        )
    if kind == "fat lobule":
        return Plan(
            kind,
            **flat,
            level_db=rng.normal(0, 1),
            grain_db=0.8,
            bumps=(5, 0.15, 3.0),
            capsule_db=u(0, 5),
            refraction_db=u(0, 1),
            attenuation=0.55,
            echo="isoechoic",
        )
    if kind == "lymph node":
        return Plan(kind, **flat, level_db=-u(6, 14), grain_db=0.5, capsule_db=u(1, 4), attenuation=0.6)
    raise ValueError(kind)
