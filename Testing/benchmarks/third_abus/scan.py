"""From echoes to a picture: gains, speckle, electronic noise, log compression, post-processing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .filters import blur, blur_noise
from .noise import smooth
from .scanner import Scanner

SLAB = 12  # slices that are worked on together, so that buffers stay in the cache
_OVERLAP = 4  # slices of white noise before a slab, over which speckle is spread along z
_PER_DB = np.float32(np.log(10) / 10)
_LEVELS = 2048  # of the table from compressed echoes to grey levels


@dataclass(frozen=True)
class _PostProcessing:
    """After compression: `blurs` (axis, weight), `edge` weight of sharpening, `stripe` (every nth column, its factor)."""

    blurs: list[tuple[int, float]]
    edge: float
    stripe: tuple[int, np.float32] | None

    @property
    def blur_z(self) -> float | None:
        """Weight of the blur across slices, which needs neighbouring slabs; None: there is none."""
        return next((weight for axis, weight in self.blurs if axis == 0), None)


def acquire(
    rng: np.random.Generator, echo: np.ndarray, voxel: tuple[float, float, float], scanner: Scanner
) -> np.ndarray:
    """The picture of a volume, uint8 (z, y, x).

    Parameters
    ----------
    echo : dB (z, y, x) float32; overwritten.
    voxel : mm (z, y, x).
    """
    nz = echo.shape[0]
    gain, slice_gain = _draw_gains(rng, echo.shape, voxel)
    depth = np.arange(echo.shape[1]) * voxel[1]
    floor = (10 ** ((scanner.floor_db + scanner.floor_slope * depth) / 10)).astype(np.float32)[None, :, None]
    post = _draw_post_processing(rng, scanner)
    for slab, speckle in zip(_slabs(nz), _speckle_slabs(rng, echo.shape, scanner), strict=True):
        compressed = _compress(echo[slab], gain, slice_gain[slab], speckle, floor, scanner)
        echo[slab] = _filter_in_plane(compressed, post)
    picture = _to_grey(echo, scanner.gamma, post)
    if rng.random() < 0.1:  # some slices are darker
        for index in rng.integers(0, nz, 3):
            picture[index] = (picture[index] * rng.uniform(0.5, 0.9)).astype(np.uint8)
    return picture


def _slabs(nz: int) -> Iterator[slice]:
    for first in range(0, nz, SLAB):
        yield slice(first, min(nz, first + SLAB))


def _draw_gains(
    rng: np.random.Generator, shape: tuple[int, int, int], voxel: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Gains of depths and columns (1, y, x) and of slices (z, 1, 1), as natural logarithms of intensity."""
    uniform = rng.uniform
    nz, ny, nx = shape
    columns = smooth(rng, (nx,), (voxel[2],), (uniform(8, 25),)) * uniform(0, 1.5)
    columns = columns + rng.normal(0, 1, nx) * uniform(0, 0.7)
    slices = smooth(rng, (nz,), (voxel[0],), (uniform(5, 30),)) * uniform(0, 1.0)
    if rng.random() < 0.35:
        slices = slices + rng.normal(0, uniform(0.2, 1.4), nz)
    depth = np.arange(ny) * voxel[1]
    focus = uniform(0.2, 0.8) * ny * voxel[1]
    depths = uniform(0, 4) * np.exp(-(((depth - focus) / uniform(5, 14)) ** 2))
    plane = ((depths[:, None] + columns[None, :]) * _PER_DB).astype(np.float32)[None]
    return plane, (slices * _PER_DB).astype(np.float32)[:, None, None]


def _draw_post_processing(rng: np.random.Generator, scanner: Scanner) -> _PostProcessing:
    uniform = rng.uniform
    blurs: list[tuple[int, float]] = []
    if scanner.coarse:
        blurs = [(axis, uniform(0.3, 1.0)) for axis in ((0, 2) if rng.random() < 0.7 else (0, 1, 2))]
    elif rng.random() < 0.35:
        blurs = [(int(rng.integers(0, 3)), uniform(0.1, 0.6))]
    edge = uniform(0.2, 0.8) if rng.random() < 0.3 else 0.0
    stripe = (int(rng.integers(2, 9)), np.float32(uniform(0.93, 0.985))) if rng.random() < 0.15 else None
    return _PostProcessing(blurs, edge, stripe)


def _speckle_slabs(rng: np.random.Generator, shape: tuple[int, int, int], scanner: Scanner) -> Iterator[np.ndarray]:
    """Intensities of speckle (z, y, x) with a mean of about 1, slab by slab: two parts of a complex echo, squared and added."""
    nz, ny, nx = shape
    before = [rng.standard_normal((_OVERLAP, ny, nx), dtype=np.float32) for _ in range(2)]
    for slab in _slabs(nz):
        number = slab.stop - slab.start
        intensity = None
        for part in range(2):
            white = rng.standard_normal((number, ny, nx), dtype=np.float32)
            white = np.concatenate([before[part], white])
            before[part] = white[-_OVERLAP:].copy()
            amplitude = _spread(white, scanner)[:number]
            amplitude *= amplitude
            intensity = amplitude if intensity is None else np.add(intensity, amplitude, out=intensity)
        yield _soften(intensity, scanner)


def _soften(intensity: np.ndarray, scanner: Scanner) -> np.ndarray:
    """Intensities after compounding, and with the milder fluctuations that the scanner has."""
    f32 = np.float32
    if scanner.compounded:  # a mirrored and moved copy stands for the second look
        intensity = f32(0.5) * (intensity + np.roll(intensity[:, ::-1], intensity.shape[2] // 3, 2))
    intensity *= f32(0.5)
    intensity += f32(1e-4)
    if scanner.speckle < 0.999:
        amplitude = np.sqrt(intensity)
        amplitude *= f32(2 - 2 * scanner.speckle)
        intensity *= f32(2 * scanner.speckle - 1)
        intensity += amplitude
    return intensity


def _spread(white: np.ndarray, scanner: Scanner) -> np.ndarray:
    """White noise (z + 4, y, x), correlated as speckle is; at least z slices, of variance 1."""
    field = white
    for axis in (2, 1, 0):
        weight = scanner.spread[axis]
        if weight <= 0.05:
            continue
        times = 2 if scanner.spread_twice[axis] else 1
        for _ in range(times):
            field = _spread_slices(field, weight) if axis == 0 else blur_noise(field, weight, axis)
        if times == 2:
            taps = np.convolve([weight, 1, weight], [weight, 1, weight]) / (1 + 2 * weight * weight)
            field *= np.float32(1 / np.sqrt((taps * taps).sum()))
    return field


def _spread_slices(field: np.ndarray, weight: float) -> np.ndarray:
    """`filters.blur_noise` along z, of the slices that have two neighbours: two slices fewer, and no seam between slabs."""
    scale = np.float32(1 / np.sqrt(1 + 2 * weight * weight))
    out = field[1:-1] * scale
    out += (field[:-2] + field[2:]) * np.float32(scale * weight)
    return out


def _compress(
    echo: np.ndarray, gain: np.ndarray, slice_gain: np.ndarray, speckle: np.ndarray, floor: np.ndarray, scanner: Scanner
) -> np.ndarray:
    """A slab after log compression: 0 black, 1 white, cut off a little above."""
    f32 = np.float32
    values = echo * _PER_DB
    values += gain
    values += slice_gain
    np.exp(values, out=values)
    values *= speckle
    values += np.roll(speckle[:, ::-1], speckle.shape[2] // 2, 2) * floor  # electronic noise: speckle from elsewhere
    np.log(values, out=values)
    values *= f32(10 / np.log(10) / scanner.range_db)
    values -= f32((scanner.top_db - scanner.range_db) / scanner.range_db)
    np.clip(values, 0, 1.15, out=values)
    return values


def _filter_in_plane(values: np.ndarray, post: _PostProcessing) -> np.ndarray:
    """A slab after blurs within the slices and sharpening."""
    for axis, weight in post.blurs:
        if axis:
            values = blur(values, weight, axis)
    if post.edge:
        excess = blur(blur(values, 1.0, 2), 1.0, 1)
        excess -= values
        excess *= np.float32(post.edge)
        values -= excess
    return values


def _to_grey(values: np.ndarray, gamma: float, post: _PostProcessing) -> np.ndarray:
    """Grey levels, uint8 (z, y, x), of compressed echoes, which are overwritten."""
    nz = values.shape[0]
    grey = np.empty(values.shape, np.uint8)
    last = _LEVELS - 1
    table = (255 * (np.arange(_LEVELS) / last) ** gamma + 0.5).astype(np.uint8)
    for slab in _slabs(nz):
        if post.blur_z is not None:
            first, end = max(0, slab.start - 1), min(nz, slab.stop + 1)
            here = blur(values[first:end], post.blur_z, 0)[slab.start - first : slab.stop - first]
        else:
            here = values[slab]
        if post.stripe:
            every, factor = post.stripe
            here[:, :, ::every] *= factor
        here *= np.float32(last)
        np.clip(here, 0, last, out=here)
        table.take(here.astype(np.uint16), out=grey[slab], mode="clip")
    return grey
