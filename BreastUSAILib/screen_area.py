"""Finding the ultrasound picture inside a capture of a scanner's screen.

A scanner draws its surroundings with flat colours and sharp ink (text, scales, panels); ultrasound is dense texture.
The picture is the largest region of dense texture. Cutting tissue off is worse than leaving some surroundings in, so an
image that is not surely a screen capture is kept whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .dicom_geometry import SEVERAL_PICTURES
from .pixels import without_overflow

# Work is done on a grid of about this many blocks along the longer side; a block of a 1024 x 768 screen is 4 x 4.
_BLOCKS = 256
# Lengths in blocks.
_DENSITY = 3  # window over which ink must be dense
_CORE = 13  # no text, scale bar or tick is as wide and as high as this
_LINK = 7  # parts of the picture hang together by at least this
_GAP = 2  # rows or columns without texture that do not end the picture
_SHARP = 50  # grey levels; no dim tissue changes as much within a block
_MARGIN = 0.02  # of the image's side; less around the picture is not a screen's surroundings


AREA = "ultrasound_area"
"""In the provenance of a study of a 2D image: [x, y, width, height] in pixels of the part that was looked at."""


@dataclass(frozen=True)
class ScreenArea:
    """A rectangle of pixels.

    Attributes
    ----------
    start, size : (x, y) index of the first pixel and (width, height).
    confident : True when the image is surely a screen capture and the rectangle its ultrasound picture; False when
        the whole image is returned because it is not.
    notes : sentences for the reader.
    """

    start: tuple[int, int]
    size: tuple[int, int]
    confident: bool
    notes: tuple[str, ...] = ()


def _as_uint8(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    array = without_overflow(array.astype(np.float32 if array.dtype.itemsize <= 2 else np.float64, copy=False))
    low, high = float(array.min()), float(array.max())
    return ((array - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)


def _blocks(array: np.ndarray, b: int, function: np.ufunc) -> np.ndarray:
    """Reduce b x b blocks of a 2D array; a rest at the far edges is left out."""
    array = array[: array.shape[0] // b * b, : array.shape[1] // b * b]
    rows = function.reduce([array[i::b] for i in range(b)], axis=0)
    return function.reduce([rows[:, i::b] for i in range(b)], axis=0)


def _opened(flags: np.ndarray, side: int) -> np.ndarray:
    """Binary opening with a square of an odd side."""
    from scipy import ndimage

    small = ndimage.minimum_filter(flags.view(np.uint8), side, mode="constant")
    return ndimage.maximum_filter(small, side, mode="constant").astype(bool)


def _extend(filled: np.ndarray, first: int, end: int) -> tuple[int, int]:
    """Widen first:end over a boolean profile for as long as it goes on, over gaps of at most `_GAP`."""
    for position in range(first - 1, -1, -1):
        if filled[position]:
            first = position
        elif first - position > _GAP:
            break
    for position in range(end, len(filled)):
        if filled[position]:
            end = position + 1
        elif position - end >= _GAP:
            break
    return first, end


def _edge(profile: np.ndarray, inside: slice, candidates: range) -> int | None:
    """The first of the candidate lines that has a good part of the ink which the lines inside have."""
    enough = 0.25 * float(np.median(profile[inside]))
    return next((i for i in candidates if profile[i] >= max(enough, 1e-3)), None)


def _refine(profile: np.ndarray, first: int, end: int, b: int) -> tuple[int, int]:
    """Move the block edges first:end (in pixels) to where the ink of single lines begins and ends."""
    depth, reach = 6 * b, 2 * b
    low = _edge(profile, slice(first + b, first + b + depth), range(max(first - reach, 0), first + reach))
    high = _edge(
        profile, slice(end - b - depth, end - b), range(min(end + reach, len(profile)) - 1, end - reach - 1, -1)
    )
    return (first if low is None else low), (end if high is None else high + 1)


def _panels(lit: np.ndarray) -> list[tuple[int, int]]:
    """The (first, end) columns of pictures side by side: parted by columns without any ink, from top to bottom."""
    dark = np.flatnonzero(~lit)
    middle = dark[(dark > 0.3 * len(lit)) & (dark < 0.7 * len(lit))]
    if len(middle) < 2:  # tissue has ink near the probe in every column; one column may be dark by chance
        return [(0, len(lit))]
    return [(0, int(middle[0])), (int(middle[-1]) + 1, len(lit))]


def ultrasound_area(
    plane: sitk.Image, stated: tuple[int, int, int, int] | None = None
) -> tuple[tuple[int, int, int, int], tuple[str, ...]]:
    """The part of a 2D image that is ultrasound, (x, y, width, height) in pixels, and sentences about it: what its file states, else what is
    found (`find_screen_area`)."""
    if stated is not None:
        return stated, ()
    found = find_screen_area(plane)
    return (*found.start, *found.size), found.notes


def part_with(area: tuple[int, int, int, int], mask: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns of an area (x, y, width, height), and of a mask where that reaches beyond it."""
    x, y, width, height = area
    part = []
    for axis, first, end in ((1, y, y + height), (0, x, x + width)):
        filled = np.flatnonzero(mask.any(axis=axis))
        part.append(slice(min([first, *filled[:1]]), max([end, *(filled[-1:] + 1)])))
    return tuple(part)


def find_screen_area(image2d: sitk.Image) -> ScreenArea:
    """Find the rectangle of the ultrasound picture in a screen capture.

    Text, scales, logos and panels around the picture are left out; those burned into it stay. A sector (curved array)
    gives the rectangle around it. Of two pictures side by side the larger is taken and a note says so. An image
    without surroundings is returned whole.

    Parameters
    ----------
    image2d : 2D scalar image.
    """
    from scipy import ndimage

    width, height = image2d.GetSize()
    whole = ScreenArea((0, 0), (width, height), False)
    grey = _as_uint8(sitk.GetArrayViewFromImage(image2d))
    b = max(1, round(max(width, height) / _BLOCKS))
    if min(width, height) < 4 * _CORE * b:
        return whole
    low, high = _blocks(grey, b, np.minimum), _blocks(grey, b, np.maximum)
    flat = high - low <= 1
    # The colours of the surroundings: those of many flat blocks.
    counts = np.bincount(low[flat], minlength=256)
    common = counts > 0.01 * flat.size
    if not common.any():
        return whole
    background = ndimage.binary_dilation(common)
    ink = ~background[grey]
    share = np.where(flat, 0, _blocks(ink.view(np.uint8), b, np.add) / np.float32(b * b))
    dense = ndimage.uniform_filter(share, _DENSITY, mode="constant") > 0.5
    core = _opened(dense, _CORE)
    labels, n = ndimage.label(core)
    if n == 0:
        return whole
    areas = np.bincount(labels.ravel())[1:]
    order = np.argsort(areas)[::-1]
    core = labels == order[0] + 1
    parts = _opened(dense, _LINK)
    picture = ndimage.binary_propagation(core, mask=parts | core)
    rows, columns = np.flatnonzero(picture.any(axis=1)), np.flatnonzero(picture.any(axis=0))
    y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1

    # Tissue behind a shadow hangs on nothing: what lies below the picture and between its sides belongs to it.
    below, m = ndimage.label(parts & ~picture)
    for part in ndimage.find_objects(below)[:m]:
        inside = x0 <= part[1].start and part[1].stop <= x1
        if inside and y0 < part[0].stop and part[0].start < y1 + (y1 - y0):
            y1 = max(y1, part[0].stop)

    # Deep or shadowed tissue is sparse and dim; what has sharp edges is text, with what compression leaves around it.
    dim = (share > 0) & (ndimage.maximum_filter(high - low, 7) < _SHARP)
    for _ in range(2):
        y0, y1 = _extend(dim[:, x0:x1].mean(axis=1) > 0.06, y0, y1)
        x0, x1 = _extend(dim[y0:y1].mean(axis=0) > 0.25, x0, x1)

    y0, y1, x0, x1 = int(y0) * b, min(int(y1) * b, height), int(x0) * b, min(int(x1) * b, width)
    x0, x1 = _refine(ink[y0:y1].mean(axis=0), x0, x1, b)
    y0, y1 = _refine(ink[:, x0:x1].mean(axis=1), y0, y1, b)
    panels = _panels(ink[y0:y1, x0:x1].mean(axis=0) > 0.01)
    several = len(panels) > 1 or (n > 1 and areas[order[1]] > 0.5 * areas[order[0]])
    x0, x1 = max(((x0 + first, x0 + end) for first, end in panels), key=lambda p: p[1] - p[0])
    margins = (x0 > _MARGIN * width, width - x1 > _MARGIN * width, y0 > _MARGIN * height)
    if sum(margins) < 2:
        # Deep tissue may be black and one side covered, but a screen has something left, right and above.
        return whole
    notes = (SEVERAL_PICTURES,) if several else ()
    return ScreenArea((x0, y0), (x1 - x0, y1 - y0), True, notes)
