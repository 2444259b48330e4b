"""Attenuation along the beams: what the sound has lost when its echo from a voxel returns, against the time gain.

A scan line is formed from a cone of directions (the aperture) and, with compounding, from lines steered to both sides;
curved probes spread their lines. So each point is reached by several beams, and what it returns is the mean of their
amplitudes: behind an absorber the full shadow narrows with depth and half-shadow spreads to both sides, the shadows of a
volume's borders lean, and none is strictly vertical.

Amplitudes are kept on a lateral grid of about 0.8 mm, coarser than the voxels, as shadows are soft, and advance by about
half a millimetre a step: each beam's map is shifted by its slope (first order upwind, whose smoothing stands for the widening
of the beam) and multiplied with the step's loss. Only + - * / in float32: the same on every machine.
"""

from __future__ import annotations

import math

import numpy as np

from .acquisition import Acquisition
from .grids import PhantomGrid

_BEAMS = 7
_COARSE_MM = 0.8
_STEP_MM = 0.5
# Attenuation (dB/cm/MHz) above which a voxel does not count for the time gain: ribs, lung and the nipple are no soft tissue, and
# count as if they were usual tissue.
_TISSUE_LIMIT, _USUAL_TISSUE = np.float32(1.6), np.float32(0.8)
# The scanner's time gain follows the mean attenuation over about this depth.
_TGC_MEMORY_MM = 6.0
# The elevational aperture as a share of the lateral one.
_ELEVATIONAL_APERTURE = 0.5


def exponential(x: np.ndarray) -> np.ndarray:
    """exp(x) in float32 from additions, multiplications and one division alone; relative error below 1e-4 for |x| up to 5, 1e-3 up to 8.

    Pade approximant of exp(x / 16), squared four times.
    """
    h = x * np.float32(1.0 / 16.0)
    even = h * h
    even *= np.float32(1.0 / 12.0)
    even += np.float32(1.0)
    h *= np.float32(0.5)
    result = (even + h) / (even - h)
    for _ in range(4):
        result *= result
    return result


class CoarseGrid:
    """Lateral maps (slice, lateral) on blocks of voxels, and the way there and back.

    Attributes
    ----------
    factor : voxels to a block along slice and lateral.
    shape : blocks along slice and lateral; the last ones may reach over the border.
    """

    def __init__(self, shape: tuple[int, int], factor: tuple[int, int]) -> None:
        self.fine, self.factor = shape, factor
        self.shape = tuple(-(-n // f) for n, f in zip(shape, factor, strict=True))
        self._padded = np.empty([n * f for n, f in zip(self.shape, factor, strict=True)], np.float32)
        self._lower, self._upper, self._share = zip(*(self._weights(axis) for axis in (0, 1)), strict=True)

    def _weights(self, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        factor, last = self.factor[axis], self.shape[axis] - 1
        position = np.clip((np.arange(self.fine[axis]) + 0.5) / factor - 0.5, 0.0, last)
        lower = np.minimum(position.astype(np.intp), max(last - 1, 0))
        return lower, np.minimum(lower + 1, last), (position - lower).astype(np.float32)

    def down(self, fine: np.ndarray) -> np.ndarray:
        """Block means, float32; blocks over the border take the outermost voxel again."""
        (nz, nx), (fz, fx), padded = self.fine, self.factor, self._padded
        padded[:nz, :nx] = fine
        padded[:nz, nx:] = padded[:nz, nx - 1 : nx]
        padded[nz:] = padded[nz - 1]
        rows = padded[::fz].copy()
        for k in range(1, fz):
            rows += padded[k::fz]
        result = rows[:, ::fx].copy()
        for k in range(1, fx):
            result += rows[:, k::fx]
        result *= np.float32(1.0 / (fz * fx))
        return result

    def greatest(self, fine: np.ndarray) -> np.ndarray:
        """The blocks' greatest values, float32."""
        starts = [np.arange(0, n, f) for n, f in zip(self.fine, self.factor, strict=True)]
        return np.maximum.reduceat(np.maximum.reduceat(fine, starts[0], axis=0), starts[1], axis=1)

    def up(self, coarse: np.ndarray) -> np.ndarray:
        """Linear interpolation between the blocks' middles, float32 (slice, lateral) of the voxels."""
        result = coarse
        for axis in (1, 0):
            if self.factor[axis] > 1:
                lower = np.take(result, self._lower[axis], axis=axis)
                upper = np.take(result, self._upper[axis], axis=axis)
                upper -= lower
                upper *= self._share[axis] if axis == 1 else self._share[axis][:, None]
                lower += upper
                result = lower
        return result


class Transmission:
    """Amplitude that is left of the echo, as depth advances.

    Attributes
    ----------
    rows_per_step : depth rows that one step covers.
    coarse : the grid of the maps.
    tgc_db : the time gain so far, dB.

    Parameters
    ----------
    acquisition : frequency, beams, time gain.
    grid : the volume's.
    contact : float32 (slice, lateral), coupling of the probe, 0 to 1.
    """

    def __init__(self, acquisition: Acquisition, grid: PhantomGrid, contact: np.ndarray) -> None:
        self._acquisition = acquisition
        dx, dy, dz = grid.spacing
        self.rows_per_step = max(1, int(_STEP_MM / dy))
        step_mm = self.rows_per_step * dy
        steepest = acquisition.aperture + abs(acquisition.divergence) + 0.2
        coarse_mm = [max(min(_COARSE_MM, 4.0 * s), steepest * step_mm) for s in (dz, dx)]
        self.coarse = CoarseGrid(
            grid.shape[1:], tuple(max(1, int(c / s + 1e-6)) for c, s in zip(coarse_mm, (dz, dx), strict=True))
        )
        self._row_mm, self._depth_mm = dy, grid.top
        self.tgc_db = self._loss_rate(0.0) * acquisition.tgc_db_cm_mhz * grid.top
        self._tissue = acquisition.tgc_db_cm_mhz
        self._shifts = self._beam_shifts(grid, step_mm)
        # Directions near the axis carry more of the aperture: the middle beam twice the weight of the outermost.
        weights = 2.0 - np.abs(np.linspace(-1.0, 1.0, _BEAMS))
        self._weights = (weights / weights.sum()).astype(np.float32)
        start = self.coarse.down(contact)
        self._beams = [start.copy() for _ in range(_BEAMS)]
        self.before = self.after = self._mean()

    def _loss_rate(self, depth_mm: float) -> float:
        """dB a mm, there and back, for 1 dB/cm/MHz."""
        return 0.2 * self._acquisition.effective_frequency(depth_mm)

    def _beam_shifts(self, grid: PhantomGrid, step_mm: float) -> list[tuple[np.ndarray, ...]]:
        """For each beam the upwind weights of the lower and upper neighbour along x (one a column) and along z."""
        scan, (fz, fx) = self._acquisition, self.coarse.factor
        middle = (np.arange(self.coarse.shape[1]) + 0.5) / self.coarse.shape[1] * 2.0 - 1.0
        shifts = []
        for share in np.linspace(-1.0, 1.0, _BEAMS):
            # The elevational aperture is smaller: the fan of directions lies more in the image plane than across it.
            slope_x = scan.aperture * share + scan.divergence * middle + scan.tilt_x
            slope_z = _ELEVATIONAL_APERTURE * scan.aperture * (1.0 - 2.0 * abs(share)) + scan.tilt_z
            cells_x = slope_x * step_mm / (fx * grid.spacing[0])
            cells_z = slope_z * step_mm / (fz * grid.spacing[2])
            shifts.append(tuple(np.float32(np.maximum(v, 0.0)) for v in (cells_x, -cells_x, cells_z, -cells_z)))
        return shifts

    def advance(self, attenuation: np.ndarray, extra_db: np.ndarray, background: float, rows: int) -> None:
        """Go on by one step: `before` and `after` are then the amplitudes at its upper and lower face.

        Parameters
        ----------
        attenuation : float32 on the coarse grid, dB/cm/MHz, mean over the step.
        extra_db : float32 on the coarse grid: losses of another kind within the step, dB.
        background : mean attenuation of the tissue in the step, for the time gain.
        rows : how many depth rows the step has; `rows_per_step` but for the last.
        """
        thickness = rows * self._row_mm
        rate = self._loss_rate(self._depth_mm + thickness / 2.0) * thickness
        memory = math.exp(-thickness / _TGC_MEMORY_MM)
        self._tissue = memory * self._tissue + (1.0 - memory) * background
        gain = rate * (0.5 * self._tissue + 0.5 * self._acquisition.tgc_db_cm_mhz)
        to_nepers = math.log(10.0) / 20.0
        exponent = attenuation * np.float32(-rate * to_nepers)
        exponent -= extra_db * np.float32(to_nepers)
        exponent += np.float32(gain * to_nepers)
        factor = exponential(np.clip(exponent, np.float32(-8.0), np.float32(8.0)))
        share = np.float32(rows / self.rows_per_step)
        for i, (right, left, down, up) in enumerate(self._shifts):
            moved = _shift(_shift(self._beams[i], right * share, left * share, 1), down * share, up * share, 0)
            moved *= factor
            self._beams[i] = moved
        self.tgc_db += gain
        self._depth_mm += thickness
        self.before, self.after = self.after, self._mean()

    def _mean(self) -> np.ndarray:
        mean = self._beams[0] * self._weights[0]
        for weight, beam in zip(self._weights[1:], self._beams[1:], strict=True):
            mean += beam * weight
        return mean

    def amplitude(self, row: int, rows: int) -> np.ndarray:
        """Amplitude at the middle of a depth row of the latest step, float32 (slice, lateral) of the voxels."""
        share = np.float32((row + 0.5) / rows)
        return self.coarse.up(self.before + (self.after - self.before) * share)


def _shift(beam: np.ndarray, from_lower: np.ndarray, from_upper: np.ndarray, axis: int) -> np.ndarray:
    """Move a map by less than a cell along an axis; what enters at the border is the border's own value."""
    if not np.any(from_lower) and not np.any(from_upper):
        return beam
    stay = np.float32(1.0) - from_lower - from_upper
    moved = beam * stay
    if axis == 1:
        moved[:, 1:] += beam[:, :-1] * from_lower[1:]
        moved[:, :1] += beam[:, :1] * from_lower[:1]
        moved[:, :-1] += beam[:, 1:] * from_upper[:-1]
        moved[:, -1:] += beam[:, -1:] * from_upper[-1:]
    else:
        moved[1:] += beam[:-1] * from_lower
        moved[:1] += beam[:1] * from_lower
        moved[:-1] += beam[1:] * from_upper
        moved[-1:] += beam[-1:] * from_upper
    return moved


def tissue_attenuation(attenuation: np.ndarray) -> float:
    """Mean attenuation of a sample of soft tissue's voxels, dB/cm/MHz, rounded so that the order of summation is no matter."""
    sample = attenuation[..., ::8, ::8]
    sample = np.where(sample > _TISSUE_LIMIT, _USUAL_TISSUE, sample)
    return round(float(np.mean(sample, dtype=np.float64)), 5)
