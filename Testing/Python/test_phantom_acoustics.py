"""The phantom's acoustics against theory and hand-worked figures, on simple tissue."""

from __future__ import annotations

import hashlib
import math
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantom_standins import FAT_ATTENUATION, Uniform

from BreastUSAILib.errors import PhantomError
from BreastUSAILib.phantom.acoustics import ROUGHNESS, intensities, look_weights, render
from BreastUSAILib.phantom.acquisition import LIMITS, Acquisition, draw_acquisition, draw_handheld
from BreastUSAILib.phantom.compression import compress, grey_table
from BreastUSAILib.phantom.grids import PhantomGrid
from BreastUSAILib.phantom.randomness import Stream, open_stream
from BreastUSAILib.phantom.speckle import Scatterers, gaussian_taps
from BreastUSAILib.phantom.transmission import CoarseGrid, exponential

FINE = PhantomGrid((200, 80, 60), (0.2, 0.15, 0.4), top=15.0, whole=False)
COARSE = PhantomGrid((96, 60, 96), (0.5, 0.5, 0.5), top=5.0, whole=False)
QUIET = dict(looks=1.0, smoothing=0.0, noise_db=-200.0, clutter_db=-200.0)


def scan(tissue: Uniform, grid: PhantomGrid, block_mm: float = 4.0, **settings_) -> np.ndarray:
    """Intensities (depth, slice, lateral) of a scan without noise, one look."""
    contact = np.ones(grid.shape[1:], np.float32)
    rows = intensities(
        tissue, contact, Acquisition(**{**QUIET, **settings_}), grid, open_stream(5, Stream.SPECKLE), block_mm
    )
    return np.stack([row.copy() for row in rows])


def decibels(intensity: np.ndarray) -> float:
    return 10.0 * math.log10(float(intensity.mean(dtype=np.float64)))


@pytest.fixture(scope="module")
def homogeneous() -> np.ndarray:
    return scan(Uniform(FINE, attenuation=0.75), FINE, tgc_db_cm_mhz=0.75)


def test_speckle_is_fully_developed(homogeneous):
    envelope = np.sqrt(homogeneous.astype(np.float64))
    assert 1.85 < envelope.mean() / envelope.std() < 1.97  # Rayleigh: 1.913 (Wagner 1983)
    assert homogeneous.mean() == pytest.approx(1.0, abs=0.05)
    # An exponential distribution's 90th percentile is ln 10 means, its median ln 2.
    assert np.quantile(homogeneous, 0.9) == pytest.approx(math.log(10), rel=0.05)
    assert np.median(homogeneous) == pytest.approx(math.log(2), rel=0.05)


def test_single_scatterers_are_close_to_normal():
    values = np.empty((100, 1000), np.float32)
    Scatterers(open_stream(1, Stream.SPECKLE)).fill(values)
    assert abs(values.mean()) < 0.02 and values.std() == pytest.approx(1.0, abs=0.01)
    assert (values.astype(np.float64) ** 4).mean() == pytest.approx(3.0, abs=0.06)


@pytest.mark.parametrize(("axis", "name", "asked"), [(0, "axial", 0.3), (1, "elevational", 1.6), (2, "lateral", 0.8)])
def test_width_of_the_point_spread_function(axis, name, asked):
    """The autocovariance of the intensity of speckle has the full width at half maximum of the amplitude of a Gaussian PSF."""
    grid = PhantomGrid((160, 160, 40), (0.1, 0.06, 0.25), top=20.0, whole=False)
    flat = dict(depth_of_focus_mm=1000.0, tgc_db_cm_mhz=0.75)
    field = scan(Uniform(grid, attenuation=0.75), grid, **{f"{name}_fwhm_mm": asked}, **flat)
    field -= field.mean()
    n = field.shape[axis]
    covariance = [
        float((np.take(field, range(n - k), axis) * np.take(field, range(k, n), axis)).mean()) for k in range(16)
    ]
    ratio = np.array(covariance) / covariance[0]
    k = int(np.argmax(ratio < 0.5))
    spacing = (grid.spacing[1], grid.spacing[2], grid.spacing[0])[axis]
    width = 2.0 * spacing * (k - 1 + (ratio[k - 1] - 0.5) / (ratio[k - 1] - ratio[k]))
    assert width == pytest.approx(asked, rel=0.12)


def test_beam_widens_away_from_the_focus():
    wide = Acquisition(focus_mm=20.0, depth_of_focus_mm=10.0)
    assert wide.beam_growth(20.0) == 1.0
    assert wide.beam_growth(30.0) == wide.beam_growth(10.0) == pytest.approx(math.sqrt(2.0))


def test_voxels_larger_than_the_point_spread_function_are_independent():
    assert gaussian_taps(0.25, 0.5).tolist() == [1.0]


@given(st.floats(0.05, 4.0), st.floats(0.05, 1.0))
def test_kernels_keep_the_power(fwhm, spacing):
    taps = gaussian_taps(fwhm, spacing)
    assert taps[0] ** 2 + 2 * (taps[1:] ** 2).sum() == pytest.approx(1.0)


def test_attenuation_in_decibels():
    """1.23 against a time gain for 0.73 dB/cm/MHz at 10 MHz: 2 * 0.5 * 10 = 10 dB/cm, of which the scanner's half sees half."""
    by_hand = scan(Uniform(COARSE, attenuation=1.23), COARSE, bandwidth=0.0, tgc_db_cm_mhz=0.73)
    slope = (decibels(by_hand[50:60]) - decibels(by_hand[30:40])) / 1.0
    assert slope == pytest.approx(-5.0, abs=0.35)
    level = [
        decibels(scan(Uniform(COARSE, attenuation=0.73), COARSE, tgc_db_cm_mhz=0.73)[rows])
        for rows in (slice(9), slice(-9, None))
    ]
    assert level == pytest.approx([0.0, 0.0], abs=0.3)


def test_frequency_falls_with_depth():
    # sigma = 0.6 * 10 / 2.355 = 2.548 MHz; 2 * 2 cm * 0.08404 Np/cm/MHz * 6.491 MHz^2 = 2.18 MHz.
    assert Acquisition(frequency_mhz=10.0, bandwidth=0.6).effective_frequency(20.0) == pytest.approx(7.82, abs=0.01)
    assert Acquisition(frequency_mhz=10.0, bandwidth=0.6).effective_frequency(60.0) == 5.0


INCLUSION = (slice(10, 26), slice(0, 96), slice(38, 58))  # 8 mm deep, 10 mm wide, through all slices


@pytest.mark.parametrize(("attenuation", "sign"), [(0.1, 1), (2.5, -1)])
def test_enhancement_and_shadow(attenuation, sign):
    field = scan(
        Uniform(COARSE, box=INCLUSION, box_attenuation=attenuation),
        COARSE,
        bandwidth=0.0,
        tgc_db_cm_mhz=FAT_ATTENUATION,
    )
    below, beside = field[28:34, :, 44:52], field[28:34, :, :20]
    difference = decibels(below) - decibels(beside)
    # Straight through 8 mm at 10 MHz: 2 * 10 * 0.8 * (0.73 - a) dB; other beams of the cone miss a part of it.
    straight = 16.0 * (FAT_ATTENUATION - attenuation)
    assert 0.55 * abs(straight) < sign * difference < abs(straight) + 0.5


def test_shadows_fan_out_and_fill_with_depth():
    field = scan(
        Uniform(COARSE, box=INCLUSION, box_attenuation=3.0), COARSE, tgc_db_cm_mhz=FAT_ATTENUATION, aperture=0.2
    )
    profile = {row: 10 * np.log10(field[row - 3 : row + 3].mean((0, 1))) for row in (30, 56)}
    beside = {row: p[:12].mean() for row, p in profile.items()}
    depth = {row: beside[row] - p[44:52].mean() for row, p in profile.items()}
    assert depth[30] > depth[56] + 1.0  # beams from the sides fill the shadow

    def columns_below(row: int, loss_db: float) -> int:
        return int((beside[row] - profile[row] > loss_db).sum())

    assert columns_below(56, 1.2) > columns_below(30, 1.2) + 3  # half-shadow widens
    assert columns_below(56, 0.75 * depth[30]) < columns_below(30, 0.75 * depth[30]) - 3  # full shadow narrows


def test_shadows_lean_with_the_beams():
    box = (slice(6, 14), slice(0, 96), slice(72, 84))
    profile = {}
    for divergence in (-0.2, 0.2):
        field = scan(Uniform(COARSE, box=box, box_attenuation=6.0), COARSE, divergence=divergence, aperture=0.05)
        column = 10 * np.log10(field[50:58].mean((0, 1)))
        weight = np.clip(column[:30].mean() - column, 0, None) ** 2
        profile[divergence] = (weight * np.arange(96)).sum() / weight.sum()
    assert profile[0.2] > 78 + 3 and profile[-0.2] < 78 - 3


def test_contact_is_the_beams_beginning():
    contact = np.ones(COARSE.shape[1:], np.float32)
    contact[:, :40] = 0.1
    rows = [
        r.copy()
        for r in intensities(Uniform(COARSE), contact, Acquisition(**QUIET), COARSE, open_stream(5, Stream.SPECKLE))
    ]
    first = np.stack(rows[:4])
    assert decibels(first[:, :, :36]) - decibels(first[:, :, 50:]) == pytest.approx(-20.0, abs=0.7)
    assert decibels(np.stack(rows[-4:])[:, :, 34:38]) - decibels(np.stack(rows[-4:])[:, :, 60:]) > -16.0


def test_noise_appears_in_depth():
    silent = Uniform(COARSE, echo=1e-3)
    settings_ = dict(noise_db=-50.0, tgc_db_cm_mhz=FAT_ATTENUATION, bandwidth=0.0)
    field = scan(silent, COARSE, **settings_)
    levels = [decibels(field[i : i + 6]) for i in (0, 12, 24, 30)]
    assert levels == sorted(levels)
    # At 13.5 mm (rows 14 to 19 from 5 mm: (5 + 8.5) mm) the time gain is 14.6 dB/cm * 1.35 cm = 19.7 dB.
    assert decibels(field[14:20]) == pytest.approx(-50.0 + 19.7, abs=0.7)
    assert max(decibels(row) for row in field) < -14.5  # the gain stops before noise becomes the image


def test_clutter_fills_the_near_field():
    field = scan(
        Uniform(PhantomGrid((40, 60, 40), (0.5, 0.25, 0.5)), echo=1e-3),
        PhantomGrid((40, 60, 40), (0.5, 0.25, 0.5)),
        clutter_db=-20.0,
    )
    assert -26 < decibels(field[:4]) < -14
    assert decibels(field[-4:]) < decibels(field[:4]) - 20


@pytest.mark.parametrize("looks", [1.0, 1.4, 2.0, 2.7, 3.0])
def test_compounding(looks):
    weights = look_weights(looks)
    assert sum(weights) == pytest.approx(1.0)
    assert 1.0 / sum(w * w for w in weights) == pytest.approx(looks)
    assert len(weights) == math.ceil(looks) and min(weights) > 0


def test_looks_of_a_scan():
    grid = PhantomGrid((100, 60, 100), (0.8, 0.4, 1.0), top=10.0, whole=False)
    field = scan(Uniform(grid, attenuation=0.75), grid, looks=2.5, tgc_db_cm_mhz=0.75)
    assert field.mean() ** 2 / field.var() == pytest.approx(2.5, rel=0.07)


def test_wide_reflectors_have_their_nominal_amplitude():
    field = scan(Uniform(FINE, echo=0.0, attenuation=0.75, specular=2.0), FINE, tgc_db_cm_mhz=0.75)
    power = float(field[20:60, 10:50, 20:180].mean())
    assert power == pytest.approx(4.0 * (1.0 + ROUGHNESS**2), rel=0.05)


def test_reflectors_lower_the_contrast_of_speckle():
    """A coherent part makes the envelope Rician: with as much coherent as diffuse power its SNR is 2.15 (Rice, K = 1)."""
    tissue = Uniform(FINE, echo=1.0 - ROUGHNESS, attenuation=0.75, specular=1.0)
    field = scan(tissue, FINE, tgc_db_cm_mhz=0.75)[:, 8:-8, 8:-8]
    envelope = np.sqrt(field.astype(np.float64))
    assert envelope.mean() / envelope.std() == pytest.approx(2.147, rel=0.05)


@settings(max_examples=30, deadline=None)
@given(st.floats(-5, 60), st.floats(30, 90))
def test_compression_table_against_the_logarithm(white_db, dynamic_range_db):
    generator = np.random.default_rng(0)
    intensity = (10.0 ** generator.uniform(-9, 8, (64, 64))).astype(np.float32)
    grey = np.empty(intensity.shape, np.uint8)
    compress(intensity, grey_table(white_db, dynamic_range_db), grey)
    exact = 255.0 * (10.0 * np.log10(intensity.astype(np.float64)) - white_db + dynamic_range_db) / dynamic_range_db
    assert np.abs(grey - np.clip(exact, 0, 255)).max() <= 1.0


def test_compression_of_extremes():
    table = grey_table(20.0, 60.0)
    grey = np.empty((1, 4), np.uint8)
    compress(np.array([[0.0, 1e-40, 3e38, np.inf]], np.float32), table, grey)
    assert grey.tolist() == [[0, 0, 255, 255]]


@settings(max_examples=30, deadline=None)
@given(st.floats(-8, 8))
def test_exponential(x):
    assert float(exponential(np.full(3, x, np.float32))[0]) == pytest.approx(
        math.exp(np.float32(x)), rel=1e-4 if abs(x) <= 5 else 1e-3
    )


@pytest.mark.parametrize(
    ("shape", "factor"), [((12, 20), (2, 4)), ((13, 21), (2, 4)), ((16, 16), (1, 1)), ((3, 17), (4, 3))]
)
def test_coarse_grid_keeps_what_is_linear(shape, factor):
    coarse = CoarseGrid(shape, factor)
    constant = np.full(shape, 3.0, np.float32)
    assert coarse.up(coarse.down(constant)) == pytest.approx(constant)
    if all(n % f == 0 for n, f in zip(shape, factor, strict=True)):
        ramp = (np.arange(shape[0])[:, None] + 2.0 * np.arange(shape[1])[None, :]).astype(np.float32)
        inside = tuple(slice(f, n - f) for f, n in zip(factor, shape, strict=True))
        assert coarse.up(coarse.down(ramp))[inside] == pytest.approx(ramp[inside], abs=1e-4)


def _digest(block_mm: float) -> str:
    grid = PhantomGrid((48, 40, 40), (0.3, 0.2, 0.5), top=3.0, whole=False)
    tissue = Uniform(grid, specular=0.1, box=(slice(10, 20), slice(10, 30), slice(12, 30)), box_attenuation=2.0)
    acquisition = Acquisition(looks=1.7, smoothing=0.1, divergence=0.05, tilt_z=0.03)
    grey = render(
        tissue,
        np.ones(grid.shape[1:], np.float32),
        acquisition,
        grid,
        open_stream(9, Stream.SPECKLE),
        block_mm=block_mm,
    )
    return hashlib.sha256(grey.tobytes()).hexdigest()


def test_same_everywhere():
    """Recorded on x86-64, numpy 2.4: any other machine must make the same image, whatever the block size or thread."""
    digests = [_digest(block_mm) for block_mm in (0.1, 1.0, 3.3, 100.0)]
    thread = threading.Thread(target=lambda: digests.append(_digest(4.0)))
    thread.start()
    thread.join()
    assert set(digests) == {"8eeebd6e4437f106f945c3d9a3bd9edaaa0ac59a149b494841ade506fd1bbaf9"}


def test_acquisitions_vary_within_their_limits():
    drawn = [
        draw(open_stream(seed, Stream.ACQUISITION)) for seed in range(100) for draw in (draw_acquisition, draw_handheld)
    ]
    assert all(low <= getattr(a, name) <= high for a in drawn for name, (low, high) in LIMITS.items())
    assert len({a.frequency_mhz for a in drawn}) == 100  # a hand-held scan differs in its beams only
    assert max(a.dynamic_range_db for a in drawn) > 70 and min(a.dynamic_range_db for a in drawn) < 55


def test_overrides_do_not_reshuffle():
    plain, changed = (draw_acquisition(open_stream(3, Stream.ACQUISITION), o) for o in (None, {"looks": 1.0}))
    assert changed.looks == 1.0
    assert {n for n in LIMITS if getattr(plain, n) != getattr(changed, n)} == {"looks"}


@pytest.mark.parametrize("bad", [{"gain": 1.0}, {"looks": 0.5}, {"frequency_mhz": math.nan}, {"smoothing": "much"}])
def test_bad_acquisitions(bad):
    with pytest.raises(PhantomError, match=next(iter(bad))):
        draw_acquisition(open_stream(3, Stream.ACQUISITION), bad)


@pytest.mark.parametrize("seed", [-1, 1.5, "1", None])
def test_bad_seeds(seed):
    with pytest.raises(PhantomError, match="seed"):
        open_stream(seed, Stream.ANATOMY)


def test_streams_are_independent_of_one_another():
    first = {stream: open_stream(1, stream).random() for stream in Stream}
    assert len(set(first.values())) == len(Stream)
    assert open_stream(1, Stream.LESIONS, 1).random() not in first.values()
