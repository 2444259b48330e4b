"""The patches that the weakly supervised system learns from, kept on disk, so that no volume is read twice.

Of a lesion nothing is read but its centre, and nothing is kept but the patch about it (paper: 28 x 280 x 280 voxels). Of a
volume without lesions as many patches are kept as the store is asked for, at random places; or the whole volume, where
that takes less room than the patches would. Beyond the paper, volumes with lesions may be kept whole as well: what lies far from
all centres is healthy, too, healthy volumes are few, and each has one nipple and four corners.
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
from ..evaluation.heatmap_patches import Patch, cut, region_about
from ..evaluation.volume_data import VolumeCase
from ..findings import Box
from ..volume_input import network_input
from .fingerprint import fingerprint_of

_VERSION = 1  # of what is kept; another one is made anew


@dataclass(frozen=True)
class PatchStore:
    """What is kept, and where.

    Attributes
    ----------
    folder : is made. Several processes may fill it.
    spacing : mm along x, y, z of the network's grid.
    patch : (z, y, x) voxels.
    healthy : patches of a volume without lesions.
    whole : whether volumes with lesions are kept whole, too, with the centres of their lesions.
    """

    folder: Path
    spacing: tuple[float, float, float]
    patch: tuple[int, int, int]
    healthy: int
    whole: bool = False

    def name_of(self, case: VolumeCase) -> str:
        """The name under which a case's patches are kept: another one when the file, its points or the store change."""
        status = case.image.stat()
        points = [lesion.box.center for lesion in case.lesions]
        given = None if case.challenge is None else case.challenge.spacing
        file = (str(case.image.resolve()), status.st_size, status.st_mtime_ns)
        spacing = tuple(float(s) for s in self.spacing)
        facts = (_VERSION, *file, spacing, tuple(self.patch), self.healthy, points, given)
        if self.whole and points:
            facts = (*facts, "whole")
        return f"{case.source}-{case.id}-patches-{hashlib.sha256(repr(facts).encode()).hexdigest()[:12]}"

    def prepare(self, cases: Sequence[VolumeCase], progress: Callable[[float, str], None] | None = None) -> None:
        """Cut the patches of the cases that are not in the store yet.

        Raises
        ------
        DataError, ImageError, OutputError : a case cannot be read, a point lies outside of its volume, or the store cannot be written.
        """
        for number, case in enumerate(cases):
            if progress is not None:
                progress(number / len(cases), f"cutting patches of {case.id} ({number + 1} of {len(cases)})")
            name = self.name_of(case)
            if not (self.folder / f"{name}.json").is_file():
                self._cut(case, self.folder / name)

    def _cut(self, case: VolumeCase, target: Path) -> None:
        image, lesions = case.read()
        volume = network_input(image, self.spacing)
        shape = volume.levels.shape
        centres = [volume.grid_box(image, Box(lesion.box.center, (0.0, 0.0, 0.0)))[:3] for lesion in lesions]
        if any(np.any(c < 0) or np.any(c > shape) for c in centres):
            raise DataError(f"{case.image}: a lesion's centre lies outside of the volume; correct its annotation.")
        regions = [(*region_about(c, self.patch, shape), c) for c in centres]
        if not centres:
            regions = self._healthy_regions(case.id, shape)
        elif self.whole:
            regions.append(((0, 0, 0), tuple(shape), None))
        kept = []
        for number, (start, size, point) in enumerate(regions):
            content = io.BytesIO()
            np.save(content, cut(volume.levels, start, size))
            write_bytes(target.with_name(f"{target.name}-{number}.npy"), content.getvalue())
            within = None if point is None else np.subtract(point, start).round(4).tolist()
            kept.append({"start": list(start), "point": within})
            if point is None and centres:
                kept[-1]["lesions"] = np.round(centres, 4).tolist()
        # Last, as it says that the patches are there.
        record = {"name": f"{case.source}/{case.id}", "volume": list(shape), "patches": kept}
        write_text(target.with_name(f"{target.name}.json"), json.dumps(record) + "\n")

    def _healthy_regions(self, name: str, shape: Sequence[int]) -> list[tuple]:
        size = tuple(int(n) for n in np.minimum(self.patch, shape))
        if np.prod(shape) <= self.healthy * np.prod(size):
            return [((0, 0, 0), tuple(shape), None)]
        random = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()[:8]))
        starts = random.integers(0, np.subtract(shape, size) + 1, (self.healthy, 3))
        return [(tuple(start), size, None) for start in starts.tolist()]

    def load(self, cases: Sequence[VolumeCase]) -> list[Patch]:
        """The patches of these cases, mapped from disk, in their order. Raises `DataError` where the store was damaged."""
        return [patch for case in cases for patch in self._load(self.folder / self.name_of(case))]

    def _load(self, target: Path) -> list[Patch]:
        try:
            record = json.loads(target.with_name(f"{target.name}.json").read_text(encoding="utf-8"))
            patches = []
            for number, kept in enumerate(record["patches"]):
                levels = np.load(target.with_name(f"{target.name}-{number}.npy"), mmap_mode="r")
                if levels.dtype != np.uint8 or levels.ndim != 3:
                    raise ValueError(f"{levels.dtype} in {levels.ndim} dimensions")
                point = None if kept["point"] is None else tuple(kept["point"])
                lesions = tuple(map(tuple, kept.get("lesions", ())))
                where = tuple(kept["start"]), tuple(record["volume"])
                patches.append(Patch(record["name"], levels, *where, point, lesions))
            return patches
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"the patches {target} are missing or damaged ({error}); delete the cache folder, it is made again."
            ) from error


def fingerprint(patches: Sequence[Patch]) -> str:
    """A short name for a set of patches; see `fingerprint_of`."""
    return fingerprint_of(
        "patches", ((f"{p.name} {p.levels.shape} {p.start} {p.point}{p.lesions or ''}", p.levels) for p in patches)
    )
