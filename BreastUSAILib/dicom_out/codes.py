"""The coded concepts of the results, as plain data: scheme, value, meaning (PS3.16).

What has no code in the standard is coded in the private scheme `SCHEME`, whose designator begins with 99 as PS3.3 8.2 asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..findings import Finding, ImageInfo, Study
from ..grade_terms import orientation, stated_category
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
NUMBER_OF_LESIONS = Code("SCT", "246206008", "Number of lesions")
COMMENT = Code("DCM", "121106", "Comment")
CENTER = Code("DCM", "111010", "Center")
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
    "px3": Code("UCUM", "{voxels}", "voxels"),
    "": NO_UNITS,
}
_WIDTH, _HEIGHT, _LENGTH = (
    Code("SCT", "103355008", "Width"),
    Code("DCM", "121207", "Height"),
    Code("SCT", "410668003", "Length"),
)
# Names of measurements without their unit; CID 7469, 7477 (IBSI) and 6165. Width runs along the skin, height into the depth, as
# CID 6165 has it. The second diameter lies across the longest, as RECIST's short axis does, the third across both.
_CONCEPTS: dict[str, Code] = {
    "area": Code("SCT", "42798000", "Area"),
    "volume": Code("SCT", "118565006", "Volume"),
    "surface": Code("IBSI", "C0JK", "Surface Area of Mesh"),
    "perimeter": Code("SCT", "131191004", "Perimeter"),
    "major_diameter": Code("SCT", "103339001", "Long axis"),
    "minor_diameter": Code("SCT", "103340004", "Short axis"),
    "second_diameter": Code("SCT", "103340004", "Short axis"),
    "third_diameter": Code("SCT", "131189007", "Perpendicular Axis"),
    "width": _WIDTH,
    "height": _HEIGHT,
    "length": _LENGTH,
    "nipple_distance": Code("DCM", "121242", "Distance from nipple"),
    "sphericity": Code("IBSI", "QCFX", "Sphericity"),
    "echo_heterogeneity": Code("IBSI", "7TET", "Coefficient of Variation"),
    # For the following neither the standard's groups nor IBSI have a term with this definition.
    "clock_position_h": Code(SCHEME, "CLOCK_POSITION", "Clock position about the nipple, hours"),
    "depth": Code(SCHEME, "DEPTH", "Depth of the lesion below the upper edge of the ultrasound image"),
    "equivalent_diameter": Code(SCHEME, "EQ_DIAMETER", "Diameter of the disc of the same area"),
    "equal_volume_diameter": Code(SCHEME, "EQ_DIAMETER_3D", "Diameter of the ball of the same volume"),
    "orientation": Code(SCHEME, "ANGLE_TO_SKIN", "Angle between the long axis and the skin"),
    "height_to_width_ratio": Code(SCHEME, "HEIGHT_TO_WIDTH", "Height divided by width"),
    "aspect_ratio": Code(SCHEME, "ASPECT_RATIO", "Long axis divided by short axis of the fitted ellipse"),
    "eccentricity": Code(SCHEME, "ECCENTRICITY", "Eccentricity of the fitted ellipse"),
    "circularity": Code(SCHEME, "CIRCULARITY", "Circularity, 4 pi area / perimeter squared"),
    "solidity": Code(SCHEME, "SOLIDITY", "Area divided by that of the convex hull"),
    "surface_roughness": Code(SCHEME, "ROUGHNESS", "Roughness of the surface relative to the radius"),
    "spiculation": Code(SCHEME, "SPICULATION", "How far narrow processes stand out of the surface"),
    "contrast_ratio": Code(SCHEME, "CONTRAST_RATIO", "Mean echo inside divided by that around"),
    "posterior_ratio": Code(SCHEME, "POSTERIOR_RATIO", "Mean echo behind divided by that beside"),
    "outline_uncertainty": Code(SCHEME, "OUTLINE_SPREAD", "Uncertainty of the outline"),
}
# In volumes, whose first row is the skin (`measurements_3d`); in 2D a picture may begin below it.
_CONCEPTS_3D: dict[str, Code] = {
    "depth": Code("DCM", "121243", "Distance from skin"),
    "solidity": Code("IBSI", "R3ER", "Volume Density in Convex Hull"),
}
# Said as descriptors (`descriptors`), not as numbers.
_DESCRIBED = ("parallel_to_skin",)

# Descriptors of the ultrasound lexicon (TID 4206) that follow from a measurement by their definition (`grade_terms.orientation`).
ORIENTATION = Code("DCM", "111354", "Orientation")
PARALLEL = Code("DCM", "111355", "Parallel")
NOT_PARALLEL = Code("DCM", "111356", "Not parallel")


def concept(code: Code, version: str | None = None) -> CodedConcept:
    """A code as highdicom takes it."""
    from highdicom.sr import CodedConcept

    if code.scheme == "BI":
        version = BIRADS_VERSION
    return CodedConcept(code.value, code.scheme, code.meaning[:64], version)


def measurement(name: str, volume: bool = False) -> tuple[Code, Code] | None:
    """Concept and unit of a measurement by its name in study.json; None for what is a descriptor (`descriptors`).

    volume : it was measured in a volume (`measurements_3d`), not in a 2D image.

    >>> [str(c) for c in measurement("area_mm2")]
    ['SCT^42798000^Area', 'UCUM^mm2^square millimeter']
    """
    stem, _, unit = name.rpartition("_")
    if not stem or unit not in _UNITS:
        stem, unit = name, ""
    if stem in _DESCRIBED:
        return None
    code = (_CONCEPTS_3D.get(stem) if volume else None) or _CONCEPTS.get(stem)
    if code is None:  # of a version to come
        meaning = stem.replace("_", " ")
        # Code Value holds 16 characters; a name that is longer is kept apart from others by the starts of its words.
        value = stem.upper() if len(stem) <= 16 else "_".join(w[:4] for w in stem.upper().split("_"))[:16]
        code = Code(SCHEME, value, meaning[:1].upper() + meaning[1:])
    return code, _UNITS[unit]


def figures(study: Study, finding: Finding) -> list[tuple[Code, float, Code]]:
    """Concept, value and unit of what was measured of a lesion; what was not is left out."""
    coded = ((measurement(name, _across(study.image) is None), value) for name, value in finding.measurements.items())
    return [(code[0], value, code[1]) for code, value in coded if code is not None and value is not None]


def box_extents(study: Study, finding: Finding) -> list[tuple[Code, float, Code]]:
    """Concept, value and unit of the sides of a lesion's box: in the body, where the image has an acquisition."""
    unit = _UNITS["mm" if study.image.spacing_known else "px"]
    across = _across(study.image)
    sides = [side for axis, side in enumerate(study.physical_box(finding).size) if axis != across]
    return [(code, extent, unit) for code, extent in zip((_WIDTH, _HEIGHT, _LENGTH), sides, strict=False)]


def _across(image: ImageInfo) -> int | None:
    """The axis that a 2D image, or a volume of a single slice, does not show (`grid.as_2d`); None in a volume."""
    if image.dimension == 2:
        return 2
    return next((axis for axis in (2, 1, 0) if image.size[axis] == 1), None)


def scores(finding: Finding) -> list[tuple[Code, float, Code]]:
    """Concept, value and unit of a lesion's probabilities, in percent, but for malignancy, which has its own algorithm."""
    found = [(CERTAINTY_OF_FINDING, finding.score)]
    found += [(probability_of_category(name), value) for name, value in (finding.birads or {}).items()]
    if finding.solid_nodule is not None:
        found.append((PROBABILITY_OF_SOLID, finding.solid_nodule))
    return [(code, 100 * value, PERCENT) for code, value in found]


def descriptors(measurements: Mapping[str, float | None]) -> list[tuple[Code, Code]]:
    """Descriptors (name, value) of a lesion that its measurements decide by definition; none where nothing was measured."""
    measured = orientation(measurements)
    return [] if measured is None else [(ORIENTATION, PARALLEL if measured == "parallel" else NOT_PARALLEL)]


def assessment(birads: Mapping[str, float] | None) -> str | None:
    """The BI-RADS category that every other result states (`grade_terms.stated_category`), or None where none was computed."""
    return stated_category(birads) if birads else None


def probability_of_category(category: str) -> Code:
    """The private concept of the probability of one BI-RADS category."""
    return Code(SCHEME, f"BIRADS_{category}", f"Probability of BI-RADS {category}")
