"""De-identified copies of results: one for each study, in a folder that is named by a pseudonym (`anonymize`)."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from ..errors import UsageError
from ..files import STUDY
from ..findings import Study
from . import NOT_DICOM, DicomOptions, write_files
from .anonymize import (
    ALONE,
    BESIDE,
    SERIES,
    Key,
    deidentified_headers,
    deidentified_study,
    is_series,
    pseudonym,
    without_surroundings,
)

if TYPE_CHECKING:
    from pydicom import Dataset

    from ..image import LoadedImage


def copy_of(study: Study, output: Path, key: Key) -> Path:
    """The folder of a study's copy among those in `output`.

    Earlier versions called a series as its first file by itself. A copy of theirs keeps that name, and that file gets another there, which it
    keeps when the series' copy is gone.
    """
    alone, series, beside = (Path(output) / pseudonym(study, key, kind) for kind in (ALONE, SERIES, BESIDE))
    if is_series(study):
        return alone if _holds_volume(alone) else series
    keeps = not _is_volume(study) and ((beside / STUDY).exists() or _holds_volume(alone))
    return beside if keeps else alone


def _holds_volume(folder: Path) -> bool:
    """Whether a copy is of several slices; of a first file and its series, the series."""
    from ..run_input import read_finished

    study = read_finished(folder)
    return study is not None and _is_volume(study)


def _is_volume(study: Study) -> bool:
    return study.image.dimension == 3 and study.image.size[2] > 1


def write_copy(
    study: Study,
    loaded: LoadedImage,
    original: Sequence[Dataset] | None,
    output: Path,
    options: DicomOptions,
    key: Key,
    source: Path | None = None,
    *,
    keep: bool = False,
    tolerant: bool = False,
) -> tuple[list[Path], tuple[str, ...]]:
    """Write the de-identified copy of a study, with its tables, pictures and report; whole, or not at all.

    Parameters
    ----------
    study, loaded : the results, and the image that they are of, as they are.
    original : the DICOM original's headers; None: it is no DICOM file, and of `options` FHIR alone is written.
    output : where the copy's folder is made.
    source : the folder of the results, where they have one; it is not to be overwritten.
    keep : what an earlier copy has of DICOM and FHIR that is not asked for now is carried on, where it is of this analysis.
    tolerant : see `write_files`.

    Returns
    -------
    the files, and sentences on what is not in them and what is known of burned-in text.

    Raises
    ------
    UsageError : the copy would take the place of the results.
    DependencyError, DataError, OutputError : as of `write_files` and `anonymize.deidentified_headers`.
    """
    from ..files import write_study
    from ..report import write_report
    from ..run_input import move_results

    target = copy_of(study, output, key)
    if source is not None and target.resolve() == source.resolve():
        raise UsageError(f"{target} is the result itself; choose another folder for --output.")
    notes: tuple[str, ...] = ()
    if original is None and options.dicom:
        notes = (NOT_DICOM,)
        options = DicomOptions(fhir=options.fhir)
    headers = None if original is None else deidentified_headers(original, key)
    clean = deidentified_study(study, key, original or (), loaded.files)
    image, burned = without_surroundings(loaded.image, loaded.area, original or ())
    provenance = {**clean.provenance, "notes": [*clean.provenance["notes"], *burned]}
    clean = replace(clean, image=replace(clean.image, path=target.name), provenance=provenance)
    making = f".{target.name}-"
    for left in target.parent.glob(f"{making}*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    temporary = target.with_name(f"{making}{uuid4().hex[:8]}")
    try:
        files, more = write_files(clean, image, headers, temporary, options, target if keep else None, tolerant=tolerant)
        files += write_report(clean, image, temporary)
        files += write_study(clean, temporary)
        move_results(temporary, target, ours=True)  # nobody else's folder has a pseudonym for a name
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [target / file.name for file in files], (*notes, *burned, *more)
