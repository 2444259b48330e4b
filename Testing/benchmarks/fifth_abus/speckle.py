"""Speckle as a table of decibels, looked up with smoothed random bytes: any marginal, any length, and quick."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

UNIT = 64  # steps of a dB in the int16 maps
PASSES = ((), (1,), (1, 1), (1, 1, 1), (1, 1, 2), (1, 1, 1, 2), (1, 1, 2, 2), (1, 1, 2, 3), (1, 1, 1, 2, 3))


@dataclass(frozen=True)
class Speckle:
    """`coarseness` (slice, depth, lateral) counts in `PASSES`; `law` and `order` are of the amplitude, `strength` scales its dB."""

    coarseness: tuple[int, int, int]
    law: str
    order: float
    strength: float
    envelope: bool


def draw_speckle(rng: np.random.Generator, weak: bool) -> Speckle:
    grain = int(rng.integers(0, 6))
    coarse = np.clip(grain + rng.integers(-1, [3, 2, 4]), 0, len(PASSES) - 1)
    if rng.uniform() < 0.15:  # slices that have nothing in common
        coarse[0] = 0
    law = str(rng.choice(["rayleigh", "gamma", "lognormal", "k"], p=[0.45, 0.2, 0.2, 0.15]))
    strength = rng.uniform(0.15, 0.5) if weak else rng.choice([rng.uniform(0.4, 0.8), rng.uniform(0.8, 1.15)])
    return Speckle(tuple(map(int, coarse)), law, rng.uniform(1.2, 6), float(strength), bool(rng.uniform() < 0.6))


def grain_voxels(speckle: Speckle) -> float:
    """Voxels of a grain, roughly."""
    return float(np.prod([1 + 0.8 * sum(PASSES[c]) for c in speckle.coarseness]))


def other_speckle(rng: np.random.Generator, speckle: Speckle, strength: float) -> Speckle:
    """What a lesion may have instead: a little finer or coarser, and weaker or stronger by `strength`."""
    coarse = np.clip(np.add(speckle.coarseness, rng.integers(-2, 3)), 0, len(PASSES) - 1)
    return Speckle(tuple(map(int, coarse)), speckle.law, speckle.order, speckle.strength * strength, speckle.envelope)


def bytes_of(rng: np.random.Generator, shape: tuple[int, ...], coarseness: tuple[int, ...]) -> np.ndarray:
    """Smoothed noise, uint8: sums of random bytes at distances as in `PASSES`, and of these the middle range."""
    passes = [(axis, d) for axis, c in enumerate(coarseness) for d in PASSES[c]]
    padded = [n + sum(PASSES[c]) for n, c in zip(shape, coarseness, strict=True)]
    noise = np.frombuffer(rng.bytes(int(np.prod(padded))), np.uint8).reshape(padded)
    if not passes:
        return noise
    noise = noise.astype(np.uint16)
    for number, (axis, d) in enumerate(passes):
        n = noise.shape[axis]
        head, tail = [slice(None)] * noise.ndim, [slice(None)] * noise.ndim
        head[axis], tail[axis] = slice(0, n - d), slice(d, n)
        if number > 7:  # 256 bytes fill 16 bits
            noise >>= 1
        noise = noise[tuple(head)] + noise[tuple(tail)]
    part = noise[:: max(shape[0] // 8, 1)].astype(np.float32)
    middle, width = part.mean(), 5.6 * part.std() + 1
    low = int(max(middle - width / 2, 0))
    noise = np.clip(noise, low, int(min(middle + width / 2, 65535)))
    noise -= np.uint16(low)
    noise *= np.uint16(1 if width > 255 else int(255 / width))  # little noise is spread, much is shifted
    shift = max(int(np.ceil(np.log2(max(width, 1) / 255))), 0)
    noise >>= np.uint16(shift)
    return noise.astype(np.uint8)


def quantiles(law: str, order: float, number: int = 4096) -> np.ndarray:
    """Quantiles of a law's amplitude in dB; the mean amplitude is 0 dB. Always the same for the same law."""
    rng = np.random.default_rng(5)
    exponential = rng.standard_exponential(16 * number)
    if law == "rayleigh":
        amplitude = np.sqrt(exponential)
    elif law == "gamma":
        amplitude = rng.gamma(order, size=16 * number)
    elif law == "lognormal":
        amplitude = np.exp(rng.standard_normal(16 * number) * (0.25 + 0.12 * order / 2))
    else:
        amplitude = np.sqrt(exponential * rng.gamma(order, size=16 * number))
    amplitude = np.sort(amplitude)[8::16]
    return 20 * np.log10(amplitude / amplitude.mean())


def speckle_field(rng: np.random.Generator, shape: tuple[int, int, int], speckle: Speckle) -> np.ndarray:
    """Speckle, int16 (slice, depth, lateral), in dB / `UNIT`."""
    law = quantiles(speckle.law, speckle.order) * speckle.strength * UNIT
    places = (np.arange(len(law)) + 0.5) / len(law)
    first = bytes_of(rng, shape, speckle.coarseness)
    counts = np.bincount(first[:: max(shape[0] // 40, 1)].ravel(), minlength=256) + 1e-3
    rank = (np.cumsum(counts) - counts / 2) / counts.sum()
    if not speckle.envelope:
        return np.interp(rank, places, law).astype(np.int16)[first]
    normal = np.sqrt(2) * _inverse_erf(2 * rank - 1)
    power = normal[:, None] ** 2 + normal[None, :] ** 2  # the length of a Gaussian phasor: dark holes, round grains
    table = np.interp(1 - np.exp(-power / 2), places, law).astype(np.int16).ravel()
    index = first.astype(np.uint16) << 8
    index |= bytes_of(rng, shape, speckle.coarseness)
    out = np.empty(shape, np.int16)
    for z in range(0, shape[0], 16):
        out[z : z + 16] = table[index[z : z + 16]]
    return out


def _inverse_erf(value: np.ndarray) -> np.ndarray:
    from scipy.special import erfinv

    return erfinv(value)
