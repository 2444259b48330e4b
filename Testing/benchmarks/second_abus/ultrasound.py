"""From tissue to grey levels: transmission, fully developed speckle, electronic noise, envelope, compounding, log compression.

Scatterers are a complex Gaussian field weighted with the tissue's amplitude and convolved with a Gaussian pulse-echo response, narrow along depth, wider
along the array and widest across it, away from the focus more so (Wagner et al. 1983, Statistics of speckle in ultrasound B-scans). The carrier
does not show in the envelope of an analytic signal and is left out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from .noise import smooth_noise
from .tissue import Tissue

_FWHM = 2.3548


@dataclass(frozen=True)
class Scanner:
    """Settings of one acquisition. Lengths mm, levels dB relative to gland.

    Attributes
    ----------
    axial, lateral, elevational : full width at half maximum of the response at the focus.
    focus, focal_depth : depth of the focus, and the distance from it at which the response is wider by sqrt(2).
    looks : independent images that are averaged (spatial compounding, and the averaging of a finer grid to this one).
    noise, noise_slope : level of the electronic noise at the skin, and its rise with depth, dB per mm.
    clutter : level of the haze below the skin; it decays over `clutter_mm`.
    tgc : error of the depth compensation, dB from the surface to the deepest voxel; `tgc_bow` that half way.
    dynamic_range, white : of the display, and the level that is shown white.
    gamma : of the grey map.
    smoothing : standard deviation of the filter behind the display, mm along lateral and depth.
    slice_gain : random changes of gain from slice to slice, dB.
    patches : slow changes of gain over the field, dB (pressure, coupling).
    """

    axial: float
    lateral: float
    elevational: float
    focus: float
    focal_depth: float
    looks: int
    noise: float
    noise_slope: float
    clutter: float
    clutter_mm: float
    tgc: float
    tgc_bow: float
    dynamic_range: float
    white: float
    gamma: float
    smoothing: float
    slice_gain: float
    patches: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def draw_scanner(random: np.random.Generator, depth_mm: float) -> Scanner:
    return Scanner(
        axial=random.uniform(0.3, 0.75),
        lateral=random.uniform(0.5, 1.15),
        elevational=random.uniform(0.9, 1.9),
        focus=depth_mm * random.uniform(0.3, 0.65),
        focal_depth=random.uniform(14.0, 30.0),
        looks=int(random.choice((1, 2, 3), p=(0.3, 0.4, 0.3))),
        noise=random.uniform(-48.0, -36.0),
        noise_slope=random.uniform(0.1, 0.5),
        clutter=random.uniform(-34.0, -20.0),
        clutter_mm=random.uniform(3.0, 9.0),
        tgc=random.normal(0, 4.0),
        tgc_bow=random.normal(0, 2.0),
        dynamic_range=random.uniform(50.0, 65.0),
        white=random.uniform(15.0, 27.0),
        gamma=random.uniform(0.85, 1.2),
        smoothing=max(random.uniform(-0.2, 0.45), 0.0),
        slice_gain=random.uniform(0.0, 0.4),
        patches=random.uniform(0.2, 1.6),
    )


def transmission(random: np.random.Generator, tissue: Tissue, spacing: tuple[float, float, float]) -> np.ndarray:
    """Level change by what lies above each voxel, dB (depth, slice, lateral).

    The aperture looks past small obstacles, so shadows are wiped out over a width that grows with the distance below what casts them; here it is that of
    the depth alone. Where the transducer has no contact, next to nothing gets in.
    """
    from scipy.ndimage import gaussian_filter

    total = np.zeros(tissue.level.shape[1:], np.float32)
    through = np.empty_like(tissue.level)
    step = spacing[0]
    aperture = random.uniform(0.8, 2.0)  # mm of blur after 40 mm
    lost = 60 * (1 - tissue.contact)
    for row, loss in enumerate(tissue.loss):
        total += loss * np.float32(0.5 * step)
        # Blur adds up as a random walk does; steps of eight rows are wide enough for a sampled Gaussian.
        if row % 8 == 7:
            sigma = aperture * np.sqrt(8 * step / 40)
            total = gaussian_filter(total, [sigma / s for s in spacing[1:]], mode="nearest", truncate=3.0)
        deep = min((row + 0.5) * step / 2.5, 1.0)
        through[row] = -total - np.float32(deep) * lost
        total += loss * np.float32(0.5 * step)
    return np.clip(through, -60, 12)


def scan(
    random: np.random.Generator, tissue: Tissue, scanner: Scanner, spacing: tuple[float, float, float]
) -> np.ndarray:
    """Grey levels, uint8 (depth, slice, lateral)."""
    from scipy.ndimage import gaussian_filter1d

    shape = tissue.level.shape
    depth = (np.arange(shape[0], dtype=np.float32) + 0.5) * np.float32(spacing[0])
    column = depth[:, None, None]
    through = transmission(random, tissue, spacing)
    amplitude = np.exp((tissue.level + through) * np.float32(np.log(10) / 20))
    coherent = tissue.specular * np.exp(through * np.float32(np.log(10) / 20))
    amplitude += np.float32(10 ** (scanner.clutter / 20)) * np.exp(-column / np.float32(scanner.clutter_mm))
    coherent += _reverberation(random, tissue, column)
    noise = 10 ** ((scanner.noise + scanner.noise_slope * depth) / 20)
    del through

    power = np.zeros(shape, np.float32)
    for _ in range(scanner.looks):
        for real in (True, False):
            echo = _response(random.standard_normal(shape, dtype=np.float32) * amplitude, scanner, spacing, depth)
            echo *= np.float32(np.sqrt(0.5))
            if real:
                echo += coherent
            for row in range(shape[0]):
                echo[row] += np.float32(noise[row] * np.sqrt(0.5)) * random.standard_normal(shape[1:], dtype=np.float32)
            power += np.square(echo)
    power /= scanner.looks
    level = 10 * np.log10(power + np.float32(1e-8))
    del power, echo, amplitude, coherent

    t = column / depth[-1]
    level += np.float32(scanner.tgc) * (t - 0.35) + np.float32(4 * scanner.tgc_bow) * t * (1 - t)
    level += np.float32(scanner.slice_gain) * random.standard_normal((1, shape[1], 1), dtype=np.float32)
    level += np.float32(scanner.patches) * smooth_noise(random, shape[1:], [30.0 / s for s in spacing[1:]])
    shown = np.clip(1 + (level - np.float32(scanner.white)) / np.float32(scanner.dynamic_range), 0, 1)
    if scanner.smoothing > 0:
        for axis in (0, 2):
            shown = gaussian_filter1d(shown, scanner.smoothing / spacing[axis], axis, mode="nearest")
    return np.rint(255 * shown ** np.float32(scanner.gamma)).astype(np.uint8)


def _response(
    field: np.ndarray, scanner: Scanner, spacing: tuple[float, float, float], depth: np.ndarray
) -> np.ndarray:
    """The field convolved with the pulse-echo response, kernels of unit energy, so that white noise keeps its variance."""
    from scipy.ndimage import correlate1d

    def kernel(fwhm: float, step: float) -> np.ndarray:
        sigma = max(fwhm / _FWHM / step, 0.05)
        place = np.arange(-int(np.ceil(2.6 * sigma)), int(np.ceil(2.6 * sigma)) + 1)
        values = np.exp(-0.5 * np.square(place / sigma))
        return values / np.sqrt(np.square(values).sum())

    field = correlate1d(field, kernel(scanner.axial, spacing[0]), 0, mode="nearest")
    for row, y in enumerate(depth):
        wider = float(np.sqrt(1 + ((y - scanner.focus) / scanner.focal_depth) ** 2))
        plane = correlate1d(field[row], kernel(scanner.elevational * wider, spacing[1]), 0, mode="nearest")
        field[row] = correlate1d(plane, kernel(scanner.lateral * wider, spacing[2]), 1, mode="nearest")
    return field


def _reverberation(random: np.random.Generator, tissue: Tissue, column: np.ndarray) -> np.ndarray:
    """Amplitude of the bright bands that the membrane makes where no skin takes the sound."""
    period, decay = random.uniform(1.2, 2.6), random.uniform(1.2, 3.0)
    bands = np.square(np.cos(np.float32(np.pi / period) * column)) * np.exp(-column / np.float32(decay))
    return np.float32(random.uniform(0.8, 2.0)) * bands * (1 - tissue.contact)
