"""What the records say of this generator's volumes; `abus_records` writes them."""

from __future__ import annotations

from typing import Any

from abus_records import Series, Volume, lesions_by_label, words_of_plan

from .lesion_plan import Plan

SERIES = tuple(Series("fifth", version=1, split=split) for split in ("train", "validation"))  # never to measure on


def lesions_of(volume: Volume) -> list[dict[str, Any]]:
    """A volume's lesions as records have them, in the order of their labels."""
    return lesions_by_label(volume, lambda lesion, size: descriptors(lesion.plan, size))


def descriptors(plan: Plan, size: list[float]) -> dict[str, str]:
    """BI-RADS descriptors in the lexicon's words; `size` is that of the lesion's box, mm (lateral, depth, slice)."""
    irregular = plan.form in ("warped", "polytope", "spikes") or plan.margin == "microlobulated"
    return words_of_plan(plan, size, irregular=irregular)
