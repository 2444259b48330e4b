"""Patches about points, as the weakly supervised system has them, and how well a network tells those with a lesion from healthy ones.

The paper's Table 2 judges three kinds: the whole patch centred on the point (28 x 280 x 280), the smaller one in its centre
(16 x 160 x 160), and one of the smaller size at a random place within the larger. Arrays are (z, y, x): slice, depth, lateral.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .metrics import roc_auc

KINDS = ("centre-patch", "centre-crop", "random-crop")
_EDGE = 8  # a random crop keeps the point this part of its side from its edge, as 16 in 28 and 160 in 280 do


@dataclass(frozen=True)
class Patch:
    """A part of a volume on the network's grid.

    Attributes
    ----------
    name : of the volume it is from (data set and id), which is what bootstraps and folds draw.
    levels : (z, y, x) uint8; see `volume_input`.
    start : (z, y, x) voxel of the volume at which it begins.
    volume : (z, y, x) voxels of the whole volume.
    point : (z, y, x) voxels within the patch, from its edge: the centre of a lesion. None where nothing is asked of one.
    lesions : of a whole volume that is kept for what is healthy in it, the centres of its lesions, (z, y, x) voxels.
    """

    name: str
    levels: np.ndarray = field(repr=False)
    start: tuple[int, int, int]
    volume: tuple[int, int, int]
    point: tuple[float, float, float] | None = None
    lesions: tuple[tuple[float, float, float], ...] = ()


def region_about(
    point: Sequence[float], shape: Sequence[int], volume: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where a patch of `shape` about a point lies: first voxel and size, both (3,).

    Where it would leave the volume it is moved into it, and where it is larger than the volume it is cut to it: padding would stand in
    patches about lesions alone, and tell what they are.
    """
    size = np.minimum(shape, volume)
    start = np.clip(np.rint(np.asarray(point, float) - size / 2), 0, np.asarray(volume) - size).astype(int)
    return tuple(start.tolist()), tuple(int(n) for n in size)


def limits_of_start(patch: Patch, size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last voxel (3,) at which a crop of `size` voxels may begin in a patch, so that it shows the point."""
    last = np.asarray(patch.levels.shape) - size
    if patch.point is None:
        return np.zeros(3, int), last
    edge = np.asarray(size) // _EDGE
    low = np.clip(np.ceil(np.asarray(patch.point) - size + edge), 0, last).astype(int)
    high = np.clip(np.floor(np.asarray(patch.point) - edge), low, last).astype(int)
    return low, high


def cut(levels: np.ndarray, start: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """The part of an array that begins at `start` and has `size` voxels, all of them within it."""
    return np.asarray(levels[tuple(slice(int(a), int(a) + int(n)) for a, n in zip(start, size, strict=True))])


def of_kind(patch: Patch, kind: str, crop: Sequence[int], random: np.random.Generator) -> np.ndarray:
    """(z, y, x) uint8: what of a patch one of `KINDS` looks at."""
    if kind == "centre-patch":
        return np.asarray(patch.levels)
    size = np.minimum(crop, patch.levels.shape)
    if kind == "random-crop":
        low, high = limits_of_start(patch, size)
        start = random.integers(low, high + 1)
    else:
        # About the point itself, which is not the patch's middle where the volume's edge moved the patch.
        middle = np.divide(patch.levels.shape, 2) if patch.point is None else patch.point
        start, _ = region_about(middle, size, patch.levels.shape)
    return cut(patch.levels, start, size)


def healthy_patches(
    patches: Sequence[Patch], number: int, shape: Sequence[int], random: np.random.Generator
) -> list[Patch]:
    """So many patches of `shape` from random places of healthy volumes, each volume as often as the others."""
    order = [patches[i] for i in random.permutation(len(patches))]
    chosen = []
    for count in range(number):
        source = order[count % len(order)]
        size = np.minimum(shape, source.levels.shape)
        start = random.integers(0, np.asarray(source.levels.shape) - size + 1)
        begin = tuple(int(a + b) for a, b in zip(source.start, start, strict=True))
        # A copy, so that the volume need not stay.
        chosen.append(Patch(source.name, cut(source.levels, start, size).copy(), begin, source.volume))
    return chosen


@dataclass(frozen=True)
class PatchAnswers:
    """What a network says of patches of one kind: `probability` (n,), whether they show a `lesion` (n,) bool, and the `volumes` (n,) they are from."""

    probability: np.ndarray
    lesion: np.ndarray
    volumes: tuple[str, ...]

    def figures(self, weights: np.ndarray | None = None) -> dict[str, float]:
        """AUC, and accuracy at 0.5; `weights` (n,) says how often each patch counts."""
        weights = np.ones(len(self.lesion)) if weights is None else weights
        right = (self.probability >= 0.5) == self.lesion
        total = weights.sum()
        return {
            "auc": roc_auc(self.probability, self.lesion, weights),
            "accuracy": float(weights @ right / total) if total else float("nan"),
        }


def ask(
    judge: Callable[[np.ndarray], float],
    patches: Sequence[Patch],
    patch: Sequence[int],
    crop: Sequence[int],
    seed: int = 0,
    kinds: Sequence[str] = KINDS,
) -> dict[str, PatchAnswers]:
    """What a network says of patches about points and of as many from healthy volumes, by kind.

    Parameters
    ----------
    judge : from levels (z, y, x) uint8 to the probability of a lesion.
    patches : about points, and from healthy volumes (whole volumes or parts, at least as large as `patch`).
    patch, crop : (z, y, x) voxels of the larger and the smaller.
    seed : of the random places; the same places whatever the network.
    """
    random = np.random.default_rng(seed)
    shown = [p for p in patches if p.point is not None]
    healthy = [p for p in patches if p.point is None]
    chosen = shown + healthy_patches(healthy, len(shown), patch, random)
    lesion = np.array([p.point is not None for p in chosen], bool)
    names = tuple(p.name for p in chosen)
    return {
        kind: PatchAnswers(np.array([judge(of_kind(p, kind, crop, random)) for p in chosen], float), lesion, names)
        for kind in kinds
    }
