"""False-positive reduction: a classification network looks at each candidate from near, and says whether it is a lesion at all.

The detection network sees a whole volume at a millimetre a voxel, which is too coarse to tell a small lesion from a lobule of fat; but almost
every lesion of 8 mm or more is among its candidates (docs/detection.md). The network of the paper's second stage (Yu et al. 2020, see
`networks.lesion_classifier`), taught to tell lesions from the detector's own false positives, looks at the surest of them in a crop
that is scaled to the box. A candidate's score becomes the weighted mean of both networks' logits; the weight is chosen on validation volumes,
for the one detector whose candidates were learnt from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from .findings import Box
from .lesion_classification import DEFAULT_WEIGHT, probabilities
from .postprocessing import settings_of

if TYPE_CHECKING:
    from .models.zoo import LoadedModel

_SUREST = 1e-6  # closer to 0 and 1 a probability's logit says more of rounding than of the network


@dataclass(frozen=True)
class Reduction:
    """What a model's `postprocessing` says.

    Attributes
    ----------
    candidates : how many of a volume are looked at, the surest by the detection network; the others are dropped.
    reduction_weight : of this network's logit, 0 to 1; the rest is the detection network's.
    """

    candidates: int = 24
    reduction_weight: float = DEFAULT_WEIGHT

    @classmethod
    def of(cls, postprocessing: Mapping[str, Any]) -> Reduction:
        return settings_of(cls, postprocessing)


def combined_scores(detection: np.ndarray, reduction: np.ndarray, weight: float) -> np.ndarray:
    """Scores (n,) whose logits are the weighted means of those of both networks' scores (n,); `weight` is that of `reduction`."""

    def logit(p: np.ndarray) -> np.ndarray:
        p = np.clip(np.asarray(p, float), _SUREST, 1 - _SUREST)
        return np.log(p / (1 - p))

    return 1 / (1 + np.exp(-((1 - weight) * logit(detection) + weight * logit(reduction))))


def reduced(
    image: sitk.Image, boxes: Sequence[Box], scores: np.ndarray, reducer: LoadedModel
) -> tuple[np.ndarray, np.ndarray]:
    """The candidates that are left, and their scores.

    Parameters
    ----------
    image : the volume.
    boxes : the candidates, LPS mm, by falling score.
    scores : (n,) of the detection network.
    reducer : a model of the task "false-positive-reduction".

    Returns
    -------
    order : (m,) int64, which of the candidates, by falling new score.
    scores : (m,) float64, the new ones.
    """
    rule = Reduction.of(reducer.entry.postprocessing)
    some = list(boxes[: rule.candidates])
    said = np.array(probabilities(image, some, reducer), float)
    scores = combined_scores(np.asarray(scores)[: len(some)], said, rule.reduction_weight)
    order = np.argsort(-scores, kind="stable")
    return order, scores[order]
