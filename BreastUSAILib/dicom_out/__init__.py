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

import io
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..atomic import atomic_path, write_bytes, write_text
from ..errors import BreastUSAIError, Cancelled, DataError, DependencyError, ImageError, OutputError, UsageError
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
NO_DICOM = "no DICOM results were written"
NO_SUBJECT = f"{FHIR} names neither patient nor study"
NO_OUTLINES = "no DICOM segmentation was written, as the findings have boxes and no outlines"
NO_PLACES = (
    "no DICOM segmentation was written, as that of a volume needs positions, and its file does not say what a pixel measures: export "
    "the volume again with Pixel Spacing"
)
NO_SPACE = (
    "the DICOM segmentation has no positions, as a pixel's size is not known; 3D Slicer needs them: give --spacing"
)


_Made = TypeVar("_Made")


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

    An input that is not DICOM has FHIR alone, and a note says so; so has one whose header lacks what results must refer to. A result that
    cannot be made for what stands in the header is left out, with a note: the analysis is not lost for it.

    Returns
    -------
    the study, with notes on what was not written.

    Raises
    ------
    OutputError : a file cannot be written.
    DependencyError : a package is missing.
    """
    from .source import is_dicom, read_headers

    if not options.any:
        return study
    headers = None
    notes: tuple[str, ...] = ()
    if is_dicom(Path(loaded.path)):
        try:
            headers = read_headers(Path(loaded.path), loaded.files)
        except (DataError, ImageError) as error:
            notes = (_not_made(NO_DICOM if options.dicom else NO_SUBJECT, error),)
    elif options.dicom:
        notes = (NOT_DICOM,)
    if headers is None:
        options = replace(options, seg=False, sr=False, report=False)
    _, more = write_files(study, loaded.image, headers, folder, options, tolerant=True)
    provenance = {**study.provenance, "notes": [*study.provenance.get("notes", ()), *notes, *more]}
    return replace(study, provenance=provenance)


def write_files(
    study: Study,
    image: sitk.Image,
    headers: Sequence[Dataset] | None,
    folder: Path,
    options: DicomOptions,
    earlier: Path | None = None,
    *,
    tolerant: bool = False,
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
    tolerant : a result that cannot be made is left out, and a sentence says so; else the error is raised.

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
    notes: list[str] = []

    def made(what: str, make: Callable[[], _Made]) -> _Made | None:
        try:
            return make()
        except (Cancelled, DependencyError, OutputError, MemoryError):
            raise
        except Exception as error:  # a header may hold anything, and highdicom raises nearly anything
            if not tolerant:
                raise
            notes.append(_not_made(what, error))
            return None

    def no(name: str) -> str:
        return f"{name} was not written"

    original = None
    if headers is not None:
        original = made(NO_DICOM if options.dicom else NO_SUBJECT, lambda: read_original(study, tuple(headers)))
    found: dict[str, bytes] = {}
    outlines = None
    if options.seg and original is not None:
        outlines, found[SEG] = made(no(SEG), lambda: _encoded(segmentation(study, original))) or (None, b"")
        if outlines is not None:
            notes += [] if original.frame_of_reference else [NO_SPACE]
        elif study.findings and not notes:
            notes.append(NO_PLACES if drawn(study) else NO_OUTLINES)
    if options.sr and original is not None:
        _, found[SR] = made(no(SR), lambda: _encoded(report(study, original, outlines))) or (None, b"")
    if options.report and original is not None:
        clean = str(original.header.get("PatientIdentityRemoved") or "") == "YES"
        unmarked = str(original.header.get("BurnedInAnnotation") or "") == "NO"
        burned_in = not (clean and unmarked)
        _, found[REPORT] = made(no(REPORT), lambda: _encoded(encapsulated_pdf(study, original, image, burned_in=burned_in))) or (None, b"")
    written = [write_bytes(folder / name, content) for name, content in found.items() if content]
    if options.fhir:
        fhir = made(no(FHIR), lambda: json.dumps(bundle(study, original, options.fhir), indent=2, ensure_ascii=False, allow_nan=False))
        written += [write_text(folder / FHIR, fhir + "\n")] if fhir is not None else []
    kept: set[str] = set()
    if earlier is not None:
        kept, more = _carry_on(study, original, [name for name in FILES if name not in options.files], Path(earlier), folder)
        notes += more
    for name in set(FILES) - {path.name for path in written} - kept:
        (folder / name).unlink(missing_ok=True)
    return written, tuple(notes)


def _encoded(dataset: Dataset | None) -> tuple[Dataset | None, bytes]:
    """A data set and the bytes of its file: encoding shows what its values are worth. Empty bytes of None."""
    stream = io.BytesIO()
    if dataset is not None:
        dataset.save_as(stream, enforce_file_format=True)
    return dataset, stream.getvalue()


def _not_made(what: str, error: Exception) -> str:
    """The note on a result that was left out. Of errors that nobody expected it has the kind alone, as their text may quote the header."""
    if isinstance(error, BreastUSAIError):
        return f"{what}: {str(error).rstrip('.')}"
    return f"{what}, as the file's header holds what it cannot carry on ({type(error).__name__}); breastusai export of this result with --debug tells more"


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
