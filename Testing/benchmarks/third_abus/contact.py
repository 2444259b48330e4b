"""Where the transducer touches the skin: the breast's outline, edges that lift off, air; and reverberations below the skin."""

from __future__ import annotations

import numpy as np

from .grid import Grid, over_depth
from .noise import sigmoid


def draw_contact(grid: Grid) -> np.ndarray:
    """(z, x) coupling, 0 (air) to 1."""
    rng, uniform = grid.rng, grid.rng.uniform
    contact = np.ones((grid.shape[0], grid.shape[2]), np.float32)
    waves = 6 * grid.sheet(25) + 2 * grid.sheet(8)  # mm, of the borders
    if rng.random() < 0.4:
        contact = contact * _outline(grid, waves)
    if rng.random() < 0.5:
        for _ in range(rng.integers(1, 3)):
            contact = contact * _lifted_edge(grid, waves)
    if rng.random() < 0.2:  # small gaps of air
        contact = contact * sigmoid((waves + uniform(9, 14) - 3) / 1.5)
    return contact.astype(np.float32)


def _outline(grid: Grid, waves: np.ndarray) -> np.ndarray:
    """(z, x) 1 inside the breast's elliptic outline, 0 beside it."""
    uniform = grid.rng.uniform
    length_z, _, length_x = grid.extent
    radius = np.sqrt(
        ((grid.z - uniform(0.4, 0.6) * length_z) / (length_z * uniform(0.48, 0.75))) ** 2
        + ((grid.x - uniform(0.4, 0.6) * length_x) / (length_x * uniform(0.46, 0.75))) ** 2
    )
    return sigmoid(((1 - radius) * 0.5 * min(length_z, length_x) + 0.6 * waves) / uniform(0.7, 3))


def _lifted_edge(grid: Grid, waves: np.ndarray) -> np.ndarray:
    """(z, x) 0 beyond a line that cuts off an edge or a corner, else 1."""
    rng, uniform = grid.rng, grid.rng.uniform
    length_z, _, length_x = grid.extent
    angle = rng.choice([0, np.pi / 2, np.pi, 1.5 * np.pi]) + (uniform(-0.3, 0.3) if rng.random() < 0.5 else np.pi / 4)
    outward = (grid.z - length_z / 2) * np.sin(angle) + (grid.x - length_x / 2) * np.cos(angle)
    reach = 0.5 * (length_z * abs(np.sin(angle)) + length_x * abs(np.cos(angle)))
    return sigmoid((reach * uniform(0.72, 0.98) - outward + 0.7 * waves) / uniform(0.7, 4))


def lose_contact(grid: Grid, echo: np.ndarray, attenuation: np.ndarray, contact: np.ndarray) -> None:
    """Darken what lies under air, and draw the lines of reverberation, which are strongest there."""
    uniform, f32 = grid.rng.uniform, np.float32
    loss = over_depth(1 - contact)
    attenuation -= loss * f32(uniform(15, 45)) * (f32(0.35) + f32(0.65) * np.clip(grid.y / 6, 0, 1))
    period, strength, fade = uniform(1.2, 5), uniform(0, 5), uniform(3, 10)  # mm, dB, mm
    lines = np.maximum(np.cos(2 * np.pi * grid.y / period), 0) ** 3 * np.exp(-grid.y / fade)
    patchy = over_depth(sigmoid(2 * grid.sheet(20)))
    echo += (f32(strength) * patchy + f32(uniform(0, 15)) * loss) * lines.astype(f32)
