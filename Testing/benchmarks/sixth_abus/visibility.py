"""Whether a lesion can be seen in the finished picture."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_LEAST = 9.0  # grey levels
_OF_NOISE = 0.45  # of the standard deviation beside it
_RIM, _ROOM = 2, 8  # voxels


def seen(image: np.ndarray, mask: np.ndarray, by_rim: bool) -> bool:
    """Whether the inside differs from what is beside it at the same depths; where `by_rim`, it is enough that its border does.

    `image` and `mask` are of the same box, which has room around the lesion.
    """
    if not mask.any():
        return False
    room = tuple(
        slice(max(int(i.min()) - _ROOM, 0), int(i.max()) + _ROOM + 1) for i in np.nonzero(mask)
    )  # the lesion's own box may be much larger
    grey, mask = image[room].astype(np.float32), mask[room]
    near = ndimage.binary_dilation(mask, iterations=_RIM)
    rows = mask.any((0, 2))[None, :, None]
    beside = grey[ndimage.binary_dilation(near, iterations=5) & ~near & rows]
    if beside.size < 20:
        return False
    least = max(_LEAST, _OF_NOISE * float(beside.std()))
    around = float(beside.mean())
    if abs(float(grey[mask].mean()) - around) >= least:
        return True
    rim = grey[near & ~ndimage.binary_erosion(mask)]
    return by_rim and abs(float(rim.mean()) - around) >= least
