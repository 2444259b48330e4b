"""Figures of a lesion's mask in a volume, as a reader would report them (3D).

`measurements.measure_2d` is the same for 2D images; figures of both have one name where they mean the same.
"""

from __future__ import annotations

import math

import numpy as np
import SimpleITK as sitk

from .echoes_3d import Echoes
from .errors import ImageError, UsageError
from .grid import physical_to_index
from .hull_3d import Hull, farthest_pair
from .measurements import is_wider_than_tall
from .surface_3d import SpeckError, Surface, offsets_from, smooth_surface

DETAIL_MM = 0.5  # what is finer on a surface is not looked at for its area
OVERALL = 0.35  # of the ball's radius: what is finer is roughness of the surface, what is coarser is the lesion's form
FINEST_MM = 0.25  # what is finer is the voxels' staircase, not the lesion's
SPICULE_MM = 0.75  # what smooths spicules away: strands of about a millimetre, however large the lesion
SPICULE_PERCENTILE = 99.0
_ROUND = 1e-3  # axes that differ by less than this share have no direction

_LENGTHS = (
    "major_diameter second_diameter third_diameter equal_volume_diameter width height length depth spiculation"
).split()
_RATIOS = (
    "orientation_deg parallel_to_skin height_to_width_ratio sphericity solidity surface_roughness contrast_ratio "
    "posterior_ratio echo_heterogeneity"
).split()


def measure_3d(mask: sitk.Image, image: sitk.Image, spacing_known: bool = True) -> dict[str, float | None]:
    """Measure one lesion of a volume.

    Everything is measured along the image's own axes, whatever its direction cosines: x (lateral) and z (slice) are
    parallel to the skin, y goes into depth, and y = 0 is the skin side, as in `detect` and the phantoms. Coordinates are
    voxel indices times the spacing; a voxel is a box of one spacing along each axis around its centre. Only the
    lesion's surroundings are looked at, so a large volume takes no more time or memory than a small one. Volume, box, moments and the
    echoes are those of the voxels; surfaces are made on blocks of them no wider than two thirds of the Gaussian that smooths the mask
    (`surface_3d.smooth_surface`), so a finer grid costs a large lesion little.

    Parameters
    ----------
    mask : 3D, not zero inside; on the image's grid, or on a part of it (a crop of whole voxels, `grid.crop_to_box`).
    image : 3D, one component: the echoes.
    spacing_known : whether the image's spacing is in millimetres. If not, a voxel counts as 1 by 1 by 1, and the names
        end in ``_px``, ``_px2`` and ``_px3`` instead of ``_mm``, ``_mm2`` and ``_ml``.

    Returns
    -------
    dict of these names, None where a figure has no meaning (all of them for an empty mask):

    - ``volume_ml`` V: number of voxels times the volume of one.
    - ``major_diameter_mm``: the longest diameter (maximum Feret diameter) of the convex hull of the surface around V,
      smoothed by 0.25 mm (half the largest spacing, where that is more); where that takes the ends of a slender lesion away, so that it is shorter
      than what lies between the centres of two voxels, of the hull of the voxels' faces.
    - ``second_diameter_mm``: the longest chord of that hull perpendicular to the longest diameter;
      ``third_diameter_mm``: the longest chord perpendicular to both. So a reader sets the callipers: the longest axis
      first, then across it, then in the plane perpendicular to that image (ACR BI-RADS Atlas, 5th edition: the longest
      dimension, its perpendicular, and the third in the orthogonal view). 2 a, 2 b and 2 c for an ellipsoid.
    - ``equal_volume_diameter_mm``: of the ball of the same volume, (6 V / pi)^(1/3).
    - ``width_mm``, ``height_mm``, ``length_mm``: extent of the bounding box along x, y and z.
    - ``depth_mm``: from the volume's first voxel face at the skin (y = 0) to the box. Where a volume was cut off below
      the skin, what was cut off is missing here.
    - ``orientation_deg``: angle between the long axis of the ellipsoid of the same second moments and the skin, 0
      (parallel) to 90; None where no axis is the longest (balls, discs).
    - ``height_to_width_ratio``: height / width of the box; 1 and above is "taller than wide".
    - ``parallel_to_skin``: 1 where that is below 1, 0 otherwise: the lexicon's orientation, "parallel" (wider than
      tall) or "not parallel", which includes round.
    - ``surface_mm2`` A: area of the surface around V, smoothed by a Gaussian of 0.5 mm (the largest spacing, where that is more);
      within 2 % for ellipsoids wider than 8 voxels; each sharp edge is cut by about half a millimetre.
    - ``sphericity``: pi^(1/3) (6 V)^(2/3) / A, 1 for a ball, less for everything else.
    - ``solidity``: V / volume of the convex hull of the diameters, at most 1.
    - ``surface_roughness``: root mean square of the distances between that surface and the lesion's overall form, less
      their mean, / R, where R is the ball's radius and the overall form is the surface around V smoothed by 0.35 R: how high
      lobules and dents are, whatever their width and the lesion's size. 0 for a ball.
    - ``spiculation_mm``: the spiculation index, how far narrow processes stand out: the 99th percentile of the distances
      by which the surface of the diameters lies outside the one that is smoothed by 0.75 mm, in which processes narrower
      than 1.5 mm are gone. About 0.2 mm and less on smooth lesions. None where the spacing is above 1 mm or not known, as
      spicules do not show then.
    - ``contrast_ratio``: mean inside / mean of the shell around, as wide as 0.2 of the ball's diameter, one voxel at least; the shell's
      outer face lies there within 1/256 of its width where voxels are many times finer than it is wide (`echoes_3d.within`).
    - ``posterior_ratio``: mean behind the lesion / mean beside that; above 1 is enhancement, below shadowing. Behind are the beams
      (columns along y) through the lesion, without those near its sides, from the box's lower face to one box height deeper;
      beside are the beams of a ring around the lesion at the same depths. None when less than a quarter of the
      lesion's height is left below it or nothing beside.
    - ``echo_heterogeneity``: standard deviation / mean of the echoes inside.

    The moments include those of a voxel (spacing^2 / 12 along each axis). Ratios of echoes are None where the mean that
    they are divided by is not positive.

    Raises
    ------
    UsageError : mask or image is not 3D, or the mask is not on the image's grid.
    ImageError : the image has several components a voxel, or values about the lesion that are not finite.
    """
    start = _place(mask, image)
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise ImageError("the volume has several components a voxel (colour?); convert it to grey to measure it.")
    spacing = np.array(image.GetSpacing()[::-1] if spacing_known else (1.0, 1.0, 1.0))  # (z, y, x)
    lengths: dict[str, float | None] = dict.fromkeys(_LENGTHS)
    ratios: dict[str, float | None] = dict.fromkeys(_RATIOS)
    volume = surface_area = None

    voxels = sitk.GetArrayViewFromImage(mask)
    bounds = _bounds(voxels)
    if bounds is not None:
        inside = voxels[bounds] != 0
        echoes = Echoes(sitk.GetArrayViewFromImage(image), start + [part.start for part in bounds], inside, spacing)
        count = int(np.count_nonzero(inside))
        cubic_mm = count * float(spacing.prod())
        ball = (6 * cubic_mm / math.pi) ** (1 / 3)
        length, height, width = np.multiply(inside.shape, spacing)
        try:
            surface_area, diameters, shape = _of_surfaces(inside, spacing, cubic_mm, spacing_known)
        except SpeckError:
            surface_area, diameters, shape = _of_surfaces(inside, spacing, cubic_mm, spacing_known, speck=True)
        volume = cubic_mm / 1000 if spacing_known else cubic_mm
        lengths |= {
            **diameters,
            "equal_volume_diameter": ball,
            "width": width,
            "height": height,
            "length": length,
            "depth": echoes.first[1] * spacing[1],
        }
        ratios |= {
            "orientation_deg": _orientation(inside, spacing),
            "parallel_to_skin": float(is_wider_than_tall(height, width)),
            "height_to_width_ratio": height / width,
            **shape,
            **echoes.ratios(ball),
        }
    unit, cubic = ("mm", "volume_ml") if spacing_known else ("px", "volume_px3")
    figures = {
        cubic: volume,
        **{f"{name}_{unit}": value for name, value in lengths.items()},
        f"surface_{unit}2": surface_area,
        **ratios,
    }
    return {name: None if value is None else float(value) for name, value in figures.items()}


def _place(mask: sitk.Image, image: sitk.Image) -> np.ndarray:
    """Index (z, y, x) in the image of the mask's first voxel. Raises `UsageError` where the mask is not on its grid."""
    same = (
        mask.GetDimension() == image.GetDimension() == 3
        and np.allclose(mask.GetSpacing(), image.GetSpacing(), rtol=1e-5, atol=0)
        and np.allclose(mask.GetDirection(), image.GetDirection(), rtol=0, atol=1e-5)
    )
    if same:
        index = physical_to_index(image, mask.GetOrigin())
        start = np.rint(index).astype(int)
        within = np.all(start >= 0) and np.all(start + mask.GetSize() <= image.GetSize())
        if within and np.allclose(index, start, rtol=0, atol=0.01):
            return start[::-1]
    raise UsageError(
        f"the mask {mask.GetSize()} is not on the grid of the volume {image.GetSize()}; both must be 3D, and the mask a "
        "part of whole voxels, to be measured together."
    )


def _bounds(voxels: np.ndarray) -> tuple[slice, slice, slice] | None:
    """The bounding box of what is not zero; None where all is. Each axis is looked at within those before it."""
    part = [slice(None)] * 3
    for axis in range(3):
        filled = np.flatnonzero(voxels[tuple(part)].any(axis=tuple(a for a in range(3) if a != axis)))
        if filled.size == 0:
            return None
        part[axis] = slice(int(filled[0]), int(filled[-1]) + 1)
    return tuple(part)


# ---------------------------------------------------------------------------------------------------------- shape


def _orientation(inside: np.ndarray, spacing: np.ndarray) -> float | None:
    """Angle between the long axis of the ellipsoid of the same second moments and the skin, degrees."""
    count = np.count_nonzero(inside)
    places = [np.arange(n) * step for n, step in zip(inside.shape, spacing, strict=True)]
    # From sums over the third axis: a list of all voxels of a large mask would take gigabytes.
    ones = inside.view(np.uint8)
    planes = {(i, j): ones.sum(axis=3 - i - j, dtype=np.uint32) / count for i, j in ((0, 1), (0, 2), (1, 2))}
    lines = (planes[0, 1].sum(axis=1), planes[0, 1].sum(axis=0), planes[0, 2].sum(axis=0))
    places = [place - place @ line for place, line in zip(places, lines, strict=True)]
    covariance = np.diag([place**2 @ line for place, line in zip(places, lines, strict=True)] + spacing**2 / 12)
    for (i, j), plane in planes.items():
        covariance[i, j] = covariance[j, i] = places[i] @ plane @ places[j]
    values, vectors = np.linalg.eigh(covariance)
    if math.sqrt(values[2] / values[1]) - 1 < _ROUND:
        return None
    return math.degrees(math.asin(min(1.0, abs(float(vectors[1, 2])))))


def _reaching(hull: Hull, inside: np.ndarray, spacing: np.ndarray) -> Hull:
    """The hull that diameters are those of: that of the smoothed surface, or, where smoothing has taken the ends of a slender lesion away, so that the
    surface is shorter than what lies between the centres of two of its voxels, that of the faces of its voxels."""
    centres = _corners(_ends(inside) * spacing)
    first, last = farthest_pair(centres)
    if np.linalg.norm(centres[last] - centres[first]) <= hull.longest:
        return hull
    half = np.diag(spacing / 2)
    return Hull(np.concatenate([centres + step for step in (*half, *-half)]))


def _corners(points: np.ndarray) -> np.ndarray:
    """Those of some points (n, 3) that are corners of their hull; all of them where they lie in a plane."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        return points[ConvexHull(points).vertices]
    except QhullError:
        return points


def _ends(inside: np.ndarray) -> np.ndarray:
    """Indices (n, 3) of the first and the last voxel of each line along the last axis: no others are corners of the hull of the voxels, as of those on a
    line all but its ends lie between two."""
    lines = np.argwhere(inside.any(axis=2))
    rows = inside[tuple(lines.T)]
    first, last = rows.argmax(axis=1), inside.shape[2] - 1 - rows[:, ::-1].argmax(axis=1)
    return np.concatenate([np.column_stack([lines, ends]) for ends in (first, last)]).astype(float)


def _of_surfaces(
    inside: np.ndarray, spacing: np.ndarray, volume: float, spacing_known: bool, speck: bool = False
) -> tuple[float, dict[str, float | None], dict[str, float]]:
    """Area, lengths and ratios that are those of surfaces, all made alike (`smooth_surface`, which may raise `SpeckError`)."""
    coarsest = float(spacing.max())
    radius = (6 * volume / math.pi) ** (1 / 3) / 2  # of the ball

    def smoothed(sigma: float, least: float = coarsest) -> Surface:
        return smooth_surface(inside, spacing, max(sigma, least), speck=speck)

    surface, detailed = smoothed(DETAIL_MM), smoothed(FINEST_MM, coarsest / 2)
    hull = Hull(detailed.vertices)
    major, second, third = _reaching(hull, inside, spacing).diameters()
    spiculation = None
    if spacing_known and coarsest <= 1.0:
        spiculation = float(np.percentile(offsets_from(detailed, smoothed(SPICULE_MM)), SPICULE_PERCENTILE))
    overall = smoothed(max(OVERALL * radius, DETAIL_MM))
    lengths = {"major_diameter": major, "second_diameter": second, "third_diameter": third, "spiculation": spiculation}
    ratios = {
        "sphericity": surface.sphericity,
        "solidity": min(1.0, volume / hull.volume),
        "surface_roughness": float(offsets_from(surface, overall).std()) / radius,
    }
    return surface.area, lengths, ratios
