"""Grade: a 2D breast ultrasound image and its findings in, findings with malignancy, BI-RADS category and descriptors out.

Three networks look at each lesion: G-CNN (Huang et al. 2019, BioMed Eng OnLine 18:8) at its refined region, Mt-Net and Sn-Net (Qi et al.
2019, Medical Image Analysis 52:185-198), each of which gets the other's class activation map. What they say of the same question is pooled
with weights and a temperature that were chosen on the validation fold (`training.grade_choice`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import SimpleITK as sitk

from .activation import Activation, ActivationImage
from .errors import ImageError, UsageError
from .findings import BIRADS_CATEGORIES, Finding
from .grade_pooling import FEATURES, SYSTEMS, Answers, Grade, Pooling, concluded
from .grade_terms import (
    DOUBT,
    NOT_GRADED,
    STATEMENTS,
    WARNINGS,
    description,
    evidence_key,
    is_of_grade,
)
from .grid import as_2d, box_region
from .lesion_by_lesion import reason_of_failure, told_of_failures
from .lesion_view import ViewRule, crop_places, cut, network_input, several, shows_anything
from .letterbox import to_unit_range
from .screen_area import ultrasound_area

if TYPE_CHECKING:
    import torch

    from .models.zoo import LoadedModel

_BEFORE = ("malignancy_segment_3d", "malignancy_detect")  # evidence of tasks before, the later one first
NOTHING_TO_SEE = "the image has one and the same value here, so that there is nothing to see"
_PARTNER = {"mtnet": "snnet", "snnet": "mtnet"}


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
    def margin(self) -> float:
        """Of what is looked at about a lesion, the widest of the models' (`lesion_view.ViewRule`)."""
        return max(ViewRule.of(model.entry.preprocessing).margin for model in self.present.values())

    @property
    def pooling(self) -> Pooling:
        """What was chosen on the validation fold for these very models together; else a pooling that says it was not."""
        for model in self.present.values():
            said = model.entry.postprocessing.get("pooling")
            # Names alone would do for models that were trained again, or by others, under the same ones.
            if said is not None and said.get("models") == self.names and said.get("sha256") == self.sha256:
                return Pooling.of(said)
        return Pooling()

    @property
    def names(self) -> dict[str, str]:
        """System -> id of its model."""
        return {name: model.entry.id for name, model in self.present.items()}

    @property
    def sha256(self) -> dict[str, str]:
        """System -> what its model's weights are known by."""
        return {name: model.published_sha256 for name, model in self.present.items()}


class Graded(NamedTuple):
    """Findings, as they were asked for and in their order, each with malignancy, birads, solid_nodule, evidence and notes, or a note
    why it could not be graded; sentences for the reader of the study; and where the networks looked (`activation.ActivationImage`)."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    activation: sitk.Image | None


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
) -> tuple[Answers, dict[str, Activation]]:
    """What each system says of a lesion, uncalibrated, and the class activation maps of Mt-Net and Sn-Net.

    Parameters as `network_inputs`. The maps are of all that the network looked at, each in its window of `pixels`.
    """
    import torch

    from .models.devices import autocast

    said: Answers = {}
    maps: dict[str, Activation] = {}
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
                with autocast(present[name].device.name):
                    first[name] = present[name].network.look(inputs[name])
        for name, model in present.items():
            if name == "gcnn":
                with autocast(model.device.name):
                    answered = model.network(inputs[name])
                said[name] = {output: _mean_log(values) for output, values in answered.items()}
                continue
            look = first[name]
            other = first.get(_PARTNER[name])
            vector = look.vector.double().mean(0).cpu().numpy()
            if options.enhance and other is not None:
                with autocast(model.device.name):
                    look = model.network.look(inputs[name], _resized(other.map, look.map))
            rule = ViewRule.of(model.entry.preprocessing)
            maps[name] = _activation(look.map, mask, rule, options, pixel_aspect)
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


def _activation(
    maps: torch.Tensor, mask: np.ndarray, rule: ViewRule, options: GradeOptions, pixel_aspect: float
) -> Activation:
    """The maps (n, 1, S, S) of what `network_inputs` made, the mirror images turned back and averaged with their crops, as one."""
    if options.mirror:
        half = len(maps) // 2
        maps = (maps[:half] + maps[half:].flip(-1)) / 2
    values = maps[:, 0].float().cpu().numpy()
    if not options.several:
        return Activation(values[0], rule.window(mask).square(pixel_aspect))
    window = rule.wide_window(mask, pixel_aspect)
    shape, starts = crop_places(window, rule.size, pixel_aspect)
    return Activation.of_crops(values, starts, shape[0] > shape[1], window)


def graded_categories(birads: Mapping[str, float]) -> tuple[dict[str, float], float | None]:
    """The probabilities of 3 to 5 among themselves, 1 together, and that of category 2 before, or None where it is not known."""
    rest = {c: birads[c] for c in BIRADS_CATEGORIES if c in birads}
    total = sum(rest.values())
    if total <= 0:
        return dict.fromkeys(rest, 1 / max(len(rest), 1)), birads.get("2")
    return {c: min(1.0, p / total) for c, p in rest.items()}, birads.get("2")


def ungraded(finding: Finding) -> Finding:
    """The finding as it was before it was graded, or could not be, so that it can be graded anew."""
    if not any(task.startswith("grade-") for task in finding.models):
        return replace(finding, notes=tuple(n for n in finding.notes if not n.startswith(NOT_GRADED)))
    before = {k: v for k, v in finding.evidence.items() if k in _BEFORE or not is_of_grade(k)}
    return replace(
        finding,
        malignancy=next((before[k] for k in _BEFORE if k in before), None),
        birads=None,
        solid_nodule=None,
        evidence=before,
        models={task: model for task, model in finding.models.items() if not task.startswith("grade-")},
        notes=tuple(n for n in finding.notes if not n.startswith((*STATEMENTS, DOUBT, *WARNINGS))),
    )


def with_grade(finding: Finding, grade: Grade, models: GradeModels, pooling: Pooling) -> Finding:
    """The finding with what was said of it, in place of an earlier grade; probabilities of descriptors as evidence, the rest as sentences."""
    finding = ungraded(finding)
    evidence = dict(finding.evidence)
    notes = list(finding.notes)
    birads = None
    if grade.birads:
        birads, two = graded_categories(grade.birads)
        if two is not None:
            evidence["birads_2"] = two
        if two is not None and two >= max(p for c, p in grade.birads.items() if c != "2"):
            than = "likelier than 3 to 5 together" if two > 0.5 else "the likeliest single category"
            notes.append(f"BI-RADS 2 (benign) is {than} ({two:.2f}); the categories below are the chances if it is not.")
    for name, chances in grade.descriptors.items():
        for word, chance in chances.items():
            evidence[evidence_key(name, word)] = chance
    for name, chance in grade.of_each.items():
        evidence[f"malignancy_{name}"] = chance
    if grade.malignant is not None:
        evidence["malignancy_threshold"] = pooling.threshold
        side = "at or above" if grade.malignant else "below"
        notes.append(f"Malignancy {grade.malignancy:.2f} is {side} the operating point {pooling.threshold:.2f}.")
    notes += description(grade.descriptors, finding.measurements)
    notes += grade.doubts
    evidence["not_sure"] = float(bool(grade.doubts))
    evidence["grade_calibrated"] = float(pooling.calibrated)
    if not pooling.calibrated:
        notes.append("The probabilities are not calibrated: these models were not chosen together on validation data.")
    elif pooling.uncalibrated:
        notes.append(
            f"The probabilities are not calibrated for {', '.join(pooling.uncalibrated)}: the labels of the validation data did not tell their answers apart."
        )
    return replace(
        finding,
        malignancy=grade.malignancy if grade.malignancy is not None else finding.malignancy,
        solid_nodule=grade.solid if grade.solid is not None else finding.solid_nodule,
        birads=birads or finding.birads,
        evidence=evidence,
        models={**finding.models, **{f"grade-{name}": m.entry.id for name, m in models.present.items()}},
        notes=tuple(notes),
    )


def check_grids(image: sitk.Image, findings: Sequence[Finding]) -> None:
    """ImageError where a finding's mask is not on the grid of an image (in 2D: of its one slice)."""
    plane = as_2d(image)
    for finding in findings:
        mask = finding.mask if plane is None or finding.mask is None else as_2d(finding.mask)
        if finding.mask is not None and (mask is None or mask.GetSize() != (plane or image).GetSize()):
            raise ImageError(f"The mask of {finding.id} is not on the image's grid; segment this image again.")


def lesion_mask(image: sitk.Image, finding: Finding) -> np.ndarray:
    """The finding's mask, or its box where it has none, bool; the axes of the image's array, as many as its mask has."""
    if finding.mask is not None:
        return sitk.GetArrayViewFromImage(finding.mask) > 0
    start, size = box_region(image, finding.box)
    inside = np.zeros(image.GetSize()[::-1], bool)
    inside[tuple(slice(a, a + n) for a, n in zip(start[::-1], size[::-1], strict=True))] = True
    return inside


def grade(
    image: sitk.Image,
    findings: Sequence[Finding],
    models: GradeModels,
    options: GradeOptions = GradeOptions(),
    *,
    area: tuple[int, int, int, int] | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> Graded:
    """Grade the findings of a 2D image.

    Parameters
    ----------
    image : 2D, or 3D with a single slice; scalar, finite.
    findings : with masks on the image's grid, or with boxes alone. One where the image shows nothing (`lesion_view.shows_anything`) comes back as it was
        before it was graded, with a note.
    models : see `GradeModels`; none needs the others.
    area : the part of the image (x, y, width, height in pixels) that is ultrasound, where it is known; None: a screen capture's is looked for,
        so that a finding is graded alike wherever its picture comes from.
    progress : called with a fraction 0 to 1 and what is being done.

    Raises
    ------
    ImageError : the image is a volume of several slices, or a mask is on another grid.
    UsageError : Mt-Net and Sn-Net look at different regions and are to use each other's maps.
    """
    plane = as_2d(image)
    if plane is None:
        raise ImageError("The image is a volume of several slices; grade a 2D image, or one slice of it.")
    check_grids(image, findings)
    if options.enhance:
        models.check_same_view()
    x, y, width, height = ultrasound_area(plane, area)[0]
    part = (slice(y, y + height), slice(x, x + width))
    pixels = sitk.GetArrayFromImage(plane)[part]
    spacing = plane.GetSpacing()
    maps = ActivationImage(image)

    def look(finding: Finding) -> Answers:
        mask = lesion_mask(image, finding).reshape(plane.GetSize()[::-1])
        if not mask.any():
            raise ImageError("its outline is empty")
        mask = mask[part]
        if not mask.any():
            raise ImageError("its outline lies outside of the ultrasound picture")
        if not shows_anything(pixels, mask, models.margin, spacing[1] / spacing[0]):
            raise ImageError(NOTHING_TO_SEE)
        said, seen = answers(pixels, mask, models, options, spacing[1] / spacing[0])
        if seen:
            maps.add(main_map(seen).on(pixels.shape), (x, y))
        return said

    graded, notes = graded_one_by_one(findings, look, models, progress)
    return Graded(graded, notes, maps.image)


def main_map(maps: Mapping[str, Activation]) -> Activation:
    """The map that is shown: Mt-Net's, of malignancy, or else Sn-Net's."""
    return next(maps[name] for name in ("mtnet", "snnet") if name in maps)


def graded_one_by_one(
    findings: Sequence[Finding],
    look: Callable[[Finding], Answers],
    models: GradeModels,
    progress: Callable[[float, str], None] | None,
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """The findings with the grades that what is seen of each amounts to, and sentences on those that could not be looked at."""
    pooling = models.pooling
    device = next(iter(models.present.values())).device.name
    graded: list[Finding] = []
    failures: dict[str, str] = {}
    for number, finding in enumerate(findings):
        if progress is not None:
            progress(number / len(findings), f"grading {finding.id}")
        try:
            graded.append(with_grade(finding, concluded(look(finding), pooling), models, pooling))
        except Exception as error:
            failures[finding.id] = reason_of_failure(error, device)
            before = ungraded(finding)  # an earlier grade is not this one's
            graded.append(replace(before, notes=(*before.notes, f"{NOT_GRADED}{failures[finding.id]}.")))
    if progress is not None:
        progress(1.0, "done")
    return tuple(graded), told_of_failures("graded", failures.items())
