"""BI-RADS descriptors learnt beside malignancy, so that the features are of what malignancy is told by.

Malignancy is one number a lesion; seven descriptors say more about the same crop (Caruana 1997, multitask learning; Yu et al.
2020 learn malignancy alone). The heads serve training and do not ship.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from ..networks.lesion_classifier import LesionClassifier
from ..phantom.spec import DESCRIPTORS

UNKNOWN = -1


def codes(descriptors: Mapping[str, str]) -> tuple[int, ...]:
    """Each descriptor's place among the lexicon's words, in the order of `DESCRIPTORS`; `UNKNOWN` where nothing is said, or in other words."""
    return tuple(
        words.index(descriptors[name]) if descriptors.get(name) in words else UNKNOWN for name, words in DESCRIPTORS.items()
    )


class WithDescriptors(nn.Module):
    """A lesion classifier in training, with a linear layer that reads the descriptors from what its answer is drawn from.

    Input as of the classifier. Output: its logits (N,), and a descriptor's logits (N, words) each, in the order of `DESCRIPTORS`.
    """

    def __init__(self, classifier: LesionClassifier) -> None:
        super().__init__()
        self.classifier = classifier
        self._words: Sequence[int] = [len(words) for words in DESCRIPTORS.values()]
        self.heads = nn.Linear(classifier.answer.in_features, sum(self._words))
        nn.init.normal_(self.heads.weight, std=0.01)
        nn.init.zeros_(self.heads.bias)

    def forward(self, crops: torch.Tensor, sizes: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        features = self.classifier.features(crops, sizes)
        return self.classifier.answer(features)[:, 0], self.heads(features).split(self._words, dim=1)


def descriptor_loss(logits: Sequence[torch.Tensor], told: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each lesion's known descriptors, summed over descriptors, mean over all lesions of the batch.

    Parameters
    ----------
    logits : (n, words) of each descriptor.
    told : (n, descriptors) `codes`.

    Returns
    -------
    A scalar, nats. Unknown descriptors count nothing.
    """
    losses = [
        F.cross_entropy(of_one.float(), code, ignore_index=UNKNOWN, reduction="sum")
        for of_one, code in zip(logits, told.unbind(1), strict=True)
    ]
    return torch.stack(losses).sum() / len(told)
