"""What the records say of this generator's volumes; `abus_records` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from abus_records import Series, box_of

from .volume import Lesion, Volume

SERIES = Series(
    prefix="fourth",
    software="fourth generator 1",
    split="test",  # these volumes are for nothing else
    about="Synthetic ultrasound of a fourth generator, to measure on and never to train on; no patient.",
)


def write_volume(folder: Path, seed: int, index: int, volume: Volume, settings: dict[str, Any]) -> dict[str, Any]:
    """Write a volume, its labels and, last, its record, which is returned. Raises `OutputError`."""
    lesions = [_lesion(lesion, volume) for lesion in volume.lesions]
    arrays = (volume.image, volume.labels)
    return SERIES.write_volume(folder, seed, index, arrays, volume.spacing_mm, lesions, settings, volume.facts)


def _lesion(lesion: Lesion, volume: Volume) -> dict[str, Any]:
    """A lesion as records have it; its box and volume are those of its label, which breathing may have moved."""
    voxels = np.argwhere(volume.labels == lesion.label)[:, ::-1]  # lateral, depth, slice
    first = [int(v) for v in voxels.min(0)]
    extent = [int(v) for v in np.ptp(voxels, axis=0) + 1]
    box = box_of(first, extent, volume.spacing_mm)
    return {
        "label": lesion.label,
        "descriptors": _descriptors(lesion, box["size"]),
        "malignant": lesion.plan.malignant,
        "posterior": None,  # kinds are drawn, not descriptors given nature: nobody knows it
        "category": None,
        **box,
        "volume_ml": len(voxels) * float(np.prod(volume.spacing_mm)) / 1000,
        "contrast_db": round(lesion.contrast_db, 3),
    }


def _descriptors(lesion: Lesion, size: list[float]) -> dict[str, str]:
    """BI-RADS descriptors in the lexicon's words; `size` is that of the lesion's box, mm (lateral, depth, slice)."""
    plan = lesion.plan
    lateral, deep, across = size
    rounded = "round" if max(size) < 1.25 * min(size) else "oval"
    return {
        "shape": "irregular" if plan.irregular else rounded,
        "orientation": "not parallel" if deep > max(lateral, across) else "parallel",
        "margin": plan.margin,
        "echo_pattern": plan.echo,
        "posterior_features": lesion.posterior,
        "calcifications": plan.calcifications,
        "halo": "present" if plan.halo_db else "absent",
    }
