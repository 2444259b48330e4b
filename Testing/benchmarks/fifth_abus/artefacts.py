"""What the scanner and the probe do to a picture, as gain in dB on the half grid, and where nothing was touched."""

from __future__ import annotations

import numpy as np

from .background import Scene
from .fields import ramp


def draw_artefacts(scene: Scene) -> None:
    """Add gains and shadows to the scene's shade; those that make a picture hard are seldom in plain ones."""
    rng = scene.rng
    much = {"plain": 0.25, "clouds": 0.6, "shadowy": 2.5}.get(scene.style, 1.0)
    drawn = []
    for name, (chance, draw) in ARTEFACTS.items():
        if rng.uniform() < chance * much:
            draw(scene)
            drawn.append(name)
    scene.facts["artefacts"] = drawn


def _depth_gain(scene: Scene) -> None:
    t = scene.depth / scene.extent[1]
    scene.shade += scene.rng.uniform(-14, 6) * t ** scene.rng.uniform(0.7, 3)
    focus, width = scene.rng.uniform(0.1, 0.9), scene.rng.uniform(0.15, 0.5)
    scene.shade += scene.rng.uniform(-1, 4) * np.exp(-(((t - focus) / width) ** 2))


def _vignette(scene: Scene) -> None:
    z, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in scene.shape[::2])
    edge = np.abs(z[:, None] + scene.rng.uniform(-0.3, 0.3)) ** 4 * scene.rng.integers(0, 2) + np.abs(x) ** 4
    scene.shade += scene.rng.uniform(-14, -3) * edge[:, None]


def _patches(scene: Scene) -> None:
    scene.shade += scene.rng.uniform(0.5, 3) * scene.sheet(scene.rng.uniform(15, 60))


def _column(scene: Scene, radii: tuple[float, float], decibel: float, top: float, fade: float) -> None:
    """A shadow (or the contrary) with nothing above it, radii mm (slice, lateral), from a depth on, fading away in `fade` mm."""
    rng = scene.rng
    place = [rng.uniform(0, scene.extent[0]), rng.uniform(0, scene.extent[2])]
    z, x = np.ix_(*(np.arange(n) * s - p for n, s, p in zip(scene.shape[::2], scene.steps[::2], place, strict=True)))
    r = np.sqrt((z / radii[0]) ** 2 + (x / radii[1]) ** 2).astype(np.float32)
    r += rng.uniform(0, 0.3) * scene.sheet(rng.uniform(3, 8))[:, 0]  # ragged
    wide = ramp((1 - r) / rng.uniform(0.3, 1.2))
    rows, columns = np.nonzero(wide.any(1))[0], np.nonzero(wide.any(0))[0]
    if not len(rows):
        return
    window = np.s_[rows[0] : rows[-1] + 1, :, columns[0] : columns[-1] + 1]
    deep = ramp((scene.depth - top) / 2) * np.exp(-np.clip(scene.depth - top, 0, None) / fade)
    scene.shade[window] += decibel * wide[window[0], None, window[2]] * deep


def _shadows(scene: Scene) -> None:
    rng = scene.rng
    for _ in range(rng.poisson(4) + 1):
        decibel = rng.choice([rng.uniform(-18, -4), rng.uniform(2, 5)], p=[0.8, 0.2])
        radii = (rng.uniform(2, 9), rng.uniform(2, 9) * rng.choice([1, 1, 3]))
        _column(scene, radii, decibel, rng.uniform(0, scene.extent[1] * 0.6), rng.choice([15, 40, 500]))


def _gaps(scene: Scene) -> None:
    """Air between probe and skin: dark columns from the top, some with a bright mouth."""
    rng = scene.rng
    for _ in range(rng.poisson(1.2) + 1):
        radii = (rng.uniform(3, 20), rng.uniform(2, 12))
        _column(scene, radii, rng.uniform(-40, -12), -2, 500)


def _nipple(scene: Scene) -> None:
    rng = scene.rng
    z, x = (np.arange(n) * s - n * s / 2 for n, s in zip(scene.shape[::2], scene.steps[::2], strict=True))
    z, x = z + rng.normal(0, 10), x + rng.normal(0, 8)
    r = np.hypot(z[:, None], x[None]).astype(np.float32)[:, None] + rng.uniform(0, 1.5) * scene.sheet(rng.uniform(3, 9))
    radius = rng.uniform(4, 9) * np.exp(-scene.depth / 1000) + scene.depth * rng.uniform(-0.08, 0.12)
    fade = np.exp(-scene.depth / rng.choice([25, 80, 500]))
    scene.shade += rng.uniform(-25, -6) * ramp((radius - r) / rng.uniform(2, 6)) * ramp(scene.depth / 2 - 1) * fade


def _reverberation(scene: Scene) -> None:
    wave = np.cos(2 * np.pi * scene.depth / scene.rng.uniform(1.5, 4)) * np.exp(-scene.depth / scene.rng.uniform(3, 9))
    scene.shade += scene.rng.uniform(1, 6) * wave


def _stripes(scene: Scene) -> None:
    rng = scene.rng
    if rng.uniform() < 0.6:
        scene.shade += rng.normal(0, rng.uniform(0.3, 1.5), (scene.shape[0], 1, 1)).astype(np.float32)
    else:
        scene.shade += rng.normal(0, rng.uniform(0.3, 1.5), (1, 1, scene.shape[2])).astype(np.float32)


def _bottom(scene: Scene) -> None:
    at = scene.extent[1] * scene.rng.uniform(0.75, 0.95) + scene.sheet(40)
    scene.shade += scene.rng.choice([-25, -12, 5]) * ramp((scene.depth - at) / scene.rng.uniform(1, 6))


ARTEFACTS = {
    "depth gain": (0.7, _depth_gain),
    "vignette": (0.35, _vignette),
    "patches": (0.35, _patches),
    "shadows": (0.4, _shadows),
    "gaps": (0.25, _gaps),
    "nipple": (0.4, _nipple),
    "reverberation": (0.25, _reverberation),
    "stripes": (0.2, _stripes),
    "bottom": (0.15, _bottom),
}


def contact(scene: Scene) -> np.ndarray:
    """True where there is a picture, (slice, lateral) in voxels: margins and corners may be black."""
    rng, (nz, _, nx) = scene.rng, scene.size
    seen = np.ones((nz, nx), bool)
    if rng.uniform() < 0.25:
        left, right = rng.uniform(0, 0.08, 2) * nx
        top, bottom = rng.uniform(0, 0.06, 2) * nz
        seen[: int(top)] = seen[nz - int(bottom) :] = False
        seen[:, : int(left)] = seen[:, nx - int(right) :] = False
    if rng.uniform() < 0.3:
        z, x = (np.linspace(-1, 1, n) for n in (nz, nx))
        power, reach = rng.uniform(2, 8), rng.uniform(1.0, 1.5)
        outline = np.abs(z[:, None] - rng.normal(0, 0.1)) ** power + np.abs(x - rng.normal(0, 0.1)) ** power
        wobble = 0.06 * np.interp(np.arange(nz), np.linspace(0, nz, 9), rng.standard_normal(9))
        seen &= outline < reach + wobble[:, None]
    return seen
