"""What may be asked of a phantom: `PhantomSpec`, checked when it is made."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..errors import PhantomError
from . import truth
from .grids import GRIDS, PhantomGrid

DENSITIES = ("a", "b", "c", "d")

# Field of `truth.Descriptors` -> the values that it may have.
DESCRIPTORS: dict[str, tuple[str, ...]] = {
    "shape": truth.SHAPES,
    "orientation": truth.ORIENTATIONS,
    "margin": truth.MARGINS,
    "echo_pattern": truth.ECHO_PATTERNS,
    "posterior_features": truth.POSTERIOR_FEATURES,
    "calcifications": truth.CALCIFICATIONS,
    "halo": truth.HALO,
}

# cm3: a sphere of 3.7 mm, the smallest that is reported as a mass, to one of 32.5 mm.
MINIMUM_ML, MAXIMUM_ML = 0.026, 18.0

# More do not fit beside one another in every breast.
MAXIMUM_LESIONS = 8

# No lesion is drawn longer than this times its least diameter.
_ELONGATION = 3.0


@dataclass(frozen=True)
class LesionRequest:
    """What a lesion must be; None: drawn.

    Attributes
    ----------
    malignant : drawn with `PhantomSpec.malignant_share` otherwise.
    volume_ml : cm3, 0.026 to 18.
    descriptors : field of `truth.Descriptors` -> value; the others are drawn given these and malignancy.
    centre : where, mm from the volume's first voxel's corner along x, y, z.

    Raises
    ------
    PhantomError : a value that no lesion can have; the sentence names those that it may have.
    """

    malignant: bool | None = None
    volume_ml: float | None = None
    descriptors: Mapping[str, str] = field(default_factory=dict)
    centre: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.malignant is not None and self.malignant not in (True, False):
            raise PhantomError(f"A lesion's malignant is {self.malignant!r}; it must be True, False or None (drawn).")
        if self.volume_ml is not None:
            object.__setattr__(self, "volume_ml", _number("A lesion's volume_ml", self.volume_ml))
            if not MINIMUM_ML <= self.volume_ml <= MAXIMUM_ML:
                raise PhantomError(
                    f"A lesion's volume_ml is {self.volume_ml:g}; it must be from {MINIMUM_ML:g} to {MAXIMUM_ML:g} cm3."
                )
        for name, value in _mapping("A lesion's descriptors", self.descriptors).items():
            if name not in DESCRIPTORS:
                raise PhantomError(f"{name!r} is no descriptor of a lesion; there are: {', '.join(DESCRIPTORS)}.")
            if value not in DESCRIPTORS[name]:
                raise PhantomError(f"A lesion's {name} is {value!r}; it must be one of: {', '.join(DESCRIPTORS[name])}.")
        # A copy: what the caller does to his own later must not change a specification that was checked.
        object.__setattr__(self, "descriptors", dict(self.descriptors))
        if self.centre is not None:
            object.__setattr__(self, "centre", _three("A lesion's centre", self.centre))

    def check_fits(self, grid: PhantomGrid) -> None:
        """Refuse what no placement could bring into the grid. Raises `PhantomError`.

        The largest body about the centre (or in the whole grid) that is not longer than three times its least diameter
        must hold the volume. That it lies in breast tissue as well, `volume.generate` finds out.
        """
        half = [e / 2 for e in grid.extent]
        where = ""
        if self.centre is not None:
            if not all(0 < c < e for c, e in zip(self.centre, grid.extent, strict=True)):
                raise PhantomError(
                    f"A lesion's centre is {_mm(self.centre)}; it must lie inside the volume of {_mm(grid.extent)}, "
                    "measured from the first voxel's corner."
                )
            half = [min(c, e - c) for c, e in zip(self.centre, grid.extent, strict=True)]
            where = f" around {_mm(self.centre)}"
        largest = 4 / 3 * math.pi * math.prod(min(h, _ELONGATION * min(half)) for h in half) / 1000
        volume = MINIMUM_ML if self.volume_ml is None else self.volume_ml
        if volume > largest:
            raise PhantomError(
                f"A lesion of {volume:g} cm3 cannot fit{where} in a volume of {_mm(grid.extent)}; ask for one below "
                f"{largest:.2g} cm3, " + ("another centre " if where else "") + "or a larger grid."
            )

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON has them."""
        return {
            "malignant": self.malignant,
            "volume_ml": self.volume_ml,
            "descriptors": dict(self.descriptors),
            "centre": None if self.centre is None else list(self.centre),
        }


@dataclass(frozen=True)
class PhantomSpec:
    """Settings of a volume; the defaults are what models are trained and tested on.

    Attributes
    ----------
    grid : a name in `grids.GRIDS` or a grid of one's own.
    lesions : how many (None: 0 to 3, drawn), or one request each.
    density : composition of the breast, a to d (ACR); None: drawn.
    malignant_share : prior probability of malignancy.
    acquisition : field of `acquisition.Acquisition` -> value, instead of the drawn one.
    hard_negatives : whether vessels, ducts, fat lobules in the gland, cyst-like fat and stray shadows are made.

    Raises
    ------
    PhantomError : a setting that has no meaning; the sentence names what is allowed.
    """

    grid: str | PhantomGrid = "half"
    lesions: int | tuple[LesionRequest, ...] | None = None
    density: str | None = None
    malignant_share: float = 0.35
    acquisition: Mapping[str, float] = field(default_factory=dict)
    hard_negatives: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.grid, PhantomGrid) and self.grid not in GRIDS:
            raise PhantomError(f"There is no grid {self.grid!r}; choose one of: {', '.join(GRIDS)}, or make a PhantomGrid.")
        if self.density is not None and self.density not in DENSITIES:
            raise PhantomError(f"The density is {self.density!r}; it must be one of: {', '.join(DENSITIES)}.")
        object.__setattr__(self, "malignant_share", _number("The malignant share", self.malignant_share))
        if not 0 <= self.malignant_share <= 1:
            raise PhantomError(f"The malignant share is {self.malignant_share:g}; it must be from 0 to 1.")
        self._check_lesions()
        self._check_acquisition()
        object.__setattr__(self, "acquisition", {name: float(value) for name, value in self.acquisition.items()})
        object.__setattr__(self, "hard_negatives", bool(self.hard_negatives))

    @property
    def sampling(self) -> PhantomGrid:
        """The grid itself, also where it was given by name."""
        return self.grid if isinstance(self.grid, PhantomGrid) else GRIDS[self.grid]

    def _check_lesions(self) -> None:
        if self.lesions is None:
            return
        if isinstance(self.lesions, (list, tuple)):
            number = len(self.lesions)
            for request in self.lesions:
                if not isinstance(request, LesionRequest):
                    raise PhantomError(f"lesions holds {request!r}; it must be a number or LesionRequests.")
                request.check_fits(self.sampling)
            object.__setattr__(self, "lesions", tuple(self.lesions))
        else:
            number = _whole("The number of lesions", self.lesions)
            object.__setattr__(self, "lesions", number)
            if number > 0:
                LesionRequest().check_fits(self.sampling)
        if not 0 <= number <= MAXIMUM_LESIONS:
            raise PhantomError(f"The number of lesions is {number}; it must be from 0 to {MAXIMUM_LESIONS}.")

    def _check_acquisition(self) -> None:
        if not _mapping("The acquisition", self.acquisition):
            return
        from .acquisition import Acquisition

        known = [f.name for f in fields(Acquisition)]
        for name, value in self.acquisition.items():
            if name not in known:
                raise PhantomError(f"{name!r} is no setting of the acquisition; there are: {', '.join(known)}.")
            _number(f"The acquisition's {name}", value)
        Acquisition(**self.acquisition)  # refuses what is out of range

    def to_dict(self) -> dict[str, Any]:
        """All settings as JSON has them; equal for equal specifications, also where one names its grid."""
        grid, lesions = self.sampling, self.lesions
        return {
            "grid": self.grid if isinstance(self.grid, str) else None,
            "size": list(grid.size),
            "spacing_mm": list(grid.spacing),
            "top_mm": grid.top,
            "whole": grid.whole,
            "lesions": [request.to_dict() for request in lesions] if isinstance(lesions, tuple) else lesions,
            "density": self.density,
            "malignant_share": self.malignant_share,
            "acquisition": dict(self.acquisition),
            "hard_negatives": self.hard_negatives,
        }


def _number(what: str, value: Any) -> float:
    """A finite number as float; PhantomError for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or isinstance(value, (str, bytes)):
        raise PhantomError(f"{what} is {value!r}; it must be a finite number.")
    return number


def _whole(what: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise PhantomError(f"{what} is {value!r}; it must be a whole number.") from None


def _mapping(what: str, value: Any) -> Mapping:
    if not isinstance(value, Mapping):
        raise PhantomError(f"{what} is {value!r}; it must be a mapping of names to values.")
    return value


def _three(what: str, values: Any) -> tuple[float, float, float]:
    if isinstance(values, str) or not hasattr(values, "__len__") or len(values) != 3:
        raise PhantomError(f"{what} is {values!r}; it must be three numbers, along x, y and z.")
    return tuple(_number(what, v) for v in values)


def _mm(values) -> str:
    return " x ".join(f"{v:g}" for v in values) + " mm"
