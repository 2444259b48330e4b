"""The files of a generator's data set, in the project's native layout (`BreastUSAILib.phantom.layouts`): volumes/, labels/, records/, tables.

That of TDSC-ABUS has no place for healthy volumes nor for two lesions of different nature. The records are written here by hand, after the layout's
description, so that generators that are independent of the project's phantoms need not import them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from BreastUSAILib.atomic import write_text
from BreastUSAILib.image import write_image

SCHEMA = "breastusai-phantom-1.0"  # of the records' fields


@dataclass(frozen=True)
class Volume:
    """A synthetic volume, whichever generator made it.

    Attributes
    ----------
    image, labels : uint8 (slice, depth, lateral); labels 0, and 1, 2 ... for the lesions.
    spacing_mm : (lateral, depth, slice).
    lesions : in the order of their labels, each generator's own.
    facts : what was drawn for the volume; "density" is among it.
    """

    image: np.ndarray
    labels: np.ndarray
    spacing_mm: tuple[float, float, float]
    lesions: tuple[Any, ...]
    facts: dict[str, Any]


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


def orientation_of(size: Sequence[float]) -> str:
    """The lexicon's word for how a lesion lies to the skin; `size` is that of its box, mm (lateral, depth, slice)."""
    lateral, deep, across = size
    return "not parallel" if deep > max(lateral, across) else "parallel"


def words_of_plan(plan: Any, size: Sequence[float], *, irregular: bool) -> dict[str, str]:
    """A planned lesion's BI-RADS descriptors; `size` is that of its box, mm (lateral, depth, slice). What is not irregular is round or oval."""
    regular = "round" if min(size) > 0.85 * max(size) else "oval"
    return {
        "shape": "irregular" if irregular else regular,
        "orientation": orientation_of(size),
        "margin": plan.margin,
        "echo_pattern": plan.echo,
        "posterior_features": plan.posterior,
        "calcifications": plan.calcifications,
        "halo": "present" if plan.halo_db else "absent",
    }


def lesions_by_label(volume: Volume, descriptors: Callable[[Any, list[float]], dict[str, str]]) -> list[dict[str, Any]]:
    """Lesions as records have them, their boxes and volumes those of their labels, which may be less than what was planned.

    Parameters
    ----------
    volume : its lesions have `label`, `plan.malignant`, and `contrast_db`, their echo against their surroundings before shadows and compression.
    descriptors : gives a lesion's BI-RADS descriptors in the lexicon's words, from the lesion and its box's mm (lateral, depth, slice).
    """
    return [_lesion_by_label(lesion, volume, descriptors) for lesion in volume.lesions]


def _lesion_by_label(lesion: Any, volume: Volume, descriptors: Callable[..., dict[str, str]]) -> dict[str, Any]:
    voxels = np.argwhere(volume.labels == lesion.label)[:, ::-1]  # lateral, depth, slice
    first = [int(v) for v in voxels.min(0)]
    extent = [int(v) for v in np.ptp(voxels, axis=0) + 1]
    box = box_of(first, extent, volume.spacing_mm)
    return {
        "label": lesion.label,
        "descriptors": descriptors(lesion, box["size"]),
        "malignant": lesion.plan.malignant,
        "posterior": None,  # kinds or looks are drawn, not descriptors given nature: nobody knows it
        "category": None,
        **box,
        "volume_ml": len(voxels) * float(np.prod(volume.spacing_mm)) / 1000,
        "contrast_db": round(lesion.contrast_db, 3),
    }


@dataclass(frozen=True)
class Series:
    """What the volumes of one generator and split have in common.

    Attributes
    ----------
    prefix : of their names; the generator's number in a word, such as "second".
    version : of the generator; volumes of another version are made anew.
    split : what they are for, "train", "validation" or "test".
    """

    prefix: str
    version: int
    split: str

    @property
    def software(self) -> str:
        return f"{self.prefix} generator {self.version}"

    @property
    def about(self) -> str:
        """What the volumes are, in a sentence for people: those to measure on are for nothing else, and the others never for that."""
        purpose = (
            "to measure on and never to train on" if self.split == "test" else "to train on and never to measure on"
        )
        return f"Synthetic ultrasound of a {self.prefix} generator, {purpose}; no patient."

    def name_of(self, seed: int, index: int) -> str:
        return f"{self.prefix}-{seed}-{index:04d}"

    def write_volume(
        self,
        folder: Path,
        seed: int,
        index: int,
        volume: Volume,
        lesions: list[dict[str, Any]],
        settings: dict[str, Any],
    ) -> dict[str, Any]:
        """Write a volume, its labels and, last, its record, which is returned. Raises `OutputError`.

        Parameters
        ----------
        lesions : as the record has them, in the order of their labels.
        settings : of the run.
        """
        name = self.name_of(seed, index)
        files = {"image": f"volumes/{name}.nrrd", "labels": f"labels/{name}.nrrd"}
        sums = {}
        origin = [s / 2 for s in volume.spacing_mm]
        for key, array in zip(files, (volume.image, volume.labels), strict=True):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing(volume.spacing_mm)
            image.SetOrigin(origin)
            write_image(image, folder / files[key])
            sums[key] = hashlib.sha256(np.ascontiguousarray(array)).hexdigest()
        record = {
            "schema": SCHEMA,
            "name": name,
            "seed": seed * 100_000 + index,
            "split": self.split,
            **files,
            "size": list(volume.image.shape[::-1]),
            "spacing": list(volume.spacing_mm),
            "origin": origin,
            "lesions": lesions,
            "settings": settings,
            "facts": volume.facts,
            "sha256": sums,
            "software": self.software,
            "generator": None,  # which counts the versions of the project's own phantoms
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
