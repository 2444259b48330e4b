"""Speckle: random scatterers seen through a point spread function, one depth row at a time.

The echo at a point is the sum over the scatterers near it of complex amplitudes: fully developed speckle (Wagner et al.,
IEEE Trans. Sonics Ultrason. 30:156, 1983), whose envelope is Rayleigh distributed with mean / standard deviation 1.91.
The point spread function is a separable Gaussian at baseband. Where voxels are larger than it, neighbours are independent.

Every float32 operation here is an addition, subtraction or multiplication in a fixed order: the same on every machine.
"""

from __future__ import annotations

import math

import numpy as np

_LANES = np.uint64(0x00FF00FF00FF00FF)
_BYTE = np.uint64(8)
# A sum of four uniform bytes: mean 4 * 255 / 2, variance 4 * (256^2 - 1) / 12.
_MEAN = np.float32(510.0)
_DEVIATION = math.sqrt((256**2 - 1) / 3.0)


class Scatterers:
    """Random amplitudes, drawn row after row; no matter how many at a time, the stream is the same.

    Each is the sum of four uniform bytes: close to normal (excess kurtosis -0.3), and normal for all purposes once a point
    spread function has mixed a few. It takes a fifth of the time of exact normal deviates, and no function whose last bit
    depends on the machine.
    """

    def __init__(self, generator: np.random.Generator) -> None:
        self._bits = generator.bit_generator

    def fill(self, out: np.ndarray) -> None:
        """Fill a C contiguous float32 array with deviates of mean 0 and standard deviation `Scatterers.deviation`."""
        words = -(-out.size // 4)
        raw = self._bits.random_raw(2 * words).astype("<u8", copy=False)
        high = raw >> _BYTE
        high &= _LANES
        raw &= _LANES
        raw += high
        sums = raw[:words]
        sums += raw[words:]
        np.subtract(sums.view("<u2")[: out.size].reshape(out.shape), _MEAN, out=out, dtype=np.float32)

    deviation = _DEVIATION


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
