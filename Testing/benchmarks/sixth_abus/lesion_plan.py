"""Which lesions there are, and what each kind looks like; kinds overlap, as they do in patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_HEALTHY = 0.14
_NUMBERS = (0.62, 0.25, 0.1, 0.03)  # of one, two, three, four lesions in the other volumes
_MEDIAN_ML, _SPREAD, _LEAST_ML, _MOST_ML = 0.5, 1.3, 0.03, 15.0
_LEAST_ISOECHOIC_ML = 0.12  # smaller ones nobody could tell from the lobules around them


@dataclass(frozen=True)
class Kind:
    """What is drawn of a kind of lesion.

    Attributes
    ----------
    name, malignant : what it is.
    weight : how often, against the others.
    forms, margins, echoes, posteriors : words with their weights; forms are those of `lesion_shape`, the others the lexicon's.
    halo, capsule, distortion, calcified : probabilities.
    flat : range of depth over width.
    """

    name: str
    malignant: bool
    weight: float
    forms: dict[str, float]
    margins: dict[str, float]
    echoes: dict[str, float]
    posteriors: dict[str, float]
    halo: float = 0.0
    capsule: float = 0.0
    distortion: float = 0.0
    calcified: float = 0.0
    flat: tuple[float, float] = (0.5, 0.9)


_SMOOTH = {"circumscribed": 0.9, "indistinct": 0.1}
_QUIET = {"none": 0.7, "enhancement": 0.3}
KINDS = (
    Kind("cyst", False, 11, {"oval": 0.8, "lobed": 0.2}, {"circumscribed": 1}, {"anechoic": 1}, {"enhancement": 0.8, "none": 0.2}, capsule=0.5, flat=(0.5, 1.0)),
    Kind("complicated cyst", False, 7, {"oval": 0.8, "lobed": 0.2}, _SMOOTH, {"hypoechoic": 0.8, "anechoic": 0.2}, {"enhancement": 0.5, "none": 0.5}, capsule=0.4, flat=(0.5, 1.0)),
    Kind("complex cyst", False, 4, {"oval": 0.6, "lobed": 0.4}, {"circumscribed": 0.7, "microlobulated": 0.3}, {"complex cystic and solid": 1}, {"enhancement": 0.6, "combined": 0.2, "none": 0.2}, capsule=0.4),
    Kind("fibroadenoma", False, 19, {"oval": 0.6, "lobed": 0.4}, _SMOOTH, {"hypoechoic": 0.72, "isoechoic": 0.25, "heterogeneous": 0.03}, _QUIET, capsule=0.4, calcified=0.08, flat=(0.4, 0.8)),
    Kind("phyllodes", False, 2, {"lobed": 0.8, "oval": 0.2}, _SMOOTH, {"hypoechoic": 0.5, "heterogeneous": 0.5}, _QUIET, capsule=0.4),
    Kind("hamartoma", False, 3, {"oval": 1}, {"circumscribed": 1}, {"heterogeneous": 0.8, "isoechoic": 0.2}, {"none": 1}, capsule=0.9, flat=(0.4, 0.7)),
    Kind("fat necrosis", False, 5, {"oval": 0.6, "irregular": 0.4}, {"circumscribed": 0.5, "indistinct": 0.5}, {"hyperechoic": 0.85, "heterogeneous": 0.15}, {"none": 0.7, "shadowing": 0.3}, calcified=0.15, distortion=0.1),
    Kind("papilloma", False, 4, {"oval": 0.6, "lobed": 0.4}, {"circumscribed": 0.7, "microlobulated": 0.3}, {"hypoechoic": 0.75, "complex cystic and solid": 0.25}, _QUIET, capsule=0.2, flat=(0.5, 1.0)),
    Kind("adenosis", False, 4, {"irregular": 0.7, "oval": 0.3}, {"indistinct": 0.6, "angular": 0.2, "spiculated": 0.2}, {"hypoechoic": 0.8, "isoechoic": 0.2}, {"none": 0.6, "shadowing": 0.4}, halo=0.15, distortion=0.3, calcified=0.15),
    Kind("invasive carcinoma", True, 25, {"irregular": 0.6, "polytope": 0.3, "oval": 0.1}, {"spiculated": 0.32, "angular": 0.22, "indistinct": 0.26, "microlobulated": 0.2}, {"hypoechoic": 0.9, "isoechoic": 0.04, "hyperechoic": 0.02, "heterogeneous": 0.04}, {"shadowing": 0.5, "none": 0.32, "combined": 0.1, "enhancement": 0.08}, halo=0.5, distortion=0.6, calcified=0.25, flat=(0.6, 1.4)),
    Kind("lobular carcinoma", True, 4, {"irregular": 1}, {"indistinct": 0.6, "spiculated": 0.4}, {"hypoechoic": 0.75, "isoechoic": 0.15, "heterogeneous": 0.1}, {"shadowing": 0.7, "none": 0.3}, halo=0.3, distortion=0.8, flat=(0.4, 0.9)),
    Kind("mucinous or medullary carcinoma", True, 6, {"oval": 0.6, "lobed": 0.4}, {"circumscribed": 0.6, "microlobulated": 0.25, "indistinct": 0.15}, {"hypoechoic": 0.7, "isoechoic": 0.2, "complex cystic and solid": 0.1}, {"enhancement": 0.6, "none": 0.4}, halo=0.1, flat=(0.65, 1.1)),
    Kind("ductal carcinoma in situ", True, 6, {"duct": 0.7, "irregular": 0.3}, {"indistinct": 0.5, "microlobulated": 0.4, "angular": 0.1}, {"hypoechoic": 0.85, "heterogeneous": 0.15}, {"none": 0.8, "shadowing": 0.2}, halo=0.1, distortion=0.15, calcified=0.7, flat=(0.35, 0.7)),
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What one lesion is to look like.

    Attributes
    ----------
    kind, malignant, form, margin, echo, posterior, calcifications : see `Kind`; "calcifications" in the lexicon's words.
    volume_ml : cm3.
    axes : half axes (slice, depth, lateral) against one another.
    level : dB of its inside against fat.
    halo_db, capsule_db : dB of the rims; 0: there is none.
    distortion : share of the way that the tissue around is drawn towards it.
    """

    kind: str
    malignant: bool
    form: str
    margin: str
    echo: str
    posterior: str
    calcifications: str
    volume_ml: float
    axes: tuple[float, float, float]
    level: float
    halo_db: float
    capsule_db: float
    distortion: float


def draw_plans(rng: np.random.Generator) -> list[Plan]:
    """The lesions of a volume, the largest first, for which it is hardest to find a place."""
    if rng.random() < _HEALTHY:
        return []
    number = 1 + int(rng.choice(len(_NUMBERS), p=_NUMBERS))
    return sorted((_draw_plan(rng) for _ in range(number)), key=lambda plan: -plan.volume_ml)


def _draw_plan(rng: np.random.Generator) -> Plan:
    weights = np.array([kind.weight for kind in KINDS])
    kind = KINDS[rng.choice(len(KINDS), p=weights / weights.sum())]
    echo = _word(rng, kind.echoes)
    margin = _word(rng, kind.margins)
    halo = rng.uniform(4, 10) if rng.random() < kind.halo else 0.0
    capsule = rng.uniform(2.5, 7) if margin == "circumscribed" and rng.random() < kind.capsule else 0.0
    if echo == "isoechoic" and not halo and not capsule:  # something must show where it ends
        halo, capsule = (rng.uniform(4, 9), 0.0) if kind.malignant else (0.0, rng.uniform(4, 8))
    flat = rng.uniform(*kind.flat)
    long = rng.uniform(0.75, 1.3)
    return Plan(
        kind.name,
        kind.malignant,
        _word(rng, kind.forms),
        margin,
        echo,
        _word(rng, kind.posteriors),
        _calcifications(rng, kind),
        max(_draw_volume(rng), _LEAST_ISOECHOIC_ML if echo == "isoechoic" else 0),
        (long, flat, 1 / long),
        _draw_level(rng, echo),
        halo,
        capsule,
        rng.uniform(0.25, 0.7) if rng.random() < kind.distortion else 0.0,
    )


def _word(rng: np.random.Generator, words: dict[str, float]) -> str:
    shares: Sequence[float] = list(words.values())
    return list(words)[rng.choice(len(words), p=shares)]


def _draw_volume(rng: np.random.Generator) -> float:
    while True:
        volume = _MEDIAN_ML * float(np.exp(rng.normal(0, _SPREAD)))
        if _LEAST_ML <= volume <= _MOST_ML:
            return volume


def _draw_level(rng: np.random.Generator, echo: str) -> float:
    """dB against fat."""
    if echo == "anechoic":
        return rng.uniform(-26, -14)
    if echo == "hyperechoic":
        return rng.uniform(7, 13)
    if echo == "isoechoic":
        return rng.uniform(-2, 2)
    if echo == "heterogeneous":
        return rng.uniform(-6, 0)
    return -3 - 9 * float(rng.beta(1.1, 2.0))


def _calcifications(rng: np.random.Generator, kind: Kind) -> str:
    if rng.random() >= kind.calcified:
        return "none"
    return "intraductal" if "duct" in kind.forms and rng.random() < 0.5 else "in mass"
