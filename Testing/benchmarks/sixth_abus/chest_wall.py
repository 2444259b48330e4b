"""Behind the breast: retromammary fat, the pectoral muscle with its striations, ribs, and the muscles and pleura between them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .breast import Breast
from .fields import ramp, smooth, steps_of
from .grid import Grid
from .tissue import Tissue


def draw_chest_wall(rng: np.random.Generator, grid: Grid, breast: Breast, tissue: Tissue) -> bool:
    """Draw what lies behind the breast into the tissue; returns whether ribs were seen."""
    spacing = grid.half_spacing
    start = max(int(float(breast.muscle.min()) / spacing[1]) - 4, 0)
    z, y, x = grid.half_axes()
    y = y[:, start:]
    if not y.size:
        return False
    echo, loss = tissue.echo[:, start:], tissue.loss[:, start:]
    below = y - breast.muscle[:, None, :]
    inside = ramp(below, -0.4, 0.4)
    level = rng.uniform(-4, 2.5)
    striped = level + _striations(rng, grid, below)
    echo += inside * (striped - echo)
    sheets = rng.uniform(6, 13) * np.exp(-np.square(below / rng.uniform(0.5, 0.9)))
    deeper = rng.uniform(7, 13)  # the pectoralis minor has a fascia of its own
    sheets += rng.uniform(2, 8) * np.exp(-np.square((below - deeper - 0.06 * (x - x.mean())) / 0.7))
    echo += sheets * np.clip(0.8 + 0.35 * smooth(rng, sheets.shape, steps_of((14, 9, 14), spacing)), 0, 1.4)
    loss += inside * rng.uniform(0.0, 0.2)
    tissue.gland[:, start:] *= 1 - inside
    return rng.random() < 0.45 and _draw_ribs(rng, grid, below, echo, loss)


def _striations(rng: np.random.Generator, grid: Grid, below: np.ndarray) -> np.ndarray:
    """Bright perimysium in short strands that run along the muscle's fibres, which cross the picture at any angle."""
    turn = rng.uniform(0, np.pi)
    z, _, x = grid.half_axes()
    along, across = z * np.sin(turn) + x * np.cos(turn), z * np.cos(turn) - x * np.sin(turn)
    along, across = along - along.min(), across - across.min()
    pattern = smooth(
        rng,
        (int(float(along.max())) + 2, int(float(across.max())) + 2, below.shape[1]),
        (14, 2.2, 0.9 / grid.spacing[1]),
    )
    at = np.rint(along)[:, 0, :].astype(int), np.rint(across)[:, 0, :].astype(int)
    strands = np.moveaxis(pattern[at], -1, 1)
    strands = ndimage.gaussian_filter1d(strands, 0.8, axis=2, truncate=2)
    return rng.uniform(1.5, 4.0) * np.clip(strands, -1.2, 2.5)


def _draw_ribs(rng: np.random.Generator, grid: Grid, below: np.ndarray, echo: np.ndarray, loss: np.ndarray) -> bool:
    """Ribs side by side, with bright fronts and no sound behind, or of cartilage (dark ovals), and pleura between them."""
    z, _, x = grid.half_axes()
    turn = rng.normal(0, 0.5)
    across = z * np.cos(turn) + x * np.sin(turn)
    apart, wide, thick = rng.uniform(19, 28), rng.uniform(5, 7.5), rng.uniform(3, 4.5)
    from_axis = (across - rng.uniform(0, apart)) % apart - apart / 2
    deep = below - rng.uniform(8, 16)
    round_rib = np.sqrt(np.square(from_axis / wide) + np.square(deep / thick))
    front = np.exp(-np.square((round_rib - 1) / 0.13)) * (deep < 0)
    body = round_rib < 1
    if not body.any():
        return False
    cartilage = rng.random() < 0.4
    echo += body * np.float32(rng.uniform(-9, -5))
    echo += front * np.float32(rng.uniform(4, 9) if cartilage else rng.uniform(12, 18))
    loss += body * np.float32(0.5 if cartilage else 8)
    pleura = np.exp(-np.square((deep - thick * 1.4) / 0.6)) * (np.abs(from_axis) > wide)
    echo += pleura * np.float32(rng.uniform(8, 16))
    return True
