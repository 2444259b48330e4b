"""What grading says of a lesion: the answers, in BI-RADS' words, and their order in every network's output.

ACR BI-RADS Atlas, 5th edition (2013), ultrasound: D'Orsi CJ, Sickles EA, Mendelson EB, Morris EA et al.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from .findings import BIRADS_CATEGORIES
from .measurements import is_wider_than_tall

CATEGORIES = ("2", *BIRADS_CATEGORIES)
"""Of the graded scale, in rising order of suspicion. A network with five outputs knows the last five, as the paper's."""

LIKELIHOODS = {"2": 0.0, "3": 0.01, "4A": 0.06, "4B": 0.3, "4C": 0.725, "5": 0.975}
"""Category -> the likelihood of malignancy that it states: the middle of the atlas' range (3: up to 0.02, 4A: to 0.1, 4B: to 0.5, 4C: to 0.95)."""

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

MEASURED = "Measured from the outline: "
"""What the note begins with that says in the lexicon's words what was measured."""
STATEMENTS = ("Malignancy ", "Predicted descriptors: ", MEASURED)
"""What notes of a grade begin with that warn of nothing."""
DOUBT = "Not sure: "
"""What notes begin with that say why a grade is not sure."""
NOT_GRADED = "Not graded: "
"""What a note begins with that says why there is no grade."""
WARNINGS = ("BI-RADS 2 (benign) ", "The probabilities are not calibrated", NOT_GRADED)
"""What a grade's other notes begin with."""
WORDS = (
    "birads_category", "birads_shape", "birads_margin", "birads_margin_kinds", "birads_echogenicity", "birads_posterior", "birads_halo",
    "birads_calcifications",
)  # fmt: skip
"""The names of `words_of`."""
SUBTYPES = ("indistinct", "angular", "microlobulated", "spiculated")
"""Of a margin that is not circumscribed; several may hold."""
DESCRIPTORS = tuple(name for name in ANSWERS if name not in ("malignancy", "solid", "birads"))
_HOLDS = 0.5  # probability above which a subtype is said to hold
NOT_PARALLEL = 1.0
"""Height to width from which on a lesion is "not parallel" to the skin: the atlas calls parallel what is wider than tall, and counts round
lesions to the others."""


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


_FIGURES = {
    "malignancy_threshold": "Operating point: malignant from",
    "malignancy_detect": "Malignancy, by the detection",
    "malignancy_segment_3d": "Malignancy, by the 3D segmentation",
    "malignancy_gcnn": "Malignancy, by G-CNN alone",
    "malignancy_mtnet": "Malignancy, by Mt-Net alone",
    "malignancy_snnet": "Malignancy, by Sn-Net alone",
    "birads_2": "Probability of BI-RADS 2 (benign)",
}
_FLAGS = ("not_sure", "grade_calibrated")


def figures_of(evidence: Mapping[str, float]) -> dict[str, float]:
    """The figures of a grade that a finding's evidence holds, beside descriptors: title -> value."""
    return {title: evidence[key] for key, title in _FIGURES.items() if key in evidence}


def is_of_grade(key: str) -> bool:
    """Whether a key of a finding's evidence is a grade's: a figure, a flag, or a descriptor's probability."""
    return key in _FIGURES or key in _FLAGS or key in _KEYS


def evidence_key(output: str, word: str) -> str:
    """The name under which a finding's evidence keeps the probability of a descriptor's word.

    >>> evidence_key("margin", "not circumscribed")
    'margin_not_circumscribed'
    """
    return f"{output}_{word}".replace(" ", "_")


_KEYS = frozenset(evidence_key(name, word) for name in DESCRIPTORS for word in ANSWERS[name])


def descriptors_of(evidence: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """The predicted descriptors that a finding's evidence holds: output -> word -> probability; the inverse of `evidence_key`.

    >>> descriptors_of({"halo_no": 0.6, "halo_yes": 0.4, "malignancy_gcnn": 0.2})
    {'halo': {'no': 0.6, 'yes': 0.4}}
    """
    found = {
        name: {word: evidence[key] for word in ANSWERS[name] if (key := evidence_key(name, word)) in evidence}
        for name in DESCRIPTORS
    }
    return {name: chances for name, chances in found.items() if chances}


def likeliest_words(descriptors: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """Output -> its likeliest word; of the margin's subtypes those that more likely hold than not, together as "margin_kinds".

    >>> likeliest_words({"shape": {"oval": 0.7, "round": 0.3}, "angular": {"no": 0.2, "yes": 0.8}})
    {'shape': 'oval', 'margin_kinds': 'angular'}
    """
    words = {
        name: max(chances, key=chances.__getitem__) for name, chances in descriptors.items() if name not in SUBTYPES
    }
    kinds = [name for name in SUBTYPES if descriptors.get(name, {}).get("yes", 0.0) > _HOLDS]
    if kinds and words.get("margin") != "circumscribed":
        words["margin_kinds"] = " and ".join(kinds)
    return words


def words_of(birads: Mapping[str, float] | None, evidence: Mapping[str, float]) -> dict[str, str]:
    """What a finding's grade comes to, in words, for tables: those of `WORDS` that are known.

    >>> words_of({"3": 0.8, "4A": 0.2}, {"shape_oval": 0.7, "shape_round": 0.3})
    {'birads_category': '3', 'birads_shape': 'oval'}
    """
    words = {"birads_category": stated_category(birads)} if birads else {}
    return words | {f"birads_{name}": word for name, word in likeliest_words(descriptors_of(evidence)).items()}


def orientation(measurements: Mapping[str, float | None]) -> str | None:
    """ "parallel" or "not parallel", from the mask (`measurements.measure_2d`, `measurements_3d.measure_3d`), or None where it was not measured."""
    parallel = measurements.get("parallel_to_skin")
    if parallel is not None:
        return "parallel" if parallel else "not parallel"
    ratio = measurements.get("height_to_width_ratio")
    if ratio is None or not math.isfinite(ratio):
        return None
    return "parallel" if is_wider_than_tall(ratio, NOT_PARALLEL) else "not parallel"


def measured_again(notes: Iterable[str], measurements: Mapping[str, float | None]) -> tuple[str, ...]:
    """Notes in which what was measured is what `measurements` say now, where it was said at all.

    >>> measured_again(("Measured from the outline: parallel orientation.", "Seen twice."), {"parallel_to_skin": 0.0})
    ('Measured from the outline: not parallel orientation.', 'Seen twice.')
    """
    found = []
    for note in notes:
        before, said, _ = note.partition(MEASURED)  # earlier versions had it at the end of the predicted words' note
        if said:
            now = _measured_words(measurements)
            note = f"{before}{now}" if now else before.rstrip()
        if note:
            found.append(note)
    return tuple(found)


def _measured_words(measurements: Mapping[str, float | None]) -> str:
    measured = orientation(measurements)
    return "" if measured is None else f"{MEASURED}{measured} orientation."


def description(
    descriptors: Mapping[str, Mapping[str, float]], measurements: Mapping[str, float | None]
) -> tuple[str, ...]:
    """What was predicted and what was measured, each a sentence in the lexicon's words, where there is something to say.

    Parameters
    ----------
    descriptors : output -> class -> probability; those that are not there are not spoken of.
    measurements : of the mask, for the orientation.

    >>> description({"shape": {"oval": 0.7, "round": 0.1, "irregular": 0.2}, "halo": {"no": 0.6, "yes": 0.4}}, {})
    ('Predicted descriptors: oval shape (70 %).',)
    """

    def likeliest(name: str) -> tuple[str, float] | None:
        chances = descriptors.get(name)
        return max(chances.items(), key=lambda item: item[1]) if chances else None

    parts = []
    for name, words in (("shape", "{} shape"), ("margin", "{} margin")):
        if best := likeliest(name):
            parts.append(f"{words.format(best[0])} ({best[1]:.0%})")
            if best[0] == "not circumscribed":
                if kinds := likeliest_words(descriptors).get("margin_kinds"):
                    parts[-1] += f", {kinds}"
    if best := likeliest("echogenicity"):
        parts.append(f"{best[0]} ({best[1]:.0%})")
    if (best := likeliest("posterior")) and best[0] != "none":
        words = "combined posterior pattern" if best[0] == "combined" else f"posterior {best[0]}"
        parts.append(f"{words} ({best[1]:.0%})")
    for name, words in (("halo", "echogenic halo"), ("calcifications", "calcifications")):
        if (best := likeliest(name)) and best[0] == "yes":
            parts.append(f"{words} ({best[1]:.0%})")
    # "%" stands off its number elsewhere in the reports as well.
    predicted = f"Predicted descriptors: {'; '.join(parts)}.".replace("%", " %") if parts else ""
    return tuple(sentence for sentence in (predicted, _measured_words(measurements)) if sentence)
