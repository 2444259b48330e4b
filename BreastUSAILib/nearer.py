"""A lesion of a 2D image looked at again from nearer, with the network that found it.

A network whose input is a square of some 200 pixels sees a small lesion of a large image in a few dozen of them. So what was found is cut
out with its surroundings and looked at once more, as an image of its own, and the mean of all looks at a pixel is what counts. How near, is
chosen on validation images (`training.postprocessing`). Coarse to fine in this way is common in 3D; the papers that this project follows do
not have it. Arrays are in numpy order (y, x).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

LEAST_SIDE = 24.0
"""A region's side counts as so many pixels at least: nearer to less there is nothing to see."""
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


def looked_again(
    probability: np.ndarray,
    regions: Sequence[np.ndarray],
    zooms: Sequence[float],
    look: Callable[[Window], np.ndarray],
    pixel_aspect: float = 1.0,
    progress: Callable[[float], None] | None = None,
) -> np.ndarray:
    """The mean of a first look at an image and of further ones at what it found.

    Parameters
    ----------
    probability : (H, W) of the first look, 0 to 1.
    regions : (H, W) bool each, what was found.
    zooms : see `square_about`; each region is looked at once at each.
    look : the probabilities of a part of the image, of the part's shape.
    progress : called before each look with the share of them that is done; what it raises ends the looking.

    Returns
    -------
    (H, W) float32.
    """
    windows = [square_about(region, zoom, pixel_aspect) for region in regions for zoom in zooms]
    looks = []
    for number, window in enumerate(windows):
        if progress is not None:
            progress(number / len(windows))
        looks.append((window, look(window)))
    return mean_of_looks(probability, looks)


def followed(
    probability: np.ndarray, threshold: float, regions: Sequence[np.ndarray]
) -> list[tuple[np.ndarray, bool]]:
    """What became of regions after further looks: of each the component of the new map that shares most with it.

    Components that were not there before do not come in their place: a look at one thing says nothing of which thing is the lesion.

    Parameters
    ----------
    probability : (H, W), the mean of all looks.
    threshold : a pixel above it belongs to a lesion.
    regions : (H, W) bool each, what the first look found. Two that have become one component are one region now.

    Returns
    -------
    (region, confirmed), in the order of `regions`. Where nothing of a region is left above the threshold, it is the first look's, and not
    confirmed: what was found is told rather than lost.
    """
    from scipy import ndimage

    labels, _ = ndimage.label(probability > threshold, structure=np.ones((3, 3)))
    found: list[tuple[np.ndarray, bool]] = []
    taken: set[int] = set()
    for region in regions:
        shares = np.bincount(labels[region])
        shares[:1] = 0
        label = int(shares.argmax()) if shares.any() else 0
        if not label:
            found.append((region, False))
        elif label not in taken:
            taken.add(label)
            found.append((labels == label, True))
    return found
