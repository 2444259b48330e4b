"""The workup: the tasks one after the other on one image, with a record of how the result came about."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib import metadata
from typing import TYPE_CHECKING, Any

from . import __version__
from .detect import DetectOptions, detect
from .errors import BreastUSAIError, ImageError, ModelError, UsageError
from .findings import Box, Finding, Study
from .grid import as_2d
from .models import catalog
from .progress import Progress
from .segment import SegmentOptions, segment_2d
from .segment_3d import Segment3dOptions, segment_3d

if TYPE_CHECKING:
    import SimpleITK as sitk

    from .image import LoadedImage
    from .models.zoo import LoadedModel, ModelCache

Found = tuple[tuple[Finding, ...], tuple[str, ...]]  # findings, and notes for the reader
SOFTWARE = ("torch", "SimpleITK", "numpy", "scikit-image", "slicer-core")


@dataclass(frozen=True)
class DetectionOptions:
    """Choices of the user for the detection in a volume.

    Attributes
    ----------
    model : detection model: an id of the catalogue, a model folder, or "" for the default.
    classifier : the second opinion on malignancy: the same; "" is the one that ships, or none where none does.
    device : "auto", "cpu", "cuda" or "mps".
    threshold, maximum : see `detect.DetectOptions`.
    """

    model: str = ""
    classifier: str = ""
    device: str = "auto"
    threshold: float | None = None
    maximum: int | None = None

    def detect(self) -> DetectOptions:
        return DetectOptions(self.threshold, self.maximum)

    def models(self) -> dict[str, str]:
        """Task -> name of the models that are used, the detection model first."""
        names = {"detect": self.model}
        if self.classifier or catalog.ships("lesion-classifier"):
            names["lesion-classifier"] = self.classifier
        return names


@dataclass(frozen=True)
class SegmentationOptions:
    """Choices of the user for the outlines of lesions in a volume.

    Attributes
    ----------
    model : model of the task "segment-3d": an id of the catalogue, a model folder, or "" for the default.
    device : "auto", "cpu", "cuda" or "mps".
    threshold, iterations, uncertainty, refine : see `segment_3d.Segment3dOptions`.
    """

    model: str = ""
    device: str = "auto"
    threshold: float | None = None
    iterations: int | None = None
    uncertainty: bool = True
    refine: bool | None = None

    def segment(self) -> Segment3dOptions:
        return Segment3dOptions(self.threshold, self.iterations, self.uncertainty, self.refine)


@dataclass(frozen=True)
class SegmentationRequest:
    """Which lesions of a volume are to be outlined: findings with boxes, further boxes, and points; see `segment_3d.segment_3d`."""

    findings: tuple[Finding, ...] = ()
    boxes: tuple[Box, ...] = ()
    points: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class GradingOptions:
    """Choices of the user for the grades of findings.

    Attributes
    ----------
    gcnn, mtnet, snnet : models of the tasks "grade-gcnn", "grade-mtnet" and "grade-snnet": an id of the catalogue, a model folder, "" for
        the default, or None for none; one is needed.
    model : segmentation model that finds the lesions of a 2D image where none are given.
    device : "auto", "cpu", "cuda" or "mps".
    enhance, several : see `grade.GradeOptions`.
    """

    gcnn: str | None = None
    mtnet: str | None = None
    snnet: str | None = None
    model: str = ""
    device: str = "auto"
    enhance: bool = True
    several: bool = True

    def models(self) -> dict[str, str]:
        """Task -> name of the grading models. UsageError where there is none."""
        named = {"grade-gcnn": self.gcnn, "grade-mtnet": self.mtnet, "grade-snnet": self.snnet}
        chosen = {task: name for task, name in named.items() if name is not None}
        if not chosen:
            raise UsageError("Grading needs a model: give G-CNN's, Mt-Net's or Sn-Net's.")
        return chosen


@dataclass(frozen=True)
class WorkupOptions:
    """Choices of the user for a whole workup.

    Attributes
    ----------
    model : segmentation model for 2D images: an id of the catalogue, a model folder, or "" for the default.
    device : "auto", "cpu", "cuda" or "mps"; for volumes as well.
    refine, lesions, threshold, minimum_score : of 2D images, see `segment.SegmentOptions`.
    detection : of volumes; its device is not looked at.
    """

    model: str = ""
    device: str = "auto"
    refine: bool = True
    lesions: str = "central"
    threshold: float | None = None
    minimum_score: float | None = None
    detection: DetectionOptions = DetectionOptions()

    def __post_init__(self) -> None:
        object.__setattr__(self, "detection", replace(self.detection, device=self.device))

    def segment(self) -> SegmentOptions:
        return SegmentOptions(self.refine, self.lesions, self.threshold, self.minimum_score)

    def of_task(self, task: str) -> dict[str, Any]:
        """The options that an image has to do with, by the task that it begins with (`first_task`)."""
        if task == "detect":
            return asdict(self.detection)
        return {name: value for name, value in asdict(self).items() if name != "detection"}

    def models(self, task: str) -> dict[str, str]:
        """Task -> name of the models that work on an image that begins with this task."""
        return self.detection.models() if task == "detect" else {"segment": self.model}


def first_task(image: sitk.Image) -> str:
    """What a workup begins with: "detect" in volumes, "segment" in 2D images and volumes of a single slice."""
    return "segment" if as_2d(image) is not None else "detect"


def trained_on_phantoms(study: Study) -> list[str]:
    """Which of the models that a study comes from learnt from phantoms, and what they were trained on; empty where none did."""
    models = study.provenance.get("models", ())
    return [f"{m['id']}: {m['trained_on']}" for m in models if "phantom" in m.get("trained_on", "").lower()]


def software_versions() -> dict[str, str]:
    """BreastUSAI's version and those of the packages that the result depends on, as far as they are installed."""
    versions = {"breastusai": __version__}
    for package in SOFTWARE:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def run_workup(
    loaded: LoadedImage,
    options: WorkupOptions = WorkupOptions(),
    progress: Progress | None = None,
    cache: ModelCache | None = None,
) -> Study:
    """Find, outline and measure the lesions of one image; in a volume they are found, and not outlined yet.

    Parameters
    ----------
    loaded : from `image.read_image`.
    options : see `WorkupOptions`.
    progress : called with a fraction 0 to 1 and what is being done; may raise `errors.Cancelled`.
    cache : keeps models between images; None loads them for this image alone.

    Raises
    ------
    ImageError, ModelError, UsageError : see `segment.segment_2d`, `detect.detect` and `models.zoo.load`; the file is named.
    """
    if first_task(loaded.image) == "detect":
        if not options.detection.model and not catalog.ships("detect"):
            raise ModelError(f"{loaded.path} is a volume. {catalog.no_model('detect', '--detect-model DIR')}")
        # Masks of the findings (3D segmentation) will be made here, from what the detection found.
        return run_detection(loaded, options.detection, progress, cache)
    segment_options = options.segment()

    def work(models: Mapping[str, LoadedModel], tell: Progress) -> Found:
        return segment_2d(
            loaded.image,
            models["segment"],
            segment_options,
            spacing_known=loaded.spacing_known,
            area=loaded.area,
            progress=tell,
        )

    return _analyse(loaded, options.of_task("segment"), options.models("segment"), work, progress, cache)


def run_detection(
    loaded: LoadedImage,
    options: DetectionOptions = DetectionOptions(),
    progress: Progress | None = None,
    cache: ModelCache | None = None,
) -> Study:
    """Find the lesions of one volume; parameters and errors as of `run_workup`, see `detect.detect`.

    The provenance also has the ``operating_point``: the threshold and the number of findings that were reported by.
    """
    detect_options = options.detect()
    point: dict[str, Any] = {"maximum": options.maximum}

    def work(models: Mapping[str, LoadedModel], tell: Progress) -> Found:
        point["threshold"] = detect_options.threshold_of(models["detect"].entry)
        return detect(
            loaded.image,
            models["detect"],
            detect_options,
            classifier=models.get("lesion-classifier"),
            spacing_known=loaded.spacing_known,
            progress=tell,
        )

    study = _analyse(loaded, asdict(options), options.models(), work, progress, cache)
    return replace(study, provenance={**study.provenance, "operating_point": point})


def run_segmentation(
    loaded: LoadedImage,
    request: SegmentationRequest,
    options: SegmentationOptions = SegmentationOptions(),
    progress: Progress | None = None,
    cache: ModelCache | None = None,
) -> Study:
    """Outline, judge and measure lesions of one volume; parameters and errors as of `run_workup`, see `segment_3d.segment_3d`."""
    segment_options = options.segment()

    def work(models: Mapping[str, LoadedModel], tell: Progress) -> Found:
        return segment_3d(
            loaded.image,
            models["segment-3d"],
            request.findings,
            segment_options,
            boxes=request.boxes,
            points=request.points,
            spacing_known=loaded.spacing_known,
            progress=tell,
        )

    return _analyse(loaded, asdict(options), {"segment-3d": options.model}, work, progress, cache)


def run_grading(
    loaded: LoadedImage,
    findings: Sequence[Finding] | None = None,
    options: GradingOptions = GradingOptions(),
    progress: Progress | None = None,
    cache: ModelCache | None = None,
) -> Study:
    """Grade the findings of one image; parameters and errors as of `run_workup`, see `grade.grade` and `grade_3d.grade_3d`.

    `findings` : None finds and outlines the lesions of a 2D image first; a volume's must be given (UsageError).
    """
    from .grade import GradeModels, GradeOptions, grade
    from .grade_3d import grade_3d

    flat = as_2d(loaded.image) is not None
    if findings is None and not flat:
        raise UsageError(f"{loaded.path} is a volume; give the findings that are to be graded.")
    names = options.models()
    if findings is None:
        names["segment"] = options.model
    looks = GradeOptions(options.enhance, options.several)

    def work(models: Mapping[str, LoadedModel], tell: Progress) -> Found:
        graders = GradeModels(**{task.removeprefix("grade-"): m for task, m in models.items() if task != "segment"})
        given, notes = findings, ()
        if given is None:
            given, notes = segment_2d(
                loaded.image,
                models["segment"],
                spacing_known=loaded.spacing_known,
                area=loaded.area,
                progress=lambda fraction, message: tell(0.5 * fraction, message),
            )
        if not flat:
            return grade_3d(loaded.image, given, graders, looks, progress=tell), notes
        return grade(loaded.image, given, graders, looks, area=loaded.area, progress=tell), notes

    return _analyse(loaded, asdict(options), names, work, progress, cache)


def _analyse(
    loaded: LoadedImage,
    options: Mapping[str, Any],
    names: Mapping[str, str],
    work: Callable[[Mapping[str, LoadedModel], Progress], Found],
    progress: Progress | None,
    cache: ModelCache | None,
) -> Study:
    """Load the models (task -> name; the first task is the one at hand), do the work, on the CPU where a device's memory
    is not enough, and keep the record."""
    from .models.devices import is_out_of_memory
    from .models.zoo import ModelCache

    def tell(fraction: float, message: str) -> None:
        if progress is not None:
            progress(fraction, message)

    def load(device: str) -> dict[str, LoadedModel]:
        return {task: cache.get(name, task, device) for task, name in names.items()}

    cache = cache if cache is not None else ModelCache()
    task = next(iter(names))
    seconds: dict[str, float] = {}
    tell(0.0, "loading the model")
    start = time.perf_counter()
    models = load(options["device"])
    seconds["load_model"] = round(time.perf_counter() - start, 4)

    notes = list(loaded.notes)
    start = time.perf_counter()

    def at_work() -> Found:
        return work(models, lambda fraction, message: tell(0.1 + 0.9 * fraction, message))

    try:
        try:
            findings, more = at_work()
        except (RuntimeError, MemoryError) as error:
            device = models[task].device.name
            if not is_out_of_memory(error):
                raise
            if device == "cpu":
                raise ImageError(
                    "it needs more memory than there is; close other programs, work on fewer at a time, or crop or resample it."
                ) from error
            notes.append(f"the memory of the {device} device was not enough; the CPU was used")
            tell(0.1, notes[-1])
            models = load("cpu")
            findings, more = at_work()
    except BreastUSAIError as error:
        raise type(error)(f"{loaded.path}: {error}") from error
    seconds[task] = round(time.perf_counter() - start, 4)

    provenance = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "software": software_versions(),
        "models": [model.provenance() for model in models.values()],
        "device": asdict(models[task].device),
        "options": dict(options),
        "seconds": seconds,
        "notes": [*notes, *more],
    }
    return Study(loaded.info, findings, provenance=provenance)
