"""Folders of DICOM files, and DICOMDIRs: which of the files are breast ultrasound, and which belong together.

Each file is recognised by its header, not by its name or place. Ultrasound images, cines and volumes are inputs, one a file;
single images of one series that lie one behind the other are one input together. The rest is named, with the reason.
"""

from __future__ import annotations

import filecmp
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .dicom_header import (
    DIRECTORY,
    ENHANCED_US_VOLUME,
    US_IMAGE,
    US_MULTIFRAME,
    check_pydicom,
    items,
    name_of,
    open_dicom,
    text,
    value,
)
from .dicom_view import parse_name, stated_laterality
from .errors import ImageError
from .headers import DICOM_SUFFIXES
from .native import quiet

if TYPE_CHECKING:
    from pydicom import Dataset

OWN = "BreastUSAI"  # Manufacturer of what we wrote ourselves
_ULTRASOUND = (*US_IMAGE, *US_MULTIFRAME, ENHANCED_US_VOLUME)
_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # Secondary Capture and its multi-frame kinds (...7.1 to ...7.4)
_FIRST_GROUPS = (b"\x02\0", b"\x08\0")  # 0002 and 0008, of which the first element of a file is
_LEAST_SLICES = 3  # two images of a lesion may lie anywhere; three in a row are a volume
_LEAST_LOCATIONS = 10  # a Slice Location says nothing of where images lie sideways, and 2D examinations have it as well
_IN_A_ROW_MM = 1.0  # files of a volume are shifted sideways by less
_MOST_ASIDE = 0.05  # this part of a series, or one file, may lie elsewhere: scouts, stills
_TAGS = (
    "SOPClassUID SOPInstanceUID Modality Manufacturer StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID SeriesDescription "
    "PatientID PatientName Laterality ImageLaterality "
    "DirectoryRecordSequence Rows Columns NumberOfFrames ImagePositionPatient ImageOrientationPatient SliceLocation PixelSpacing "
    "NominalScannedPixelSpacing SequenceOfUltrasoundRegions"
).split()


@dataclass(frozen=True)
class SeriesInput:
    """One image or volume to read: ``read_image(path, files=files)``.

    Attributes
    ----------
    path : the file; of several the first by name.
    files : all files of the volume, sorted by name, where they are several; else empty.
    """

    path: Path
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Sorted:
    """inputs: sorted by path. skipped: (file, why it is none), one sentence without the file's name."""

    inputs: tuple[SeriesInput, ...]
    skipped: tuple[tuple[Path, str], ...]


@dataclass(frozen=True)
class _File:
    path: Path
    instance: str
    place: tuple[np.ndarray, np.ndarray] | None = None  # of single images: see `dicom_geometry.read_place`
    by_location: bool = False  # whether the place is a Slice Location alone
    series: tuple = ()  # what files have in common that may belong together
    marks: tuple[str, ...] = ()  # see `marks_of`


def find(folder: Path | str) -> Sorted:
    """Sort out the DICOM files below a folder, or those that a DICOMDIR lists.

    Raises
    ------
    ImageError : there is no such folder; the DICOMDIR cannot be read.
    DependencyError : pydicom is not installed.
    """
    folder = Path(folder)
    if folder.is_file():
        listed, missing = read_dicomdir(folder)
        found = sort_out(listed)
        return Sorted(found.inputs, (*found.skipped, *missing))
    if not folder.is_dir():
        raise ImageError(f"{folder} is no folder; give a folder with DICOM files, or a DICOMDIR.")
    files: list[Path] = []
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        files += [path for name in sorted(names) if is_dicom(path := Path(here, name))]
    return sort_out(files)


def only_input(folder: Path) -> SeriesInput:
    """The one image or volume that lies in a folder (not below it) as DICOM.

    Raises
    ------
    ImageError : there is none, or several.
    """
    try:
        files = [path for path in sorted(folder.iterdir()) if path.is_file() and is_dicom(path)]
    except OSError as error:
        raise ImageError(f"{folder} cannot be listed ({error.strerror}); check its permissions.") from error
    inputs = sort_out(files).inputs
    if not inputs:
        raise ImageError(f"{folder} is a folder without ultrasound images in DICOM; give an image file.")
    if len(inputs) > 1:
        names = ", ".join(i.path.name for i in inputs[:3]) + (", ..." if len(inputs) > 3 else "")
        raise ImageError(f"{folder} is a folder with {len(inputs)} images ({names}); give one of them.")
    return inputs[0]


def is_dicom(path: Path) -> bool:
    """Whether a file starts as DICOM files do, or as they go on after a preamble that was left out and its name says so. One that cannot be
    looked at does not."""
    try:
        with path.open("rb") as stream:
            start = stream.read(132)
    except OSError:
        return False
    return start[128:] == b"DICM" or (start[:2] in _FIRST_GROUPS and path.suffix.lower() in DICOM_SUFFIXES)


def sort_out(files: Iterable[Path]) -> Sorted:
    """Which files are inputs, which of them together, and which are none.

    Files that are not DICOM, and DICOM files whose header cannot be read (or all, where pydicom is not installed), come through as
    inputs: reading them says what is wrong.
    """
    inputs: list[SeriesInput] = []
    skipped: list[tuple[Path, str]] = []
    groups: dict[tuple, list[_File]] = {}
    seen: dict[str, Path] = {}
    for path in files:
        if not is_dicom(path):
            inputs.append(SeriesInput(path))
            continue
        try:
            header = _header(path)
            if not header:  # pydicom finds none of the elements in what is damaged: reading it tells
                inputs.append(SeriesInput(path))
                continue
            reason = reason_against(header)
            file = None if reason else _describe(path, header)
        except MemoryError:
            raise
        except Exception:  # a damaged header raises nearly anything, when it is read or when its elements are asked for
            inputs.append(SeriesInput(path))
            continue
        if file is None:
            skipped.append((path, reason))
            continue
        # The same UID alone does not make a copy: careless de-identification gives one to all files.
        if file.instance in seen and _same_bytes(path, seen[file.instance]):
            skipped.append((path, f"a copy of {seen[file.instance].name}"))
            continue
        seen.setdefault(file.instance, path)
        if file.place is None:
            inputs.append(SeriesInput(path))
        else:
            groups.setdefault(file.series, []).append(file)
    for members in groups.values():
        for part in _apart(members):
            inputs += _join(part)
    return Sorted(tuple(sorted(inputs, key=lambda i: i.path)), tuple(skipped))


def reason_against(header: Dataset) -> str:
    """Why a DICOM file is not an ultrasound image, as a phrase; "" when it is one."""
    sop = text(header, "SOPClassUID")
    modality = text(header, "Modality")
    if sop == DIRECTORY or "DirectoryRecordSequence" in header:
        return "a DICOMDIR, the table of contents of the other files"
    if text(header, "Manufacturer") == OWN:
        return "a result of BreastUSAI, not an image of a scanner"
    if sop in _ULTRASOUND or (f"{sop}.".startswith(f"{_CAPTURE}.") and modality == "US"):  # not ...77.1, photographs
        if not value(header, "Rows") or not value(header, "Columns"):
            return "an ultrasound object without pixels"
        return ""
    kind = name_of(value(header, "SOPClassUID")) or "of no stated kind"
    return f"not an ultrasound image: {kind}" + (f" ({modality})" if modality and modality not in kind else "")


def _header(path: Path) -> Dataset:
    check_pydicom(path)
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        return open_dicom(path, stop_before_pixels=True, specific_tags=_TAGS)


def _same_bytes(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def _describe(path: Path, header: Dataset) -> _File:
    from .dicom import slice_location
    from .dicom_geometry import read_place, read_plane

    instance = text(header, "SOPInstanceUID")
    if text(header, "SOPClassUID") not in US_IMAGE or text(header, "NumberOfFrames") not in ("", "1"):
        return _File(path, instance)
    stated = read_place(header, 0)
    place = stated or slice_location(header)
    if place is None:
        return _File(path, instance)
    common = tuple(
        text(header, keyword)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Rows", "Columns")
    )
    # The spacing as the reader compares it: images of a 2D examination differ in depth.
    grid = (read_plane(header, 0).spacing, *(np.round(place[1], 3).ravel() + 0.0))
    marks, by_location = marks_of(header), stated is None
    if text(header, "SeriesInstanceUID"):
        return _File(path, instance, place, by_location, (common, grid, by_location), marks)
    # Nothing says that these files belong together but where they lie in the patient and that all else is the same: what some of them do
    # not state may differ as well. (A Slice Location does not even say that they lie side by side.)
    return _File(path, instance, place, by_location, (common, grid, marks, str(path) if by_location else ""), marks)


def marks_of(header: Dataset) -> tuple[str, ...]:
    """What two files of one volume cannot both state and state differently; each "" where the header does not say it.

    Series Instance UID and Frame of Reference UID do not tell patients apart where careless de-identification or conversion gave one to all.
    Acquisition Number and times are none of these: some scanners count single images by them.
    """
    name = text(header, "PatientName").split("=")  # the same name in several scripts
    name = "".join(filter(str.isalnum, (name[0] or name[-1]).casefold()))  # Adams^Eve and ADAMS^EVE^^
    side, view = parse_name(text(header, "SeriesDescription"))
    return text(header, "PatientID").casefold(), name, stated_laterality(header) or "", side or "", view or ""


def are_apart(marks: Sequence[tuple[str, ...]]) -> bool:
    """Whether files with these marks cannot all be of one volume."""
    return any(len({*stated} - {""}) > 1 for stated in zip(*marks, strict=True))


def _apart(members: list[_File]) -> list[list[_File]]:
    """Files that look like one series, without mixing patients, breasts or views.

    A mark that only some files state, and all of these alike, is taken for that of all. Where several are stated, a file that states none
    may belong to any of them, and comes by itself.
    """
    parts = [members]
    for k in range(len(members[0].marks)):
        smaller: list[list[_File]] = []
        for part in parts:
            stated = sorted({m.marks[k] for m in part} - {""})
            if len(stated) < 2:
                smaller.append(part)
                continue
            smaller += [[m for m in part if m.marks[k] == mark] for mark in stated]
            smaller += [[m] for m in part if not m.marks[k]]
        parts = smaller
    return parts


def _join(members: Sequence[_File]) -> list[SeriesInput]:
    """Files of one series and direction as one volume, where they lie one behind the other; else each by itself. A few that lie elsewhere come
    by themselves and keep the rest together."""
    row = members if _are_in_a_row(members) else _without_strays(members)
    files = tuple(sorted(m.path for m in row))
    joined = set(files)
    others = [SeriesInput(m.path) for m in members if m.path not in joined]
    return [SeriesInput(files[0], files), *others] if files else others


def _are_in_a_row(members: Sequence[_File]) -> bool:
    if members[0].by_location:
        return len(members) >= _LEAST_LOCATIONS and _are_even(members)
    along, shift = _along_and_sideways(members)
    apart = np.count_nonzero(np.diff(np.sort(along)) > 1e-3)
    return apart >= _LEAST_SLICES - 1 and np.abs(shift - shift[0]).max() < _IN_A_ROW_MM


def _along_and_sideways(members: Sequence[_File]) -> tuple[np.ndarray, np.ndarray]:
    """Where files lie along their normal (n,), and the rest of their positions (n, 3), mm."""
    points = np.array([m.place[0] for m in members])
    normal = members[0].place[1][:, 2]
    along = points @ normal
    return along, points - np.outer(along, normal)


def _without_strays(members: Sequence[_File]) -> Sequence[_File]:
    """The files that lie in a row and at even steps where few do not; else none."""
    _, shift = _along_and_sideways(members)
    near = np.abs(shift - np.median(shift, axis=0)).max(axis=1) < _IN_A_ROW_MM
    row = [m for m, is_near in zip(members, near, strict=True) if is_near]
    if len(members) - len(row) > max(1, _MOST_ASIDE * len(members)) or len(row) < _LEAST_SLICES:
        return []
    # Three of four images may lie so by chance: what is left of others has to be a volume without doubt.
    return row if _are_in_a_row(row) and _are_even(row) else []


def _are_even(members: Sequence[_File]) -> bool:
    """Whether the reader would take the files for slices at even steps, and few lie in one place."""
    from .dicom_geometry import stack_frames

    points = np.array([m.place[0] for m in members])
    try:
        stack = stack_frames(members[0].path, points, members[0].place[1], "slice")
    except ImageError:
        return False
    if stack is None:
        return False
    places = sum(1 for files in stack.slices if files)
    return len(members) - places <= max(1, _MOST_ASIDE * len(members))


def read_dicomdir(path: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """The files that a DICOMDIR lists, and those of them that are not there, with the reason.

    Only files beside or below the DICOMDIR are taken, whatever it says.

    Raises
    ------
    ImageError : it is none, or damaged.
    DependencyError : pydicom is not installed.
    """
    check_pydicom(path)
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        directory = open_dicom(path)
        if "DirectoryRecordSequence" not in directory:
            raise ImageError(f"{path} is no DICOMDIR; give a folder, or an image file.")
        names = [value(record, "ReferencedFileID") for record in items(directory, "DirectoryRecordSequence")]
    root = path.parent.resolve()
    files: dict[Path, None] = {}
    missing: dict[Path, str] = {}
    for name in names:
        if name is None:
            continue
        parts = [name] if isinstance(name, str) else [str(part) for part in name]
        target = path.parent.joinpath(*parts)
        if not target.exists():  # the standard asks for capitals, and many media are mounted or copied without
            lower = path.parent.joinpath(*(part.lower() for part in parts))
            target = lower if lower.exists() else target
        if any(part in ("", ".", "..") or "/" in part or "\\" in part for part in parts) or not _below(target, root):
            missing[target] = f"listed in {path.name}, but outside its folder"
        elif not target.is_file():
            missing[target] = f"listed in {path.name}, but not there; copy the whole medium"
        else:
            files[target] = None
    return list(files), list(missing.items())


def _below(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, ValueError, RuntimeError):  # a loop of links, a zero byte
        return False
