"""What the records say of this generator's volumes; `abus_records` writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from abus_records import Series, Volume, box_of

from .lesion import Lesion, category

SERIES = (Series("second", version=1, split="test"),)  # these volumes are for nothing else


def lesions_of(volume: Volume) -> list[dict[str, Any]]:
    """A volume's lesions as records have them, in the order of their labels."""
    return [_lesion(number, lesion, volume.spacing_mm) for number, lesion in enumerate(volume.lesions, 1)]


def _lesion(number: int, lesion: Lesion, spacing_mm: tuple[float, float, float]) -> dict[str, Any]:
    """A lesion as records have it. Descriptors were drawn given its nature, so that the posterior is known."""
    order = (2, 0, 1)  # lateral, depth, slice out of depth, slice, lateral
    first = [int(lesion.start[k]) for k in order]
    extent = [int(lesion.mask.shape[k]) for k in order]
    return {
        "label": number,
        "descriptors": dict(lesion.plan.descriptors),
        "malignant": lesion.plan.malignant,
        "posterior": round(lesion.plan.posterior, 9),
        "category": category(lesion.plan.posterior),
        **box_of(first, extent, spacing_mm),
        "volume_ml": int(lesion.mask.sum()) * float(np.prod(spacing_mm)) / 1000,
        "contrast_db": round(lesion.contrast_db, 3),
    }
