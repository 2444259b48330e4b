"""What is no lesion and may be taken for one: lobules of fat, bright blobs, tubes, septa. On the half grid, without labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .background import Scene
from .fields import ramp

MEAN_NUMBER = {"plain": 0.5, "clouds": 3, "layers": 8, "fatty": 14, "dense": 12, "cells": 3, "streaks": 5, "shadowy": 9}


def draw_clutter(scene: Scene) -> None:
    rng = scene.rng
    area = scene.extent[0] * scene.extent[2] / (150 * 170)
    mean = MEAN_NUMBER[scene.style] * area * rng.choice([0.3, 1, 2])
    soft = rng.uniform(0.35, 0.9)
    numbers = {"lobules": rng.poisson(mean * 1.5), "bright": rng.poisson(mean / 4), "tubes": rng.poisson(mean / 3)}
    numbers["septa"] = rng.poisson(mean / 2)
    dark = scene.fat + rng.uniform(-3, 2)  # all the lobules of a volume are alike
    scene.lobules = dark if numbers["lobules"] > 2 else None
    for _ in range(numbers["lobules"]):
        long = rng.uniform(3, 11)
        radii = long * np.array([rng.uniform(0.6, 1), rng.uniform(0.22, 0.42), rng.uniform(0.6, 1)])
        _blob(scene, radii, dark + rng.normal(0, 1), soft, rng.uniform(0.6, 1))
    for _ in range(numbers["bright"]):
        radii = rng.uniform(1, 7) * rng.uniform([0.6, 0.3, 0.6], 1)
        _blob(scene, radii, rng.uniform(2, 8), rng.uniform(0.4, 1), 1)
    for _ in range(numbers["tubes"]):
        _tube(scene)
    for _ in range(numbers["septa"]):
        radii = np.array([rng.uniform(3, 14), rng.uniform(0.5, 0.9), rng.uniform(3, 14)])
        _blob(scene, radii, rng.uniform(2, 9), 0.9, 1, lean=rng.normal(0, 0.3, 2))
    scene.facts["clutter"] = {name: int(n) for name, n in numbers.items()}


def _place(scene: Scene) -> np.ndarray:
    return scene.rng.uniform([0, 4, 0], [scene.extent[0], max(min(scene.floor, scene.extent[1]), 5), scene.extent[2]])


def _crop(scene: Scene, centre: np.ndarray, reach: np.ndarray) -> Iterator:
    """A window of the half grid about a place (mm) and its coordinates from there; the window is empty outside."""
    first = [max(int((c - r) / s), 0) for c, r, s in zip(centre, reach, scene.steps, strict=True)]
    last = [min(int((c + r) / s) + 2, n) for c, r, s, n in zip(centre, reach, scene.steps, scene.shape, strict=True)]
    window = tuple(slice(a, max(b, a)) for a, b in zip(first, last, strict=True))
    axes = [np.arange(w.start, w.stop) * s - c for w, s, c in zip(window, scene.steps, centre, strict=True)]
    return window, np.ix_(*(a.astype(np.float32) for a in axes))


def _blob(scene: Scene, radii: np.ndarray, level: float, soft: float, weight: float, lean=(0.0, 0.0)) -> None:
    """An ellipsoid with soft borders; `lean` is its slope, depth over slice and lateral."""
    lift = abs(lean[0]) * radii[0] + abs(lean[1]) * radii[2]
    window, (z, y, x) = _crop(scene, _place(scene), radii * (1 + soft) + np.array([0, lift * 2, 0]))
    y = y - lean[0] * z - lean[1] * x
    r = np.sqrt((z / radii[0]) ** 2 + (y / radii[1]) ** 2 + (x / radii[2]) ** 2)
    part = scene.tissue[window]
    part += weight * ramp((1 - r) / soft) * (np.float32(level) - part)


def _tube(scene: Scene) -> None:
    """A duct or vessel: a random walk that likes to lie flat, dark inside, at times with bright walls."""
    rng = scene.rng
    radius, level, wall = rng.uniform(0.7, 2.0), rng.uniform(-16, -6), rng.choice([0, rng.uniform(2, 6)])
    place, heading = _place(scene), rng.normal(0, [1, 0.3, 1])
    for _ in range(int(rng.integers(10, 60))):
        heading = heading + rng.normal(0, [0.25, 0.12, 0.25])
        heading[1] *= 0.9
        heading /= np.linalg.norm(heading)
        place = place + heading * radius * 0.7
        if not (0 < place[0] < scene.extent[0] and 3 < place[1] < scene.floor and 0 < place[2] < scene.extent[2]):
            break
        window, (z, y, x) = _crop(scene, place, np.full(3, radius + 1.5))
        r = np.sqrt(z**2 + y**2 + x**2)
        part = scene.tissue[window]
        np.minimum(part, part + ramp((radius - r) / 0.8) * (np.float32(level) - part), out=part)
        if wall:
            np.maximum(part, wall * ramp((0.9 - np.abs(r - radius - 0.5)) * 2) - 30 * (r < radius), out=part)
