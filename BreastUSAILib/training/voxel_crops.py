"""The crops of `detection_crops` with the class of each of their voxels, for networks that segment.

With the same seed, grid and sizes they are the very crops that the detection network sees.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset

from .detection_crops import CropRecipe, Place, crop_at, draw_place, generator_of, lesion_weights
from .detection_data import TrainingVolume
from .lesion_masks import LesionMask


class VoxelCropSet(Dataset):
    """The crops of an epoch, `length` of them, each `volume` (1, z, y, x) float32 and `classes` (1, z, y, x) int64: 0 background,
    1 benign, 2 malignant.

    Parameters
    ----------
    volumes, masks : see `detection_data.load` and `lesion_masks.load`.
    every : 1 for whole crops, or n for every n-th slice of each, begun at one of the first n: to a network that looks at
        slices one by one, neighbours say nearly the same.

    `epoch` says which; set it before each pass.
    """

    def __init__(
        self,
        volumes: Sequence[TrainingVolume],
        masks: Sequence[Sequence[LesionMask]],
        recipe: CropRecipe,
        length: int,
        seed: int,
        every: int = 1,
    ) -> None:
        self.volumes, self.masks, self.recipe = volumes, masks, recipe
        self.length, self.seed, self.every, self.epoch = length, seed, every, 0
        self.weights, self.places = lesion_weights(volumes, recipe)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = generator_of(self.seed, self.epoch, number)
        place = draw_place(self.volumes, self.weights, self.places, self.recipe, generator)
        volume = self.volumes[place.volume]
        seen = crop_at(volume, place, self.recipe, generator).volume
        classes = classes_at(self.masks[place.volume], volume.malignant, place, self.recipe.shape)[None]
        first = int(torch.randint(self.every, (), generator=generator))
        return seen[:, first :: self.every], classes[:, first :: self.every]


def classes_at(
    masks: Sequence[LesionMask], malignant: Sequence[bool], place: Place, shape: Sequence[int]
) -> torch.Tensor:
    """The class of each voxel of a crop, (z, y, x) int64 of `shape`: 0 background, 1 benign, 2 malignant."""
    size = place.size.tolist()
    classes = torch.zeros(size, dtype=torch.uint8)
    for mask, kind in zip(masks, malignant, strict=True):
        start = np.subtract(mask.start, place.start.tolist())
        first, last = np.maximum(start, 0), np.minimum(start + mask.inside.shape, size)
        if (last <= first).any():
            continue
        here = tuple(slice(a, z) for a, z in zip(first, last, strict=True))
        there = tuple(slice(a, z) for a, z in zip(first - start, last - start, strict=True))
        classes[here][torch.from_numpy(mask.inside[there])] = 2 if kind else 1
    if tuple(size) != tuple(shape):
        classes = F.interpolate(classes[None, None], size=tuple(shape), mode="nearest-exact")[0, 0]
    return classes.flip(place.flipped).to(torch.int64)
