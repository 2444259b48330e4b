"""PNG, JPEG, BMP and TIFF: pictures without a physical grid, read and written through Pillow."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .atomic import atomic_path
from .errors import ImageError, OutputError
from .grid import as_2d
from .native import quiet
from .pixels import COLOUR_NOTE, check_size, choose_frame, luminance

# ImageJ's names for units in small letters, in mm. It writes the micro sign as an escape, whose digits are of either case.
_UNITS = {"mm": 1.0, "cm": 10.0, "m": 1e3, "micron": 1e-3, "um": 1e-3, "µm": 1e-3, "\\u00b5m": 1e-3, "nm": 1e-6}
_UNITS |= {"inch": 25.4, "in": 25.4}
# Tags of TIFF, and what they say of pixels.
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _UNSIGNED, _SIGNED = 0, 1, 2
# A tag of TIFF and EXIF, and those of its values by which rows become columns.
_ORIENTATION, _SIDEWAYS = 274, range(5, 9)
_CALIBRATION = 270, 282, 283  # description, pixels a unit across and down

JPEG = b"\xff\xd8\xff"
"""What the file of a JPEG begins with."""

_TRANSPARENT = "transparent parts laid over black"

_pillow = threading.Lock()


@contextmanager
def _limit_is_ours() -> Iterator[None]:
    """Pillow's own limit on the number of pixels, a global of its module, put aside; `check_size` has the say."""
    from PIL import Image

    with _pillow:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _calibration(picture) -> dict[int, object]:
    """The tags of a page in which ImageJ writes its calibration, as far as it has them."""
    tags = getattr(picture, "tag_v2", {})
    return {tag: tags[tag] for tag in _CALIBRATION if tags.get(tag)}


def _imagej_spacing(tags: Mapping[int, object]) -> tuple[float, float] | None:
    """(x, y) mm from the tags of a TIFF that ImageJ has calibrated, else None. Dots per inch say nothing of the tissue."""
    description, *resolution = (tags.get(tag) for tag in _CALIBRATION)
    description = str(description or "")
    unit = re.search(r"^unit=(\S+)", description, re.MULTILINE)
    if not description.startswith("ImageJ=") or unit is None or unit[1].lower() not in _UNITS:
        return None
    per_unit = [float(value or 0) for value in resolution]
    if not all(np.isfinite(p) and p > 0 for p in per_unit):
        return None
    return tuple(_UNITS[unit[1].lower()] / p for p in per_unit)


def _tag(tags, number: int, default: int | None = None) -> int | None:
    """A tag of a TIFF, the first of its values."""
    found = tags.get(number, default)
    return int(found[0]) if isinstance(found, tuple) else found


def _as_tagged(array: np.ndarray, tags) -> np.ndarray:
    """One number a pixel as the tags of a TIFF mean it.

    Pillow takes signed bytes for unsigned and unsigned numbers of 32 bits for signed ones, and turns pictures whose white is 0
    round only up to 8 bits. Floats have no black of their own: the highest that there is becomes 0.
    """
    kind = _tag(tags, _SAMPLE_FORMAT, _UNSIGNED)
    turned = array.dtype.itemsize == 1  # by Pillow; the bits of signed bytes, too, are turned round like this
    if array.dtype == np.uint8 and kind == _SIGNED:
        array = array.view(np.int8)
    elif array.dtype == np.int32 and kind == _UNSIGNED and _tag(tags, _BITS) == 32:
        array = array.view(np.uint32)
    if turned or _tag(tags, _PHOTOMETRIC) != _WHITE_IS_ZERO:
        return array
    if array.dtype.kind == "f":
        finite = array[np.isfinite(array)]
        return finite.max() - array if finite.size else array
    return ~array if array.dtype.kind == "i" else array.dtype.type(2 ** _tag(tags, _BITS) - 1) - array


def _grey(picture, tags) -> tuple[np.ndarray, list[str]]:
    """(height, width) array of a Pillow image of any mode, and what was done. tags: of a TIFF, empty for other formats."""
    notes = []
    if picture.mode in ("L", "I", "F") or picture.mode.startswith("I;16"):
        array = np.asarray(picture)
        array = _as_tagged(array.astype(array.dtype.newbyteorder("=")), tags)
        # Of a grey PNG one level may be transparent. By hand, as 16 bits have no mode with transparency.
        level = picture.info.get("transparency")
        if level is not None and (clear := array == level).any():
            array = np.where(clear, array.dtype.type(0), array)
            notes.append(_TRANSPARENT)
        return array, notes
    if picture.mode == "1":
        return np.asarray(picture.convert("L")), notes
    if picture.mode == "LAB":
        return np.asarray(picture.getchannel("L")), [COLOUR_NOTE]
    if picture.has_transparency_data:
        rgba = np.asarray(picture.convert("RGBA"))
        alpha = rgba[..., 3:]
        rgb = rgba[..., :3]
        if alpha.min() < 255:
            rgb = ((rgb.astype(np.uint32) * alpha + 127) // 255).astype(np.uint8)
            notes.append(_TRANSPARENT)
    else:
        rgb = np.asarray(picture.convert("RGB"))
    array, coloured = luminance(rgb)
    return array, notes + [COLOUR_NOTE] * coloured


def read_picture(path: Path, *, frame: int | None, max_pixels: int | None) -> tuple[sitk.Image, bool, tuple[str, ...]]:
    """Read a picture as a 2D image: the image, whether its spacing is known, notes.

    Resolutions in dots per inch are ignored: they are about the paper. Only ImageJ's calibration counts. Of several
    pages one is read; `frame`, from 1, the middle one by default, of several images in a JPEG the first: a camera's
    previews and depths stand behind it.

    Raises
    ------
    ImageError : damaged, too large, or of a kind that Pillow does not read.
    UsageError : there is no such frame.
    """
    from PIL import Image, ImageOps

    notes: list[str] = []
    with warnings.catch_warnings(), quiet(), _limit_is_ours():
        warnings.simplefilter("ignore")
        try:
            # As a stream, not by its name: Pillow would map a TIFF into memory with the size that it has once it is upright, line by line wrong.
            with path.open("rb") as stream, Image.open(stream) as picture:
                check_size(path, picture.size, max_pixels)
                count = getattr(picture, "n_frames", 1)
                index = choose_frame(path, count, 1 if frame is None and picture.format == "MPO" else frame)
                first = _calibration(picture)  # ImageJ describes a stack on its first page alone
                if count > 1:
                    picture.seek(index)
                    check_size(path, picture.size, max_pixels)
                    notes.append(f"frame {index + 1} of {count}; a stack of pages is not read as a volume")
                orientation = picture.getexif().get(_ORIENTATION, 1)  # before `load`, which turns a TIFF itself and forgets it
                picture.load()
                spacing = _imagej_spacing(first | _calibration(picture))
                upright = ImageOps.exif_transpose(picture)
                if orientation in range(2, 9):
                    notes.append("turned upright as its EXIF orientation says")
                    spacing = spacing and (spacing[::-1] if orientation in _SIDEWAYS else spacing)
                array, colour_notes = _grey(upright, getattr(picture, "tag_v2", {}))
        # Pillow raises one of these, by format, for a file that ends early or holds something else.
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError) as error:
            raise ImageError(
                f"{path} is damaged or incomplete, or of a kind that is not read; copy it again or save it as PNG."
            ) from error
    image = sitk.GetImageFromArray(array)
    if spacing:
        image.SetSpacing(spacing)
        notes.append("pixel spacing from ImageJ's calibration")
    return image, spacing is not None, (*notes, *colour_notes)


def palette_indices(path: Path) -> np.ndarray | None:
    """Which colour of its palette each pixel has, (H, W) uint8, of a file that `read_picture` has read; None where it has no palette, or several frames."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    with _limit_is_ours():
        try:
            with path.open("rb") as stream, Image.open(stream, formats=("PNG", "BMP", "TIFF")) as picture:
                if picture.mode != "P" or getattr(picture, "n_frames", 1) > 1:
                    return None
                return np.asarray(ImageOps.exif_transpose(picture))
        except UnidentifiedImageError:  # JPEG, NRRD and the like
            return None


def write_picture(image: sitk.Image, path: Path) -> Path:
    """Write a 2D image (or single slice) as PNG, BMP, TIFF or JPEG, without its grid. Raises `OutputError`."""
    from PIL import Image

    name, suffix = path.name, path.suffix.lower()
    plane = as_2d(image)
    if plane is None:
        raise OutputError(f"{name} cannot hold a volume; write it as .nrrd, .mha or .nii.gz.")
    array = sitk.GetArrayFromImage(plane)
    types = {".png": "uint8 uint16", ".tif": "uint8 uint16 float32", ".tiff": "uint8 uint16 float32"}
    if str(array.dtype) not in types.get(suffix, "uint8").split():
        raise OutputError(f"{name} cannot hold pixels of type {array.dtype}; write it as .nrrd, .mha or .nii.gz.")
    options = {"quality": 95} if suffix in (".jpg", ".jpeg") else {}
    if suffix in (".tif", ".tiff"):
        options = {"compression": "tiff_adobe_deflate"}
    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary, **options)
    return path
