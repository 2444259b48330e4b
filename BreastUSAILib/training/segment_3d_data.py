"""Annotated lesions as the joint network learns from them, kept on disk between runs.

Of each lesion a patch is cut out of its volume once: larger than the crop that the network sees, so that crops can be taken from
it turned, shifted and stretched, and a little finer. Patches are mapped into memory: a thousand of them are 1.5 GB on disk.
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
from ..errors import DataError
from ..evaluation.volume_data import VolumeCase
from ..lesion_crop import CropRule, Region
from .fingerprint import fingerprint_of

_VERSION = 1  # of what is kept; another one is made anew
ZOOM = 1.35
"""A crop may be so much larger or smaller than the rule says."""
_TURN = 2**0.5  # a square turned by 45 degrees
_SHIFT = 1.1
_FINER = 0.85
_LEAST_MM = 0.35


@dataclass(frozen=True)
class LesionPatch:
    """One lesion and what lies about it.

    Attributes
    ----------
    name : data set, volume and label; `volume` is the first two, by which folds and the bootstrap are drawn.
    voxels : (2, z, y, x) uint8, mapped from disk: levels (`volume_input`) and how much of a voxel is this lesion (255: all).
        The centre of the lesion's box is in the middle. Other lesions are no part of it.
    spacing : mm, the side of a voxel.
    size : (x, y, z) mm of the lesion's box.
    malignant, volume_ml : of the lesion; `posterior` what a perfect reader would say, NaN where it is not known.
    """

    name: str
    volume: str
    voxels: np.ndarray
    spacing: float
    size: tuple[float, float, float]
    malignant: bool
    volume_ml: float
    posterior: float


def patch_shape(rule: CropRule, size: Sequence[float]) -> tuple[tuple[int, int, int], float]:
    """(z, y, x) voxels of a lesion's patch, and their side in mm."""
    crop = rule.spacing(size)
    # On a fixed grid nothing is zoomed, and what is learnt has the grid's own voxels.
    finer, zoom = (1.0, 1.0) if rule.finest == rule.coarsest else (_FINER, ZOOM)
    spacing = max(finer * crop, _LEAST_MM)
    across = max(rule.shape[0], rule.shape[2]) * (_TURN * _SHIFT * zoom)
    sides = (across, rule.shape[1] * _SHIFT * zoom, across)
    return tuple(int(np.ceil(n * crop / spacing)) for n in sides), spacing


def prepare(
    cases: Sequence[VolumeCase], cache: Path, rule: CropRule, progress: Callable[[float, str], None] | None = None
) -> None:
    """Prepare the lesions that are not in the cache yet. Several processes may fill it.

    Raises
    ------
    DataError, ImageError, OutputError : a case cannot be read, or the cache not be written.
    """
    for number, case in enumerate(cases):
        if progress is not None:
            progress(number / len(cases), f"preparing {case.id} ({number + 1} of {len(cases)})")
        target = cache / cache_name(case, rule)
        if case.lesions and not target.with_name(f"{target.name}.json").is_file():
            _prepare(case, target, rule)


def cache_name(case: VolumeCase, rule: CropRule) -> str:
    """The name under which a case is kept: another one when its files, its lesions or the preparation change."""
    files = [case.image, case.labels or (case.challenge.mask if case.challenge is not None else case.image)]
    stamps = [(str(f.resolve()), s.st_size, s.st_mtime_ns) for f in files for s in [f.stat()]]
    lesions = [(x.label, x.box.center, x.box.size, x.malignant) for x in case.lesions]
    facts = (_VERSION, stamps, lesions, rule, None if case.challenge is None else case.challenge.spacing)
    return f"{case.source}-{case.id}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:12]}"


def _prepare(case: VolumeCase, target: Path, rule: CropRule) -> None:
    image, labels, lesions = case.read_labels()
    records = []
    for lesion in lesions:
        shape, spacing = patch_shape(rule, lesion.box.size)
        region = Region.about(image, lesion.box.center, spacing, shape)
        share = region.read_share(labels, lesion.label)
        if not share.any():
            raise DataError(
                f"{case.image}: the box of lesion {lesion.label} and its mask do not meet; correct its annotation."
            )
        content = io.BytesIO()
        np.save(content, np.stack([np.rint(region.read(image)), np.rint(255 * share)]).astype(np.uint8))
        write_bytes(target.with_name(f"{target.name}-{lesion.label}.npy"), content.getvalue())
        records.append(
            {
                "label": lesion.label,
                "spacing": spacing,
                "size": list(lesion.box.size),
                "malignant": lesion.malignant,
                "volume_ml": lesion.volume_ml,
                "posterior": lesion.posterior,
            }
        )
    about = {"volume": f"{case.source}/{case.id}", "lesions": records}
    write_text(target.with_name(f"{target.name}.json"), json.dumps(about) + "\n")


def load(cases: Sequence[VolumeCase], cache: Path, rule: CropRule) -> list[LesionPatch]:
    """The prepared lesions of these cases, in their order. Raises `DataError` where the cache was damaged."""
    return [patch for case in cases if case.lesions for patch in _load(cache / cache_name(case, rule))]


def _load(target: Path) -> list[LesionPatch]:
    try:
        about = json.loads(target.with_name(f"{target.name}.json").read_text(encoding="utf-8"))
        patches = []
        for r in about["lesions"]:
            voxels = np.load(target.with_name(f"{target.name}-{r['label']}.npy"), mmap_mode="r")
            if voxels.dtype != np.uint8 or voxels.ndim != 4:
                raise ValueError(f"{voxels.dtype} in {voxels.ndim} dimensions")
            known = float("nan") if r["posterior"] is None else float(r["posterior"])
            facts = (float(r["spacing"]), tuple(r["size"]), bool(r["malignant"]), float(r["volume_ml"]), known)
            patches.append(LesionPatch(f"{about['volume']}/{r['label']}", about["volume"], voxels, *facts))
        return patches
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{target}.json or a .npy beside it is missing or damaged ({error}); delete the cache folder, it is made again."
        ) from error


def folds(cases: Sequence[VolumeCase], number: int, fold: int) -> tuple[list[VolumeCase], list[VolumeCase]]:
    """Training and held-out cases of one of `number` folds (from 0), by volume: the same on every machine and in any order.

    Volumes are dealt out in the order of a hash of their names, so that folds differ in size by one at most.
    """

    def key(case: VolumeCase) -> str:
        return hashlib.sha256(f"{case.source}/{case.id}".encode()).hexdigest()

    dealt = sorted(cases, key=key)
    held = {id(case) for case in dealt[fold::number]}
    return [c for c in cases if id(c) not in held], [c for c in cases if id(c) in held]


def fingerprint(patches: Sequence[LesionPatch]) -> str:
    """A short name for a set of lesions; see `fingerprint_of`."""
    return fingerprint_of(
        "lesions", ((f"{p.name} {p.voxels.shape} {p.spacing} {p.malignant} {p.volume_ml}", p.voxels) for p in patches)
    )
