"""What the records say of this generator's volumes; `abus_records` writes them."""

from __future__ import annotations

from typing import Any

from abus_records import Series, Volume, lesions_by_label, orientation_of

from .volume import Lesion

SERIES = tuple(Series("third", version=1, split=split) for split in ("train", "validation"))  # never to measure on


def lesions_of(volume: Volume) -> list[dict[str, Any]]:
    """A volume's lesions as records have them, in the order of their labels; breathing may have moved these."""
    return lesions_by_label(volume, _descriptors)


def _descriptors(lesion: Lesion, size: list[float]) -> dict[str, str]:
    """BI-RADS descriptors in the lexicon's words; `size` is that of the lesion's box, mm (lateral, depth, slice)."""
    plan = lesion.plan
    # To the lexicon, gentle lobules are a matter of oval shapes with a circumscribed margin.
    margin = "circumscribed" if plan.margin == "lobulated" else plan.margin
    return {
        "shape": plan.shape,
        "orientation": orientation_of(size),
        "margin": margin,
        "echo_pattern": "complex cystic and solid" if plan.cystic_from is not None else plan.echo,
        "posterior_features": plan.posterior,
        "calcifications": "in mass" if plan.calcifications else "none",
        "halo": "present" if plan.halo_db else "absent",
    }
