"""DICOM in: single ultrasound images, cines, volumes in one file, and volumes in a series of files.

`docs/dicom.md` says which kinds there are, what their geometry is, and what is refused. `dicom_geometry` has the places of
frames, `dicom_pixels` their values, `dicom_ge_abus` the GE Invenia, `dicom_view` which breast is seen, `dicom_series` folders.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from . import dicom_ge_abus
from .acquisition import CurvedAcquisition
from .dicom_geometry import Plane, Stack, read_place, read_plane, read_stack, stack_frames
from .dicom_header import DIRECTORY, check_pydicom, damaged, frame_count, name_of, number, open_dicom, value
from .dicom_pixels import display_note, read_frames
from .dicom_series import are_apart, marks_of
from .dicom_view import View, read_view, stated_laterality
from .errors import BreastUSAIError, ImageError
from .native import quiet
from .pixels import COLOUR_NOTE, check_size, choose_frame, refuse_frame

if TYPE_CHECKING:
    from pydicom import Dataset


@dataclass(frozen=True)
class DicomImage:
    """What was read; see `image.LoadedImage`.

    Attributes
    ----------
    image : 2D or 3D.
    spacing_known : whether the file says what a pixel measures.
    notes : sentences for the reader.
    area : (x, y, width, height) of the ultrasound region, or None.
    acquisition : where its voxels lie in the body, where that is not where its grid is; or None.
    laterality, view : see `dicom_view`, or None.
    aspect : the height of a pixel divided by its width, where the file says that alone and no spacing.
    """

    image: sitk.Image
    spacing_known: bool
    notes: tuple[str, ...] = ()
    area: tuple[int, int, int, int] | None = None
    acquisition: CurvedAcquisition | None = None
    laterality: str | None = None
    view: str | None = None
    aspect: float = 1.0


def read_dicom(
    path: Path,
    *,
    frame: int | None = None,
    max_pixels: int | None = None,
    volume: bool = False,
    files: Sequence[Path] = (),
) -> DicomImage:
    """Read one DICOM file, or the files of a series that make one volume.

    A file with one frame is 2D, or 3D with one slice where its place in the patient is stated. Several frames are a
    volume where their distance or their positions are stated, else a cine, of which one frame is read.

    Parameters
    ----------
    path : the file.
    frame : of a cine, from 1; the middle one when None. A single image is read whatever it is.
    max_pixels : the largest image that is read; None: as `pixels.check_size` says.
    volume : take several frames for a volume even where their distance is not stated.
    files : all files of the volume, `path` among them, in any order; empty: `path` alone.

    Raises
    ------
    ImageError : no image, damaged, too large, a time series of volumes, frames at uneven distances, too many missing,
        a geometry that is not known, files of several patients, breasts or views.
    UsageError : no such frame; `NoFramesError` of a volume.
    DependencyError : pydicom, or what decodes the file's pixels, is not installed.
    MemoryError : the computer's memory does not suffice.
    """
    check_pydicom(path)
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        try:
            if len(files) > 1:
                refuse_frame(path, frame)
                return _read_series(path, files, max_pixels)
            return _read_file(path, frame, max_pixels, volume)
        except (BreastUSAIError, MemoryError):
            raise
        except Exception as error:  # elements are understood when asked for; damaged ones raise nearly anything
            raise damaged(path, error) from error


# ------------------------------------------------------------------------------------------------------- one file


def _read_file(path: Path, frame: int | None, max_pixels: int | None, volume: bool) -> DicomImage:
    header = _header(path)
    frames = frame_count(path, header)
    size = _frame_size(path, header)
    ge = dicom_ge_abus.read_geometry(path, header, frames) if dicom_ge_abus.is_ge_abus(header) else None
    stack = None
    if ge is not None:
        slices = tuple((i,) for i in range(frames))
        stack = Stack(slices, np.array(ge.origin), np.eye(3), ge.spacing[2], ge.notes)
    elif frames > 1:
        stack = read_stack(path, header, frames, volume=volume)
    if stack is None:
        return _read_frame(path, header, frames, frame, max_pixels)
    refuse_frame(path, frame)
    check_size(path, (*size, len(stack.slices)), max_pixels)
    first = next(frames[0] for frames in stack.slices if frames)
    plane = Plane(ge.spacing[:2]) if ge is not None else read_plane(header, first)
    dataset = open_dicom(path)
    wanted = [i for frames in stack.slices for i in frames]
    values, coloured = read_frames(path, dataset, wanted)
    voxels, more = values, ()
    if any(len(frames) != 1 for frames in stack.slices):
        names = [f"frame {i + 1}" for i in range(frames)]
        voxels, more = _fill(path, stack, dict(zip(wanted, values, strict=True)), names)
    view = read_view(header)
    notes = (*plane.notes, *stack.notes, *more, *_common_notes(header, first, coloured, view))
    image = _placed(voxels, plane.spacing, stack)
    acquisition = None if ge is None else ge.acquisition
    known = plane.spacing is not None
    return DicomImage(image, known, notes, plane.area, acquisition, view.laterality, view.view, plane.aspect)


def _read_frame(path: Path, header: Dataset, frames: int, frame: int | None, max_pixels: int | None) -> DicomImage:
    """A single image, or one frame of a cine."""
    check_size(path, _frame_size(path, header), max_pixels)
    index = choose_frame(path, frames, frame)
    values, coloured = read_frames(path, open_dicom(path), [index])
    plane, view = read_plane(header, index), read_view(header)
    notes = [*plane.notes]
    if frames > 1:
        notes.append(f"frame {index + 1} of {frames}")
        if not any(header.get(k) for k in ("FrameTime", "FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate")):
            notes.append(
                "the file states neither the time nor the distance between its frames; it is taken for a cine, and for a volume "
                "where three spacings are given"
            )
    notes += _common_notes(header, index, coloured, view)
    place = read_place(header, index)
    if place is None:
        image = sitk.GetImageFromArray(values[0])
        if plane.spacing is not None:
            image.SetSpacing(plane.spacing)
    else:
        thickness = number(header, "SliceThickness") or 1.0
        image = _placed(values, plane.spacing, Stack(((0,),), *place, thickness if thickness > 0 else 1.0))
    known, aspect = plane.spacing is not None, plane.aspect
    return DicomImage(
        image, known, tuple(notes), plane.area, laterality=view.laterality, view=view.view, aspect=aspect
    )


def _common_notes(header: Dataset, frame: int, coloured: bool, view: View) -> tuple[str, ...]:
    notes = (*display_note(header, frame), *view.notes, *dicom_ge_abus.missing_geometry(header))
    return (COLOUR_NOTE, *notes) if coloured else notes


def _header(path: Path) -> Dataset:
    header = open_dicom(path, stop_before_pixels=True)
    if header.get("MediaStorageSOPClassUID") == DIRECTORY or "DirectoryRecordSequence" in header:
        raise ImageError(f"{path} is a DICOMDIR, a table of contents; give one of the image files that it lists.")
    if not header.get("Rows") or not header.get("Columns"):
        kind = name_of(value(header, "SOPClassUID")) or "no SOP class"
        raise ImageError(f"{path} holds no DICOM image ({kind}); give a file with pixels.")
    return header


def _frame_size(path: Path, header: Dataset) -> tuple[int, int]:
    try:
        return int(header.Columns), int(header.Rows)
    except (TypeError, ValueError) as error:
        raise damaged(path, error) from error


# ------------------------------------------------------------------------------------------------- a series of files


def _read_series(path: Path, files: Sequence[Path], max_pixels: int | None) -> DicomImage:
    """Single images of one series, each with its place, as one volume."""
    files = sorted(dict.fromkeys(files))
    headers = [_header(file) for file in files]
    check_size(path, (*_frame_size(path, headers[0]), len(files)), max_pixels)
    places = [read_place(header, 0) or slice_location(header) for header in headers]
    for file, header, place in zip(files, headers, places, strict=True):
        if place is None or frame_count(file, header) != 1:
            raise ImageError(f"{file} does not say where in its series it lies; give it by itself.")
        same = (
            np.abs(place[1] - places[0][1]).max() < 1e-3
            and read_plane(header, 0).spacing == read_plane(headers[0], 0).spacing
        )
        if _frame_size(file, header) != _frame_size(path, headers[0]) or not same:
            raise ImageError(
                f"{file} differs from {files[0].name} in size, pixel spacing or direction; give it by itself."
            )
    if are_apart([marks_of(header) for header in headers]):
        raise ImageError(
            f"{path} and the other files of its series are of several patients, breasts or views; give the files of one of them."
        )
    stack = stack_frames(path, np.array([place[0] for place in places]), places[0][1], "slice")
    if stack is None:
        raise ImageError(f"{path} and the other files of its series lie in one place; give them one by one.")
    check_size(path, (*_frame_size(path, headers[0]), len(stack.slices)), max_pixels)
    read = [read_frames(file, open_dicom(file), [0]) for file in files]
    frames = {i: values[0] for i, (values, _) in enumerate(read)}
    voxels, more = _fill(path, stack, frames, [file.name for file in files])
    # Of a series that states the breast in some files only, one that does.
    view = read_view(next((header for header in headers if stated_laterality(header)), headers[0]))
    plane = read_plane(headers[0], 0)
    notes = (
        f"{len(files)} files of one series put together",
        *plane.notes,
        *stack.notes,
        *more,
        *_common_notes(headers[0], 0, any(coloured for _, coloured in read), view),
    )
    image = _placed(voxels, plane.spacing, stack)
    known, aspect = plane.spacing is not None, plane.aspect
    return DicomImage(image, known, notes, plane.area, laterality=view.laterality, view=view.view, aspect=aspect)


def slice_location(header: Dataset) -> tuple[np.ndarray, np.ndarray] | None:
    """The place of a slice by its Slice Location alone, along z; None where there is none."""
    along = number(header, "SliceLocation")
    return None if along is None else (np.array([0.0, 0.0, along]), np.eye(3))


# ------------------------------------------------------------------------------------------------------------ volumes


def _fill(
    path: Path, stack: Stack, frames: dict[int, np.ndarray], names: Sequence[str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """(slices, rows, columns): duplicates once, gaps interpolated; and sentences on duplicates. names: of the frames."""
    dropped = []
    known = [k for k, indexes in enumerate(stack.slices) if indexes]
    first = frames[stack.slices[known[0]][0]]
    if len({values.shape for values in frames.values()}) > 1:
        raise ImageError(f"{path} has slices of different size; give them one by one.")
    voxels = np.empty((len(stack.slices), *first.shape), np.result_type(*frames.values()))
    for k in known:
        kept, *copies = stack.slices[k]
        voxels[k] = frames[kept]
        for copy in copies:
            if not np.array_equal(frames[copy], frames[kept]):
                raise ImageError(
                    f"{path} has two different slices in one place ({names[kept]} and {names[copy]}); export one volume of it."
                )
            dropped.append(names[copy])
    for below, above in zip(known, known[1:], strict=False):
        for k in range(below + 1, above):
            part = (k - below) / (above - below)
            between = voxels[below] * (1 - part) + voxels[above].astype(float) * part
            voxels[k] = np.rint(between) if voxels.dtype.kind in "iu" else between
    if not dropped:
        return voxels, ()
    listed = ", ".join(dropped[:5]) + (", ..." if len(dropped) > 5 else "")
    return voxels, (f"{len(dropped)} duplicate slice{'s'[: len(dropped) > 1]} left out ({listed})",)


def _placed(voxels: np.ndarray, spacing: tuple[float, float] | None, stack: Stack) -> sitk.Image:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((*(spacing or (1.0, 1.0)), stack.step))
    image.SetOrigin([float(v) for v in stack.origin])
    image.SetDirection(stack.direction.ravel().tolist())
    return image
