"""What is known of a phantom: its lesions, exactly, and the volume itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import SimpleITK as sitk

SHAPES = ("oval", "round", "irregular")
ORIENTATIONS = ("parallel", "not parallel")
MARGINS = ("circumscribed", "indistinct", "angular", "microlobulated", "spiculated")
ECHO_PATTERNS = ("anechoic", "hyperechoic", "complex cystic and solid", "hypoechoic", "isoechoic", "heterogeneous")
POSTERIOR_FEATURES = ("none", "enhancement", "shadowing", "combined")
CALCIFICATIONS = ("none", "in mass", "outside mass", "intraductal")
HALO = ("absent", "present")
CATEGORIES = ("3", "4A", "4B", "4C", "5")


@dataclass(frozen=True)
class Descriptors:
    """BI-RADS ultrasound descriptors of a mass (ACR BI-RADS Atlas, 5th edition); values as in the tuples above."""

    shape: str
    orientation: str
    margin: str
    echo_pattern: str
    posterior_features: str
    calcifications: str
    halo: str


@dataclass(frozen=True)
class LesionTruth:
    """One lesion of a phantom, exactly as its label map has it.

    Attributes
    ----------
    label : value in the label map, from 1.
    descriptors, malignant : what was drawn.
    posterior : exact probability of malignancy given all that is drawn from malignancy (descriptors and volume), 0 to 1. None where nobody knows
        it: of volumes of another generator, whose lesions are not drawn from malignancy.
    category : BI-RADS category: `posterior` binned at the lexicon's edges; None with it.
    centre : centre of the bounding box, LPS mm.
    size : size of the bounding box along x, y, z in mm (voxel edges to voxel edges).
    first, last : first and last voxel (x, y, z) of the bounding box, both included.
    volume_ml : voxels x voxel volume, cm3.
    contrast_db : mean lesion echo against its surroundings as made, before shadowing, dB.
    """

    label: int
    descriptors: Descriptors
    malignant: bool
    posterior: float | None
    category: str | None
    centre: tuple[float, float, float]
    size: tuple[float, float, float]
    first: tuple[int, int, int]
    last: tuple[int, int, int]
    volume_ml: float
    contrast_db: float


@dataclass(frozen=True)
class Phantom:
    """A volume and all that is known of it.

    `image` uint8 and `labels` uint8 (0, then the lesions' labels) are 3D and share a grid: x lateral, y depth, z slice, identity direction
    (LPS: the patient lies on the back, the skin is at y = 0). `facts` holds what was drawn for the volume: density, acquisition.
    """

    seed: int
    image: sitk.Image
    labels: sitk.Image
    lesions: tuple[LesionTruth, ...]
    facts: dict = field(default_factory=dict)
