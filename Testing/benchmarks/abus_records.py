"""The files of a generator's data set, in the project's native layout (`BreastUSAILib.phantom.layouts`): volumes/, labels/, records/, tables.

That of TDSC-ABUS has no place for healthy volumes nor for two lesions of different nature. The records are written here by hand, after the layout's
description, so that generators that are independent of the project's phantoms need not import them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from BreastUSAILib.atomic import write_text
from BreastUSAILib.image import write_image

SCHEMA = "breastusai-phantom-1.0"  # of the records' fields


def box_of(first: Sequence[int], extent: Sequence[int], spacing: Sequence[float]) -> dict[str, Any]:
    """A lesion's box as records have it: voxels (x, y, z; both ends included), and LPS mm from edge to edge.

    `first` and `extent` are voxels, `spacing` mm, (x, y, z).
    """
    return {
        "centre": [(a + n / 2) * s for a, n, s in zip(first, extent, spacing, strict=True)],
        "size": [n * s for n, s in zip(extent, spacing, strict=True)],
        "first": list(first),
        "last": [a + n - 1 for a, n in zip(first, extent, strict=True)],
    }


@dataclass(frozen=True)
class Series:
    """What the volumes of one generator have in common.

    Attributes
    ----------
    prefix : of their names.
    software : the generator with its version; volumes of another version are made anew.
    split : what they are for, "train", "validation" or "test".
    about : what they are, in a sentence for people.
    """

    prefix: str
    software: str
    split: str
    about: str

    def name_of(self, seed: int, index: int) -> str:
        return f"{self.prefix}-{seed}-{index:04d}"

    def write_volume(
        self,
        folder: Path,
        seed: int,
        index: int,
        arrays: tuple[np.ndarray, np.ndarray],
        spacing: tuple[float, float, float],
        lesions: list[dict[str, Any]],
        settings: dict[str, Any],
        facts: dict[str, Any],
    ) -> dict[str, Any]:
        """Write a volume, its labels and, last, its record, which is returned. Raises `OutputError`.

        Parameters
        ----------
        arrays : the volume and its labels, uint8 (slice, depth, lateral).
        spacing : mm (lateral, depth, slice).
        lesions : as the record has them, in the order of their labels.
        settings : of the run. `facts` are what was drawn for this volume.
        """
        name = self.name_of(seed, index)
        files = {"image": f"volumes/{name}.nrrd", "labels": f"labels/{name}.nrrd"}
        sums = {}
        for key, array in zip(files, arrays, strict=True):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing(spacing)
            image.SetOrigin([s / 2 for s in spacing])
            write_image(image, folder / files[key])
            sums[key] = hashlib.sha256(np.ascontiguousarray(array)).hexdigest()
        record = {
            "schema": SCHEMA,
            "name": name,
            "seed": seed * 100_000 + index,
            "split": self.split,
            **files,
            "size": list(arrays[0].shape[::-1]),
            "spacing": list(spacing),
            "origin": [s / 2 for s in spacing],
            "lesions": lesions,
            "settings": settings,
            "facts": facts,
            "sha256": sums,
            "software": self.software,
        }
        write_text(folder / "records" / f"{name}.json", json.dumps(record, indent=1) + "\n")
        return record

    def read_record(self, folder: Path, seed: int, index: int, settings: dict[str, Any]) -> dict[str, Any] | None:
        """The record of a volume that an earlier run with the same settings finished; None where it must be made."""
        record = _read(folder / "records" / f"{self.name_of(seed, index)}.json")
        if record is None or record["settings"] != settings or record["software"] != self.software:
            return None
        whole = all((folder / record[key]).is_file() for key in ("image", "labels"))
        return record if whole else None

    def others(self, folder: Path, seed: int, number: int) -> list[str]:
        """The names of volumes in a folder that are not of this series and split: what reads the folder would read them, too."""
        mine = {self.name_of(seed, index) for index in range(number)}
        strangers = []
        for path in (folder / "records").glob("*.json"):
            record = _read(path)
            if path.stem not in mine or (record is not None and record["split"] != self.split):
                strangers.append(path.stem)
        return sorted(strangers)

    def write_tables(self, folder: Path, records: list[dict[str, Any]], settings: dict[str, Any]) -> None:
        """labels.csv, lesions.csv and phantom.json, for people and spreadsheets. Raises `OutputError`."""
        volumes = [
            {
                **{key: r[key] for key in ("name", "split", "seed", "image", "labels")},
                "lesions": len(r["lesions"]),
                "malignant": sum(x["malignant"] for x in r["lesions"]),
                "density": r["facts"]["density"],
            }
            for r in records
        ]
        lesions = [
            {"name": r["name"], **{k: v for k, v in x.items() if not isinstance(v, list | dict)}, **x["descriptors"]}
            for r in records
            for x in r["lesions"]
        ]
        write_text(folder / "labels.csv", _csv(volumes))
        write_text(folder / "lesions.csv", _csv(lesions))
        about = {
            "schema": SCHEMA,
            "about": self.about,
            "software": {f"{self.prefix}_generator": self.software, "numpy": np.__version__},
            "layout": "native",
            "settings": [settings],
            "volumes": {self.split: len(records)},
            "lesions": len(lesions),
            "malignant": sum(bool(x["malignant"]) for x in lesions),
        }
        write_text(folder / "phantom.json", json.dumps(about, indent=2) + "\n")


def _read(path: Path) -> dict[str, Any] | None:
    """A record; None where there is none or it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _csv(rows: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    if rows:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return stream.getvalue()
