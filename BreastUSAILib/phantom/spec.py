"""What may be asked of a phantom: `PhantomSpec`, checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .grids import PhantomGrid

DENSITIES = ("a", "b", "c", "d")


@dataclass(frozen=True)
class LesionRequest:
    """What a lesion must be; None: drawn.

    Attributes
    ----------
    malignant : drawn with `PhantomSpec.malignant_share` otherwise.
    volume_ml : cm3.
    descriptors : field of `truth.Descriptors` -> value; the others are drawn given these and malignancy.
    centre : where, mm from the volume's first voxel's corner along x, y, z.
    """

    malignant: bool | None = None
    volume_ml: float | None = None
    descriptors: Mapping[str, str] = field(default_factory=dict)
    centre: tuple[float, float, float] | None = None


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
    """

    grid: str | PhantomGrid = "half"
    lesions: int | tuple[LesionRequest, ...] | None = None
    density: str | None = None
    malignant_share: float = 0.35
    acquisition: Mapping[str, float] = field(default_factory=dict)
    hard_negatives: bool = True
