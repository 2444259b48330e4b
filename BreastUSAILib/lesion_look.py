"""What the joint network of Zhou et al. 2021 (`networks.vnet`) says of one place of a volume: N passes over a crop and its mirror images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from .lesion_crop import Region, crop_input

if TYPE_CHECKING:
    import torch

    from .models.zoo import LoadedModel
    from .segment_3d_options import Settings


@dataclass(frozen=True)
class Look:
    """What the network says of one place of a volume.

    Attributes
    ----------
    region : the voxels it was looked at in.
    probability : (z, y, x) float32, 0 to 1, of the lesion that is meant.
    deviation : (z, y, x) float32, the standard deviation of the probability between the mirror images (0 to 0.5); None for a single look.
    malignancy : probability, None where the network does not judge it.
    """

    region: Region
    probability: np.ndarray
    deviation: np.ndarray | None
    malignancy: float | None


def look(
    image: sitk.Image, centre: Sequence[float], size: Sequence[float], model: LoadedModel, settings: Settings
) -> Look:
    """Look at a box (LPS mm) of a volume; one that is too large for a crop is looked at window by window."""
    import torch

    rule = settings.rule
    region = Region.about(image, centre, rule.spacing(size), rule.canvas(size))
    # In the canvas's own mean and deviation: a window that lies all in the lesion shows it as dark as it is.
    canvas = crop_input(torch.from_numpy(region.read(image))[None])
    total, spread, weights = (np.zeros(region.shape, np.float32) for _ in range(3))
    logits, shares = [], []
    for start in product(*(_starts(n, w) for n, w in zip(region.shape, rule.shape, strict=True))):
        place = tuple(slice(a, a + n) for a, n in zip(start, rule.shape, strict=True))
        maps, logit = _answers(canvas[(..., *place)], region.spacing, model, settings)
        weight = _hat(rule.shape)
        mean = maps.mean(0)
        total[place] += weight * mean
        spread[place] += weight * maps.std(0)
        weights[place] += weight
        logits.append(logit)
        shares.append(float(mean.sum()) + 1e-6)
    malignancy = None
    if settings.opinions:
        # Of several windows, what those with more of the lesion say counts more.
        logit = float(np.average(np.array(logits) @ np.array(settings.opinions), weights=shares))
        malignancy = 1 / (1 + math.exp(-min(max(logit, -50.0), 50.0)))
    deviation = spread / weights if len(settings.flips) > 1 else None
    return Look(region, total / weights, deviation, malignancy)


def _starts(length: int, window: int) -> list[int]:
    """First voxels of windows that cover a length, each sharing half with the next."""
    if length <= window:
        return [0]
    number = math.ceil((length - window) / (window / 2)) + 1
    return [round(i * (length - window) / (number - 1)) for i in range(number)]


def _hat(shape: Sequence[int]) -> np.ndarray:
    """Weights (z, y, x) float32 of a window's voxels: most in its middle, where the network sees what is around."""
    axes = [1 - np.abs((np.arange(n) + 0.5) / n * 2 - 1) for n in shape]
    return (axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None] + 1e-3).astype(np.float32)


def _answers(
    crop: torch.Tensor, spacing: float, model: LoadedModel, settings: Settings
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (flips, z, y, x) that the mirror images of a crop (1, 1, z, y, x) give, each turned back; and the mean logits (k,) of malignancy."""
    import torch

    from .models.devices import autocast, is_out_of_memory
    from .networks.vnet import passes

    def ask(flips) -> tuple[torch.Tensor, torch.Tensor]:
        batch = torch.cat([crop.flip(f) if f else crop for f in flips])
        batch = batch.to(model.device.name, memory_format=torch.channels_last_3d)
        spacings = torch.full((len(flips),), spacing, device=batch.device)
        with torch.inference_mode(), autocast(model.device.name):
            said = passes(model.network, batch, spacings, settings.iterations)
        outline = batch.new_full(batch[:, 0].shape, -100.0) if said.outline is None else said.outline.float()
        return torch.sigmoid(outline).cpu(), said.malignancy.float().cpu()

    try:
        maps, logits = ask(settings.flips)
    except RuntimeError as error:
        if not is_out_of_memory(error) or len(settings.flips) == 1:
            raise
        parts = [ask((f,)) for f in settings.flips]  # one at a time needs a quarter of the memory
        maps, logits = (torch.cat(p) for p in zip(*parts, strict=True))
    back = [m.flip([axis - 2 for axis in f]) if f else m for m, f in zip(maps, settings.flips, strict=True)]
    return torch.stack(back).numpy(), logits.mean(0).numpy()
