"""Annotated volumes as the detection network sees them, kept on disk between runs.

A volume of 150 x 50 x 170 mm is 1.3 MB at 1 mm, one tenth of its file and a hundredth of the time to read: five hundred
of them are prepared once, in minutes, and then mapped into memory.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..atomic import write_bytes, write_text
from ..errors import DataError, UsageError
from ..evaluation.volume_data import VolumeCase, read_volumes, with_spacing
from ..volume_input import network_input
from .fingerprint import fingerprint_of

_VERSION = 1  # of what is kept; another one is made anew
_OUTSIDE_MM = 1.0  # that a box may stand out of its volume, by rounding; or a voxel of the image, where that is more


@dataclass(frozen=True)
class TrainingVolume:
    """A volume to learn from.

    Attributes
    ----------
    name : data set and id.
    levels : (z, y, x) uint8, mapped from disk; see `volume_input`.
    spacing : mm along z, y, x.
    boxes : (m, 6) float32, (z1, y1, x1, z2, y2, x2) in voxels.
    malignant : (m,) bool.
    volume_ml : (m,) float32, cm3; NaN where it is not known.
    isoechoic : (m,) bool; False where it is not known.
    """

    name: str
    levels: np.ndarray
    spacing: tuple[float, float, float]
    boxes: np.ndarray
    malignant: np.ndarray
    volume_ml: np.ndarray
    isoechoic: np.ndarray


def read_split(folders: Sequence[Path | str], split: str, spacing_mm: Sequence[float] | None = None) -> list[VolumeCase]:
    """The cases of a split from several data sets, of which some may have none.

    Raises
    ------
    DataError : a folder is no data set, or none of them has the split; see `evaluation.volume_data.read_volumes`.
    """
    cases, refusal = [], None
    for folder, spacing in with_spacing(folders, spacing_mm):
        try:
            cases += read_volumes(folder, (split,), spacing)
        except DataError as error:
            read_volumes(folder, spacing_mm=spacing)  # a folder that has no split at all is told as it is
            refusal = error
    if not cases:
        raise refusal or DataError("no data set was given.")
    return cases


def check_once(cases: Sequence[VolumeCase]) -> None:
    """UsageError where a volume is there twice, or two have the same name: dealt out in folds, it would be learnt from and judged on."""
    seen = set()
    for case in cases:
        known = {f"{case.source}/{case.id}", case.image.resolve()}
        if known & seen:
            raise UsageError(
                f"{case.image} is there twice, or another volume is called {case.source}/{case.id}, too; for folds "
                "give each data set once, in folders with different names."
            )
        seen |= known


def cache_name(case: VolumeCase, spacing: Sequence[float]) -> str:
    """The name under which a prepared volume is kept: another one when the file, its lesions or the preparation change."""
    status = case.image.stat()
    lesions = [(lesion.box.center, lesion.box.size, lesion.malignant) for lesion in case.lesions]
    given = None
    if case.challenge is not None:
        mask = case.challenge.mask.stat()  # the lesion's volume is counted in it
        given = (case.challenge.spacing, mask.st_size, mask.st_mtime_ns)
    facts = (_VERSION, str(case.image.resolve()), status.st_size, status.st_mtime_ns, tuple(float(s) for s in spacing), lesions, given)
    return f"{case.source}-{case.id}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:12]}"


def prepare(
    cases: Sequence[VolumeCase],
    cache: Path,
    spacing: Sequence[float],
    progress: Callable[[float, str], None] | None = None,
) -> None:
    """Prepare the volumes that are not in the cache yet.

    Parameters
    ----------
    cache : folder; is made. Several processes may fill it.
    spacing : mm along x, y, z.

    Raises
    ------
    DataError, ImageError, OutputError : a case cannot be read, or the cache not be written.
    """
    for number, case in enumerate(cases):
        if progress is not None:
            progress(number / len(cases), f"preparing {case.id} ({number + 1} of {len(cases)})")
        name = cache_name(case, spacing)
        if not (cache / f"{name}.json").is_file():
            _prepare(case, cache / name, spacing)


def _prepare(case: VolumeCase, target: Path, spacing: Sequence[float]) -> None:
    image, lesions = case.read()
    volume = network_input(image, spacing)
    boxes = np.array([volume.grid_box(image, lesion.box) for lesion in lesions]).reshape(-1, 6)
    shape = np.tile(volume.levels.shape, 2)
    outside = np.tile(np.maximum(np.divide(_OUTSIDE_MM, volume.spacing), np.divide(1.0, volume.scale)), 2)
    if np.any(boxes < -outside) or np.any(boxes > shape + outside):
        raise DataError(
            f"{case.image}: a lesion's box lies outside the volume; correct its annotation (are the axes in the right order?)."
        )
    content = io.BytesIO()
    np.save(content, volume.levels)
    write_bytes(target.with_name(f"{target.name}.npy"), content.getvalue())
    record = {
        "name": f"{case.source}/{case.id}",
        "spacing": list(volume.spacing),
        "boxes": np.clip(boxes, 0, shape).round(4).tolist(),
        "malignant": [lesion.malignant for lesion in lesions],
        "volume_ml": [lesion.volume_ml for lesion in lesions],
        "isoechoic": [lesion.descriptors.get("echo_pattern") == "isoechoic" for lesion in lesions],
    }
    write_text(target.with_name(f"{target.name}.json"), json.dumps(record) + "\n")


def load(cases: Sequence[VolumeCase], cache: Path, spacing: Sequence[float]) -> list[TrainingVolume]:
    """The prepared volumes of these cases, in their order. Raises `DataError` where the cache was damaged."""
    return [_load(cache / cache_name(case, spacing)) for case in cases]


def _load(target: Path) -> TrainingVolume:
    try:
        record = json.loads(target.with_name(f"{target.name}.json").read_text(encoding="utf-8"))
        levels = np.load(target.with_name(f"{target.name}.npy"), mmap_mode="r")
        boxes = np.array(record["boxes"], np.float32).reshape(-1, 6)
        volume_ml = np.array([np.nan if v is None else v for v in record["volume_ml"]], np.float32)
        flags = [np.array(record[name], bool) for name in ("malignant", "isoechoic")]
        if levels.dtype != np.uint8 or levels.ndim != 3:
            raise ValueError(f"{levels.dtype} in {levels.ndim} dimensions")
        return TrainingVolume(record["name"], levels, tuple(record["spacing"]), boxes, flags[0], volume_ml, flags[1])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{target}.npy or .json is missing or damaged ({error}); delete the cache folder, it is made again.") from error


def fingerprint(volumes: Sequence[TrainingVolume]) -> str:
    """A short name for a set of volumes and their lesions; see `fingerprint_of`."""
    return fingerprint_of(
        "volumes",
        ((f"{v.name} {v.levels.shape} {v.boxes.tolist()} {v.malignant.tolist()}", v.levels) for v in volumes),
    )
