"""Echo patterns: what fills a mass, relative to subcutaneous fat, as the lexicon has them (`scene.absolute_echo`).

Levels are drawn from the descriptors alone, never from malignancy: malignant masses are darker on average because their descriptors are
(irregular, spiculated, haloed and shadowing hypoechoic masses are drawn darker), and the posterior of `lexicon.py` stays exact.
"""

from __future__ import annotations

import numpy as np

from .noise import smoothstep, streams, uniform
from .solids import Axes, Noise, columns
from .transmission import exponential
from .truth import Descriptors

_NEPERS_A_DB = 0.115129

BRIGHTEST_DB = 4.0
"""No part of a mass is so much brighter than fat unless the mass is hyperechoic; halos and bright strands are (`scene.absolute_echo`)."""


def amplitude(db: float) -> float:
    """Amplitude ratio of so many decibels, rounded so that the last bits of the power do not matter."""
    return round(10.0 ** (db / 20.0), 6)


def _spread(generator: np.random.Generator, middle: float, half: float) -> float:
    """A triangular deviate: `middle` +- `half` at most."""
    return middle + half * (float(generator.random()) + float(generator.random()) - 1.0)


def level_db(descriptors: Descriptors, generator: np.random.Generator) -> float:
    """Echo of the solid (or, of cysts, the only) part against fat, dB; of a hyperechoic mass against its surroundings (`scene.absolute_echo`)."""
    pattern = descriptors.echo_pattern
    if pattern == "anechoic":
        return _spread(generator, -30.0, 4.0)
    if pattern == "hyperechoic":
        return _spread(generator, 6.5, 2.5)
    if pattern == "isoechoic":
        return _spread(generator, 0.0, 1.8)
    if pattern == "heterogeneous":
        return _spread(generator, -6.5, 3.0)
    if pattern == "complex cystic and solid":
        return _spread(generator, -6.0, 3.0)
    darker = (
        1.2 * (descriptors.shape == "irregular")
        + 1.5 * (descriptors.margin == "spiculated")
        + 0.8 * (descriptors.margin in ("angular", "microlobulated"))
        + 1.2 * (descriptors.halo == "present")
        + 1.0 * (descriptors.posterior_features in ("shadowing", "combined"))
    )
    return min(max(_spread(generator, -8.5 - darker, 5.0), -18.0), -4.0)


def _textured(echo: np.ndarray, noise: Noise, axes: Axes, strength: float) -> np.ndarray:
    """Echo times exp(strength x noise); changes `echo`."""
    ripple = noise.field(axes)
    np.clip(ripple, np.float32(-2.5), np.float32(2.5), out=ripple)
    ripple *= np.float32(strength)
    echo *= exponential(ripple)
    return echo


def _solid(
    level: float, descriptors: Descriptors, field: np.ndarray, axes: Axes, radius: float, generator: np.random.Generator
) -> np.ndarray:
    """Tissue with a faint texture, or with patches where the pattern is heterogeneous; at the border it grows more like its surroundings."""
    shape = tuple(len(a) for a in axes)
    echo = np.full(shape, amplitude(level), np.float32)
    reach = float(max(abs(a[i]) for a in axes for i in (0, -1)))
    if descriptors.echo_pattern == "heterogeneous":
        _textured(echo, Noise(generator, min(max(0.8 * radius, 2.0), 7.0), reach), axes, 0.6)
        return _textured(echo, Noise(generator, min(max(0.3 * radius, 1.2), 2.5), reach), axes, 0.3)
    if descriptors.echo_pattern == "anechoic":
        return _textured(echo, Noise(generator, min(max(0.5 * radius, 1.5), 4.0), reach), axes, 0.14)
    _textured(echo, Noise(generator, min(max(0.8 * radius, 1.5), 6.0), reach), axes, 0.16)
    _textured(echo, Noise(generator, min(max(0.3 * radius, 1.2), 2.5), reach), axes, 0.12)
    # The outer third: up to 45 % of the contrast in dB is lost, here more and there less.
    outer = np.clip(np.float32(1.0) + field * np.float32(3.0 / radius), np.float32(0.0), np.float32(1.0))
    uneven = Noise(generator, min(max(0.7 * radius, 1.5), 5.0), reach).field(axes)
    uneven *= np.float32(0.6)
    uneven += np.float32(0.4)
    outer *= np.clip(uneven, np.float32(0.0), np.float32(1.0), out=uneven)
    outer *= np.float32(-0.45 * level * _NEPERS_A_DB)
    echo *= exponential(outer)
    return echo


def _reverberation(echo: np.ndarray, mask: np.ndarray, axes: Axes, generator: np.random.Generator) -> np.ndarray:
    """Faint bands under the near wall of a cyst; changes `echo`."""
    strength = uniform(generator, 0.06, 0.22)
    period = uniform(generator, 0.8, 1.2)
    step = float(axes[0][1] - axes[0][0])
    top = np.argmax(mask, axis=0)
    below = (np.arange(len(axes[0]))[:, None, None] - top) * step  # mm under the near wall, float64
    below = np.where(mask.any(axis=0) & (below >= 0.0), below, 99.0)
    phase = below / period
    bands = 1.0 - np.abs(2.0 * (phase - np.floor(phase)) - 1.0)  # triangles: no sine needed
    haze = strength * (0.4 + 0.6 * bands) / (1.0 + below) ** 2
    haze *= below < 4.0
    echo += haze.astype(np.float32)
    return echo


def _cystic_spaces(
    solid: np.ndarray, field: np.ndarray, axes: Axes, radius: float, generator: np.random.Generator
) -> np.ndarray:
    """Cystic spaces divided by septa, with solid parts between: cells of random points; returns the share of cyst, 0..1."""
    count = 4 + int(uniform(generator, 0.0, 4.0))
    cystic = [generator.random() < 0.72 for _ in range(count)]
    cystic[0], cystic[1] = True, False
    nearest = np.full(solid.shape, 1e6, np.float32)
    second = nearest.copy()
    fluid = np.zeros(solid.shape, bool)
    inside = np.argwhere(field < -0.25 * radius)
    y, z, x = columns(axes)
    for wet in cystic:
        at = inside[int(generator.random() * len(inside))] if len(inside) else [n // 2 for n in solid.shape]
        cy, cz, cx = (a[i] for a, i in zip(axes, at, strict=True))
        distance = (y - cy) * (y - cy) + ((z - cz) * (z - cz) + (x - cx) * (x - cx))
        closer = distance < nearest
        np.minimum(second, np.maximum(nearest, distance), out=second)
        np.minimum(nearest, distance, out=nearest)
        fluid[closer] = wet
    # Distance to the wall between two cells, about; septa of half a millimetre to one.
    gap = np.sqrt(second) - np.sqrt(nearest)
    gap *= np.float32(0.5)
    septum = max(0.05 * radius, 0.3) * uniform(generator, 0.7, 1.3)
    wall = max(0.09 * radius, 0.4) * uniform(generator, 0.7, 1.5)
    soft = np.float32(1.0 / 0.3)
    open_ = smoothstep((gap - np.float32(septum)) * soft + np.float32(0.5))
    open_ *= smoothstep((-field - np.float32(wall)) * soft + np.float32(0.5))
    open_ *= fluid
    return open_


def fill(
    descriptors: Descriptors,
    field: np.ndarray,
    mask: np.ndarray,
    axes: Axes,
    radius: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """The echo inside a mass, linear amplitude as `LesionPatch.echo` has it.

    Parameters
    ----------
    field : distance to the surface in mm, negative inside; float32 (depth, slice, lateral).
    mask : the mass on the same grid.
    axes : the grid's coordinates in mm.
    radius : of the sphere of the mass's volume, mm.

    Returns
    -------
    float32, the shape of `field`; what it holds outside the mass belongs to the soft border.
    """
    of_level, of_texture, of_spaces, of_haze = streams(generator, 4)
    level = level_db(descriptors, of_level)
    echo = _solid(level, descriptors, field, axes, radius, of_texture)
    if descriptors.echo_pattern == "anechoic":
        _reverberation(echo, mask, axes, of_haze)
    elif descriptors.echo_pattern == "complex cystic and solid":
        fluid = _cystic_spaces(echo, field, axes, radius, of_spaces)
        fluid *= echo - np.float32(amplitude(-26.0))
        echo -= fluid
    if descriptors.echo_pattern != "hyperechoic":
        np.minimum(echo, np.float32(amplitude(BRIGHTEST_DB)), out=echo)
    return echo


def two_way_db(extent_mm: float) -> float:
    """dB that 1 dB/cm/MHz costs there and back through so many mm at 8 MHz."""
    return 2.0 * 8.0 * extent_mm / 10.0


TISSUE_ATTENUATION = 0.85
"""dB/cm/MHz of a mass that neither shadows nor enhances: between fat (0.73, PMC4618705) and gland."""


def attenuation_levels(extent_mm: float, generator: np.random.Generator) -> tuple[float, float]:
    """Attenuation (dB/cm/MHz) of a shadowing and of an enhancing mass of that depth.

    Chosen for the shadow that is seen: 10 to 20 dB below the tissue beside it at 8 MHz, 4 to 9 dB above it for enhancement, as far as
    5 and 0.02 dB/cm/MHz allow.
    """
    cost = max(two_way_db(extent_mm), 1.0)
    shadow = TISSUE_ATTENUATION + uniform(generator, 10.0, 20.0) / cost
    bright = TISSUE_ATTENUATION - uniform(generator, 4.0, 9.0) / cost
    return min(max(shadow, 1.3), 5.0), max(bright, 0.02)


def attenuation_line(
    descriptors: Descriptors, mask: np.ndarray, axes: Axes, generator: np.random.Generator
) -> np.ndarray:
    """The mass's attenuation, dB/cm/MHz: float32 (1, 1, lateral); it differs along the lateral axis alone."""
    rows = np.flatnonzero(mask.any(axis=(1, 2)))
    columns_ = np.flatnonzero(mask.any(axis=(0, 1)))
    extent = float(axes[0][rows[-1]] - axes[0][rows[0]])
    high, low = attenuation_levels(0.8 * extent, generator)
    kind = descriptors.posterior_features
    x = axes[2]
    if kind == "combined":  # a shadow behind one half, enhancement behind the other
        middle = 0.5 * float(x[columns_[0]] + x[columns_[-1]])
        side = 1.0 if generator.random() < 0.5 else -1.0
        share = smoothstep((x - np.float32(middle)) * np.float32(side / 2.0) + np.float32(0.5))
        line = np.float32(low) + np.float32(high - low) * share
    else:
        value = {"shadowing": high, "enhancement": low, "none": TISSUE_ATTENUATION * uniform(generator, 0.9, 1.1)}[kind]
        line = np.full(len(x), value, np.float32)
    return line[None, None, :]


def depth_flatness(field: np.ndarray, axes: Axes) -> np.ndarray:
    """How horizontal the surface lies: square of the normal's depth component, 0..1; float32."""
    step = float(axes[0][1] - axes[0][0])
    slope = np.zeros_like(field)
    np.subtract(field[2:], field[:-2], out=slope[1:-1])
    slope *= np.float32(0.5 / step)
    slope *= slope
    return np.minimum(slope, np.float32(1.0), out=slope)


def _distance_to(where: np.ndarray, spacing: tuple[float, float], reach: float) -> np.ndarray:
    """Distance in mm to the nearest true element of a plane, as far as it is below `reach`; `reach` elsewhere. float64."""
    distance = np.full(where.shape, reach)
    nz, nx = (min(int(reach / s), n - 1) for s, n in zip(spacing, where.shape, strict=True))
    for z in range(-nz, nz + 1):
        for x in range(-nx, nx + 1):
            away = ((z * spacing[0]) ** 2 + (x * spacing[1]) ** 2) ** 0.5
            if away < reach:
                (here_z, there_z), (here_x, there_x) = (
                    (slice(max(-k, 0), n - max(k, 0)), slice(max(k, 0), n - max(-k, 0)))
                    for k, n in zip((z, x), where.shape, strict=True)
                )
                here = distance[here_z, here_x]
                np.minimum(here, np.where(where[there_z, there_x], away, reach), out=here)
    return distance


def beam_tangent_loss(mask: np.ndarray, axes: Axes, loss_db: float) -> np.ndarray:
    """Refraction at the sides of a smooth mass: dB lost in crossing each voxel, float32; a beam that grazes the side loses `loss_db`.

    Beams are taken as vertical; what they lose is spent over a millimetre or two where the mass is widest.
    """
    dz, dx = (float(a[1] - a[0]) for a in axes[1:])
    dy = float(axes[0][1] - axes[0][0])
    silhouette = mask.any(axis=0)
    width = max(0.9, 1.2 * dx)
    off = np.where(silhouette, *(_distance_to(w, (dz, dx), width + 0.5 * dx) for w in (~silhouette, silhouette))) - 0.5 * dx
    graze = np.maximum(1.0 - np.abs(off) / width, 0.0)
    rows = np.flatnonzero(mask.any(axis=(1, 2)))
    counts = [int(np.count_nonzero(mask[r])) for r in rows]
    widest = int(rows[int(np.argmax(counts))])
    half = max(int(round(1.0 / dy)), 0)
    loss = np.zeros(mask.shape, np.float32)
    first, last = max(widest - half, 0), min(widest + half + 1, len(loss))
    loss[first:last] = (graze * (loss_db / (last - first))).astype(np.float32)
    return loss

