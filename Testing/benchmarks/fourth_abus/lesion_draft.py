"""A lesion is drawn: kind by kind, in the words of `lesion_plan`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .lesion_plan import KINDS, Plan

# Typical length in mm; 11 for all others.
MIDDLE_MM = {"phyllodes": 22, "lobular": 15, "fat necrosis": 10, "cyst": 9, "complicated cyst": 8, "papilloma": 7.5}


def draw_kind(rng: np.random.Generator) -> str:
    return str(rng.choice(list(KINDS), p=list(KINDS.values())))


def draw_plan(rng: np.random.Generator, kind: str) -> Plan:
    """A lesion of `kind`, or what looks like one."""
    return _Draft(rng, kind).plan()


class _Draft:
    """What is drawn of a lesion so far; later words overrule earlier ones."""

    def __init__(self, rng: np.random.Generator, kind: str):
        self.rng, self.kind, self.u = rng, kind, rng.uniform
        self.said: dict[str, Any] = {"kind": kind}
        self.longest = float(np.clip(MIDDLE_MM.get(kind, 11) * np.exp(rng.normal(0, 0.45)), 5, 32))

    def plan(self) -> Plan:
        getattr(self, "_" + self.kind.replace(" ", "_"))()
        return Plan(**self.said)

    def often(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def say(self, **words: Any) -> None:
        self.said |= words

    def body(self, flat: float, tall: float = 0.0) -> None:
        """Parallel to the skin in a share `flat` of cases, upright in `tall`, else about as deep as wide."""
        u, which = self.u, self.rng.random()
        if which < flat:
            radii, tilt = [1, u(0.5, 0.8), u(0.72, 1)], 0.15
            radii = radii if self.often(0.5) else radii[::-1]
            radii = (
                radii if radii[1] < min(radii[0], radii[2]) else [radii[0], 0.95 * min(radii[0], radii[2]), radii[2]]
            )
        elif which < flat + tall:
            radii, tilt = [u(0.55, 0.85), 1, u(0.55, 0.9)], 0.2
        else:
            radii, tilt = [u(0.75, 1), u(0.7, 1), u(0.75, 1)], 0.3
        self.say(radii=self.longest / 2 * np.array(radii), tilt=self.rng.normal(0, tilt))

    def solid(self, low: float, high: float) -> None:
        level = -self.u(low, high)
        self.say(level_db=level, echo="hypoechoic" if level <= -3.5 else "isoechoic")

    def smooth(self, lobes: int, height: float) -> None:
        u = self.u
        self.say(capsule_db=u(2, 9), refraction_db=u(0.5, 3.5), edge_mm=u(0.4, 0.8), grain_db=u(0.3, 1.5))
        self.say(bumps=(int(self.rng.integers(0, lobes + 1)), u(0.3, 1) * height, u(2, 6)))

    def rough(self, *margins: str) -> None:
        """An irregular shape with one of `margins`."""
        u, integers = self.u, self.rng.integers
        margin = str(self.rng.choice(margins))
        self.say(irregular=True, margin=margin, grain_db=u(0.8, 2.2), edge_mm=u(0.5, 1.2))
        self.say(bumps=(int(integers(5, 11)), u(0.4, 1.0), u(3, 12)))
        if margin == "spiculated":
            self.say(strands=int(integers(7, 20)), strand_mm=u(2, 8), strand_db=self.rng.choice([-u(3, 8), u(3, 7)]))
        elif margin == "indistinct":
            self.say(edge_mm=u(1.4, 2.6))
        elif margin == "microlobulated":
            self.say(bumps=(int(integers(25, 45)), u(0.25, 0.5), u(20, 40)))
        else:
            self.say(facets=int(integers(7, 13)), bumps=(4, u(0.1, 0.3), 5.0))

    def specks(self, low: int, high: int, where: str = "in mass") -> None:
        self.say(specks=int(self.rng.integers(low, high)), calcifications=where)

    def _cyst(self) -> None:
        self.body(0.5), self.smooth(3, 0.15)
        self.say(level_db=-self.u(20, 36), echo="anechoic", grain_db=0.5, attenuation=self.u(0, 0.12))

    def _complicated_cyst(self) -> None:
        self.body(0.6), self.smooth(4, 0.1), self.solid(6, 15)
        self.say(attenuation=self.u(0.1, 0.4))

    def _cluster(self) -> None:
        u = self.u
        self.body(1), self.smooth(1, 0), self.solid(9, 16)
        if self.often(0.6):
            self.say(level_db=-u(18, 30), echo="anechoic")
        self.say(margin="microlobulated", bumps=(int(self.rng.integers(6, 12)), u(0.25, 0.5), u(6, 12)))
        self.say(cystic=-1.0, attenuation=u(0.05, 0.3))

    def _fibroadenoma(self) -> None:
        u = self.u
        self.body(0.88), self.smooth(6, 0.2), self.say(attenuation=u(0.45, 1.0))
        if self.often(0.3):
            self.solid(0.5, 3.4), self.say(capsule_db=u(5, 10), refraction_db=u(1.5, 3.5))
        else:
            self.solid(3.5, 8)
            if self.often(0.12):
                self.say(margin="indistinct", edge_mm=u(1.2, 2.2))
        if self.often(0.08):
            self.specks(2, 7)

    def _phyllodes(self) -> None:
        u = self.u
        self.body(1), self.smooth(1, 0), self.solid(4, 10)
        self.say(bumps=(int(self.rng.integers(5, 10)), u(0.15, 0.3), u(3, 6)), attenuation=u(0.35, 0.7))
        self.say(grain_db=u(1, 2.2), grain_mm=3.0)
        if self.often(0.5):
            self.say(cystic=u(0.06, 0.15), echo="complex cystic and solid")

    def _papilloma(self) -> None:
        u = self.u
        self.body(0.6), self.smooth(5, 0.1), self.solid(4, 11), self.say(attenuation=u(0.4, 0.9))
        if self.often(0.4):  # in a cyst
            self.say(echo="complex cystic and solid", cystic=u(0.35, 0.6), attenuation=u(0.2, 0.5))
        elif self.often(0.4):
            self.say(margin="microlobulated", bumps=(18, 0.14, 18.0))

    def _fat_necrosis(self) -> None:
        u = self.u
        self.body(1), self.smooth(6, 0.2)
        self.say(level_db=u(8, 14), echo="hyperechoic", capsule_db=u(0, 4), refraction_db=0.0, attenuation=u(0.5, 1.3))
        if self.often(0.5):
            self.say(margin="indistinct", edge_mm=u(1.0, 2.2), capsule_db=0.0)
        if self.often(0.3):
            self.say(cystic=u(0.06, 0.2), echo="heterogeneous")

    def _scar(self) -> None:  # and other benign lesions that mimic cancer
        self.body(0.65, 0.35), self.rough("spiculated", "indistinct", "angular"), self.solid(2.5, 9)
        self.say(attenuation=self.u(0.7, 1.7))

    def _ductal(self) -> None:
        u = self.u
        self.body(0.25, 0.4), self.solid(2.5, 11)
        self.rough(*["spiculated"] * 3, *["angular"] * 2, *["indistinct"] * 2, "microlobulated")
        self.say(attenuation=u(1.2, 2.6) if self.often(0.65) else u(0.6, 1.2), patchy=self.often(0.15))
        if self.often(0.45):
            self.say(halo_mm=u(1.2, 4), halo_db=u(3, 7))
        if self.often(0.25):
            self.specks(3, 14)
        if self.often(0.12):
            self.say(grain_db=u(2.5, 3.5), grain_mm=3.0, echo="heterogeneous")

    def _lobular(self) -> None:
        u = self.u
        self.body(0.5), self.rough("indistinct", "spiculated"), self.solid(1.5, 7)
        self.say(edge_mm=u(1.2, 2.8), grain_db=u(1.5, 2.8), strand_mm=u(4, 12), strand_db=u(2, 6))
        self.say(attenuation=u(0.9, 2.2), patchy=self.often(0.3))

    def _circumscribed_carcinoma(self) -> None:
        u = self.u
        (
            self.body(0.3),
            self.smooth(8, 0.25),
            self.say(capsule_db=u(0, 4), refraction_db=u(0, 1.5), attenuation=u(0.1, 0.5)),
        )
        if self.often(0.35):
            self.solid(2, 8)  # mucinous ones are nearly as bright as fat
        else:
            self.solid(7, 16)
        if self.often(0.22):
            self.say(cystic=u(0.1, 0.35), echo="complex cystic and solid")
        if self.often(0.3):
            bumps = (int(self.rng.integers(18, 35)), u(0.1, 0.2), u(14, 25))
            self.say(margin="microlobulated", bumps=bumps)
        elif self.often(0.3):
            self.say(margin="indistinct", edge_mm=u(1.2, 2))

    def _in_situ(self) -> None:
        self.body(1), self.rough("indistinct", "microlobulated", "angular"), self.solid(1.5, 7)
        self.say(attenuation=self.u(0.6, 1.3), patchy=self.often(0.2))
        self.specks(8, 30, "in mass" if self.often(0.5) else "intraductal")

    def _fat_lobule(self) -> None:
        self.body(1), self.smooth(5, 0.2)
        self.say(level_db=self.rng.normal(0, 1), attenuation=0.55, refraction_db=self.u(0, 1), echo="isoechoic")

    def _lymph_node(self) -> None:
        self.body(1), self.smooth(2, 0.1), self.say(level_db=-self.u(6, 14), attenuation=0.6)
