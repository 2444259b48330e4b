"""The recipe of the second stage: ``breastusai train lesion-classifier --data DIR --output DIR``.

A crop about each lesion, larger than the network's, is kept in memory; each time it is seen, another part of it is taken, shifted and
stretched as far as a detected box is from the true one. With ``--detector`` the weight between the two opinions is
chosen on what that detector finds in the validation volumes, and recorded.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atomic import output_error, write_text
from ..errors import DataError, UsageError
from .command_line import add_configuration_argument, add_schedule_arguments, add_volume_data_arguments, schedule_of

if TYPE_CHECKING:
    from ..evaluation.volume_data import VolumeCase
    from ..models.zoo import LoadedModel

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
    epochs, batch, rate, weight_decay, decay : as in `detect.DetectRecipe`; an epoch sees every lesion once.
    seed : fixes initial weights, order and variation.
    """

    configuration: str = "compact"
    shape: tuple[int, int, int] = (48, 40, 48)
    margin: float = 1.8
    spare: float = 1.5
    shift: float = 0.1
    stretch: float = 1.2
    epochs: int = 16
    batch: int = 16
    rate: float = 2e-3
    weight_decay: float = 0.05
    decay: float = 0.99
    seed: int = 1


def build_network(configuration: str):
    """A fresh LesionClassifier of a named configuration, and its arguments."""
    from .configurations import build

    return build("lesion_classifier", "LesionClassifier", configuration)


class _Lesions:
    """The lesions of some cases: `crops` (n, z, y, x) uint8, larger than the network's; `sizes` (n, 3) mm along x, y, z; `malignant` (n,)."""

    def __init__(self, cases: Sequence[VolumeCase], recipe: LesionClassifierRecipe) -> None:
        import torch

        from ..lesion_classification import lesion_crop

        waiting = [round(n * recipe.spare) for n in recipe.shape]
        crops, sizes, malignant = [], [], []
        for case in cases:
            if not case.lesions:
                continue
            image, lesions = case.read()
            for lesion in lesions:
                crops.append(lesion_crop(image, lesion.box, waiting, recipe.margin, recipe.spare))
                sizes.append(lesion.box.size)
                malignant.append(lesion.malignant)
        self.crops = torch.from_numpy(np.stack(crops)) if crops else torch.zeros(0, *waiting, dtype=torch.uint8)
        self.sizes = torch.tensor(sizes, dtype=torch.float32).reshape(-1, 3)
        self.malignant = torch.tensor(malignant, dtype=torch.float32)

    def __len__(self) -> int:
        return len(self.malignant)

    @property
    def both_kinds(self) -> bool:
        return len(self) > 0 and 0 < float(self.malignant.mean()) < 1

    def fingerprint(self) -> str:
        import hashlib

        content = hashlib.sha256(self.crops.numpy().tobytes() + self.malignant.numpy().tobytes())
        return f"{len(self)} lesions {content.hexdigest()[:12]}"


def _batch(lesions: _Lesions, indices, recipe: LesionClassifierRecipe, generator=None):
    """Crops (n, 1, z, y, x) and what is told of their sizes (n, 3), as a detected box would give them; `generator` None: the true box."""
    import torch
    from torch.nn import functional as F

    from ..lesion_classification import classifier_input, crop_extent
    from .detection_crops import vary_intensities

    n, true = len(indices), lesions.sizes[indices]
    stretch, shift, mirror = torch.ones(n, 3), torch.zeros(n, 3), torch.ones(n, 3)
    if generator is not None:
        stretch = recipe.stretch ** (2 * torch.rand(n, 3, generator=generator) - 1)
        shift = recipe.shift * (2 * torch.rand(n, 3, generator=generator) - 1)
        mirror[:, [0, 2]] = torch.where(torch.rand(n, 2, generator=generator) < 0.5, -1.0, 1.0)
    waiting = torch.from_numpy(crop_extent(true, recipe.margin) * recipe.spare).float()
    wanted = torch.from_numpy(crop_extent(true * stretch, recipe.margin)).float()
    # Scale and shift in half sides of the crop that waits, in the order x, y, z, as `affine_grid` has them.
    matrix = torch.zeros(n, 3, 4)
    matrix[:, range(3), range(3)] = wanted / waiting * mirror
    matrix[:, :, 3] = 2 * shift * true / waiting
    grid = F.affine_grid(matrix, [n, 1, *recipe.shape], align_corners=False)
    parts = F.grid_sample(lesions.crops[indices].float()[:, None], grid, padding_mode="border", align_corners=False)
    crops = classifier_input(parts[:, 0])
    if generator is not None:
        crops = torch.stack([vary_intensities(crop[0], generator)[None] for crop in crops])
    return crops.contiguous(memory_format=torch.channels_last_3d), torch.log((true * stretch).clamp_min(0.5) / 10)


def train(
    data: Sequence[Path | str],
    output: Path | str,
    recipe: LesionClassifierRecipe = LesionClassifierRecipe(),
    *,
    detector: Path | str | None = None,
    spacing_mm: Sequence[float] | None = None,
    resume: bool = True,
    device: str = "auto",
) -> Path:
    """Train the lesion classifier and leave a model folder (config.json, model.safetensors, log.jsonl, checkpoint.pt) in `output`.

    A run that was killed goes on at its last finished epoch when called again.

    Parameters
    ----------
    data : data sets with the splits train and validation; see `detect.train`.
    detector : a detection model, whose findings in the validation volumes choose the weight between the two opinions; None: it stays
        at one half.

    Raises
    ------
    DataError : a data set's layout is wrong, or a split lacks benign or malignant lesions.
    UsageError, ModelError, OutputError : see `detect.train`; a detector that cannot be loaded.
    """
    import torch
    from torch.nn import functional as F

    from ..models.devices import autocast, choose_device
    from ..models.folder import CONFIG, save_model
    from ..models.zoo import load
    from .detection_crops import generator_of
    from .detection_data import read_split
    from .loop import ExponentialAverage, Journal, cosine_rate, load_checkpoint, save_checkpoint

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("the lesion classifier trains in one process, in minutes; start it without torchrun.")
    judge = None if detector is None else load(detector, "detect", device)
    device = choose_device(device).name
    output = Path(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(output, error) from error
    cases = {split: read_split(data, split, spacing_mm) for split in ("train", "validation")}
    training, validation = (_Lesions(cases[split], recipe) for split in cases)
    for name, lesions in (("train", training), ("validation", validation)):
        if not lesions.both_kinds:
            raise DataError(
                f"the split {name} of {', '.join(map(str, data))} needs benign and malignant lesions; make more volumes."
            )

    checkpoint_path = output / "checkpoint.pt"
    settings = f"{recipe!r} on {training.fingerprint()}"
    state = load_checkpoint(checkpoint_path) if resume else None
    if state is not None and state["recipe"] != settings:
        raise UsageError(
            f"{checkpoint_path} belongs to another recipe or other data; choose another --output or delete it."
        )

    torch.manual_seed(recipe.seed)
    network, arguments = build_network(recipe.configuration)
    network = network.to(device).to(memory_format=torch.channels_last_3d)
    average = ExponentialAverage(network, recipe.decay)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay)
    first = 0
    if state is not None:
        network.load_state_dict(state["network"])
        average.network.load_state_dict(state["average"])
        average.steps = state["steps"]
        optimiser.load_state_dict(state["optimiser"])
        first = state["epoch"] + 1
        print(f"resuming after epoch {first} of {recipe.epochs}", flush=True)

    journal = Journal(output)
    for epoch in range(first, recipe.epochs):
        network.train()
        generator = generator_of(recipe.seed, epoch)
        torch.manual_seed(recipe.seed + epoch)  # dropout
        # A last batch of one has no statistics; it waits for the next epoch.
        order = torch.randperm(len(training), generator=generator)
        batches = [indices for indices in order.split(recipe.batch) if len(indices) > 1 or len(order) == 1]
        total = 0.0
        for step, indices in enumerate(batches):
            rate = cosine_rate((epoch + step / len(batches)) / recipe.epochs, recipe.rate)
            for group in optimiser.param_groups:
                group["lr"] = rate
            crops, sizes = _batch(training, indices, recipe, generator)
            with autocast(device):
                logits = network(crops.to(device), sizes.to(device)).float()
            loss = F.binary_cross_entropy_with_logits(logits, training.malignant[indices].to(device))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            average.update(network)
            total += float(loss.detach()) / len(batches)
        auc, entropy = _validate(average.network, validation, recipe, device)
        if epoch + 1 == recipe.epochs:
            config = _config(recipe, arguments, cases["train"], len(training), {"auc": auc, "cross_entropy": entropy})
            save_model(output, average.network, config)
        journal.write(epoch=epoch + 1, of=recipe.epochs, loss=total, auc=auc, cross_entropy=entropy)
        save_checkpoint(
            checkpoint_path,
            recipe=settings,
            epoch=epoch,
            network=network.state_dict(),
            average=average.network.state_dict(),
            steps=average.steps,
            optimiser=optimiser.state_dict(),
        )
    if judge is not None:
        weight, tried = choose_weight(cases["validation"], judge, load(output, "lesion-classifier", device))
        config = json.loads((output / CONFIG).read_text(encoding="utf-8"))
        config["postprocessing"] |= {"detection_weight": weight, "detector": judge.entry.id}
        write_text(output / "postprocessing.json", json.dumps(tried, indent=2) + "\n")
        write_text(output / CONFIG, json.dumps(config, indent=2) + "\n")
    return output


def _validate(network, lesions: _Lesions, recipe: LesionClassifierRecipe, device: str) -> tuple[float, float]:
    """AUC and cross-entropy on the true boxes."""
    import torch
    from torch.nn import functional as F

    from ..evaluation.metrics import roc_auc

    parts = []
    with torch.inference_mode():
        for indices in torch.arange(len(lesions)).split(recipe.batch):
            crops, sizes = _batch(lesions, indices, recipe)
            parts.append(network(crops.to(device), sizes.to(device)).float().cpu())
    logits = torch.cat(parts)
    entropy = F.binary_cross_entropy_with_logits(logits, lesions.malignant)
    return roc_auc(logits.numpy(), lesions.malignant.numpy() > 0), float(entropy)


def choose_weight(
    cases: Sequence[VolumeCase], detector: LoadedModel, classifier: LoadedModel
) -> tuple[float, dict[str, Any]]:
    """The weight of the detection network's opinion with the highest AUC on the lesions that it finds, and what was tried.

    Each lesion is judged by the surest finding that overlaps it; lesions that are not found say nothing. Of equal weights the one
    nearest to one half is taken, and one half where there is nothing to choose by.
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
                rows.append((finding.malignancy, malignancies(image, [finding.box], classifier)[0], lesion.malignant))
    truth = np.array([row[2] for row in rows], bool)
    if not len(rows) or truth.all() or not truth.any():
        return DEFAULT_WEIGHT, {"lesions": len(rows), "detection_weight": {}}
    first, second = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    tried = {weight: roc_auc(weight * first + (1 - weight) * second, truth) for weight in WEIGHTS}
    best = max(WEIGHTS, key=lambda weight: (tried[weight], -abs(weight - DEFAULT_WEIGHT)))
    return best, {"lesions": len(rows), "detection_weight": {str(k): v for k, v in tried.items()}}


def _config(recipe, arguments: dict, cases: Sequence[VolumeCase], lesions: int, measured: dict) -> dict[str, Any]:
    from ..evaluation.volume_data import described

    return {
        "id": f"lesion-classifier-{recipe.configuration}",
        "task": "lesion-classifier",
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
        "trained_on": f"{lesions} lesions of {described(cases)} (split train)",
        "licence": "unspecified",
        "measured": {"validation, true boxes": measured},
        "recipe": asdict(recipe),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_volume_data_arguments(parser, LesionClassifierRecipe.seed)
    add_schedule_arguments(parser, LesionClassifierRecipe, names=_SCHEDULE)
    add_configuration_argument(parser)
    parser.add_argument(
        "--detector", metavar="ID|DIR", help="detection model whose findings choose the weight of the two opinions"
    )


def recipe_of(args: argparse.Namespace) -> LesionClassifierRecipe:
    """The recipe with what the command line says otherwise. Raises `UsageError`."""
    return replace(
        LesionClassifierRecipe(configuration=args.configuration), seed=args.seed, **schedule_of(args, _SCHEDULE)
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
        f"The model is in {folder}; measure it with: breastusai evaluate detect --classifier {folder} --model DETECTOR"
    )
    return 0
