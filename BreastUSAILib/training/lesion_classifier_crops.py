"""Crops about lesions as the second stage learns from them, and its training run.

A crop larger than the network's waits in memory; each time it is seen, another part of it is taken, shifted and stretched as far as a
detected box is from the true one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from ..lesion_classification import classifier_input, crop_extent
from ..phantom.spec import DESCRIPTORS
from .descriptor_heads import UNKNOWN, WithDescriptors, descriptor_loss
from .detection_crops import generator_of, vary_intensities
from .learner import Learner
from .parallel import Team

if TYPE_CHECKING:
    from torch import nn

    from ..networks.lesion_classifier import LesionClassifier
    from .lesion_classifier import LesionClassifierRecipe

CHECKPOINT = "checkpoint.pt"


def waiting_shape(recipe: LesionClassifierRecipe) -> tuple[int, ...]:
    """(z, y, x) voxels of a crop that waits."""
    return tuple(round(n * recipe.spare) for n in recipe.shape)


class LesionRow(NamedTuple):
    """One lesion of `LesionCrops`."""

    crop: np.ndarray
    size: tuple[float, ...]
    malignant: bool
    told: float
    descriptors: tuple[int, ...]


@dataclass(frozen=True)
class LesionCrops:
    """`crops` (n, z, y, x) uint8, larger than the network's; `sizes` (n, 3) of their boxes, mm along x, y, z; `malignant` (n,) 0 or 1; `told`
    (n,) 0 to 1, the probability of malignancy that is learnt; `descriptors` (n, 7) int64, `descriptor_heads.codes`."""

    crops: torch.Tensor
    sizes: torch.Tensor
    malignant: torch.Tensor
    told: torch.Tensor
    descriptors: torch.Tensor

    @classmethod
    def of(cls, rows: list[LesionRow], recipe: LesionClassifierRecipe) -> LesionCrops:
        """There may be none."""
        empty = torch.zeros(0, *waiting_shape(recipe), dtype=torch.uint8)
        return cls(
            torch.from_numpy(np.stack([row.crop for row in rows])) if rows else empty,
            torch.tensor([row.size for row in rows], dtype=torch.float32).reshape(-1, 3),
            torch.tensor([row.malignant for row in rows], dtype=torch.float32),
            torch.tensor([row.told for row in rows], dtype=torch.float32),
            torch.tensor([row.descriptors for row in rows], dtype=torch.int64).reshape(len(rows), len(DESCRIPTORS)),
        )

    def __len__(self) -> int:
        return len(self.malignant)

    @property
    def both_kinds(self) -> bool:
        return len(self) > 0 and 0 < float(self.malignant.mean()) < 1

    def fingerprint(self) -> str:
        content = hashlib.sha256(b"".join(t.numpy().tobytes() for t in (self.crops, self.told, self.descriptors)))
        return f"{len(self)} lesions {content.hexdigest()[:12]}"


def batch_of(
    waiting: LesionCrops,
    indices: torch.Tensor,
    recipe: LesionClassifierRecipe,
    generator: torch.Generator | None = None,
    own: slice = slice(None),
) -> tuple[torch.Tensor, torch.Tensor]:
    """Crops (n, 1, z, y, x) and what is told of their sizes (n, 3), as a detected box would give them; `generator` None: the box itself.

    own : the part of the batch that is made. Numbers are drawn for all of it: the parts of several processes are one process's batch.
    """
    n, true = len(indices), waiting.sizes[indices]
    stretch, shift, mirror = torch.ones(n, 3), torch.zeros(n, 3), torch.ones(n, 3)
    if generator is not None:
        stretch = recipe.stretch ** (2 * torch.rand(n, 3, generator=generator) - 1)
        shift = recipe.shift * (2 * torch.rand(n, 3, generator=generator) - 1)
        mirror[:, [0, 2]] = torch.where(torch.rand(n, 2, generator=generator) < 0.5, -1.0, 1.0)
    there = torch.from_numpy(crop_extent(true, recipe.margin) * recipe.spare).float()
    wanted = torch.from_numpy(crop_extent(true * stretch, recipe.margin)).float()
    # Scale and shift in half sides of the crop that waits, in the order x, y, z, as `affine_grid` has them.
    matrix = torch.zeros(n, 3, 4)
    matrix[:, range(3), range(3)] = wanted / there * mirror
    matrix[:, :, 3] = 2 * shift * true / there
    sources = waiting.crops[indices[own]].float()[:, None]
    grid = F.affine_grid(matrix[own], [len(sources), 1, *recipe.shape], align_corners=False)
    parts = F.grid_sample(sources, grid, padding_mode="border", align_corners=False)
    crops = classifier_input(parts[:, 0])
    if generator is not None:
        mine = dict(zip(range(n)[own], crops[:, 0], strict=True))
        blank = torch.zeros(recipe.shape)  # in the others' place, to draw their numbers
        varied = [vary_intensities(mine.get(place, blank), generator) for place in range(n)]
        crops = torch.stack(varied[own])[:, None]
    sizes = torch.log((true * stretch).clamp_min(0.5) / 10)[own]
    return crops.contiguous(memory_format=torch.channels_last_3d), sizes


class CropRun:
    """A training run on such crops, for `learner.run_epochs`.

    Parameters
    ----------
    network : the classifier; heads for the descriptors are added where the recipe gives them weight.
    training : at least two for each process of the team.
    leave : writes the model: the network, and its figures on the validation crops.
    """

    def __init__(
        self,
        output: Path,
        recipe: LesionClassifierRecipe,
        network: LesionClassifier,
        training: LesionCrops,
        validation: LesionCrops,
        group: Team,
        leave: Callable[[nn.Module, dict[str, float]], None],
        *,
        resume: bool = True,
    ) -> None:
        self.recipe, self.training, self.validation, self.leave = recipe, training, validation, leave
        self.group = group
        taught = WithDescriptors(network) if recipe.descriptors else network
        self.learner = Learner(
            taught.to(group.device).to(memory_format=torch.channels_last_3d),
            output / CHECKPOINT,
            recipe,
            training.fingerprint(),
            group,
            resume=resume,
        )

    @property
    def average(self) -> nn.Module:
        """The averaged classifier, without the heads that serve training."""
        average = self.learner.average
        return average.classifier if isinstance(average, WithDescriptors) else average

    def _losses(self, network: nn.Module, crops: torch.Tensor, sizes: torch.Tensor, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of malignancy, and of the descriptors (0 where they are not learnt)."""
        from ..models.devices import autocast

        device = self.group.device
        with autocast(device):
            answer = network(crops.to(device), sizes.to(device))
        logits, read = answer if isinstance(network, WithDescriptors) else (answer, ())
        malignancy = F.binary_cross_entropy_with_logits(logits.float(), self.training.told[indices].to(device))
        if not read:
            return malignancy, torch.zeros_like(malignancy)
        return malignancy, descriptor_loss(read, self.training.descriptors[indices].to(device))

    def epoch(self, epoch: int) -> dict[str, Any]:
        """Train one epoch, in which each crop is seen once; returns the losses, means over all processes."""
        recipe, group, network = self.recipe, self.group, self.learner.network
        network.train()
        # All draw the same order and the same variation; each takes its part of a batch.
        generator = generator_of(recipe.seed, epoch)
        torch.manual_seed(recipe.seed + epoch + 1_000_003 * group.rank)  # dropout
        order = torch.randperm(len(self.training), generator=generator)
        # One crop alone has no statistics: a last batch with fewer than two for each process waits for the next epoch.
        batches = [indices for indices in order.split(recipe.batch) if len(indices) >= 2 * group.size]
        own = slice(group.rank, None, group.size)
        total = torch.zeros(2)
        for step, indices in enumerate(batches):
            crops, sizes = batch_of(self.training, indices, recipe, generator, own)
            malignancy, descriptors = self._losses(network, crops, sizes, indices[own])
            # The mean over the processes is to be that over the batch, of which some have a crop more than others.
            weight = len(crops) * group.size / len(indices)
            loss = weight * (malignancy + recipe.descriptors * descriptors)
            both = weight * torch.stack([malignancy, descriptors]).detach()
            total += self.learner.step(loss, both, epoch + step / len(batches)) / len(batches)
        read = isinstance(network, WithDescriptors) and bool((self.training.descriptors != UNKNOWN).any())
        told = {"loss_descriptors": float(total[1])} if read else {}
        return {"loss": float(total[0]), **told}

    def validate(self) -> dict[str, float]:
        """AUC and cross-entropy of the averaged network on the validation crops, as they are, by their pathology; and the cross-entropy
        with what is told of them, of which chance has a smaller part."""
        from ..evaluation.metrics import roc_auc

        parts = []
        with torch.inference_mode():
            for indices in torch.arange(len(self.validation)).split(self.recipe.batch):
                crops, sizes = batch_of(self.validation, indices, self.recipe)
                logits = self.average(crops.to(self.group.device), sizes.to(self.group.device))
                parts.append(logits.float().cpu())
        logits = torch.cat(parts)
        entropy = F.binary_cross_entropy_with_logits(logits, self.validation.malignant)
        auc = roc_auc(logits.numpy(), self.validation.malignant.numpy() > 0)
        told = F.binary_cross_entropy_with_logits(logits, self.validation.told)
        return {"auc": auc, "cross_entropy": float(entropy), "cross_entropy_told": float(told)}

    def save(self) -> None:
        self.leave(self.average, self.validate())
