"""What is kept of a phantom on disk, beside its volume and its label map: a `VolumeRecord`, as JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from .. import __version__
from ..errors import DataError
from .spec import PhantomSpec
from .truth import Descriptors, LesionTruth, Phantom

SCHEMA = "breastusai-phantom-1.0"

GENERATOR = 2
"""To be raised whenever equal seeds and settings give other voxels. 1: up to November 2026, echo patterns relative to the lesion's surroundings."""


@dataclass(frozen=True)
class VolumeRecord:
    """One phantom on disk.

    Attributes
    ----------
    name : by which it is called in the tables and its files.
    seed, split : the volume's seed and what it is for (`seeds`).
    image, labels : the files; in the JSON relative to the folder of the data set.
    size, spacing, origin : of the volume, (x, y, z); mm, LPS. In the layout of TDSC-ABUS the headers of the files say
        (1, 1, 1) and 0 instead, as the challenge's do; here stands what is true.
    lesions : exact truth of each; boxes in LPS mm after this very grid.
    settings : `spec.PhantomSpec.to_dict()`.
    facts : what was drawn for the volume: density, acquisition.
    sha256 : of the voxels of image and labels ("image", "labels"), in the order of the file: equal seeds and settings
        give equal sums on every machine.
    software : version that made it.
    generator : `GENERATOR` of that version; None: the volume is of another program's.
    """

    name: str
    seed: int
    split: str
    image: Path
    labels: Path
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    lesions: tuple[LesionTruth, ...]
    settings: dict[str, Any]
    facts: dict[str, Any]
    sha256: dict[str, str]
    software: str = __version__
    generator: int | None = GENERATOR

    def to_json(self, folder: Path) -> str:
        """The record as JSON, paths relative to `folder`."""
        values = {"schema": SCHEMA, **dataclasses.asdict(self)}
        for key in ("image", "labels"):
            values[key] = Path(values[key]).relative_to(folder).as_posix()
        return json.dumps(values, indent=1, default=_plain) + "\n"

    @classmethod
    def from_json(cls, text: str, folder: Path, source: str) -> VolumeRecord:
        """Read `to_json` back. Raises `DataError` naming `source` where the text is something else."""
        try:
            values = json.loads(text)
            if values.pop("schema") != SCHEMA:
                raise ValueError("another schema")
            values.setdefault("generator", 1)  # what was written before there was a second
            values["lesions"] = tuple(_lesion(item) for item in values["lesions"])
            for key in ("size", "spacing", "origin"):
                values[key] = tuple(values[key])
            for key in ("image", "labels"):
                values[key] = folder / values[key]
            return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{source} is no record of a phantom ({error}); make the volume again.") from error


def record_of(phantom: Phantom, name: str, split: str, spec: PhantomSpec, image: Path, labels: Path) -> VolumeRecord:
    """The record of a phantom that is written to these files."""
    return VolumeRecord(
        name=name,
        seed=phantom.seed,
        split=split,
        image=image,
        labels=labels,
        size=phantom.image.GetSize(),
        spacing=phantom.image.GetSpacing(),
        origin=phantom.image.GetOrigin(),
        lesions=tuple(phantom.lesions),
        settings=spec.to_dict(),
        facts=phantom.facts,
        sha256={"image": voxel_sum(phantom.image), "labels": voxel_sum(phantom.labels)},
    )


def voxel_sum(image: sitk.Image) -> str:
    """SHA-256 of an image's voxels, x fastest, whatever the machine's byte order (the images are uint8)."""
    return hashlib.sha256(np.ascontiguousarray(sitk.GetArrayViewFromImage(image))).hexdigest()


def read_records(folder: Path, *, leave_out_damaged: bool = False) -> list[VolumeRecord]:
    """All finished phantoms of a data set, by name.

    Raises
    ------
    DataError : a record is damaged or a file of it missing, unless these are left out.
    """
    records = []
    # A run that was killed while it wrote leaves a file with a dot in front (`atomic`), which "*" matches as well.
    for path in sorted((folder / "records").glob("[!.]*.json")):
        try:
            record = VolumeRecord.from_json(path.read_text(encoding="utf-8", errors="replace"), folder, str(path))
            for file in (record.image, record.labels):
                if not file.is_file():
                    raise DataError(f"{file} is missing; make it again with breastusai phantom.")
        except DataError:
            if leave_out_damaged:
                continue
            raise
        records.append(record)
    return records


def _lesion(values: dict[str, Any]) -> LesionTruth:
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return LesionTruth(**{**values, "descriptors": Descriptors(**values["descriptors"])})


def _plain(value: Any) -> Any:
    """What JSON does not know: numpy's numbers, records."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return value.as_posix()
    raise TypeError(f"{type(value).__name__} cannot be kept in a record")
