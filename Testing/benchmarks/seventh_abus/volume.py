"""A volume of the seventh generator, from a seed."""

from __future__ import annotations

import numpy as np
from abus_records import Volume

from . import breast, display, lesion_plan, mimics, motion, scanner, speckle
from .grid import Grid, to_full
from .placement import Scene

SIZE = (400, 100, 400)  # voxels, lateral, depth, slice
STREAM = 70_707  # of random numbers; no other generator's


def make_volume(seed: int, index: int, size: tuple[int, int, int]) -> Volume:
    """Volume `index` of a series; `size` is voxels (lateral, depth, slice)."""
    rng = np.random.default_rng([STREAM, seed, index])
    spacing = tuple(round(float(rng.uniform(*span)), 4) for span in ((0.33, 0.42), (0.42, 0.6), (0.38, 0.55)))
    grid = Grid(size[::-1], spacing[::-1])
    drawn = scanner.draw(rng)
    scene = _scene(rng, grid, drawn)
    seen = mimics.paint(rng, scene)
    plans = lesion_plan.draw_plans(rng)
    for plan in sorted(plans, key=lambda plan: -plan.volume_ml):
        scene.place(rng, plan)
    image, labels = motion.move(rng, _image(scene), scene.labels)
    facts = {
        **scene.breast.facts,
        "scanner": drawn.facts(),
        "mimics": {name: int(number) for name, number in seen.items()},
        "kinds": [lesion.plan.kind for lesion in scene.lesions],
        "planned": len(plans),
    }
    return Volume(image, labels, spacing, tuple(scene.lesions), facts)


def _scene(rng: np.random.Generator, grid: Grid, drawn: scanner.Scanner) -> Scene:
    """A breast without lesions on the voxels of a grid, with its speckle."""
    anatomy = breast.draw(rng, grid.half, drawn)
    shown = display.draw(rng, grid, drawn)
    echo, loss = to_full(anatomy.echo, grid), to_full(anatomy.loss, grid)
    noise = speckle.make(rng, grid, drawn)
    return Scene(grid, anatomy, shown, echo, loss, noise, np.zeros(grid.shape, np.uint8))


def _image(scene: Scene, slab: int = 40) -> np.ndarray:
    """uint8 (slice, depth, lateral), slab by slab."""
    image = np.empty(scene.grid.shape, np.uint8)
    for first in range(0, len(image), slab):
        part = slice(first, first + slab)
        image[part] = scene.display.process(scene.display.grey(scene.echo[part], scene.loss[part], scene.speckle[part]))
    return image
