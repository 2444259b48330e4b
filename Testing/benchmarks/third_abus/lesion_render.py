"""A lesion's echoes in a box of the full grid, and what it does to the echoes below it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .lesion_plan import Plan
from .lesion_shape import Frame, Noise, draw_border_distance, draw_radius, frame_of
from .noise import sigmoid, smooth


@dataclass
class Rendered:
    """A lesion in its box; arrays (z, y, x).

    Attributes
    ----------
    start : first voxel of the box in the full grid, (z, y, x).
    alpha : share of tissue that the lesion replaces, 0 to 1.
    inside : bool, what the label map shows.
    texture : dB about the lesion's level.
    added : dB added to lesion and tissue: rims, halo, spicules.
    rate : dB/mm that are gained (> 0) or lost along depth.
    """

    start: tuple[int, int, int]
    alpha: np.ndarray
    inside: np.ndarray
    texture: np.ndarray
    added: np.ndarray
    rate: np.ndarray

    @property
    def window(self) -> tuple[slice, ...]:
        """The box in the full grid."""
        return tuple(slice(first, first + n) for first, n in zip(self.start, self.alpha.shape, strict=True))


def render(
    rng: np.random.Generator, plan: Plan, shape: tuple[int, int, int], voxel: tuple[float, float, float]
) -> Rendered:
    """Draw a lesion that has its place; `shape` and `voxel` (mm) are those of the full grid, (z, y, x)."""
    frame = frame_of(rng, plan, shape, voxel)

    def noise(cell: float) -> np.ndarray:
        return smooth(rng, frame.shape, voxel, (cell,) * 3)

    radius = draw_radius(rng, plan, frame)
    distance = draw_border_distance(rng, plan, frame, radius, noise)
    alpha = sigmoid(-distance / np.float32(max(plan.softness, 0.15) * 0.6))
    texture = _texture(rng, plan, frame, radius, noise)
    added = _rims(rng, plan, frame, distance, noise)
    inside = distance < 0
    if plan.spicules:
        alpha = _draw_spicules(rng, plan, frame, distance, alpha, added)
        # The feet of the spicules belong to the mass.
        inside |= (alpha > 0.6) & (distance < 0.15 * frame.mean_radius + 0.3)
    if plan.calcifications:
        _add_calcifications(rng, plan, radius, texture)
    rate = _rate(plan, frame, distance, alpha, noise)
    return Rendered(frame.start, alpha.astype(np.float32), inside, texture, added, rate.astype(np.float32))


def _texture(rng: np.random.Generator, plan: Plan, frame: Frame, radius: np.ndarray, noise: Noise) -> np.ndarray:
    """(z, y, x) dB about the lesion's level."""
    uniform, f32 = rng.uniform, np.float32
    mean = frame.mean_radius
    texture = f32(plan.heterogeneity_db) * noise(uniform(1.2, 1.2 + 0.5 * mean))
    if plan.cystic_from is not None:
        texture -= sigmoid((noise(uniform(0.35, 0.7) * mean) - plan.cystic_from) * 5) * f32(uniform(8, 18))
    if plan.kind == "cluster" or (plan.kind == "cyst" and rng.random() < 0.25):  # septa
        field = noise(max(2.0, 0.6 * mean))
        texture += np.exp(-((field / 0.12) ** 2)) * f32(uniform(6, 18))
    if plan.kind == "cyst" and rng.random() < 0.35:  # debris that lies on the floor, or floats
        debris = f32(uniform(3, 10))
        level, steepness = uniform(-0.9, 1.2), uniform(2, 8)
        texture += debris * sigmoid((frame.deep + level) * steepness * rng.choice([-1, 1]))
    if plan.kind in ("fibroadenoma", "cancer", "mass") and rng.random() < 0.4:  # from the border to the centre
        texture += f32(uniform(-5, 3)) * np.clip(1 - radius, 0, 1)
    return texture


def _rims(rng: np.random.Generator, plan: Plan, frame: Frame, distance: np.ndarray, noise: Noise) -> np.ndarray:
    """(z, y, x) dB of capsule, dark rim and halo."""
    added = np.zeros(frame.shape, np.float32)
    if plan.rim_db:  # brightest where it faces the beam
        facing = 0.45 + 0.55 * np.clip(np.abs(frame.deep), 0, 1)
        added += np.float32(plan.rim_db) * facing * np.exp(-(((distance - 0.35) / 0.5) ** 2))
    if plan.dark_rim_db:
        added -= np.float32(plan.dark_rim_db) * np.exp(-(((distance + 0.5) / 0.5) ** 2))
    if plan.halo_db:
        width = rng.uniform(1, 3)  # mm
        outside = np.exp(-np.maximum(distance, 0) / width) * (distance > 0)
        added += np.float32(plan.halo_db) * outside * np.clip(0.6 + 0.5 * noise(3), 0, 1.5)
    return added


def _draw_spicules(
    rng: np.random.Generator, plan: Plan, frame: Frame, distance: np.ndarray, alpha: np.ndarray, added: np.ndarray
) -> np.ndarray:
    """Draw spicules from the centre outwards: dark ones into `alpha`, which is returned, bright ones into `added`."""
    uniform = rng.uniform
    mean, from_centre = frame.mean_radius, frame.distance
    for _ in range(plan.spicules):
        direction = rng.normal(size=3) * (1, 0.8, 1)
        direction /= np.linalg.norm(direction)
        ahead = frame.z * direction[0] + frame.y * direction[1] + frame.x * direction[2]
        aside2 = np.maximum(from_centre * from_centre - ahead * ahead, 0)
        length = np.clip(mean * uniform(0.3, 1.3), 1.5, 6)
        left = np.clip(1 - distance / length, 0, 1)
        width = 0.3 + (0.1 + 0.14 * mean * uniform(0.4, 1.6)) * left**2  # a broad foot, a thin tip
        spicule = np.exp(-aside2 / (width * width)) * (ahead > 0) * (distance > -0.5) * left
        if rng.random() < 0.6:
            alpha = np.maximum(alpha, spicule * np.float32(0.85))
        else:
            added += np.float32(uniform(3, 9)) * spicule
    return alpha


def _add_calcifications(rng: np.random.Generator, plan: Plan, radius: np.ndarray, texture: np.ndarray) -> None:
    """Bright voxels in the mass, most of them with a second one beside."""
    candidates = np.argwhere(radius < 0.85)
    if not len(candidates):
        return
    for voxel in candidates[rng.integers(0, len(candidates), plan.calcifications)]:
        texture[tuple(voxel)] += np.float32(rng.uniform(10, 28))
        beside = voxel + rng.integers(-1, 2, 3)
        if np.all(beside >= 0) and np.all(beside < texture.shape):
            texture[tuple(beside)] += np.float32(rng.uniform(5, 18))


def _rate(plan: Plan, frame: Frame, distance: np.ndarray, alpha: np.ndarray, noise: Noise) -> np.ndarray:
    """(z, y, x) dB/mm along depth: of the lesion, uneven seen from the skin, and of its flanks."""
    mean, deep = frame.mean_radius, frame.radii[1]
    uneven = np.clip(1 + 0.35 * noise(max(2, 0.5 * mean))[:, :1], 0.2, 2)
    rate = alpha * np.float32(plan.through_db / (2 * deep)) * uneven
    if plan.edge_shadow_db:
        flanks = (np.abs(frame.deep) < 0.45) & (np.abs(distance) < 0.7)
        rate -= flanks * np.float32(plan.edge_shadow_db * 4 / max(deep, 2))
    return rate


def posterior_echoes(rng: np.random.Generator, rate: np.ndarray, step_y: float, enhancement: bool) -> np.ndarray:
    """(z, y, x) dB: `rate` (dB/mm) summed over depths of `step_y` mm, fading and spreading sideways below the lesion."""
    summed = np.empty_like(rate)
    fade_mm = rng.uniform(8, 40) if enhancement else rng.uniform(15, 120)
    kept = np.float32(np.exp(-step_y / fade_mm))
    spread = np.float32(rng.uniform(0.0, 0.08))
    padded = np.zeros((rate.shape[0] + 2, rate.shape[2] + 2), np.float32)
    for k in range(rate.shape[1]):
        padded *= kept
        padded[1:-1, 1:-1] += rate[:, k] * np.float32(step_y)
        middle = padded[1:-1, 1:-1]
        neighbours = padded[2:, 1:-1] + padded[:-2, 1:-1] + padded[1:-1, 2:] + padded[1:-1, :-2]
        middle += spread * (neighbours - 4 * middle)
        summed[:, k] = middle
    return summed
