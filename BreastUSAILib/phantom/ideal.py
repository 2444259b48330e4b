"""The best AUC for benign or malignant that any reader of phantoms can reach: that of the exact posterior.

By the Neyman-Pearson lemma no score that is computed from an image ranks malignant above benign lesions more often, on average, than the
posterior given everything that was drawn from malignancy. Write it beside every AUC measured on phantoms.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import PhantomError
from .lexicon import joint_table, volume_density, volume_quantile
from .truth import LesionTruth


def _auc(scores: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> float:
    """AUC of scores with weights as positives and as negatives; ties count half."""
    order = np.argsort(scores, kind="stable")
    _, starts = np.unique(scores[order], return_index=True)
    up, down = (np.add.reduceat(w[order], starts) for w in (positive, negative))
    below = np.cumsum(down) - down
    return float((up * (below + 0.5 * down)).sum() / (up.sum() * down.sum()))


def best_auc(truths: Sequence[LesionTruth]) -> tuple[float, float]:
    """The best possible AUC on these lesions.

    Returns
    -------
    (drawn, expected): AUC of the posterior against the malignancy that was drawn, which is what to compare a measured AUC with, and its
    expectation over all draws of malignancy for lesions that look like these.

    Raises
    ------
    PhantomError : no benign or no malignant lesion among them.
    """
    posterior = np.array([t.posterior for t in truths], np.float64)
    malignant = np.array([t.malignant for t in truths], np.float64)
    if not 0 < malignant.sum() < len(truths):
        raise PhantomError("An AUC needs benign and malignant lesions; make more phantoms.")
    drawn = _auc(posterior, malignant, 1.0 - malignant)
    # Pairs of a lesion with itself do not occur; they were counted as ties.
    pairs = posterior.sum() * (1.0 - posterior).sum()
    own = (posterior * (1.0 - posterior)).sum()
    if pairs - own <= 0.0:
        return drawn, drawn
    expected = (_auc(posterior, posterior, 1.0 - posterior) * pairs - 0.5 * own) / (pairs - own)
    return drawn, float(expected)


def lexicon_auc(volume: bool = True, descriptors: bool = True, steps: int = 200) -> float:
    """AUC of the posterior over all lesions that the lexicon can draw, whatever the share of malignancy.

    Parameters
    ----------
    volume, descriptors : what the reader knows; both: the best there is. Volume alone says how much size gives away.
    steps : volumes in equal steps of probability between which the density ratio is taken as constant.
    """
    benign, malignant = (joint_table(m)[joint_table(True) + joint_table(False) > 0] for m in (False, True))
    if not descriptors:
        benign, malignant = np.ones(1), np.ones(1)
    ratio = np.ones((1, 1))
    of_benign = of_malignant = np.ones((1, 1))
    if volume:
        # Steps of the mixture: halves from the benign and the malignant quantiles, so that both tails are covered.
        fractions = (np.arange(steps) + 0.5) / steps
        values = np.array(sorted(volume_quantile(f, m) for f in fractions for m in (False, True)))
        pairs = np.array([[volume_density(v, False), volume_density(v, True)] for v in values])
        of_benign, of_malignant = (pairs[:, k] / pairs.sum(axis=1) for k in (0, 1))
        of_benign, of_malignant = (w[None] / w.sum() for w in (of_benign, of_malignant))
        ratio = (pairs[:, 1] / pairs[:, 0])[None]
    with np.errstate(divide="ignore"):
        scores = np.round(np.log(malignant[:, None] / benign[:, None] * ratio), 9)
    return _auc(scores.ravel(), (malignant[:, None] * of_malignant).ravel(), (benign[:, None] * of_benign).ravel())
