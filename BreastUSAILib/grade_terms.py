"""What grading says of a lesion: the answers, in BI-RADS' words, and their order in every network's output.

ACR BI-RADS Atlas, 5th edition (2013), ultrasound: D'Orsi CJ, Sickles EA, Mendelson EB, Morris EA et al.
"""

from __future__ import annotations

from collections.abc import Mapping

from .findings import BIRADS_CATEGORIES

CATEGORIES = ("2", *BIRADS_CATEGORIES)
"""Of the graded scale, in rising order of suspicion. A network with five outputs knows the last five, as the paper's."""

ANSWERS: dict[str, tuple[str, ...]] = {
    "malignancy": ("benign", "malignant"),
    "solid": ("not solid", "solid"),
    "birads": CATEGORIES,
    "shape": ("oval", "round", "irregular"),
    "margin": ("circumscribed", "not circumscribed"),
    "indistinct": ("no", "yes"),
    "angular": ("no", "yes"),
    "microlobulated": ("no", "yes"),
    "spiculated": ("no", "yes"),
    "echogenicity": ("anechoic", "hyperechoic", "complex cystic and solid", "hypoechoic", "isoechoic", "heterogeneous"),
    "posterior": ("none", "enhancement", "shadowing", "combined"),
    "halo": ("no", "yes"),
    "calcifications": ("no", "yes"),
}
"""Output -> its classes, in order."""

SUBTYPES = ("indistinct", "angular", "microlobulated", "spiculated")
"""Of a margin that is not circumscribed; several may hold."""
DESCRIPTORS = tuple(name for name in ANSWERS if name not in ("malignancy", "solid", "birads"))
NOT_PARALLEL = 1.0
"""A lesion whose box is higher than wide by more than this is "not parallel" to the skin ("taller than wide")."""


def classes_of(output: str, count: int) -> tuple[str, ...]:
    """The classes of an output of a network with `count` of them: the last ones, of BI-RADS categories."""
    return ANSWERS[output][-count:]


def stated_category(birads: Mapping[str, float]) -> str:
    """The category that a distribution over ordered ones stands for: its median, the first with half of the chances at or below it.

    The likeliest would jump over narrow categories: between 4B and 5, 4C is hardly ever the likeliest of them.

    >>> stated_category({"3": 0.0, "4A": 0.1, "4B": 0.35, "4C": 0.2, "5": 0.35})
    '4C'
    """
    categories = [c for c in CATEGORIES if c in birads]
    half, below = sum(birads.values()) / 2, 0.0
    for category in categories:
        below += birads[category]
        if below >= half:
            return category
    return categories[-1]


def orientation(measurements: Mapping[str, float | None]) -> str | None:
    """ "parallel" or "not parallel", from the mask (`measurements.measure_2d`), or None where it has no box."""
    ratio = measurements.get("height_to_width_ratio")
    return None if ratio is None else ("not parallel" if ratio > NOT_PARALLEL else "parallel")


def description(descriptors: Mapping[str, Mapping[str, float]], measurements: Mapping[str, float | None]) -> str:
    """A sentence in the lexicon's words.

    Parameters
    ----------
    descriptors : output -> class -> probability; those that are not there are not spoken of.
    measurements : of the mask, for the orientation.

    >>> description({"shape": {"oval": 0.7, "round": 0.1, "irregular": 0.2}, "halo": {"no": 0.6, "yes": 0.4}}, {})
    'Predicted descriptors: oval shape (70 %).'
    """

    def likeliest(name: str) -> tuple[str, float] | None:
        chances = descriptors.get(name)
        return max(chances.items(), key=lambda item: item[1]) if chances else None

    parts = []
    for name, words in (("shape", "{} shape"), ("margin", "{} margin")):
        if best := likeliest(name):
            parts.append(f"{words.format(best[0])} ({best[1]:.0%})")
            if best[0] == "not circumscribed":
                kinds = [kind for kind in SUBTYPES if descriptors.get(kind, {}).get("yes", 0.0) > 0.5]
                if kinds:
                    parts[-1] += f", {' and '.join(kinds)}"
    if best := likeliest("echogenicity"):
        parts.append(f"{best[0]} ({best[1]:.0%})")
    if (best := likeliest("posterior")) and best[0] != "none":
        words = "combined posterior pattern" if best[0] == "combined" else f"posterior {best[0]}"
        parts.append(f"{words} ({best[1]:.0%})")
    for name, words in (("halo", "echogenic halo"), ("calcifications", "calcifications")):
        if (best := likeliest(name)) and best[0] == "yes":
            parts.append(f"{words} ({best[1]:.0%})")
    # "%" stands off its number elsewhere in the reports as well.
    sentence = f"Predicted descriptors: {'; '.join(parts)}." if parts else ""
    if (measured := orientation(measurements)) is not None:
        sentence += (" " if sentence else "") + f"Measured from the outline: {measured} orientation."
    return sentence.replace("%", " %")
