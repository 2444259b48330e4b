"""What a user may choose for a workup: one record a task, and one that holds them all."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from .detect import DetectOptions
from .errors import UsageError
from .findings import Box, Finding
from .grade import GradeOptions
from .heatmap import HeatOptions
from .models import catalog
from .segment import SegmentOptions
from .segment_3d import Segment3dOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

GRADERS = ("grade-gcnn", "grade-mtnet", "grade-snnet")
"""The tasks of the grading models."""
_RECORDS = ("detection", "segmentation", "grading", "heatmap")  # fields of `WorkupOptions` that are records
_MODELS = ("model", "classifier", "gcnn", "mtnet", "snnet")  # fields of all of them that name a model


@dataclass(frozen=True)
class DetectionOptions:
    """Choices of the user for the detection in a volume.

    Attributes
    ----------
    model : detection model: an id of the catalogue, a model folder, or "" for the default.
    classifier : the second opinion on malignancy: the same; "" is the one that ships, with a detection model that ships, else none.
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
        if self.classifier or catalog.second_opinion(self.model):
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

    def models(self) -> dict[str, str]:
        """Task -> name of the model."""
        return {"segment-3d": self.model}

    def available(self) -> dict[str, str]:
        """The same; empty where none is named and none ships."""
        return self.models() if self.model or catalog.ships("segment-3d") else {}


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
    gcnn, mtnet, snnet : models of the tasks "grade-gcnn", "grade-mtnet" and "grade-snnet": an id of the catalogue, a model folder, or ""
        for the default; None: not named. Where one is named, the named ones alone are used: models are calibrated together. Where none
        is, those that ship.
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

    def grade(self) -> GradeOptions:
        return GradeOptions(self.enhance, self.several)

    def available(self) -> dict[str, str]:
        """Task -> name of the grading models; empty where none is named and none ships."""
        named = {task: getattr(self, task.removeprefix("grade-")) for task in GRADERS}
        chosen = {task: name for task, name in named.items() if name is not None}
        return chosen or {task: "" for task in GRADERS if catalog.ships(task)}

    def models(self) -> dict[str, str]:
        """The same. UsageError where it is empty."""
        chosen = self.available()
        if not chosen:
            raise UsageError("Grading needs a model: give G-CNN's, Mt-Net's or Sn-Net's.")
        return chosen


@dataclass(frozen=True)
class HeatmapOptions:
    """Choices of the user for the map of what in a volume speaks for a lesion.

    Attributes
    ----------
    model : model of the task "heatmap": an id of the catalogue, a model folder, or "" for the default.
    device : "auto", "cpu", "cuda" or "mps".
    threshold, maximum : of hot spots, see `heatmap.HeatOptions`; a workup, which asks the map about its own findings, looks at neither.
    """

    model: str = ""
    device: str = "auto"
    threshold: float | None = None
    maximum: int | None = None

    def heat(self) -> HeatOptions:
        return HeatOptions(self.threshold, self.maximum)

    def models(self) -> dict[str, str]:
        """Task -> name of the model."""
        return {"heatmap": self.model}

    def available(self) -> dict[str, str]:
        """The same; empty where none is named and none ships."""
        return self.models() if self.model or catalog.ships("heatmap") else {}


@dataclass(frozen=True)
class WorkupOptions:
    """Choices of the user for a whole workup.

    Attributes
    ----------
    model : segmentation model for 2D images: an id of the catalogue, a model folder, or "" for the default.
    device : "auto", "cpu", "cuda" or "mps"; for all tasks: the devices of the other records are not looked at.
    refine, lesions, threshold, minimum_score : of 2D images, see `segment.SegmentOptions`.
    detection : of volumes.
    segmentation : of what was detected there; None: boxes are enough. Where no model is named and none ships, they have to be.
    grading : of images and volumes; None: no grades. Without any model likewise.
    heatmap : the map of volumes, of which findings get evidence; None: no map. Without a model likewise.
    """

    model: str = ""
    device: str = "auto"
    refine: bool = True
    lesions: str = "central"
    threshold: float | None = None
    minimum_score: float | None = None
    detection: DetectionOptions = DetectionOptions()
    segmentation: SegmentationOptions | None = SegmentationOptions()
    grading: GradingOptions | None = GradingOptions()
    heatmap: HeatmapOptions | None = HeatmapOptions()

    def __post_init__(self) -> None:
        for name in _RECORDS:
            record = getattr(self, name)
            if record is not None:
                object.__setattr__(self, name, replace(record, device=self.device))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WorkupOptions:
        """What `dataclasses.asdict` made of one; records that are not there (of versions before) are as by default.

        Raises
        ------
        TypeError : options that this version does not know.
        """
        kinds = {
            "detection": DetectionOptions,
            "segmentation": SegmentationOptions,
            "grading": GradingOptions,
            "heatmap": HeatmapOptions,
        }
        records = {
            name: value if value is None else kinds[name](**value) for name, value in data.items() if name in kinds
        }
        return cls(**{name: value for name, value in data.items() if name not in kinds}, **records)

    def with_models(self, change: Callable[[str], str]) -> WorkupOptions:
        """The same with other names of the models that are named (`change_models`)."""
        return WorkupOptions.from_dict(change_models(asdict(self), change))

    def check(self) -> None:
        """UsageError where an option is impossible."""
        self.segment(), self.detection.detect()
        if self.segmentation is not None:
            self.segmentation.segment()

    def segment(self) -> SegmentOptions:
        return SegmentOptions(self.refine, self.lesions, self.threshold, self.minimum_score)

    def outlines(self) -> dict[str, str]:
        """Task -> name of the model that outlines what was found in a volume; empty where none does."""
        return {} if self.segmentation is None else self.segmentation.available()

    def graders(self) -> dict[str, str]:
        """Task -> name of the models that grade; empty where none does."""
        return {} if self.grading is None else self.grading.available()

    def heats(self) -> dict[str, str]:
        """Task -> name of the model that maps a volume; empty where none does."""
        return {} if self.heatmap is None else self.heatmap.available()

    def of_task(self, task: str) -> dict[str, Any]:
        """The options that an image has to do with, by the task that it begins with (`workup.first_task`)."""
        later: dict[str, Any] = {}
        if self.graders():
            later |= {f"grade_{name}": getattr(self.grading, name) for name in ("enhance", "several")}
        if task == "detect":
            if self.outlines():
                names = ("threshold", "iterations", "uncertainty", "refine")
                later |= {f"segment_3d_{name}": getattr(self.segmentation, name) for name in names}
            return {**asdict(self.detection), **later}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _RECORDS} | later

    def models(self, task: str) -> dict[str, str]:
        """Task -> name of the models that work on an image that begins with this task, in their order."""
        if task == "detect":
            return {**self.detection.models(), **self.outlines(), **self.graders(), **self.heats()}
        return {"segment": self.model, **self.graders()}


def change_models(options: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Options as `dataclasses.asdict` or JSON have them, with ``change(name)`` for the name of each model that is named."""

    def changed(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return change_models(value, change)
        return change(value) if name in _MODELS and isinstance(value, str) and value else value

    return {name: changed(name, value) for name, value in options.items()}
