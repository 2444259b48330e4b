"""The coarse form of a mass: oval, round or irregular, parallel or not, smooth or faceted.

Lengths are drawn for a mass of about the wanted volume; `lesion.py` then scales the body until it meets the volume, and stretches it until
its box lies on the right side of parallel.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from .noise import uniform
from .solids import Body, Ellipsoid, Noise, Polyhedron, Solid, Vector, rotation
from .truth import Descriptors

# Box of a mass, depth over lateral: what the orientation demands of every mask, and what bodies are designed to.
DEMANDED_RATIO = {"parallel": (0.0, 0.95), "not parallel": (1.03, math.inf)}
_PARALLEL_DESIGN = (0.0, 0.88)
_NOT_PARALLEL_DESIGN = (1.12, math.inf)
_ROUND_DESIGN = (1.05, 1.12)

# Roughness of the surface by margin: (wavelength, amplitude) in units of the radius. Bumps and strands come on top (surface.py).
_ROUGHNESS = {
    "circumscribed": ((1.4, 0.02),),
    "indistinct": ((0.7, 0.055), (0.3, 0.03)),
    "angular": ((0.9, 0.025), (0.35, 0.01)),  # facets bulge and dip, and none is smooth
    "microlobulated": ((1.2, 0.02),),
    "spiculated": ((0.6, 0.05),),
}


def design_ratio(descriptors: Descriptors) -> tuple[float, float]:
    """Range of depth over lateral extent that the body is stretched into."""
    if descriptors.shape == "round":
        return _ROUND_DESIGN
    return _PARALLEL_DESIGN if descriptors.orientation == "parallel" else _NOT_PARALLEL_DESIGN


def radius_of(volume_ml: float) -> float:
    """Radius in mm of the sphere of that volume."""
    return round((750.0 * volume_ml / math.pi) ** (1.0 / 3.0), 9)  # the last bits of a power depend on the machine


def _proportions(descriptors: Descriptors, volume_ml: float, generator: np.random.Generator) -> Vector:
    """Half axes along depth, slice, lateral for a radius of 1.

    Large masses that are not parallel are only a little taller than wide and long along the slices: the breast under an ABUS
    paddle is a few centimetres deep.
    """
    large = min(max((volume_ml - 2.0) / 6.0, 0.0), 1.0)
    if descriptors.shape == "round":
        axes = (1.08, uniform(generator, 0.97, 1.08), 1.0)
    elif descriptors.orientation == "parallel":
        wide = uniform(generator, 1.25, 1.95) if descriptors.shape == "oval" else uniform(generator, 1.2, 1.7)
        axes = (1.0, wide * uniform(generator, 0.8, 1.1), wide)
    else:
        tall = uniform(generator, 1.22, 1.65 - 0.35 * large)
        along = uniform(generator, 0.85, 1.15) + large * uniform(generator, 0.2, 0.45)
        axes = (tall, along, 1.0)
    size = (axes[0] * axes[1] * axes[2]) ** (1.0 / 3.0)
    return axes[0] / size, axes[1] / size, axes[2] / size


def _direction(generator: np.random.Generator) -> Vector:
    """A unit vector, uniform over the sphere."""
    y = uniform(generator, -1.0, 1.0)
    turn = uniform(generator, 0.0, 2.0 * math.pi)
    flat = math.sqrt(max(1.0 - y * y, 0.0))
    return y, flat * math.sin(turn), flat * math.cos(turn)


def _facets(half_axes: Vector, faces: int, generator: np.random.Generator) -> Polyhedron:
    """A polyhedron around an ellipsoid: faces spread evenly over the sphere, each moved at random, tangent or a little nearer.

    Corners are blunt below the millimetre.
    """
    blunt = min(0.14 * (half_axes[0] + half_axes[1] + half_axes[2]) / 3.0, 0.9)
    normals, offsets = [], []
    turn = uniform(generator, 0.0, 2.0 * math.pi)
    for k in range(faces):
        y = 1.0 - (2.0 * k + 1.0) / faces
        flat = math.sqrt(1.0 - y * y)
        even = (y, flat * math.sin(turn), flat * math.cos(turn))
        turn += math.pi * (3.0 - math.sqrt(5.0))
        moved = [e + 0.35 * m for e, m in zip(even, _direction(generator), strict=True)]
        # Spread over the ellipsoid as over the sphere: normals of an ellipsoid are those of the sphere over its half axes.
        normal = [m / a for m, a in zip(moved, half_axes, strict=True)]
        length = math.sqrt(sum(n * n for n in normal))
        normal = tuple(n / length for n in normal)
        support = math.sqrt(sum((n * a) ** 2 for n, a in zip(normal, half_axes, strict=True)))
        normals.append(normal)
        offsets.append(support * uniform(generator, 0.75, 1.0))
    return Polyhedron(tuple(normals), tuple(offsets), blunt)


def _shifted(polyhedron: Polyhedron, by: Vector) -> Polyhedron:
    offsets = tuple(
        o + sum(n * b for n, b in zip(normal, by, strict=True))
        for o, normal in zip(polyhedron.offsets, polyhedron.normals, strict=True)
    )
    return replace(polyhedron, offsets=offsets)


def _parts(descriptors: Descriptors, half_axes: Vector, generator: np.random.Generator) -> list[Solid]:
    angular = descriptors.margin == "angular"
    # A small tilt; the turn mixes lateral and slice, which look alike from the skin.
    angles = (uniform(generator, -0.2, 0.2), uniform(generator, -0.5, 0.5))
    if descriptors.shape != "irregular":
        if angular:
            return [_facets(half_axes, 15, generator)]
        parts: list[Solid] = [Ellipsoid((0.0, 0.0, 0.0), half_axes, rotation(angles))]
        if descriptors.shape == "oval":
            # Up to two gentle undulations still make an oval (ACR BI-RADS Atlas).
            for _ in range(int(uniform(generator, 0.0, 3.0))):
                way = _direction(generator)
                centre = tuple(0.42 * w * a for w, a in zip(way, half_axes, strict=True))
                parts.append(Ellipsoid(centre, tuple(0.66 * a for a in half_axes), rotation(angles)))
        return parts
    # Irregular: a main body and others that stand out of it to one side and another.
    main = tuple(0.66 * a for a in half_axes)
    parts = [_facets(main, 9, generator) if angular else Ellipsoid((0.0, 0.0, 0.0), main, rotation(angles))]
    count = 2 + int(uniform(generator, 0.0, 2.0)) if angular else 3 + int(uniform(generator, 0.0, 3.0))
    for _ in range(count):
        way = _direction(generator)
        out = uniform(generator, 0.62, 0.95)
        centre = tuple(out * w * a for w, a in zip(way, half_axes, strict=True))
        size = uniform(generator, 0.34, 0.55)
        axes = tuple(size * a * uniform(generator, 0.75, 1.3) for a in half_axes)
        if angular:
            parts.append(_shifted(_facets(axes, 7, generator), centre))
        else:
            parts.append(Ellipsoid(centre, axes, rotation((uniform(generator, -0.8, 0.8), uniform(generator, -1.5, 1.5)))))
    return parts


def draw_body(descriptors: Descriptors, volume_ml: float, generator: np.random.Generator) -> Body:
    """The body of a mass of about that volume, around the origin; depends on shape, orientation, margin and volume alone."""
    radius = radius_of(volume_ml)
    half_axes = tuple(radius * a for a in _proportions(descriptors, volume_ml, generator))
    parts = _parts(descriptors, half_axes, generator)
    if descriptors.margin == "angular":
        blend = min(0.06 * radius, 0.6)
    else:
        blend = (0.25 if descriptors.shape == "oval" else 0.18) * radius
    noises = []
    for wavelength, amplitude in _ROUGHNESS[descriptors.margin]:
        # Ragged on the scale of millimetres, however large the mass.
        wave = min(max(wavelength * radius, 1.2), 9.0)
        noises.append((Noise(generator, wave, 3.0 * radius), min(amplitude * radius, 0.12 * wave)))
    return Body(tuple(parts), blend, tuple(noises))
