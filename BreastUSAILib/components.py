"""Which connected components of a mask are lesions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .errors import UsageError

KEEP = ("central", "largest", "all")


def check_spacing(spacing: Sequence[float], dimension: int) -> tuple[float, ...]:
    """`spacing` as a tuple of `dimension` positive, finite floats; `UsageError` when it is not that."""
    values = tuple(float(s) for s in spacing)
    if len(values) != dimension or not all(math.isfinite(s) and s > 0 for s in values):
        raise UsageError(f"spacing {values} does not fit: {dimension} positive numbers, one an axis, are needed.")
    return values


def keep_components(
    mask: np.ndarray,
    spacing: Sequence[float],
    *,
    keep: str = "central",
    min_fraction: float = 0.4,
    probability: np.ndarray | None = None,
    min_confidence: float = 0.0,
    most: int | None = None,
) -> list[np.ndarray]:
    """The components of a mask that count as lesions, after Huang et al. 2019.

    Components smaller than `min_fraction` of the largest are dropped; of the rest the one closest to the image's
    centre is the lesion, because the operator centres what is examined. Pixels that touch at a corner are connected.

    Parameters
    ----------
    mask : (y, x) or (z, y, x), not zero inside.
    spacing : mm between pixel centres, one an axis of `mask`, in the same order.
    keep : ``"central"``, the component whose centroid lies closest to the image's centre in mm (of two that are
        equally close, the larger); ``"largest"``; or ``"all"`` that are large enough, for images with several lesions.
    min_fraction : 0 to 1; 0.4 is the paper's.
    probability, min_confidence : of the components that are large enough, ``"central"`` looks only at those whose mean
        probability is at least this share (0 to 1) of the surest one's (ours; 0, the paper's, looks at all): a faint
        component near the centre must not displace a sure one.
    most : of more components than these the surest by mean probability are left (the largest, where no probability is given); None: all of them.
        Each takes as much memory as the mask.

    Returns
    -------
    list of bool masks of the same shape, one a component, the largest first; empty when the mask is.

    Raises
    ------
    UsageError : mask is not 2D or 3D, spacing does not fit it, unknown `keep`, or `min_fraction` out of range.

    References
    ----------
    Huang Y. et al., BioMedical Engineering OnLine 18:8, 2019, doi:10.1186/s12938-019-0626-5.
    """
    from scipy import ndimage

    mask = np.asarray(mask) != 0
    if mask.ndim not in (2, 3):
        raise UsageError(f"the mask has {mask.ndim} axes; 2 or 3 are needed.")
    scale = np.array(check_spacing(spacing, mask.ndim))
    if keep not in KEEP:
        raise UsageError(f"keep is {keep!r}; choose one of {', '.join(KEEP)}.")
    if not 0.0 <= min_fraction <= 1.0:
        raise UsageError(f"min_fraction is {min_fraction}; it must lie between 0 and 1.")
    if not 0.0 <= min_confidence <= 1.0:
        raise UsageError(f"min_confidence is {min_confidence}; it must lie between 0 and 1.")

    labels, _ = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
    sizes = np.bincount(labels.ravel())[1:]
    if sizes.size == 0:
        return []
    order = np.argsort(-sizes, kind="stable")
    large = [int(i) + 1 for i in order if sizes[i] >= min_fraction * sizes[order[0]]]
    if keep == "largest":
        large = large[:1]
    elif keep == "central":
        if probability is not None and min_confidence > 0:
            confidence = ndimage.mean(probability, labels, large)
            large = [k for k, c in zip(large, confidence, strict=True) if c >= min_confidence * max(confidence)]
        centre = (np.array(mask.shape) - 1) / 2
        centroids = np.array(ndimage.center_of_mass(mask, labels, large))
        distances = np.linalg.norm((centroids - centre) * scale, axis=1)
        # Rounded, so that of two components at the same distance the larger one wins on every machine.
        large = [large[int(np.argmin(np.round(distances, 9)))]]
    if most is not None and len(large) > most:
        surest = set(large[:most])
        if probability is not None:
            confidence = ndimage.mean(probability, labels, large)
            surest = {large[i] for i in np.argsort(-confidence, kind="stable")[:most]}
        large = [label for label in large if label in surest]
    return [labels == label for label in large]
