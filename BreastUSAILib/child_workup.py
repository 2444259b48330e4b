"""The workup of one volume in a child process: its pixels go out as a file, a `Study` comes back.

Used by the Slicer modules. The child is ``python -m BreastUSAILib.cli run``, so what a module finds is what the
command line finds.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import SimpleITK as sitk

from .child_process import ChildError, ChildRun, python_executable
from .command_arguments import DETECT, GRADE, SEGMENT_3D, detection_words, grading_words, segmentation_words
from .errors import DataError, ImageError, OutputError
from .files import read_study
from .findings import Study
from .grid import as_2d
from .pixels import in_grey

if TYPE_CHECKING:
    from .image import LoadedImage
    from .workup import WorkupOptions

_CLI = "BreastUSAILib.cli"


@dataclass(frozen=True)
class VolumePixels:
    """What a volume holds, apart from MRML.

    Attributes
    ----------
    image : 3D, of one slice, grey or colour, LPS (`mrml.image_from_volume`).
    name : of the volume; stands for the file name in the study.
    spacing_known : whether its millimetres are real.
    """

    image: sitk.Image
    name: str
    spacing_known: bool

    def reason_against(self) -> str:
        """Why this cannot be analysed, as a sentence with the cure; "" when it can."""
        return reason_against_size(self.image.GetSize(), self.name)

    def with_spacing(self, spacing: float) -> VolumePixels:
        """The same pixels, each `spacing` mm wide and high; 0: nobody knows how large."""
        if spacing <= 0:
            return replace(self, spacing_known=False)
        image = sitk.Image(self.image)
        # The thickness of the one slice stays.
        sizes = zip(self.image.GetSize(), self.image.GetSpacing(), strict=True)
        image.SetSpacing([thickness if n == 1 else spacing for n, thickness in sizes])
        return replace(self, image=image, spacing_known=True)


def reason_against_size(size: Sequence[int], name: str) -> str:
    """The same from the number of voxels along each axis, before any is copied."""
    if min(size, default=0) < 1:
        return f"{name} holds no pixels; load an image into it or choose another one."
    if len(size) == 3 and sum(n == 1 for n in size) > 1:
        return f"{name} is a single line of pixels, not an image; choose a 2D image."
    if len(size) == 3 and 1 not in size:
        return (
            f"{name} is a volume of {size[2]} slices, which is not analysed as an image. Choose a 2D image, or save a single "
            "slice as an image and load that."
        )
    return ""


def write_input(pixels: VolumePixels, folder: Path) -> Path:
    """Write the pixels so that `image.read_image` reads the same image, and knows the spacing only if it is known.

    Raises
    ------
    ImageError : the volume is not a 2D image.
    OutputError : the file cannot be written.
    """
    reason = pixels.reason_against()
    if reason:
        raise ImageError(reason)
    with _disk_trouble(pixels.name):
        return _write(pixels, folder)


@contextmanager
def _disk_trouble(name: str) -> Iterator[None]:
    """SimpleITK's and the system's errors about temporary files, as a sentence with the cure."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"{name} cannot be handed to the analysis and back through the folder {tempfile.gettempdir()}; free some "
            "space there, check its permissions, and try again."
        ) from error


def _write(pixels: VolumePixels, folder: Path) -> Path:
    # The child's log names the file; a volume's name may hold anything. No letters beyond ASCII: see `_in_ascii`.
    stem = re.sub(r"[^\w-]+", "_", pixels.name, flags=re.ASCII)[:60].strip("_") or "image"
    image = _grey_or_8_bits(pixels)
    if pixels.spacing_known:
        path = folder / f"{stem}.nrrd"
        sitk.WriteImage(image, str(path))
        return path
    # NRRD always states a spacing; these formats state none.
    flat = sitk.GetImageFromArray(
        sitk.GetArrayFromImage(as_2d(image)), isVector=image.GetNumberOfComponentsPerPixel() > 1
    )
    if flat.GetPixelID() in (sitk.sitkUInt8, sitk.sitkUInt16, sitk.sitkVectorUInt8):
        path = folder / f"{stem}.png"
    else:
        path = folder / f"{stem}.tif"
        flat = sitk.Cast(flat, sitk.sitkFloat32)
    sitk.WriteImage(flat, str(path))
    return path


def _grey_or_8_bits(pixels: VolumePixels) -> sitk.Image:
    """The image, colours of more than 8 bits in grey, as colours are read from pictures with 8 bits. Raises `ImageError` for what is no colour."""
    count = pixels.image.GetNumberOfComponentsPerPixel()
    if count == 1 or (count in (3, 4) and pixels.image.GetPixelID() == sitk.sitkVectorUInt8):
        return pixels.image
    if count not in (3, 4) or "unsigned" not in pixels.image.GetPixelIDTypeAsString():
        raise ImageError(
            f"{pixels.name} holds {count} values a pixel that are no colours; convert it to one value a pixel, for instance with the module Vector to "
            "Scalar Volume."
        )
    return in_grey(pixels.image)[0]


def load_input(pixels: VolumePixels) -> LoadedImage:
    """The volume as `workup.run_workup` takes it, through the same file that a child would read.

    Raises
    ------
    ImageError : the volume is not a 2D image, or cannot be analysed (`image.read_image`).
    OutputError : no temporary file can be written.
    """
    from .image import read_image

    with _temporary_folder(pixels.name) as folder:
        source = write_input(pixels, Path(folder))
        try:
            return replace(read_image(source), path=Path(pixels.name))
        except ImageError as error:
            raise ImageError(_named(str(error), pixels.name, source)) from error


def _named(text: str, name: str, source: Path) -> str:
    """A sentence with a volume's name for the temporary file `source` in which its pixels went out, and without where that lay."""
    for path in (source.resolve(), source, source.name):
        text = text.replace(str(path), name)
    for folder in (source.parent.resolve(), source.parent):
        text = text.replace(str(folder), "the temporary folder")
    return text


def _temporary_folder(name: str) -> tempfile.TemporaryDirectory:
    with _disk_trouble(name):
        return tempfile.TemporaryDirectory(
            prefix="BreastUSAI-", dir=_in_ascii(tempfile.gettempdir()), ignore_cleanup_errors=True
        )


def _in_ascii(folder: str) -> str:
    """On Windows the short name of a folder with letters beyond ASCII, as where the user's name has such; else, and where it has none, its own name.

    The child's Python, unlike Slicer itself, does not tell Windows that it speaks UTF-8, and ITK finds no file of such a name there.
    """
    if sys.platform != "win32" or folder.isascii():
        return folder
    import ctypes

    short = ctypes.create_unicode_buffer(len(folder) + 260)
    length = ctypes.windll.kernel32.GetShortPathNameW(folder, short, len(short))
    return short.value if 0 < length < len(short) else folder


def cli_arguments(source: Path, output: Path, options: WorkupOptions) -> list[str]:
    """The command line of ``breastusai run`` for these options."""
    arguments = ["run", str(source), "--output", str(output), "--progress", "json", "--no-scene"]
    arguments += ["--jobs", "0"]  # this child is a process of its own already
    arguments += ["--device", options.device, "--lesions", options.lesions]
    if options.model:
        arguments += ["--model", options.model]
    if not options.refine:
        arguments.append("--no-refine")
    for name, value in (("--threshold", options.threshold), ("--minimum-score", options.minimum_score)):
        if value is not None:
            arguments += [name, repr(value)]
    arguments += detection_words(options.detection, DETECT)
    outlines, grades = options.segmentation, options.grading
    arguments += ["--no-outlines"] if outlines is None else segmentation_words(outlines, SEGMENT_3D)
    arguments += ["--no-grades"] if grades is None else grading_words(grades, GRADE)
    return [*arguments, *_of_heat(options)]


def _of_heat(options: WorkupOptions) -> list[str]:
    if options.heatmap is None:
        return ["--no-heatmap"]
    return ["--heatmap-model", options.heatmap.model] if options.heatmap.model else []


def read_result(output: Path, name: str) -> Study:
    """The study that a run of one input left in `output`, with its masks.

    Raises
    ------
    DataError : there is none.
    OutputError : its files cannot be read.
    """
    found = sorted(output.glob("*/study.json"))
    if len(found) != 1:
        raise DataError(f"the analysis of {name} left {len(found)} results; see the log.")
    try:
        study = read_study(found[0].parent)
    except DataError as error:
        # The sentence speaks of a temporary folder that is gone by the time it is read.
        raise OutputError(
            f"The result of {name} cannot be read: it is incomplete; free some space on the disk of temporary files and "
            "start again."
        ) from error
    return replace(study, image=replace(study.image, path=name))


class ChildWorkup:
    """A workup that runs in a child process.

    Parameters
    ----------
    pixels : the image.
    options : of the workup, as `arguments` takes them.
    on_progress, on_log : called from `poll`, see `ChildRun`.
    command : the program before its arguments; ``python -m BreastUSAILib.cli`` by default.

    Raises
    ------
    ImageError : the volume cannot be analysed, see `VolumePixels.reason_against`.
    OutputError : no temporary file can be written.
    ChildError : the program cannot be started.
    """

    arguments: Callable[[Path, Path, Any], list[str]] = staticmethod(cli_arguments)

    def __init__(
        self,
        pixels: VolumePixels,
        options: Any,
        on_progress: Callable[[float, str], None] | None = None,
        on_log: Callable[[str], None] | None = None,
        command: Sequence[str] | None = None,
    ) -> None:
        self._name = pixels.name
        self._folder = _temporary_folder(pixels.name)
        try:
            self._output = Path(self._folder.name) / "results"
            self._source = source = write_input(pixels, Path(self._folder.name))
            command = [python_executable(), "-m", _CLI] if command is None else list(command)
            self._child = ChildRun(
                [*command, *self.arguments(source, self._output, options)], on_progress, self._without_folder(on_log)
            )
        except BaseException:
            self._folder.cleanup()
            raise

    def _without_folder(self, on_log: Callable[[str], None] | None) -> Callable[[str], None] | None:
        """Keep back where the child's files lie: they are gone when the user looks."""
        if on_log is None:
            return None
        folder = Path(self._folder.name).name
        return lambda line: None if folder in line else on_log(line)

    def poll(self) -> bool:
        """Hand on progress and log; True when the child has ended. Never waits."""
        return self._child.poll()

    def cancel(self) -> None:
        """End the child and all that it started, and remove its files."""
        self._child.cancel()
        self._folder.cleanup()

    def result(self) -> Study:
        """What was found; the child's files are removed.

        Raises
        ------
        Cancelled, ChildError, DataError, OutputError : see `ChildRun.result` and `read_result`.
        """
        try:
            self._child.result()
            return read_result(self._output, self._name)
        except ChildError as error:
            raise ChildError(_named(str(error), self._name, self._source)) from error
        finally:
            self._folder.cleanup()
