"""The image that a finished study is about, read again from where it was."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import DataError

if TYPE_CHECKING:
    from .findings import Study
    from .image import LoadedImage


def read_study_image(study: Study, path: Path) -> LoadedImage:
    """The image as it was when it was analysed: with the spacing and the frame that were given then.

    Parameters
    ----------
    study : its size is compared.
    path : file, or folder with the DICOM files of a series.

    Raises
    ------
    DataError : the file holds an image of another size.
    ImageError : it cannot be read.
    """
    from .image import read_image

    options = study.provenance.get("options", {})
    files = image_files(study, path)
    file = files[0] if files else path
    loaded = read_image(file, spacing_mm=options.get("spacing_mm"), frame=options.get("frame"), files=files)
    if loaded.image.GetSize() != study.image.size:
        raise DataError(
            f"{path} has {' x '.join(map(str, loaded.image.GetSize()))} pixels and the result "
            f"{' x '.join(map(str, study.image.size))}; give the file that the result was made from."
        )
    return loaded


def image_files(study: Study, path: Path) -> tuple[Path, ...]:
    """The files of a study whose image is a series of DICOM files; empty where it is one file.

    path : their folder, or the first of them, beside which the others lie.
    """
    if path.is_dir():
        return tuple(sorted(p for p in path.iterdir() if p.is_file()))
    if study.provenance.get("input", {}).get("files", 1) == 1 or not path.is_file():
        return ()
    from .dicom_series import sort_out

    inputs = sort_out(sorted(p for p in path.parent.iterdir() if p.is_file())).inputs
    return next((i.files for i in inputs if path in i.files), ())


def examination_date(path: Path) -> date | None:
    """The day on which a DICOM image was taken (Acquisition Date, else Content, Series, Study Date); None where no file says so."""
    try:
        file = next((p for p in sorted(path.iterdir()) if p.is_file()), path) if path.is_dir() else path
        with file.open("rb") as stream:
            if stream.read(132)[128:] != b"DICM":
                return None
    except OSError:
        return None
    import warnings

    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(file, stop_before_pixels=True)
        for keyword in ("AcquisitionDate", "ContentDate", "SeriesDate", "StudyDate"):
            text = str(header.get(keyword) or "")
            if len(text) == 8 and text.isdigit():
                return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except Exception:  # a damaged header has no date; what is wrong with the file is said where its pixels are read
        return None
    return None
