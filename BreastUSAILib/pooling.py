"""Means over blocks of pixels: an image on a grid that is a whole number of times coarser, exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def block_means(values: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Means over blocks of `factors` pixels (one an axis), float32; the last block of an axis repeats the edge.

    Whole slices are added, which costs a tenth of numpy's mean over short axes. Sums of 8-bit values are kept in 16 bits, exactly; others in
    float32.
    """
    factors = [int(f) for f in factors]
    short = [(0, -n % f) for n, f in zip(values.shape, factors, strict=True)]
    if any(after for _, after in short):
        values = np.pad(values, short, mode="edge")
    count = int(np.prod(factors))
    small = values.dtype == np.uint8 and count <= 256
    for axis, factor in enumerate(factors):
        if factor > 1:
            before = (slice(None),) * axis
            total = np.add(
                values[(*before, slice(0, None, factor))],
                values[(*before, slice(1, None, factor))],
                dtype=np.uint16 if small else np.float32,
            )
            for place in range(2, factor):
                total += values[(*before, slice(place, None, factor))]
            values = total
    return (
        values.astype(np.float32, copy=False)
        if count == 1
        else np.multiply(values, np.float32(1 / count), dtype=np.float32)
    )
