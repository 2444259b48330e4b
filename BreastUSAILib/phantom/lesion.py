"""A lesion's voxels: exact mask, and how its tissue replaces, darkens and shadows what is there.

`build_lesion` looks at descriptors and volume, never at malignancy: an image tells of malignancy what they tell and no more, and the
posterior of `lexicon.py` is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .calcifications import Dots, Duct, draw_dots, draw_duct
from .geometry import Geometry, box_of, make_geometry
from .interiors import (
    TISSUE_ATTENUATION,
    amplitude,
    attenuation_line,
    beam_tangent_loss,
    depth_flatness,
    fill,
)
from .lexicon import LesionSpec
from .noise import smoothstep, streams, uniform
from .resample import Upsampling
from .solids import Axes, Noise
from .surface import strand_weight
from .truth import Descriptors

# Fields are worked out on voxels of about this size (mm) and read between them on finer grids.
_WORKING_MM = 0.4


@dataclass(frozen=True)
class LesionPatch:
    """A lesion on the volume's voxels; arrays are (depth, slice, lateral), all of one shape, and not to be written to.

    Attributes
    ----------
    mask : bool, the exact label.
    weight : float32 0..1, how far the lesion's tissue replaces the background: echo = background (1 - weight) + weight x `scene.absolute_echo`.
        0.5 on the mask's border; beyond it lie soft margins, strands, halo and ducts.
    echo : float32, linear amplitude relative to subcutaneous fat or, where it is bright, to the surroundings (`scene.absolute_echo`).
    attenuation : float32 dB/cm/MHz one way, absolute; to be blended by `weight`.
    specular : float32, amplitude of coherent reflectors, of a wide one in the units of fat's echo (may be a broadcast view, as `edge`): capsule and cyst walls where horizontal, calcifications.
    edge : float32, dB lost in crossing the voxel besides (there and back): refraction at the sides of smooth masses. Sum along depth for a beam.
    anchor : index (depth, slice, lateral) of the voxel at the middle of the mask's box.
    hyperechoic : whether the mass itself is brighter than what is around it.
    """

    mask: np.ndarray
    weight: np.ndarray
    echo: np.ndarray
    attenuation: np.ndarray
    specular: np.ndarray
    edge: np.ndarray
    anchor: tuple[int, int, int]
    hyperechoic: bool


def _transition_mm(descriptors: Descriptors, radius: float, generator: np.random.Generator) -> float:
    """Width over which the mass gives way to the tissue around it."""
    if descriptors.margin == "indistinct":
        return min(uniform(generator, 1.4, 3.0), 0.7 * radius)
    return {"circumscribed": 0.3, "angular": 0.4, "microlobulated": 0.35, "spiculated": 0.6}[descriptors.margin]


def _border(field: np.ndarray, axes: Axes, radius: float, transition: float, generator: np.random.Generator) -> np.ndarray:
    """Share of the mass across its border, `transition` mm wide on the whole, sharper here and softer there; float32, 0.5 on the surface."""
    reach = float(max(abs(a[i]) for a in axes for i in (0, -1)))
    sharpness = Noise(generator, min(max(radius, 2.5), 8.0), reach).field(axes)
    sharpness *= np.float32(0.4)
    sharpness += np.float32(1.0)
    np.clip(sharpness, np.float32(0.45), np.float32(1.6), out=sharpness)
    sharpness *= field
    sharpness *= np.float32(-1.0 / transition)
    sharpness += np.float32(0.5)
    return smoothstep(sharpness)


def _halo_weight(field: np.ndarray, axes: Axes, radius: float, generator: np.random.Generator) -> np.ndarray:
    """The echogenic rim: brightest at the mass, fading outward over 1 to 4 mm, in patches, missing on parts; float32 0..1."""
    thickness = min(uniform(generator, 1.8, 3.2), 0.4 + 0.55 * radius)
    reach = float(max(abs(a[i]) for a in axes for i in (0, -1)))
    width = Noise(generator, min(max(1.1 * radius, 2.5), 10.0), reach).field(axes)
    width *= np.float32(0.5)
    width += np.float32(0.8)
    np.clip(width, np.float32(0.05), np.float32(1.5), out=width)
    rim = np.maximum(field, np.float32(0.0)) / (width * np.float32(thickness))
    np.subtract(np.float32(1.0), rim, out=rim)
    np.maximum(rim, np.float32(0.0), out=rim)
    # Strands of fibrous tissue, some denser than others.
    patches = Noise(generator, min(max(0.35 * radius, 1.6), 3.5), reach).field(axes)
    patches *= np.float32(0.35)
    patches += np.float32(0.85)
    rim *= np.clip(patches, np.float32(0.15), np.float32(1.3), out=patches)
    # Where the rim is narrow it is faint as well.
    rim *= np.minimum(width * np.float32(1.3), np.float32(1.0))
    return np.minimum(rim, np.float32(0.9), out=rim)


def _over(weight: np.ndarray, echo: np.ndarray, above: np.ndarray, above_echo: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Lay tissue of weight `above` over what is there: the two blends in one weight and one echo."""
    total = weight + above - weight * above
    mixed = weight * (np.float32(1.0) - above) * echo
    mixed += above * above_echo
    mixed /= np.maximum(total, np.float32(1e-6))
    return total, mixed


class _Canvas:
    """What is painted on the working grid, around the mass and as far as strands and ducts reach."""

    def __init__(self, geometry: Geometry, tips: list) -> None:
        steps = [float(a[1] - a[0]) for a in geometry.axes]
        lines, core = [], []
        for k, (axis, step) in enumerate(zip(geometry.axes, steps, strict=True)):
            low = min([float(axis[0])] + [t[k] - 1.2 for t in tips])
            high = max([float(axis[-1])] + [t[k] + 1.2 for t in tips])
            before = max(int(np.ceil((float(axis[0]) - low) / step)), 0)
            after = max(int(np.ceil((high - float(axis[-1])) / step)), 0)
            first = int(round(float(axis[0]) / step))
            lines.append((np.arange(first - before, first + len(axis) + after) * step).astype(np.float32))
            core.append(slice(before, before + len(axis)))
        self.axes: Axes = tuple(lines)
        self.core = tuple(core)
        self.shape = tuple(len(v) for v in lines)

    def spread(self, inner: np.ndarray, value: float) -> np.ndarray:
        whole = np.full(self.shape, value, inner.dtype)
        whole[self.core] = inner
        return whole


def build_lesion(
    spec: LesionSpec, spacing: tuple[float, float, float], generator: np.random.Generator
) -> LesionPatch:
    """Make a lesion's voxels.

    Parameters
    ----------
    spec : what it is; `malignant`, `posterior` and `category` are not looked at.
    spacing : voxel size in mm along x (lateral), y (depth), z (slice), as `PhantomGrid.spacing` has it.
    generator : the lesion's own stream; a fixed number of its values is used.

    Returns
    -------
    The patch. The mask's volume is `spec.volume_ml` to 1 % (or the nearest voxel), one piece, without holes.

    Raises
    ------
    PhantomError : the voxels are too large for the lesion.
    """
    by_axis = (spacing[1], spacing[2], spacing[0])
    of_form, of_tissue, of_dots = streams(generator, 3)
    made = make_geometry(spec.descriptors, spec.volume_ml, by_axis, _WORKING_MM, of_form)
    kind = spec.descriptors.calcifications
    duct = draw_duct(made, of_dots) if kind == "intraductal" else None
    dots = draw_dots(kind, made, duct, of_dots) if kind != "none" else None
    axes, painted = _paint(spec.descriptors, made, duct, by_axis, of_tissue)
    hyperechoic = spec.descriptors.echo_pattern == "hyperechoic"
    return _on_voxels(made, axes, painted, dots, by_axis, hyperechoic)


def _paint(
    descriptors: Descriptors,
    made: Geometry,
    duct: Duct | None,
    spacing: tuple[float, float, float],
    generator: np.random.Generator,
) -> tuple[Axes, dict[str, np.ndarray]]:
    """The patch's arrays but for mask and dots, on the working grid; those that are zero throughout are left out."""
    of_inside, of_border, of_halo, of_strands, of_beam = streams(generator, 5)
    radius = made.radius
    tips = [s.tip() for s in made.strands] + ([duct.strand.tip()] if duct else [])
    canvas = _Canvas(made, tips)

    inside = fill(descriptors, made.field, made.inside, made.axes, radius, of_inside)
    transition = max(_transition_mm(descriptors, radius, of_border), 0.6 * max(spacing))
    if descriptors.margin in ("circumscribed", "indistinct"):  # abrupt, or soft, all around
        core = smoothstep(np.float32(0.5) - made.field * np.float32(1.0 / transition))
    else:
        core = _border(made.field, made.axes, radius, transition, of_border)
    level = float(np.median(inside[made.inside]))

    weight, echo = np.zeros_like(core), np.ones_like(core)
    haloed = descriptors.halo == "present"
    if haloed:
        weight = _halo_weight(made.field, made.axes, radius, of_halo)
        echo = np.full_like(core, amplitude(uniform(of_halo, 5.0, 8.5)))
    weight, echo = canvas.spread(weight, 0.0), canvas.spread(echo, 1.0)
    if made.strands:
        # Dark strands cross an echogenic halo; without one they are dark or bright (desmoplastic) against the tissue.
        bright = not haloed and of_strands.random() < 0.5
        strand_echo = amplitude(uniform(of_strands, 5.5, 8.0)) if bright else 1.15 * level
        strands = strand_weight(made.strands, canvas.axes, canvas.shape, 0.5)
        strands *= np.float32(0.9)
        weight, echo = _over(weight, echo, strands, np.float32(strand_echo))
    if duct is not None:
        lumen = strand_weight((duct.strand,), canvas.axes, canvas.shape, 0.5)
        weight, echo = _over(weight, echo, lumen, np.float32(duct.echo))
    weight[canvas.core], echo[canvas.core] = _over(weight[canvas.core], echo[canvas.core], core, inside)

    # Halo, strands and ducts attenuate as tissue does; only the mass itself shadows or enhances.
    attenuation = np.full(canvas.shape, TISSUE_ATTENUATION, np.float32)
    own = attenuation_line(descriptors, made.inside, made.axes, of_beam) - np.float32(TISSUE_ATTENUATION)
    attenuation[canvas.core] += own * (core / np.maximum(weight[canvas.core], np.float32(1e-6)))

    painted = {"weight": weight, "echo": echo, "attenuation": attenuation}
    if descriptors.margin == "circumscribed":
        cyst = descriptors.echo_pattern == "anechoic"
        thick = max(0.35, 0.7 * spacing[0])
        flat = depth_flatness(made.field, made.axes)
        flat *= flat
        flat *= np.maximum(np.float32(1.0) - np.abs(made.field) * np.float32(1.0 / thick), np.float32(0.0))
        flat *= np.float32(uniform(of_beam, 3.0, 5.0) if cyst else uniform(of_beam, 1.5, 3.5))
        painted["specular"] = canvas.spread(flat, 0.0)
        loss = uniform(of_beam, 3.0, 7.0) if cyst else uniform(of_beam, 1.5, 5.0)
        loss = beam_tangent_loss(made.inside, made.axes, loss * min(radius / 4.0, 1.0)) / np.float32(made.working[0])
        painted["edge"] = canvas.spread(loss, 0.0)
    return canvas.axes, painted


def _on_voxels(
    made: Geometry,
    axes: Axes,
    painted: dict[str, np.ndarray],
    dots: Dots | None,
    spacing: tuple[float, float, float],
    hyperechoic: bool,
) -> LesionPatch:
    """Read the working grid's fields on the volume's voxels, as far as they are not empty, and set the dots."""
    # All of the mask's voxels, and the nodes around all that has weight.
    some = painted["weight"] > np.float32(0.004)
    first, last = box_of(some)
    crop = []
    for axis, mask_axis, low, high in zip(axes, made.mask_axes, first, last, strict=True):
        low = min(max(int(low) - 1, 0), max(int(np.searchsorted(axis, mask_axis[0], side="right")) - 1, 0))
        high = max(min(int(high) + 1, len(axis) - 1), min(int(np.searchsorted(axis, mask_axis[-1])), len(axis) - 1))
        crop.append(slice(low, high + 1))
    up = Upsampling.onto(tuple(a[c] for a, c in zip(axes, crop, strict=True)), made.working, spacing)
    fine = {}
    for name in tuple(painted):  # each is let go once it is read: on the finest grids memory counts
        fine[name] = up(painted.pop(name)[tuple(crop)])
    mask = np.zeros(up.shape, bool)
    offset = [round(float(a[0]) / s) - f for a, s, f in zip(made.mask_axes, spacing, up.first, strict=True)]
    mask[tuple(slice(o, o + n) for o, n in zip(offset, made.mask.shape, strict=True))] = made.mask
    if dots is not None:
        fine.setdefault("specular", np.zeros(up.shape, np.float32))
        dots.paint(fine["specular"], up.axes)
    nothing = np.broadcast_to(np.zeros((1, 1, 1), np.float32), up.shape)
    low, high = box_of(mask)
    return LesionPatch(
        mask=mask,
        weight=fine["weight"],
        echo=fine["echo"],
        attenuation=fine["attenuation"],
        specular=fine.get("specular", nothing),
        edge=fine.get("edge", nothing),
        anchor=tuple(int(v) for v in (low + high) // 2),
        hyperechoic=hyperechoic,
    )
