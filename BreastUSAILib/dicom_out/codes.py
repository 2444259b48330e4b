"""The coded concepts of the results, as plain data: scheme, value, meaning (PS3.16).

What has no code in the standard is coded in the private scheme `SCHEME`, whose designator begins with 99 as PS3.3 8.2 asks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..findings import BIRADS_CATEGORIES
from ..terminology import Code

if TYPE_CHECKING:
    from highdicom.sr import CodedConcept

SCHEME = "99BREASTUSAI"
SCHEME_NAME = "Codes of BreastUSAI"

ULTRASOUND_OF_BREAST = Code("SCT", "47079000", "Ultrasonography of breast")
PROBABILITY_OF_CANCER = Code("DCM", "111047", "Probability of cancer")
CERTAINTY_OF_FINDING = Code("DCM", "111012", "Certainty of Finding")
ASSESSMENT_CATEGORY = Code("DCM", "111005", "Assessment Category")
PERCENT = Code("UCUM", "%", "Percent")
NO_UNITS = Code("UCUM", "1", "no units")
NUMBER_OF_LESIONS = Code(SCHEME, "LESIONS", "Number of lesions found")
PROBABILITY_OF_SOLID = Code(SCHEME, "SOLID", "Probability of a solid nodule")

# CID 6027, Assessment from BI-RADS.
BIRADS: dict[str, Code] = {
    "3": Code("SCT", "397143007", "3 - Probably Benign"),
    "4A": Code("BI", "MA.II.A.5.4A", "4A - Low suspicion"),
    "4B": Code("BI", "MA.II.A.5.4B", "4B - Intermediate suspicion"),
    "4C": Code("BI", "MA.II.A.5.4C", "4C - Moderate suspicion"),
    "5": Code("SCT", "397145000", "5 - Highly suggestive of malignancy"),
}
BIRADS_VERSION = "4.0"  # of the scheme BI in CID 6027

_UNITS: dict[str, Code] = {
    "mm": Code("UCUM", "mm", "mm"),
    "mm2": Code("UCUM", "mm2", "square millimeter"),
    "mm3": Code("UCUM", "mm3", "cubic millimeter"),
    "ml": Code("UCUM", "ml", "milliliter"),
    "deg": Code("UCUM", "deg", "Degree"),
    "px": Code("UCUM", "{pixels}", "pixels"),
    "px2": Code("UCUM", "{pixels2}", "square pixels"),
    "": NO_UNITS,
}
# Names of measurements without their unit; CID 7469 and 6165. Width runs along the skin, height into the depth, as CID 6165 has it.
_CONCEPTS: dict[str, Code] = {
    "area": Code("SCT", "42798000", "Area"),
    "volume": Code("SCT", "118565006", "Volume"),
    "perimeter": Code("SCT", "131191004", "Perimeter"),
    "major_diameter": Code("SCT", "103339001", "Long axis"),
    "minor_diameter": Code("SCT", "103340004", "Short axis"),
    "width": Code("SCT", "103355008", "Width"),
    "height": Code("DCM", "121207", "Height"),
    "length": Code("SCT", "410668003", "Length"),
    "depth": Code(SCHEME, "DEPTH", "Depth of the lesion below the upper edge of the image"),
    "sphericity": Code("IBSI", "QCFX", "Sphericity"),
}

# Descriptors of the ultrasound lexicon (TID 4206) that follow from a measurement by their definition. BI-RADS: a mass is
# "parallel" when it is wider than tall.
ORIENTATION = Code("DCM", "111354", "Orientation")
PARALLEL = Code("DCM", "111355", "Parallel")
NOT_PARALLEL = Code("DCM", "111356", "Not parallel")


def concept(code: Code, version: str | None = None) -> CodedConcept:
    """A code as highdicom takes it."""
    from highdicom.sr import CodedConcept

    if code.scheme == "BI":
        version = BIRADS_VERSION
    return CodedConcept(code.value, code.scheme, code.meaning[:64], version)


def measurement(name: str) -> tuple[Code, Code]:
    """Concept and unit of a measurement by its name in study.json.

    >>> [str(c) for c in measurement("area_mm2")]
    ['SCT^42798000^Area', 'UCUM^mm2^square millimeter']
    """
    stem, _, unit = name.rpartition("_")
    if not stem or unit not in _UNITS:
        stem, unit = name, ""
    if stem in _CONCEPTS:
        return _CONCEPTS[stem], _UNITS[unit]
    meaning = stem.replace("_", " ")
    # Code Value holds 16 characters; a name that is longer is kept apart from others by the end of its words.
    value = stem.upper() if len(stem) <= 16 else "_".join(w[:4] for w in stem.upper().split("_"))[:16]
    return Code(SCHEME, value, meaning[:1].upper() + meaning[1:]), _UNITS[unit]


def descriptors(measurements: Mapping[str, float | None]) -> list[tuple[Code, Code]]:
    """Descriptors (name, value) of a lesion that its measurements decide by definition; none where nothing was measured."""
    ratio = measurements.get("height_to_width_ratio")
    if ratio is None or not math.isfinite(ratio):
        return []
    return [(ORIENTATION, PARALLEL if ratio < 1 else NOT_PARALLEL)]


def assessment(birads: Mapping[str, float] | None) -> str | None:
    """The most probable BI-RADS category, or None where none was computed; of equal ones the more serious."""
    if not birads:
        return None
    return max(birads, key=lambda category: (birads[category], BIRADS_CATEGORIES.index(category)))


def probability_of_category(category: str) -> Code:
    """The private concept of the probability of one BI-RADS category."""
    return Code(SCHEME, f"BIRADS_{category}", f"Probability of BI-RADS {category}")


def box_extent(axis: str) -> Code:
    """The private concept of a side of a box; axis: X, Y or Z, the image's own."""
    return Code(SCHEME, f"BOX_{axis}", f"Extent of the bounding box along the image's {axis} axis")


def length(known: bool) -> Code:
    """The unit of lengths: mm, or pixels where the image's spacing is not known."""
    return _UNITS["mm" if known else "px"]
