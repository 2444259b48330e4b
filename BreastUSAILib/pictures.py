"""Pictures of an image and what was found in it: pixels for the screen, outlines as polygons, a small preview.

Everything is in the coordinates of one slice: x to the right, y down, in pixels, (0, 0) at the outer corner of the
first pixel, so that the centre of pixel (i, j) lies at (i + 0.5, j + 0.5).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from .findings import Finding, Study
from .grid import as_2d, physical_to_index
from .pixels import without_overflow
from .terminology import lesion_color

LONGEST_SIDE = 1600  # pixels; larger images are embedded smaller, outlines stay exact
CROP_MARGIN = 0.35  # of the lesion's longer side, on every side of an enlarged crop
PREVIEW_SIDE = 360


@dataclass(frozen=True)
class Outline:
    """One finding on a slice.

    Attributes
    ----------
    id : of the finding.
    color : ``#rrggbb``, the colour of its segment.
    polygons : closed (N, 2) float arrays of x, y along the edge of the mask; empty when the slice does not meet it.
    box : (left, top, right, bottom).
    """

    id: str
    color: str
    polygons: tuple[np.ndarray, ...]
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class View:
    """One slice, ready to be drawn.

    Attributes
    ----------
    pixels : (H, W) uint8.
    pixel_size : width and height of a pixel, mm (or pixels where the spacing is not known).
    outlines : of the findings, in their order.
    """

    pixels: np.ndarray
    pixel_size: tuple[float, float]
    outlines: tuple[Outline, ...]

    @property
    def scale(self) -> tuple[float, float]:
        """What x and y are multiplied with so that the picture is not distorted; the smaller is 1."""
        smaller = min(self.pixel_size)
        return self.pixel_size[0] / smaller, self.pixel_size[1] / smaller

    @property
    def drawn_size(self) -> tuple[float, float]:
        """Width and height of the undistorted picture, in units of the smaller pixel side."""
        height, width = self.pixels.shape
        return width * self.scale[0], height * self.scale[1]


def view(image: sitk.Image, study: Study) -> View:
    """A 2D image, or a volume with a single slice, with all outlines; see `volume_pictures` for volumes.

    Parameters
    ----------
    image : the image the study is about.
    study : its findings' masks lie on the grid of `image`.
    """
    plane = as_2d(image)
    outlines = tuple(_outline(image, finding, index) for index, finding in enumerate(study.findings))
    return View(to_grey(sitk.GetArrayFromImage(plane)), plane.GetSpacing(), outlines)


def crop(whole: View, finding_id: str, share: float = CROP_MARGIN) -> View:
    """The part of a view around one finding, with so much of the lesion's longer side more on every side."""
    left, top, right, bottom = next(o.box for o in whole.outlines if o.id == finding_id)
    across, down = whole.scale
    margin = share * max((right - left) * across, (bottom - top) * down)
    height, width = whole.pixels.shape
    x0, x1 = _span(left - margin / across, right + margin / across, width)
    y0, y1 = _span(top - margin / down, bottom + margin / down, height)
    moved = tuple(
        replace(
            o,
            polygons=tuple(p - (x0, y0) for p in o.polygons),
            box=(o.box[0] - x0, o.box[1] - y0, o.box[2] - x0, o.box[3] - y0),
        )
        for o in whole.outlines
    )
    return View(whole.pixels[y0:y1, x0:x1], whole.pixel_size, moved)


def to_grey(pixels: np.ndarray, shown: tuple[float, float] | None = None) -> np.ndarray:
    """Grey values for the screen: uint8 as it is, other ranges from their 0.5 % to their 99.5 % quantile.

    Parameters
    ----------
    pixels : (H, W), any real type, finite.
    shown : what is black and what is white, instead of the quantiles.

    Returns
    -------
    (H, W) uint8
    """
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind == "f" and shown is None:
        pixels = without_overflow(pixels)
    low, high = np.percentile(pixels, (0.5, 99.5)) if shown is None else shown
    if high <= low:
        low, high = float(pixels.min()), float(pixels.max())
    if high <= low:
        return np.zeros(pixels.shape, np.uint8)
    return np.rint(np.clip((pixels.astype(np.float64) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def png(pixels: np.ndarray, longest: int = LONGEST_SIDE) -> bytes:
    """An (H, W) grey or (H, W, 4) coloured uint8 array as PNG, made smaller where its longest side exceeds `longest`."""
    return _encode(_shrunk(pixels, longest), "PNG", optimize=True)


def preview(drawn: View, longest: int = PREVIEW_SIDE) -> bytes:
    """A small JPEG of a view with the outlines burned in, or the boxes where there are none, undistorted."""
    from PIL import Image, ImageDraw

    # Lines are drawn twice as large and scaled down, which smooths them.
    width, height = drawn.drawn_size
    factor = 2 * longest / max(width, height)
    size = (max(2, round(width * factor)), max(2, round(height * factor)))
    picture = Image.fromarray(drawn.pixels).resize(size, Image.Resampling.LANCZOS).convert("RGB")
    draw = ImageDraw.Draw(picture)
    scale = np.multiply(drawn.scale, factor)
    for outline in drawn.outlines:
        left, top, right, bottom = outline.box
        box = np.array([[left, top], [right, top], [right, bottom], [left, bottom], [left, top]])
        for polygon in outline.polygons or (box,):
            corners = [tuple(p) for p in polygon * scale]
            draw.line(corners, fill=outline.color, width=5, joint="curve")
    half = (max(1, size[0] // 2), max(1, size[1] // 2))
    return _encode(picture.resize(half, Image.Resampling.LANCZOS), "JPEG", quality=85)


def hex_color(rgb: Sequence[float]) -> str:
    """RGB, 0 to 1, as ``#rrggbb``.

    >>> hex_color((1, 0.5, 0))
    '#ff8000'
    """
    return "#" + "".join(f"{int(c * 255 + 0.5):02x}" for c in rgb)


def _outline(image: sitk.Image, finding: Finding, index: int) -> Outline:
    return Outline(
        id=finding.id,
        color=hex_color(lesion_color(index)),
        polygons=() if finding.mask is None else polygons(sitk.GetArrayFromImage(as_2d(finding.mask))),
        box=_box(image, finding),
    )


def polygons(mask: np.ndarray) -> tuple[np.ndarray, ...]:
    """The edge of a mask as closed polygons, holes included.

    Parameters
    ----------
    mask : (H, W), not 0 inside.

    Returns
    -------
    tuple of (N, 2) float64, x and y; corners of pixels are cut, no point is further than half a pixel from the edge.
    """
    from skimage.measure import find_contours  # alone: others of its functions load half of scipy

    # Marching squares at 0.5 on a mask with a border of zeros closes every line.
    lines = find_contours(np.pad(mask != 0, 1).astype(np.float32), 0.5)
    # Indices are centres of the padded array: minus the border, plus half a pixel.
    return tuple(_corners(line[:, ::-1] - 0.5) for line in lines)


def _corners(polygon: np.ndarray) -> np.ndarray:
    """A closed polygon without the points in the middle of straight edges."""
    points = polygon[:-1]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    kept = points[np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-9]
    return np.concatenate([kept, kept[:1]])


def _box(image: sitk.Image, finding: Finding) -> tuple[float, float, float, float]:
    """The finding's box on the axes of the slice."""
    dimension = image.GetDimension()
    center = physical_to_index(image, finding.box.center) + 0.5
    half = np.array(finding.box.size[:dimension]) / image.GetSpacing() / 2
    # as_2d leaves out the last axis with a single pixel.
    single = [axis for axis, n in enumerate(image.GetSize()) if n == 1]
    x, y = (axis for axis in range(dimension) if dimension == 2 or axis != max(single))
    low, high = center - half, center + half
    return float(low[x]), float(low[y]), float(high[x]), float(high[y])


def _span(low: float, high: float, size: int) -> tuple[int, int]:
    first = int(np.clip(np.floor(low), 0, size - 1))
    return first, int(np.clip(np.ceil(high), first + 1, size))


def _shrunk(pixels: np.ndarray, longest: int):
    from PIL import Image

    picture = Image.fromarray(pixels)
    factor = longest / max(picture.size)
    if factor >= 1:
        return picture
    return picture.resize([max(1, round(n * factor)) for n in picture.size], Image.Resampling.LANCZOS)


def _encode(picture, format: str, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()
