"""The DICOM original that results refer to: its header, which of its frames is which slice of the result, and UIDs.

References are to PS3.3: functional groups C.7.6.16, frame of reference C.7.4.1; UIDs made from UUIDs PS3.5 B.2.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Iterable, MutableSequence, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from ..dicom import slice_location
from ..dicom_ge_abus import is_ge_abus
from ..dicom_geometry import Stack, read_place, read_stack, stack_frames
from ..dicom_header import group, numbers, text
from ..dicom_series import are_apart, marks_of
from ..dicom_view import read_view, stated_laterality
from ..errors import DataError, DependencyError, ImageError
from ..findings import ImageInfo, Study
from ..image import START, kind_of
from ..native import quiet
from ..pixels import choose_frame

if TYPE_CHECKING:
    from pydicom import Dataset

INSTALL = 'pip install "highdicom>=0.28" "dicom-anonymizer>=2.1" "reportlab>=4.2"'  # the extra "dicom"
# Fixed for ever: UIDs of results are made in it from the UIDs of their originals.
_NAMESPACE = uuid.UUID("6f0b1c52-3a0e-5d0c-9a61-6b1d7d1f6e55")
# Patient and study modules: what must be there, empty where the original lacks it (type 2).
_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_TYPE_2 = (*_PATIENT, "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName")
# A volume is the result's where its ends lie within this part of the distance between slices of the result's.
_SAME_PLACE = 0.1
# Character sets that results are written in as they are; text in all others, misspelt names of these among them, becomes UTF-8.
_UTF_8 = "ISO_IR 192"
_CHARACTER_SETS = (_UTF_8, "GB18030", "GBK", "ISO 2022 IR 58", *(f"ISO_IR {n}" for n in (100, 101, 109, 110, 144, 127, 126, 138, 148, 203, 13, 166)))
_LATERALITIES = {"L": ("7771000", "Left"), "R": ("24028007", "Right"), "B": ("51440002", "Bilateral")}


@dataclass(frozen=True)
class Frame:
    """A slice of the result in the original: which file, and which frame of it (from 1; None: the file has a single frame)."""

    file: int
    number: int | None


@dataclass(frozen=True)
class Original:
    """The DICOM original of a study.

    Attributes
    ----------
    headers : one multi-frame file, or the single-frame files of a series; without pixels, type 2 elements filled in.
    grid : the study's grid, 3D; a 2D image is one slice.
    frames : for each slice of the grid; None for one that was missing, and was interpolated between its neighbours.
    frame_of_reference : UID of the frame of reference that the grid is in; "" where a pixel's size is not known, and there is no
        physical space.
    own_frame : that UID is not in the original: the grid's coordinates are the image's own, not the patient's.
    """

    headers: tuple[Dataset, ...]
    grid: ImageInfo
    frames: tuple[Frame | None, ...]
    frame_of_reference: str
    own_frame: bool

    @property
    def header(self) -> Dataset:
        return self.headers[0]

    @property
    def laterality(self) -> tuple[str, str] | None:
        """SNOMED CT code and meaning of the side (CID 244), None where the original does not say; of a series also where only some files do."""
        stated = next((h for h in self.headers if stated_laterality(h)), self.header)
        return _LATERALITIES.get(read_view(stated).laterality or "")

    @property
    def has_unused_place(self) -> bool:
        """Whether the header names a frame of reference beside a place that the reader did not use. Versions before wrote results into it,
        so that what is written now has other UIDs than theirs."""
        header = self.header
        in_patient = group(header, 0, "PlanePositionSequence") is not None
        in_patient = in_patient or bool(header.get("ImagePositionPatient") and header.get("ImageOrientationPatient"))
        in_volume = not in_patient and group(header, 0, "PlanePositionVolumeSequence") is not None
        named = header.get("FrameOfReferenceUID") if in_patient else in_volume and header.get("VolumeFrameOfReferenceUID")
        return self.own_frame and bool(named)

    def uid(self, *parts: object) -> str:
        """A UID that is the same whenever it is made for the same purpose from the same original."""
        return uid_of(self.header.SOPInstanceUID, *parts)

    def tracking_uid(self, finding: str) -> str:
        """Of a finding: the same in every run, whichever model found it under this id."""
        return self.uid("tracking", finding)

    @property
    def body(self) -> str:
        """UID of the frame of reference of a curved acquisition's true positions (`acquisition.CurvedAcquisition`): LPS, mm from
        the middle of the transducer's face in the middle of its sweep. Not that of the grid."""
        return self.uid("frame of reference", "body")

    def sources(self, slices: Iterable[int]) -> tuple[Frame, ...]:
        """The frames that the voxels of some slices are from, each once; of an interpolated slice those on both sides of it."""
        found: dict[Frame, None] = {}
        for k in slices:
            below = next(frame for frame in self.frames[k::-1] if frame is not None)
            above = next(frame for frame in self.frames[k:] if frame is not None)
            found |= {below: None, above: None}
        return tuple(found)

    def axes(self) -> np.ndarray:
        """3x3, columns: directions of the grid's x, y and z."""
        return np.reshape(self.grid.direction, (3, 3))

    def position(self, index: Sequence[float]) -> np.ndarray:
        """LPS mm of a continuous index (x, y, z) of the grid."""
        return np.array(self.grid.origin) + self.axes() @ (np.array(self.grid.spacing) * np.asarray(index, float))

    def index(self, point: Sequence[float]) -> np.ndarray:
        """Continuous index (x, y, z) of a position, LPS mm; a 2D image's third is 0."""
        return (self.axes().T @ (np.asarray(point, float) - self.grid.origin)) / self.grid.spacing


def uid_of(*parts: object) -> str:
    """A UID under 2.25 from a name-based UUID (RFC 4122, version 5) of the parts."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(31).join(str(p) for p in parts)).int}"


def require_highdicom() -> None:
    """Raises `DependencyError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import highdicom  # noqa: F401
    except ImportError as error:
        raise DependencyError(f"DICOM results need the package highdicom; install it with: {INSTALL}") from error


def as_written(header: Dataset, keyword: str) -> str:
    """An element's text as it stands in the file: with the backslash that parts it into several values, which people type into identifiers."""
    value = header.get(keyword)
    several = isinstance(value, MutableSequence)
    return "\\".join(str(v) for v in value) if several else str(value or "")


def is_dicom(path: Path) -> bool:
    """Whether `read_image` takes a file for DICOM: by content, or by the name of what is no other image; of a folder, whether one of its files."""
    if path.is_dir():
        return any(is_dicom(p) for p in path.iterdir() if p.is_file())
    try:
        with path.open("rb") as stream:
            return kind_of(path, stream.read(START)) == "dicom"
    except OSError:
        return False


def read_headers(path: Path, files: Sequence[Path] = ()) -> tuple[Dataset, ...]:
    """The header of a file, or those of the images of a series, without pixels.

    Parameters
    ----------
    path : a file, or the folder of a series of single images.
    files : all files of the series, where they are known; else empty.

    Raises
    ------
    ImageError : no such file, no image.
    DataError : not DICOM; images of several series or patients; identifiers that every DICOM file must have are missing.
    """
    import pydicom

    if not path.exists():
        raise ImageError(f"{path} does not exist; give the DICOM original of the result with --source.")
    if not is_dicom(path):
        raise DataError(
            f"{path} is not a DICOM file, and DICOM results must refer to one; give the DICOM original with --source, "
            "or leave the DICOM options out."
        )
    if not files:
        files = sorted(p for p in path.iterdir() if p.is_file() and is_dicom(p)) if path.is_dir() else [path]
    headers = []
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        for file in files:
            try:
                header = pydicom.dcmread(file, force=True, stop_before_pixels=True)
                header.walk(lambda dataset, element: None)  # values are read when they are first looked at
            except Exception as error:  # a damaged file makes pydicom raise nearly anything
                raise ImageError(f"{file} is damaged or incomplete; copy or export it again.") from error
            if header.get("Rows") and header.get("Columns"):
                headers.append(_completed(file, header))
    if not headers:
        raise ImageError(f"{path} holds no DICOM image; give the file that the result was made from.")
    if len({h.SeriesInstanceUID for h in headers}) > 1:
        raise DataError(f"{path} holds images of several series; give the file or folder of the one that was analysed.")
    if are_apart([marks_of(h)[:2] for h in headers]):  # as the reader judges, or its volumes would have no results
        raise DataError(f"{path} holds images of several patients; give the file or folder of the one that was analysed.")
    _share_patient(headers)
    return tuple(headers)


def _share_patient(headers: Sequence[Dataset]) -> None:
    """What only some files of a series state of their patient counts for all: fill it in where it is empty."""
    for keyword in _PATIENT:
        stated = next((as_written(h, keyword) for h in headers if text(h, keyword).strip("^ ")), "")
        for header in headers:
            if not stated or text(header, keyword).strip("^ "):
                continue
            if not stated.isascii() and header.get("SpecificCharacterSet") != _UTF_8:
                header.decode()
                header.SpecificCharacterSet = _UTF_8
            setattr(header, keyword, stated)


def _completed(file: Path, header: Dataset) -> Dataset:
    """Fill in what may be empty; refuse what cannot be referred to."""
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        if not header.get(keyword):
            raise DataError(f"{file} has no {keyword}, so that no DICOM result can refer to it; export it again.")
    for keyword in _TYPE_2:
        if keyword not in header:
            setattr(header, keyword, "")
    _without_nonsense(header)
    if "Modality" not in header:
        header.Modality = "US"
    return header


def _without_nonsense(header: Dataset) -> None:
    """Empty what is no value of its kind, as scanners' consoles let people type it; results could not carry it on."""
    from pydicom.multival import MultiValue
    from pydicom.valuerep import DA, TM

    if isinstance(header.PatientName, MultiValue):  # a backslash was typed
        header.PatientName = next(iter(header.PatientName), "")

    if str(header.PatientSex) not in ("M", "F", "O"):
        header.PatientSex = ""
    for keyword, kind in (("PatientBirthDate", DA), ("StudyDate", DA), ("StudyTime", TM)):
        try:
            kind(header.get(keyword) or None)
        except ValueError:
            setattr(header, keyword, "")
    character_set = header.get("SpecificCharacterSet")
    if character_set and (isinstance(character_set, MultiValue) or character_set not in _CHARACTER_SETS):
        # highdicom refuses code extensions (ISO 2022), which begin with an empty value, and all names that the standard does not define as
        # those of a single set, ISO_IR 6 among them; pydicom reads most of them. UTF-8 holds the same letters.
        header.decode()
        header.SpecificCharacterSet = _UTF_8


def _stack(original: Original, name: str) -> Stack | None:
    """The original's frames (of a series: its files) as the reader puts them together (`dicom`), so that a reference names what was
    read; None where they do not say how."""
    if len(original.headers) == 1:
        return read_stack(Path(name), original.header, int(original.header.get("NumberOfFrames") or 1), volume=True)
    places = [read_place(header, 0) or slice_location(header) for header in original.headers]
    if any(place is None for place in places):
        return None
    return stack_frames(Path(name), np.array([point for point, _ in places]), places[0][1], "slice")


def _is_volume(name: str, header: Dataset, frames: int) -> bool:
    """Whether a multi-frame file is read as a volume (`dicom.read_dicom`), not as a cine of which one frame is analysed."""
    if is_ge_abus(header):
        return True
    try:
        stack = read_stack(Path(name), header, frames)
    except ImageError:  # only what is a volume can be a bad one
        return True
    return stack is not None and len(stack.slices) > 1


def _has_places(header: Dataset) -> bool:
    """Whether a multi-frame file says of each of its frames where it lies."""
    places = ("PlanePositionSequence", "PlanePositionVolumeSequence")
    return any(group(header, 0, sequence) is not None for sequence in places)


def _lies_there(original: Original, stack: Stack) -> bool:
    """Whether the ends of a volume lie where those of the result do; also where the original does not say where it lies, or the
    result has no millimetres to compare, as a pixel's size is not known."""
    if not original.frame_of_reference or (len(original.headers) == 1 and not _has_places(original.header)):
        return True
    last = len(stack.slices) - 1
    ends = {0: stack.origin, last: stack.origin + last * stack.step * stack.direction[:, 2]}
    return all(abs(original.index(place)[2] - k) < _SAME_PLACE for k, place in ends.items())


def _slices(original: Original, name: str, frame: int | None) -> tuple[Frame | None, ...]:
    """Which frame of the original each slice of the grid is; None of one that is interpolated."""
    columns, rows, count = original.grid.size
    header = original.header
    if any((h.Columns, h.Rows) != (columns, rows) for h in original.headers):
        raise DataError(
            f"{name} has {header.Columns} x {header.Rows} pixels and the result {columns} x {rows}; "
            "give the DICOM file that the result was made from."
        )
    numbers = [int(h.get("NumberOfFrames") or 1) for h in original.headers]
    if count == 1 and len(original.headers) == 1:
        if numbers[0] > 1 and _is_volume(name, header, numbers[0]):
            raise DataError(
                f"{name} is a volume of {numbers[0]} frames and the result of a single image; give the DICOM file that the result was made from."
            )
        return (_frame(original, choose_frame(Path(name), numbers[0], frame)),)
    try:
        stack = _stack(original, name)
    except ImageError:  # what makes no volume is not what the result was made from
        stack = None
    if stack is None or len(stack.slices) != count or not _lies_there(original, stack):
        raise DataError(
            f"{name} has {sum(numbers)} frames, which are not the {count} slices of the result; "
            "give the DICOM file that the result was made from."
        )
    # Of frames in one place the reader takes the first.
    return tuple(_frame(original, frames[0]) if frames else None for frames in stack.slices)


def _frame(original: Original, index: int) -> Frame:
    """A frame of a file, or a file of a series, by its index."""
    file, number = (0, index + 1) if len(original.headers) == 1 else (index, 1)
    return Frame(file, number if "NumberOfFrames" in original.headers[file] else None)


def read_original(study: Study, headers: tuple[Dataset, ...]) -> Original:
    """The original of a study, from the original's headers.

    Parameters
    ----------
    study : its grid must be the original's; which frame of a cine it is about stands in ``provenance["options"]["frame"]``.
    headers : see `read_headers`; they may have been de-identified.

    Raises
    ------
    DataError : the original's frames are not the study's.
    """
    grid = _as_3d(study.image)
    known = study.image.spacing_known
    header = headers[0]
    # What a volume of a curved transducer states is not where its grid lies. Its private elements may be gone (de-identified).
    curved = study.image.acquisition is not None or is_ge_abus(header)
    stated = "" if curved else _stated_frame_of_reference(header)
    original = Original(headers, grid, (), "", own_frame=not stated)
    if known:
        original = replace(original, frame_of_reference=stated or original.uid("frame of reference"))
    frame = study.provenance.get("options", {}).get("frame")
    # The file at hand, which need not be the one that the study names.
    name = str(getattr(header, "filename", None) or study.image.path)
    return replace(original, frames=_slices(original, name, frame))


def _stated_frame_of_reference(header: Dataset) -> str:
    """UID of the frame of reference that the reader took an image's place in (`dicom_geometry.read_place`); "" where it found none that is
    whole: elements with nonsense (axes of zeros) place nothing."""
    if read_place(header, 0) is None:
        return ""
    in_groups = _is_placed(header, "PlanePositionSequence", "PlaneOrientationSequence", "Patient")
    if not in_groups and _is_placed(header, "PlanePositionVolumeSequence", "PlaneOrientationVolumeSequence", "Volume"):
        # The positions are in the scanned volume, which has a frame of reference of its own (C.8.24.2).
        return str(header.get("VolumeFrameOfReferenceUID") or "")
    return str(header.get("FrameOfReferenceUID") or "")


def _is_placed(header: Dataset, positions: str, orientations: str, of: str) -> bool:
    """Whether the first frame's groups of one kind (of: "Patient" or "Volume") place it, as `read_place` judges."""
    from pydicom import Dataset

    position = numbers(group(header, 0, positions), f"ImagePosition{of}", 3)
    cosines = numbers(group(header, 0, orientations), f"ImageOrientation{of}", 6)
    if position is None or cosines is None:
        return False
    alone = Dataset()
    alone.ImagePositionPatient, alone.ImageOrientationPatient = list(position), list(cosines)
    return read_place(alone, 0) is not None


def _as_3d(info: ImageInfo) -> ImageInfo:
    if info.dimension == 3:
        return info
    a, b, c, d = info.direction
    return replace(
        info,
        size=(*info.size, 1),
        spacing=(*info.spacing, 1.0),
        origin=(*info.origin, 0.0),
        direction=(a, b, 0.0, c, d, 0.0, 0.0, 0.0, a * d - b * c),
    )


def mask_array(mask: sitk.Image) -> np.ndarray:
    """A finding's mask as bool (slices, rows, columns)."""
    array = sitk.GetArrayViewFromImage(mask) != 0
    return array if array.ndim == 3 else array[None]
