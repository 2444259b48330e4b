"""One input of a run: read, worked up, written.

The results are made in a temporary folder and moved into place, study.json last. So a folder with a study.json is finished,
an input that fails leaves nothing behind, redoing one keeps the old results until the new ones are complete, and what a
person put beside the results stays.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import traceback
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import dicom_out
from .atomic import output_error
from .errors import BreastUSAIError, Cancelled, DataError, ImageError, NoFramesError, OutputError, UsageError
from .headers import data_files
from .identity import identity, instance_digest, pixels_digest
from .inputs import Source, is_study
from .workers import Limits

if TYPE_CHECKING:
    from .slurm import SlurmOptions
    from .workup import WorkupOptions

SCENE = "scene.mrb"
UNFINISHED = ".study.json.replaced"  # beside results of ours that are being replaced, or were when their process was killed


@dataclass(frozen=True)
class RunOptions:
    """Choices of the user for a run.

    Attributes
    ----------
    output : folder of results.
    workup : see `workup.WorkupOptions`.
    jobs : processes; more than there are cores or inputs are not started.
    overwrite : redo inputs that are finished.
    spacing_mm : what a pixel of the 2D images measures, one number or one across and one down; volumes keep what their files say, as one number is none of theirs.
    frame : see `image.read_image`.
    max_pixels : the largest image that is read; None: as `image.read_image` says.
    scene : write scene.mrb.
    debug : tell the traceback of errors that nobody expected.
    parquet : write the tables as Parquet as well, also where there are none yet.
    dicom : results for the archive that are written as well, by their names (`dicom_out.DicomOptions.of`).
    anonymize : folder for de-identified copies of the results, or None (`run_copies`).
    key_file : secret of their pseudonyms; None: one in `output`.
    isolate : work in a process of its own also where `jobs` is 1, so that a crash costs its input alone.
    time_limit_s, memory_limit_bytes : of one input, see `workers.Limits`; an input that exceeds them fails.
    scheduler : address of a Dask scheduler whose workers do the work, or "".
    slurm : options of the Slurm jobs that do the work (`slurm.SlurmOptions`), or None.
    """

    output: Path
    workup: WorkupOptions
    jobs: int = 1
    overwrite: bool = False
    spacing_mm: float | tuple[float, ...] | None = None
    frame: int | None = None
    max_pixels: int | None = None
    scene: bool = True
    debug: bool = False
    parquet: bool = False
    dicom: tuple[str, ...] = ()
    anonymize: Path | None = None
    key_file: Path | None = None
    isolate: bool = False
    time_limit_s: float | None = None
    memory_limit_bytes: int | None = None
    scheduler: str = ""
    slurm: SlurmOptions | None = None

    @property
    def limits(self) -> Limits:
        return Limits(self.time_limit_s, self.memory_limit_bytes)

    def of_results(self, task: str = "segment") -> dict[str, Any]:
        """The options that change the results of an input that begins with this task; its study keeps them."""
        return {
            **self.workup.of_task(task),
            # As JSON keeps it, so that it can be compared.
            "spacing_mm": (list(self.spacing_mm) if isinstance(self.spacing_mm, tuple) else self.spacing_mm) if task == "segment" else None,
            "frame": self.frame if task == "segment" else None,
            "scene": self.scene,
            "dicom": list(self.dicom),
        }

    def __post_init__(self) -> None:
        for name in ("output", "anonymize", "key_file"):  # the work may be done in another folder
            path = getattr(self, name)
            object.__setattr__(self, name, None if path is None else Path(os.path.abspath(path)))
        object.__setattr__(self, "workup", self.workup.with_models(absolute_model))
        object.__setattr__(self, "dicom", tuple(self.dicom))
        if not is_text(self.output):
            raise UsageError(f"--output is {str(self.output)!r}, whose name is not valid UTF-8; choose another folder.")
        if self.jobs < 1:
            raise UsageError(f"--jobs is {self.jobs}; it must be 1 or more.")
        if self.max_pixels is not None and self.max_pixels < 1:
            raise UsageError(f"--max-pixels is {self.max_pixels}; it must be 1 or more.")
        if self.spacing_mm is not None:
            one = isinstance(self.spacing_mm, int | float)
            values = (self.spacing_mm,) if one else tuple(self.spacing_mm)
            if len(values) > 2 or not values or not all(0 < value < float("inf") for value in values):
                given = ",".join(f"{value:g}" for value in values)
                raise UsageError(f"--spacing is {given}; it must be a positive number of millimetres, or one across and one down (X,Y).")
            object.__setattr__(self, "spacing_mm", values[0] if one else values)
        if self.frame is not None and self.frame < 1:
            raise UsageError(f"--frame is {self.frame}; the first frame is 1.")
        if self.time_limit_s is not None and not 0 < self.time_limit_s < float("inf"):
            raise UsageError(f"--time-limit is {self.time_limit_s:g}; it must be a positive number of seconds.")
        if self.memory_limit_bytes is not None and self.memory_limit_bytes <= 0:
            raise UsageError("--memory-limit must be a positive amount of memory.")
        if self.scheduler and self.slurm is not None:
            raise UsageError("--scheduler and --slurm are both given; choose one.")


def absolute_model(name: str, folder: str | os.PathLike = "") -> str:
    """The name of a model; of a folder its path from the root, as the work may be done, or repeated, in another folder.

    folder : what a relative path is relative to; "": the folder that one is in.
    """
    from .models.zoo import own_folder

    own = own_folder(name, folder)
    return name if own is None else os.path.abspath(own)


@dataclass(frozen=True)
class Task:
    """One input.

    Attributes
    ----------
    source : what to read.
    temporary : where to make its results; on the file system of `folder`, and nobody else's.
    folder : where they belong.
    run : the run that does it; its study keeps this name.
    """

    source: Source
    temporary: Path
    folder: Path
    run: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a task ended. `failure` is "" when it went well, `details` a traceback where one was asked for."""

    failure: str = ""
    details: str = ""


# ------------------------------------------------------------------------------------------------------- one input


class InputWorker:
    """Does one input after the other; the model is loaded once, when the worker is made.

    Raises
    ------
    ModelError, UsageError : the model or the device is not there.
    """

    def __init__(self, options: RunOptions) -> None:
        from .models.zoo import ModelCache

        self._options = options
        self._cache = ModelCache()
        self._cache.get(options.workup.model, "segment", options.workup.device)

    def __call__(self, task: Task, progress: Callable[[float, str], None]) -> Outcome:
        """Read, work up, write. Errors become the outcome's failure; only cancelling passes, and what `progress` raises: it is not the input's."""
        raised: list[Exception] = []

        def tell(fraction: float, message: str) -> None:
            try:
                progress(fraction, message)
            except Exception as error:
                raised.append(error)
                raise

        try:
            self._do(task, tell)
        except Exception as error:
            if raised:
                raise raised[0] from None
            if isinstance(error, Cancelled):
                raise
            return Outcome(failure_sentence(task, error, self._options.jobs), traceback.format_exc() if self._options.debug else "")
        finally:
            shutil.rmtree(task.temporary, ignore_errors=True)
        return Outcome()

    def _do(self, task: Task, progress: Callable[[float, str], None]) -> None:
        from .image import read_image
        from .workup import first_task, run_workup

        options = self._options
        progress(0.0, "reading")
        start = time.perf_counter()
        stamp = file_stamp(task.source.path, task.source.files)  # before the bytes, and again after them
        how = {"plane_spacing_mm": options.spacing_mm, "max_pixels": options.max_pixels, "files": task.source.files}
        try:
            loaded = read_image(task.source.path, frame=options.frame, **how)
        except NoFramesError:  # the frame is for the cines among the inputs
            loaded = read_image(task.source.path, **how)
        seconds = {"read": round(time.perf_counter() - start, 4)}
        # Now, not after the work: the file may have given way to another by then.
        known = {**identity(task.source.path, task.source.files), "pixels_sha256": pixels_digest(loaded.image), "stamp": stamp}
        known |= {"instance_sha256": digest} if (digest := instance_digest(task.source.path)) else {}
        if file_stamp(task.source.path, task.source.files) != stamp:
            # The pixels of one file would be kept under the checksum of the other, and every later run would pass over it.
            raise ImageError(f"{task.source.path} changed while it was read; run it again.")

        def tell(fraction: float, message: str) -> None:
            if fraction < 1:  # the workup's end is not ours
                progress(0.1 + 0.6 * fraction, message)

        study = run_workup(loaded, options.workup, tell, self._cache)
        provenance = {
            **study.provenance,
            "run": task.run,
            "input": known,
            "options": {**study.provenance.get("options", {}), **options.of_results(first_task(loaded.image))},
            "seconds": {**seconds, **study.provenance.get("seconds", {})},
        }
        progress(0.7, "writing")
        study = replace(study, provenance=provenance)
        if options.dicom:
            study = dicom_out.write(study, loaded, task.temporary, dicom_out.DicomOptions.of(options.dicom))
        write_results(study, loaded.image, task.temporary, scene=options.scene)
        if options.anonymize is not None:
            from . import run_copies

            progress(0.9, "de-identifying")
            run_copies.make(study, loaded, options, read_finished(task.folder))
        progress(0.98, "moving into place")  # this ends here where the run has ended: nobody counts on it any more
        move_results(task.temporary, task.folder, input_files(task.source.path, task.source.files))


def write_results(study, image, folder: Path, *, scene: bool) -> None:
    """All files of one input, study.json last.

    Raises
    ------
    OutputError : a file cannot be written.
    DependencyError : a scene is asked for and slicer-core is not installed.
    """
    from .files import write_study
    from .report import write_report

    write_report(study, image, folder)
    if scene:
        from .mrml import write_scene

        write_scene(folder / SCENE, image, study)
    write_study(study, folder)


def file_stamp(path: Path, files: Sequence[Path] = ()) -> str:
    """What changes when an input is written anew or another takes its name: a digest of the sizes and times of its files; "" where they
    cannot be looked at. It costs no reading, and says nothing of a file that was copied elsewhere: its SHA-256 does (`identity`).
    """
    looked = looked_at(path, files)
    return hashlib.sha256(repr(looked).encode()).hexdigest()[:16] if looked else ""


def looked_at(path: Path, files: Sequence[Path] = ()) -> tuple[tuple[int, int], ...]:
    """The size and the time of the last change (ns) of each file of an input; empty where one cannot be looked at. Of a header whose pixels
    lie in files beside it these are part of it."""
    try:
        stats = [os.stat(file) for file in files or (path, *data_files(path))]
    except (OSError, ImageError):
        return ()
    return tuple((stat.st_size, stat.st_mtime_ns) for stat in stats)


def input_files(path: Path, files: Sequence[Path] = ()) -> tuple[Path, ...]:
    """All files of an input; those that a header names are left out where it cannot be read any more."""
    try:
        return (path, *files, *(() if files else data_files(path)))
    except (OSError, ImageError):
        return (path,)


def own_files() -> tuple[str, ...]:
    """The names of all files that a run may write for one input; study.json is the last."""
    from . import files, report

    return (
        files.FINDINGS,
        files.LESIONS,
        files.BOXES,
        files.POINTS,
        files.HEATMAP,
        files.ACTIVATION,
        files.UNCERTAINTY,
        SCENE,
        report.REPORT,
        report.PREVIEW,
        *dicom_out.FILES,
        files.STUDY,
    )


def move_results(temporary: Path, folder: Path, inputs: Sequence[Path] = (), *, ours: bool = False) -> None:
    """Move finished results to where they belong, study.json last.

    Where there is no such folder yet the whole folder moves, in one step. Otherwise older results of ours are replaced or
    removed; other files in the folder stay. What moves is on the disk before, so that a power failure leaves no study.json
    without the files that belong to it.

    Parameters
    ----------
    inputs : files that are never replaced: those that the results were made from.
    ours : the folder is ours by its name; else what it holds says so (`is_ours`).

    Raises
    ------
    OutputError : something cannot be written; or a file that is not ours, or an input, has the name of one of ours: nothing was moved.
    """
    *names, study = own_files()
    target = folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for name in (*names, study):
            if (temporary / name).exists():
                _to_disk(temporary / name)
        if not folder.exists():
            os.rename(temporary, folder)
            return
        _refuse_others_files(folder, inputs, ours or is_ours(folder))
        # From here on the folder is unfinished until the new study.json stands in it; the mark says that what is left then is ours.
        mark_unfinished(folder)
        for name in names:
            target = folder / name
            if (temporary / name).exists():
                os.replace(temporary / name, target)
            else:
                target.unlink(missing_ok=True)
        target = folder / study
        os.replace(temporary / study, target)
        (folder / UNFINISHED).unlink(missing_ok=True)
    except OSError as error:
        raise output_error(target, error) from error


def _refuse_others_files(folder: Path, inputs: Sequence[Path], ours: bool) -> None:
    there = [path for path in (folder / name for name in own_files()) if os.path.lexists(path)]
    files = {_file(file) for file in inputs} - {None} if there else set()  # each is looked at once: a series has hundreds
    for path in there:
        if _file(path) in files:
            raise OutputError(f"{path} is a file of the input and would be replaced; choose another folder for the results.")
        if not ours:
            raise OutputError(f"{path} is no result of BreastUSAI and would be replaced; move it, or choose another folder for the results.")


def _file(path: Path) -> tuple[int, int] | None:
    """What tells a file from every other, whatever its names; None where there is none."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def is_ours(folder: Path) -> bool:
    """Whether a folder holds results of ours: finished, damaged, or left by a process that was killed while it replaced them."""
    from .files import STUDY

    return os.path.lexists(folder / UNFINISHED) or is_study(folder / STUDY)


def mark_unfinished(folder: Path) -> None:
    """Let a folder of ours count as unfinished, and as ours. Raises `OSError`."""
    from .files import STUDY

    if os.path.lexists(folder / STUDY):
        os.replace(folder / STUDY, folder / UNFINISHED)
    else:
        (folder / UNFINISHED).touch()


def mark_remains(folder: Path) -> None:
    """Let a folder count as ours by what is left in it of our results, whose study.json is gone or damaged and stays as it is."""
    with suppress(OSError):  # what cannot be written fails when the new results are moved into place
        (folder / UNFINISHED).touch()


def is_others(path: Path) -> bool:
    """Whether something that is no result of ours is there: a file, or a folder with anything in it that cannot be told to be ours."""
    if not os.path.isdir(path):
        return os.path.lexists(path)
    try:
        return not is_ours(path) and bool(os.listdir(path))
    except OSError:
        return True


def names_of_others(output: Path, ours: Container[str] = ()) -> Iterator[str]:
    """The names in a folder of results that no input may have, as something else has them (`is_others`).

    ours : names that the records say are ours.
    """
    try:
        names = os.listdir(output)
    except OSError:
        return
    yield from (name for name in names if not name.startswith(".") and name not in ours and is_others(output / name))


def _to_disk(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def failure_sentence(task: Task, error: Exception, jobs: int = 1) -> str:
    """One sentence for the user about an input that failed, with its name; `jobs`: how many are worked on at a time."""
    shown = task.source.shown
    if isinstance(error, BreastUSAIError):
        # Messages name the files as they were opened; the user knows them by other names.
        text = str(error).replace(str(task.temporary), str(task.folder)).replace(str(task.source.path), shown)
        return text if shown in text else f"{shown}: {text}"
    if isinstance(error, MemoryError):
        return f"{shown} needs more memory than there is; {less_memory(jobs)}."
    text = " ".join(str(error).split())
    return f"{shown} failed unexpectedly ({type(error).__name__}: {text}); run it again with --debug to see where."


def less_memory(jobs: int) -> str:
    """What to do where memory ran out, as the end of a sentence; `jobs`: the inputs that are worked on at a time."""
    return "close other programs, or run with fewer --jobs" if jobs > 1 else "close other programs, or crop or resample it"


def finished_folders(output: Path) -> list[Path]:
    """The folders in a folder of results that hold those of an input, sorted; they need not be whole (`read_finished`).

    No result is called with a dot in front. What is, is being made, or was left by a process that was killed, and goes again.
    """
    from .files import STUDY

    return sorted(file.parent for file in output.glob(f"*/{STUDY}") if not file.parent.name.startswith("."))


def read_finished(folder: Path):
    """The study of a finished input, without masks; None where it is not finished or its study.json is damaged."""
    from .files import STUDY
    from .findings import Study

    try:
        return Study.from_json((folder / STUDY).read_text(encoding="utf-8"), source=str(folder / STUDY))
    except (OSError, UnicodeDecodeError, DataError):
        return None


def is_text(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
