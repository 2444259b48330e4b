"""Kinds of lesions, and what is known of one before it has a place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

# Kind -> share of lesions. The malignant ones make 0.44 of all.
KINDS = {
    "cyst": 0.10,
    "complicated cyst": 0.05,
    "cluster": 0.04,
    "fibroadenoma": 0.17,
    "phyllodes": 0.03,
    "papilloma": 0.05,
    "fat necrosis": 0.06,
    "scar": 0.06,
    "ductal": 0.21,
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
