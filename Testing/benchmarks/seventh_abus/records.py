"""What the records of the seventh generator's volumes say."""

from __future__ import annotations

from typing import Any

from abus_records import Series, Volume, lesions_by_label, words_of_plan

SERIES = (Series("seventh", 1, "train"), Series("seventh", 1, "validation"))


def lesions_of(volume: Volume) -> list[dict[str, Any]]:
    """Lesions as records have them, in the order of their labels."""
    return lesions_by_label(volume, _descriptors)


def _descriptors(lesion: Any, size: list[float]) -> dict[str, str]:
    """BI-RADS words; `size` is that of the box, mm (lateral, depth, slice)."""
    return words_of_plan(lesion.plan, size, irregular=lesion.plan.irregular)
