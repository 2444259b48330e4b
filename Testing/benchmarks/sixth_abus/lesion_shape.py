"""The forms of lesions: a field that is 1 on the surface, below it inside, scaled so that the inside has just the planned volume."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .fields import smooth, steps_of
from .grid import Grid
from .lesion_plan import Plan

_REACH = 2.0  # half axes from the centre to a box's side, so that rims and spicules have room


@dataclass(frozen=True)
class Shape:
    """A lesion in a box of its own, on the full grid.

    Attributes
    ----------
    far : how far from the centre, 1 on the surface.
    mask : the inside, one connected piece.
    away : mm (slice, depth, lateral) from the centre, each along its own axis.
    radius : mm, of a ball of the same volume.
    """

    far: np.ndarray
    mask: np.ndarray
    away: tuple[np.ndarray, np.ndarray, np.ndarray]
    radius: float


def draw_shape(rng: np.random.Generator, grid: Grid, plan: Plan) -> Shape:
    """Draw a lesion's form."""
    radius = float((plan.volume_ml * 1000 * 3 / (4 * np.pi)) ** (1 / 3))
    axes = np.array(plan.axes) * radius / float(np.prod(plan.axes)) ** (1 / 3)
    half = [int(np.ceil(_REACH * max(a, 0.8 * radius) / s)) + 3 for a, s in zip(axes, grid.spacing, strict=True)]
    half = [min(h, n) for h, n in zip(half, grid.shape, strict=True)]
    ranges = [np.arange(-h, h + 1, dtype=np.float32) * s for h, s in zip(half, grid.spacing, strict=True)]
    away = ranges[0][:, None, None], ranges[1][None, :, None], ranges[2][None, None, :]
    steps = steps_of((radius, radius, radius), grid.spacing)
    far = _form(rng, plan, _turned(rng, away, axes, plan), steps)
    far = _margin(rng, plan, far, radius, steps)
    wanted = int(np.clip(plan.volume_ml * 1000 / np.prod(grid.spacing), 8, far.size // 2))
    far = far / np.partition(far, wanted, axis=None)[wanted]
    return Shape(far, _largest(far < 1), away, radius)


def _turned(
    rng: np.random.Generator, away: tuple[np.ndarray, ...], axes: np.ndarray, plan: Plan
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The places in the lesion's own axes: turned about the depth, and a little tilted to the skin."""
    z, y, x = away
    turn, tilt = rng.uniform(0, np.pi), rng.normal(0, 0.25)
    u, v = z * np.cos(turn) - x * np.sin(turn), z * np.sin(turn) + x * np.cos(turn)
    w, y = v * np.cos(tilt) - y * np.sin(tilt), v * np.sin(tilt) + y * np.cos(tilt)
    return tuple(np.broadcast_arrays(u / axes[0], y / axes[1], w / axes[2]))


def _form(
    rng: np.random.Generator, plan: Plan, q: tuple[np.ndarray, np.ndarray, np.ndarray], steps: list[float]
) -> np.ndarray:
    """The field of a form, from places in half axes."""
    ball = np.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2]) + 1e-3
    if plan.form == "lobed":
        return _lobes(rng, q, int(rng.integers(2, 5)), 0.75, 0.62)
    if plan.form == "duct":
        path = np.cumsum(rng.normal(0, 0.18, (7, 2)), axis=0)
        balls = []
        for t, (a, b) in zip(np.linspace(-1.5, 1.5, 7), path, strict=True):
            size = rng.uniform(0.4, 0.75)
            balls.append(((q[0] - a) ** 2 + (q[1] - 0.6 * b) ** 2 + (q[2] - t) ** 2) / size**2)
        return _join(balls, 5)
    if plan.form == "polytope":
        normals = rng.normal(0, 1, (int(rng.integers(9, 16)), 3))
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        faces = [(q[0] * n[0] + q[1] * n[1] + q[2] * n[2]) / rng.uniform(0.65, 1.25) for n in normals]
        return 0.8 * np.maximum.reduce([0.55 * ball, *faces]) + 0.2 * ball
    if plan.form == "irregular":
        rough = smooth(rng, ball.shape, [0.75 * s for s in steps])
        rougher = smooth(rng, ball.shape, [0.3 * s for s in steps])
        return ball + rng.uniform(0.12, 0.26) * rough + rng.uniform(0.03, 0.09) * rougher
    return ball * (1 + rng.uniform(0.02, 0.09) * smooth(rng, ball.shape, steps))


def _lobes(rng: np.random.Generator, q: tuple[np.ndarray, ...], number: int, apart: float, size: float) -> np.ndarray:
    """Some balls that run into one another, side by side."""
    balls = []
    for turn in np.arange(number) * 2 * np.pi / number + rng.normal(0, 0.4, number):
        r = apart * rng.uniform(0.5, 1.1)
        centre = r * np.sin(turn), rng.normal(0, 0.2), r * np.cos(turn)
        s = size * rng.uniform(0.8, 1.3)
        balls.append(sum(np.square(a - c) for a, c in zip(q, centre, strict=True)) / s**2)
    return _join(balls, 4)


def _join(squares: list[np.ndarray], sharp: float) -> np.ndarray:
    """A smooth least of squared distances, as a distance."""
    distances = [np.sqrt(s) for s in squares]
    least = np.minimum.reduce(distances)
    total = sum(np.exp(-sharp * np.minimum(d - least, 8)) for d in distances)
    return np.maximum(least - np.log(total) / sharp, 0) + 0.1 * least


def _margin(rng: np.random.Generator, plan: Plan, far: np.ndarray, radius: float, steps: list[float]) -> np.ndarray:
    """The surface, roughened as the margin says; spicules that are thick enough belong to the lesion."""
    if plan.margin == "microlobulated":
        small = min(max(1.3 / radius, 0.22), 0.6)
        return far - 0.11 * np.abs(smooth(rng, far.shape, [small * s for s in steps]))
    if plan.margin == "spiculated":
        return far - 0.14 * np.clip(smooth(rng, far.shape, [0.32 * s for s in steps]), 0.3, 2.5)
    if plan.margin in ("angular", "indistinct"):
        return far + 0.06 * smooth(rng, far.shape, [0.4 * s for s in steps])
    return far


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected piece, its holes filled."""
    pieces, number = ndimage.label(mask)
    if number > 1:
        mask = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    return ndimage.binary_fill_holes(mask)
