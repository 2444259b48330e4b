"""What a lesion is: its kind first, then nature, descriptors, level and form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KINDS = {
    "cyst": 0.15,
    "fibroadenoma": 0.19,
    "iso": 0.06,
    "hyper": 0.03,
    "complex": 0.08,
    "cancer": 0.36,
    "mass": 0.09,
    "cluster": 0.04,
}
"""Shares of what is drawn: "mass" has looks between benign and malignant, "cluster" is one of microcysts."""


@dataclass
class Plan:
    """A lesion before it is drawn.

    Attributes
    ----------
    kind : of `KINDS`.
    malignant : whether it is.
    echo, shape, margin, posterior : echo pattern, shape, margin ("lobulated" is gently so), posterior features.
    contrast_db : wanted, against the surroundings.
    height, width : depth and smaller horizontal extent, relative to the larger horizontal one.
    radii : (z, y, x) mm before it is turned.
    centre : (z, y, x) mm; None until it has a place.
    lumpiness : how far its surface departs from an ellipsoid, relative to its radius.
    rim_db, dark_rim_db : bright and dark line along its border.
    softness : mm, width of its border.
    heterogeneity_db : of its echoes.
    cystic_from : noise above it (variance 1) is a cystic space; None: there are none.
    halo_db : bright halo around it.
    subtle : of little contrast.
    spicules, calcifications : numbers.
    through_db : gain (> 0) or loss of echoes over the whole way through it.
    edge_shadow_db : loss at its flanks, dB per mm before it is related to its size.
    """

    kind: str
    malignant: bool
    height: float
    width: float
    echo: str = "hypoechoic"
    shape: str = "oval"
    margin: str = "circumscribed"
    posterior: str = "none"
    contrast_db: float = 0.0
    radii: np.ndarray | None = None
    centre: np.ndarray | None = None
    lumpiness: float = 0.0
    rim_db: float = 0.0
    dark_rim_db: float = 0.0
    softness: float = 0.0
    heterogeneity_db: float = 0.0
    cystic_from: float | None = None
    halo_db: float = 0.0
    subtle: bool = False
    spicules: int = 0
    calcifications: int = 0
    through_db: float = 0.0
    edge_shadow_db: float = 0.0


def draw_plan(rng: np.random.Generator, longest_mm: float) -> Plan:
    """A lesion with a longest diameter of 4 to 35 mm, `longest_mm` at most."""
    uniform = rng.uniform
    low, high = (5, 18) if rng.random() < 0.72 else (4, 35)
    diameter = min(np.exp(uniform(np.log(low), np.log(high))), longest_mm)
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    malignant = kind == "cancer" or (kind in ("complex", "mass") and rng.random() < 0.4)
    plan = Plan(kind, malignant, uniform(0.42, 0.8), uniform(0.65, 1.0))
    _LOOKS[kind](rng, plan)
    if plan.echo == "heterogeneous":
        plan.heterogeneity_db = max(plan.heterogeneity_db, uniform(1.8, 4))
    _draw_details(rng, plan)
    radius = 0.5 * diameter
    plan.radii = np.array([radius * plan.width, radius * plan.height, radius]) / max(1.0, plan.height)
    return plan


def _draw_details(rng: np.random.Generator, plan: Plan) -> None:
    """Subtlety, spicules, calcifications, shadow or enhancement, edge shadows."""
    uniform = rng.uniform
    plan.subtle = rng.random() < 0.3
    if plan.subtle and plan.echo in ("hypoechoic", "heterogeneous"):
        plan.contrast_db *= 0.6
    if plan.margin == "spiculated":
        plan.spicules = int(rng.integers(6, 22))
    if rng.random() < (0.3 if plan.malignant else 0.08) and plan.kind not in ("cyst", "cluster"):
        plan.calcifications = int(rng.integers(3, 30))
    through = {"none": 0.0, "enhancement": uniform(3, 10), "shadowing": -uniform(5, 20)}
    plan.through_db = through[plan.posterior]
    if plan.margin in ("circumscribed", "lobulated"):
        plan.edge_shadow_db = uniform(0, 1.2)


def _cystic(rng: np.random.Generator, plan: Plan) -> None:
    """A cyst, or a cluster of microcysts."""
    uniform = rng.uniform
    plan.echo, plan.contrast_db = "anechoic", -uniform(18, 32)
    plan.posterior = "enhancement" if rng.random() < 0.75 else "none"
    if rng.random() < 0.4:
        plan.shape, plan.height, plan.width = "round", uniform(0.85, 1), uniform(0.88, 1)
    plan.lumpiness = 0.04 if plan.kind == "cyst" else uniform(0.2, 0.35)
    plan.rim_db, plan.softness, plan.heterogeneity_db = uniform(0, 8), uniform(0.15, 0.35), uniform(0, 2)
    if plan.kind == "cluster":
        plan.shape, plan.margin = "irregular", "microlobulated"


def _fibroadenoma(rng: np.random.Generator, plan: Plan) -> None:
    uniform = rng.uniform
    plan.echo, plan.contrast_db = "hypoechoic", -uniform(5, 13)
    plan.posterior = str(rng.choice(["none", "enhancement", "shadowing"], p=[0.55, 0.37, 0.08]))
    plan.lumpiness, plan.rim_db = uniform(0.03, 0.16), uniform(0, 6)
    plan.softness, plan.heterogeneity_db = uniform(0.15, 0.5), uniform(0.3, 1.8)
    if plan.lumpiness > 0.11:
        plan.margin = "lobulated"


def _isoechoic(rng: np.random.Generator, plan: Plan) -> None:
    """As bright as gland; seen by its capsule."""
    uniform = rng.uniform
    plan.echo, plan.contrast_db = "isoechoic", uniform(-3, 1.5)
    plan.lumpiness, plan.rim_db = uniform(0.03, 0.12), uniform(5, 11)
    plan.softness, plan.heterogeneity_db, plan.dark_rim_db = uniform(0.15, 0.35), uniform(0.2, 1.0), uniform(2, 7)
    plan.posterior = str(rng.choice(["none", "enhancement"]))


def _hyperechoic(rng: np.random.Generator, plan: Plan) -> None:
    uniform = rng.uniform
    plan.echo, plan.contrast_db = "hyperechoic", uniform(4, 9)
    plan.lumpiness, plan.rim_db = uniform(0.03, 0.12), uniform(0, 4)
    plan.softness, plan.heterogeneity_db = uniform(0.3, 0.9), uniform(0.3, 1.5)


def _complex(rng: np.random.Generator, plan: Plan) -> None:
    """Solid with cystic spaces."""
    uniform = rng.uniform
    plan.echo, plan.contrast_db = "heterogeneous", -uniform(5, 13)
    plan.posterior = str(rng.choice(["none", "enhancement"]))
    plan.lumpiness, plan.rim_db, plan.softness = uniform(0.05, 0.25), uniform(0, 7), uniform(0.2, 0.6)
    plan.heterogeneity_db, plan.cystic_from = uniform(1.5, 4), uniform(-0.6, 0.9)
    if plan.malignant:
        plan.shape, plan.margin, plan.height = "irregular", "indistinct", uniform(0.6, 1.1)


def _in_between(rng: np.random.Generator, plan: Plan) -> None:
    """Benign or malignant, with the looks of neither."""
    uniform = rng.uniform
    plan.echo, plan.contrast_db = str(rng.choice(["hypoechoic", "heterogeneous"])), -uniform(4, 12)
    plan.posterior = str(rng.choice(["none", "enhancement", "shadowing"]))
    plan.shape = str(rng.choice(["oval", "round", "irregular"]))
    plan.margin = "indistinct" if rng.random() < 0.5 else "microlobulated"
    plan.height = uniform(0.5, 1.0)
    plan.lumpiness, plan.rim_db = uniform(0.08, 0.25), uniform(0, 3)
    plan.softness, plan.heterogeneity_db = uniform(0.3, 1.1), uniform(0.5, 3)


def _cancer(rng: np.random.Generator, plan: Plan) -> None:
    """Mostly irregular; round and oval ones may pass for benign."""
    uniform = rng.uniform
    plan.echo = "heterogeneous" if rng.random() < 0.3 else "hypoechoic"
    plan.contrast_db = -uniform(6, 18)
    plan.posterior = str(rng.choice(["none", "enhancement", "shadowing"], p=[0.35, 0.12, 0.53]))
    plan.shape = str(rng.choice(["irregular", "round", "oval"], p=[0.78, 0.14, 0.08]))
    plan.margin = str(rng.choice(["spiculated", "angular", "indistinct", "microlobulated"], p=[0.4, 0.22, 0.2, 0.18]))
    if plan.shape == "irregular":
        plan.height = uniform(0.7, 1.45)
    else:
        plan.height = uniform(0.65, 1.05)
        plan.margin = str(rng.choice(["circumscribed", "indistinct", "microlobulated"]))
    plan.lumpiness = uniform(0.18, 0.42) if plan.shape == "irregular" else uniform(0.04, 0.12)
    plan.softness = uniform(0.5, 1.2) if plan.margin == "indistinct" else uniform(0.2, 0.5)
    plan.heterogeneity_db = uniform(0.4, 3.0)
    plan.halo_db = uniform(1.5, 8) if rng.random() < 0.65 else 0.0


_LOOKS = {
    "cyst": _cystic,
    "fibroadenoma": _fibroadenoma,
    "iso": _isoechoic,
    "hyper": _hyperechoic,
    "complex": _complex,
    "cancer": _cancer,
    "mass": _in_between,
    "cluster": _cystic,
}
