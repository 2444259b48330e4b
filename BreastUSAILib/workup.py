"""The workup: the tasks one after the other on one image, with a record of how the result came about.

In a 2D image: outline (`segment`), grade. In a volume: find (`detect`), outline (`segment_3d`), grade by sections (`grade_3d`); for outlines
and grades of volumes, and for grades of images, there must be models. Each task is also run by itself.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

from . import __version__
from .detect import check_picture, detect
from .errors import BreastUSAIError, ImageError, ModelError, UsageError
from .findings import Finding, Study
from .grade import GradeModels, grade, ungraded
from .grade_3d import grade_3d
from .grid import as_2d
from .heatmap import HeatOptions, heatmap, with_evidence
from .models import catalog
from .progress import Progress
from .screen_area import AREA, ultrasound_area
from .segment import segment_2d
from .segment_3d import segment_3d
from .uncertainty_map import UncertaintyMap
from .workup_options import (
    DetectionOptions,
    GradingOptions,
    HeatmapOptions,
    SegmentationOptions,
    SegmentationRequest,
    WorkupOptions,
)

if TYPE_CHECKING:
    import SimpleITK as sitk

    from .image import LoadedImage
    from .models.zoo import LoadedModel, ModelCache

__all__ = [
    "DetectionOptions",
    "GradingOptions",
    "HeatmapOptions",
    "SegmentationOptions",
    "SegmentationRequest",
    "WorkupOptions",
    "first_task",
    "run_detection",
    "run_grading",
    "run_heatmap",
    "run_segmentation",
    "run_workup",
    "software_versions",
    "trained_on_phantoms",
]

Models = Mapping[str, "LoadedModel"]
SOFTWARE = ("torch", "SimpleITK", "numpy", "scikit-image", "slicer-core")


@dataclass(frozen=True)
class _Result:
    """What is known of an image so far: findings, sentences for the reader, the maps of a `Study`, and what a step adds to the provenance."""

    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    activation: sitk.Image | None = None
    heatmap: sitk.Image | None = None
    provenance: Mapping[str, Any] | None = None
    uncertainty: sitk.Image | None = None


@dataclass(frozen=True)
class _Step:
    """One task of a workup.

    Attributes
    ----------
    name : of its seconds in the provenance.
    names : task -> name of its models, the one at hand first.
    work : its models, the findings so far, and a progress function in; what it found out, its own notes alone.
    share : of the time, for the progress.
    """

    name: str
    names: Mapping[str, str]
    work: Callable[[Models, tuple[Finding, ...], Progress], _Result]
    share: float = 1.0


def first_task(image: sitk.Image) -> str:
    """What a workup begins with: "detect" in volumes, "segment" in 2D images and volumes of a single slice."""
    return "segment" if as_2d(image) is not None else "detect"


def trained_on_phantoms(study: Study) -> list[str]:
    """Which of the models that a study comes from learnt from phantoms, and what they were trained on; empty where none did."""
    models = study.provenance.get("models", ())
    return [f"{m['id']}: {m['trained_on']}" for m in models if says_phantoms(m.get("trained_on", ""))]


def says_phantoms(trained_on: str) -> bool:
    """Whether a model's `trained_on` names phantoms, rather than that there were none among what it learnt from."""
    return "phantom" in re.sub(r"\b(no|not|without|never) (\w+ )?phantoms?\b", "", trained_on.lower())


def software_versions() -> dict[str, str]:
    """BreastUSAI's version and those of the packages that the result depends on, as far as they are installed."""
    versions = {"breastusai": __version__}
    for package in SOFTWARE:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


# --------------------------------------------------------------------------------------------------------- the workup


def run_workup(
    loaded: LoadedImage,
    options: WorkupOptions = WorkupOptions(),
    progress: Progress | None = None,
    cache: ModelCache | None = None,
) -> Study:
    """Find, outline, measure and grade the lesions of one image, as far as there are models for it.

    Where the tasks of a volume disagree about malignancy the last one's opinion is the finding's; those before stay in its evidence
    (``malignancy_detect``, ``malignancy_segment_3d``).

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
    task = first_task(loaded.image)
    loaded = _with_area(loaded)
    if task == "segment":
        steps = [_segment(loaded, options)]
    else:
        if not options.detection.model and not catalog.ships("detect"):
            raise ModelError(f"{loaded.path} is a volume. {catalog.no_model('detect', '--detect-model DIR')}")
        steps = [_detect(loaded, options.detection)]
        if options.outlines():
            steps.append(_segment_3d(loaded, options.segmentation))
    if options.graders():
        steps.append(_grade(loaded, options.grading))
    if task == "detect" and options.heats():
        steps.append(_evidence(loaded, options.heatmap))
    return _analyse(loaded, options.of_task(task), steps, progress, cache)


def run_detection(
    loaded: LoadedImage,
    options: DetectionOptions = DetectionOptions(),
    progress: Progress | None = None,
    cache: ModelCache | None = None,
) -> Study:
    """Find the lesions of one volume; parameters and errors as of `run_workup`, see `detect.detect`.

    The provenance also has the ``operating_point``: the threshold and the number of findings that were reported by.
    """
    return _analyse(loaded, asdict(options), [_detect(loaded, options)], progress, cache)


def run_segmentation(
    loaded: LoadedImage,
    request: SegmentationRequest,
    options: SegmentationOptions = SegmentationOptions(),
    progress: Progress | None = None,
    cache: ModelCache | None = None,
) -> Study:
    """Outline, judge and measure lesions of one volume; parameters and errors as of `run_workup`, see `segment_3d.segment_3d`."""
    return _analyse(loaded, asdict(options), [_segment_3d(loaded, options, request)], progress, cache)


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
    loaded = _with_area(loaded)
    flat = as_2d(loaded.image) is not None
    if findings is None and not flat:
        raise UsageError(f"{loaded.path} is a volume; give the findings that are to be graded (breastusai grade: --findings DIR, a result of detect, segment or run).")
    steps = [_grade(loaded, options)]
    if findings is None:
        steps.insert(0, _segment(loaded, WorkupOptions(options.model)))
    return _analyse(loaded, asdict(options), steps, progress, cache, tuple(findings or ()))


def run_heatmap(
    loaded: LoadedImage,
    options: HeatmapOptions = HeatmapOptions(),
    progress: Progress | None = None,
    cache: ModelCache | None = None,
) -> Study:
    """Map what in one volume speaks for a lesion; its findings are hot spots. Parameters and errors as of `run_workup`, see `heatmap.heatmap`.

    The provenance also has the ``operating_point``.
    """
    return _analyse(loaded, asdict(options), [_heatmap(loaded, options)], progress, cache)


def _with_area(loaded: LoadedImage) -> LoadedImage:
    """A 2D image with the area that is ultrasound, which all tasks look at alike, and what there is to say of it and its size; a volume as it is."""
    plane = as_2d(loaded.image)
    if plane is None:
        return loaded
    area, notes = ultrasound_area(plane, loaded.area)
    notes = (*loaded.notes, *notes, *check_picture(area, plane.GetSpacing(), loaded.spacing_known))
    return replace(loaded, area=area, notes=notes)


# ---------------------------------------------------------------------------------------------------------- the steps


def _segment(loaded: LoadedImage, options: WorkupOptions) -> _Step:
    segment_options = options.segment()

    def work(models: Models, _: tuple[Finding, ...], tell: Progress) -> _Result:
        known, area = loaded.spacing_known, loaded.area
        model = models["segment"]
        return _Result(*segment_2d(loaded.image, model, segment_options, spacing_known=known, area=area, progress=tell))

    return _Step("segment", {"segment": options.model}, work)


def _detect(loaded: LoadedImage, options: DetectionOptions) -> _Step:
    detect_options = options.detect()

    def work(models: Models, _: tuple[Finding, ...], tell: Progress) -> _Result:
        model, known = models["detect"], loaded.spacing_known
        second = models.get("lesion-classifier")
        found = detect(loaded.image, model, detect_options, classifier=second, spacing_known=known, progress=tell)
        point = {"maximum": options.maximum, "threshold": detect_options.threshold_of(model.entry)}
        return _Result(*found, provenance={"operating_point": point})

    return _Step("detect", options.models(), work, share=3.0)


def _segment_3d(loaded: LoadedImage, options: SegmentationOptions, request: SegmentationRequest | None = None) -> _Step:
    """`request` : None outlines what was found."""
    segment_options = options.segment()

    def work(models: Models, found: tuple[Finding, ...], tell: Progress) -> _Result:
        if request is None and not found:
            return _Result()
        asked = SegmentationRequest(found) if request is None else request
        unsure = UncertaintyMap(loaded.image)
        before = _remembering(_before_outlines(asked.findings))
        findings, notes = segment_3d(
            loaded.image,
            models["segment-3d"],
            before,
            segment_options,
            boxes=asked.boxes,
            points=asked.points,
            spacing_known=loaded.spacing_known,
            progress=tell,
            watch=unsure.add,
        )
        findings = _or_as_they_were(findings, before, asked.findings)
        return _Result(findings, notes, uncertainty=unsure.image)

    return _Step("segment-3d", options.models(), work, share=2.0)


def _grade(loaded: LoadedImage, options: GradingOptions) -> _Step:
    looks = options.grade()

    def work(models: Models, found: tuple[Finding, ...], tell: Progress) -> _Result:
        graders = GradeModels(**{task.removeprefix("grade-"): model for task, model in models.items()})
        if as_2d(loaded.image) is not None:
            return _Result(*grade(loaded.image, found, graders, looks, area=loaded.area, progress=tell))
        return _Result(*grade_3d(loaded.image, _remembering(found), graders, looks, progress=tell))

    return _Step("grade", options.models(), work)


def _heatmap(loaded: LoadedImage, options: HeatmapOptions) -> _Step:
    heat_options = options.heat()

    def work(models: Models, _: tuple[Finding, ...], tell: Progress) -> _Result:
        model, known = models["heatmap"], loaded.spacing_known
        heat = heatmap(loaded.image, model, heat_options, spacing_known=known, progress=tell)
        point = {"maximum": options.maximum, "threshold": heat_options.threshold_of(model.entry)}
        return _Result(heat.findings, heat.notes, heatmap=heat.image, provenance={"operating_point": point})

    return _Step("heatmap", options.models(), work)


def _evidence(loaded: LoadedImage, options: HeatmapOptions) -> _Step:
    """What the map says of findings that others found."""

    def work(models: Models, found: tuple[Finding, ...], tell: Progress) -> _Result:
        model, known = models["heatmap"], loaded.spacing_known
        heat = heatmap(loaded.image, model, HeatOptions(maximum=1), spacing_known=known, progress=tell)
        if heat.image is None:
            return _Result(found, heat.notes)
        said = with_evidence(found, heat.image)
        said = tuple(replace(f, models={**f.models, "heatmap": model.entry.id}) for f in said)
        return _Result(said, heat.notes, heatmap=heat.image)

    return _Step("heatmap", options.models(), work)


_OF_OUTLINES = (
    "no lesion was outlined",
    "not outlined: ",
    "no more than ",
    "the outline found here ",
    "the lesion reaches the edge ",
    "The outline was ",
)
"""What notes begin with that say how a lesion was outlined, or why not."""


def _before_outlines(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The findings as they were before they were outlined in 3D and graded: what was said of an earlier outline does not hold of a new one."""

    def before(finding: Finding) -> Finding:
        finding = ungraded(finding)
        outlined = "segment" in finding.models
        evidence = {k: v for k, v in finding.evidence.items() if k != "malignancy_segment_3d"}
        malignancy = evidence.get("malignancy_detect", None if outlined else finding.malignancy)
        models = {task: model for task, model in finding.models.items() if task != "segment"}
        notes = tuple(note for note in finding.notes if not note.startswith(_OF_OUTLINES))
        return replace(finding, malignancy=malignancy, evidence=evidence, models=models, notes=notes)

    return tuple(map(before, findings))


def _or_as_they_were(
    findings: tuple[Finding, ...], asked: tuple[Finding, ...], earlier: tuple[Finding, ...]
) -> tuple[Finding, ...]:
    """Findings of which `earlier` were outlined before, and `asked` is what was asked of these: with the outline and grade that they had, where
    there is no new outline. Labels are given anew: each outline has one of its own."""
    known = {e.id: (a, e) for a, e in zip(asked, earlier, strict=True) if "segment" in e.models}

    def kept(finding: Finding) -> Finding:
        if finding.id not in known or "segment" in finding.models:
            return finding
        before, was = known[finding.id]
        return replace(was, notes=(*was.notes, *finding.notes[len(before.notes) :]))

    found, label = [], 0
    for finding in map(kept, findings):
        label += finding.mask is not None
        found.append(replace(finding, label=label if finding.mask is not None else None))
    return tuple(found)


def _remembering(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The findings of a volume with what was said of their malignancy last as evidence, before the next task is asked."""

    def remembering(finding: Finding) -> Finding:
        before = finding.evidence.get("malignancy_detect")
        graded = any(task.startswith("grade-") for task in finding.models)
        if finding.malignancy is None or graded or finding.malignancy == before:
            return finding
        task = "segment_3d" if "segment" in finding.models else "detect"
        return replace(finding, evidence={**finding.evidence, f"malignancy_{task}": finding.malignancy})

    return tuple(map(remembering, findings))


# -------------------------------------------------------------------------------------------------------- and its record


def _analyse(
    loaded: LoadedImage,
    options: Mapping[str, Any],
    steps: Sequence[_Step],
    progress: Progress | None,
    cache: ModelCache | None,
    findings: tuple[Finding, ...] = (),
) -> Study:
    """Load the models of all steps, do one step after the other, each on the CPU where a device's memory is not enough, and keep the record."""
    from .models.zoo import ModelCache

    def tell(fraction: float, message: str) -> None:
        if progress is not None:
            progress(fraction, message)

    cache = cache if cache is not None else ModelCache()
    tell(0.0, "loading the model")
    start = time.perf_counter()
    models = {task: cache.get(name, task, options["device"]) for step in steps for task, name in step.names.items()}
    seconds = {"load_model": round(time.perf_counter() - start, 4)}
    notes = list(loaded.notes)
    maps: dict[str, sitk.Image | None] = {"heatmap": None, "activation": None, "uncertainty": None}
    more: dict[str, Any] = {}
    done, whole = 0.0, sum(step.share for step in steps)
    for step in steps:
        start, low, width = time.perf_counter(), 0.1 + 0.9 * done / whole, 0.9 * step.share / whole

        def tell_part(fraction: float, message: str, low: float = low, width: float = width) -> None:
            tell(low + width * fraction, message)

        try:
            result, used, note = _done(step, models, findings, tell_part, cache)
        except BreastUSAIError as error:
            raise type(error)(f"{loaded.path}: {error}") from error
        findings = result.findings
        models |= used
        # A volume is spoken of by several tasks in the same words.
        notes += [n for n in (*note, *result.notes) if n not in notes]
        maps |= {name: made for name in maps if (made := getattr(result, name)) is not None}
        more |= result.provenance or {}
        seconds[step.name] = round(time.perf_counter() - start, 4)
        done += step.share
    first = models[next(iter(steps[0].names))]
    provenance = {
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "software": software_versions(),
        "models": [model.provenance() for model in models.values()],
        "device": asdict(first.device),
        "options": dict(options),
        "seconds": seconds,
        "notes": notes,
        **({AREA: list(loaded.area)} if as_2d(loaded.image) is not None and loaded.area is not None else {}),
        **more,
    }
    return Study(loaded.info, findings, provenance=provenance, **maps)


def _done(
    step: _Step, models: Models, findings: tuple[Finding, ...], tell: Progress, cache: ModelCache
) -> tuple[_Result, Models, list[str]]:
    """What a step finds out, with the models that it used in the end, and a note where these are not those that it began with."""
    from .models.devices import is_out_of_memory

    at_hand = {task: models[task] for task in step.names}
    try:
        return step.work(at_hand, findings, tell), at_hand, []
    except (RuntimeError, MemoryError) as error:
        device = next(iter(at_hand.values())).device.name
        if not is_out_of_memory(error):
            raise
        if device == "cpu":
            raise ImageError(
                "it needs more memory than there is; close other programs, work on fewer at a time, or crop or resample it."
            ) from error
    note = f"the memory of the {device} device was not enough; the CPU was used"
    tell(0.0, note)
    on_cpu = {task: cache.get(name, task, "cpu") for task, name in step.names.items()}
    result, on_cpu, _ = _done(step, on_cpu, findings, tell, cache)
    return result, on_cpu, [note]
