"""What a lesion is: malignancy first, then descriptors and volume given it, then the category from the exact posterior.

The two class-conditional joint tables over all seven descriptors come from iterative proportional fitting (Deming and Stephan 1940) of the published
shares over the combinations that the lexicon allows: every published share holds exactly, excluded pairs have probability zero, and the odds
ratios between descriptors are those of `lexicon_tables.AFFINITIES`. Volume is independent of the descriptors given malignancy.

Nothing else that is drawn for a lesion may look at malignancy (`lesion.build_lesion` sees descriptors and volume alone). So
`posterior` is all that a perfect reader of the image could know, and `ideal.py` turns it into the best possible AUC.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from ..errors import PhantomError
from .lexicon_tables import (
    AFFINITIES,
    CATEGORY_EDGES,
    ONLY_WITH,
    SHARES,
    VOLUME_LOG_SD,
    VOLUME_MEDIANS,
)
from .spec import DESCRIPTORS, MAXIMUM_ML, MINIMUM_ML, LesionRequest
from .truth import CATEGORIES, Descriptors

FIELDS = tuple(f.name for f in fields(Descriptors))
_VOLUME_RANGE = (MINIMUM_ML, MAXIMUM_ML)
_NORMAL = NormalDist()


@dataclass(frozen=True)
class LesionSpec:
    """What a lesion is, before it has a place and voxels.

    Attributes
    ----------
    malignant, descriptors, volume_ml : drawn, or as asked for; volume in cm3.
    posterior : P(malignant | descriptors, volume) at the share of malignancy that was drawn with, 0 to 1.
    category : `posterior` binned at the lexicon's edges.
    """

    malignant: bool
    descriptors: Descriptors
    volume_ml: float
    posterior: float
    category: str


def _along(field: str, vector: np.ndarray) -> np.ndarray:
    """A vector over one field's values, shaped to broadcast against the joint table."""
    return vector.reshape([-1 if f == field else 1 for f in FIELDS])


def _is(field: str, *values: str) -> np.ndarray:
    return _along(field, np.array([v in values for v in DESCRIPTORS[field]]))


@lru_cache(maxsize=1)
def support() -> np.ndarray:
    """Which combinations of descriptors the lexicon allows: bool, one axis a field in the order of `FIELDS`."""
    allowed = np.ones([len(DESCRIPTORS[f]) for f in FIELDS], bool)
    for field, value, other, values in ONLY_WITH:
        allowed &= ~_is(field, value) | _is(other, *values)
    return allowed


@lru_cache(maxsize=2)
def joint_table(malignant: bool) -> np.ndarray:
    """P(descriptors | malignancy): float64, one axis a field in the order of `FIELDS`; sums to 1. Read-only.

    Rounded to 1e-12 after the fit, so that the last bits of sums, which depend on the machine, cannot change what is drawn.
    """
    table = support().astype(np.float64)
    for field, value, other, other_value, odds in AFFINITIES:
        table[np.broadcast_to(_is(field, value) & _is(other, other_value), table.shape)] *= odds
    targets = []
    for axis, field in enumerate(FIELDS):
        share = np.array([SHARES[field][v][malignant] for v in DESCRIPTORS[field]], np.float64)
        others = tuple(i for i in range(len(FIELDS)) if i != axis)
        targets.append((field, others, share / share.sum()))
    for _ in range(1000):
        error = 0.0
        for field, others, target in targets:
            now = table.sum(axis=others)
            error = max(error, float(np.abs(now - target).max()))
            table *= _along(field, np.divide(target, now, out=np.zeros_like(target), where=now > 0))
        if error < 1e-13:
            break
    table = np.round(table, 12)
    table.flags.writeable = False
    return table


def _standard_volume(volume_ml: float, malignant: bool) -> float:
    return (math.log(volume_ml) - math.log(VOLUME_MEDIANS[malignant])) / VOLUME_LOG_SD


def _volume_limits(malignant: bool) -> tuple[float, float]:
    """Probabilities of the untruncated distribution below the smallest and below the largest volume."""
    low, high = (_NORMAL.cdf(_standard_volume(v, malignant)) for v in _VOLUME_RANGE)
    return low, high


def volume_density(volume_ml: float, malignant: bool) -> float:
    """p(ln volume | malignancy) of the truncated log-normal distribution of volumes (cm3); 0 outside the range."""
    if not _VOLUME_RANGE[0] <= volume_ml <= _VOLUME_RANGE[1]:
        return 0.0
    low, high = _volume_limits(malignant)
    return _NORMAL.pdf(_standard_volume(volume_ml, malignant)) / VOLUME_LOG_SD / (high - low)


def volume_quantile(fraction: float, malignant: bool) -> float:
    """The volume in cm3 below which `fraction` (0 to 1) of the benign or malignant lesions lie, rounded to 0.0001 cm3."""
    low, high = _volume_limits(malignant)
    p = low + fraction * (high - low)
    volume = VOLUME_MEDIANS[malignant] * math.exp(VOLUME_LOG_SD * _NORMAL.inv_cdf(min(max(p, 1e-9), 1 - 1e-9)))
    return round(min(max(volume, _VOLUME_RANGE[0]), _VOLUME_RANGE[1]), 4)


def _index(descriptors: Descriptors) -> tuple[int, ...]:
    return tuple(DESCRIPTORS[f].index(getattr(descriptors, f)) for f in FIELDS)


def posterior(descriptors: Descriptors, volume_ml: float, malignant_share: float) -> float:
    """P(malignant | descriptors, volume) by Bayes' rule from the tables that lesions are drawn from; 0 to 1, rounded to 1e-9."""
    index = _index(descriptors)
    malignant = malignant_share * joint_table(True)[index] * volume_density(volume_ml, True)
    benign = (1.0 - malignant_share) * joint_table(False)[index] * volume_density(volume_ml, False)
    return round(float(malignant / (malignant + benign)), 9)


def category(probability: float) -> str:
    """The BI-RADS category of a probability of malignancy: 3 up to 2 %, 4A up to 10 %, 4B up to 50 %, 4C below 95 %, 5 from 95 %."""
    *edges, highest = CATEGORY_EDGES
    if probability >= highest:
        return CATEGORIES[-1]
    return CATEGORIES[sum(probability > edge for edge in edges)]


def _check_share(malignant_share: float) -> None:
    if not 0.0 <= malignant_share <= 1.0:  # also refuses nan
        raise PhantomError(f"malignant_share is {malignant_share}; it must lie between 0 and 1.")


def _selection(wanted: Mapping[str, str]) -> np.ndarray:
    """The combinations that agree with the wanted descriptors: bool table.

    Raises
    ------
    PhantomError : values that the lexicon does not allow together.
    """
    chosen = support().copy()
    for field, value in wanted.items():
        chosen &= _is(field, value)
    if not chosen.any():
        words = ", ".join(f"{field} {value}" for field, value in wanted.items())
        raise PhantomError(f"no lesion is {words} at once: the lexicon excludes it; leave one of them to be drawn.")
    return chosen


def check_request(request: LesionRequest) -> None:
    """Whether a lesion like this exists at all (`LesionRequest` has checked words and ranges when it was made).

    Raises
    ------
    PhantomError : descriptors that exclude each other, or that malignancy excludes.
    """
    chosen = _selection(request.descriptors)
    if request.malignant is not None and not joint_table(bool(request.malignant))[chosen].any():
        words = ", ".join(f"{field} {value}" for field, value in request.descriptors.items())
        kind = "malignant" if request.malignant else "benign"
        raise PhantomError(f"no {kind} lesion is {words}; change malignancy or leave a descriptor to be drawn.")


def draw_lesion(
    generator: np.random.Generator, malignant_share: float = 0.35, request: LesionRequest | None = None
) -> LesionSpec:
    """Draw a lesion, given what is asked for, by exact conditioning of the joint distribution.

    Three uniform numbers are used whatever is asked for, so that a request does not reshuffle what comes after it.

    Parameters
    ----------
    generator : source of the three numbers.
    malignant_share : prior probability of malignancy, 0 to 1.
    request : what the lesion must be; its centre is not looked at.

    Returns
    -------
    The lesion. `posterior` is that of descriptors and volume at `malignant_share`, also where malignancy was asked for.

    Raises
    ------
    PhantomError : a share outside 0 to 1 or a request that no lesion can meet.
    """
    request = request or LesionRequest()
    _check_share(malignant_share)
    check_request(request)
    of_class, of_state, of_volume = (float(u) for u in generator.random(3))

    chosen = _selection(request.descriptors)
    tables = [np.where(chosen, joint_table(m), 0.0) for m in (False, True)]
    weights = [(1.0 - malignant_share) * float(tables[0].sum()), malignant_share * float(tables[1].sum())]
    if request.volume_ml is not None:
        weights = [w * volume_density(request.volume_ml, m) for w, m in zip(weights, (False, True), strict=True)]
    if request.malignant is not None:
        weights[not request.malignant] = 0.0
    if sum(weights) <= 0.0:
        raise PhantomError(
            f"the lesion that is asked for does not occur when malignant_share is {malignant_share}; change the share or the request."
        )
    malignant = of_class < round(weights[1] / sum(weights), 12)

    cumulated = np.cumsum(tables[malignant].ravel())
    state = int(np.searchsorted(cumulated, round(of_state * float(cumulated[-1]), 12), side="right"))
    state = min(state, int(np.flatnonzero(tables[malignant])[-1]))
    index = np.unravel_index(state, chosen.shape)
    descriptors = Descriptors(**{f: DESCRIPTORS[f][i] for f, i in zip(FIELDS, index, strict=True)})

    volume = volume_quantile(of_volume, malignant) if request.volume_ml is None else float(request.volume_ml)
    probability = posterior(descriptors, volume, malignant_share)
    return LesionSpec(malignant, descriptors, volume, probability, category(probability))
