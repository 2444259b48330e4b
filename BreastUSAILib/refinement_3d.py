"""The refiner on a volume: lets Chan-Vese move the border of a lesion that a network drew in three dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .blas import one_thread
from .chan_vese import ChanVeseParameters, Refinement, refine
from .components import check_spacing, keep_components
from .errors import UsageError

# A surface bends along two directions where a line bends along one, so half the weight of the length is as stiff. Chosen on maps
# of 33 phantoms of the train seeds whose border wandered by 0.15 R: Dice 0.857 after 0.821 (0.856 with the values for images).
VOLUME = ChanVeseParameters(alpha=0.5, smoothing=0.08, window=0.6, prior=2.0, settled=0.0003)


def refine_3d(
    probability: np.ndarray,
    image: np.ndarray,
    spacing: Sequence[float],
    *,
    threshold: float = 0.5,
    mask: np.ndarray | None = None,
    parameters: ChanVeseParameters = VOLUME,
) -> Refinement:
    """Refine a lesion from its probability map.

    Parameters
    ----------
    probability : (z, y, x), 0 to 1: the network's map of the crop about a lesion.
    image : the echoes of that crop, of the same shape, any real type.
    spacing : mm along z, y, x (only ratios count).
    threshold : the probability at which the network's own border lies, between 0 and 1; the prior is neutral there.
    mask : where the border starts, of the same shape; None: the largest component above the threshold, without holes.
    parameters : see `chan_vese.ChanVeseParameters`; `VOLUME` was chosen for volumes.

    Returns
    -------
    `chan_vese.Refinement` : the new mask, or the start with the reason why it was kept.

    Raises
    ------
    ImageError : the image does not consist of real numbers.
    UsageError : shapes differ or are not 3D, spacing is not positive, probabilities or threshold lie outside 0 to 1.
    """
    probability = np.asarray(probability, np.float32)
    if probability.ndim != 3 or probability.shape != np.shape(image):
        raise UsageError(
            f"the probability map {probability.shape} and the image {np.shape(image)} must be 3D and of one shape."
        )
    check_spacing(spacing, 3)
    if not 0 < threshold < 1:
        raise UsageError(f"the threshold is {threshold}; it must lie between 0 and 1.")
    if not (probability.min(initial=0.0) >= 0 and probability.max(initial=0.0) <= 1):  # False for NaN as well
        raise UsageError("the probability map has values that do not lie between 0 and 1.")
    start = largest_component(probability > threshold, spacing) if mask is None else np.asarray(mask) != 0
    with one_thread():
        return refine(image, start, spacing, parameters, probability, threshold)


def largest_component(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """The largest component of a mask (z, y, x), its holes filled; empty where the mask is."""
    from scipy import ndimage

    components = keep_components(mask, spacing, keep="largest")
    return ndimage.binary_fill_holes(components[0]) if components else np.zeros(np.shape(mask), bool)
