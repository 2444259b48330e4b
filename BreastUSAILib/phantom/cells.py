"""Worley cells: the walls between fat lobules, without which fat has no ligaments."""

from __future__ import annotations

import numpy as np

from .noise import Lattice, octaves

COLOURS = 4
FARTHEST = 1.6
# How far from a seed its distance is worked out, in units of the cells' size: farther off, others are nearer.
REACH = np.float64(1.3)


def cell_distances(generator: np.random.Generator, lattice: Lattice, size: tuple[float, float, float]) -> np.ndarray:
    """Distance to the nearest seed of each colour, for seeds on a jittered grid under a warp of the domain.

    Where the two smallest are equal there is a wall between cells (Worley's F2 - F1 = 0; S. Worley, SIGGRAPH 1996). Distances are smooth
    across a wall, which F2 - F1 is not: so they are what may be interpolated. As neighbours of one colour have no wall between them,
    a quarter of the walls is missing, and lobules come in many sizes.

    Parameters
    ----------
    size : mean distance between seeds along depth, slice, lateral in mm.

    Returns
    -------
    float32 (colours, depth, slice, lateral) on the lattice's nodes, in units of `size`, at most `FARTHEST`.
    """
    nodes = lattice.nodes
    spread = [max(2.2 * s, 4.0) for s in size]
    warped = []
    for axis in range(3):
        coordinate = octaves(generator, nodes, spread, (1.0, 0.5))
        coordinate *= np.float32(0.27)
        coordinate += (nodes[axis] / size[axis]).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        warped.append(coordinate)
    low = [int(np.floor(n[0] / s)) - 1 for n, s in zip(nodes, size, strict=True)]
    counts = [int(np.floor(n[-1] / s)) + 2 - a for n, s, a in zip(nodes, size, low, strict=True)]
    jitter = generator.random(size=(*counts, 3), dtype=np.float32)
    colours = generator.integers(0, COLOURS, size=counts)
    squares = np.full((COLOURS, *(len(n) for n in nodes)), FARTHEST * FARTHEST, np.float32)
    grid_points = np.stack(np.meshgrid(*(np.arange(n) + a for n, a in zip(counts, low, strict=True)), indexing="ij"), -1)
    seeds = (jitter + grid_points.astype(np.float32)).reshape(-1, 3)
    first, last = (
        np.stack([np.searchsorted(nodes[a], (seeds[:, a] + side) * size[a]) for a in range(3)], -1)
        for side in (-REACH, REACH)
    )
    for seed, colour, begin, end in zip(seeds, colours.reshape(-1), first.tolist(), last.tolist(), strict=True):
        window = tuple(slice(b, e) for b, e in zip(begin, end, strict=True))
        target = squares[colour][window]
        if target.size == 0:
            continue
        square = warped[0][window] - seed[0]
        square *= square
        for axis in (1, 2):
            step = warped[axis][window] - seed[axis]
            step *= step
            square += step
        np.minimum(target, square, out=target)
    return np.sqrt(squares, out=squares)


def two_smallest(values: list[np.ndarray], spare: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the second smallest of some arrays, element by element; written over the first two of them."""
    low, high, *others = values
    spare = np.minimum(low, high, out=spare)
    np.maximum(low, high, out=high)
    np.copyto(low, spare)
    for other in others:
        np.maximum(low, other, out=spare)
        np.minimum(high, spare, out=high)
        np.minimum(low, other, out=low)
    return low, high


def flatness(walls: np.ndarray, lattice: Lattice) -> np.ndarray:
    """How horizontal the nearest wall is: 0 upright, 1 flat; float32 on the lattice's nodes."""
    squares = []
    for axis, nodes in enumerate(lattice.nodes):
        step = np.zeros_like(walls)
        inner = [slice(None)] * 3
        ahead, behind = list(inner), list(inner)
        inner[axis], ahead[axis], behind[axis] = slice(1, -1), slice(2, None), slice(None, -2)
        if len(nodes) > 2:
            step[tuple(inner)] = (walls[tuple(ahead)] - walls[tuple(behind)]) / np.float32(nodes[2] - nodes[0])
        step *= step
        squares.append(_blurred(step))
    total = squares[0] + squares[1]
    total += squares[2]
    total += np.float32(1e-6)
    return squares[0] / total


def _blurred(values: np.ndarray) -> np.ndarray:
    # (1, 2, 1)/4 along each axis: the gradient of F2 - F1 jumps at walls.
    for axis in range(3):
        moved = np.moveaxis(values, axis, 0)
        padded = np.concatenate([moved[:1], moved, moved[-1:]])
        values = np.moveaxis((padded[:-2] + padded[2:] + 2.0 * padded[1:-1]) * np.float32(0.25), 0, axis)
    return values
