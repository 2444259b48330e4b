"""The crops that the patch classifier learns from: half of them about points, half from healthy volumes and what else is healthy.

A crop is drawn from a number alone (seed, epoch, place in the epoch), as those of `detection_crops`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset

from ..errors import DataError
from ..evaluation.heatmap_patches import Patch, cut, limits_of_start
from ..volume_input import to_tensor
from .detection_crops import generator_of, vary_intensities

FAR_MM = 25.0
"""From the centre of a lesion to where no part of it is expected any more: half of 5 cm, beyond which a tumour is T3."""
_TRIES = 50


@dataclass(frozen=True)
class CropRule:
    """How crops are drawn.

    Attributes
    ----------
    shape : (z, y, x) voxels.
    zoom, stretch : a crop is magnified by a factor of up to `zoom` (or its inverse), each axis by itself by up to `stretch` more.
    vary : whether intensities are varied (`detection_crops.vary_intensities`).
    same_places : the share of healthy crops that lie where in their volume crops about points lie in theirs; the others lie anywhere
        (paper: all). Skin and muscle, of which random places show more, would otherwise speak for health; but what is never seen in a healthy
        crop may speak for a lesion.
    spacing : (z, y, x) mm of a voxel, by which it is judged how far a crop lies from lesions (`FAR_MM`), and how large what varies intensities is.
    """

    shape: tuple[int, int, int]
    zoom: float = 1.0
    stretch: float = 1.0
    vary: bool = False
    same_places: float = 0.0
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)


class CropSet(Dataset):
    """The crops of an epoch, `length` of them, each (1, z, y, x) float32, 1.0 where it shows a lesion and 0.0 where it is healthy, and
    the lesion's point, (3,) voxels (z, y, x) from the crop's edge (not a number in a healthy one).

    Mirrored along slice and lateral with probability 1/2 each (paper). `epoch` says which; set it before each pass.
    """

    def __init__(self, patches: Sequence[Patch], rule: CropRule, length: int, seed: int) -> None:
        self.shown = [p for p in patches if p.point is not None]
        volumes: dict[str, list[Patch]] = {}
        for patch in patches:
            if patch.point is None:
                volumes.setdefault(patch.name, []).append(patch)
        self.healthy = list(volumes.values())  # each volume as often as the others, of however many patches
        self.certain = [some for some in self.healthy if not any(p.lesions for p in some)]  # healthy wherever one looks
        self.rule, self.length, self.seed, self.epoch = rule, length, seed, 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        generator = generator_of(self.seed, self.epoch, number)
        random = np.random.default_rng([self.seed, self.epoch, number])
        size = self._size(random)
        patch = self.shown[random.integers(len(self.shown))]
        within = np.minimum(size, patch.levels.shape)
        low, high = limits_of_start(patch, within)
        start = random.integers(low, high + 1)
        lesion = random.random() < 0.5
        point = np.full(3, np.nan)
        if lesion:
            point = (np.asarray(patch.point) - start) * np.divide(self.rule.shape, within)
        else:
            place = None
            if random.random() < self.rule.same_places:
                place = (patch.start + start) / np.maximum(np.asarray(patch.volume) - within, 1)
            patch, start, within = self._healthy(size, place, random)
        crop = to_tensor(cut(patch.levels, start, within))
        if crop.shape != self.rule.shape:
            crop = F.interpolate(crop[None, None], size=self.rule.shape, mode="trilinear", align_corners=False)[0, 0]
        mirrored = [axis for axis in (0, 2) if random.random() < 0.5]
        crop = crop.flip(mirrored)
        point[mirrored] = np.asarray(self.rule.shape)[mirrored] - point[mirrored]
        if self.rule.vary:
            crop = vary_intensities(crop, generator, self.rule.spacing)
        return crop[None], torch.tensor(float(lesion)), torch.from_numpy(point).float()

    def _healthy(self, size: np.ndarray, place: np.ndarray | None, random: np.random.Generator):
        """A patch, and where in it a healthy crop begins and how large it is; `place` (3,) in its volume, from 0 to 1, or anywhere.

        Where volumes are small, hardly a place of those with lesions may be far from them: after some tries one without lesions is taken.
        """
        for _ in range(_TRIES):
            patch, start, within = self._drawn(self.healthy, size, place, random)
            if self._far(patch, start, within):
                return patch, start, within
        if not self.certain:
            raise DataError("no place of the volumes is far enough from their lesions; add volumes without lesions, or leave out --far.")
        return self._drawn(self.certain, size, place, random)

    @staticmethod
    def _drawn(volumes: Sequence[Sequence[Patch]], size: np.ndarray, place: np.ndarray | None, random: np.random.Generator):
        """A patch of one of these volumes, and a crop of it; see `_healthy`."""
        some = volumes[random.integers(len(volumes))]
        patch = some[random.integers(len(some))]
        within = np.minimum(size, patch.levels.shape)
        last = np.asarray(patch.levels.shape) - within
        start = random.integers(0, last + 1)
        if place is not None:
            there = place * (np.asarray(patch.volume) - within)
            start = np.clip(np.rint(there).astype(int) - patch.start, 0, last)
        return patch, start, within

    def _far(self, patch: Patch, start: np.ndarray, size: np.ndarray) -> bool:
        """Whether a crop lies far from all lesions of its volume."""
        for centre in np.asarray(patch.lesions).reshape(-1, 3):
            gap = np.maximum(0, np.maximum(start - centre, centre - start - size))
            if np.linalg.norm(gap * self.rule.spacing) < FAR_MM:
                return False
        return True

    def _size(self, random: np.random.Generator) -> np.ndarray:
        """(3,) voxels of the volume that a crop shows."""
        common, *each = random.uniform(-1, 1, 4)
        zoom = self.rule.zoom**common * self.rule.stretch ** np.array(each)
        return np.maximum(1, np.rint(self.rule.shape / zoom)).astype(int)
