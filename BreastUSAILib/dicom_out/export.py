"""``breastusai export``: results that exist already, for the archive, or de-identified to be passed on."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import RESEARCH_USE
from ..analysed import OPTION, OPTION_HELP, OTHER_FILE, check, not_checked
from ..errors import DataError, UsageError
from . import FHIR_VERSIONS, DicomOptions, write_files

if TYPE_CHECKING:
    from ..findings import Study
    from .anonymize import Key


def add_options(parser) -> None:
    """The options by which DICOM results are asked for, here and in ``breastusai run``."""
    parser.add_argument("--dicom-seg", action="store_true", help="write the outlines as a DICOM Segmentation")
    parser.add_argument(
        "--dicom-sr", action="store_true", help="write the findings as a DICOM Structured Report (TID 1500)"
    )
    parser.add_argument("--dicom-report", action="store_true", help="write the report as a PDF in DICOM")
    parser.add_argument(
        "--fhir",
        nargs="?",
        const=FHIR_VERSIONS[0],
        default="",
        type=_fhir_version,
        choices=FHIR_VERSIONS,
        help="write a FHIR Bundle (default: R4)",
    )


def _fhir_version(text: str) -> str:
    if text and text not in FHIR_VERSIONS:  # the default, "", comes through here as well
        # What follows the option is taken for its version.
        versions = " or ".join(FHIR_VERSIONS)
        raise argparse.ArgumentTypeError(
            f"{text!r} is no version of FHIR ({versions}); name what is read before --fhir, or give the version, as in --fhir {FHIR_VERSIONS[0]}"
        )
    return text


def options_of(args: argparse.Namespace) -> DicomOptions:
    """What `add_options` was given."""
    return DicomOptions(args.dicom_seg, args.dicom_sr, args.dicom_report, args.fhir)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write finished results as DICOM and FHIR, beside them or into another folder; with --anonymize a de-identified copy of "
        "them, after the basic profile of DICOM PS3.15."
    )
    parser.epilog = RESEARCH_USE
    parser.add_argument("studies", nargs="+", type=Path, metavar="STUDY_FOLDER", help="folder with a study.json, or that file; or of a run with one input")
    parser.add_argument(
        "--source",
        type=Path,
        metavar="DICOM",
        help="the DICOM original (file, or folder of a series), where it is not where it was",
    )
    parser.add_argument(OPTION, action="store_true", help=OPTION_HELP)
    parser.add_argument(
        "--output", "-o", type=Path, metavar="DIR", help="folder for the files (default: the study's own)"
    )
    add_options(parser)
    parser.add_argument(
        "--anonymize", action="store_true", help="write a de-identified copy of the results to --output"
    )
    add_key_file(parser)


def add_key_file(parser) -> None:
    """The secret of the pseudonyms, here and in ``breastusai run``."""
    parser.add_argument(
        "--key-file", type=Path, metavar="FILE",
        help="secret of the pseudonyms, made where it is not there; the same file gives the same patients and studies the same ones",
    )  # fmt: skip


def main(args: argparse.Namespace) -> int:
    from ..compare_command import study_folder
    from .anonymize import read_key

    options = options_of(args)
    if args.anonymize and args.output is None:
        raise UsageError("--anonymize writes a copy: name a folder for it with --output.")
    if args.key_file is not None and not args.anonymize:
        raise UsageError("--key-file belongs to --anonymize.")
    if not options.any and not args.anonymize:
        raise UsageError("Say what to write: --dicom-seg, --dicom-sr, --dicom-report, --fhir, or --anonymize.")
    if args.source is not None and len(args.studies) > 1:
        raise UsageError("--source is the original of one result; give one STUDY_FOLDER with it.")
    folders = [study_folder(path) for path in args.studies]
    key = read_key(args.key_file) if args.anonymize else None
    if args.output is not None:
        _check_targets(folders, args.output, key)
    for folder in folders:
        if key is None:
            target = folder if args.output is None else args.output / folder.resolve().name
            files, notes = export(folder, target, options, args.source, args.other_file)
        else:
            files, notes = export_anonymized(folder, args.output, options, key, args.source, args.other_file)
        for file in files:
            print(file)
        for note in notes:
            print(f"Note: {note}.")
    return 0


def _check_targets(studies: Iterable[Path], output: Path, key: Key | None) -> None:
    """UsageError where two studies would go into one folder, as the later would replace the earlier.

    key : of de-identified copies, whose folders are named after their images; None: they are named after those of the studies.
    """
    from ..run_input import read_finished
    from .copies import copy_of

    given: dict[str, Path] = {}
    for folder in studies:
        if key is None:
            target = output / folder.resolve().name
        elif (study := read_finished(folder)) is not None:
            target = copy_of(study, output, key)
        else:
            continue  # reading it whole says what is wrong
        other = given.setdefault(target.name.casefold(), folder)
        if other.resolve() != folder.resolve():
            raise UsageError(
                f"{other} and {folder} would both be written to {target}; export one after the other, each with its own --output."
            )


def export(
    folder: Path, target: Path, options: DicomOptions, source: Path | None = None, other_file: bool = False
) -> tuple[list[Path], tuple[str, ...]]:
    """Write a finished study as DICOM and FHIR. What else stands in `target` of these kinds stays, where it is of this analysis.

    Parameters
    ----------
    folder : with the study's files.
    target : where to write.
    source : the DICOM original; None: where study.json says that it was.
    other_file : the user says that a file which is not known to be the analysed one shows the same image.

    Returns
    -------
    the files written, and sentences on what was not, what was removed, and what is not known.

    Raises
    ------
    DataError, ImageError, OutputError, DependencyError : see `write_files` and `files.read_study`.
    """
    from ..files import read_study
    from ..study_image import image_files
    from .source import read_headers

    study = read_study(folder)
    path = source or Path(study.image.path)
    headers, notes = None, ()
    if options.dicom or _has_original(path, source):
        headers = read_headers(path, image_files(study, path))
        study, notes = _checked(study, path, other_file)
    image = _image(study, path) if options.report else None
    files, more = write_files(study, image, headers, target, options, earlier=target)
    return files, (*notes, *more)


def export_anonymized(
    folder: Path, output: Path, options: DicomOptions, key, source: Path | None = None, other_file: bool = False
) -> tuple[list[Path], tuple[str, ...]]:
    """Write a de-identified copy of a finished study, and of it what is asked for, into a folder named by a pseudonym.

    Parameters and returns as of `export`; `output` gets the folder, `key` is the secret of the pseudonyms.
    """
    from ..files import read_study
    from ..study_image import image_files, read_study_image
    from .copies import write_copy
    from .source import read_headers

    study = read_study(folder)
    path = source or Path(study.image.path)
    original = read_headers(path, image_files(study, path)) if options.dicom or _has_original(path, source) else None
    if not path.exists():
        raise DataError(f"{path} is not there any more; give the original of {folder} with --source, for the pictures.")
    # Also of what is not DICOM: the copy has pictures of it.
    study, notes = _checked(study, path, other_file)
    files, more = write_copy(study, read_study_image(study, path), original, output, options, key, folder, keep=True)
    return files, (*notes, *more)


def _checked(study: Study, path: Path, other_file: bool) -> tuple[Study, tuple[str, ...]]:
    """The study, with a note where the user says that another file shows its image; and what is to be said. Raises as `analysed.check`."""
    same = check(study, path, "--source", other_file).same
    if same is None:
        return study, (not_checked(path),)
    if same:
        return study, ()
    provenance = {**study.provenance, "notes": [*study.provenance.get("notes", ()), OTHER_FILE]}
    return replace(study, provenance=provenance), (OTHER_FILE,)


def _has_original(path: Path, source: Path | None) -> bool:
    from .source import is_dicom

    return source is not None or (path.exists() and is_dicom(path))


def _image(study, path: Path):
    from ..study_image import read_study_image

    return read_study_image(study, path).image
