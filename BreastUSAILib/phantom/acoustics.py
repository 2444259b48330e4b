"""From tissue to echoes to grey levels: the scan of a phantom, streamed over depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from .acquisition import Acquisition
from .compression import compress, grey_table
from .grids import PhantomGrid
from .scene import SceneRows
from .speckle import Scatterers, convolve, gaussian_taps
from .transmission import Transmission

# Mean of fat's echo, as a share of the dynamic range above black.
_FAT_LEVEL = 0.42
# The time gain stops rising where noise would be shown brighter than this: share of the dynamic range above black.
_NOISE_LEVEL = 0.09
# And in any case where noise would come this close to the echo of fat (amplitude, dB).
_NOISE_CEILING_DB = -15.0
# How fast clutter of the near field fades, dB a mm, and how much of it comes in bands.
_CLUTTER_FADE_DB_MM = 2.2
_CLUTTER_BANDS = 0.6
# How much stronger it is where the probe has no contact and the sound goes to and fro in the gel.
_CLUTTER_IN_GEL = 4.0
# Noise below this amplitude (fat = 1) is not made: it lies under the darkest grey level of any dynamic range.
_INAUDIBLE = 1e-4
# Reflectors are rough: beside their coherent echo they scatter, with this share of its amplitude.
ROUGHNESS = 0.45
# Real and imaginary part have half of the power each.
_QUADRATURE = math.sqrt(0.5)


class Tissues(Protocol):
    """What is scanned: `scene.Scene`, or another that gives rows like it."""

    def rows(self, first: int, last: int) -> SceneRows: ...


def render(
    scene: Tissues,
    contact: np.ndarray,
    acquisition: Acquisition,
    grid: PhantomGrid,
    generator: np.random.Generator,
    out: np.ndarray | None = None,
    block_mm: float = 2.0,
    progress: Callable[[float, str], None] | None = None,
) -> np.ndarray:
    """Scan a phantom.

    Parameters
    ----------
    scene : tissue and lesions.
    contact : float32 (slice, lateral), coupling of the probe, 0 to 1.
    acquisition : the scanner's settings.
    grid : the volume's.
    generator : stream of the scatterers and of the noise.
    out : uint8 (depth, slice, lateral) of any strides to write to; made where None.
    block_mm : how much depth is asked of `scene` at a time; the result does not depend on it.
    progress : called with a fraction (0 to 1) and a message.

    Returns
    -------
    uint8 (depth, slice, lateral).
    """
    if out is None:
        out = np.empty(grid.shape, np.uint8)
    white_db = (1.0 - _FAT_LEVEL) * acquisition.dynamic_range_db - acquisition.gain_db
    table = grey_table(white_db, acquisition.dynamic_range_db, acquisition.grey_curve)
    for row, intensity in enumerate(intensities(scene, contact, acquisition, grid, generator, block_mm)):
        compress(intensity, table, out[row])
        if progress is not None and row % 16 == 15:
            progress((row + 1) / grid.shape[0], "Scanning")
    return out


def intensities(
    scene: Tissues,
    contact: np.ndarray,
    acquisition: Acquisition,
    grid: PhantomGrid,
    generator: np.random.Generator,
    block_mm: float = 2.0,
) -> Iterator[np.ndarray]:
    """Echo intensity (envelope squared; fat at the skin has the mean 1) of each depth row, before compression.

    Parameters are those of `render`. Yields float32 (slice, lateral), overwritten by the next.
    """
    formed = _formed_rows(scene, contact, acquisition, grid, generator, block_mm)
    if acquisition.smoothing > 0.0:
        yield from _smoothed(formed, np.float32(acquisition.smoothing))
    else:
        yield from formed


def look_weights(looks: float) -> tuple[float, ...]:
    """Shares, one an independent image, whose mean of intensities has as much less variance as `looks` says.

    (sum w)^2 / sum w^2 = looks, with the first n - 1 shares equal and the last no greater.

    >>> look_weights(1.0), look_weights(2.0)
    ((1.0,), (0.5, 0.5))
    """
    n = math.ceil(looks - 1e-9)
    if n == 1:
        return (1.0,)
    # Of (n - 1 + w)^2 = looks * (n - 1 + w^2) the root w between 0 and 1.
    m = n - 1.0
    w = (m - math.sqrt(max(m * m - (looks - 1.0) * (looks * m - m * m), 0.0))) / (looks - 1.0)
    total = m + w
    return (*[1.0 / total] * (n - 1), w / total)


class _PointSpread:
    """Taps of the point spread function at each depth row, and how far they reach."""

    def __init__(self, acquisition: Acquisition, grid: PhantomGrid) -> None:
        dx, dy, dz = grid.spacing
        growth = [acquisition.beam_growth(grid.top + (row + 0.5) * dy) for row in range(grid.shape[0])]
        self.axial = gaussian_taps(acquisition.axial_fwhm_mm, dy)
        self.lateral = [gaussian_taps(acquisition.lateral_fwhm_mm * g, dx) for g in growth]
        self.elevational = [gaussian_taps(acquisition.elevational_fwhm_mm * g, dz) for g in growth]
        self.reach = max(map(len, self.elevational)) - 1, max(map(len, self.lateral)) - 1

    def sheet_gain(self, row: int) -> float:
        """What a reflector that is wider than the point spread function gains by it: the product of the taps' sums."""
        return math.prod(
            2.0 * float(t.sum()) - float(t[0]) for t in (self.axial, self.lateral[row], self.elevational[row])
        )


def _formed_rows(
    scene: Tissues,
    contact: np.ndarray,
    acquisition: Acquisition,
    grid: PhantomGrid,
    generator: np.random.Generator,
    block_mm: float,
) -> Iterator[np.ndarray]:
    """Intensity of each row, compounded, without the speckle filter."""
    depth, nz, nx = grid.shape
    point_spread = _PointSpread(acquisition, grid)
    axial = point_spread.axial
    radius = len(axial) - 1
    weights = look_weights(acquisition.looks)
    lines = _Lines(acquisition, grid, point_spread, contact, generator)
    ring = np.empty((2 * radius + 1, len(weights), 2, nz, nx), np.float32)
    total, work = np.empty((2, nz, nx), np.float32), np.empty((2, nz, nx), np.float32)
    result = np.empty((nz, nx), np.float32)

    def formed(row: int) -> np.ndarray:
        for look, weight in enumerate(weights):
            np.multiply(ring[row % len(ring), look], np.float32(axial[0]), out=total)
            for k in range(1, radius + 1):
                np.add(ring[(row - k) % len(ring), look], ring[(row + k) % len(ring), look], out=work)
                np.multiply(work, np.float32(axial[k]), out=work)
                np.add(total, work, out=total)
            np.multiply(total, total, out=total)
            np.add(total[0], total[1], out=work[0])
            if look == 0:
                np.multiply(work[0], np.float32(weight), out=result)
            else:
                np.multiply(work[0], np.float32(weight), out=work[0])
                np.add(result, work[0], out=result)
        return result

    # Rows above the first and below the last are made of the tissue of these, for the axial convolution.
    for row, tissue, amplitude, tgc_db in _insonified(scene, contact, acquisition, grid, block_mm):
        repeats = (radius if row == 0 else 0) + 1 + (radius if row == depth - 1 else 0)
        first = row - (radius if row == 0 else 0)
        echo, specular = tissue
        scattered = specular * np.float32(ROUGHNESS)
        scattered += echo
        for made in range(first, first + repeats):
            for look in range(len(weights)):
                lines.make(row, (scattered, specular), amplitude, tgc_db, ring[made % len(ring), look])
            if made >= radius:
                yield formed(made - radius)


def _insonified(
    scene: Tissues, contact: np.ndarray, acquisition: Acquisition, grid: PhantomGrid, block_mm: float
) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray], np.ndarray, float]]:
    """For each depth row: its index, (echo, specular), the amplitude that attenuation leaves, and the time gain in dB."""
    depth = grid.shape[0]
    transmission = Transmission(acquisition, grid, contact)
    step = transmission.rows_per_step
    block = step * max(1, int(block_mm / grid.spacing[1]) // step)
    nothing = np.zeros(transmission.coarse.shape, np.float32)
    for start in range(0, depth, block):
        rows = scene.rows(start, min(start + block, depth))
        for first in range(start, min(start + block, depth), step):
            inside = range(first - start, min(first + step, depth) - start)
            attenuation = transmission.coarse.down(rows.attenuation[inside[0]])
            extra = nothing if rows.extra_db is None else transmission.coarse.down(rows.extra_db[inside[0]])
            for i in inside[1:]:
                attenuation += transmission.coarse.down(rows.attenuation[i])
                if rows.extra_db is not None:
                    extra += transmission.coarse.down(rows.extra_db[i])
            attenuation *= np.float32(1.0 / len(inside))
            gain = transmission.tgc_db
            background = sum(rows.background[i] for i in inside) / len(inside)
            transmission.advance(attenuation, extra, background, len(inside))
            for k, i in enumerate(inside):
                tgc_db = gain + (transmission.tgc_db - gain) * (k + 0.5) / len(inside)
                yield start + i, (rows.echo[i], rows.specular[i]), transmission.amplitude(k, len(inside)), tgc_db


class _Lines:
    """Makes rows of complex echoes, convolved laterally and elevationally, attenuated, with noise."""

    def __init__(
        self,
        acquisition: Acquisition,
        grid: PhantomGrid,
        point_spread: _PointSpread,
        contact: np.ndarray,
        generator: np.random.Generator,
    ) -> None:
        self._clutter_map = np.float32(1.0 + _CLUTTER_IN_GEL) - np.float32(_CLUTTER_IN_GEL) * contact
        self._acquisition, self._grid, self._point_spread = acquisition, grid, point_spread
        shown_db = (_NOISE_LEVEL - _FAT_LEVEL) * acquisition.dynamic_range_db - acquisition.gain_db
        self._noise_ceiling = 10.0 ** (min(shown_db, _NOISE_CEILING_DB) / 20.0)
        self._scatterers = Scatterers(generator)
        _, nz, nx = grid.shape
        rz, rx = point_spread.reach
        self._wide = np.empty((2, nz + 2 * rz, nx + 2 * rx), np.float32)
        self._narrow, self._narrow_work = (np.empty((2, nz, nx + 2 * rx), np.float32) for _ in range(2))
        self._work = np.empty((2, nz, nx), np.float32)

    def make(
        self, row: int, tissue: tuple[np.ndarray, np.ndarray], amplitude: np.ndarray, tgc_db: float, out: np.ndarray
    ) -> None:
        """One look's echoes of a row of tissue (scatterers, reflectors): float32 (real and imaginary, slice, lateral) in `out`."""
        echo, specular = tissue
        point_spread = self._point_spread
        rz, rx = point_spread.reach
        _, nz, nx = self._grid.shape
        wide = self._wide
        self._scatterers.fill(wide)
        inside = wide[:, rz : rz + nz]
        inside[:, :, rx : rx + nx] *= echo
        if rx:  # beyond the border: scatterers as strong as at the border
            inside[:, :, :rx] *= echo[:, :1]
            inside[:, :, rx + nx :] *= echo[:, -1:]
        if rz:
            for beyond, border in ((wide[:, :rz], echo[:1]), (wide[:, rz + nz :], echo[-1:])):
                beyond[:, :, rx : rx + nx] *= border
                if rx:
                    beyond[:, :, :rx] *= border[:, :1]
                    beyond[:, :, rx + nx :] *= border[:, -1:]
        # Their coherent echo: in the real part alone, and a wide one comes out as strong as it is given.
        scale = np.float32(1.0 / (_QUADRATURE * point_spread.sheet_gain(row)))
        np.multiply(specular, scale, out=self._work[0])
        inside[0, :, rx : rx + nx] += self._work[0]
        elevational = point_spread.elevational[row] * _QUADRATURE
        convolve(wide, elevational, 1, self._narrow, self._narrow_work)
        convolve(self._narrow, point_spread.lateral[row], 2, out, self._work)
        noise, ceiling = self._noise(tgc_db)
        clutter = self._clutter(row)
        if ceiling < 1.0:
            amplitude = amplitude * np.float32(ceiling)
        out *= amplitude
        if clutter > _INAUDIBLE:
            self._scatterers.fill(self._work)
            self._work *= self._clutter_map * np.float32(clutter * _QUADRATURE) + np.float32(noise * _QUADRATURE)
            out += self._work
        elif noise > _INAUDIBLE:
            self._scatterers.fill(self._work)
            self._work *= np.float32(noise * _QUADRATURE)
            out += self._work

    def _noise(self, tgc_db: float) -> tuple[float, float]:
        """Amplitude of electronic noise (fat at the skin = 1), and the factor by which the time gain is held back."""
        electronic = 10.0 ** ((self._acquisition.noise_db + tgc_db) / 20.0)
        ceiling = (1.0 + (electronic / self._noise_ceiling) ** 4) ** -0.25  # bends into the limit, no corner
        # Rounded, as the last bit of these functions depends on the machine.
        return round(electronic * ceiling, 7), round(ceiling, 7)

    def _clutter(self, row: int) -> float:
        """Amplitude of the clutter at a row where there is contact."""
        scan = self._acquisition
        depth = self._grid.top + (row + 0.5) * self._grid.spacing[1]
        bands = 1.0 + _CLUTTER_BANDS * math.cos(2.0 * math.pi * depth / scan.reverberation_mm)
        return round(10.0 ** ((scan.clutter_db - _CLUTTER_FADE_DB_MM * depth) / 20.0) * bands, 7)


def _smoothed(rows: Iterator[np.ndarray], weight: np.float32) -> Iterator[np.ndarray]:
    """The speckle filter: every neighbour, lateral and in depth, counts `weight` of a voxel."""
    before = here = None
    for after in rows:
        after = _smoothed_laterally(after, weight)
        if here is not None:
            yield _mix(before if before is not None else here, here, after, weight)
        before, here = here, after
    yield _mix(before if before is not None else here, here, here, weight)


def _smoothed_laterally(row: np.ndarray, weight: np.float32) -> np.ndarray:
    result = row * (np.float32(1.0) - weight - weight)
    neighbours = row * weight
    result[:, 1:] += neighbours[:, :-1]
    result[:, :-1] += neighbours[:, 1:]
    result[:, 0] += neighbours[:, 0]
    result[:, -1] += neighbours[:, -1]
    return result


def _mix(before: np.ndarray, here: np.ndarray, after: np.ndarray, weight: np.float32) -> np.ndarray:
    result = before + after
    result *= weight
    result += here * (np.float32(1.0) - weight - weight)
    return result
