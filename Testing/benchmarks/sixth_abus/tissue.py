"""Echo and attenuation of breast tissue on the half grid: fat lobules between Cooper's ligaments, gland around ducts, skin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .breast import Breast
from .fields import ramp, smooth, steps_of
from .grid import Grid
from .lobules import divide
from .tubes import duct_tree, splat


@dataclass
class Tissue:
    """What the probe will look at; later objects are drawn into it.

    Attributes
    ----------
    echo : dB.
    loss : dB/mm of what is lost on the way there and back, more than the gain makes up for.
    gland : share of glandular tissue, 0 to 1.
    """

    echo: np.ndarray
    loss: np.ndarray
    gland: np.ndarray


@dataclass(frozen=True)
class Pull:
    """Tissue that a lesion draws towards itself: mm (slice, depth, lateral), mm, and the share of the way that it was drawn."""

    centre: tuple[float, float, float]
    reach: float
    strength: float


def draw_tissue(rng: np.random.Generator, grid: Grid, breast: Breast, pulls: Sequence[Pull]) -> Tissue:
    """Draw fat, gland, ligaments and skin."""
    places = _places(rng, grid, pulls)
    rank = "abcd".index(breast.density)
    wide = rng.uniform(7, 16)
    size = wide * rng.uniform(0.8, 1.25), float(np.clip(wide * rng.uniform(0.35, 0.6), 3.5, 8)), wide
    plate = rng.normal(0, rng.uniform(0.15, 0.5))
    patchy = rng.uniform(0.15, 0.6)

    def describe(seeds: np.ndarray) -> dict[str, np.ndarray]:
        at = tuple(
            np.clip(np.rint(seeds[:, a] / grid.half_spacing[a]).astype(int), 0, grid.half_shape[a] - 1) for a in (0, 2)
        )
        thickness = breast.thickness[at]
        inside = 1 - np.abs(seeds[:, 1] - breast.gland[at]) / np.maximum(thickness, 0.5)
        inside += rng.normal(0, patchy, len(seeds)) + 0.15 * plate
        return {
            "gland": (inside > 0.1).astype(np.float32),
            "echo": rng.normal(0, 1.2, len(seeds)).astype(np.float32),
            "ligament": rng.uniform(0.35, 1.3, len(seeds)).astype(np.float32),
        }

    cells = divide(rng, places, size, describe)
    gland = ndimage.gaussian_filter(cells.tables["gland"][cells.own], 0.8, truncate=2)
    echo = cells.tables["echo"][cells.own]
    echo += rng.uniform(0.6, 1.6) * smooth(rng, echo.shape, steps_of((9, 4, 9), grid.half_spacing))
    _add_streaks(rng, grid, echo)
    _add_gland(rng, grid, breast, echo, gland, rank)
    width = rng.uniform(0.45, 0.85)
    height = rng.uniform(7, 15)
    sheet = np.exp(-np.square(cells.edge / width)) * cells.tables["ligament"][cells.own]
    sheet *= np.clip(
        rng.uniform(0.3, 0.7) + 0.6 * smooth(rng, echo.shape, steps_of((9, 4, 9), grid.half_spacing)), 0.02, 1.5
    )
    echo += height * sheet * (1 - rng.uniform(0.5, 0.9) * gland)
    loss = np.full(echo.shape, rng.normal(0, 0.03), np.float32)
    loss += rng.uniform(0.0, 0.16) * gland
    loss += rng.uniform(0, 0.5) * sheet * (1 - gland)  # ligaments cast the thin vertical shadows that every ABUS has
    _add_skin(rng, grid, breast, echo)
    return Tissue(echo, loss, gland)


def _places(rng: np.random.Generator, grid: Grid, pulls: Sequence[Pull]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """mm of each node in the tissue before it was warped: by its own growth, and by lesions."""
    length, amount = rng.uniform(10, 20), rng.uniform(1.5, 4.0)
    ragged = rng.uniform(0.4, 1.3)
    places = []
    for axis, mm in enumerate(grid.half_axes()):
        share = 0.5 if axis == 1 else 1.0
        warp = smooth(rng, grid.half_shape, steps_of((length, length * 0.6, length), grid.half_spacing))
        fine = smooth(rng, grid.half_shape, steps_of((4, 3, 4), grid.half_spacing))
        places.append(mm + (share * amount) * warp + (share * ragged) * fine)
    for pull in pulls:
        part = tuple(
            slice(max(int((c - 2.2 * pull.reach) / s), 0), max(int((c + 2.2 * pull.reach) / s) + 1, 1))
            for c, s in zip(pull.centre, grid.half_spacing, strict=True)
        )
        away = [a[tuple(p if a.shape[i] > 1 else slice(None) for i, p in enumerate(part))] for a in grid.half_axes()]
        away = [a - c for a, c in zip(away, pull.centre, strict=True)]
        near = pull.strength * np.exp(-sum(np.square(a) for a in away) / (pull.reach**2))
        for place, a in zip(places, away, strict=True):
            place[part] += a * near
    return places[0], places[1], places[2]


def _add_streaks(rng: np.random.Generator, grid: Grid, echo: np.ndarray) -> None:
    """Fine connective strands within lobules, longer along the skin than across it."""
    fine = smooth(rng, echo.shape, steps_of((2.4, 0.9, 3.2), grid.half_spacing))
    echo += rng.uniform(0.5, 1.8) * fine


def _add_gland(
    rng: np.random.Generator, grid: Grid, breast: Breast, echo: np.ndarray, gland: np.ndarray, rank: int
) -> None:
    """Echogenic stroma, and in it darker ducts and lobules with their own, less dense stroma, all around the nipple."""
    middle = float(np.median(breast.gland))
    nipple = np.array([breast.nipple[0], 0.35 * middle + 0.65 * float(np.median(breast.skin)), breast.nipple[1]])
    reach = max(20.0, 0.7 * min(grid.extent[0], grid.extent[2])) * rng.uniform(0.6, 1.0)
    points, radii, ends = duct_tree(rng, nipple, reach, int(rng.integers(8, 16)))
    # ducts lie in the plate, wherever it is
    for group in (points, ends):
        at = tuple(np.clip((group[:, a] / grid.half_spacing[a]).astype(int), 0, grid.half_shape[a] - 1) for a in (0, 2))
        share = np.clip(np.hypot(group[:, 0] - nipple[0], group[:, 2] - nipple[2]) / 20, 0, 1)
        group[:, 1] = (1 - share) * group[:, 1] + share * (breast.gland[at] + 0.4 * (group[:, 1] - nipple[1]))
    ectasia = rng.uniform(0.9, 1.8)
    ducts = splat(grid, points, radii * ectasia)
    lobules = splat(grid, np.repeat(ends, 3, 0) + rng.normal(0, 1.6, (3 * len(ends), 3)), np.full(3 * len(ends), 1.7))
    stroma = ndimage.gaussian_filter(np.maximum(ducts, lobules), (2.2, 4, 2.2), truncate=2)
    mottle = smooth(rng, echo.shape, steps_of((5, 2.5, 5), grid.half_spacing))
    coarse = smooth(rng, echo.shape, steps_of((16, 8, 16), grid.half_spacing))
    level = rng.uniform(5.5, 12) - 0.4 * rank
    bright = level + rng.uniform(1.0, 2.8) * mottle + rng.uniform(0.8, 2.4) * coarse
    bright -= rng.uniform(2, 9) * np.clip(stroma * 2.5, 0, 1)  # periductal stroma is about as dark as fat
    dark = np.maximum(ducts * rng.uniform(5, 12), lobules * rng.uniform(3, 8))
    echo += gland * (bright - dark)
    echo -= (1 - gland) * ducts * rng.uniform(1, 4)


def _add_skin(rng: np.random.Generator, grid: Grid, breast: Breast, echo: np.ndarray) -> None:
    """Skin, brighter at its two sides than between them, and the film of gel or the membrane above it."""
    _, y, _ = grid.half_axes()
    top, low = breast.face[:, None, :], breast.skin[:, None, :]
    rows = slice(0, min(int(float(low.max()) / grid.half_spacing[1]) + 4, echo.shape[1]))
    y = y[:, rows]
    within = (1 - ramp(y - low, -0.2, 0.5)) * ramp(y - top, -0.3, 0.2)
    level = rng.uniform(6, 14)
    lines = np.exp(-np.square((y - top - 0.3) / 0.45)) + 0.8 * np.exp(-np.square((y - low) / 0.4))
    part = echo[:, rows]
    part += within * (level - part) + rng.uniform(3, 7) * lines
