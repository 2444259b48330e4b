"""Logarithmic compression of echo intensity to grey levels, by look-up on the bits of the float.

The upper 16 bits of a positive IEEE float32 (exponent and 7 bits of mantissa) name an interval of ratio 1 + 2^-7, that is
0.03 dB: an eighth of a grey level at 60 dB. One table of 32,768 grey levels, made once in float64, replaces a logarithm a
voxel, costs a tenth of it and, unlike float32 logarithms, gives the same level on every machine.
"""

from __future__ import annotations

import sys
from functools import lru_cache

import numpy as np

_HIGH_HALF = 1 if sys.byteorder == "little" else 0


@lru_cache(maxsize=8)
def grey_table(white_db: float, dynamic_range_db: float, curve: float = 1.0) -> np.ndarray:
    """Grey level for each value of the upper 16 bits of a positive float32 intensity.

    Parameters
    ----------
    white_db : intensity (10 log10) that is white, 255.
    dynamic_range_db : white_db - dynamic_range_db is black, 0.
    curve : exponent of the grey map that follows the logarithm; 1 is none, more darkens the middle.

    Returns
    -------
    uint8 (32768,), read only; the entry of an interval is that of its middle. Infinity and NaN are white.
    """
    bits = (np.arange(1 << 15, dtype=np.uint32) << 16) | 0x8000
    with np.errstate(all="ignore"):
        decibels = 10.0 * np.log10(bits.view(np.float32).astype(np.float64))
    share = np.clip((decibels - (white_db - dynamic_range_db)) / dynamic_range_db, 0.0, 1.0)
    share[0x7F80:] = 1.0
    table = np.rint(255.0 * share**curve).astype(np.uint8)
    table.flags.writeable = False
    return table


def compress(intensity: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    """Write the grey levels of an intensity to `out`.

    Parameters
    ----------
    intensity : float32, C contiguous, two or more dimensions, not negative.
    table : from `grey_table`.
    out : uint8 of the same shape, any strides.
    """
    upper = intensity.view(np.uint16)[..., _HIGH_HALF::2]
    out[...] = np.take(table, upper, mode="clip")
