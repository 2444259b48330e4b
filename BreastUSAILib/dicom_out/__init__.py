"""Results for the archive: DICOM Segmentation, Structured Report and report, and FHIR, beside a study's other files.

=================  ==================================================================================================
lesions.seg.dcm    DICOM Segmentation: one segment a finding (`seg`)
measurements.dcm   Structured Report, TID 1500 (`sr`)
report.dcm         the report as Encapsulated PDF (`pdf`)
fhir.json          FHIR Bundle (`fhir`)
=================  ==================================================================================================

highdicom, pydicom and reportlab are imported when something is written.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import atomic_path, write_text
from ..errors import UsageError
from ..findings import Study

if TYPE_CHECKING:
    import SimpleITK as sitk
    from pydicom import Dataset

    from ..image import LoadedImage
    from .source import Original

SEG, SR, REPORT, FHIR = "lesions.seg.dcm", "measurements.dcm", "report.dcm", "fhir.json"
FILES = (SEG, SR, REPORT, FHIR)
FHIR_VERSIONS = ("R4", "R5")
NOT_DICOM = "no DICOM results were written, as the input is not a DICOM file"
NO_OUTLINES = "no DICOM segmentation was written, as the findings have boxes and no outlines"
NO_PLACES = (
    "no DICOM segmentation was written, as that of a volume needs positions, and its file does not say what a pixel measures: export "
    "the volume again with Pixel Spacing"
)
NO_SPACE = (
    "the DICOM segmentation has no positions, as a pixel's size is not known; 3D Slicer needs them: give --spacing"
)


@dataclass(frozen=True)
class DicomOptions:
    """Which results are written.

    Attributes
    ----------
    seg, sr, report : DICOM Segmentation, Structured Report, report as Encapsulated PDF.
    fhir : "R4" or "R5"; "" for none.
    """

    seg: bool = False
    sr: bool = False
    report: bool = False
    fhir: str = ""

    def __post_init__(self) -> None:
        if self.fhir and self.fhir not in FHIR_VERSIONS:
            raise UsageError(f"--fhir is {self.fhir}; choose one of {', '.join(FHIR_VERSIONS)}.")

    @classmethod
    def of(cls, names: Iterable[str]) -> DicomOptions:
        """The options by their names: ``seg``, ``sr``, ``report``, ``fhir-R4``, ``fhir-R5``. Raises `UsageError`."""
        found: dict[str, bool | str] = {}
        for name in names:
            kind, _, version = name.partition("-")
            if kind not in ("seg", "sr", "report", "fhir"):
                raise UsageError(f"{name} is no DICOM result; choose among seg, sr, report, fhir-R4, fhir-R5.")
            found[kind] = version if kind == "fhir" else True
        return cls(**found)

    @property
    def names(self) -> tuple[str, ...]:
        """What `of` takes."""
        plain = tuple(name for name in ("seg", "sr", "report") if getattr(self, name))
        return (*plain, f"fhir-{self.fhir}") if self.fhir else plain

    @property
    def any(self) -> bool:
        return bool(self.seg or self.sr or self.report or self.fhir)

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files that are asked for."""
        asked = (self.seg, self.sr, self.report, bool(self.fhir))
        return tuple(name for name, wanted in zip(FILES, asked, strict=True) if wanted)

    @property
    def dicom(self) -> bool:
        return self.seg or self.sr or self.report


def write(study: Study, loaded: LoadedImage, folder: Path, options: DicomOptions) -> Study:
    """Write what is asked for of an image that was just analysed, before its study.json.

    An input that is not DICOM has FHIR alone, and a note says so.

    Returns
    -------
    the study, with notes on what was not written.

    Raises
    ------
    OutputError : a file cannot be written.
    DependencyError : a package is missing.
    DataError, ImageError : the DICOM file lacks what results must refer to.
    """
    from .source import is_dicom, read_headers

    if not options.any:
        return study
    headers = None
    notes: tuple[str, ...] = ()
    if is_dicom(Path(loaded.path)):
        headers = read_headers(Path(loaded.path), loaded.files)
    elif options.dicom:
        notes = (NOT_DICOM,)
        options = replace(options, seg=False, sr=False, report=False)
    _, more = write_files(study, loaded.image, headers, folder, options)
    provenance = {**study.provenance, "notes": [*study.provenance.get("notes", ()), *notes, *more]}
    return replace(study, provenance=provenance)


def write_files(
    study: Study,
    image: sitk.Image,
    headers: Sequence[Dataset] | None,
    folder: Path,
    options: DicomOptions,
    earlier: Path | None = None,
) -> tuple[list[Path], tuple[str, ...]]:
    """Write what is asked for; files of these names that are not, or that there is nothing for, are removed.

    Parameters
    ----------
    study : its findings' masks lie on the grid of `image`.
    image : what the report shows.
    headers : of the DICOM original (`source.read_headers`); None: there is none, and FHIR alone can be written.
    folder : where to.
    earlier : a folder (this one, or the one that it will replace) with results of other kinds, which are carried on where they are of
        this analysis; None: nothing older is left.

    Returns
    -------
    the files written, and sentences on what was left out, and on what stood in `earlier`.
    """
    from .fhir import bundle
    from .pdf import encapsulated_pdf
    from .seg import drawn, segmentation
    from .source import read_original, require_highdicom
    from .sr import report

    folder = Path(folder)
    if options.dicom:
        require_highdicom()
    original = None if headers is None else read_original(study, tuple(headers))
    found: dict[str, Dataset] = {}
    notes: list[str] = []
    if options.seg and original is not None:
        dataset = segmentation(study, original)
        if dataset is not None:
            found[SEG] = dataset
            notes += [] if original.frame_of_reference else [NO_SPACE]
        elif study.findings:
            notes.append(NO_PLACES if drawn(study) else NO_OUTLINES)
    if options.sr and original is not None:
        found[SR] = report(study, original, found.get(SEG))
    if options.report and original is not None:
        clean = str(original.header.get("PatientIdentityRemoved") or "") == "YES"
        unmarked = str(original.header.get("BurnedInAnnotation") or "") == "NO"
        found[REPORT] = encapsulated_pdf(study, original, image, burned_in=not (clean and unmarked))
    written = []
    for name, dataset in found.items():
        with atomic_path(folder / name) as temporary:
            dataset.save_as(temporary, enforce_file_format=True)
        written.append(folder / name)
    if options.fhir:
        text = json.dumps(bundle(study, original, options.fhir), indent=2, ensure_ascii=False, allow_nan=False)
        written.append(write_text(folder / FHIR, text + "\n"))
    kept: set[str] = set()
    if earlier is not None:
        kept, more = _carry_on(study, original, [name for name in FILES if name not in options.files], Path(earlier), folder)
        notes += more
    for name in set(FILES) - {path.name for path in written} - kept:
        (folder / name).unlink(missing_ok=True)
    return written, tuple(notes)


def _carry_on(
    study: Study, original: Original | None, names: Iterable[str], earlier: Path, folder: Path
) -> tuple[set[str], list[str]]:
    """Leave results of these names where they are, or copy them into `folder`, but for those of another analysis: the names of those that
    stay, and sentences."""
    from .kept import of_this_analysis

    kept, notes = set(), []
    for name in names:
        there = earlier / name
        if not there.is_file():
            continue
        same = of_this_analysis(there, study, original)
        if same is False:
            notes.append(f"{name}, which was there from an earlier export, was removed, as it is of another analysis or original")
            continue
        if same is None:
            notes.append(f"{name} was left as it was; without the DICOM original nobody can tell whether it is of this analysis")
        kept.add(name)
        if folder != earlier:
            with atomic_path(folder / name) as temporary:
                shutil.copyfile(there, temporary)
    return kept, notes
