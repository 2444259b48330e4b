"""Where a data set of phantoms keeps what: the two layouts, and their writers.

Both have, in the folder of the data set::

    phantom.json          what all of it is: settings, seed ranges, versions, counts
    lesions.csv           one row a lesion: box, volume, descriptors, posterior, category
    records/NAME.json     one volume: seed, settings, what was drawn, lesions; written last, so that it says "finished"

and beside these, `native`::

    volumes/NAME.nrrd     the volume, uint8
    labels/NAME.nrrd      0, and 1, 2 ... for the lesions
    labels.csv            one row a volume

or `tdsc-abus`, the challenge's own (`tdsc_abus`). Every file is there whole or not at all. The tables are made anew from
the records, and so are right also after a run that was killed, once the next one has ended.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from .. import __version__
from ..atomic import output_error, write_text
from ..errors import DataError, OutputError, PhantomError
from ..image import write_image
from . import seeds, tdsc_abus
from .records import GENERATOR, SCHEMA, VolumeRecord, read_records, record_of
from .spec import DESCRIPTORS, PhantomSpec
from .truth import LesionTruth, Phantom

LAYOUTS = ("native", "tdsc-abus")
RECORDS = "records"
TEMPORARY = ".tmp-"
SETTINGS, VOLUMES_TABLE, LESIONS_TABLE = "phantom.json", "labels.csv", "lesions.csv"
HONESTY = "Synthetic ultrasound, made by a computer; no patient. For research only, never for clinical use."


def volume_names(layout: str, split: str, seed: int, number: int) -> dict[str, int]:
    """Name -> volume seed of the first `number` volumes of a split.

    Native names are made of the volume's seed, so that splits and seeds can share a folder; the challenge's are its ids.

    Raises
    ------
    PhantomError : an unknown layout, split or seed, or more volumes than the split has.
    """
    if layout not in LAYOUTS:
        raise PhantomError(f"There is no layout {layout!r}; choose one of: {', '.join(LAYOUTS)}.")
    drawn = [seeds.volume_seed(split, seed, index) for index in range(number)]
    if layout == "native":
        return {f"phantom-{split}-{value:010d}": value for value in drawn}
    ids = tdsc_abus.IDS[split]
    if number > len(ids):
        raise PhantomError(
            f"TDSC-ABUS has {len(ids)} volumes for {split}, ids {ids[0]:03d} to {ids[-1]:03d}, not {number}; ask for fewer, "
            "or for the layout native."
        )
    return {f"{case_id:03d}": value for case_id, value in zip(ids, drawn, strict=False)}


def file_paths(layout: str, folder: Path, split: str, name: str) -> tuple[Path, Path, Path]:
    """Volume, label map and record of a phantom."""
    if layout == "native":
        image, labels = folder / "volumes" / f"{name}.nrrd", folder / "labels" / f"{name}.nrrd"
    else:
        image, labels = (folder / path for path in tdsc_abus.file_names(split, int(name)))
    return image, labels, folder / RECORDS / f"{name}.json"


def for_layout(layout: str, spec: PhantomSpec) -> PhantomSpec:
    """The specification with what the layout demands: exactly one lesion a volume in TDSC-ABUS.

    Its tables have one label and one box a volume, so healthy volumes and those with several lesions have no place in it:
    where the number is left open it becomes 1, and another number is refused.

    Raises
    ------
    PhantomError : another number of lesions is asked for.
    """
    if layout != "tdsc-abus":
        return spec
    if spec.lesions is None:
        return replace(spec, lesions=1)
    number = spec.lesions if isinstance(spec.lesions, int) else len(spec.lesions)
    if number != 1:
        raise PhantomError(
            f"Volumes of TDSC-ABUS have exactly one lesion, not {number}; leave the number out, or choose the layout native."
        )
    return spec


def write_phantom(
    layout: str, folder: Path, name: str, split: str, spec: PhantomSpec, phantom: Phantom, scratch: Path | None = None
) -> VolumeRecord:
    """Write a volume, its label map and, last, its record.

    Parameters
    ----------
    scratch : folder within `folder` where they are made before they are moved into place; None: one of its own. What a
        killed process leaves is there and nowhere else.

    Raises
    ------
    OutputError : a file cannot be written; an older volume of that name is then untouched or not finished.
    PhantomError : the layout wants exactly one lesion, and the phantom has another number.
    """
    image, labels, record_path = file_paths(layout, folder, split, name)
    record = record_of(phantom, name, split, spec, image, labels)
    if layout == "tdsc-abus" and len(record.lesions) != 1:
        raise PhantomError(f"The volume of seed {phantom.seed} has {len(record.lesions)} lesions; TDSC-ABUS wants one.")
    mine = scratch is None
    scratch = folder / f"{TEMPORARY}{uuid.uuid4().hex[:12]}" if scratch is None else scratch
    try:
        made = []
        for target, volume in ((image, phantom.image), (labels, phantom.labels)):
            made.append(scratch / f"{name}-{len(made)}.nrrd")
            try:
                write_image(_without_grid(volume) if layout == "tdsc-abus" else volume, made[-1])
            except OutputError as error:  # the user knows the file by its final name
                raise OutputError(str(error).replace(str(made[-1]), str(target))) from error
        try:
            # While the files of an earlier run are replaced, the volume is not finished.
            record_path.unlink(missing_ok=True)
            for source, target in zip(made, (image, labels), strict=True):
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(source, target)
        except OSError as error:
            raise output_error(error.filename2 or error.filename or folder, error) from error
        write_text(record_path, record.to_json(folder))
    finally:
        if mine:
            shutil.rmtree(scratch, ignore_errors=True)
    return record


def _without_grid(image: sitk.Image) -> sitk.Image:
    """The same voxels with the challenge's placeholder of a grid."""
    bare = sitk.Image(image)
    bare.SetSpacing((1.0, 1.0, 1.0))
    bare.SetOrigin((0.0, 0.0, 0.0))
    return bare


def finished(layout: str, folder: Path, split: str, name: str) -> VolumeRecord | None:
    """The record of a volume that is there whole; None where it must be made."""
    image, labels, path = file_paths(layout, folder, split, name)
    try:
        if image.stat().st_size and labels.stat().st_size:  # an empty file is what a full disk left
            return VolumeRecord.from_json(path.read_text(encoding="utf-8"), folder, str(path))
    except (OSError, UnicodeDecodeError, DataError):
        pass
    return None


# ------------------------------------------------------------------------------------------------------- the tables


def write_tables(layout: str, folder: Path, settings: dict[str, Any] | None = None) -> list[VolumeRecord]:
    """phantom.json and the tables of all that is finished in the folder; returns its records. Raises `OutputError`.

    `settings` are those of a run that has made nothing yet.
    """
    records = read_records(folder, leave_out_damaged=True)
    if layout == "native":
        write_text(folder / VOLUMES_TABLE, _csv([_volume_row(record, folder) for record in records]))
    else:
        for split, part in tdsc_abus.FOLDERS.items():
            ours = [record for record in records if record.split == split]
            if ours:
                for name, rows in tdsc_abus.tables(ours).items():
                    write_text(folder / part / name, _lines(rows))
    write_text(folder / LESIONS_TABLE, _csv([lesion_row(r, lesion) for r in records for lesion in r.lesions]))
    write_text(folder / SETTINGS, json.dumps(_about(layout, records, settings), indent=2) + "\n")
    return records


def read_native(folder: Path | str, splits: Sequence[str] = seeds.SPLITS) -> list[VolumeRecord]:
    """The phantoms of a data set made by ``breastusai phantom``, by name (with their truth in LPS mm and voxels).

    It reads the records, which both layouts have, not the tables, which are for people and spreadsheets.

    Raises
    ------
    DataError : the folder holds no phantoms of these splits, a record is damaged or a file missing.
    """
    records = [record for record in read_records(Path(folder)) if record.split in splits]
    if not records:
        raise DataError(f"{folder} holds no phantoms for {', '.join(splits)}; make some with breastusai phantom --split {' or '.join(splits)}.")
    return records


def layout_of(folder: Path) -> str | None:
    """The layout of the data set in a folder; None where there is none. Raises `DataError` for a damaged phantom.json."""
    try:
        about = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        return about["layout"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = f"{folder / SETTINGS} does not read as a data set of phantoms; remove it or choose another folder."
        raise DataError(text) from error


def _about(layout: str, records: Iterable[VolumeRecord], settings: dict[str, Any] | None) -> dict[str, Any]:
    records = list(records)
    different: list[dict[str, Any]] = []
    for item in [record.settings for record in records] or [settings]:
        if item is not None and item not in different:
            different.append(item)
    return {
        "schema": SCHEMA,
        "about": HONESTY,
        "software": {"breastusai": __version__},
        "generators": sorted({record.generator for record in records if record.generator is not None}) or [GENERATOR],
        "layout": layout,
        "seeds": {split: [i * seeds.RANGE, (i + 1) * seeds.RANGE - 1] for i, split in enumerate(seeds.SPLITS)},
        "settings": different,
        "volumes": {split: sum(r.split == split for r in records) for split in seeds.SPLITS},
        "lesions": sum(len(r.lesions) for r in records),
        "malignant": sum(lesion.malignant for r in records for lesion in r.lesions),
    }


def _volume_row(record: VolumeRecord, folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": record.name,
        "split": record.split,
        "seed": record.seed,
        "image": record.image.relative_to(folder).as_posix(),
        "labels": record.labels.relative_to(folder).as_posix(),
        "lesions": len(record.lesions),
        "malignant": sum(lesion.malignant for lesion in record.lesions),
    }
    for name, values in (("size", record.size), ("spacing_mm", record.spacing)):
        row |= {f"{name}_{axis}": value for axis, value in zip("xyz", values, strict=True)}
    return row | _flat(record.facts)


def lesion_row(record: VolumeRecord, lesion: LesionTruth) -> dict[str, Any]:
    """A lesion as a row of lesions.csv."""
    row: dict[str, Any] = {
        "name": record.name,
        "split": record.split,
        "seed": record.seed,
        "label": lesion.label,
        "malignant": int(lesion.malignant),
        "posterior": lesion.posterior,
        "category": lesion.category,
    }
    for name, values in (
        ("centre_mm", lesion.centre),
        ("size_mm", lesion.size),
        ("first", lesion.first),
        ("last", lesion.last),
    ):
        row |= {f"{name}_{axis}": value for axis, value in zip("xyz", values, strict=True)}
    row |= {"volume_ml": lesion.volume_ml, "contrast_db": lesion.contrast_db}
    return row | {name: getattr(lesion.descriptors, name) for name in DESCRIPTORS}


def _flat(facts: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested facts as columns: {"acquisition": {"gain_db": 1}} as acquisition_gain_db; lists are left to the records."""
    flat = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}_")
        elif not isinstance(value, list | tuple):
            flat[f"{prefix}{name}"] = value
    return flat


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    titles = list(dict.fromkeys(title for row in rows for title in row))
    return _lines([titles, *([row.get(title, "") for title in titles] for row in rows)])


def _lines(rows: Iterable[Sequence[Any]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()
