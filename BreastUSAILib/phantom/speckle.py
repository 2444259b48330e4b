"""Speckle: random scatterers seen through a point spread function, one depth row at a time.

The echo at a point is the sum over the scatterers near it of complex amplitudes: fully developed speckle (Wagner et al.,
IEEE Trans. Sonics Ultrason. 30:156, 1983), whose envelope is Rayleigh distributed with mean / standard deviation 1.91.
The point spread function is a separable Gaussian at baseband. Where voxels are larger than it, neighbours are independent.

Every float32 operation here is an addition, subtraction or multiplication in a fixed order: the same on every machine.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np

_BITS = 12
_LANES = np.uint64(((1 << _BITS) - 1) * 0x0001000100010001)


@lru_cache(maxsize=1)
def normal_table() -> np.ndarray:
    """4096 equally probable normal deviates: float32, mean 0, variance 1; 3.66 is the greatest. Read only."""
    n = 1 << _BITS
    half = np.array([NormalDist().inv_cdf((k + 0.5) / n) for k in range(n // 2)])
    values = np.concatenate([half, -half[::-1]])
    # Rounded, as the last bits of a logarithm depend on the machine.
    table = np.round(values / math.sqrt(math.fsum(values**2) / n), 6).astype(np.float32)
    table.flags.writeable = False
    return table


class Scatterers:
    """Random amplitudes, drawn row after row; no matter how many at a time, the stream is the same.

    Each is one of 4096 equally probable normal deviates, looked up with 12 random bits: a fifth of the time of numpy's normal
    deviates, and no function whose last bit depends on the machine or on numpy's version.
    """

    def __init__(self, generator: np.random.Generator) -> None:
        self._bits = generator.bit_generator
        self._table = normal_table()

    def fill(self, out: np.ndarray) -> None:
        """Fill a C contiguous float32 array with deviates of mean 0 and variance 1."""
        raw = self._bits.random_raw(-(-out.size // 4)).astype("<u8", copy=False)
        raw &= _LANES
        np.take(self._table, raw.view("<u2")[: out.size], out=out.reshape(-1), mode="clip")


def gaussian_taps(fwhm_mm: float, spacing_mm: float) -> np.ndarray:
    """One half of a symmetric kernel of unit energy, the centre first.

    Parameters
    ----------
    fwhm_mm : full width at half maximum of the amplitude.
    spacing_mm : distance between samples.

    Returns
    -------
    float64 (radius + 1,): cut off below 1 % of the centre; t0^2 + 2 * sum(t1^2 ...) is 1.

    >>> gaussian_taps(0.25, 0.5).tolist()
    [1.0]
    """
    sigma = fwhm_mm / 2.354820045 / spacing_mm
    radius = int(sigma * math.sqrt(2.0 * math.log(100.0)))
    taps = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    energy = taps[0] ** 2 + 2.0 * float(np.sum(taps[1:] ** 2))
    return taps / math.sqrt(energy)


def convolve(field: np.ndarray, taps: np.ndarray, axis: int, out: np.ndarray, work: np.ndarray) -> None:
    """Convolve along an axis with a symmetric kernel; `field` is as much longer along it as the kernel reaches, or more.

    Parameters
    ----------
    field : float32; its excess length along `axis` is twice some margin >= the kernel's radius.
    taps : one half of the kernel, the centre first.
    axis : which.
    out, work : float32 of the result's shape.
    """
    n = out.shape[axis]
    margin = (field.shape[axis] - n) // 2

    def shifted(by: int) -> np.ndarray:
        where = [slice(None)] * field.ndim
        where[axis] = slice(margin + by, margin + by + n)
        return field[tuple(where)]

    np.multiply(shifted(0), np.float32(taps[0]), out=out)
    for k in range(1, len(taps)):
        np.add(shifted(-k), shifted(k), out=work)
        work *= np.float32(taps[k])
        out += work
