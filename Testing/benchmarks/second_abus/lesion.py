"""Lesions: BI-RADS descriptors drawn given benign or malignant, then a shape and an inside that show them.

Descriptors are independent given the nature (but for cysts, whose posterior features are the same in both), so that Bayes' rule gives
exactly what a reader who sees them all can know: `posterior`. Their frequencies are round numbers after what atlases say of each
(Stavros 1995; ACR BI-RADS 2013), not those of any data set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .noise import ridges, sigmoid, smooth_noise
from .tissue import Tissue

TABLES = {  # value: (share of benign, share of malignant)
    "shape": {"oval": (0.72, 0.12), "round": (0.10, 0.08), "irregular": (0.18, 0.80)},
    "orientation": {"parallel": (0.90, 0.58), "not parallel": (0.10, 0.42)},
    "margin": {
        "circumscribed": (0.72, 0.07),
        "indistinct": (0.11, 0.27),
        "angular": (0.05, 0.16),
        "microlobulated": (0.09, 0.20),
        "spiculated": (0.03, 0.30),
    },
    "echo_pattern": {
        "hypoechoic": (0.67, 0.82),
        "anechoic": (0.15, 0.01),
        "heterogeneous": (0.06, 0.11),
        "complex cystic and solid": (0.03, 0.03),
        "isoechoic": (0.06, 0.02),
        "hyperechoic": (0.03, 0.01),
    },
    "posterior_features": {
        "none": (0.52, 0.37),
        "enhancement": (0.37, 0.12),
        "shadowing": (0.07, 0.43),
        "combined": (0.04, 0.08),
    },
    "calcifications": {"none": (0.94, 0.75), "in mass": (0.06, 0.25)},
    "halo": {"absent": (0.94, 0.62), "present": (0.06, 0.38)},
}
OF_CYSTS = {
    "posterior_features": {"none": (0.2, 0.2), "enhancement": (0.8, 0.8)},
    "calcifications": {"none": (1.0, 1.0)},
    "halo": {"absent": (1.0, 1.0)},
}


@dataclass(frozen=True)
class Plan:
    """What a lesion shall be. `radii` (depth, slice, lateral) mm of the ellipsoid that has the volume it shall have, before it is deformed."""

    malignant: bool
    posterior: float
    descriptors: dict[str, str]
    volume_ml: float
    radii: tuple[float, float, float]


@dataclass(frozen=True)
class Lesion:
    """What a lesion is. `mask` lies at `start` (depth, slice, lateral voxel) in the volume; `contrast_db` against 1 to 4 mm around, before sound."""

    plan: Plan
    start: tuple[int, int, int]
    mask: np.ndarray
    contrast_db: float


def draw_plan(random: np.random.Generator) -> Plan:
    """Draw nature (half malignant), descriptors and size. Volumes: log-normal about 0.75 ml, 0.05 to 15 ml; the same for both natures."""
    malignant = bool(random.uniform() < 0.5)
    descriptors: dict[str, str] = {}
    odds = 1.0
    # Echo first: it says whether it is a cyst.
    for name in sorted(TABLES, key=lambda n: n != "echo_pattern"):
        table = TABLES[name]
        if descriptors.get("echo_pattern") == "anechoic":
            table = OF_CYSTS.get(name, table)
        values = list(table)
        value = values[random.choice(len(values), p=[table[v][malignant] for v in values])]
        descriptors[name] = value
        odds *= table[value][1] / table[value][0]
    volume = float(np.exp(np.clip(random.normal(np.log(0.75), 1.15), np.log(0.05), np.log(15.0))))
    taller = descriptors["orientation"] == "not parallel"
    aspect = (
        1.0
        if descriptors["shape"] == "round"
        else 1.0 / random.uniform(1.12, 1.5)
        if taller
        else random.uniform(1.25, 2.1)
    )
    if descriptors["shape"] == "round" and taller:
        aspect = 0.9
    uneven = 1.0 if descriptors["shape"] == "round" else random.uniform(0.8, 1.25)
    equal = (volume * 1000 * 3 / (4 * np.pi)) ** (1 / 3)
    deep = equal / aspect ** (2 / 3)
    wide = equal * aspect ** (1 / 3)
    return Plan(malignant, odds / (1 + odds), descriptors, volume, (deep, wide * uneven, wide / uneven))


def category(posterior: float) -> str:
    """BI-RADS category with this probability of malignancy (ACR BI-RADS 2013)."""
    limits = ((0.02, "3"), (0.10, "4A"), (0.50, "4B"), (0.95, "4C"))
    return next((name for limit, name in limits if posterior <= limit), "5")


def place(
    random: np.random.Generator,
    plan: Plan,
    tissue: Tissue,
    spacing: tuple[float, float, float],
    others: list[np.ndarray],
) -> np.ndarray | None:
    """A centre (depth, slice, lateral) in mm between skin and chest wall, in contact, apart from `others` (rows: centre and largest radius); None: no room."""
    shape = tissue.level.shape
    reach = max(plan.radii) * 1.25
    for _ in range(200):
        z, x = (
            random.uniform(reach + 1, n * s - reach - 1) if n * s > 2 * reach + 2 else n * s / 2
            for n, s in zip(shape[1:], spacing[1:], strict=True)
        )
        row, column = int(z / spacing[1]), int(x / spacing[2])
        width = [max(1, int(plan.radii[k] / spacing[k])) for k in (1, 2)]
        about = (
            slice(max(row - width[0], 0), row + width[0] + 1),
            slice(max(column - width[1], 0), column + width[1] + 1),
        )
        low = float(tissue.skin[about].max()) + 0.5 + plan.radii[0] * 1.1
        high = float(tissue.chest[about].min()) - 0.3 - plan.radii[0] * 1.1
        if low > high or tissue.contact[about].min() < 0.9 or np.hypot(z - tissue.nipple[0], x - tissue.nipple[1]) < 9:
            continue
        centre = np.array([low + (high - low) * random.beta(1.6, 1.8), z, x])
        if all(np.linalg.norm(centre - other[:3]) > 1.3 * (reach + other[3]) + 2 for other in others):
            return centre
    return None


def insert(
    random: np.random.Generator, plan: Plan, centre: np.ndarray, tissue: Tissue, spacing: tuple[float, float, float]
) -> Lesion:
    """Put a lesion into the maps of a breast, which are changed."""
    words = plan.descriptors
    step = np.array(spacing)
    margin = 1.75 * max(plan.radii) + 6.0
    first = np.maximum(np.floor((centre - margin) / step), 0).astype(int)
    last = np.minimum(np.ceil((centre + margin) / step), tissue.level.shape).astype(int)
    box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    grid = np.ogrid[box]
    offset = np.stack(
        np.broadcast_arrays(*[(g + 0.5) * s - c for g, s, c in zip(grid, step, centre, strict=True)]), -1
    ).astype(np.float32)
    turned = offset @ _rotation(random).T.astype(np.float32)
    away = np.linalg.norm(offset, axis=-1) + np.float32(1e-3)
    bare = turned / np.array(plan.radii, np.float32)
    rho = np.linalg.norm(bare, axis=-1) + np.float32(1e-4)
    direction = bare / rho[..., None]
    border, spikes = _border(random, direction, words)

    # Two steps to the size that it shall have.
    voxel, size = float(step.prod()) / 1000, 1.0
    for _ in range(3):
        counted = max(np.count_nonzero(rho < size * border) * voxel, voxel)
        size *= (plan.volume_ml / counted) ** (1 / 3)
    mask = rho < size * border
    if not mask.any():
        mask[tuple(np.minimum(((centre / step).astype(int) - first), np.array(mask.shape) - 1))] = True
    distance = away * (1 - size * border / rho)  # mm along the ray, negative inside
    shell = (distance > 1) & (distance < 4)

    level, loss, specular = tissue.level[box], tissue.loss[box], tissue.specular[box]
    around = float(level[shell].mean()) if shell.any() else tissue.fat_level
    soft = {"circumscribed": random.uniform(0.12, 0.3), "indistinct": random.uniform(0.7, 1.5)}.get(
        words["margin"], random.uniform(0.25, 0.55)
    )
    soft = min(soft, 0.25 * min(plan.radii))
    part = sigmoid(-distance / np.float32(soft))
    thin = sigmoid(-away * (1 - size * (border + spikes) / rho) / np.float32(0.3)) * sigmoid((margin - 1 - away) / 0.8)

    if words["halo"] == "present":
        thick = random.uniform(1.2, 3.0)
        ring = np.exp(-np.square((distance - thick * 0.8) / thick)) * (distance > 0)
        ring *= np.clip(0.8 + 0.5 * smooth_noise(random, mask.shape, 2.5 / step), 0, 1.4)
        level += random.uniform(3.0, 7.0) * ring
    if words["margin"] == "circumscribed" and random.uniform() < 0.6:
        specular += (
            random.uniform(0.1, 0.45) * np.exp(-np.square((distance - 0.2) / 0.4)) * np.square(direction[..., 0])
        )
    inside = _inside(random, words["echo_pattern"], around, tissue.fat_level, mask.shape, step)
    if words["margin"] == "spiculated":
        level += 0.7 * thin * (1 - part) * (min(around, tissue.fat_level) - 2.0 - level)
    level += part * (inside - level)
    specular *= 1 - part
    if words["calcifications"] == "in mass":
        _calcify(random, level, distance, size)
    contrast = float(level[mask].mean() - level[shell].mean()) if shell.any() else 0.0

    _sound(random, words, loss, part, distance, direction, max(2 * plan.radii[0] * size, 2.0))
    own = np.argwhere(mask)
    low, high = own.min(0), own.max(0) + 1
    cut = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].copy()
    return Lesion(plan, tuple(int(v) for v in first + low), cut, contrast)


def _rotation(random: np.random.Generator) -> np.ndarray:
    """Any turn about the depth axis, then a slight tilt."""
    turn, tilt = random.uniform(0, 2 * np.pi), np.radians(random.uniform(-15, 15))
    about = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    lean = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    return lean @ about


def _on_sphere(random: np.random.Generator, direction: np.ndarray, frequency: float, waves: int = 14) -> np.ndarray:
    """Smooth noise of variance 1 on the unit sphere: plane waves in random directions."""
    total = np.zeros(direction.shape[:-1], np.float32)
    for _ in range(waves):
        total += np.cos(
            direction @ (_unit(random) * frequency).astype(np.float32) + np.float32(random.uniform(0, 2 * np.pi))
        )
    return total * np.float32(np.sqrt(2 / waves))


def _unit(random: np.random.Generator) -> np.ndarray:
    v = random.normal(size=3)
    return v / np.linalg.norm(v)


def _border(
    random: np.random.Generator, direction: np.ndarray, words: dict[str, str]
) -> tuple[np.ndarray, np.ndarray | float]:
    """Radius of the border, relative to the ellipsoid's, in each direction, and what spicules add to it where they leave the mass."""
    amount = {"round": 0.02, "oval": random.uniform(0.02, 0.08), "irregular": random.uniform(0.12, 0.24)}[
        words["shape"]
    ]
    border = 1 + amount * _on_sphere(random, direction, random.uniform(2.0, 4.0))
    spikes: np.ndarray | float = 0.0
    if words["shape"] == "irregular":
        border += 0.45 * amount * _on_sphere(random, direction, random.uniform(5.0, 8.0))
    if words["margin"] == "microlobulated":
        border += random.uniform(0.07, 0.13) * (0.8 - np.abs(_on_sphere(random, direction, random.uniform(7.0, 12.0))))
    elif words["margin"] == "angular":
        flat = np.full(direction.shape[:-1], 1.5, np.float32)
        for _ in range(int(random.integers(9, 16))):
            facing = direction @ _unit(random).astype(np.float32)
            flat = np.minimum(flat, np.float32(random.uniform(0.7, 1.0)) / np.maximum(facing, 0.05))
        border *= flat
    elif words["margin"] == "spiculated":
        spikes = np.zeros(direction.shape[:-1], np.float32)
        for _ in range(int(random.integers(10, 28))):
            close = direction @ _unit(random).astype(np.float32) - 1
            border += random.uniform(0.1, 0.4) * np.exp(np.float32(random.uniform(25, 70)) * close)
            spikes += np.float32(random.uniform(0.3, 0.9)) * np.exp(np.float32(random.uniform(90, 300)) * close)
    return np.clip(border, 0.35, 1.7), spikes


def _inside(random, pattern: str, around: float, fat: float, shape, step) -> np.ndarray:
    """The level within a lesion, dB."""
    grain = random.uniform(0.3, 1.2) * smooth_noise(random, shape, 1.5 / step)
    if pattern == "anechoic":
        return np.float32(random.uniform(-45, -34)) + grain
    if pattern == "hyperechoic":
        return np.float32(around + random.uniform(4.0, 7.0)) + grain
    if pattern == "isoechoic":
        return np.float32(around + random.uniform(-1.5, 1.5)) + grain
    level = min(around - random.triangular(4.5, 9.0, 20.0), fat - random.uniform(1.0, 3.0))
    if pattern == "heterogeneous":
        return np.float32(level) + random.uniform(2.5, 4.5) * smooth_noise(
            random, shape, random.uniform(1.5, 3.0) / step
        )
    if pattern == "complex cystic and solid":
        fluid = sigmoid(5 * (smooth_noise(random, shape, random.uniform(2.0, 4.0) / step) + 0.1))
        walls = 4.0 * ridges(smooth_noise(random, shape, 3.0 / step), 0.15)
        return fluid * np.float32(-36.0 - level) + np.float32(level + 3.0) + grain + walls * (1 - fluid)
    return np.float32(level) + grain


def _calcify(random, level, distance, size) -> None:
    """Bright points of a voxel, in a cluster within the mass; changes the map."""
    inner = np.argwhere(distance < -0.3)
    if not len(inner):
        return
    middle = inner[random.integers(len(inner))]
    nearest = inner[np.argsort(np.linalg.norm(inner - middle, axis=1), kind="stable")]
    among = nearest[: max(len(nearest) // 2, 1)]
    for point in among[random.integers(len(among), size=int(random.integers(4, 16)))]:
        level[tuple(point)] = random.uniform(6.0, 14.0)


def _sound(random, words, loss, part, distance, direction, thickness) -> None:
    """What a lesion does to the sound that passes it; changes the map of losses, dB per mm."""
    total = {
        "none": random.uniform(-1.0, 1.0),
        "enhancement": -random.uniform(3.0, 8.0),
        "shadowing": random.uniform(5.0, 18.0),
        "combined": random.uniform(5.0, 14.0),
    }[words["posterior_features"]]
    share = part
    if words["posterior_features"] == "combined":  # one half shadows
        share = part * sigmoid(direction @ np.array([0, *random.normal(size=2)], np.float32) * 6)
    loss *= 1 - part
    loss += np.float32(np.sign(total) * min(abs(total) / thickness, 2.5)) * share
    if words["margin"] == "circumscribed":  # refraction at steep smooth sides
        rim = np.exp(-np.square(distance / 0.5)) * np.square(np.linalg.norm(direction[..., 1:], axis=-1)) ** 2
        loss += random.uniform(0.0, 0.9) * rim
