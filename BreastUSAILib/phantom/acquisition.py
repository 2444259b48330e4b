"""How a phantom is scanned: frequency, beam widths, gain, compounding, display. Drawn anew for each volume."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from ..errors import PhantomError

# Smallest and largest value of each setting: physics (issue 3) and what the two scanners' menus offer.
LIMITS: dict[str, tuple[float, float]] = {
    "frequency_mhz": (4.0, 20.0),
    "bandwidth": (0.0, 1.0),
    "gain_db": (-20.0, 20.0),
    "dynamic_range_db": (30.0, 90.0),
    "grey_curve": (0.5, 2.0),
    "noise_db": (-200.0, -10.0),
    "clutter_db": (-200.0, 0.0),
    "reverberation_mm": (0.5, 10.0),
    "looks": (1.0, 3.0),
    "smoothing": (0.0, 1 / 3),
    "axial_fwhm_mm": (0.05, 2.0),
    "lateral_fwhm_mm": (0.05, 4.0),
    "elevational_fwhm_mm": (0.05, 6.0),
    "focus_mm": (2.0, 80.0),
    "depth_of_focus_mm": (2.0, 1000.0),
    "tgc_db_cm_mhz": (0.0, 2.0),
    "aperture": (0.0, 0.4),
    "divergence": (-0.3, 0.3),
    "tilt_x": (-0.2, 0.2),
    "tilt_z": (-0.2, 0.2),
}


@dataclass(frozen=True)
class Acquisition:
    """Settings of a scan. Every field is a number that `spec.PhantomSpec.acquisition` may set; `LIMITS` holds the ranges.

    Attributes
    ----------
    frequency_mhz : centre frequency at the skin.
    bandwidth : -6 dB bandwidth of the echo as a share of the frequency; with it the centre frequency falls with depth.
    gain_db : how much brighter than mid-grey fat is shown; 0: fat's mean at 42 % of the dynamic range.
    dynamic_range_db : black to white.
    grey_curve : exponent of the grey map after log compression.
    noise_db : electronic noise against the echo of fat at the skin (amplitude); the time gain raises it with depth.
    clutter_db : near-field clutter (reverberation between probe, membrane and skin) at the skin, against fat.
    reverberation_mm : distance between its bands.
    looks : effective number of independent images that compounding averages, 1 to 3.
    smoothing : weight of each neighbour (lateral and in depth) in the scanner's speckle filter.
    axial_fwhm_mm, lateral_fwhm_mm, elevational_fwhm_mm : full widths at half maximum of the point spread function's
        amplitude, at the focus.
    focus_mm, depth_of_focus_mm : lateral and elevational widths grow by sqrt(2) at depth_of_focus_mm from focus_mm.
    tgc_db_cm_mhz : one-way attenuation for which the time gain is set by hand: half of the curve; the scanner's own
        estimate is the other half.
    aperture : tangent of the widest beam's angle to the depth axis (half the aperture over the depth, and steering).
    divergence : tangent of the lines' angle at the volume's lateral borders (curved probes; negative: converging).
    tilt_x, tilt_z : tangent of the whole scan's tilt along x and z.
    """

    frequency_mhz: float = 10.0
    bandwidth: float = 0.6
    gain_db: float = 0.0
    dynamic_range_db: float = 60.0
    grey_curve: float = 1.0
    noise_db: float = -60.0
    clutter_db: float = -24.0
    reverberation_mm: float = 1.8
    looks: float = 1.5
    smoothing: float = 0.05
    axial_fwhm_mm: float = 0.25
    lateral_fwhm_mm: float = 0.7
    elevational_fwhm_mm: float = 1.4
    focus_mm: float = 20.0
    depth_of_focus_mm: float = 25.0
    tgc_db_cm_mhz: float = 0.75
    aperture: float = 0.15
    divergence: float = 0.0
    tilt_x: float = 0.0
    tilt_z: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            low, high = LIMITS[field.name]
            value = getattr(self, field.name)
            if not (isinstance(value, int | float | np.number) and math.isfinite(value) and low <= value <= high):
                raise PhantomError(
                    f"The acquisition's {field.name} is {value!r}; it must be a number from {low:g} to {high:g}."
                )
            object.__setattr__(self, field.name, float(value))

    def beam_growth(self, depth_mm: float) -> float:
        """How much wider than at the focus the beam is at a depth (Gaussian beam), 1 or more."""
        return math.sqrt(1.0 + ((depth_mm - self.focus_mm) / self.depth_of_focus_mm) ** 2)

    def effective_frequency(self, depth_mm: float) -> float:
        """Centre frequency in MHz of the echo from a depth.

        Attenuation that grows with frequency moves a Gaussian spectrum of standard deviation s down by 2 z a s^2 on the
        way there and back (a in Np/cm/MHz; Kuc, Ultrasonic Imaging 1984); here for tissue of 0.73 dB/cm/MHz. It stops at
        half of the frequency, where receive filters do.
        """
        deviation = self.bandwidth * self.frequency_mhz / 2.355
        shift = 2.0 * (depth_mm / 10.0) * (0.73 / 8.686) * deviation**2
        return max(self.frequency_mhz - shift, self.frequency_mhz / 2.0)


def draw_handheld(generator: np.random.Generator, overrides: Mapping[str, float] | None = None) -> Acquisition:
    """Settings of a hand-held linear probe: finer beams, spatial compounding, stronger speckle reduction.

    Parameters and errors are those of `draw_acquisition`.
    """
    scan = draw_acquisition(generator)
    finer = {
        "axial_fwhm_mm": generator.uniform(0.14, 0.26),
        "lateral_fwhm_mm": generator.uniform(0.28, 0.55),
        "elevational_fwhm_mm": generator.uniform(0.8, 1.5),
        "looks": generator.uniform(1.3, 3.0),
        "aperture": generator.uniform(0.08, 0.25),
        "divergence": generator.uniform(-0.02, 0.06),
        "smoothing": generator.uniform(0.0, 0.3),
    }
    return _replaced(replace(scan, **finer), overrides)


def draw_acquisition(generator: np.random.Generator, overrides: Mapping[str, float] | None = None) -> Acquisition:
    """Settings as they vary between scanners, operators and patients.

    Parameters
    ----------
    generator : the stream; as many numbers are taken from it whatever is overridden.
    overrides : field of `Acquisition` -> value instead of the drawn one.

    Raises
    ------
    PhantomError : an unknown field, or a value out of its range.
    """
    frequency = generator.uniform(8.0, 14.0)
    # The depth at which noise would reach the echo of fat: what limits an ABUS scan; shallower at higher frequency.
    penetration_mm = generator.uniform(55.0, 85.0) * (10.0 / frequency) ** 0.5
    drawn = Acquisition(
        frequency_mhz=frequency,
        bandwidth=generator.uniform(0.5, 0.7),
        gain_db=generator.uniform(-4.0, 5.0),
        dynamic_range_db=generator.uniform(50.0, 75.0),
        grey_curve=generator.uniform(0.9, 1.3),
        clutter_db=generator.uniform(-34.0, -18.0),
        reverberation_mm=generator.uniform(1.3, 2.6),
        looks=generator.uniform(1.0, 2.6),
        smoothing=generator.uniform(0.0, 0.2),
        axial_fwhm_mm=generator.uniform(0.2, 0.3),
        lateral_fwhm_mm=generator.uniform(0.5, 0.8),
        elevational_fwhm_mm=generator.uniform(1.0, 1.6),
        focus_mm=generator.uniform(12.0, 28.0),
        depth_of_focus_mm=generator.uniform(22.0, 40.0),
        tgc_db_cm_mhz=generator.uniform(0.6, 0.9),
        aperture=generator.uniform(0.12, 0.27),
        divergence=generator.uniform(-0.12, 0.12),
        tilt_x=generator.uniform(-0.05, 0.05),
        tilt_z=generator.uniform(-0.05, 0.05),
    )
    loss = sum(2.0 * 0.73 * drawn.effective_frequency(depth + 0.5) * 0.1 for depth in range(int(penetration_mm)))
    drawn = replace(drawn, noise_db=max(-loss, LIMITS["noise_db"][0]))
    return _replaced(drawn, overrides)


def _replaced(drawn: Acquisition, overrides: Mapping[str, float] | None) -> Acquisition:
    unknown = sorted(set(overrides or ()) - set(LIMITS))
    if unknown:
        raise PhantomError(f"{', '.join(unknown)}: no such setting of an acquisition; there are {', '.join(LIMITS)}.")
    return replace(drawn, **(overrides or {}))
