"""A lesion, painted into the part of a volume about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from . import fields, insides, shapes
from .grid import Grid
from .lesion_plan import Plan


@dataclass(frozen=True)
class Painted:
    """What a lesion makes of a part of a volume (slice, all depth, lateral): dB against fat, dB lost, its body, its
    rim, and its contrast in dB.
    """

    echo: np.ndarray
    loss: np.ndarray
    body: np.ndarray
    rim: np.ndarray
    contrast_db: float


def paint(
    rng: np.random.Generator, plan: Plan, part: Grid, offsets, echo: np.ndarray, loss: np.ndarray
) -> Painted | None:
    """`offsets` are mm from the centre (slice, depth, lateral); None where nothing of the body is in the part."""
    echo, loss = echo.copy(), loss.copy()
    mean = float(np.cbrt(np.prod(plan.radii)))
    apart = shapes.body(rng, part, offsets, plan.radii, plan.turn, plan.looks.form, plan.margin)
    body = _largest(apart < 0)
    if body is None:
        return None
    apart = np.where(body, apart, np.maximum(apart, 0.3)) if (apart < 0).sum() != body.sum() else apart
    around = (apart > 0.5) & (apart < 3)
    beside = echo[around].mean() if around.any() else 0.0
    if plan.distortion:
        strands = shapes.spicules(rng, offsets, 1.2 * mean)
        echo += strands * np.float32(plan.distortion) * np.exp(-np.maximum(apart, 0) / np.float32(0.8 * mean + 2))
    if plan.halo_db:
        width = 0.7 + 0.25 * min(mean, 6)
        halo = np.exp(-np.square((apart - np.float32(0.6 * width)) / np.float32(width)))
        halo *= np.clip(0.75 + 0.5 * fields.in_mm(rng, part, (mean,) * 3), 0, 1)
        echo += halo * np.maximum(np.float32(max(plan.halo_db, beside + 2)) - echo, 0)
    inner = insides.paint(rng, plan, part, offsets, apart)
    if plan.margin == "spiculated":
        strands = shapes.spicules(rng, offsets, mean) * (apart > 0)
        echo += strands * (np.float32(plan.level_db) - echo)
    share = fields.step(-apart, plan.blur)
    contrast = float(inner[body].mean() - beside)
    echo += share * (inner - echo)
    if plan.looks.inside == "duct":
        _duct(rng, offsets, apart, plan, echo)
    rim = (apart > -0.3) & (apart < 1.3)
    if plan.capsule_db:
        capsule = np.exp(-np.square((apart - np.float32(0.2)) / np.float32(rng.uniform(0.35, 0.6))))
        capsule *= np.clip(
            0.5 + 0.7 * np.abs(offsets[1]) / np.float32(plan.radii[1]), 0, 1
        )  # most where it lies across the beam
        echo += capsule * np.maximum(np.float32(plan.capsule_db) - echo, 0)
    insides.calcifications(rng, plan, echo, body, around)
    _behind(rng, plan, part, apart, share, loss)
    return Painted(echo, loss, body, rim, contrast)


def _largest(mask: np.ndarray) -> np.ndarray | None:
    """The largest connected part of a mask, without holes; None where it is empty."""
    parts, number = ndimage.label(mask)
    if not number:
        return None
    largest = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    return ndimage.binary_fill_holes(largest)


def _duct(rng: np.random.Generator, offsets, apart: np.ndarray, plan: Plan, echo: np.ndarray) -> None:
    """A dark tube that leads away on one side."""
    z, y, x = offsets
    way = rng.uniform(-0.7, 0.7)
    aside = np.square(z * np.cos(way) - x * np.sin(way)) + np.square(y + 0.15 * np.abs(x))
    along = z * np.sin(way) + x * np.cos(way)
    tube = np.exp(-aside / np.float32(rng.uniform(0.7, 1.3) ** 2)) * (along > 0) * (apart > 0)
    echo += tube * (np.float32(-17) - echo)


def _behind(
    rng: np.random.Generator, plan: Plan, part: Grid, apart: np.ndarray, share: np.ndarray, loss: np.ndarray
) -> None:
    """Shadow or enhancement under the body, at most some dB, fading with depth, and thin shadows under its sides."""
    path = np.cumsum(share, axis=1, dtype=np.float32) * np.float32(part.spacing[1])
    change = np.clip(path * np.float32(plan.attenuation), -rng.uniform(3, 9), rng.uniform(5, 18))
    if plan.edge_shadow:
        shell = np.exp(-np.square((apart - np.float32(0.3)) / np.float32(0.6)))
        sides = np.cumsum(shell, axis=1, dtype=np.float32) * np.float32(part.spacing[1])
        change += plan.edge_shadow * fields.step(sides - np.float32(3.0), 1.5)
    change *= 1 - share * np.float32(0.8)
    change *= np.clip(1 + 0.15 * fields.map_mm(rng, part, 2.0), 0, 2)[:, None, :]
    wide = 2 * rng.integers(1, 4) + 1
    for axis in (0, 2):
        change = ndimage.uniform_filter1d(change, wide, axis, mode="nearest")
    loss -= change
