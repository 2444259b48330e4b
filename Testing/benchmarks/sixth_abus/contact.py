"""What the probe's surface takes: lost contact at the sides, air, the nipple and its pad, and stripes between sweeps."""

from __future__ import annotations

import numpy as np

from .breast import Breast
from .fields import ramp, smooth, steps_of
from .grid import Grid


def draw_contact(rng: np.random.Generator, grid: Grid, breast: Breast) -> tuple[np.ndarray, dict[str, bool]]:
    """dB that never come back from below each place, a map (slice, lateral) of the half grid; and what was drawn."""
    spacing = grid.half_spacing[0], grid.half_spacing[2]
    z, _, x = (a.squeeze() for a in grid.half_axes())
    shape = len(z), len(x)
    dimmed = np.zeros(shape, np.float32)
    drawn = {name: bool(rng.random() < p) for name, p in (("edge", 0.4), ("air", 0.25), ("nipple", 0.5), ("pad", 0.12))}
    if drawn["edge"]:
        reach = rng.uniform(0.03, 0.14)
        sides = rng.random(4) < 0.5
        wavy = 0.35 * reach * smooth(rng, shape, steps_of((18, 18), spacing))
        edges = (x / x[-1])[None, :], (1 - x / x[-1])[None, :], (z / z[-1])[:, None], (1 - z / z[-1])[:, None]
        for side, away in zip(sides, edges, strict=True):
            if side:
                dimmed += rng.uniform(10, 40) * (1 - ramp(away + wavy, 0.3 * reach, reach))
    if drawn["air"]:
        for _ in range(int(rng.integers(1, 4))):
            c, r = (rng.uniform(0, z[-1]), rng.uniform(0, x[-1])), rng.uniform(1.5, 5, 2)
            gap = np.square((z[:, None] - c[0]) / r[0]) + np.square((x[None, :] - c[1]) / r[1])
            dimmed += rng.uniform(6, 20) * np.exp(-gap)
    from_nipple = np.hypot(z[:, None] - breast.nipple[0], x[None, :] - breast.nipple[1])
    if drawn["nipple"]:
        ragged = from_nipple + 0.8 * smooth(rng, shape, steps_of((5, 5), spacing))
        dimmed += rng.uniform(5, 18) * (1 - ramp(ragged, 2, rng.uniform(5, 9)))
    if drawn["pad"]:
        dimmed += rng.uniform(1, 4) * np.exp(-np.square((from_nipple - rng.uniform(12, 18)) / 1.2))
    return dimmed, drawn


def picture_bottom(rng: np.random.Generator, grid: Grid, face: np.ndarray) -> np.ndarray:
    """mm to which each place (slice, lateral; full grid) shows anything, -1 where it shows nothing: black corners, and pictures that are less deep.

    `face` is that of the probe, on the full grid.
    """
    ez, ey, ex = grid.extent
    bottom = np.full((grid.shape[0], grid.shape[2]), ey + 1, np.float32)
    if rng.random() < 0.15:
        bottom[:] = ey * rng.uniform(0.72, 0.97)
    if rng.random() < 0.5:  # a curved probe's picture ends in an arc, too
        bottom = np.minimum(bottom, ey - face.max() + face)
    if rng.random() < 0.25:
        z = np.abs(np.linspace(-1, 1, grid.shape[0]))[:, None]
        x = np.abs(np.linspace(-1, 1, grid.shape[2]))[None, :]
        power = rng.uniform(5, 14)
        bottom[z**power + x**power > rng.uniform(1.0, 1.25)] = -1
    return bottom


def sweep_gain(rng: np.random.Generator, grid: Grid) -> np.ndarray:
    """dB by slice and lateral place: slices that differ, and seams where one sweep follows another."""
    nz, _, nx = grid.shape
    gain = np.zeros((nz, nx), np.float32)
    if rng.random() < 0.5:
        gain += rng.uniform(0.1, 0.7) * rng.standard_normal((nz, 1), dtype=np.float32)
    if rng.random() < 0.15:
        rows = rng.integers(0, nz, int(rng.integers(1, 5)))
        gain[rows] -= rng.uniform(2, 6)
    if rng.random() < 0.12:
        seam = int(nx * rng.uniform(0.2, 0.8))
        gain[:, seam:] += rng.normal(0, 1.5)
        gain[:, max(seam - 1, 0) : seam + 1] -= rng.uniform(1, 4)
    columns = 0.4 * smooth(rng, (nx,), (6,)) + 0.2 * rng.standard_normal(nx, dtype=np.float32)
    return gain + rng.uniform(0, 1.5) * columns[None, :]
