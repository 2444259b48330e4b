"""From echoes to the envelope that a scanner receives: speckle, a beam that is narrow at its foci, clutter and noise."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .grid import Grid, to_full
from .scanner import Scanner

_BANDS = 10  # of depth, within which the beam is taken as equally wide
_UNIFORM = np.float32(12**0.5)  # makes uniform noise of unit variance; the beam's average makes it Gaussian


def receive(rng: np.random.Generator, grid: Grid, scanner: Scanner, level: np.ndarray) -> np.ndarray:
    """The envelope's power in dB.

    Parameters
    ----------
    level : dB that each voxel sends back on average; used up.
    """
    level *= np.float32(np.log(10) / 20)
    amplitude = np.exp(level, out=level)
    power = _filtered(rng, grid, scanner, amplitude)
    part = _filtered(rng, grid, scanner, amplitude)
    np.square(power, out=power)
    power += np.square(part, out=part)
    power *= 0.5
    mean = _mean_power(grid, scanner, amplitude)
    if scanner.looks < 1:
        power *= scanner.looks
        power += (1 - scanner.looks) * mean
    power += mean * 1.5e-2  # no voxel is quite empty
    power += _clutter(grid, scanner, mean)
    power += np.float32(10 ** (scanner.noise_db / 10)) * _noise_rise(rng, grid)
    np.log10(power, out=power)
    power *= 10
    return power


def _filtered(rng: np.random.Generator, grid: Grid, scanner: Scanner, amplitude: np.ndarray) -> np.ndarray:
    """One of the two quadratures: the scatterers' noise, as the pulse and the beam see it, of the variance it had."""
    field = rng.random(amplitude.shape, dtype=np.float32)
    field -= 0.5
    field *= amplitude
    for rows, sigma in _beam(grid, scanner):
        band = np.ascontiguousarray(field[:, rows])
        field[:, rows] = _blur(band, sigma, 2)
    field = _blur(field, scanner.slice_mm / grid.spacing[0], 0)
    field = _blur(field, scanner.pulse_mm / grid.spacing[1], 1)
    field *= _UNIFORM
    return field


def _beam(grid: Grid, scanner: Scanner) -> list[tuple[slice, float]]:
    """Bands of depth and the beam's lateral standard deviation there, voxels."""
    ny, (_, dy, dx) = grid.shape[1], grid.spacing
    ends = np.linspace(0, ny, min(_BANDS, ny) + 1).astype(int)
    bands = []
    for first, last in zip(ends[:-1], ends[1:], strict=True):
        depth = (first + last) / 2 * dy
        width = min(np.hypot(scanner.width_mm, scanner.widening * abs(depth - focus)) for focus in scanner.foci_mm)
        bands.append((slice(first, last), float(np.hypot(width, scanner.speckle_mm)) / dx))
    return bands


def _kernel(sigma: float) -> np.ndarray:
    half = max(int(2.5 * sigma + 0.5), 1)
    taps = np.exp(-0.5 * np.square(np.arange(-half, half + 1) / max(sigma, 0.2)))
    return taps / np.linalg.norm(taps)  # of unit energy: noise keeps its variance


def _blur(field: np.ndarray, sigma: float, axis: int) -> np.ndarray:
    if sigma < 0.25:
        return field
    return ndimage.correlate1d(field, _kernel(sigma), axis=axis, mode="nearest")


def _mean_power(grid: Grid, scanner: Scanner, amplitude: np.ndarray) -> np.ndarray:
    """What the envelope's power would be without speckle; on the half grid, which it needs no more than."""
    half = np.square(amplitude[::2, :, ::2])
    dz, dy, dx = grid.half_spacing
    sigmas = scanner.slice_mm / dz, scanner.pulse_mm / dy, (scanner.width_mm + 0.01 * grid.extent[1]) / dx
    half = ndimage.gaussian_filter(half, [max(s, 0.3) for s in sigmas], truncate=2.5)
    return to_full(half, grid)


def _clutter(grid: Grid, scanner: Scanner, mean: np.ndarray) -> np.ndarray:
    """What comes from beside the beam and from earlier echoes: it fills in what is near bright tissue, as in small cysts."""
    coarse = mean[::4, ::2, ::4]
    wide = ndimage.gaussian_filter(
        coarse, [1.8 / s / k for s, k in zip(grid.spacing, (4, 2, 4), strict=True)], truncate=2
    )
    wide *= np.float32(10 ** (scanner.clutter_db / 10))
    spread = np.repeat(wide, 4, 2)[:, :, : mean.shape[2]]
    return np.repeat(np.repeat(spread, 2, 1)[:, : mean.shape[1]], 4, 0)[: mean.shape[0]]


def _noise_rise(rng: np.random.Generator, grid: Grid) -> np.ndarray:
    """The gain that makes up for depth lifts the noise as well: (1, depth, 1)."""
    rise = rng.uniform(0, 12) * np.square(np.linspace(0, 1, grid.shape[1], dtype=np.float32)) - 6
    return (10 ** (rise / 10))[None, :, None].astype(np.float32)
