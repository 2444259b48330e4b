"""The lesions of annotated volumes, voxel by voxel, on the grid of `detection_data`, kept beside the volumes in its cache.

A volume's file is the only one that knows its lesions' outlines; what `detection_data` keeps are boxes. Of each lesion only
the part of the grid that holds it is kept, so that five hundred volumes are a few megabytes, and lie in memory whole.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..atomic import write_bytes
from ..errors import DataError
from ..evaluation.volume_data import VolumeCase
from .detection_data import TrainingVolume, cache_name

_VERSION = 1  # of what is kept; another one is made anew


@dataclass(frozen=True)
class LesionMask:
    """`inside` (z, y, x) bool, the voxels of one lesion, of which the first is the volume's voxel `start` (z, y, x)."""

    start: tuple[int, int, int]
    inside: np.ndarray


def mask_on_grid(labels: sitk.Image, label: int, shape: Sequence[int]) -> LesionMask:
    """One lesion of a label map on a grid of `shape` (z, y, x) voxels that fills the map (`volume_input.network_input`).

    A voxel is inside where its centre is. Of a lesion between all centres the voxel at its middle is.
    """
    from scipy import ndimage

    old = np.array(labels.GetSize(), float)
    scale = old / shape[::-1]
    grid = sitk.ResampleImageFilter()
    grid.SetSize([int(n) for n in shape[::-1]])
    grid.SetOutputSpacing((np.array(labels.GetSpacing()) * scale).tolist())
    grid.SetOutputOrigin(labels.TransformContinuousIndexToPhysicalPoint(((scale - 1) / 2).tolist()))
    grid.SetOutputDirection(labels.GetDirection())
    grid.SetInterpolator(sitk.sitkNearestNeighbor)
    inside = sitk.GetArrayFromImage(grid.Execute(labels)) == label
    if not inside.any():
        voxels = np.argwhere(sitk.GetArrayViewFromImage(labels) == label)
        inside[tuple(((voxels.mean(0) + 0.5) / scale[::-1]).astype(int))] = True
    (place,) = ndimage.find_objects(inside.astype(np.uint8))
    return LesionMask(tuple(side.start for side in place), inside[place])


def prepare(
    cases: Sequence[VolumeCase],
    volumes: Sequence[TrainingVolume],
    cache: Path,
    spacing: Sequence[float],
    progress: Callable[[float, str], None] | None = None,
) -> None:
    """Prepare the masks that are not in the cache yet.

    Parameters
    ----------
    cases, volumes : the same, as they are on disk and as `detection_data.load` gives them.
    cache, spacing : see `detection_data.prepare`.

    Raises
    ------
    DataError, ImageError, OutputError : a label map cannot be read, does not fit its volume or lacks a lesion, or the cache
        cannot be written.
    """
    for number, (case, volume) in enumerate(zip(cases, volumes, strict=True)):
        if progress is not None:
            progress(number / len(cases), f"preparing the masks of {case.id} ({number + 1} of {len(cases)})")
        target = _path(case, cache, spacing)
        if not case.lesions or target.is_file():
            continue
        _, labels, lesions = case.read_labels()
        kept = {}
        for index, lesion in enumerate(lesions):
            mask = mask_on_grid(labels, lesion.label, volume.levels.shape)
            kept |= {f"start{index}": np.array(mask.start), f"inside{index}": mask.inside}
        content = io.BytesIO()
        np.savez_compressed(content, **kept)
        write_bytes(target, content.getvalue())


def load(cases: Sequence[VolumeCase], cache: Path, spacing: Sequence[float]) -> list[tuple[LesionMask, ...]]:
    """The masks of each case's lesions, in their order. Raises `DataError` where the cache was damaged."""
    return [_load(case, _path(case, cache, spacing)) for case in cases]


def _load(case: VolumeCase, path: Path) -> tuple[LesionMask, ...]:
    if not case.lesions:
        return ()
    try:
        with np.load(path) as kept:
            numbers = range(len(case.lesions))
            return tuple(LesionMask(tuple(kept[f"start{i}"].tolist()), kept[f"inside{i}"]) for i in numbers)
    except Exception as error:  # a damaged archive raises whatever its reader stumbles on
        raise DataError(
            f"{path} is missing or damaged ({error}); delete the cache folder, it is made again."
        ) from error


def _path(case: VolumeCase, cache: Path, spacing: Sequence[float]) -> Path:
    """Where a case's masks are kept: elsewhere when its volume, its label map or the preparation change."""
    source = case.labels if case.challenge is None else case.challenge.mask
    status = None if source is None or not source.is_file() else source.stat()
    facts = (_VERSION, None if status is None else (status.st_size, status.st_mtime_ns))
    return cache / f"{cache_name(case, spacing)}.masks-{hashlib.sha256(repr(facts).encode()).hexdigest()[:8]}.npz"
