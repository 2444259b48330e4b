"""Figures of a lesion's mask on its physical grid, as a reader would report them (2D)."""

from __future__ import annotations

import math

import numpy as np
import SimpleITK as sitk

from .errors import ImageError, UsageError
from .screen_area import part_with

_PERIMETER_REACH = 4.0  # standard deviations of the smoothing that a perimeter is taken after
_STRAND = 3.0  # of them: what the smoothing takes from an outline and reaches farther from what is left is no corner
RING_WIDTH = 0.2  # of the equivalent diameter: the surrounding tissue that the lesion is compared with
_ROUNDING = 1e-6  # of a side: single precision, in which some formats have their spacing, is good to a tenth of that
_ROUND = 1e-3  # axes that differ by less than this share have no direction


def measure_2d(
    mask: sitk.Image, image: sitk.Image, spacing_known: bool, area: tuple[int, int, int, int] | None = None
) -> dict[str, float | None]:
    """Measure one lesion.

    Everything is measured along the image's own axes, whatever its direction cosines: x is parallel to the skin, y
    goes into depth, and row 0 is the skin side. Coordinates are pixel indices times the spacing; a pixel is a
    rectangle of one spacing by one spacing around its centre.

    Parameters
    ----------
    mask : 2D, not zero inside the lesion.
    image : 2D, one component, of the same size: the echoes.
    spacing_known : whether the image's spacing is in millimetres. If not, a pixel counts as 1 by 1, and the names end in
        ``_px`` and ``_px2`` instead of ``_mm`` and ``_mm2``.
    area : the part of the image (x, y, width, height in pixels) that is ultrasound, see `screen_area.ultrasound_area`; None: all of it. Depth
        counts from its upper edge, and what a scanner draws around it is no echo. A mask that reaches beyond it makes it larger.

    Returns
    -------
    dict of these names, None where a figure has no meaning (all of them for an empty mask):

    - ``area_mm2`` A: number of pixels times the area of one.
    - ``perimeter_mm`` P: length of the contours at 0.5 of the mask smoothed by a Gaussian of one pixel (the larger
      spacing); within 1 % for ellipses wider than 10 pixels; each sharp corner is cut by about a pixel. Holes have an outline too. Strands so thin
      that the smoothing takes them away are followed along their pixels, which is up to 4 / pi too long for oblique ones.
    - ``equivalent_diameter_mm``: of the disc of the same area, 2 sqrt(A / pi).
    - ``major_diameter_mm``: the longest diameter (maximum Feret diameter), over the convex hull of the middles of
      the pixels' edges, which lie on the outline.
    - ``minor_diameter_mm``: the longest chord of that hull perpendicular to the longest diameter.
    - ``width_mm``, ``height_mm``: extent of the bounding box along x and y.
    - ``depth_mm``: from the upper edge of the image (of its ultrasound area) to the box's.
    - ``orientation_deg``: angle between x and the long axis of the ellipse of the same second moments, in (-90, 90],
      positive where the end at larger x lies deeper; None for a round mask.
    - ``height_to_width_ratio``: height / width of the box; above 1 is "taller than wide".
    - ``circularity``: 4 pi A / P^2, at most 1.
    - ``solidity``: pixels of the mask / pixels of its convex hull.
    - ``aspect_ratio``: long / short axis of that ellipse, a / b; ``eccentricity``: sqrt(1 - (b / a)^2).
    - ``contrast_ratio``: mean inside / mean of the ring around, as wide as 0.2 equivalent diameters, one pixel at least.
    - ``posterior_ratio``: mean of the box below the lesion (its width, up to its height) / mean of the boxes to the left
      and right of that, half as wide each, as far as they are in the image; above 1 is enhancement, below shadowing.
      None when less than a quarter of the lesion's height is left below it or nothing beside.
    - ``echo_heterogeneity``: standard deviation / mean of the echoes inside.

    The moments include those of a pixel (spacing^2 / 12 along each axis), so that a line has a width.
    Ratios of echoes are None where the mean they are divided by is not positive.

    Raises
    ------
    UsageError : mask and image differ in size or are not 2D.
    ImageError : the image has several components a pixel, or values that are not finite.
    """
    if mask.GetDimension() != 2 or image.GetDimension() != 2 or mask.GetSize() != image.GetSize():
        raise UsageError(
            f"the mask {mask.GetSize()} and the image {image.GetSize()} must be 2D and of one size to be measured together."
        )
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise ImageError("the image has several components a pixel (colour?); convert it to grey to measure it.")
    echoes = sitk.GetArrayViewFromImage(image)
    if echoes.dtype.kind == "f" and not np.isfinite(echoes).all():
        raise ImageError("the image has values that are not finite; replace them to measure it.")
    inside = sitk.GetArrayViewFromImage(mask) != 0
    spacing = np.array(image.GetSpacing()[::-1] if spacing_known else (1.0, 1.0))  # (y, x)

    lengths: dict[str, float | None] = dict.fromkeys(
        ("perimeter", "equivalent_diameter", "major_diameter", "minor_diameter", "width", "height", "depth")
    )
    ratios: dict[str, float | None] = dict.fromkeys(
        (
            "orientation_deg height_to_width_ratio circularity solidity aspect_ratio eccentricity "
            "contrast_ratio posterior_ratio echo_heterogeneity"
        ).split()
    )
    surface = None
    if inside.any():
        if area is not None:
            picture = part_with(area, inside)
            inside, echoes = inside[picture], echoes[picture]
        # Only what lies around the lesion is looked at, so that a large image takes no more memory than a small one.
        part = _surroundings(inside, spacing)
        top = part[0].start
        inside, echoes = inside[part], _squarable(echoes[part].astype(float))
        rows, columns = np.nonzero(inside)
        box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
        surface = float(rows.size * spacing.prod())
        height, width = ((part.stop - part.start) * step for part, step in zip(box, spacing, strict=True))
        perimeter = _perimeter(inside, spacing)
        major, minor = _diameters(inside, spacing)
        diameter = 2 * math.sqrt(surface / math.pi)
        lengths |= {
            "perimeter": perimeter,
            "equivalent_diameter": diameter,
            "major_diameter": major,
            "minor_diameter": minor,
            "width": width,
            "height": height,
            "depth": (top + box[0].start) * spacing[0],
        }
        long, short, orientation = _moment_ellipse(rows, columns, spacing)
        mean = echoes[inside].mean()
        ratios |= {
            "orientation_deg": orientation,
            "height_to_width_ratio": height / width,
            "circularity": min(1.0, 4 * math.pi * surface / perimeter**2),
            "solidity": _solidity(inside[box]),
            "aspect_ratio": long / short,
            "eccentricity": math.sqrt(max(0.0, 1 - (short / long) ** 2)),
            "contrast_ratio": _ratio(mean, _ring(echoes, inside, spacing, diameter)),
            "posterior_ratio": _posterior_ratio(echoes, box),
            "echo_heterogeneity": _ratio(echoes[inside].std(), mean),
        }
    unit = "mm" if spacing_known else "px"
    figures = {f"area_{unit}2": surface, **{f"{name}_{unit}": value for name, value in lengths.items()}, **ratios}
    return {name: None if value is None else float(value) for name, value in figures.items()}


def is_wider_than_tall(height: float, width: float) -> bool:
    """Whether a box is wider than tall by more than rounding, which three pixels of 0.1 mm and one of 0.3 mm differ by."""
    return height < width * (1 - _ROUNDING)


def _squarable(echoes: np.ndarray) -> np.ndarray:
    """Echoes whose squares neither overflow nor vanish: over a power of two, of which no ratio of theirs knows, where they are huge or tiny."""
    greatest = max(abs(float(echoes.min())), abs(float(echoes.max())))
    return echoes if greatest == 0 or 1e-100 < greatest < 1e100 else np.ldexp(echoes, -math.frexp(greatest)[1])


def _surroundings(inside: np.ndarray, spacing: np.ndarray) -> tuple[slice, slice]:
    """The part of the image that has the mask, its ring, and what lies below and beside that is looked at."""
    filled = [np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0)]
    first, end = np.array([f[0] for f in filled]), np.array([f[-1] + 1 for f in filled])
    # No disc of the mask's area is wider than the diagonal of its box.
    ring = np.ceil(_ring_width(math.hypot(*((end - first) * spacing)), spacing) / spacing).astype(int)
    size = end - first
    before = np.maximum(ring, (0, size[1]))
    after = np.maximum(ring, size)
    return tuple(
        slice(max(0, int(a)), min(n, int(b))) for a, b, n in zip(first - before, end + after, inside.shape, strict=True)
    )


def _ring_width(diameter: float, spacing: np.ndarray) -> float:
    return max(RING_WIDTH * diameter, float(spacing.max()))


def _ratio(value: float, reference: float | None) -> float | None:
    return value / reference if reference is not None and reference > 0 else None


def _perimeter(inside: np.ndarray, spacing: np.ndarray) -> float:
    from scipy import ndimage
    from skimage.measure import find_contours

    # Padded, so that an outline along the image's border counts like any other. Smoothed, because the staircase of the
    # pixels is up to 4 / pi longer than the outline that it stands for.
    sigma = spacing.max() / spacing
    reach = np.ceil(_PERIMETER_REACH * sigma).astype(int) + 2
    padded = np.pad(inside, [(n, n) for n in reach]).astype(float)
    smooth = ndimage.gaussian_filter(padded, sigma, truncate=_PERIMETER_REACH)
    level = smooth if smooth.max() > 0.5 else padded  # a speck does not survive the smoothing
    strands = _strands(padded > 0, level > 0.5, spacing)
    if strands.any():
        level = np.where(ndimage.binary_dilation(strands, np.ones((3, 3))), padded, level)
    return float(sum(np.hypot(*(np.diff(line, axis=0) * spacing).T).sum() for line in find_contours(level, 0.5)))


def _strands(inside: np.ndarray, held: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """The parts (H, W) bool of a mask that a smoothed one does not hold and that reach farther from it than a corner that was cut."""
    from scipy import ndimage
    from scipy.spatial import KDTree

    lost = inside & ~held
    if not lost.any():
        return lost
    # Few pixels are lost, and few lie on the edge of what is held: less work than a map of distances.
    step = spacing / spacing.max()
    distance, _ = KDTree(np.argwhere(_edges(held)) * step).query(np.argwhere(lost) * step)
    labels, number = ndimage.label(lost, np.ones((3, 3)))
    far = np.zeros(number + 1, bool)
    far[labels[lost][distance > _STRAND]] = True
    return far[labels]


def _diameters(inside: np.ndarray, spacing: np.ndarray) -> tuple[float, float]:
    """The longest diameter, and the longest chord perpendicular to it, of the convex hull."""
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import cdist

    # The first and last pixel of each row and column are enough for the hull.
    centres = np.argwhere(_edges(inside)).astype(float)
    points = np.concatenate([centres + offset for offset in ((-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5))]) * spacing
    hull = points[ConvexHull(points).vertices]
    distances = cdist(hull, hull)
    first, second = np.unravel_index(int(distances.argmax()), distances.shape)
    major = float(distances[first, second])
    along = (hull[second] - hull[first]) / major
    t = (hull - hull[first]) @ along
    across = (hull - hull[first]) @ np.array([-along[1], along[0]])
    # Both chains of the hull run from the one end of the longest diameter to the other; the width between them is
    # piecewise linear along it, so its maximum lies at a vertex.
    order = np.argsort(t, kind="stable")
    t, across = t[order], across[order]
    upper, lower = (across >= 0), (across <= 0)
    ends = (t <= 0) | (t >= major)
    top = np.interp(t, t[upper | ends], across[upper | ends])
    bottom = np.interp(t, t[lower | ends], across[lower | ends])
    return major, float((top - bottom).max())


def _edges(inside: np.ndarray) -> np.ndarray:
    """The pixels of a mask that have a neighbour outside along an axis."""
    return inside & ~(
        _shifted(inside, 0, 1) & _shifted(inside, 0, -1) & _shifted(inside, 1, 1) & _shifted(inside, 1, -1)
    )


def _shifted(inside: np.ndarray, axis: int, step: int) -> np.ndarray:
    """The neighbour of each pixel along an axis, outside the image false."""
    padded = np.pad(inside, 1)
    return np.roll(padded, -step, axis)[1:-1, 1:-1]


def _moment_ellipse(rows: np.ndarray, columns: np.ndarray, spacing: np.ndarray) -> tuple[float, float, float | None]:
    """Long and short axis (full lengths) of the ellipse of the same second moments, and the long one's angle to x, degrees."""
    x, y = columns * spacing[1], rows * spacing[0]
    cov = np.cov(np.stack([x, y]), bias=True) + np.diag([spacing[1] ** 2, spacing[0] ** 2]) / 12
    values, vectors = np.linalg.eigh(cov)
    short, long = 4 * np.sqrt(values)
    if long / short - 1 < _ROUND:
        return float(long), float(short), None
    dx, dy = vectors[:, 1]
    angle = math.degrees(math.atan2(dy, dx))
    if angle <= -90:
        angle += 180
    elif angle > 90:
        angle -= 180
    return float(long), float(short), angle


def _solidity(inside: np.ndarray) -> float:
    """Counted in pixels, so the spacing does not matter: a convex hull is scaled with its shape."""
    from skimage.morphology import convex_hull_image

    return float(inside.sum() / convex_hull_image(inside).sum())


def _ring(echoes: np.ndarray, inside: np.ndarray, spacing: np.ndarray, diameter: float) -> float | None:
    """Mean of the echoes outside, near the mask: as far as `RING_WIDTH` says for its diameter."""
    from scipy import ndimage

    distance = ndimage.distance_transform_edt(~inside, sampling=spacing)
    ring = (distance > 0) & (distance <= _ring_width(diameter, spacing))
    return float(echoes[ring].mean()) if ring.any() else None


def _posterior_ratio(echoes: np.ndarray, box: tuple[slice, slice]) -> float | None:
    height, width = (part.stop - part.start for part in box)
    below = echoes[box[0].stop : box[0].stop + height]
    if below.shape[0] < max(1, height / 4):
        return None
    half = max(1, width // 2)
    left = below[:, max(0, box[1].start - half) : box[1].start]
    right = below[:, box[1].stop : box[1].stop + half]
    beside = np.concatenate([left, right], axis=1)
    return _ratio(float(below[:, box[1]].mean()), float(beside.mean())) if beside.size else None
