"""Whether a reader could see a lesion."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def seen(grey: np.ndarray, body: np.ndarray, rim: np.ndarray, echo: str) -> bool:
    """Whether a body (mask) stands out in grey levels (slice, depth, lateral) from what lies beside it at the same
    depths.

    Isoechoic ones and those of several parts may stand out by their rim (mask) alone, others by their own grey, and
    in the right direction.
    """
    near = ndimage.binary_dilation(body[::2, ::2, ::2], iterations=5).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    near = near[: body.shape[0], : body.shape[1], : body.shape[2]] & ~body & ~rim
    depths = body.any(axis=(0, 2))
    near &= depths[None, :, None]
    if near.sum() < 20:
        return False
    inside, outside = grey[body], grey[near]
    if outside.mean() < 28:
        return False
    noise = np.sqrt((inside.var() + outside.var()) / 2) + 1
    difference = float(inside.mean() - outside.mean())
    border = float(grey[rim & ~body].mean() - (inside.mean() + outside.mean()) / 2) if (rim & ~body).any() else 0.0
    least = 0.6 + 0.5 * np.exp(-len(inside) / 2000)  # of few voxels, more of a difference
    stands = abs(difference) > 13 and abs(difference) > least * noise
    if echo in ("hypoechoic", "anechoic"):
        return stands and difference < 0
    if echo == "hyperechoic":
        return stands and difference > 0
    return stands or (abs(border) > 14 and abs(border) > least * noise)
