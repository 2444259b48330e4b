"""What the records say of this generator's volumes; `abus_records` writes them."""

from __future__ import annotations

from typing import Any

from abus_records import Series, Volume, lesions_by_label, orientation_of

from .volume import Lesion

SERIES = (Series("fourth", version=1, split="test"),)  # these volumes are for nothing else


def lesions_of(volume: Volume) -> list[dict[str, Any]]:
    """A volume's lesions as records have them, in the order of their labels; breathing may have moved these."""
    return lesions_by_label(volume, _descriptors)


def _descriptors(lesion: Lesion, size: list[float]) -> dict[str, str]:
    """BI-RADS descriptors in the lexicon's words; `size` is that of the lesion's box, mm (lateral, depth, slice)."""
    plan = lesion.plan
    rounded = "round" if max(size) < 1.25 * min(size) else "oval"
    return {
        "shape": "irregular" if plan.irregular else rounded,
        "orientation": orientation_of(size),
        "margin": plan.margin,
        "echo_pattern": plan.echo,
        "posterior_features": lesion.posterior,
        "calcifications": plan.calcifications,
        "halo": "present" if plan.halo_db else "absent",
    }
