"""The recipe of false-positive reduction: ``breastusai train false-positive-reduction --data DIR --detector ID|DIR --output DIR``.

The detector's candidates in the training volumes are cut out: those that hit a lesion, the lesions themselves, and the surest of those that
hit none. A network like the lesion classifier learns to tell the two kinds (`box_crops`). The weight between its score and the detector's, and the
threshold of the two together, are chosen on the validation volumes and recorded.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atomic import output_error, write_bytes, write_text
from ..errors import DataError, UsageError
from ..false_positive_reduction import Reduction, combined_scores
from .command_line import add_configuration_argument, add_schedule_arguments, add_volume_data_arguments, schedule_of
from .detect import tell_of
from .lesion_classifier import build_network

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ..evaluation.detection_metrics import VolumeBoxes
    from ..evaluation.volume_data import VolumeCase
    from ..models.zoo import LoadedModel
    from .box_crops import BoxCrops

_SCHEDULE = ("epochs", "batch", "rate")
_VERSION = 1  # of what is kept in the cache
WEIGHTS = tuple(i / 10 for i in range(11))
FALSE_POSITIVES = 1.0
"""A volume, at the threshold."""


@dataclass(frozen=True)
class FalsePositiveRecipe:
    """Settings of a training run.

    Attributes
    ----------
    configuration : "compact" or "paper" (see `networks.lesion_classifier`).
    shape, margin, spare, shift, stretch, epochs, batch, rate, weight_decay, decay, seed : as in `lesion_classifier.LesionClassifierRecipe`.
    hit_iou, miss_iou : a candidate with at least the one IoU with a lesion shows it; with at most the other with all, none. Those
        between teach nothing.
    hits, misses : of a lesion, and of a volume, so many candidates are kept, the surest.
    ratio : crops without a lesion for each with one in an epoch, drawn anew each time.
    """

    configuration: str = "compact"
    shape: tuple[int, int, int] = (40, 32, 40)
    margin: float = 2.0
    spare: float = 1.5
    shift: float = 0.1
    stretch: float = 1.2
    hit_iou: float = 0.2
    miss_iou: float = 0.02
    hits: int = 2
    misses: int = 10
    ratio: float = 1.0
    epochs: int = 14
    batch: int = 16
    rate: float = 2e-3
    weight_decay: float = 0.05
    decay: float = 0.995
    seed: int = 1


def train(
    data: Sequence[Path | str],
    output: Path | str,
    detector: Path | str,
    recipe: FalsePositiveRecipe = FalsePositiveRecipe(),
    *,
    cache: Path | str | None = None,
    spacing_mm: Sequence[float] | None = None,
    resume: bool = True,
    device: str = "auto",
) -> Path:
    """Train the network and leave a model folder (config.json, model.safetensors, log.jsonl, checkpoint.pt, postprocessing.json) in `output`.

    A run that was killed goes on at its last finished epoch when called again.

    Parameters
    ----------
    data : data sets with the splits train and validation; see `detect.train`.
    detector : the detection model whose candidates are learnt from.
    cache : where the cut-out candidates are kept; None: ``cache`` in `output`.

    Raises
    ------
    DataError : a data set's layout is wrong, or a split has no candidate of either kind.
    UsageError, ModelError, OutputError : see `detect.train`; a detector that cannot be loaded.
    """
    import torch

    from ..models.devices import choose_device
    from ..models.folder import CONFIG, save_model
    from ..models.zoo import load
    from .box_crops import CropRun
    from .detection_data import read_split
    from .learner import run_epochs

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("false-positive reduction trains in one process; start it without torchrun.")
    judge = load(detector, "detect", device)
    device = choose_device(device).name
    output = Path(output)
    cache = Path(cache) if cache is not None else output / "cache"
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(output, error) from error
    cases = {split: read_split(data, split, spacing_mm) for split in ("train", "validation")}
    training, validation = (candidate_crops(cases[split], judge, recipe, cache) for split in cases)
    for name, crops in (("train", training), ("validation", validation)):
        if not crops.both_kinds:
            raise DataError(
                f"the split {name} of {', '.join(map(str, data))} needs lesions and false positives of the detector; make more volumes."
            )
    torch.manual_seed(recipe.seed)
    network, arguments = build_network(recipe.configuration)

    def leave(network: nn.Module, measured: dict[str, float]) -> None:
        save_model(output, network, _config(recipe, arguments, cases["train"], training, judge, measured))

    def draw(generator: torch.Generator) -> torch.Tensor:
        return draw_order(training.positive, recipe.ratio, generator)

    run = CropRun(output, recipe, network, training, validation, device, leave, draw=draw, resume=resume)
    run_epochs(run, output, 1)
    chosen, tried = choose(cases["validation"], judge, load(output, "false-positive-reduction", device))
    config = json.loads((output / CONFIG).read_text(encoding="utf-8"))
    config["postprocessing"] |= {**chosen, "detector": judge.entry.id}
    write_text(output / "postprocessing.json", json.dumps(tried, indent=2) + "\n")
    write_text(output / CONFIG, json.dumps(config, indent=2) + "\n")
    return output


def draw_order(positive: torch.Tensor, ratio: float, generator: torch.Generator) -> torch.Tensor:
    """All crops with a lesion and `ratio` times as many without one, no more than there are, in random order; indices int64."""
    import torch

    shown, empty = torch.nonzero(positive > 0)[:, 0], torch.nonzero(positive == 0)[:, 0]
    number = min(len(empty), max(1, round(ratio * len(shown))))
    order = torch.cat([shown, empty[torch.randperm(len(empty), generator=generator)[:number]]])
    return order[torch.randperm(len(order), generator=generator)]


# ------------------------------------------------------------------------------------------------------------- candidates


def candidate_crops(
    cases: Sequence[VolumeCase], detector: LoadedModel, recipe: FalsePositiveRecipe, cache: Path
) -> BoxCrops:
    """Crops about lesions (positive) and false positives of all cases; those of each volume are kept in the cache.

    Raises `DataError` where the cache was damaged.
    """
    from .box_crops import BoxCrops

    tell = tell_of(True)
    rows: list[tuple[np.ndarray, tuple[float, ...], bool]] = []
    for number, case in enumerate(cases):
        path = cache / f"{_cache_name(case, detector, recipe)}.npz"
        if not path.is_file():
            tell(number / len(cases), f"looking for candidates in {case.id} ({number + 1} of {len(cases)})")
            content = io.BytesIO()
            np.savez(content, **_cut_out(case, detector, recipe))
            write_bytes(path, content.getvalue())
        try:
            with np.load(path) as kept:
                rows += zip(kept["crops"], kept["sizes"].tolist(), kept["positive"].tolist(), strict=True)
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path} is damaged ({error}); delete the cache folder, it is made again.") from error
    return BoxCrops.of(rows, recipe)


def _cache_name(case: VolumeCase, detector: LoadedModel, recipe: FalsePositiveRecipe) -> str:
    from .box_crops import waiting_shape
    from .detection_data import cache_name

    cut = (
        waiting_shape(recipe),
        recipe.margin,
        recipe.spare,
        recipe.hit_iou,
        recipe.miss_iou,
        recipe.hits,
        recipe.misses,
    )
    facts = repr((_VERSION, detector.provenance(), cut))
    return f"{cache_name(case, (1.0, 1.0, 1.0))}-candidates-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"


def _cut_out(case: VolumeCase, detector: LoadedModel, recipe: FalsePositiveRecipe) -> dict[str, np.ndarray]:
    from ..detect import DetectOptions, detect
    from ..lesion_classification import lesion_crop
    from .box_crops import waiting_shape

    image, lesions = case.read()
    found, _ = detect(image, detector, DetectOptions(threshold=0.0))
    boxes = [f.box for f in found]
    hits, misses = sort_candidates(_extents(image, [lesion.box for lesion in lesions]), _extents(image, boxes), recipe)
    shown = [*(lesion.box for lesion in lesions), *(boxes[i] for i in hits)]
    chosen = [*shown, *(boxes[i] for i in misses)]
    shape = waiting_shape(recipe)
    crops = [lesion_crop(image, box, shape, recipe.margin, recipe.spare) for box in chosen]
    return {
        "crops": np.stack(crops) if crops else np.zeros((0, *shape), np.uint8),
        "sizes": np.array([box.size for box in chosen], np.float32).reshape(-1, 3),
        "positive": np.arange(len(chosen)) < len(shown),
    }


def _extents(image, boxes) -> np.ndarray:
    from ..evaluation.detection_metrics import extents

    return extents(boxes, image.GetDirection())


def sort_candidates(
    lesions: np.ndarray, candidates: np.ndarray, recipe: FalsePositiveRecipe
) -> tuple[list[int], list[int]]:
    """Which candidates show a lesion and which none; boxes (m, 6) and (n, 6), the candidates by falling score.

    Of each lesion no more than `recipe.hits`, of the others no more than `recipe.misses`, the surest.
    """
    from ..evaluation.detection_metrics import iou_matrix

    iou = iou_matrix(candidates, lesions)
    highest = iou.max(1) if len(lesions) else np.zeros(len(candidates))
    hits: list[int] = []
    for lesion in range(len(lesions)):
        its = (iou.argmax(1) == lesion) & (highest >= recipe.hit_iou)
        hits += np.flatnonzero(its)[: recipe.hits].tolist()
    return sorted(hits), np.flatnonzero(highest <= recipe.miss_iou)[: recipe.misses].tolist()


# ----------------------------------------------------------------------------------------------------------------- choices


def choose(
    cases: Sequence[VolumeCase], detector: LoadedModel, reducer: LoadedModel
) -> tuple[dict[str, float], dict[str, Any]]:
    """The weight of the reducer and the threshold, for its `postprocessing`, and what was tried.

    The weight with the highest mean of sensitivity at 1 and 2 false positives a volume, of equal ones the lowest; the threshold for 1.
    """
    from ..detect import DetectOptions, detect
    from ..evaluation.detection_metrics import PAPER_IOU, VolumeBoxes, froc, match
    from ..lesion_classification import probabilities
    from .detection_choice import threshold_at

    most = Reduction.of(reducer.entry.postprocessing).candidates
    seen = []
    for case in cases:
        image, lesions = case.read()
        found, _ = detect(image, detector, DetectOptions(threshold=0.0))
        found = found[:most]
        boxes = [f.box for f in found]
        scores = np.array([f.score for f in found])
        said = np.array(probabilities(image, boxes, reducer))
        seen.append((_extents(image, [lesion.box for lesion in lesions]), _extents(image, boxes), scores, said))

    def with_weight(weight: float) -> list[VolumeBoxes]:
        volumes = []
        for lesions, boxes, scores, said in seen:
            together = combined_scores(scores, said, weight)
            order = np.argsort(-together, kind="stable")
            volumes.append(VolumeBoxes(lesions, boxes[order], together[order]))
        return volumes

    tried = {}
    for weight in WEIGHTS:
        curve = froc(match(with_weight(weight), PAPER_IOU))
        tried[weight] = {"sensitivity_at_1_fp": float(curve.at(1.0)), "sensitivity_at_2_fp": float(curve.at(2.0))}
    best = max(WEIGHTS, key=lambda weight: (sum(tried[weight].values()), -weight))
    threshold = threshold_at(with_weight(best), FALSE_POSITIVES)
    record = {
        "volumes": len(seen),
        "lesions": sum(len(s[0]) for s in seen),
        "tried": {str(k): v for k, v in tried.items()},
    }
    return {"reduction_weight": best, "candidates": most, "threshold": threshold}, record


def _config(
    recipe: FalsePositiveRecipe, arguments: dict, cases: Sequence[VolumeCase], crops: BoxCrops, detector, measured: dict
) -> dict[str, Any]:
    from ..evaluation.volume_data import described

    shown = int(crops.positive.sum())
    return {
        "id": f"false-positive-reduction-{recipe.configuration}",
        "task": "false-positive-reduction",
        "version": "1.0.0",
        "network": "lesion_classifier.LesionClassifier",
        "arguments": json.loads(json.dumps(arguments)),
        "preprocessing": {
            "dimension": 3,
            "shape": list(recipe.shape),
            "margin": recipe.margin,
            "intensity": "standardised within the crop, 8-bit levels",
        },
        "postprocessing": {},
        "trained_on": f"{shown} crops with a lesion and {len(crops) - shown} false positives of {detector.entry.id} in "
        f"{described(cases)} (split train)",
        "licence": "unspecified",
        "measured": {"validation, candidates": measured},
        "recipe": json.loads(json.dumps(asdict(recipe))),
    }


# ----------------------------------------------------------------------------------------------------------------- command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_volume_data_arguments(parser, FalsePositiveRecipe.seed)
    add_schedule_arguments(parser, FalsePositiveRecipe, names=_SCHEDULE)
    add_configuration_argument(parser)
    parser.add_argument(
        "--detector",
        default="",
        metavar="ID|DIR",
        help="the detection model whose candidates are looked at (default: the one that ships)",
    )
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="where cut-out candidates are kept (default: cache in --output)"
    )


def recipe_of(args: argparse.Namespace) -> FalsePositiveRecipe:
    """The recipe with what the command line says otherwise. Raises `UsageError`."""
    return replace(
        FalsePositiveRecipe(configuration=args.configuration), seed=args.seed, **schedule_of(args, _SCHEDULE)
    )


def main(args: argparse.Namespace) -> int:
    folder = train(
        args.data,
        args.output,
        args.detector,
        recipe_of(args),
        cache=args.cache,
        spacing_mm=args.spacing,
        resume=not args.restart,
        device=args.device,
    )
    print(f"The model is in {folder}; measure it with: breastusai evaluate detect --reducer {folder} --model DETECTOR")
    return 0
