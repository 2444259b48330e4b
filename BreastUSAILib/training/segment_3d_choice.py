"""What follows the joint network, chosen on validation lesions: threshold, passes, refiner, whose word on malignancy counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ..evaluation.metrics import roc_auc
from ..lesion_crop import CropRule
from ..networks.vnet import Joint, VNet
from .detection_crops import generator_of
from .segment_3d_crops import NONE, Batch, Variation, collate, draw_crop
from .segment_3d_data import LesionPatch

SMALL_ML = 1.0
THRESHOLDS = tuple(round(0.3 + 0.05 * i, 2) for i in range(9))
WEIGHTS = tuple(i / 10 for i in range(11))
DETECTED = Variation(False, False, 1.0, 0.0, 0.1, 1.15, 0.0, False)
"""What a detector's boxes are off by; otherwise as they come."""
_HELPS = 0.002  # Dice that a refiner, or further passes, must add
_LOOKS = 2  # at each lesion, off the mark in different ways
_BATCH = 8


class Seen(NamedTuple):
    """What the network says of n crops after each of several passes: `dice` (passes, thresholds, n); `malignancy` (passes, n, k) logits;
    `lesion` (n,) which patch each crop shows."""

    dice: np.ndarray
    malignancy: np.ndarray
    lesion: np.ndarray


def _said(
    network: VNet, patches: Sequence[LesionPatch], rule: CropRule, device: str, passes: int, jitter: bool
) -> Iterator[tuple[Batch, list[Joint], list[int]]]:
    """Every lesion through the network, in batches: the crops, what is said after each pass, and which lesion each crop shows.

    With its true box, or (`jitter`) twice with one that is off as a detector's is.
    """
    vary = DETECTED if jitter else NONE
    places = [(i, k) for i in range(len(patches)) for k in range(_LOOKS if jitter else 1)]
    for start in range(0, len(places), _BATCH):
        part = places[start : start + _BATCH]
        batch = collate([draw_crop(patches[i], rule, vary, generator_of(0, i, k)) for i, k in part])
        volumes = batch.volumes.to(device, memory_format=torch.channels_last_3d)
        spacings, probability, said = batch.spacings.to(device), None, []
        for _ in range(max(1, passes) if network.iterative else 1):
            with torch.inference_mode():
                said.append(network(volumes, probability, spacings))
            if said[-1].outline is not None:
                probability = torch.sigmoid(said[-1].outline.float())[:, None]
        yield batch, said, [i for i, _ in part]


def look(
    network: VNet,
    patches: Sequence[LesionPatch],
    rule: CropRule,
    device: str,
    *,
    most_passes: int = 2,
    thresholds: Sequence[float] = (0.5,),
    jitter: bool = False,
) -> Seen:
    """What the network says of every lesion, compared with the truth; `jitter` as in `_said`."""
    dice, malignancy, lesion = [], [], []
    for batch, said, shown in _said(network, patches, rule, device, most_passes, jitter):
        lesion += shown
        malignancy.append(torch.stack([s.malignancy.float().cpu() for s in said]).numpy())
        rows = np.full((len(said), len(thresholds), len(shown)), np.nan)
        for step, one in enumerate(said):
            if one.outline is not None:
                inside = torch.sigmoid(one.outline.float()).cpu()
                rows[step] = [_dice(inside > threshold, batch.outlines).numpy() for threshold in thresholds]
        dice.append(rows)
    return Seen(np.concatenate(dice, axis=2), np.concatenate(malignancy, axis=1), np.array(lesion))


def _dice(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Dice (n,) of masks (n, z, y, x) bool."""
    common = (found & truth).flatten(1).sum(1)
    return 2 * common / (found.flatten(1).sum(1) + truth.flatten(1).sum(1)).clamp_min(1)


def refined(
    network: VNet, patches: Sequence[LesionPatch], rule: CropRule, device: str, passes: int, threshold: float
) -> dict[str, float]:
    """Mean Dice without and with 3D Chan-Vese after the network, on boxes that are off as a detector's are."""
    from ..refinement_3d import largest_component, refine_3d

    before, after = [], []
    for batch, said, _ in _said(network, patches, rule, device, passes, jitter=True):
        pairs = []
        maps = torch.sigmoid(said[-1].outline.float()).cpu().numpy()
        for probability, volume, spacing in zip(maps, batch.volumes, batch.spacings, strict=True):
            sides = (float(spacing),) * 3
            # What the refiner starts from, so that nothing but its own work is compared.
            start = largest_component(probability > threshold, sides)
            result = refine_3d(probability, volume[0].numpy(), sides, threshold=threshold, mask=start)
            pairs.append(torch.from_numpy(np.stack([start, np.asarray(result.mask, bool)])))
        masks = torch.stack(pairs, dim=1)
        before += _dice(masks[0], batch.outlines).tolist()
        after += _dice(masks[1], batch.outlines).tolist()
    return {"without": float(np.mean(before)), "with": float(np.mean(after))}


def figures(patches: Sequence[LesionPatch], seen: Seen) -> dict[str, float]:
    """Figures after the last pass at the first threshold; those that are not defined are left out."""
    volume = np.array([p.volume_ml for p in patches])[seen.lesion]
    malignant = np.array([p.malignant for p in patches])[seen.lesion]
    scores, small = seen.dice[-1, 0], volume <= SMALL_ML
    found = {"dice": float(scores.mean())}
    if small.any() and not small.all():
        found |= {"dice_small": float(scores[small].mean()), "dice_large": float(scores[~small].mean())}
    for k in range(seen.malignancy.shape[2]):
        found[f"auc_{k + 1}"] = roc_auc(seen.malignancy[-1, :, k], malignant)
    return {name: value for name, value in found.items() if np.isfinite(value)}


def choose(
    network: VNet,
    patches: Sequence[LesionPatch],
    rule: CropRule,
    device: str,
    trained_passes: int,
    fixed: bool = False,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The choices for the model's `postprocessing`, and the table of what was tried, on boxes that are off as a detector's are.

    Threshold and number of passes by the mean Dice; more passes than the fewest that come within 0.002 of the best are
    not worth their time; with `fixed`, as published, it is as many as were taught. The refiner is used where it adds 0.002. The weights of the opinions on
    malignancy by the AUC of their mean logit, the most even ones where several are as good; the point from which a lesion is called
    malignant by the largest sensitivity + specificity (Youden).
    """
    passes = max(trained_passes, 4) if network.iterative else 1
    seen = look(network, patches, rule, device, most_passes=passes, thresholds=THRESHOLDS, jitter=True)
    choice: dict[str, Any] = {"threshold": 0.5, "iterations": trained_passes}
    record: dict[str, Any] = {"lesions": len(patches), "crops": len(seen.lesion)}
    if network.segmentation:
        mean = seen.dice.mean(2)
        best = mean.max(1)
        step = int(np.flatnonzero(best >= best.max() - _HELPS)[0])
        if fixed:
            step = max(trained_passes, 1) - 1
        choice |= {
            "threshold": THRESHOLDS[int(mean[step].argmax())],
            "iterations": (trained_passes if fixed else step + 1) if network.iterative else 0,
        }
        record["dice"] = {
            f"{i + 1} passes": dict(zip(map(str, THRESHOLDS), row.tolist(), strict=True)) for i, row in enumerate(mean)
        }
        record["refiner"] = refined(network, patches, rule, device, choice["iterations"], choice["threshold"])
        if record["refiner"]["with"] >= record["refiner"]["without"] + _HELPS:
            choice["refiner"] = {}
    step = min(max(choice["iterations"], 1), len(seen.malignancy)) - 1
    malignant = np.array([p.malignant for p in patches])[seen.lesion]
    logits = seen.malignancy[step].astype(float)
    if logits.shape[1] and 0 < malignant.mean() < 1:
        weights = [(1.0,)] if logits.shape[1] == 1 else [(w, 1 - w) for w in WEIGHTS]
        aucs = [roc_auc(logits @ np.array(w), malignant) for w in weights]
        order = sorted(range(len(weights)), key=lambda i: (-round(aucs[i], 3), abs(weights[i][0] - 0.5)))
        chosen = weights[order[0]]
        probability = 1 / (1 + np.exp(-(logits @ np.array(chosen))))
        choice |= {"opinions": [round(v, 2) for v in chosen], "malignant_from": _youden(probability, malignant)}
        record["auc"] = {" : ".join(f"{v:g}" for v in w): a for w, a in zip(weights, aucs, strict=True)}
        known = np.array([p.posterior for p in patches])[seen.lesion]
        if np.isfinite(known).all():
            record["best_possible_auc"] = roc_auc(known, malignant)
    return choice, record


def _youden(probability: np.ndarray, malignant: np.ndarray) -> float:
    """The threshold with the largest sensitivity + specificity, midway to the next lower probability."""
    values = np.unique(probability)
    right = [(probability[malignant] >= v).mean() + (probability[~malignant] < v).mean() for v in values]
    i = int(np.argmax(right))
    lower = values[i - 1] if i else 0.0
    return float(np.clip((values[i] + lower) / 2, 0.01, 0.99))
