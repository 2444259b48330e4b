"""Means over blocks of pixels: an image on a grid that is a whole number of times coarser, exactly."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .processor import cores

_THREADED = 1 << 25  # pixels from which it is worth more than one thread
_SLAB = 1 << 17  # pixels that are added at a time: their sums stay in a core's cache


def block_means(values: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Means over blocks of `factors` pixels (one an axis), float32; the last block of an axis repeats the edge.

    Whole slices are added, which costs a tenth of numpy's mean over short axes. Sums of 8-bit values and of truths are kept in 16 bits,
    exactly, where they fit; others in float32.
    """
    factors = [int(f) for f in factors]
    count = int(np.prod(factors))
    if count == 1:
        return values.astype(np.float32, copy=False)
    for axis, factor in enumerate(factors):
        # Ten times as fast as numpy's padding of small images.
        if short := -values.shape[axis] % factor:
            edge = values[(slice(None),) * axis + (slice(-1, None),)]
            values = np.concatenate([values, np.repeat(edge, short, axis=axis)], axis=axis)
    out = np.empty([n // f for n, f in zip(values.shape, factors, strict=True)], np.float32)
    largest = {np.dtype(bool): 1, np.dtype(np.uint8): 255}.get(values.dtype)
    kind = np.uint16 if largest is not None and count * largest < 2**16 else np.float32
    values = values.view(np.uint8) if values.dtype == bool else values
    threads = min(_threads(), len(out)) if values.size >= _THREADED else 1
    ends = [len(out) * part // threads for part in range(threads + 1)]
    parts = [(values[a * factors[0] : b * factors[0]], out[a:b]) for a, b in itertools.pairwise(ends)]
    if threads == 1:
        _fill(*parts[0], factors, kind)
    else:
        with ThreadPoolExecutor(threads) as pool:  # numpy adds without the interpreter's lock
            list(pool.map(lambda part: _fill(*part, factors, kind), parts))
    return out


def _threads() -> int:
    """As many as there are cores, or as a user allows PyTorch."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores(), int(asked)) if asked.isdigit() and int(asked) > 0 else cores()


def _fill(values: np.ndarray, out: np.ndarray, factors: list[int], kind: type) -> None:
    """Write the means into `out`, some slices at a time."""
    rows = max(1, _SLAB * len(out) // max(1, values.size))
    sums = _Sums(factors, kind)
    for first in range(0, len(out), rows):
        total = sums(values[first * factors[0] : (first + rows) * factors[0]])
        # Converted and then multiplied: numpy does both at once through a buffer, at twice the time.
        part = out[first : first + rows]
        part[...] = total
        part *= np.float32(1 / math.prod(factors))


class _Sums:
    """Sums over blocks of slabs of one size, in arrays that are kept from slab to slab: fresh ones cost as much as the sums, where the system
    hands out their pages anew each time."""

    def __init__(self, factors: list[int], kind: type) -> None:
        self._factors, self._kind = factors, kind
        self._kept: dict[str, np.ndarray] = {}

    def _array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """An array to write into; the last slab may be shorter than those before it."""
        kept = self._kept.get(name)
        if kept is None or kept.shape[1:] != shape[1:] or len(kept) < shape[0]:
            kept = self._kept[name] = np.empty(shape, self._kind)
        return kept[: shape[0]]

    def __call__(self, values: np.ndarray) -> np.ndarray:
        factors, kind = self._factors, self._kind
        if kind is np.uint16 and factors[-1] == 2 and values.flags.c_contiguous:
            # Two bytes seen as one number, whose halves are added: four times as fast as every second byte and the others.
            pairs = values.view(np.uint16)
            values = np.bitwise_and(pairs, 0xFF, out=self._array("low", pairs.shape))
            values += np.right_shift(pairs, 8, out=self._array("high", pairs.shape))
            factors = [*factors[:-1], 1]
        for axis, factor in enumerate(factors):
            if factor > 1:
                before = (slice(None),) * axis
                parts = [values[(*before, slice(place, None, factor))] for place in range(factor)]
                total = np.add(*parts[:2], out=self._array(f"axis {axis}", parts[0].shape), dtype=kind)
                for part in parts[2:]:
                    total += part
                values = total
        return values
