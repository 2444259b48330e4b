"""Figures of a 2D mask on its physical grid: size, shape, depth, echo. Units stand in the names."""

from __future__ import annotations

import math

import numpy as np
import SimpleITK as sitk

from .errors import ImageError

RING = 0.3  # width of the surrounding ring and depth of the posterior strip, in equivalent diameters


def _feret(points: np.ndarray) -> tuple[float, float, float]:
    """Longest diameter of a convex polygon, the widest extent perpendicular to it, and the former's angle in degrees.

    points : (n, 2) of (x right, y down). The angle is counter-clockwise from the x axis as seen, in (-90, 90].
    """
    difference = points[:, None] - points[None]
    distance = np.hypot(difference[..., 0], difference[..., 1])
    first, second = np.unravel_index(np.argmax(distance), distance.shape)
    major = float(distance[first, second])
    direction = (points[second] - points[first]) / major
    across = points @ np.array([-direction[1], direction[0]])
    angle = math.degrees(math.atan2(-direction[1], direction[0]))
    if angle <= -90:
        angle += 180
    elif angle > 90:
        angle -= 180
    return major, float(np.ptp(across)), angle


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


def _ratio(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None or not b > 0 else a / b


def measure_2d(mask: sitk.Image, image: sitk.Image, spacing_known: bool) -> dict[str, float | None]:
    """Measure one lesion.

    Parameters
    ----------
    mask, image : 2D on the same grid; `mask` is not zero inside. The image's first axis runs along the skin, its second into
        the depth. Direction cosines do not matter: every figure is along the image's axes.
    spacing_known : lengths are in millimetres (``_mm``, ``_mm2``) when True, else in pixels (``_px``, ``_px2``).

    Returns
    -------
    dict, with U the unit (mm or px) and A, P area and perimeter:

    - ``area_U2`` : number of pixels x pixel area.
    - ``perimeter_U`` : length of the outline at level 1/2 of the mask smoothed by one pixel: the pixels' staircase would
      be up to 27 % too long.
    - ``equivalent_diameter_U`` : 2 sqrt(A / pi).
    - ``major_diameter_U`` : longest distance between two points of the lesion (maximum Feret diameter), pixel edges included.
    - ``minor_diameter_U`` : largest extent perpendicular to it.
    - ``width_U``, ``height_U`` : extents along the skin and along the depth.
    - ``depth_U`` : from the image's upper edge to the lesion's upper edge.
    - ``orientation_deg`` : angle of the longest diameter to the skin, (-90, 90], counter-clockwise as displayed.
    - ``height_to_width_ratio`` : above 1 is "taller than wide", not parallel to the skin.
    - ``circularity`` : 4 pi A / P^2, 1 for a disc.
    - ``solidity`` : A over the area of the convex hull.
    - ``contrast_ratio`` : mean inside over mean of a ring around the lesion, 0.3 equivalent diameters wide; below 1 is darker.
    - ``posterior_ratio`` : mean of the strip below the lesion's lower edge (middle half of its width, 0.3 equivalent diameters deep) over
      the mean beside the lesion (one half width to both sides) at the same depth; above 1 is enhancement, below 1 shadow.
      None where the image ends first.
    - ``echo_variation`` : coefficient of variation inside.

    What cannot be computed is None; an empty mask gives None for all.

    Raises
    ------
    ImageError : the two are not 2D, or not on the same grid.
    """
    from scipy import ndimage
    from scipy.spatial import ConvexHull
    from skimage.measure import find_contours

    if mask.GetDimension() != 2 or mask.GetSize() != image.GetSize():
        raise ImageError(f"a mask of size {mask.GetSize()} and an image of size {image.GetSize()} cannot be measured together; both must be 2D, on one grid.")
    inside = sitk.GetArrayViewFromImage(mask) != 0
    pixels = sitk.GetArrayViewFromImage(image).astype(np.float64)
    sx, sy = mask.GetSpacing() if spacing_known else (1.0, mask.GetSpacing()[1] / mask.GetSpacing()[0])
    u, u2 = ("mm", "mm2") if spacing_known else ("px", "px2")
    names = (
        f"area_{u2}", f"perimeter_{u}", f"equivalent_diameter_{u}", f"major_diameter_{u}", f"minor_diameter_{u}", f"width_{u}", f"height_{u}",
        f"depth_{u}", "orientation_deg", "height_to_width_ratio", "circularity", "solidity", "contrast_ratio", "posterior_ratio", "echo_variation",
    )  # fmt: skip
    rows, columns = np.nonzero(inside)
    if rows.size == 0:
        return dict.fromkeys(names)

    area = rows.size * sx * sy
    diameter = 2 * math.sqrt(area / math.pi)
    # Corners of the border pixels: a lesion one pixel wide is one pixel wide, not zero.
    border = inside & ~ndimage.binary_erosion(inside)
    y, x = np.nonzero(border)
    corners = np.concatenate([np.stack([x + i, y + j], 1) for i in (0, 1) for j in (0, 1)]) * np.array([sx, sy])
    hull = ConvexHull(corners)
    major, minor, angle = _feret(corners[hull.vertices])

    padded = ndimage.gaussian_filter(np.pad(inside.astype(np.float64), 5), 1.0)
    outlines = find_contours(padded, 0.5)
    perimeter = sum(float(np.hypot(*(np.diff(c, axis=0) * np.array([sy, sx])).T).sum()) for c in outlines) or None

    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    width, height = (right - left) * sx, (bottom - top) * sy
    reach_x, reach_y = max(1, math.ceil(RING * diameter / sx)), max(1, math.ceil(RING * diameter / sy))
    y0, y1 = max(0, top - reach_y), min(inside.shape[0], bottom + reach_y)
    x0, x1 = max(0, left - reach_x), min(inside.shape[1], right + reach_x)
    near, part = inside[y0:y1, x0:x1], pixels[y0:y1, x0:x1]
    ring = (ndimage.distance_transform_edt(~near, sampling=(sy, sx)) <= RING * diameter) & ~near
    mean_inside = float(pixels[inside].mean())

    posterior = None
    if bottom + 1 < inside.shape[0]:
        strip = slice(bottom, min(inside.shape[0], bottom + reach_y))
        quarter, half = (right - left) // 4, max(1, (right - left) // 2)
        below = pixels[strip, left + quarter : max(right - quarter, left + quarter + 1)]
        beside = np.concatenate([pixels[strip, max(0, left - half) : left].ravel(), pixels[strip, right : right + half].ravel()])
        posterior = _ratio(_mean(below), _mean(beside))

    figures = (
        area, perimeter, diameter, major, minor, width, height, top * sy, angle, height / width,
        None if perimeter is None else min(1.0, 4 * math.pi * area / perimeter**2), min(1.0, area / hull.volume),
        _ratio(mean_inside, _mean(part[ring])), posterior, _ratio(float(pixels[inside].std()), mean_inside),
    )  # fmt: skip
    return {name: None if value is None else float(value) for name, value in zip(names, figures, strict=True)}
