"""The files of a data set, in the project's native layout (`BreastUSAILib.phantom.layouts`): volumes/, labels/, records/, tables.

That of TDSC-ABUS has no place for healthy volumes nor for two lesions of different nature. The records are written here by hand, after the layout's
description, so that the project's phantoms are not imported.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from BreastUSAILib.atomic import write_text
from BreastUSAILib.image import write_image

from .lesion import category
from .volume import Volume

SCHEMA = "breastusai-phantom-1.0"  # of the records' fields
SOFTWARE = "second generator 1"
SPLIT = "test"  # these volumes are for nothing else


def name_of(seed: int, index: int) -> str:
    return f"second-{seed}-{index:04d}"


def write_volume(folder: Path, seed: int, index: int, volume: Volume, settings: dict[str, Any]) -> dict[str, Any]:
    """Write a volume, its labels and, last, its record, which is returned. Raises `OutputError`."""
    name = name_of(seed, index)
    files = {"image": f"volumes/{name}.nrrd", "labels": f"labels/{name}.nrrd"}
    sums = {}
    for key, array in (("image", volume.grey), ("labels", volume.labels)):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(volume.spacing)
        image.SetOrigin([s / 2 for s in volume.spacing])
        write_image(image, folder / files[key])
        sums[key] = hashlib.sha256(np.ascontiguousarray(array)).hexdigest()
    record = {
        "schema": SCHEMA,
        "name": name,
        "seed": seed * 100_000 + index,
        "split": SPLIT,
        **files,
        "size": list(volume.grey.shape[::-1]),
        "spacing": list(volume.spacing),
        "origin": [s / 2 for s in volume.spacing],
        "lesions": [_lesion(number, lesion, volume.spacing) for number, lesion in enumerate(volume.lesions, 1)],
        "settings": settings,
        "facts": volume.facts,
        "sha256": sums,
        "software": SOFTWARE,
    }
    write_text(folder / "records" / f"{name}.json", json.dumps(record, indent=1) + "\n")
    return record


def _lesion(number: int, lesion, spacing: tuple[float, float, float]) -> dict[str, Any]:
    """A lesion as records have it: boxes in voxels (x, y, z; both ends included) and LPS mm from edge to edge."""
    order = (2, 0, 1)  # lateral, depth, slice out of depth, slice, lateral
    first = [int(lesion.start[k]) for k in order]
    extent = [int(lesion.mask.shape[k]) for k in order]
    return {
        "label": number,
        "descriptors": dict(lesion.plan.descriptors),
        "malignant": lesion.plan.malignant,
        "posterior": round(lesion.plan.posterior, 9),
        "category": category(lesion.plan.posterior),
        "centre": [(a + n / 2) * s for a, n, s in zip(first, extent, spacing, strict=True)],
        "size": [n * s for n, s in zip(extent, spacing, strict=True)],
        "first": first,
        "last": [a + n - 1 for a, n in zip(first, extent, strict=True)],
        "volume_ml": int(lesion.mask.sum()) * float(np.prod(spacing)) / 1000,
        "contrast_db": round(lesion.contrast_db, 3),
    }


def read_record(folder: Path, seed: int, index: int) -> dict[str, Any] | None:
    """The record of a volume that an earlier run finished; None where it must be made."""
    try:
        record = json.loads((folder / "records" / f"{name_of(seed, index)}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = all((folder / record[key]).is_file() for key in ("image", "labels"))
    return record if whole else None


def others(folder: Path, seed: int, number: int) -> list[str]:
    """The names of volumes in a folder that are not of this series: the evaluations would read them, too."""
    mine = {name_of(seed, index) for index in range(number)}
    return sorted(path.stem for path in (folder / "records").glob("*.json") if path.stem not in mine)


def write_tables(folder: Path, records: list[dict[str, Any]], settings: dict[str, Any]) -> None:
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
        "about": "Synthetic ultrasound of a second generator, to measure on and never to train on; no patient.",
        "software": {"second_generator": SOFTWARE, "numpy": np.__version__},
        "layout": "native",
        "settings": [settings],
        "volumes": {SPLIT: len(records)},
        "lesions": len(lesions),
        "malignant": sum(bool(x["malignant"]) for x in lesions),
    }
    write_text(folder / "phantom.json", json.dumps(about, indent=2) + "\n")


def _csv(rows: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    if rows:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return stream.getvalue()
