"""Pictures of phantoms to be looked at: three planes, plain and outlined, with what each lesion is.

Transverse is what the probe sees at one place (lateral by depth), sagittal runs along its sweep (slice by depth), coronal is
the plane that only ABUS shows (lateral by slice, at one depth). All are drawn to one scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from ..atomic import atomic_path
from .records import VolumeRecord
from .truth import LesionTruth

if TYPE_CHECKING:
    from PIL.Image import Image

    from .bmode import BModeImage, SliceTruth

SHEETS_OF, MOST = 4, 24  # volumes a sheet, and in all
LONGEST_PLANE = 380  # pixels of the longer side of a volume's widest plane
_BACKGROUND, _TEXT = (16, 16, 18), (235, 235, 235)
_COLOURS = {True: (255, 96, 80), False: (90, 220, 120)}  # malignant, benign
_GAP = 6
_LINE = 16

# Plane -> array axes (of z, y, x) down and across, and the axis that is cut.
_PLANES = {"transverse": (1, 2, 0), "sagittal": (1, 0, 2), "coronal": (0, 2, 1)}


def volume_picture(image: sitk.Image, labels: sitk.Image, lesions: Sequence[LesionTruth], title: str = "") -> Image:
    """A volume in three planes through its largest lesion (through its middle, where there is none), plain and outlined.

    Parameters
    ----------
    image, labels : a phantom's, uint8, x lateral, y depth, z slice.
    lesions : their truth; malignant ones are outlined in red, benign ones in green.
    title : first line of the caption.
    """
    size = image.GetSize()
    shown = max(lesions, key=lambda lesion: lesion.volume_ml, default=None)
    at = [n // 2 for n in size] if shown is None else [(a + b) // 2 for a, b in zip(shown.first, shown.last, strict=True)]
    scale = LONGEST_PLANE / max(n * s for n, s in zip(size, image.GetSpacing(), strict=True))
    captions = [title] * bool(title) + [caption(lesion) for lesion in lesions] + ["no lesion"] * (not lesions)
    return _with_caption(_planes(image, labels, lesions, at, scale), captions)


def lesion_picture(
    image: sitk.Image, labels: sitk.Image, lesion: LesionTruth, *, margin_mm: float = 8.0, scale: float = 6.0
) -> Image:
    """A lesion with its surroundings, enlarged (`scale` pixels a millimetre), in three planes, plain and outlined."""
    spacing = image.GetSpacing()
    first = [max(0, a - round(margin_mm / s)) for a, s in zip(lesion.first, spacing, strict=True)]
    last = [min(n - 1, b + round(margin_mm / s)) for b, s, n in zip(lesion.last, spacing, image.GetSize(), strict=True)]
    region = tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))
    at = [(a + b) // 2 - f for a, b, f in zip(lesion.first, lesion.last, first, strict=True)]
    part = image[region], labels[region], [lesion], at
    rows = [_plane(*part, name, scale, outlined) for outlined in (False, True) for name in _PLANES]
    return _with_caption(sheet(rows, columns=len(_PLANES)), caption(lesion).split("; "))


def slice_picture(made: BModeImage, longest: int = 240) -> Image:
    """A B-mode image, plain and outlined, with what its lesion is."""
    from PIL import Image

    from ..pictures import polygons

    pixels, mask = (sitk.GetArrayViewFromImage(volume) for volume in (made.image, made.mask))
    scale = longest / max(pixels.shape)
    size = round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)
    plain = Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    outlined = plain.copy()
    if made.lesion is not None:
        _draw(outlined, polygons(mask), (scale, scale), made.lesion.malignant)
    return _with_caption(sheet([plain, outlined], columns=2), caption(made.lesion).split("; ") if made.lesion else ["no lesion"])


def caption(lesion: LesionTruth | SliceTruth) -> str:
    """What a lesion is, in one line."""
    d = lesion.descriptors
    label = f"{lesion.label}: " if hasattr(lesion, "label") else ""
    known = "" if lesion.posterior is None else f"BI-RADS {lesion.category} (P = {lesion.posterior:.2f}), "
    words = [
        f"{label}{'malignant' if lesion.malignant else 'benign'}, {known}{lesion.volume_ml:.2f} cm3",
        f"{d.shape}, {d.orientation}, {d.margin}, {d.echo_pattern}",
        f"posterior {d.posterior_features}, calcifications {d.calcifications}, halo {d.halo}",
    ]
    return "; ".join(words)


def sheet(pictures: Sequence[Image], columns: int = 1) -> Image:
    """Pictures in rows of `columns`, each row as high as its highest picture."""
    from PIL import Image

    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    widths = [max((row[i].width for row in rows if i < len(row)), default=0) for i in range(columns)]
    heights = [max(p.height for p in row) for row in rows]
    whole = Image.new("RGB", (sum(widths) + _GAP * (columns + 1), sum(heights) + _GAP * (len(rows) + 1)), _BACKGROUND)
    y = _GAP
    for row, height in zip(rows, heights, strict=True):
        x = _GAP
        for picture, width in zip(row, widths, strict=False):
            whole.paste(picture, (x, y))
            x += width + _GAP
        y += height + _GAP
    return whole


def save(picture: Image, path: Path, *, greys: int = 48) -> Path:
    """Write a picture as PNG, atomically, with few grey levels: speckle compresses badly and nobody sees the difference.

    Raises `OutputError`.
    """
    pixels = np.asarray(picture).astype(np.float32)
    step = 255 / (greys - 1)
    from PIL import Image

    small = Image.fromarray((np.rint(pixels / step) * step).astype(np.uint8))
    with atomic_path(path) as temporary:
        # A palette where the colours allow it, as three channels of grey cost nearly three times as much.
        small.quantize(256, dither=Image.Dither.NONE).save(temporary, "PNG", optimize=True)
    return path


def write_sheets(records: Sequence[VolumeRecord], folder: Path) -> list[Path]:
    """contact-sheet-01.png ... of the first volumes of a data set. Raises `OutputError`, `ImageError`."""
    paths = []
    for number, start in enumerate(range(0, min(len(records), MOST), SHEETS_OF), start=1):
        pictures = [_of_record(record) for record in records[start : min(start + SHEETS_OF, MOST)]]
        paths.append(save(sheet(pictures), folder / f"contact-sheet-{number:02d}.png"))
    return paths


def _of_record(record: VolumeRecord) -> Image:
    volumes = []
    for path in (record.image, record.labels):
        volume = sitk.ReadImage(str(path))
        volume.SetSpacing(record.spacing)  # the layout of TDSC-ABUS has a placeholder there
        volumes.append(volume)
    density = record.facts.get("density", "?")
    return volume_picture(*volumes, record.lesions, f"{record.name}, seed {record.seed}, density {density}")


def _planes(
    image: sitk.Image, labels: sitk.Image, lesions: Sequence[LesionTruth], at: Sequence[int], scale: float
) -> Image:
    """Transverse and sagittal, plain and outlined, one below the other; beside them coronal, plain and outlined."""
    drawn = {
        name: [_plane(image, labels, lesions, at, name, scale, outlined) for outlined in (False, True)] for name in _PLANES
    }
    left = sheet([*drawn["transverse"], *drawn["sagittal"]])
    return sheet([left, *(sheet([picture]) for picture in drawn["coronal"])], columns=3)


def _plane(
    image: sitk.Image,
    labels: sitk.Image,
    lesions: Sequence[LesionTruth],
    at: Sequence[int],
    name: str,
    scale: float,
    outlined: bool,
) -> Image:
    from PIL import Image

    from ..pictures import polygons

    down, across, cut = _PLANES[name]
    index = [slice(None)] * 3
    index[cut] = at[2 - cut]
    pixels, marks = (sitk.GetArrayViewFromImage(volume)[tuple(index)] for volume in (image, labels))
    if down > across:  # numpy keeps the order of the axes
        pixels, marks = pixels.T, marks.T
    spacing = image.GetSpacing()[::-1]
    step = spacing[across] * scale, spacing[down] * scale
    size = max(1, round(pixels.shape[1] * step[0])), max(1, round(pixels.shape[0] * step[1]))
    picture = Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    if outlined:
        for lesion in lesions:
            _draw(picture, polygons(marks == lesion.label), step, lesion.malignant)
    return picture


def _draw(picture: Image, outlines: Sequence[np.ndarray], step: tuple[float, float], malignant: bool) -> None:
    """Outlines in pixels of the slice, drawn on it enlarged by `step`."""
    from PIL import ImageDraw

    draw = ImageDraw.Draw(picture)
    for outline in outlines:
        points = [(float(x * step[0]), float(y * step[1])) for x, y in outline]
        draw.line([*points, points[0]], fill=_COLOURS[malignant])


def _with_caption(picture: Image, lines: Sequence[str]) -> Image:
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=12)
    width = max([picture.width, *(int(font.getlength(line)) + 2 * _GAP for line in lines)])
    whole = Image.new("RGB", (width, picture.height + _LINE * len(lines) + _GAP), _BACKGROUND)
    whole.paste(picture, (0, 0))
    draw = ImageDraw.Draw(whole)
    for number, line in enumerate(lines):
        draw.text((_GAP, picture.height + _LINE * number), line, fill=_TEXT, font=font)
    return whole
