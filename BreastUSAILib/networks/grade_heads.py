"""The answers of a grading network: one linear layer an output, the graded scale with ordered thresholds where asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

_LEAST_STEP = 1e-4  # between two thresholds: of none, the class between them has no probability and its logarithm no gradient


class OrderedScale(nn.Module):
    """Probabilities of ordered classes: one score against thresholds that cannot cross (proportional odds).

    McCullagh P. Regression models for ordinal data. JRSS B 1980;42:109-142. P(class > k) = sigmoid(score - threshold_k).

    Input: (N, inputs). Output: (N, classes) logarithms of probabilities.
    """

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.score = nn.Linear(inputs, 1, bias=False)
        steps = classes - 1
        self.first = nn.Parameter(torch.tensor(-(steps - 1) / 2))
        # softplus(0.5413) = 1: the thresholds start one apart.
        self.gaps = nn.Parameter(torch.full((max(steps - 1, 0),), 0.5413))

    def thresholds(self) -> torch.Tensor:
        """(classes - 1,), rising."""
        return self.first + torch.cat([self.first.new_zeros(1), self._steps().cumsum(0)])

    def _steps(self) -> torch.Tensor:
        """(classes - 2,): from each threshold to the next, above 0."""
        return F.softplus(self.gaps).clamp_min(_LEAST_STEP)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        above = self.score(features).float() - self.thresholds()  # logits of "above k"
        log_above, log_below = F.logsigmoid(above), F.logsigmoid(-above)
        # log(s(a) - s(b)) = log s(a) + log s(-b) + log(1 - exp(b - a)), for a > b; a - b is the step, not a difference of near equals.
        between = log_above[:, :-1] + log_below[:, 1:] + torch.log(-torch.expm1(-self._steps()))
        return torch.cat([log_below[:, :1], between, log_above[:, -1:]], 1)


class Heads(nn.Module):
    """Features (N, inputs) to a dictionary: output -> (N, classes) logits, or logarithms of probabilities where ordered.

    Parameters
    ----------
    outputs : output -> number of classes; "birads" names the graded scale.
    ordered : whether the graded scale has ordered thresholds; otherwise it is a softmax like the rest (paper).
    """

    def __init__(self, inputs: int, outputs: Mapping[str, int], ordered: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {
                name: OrderedScale(inputs, classes) if ordered and name == "birads" else nn.Linear(inputs, classes)
                for name, classes in outputs.items()
            }
        )
        for layer in self.layers.values():
            linear = layer if isinstance(layer, nn.Linear) else layer.score
            nn.init.normal_(linear.weight, std=0.01)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: layer(features).float() for name, layer in self.layers.items()}


def fully_connected(inputs: int, widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Linear layers with batch normalisation, ReLU and dropout."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [
            nn.Linear(inputs, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
        ]
        inputs = width
    return nn.Sequential(*layers)
