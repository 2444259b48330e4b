"""A lesion of a 2D image looked at again from nearer, with the network that found it.

A network whose input is a square of some 200 pixels sees a small lesion of a large image in a few dozen of them. So what was found is cut
out with its surroundings and looked at once more, as an image of its own, and the mean of all looks at a pixel is what counts. How near, is
chosen on validation images (`training.postprocessing`). Coarse to fine in this way is common in 3D; the papers that this project follows do
not have it. Arrays are in numpy order (y, x).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

LEAST_SIDE = 24.0
"""A region's side counts as so many pixels at least: nearer to less there is nothing to see."""
ROUNDS = 3
"""How often regions that were not looked at yet may come to be kept, so that looking ends."""
Window = tuple[slice, slice]


def square_about(region: np.ndarray, zoom: float, pixel_aspect: float = 1.0) -> Window:
    """The part of an image that lies in the square about a region.

    Parameters
    ----------
    region : (H, W) bool, not empty.
    zoom : the square's side in the longer side of the region's box, above 0.
    pixel_aspect : a pixel's height divided by its width; the square is one in millimetres.

    Returns
    -------
    Rows and columns, within the image.
    """
    rows, columns = np.nonzero(region.any(1))[0], np.nonzero(region.any(0))[0]
    (top, bottom), (left, right) = ((int(i[0]), int(i[-1]) + 1) for i in (rows, columns))
    side = zoom * max((bottom - top) * pixel_aspect, right - left, LEAST_SIDE)
    parts = []
    for first, last, length, end in (
        (top, bottom, side / pixel_aspect, region.shape[0]),
        (left, right, side, region.shape[1]),
    ):
        centre = (first + last) / 2
        parts.append(slice(max(0, int(centre - length / 2)), min(end, int(np.ceil(centre + length / 2)))))
    return parts[0], parts[1]


def mean_of_looks(first: np.ndarray, looks: Sequence[tuple[Window, np.ndarray]]) -> np.ndarray:
    """The mean, (H, W) float32, of a map (H, W) of an image and of maps of parts of it; each pixel's over those that it lies in."""
    total = first.astype(np.float32)
    count = np.ones(first.shape, np.float32)
    for window, values in looks:
        total[window] += values
        count[window] += 1
    return total / count


@dataclass(frozen=True)
class Again:
    """What came of looking again: the mean map (H, W) float32 of all looks, the regions (H, W) bool that it keeps, and whether they are its
    own (`confirmed`) rather than the first look's, of which no part stayed above the threshold."""

    probability: np.ndarray
    regions: list[np.ndarray]
    confirmed: bool


def looked_again(
    probability: np.ndarray,
    keep: Callable[[np.ndarray], list[np.ndarray]],
    zooms: Sequence[float],
    look: Callable[[Window], np.ndarray],
    pixel_aspect: float = 1.0,
    progress: Callable[[float], None] | None = None,
) -> Again:
    """Look at what was found from nearer, and choose again by the mean of all looks.

    Where that chooses a region that was not looked at, it is looked at as well before it may stay: a region that was looked at twice must
    not give way to one that a second look would have changed.

    Parameters
    ----------
    probability : (H, W) of the first look, 0 to 1.
    keep : the regions (H, W) bool that count as lesions in a map.
    zooms : see `square_about`; each region is looked at once at each.
    look : the probabilities of a part of the image, of the part's shape.
    progress : called before each look with the share of them that is done; what it raises ends the looking.
    """
    first = regions = keep(probability)
    looks: list[tuple[Window, np.ndarray]] = []
    looked = np.zeros(probability.shape, bool)  # all that was looked at
    mean = mean_of_looks(probability, ())
    for _ in range(ROUNDS if zooms else 0):
        fresh = [region for region in regions if not (region & looked).any()]
        windows = [square_about(region, zoom, pixel_aspect) for region in fresh for zoom in zooms]
        for number, window in enumerate(windows):
            if progress is not None:
                progress(len(looks) / (len(looks) + len(windows) - number))
            looks.append((window, look(window)))
        if not fresh:
            break
        looked = np.logical_or.reduce([looked, *fresh])
        mean = mean_of_looks(probability, looks)
        regions = keep(mean)
    return Again(mean, regions or first, bool(regions) or not first)
