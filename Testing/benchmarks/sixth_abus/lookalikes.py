"""What is no lesion and is not labelled: vessels, lymph nodes, fat islands in gland, scars, and stray clusters of bright specks."""

from __future__ import annotations

import numpy as np

from .breast import Breast
from .fields import ramp, smooth, steps_of
from .grid import Grid
from .tissue import Tissue
from .tubes import splat, wander

Place = tuple[float, float, float]


def draw_lookalikes(rng: np.random.Generator, grid: Grid, breast: Breast, tissue: Tissue) -> dict[str, int]:
    """Draw some of each into the tissue; returns how many."""
    area = min(grid.extent[0] * grid.extent[2] / (150 * 150), 1.5)  # small volumes have few
    counts = {
        "vessels": int(rng.poisson(2.5 * area)),
        "nodes": int(rng.random() < 0.25 * area),
        "islands": int(rng.poisson(3.0 * area)),
        "scars": int(rng.random() < 0.12 * area),
        "specks": int(rng.poisson(0.8 * area)),
    }
    for name, draw in (
        ("vessels", _vessel),
        ("nodes", _node),
        ("islands", _island),
        ("scars", _scar),
        ("specks", _specks),
    ):
        for _ in range(counts[name]):
            draw(rng, grid, breast, tissue)
    return counts


def _place(rng: np.random.Generator, grid: Grid, breast: Breast, low: float, high: float) -> Place:
    """mm of a point at a share of the way from skin to muscle that is between `low` and `high`."""
    i, k = (int(rng.integers(0, n)) for n in breast.skin.shape)
    depth = breast.skin[i, k] + rng.uniform(low, high) * (breast.muscle[i, k] - breast.skin[i, k])
    return i * grid.half_spacing[0], float(depth), k * grid.half_spacing[2]


def _ellipsoid(
    rng: np.random.Generator, grid: Grid, centre: Place, axes: tuple[float, float, float]
) -> tuple[tuple[slice, slice, slice], np.ndarray]:
    """Nodes about an uneven ellipsoid of half axes `axes` mm, and how far from its centre they are, 1 at its surface."""
    reach = 1.6
    box = tuple(
        slice(max(int((c - reach * a) / s), 0), max(min(int((c + reach * a) / s) + 2, n), 1))
        for c, a, s, n in zip(centre, axes, grid.half_spacing, grid.half_shape, strict=True)
    )
    z, y, x = (m[tuple(b if m.shape[i] > 1 else slice(None) for i, b in enumerate(box))] for m in grid.half_axes())
    away = (
        np.square((z - centre[0]) / axes[0])
        + np.square((y - centre[1]) / axes[1])
        + np.square((x - centre[2]) / axes[2])
    )
    far = np.sqrt(away)
    return box, far * (1 + 0.08 * smooth(rng, far.shape, steps_of([a * 0.8 for a in axes], grid.half_spacing)))


def _vessel(rng: np.random.Generator, grid: Grid, breast: Breast, tissue: Tissue) -> None:
    heading = rng.normal(0, 1, 3) * (1, 0.15, 1)
    radius = rng.uniform(0.5, 1.3)
    path = wander(rng, np.array(_place(rng, grid, breast, 0.1, 0.7)), heading, rng.uniform(20, 70), 0.5, 0.06)
    tube = splat(grid, path, np.full(len(path), radius))
    near = np.nonzero(tube)
    value = tube[near]
    lumen, wall = ramp(value, 0.25, 0.6), np.exp(-np.square((value - 0.2) / 0.1))
    tissue.echo[near] += rng.uniform(2, 6) * wall - rng.uniform(7, 14) * lumen


def _node(rng: np.random.Generator, grid: Grid, breast: Breast, tissue: Tissue) -> None:
    long = rng.uniform(3, 8)
    axes = long * rng.uniform(0.6, 1), long * rng.uniform(0.4, 0.6), long
    box, far = _ellipsoid(rng, grid, _place(rng, grid, breast, 0.2, 0.8), axes)
    cortex, hilum = 1 - ramp(far, 0.85, 1.05), 1 - ramp(far, 0.35, 0.7)
    part = tissue.echo[box]
    part += cortex * (rng.uniform(-8, -4) - part)
    part += hilum * (rng.uniform(5, 10) - part)


def _island(rng: np.random.Generator, grid: Grid, breast: Breast, tissue: Tissue) -> None:
    """A lobule of fat within gland: as a lesion would be, but it goes on beyond the slice, and is as bright as other fat."""
    long = rng.uniform(2.5, 8)
    axes = long * rng.uniform(0.7, 1.6), long * rng.uniform(0.3, 0.6), long
    place = _place(rng, grid, breast, 0.3, 0.7)
    at = tuple(int(p / s) for p, s in zip(place, grid.half_spacing, strict=True))
    if tissue.gland[at[0], min(at[1], grid.shape[1] - 1), at[2]] < 0.5:
        return
    box, far = _ellipsoid(rng, grid, place, axes)
    part = tissue.echo[box]
    part += (1 - ramp(far, 0.8, 1.1)) * (rng.normal(0, 1) - 0.6 * part)
    part += rng.uniform(1, 5) * np.exp(-np.square((far - 1) / 0.1))


def _scar(rng: np.random.Generator, grid: Grid, breast: Breast, tissue: Tissue) -> None:
    """A band from the skin into the depth, along a line on the skin: dark, with bright edges, and hardly any sound behind."""
    i, k = (int(rng.integers(0, n)) for n in breast.skin.shape)
    turn = rng.uniform(0, np.pi)
    z, y, x = grid.half_axes()
    z, x = z - i * grid.half_spacing[0], x - k * grid.half_spacing[2]
    along, across = z * np.sin(turn) + x * np.cos(turn), z * np.cos(turn) - x * np.sin(turn)
    across = across + 1.5 * smooth(rng, (*across.shape[:1], 1, across.shape[2]), (8, 1, 8))
    deep = y - breast.skin[i, k]
    reach, thick, long = rng.uniform(6, 18), rng.uniform(0.6, 1.8), rng.uniform(6, 16)
    band = (
        np.exp(-np.square(across / thick) - np.square(along / long)) * (1 - ramp(deep, reach * 0.6, reach)) * (deep > 0)
    )
    rim = (
        np.exp(-np.square((np.abs(across) - 1.6 * thick) / 0.5) - np.square(along / long)) * (deep > 0) * (deep < reach)
    )
    tissue.echo -= rng.uniform(3, 9) * band
    tissue.echo += rng.uniform(1, 5) * rim
    tissue.loss += rng.uniform(0.4, 1.4) * band


def _specks(rng: np.random.Generator, grid: Grid, breast: Breast, tissue: Tissue) -> None:
    """Benign calcifications or a clip's remains: some bright points."""
    points = np.array(_place(rng, grid, breast, 0.2, 0.8)) + rng.normal(0, 2.5, (int(rng.integers(1, 6)), 3))
    tissue.echo += rng.uniform(6, 14) * splat(grid, points, np.full(len(points), 0.6), reach=2)
