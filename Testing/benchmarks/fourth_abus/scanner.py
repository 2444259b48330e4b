"""The scanner and its preset, drawn for each volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scanner:
    """Attributes
    ----------
    mhz : frequency that attenuation sees, already shifted down by the tissue.
    focus_mm, f_number : depth of the focus, and depth over aperture: how quickly beams widen away from it.
    lateral_mm, slice_mm : width of the beam in the focus (sd), along x and z. `axial` is what a voxel shares with the next deeper one, 0 to 1.
    coherent : steady part of the echo beside the random one; what averaging looks leaves of speckle.
    spread : how fast shadows soften on their way, 0 to 0.25 of a coarse voxel's neighbours a voxel.
    tgc : share of the mean attenuation that the gain makes up for; `tgc_error_db` is (depth,) on top.
    fill_db : how deep a shadow can get before stray sound fills it. `noise_db` is electronic noise at no gain, `noise_top_db` the most it comes to, against fat.
    range_db, fat_grey, gamma, s_curve, white : dynamic range, fat's place in it (0 to 1), curve, and the brightest grey.
    sharpen : weight of edge enhancement (above 0) or of smoothing (below) in the picture.
    slice_gain_db, column_gain_db : stripes, (slice,) and (lateral,).
    shift_y, shift_x : voxels by which breathing and the carriage move each slice, (slice,).
    """

    mhz: float
    focus_mm: float
    f_number: float
    lateral_mm: float
    slice_mm: float
    axial: float
    coherent: float
    spread: float
    tgc: float
    tgc_error_db: np.ndarray
    fill_db: float
    noise_db: float
    noise_top_db: float
    range_db: float
    fat_grey: float
    gamma: float
    s_curve: float
    white: float
    sharpen: float
    slice_gain_db: np.ndarray
    column_gain_db: np.ndarray
    shift_y: np.ndarray
    shift_x: np.ndarray


def draw_scanner(rng: np.random.Generator, shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Scanner:
    """A scanner for a volume of `shape` (z, y, x) and `spacing` mm (x, y, z)."""
    from .fields import noise

    nz, ny, nx = shape
    depth = ny * spacing[1]
    y, z = np.arange(ny) * spacing[1], np.arange(nz) * spacing[2]
    nominal = rng.uniform(6.5, 14.0)
    breathing = np.zeros(nz)
    if rng.random() < 0.3:
        wave = np.sin(2 * np.pi * (z / rng.uniform(25, 70) + rng.random())) * rng.uniform(0.4, 1.4)
        breathing = wave / spacing[1] * (0.6 + 0.4 * noise(rng, (z,), (30.0,)))
    jerks = np.where(rng.random(nz) < rng.choice([0, 0, 0.01, 0.05]), rng.integers(-1, 2, nz), 0)
    return Scanner(
        mhz=0.62 * nominal,
        focus_mm=rng.uniform(0.2, 0.7) * depth,
        f_number=rng.uniform(2.2, 6.0),
        lateral_mm=rng.uniform(1.6, 3.6) / nominal,
        slice_mm=rng.uniform(0.35, 0.85),
        axial=rng.uniform(0, 0.7) * np.clip((11 - nominal) / 4, 0.1, 1),
        coherent=rng.choice([rng.uniform(0, 0.3), rng.uniform(0.3, 1.0)], p=[0.3, 0.7]),
        spread=rng.uniform(0.03, 0.25),
        tgc=rng.uniform(0.8, 1.02),
        tgc_error_db=noise(rng, (y,), (rng.uniform(8, 20),)) * rng.uniform(0.3, 2.2),
        fill_db=rng.uniform(14, 34),
        noise_db=rng.uniform(-92, -56),
        noise_top_db=-rng.uniform(13, 30),
        range_db=rng.uniform(45, 75),
        fat_grey=rng.uniform(0.28, 0.54),
        gamma=float(np.exp(rng.normal(0, 0.16))),
        s_curve=rng.uniform(0, 0.8),
        white=rng.choice([255.0, rng.uniform(205, 255)]),
        sharpen=rng.choice([0.0, rng.uniform(0.05, 0.35), -rng.uniform(0.1, 0.6)], p=[0.25, 0.25, 0.5]),
        slice_gain_db=rng.normal(0, 1, nz) * rng.choice([0.1, 0.3, 0.8]),
        column_gain_db=rng.normal(0, 1, nx) * rng.choice([0.0, 0.2, 0.5]),
        shift_y=np.rint(breathing).astype(int),
        shift_x=jerks,
    )
