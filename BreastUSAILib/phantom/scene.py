"""Lesions set into the anatomy: what the sound meets, row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .grids import PhantomGrid
from .interiors import BRIGHTEST_DB, amplitude
from .tissue import FAT
from .transmission import tissue_attenuation

if TYPE_CHECKING:
    from .anatomy import Anatomy
    from .lesion import LesionPatch

# How far around a lesion its surroundings reach, mm.
_SURROUNDINGS_MM = 4.0
# Up to the first of these fat is the measure, from the second on the surroundings: halos and desmoplastic strands are drawn with 5 dB and more.
_OF_FAT, _OF_SURROUNDINGS = amplitude(BRIGHTEST_DB), amplitude(5.0)


@dataclass(frozen=True)
class Placed:
    """A lesion's patch and where its first voxel lies in the volume: (depth, slice, lateral), outside of it perhaps."""

    patch: LesionPatch
    corner: tuple[int, int, int]

    def overlap(self, shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """The part that lies in a volume of this shape: slices of the volume, and the same of the patch."""
        ranges = [
            (max(c, 0), max(min(c + n, m), 0))
            for c, n, m in zip(self.corner, self.patch.mask.shape, shape, strict=True)
        ]
        inside = tuple(slice(low, high) for low, high in ranges)
        return inside, tuple(slice(s.start - c, s.stop - c) for s, c in zip(inside, self.corner, strict=True))


@dataclass(frozen=True)
class SceneRows:
    """Depth rows as the sound meets them; float32 (depth, slice, lateral).

    Attributes
    ----------
    echo, attenuation, specular : as in `tissue.Tissue`, with the lesions.
    extra_db : losses at the lesions' lateral edges in dB, or None where there are none.
    background : mean attenuation of the tissue, each row's, without the lesions.
    """

    echo: np.ndarray
    attenuation: np.ndarray
    specular: np.ndarray
    extra_db: np.ndarray | None
    background: tuple[float, ...]


class Scene:
    """Anatomy and lesions together.

    Attributes
    ----------
    background_echo : mean echo amplitude in and around each lesion's place.

    Parameters
    ----------
    anatomy : the breast.
    lesions : the patches; where two overlap the later one replaces the earlier.
    grid : the volume's.
    """

    def __init__(self, anatomy: Anatomy, lesions: Sequence[Placed], grid: PhantomGrid) -> None:
        self.anatomy, self.lesions, self.grid = anatomy, tuple(lesions), grid
        self.background_echo = tuple(self._surroundings(lesion) for lesion in self.lesions)

    def _surroundings(self, lesion: Placed) -> float:
        """Mean echo amplitude of the tissue in and around the lesion, from three of its rows; at least a tenth of fat's."""
        (depth, *lateral), _ = lesion.overlap(self.grid.shape)
        spacing = (self.grid.spacing[2], self.grid.spacing[0])
        around = tuple(
            slice(max(0, s.start - round(_SURROUNDINGS_MM / d)), s.stop + round(_SURROUNDINGS_MM / d))
            for s, d in zip(lateral, spacing, strict=True)
        )
        rows = sorted({depth.start + (depth.stop - depth.start) * k // 4 for k in (1, 2, 3)})
        means = [np.mean(self.anatomy.rows(row, row + 1).echo[(0, *around)], dtype=np.float64) for row in rows]
        # Rounded, as the last bit of a sum depends on the machine.
        return max(round(float(sum(means)) / len(means), 4), 0.1)

    def rows(self, first: int, last: int) -> SceneRows:
        """Depth rows from `first` up to but without `last`; the next call may overwrite them."""
        tissue = self.anatomy.rows(first, last)
        background = tuple(tissue_attenuation(row) for row in tissue.attenuation)
        maps = [tissue.echo, tissue.attenuation, tissue.specular]
        extra = None
        for lesion, background_echo in zip(self.lesions, self.background_echo, strict=True):
            (depth, *lateral), (_, *lateral_in_patch) = lesion.overlap(self.grid.shape)
            start, stop = max(first, depth.start), min(last, depth.stop)
            if start >= stop:
                continue
            if extra is None:
                maps = [m.copy() for m in maps]  # the anatomy's buffers are its own
                extra = np.zeros_like(maps[0])
            here = (slice(start - first, stop - first), *lateral)
            there = (slice(start - lesion.corner[0], stop - lesion.corner[0]), *lateral_in_patch)
            _blend(maps, here, lesion.patch, there, background_echo)
            extra[here] += lesion.patch.edge[there]
        return SceneRows(*maps, extra, background)


def absolute_echo(echo: np.ndarray, hyperechoic: bool, background_echo: float) -> np.ndarray:
    """Echo of a lesion's tissue in the anatomy's units, where subcutaneous fat is 1.

    The lexicon's echo patterns are relative to fat (ACR BI-RADS Atlas 2013, ultrasound), wherever the mass lies: a hypoechoic one is darker than
    fat in the midst of bright gland as well, and does not vanish in a lobule of fat. Where the surroundings are darker than fat they are the
    measure. Hyperechoic masses, halos and bright strands stand out of what is around them.

    Parameters
    ----------
    echo : linear amplitude as `LesionPatch.echo` has it; any shape, float32.
    hyperechoic : whether the mass itself is.
    background_echo : mean echo amplitude of the surroundings.

    Returns
    -------
    float32, the shape of `echo`; it grows with `echo` without a step.
    """
    low, high = min(background_echo, FAT.echo), max(background_echo, FAT.echo)
    if hyperechoic:
        return echo * np.float32(high)
    if high == low:
        return echo * np.float32(low)
    unit = (echo - np.float32(_OF_FAT)) * np.float32(1.0 / (_OF_SURROUNDINGS - _OF_FAT))
    np.clip(unit, np.float32(0.0), np.float32(1.0), out=unit)
    unit *= np.float32(high - low)
    unit += np.float32(low)
    unit *= echo
    return unit


def contrast_db(patch: LesionPatch, background_echo: float) -> float:
    """Mean echo amplitude in a lesion's mask against its surroundings (`Scene.background_echo`), before attenuation, dB."""
    weight = patch.weight[patch.mask]
    echo = absolute_echo(patch.echo[patch.mask], patch.hyperechoic, background_echo)
    relative = np.float32(1.0) - weight + weight * echo * np.float32(1.0 / background_echo)
    return round(20.0 * math.log10(max(float(np.mean(relative, dtype=np.float64)), 1e-3)), 2)


def _blend(
    maps: Sequence[np.ndarray], here: tuple[slice, ...], patch: LesionPatch, there: tuple[slice, ...], background: float
) -> None:
    """Replace tissue by lesion as far as the patch's weight says; reflectors of the tissue go, the lesion's are added."""
    echo, attenuation, specular = (m[here] for m in maps)
    weight = patch.weight[there]
    rest = np.float32(1.0) - weight
    echo *= rest
    echo += absolute_echo(patch.echo[there], patch.hyperechoic, background) * weight
    attenuation *= rest
    attenuation += patch.attenuation[there] * weight
    specular *= rest
    specular += patch.specular[there]
