"""What the records say of this generator's volumes; `abus_records` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from abus_records import Series, box_of

from .lesion import category
from .volume import Volume

SERIES = Series(
    prefix="second",
    software="second generator 1",
    split="test",  # these volumes are for nothing else
    about="Synthetic ultrasound of a second generator, to measure on and never to train on; no patient.",
)


def write_volume(folder: Path, seed: int, index: int, volume: Volume, settings: dict[str, Any]) -> dict[str, Any]:
    """Write a volume, its labels and, last, its record, which is returned. Raises `OutputError`."""
    lesions = [_lesion(number, lesion, volume.spacing) for number, lesion in enumerate(volume.lesions, 1)]
    arrays = (volume.grey, volume.labels)
    return SERIES.write_volume(folder, seed, index, arrays, volume.spacing, lesions, settings, volume.facts)


def _lesion(number: int, lesion, spacing: tuple[float, float, float]) -> dict[str, Any]:
    """A lesion as records have it."""
    order = (2, 0, 1)  # lateral, depth, slice out of depth, slice, lateral
    first = [int(lesion.start[k]) for k in order]
    extent = [int(lesion.mask.shape[k]) for k in order]
    return {
        "label": number,
        "descriptors": dict(lesion.plan.descriptors),
        "malignant": lesion.plan.malignant,
        "posterior": round(lesion.plan.posterior, 9),
        "category": category(lesion.plan.posterior),
        **box_of(first, extent, spacing),
        "volume_ml": int(lesion.mask.sum()) * float(np.prod(spacing)) / 1000,
        "contrast_db": round(lesion.contrast_db, 3),
    }
