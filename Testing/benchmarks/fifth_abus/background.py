"""Tissue without lesions: echo in dB on the half grid, about 0 dB for gland, in one of several kinds of picture."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .fields import cells, half, ramp, random_field

STYLES = {  # how often
    "plain": 0.12,  # speckle and little else
    "clouds": 0.12,  # noise of several lengths, no layers
    "layers": 0.18,  # skin, fat, gland, muscle
    "fatty": 0.13,  # fat in cells with bright septa, little gland
    "dense": 0.13,  # thick gland with ducts, islands of fat
    "cells": 0.10,  # cells with bright or dark walls everywhere
    "streaks": 0.10,  # fibres that lie flat
    "shadowy": 0.12,  # layers under many artefacts
}


@dataclass
class Scene:
    """What is drawn of a volume, in the making.

    Attributes
    ----------
    rng : of the volume.
    size : voxels (slice, depth, lateral).
    spacing : mm of a voxel, in that order; `steps` are those of the half grid.
    tissue : echo, dB, float32 on the half grid.
    shade : gain and shadows, dB, on the half grid; added to `tissue` in the end.
    skin : depth of the skin's lower border, mm, (slice, lateral) of the half grid.
    floor : depth of the chest wall, mm, in the middle; that of the volume where there is none.
    fat : echo of fat, dB. `lobules` : that of its lobules where there are some.
    facts : for the record.
    """

    rng: np.random.Generator
    style: str
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    tissue: np.ndarray = field(init=False)
    shade: np.ndarray = field(init=False)
    skin: np.ndarray = field(init=False)
    floor: float = field(init=False)
    fat: float = field(init=False)
    lobules: float | None = None
    facts: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        nz, ny, nx = self.size
        self.shape = (half(nz), ny, half(nx))
        self.steps = (2 * self.spacing[0], self.spacing[1], 2 * self.spacing[2])
        self.extent = tuple(n * s for n, s in zip(self.size, self.spacing, strict=True))  # mm
        self.depth = ((np.arange(ny) + 0.5) * self.spacing[1]).astype(np.float32)[None, :, None]  # mm
        self.shade = np.zeros(self.shape, np.float32)
        self.skin = np.zeros((self.shape[0], self.shape[2]), np.float32)
        self.floor, self.fat = self.extent[1], -4.0

    def field(self, lengths) -> np.ndarray:
        """A random field on the half grid; `lengths` mm (slice, depth, lateral)."""
        return random_field(self.rng, self.shape, self.steps, lengths)

    def sheet(self, length: float) -> np.ndarray:
        """A random field over slice and lateral, (slice, 1, lateral)."""
        return random_field(self.rng, self.shape[::2], self.steps[::2], length)[:, None]


def draw_background(scene: Scene) -> None:
    """Fill the scene's tissue, skin, floor and fat."""
    rng, style = scene.rng, scene.style
    scene.fat = float(rng.uniform(-9, -2))
    if style in ("layers", "fatty", "dense", "shadowy"):
        _layers(scene)
    elif style == "plain":
        scene.tissue = np.zeros(scene.shape, np.float32)
        if rng.uniform() < 0.7:
            scene.tissue += rng.uniform(0.3, 1.5) * scene.field(rng.uniform(10, 60))
    elif style == "clouds":
        length, slope = rng.uniform(12, 40), rng.uniform(0.5, 0.9)
        flat = np.array([1, rng.uniform(0.35, 1), 1])
        octaves = [slope**n * scene.field(length * flat / 2**n) for n in range(int(rng.integers(2, 5)))]
        scene.tissue = sum(octaves) * np.float32(rng.uniform(1, 4))
    elif style == "cells":
        wall, tone = cells(rng, scene.shape, scene.steps, rng.uniform(9, 26) * np.array([1, rng.uniform(0.4, 0.9), 1]))
        thick, height = rng.uniform(0.06, 0.2), rng.choice([rng.uniform(3, 9), rng.uniform(-5, -3)], p=[0.75, 0.25])
        scene.tissue = rng.uniform(1, 6) * tone + height * (1 - ramp(wall / thick - 0.5))
        scene.tissue += rng.uniform(0.5, 2) * scene.field(rng.uniform(15, 50))
    else:
        fibre = np.array([rng.uniform(6, 25), rng.uniform(0.8, 2.2), rng.uniform(6, 25)])
        scene.tissue = rng.uniform(1, 3.5) * scene.field(fibre) + rng.uniform(0.5, 2) * scene.field(fibre * 3)
    if style not in ("layers", "fatty", "dense", "shadowy") and rng.uniform() < 0.4:
        _skin(scene, rng.uniform(1, 2.5))
    if rng.uniform() < 0.6:  # what makes no tissue look like a ramp
        scene.tissue += rng.uniform(0.3, 1.3) * scene.field(rng.uniform(1.8, 5))


def _layers(scene: Scene) -> None:
    """Fat, gland and muscle under a skin; borders undulate, and how sharp they are is drawn."""
    rng, deep, style = scene.rng, scene.extent[1], scene.style
    thickness = rng.uniform(0.9, 3.0)
    waves = scene.sheet(rng.uniform(15, 60))
    top = thickness + deep * (rng.uniform(0.05, 0.3) if style != "dense" else rng.uniform(0.0, 0.1))
    top = np.maximum(top + rng.uniform(0.5, 4) * waves, thickness)
    scene.floor = deep * float(rng.uniform(0.62, 1.1))
    chest = scene.floor + rng.uniform(0.5, 3) * scene.sheet(rng.uniform(30, 90))
    chest -= rng.uniform(-0.1, 0.15) * deep * np.linspace(-1, 1, scene.shape[2], dtype=np.float32) ** 2
    blur = rng.uniform(0.8, 4)
    share = {"fatty": rng.uniform(-1.8, -0.6), "dense": rng.uniform(0.3, 1.5)}.get(style, rng.uniform(-0.7, 1))
    islands = scene.field(rng.uniform(7, 30) * np.array([1, rng.uniform(0.3, 0.8), 1]))
    gland = ramp((islands + share) / rng.uniform(0.3, 1.5))
    gland *= ramp((scene.depth - top) / blur)
    scene.tissue = scene.fat * (1 - gland)
    scene.tissue += gland * (rng.uniform(0.4, 2) * scene.field(rng.uniform(2, 6)))
    if style == "fatty" or rng.uniform() < 0.35:
        wall, tone = cells(rng, scene.shape, scene.steps, rng.uniform(8, 20) * np.array([1, rng.uniform(0.35, 0.8), 1]))
        septa = 1 - ramp(wall / rng.uniform(0.06, 0.16) - 0.5)
        scene.tissue += (1 - gland) * (rng.uniform(2, 8) * septa + rng.uniform(0, 4) * (tone - np.float32(0.5)))
    if rng.uniform() < 0.85:
        _muscle(scene, chest)
    _skin(scene, thickness)


def _muscle(scene: Scene, chest: np.ndarray) -> None:
    """A band of muscle with flat fibres between bright fasciae, and below it ribs and dark or bright nothing."""
    rng = scene.rng
    below = scene.depth - chest
    thick = rng.uniform(3, 12)
    level = scene.fat + rng.uniform(-4, 5)
    fibre = rng.uniform(0.5, 2.5) * scene.field([rng.uniform(5, 15), 1.0, rng.uniform(5, 15)])
    inside = ramp(below)
    scene.tissue += inside * (level + fibre - scene.tissue)
    for border in (0, thick):
        height = rng.uniform(0, 9)
        scene.tissue += height * np.clip(1 - np.abs(below - np.float32(border)) / rng.uniform(0.6, 1.4), 0, None)
    scene.shade += rng.choice([rng.uniform(-20, -6), rng.uniform(-6, 3)]) * ramp((below - thick) / rng.uniform(2, 8))
    if rng.uniform() < 0.6:  # ribs, in cross-section in one of the planes
        angle = rng.choice([0, np.pi / 2]) + rng.uniform(-0.4, 0.4)
        z, x = np.ix_(*(np.arange(n) * s for n, s in zip(scene.shape[::2], scene.steps[::2], strict=True)))
        wave = np.cos(2 * np.pi * ((z * np.cos(angle) + x * np.sin(angle)) / rng.uniform(18, 32) + rng.uniform()))
        arch = np.float32(thick) + 3 * (1 - wave[:, None].astype(np.float32))
        rib = ramp((wave[:, None].astype(np.float32) - rng.uniform(-0.2, 0.6)) * 4)
        scene.tissue += rib * rng.uniform(0, 8) * np.clip(1 - np.abs(below - arch) / 1.2, 0, None)
        scene.shade += rib * rng.uniform(-16, -4) * ramp((below - arch - 1) / 2)
        scene.facts["ribs"] = True


def _skin(scene: Scene, thickness: float) -> None:
    """A bright or dark line at the top, or two lines with less between."""
    rng = scene.rng
    border = np.maximum(thickness + 0.3 * scene.sheet(rng.uniform(10, 40)), 0.6)
    inside = 1 - ramp((scene.depth - border) / 0.6)
    level = rng.choice([rng.uniform(2, 9), rng.uniform(-5, 2)], p=[0.75, 0.25])
    scene.tissue += inside * (level - scene.tissue)
    if rng.uniform() < 0.4:
        scene.tissue += rng.uniform(2, 6) * np.clip(1 - np.abs(scene.depth - border) / 0.6, 0, None)
    scene.skin = border[:, 0]
