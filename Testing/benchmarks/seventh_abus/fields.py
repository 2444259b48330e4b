"""Smooth random fields of unit variance, and the curves and sheets where they vanish."""

from __future__ import annotations

import numpy as np


def smooth(rng: np.random.Generator, shape: tuple[int, ...], lengths: tuple[float, ...]) -> np.ndarray:
    """Gaussian noise of unit variance, float32; `lengths` are voxels along each axis. Drawn on coarse nodes, spread
    axis by axis.
    """
    weights = [_weights(n, max(length, 0.5)) for n, length in zip(shape, lengths, strict=True)]
    field = rng.standard_normal([w.shape[1] for w in weights], dtype=np.float32)
    for axis, weight in enumerate(weights):
        field = np.moveaxis(np.tensordot(weight, field, (1, axis)), 0, axis)
    return np.ascontiguousarray(field)


def _weights(size: int, length: float) -> np.ndarray:
    """Of nodes (columns) in voxels (rows); the squares of a row sum to 1."""
    nodes = np.arange(-2.5, size / length + 2.5)
    apart = np.arange(size)[:, None] / length - nodes[None, :]
    weight = np.exp(-(apart**2))
    return (weight / np.sqrt((weight**2).sum(1, keepdims=True))).astype(np.float32)


def in_mm(rng: np.random.Generator, grid, lengths: tuple[float, float, float]) -> np.ndarray:
    """`smooth` on a grid; `lengths` are mm (slice, depth, lateral)."""
    return smooth(rng, grid.shape, tuple(mm / s for mm, s in zip(lengths, grid.spacing, strict=True)))


def map_mm(rng: np.random.Generator, grid, length: float) -> np.ndarray:
    """`smooth` on a grid's (slice, lateral) plane; `length` is mm."""
    return smooth(rng, grid.shape[::2], (length / grid.spacing[0], length / grid.spacing[2]))


def sheet(field: np.ndarray, width: float) -> np.ndarray:
    """1 where a field vanishes, falling off over `width` of its deviations."""
    return np.exp(-np.square(field / np.float32(width)))


def step(values: np.ndarray, width: float) -> np.ndarray:
    """0 below zero and 1 above it, over about `width`."""
    return np.clip(values / np.float32(2 * width) + np.float32(0.5), 0, 1)
