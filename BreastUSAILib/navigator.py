"""The navigator: a whole volume in one picture from the front, its findings marked, to be clicked.

The picture is a coronal minimum-intensity projection: what is dark anywhere between the skin and the chest wall is dark, as lesions are.
It is on a true-millimetre scale and lies as a reader faces the patient: the head up, the patient's left on the right, where the volume's
axes say so. `Navigator` goes from pixels to positions (LPS, mm) and findings, and back; `paint` draws it. NumPy and SimpleITK are enough
for all but `paint` (Pillow), which 3D Slicer bundles, too.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from .breast_position import NIPPLE
from .errors import ImageError, UsageError
from .findings import Study
from .grid import as_2d, physical_to_index
from .pictures import Outline, hex_color, to_grey
from .terminology import lesion_color
from .volume_pictures import slices_turned

FROM_MM, TO_MM = (
    4.0,
    30.0,
)  # depths that are looked through: below the skin, above the ribs, whose shadows would hide what is above them
TO_SHARE = 0.6  # and at most this share of a volume's depth
SPECKLE_MM = 0.8  # darker than its surroundings over less than this is speckle
LONGEST = 480  # pixels
_DETAIL_MM = 0.6  # what a voxel measures at most before speckle is smoothed away
_LEAST_BOX = 9.0  # pixels; smaller boxes could not be clicked
_HEAT = np.array([(0, 0, 0), (70, 0, 110), (190, 40, 70), (250, 140, 10), (255, 245, 160)], float)  # from 0 to 1
_BARS_MM = (50, 20, 10, 5, 2, 1)


@dataclass(frozen=True)
class Navigator:
    """The picture's pixels, and where they lie. Made by `navigate`.

    Coordinates of the picture are pixels, x to the right, y down, (0, 0) at the outer corner of the first pixel.

    Attributes
    ----------
    pixels : (H, W) uint8, the projection.
    mm : what a pixel measures, both ways.
    marks : one a finding; `box` in pixels, no polygons.
    heat : (H, W) float32, 0 to 1: the heatmap's maximum over all depths; None without heatmap.
    depth : (H, W) float32: how deep what is shown lies, mm from the volume's upper edge.
    depths : (from, to) that were looked through, mm.
    flipped : whether the picture's x and y run against the volume's first and third axis.
    sides : letters at the left, right, upper and lower edge ("R", "L", "S", "I" for the patient's right, left, head, feet); "" where
        the volume's axes are not the patient's.
    nipple : (x, y) in pixels, or None.
    """

    pixels: np.ndarray
    mm: float
    marks: tuple[Outline, ...]
    heat: np.ndarray | None
    depth: np.ndarray
    depths: tuple[float, float]
    flipped: tuple[bool, bool]
    sides: tuple[str, str, str, str]
    nipple: tuple[float, float] | None
    _grid: sitk.Image  # of the volume: one voxel that has its origin, spacing and direction

    def position(self, x: float, y: float) -> tuple[float, float, float]:
        """Position (LPS, mm, on the volume's grid) of what is seen at a pixel: at the depth of the darkest that lies under it.

        Outside the picture the nearest pixel counts.
        """
        height, width = self.pixels.shape
        x, y = float(np.clip(x, 0, width)), float(np.clip(y, 0, height))
        deep = float(self.depth[min(int(y), height - 1), min(int(x), width - 1)])
        across, down = self._turned(x, y)
        edges = np.array([across * self.mm, deep, down * self.mm])
        index = edges / self._grid.GetSpacing() - 0.5
        direction = np.reshape(self._grid.GetDirection(), (3, 3))
        return tuple(float(v) for v in np.array(self._grid.GetOrigin()) + direction @ (index * self._grid.GetSpacing()))

    def pixel(self, point: Sequence[float]) -> tuple[float, float]:
        """Where a position (LPS, mm, on the volume's grid) is in the picture; outside the volume it is outside the picture."""
        edges = (physical_to_index(self._grid, point) + 0.5) * self._grid.GetSpacing()
        return self._turned(float(edges[0]) / self.mm, float(edges[2]) / self.mm)

    def _turned(self, x: float, y: float) -> tuple[float, float]:
        """From the picture to pixels along the volume's axes, and back."""
        height, width = self.pixels.shape
        return width - x if self.flipped[0] else x, height - y if self.flipped[1] else y

    def finding_at(self, x: float, y: float) -> str | None:
        """The id of the finding whose box is at a pixel, of several the smallest one's; None where there is none."""
        hit = [m for m in self.marks if m.box[0] <= x <= m.box[2] and m.box[1] <= y <= m.box[3]]
        return min(hit, key=lambda m: (m.box[2] - m.box[0]) * (m.box[3] - m.box[1])).id if hit else None


def navigate(
    volume: sitk.Image,
    study: Study,
    *,
    heatmap: sitk.Image | None = None,
    shown: Collection[str] | None = None,
    depths: tuple[float, float] | None = None,
    longest: int = LONGEST,
) -> Navigator:
    """Project a volume and mark its findings.

    Parameters
    ----------
    volume : 3D; its axes are lateral, depth (from the skin on), slice.
    study : about `volume`; findings with boxes, the nipple in its provenance where it is known (`breast_position.with_positions`).
    heatmap : on the grid of `volume`; 0 is nothing, 1 and more the brightest; None: the study's own, if it has one.
    shown : ids of the findings that are marked; None: all. Colours are those of the place in the study, whatever is shown.
    depths : from and to, mm from the volume's upper edge; None: `FROM_MM` to `TO_MM`, or to `TO_SHARE` of a shallow volume's depth.
    longest : pixels along the picture's longer side.

    Raises
    ------
    ImageError : a 2D image or a single slice; a heatmap of another size.
    UsageError : depths that the volume does not have.
    """
    if volume.GetDimension() != 3 or as_2d(volume) is not None:
        raise ImageError(f"{study.image.path} is no volume; an overview from the front needs one of several slices.")
    size, spacing = np.array(volume.GetSize()), np.array(volume.GetSpacing())
    extent = size * spacing
    first, last = _rows(extent[1], spacing[1], size[1], depths)
    darkest, deep = _darkest(volume, first, last)
    mm = float(max(extent[0], extent[2]) / longest)
    shape = (max(1, round(extent[2] / mm)), max(1, round(extent[0] / mm)))
    direction = np.reshape(volume.GetDirection(), (3, 3))
    flipped = _flips(volume)

    def drawn(image: sitk.Image, interpolator: int = sitk.sitkLinear) -> np.ndarray:
        array = _on_picture(image, shape, mm, interpolator)
        return np.ascontiguousarray(array[:: -1 if flipped[1] else 1, :: -1 if flipped[0] else 1])

    navigator = Navigator(
        pixels=to_grey(drawn(darkest)),
        mm=mm,
        marks=(),
        heat=None,
        depth=drawn(deep, sitk.sitkNearestNeighbor),
        depths=(float(first * spacing[1]), float(last * spacing[1])),
        flipped=flipped,
        sides=_sides(direction, flipped),
        nipple=None,
        _grid=_one_voxel(volume),
    )
    heatmap = study.heatmap if heatmap is None else heatmap
    record = study.provenance.get(NIPPLE)
    return replace(
        navigator,
        marks=tuple(
            _mark(navigator, volume, finding, index)
            for index, finding in enumerate(study.findings)
            if shown is None or finding.id in shown
        ),
        heat=None if heatmap is None else _scaled(drawn(_hottest(heatmap, volume))),
        nipple=navigator.pixel(record["position"]) if record else None,
    )


def paint(navigator: Navigator, *, selected: str = "", heat: float = 0.55, letters: bool = True) -> np.ndarray:
    """The picture as it is shown: boxes with the findings' names, the heat over it, scale and sides.

    Parameters
    ----------
    navigator : from `navigate`.
    selected : id of the finding that is drawn bold.
    heat : opacity of the hottest, 0 to 1; 0 leaves the heat out.
    letters : whether sides, scale and depths are written.

    Returns
    -------
    (H, W, 3) uint8.
    """
    from PIL import Image, ImageDraw, ImageFont

    grey = np.repeat(navigator.pixels[..., None], 3, axis=2).astype(float)
    if navigator.heat is not None and heat > 0:
        places = np.linspace(0, 1, len(_HEAT))
        colour = np.stack([np.interp(navigator.heat, places, _HEAT[:, c]) for c in range(3)], axis=-1)
        opacity = (heat * navigator.heat)[..., None]
        grey = grey * (1 - opacity) + colour * opacity
    picture = Image.fromarray(np.rint(grey).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    height, width = navigator.pixels.shape
    text = max(11, round(0.032 * max(height, width)))
    font = ImageFont.load_default(size=text)

    def write(x: float, y: float, words: str, colour: str, anchor: str) -> None:
        draw.text((x, y), words, fill=colour, font=font, anchor=anchor, stroke_width=2, stroke_fill="#000000")

    for mark in sorted(navigator.marks, key=lambda m: m.id == selected):
        bold = mark.id == selected
        draw.rectangle([round(v) for v in mark.box], outline="#000000", width=6 if bold else 4)
        inner = [round(v) + (1 if i < 2 else -1) for i, v in enumerate(mark.box)]
        draw.rectangle(inner, outline=mark.color, width=4 if bold else 2)
        left, top, _, bottom = mark.box
        # Above the box, or below where there is no room above.
        y, anchor = (top - 2, "lb") if top > 1.4 * text else (bottom + 2, "lt")
        write(min(max(left, 2), width - 2 * text), y, mark.id, mark.color, anchor)
    if navigator.nipple is not None:
        x, y = navigator.nipple
        radius = 0.5 * text
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline="#ffffff", width=2)
        write(x, y - radius - 2, "nipple", "#ffffff", "mb")
    if letters:
        left, right, up, down = navigator.sides
        for x, y, side, anchor in ((5, height / 2, left, "lm"), (width - 5, height / 2, right, "rm")):
            write(x, y, side, "#ffffff", anchor)
        write(width / 2, 4, up, "#ffffff", "ma")
        write(width / 2, height - 4, down, "#ffffff", "md")
        length = next((b for b in _BARS_MM if b / navigator.mm <= width / 3), None)
        if length is not None:
            x, y = width - 8, height - 8
            draw.line((x - length / navigator.mm - 1, y, x + 1, y), fill="#000000", width=7)
            draw.line((x - length / navigator.mm, y, x, y), fill="#ffffff", width=3)
            write(x, y - 4, f"{length} mm", "#ffffff", "rb")
    return np.asarray(picture)


def png(picture: np.ndarray) -> bytes:
    """What `paint` made, as a PNG file."""
    import io

    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _rows(extent: float, spacing: float, count: int, depths: tuple[float, float] | None) -> tuple[int, int]:
    """First voxel along the depth and the one after the last."""
    if depths is None:
        start = min(FROM_MM, 0.1 * extent)
        depths = (start, max(min(TO_MM, TO_SHARE * extent), start + spacing))
    elif not 0 <= depths[0] < depths[1] or depths[0] >= extent:
        raise UsageError(
            f"The depths {depths[0]:g} to {depths[1]:g} mm are not in a volume that is {extent:g} mm deep."
        )
    first = min(int(depths[0] / spacing), int(count) - 1)
    return first, int(np.clip(math.ceil(depths[1] / spacing), first + 1, count))


def _darkest(volume: sitk.Image, first: int, last: int) -> tuple[sitk.Image, sitk.Image]:
    """The minimum over the depth without speckle, and the depth where it is (mm from the upper edge); 2D, mm along both axes."""
    size, spacing = volume.GetSize(), np.array(volume.GetSpacing())
    part = sitk.RegionOfInterest(volume, (size[0], last - first, size[2]), (0, first, 0))
    factors = [int(max(1, min((_DETAIL_MM + 1e-9) // s, n))) for s, n in zip(spacing, part.GetSize(), strict=True)]
    # Means of 8-bit values may be rounded, and spare a large volume four times its memory; those of other types are not.
    part = part if part.GetPixelID() == sitk.sitkUInt8 else sitk.Cast(part, sitk.sitkFloat32)
    coarse = sitk.Cast(sitk.BinShrink(part, factors), sitk.sitkFloat32)
    coarse = sitk.SmoothingRecursiveGaussian(coarse, SPECKLE_MM) if min(coarse.GetSize()) >= 4 else coarse
    array = sitk.GetArrayViewFromImage(coarse)  # (slice, depth, lateral)
    rows = array.argmin(axis=1)
    low = np.take_along_axis(array, rows[:, None], axis=1)[:, 0]
    deep = ((rows + 0.5) * factors[1] + first) * spacing[1]
    across, down = spacing[0] * factors[0], spacing[2] * factors[2]
    return _plane(low, across, down), _plane(deep.astype(np.float32), across, down)


def _hottest(heatmap: sitk.Image, volume: sitk.Image) -> sitk.Image:
    if heatmap.GetSize() != volume.GetSize():
        raise ImageError(
            f"the heatmap has {heatmap.GetSize()} voxels and the volume {volume.GetSize()}; give the volume's own."
        )
    hottest = sitk.GetArrayViewFromImage(heatmap).max(axis=1)
    return _plane(np.asarray(hottest, np.float32), volume.GetSpacing()[0], volume.GetSpacing()[2])


def _plane(array: np.ndarray, across: float, down: float) -> sitk.Image:
    """(slice, lateral) as a 2D image whose origin is the outer corner of the volume."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing((across, down))
    image.SetOrigin((across / 2, down / 2))
    return image


def _on_picture(image: sitk.Image, shape: tuple[int, int], mm: float, interpolator: int) -> np.ndarray:
    """(H, W): a plane on the picture's pixels; the last ones end up to half a pixel before or behind the volume's edge."""
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize((shape[1], shape[0]))
    resampler.SetOutputSpacing((mm, mm))
    resampler.SetOutputOrigin((mm / 2, mm / 2))
    resampler.SetInterpolator(interpolator)
    resampler.UseNearestNeighborExtrapolatorOn()  # at the edges, half a voxel wide
    return sitk.GetArrayFromImage(resampler.Execute(image))


def _scaled(heat: np.ndarray) -> np.ndarray:
    """0 to 1: what is hotter than a usual lesion (1, see `heatmap`) is as bright as one."""
    return np.clip(np.nan_to_num(heat), 0, 1).astype(np.float32)


def _mark(navigator: Navigator, volume: sitk.Image, finding, index: int) -> Outline:
    x, y = navigator.pixel(finding.box.center)
    half = [max(finding.box.size[axis] / navigator.mm, _LEAST_BOX) / 2 for axis in (0, 2)]
    box = (x - half[0], y - half[1], x + half[0], y + half[1])
    return Outline(finding.id, hex_color(lesion_color(index)), (), box)


def _flips(volume: sitk.Image) -> tuple[bool, bool]:
    """Whether the lateral axis and the slices are drawn against the way they are stored: to the right and down.

    The patient's left is to the right and the head up, as far as the axes are nearly the patient's: the nearer of the two decides, and the other goes
    the way that makes no mirror image of it, as `volume_pictures` has it for all.
    """
    direction = np.reshape(volume.GetDirection(), (3, 3))
    lateral, slices = direction[0, 0], direction[2, 2]
    odd = slices_turned(volume)  # one of the two is turned, and not the other
    if abs(slices) > 0.5 and abs(slices) >= abs(lateral):
        return bool(slices > 0) != odd, bool(slices > 0)
    if abs(lateral) > 0.5:
        return bool(lateral < 0), bool(lateral < 0) != odd
    return False, odd


def _sides(direction: np.ndarray, flipped: tuple[bool, bool]) -> tuple[str, str, str, str]:
    """Letters at the picture's edges, where its axes are nearly the patient's."""
    left = right = up = down = ""
    if abs(direction[0, 0]) > 0.8:
        left, right = ("R", "L") if (direction[0, 0] > 0) != flipped[0] else ("L", "R")
    if abs(direction[2, 2]) > 0.8:
        up, down = ("S", "I") if (direction[2, 2] > 0) == flipped[1] else ("I", "S")
    return left, right, up, down


def _one_voxel(volume: sitk.Image) -> sitk.Image:
    grid = sitk.Image((1, 1, 1), sitk.sitkUInt8)
    grid.SetOrigin(volume.GetOrigin())
    grid.SetSpacing(volume.GetSpacing())
    grid.SetDirection(volume.GetDirection())
    return grid
