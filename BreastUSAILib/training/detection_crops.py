"""The crops that the detection network learns from: where they lie, and how they are varied.

A crop is drawn from a number alone (seed, epoch, place in the epoch), so that a run that was killed goes on with the crops
that it would have seen, on any number of processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset

from .. import boxes as b
from ..anchors import AnchorLabels, AnchorRule, anchor_grid, label_anchors
from ..volume_input import to_tensor
from .detection_data import TrainingVolume

_SMALL_ML = 0.3  # cm3; the limit of a small lesion
_PULSE_MM = 3.0  # as far as a pulse may smear


@dataclass(frozen=True)
class CropRecipe:
    """How crops are drawn.

    Attributes
    ----------
    shape : (z, y, x) voxels; multiples of the trunk's last scale along each axis.
    spacing : (z, y, x) mm of a voxel, as asked for: what varies intensities is about as wide on any grid.
    around : (z, y, x) voxels of a first crop, with the lesion in its middle where the volume reaches so far, within which the crop is drawn then, as
        published; None: the crop lies anywhere as long as the lesion is in it.
    lesion_share : share of the crops that are drawn about a lesion; the others lie anywhere.
    small_weight, isoechoic_weight : how often a lesion below 0.3 cm3, and one of the echo of fat, is drawn relative to others: they are
        missed first.
    shown : share of a lesion's box that must lie in the crop for it to be learnt; less is neither lesion nor background.
    zoom, stretch : the crop is magnified by a factor of up to `zoom` (or its inverse), each axis by itself by up to `stretch` more.
    vary : whether intensities are varied (`vary_intensities`), and the crop mirrored and magnified.
    shallow : share of the crops, with `vary`, whose volume ends at a lesser depth, below the lesions in it: scanners differ in how deep they look, and
        where each volume ends in the dark, what is bright at its end would be unknown.
    levelled : share of the crops, with `vary`, whose depths are brought towards one brightness and contrast: another time gain compensation.
    """

    shape: tuple[int, int, int] = (96, 48, 96)
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    around: tuple[int, int, int] | None = None
    lesion_share: float = 0.75
    small_weight: float = 2.0
    isoechoic_weight: float = 1.5
    shown: float = 0.5
    zoom: float = 1.25
    stretch: float = 1.1
    vary: bool = True
    shallow: float = 0.35
    levelled: float = 0.35


@dataclass(frozen=True)
class Crop:
    """`volume` (1, z, y, x) float32 for the network; `lesions` (m, 6) voxels of the crop; `classes` (m,) 1 benign, 2 malignant; `unsure` (k, 6)."""

    volume: torch.Tensor
    lesions: torch.Tensor
    classes: torch.Tensor
    unsure: torch.Tensor


def lesion_weights(volumes: Sequence[TrainingVolume], recipe: CropRecipe) -> tuple[torch.Tensor, torch.Tensor]:
    """How often each lesion is drawn, (n,), and to which volume and which of its lesions it belongs, (n, 2); over all volumes."""
    weights, places = [], []
    for number, volume in enumerate(volumes):
        for lesion in range(len(volume.boxes)):
            small = recipe.small_weight if volume.volume_ml[lesion] < _SMALL_ML else 1.0
            iso = recipe.isoechoic_weight if volume.isoechoic[lesion] else 1.0
            weights.append(small * iso)
            places.append((number, lesion))
    return torch.tensor(weights, dtype=torch.float64), torch.tensor(places, dtype=torch.int64).reshape(-1, 2)


class CropSet(Dataset):
    """The crops of an epoch with their anchors labelled: `length` of them, for `torch.utils.data.DataLoader`.

    `epoch` says which; set it before each pass.
    """

    def __init__(
        self,
        volumes: Sequence[TrainingVolume],
        recipe: CropRecipe,
        anchors: torch.Tensor,
        rule: AnchorRule,
        length: int,
        seed: int,
    ) -> None:
        self.volumes, self.recipe, self.anchors, self.rule = volumes, recipe, anchors, rule
        self.length, self.seed, self.epoch = length, seed, 0
        self.weights, self.places = lesion_weights(volumes, recipe)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor, AnchorLabels]:
        generator = generator_of(self.seed, self.epoch, place)
        crop = draw_crop(self.volumes, self.weights, self.places, self.recipe, generator)
        return (
            crop.volume,
            crop.lesions,
            label_anchors(self.anchors, crop.lesions, crop.classes, self.rule, crop.unsure),
        )


def collate(items):
    """A batch of `CropSet` items: volumes (N, 1, z, y, x), lists of lesions and labels."""
    volumes, lesions, labels = zip(*items, strict=True)
    return torch.stack(volumes), list(lesions), list(labels)


def crop_anchors(network, shape: Sequence[int]) -> torch.Tensor:
    """All anchors of a crop of this shape."""
    return anchor_grid([math.ceil(n / s) for n, s in zip(shape, network.scale, strict=True)], network.scale, network.anchors)


def generator_of(*numbers: int) -> torch.Generator:
    """A generator for this very combination of numbers, independent of all others."""
    words = np.random.SeedSequence(numbers).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))


@dataclass(frozen=True)
class Place:
    """Where a crop lies: `size` (3,) voxels from voxel `start` (3,) on (z, y, x; int64) of the volume of this number.

    `mirror` : along slice and lateral; nobody scans from below.
    """

    volume: int
    start: torch.Tensor
    size: torch.Tensor
    mirror: tuple[bool, bool]

    @property
    def flipped(self) -> tuple[int, ...]:
        """The axes along which the crop is mirrored."""
        return tuple(axis for flag, axis in zip(self.mirror, (0, 2), strict=True) if flag)


def draw_crop(
    volumes: Sequence[TrainingVolume],
    weights: torch.Tensor,
    places: torch.Tensor,
    recipe: CropRecipe,
    generator: torch.Generator,
) -> Crop:
    """Draw one crop; `weights` and `places` are those of `lesion_weights`."""
    place = draw_place(volumes, weights, places, recipe, generator)
    return crop_at(volumes[place.volume], place, recipe, generator)


def draw_place(
    volumes: Sequence[TrainingVolume],
    weights: torch.Tensor,
    places: torch.Tensor,
    recipe: CropRecipe,
    generator: torch.Generator,
) -> Place:
    """Draw where a crop lies; see `draw_crop`."""
    zoom, mirror = torch.ones(3, dtype=torch.float64), (False, False)
    if recipe.vary:
        common, *each = _uniform(4, generator)
        zoom = recipe.zoom**common * recipe.stretch ** torch.tensor(each, dtype=torch.float64)
        mirror = tuple((torch.rand(2, generator=generator) < 0.5).tolist())
    size = (torch.tensor(recipe.shape) / zoom).round().clamp_min(1).to(torch.int64)

    lesion = None
    if len(weights) and float(torch.rand((), generator=generator)) < recipe.lesion_share:
        number, lesion = places[int(torch.multinomial(weights, 1, generator=generator))].tolist()
    else:
        number = int(torch.randint(len(volumes), (), generator=generator))
    around = None if recipe.around is None else (torch.tensor(recipe.around) / zoom).round().to(torch.int64)
    return Place(number, _start(volumes[number], lesion, size, around, generator), size, mirror)


def crop_at(volume: TrainingVolume, place: Place, recipe: CropRecipe, generator: torch.Generator) -> Crop:
    """The crop of a volume that lies there, its intensities varied where the recipe says so."""
    levels = to_tensor(_cut(volume.levels, place.start.tolist(), place.size.tolist()))
    if tuple(place.size.tolist()) != tuple(recipe.shape):
        levels = F.interpolate(levels[None, None], size=recipe.shape, mode="trilinear", align_corners=False)[0, 0]
    levels = levels.flip(place.flipped)
    boxes = torch.from_numpy(volume.boxes) - place.start.repeat(2)
    boxes = boxes * (torch.tensor(recipe.shape) / place.size).repeat(2)
    for axis in place.flipped:
        boxes[:, [axis, axis + 3]] = recipe.shape[axis] - boxes[:, [axis + 3, axis]]
    inside = b.clip(boxes, recipe.shape)
    share = b.volumes(inside) / b.volumes(boxes).clamp_min(1e-6)
    if recipe.vary:
        if float(torch.rand((), generator=generator)) < recipe.shallow:
            levels = ended_early(levels, inside[share > 0], generator)
        if float(torch.rand((), generator=generator)) < recipe.levelled:
            levels = levelled(levels, float(torch.rand((), generator=generator)))
        levels = vary_intensities(levels, generator, recipe.spacing)

    learnt = share >= recipe.shown
    classes = torch.from_numpy(volume.malignant.astype(np.int64)) + 1
    return Crop(levels[None], inside[learnt].float(), classes[learnt], boxes[~learnt & (share > 0)].float())


def _uniform(number: int, generator: torch.Generator) -> list[float]:
    """Numbers from -1 to 1."""
    return (2 * torch.rand(number, generator=generator, dtype=torch.float64) - 1).tolist()


def _start(
    volume: TrainingVolume,
    lesion: int | None,
    source: torch.Tensor,
    around: torch.Tensor | None,
    generator: torch.Generator,
) -> torch.Tensor:
    """First voxel (z, y, x) of a crop of `source` voxels: anywhere; so that a lesion lies in it, whole where it fits; or anywhere within a first
    crop of `around` voxels about the lesion."""
    size = torch.tensor(volume.levels.shape)
    # A volume smaller than the crop lies anywhere within it, a larger one is not left.
    low, high = (size - source).clamp_max(0), (size - source).clamp_min(0)
    if lesion is not None:
        first, last = torch.from_numpy(volume.boxes[lesion]).reshape(2, 3).double()
        if around is not None:
            middle = ((first + last - around) / 2).round().to(torch.int64)
            ends = torch.stack([middle, middle + around - source])
        else:
            ends = torch.stack([(last - source).ceil(), first.floor()]).to(torch.int64)
        # A crop smaller than the lesion turns the limits round: it lies within the lesion then.
        wanted_low, wanted_high = ends.min(0).values, ends.max(0).values
        low, high = (
            torch.maximum(low, torch.minimum(wanted_low, high)),
            torch.minimum(high, torch.maximum(wanted_high, low)),
        )
    draw = torch.rand(3, generator=generator, dtype=torch.float64)
    return low + (draw * (high - low + 1)).floor().to(torch.int64)


def _cut(levels: np.ndarray, start: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """A region of a volume; its edge, repeated as the network's padding does, where it leaves the volume."""
    within = all(0 <= s and s + k <= n for n, s, k in zip(levels.shape, start, size, strict=True))
    if within:  # which does not copy
        return levels[tuple(slice(s, s + k) for s, k in zip(start, size, strict=True))]
    return levels[np.ix_(*(np.clip(np.arange(s, s + k), 0, n - 1) for n, s, k in zip(levels.shape, start, size, strict=True)))]


def ended_early(levels: torch.Tensor, boxes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A crop whose volume ends at a random depth, in the lower two fifths and below all lesions; its last depth is repeated from there on,
    as the network's padding does.

    levels : (z, y, x). boxes : (m, 6) voxels, `z1, y1, x1, z2, y2, x2`.
    """
    depth = levels.shape[1]
    lowest = max([0.6 * depth, *(min(float(box[4]) + 1, depth) for box in boxes)])
    end = int(lowest + float(torch.rand((), generator=generator)) * (depth - lowest))
    if end >= depth:
        return levels
    return torch.cat([levels[:, :end], levels[:, end - 1 : end].expand(-1, depth - end, -1)], 1)


def levelled(levels: torch.Tensor, strength: float) -> torch.Tensor:
    """(z, y, x) whose depths come nearer to the mean and the deviation of the whole, by `strength` from 0 to 1."""
    mean, deviation = levels.mean((0, 2), keepdim=True), levels.std((0, 2), keepdim=True)
    # No more than three times: where nothing is heard there is nothing but noise.
    gain = (levels.std() / deviation.clamp_min(1e-3)).clamp(max=3.0)
    return levels.lerp((levels - mean) * gain + levels.mean(), strength)


def vary_intensities(
    levels: torch.Tensor, generator: torch.Generator, spacing: Sequence[float] = (1.0, 1.0, 1.0)
) -> torch.Tensor:
    """Another scanner, another setting: contrast, tone curve, time gain, uneven brightness, sharpness, noise, shadows.

    Each is applied to a part of the crops, none to about one in twelve.

    levels : (z, y, x) float32 in standard deviations. Returns the same shape.
    spacing : (z, y, x) mm of a voxel: pulses, coarse speckle and shadows are about as wide on any grid, as far as whole voxels allow.
    """

    def chance(p: float) -> bool:
        return float(torch.rand((), generator=generator)) < p

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    shape = levels.shape
    if chance(0.3):  # a wider pulse
        levels = _smeared(levels, spacing).lerp(levels, between(0, 0.7))
    if chance(0.4):  # dynamic range
        unit = ((levels + 3) / 8).clamp(0, 1)
        levels = unit ** between(0.65, 1.5)
        levels = (levels - levels.mean()) / levels.std().clamp_min(1e-3) * between(0.8, 1.2)
    if chance(0.5):
        levels = levels * between(0.7, 1.45) + between(-0.4, 0.4)
    if chance(0.4):  # brightness that changes from place to place
        coarse = torch.randn((1, 1, 4, 3, 4), generator=generator) * between(0.1, 0.5)
        levels = levels + F.interpolate(coarse, size=shape, mode="trilinear", align_corners=True)[0, 0]
    if chance(0.3):  # time gain compensation
        levels = levels + torch.linspace(-1, 1, shape[1])[None, :, None] * between(-0.6, 0.6)
    if chance(0.25):  # a shadow from some depth on
        levels = levels - _shadow(shape, between, generator, spacing)
    if chance(0.4):
        levels = levels + torch.randn(shape, generator=generator) * between(0.05, 0.4)
    if chance(0.25):  # noise as coarse as speckle at 2 mm
        half = [max(1, int(n * mm // 2)) for n, mm in zip(shape, spacing, strict=True)]
        coarse = torch.randn((1, 1, *half), generator=generator) * between(0.1, 0.5)
        levels = levels + F.interpolate(coarse, size=shape, mode="trilinear", align_corners=False)[0, 0]
    return levels


def _smeared(levels: torch.Tensor, spacing: Sequence[float]) -> torch.Tensor:
    """The mean over about `_PULSE_MM` (an odd number of voxels) along each axis, of what there is of it at the edges; shifted sums take an eighth of the time of `avg_pool3d`."""
    for axis, mm in enumerate(spacing):
        length = levels.shape[axis]
        total, count = levels.clone(), torch.ones(length)
        for shift in range(1, min(length, max(1, round(_PULSE_MM / 2 / mm - 0.5)) + 1)):
            for to, of in ((shift, 0), (0, shift)):
                total.narrow(axis, to, length - shift).add_(levels.narrow(axis, of, length - shift))
                count[to : to + length - shift] += 1
        levels = total.div_(count.reshape([-1 if a == axis else 1 for a in range(3)]))
    return levels


def _shadow(shape, between, generator: torch.Generator, spacing: Sequence[float]) -> torch.Tensor:
    """What a shadow takes away: (z, y, x), from a random place downwards, some millimetres wide."""
    centre = torch.rand(2, generator=generator) * torch.tensor([shape[0], shape[2]])
    z = (torch.arange(shape[0]) - centre[0]) * spacing[0] / between(2, 14)
    x = (torch.arange(shape[2]) - centre[1]) * spacing[2] / between(2, 14)
    across = torch.exp(-0.5 * (z[:, None] ** 2 + x[None] ** 2))
    top = between(0, 0.7) * shape[1]
    along = ((torch.arange(shape[1]) - top) * spacing[1] / between(2, 8)).clamp(0, 1)
    return across[:, None, :] * along[None, :, None] * between(0.5, 2.0)
