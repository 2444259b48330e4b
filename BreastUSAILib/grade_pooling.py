"""From what the grading systems say of a lesion to one grade: how their answers are pooled, calibrated and doubted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .grade_terms import CATEGORIES, DESCRIPTORS, LIKELIHOODS, classes_of

SYSTEMS = ("gcnn", "mtnet", "snnet")
"""System -> the task of its models is "grade-" and its name."""
DEFAULT_THRESHOLD = 0.5
_NAMES = {"gcnn": "G-CNN", "mtnet": "Mt-Net", "snnet": "Sn-Net"}

Answers = dict[str, dict[str, np.ndarray]]
"""System -> output -> logarithms of probabilities (K,) float64; and, of Mt-Net and Sn-Net, `FEATURES` -> (channels,) float64."""
FEATURES = "features"


@dataclass(frozen=True)
class Familiar:
    """What images like those of the training look like to a network: `mean` and `deviation` (channels,) of its features, and the
    `limit` of `distance`, above which an image is unlike them. `system` is whose features they are."""

    system: str
    mean: np.ndarray
    deviation: np.ndarray
    limit: float

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Familiar:
        """As a model's `postprocessing` has it."""
        return cls(data["system"], np.array(data["mean"]), np.array(data["deviation"]), float(data["limit"]))

    def distance(self, said: Answers) -> float | None:
        """Root mean square of the features' deviations from the mean, in their standard deviations; None without features, or where
        other features were looked at when this was recorded."""
        features = said.get(self.system, {}).get(FEATURES)
        if features is None or features.shape != self.mean.shape:
            return None
        return float(np.sqrt(np.mean(((features - self.mean) / self.deviation) ** 2)))


@dataclass(frozen=True)
class Pooling:
    """How the systems' answers become one.

    Attributes
    ----------
    weights : output -> system -> weight of its logarithms of probabilities, 1 together; equal where not named.
    temperatures : output -> temperature by which the pooled logarithms are divided; 1 where not named.
    threshold : malignancy from which "malignant" is said: the operating point.
    disagreement : difference between two systems' malignancy from which the answer is "not sure"; None: never.
    familiar : what the images look like that it was chosen on; None: not known.
    told, prevalence : how much the category is told of malignancy, and the share of malignant lesions; see `told_categories`.
    calibrated : whether any of this was chosen on data.
    uncalibrated : outputs of which nothing was chosen all the same, as the labels did not tell their answers apart.
    """

    weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)
    threshold: float = DEFAULT_THRESHOLD
    disagreement: float | None = None
    familiar: Familiar | None = None
    calibrated: bool = False
    told: float = 0.0
    prevalence: float = 0.5
    uncalibrated: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Pooling:
        """As a model's `postprocessing` has it."""
        difference = data.get("disagreement")
        return cls(
            data["weights"],
            data["temperatures"],
            float(data["threshold"]),
            None if difference is None else float(difference),
            Familiar.of(data["familiar"]) if data.get("familiar") else None,
            True,
            float(data.get("told", cls.told)),
            float(data.get("prevalence", cls.prevalence)),
            tuple(data.get("uncalibrated", ())),
        )

    def pooled(self, answers: Answers, output: str) -> np.ndarray | None:
        """Probabilities (K,) of an output, or None where no system gives it: the product of the systems' probabilities, each to the
        power of its weight (logarithmic opinion pool), sharpened or softened by the temperature."""
        said = {name: a[output] for name, a in answers.items() if output in a}
        if not said:
            return None
        count = min(len(values) for values in said.values())
        weights = self.weights.get(output, {})
        if not any(weights.get(name, 0.0) for name in said):
            weights = dict.fromkeys(said, 1.0)
        total = sum(weights.get(name, 0.0) * values[-count:] for name, values in said.items())
        logits = total / sum(weights.get(name, 0.0) for name in said) / self.temperatures.get(output, 1.0)
        chances = np.exp(logits - logits.max())
        return chances / chances.sum()

    def of_each(self, answers: Answers, output: str) -> dict[str, np.ndarray]:
        """The same of each system by itself."""
        return {name: self.pooled({name: a}, output) for name, a in answers.items() if output in a}


def told_categories(
    categories: np.ndarray, malignancy: float | np.ndarray, weight: float, prevalence: float
) -> np.ndarray:
    """BI-RADS categories that know how likely malignancy is, so that the two do not contradict each other.

    A category states a likelihood of malignancy (`LIKELIHOODS`), which speaks for it as far as that agrees with the malignancy m that was found:
    P(c) times [m l_c / v + (1 - m) (1 - l_c) / (1 - v)] to the power of the weight, normalised. With the weight 1 this is
    Bayes' rule for evidence m that is not in P(c) yet; as the networks saw the same image for both, less than 1 fits better.

    Parameters
    ----------
    categories : (..., K), probabilities of the last K of `CATEGORIES`.
    malignancy : (...), m, 0 to 1.
    weight : 0 leaves the categories as they are.
    prevalence : v, the share of malignant lesions where this is used, above 0 and below 1.
    """
    likelihoods = np.array([LIKELIHOODS[c] for c in CATEGORIES[-categories.shape[-1] :]])
    m = np.asarray(malignancy, float)[..., None]
    agreement = m * likelihoods / prevalence + (1 - m) * (1 - likelihoods) / (1 - prevalence)
    told = categories * agreement**weight
    total = told.sum(-1, keepdims=True)
    return np.divide(told, total, out=categories.astype(float), where=total > 0)


@dataclass(frozen=True)
class Grade:
    """What is said of a lesion; None or empty where no model says so.

    Attributes
    ----------
    malignancy, solid : probabilities.
    birads : category of `CATEGORIES` -> probability, 1 together.
    descriptors : output -> class -> probability.
    of_each : system -> malignancy by itself.
    malignant : whether malignancy reaches the operating point.
    doubts : reasons why this is not sure, as sentences.
    """

    malignancy: float | None
    solid: float | None
    birads: Mapping[str, float]
    descriptors: Mapping[str, Mapping[str, float]]
    of_each: Mapping[str, float]
    malignant: bool | None
    doubts: tuple[str, ...]


def concluded(said: Answers, pooling: Pooling) -> Grade:
    """One grade from the systems' answers."""
    malignancy, solid, birads = (pooling.pooled(said, output) for output in ("malignancy", "solid", "birads"))
    if birads is not None and malignancy is not None:
        birads = told_categories(birads, malignancy[1], pooling.told, pooling.prevalence)
    of_each = {name: float(p[1]) for name, p in pooling.of_each(said, "malignancy").items()}
    doubts = []
    if pooling.disagreement is not None and len(of_each) > 1:
        difference = max(of_each.values()) - min(of_each.values())
        sides = {p >= pooling.threshold for p in of_each.values()}
        if difference > pooling.disagreement and len(sides) > 1:
            each = ", ".join(f"{_NAMES[name]} {p:.2f}" for name, p in of_each.items())
            doubts.append(f"Not sure: the systems disagree about malignancy ({each}).")
    distance = pooling.familiar.distance(said) if pooling.familiar is not None else None
    if distance is not None and distance > pooling.familiar.limit:
        doubts.append(
            f"Not sure: the image is unlike those that the models were trained on (distance {distance:.2f}, "
            f"up to {pooling.familiar.limit:.2f} is usual)."
        )
    descriptors = {}
    for name in DESCRIPTORS:
        chances = pooling.pooled(said, name)
        if chances is not None:
            descriptors[name] = dict(zip(classes_of(name, len(chances)), map(float, chances), strict=True))
    return Grade(
        malignancy=None if malignancy is None else float(malignancy[1]),
        solid=None if solid is None else float(solid[1]),
        birads={} if birads is None else dict(zip(CATEGORIES[-len(birads) :], map(float, birads), strict=True)),
        descriptors=descriptors,
        of_each=of_each,
        malignant=None if malignancy is None else bool(malignancy[1] >= pooling.threshold),
        doubts=tuple(doubts),
    )
