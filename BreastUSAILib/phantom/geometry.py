"""The exact mask of a mass on a grid: body and margin, scaled to the volume, stretched to the orientation.

Everything is designed on a grid of the mass's own (about 22 voxels across), so that the same stream of random numbers gives the same
mass on every grid; only the last voxels of the mask are the grid's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..errors import PhantomError
from .level import exact_mask
from .resample import Upsampling
from .shapes import DEMANDED_RATIO, design_ratio, draw_body, radius_of
from .solids import Axes, Body
from .surface import Lobule, Strand, add_to_surface, draw_lobules, draw_strands, surface_points
from .truth import Descriptors

# Room around the mask in which the implicit function is kept: transitions and halo.
_ROOM_MM = 4.0
# Depth that no mass exceeds by design: the breast under an ABUS paddle is 3 to 5 cm thick.
_DEEPEST_MM = 34.0
# Fewer voxels hold no shape.
LEAST_VOXELS = 30


@dataclass(frozen=True)
class Geometry:
    """A mass on a grid.

    The implicit function is kept on a working grid, whose steps are whole multiples of the voxels'; both have a node at 0.

    Attributes
    ----------
    axes : the working grid's coordinates in mm around the mass's middle: depth, slice, lateral; float32.
    field : about the distance to the mask's surface in mm, negative inside: float32 (depth, slice, lateral).
    inside : bool, where `field` says that the mass is.
    working : voxels to a step of the working grid along depth, slice, lateral.
    mask_axes, mask : the exact mask on the voxels, and their coordinates.
    radius : of the sphere of the same volume, mm.
    strands : of a spiculated mass, else empty.
    """

    axes: Axes
    field: np.ndarray
    inside: np.ndarray
    working: tuple[int, int, int]
    mask_axes: Axes
    mask: np.ndarray
    radius: float
    strands: tuple[Strand, ...] = ()


@dataclass(frozen=True)
class _Design:
    body: Body
    parts: tuple[Lobule | Strand, ...]
    low: np.ndarray
    high: np.ndarray


def field_of(body: Body, parts: tuple[Lobule | Strand, ...], axes: Axes) -> np.ndarray:
    """The implicit function of body and margin on a grid: float32 (depth, slice, lateral), mm."""
    return add_to_surface(body.field(axes), parts, axes)


def box_of(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last index of the mask along each axis, both included."""
    first, last = [], []
    for axis in range(3):
        others = tuple(i for i in range(3) if i != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        first.append(int(hit[0]))
        last.append(int(hit[-1]))
    return np.array(first), np.array(last)


def depth_to_lateral(mask: np.ndarray, spacing: tuple[float, float, float]) -> float:
    """Extent of the mask's box along depth over that along lateral; `spacing` along depth, slice, lateral in mm."""
    first, last = box_of(mask)
    size = (last - first + 1) * np.array(spacing)
    return float(size[0] / size[2])


def _design(descriptors: Descriptors, volume_ml: float, ratio: tuple[float, float], seeds: list[int]) -> _Design:
    """Scale and stretch the drawn body until volume and box ratio are right on a grid of its own."""
    body_seed, margin_seed = seeds
    body = draw_body(descriptors, volume_ml, _generator(body_seed))
    radius = radius_of(volume_ml)
    step = radius / 11.0
    half = 2.3 * radius
    n = int(half / step)
    line = (np.arange(-n, n + 1) * step).astype(np.float32)
    axes = (line, line, line)
    wanted = volume_ml * 1000.0 / step**3
    scale = np.ones(3)
    parts: tuple[Lobule | Strand, ...] = ()
    for _ in range(8):
        body = replace(body, scale=tuple(round(float(k), 9) for k in scale))
        field = body.field(axes)
        if descriptors.margin == "microlobulated":
            parts = draw_lobules(surface_points(field, axes), radius, _generator(margin_seed))
        elif descriptors.margin == "spiculated":
            parts = draw_strands(surface_points(field, axes), radius, _generator(margin_seed))
        field = add_to_surface(field, parts, axes)
        mask = field <= 0.0
        first, last = box_of(mask)
        size = (last - first + 1).astype(np.float64)
        grow = (wanted / int(np.count_nonzero(mask))) ** (1.0 / 3.0)
        now = size[0] / size[2]
        stretch = min(max(now, ratio[0]), ratio[1]) / now
        factors = _stretch(size * step, stretch, ratio[0])
        if abs(grow - 1.0) < 0.01 and np.abs(factors - 1.0).max() < 0.01:
            break
        scale = scale * grow * factors
    low, high = line[first].astype(np.float64) - step, line[last].astype(np.float64) + step
    return _Design(body, parts, low, high)


def _stretch(size: np.ndarray, stretch: float, least_ratio: float) -> np.ndarray:
    """Factors along depth, slice, lateral that change depth over lateral by `stretch` and keep the volume and the depth's limit.

    A mass that would be deeper than `_DEEPEST_MM` becomes longer along the slices instead, and no wider than its orientation allows.
    """
    depth, lateral = stretch ** (2.0 / 3.0), stretch ** (-1.0 / 3.0)
    if size[0] * depth > _DEEPEST_MM:
        depth = _DEEPEST_MM / size[0]
        if least_ratio > 0.0:
            lateral = min(lateral, _DEEPEST_MM / least_ratio / size[2])
    return np.array([depth, 1.0 / (depth * lateral), lateral])


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed)))


def make_geometry(
    descriptors: Descriptors,
    volume_ml: float,
    spacing: tuple[float, float, float],
    working_mm: float,
    generator: np.random.Generator,
) -> Geometry:
    """Draw a mass and make its mask.

    Parameters
    ----------
    descriptors : shape, orientation and margin are looked at.
    volume_ml : cm3; the mask has it to 1 % or to the nearest voxel.
    spacing : mm along depth, slice, lateral.
    working_mm : the implicit function is worked out on steps of about this size where voxels are smaller (an eighth of the
        radius for small masses), and read between them.
    generator : two numbers of it are used.

    Raises
    ------
    PhantomError : the voxels are too large for the mass.
    """
    voxel = spacing[0] * spacing[1] * spacing[2]
    voxels = round(volume_ml * 1000.0 / voxel)
    if voxels < LEAST_VOXELS:
        raise PhantomError(
            f"A lesion of {volume_ml:g} cm3 has {voxels} voxels at a spacing of {' x '.join(f'{v:g}' for v in spacing)} mm; "
            f"at least {LEAST_VOXELS} are needed: choose a finer grid or a larger lesion."
        )
    radius = radius_of(volume_ml)
    working = tuple(max(int(min(working_mm, radius / 8.0) / s + 1e-6), 1) for s in spacing)
    seeds = [int(v) for v in generator.integers(0, 2**63, size=2)]
    ratio = design_ratio(descriptors)
    low_demand, high_demand = DEMANDED_RATIO[descriptors.orientation]
    for _ in range(8):
        design = _design(descriptors, volume_ml, ratio, seeds)
        axes = tuple(
            (np.arange(int(np.floor((low - _ROOM_MM) / s)), int(np.ceil((high + _ROOM_MM) / s)) + 1) * s).astype(np.float32)
            for low, high, s in zip(design.low, design.high, (n * s for n, s in zip(working, spacing, strict=True)), strict=True)
        )
        field = field_of(design.body, design.parts, axes)
        # The mask lies within the design's box and a little more; the rest of the room needs no voxels.
        near = tuple(
            slice(int(np.searchsorted(a, low - 1.0)), int(np.searchsorted(a, high + 1.0, side="right")))
            for a, low, high in zip(axes, design.low, design.high, strict=True)
        )
        up = Upsampling.onto(tuple(a[n] for a, n in zip(axes, near, strict=True)), working, spacing)
        mask, level = exact_mask(up(field[near]), voxels)
        got = depth_to_lateral(mask, spacing)
        if low_demand <= got <= high_demand:
            break
        # Voxels have rounded the box to the wrong side: aim further off.
        ratio = tuple(r * (0.95 if got > high_demand else 1.05) for r in ratio)
    field -= np.float32(level)
    strands = tuple(p for p in design.parts if isinstance(p, Strand))
    return Geometry(axes, field, field <= 0.0, working, up.axes, mask, radius, strands)
