"""The likelihood of grading: what a label leaves open is summed over."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def marginal_nll(answers: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """-log of the probability that is given to the classes a label allows, (N,); 0 where it allows all.

    answers : (N, K) logits, or logarithms of probabilities, which a log-softmax leaves as they are.
    allowed : (N, K) bool, one at least in each row.
    """
    log_probability = torch.log_softmax(answers, 1)
    chosen = torch.logsumexp(log_probability.masked_fill(~allowed, -torch.inf), 1)
    # Of a row that allows all it is 0 by rounding; its gradient shall be nothing as well.
    return torch.where(allowed.all(1), torch.zeros_like(chosen), -chosen)


def informative(allowed: torch.Tensor) -> torch.Tensor:
    """Which labels say something, (N,) bool."""
    return ~allowed.all(1)


def smoothed(allowed: torch.Tensor, nll: torch.Tensor, answers: torch.Tensor, amount: float) -> torch.Tensor:
    """Label smoothing for `marginal_nll`: a share `amount` of each informative label is spread over all classes."""
    spread = -torch.log_softmax(answers, 1).mean(1) * informative(allowed)
    return (1 - amount) * nll + amount * spread


def grade_loss(
    answers: Mapping[str, torch.Tensor],
    allowed: Mapping[str, torch.Tensor],
    weights: Mapping[str, float],
    smoothing: float = 0.0,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The weighted sum over the outputs of the mean over the batch, to which a label that says nothing adds nothing.

    (Not of the mean over those that say something: a descriptor that one image of a batch labels would outweigh the rest.)

    answers, allowed : output -> (N, K), see `marginal_nll`.
    weights : output -> weight; 1 where not named.

    Returns the loss and the unweighted part of each output.
    """
    parts, total = {}, None
    for name, values in answers.items():
        nll = marginal_nll(values, allowed[name])
        if smoothing:
            nll = smoothed(allowed[name], nll, values, smoothing)
        parts[name] = nll.mean()
        term = weights.get(name, 1.0) * parts[name]
        total = term if total is None else total + term
    return total, parts
