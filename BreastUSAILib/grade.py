"""Grade: a 2D breast ultrasound image and its findings in, findings with malignancy, BI-RADS category and descriptors out.

Three networks look at each lesion: G-CNN (Huang et al. 2019, BioMed Eng OnLine 18:8) at its refined region, Mt-Net and Sn-Net (Qi et al.
2019, Medical Image Analysis 52:185-198), each of which gets the other's class activation map. What they say of the same question is pooled
with weights and a temperature that were chosen on the validation fold (`training.grade_choice`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from .errors import ImageError, UsageError
from .findings import BIRADS_CATEGORIES, Finding
from .grade_terms import CATEGORIES, DESCRIPTORS, classes_of, description
from .grid import as_2d, physical_to_index
from .lesion_view import ViewRule, cut, network_input, several
from .letterbox import to_unit_range

if TYPE_CHECKING:
    import torch

    from .models.zoo import LoadedModel

SYSTEMS = ("gcnn", "mtnet", "snnet")
"""System -> the task of its models is "grade-" and its name."""
DEFAULT_THRESHOLD = 0.5
_NAMES = {"gcnn": "G-CNN", "mtnet": "Mt-Net", "snnet": "Sn-Net"}
_PARTNER = {"mtnet": "snnet", "snnet": "mtnet"}

Answers = dict[str, dict[str, np.ndarray]]
"""System -> output -> logarithms of probabilities (K,) float64; and, of Mt-Net and Sn-Net, `FEATURES` -> (channels,) float64."""
FEATURES = "features"


@dataclass(frozen=True)
class GradeOptions:
    """Choices of the user.

    Attributes
    ----------
    enhance : whether Mt-Net and Sn-Net get each other's activation map (REM).
    several : whether they look at several crops (MIP).
    mirror : whether each crop is looked at in the mirror as well.
    """

    enhance: bool = True
    several: bool = True
    mirror: bool = True


@dataclass(frozen=True)
class GradeModels:
    """The models at work; any may be missing, one must be there. Raises UsageError otherwise."""

    gcnn: LoadedModel | None = None
    mtnet: LoadedModel | None = None
    snnet: LoadedModel | None = None

    def __post_init__(self) -> None:
        if not self.present:
            raise UsageError("Grading needs a model: give G-CNN's, Mt-Net's or Sn-Net's.")

    @property
    def present(self) -> dict[str, LoadedModel]:
        """System -> model, of those that are there."""
        return {name: model for name in SYSTEMS if (model := getattr(self, name)) is not None}

    def check_same_view(self) -> None:
        """UsageError where Mt-Net and Sn-Net look at different regions: their maps would not be of the same place."""
        if self.mtnet is None or self.snnet is None:
            return
        first, second = (ViewRule.of(model.entry.preprocessing) for model in (self.mtnet, self.snnet))
        if (first.view, first.margin) != (second.view, second.margin):
            raise UsageError(
                f"{self.mtnet.entry.id} and {self.snnet.entry.id} look at different regions and cannot use each other's maps; "
                "take two that were trained as a pair, or leave the maps out."
            )

    @property
    def pooling(self) -> Pooling:
        """What was chosen on the validation fold for these very models together; else a pooling that says it was not."""
        ids = {name: model.entry.id for name, model in self.present.items()}
        for model in self.present.values():
            said = model.entry.postprocessing.get("pooling")
            if said is not None and said.get("models") == ids:
                return Pooling.of(said)
        return Pooling()


@dataclass(frozen=True)
class Familiar:
    """What images like those of the training look like to a network: `mean` and `deviation` (channels,) of its features, and the
    `limit` of `distance`, above which an image is unlike them. `system` is whose features they are."""

    system: str
    mean: np.ndarray
    deviation: np.ndarray
    limit: float

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Familiar:
        """As a model's `postprocessing` has it."""
        return cls(data["system"], np.array(data["mean"]), np.array(data["deviation"]), float(data["limit"]))

    def distance(self, said: Answers) -> float | None:
        """Root mean square of the features' deviations from the mean, in their standard deviations; None without features."""
        features = said.get(self.system, {}).get(FEATURES)
        if features is None:
            return None
        return float(np.sqrt(np.mean(((features - self.mean) / self.deviation) ** 2)))


@dataclass(frozen=True)
class Pooling:
    """How the systems' answers become one.

    Attributes
    ----------
    weights : output -> system -> weight of its logarithms of probabilities, 1 together; equal where not named.
    temperatures : output -> temperature by which the pooled logarithms are divided; 1 where not named.
    threshold : malignancy from which "malignant" is said: the operating point.
    disagreement : difference between two systems' malignancy from which the answer is "not sure"; None: never.
    familiar : what the images look like that it was chosen on; None: not known.
    calibrated : whether any of this was chosen on data.
    """

    weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    temperatures: Mapping[str, float] = field(default_factory=dict)
    threshold: float = DEFAULT_THRESHOLD
    disagreement: float | None = None
    familiar: Familiar | None = None
    calibrated: bool = False

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Pooling:
        """As a model's `postprocessing` has it."""
        difference = data.get("disagreement")
        return cls(
            data["weights"],
            data["temperatures"],
            float(data["threshold"]),
            None if difference is None else float(difference),
            Familiar.of(data["familiar"]) if data.get("familiar") else None,
            True,
        )

    def pooled(self, answers: Answers, output: str) -> np.ndarray | None:
        """Probabilities (K,) of an output, or None where no system gives it: the product of the systems' probabilities, each to the
        power of its weight (logarithmic opinion pool), sharpened or softened by the temperature."""
        said = {name: a[output] for name, a in answers.items() if output in a}
        if not said:
            return None
        count = min(len(values) for values in said.values())
        weights = self.weights.get(output, {})
        if not any(weights.get(name, 0.0) for name in said):
            weights = dict.fromkeys(said, 1.0)
        total = sum(weights.get(name, 0.0) * values[-count:] for name, values in said.items())
        logits = total / sum(weights.get(name, 0.0) for name in said) / self.temperatures.get(output, 1.0)
        chances = np.exp(logits - logits.max())
        return chances / chances.sum()

    def of_each(self, answers: Answers, output: str) -> dict[str, np.ndarray]:
        """The same of each system by itself."""
        return {name: self.pooled({name: a}, output) for name, a in answers.items() if output in a}


@dataclass(frozen=True)
class Grade:
    """What is said of a lesion; None or empty where no model says so.

    Attributes
    ----------
    malignancy, solid : probabilities.
    birads : category of `CATEGORIES` -> probability, 1 together.
    descriptors : output -> class -> probability.
    of_each : system -> malignancy by itself.
    malignant : whether malignancy reaches the operating point.
    doubts : reasons why this is not sure, as sentences.
    """

    malignancy: float | None
    solid: float | None
    birads: Mapping[str, float]
    descriptors: Mapping[str, Mapping[str, float]]
    of_each: Mapping[str, float]
    malignant: bool | None
    doubts: tuple[str, ...]


def _mean_log(parts: torch.Tensor) -> np.ndarray:
    """Logarithm of the mean over crops of probabilities, from answers (n, K)."""
    import torch

    return torch.softmax(parts.double(), 1).mean(0).clamp_min(1e-12).log().cpu().numpy()


def network_inputs(
    pixels: np.ndarray, mask: np.ndarray, rule: ViewRule, options: GradeOptions, pixel_aspect: float = 1.0
) -> torch.Tensor:
    """What a network sees of a lesion.

    Parameters
    ----------
    pixels : (H, W), as stored, of the ultrasound area.
    mask : (H, W) bool; empty: the whole area is looked at.
    pixel_aspect : a pixel's height divided by its width.

    Returns
    -------
    (n, C, S, S) float32: one crop, or several, and their mirror images.
    """
    import torch

    unit = to_unit_range(pixels)
    masks = None
    if options.several:
        images, valid = several(unit, rule.wide_window(mask, pixel_aspect), rule.size, pixel_aspect)
        if rule.mask:
            masks, _ = several(mask, rule.wide_window(mask, pixel_aspect), rule.size, pixel_aspect)
    else:
        window = rule.window(mask).square(pixel_aspect)
        images, valid = cut(unit, window, (rule.size, rule.size))
        if rule.mask:
            masks, _ = cut(mask, window, (rule.size, rule.size))
    if masks is not None:
        masks = (masks > 0.5).float()
    inputs = network_input(images, (valid > 0.5).float(), masks)
    return torch.cat([inputs, inputs.flip(-1)]) if options.mirror else inputs


def answers(
    pixels: np.ndarray,
    mask: np.ndarray,
    models: GradeModels,
    options: GradeOptions = GradeOptions(),
    pixel_aspect: float = 1.0,
) -> tuple[Answers, dict[str, np.ndarray]]:
    """What each system says of a lesion, uncalibrated, and the class activation maps of Mt-Net and Sn-Net.

    Parameters as `network_inputs`. The maps are (S, S) float32, 0 to 1, of the lesion's square; with several crops there are none.
    """
    import torch

    said: Answers = {}
    maps: dict[str, np.ndarray] = {}
    inputs, first = {}, {}
    present = models.present
    if options.enhance:
        models.check_same_view()
    with torch.inference_mode():
        for name, model in present.items():
            rule = ViewRule.of(model.entry.preprocessing)
            # Several crops are Mt-Net's and Sn-Net's; G-CNN's paper has one.
            looks = replace(options, several=options.several and name != "gcnn")
            inputs[name] = network_inputs(pixels, mask, rule, looks, pixel_aspect).to(model.device.name)
        for name in ("mtnet", "snnet"):
            if name in present:
                first[name] = present[name].network.look(inputs[name])
        for name, model in present.items():
            if name == "gcnn":
                said[name] = {output: _mean_log(values) for output, values in model.network(inputs[name]).items()}
                continue
            look = first[name]
            other = first.get(_PARTNER[name])
            # How unlike the training images an image is, is asked before anything is added to it.
            vector = look.vector.double().mean(0).cpu().numpy()
            if options.enhance and other is not None:
                look = model.network.look(inputs[name], _resized(other.map, look.map))
            if not options.several:
                maps[name] = _unmirrored(look.map, options.mirror)
            said[name] = {output: _mean_log(values) for output, values in look.answers.items()} | {FEATURES: vector}
    return said, maps


def _resized(maps: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    from torch.nn import functional as F

    maps = maps.to(like.device)
    return (
        maps
        if maps.shape == like.shape
        else F.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=False)
    )


def _unmirrored(activation: torch.Tensor, mirrored: bool) -> np.ndarray:
    """The mean of a map and of that of the mirror image, turned back; (S, S)."""
    if mirrored:
        half = len(activation) // 2
        activation = (activation[:half] + activation[half:].flip(-1)) / 2
    return activation[0, 0].float().cpu().numpy()


def concluded(said: Answers, pooling: Pooling) -> Grade:
    """One grade from the systems' answers."""
    malignancy, solid, birads = (pooling.pooled(said, output) for output in ("malignancy", "solid", "birads"))
    of_each = {name: float(p[1]) for name, p in pooling.of_each(said, "malignancy").items()}
    doubts = []
    if pooling.disagreement is not None and len(of_each) > 1:
        difference = max(of_each.values()) - min(of_each.values())
        sides = {p >= pooling.threshold for p in of_each.values()}
        if difference > pooling.disagreement and len(sides) > 1:
            each = ", ".join(f"{_NAMES[name]} {p:.2f}" for name, p in of_each.items())
            doubts.append(f"Not sure: the systems disagree about malignancy ({each}).")
    distance = pooling.familiar.distance(said) if pooling.familiar is not None else None
    if distance is not None and distance > pooling.familiar.limit:
        doubts.append(
            f"Not sure: the image is unlike those that the models were trained on (distance {distance:.2f}, "
            f"up to {pooling.familiar.limit:.2f} is usual)."
        )
    descriptors = {}
    for name in DESCRIPTORS:
        chances = pooling.pooled(said, name)
        if chances is not None:
            descriptors[name] = dict(zip(classes_of(name, len(chances)), map(float, chances), strict=True))
    return Grade(
        malignancy=None if malignancy is None else float(malignancy[1]),
        solid=None if solid is None else float(solid[1]),
        birads={} if birads is None else dict(zip(CATEGORIES[-len(birads) :], map(float, birads), strict=True)),
        descriptors=descriptors,
        of_each=of_each,
        malignant=None if malignancy is None else bool(malignancy[1] >= pooling.threshold),
        doubts=tuple(doubts),
    )


def graded_categories(birads: Mapping[str, float]) -> tuple[dict[str, float], float | None]:
    """The probabilities of 3 to 5 among themselves, 1 together, and that of category 2 before, or None where it is not known."""
    rest = {c: birads[c] for c in BIRADS_CATEGORIES if c in birads}
    total = sum(rest.values())
    if total <= 0:
        return dict.fromkeys(rest, 1 / max(len(rest), 1)), birads.get("2")
    return {c: min(1.0, p / total) for c, p in rest.items()}, birads.get("2")


def with_grade(finding: Finding, grade: Grade, models: GradeModels, pooling: Pooling) -> Finding:
    """The finding with what was said of it; probabilities of descriptors as evidence, the rest as sentences."""
    evidence = dict(finding.evidence)
    notes = list(finding.notes)
    birads = None
    if grade.birads:
        birads, two = graded_categories(grade.birads)
        if two is not None:
            evidence["birads_2"] = two
        if two is not None and two >= max(p for c, p in grade.birads.items() if c != "2"):
            notes.append(
                f"BI-RADS 2 (benign) is likelier than 3 to 5 ({two:.2f}); the categories below are the chances if it is not."
            )
    for name, chances in grade.descriptors.items():
        for word, chance in chances.items():
            key = f"{name}_{word}".replace(" ", "_")
            evidence[key] = chance
    for name, chance in grade.of_each.items():
        evidence[f"malignancy_{name}"] = chance
    if grade.malignant is not None:
        evidence["malignancy_threshold"] = pooling.threshold
        side = "at or above" if grade.malignant else "below"
        notes.append(f"Malignancy {grade.malignancy:.2f} is {side} the operating point {pooling.threshold:.2f}.")
    words = description(grade.descriptors, finding.measurements)
    notes += [words] if words else []
    notes += grade.doubts
    if not pooling.calibrated:
        notes.append("The probabilities are not calibrated: these models were not chosen together on validation data.")
    return replace(
        finding,
        malignancy=grade.malignancy if grade.malignancy is not None else finding.malignancy,
        solid_nodule=grade.solid if grade.solid is not None else finding.solid_nodule,
        birads=birads or finding.birads,
        evidence=evidence,
        models={**finding.models, **{f"grade-{name}": m.entry.id for name, m in models.present.items()}},
        notes=tuple(notes),
    )


def _mask_of(finding: Finding, plane: sitk.Image, image: sitk.Image) -> np.ndarray:
    """The finding's mask, or its box where it has none, as (H, W) bool. ImageError where the mask is of another grid."""
    if finding.mask is not None:
        mask = as_2d(finding.mask)
        if mask is None or mask.GetSize() != plane.GetSize():
            raise ImageError(f"The mask of {finding.id} is not on the image's grid; segment this image again.")
        return sitk.GetArrayViewFromImage(mask) > 0
    # The slice of a volume with a single one has no place in space; the image has.
    index = physical_to_index(image, finding.box.center[: image.GetDimension()]) + 0.5
    half = np.array(finding.box.size[: image.GetDimension()]) / image.GetSpacing() / 2
    flat = [axis for axis, n in enumerate(image.GetSize()) if n == 1]
    kept = [axis for axis in range(image.GetDimension()) if image.GetDimension() == 2 or axis != flat[-1]]
    width, height = plane.GetSize()
    low = np.clip(np.floor(index - half)[kept], 0, (width, height)).astype(int)
    high = np.clip(np.ceil(index + half)[kept], 0, (width, height)).astype(int)
    mask = np.zeros((height, width), bool)
    mask[low[1] : high[1], low[0] : high[0]] = True
    return mask


def grade(
    image: sitk.Image,
    findings: Sequence[Finding],
    models: GradeModels,
    options: GradeOptions = GradeOptions(),
    *,
    area: tuple[int, int, int, int] | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> tuple[Finding, ...]:
    """Grade the findings of a 2D image.

    Parameters
    ----------
    image : 2D, or 3D with a single slice; scalar, finite.
    findings : with masks on the image's grid, or with boxes alone.
    models : see `GradeModels`; none needs the others.
    area : the part of the image (x, y, width, height in pixels) that is ultrasound; None: all of it.
    progress : called with a fraction 0 to 1 and what is being done.

    Returns
    -------
    The findings in their order, each with malignancy, birads, solid_nodule, evidence and notes. No findings: no findings.

    Raises
    ------
    ImageError : the image is a volume of several slices, or a mask is on another grid.
    """
    plane = as_2d(image)
    if plane is None:
        raise ImageError("The image is a volume of several slices; grade a 2D image, or one slice of it.")
    x, y, width, height = area if area is not None else (0, 0, *plane.GetSize())
    part = (slice(y, y + height), slice(x, x + width))
    pixels = sitk.GetArrayFromImage(plane)[part]
    spacing = plane.GetSpacing()
    pooling = models.pooling
    graded = []
    for number, finding in enumerate(findings):
        if progress is not None:
            progress(number / len(findings), f"grading {finding.id}")
        mask = _mask_of(finding, plane, image)[part]
        said, _ = answers(pixels, mask, models, options, spacing[1] / spacing[0])
        graded.append(with_grade(finding, concluded(said, pooling), models, pooling))
    if progress is not None:
        progress(1.0, "done")
    return tuple(graded)


def map_on_image(activation: np.ndarray, mask: np.ndarray, rule: ViewRule, pixel_aspect: float = 1.0) -> np.ndarray:
    """A class activation map (S, S), as `answers` returns it, on the pixels of the area that it was made from: (H, W) float32, 0
    outside the square that the network saw. `mask` (H, W), `rule` and `pixel_aspect` as there."""
    import torch
    from torch.nn import functional as F

    window = rule.window(mask).square(pixel_aspect)
    places = [
        (torch.arange(n) + 0.5 - centre) / (side / 2)
        for n, centre, side in zip(mask.shape, window.centre, window.sides, strict=True)
    ]
    y, x = torch.meshgrid(*places, indexing="ij")
    values = torch.from_numpy(np.ascontiguousarray(activation, np.float32))[None, None]
    grid = torch.stack([x, y], -1)[None].float()
    result = F.grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=False)[0, 0]
    inside = (x.abs() <= 1) & (y.abs() <= 1)
    return (result * inside).numpy()
