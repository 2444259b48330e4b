"""De-identified copies of a run's results, in a folder of their own that can be passed on (``run --anonymize``).

Each input's copy is in place before its results are, so that a finished input has one. The folder of results keeps what a run needs
to go on, which is names and paths, and the secret of the pseudonyms.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import run_manifest
from .atomic import write_text
from .dicom_out import DicomOptions
from .errors import DependencyError, OutputError, UsageError
from .files import STUDY
from .identity import instance_digest
from .inputs import RUN, RUN_SCHEMA, read_run
from .run_journal import DONE, Entry

if TYPE_CHECKING:
    from .findings import Study
    from .image import LoadedImage
    from .run_input import RunOptions
    from .run_overview import Result

KEY = "pseudonyms.key"  # in the output folder
_MARK = "deidentified"  # in the record of a folder of copies


def key_file(options: RunOptions) -> Path:
    """The file with the secret of the pseudonyms: the one that was named, or one beside the results."""
    return options.key_file or options.output / KEY


def check(options: RunOptions) -> None:
    """UsageError or DependencyError where no copies can be made, before any work is done."""
    if read_run(options.output).get(_MARK):
        raise UsageError(f"{options.output} holds de-identified copies; choose another folder for --output.")
    if options.anonymize is None:
        if options.key_file is not None:
            raise UsageError("--key-file belongs to --anonymize.")
        return
    copies, output = (Path(os.path.realpath(path)) for path in (options.anonymize, options.output))
    if copies.is_relative_to(output) or output.is_relative_to(copies):
        raise UsageError(
            f"--anonymize {options.anonymize} and --output {options.output} lie in each other; choose a folder apart, as the "
            "results name files and patients and the copies do not."
        )
    if (there := read_run(options.anonymize)) and not there.get(_MARK):
        raise UsageError(f"{options.anonymize} holds the results of a run; choose another folder for --anonymize.")
    if Path(os.path.realpath(key_file(options))).is_relative_to(copies):
        raise UsageError(
            "--key-file must not lie in the folder of --anonymize: who has it can tell whose the copies are."
        )
    if importlib.util.find_spec("dicomanonymizer") is None:
        from .dicom_out.source import INSTALL

        raise DependencyError(f"--anonymize needs the package dicom-anonymizer; install it with: {INSTALL}")


def begin(options: RunOptions) -> None:
    """Make the secret, where there is none yet, and mark the folder as one of results, so that no run takes them for images.

    Raises
    ------
    OutputError, UsageError : see `dicom_out.anonymize.read_key`; the folder cannot be written to.
    """
    from .dicom_out.anonymize import read_key

    read_key(key_file(options))
    if not (options.anonymize / RUN).exists():
        _write_record(options.anonymize, "running", {})


def make(study: Study, loaded: LoadedImage, options: RunOptions, replaced: Study | None = None) -> None:
    """Write the copy of one input's results; errors as of `dicom_out.copies.write_copy`.

    replaced : the results whose place these take, known without their masks; their copy goes where it has another name and is not
        of another image (the next CD).
    """
    from .dicom_out.anonymize import read_key
    from .dicom_out.copies import copy_of, write_copy
    from .dicom_out.source import is_dicom, read_headers

    original = read_headers(Path(loaded.path), loaded.files) if is_dicom(Path(loaded.path)) else None
    wanted, key = DicomOptions.of(options.dicom), read_key(key_file(options))
    write_copy(study, loaded, original, options.anonymize, wanted, key, tolerant=True)
    if replaced is None or (old := copy_of(replaced, options.anonymize, key)) == copy_of(study, options.anonymize, key):
        return
    then = replaced.provenance.get("input", {}).get("instance_sha256", "")
    # A series goes by its first file, which may have come since.
    if not then or any(instance_digest(file) == then for file in loaded.files or (Path(loaded.path),)):
        shutil.rmtree(old, ignore_errors=True)


class Missing:
    """Whether a finished study, known without its masks, has no copy (it was finished by a run that made none)."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options

    def __call__(self, study: Study) -> bool:
        from .dicom_out.anonymize import read_key
        from .dicom_out.copies import copy_of

        if self._options.anonymize is None:
            return False
        return not (copy_of(study, self._options.anonymize, read_key(key_file(self._options))) / STUDY).exists()


def how_to_make(options: RunOptions) -> str:
    """The command that makes the copies of finished results."""
    names = " ".join(f"--dicom-{n}" if not n.startswith("fhir") else f"--fhir {n[5:]}" for n in options.dicom)
    return (
        f"breastusai export {options.output}/STUDY_FOLDER ... --anonymize --output {options.anonymize} "
        f"--key-file {key_file(options)} {names}".strip()
    )


def finish(options: RunOptions, work: Path) -> list[Result]:
    """Write tables and index of all copies in the folder, without paths and times; what could not be written.

    work : for a file that is removed in the end.
    """
    from .run_input import finished_folders
    from .run_overview import Result, Results, write_overview

    folder = options.anonymize
    names = [path.name for path in finished_folders(folder)]
    copies = Results(folder, [Entry(name, name, DONE, name) for name in names])
    overview = write_overview(folder, work, copies, Results(folder, []), "De-identified copies.", options.parquet)
    unwritten = list(overview.unwritten)
    try:
        _write_record(folder, "done", {"models": overview.models, "counts": {"inputs": len(names)}})
    except OutputError as error:
        unwritten.append(Result(str(folder / RUN), message=str(error)))
    return unwritten


def _write_record(folder: Path, status: str, more: Mapping[str, Any]) -> None:
    record = {"schema": RUN_SCHEMA, "status": status, _MARK: True, "software": run_manifest.software(), **more}
    write_text(folder / RUN, json.dumps({**record, "inputs": []}, indent=2) + "\n")
