"""The recipe of the second stage: ``breastusai train lesion-classifier --data DIR --output DIR``.

It learns from crops about the lesions (`lesion_classifier_crops`). With ``--detector`` the weight between the two opinions is
chosen on what that detector finds in the validation volumes, and recorded.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atomic import output_error, write_text
from ..errors import DataError, ModelError, UsageError
from ..models.folder import UNPUBLISHED
from .command_line import (
    add_configuration_argument,
    add_schedule_arguments,
    add_start_argument,
    add_volume_data_arguments,
    schedule_of,
)
from .start import alone_in, check_output, check_start, go_on_from, learnt

if TYPE_CHECKING:
    from torch import nn

    from ..evaluation.volume_data import VolumeCase
    from ..models.zoo import LoadedModel
    from .lesion_classifier_crops import LesionCrops
    from .parallel import Team

_SCHEDULE = ("epochs", "batch", "rate")
WEIGHTS = tuple(i / 10 for i in range(11))


@dataclass(frozen=True)
class LesionClassifierRecipe:
    """Settings of a training run.

    Attributes
    ----------
    configuration : "compact" or "paper" (see `networks.lesion_classifier`).
    shape : (z, y, x) voxels that the network sees of a lesion.
    margin : the crop's sides in those of the lesion's box (`lesion_classification.crop_extent`).
    spare : the crops that wait are so much larger on each side, so that a part of them can be taken elsewhere.
    shift, stretch : how far the part's centre lies off, in sides of the box, and by what factor its sides are wrong: what a detected
        box is off by.
    soft : whether a phantom's lesion is told by the probability of malignancy that a perfect reader would state, of which its pathology is
        one throw of dice, rather than by its pathology. Of lesions of patients nobody knows it: pathology it is.
    descriptors : weight of the loss of each of the seven BI-RADS descriptors (`descriptor_heads`), where the data say them, beside that of malignancy; 0:
        malignancy alone is learnt, as in the paper (`PAPER`).
    epochs, batch, rate, weight_decay, decay : as in `detect.DetectRecipe`; an epoch sees every lesion once.
    start : a model that ships, or a folder, whose weights are gone on from; with no epochs they stay, and the weight of the two opinions is chosen anew. "": fresh ones.
    seed : fixes initial weights, order and variation.
    """

    configuration: str = "compact"
    shape: tuple[int, int, int] = (48, 40, 48)
    margin: float = 1.8
    spare: float = 1.5
    shift: float = 0.1
    stretch: float = 1.2
    soft: bool = True
    descriptors: float = 0.1
    epochs: int = 16
    batch: int = 16
    rate: float = 2e-3
    weight_decay: float = 0.05
    decay: float = 0.99
    start: str = ""
    seed: int = 1


PAPER = LesionClassifierRecipe(configuration="paper", descriptors=0.0)
"""As published: a network without dropout, and malignancy alone."""


def build_network(configuration: str):
    """A fresh LesionClassifier of a named configuration, and its arguments."""
    from .configurations import build

    return build("lesion_classifier", "LesionClassifier", configuration)


def _lesions(cases: Sequence[VolumeCase], recipe: LesionClassifierRecipe, group: Team | None = None) -> LesionCrops:
    """Crops about the lesions of some cases, in their order. A `group` shares the reading, and each process gets all crops."""
    from ..lesion_classification import lesion_crop
    from .descriptor_heads import codes
    from .lesion_classifier_crops import LesionCrops, LesionRow, waiting_shape
    from .parallel import Team

    def rows(case: VolumeCase) -> list[LesionRow]:
        image, lesions = case.read()
        return [
            LesionRow(
                lesion_crop(image, lesion.box, waiting_shape(recipe), recipe.margin, recipe.spare),
                lesion.box.size,
                lesion.malignant,
                lesion.malignancy if recipe.soft else float(lesion.malignant),
                codes(lesion.descriptors),
            )
            for lesion in lesions
        ]

    group = group or Team(0, 1, "cpu")
    own = [rows(case) for case in group.part([case for case in cases if case.lesions])]
    return LesionCrops.of([row for of_a_case in group.gather(own) for row in of_a_case], recipe)


def train(
    data: Sequence[Path | str],
    output: Path | str,
    recipe: LesionClassifierRecipe = LesionClassifierRecipe(),
    *,
    detector: Path | str | None = None,
    spacing_mm: Sequence[float] | None = None,
    resume: bool = True,
    device: str = "auto",
    watch: Callable[[int, nn.Module], None] | None = None,
) -> Path:
    """Train the lesion classifier and leave a model folder (config.json, model.safetensors, log.jsonl, checkpoint.pt) in `output`.

    A run that was killed goes on at its last finished epoch when called again. Under torchrun the processes share each batch.

    Parameters
    ----------
    data : data sets with the splits train and validation; see `detect.train`.
    detector : a detection model, whose findings in the validation volumes choose the weight between the two opinions; None: it stays
        at one half, or with `start` at that model's.
    watch : called after each epoch, in every process, with its number and the network.

    Raises
    ------
    DataError : a data set's layout is wrong, a split lacks benign or malignant lesions, or there are fewer than two for each process to learn from; one volume both teaches
        and validates.
    UsageError, ModelError, OutputError : see `detect.train`; a batch of fewer than two lesions for each process; a detector that cannot be loaded, or is `output`;
        `start` looks at other crops than this recipe's.
    """
    import torch

    from ..models.devices import choose_device
    from ..models.folder import save_model
    from ..models.zoo import load
    from .apart import check_volumes_apart
    from .detection_data import read_split
    from .learner import run_epochs
    from .lesion_classifier_crops import CHECKPOINT, CropRun
    from .parallel import team

    output = Path(output)
    check_start(recipe.start, output)
    check_start(detector, output, "--detector")
    check_output(output, "lesion-classifier", resume)
    with team(choose_device(device).name) as group, ExitStack() as held:
        if recipe.batch < 2 * group.size:
            raise UsageError(_too_small(group))
        begins = recipe.start and not (resume and (output / CHECKPOINT).is_file())
        if begins:
            _check_start(recipe)  # before the volumes are read, which takes long
        # The weight of the opinions is chosen by the first process, which alone needs the detector.
        judge = load(detector, "detect", device) if detector is not None and group.first else None
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(output, error) from error
        held.enter_context(alone_in(output, group.first))
        cases = {split: read_split(data, split, spacing_mm) for split in ("train", "validation")}
        check_volumes_apart(cases["train"], cases["validation"])
        training, validation = (_lesions(cases[split], recipe, group) for split in cases)
        _check(data, training, validation, group)
        torch.manual_seed(recipe.seed)
        network, arguments = build_network(recipe.configuration)
        if begins:
            go_on_from(recipe.start, "lesion-classifier", network)

        def leave(network: nn.Module, measured: dict[str, float]) -> None:
            save_model(output, network, _config(recipe, arguments, cases["train"], len(training), measured))

        run = CropRun(output, recipe, network, training, validation, group, leave, resume=resume)
        run_epochs(run, output, 1, watch)
        if judge is not None:
            _record_weight(output, cases["validation"], judge, load(output, "lesion-classifier", device))
        group.wait()
    return output


def _too_small(group: Team) -> str:
    if group.size == 1:
        return "--batch must be 2 or more: a batch of one has no statistics for batch normalisation."
    return (
        f"--batch must be {2 * group.size} or more for {group.size} processes: one lesion alone has no statistics for batch "
        "normalisation, so each process needs two."
    )


def _check(data: Sequence[Path | str], training: LesionCrops, validation: LesionCrops, group: Team) -> None:
    """DataError where there is too little to learn from or to judge by."""
    for name, lesions in (("train", training), ("validation", validation)):
        if not lesions.both_kinds:
            raise DataError(
                f"the split {name} of {', '.join(map(str, data))} needs benign and malignant lesions; make more volumes."
            )
    if len(training) < 2 * group.size:
        raise DataError(
            f"the split train of {', '.join(map(str, data))} has {len(training)} lesions, too few for {group.size} processes, each of "
            "which needs two in a batch; make more volumes, or start fewer processes."
        )


def _check_start(recipe: LesionClassifierRecipe) -> None:
    """ModelError where `recipe.start` is no model for this task, UsageError where it is another network or looks at other crops."""
    from ..models.zoo import resolve

    entry, _ = resolve(recipe.start, "lesion-classifier")
    sees = tuple(entry.preprocessing.get("shape", ())), entry.preprocessing.get("margin")
    if sees != (tuple(recipe.shape), recipe.margin):
        raise UsageError(
            f"--start {recipe.start}: {entry.id} looks at crops of {' x '.join(map(str, sees[0]))} voxels and {sees[1]} times a lesion's box, this configuration "
            f"at {' x '.join(map(str, recipe.shape))} and {recipe.margin}; choose another model."
        )
    go_on_from(recipe.start, "lesion-classifier", build_network(recipe.configuration)[0])


def _weight_of(start: str) -> dict[str, Any]:
    """The weight of the two opinions that a model has which is gone on from, and the detector that it was chosen with; {}: none."""
    from ..models.zoo import resolve

    try:
        chosen = resolve(start, "lesion-classifier")[0].postprocessing if start else {}
    except ModelError:  # was removed while this trained, which is no reason to lose the run
        chosen = {}
    return {name: chosen[name] for name in ("detection_weight", "detector", "detector_sha256") if name in chosen}


def _record_weight(output: Path, cases: Sequence[VolumeCase], detector: LoadedModel, classifier: LoadedModel) -> None:
    """Choose the weight between the two opinions, and write it into the model's config and what was tried beside it. Where there is nothing to
    choose by the config stays as it is, and that is said."""
    from ..lesion_classification import DEFAULT_WEIGHT
    from ..models.folder import CONFIG

    weight, tried = choose_weight(cases, detector, classifier)
    config = json.loads((output / CONFIG).read_text(encoding="utf-8"))
    write_text(output / "postprocessing.json", json.dumps(tried, indent=2) + "\n")
    if weight is None:
        stays = config["postprocessing"].get("detection_weight", DEFAULT_WEIGHT)
        print(
            f"Note: there was nothing to choose the weight of the two opinions by, as {detector.entry.id} finds benign or malignant lesions alone, or none, in the "
            f"validation volumes; it stays {stays:g}.",
            flush=True,
        )
        return
    config["postprocessing"] |= {"detection_weight": weight, "detector": detector.entry.id, "detector_sha256": detector.published_sha256}
    write_text(output / CONFIG, json.dumps(config, indent=2) + "\n")


def choose_weight(
    cases: Sequence[VolumeCase], detector: LoadedModel, classifier: LoadedModel
) -> tuple[float | None, dict[str, Any]]:
    """The weight of the detection network's opinion with the highest AUC on the lesions that it finds, and what was tried.

    Each lesion is judged by the surest finding that overlaps it; lesions that are not found say nothing. A phantom's counts as malignant
    with the probability that a perfect reader would state and as benign with the rest, so that less is left to chance. Of equal weights
    the one nearest to one half is taken; None: there is nothing to choose by.
    """
    from ..detect import detect
    from ..evaluation.detection_metrics import extents, iou_matrix
    from ..evaluation.metrics import roc_auc
    from ..lesion_classification import DEFAULT_WEIGHT, malignancies

    rows = []
    for case in cases:
        image, lesions = case.read()
        findings, _ = detect(image, detector)
        if not findings or not lesions:
            continue
        direction = image.GetDirection()
        overlaps = iou_matrix(
            extents([lesion.box for lesion in lesions], direction), extents([f.box for f in findings], direction)
        )
        for lesion, overlap in zip(lesions, overlaps, strict=True):
            if overlap.max() > 0:  # findings come by falling score
                finding = findings[int(np.flatnonzero(overlap > 0)[0])]
                second = malignancies(image, [finding.box], classifier)[0]
                rows.append((finding.malignancy, second, lesion.malignant, lesion.malignancy))
    truth, told = np.array([row[2] for row in rows], bool), np.array([row[3] for row in rows], float)
    if not len(rows) or truth.all() or not truth.any():
        return None, {"lesions": len(rows), "detection_weight": {}}
    first, second = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    each = np.arange(2 * len(rows)) < len(rows)  # as malignant, then as benign
    shares = np.concatenate([told, 1 - told])
    tried = {weight: roc_auc(np.tile(weight * first + (1 - weight) * second, 2), each, shares) for weight in WEIGHTS}
    best = max(WEIGHTS, key=lambda weight: (tried[weight], -abs(weight - DEFAULT_WEIGHT)))
    return best, {"lesions": len(rows), "detection_weight": {str(k): v for k, v in tried.items()}}


def _config(recipe, arguments: dict, cases: Sequence[VolumeCase], lesions: int, measured: dict) -> dict[str, Any]:
    from ..evaluation.volume_data import described

    return {
        "id": f"lesion-classifier-{recipe.configuration}",
        "task": "lesion-classifier",
        "version": UNPUBLISHED,
        "network": "lesion_classifier.LesionClassifier",
        "arguments": json.loads(json.dumps(arguments)),
        "preprocessing": {
            "dimension": 3,
            "shape": list(recipe.shape),
            "margin": recipe.margin,
            "intensity": "standardised within the crop, 8-bit levels",
        },
        "postprocessing": _weight_of(recipe.start),
        "trained_on": learnt(f"{lesions} lesions of {described(cases)} (split train)", recipe.start, "lesion-classifier", recipe.epochs),
        "licence": "unspecified",
        "measured": {"validation, true boxes": measured},
        "recipe": asdict(recipe),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_volume_data_arguments(parser, LesionClassifierRecipe.seed)
    add_schedule_arguments(parser, LesionClassifierRecipe, names=_SCHEDULE)
    add_configuration_argument(parser)
    parser.add_argument(
        "--hard-labels",
        action="store_true",
        help="learn phantoms, too, from benign or malignant alone, not from how malignant a perfect reader would find them",
    )
    parser.add_argument(
        "--descriptors",
        type=float,
        metavar="WEIGHT",
        help="how much each of the seven BI-RADS descriptors weighs that are learnt beside malignancy where the data say them; 0: malignancy alone "
        f"(default: {LesionClassifierRecipe.descriptors}; paper: {PAPER.descriptors:g})",
    )
    add_start_argument(parser, "with --detector the weight of the two opinions")
    parser.add_argument(
        "--detector", metavar="ID|DIR", help="detection model whose findings choose the weight of the two opinions"
    )


def recipe_of(args: argparse.Namespace) -> LesionClassifierRecipe:
    """The recipe with what the command line says otherwise. Raises `UsageError`."""
    recipe = PAPER if args.configuration == PAPER.configuration else LesionClassifierRecipe(configuration=args.configuration)
    descriptors = recipe.descriptors if args.descriptors is None else args.descriptors
    if not 0 <= descriptors < float("inf"):
        raise UsageError(f"--descriptors is {descriptors:g}; give a finite number, 0 or more.")
    return replace(
        recipe,
        soft=not args.hard_labels,
        descriptors=descriptors,
        start=args.start,
        seed=args.seed,
        **schedule_of(args, _SCHEDULE),
    )


def main(args: argparse.Namespace) -> int:
    folder = train(
        args.data,
        args.output,
        recipe_of(args),
        detector=args.detector,
        spacing_mm=args.spacing,
        resume=not args.restart,
        device=args.device,
    )
    print(
        f"The model is in {folder}; measure it with: breastusai evaluate detect --data DATA --model DETECTOR --classifier {folder} --output FIGURES"
    )
    return 0
