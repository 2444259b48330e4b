"""What the records say of this generator's volumes; `abus_records` writes them."""

from __future__ import annotations

from typing import Any

from abus_records import Series, Volume, lesions_by_label, orientation_of

from .lesion_plan import Plan

SERIES = tuple(Series("sixth", version=1, split=split) for split in ("train", "validation"))  # never to measure on
_IRREGULAR = ("irregular", "polytope", "duct")


def lesions_of(volume: Volume) -> list[dict[str, Any]]:
    """A volume's lesions as records have them, in the order of their labels."""
    return lesions_by_label(volume, lambda lesion, size: descriptors(lesion.plan, size))


def descriptors(plan: Plan, size: list[float]) -> dict[str, str]:
    """BI-RADS descriptors in the lexicon's words; `size` is that of the lesion's box, mm (lateral, depth, slice)."""
    if plan.form in _IRREGULAR or plan.margin in ("spiculated", "angular", "microlobulated"):
        shape = "irregular"
    else:
        shape = "round" if min(size) > 0.85 * max(size) else "oval"
    return {
        "shape": shape,
        "orientation": orientation_of(size),
        "margin": plan.margin,
        "echo_pattern": plan.echo,
        "posterior_features": plan.posterior,
        "calcifications": plan.calcifications,
        "halo": "present" if plan.halo_db else "absent",
    }
