"""DICOM: single ultrasound images, cines, and multi-frame volumes, one file each.

References are to PS3.3: ultrasound regions C.8.5.5, image plane C.7.6.2, functional groups C.7.6.16.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from .errors import DependencyError, ImageError
from .native import quiet
from .pixels import COLOUR_NOTE, check_size, choose_frame, luminance

if TYPE_CHECKING:
    from pydicom import Dataset

_CENTIMETRES = 3  # Physical Units X/Y Direction
_DIRECTORY = "1.2.840.10008.1.3.10"  # SOP class of a DICOMDIR
_ENHANCED_VOLUME = "1.2.840.10008.5.1.4.1.1.6.2"
_INSTALL = 'pip install "pydicom>=3.0" pylibjpeg pylibjpeg-openjpeg python-gdcm'
_EVEN = 0.02  # frames may lie this part of their distance off an even step


@dataclass(frozen=True)
class _Plane:
    """Where the pixels of a frame lie. spacing: (x, y) mm. area: (x, y, width, height) of the ultrasound region."""

    spacing: tuple[float, float] | None
    notes: tuple[str, ...] = ()
    area: tuple[int, int, int, int] | None = None


def _damaged(path: Path, error: Exception) -> ImageError:
    reason = " ".join(str(error).split()) or type(error).__name__
    reason = reason if len(reason) <= 160 else reason[:160] + "..."
    return ImageError(f"{path} is damaged, incomplete, or of a kind that is not read ({reason}); export it again.")


def _numbers(dataset: Dataset | None, keyword: str, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers of an element, or None where it is absent, empty or of another length."""
    value = None if dataset is None else dataset.get(keyword)
    if value is None:
        return None
    try:
        values = tuple(float(v) for v in (value if hasattr(value, "__iter__") else [value]))
    except (TypeError, ValueError):
        return None
    return values if len(values) == count and all(math.isfinite(v) for v in values) else None


def _group(dataset: Dataset, frame: int, sequence: str) -> Dataset | None:
    """The functional group of a frame (its own, or else the shared one), or None."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for groups in (per_frame[frame : frame + 1], shared[:1]):
        for group in groups:
            items = group.get(sequence)
            if items:
                return items[0]
    return None


def _region_plane(dataset: Dataset) -> _Plane | None:
    """Spacing and area from the calibrated ultrasound regions: the largest 2D tissue region measured in cm."""
    found = []
    for region in dataset.get("SequenceOfUltrasoundRegions") or []:
        deltas = [_numbers(region, f"PhysicalDelta{axis}", 1) for axis in "XY"]
        corners = [_numbers(region, f"RegionLocation{name}", 1) for name in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
        units = [region.get(f"PhysicalUnits{axis}Direction") for axis in "XY"]
        tissue_2d = region.get("RegionSpatialFormat") == 1 and region.get("RegionDataType") == 1
        if not tissue_2d or units != [_CENTIMETRES] * 2 or None in deltas or None in corners:
            continue
        # A negative delta says that the axis runs the other way in the patient; the size of a pixel is its amount.
        spacing = tuple(abs(d[0]) * 10 for d in deltas)
        x0, y0, x1, y1 = (int(c[0]) for c in corners)
        x0, y0 = max(x0, 0), max(y0, 0)
        x1, y1 = min(x1, int(dataset.Columns) - 1), min(y1, int(dataset.Rows) - 1)
        if min(spacing) > 0 and x1 > x0 and y1 > y0:
            found.append((spacing, (x0, y0, x1 - x0 + 1, y1 - y0 + 1)))
    if not found:
        return None
    spacing, area = max(found, key=lambda f: f[1][2] * f[1][3])
    others = {s for s, _ in found if not np.allclose(s, spacing, rtol=0.01)}
    notes = ("the image has several ultrasound regions of different scale; lengths are right in the largest",)
    return _Plane(spacing, notes if others else (), area)


def _plane(dataset: Dataset, frame: int) -> _Plane:
    """What a pixel measures, from the best source that the file has."""
    region = _region_plane(dataset)
    if region is not None:
        return region
    measures = _group(dataset, frame, "PixelMeasuresSequence")
    for source, keyword, caution in (
        (measures, "PixelSpacing", ""),
        (dataset, "PixelSpacing", "pixel spacing from Pixel Spacing, as no ultrasound region is calibrated"),
        (
            dataset,
            "NominalScannedPixelSpacing",
            "pixel spacing from Nominal Scanned Pixel Spacing, which is the scanner's, not the ultrasound's",
        ),
    ):
        values = _numbers(source, keyword, 2)
        if values and min(values) > 0:
            return _Plane((values[1], values[0]), (caution,) if caution else ())  # stated as row, column distance
    return _Plane(None)


def _orientation(dataset: Dataset, frame: int) -> np.ndarray | None:
    """3x3 direction matrix whose columns are the image's x, y and their normal; None where none is stated."""
    values = (
        _numbers(_group(dataset, frame, "PlaneOrientationSequence"), "ImageOrientationPatient", 6)
        or _numbers(_group(dataset, frame, "PlaneOrientationVolumeSequence"), "ImageOrientationVolume", 6)
        or _numbers(dataset, "ImageOrientationPatient", 6)
    )
    if values is None:
        return None
    x, y = np.array(values[:3]), np.array(values[3:])
    lengths = np.linalg.norm(x), np.linalg.norm(y)
    if min(lengths) < 1e-6 or abs(np.dot(x, y)) > 1e-3 * lengths[0] * lengths[1]:
        return None
    x /= lengths[0]
    y = y / lengths[1]
    y = y - np.dot(x, y) * x  # stated with few digits
    y /= np.linalg.norm(y)
    return np.stack([x, y, np.cross(x, y)], axis=1)


def _position(dataset: Dataset, frame: int) -> np.ndarray | None:
    values = (
        _numbers(_group(dataset, frame, "PlanePositionSequence"), "ImagePositionPatient", 3)
        or _numbers(_group(dataset, frame, "PlanePositionVolumeSequence"), "ImagePositionVolume", 3)
        or _numbers(dataset, "ImagePositionPatient", 3)
    )
    return None if values is None else np.array(values)


@dataclass(frozen=True)
class _Stack:
    """How the frames of a volume lie: their order, origin (of the first), direction (3x3), distance in mm."""

    order: list[int]
    origin: np.ndarray
    direction: np.ndarray
    step: float
    notes: tuple[str, ...] = ()


def _stack(path: Path, dataset: Dataset, frames: int) -> _Stack | None:
    """The frames as a volume, or None when they are a cine.

    A volume is what states positions of its frames that differ, or a distance between them (as ABUS scanners do,
    whose cines of one sweep carry no positions).
    """
    direction = _orientation(dataset, 0)
    placed = bool(dataset.get("PerFrameFunctionalGroupsSequence"))
    positions = [
        _numbers(_group(dataset, i, "PlanePositionSequence"), "ImagePositionPatient", 3)
        or _numbers(_group(dataset, i, "PlanePositionVolumeSequence"), "ImagePositionVolume", 3)
        for i in range(frames if placed else 0)
    ]
    if placed and None not in positions and direction is not None:
        points = np.array(positions)
        along = points @ direction[:, 2]
        order = np.argsort(along, kind="stable")
        steps = np.diff(along[order])
        if steps.max() > 1e-4:
            step = float(steps.mean())
            if steps.min() < 1e-4:
                raise ImageError(f"{path} is a time series of volumes; export one volume of it.")
            offsets = points[order] - points[order[0]] - np.outer(along[order] - along[order[0]], direction[:, 2])
            if np.ptp(steps) > _EVEN * step or np.abs(offsets).max() > _EVEN * step:
                raise ImageError(f"{path} has frames at uneven distances; resample it to an even grid first.")
            in_volume = _group(dataset, 0, "PlanePositionSequence") is None
            notes = ("positions are relative to the scanned volume, not to the patient",) if in_volume else ()
            return _Stack([int(i) for i in order], points[order[0]], direction, step, notes)
    step = (
        _numbers(dataset, "SpacingBetweenSlices", 1)
        or _numbers(_group(dataset, 0, "PixelMeasuresSequence"), "SpacingBetweenSlices", 1)
        or (0.0,)
    )[0]
    if step == 0 and dataset.get("SOPClassUID") == _ENHANCED_VOLUME:
        raise ImageError(f"{path} is an ultrasound volume that does not say where its frames lie; export it as NRRD.")
    if step == 0:
        return None
    origin = _position(dataset, 0)
    origin = np.zeros(3) if origin is None else origin
    return _Stack(list(range(frames)), origin, np.eye(3) if direction is None else direction, abs(step))


def _bit_range(dataset: Dataset) -> tuple[int, int]:
    stored = int(dataset.get("BitsStored", dataset.get("BitsAllocated", 8)))
    if dataset.get("PixelRepresentation", 0):
        return -(2 ** (stored - 1)), 2 ** (stored - 1) - 1
    return 0, 2**stored - 1


def _rescale(dataset: Dataset, frame: int) -> tuple[float, float]:
    group = _group(dataset, frame, "PixelValueTransformationSequence")
    slope, intercept = (
        (_numbers(group, keyword, 1) or _numbers(dataset, keyword, 1) or (default,))[0]
        for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    return slope, intercept


def _grey_frame(dataset: Dataset, frame: int) -> tuple[np.ndarray, bool]:
    """(rows, columns) values of a frame as they shall be seen, and whether it had colour."""
    from pydicom.pixels import apply_color_lut, pixel_array

    array = pixel_array(dataset, index=frame)  # YBR is converted to RGB here
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    photometric = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    if photometric == "PALETTE COLOR":
        array = apply_color_lut(array, dataset)
    if array.ndim == 3:
        return luminance(array[..., :3])
    if photometric == "MONOCHROME1" and array.dtype.kind in "iu":
        low, high = _bit_range(dataset)
        array = (low + high - array.astype(np.int64)).astype(array.dtype)
    slope, intercept = _rescale(dataset, frame)
    if (slope, intercept) != (1.0, 0.0):
        array = (array * slope + intercept).astype(np.float32)
    return array, False


def _check_pydicom(path: Path) -> None:
    try:
        import pydicom.pixels  # noqa: F401  new in pydicom 3
    except ImportError as error:
        raise DependencyError(
            f"{path} is a DICOM file, and the package pydicom is not installed, or too old; install it with: {_INSTALL}"
        ) from error


def _check_decoder(path: Path, dataset: Dataset) -> None:
    """Say which packages are missing where the pixels are compressed in a way that none of those installed decodes."""
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.get("TransferSyntaxUID") if "file_meta" in dataset.__dict__ else None
    try:
        available = syntax is None or not syntax.is_compressed or get_decoder(syntax).is_available
    except (NotImplementedError, ValueError):  # of no known kind: the decoding will say so
        return
    if not available:
        raise DependencyError(
            f"{path} is compressed ({syntax.name}), and no package that decodes it is installed; "
            f"install them with: {_INSTALL}"
        )


def _open(path: Path, **options) -> Dataset:
    import pydicom

    try:
        return pydicom.dcmread(path, force=True, **options)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes pydicom raise nearly anything
        raise _damaged(path, error) from error


def _check_is_image(path: Path, dataset: Dataset) -> None:
    if dataset.get("MediaStorageSOPClassUID") == _DIRECTORY or "DirectoryRecordSequence" in dataset:
        raise ImageError(f"{path} is a DICOMDIR, a table of contents; give one of the image files that it lists.")
    if not dataset.get("Rows") or not dataset.get("Columns"):
        sop = dataset.get("SOPClassUID")
        kind = getattr(sop, "name", None) or "no SOP class"
        raise ImageError(f"{path} holds no DICOM image ({kind}); give a file with pixels.")


def read_dicom(
    path: Path, *, frame: int | None, max_pixels: int | None
) -> tuple[sitk.Image, bool, tuple[str, ...], tuple[int, int, int, int] | None]:
    """Read one DICOM file.

    A file with one frame is 2D, or 3D with one slice where its place in the patient is stated. Several frames are a
    volume where their distance or their positions are stated, else a cine, of which one frame is read.

    Parameters
    ----------
    path : the file.
    frame : of a cine, from 1; the middle one when None.
    max_pixels : the largest image that is read; None: as `pixels.check_size` says.

    Returns
    -------
    image, whether its spacing is known, notes, and the ultrasound region (x, y, width, height) or None.

    Raises
    ------
    ImageError : no image, damaged, too large, a time series of volumes, frames at uneven distances.
    UsageError : no such frame.
    DependencyError : pydicom, or what decodes the file's pixels, is not installed.
    MemoryError : the computer's memory does not suffice.
    """
    _check_pydicom(path)
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        header = _open(path, stop_before_pixels=True)
        _check_is_image(path, header)
        try:
            frames = int(header.get("NumberOfFrames") or 1)
            size = (int(header.Columns), int(header.Rows))
        except (TypeError, ValueError) as error:
            raise _damaged(path, error) from error
        stack = _stack(path, header, frames) if frames > 1 else None
        check_size(path, (*size, frames) if stack else size, max_pixels)
        if stack is None:
            order = [choose_frame(path, frames, frame)]
        else:
            choose_frame(path, 1, frame)
            order = stack.order
        dataset = _open(path)
        _check_decoder(path, dataset)
        try:
            grey = [_grey_frame(dataset, i) for i in order]
        except MemoryError:
            raise
        except Exception as error:  # decoders come from several packages, each with its own exceptions
            raise _damaged(path, error) from error

    plane = _plane(header, order[0])
    notes = [*plane.notes]
    if frames > 1 and stack is None:
        notes.append(f"frame {order[0] + 1} of {frames}")
    if any(coloured for _, coloured in grey):
        notes.append(COLOUR_NOTE)
    if stack is not None:
        image = sitk.GetImageFromArray(np.stack([array for array, _ in grey]))
        notes += stack.notes
        _place(image, plane.spacing, stack.step, stack.origin, stack.direction)
        return image, plane.spacing is not None, tuple(notes), plane.area
    array = grey[0][0]
    origin, direction = _position(header, order[0]), _orientation(header, order[0])
    if origin is None or direction is None:
        image = sitk.GetImageFromArray(array)
        if plane.spacing is not None:
            image.SetSpacing(plane.spacing)
        return image, plane.spacing is not None, tuple(notes), plane.area
    image = sitk.GetImageFromArray(array[None])
    thickness = (_numbers(header, "SliceThickness", 1) or (1.0,))[0]
    _place(image, plane.spacing, thickness if thickness > 0 else 1.0, origin, direction)
    return image, plane.spacing is not None, tuple(notes), plane.area


def _place(image: sitk.Image, spacing, step: float, origin: np.ndarray, direction: np.ndarray) -> None:
    image.SetSpacing((*(spacing or (1.0, 1.0)), step))
    image.SetOrigin([float(v) for v in origin])
    image.SetDirection(direction.ravel().tolist())
