"""The pixels of DICOM frames, as one number each: decompressed, colour to grey, modality LUT applied.

What is for display only is not applied: windows and VOI LUTs (Slicer's readers keep the stored values as well). PS3.3 C.7.6.3, C.11.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .dicom_header import INSTALL, damaged, group, name_of, number, numbers, text, value
from .errors import DependencyError, ImageError
from .pixels import luminance

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

_VIDEO = "1.2.840.10008.1.2.4.10"  # MPEG2, MPEG-4 and HEVC: ...4.100 to 4.108
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
_JPEG = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81))
_RLE = "1.2.840.10008.1.2.5"
_START_OF_SCAN = 0xDA
_FRAMES = (
    *(code for code in range(0xC0, 0xD0) if code not in (0xC4, 0xC8, 0xCC)),
    0xF7,
)  # markers with the size; the last: JPEG-LS
_REMOTE = ("1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.204", "1.2.840.10008.1.2.4.205")


def check_decoder(path: Path, dataset: Dataset) -> None:
    """Raise an `ImageError` for videos and pixels elsewhere, a `DependencyError` where a decoder is not installed."""
    from pydicom.pixels import get_decoder

    syntax = _syntax(dataset)
    if syntax is not None and syntax.startswith(_VIDEO):
        raise ImageError(
            f"{path} is a video ({name_of(syntax)}), which is not read; export its frames as single images."
        )
    if syntax in _REMOTE:
        raise ImageError(f"{path} holds no pixels, only the address of a server that does; export it with its pixels.")
    if syntax == _JPEG_EXTENDED and (number(dataset, "BitsStored") or 8) > 8:
        raise ImageError(
            f"{path} is compressed as 12 bit JPEG, which no package under a permissive licence decodes; convert it first, for "
            "example with dcmdjpeg (DCMTK)."
        )
    try:
        available = syntax is None or not syntax.is_compressed or get_decoder(syntax).is_available
    except (NotImplementedError, ValueError):  # of no known kind: the decoding will say so
        return
    if not available:
        raise DependencyError(
            f"{path} is compressed ({name_of(syntax)}), and no package that decodes it is installed; "
            f"install them with: {INSTALL}"
        )


def _syntax(dataset: Dataset) -> UID | None:
    return dataset.file_meta.get("TransferSyntaxUID") if "file_meta" in dataset.__dict__ else None


def read_frames(path: Path, dataset: Dataset, frames: Sequence[int]) -> tuple[np.ndarray, bool]:
    """Frames as they shall be worked on.

    Parameters
    ----------
    frames : indexes, from 0, in the order wanted.

    Returns
    -------
    (len(frames), rows, columns) values, and whether any had colour.

    Raises
    ------
    ImageError : damaged, a video, pixels elsewhere.
    DependencyError : compressed in a way that no installed package decodes.
    """
    check_decoder(path, dataset)
    result, coloured = None, False
    try:
        for place, index in enumerate(frames):
            grey, colour = _grey_frame(dataset, index)
            if result is None:
                result = np.empty((len(frames), *grey.shape), grey.dtype)
            elif np.result_type(result, grey) != result.dtype:  # one frame is rescaled, another is not
                result = result.astype(np.result_type(result, grey))
            result[place] = grey
            coloured |= colour
    except MemoryError:
        raise
    except Exception as error:  # decoders come from several packages, each with its own exceptions
        raise damaged(path, error) from error
    return result, coloured


def _check_jpeg(dataset: Dataset, frame: int) -> None:
    """Raise `ValueError` where a frame's JPEG or JPEG-LS header is damaged: over such ones GDCM's decoder ends the process."""
    from pydicom.encaps import get_frame

    if _syntax(dataset) not in _JPEG:
        return
    offsets = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    count = int(dataset.get("NumberOfFrames") or 1)
    data = get_frame(
        dataset.PixelData, frame, number_of_frames=count, extended_offsets=offsets if all(offsets) else None
    )
    if data[:2] != b"\xff\xd8":
        raise ValueError("the JPEG stream has no start")
    at, code, sizes = 2, 0, []
    while code != _START_OF_SCAN:
        while data[at : at + 2] == b"\xff\xff":  # bytes that fill up are allowed before a marker
            at += 1
        code, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at] != 0xFF or length < 2 or at + 2 + length > len(data):
            raise ValueError("the JPEG stream has a damaged header")
        if code in _FRAMES:
            sizes.append((int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")))
        at += 2 + length
    if sizes != [(dataset.Rows, dataset.Columns)]:
        raise ValueError("the JPEG stream is of another size than the file says")


def _order_of_samples(dataset: Dataset) -> dict[str, int]:
    """The Planar Configuration to decode with, where it is not the header's.

    Of a compressed stream the header's means nothing (PS3.3 C.7.6.3.1.3, PS3.5 8.2), and many files keep there what the uncompressed image had,
    or state none. The decoders give colour by pixel, but that of RLE, which sorts by what the header says and is left to.
    """
    syntax = _syntax(dataset)
    by_pixel = syntax is not None and syntax.is_compressed and syntax != _RLE
    return {"planar_configuration": 0} if by_pixel and dataset.get("SamplesPerPixel", 1) > 1 else {}


def _grey_frame(dataset: Dataset, frame: int) -> tuple[np.ndarray, bool]:
    """(rows, columns) values of a frame, and whether it had colour."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

    _check_jpeg(dataset, frame)
    array = pixel_array(dataset, index=frame, **_order_of_samples(dataset))  # YBR is converted to RGB here
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    photometric = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    if photometric == "PALETTE COLOR":
        array = apply_color_lut(array, dataset)
    if array.ndim == 3:
        return luminance(array[..., :3])
    if photometric == "MONOCHROME1" and array.dtype.kind in "iu":
        low, high = _bit_range(dataset)
        array = (low + high - array.astype(np.int64)).astype(array.dtype)
    if value(dataset, "ModalityLUTSequence"):
        return apply_modality_lut(array, dataset), False
    slope, intercept = _rescale(dataset, frame)
    if (slope, intercept) != (1.0, 0.0):
        array = (array * slope + intercept).astype(np.float32)
    return array, False


def _bit_range(dataset: Dataset) -> tuple[int, int]:
    stored = int(dataset.get("BitsStored", dataset.get("BitsAllocated", 8)))
    if dataset.get("PixelRepresentation", 0):
        return -(2 ** (stored - 1)), 2 ** (stored - 1) - 1
    return 0, 2**stored - 1


def _rescale(dataset: Dataset, frame: int) -> tuple[float, float]:
    own = group(dataset, frame, "PixelValueTransformationSequence")
    slope, intercept = (
        (numbers(own, keyword, 1) or numbers(dataset, keyword, 1) or (default,))[0]
        for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    return slope, intercept


def display_note(dataset: Dataset, frame: int) -> tuple[str, ...]:
    """A sentence where the file asks for a display that would change what is seen, as that is not applied."""
    if not text(dataset, "PhotometricInterpretation").startswith("MONOCHROME"):
        return ()
    own = group(dataset, frame, "FrameVOILUTSequence")
    if value(dataset, "VOILUTSequence") or value(own, "VOILUTSequence"):
        return ("the display table (VOI LUT) that the file states is not applied",)
    for source in (own, dataset):
        width, center = _first(source, "WindowWidth"), _first(source, "WindowCenter")
        if width is None or center is None:
            continue
        slope, intercept = _rescale(dataset, frame)
        low, high = sorted(v * slope + intercept for v in _bit_range(dataset))
        # Within a step of the full range at either end nothing is cut off, and little is stretched.
        if center - width / 2 <= low + 1 and center + width / 2 >= high - 1:
            return ()
        return (f"the display window that the file states (center {center:g}, width {width:g}) is not applied",)
    return ()


def _first(dataset: Dataset | None, keyword: str) -> float | None:
    """The first of one or several numbers."""
    found = number(dataset, keyword)
    if found is None and value(dataset, keyword) is not None:
        try:
            found = float(next(iter(value(dataset, keyword))))
        except (TypeError, ValueError, StopIteration):
            return None
    return found
