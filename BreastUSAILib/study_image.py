"""The image that a finished study is about, read again from where it was."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import BreastUSAIError, DataError, ImageError
from .headers import DICOM_SUFFIXES
from .native import quiet

if TYPE_CHECKING:
    from pydicom import Dataset

    from .dicom_series import SeriesInput
    from .findings import Study
    from .image import LoadedImage


def read_study_image(study: Study, path: Path) -> LoadedImage:
    """The image as it was when it was analysed: with the spacing and the frame that were given then.

    Parameters
    ----------
    study : its size is compared.
    path : file, or folder with the DICOM files of a series; what else lies in it is left.

    Raises
    ------
    DataError : the file holds an image of another size.
    ImageError : it cannot be read.
    """
    loaded = read_again(study, path, study.provenance.get("options", {}).get("spacing_mm"))
    if loaded.image.GetSize() != study.image.size:
        raise DataError(
            f"{path} has {' x '.join(map(str, loaded.image.GetSize()))} pixels and the result "
            f"{' x '.join(map(str, study.image.size))}; give the file that the result was made from."
        )
    return loaded


def read_again(
    study: Study, path: Path, spacing_mm: float | Sequence[float] | None = None, max_pixels: int | None = None
) -> LoadedImage:
    """An image as that of a study was read: all files of its series, and the frame that was chosen then.

    Parameters
    ----------
    path : file, or folder with the DICOM files of a series.
    spacing_mm : see `image.read_image`.
    max_pixels : likewise; None: also an image as large as the study's, which was allowed when that was made.

    Raises
    ------
    ImageError, UsageError : see `image.read_image`.
    """
    from .image import read_image
    from .pixels import default_limit

    if max_pixels is None and math.prod(study.image.size) > default_limit(study.image.size):
        max_pixels = math.prod(study.image.size)
    files = image_files(study, path)
    file = files[0] if files else path
    frame = study.provenance.get("options", {}).get("frame")
    return read_image(file, spacing_mm=spacing_mm, frame=frame, max_pixels=max_pixels, files=files if len(files) > 1 else ())


def given_spacing(study: Study, path: Path) -> float | Sequence[float] | None:
    """The spacing that was given by hand for the image of a study, where that image is this one, byte by byte; else None.

    Another file of the same size may show anything, at any scale.
    """
    from .identity import identity

    spacing = study.provenance.get("options", {}).get("spacing_mm")
    analysed = study.provenance.get("input", {}).get("sha256")
    if spacing is None or analysed is None:
        return None
    try:
        return spacing if identity(path, image_files(study, path)).get("sha256") == analysed else None
    except ImageError:
        return None  # reading it says what is wrong


def image_files(study: Study, path: Path) -> tuple[Path, ...]:
    """The files of a study's image: of a folder those of the image in it, of a file those of its series; empty where it is one file.

    path : their folder, or the first of them, beside which the others lie.

    Raises
    ------
    ImageError : the folder cannot be listed, or holds no image, or several of which none is named as the study's.
    """
    if os.path.isdir(path):  # Path.is_dir raises where it may not look
        chosen = _image_in(path, Path(study.image.path).name)
        return chosen.files or (chosen.path,)
    if study.provenance.get("input", {}).get("files", 1) == 1 or not os.path.isfile(path):
        return ()
    return next((i.files for i in _images_in(path.parent) if path in i.files), ())


def _images_in(folder: Path) -> tuple[SeriesInput, ...]:
    """The images and volumes that lie in a folder, as a run sorts them out: without reports, a DICOMDIR, hidden files and the like."""
    from .dicom_series import sort_out
    from .image import is_image_file

    try:
        files = sorted(path for path in folder.iterdir() if is_image_file(path))
    except OSError as error:
        raise ImageError(f"{folder} cannot be listed ({error.strerror}); check its permissions.") from error
    return sort_out(files).inputs


def _image_in(folder: Path, name: str) -> SeriesInput:
    """The only image in a folder; of several the one that has a file of this name."""
    from .dicom_series import only_input

    images = _images_in(folder)
    if len(images) > 1:
        images = tuple(i for i in images if any(file.name == name for file in (i.path, *i.files)))
    return images[0] if len(images) == 1 else only_input(folder)  # which says what is wrong


def image_header(path: Path) -> Dataset | None:
    """The header of a DICOM image, of a folder that of the first one in it; None of other files, and of damaged ones: what is wrong with them
    is said where their pixels are read."""
    from .dicom_header import open_dicom
    from .dicom_series import is_dicom

    try:
        file = next((i.path for i in _images_in(path)), path) if path.is_dir() else path
        if file.suffix.lower() not in DICOM_SUFFIXES and not is_dicom(file):  # the reader takes what is called so for DICOM
            return None
        with warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")
            return open_dicom(file, stop_before_pixels=True) or None
    except (OSError, BreastUSAIError, ImportError):
        return None


def examination_date(path: Path) -> date | None:
    """The day on which a DICOM image was taken (Acquisition Date, else Content, Series, Study Date); None where no file says so, as where it was
    de-identified."""
    from .dicom_out.equipment import DUMMY_DATE

    header = image_header(path)
    if header is None:
        return None
    try:
        for keyword in ("AcquisitionDate", "ContentDate", "SeriesDate", "StudyDate"):
            text = str(header.get(keyword) or "")
            if len(text) == 8 and text.isdigit() and text != DUMMY_DATE:
                return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except Exception:  # a damaged header has no date; what is wrong with the file is said where its pixels are read
        return None
    return None
