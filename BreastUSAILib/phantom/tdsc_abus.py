"""The layout of TDSC-ABUS, the public ABUS challenge: its rules in one place, and a reader for real and synthetic data.

::

    {Train,Validation,Test}/DATA/DATA_xxx.nrrd     uint8; ids 000-099, 100-129, 130-199
                            MASK/MASK_xxx.nrrd     uint8, the lesion is not 0
                            labels.csv             case_id,label,data_path,mask_path     M or B; backslashes in the paths
                            bbx_labels.csv         id,c_x,c_y,c_z,len_x,len_y,len_z      voxels

Three things there mislead, and are undone here once:

- **Axes.** The files have x = lateral, y = depth, z = slice. The CSV's are the reverse (numpy's order): c_x counts slices,
  c_y depth, c_z lateral voxels. Everything that this reader returns is in the order of the files, x, y, z.
- **Boxes.** A box is c - len/2 to c + len/2 with both ends included: len is one less than the number of voxels.
- **Spacing.** The headers say (1, 1, 1), a placeholder. The challenge's is `SPACING`. A data set made here has records that
  hold its own; a header that says anything but (1, 1, 1) is believed.

Every volume has exactly one lesion; a volume without one, or with two of different nature, cannot be written in it.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from ..csv_text import one_table, other_separator, read_csv_text
from ..errors import DataError
from .records import VolumeRecord

SPACING = (0.2, 0.073, 0.475674)  # mm, lateral, depth, slice
# Split -> its folder and its case ids.
FOLDERS = {"train": "Train", "validation": "Validation", "test": "Test"}
IDS = {"train": range(0, 100), "validation": range(100, 130), "test": range(130, 200)}
LABELS, BOXES = "labels.csv", "bbx_labels.csv"
LABEL_COLUMNS = ("case_id", "label", "data_path", "mask_path")
BOX_COLUMNS = ("id", "c_x", "c_y", "c_z", "len_x", "len_y", "len_z")

Voxel = tuple[int, int, int]


@dataclass(frozen=True)
class TdscCase:
    """One volume of the challenge, or of a data set in its layout.

    Attributes
    ----------
    case_id, split : the number in its files' names; "train", "validation" or "test".
    malignant : M, not B.
    image, mask : the files.
    size : voxels along x (lateral), y (depth), z (slice).
    spacing : true spacing along x, y, z, mm.
    first, last : first and last voxel (x, y, z) of the lesion's box, both included.
    """

    case_id: int
    split: str
    malignant: bool
    image: Path
    mask: Path
    size: Voxel
    spacing: tuple[float, float, float]
    first: Voxel
    last: Voxel

    @property
    def centre_mm(self) -> tuple[float, float, float]:
        """Centre of the box along x, y, z, as `read` places the volume: the first voxel's corner is at 0."""
        return tuple((a + b + 1) / 2 * s for a, b, s in zip(self.first, self.last, self.spacing, strict=True))

    @property
    def size_mm(self) -> tuple[float, float, float]:
        """Size of the box along x, y, z, from voxel edge to voxel edge."""
        return tuple((b - a + 1) * s for a, b, s in zip(self.first, self.last, self.spacing, strict=True))

    def read(self) -> tuple[sitk.Image, sitk.Image]:
        """Volume and mask (uint8, 0 or 1) with their true spacing. Raises `ImageError`, `DataError`."""
        from ..image import read_image

        image = read_image(self.image, spacing_mm=self.spacing).image
        mask = read_image(self.mask, spacing_mm=self.spacing, allow_constant=True).image
        if mask.GetSize() != image.GetSize():
            raise DataError(f"{self.mask} has {mask.GetSize()} voxels, its volume {image.GetSize()}; copy both again.")
        mask = sitk.Cast(mask > 0, sitk.sitkUInt8)
        for volume in (image, mask):
            volume.SetOrigin([s / 2 for s in self.spacing])
            volume.SetDirection(sitk.Image(1, 1, 1, sitk.sitkUInt8).GetDirection())
        return image, mask


def box_to_row(first: Sequence[int], last: Sequence[int]) -> tuple[float, ...]:
    """First and last voxel (x, y, z) as c_x, c_y, c_z, len_x, len_y, len_z of bbx_labels.csv.

    >>> box_to_row((163, 58, 153), (465, 426, 225))  # the challenge's case 100
    (189.0, 242.0, 314.0, 72, 368, 302)
    """
    backwards = tuple(zip(first, last, strict=True))[::-1]
    return (*((a + b) / 2 for a, b in backwards), *(b - a for a, b in backwards))


def row_to_box(centre: Sequence[float], length: Sequence[float]) -> tuple[Voxel, Voxel]:
    """c_x, c_y, c_z and len_x, len_y, len_z as first and last voxel (x, y, z).

    A centre that somebody rounded down to a whole voxel gives the same box.

    >>> row_to_box((189, 242, 314), (72, 368, 302))
    ((163, 58, 153), (465, 426, 225))
    """
    first = tuple(math.ceil(c - n / 2) for c, n in zip(centre, length, strict=True))[::-1]
    return first, tuple(a + round(n) for a, n in zip(first, tuple(length)[::-1], strict=True))


def file_names(split: str, case_id: int) -> tuple[Path, Path]:
    """Image and mask of a case, relative to the data set's folder."""
    folder = Path(FOLDERS[split])
    return folder / "DATA" / f"DATA_{case_id:03d}.nrrd", folder / "MASK" / f"MASK_{case_id:03d}.nrrd"


def tables(records: Iterable[VolumeRecord]) -> dict[str, list[list[str]]]:
    """The rows, titles first, of labels.csv and bbx_labels.csv for the volumes of one split, by file name."""
    labels, boxes = [list(LABEL_COLUMNS)], [list(BOX_COLUMNS)]
    for record in records:
        (lesion,) = record.lesions
        case = str(int(record.name))
        paths = ["\\".join(path.parts[-2:]) for path in (record.image, record.labels)]
        labels.append([case, "M" if lesion.malignant else "B", *paths])
        boxes.append([case, *(f"{value:g}" for value in box_to_row(lesion.first, lesion.last))])
    return {LABELS: labels, BOXES: boxes}


def read_tdsc_abus(
    folder: Path | str, splits: Sequence[str] = tuple(FOLDERS), spacing_mm: Sequence[float] | None = None
) -> list[TdscCase]:
    """The cases of a data set in the challenge's layout, without their voxels.

    Parameters
    ----------
    folder : holds Train, Validation and Test, or those of them that are asked for and there.
    splits : which of "train", "validation", "test" to read.
    spacing_mm : true spacing along lateral, depth, slice. None: what a record of ours says, else a header that is not
        (1, 1, 1), else the challenge's `SPACING`.

    Raises
    ------
    DataError : a table or file is missing or does not read, a case stands in a table twice, a box does not lie in its volume (also where somebody has put
        the axes of the CSV in another order), or there is no case.
    """
    folder = Path(folder)
    spacings = _recorded_spacings(folder)
    cases = []
    for split in splits:
        if split not in FOLDERS:
            raise DataError(f"TDSC-ABUS has no split {split!r}; choose from {', '.join(FOLDERS)}.")
        part = folder / FOLDERS[split]
        if not part.is_dir():
            continue
        boxes, told = {}, set()
        for where, row in _rows(part / BOXES, BOX_COLUMNS):
            case_id = _whole(where, row["id"])
            if case_id in boxes:
                raise DataError(f"{where}: case {case_id} has a box already; a volume of TDSC-ABUS has exactly one lesion: leave one of the rows out.")
            boxes[case_id] = (where, [_number(where, row[name]) for name in BOX_COLUMNS[1:]])
        for where, row in _rows(part / LABELS, LABEL_COLUMNS):
            case_id = _whole(where, row["case_id"])
            if case_id in told:
                raise DataError(f"{where}: case {case_id} is listed already; leave one of the rows out.")
            told.add(case_id)
            label = row["label"].strip().upper()
            if label not in ("M", "B"):
                raise DataError(f"{where}: the label is {row['label']!r}; it must be M or B.")
            if case_id not in boxes:
                raise DataError(f"{part / BOXES} has no box for case {case_id} of {LABELS}.")
            image, mask = (_file(where, part, row[name]) for name in LABEL_COLUMNS[2:])
            size, header = _header(image)
            given = spacing_mm or spacings.get(case_id) or (SPACING if header == (1.0, 1.0, 1.0) else header)
            first, last = _box(*boxes[case_id], size)
            cases.append(TdscCase(case_id, split, label == "M", image, mask, size, tuple(given), first, last))
    if not cases:
        raise DataError(f"{folder} holds no case of {', '.join(splits)}; it must have {'/, '.join(FOLDERS.values())}/.")
    return cases


def _rows(table: Path, columns: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """The rows of a table with where each stands; titles are the same in capitals, as one copy of the data has them."""
    if not table.is_file():
        raise DataError(f"{table} is missing; a folder of TDSC-ABUS has {LABELS} and {BOXES}.")
    reader = csv.reader(io.StringIO(read_csv_text(table), newline=""), strict=True)
    with one_table(table):
        titles = [title.strip().lower() for title in next(reader, ())]
        lines = [(reader.line_num, row) for row in reader]
    missing = [name for name in columns if name not in titles]
    if missing:
        raise DataError(f"{table} lacks the columns {', '.join(missing)}{other_separator(titles)}.")
    rows = []
    for number, row in lines:
        if not row:
            continue
        if len(row) < len(titles):
            raise DataError(f"{table}, line {number}: there are {len(row)} values for {len(titles)} columns.")
        rows.append((f"{table}, line {number}", dict(zip(titles, row, strict=False))))
    return rows


def _box(where: str, values: Sequence[float], size: Voxel) -> tuple[Voxel, Voxel]:
    first, last = row_to_box(values[:3], values[3:])
    if not _inside(first, last, size):
        text = f"{where}: the box from {first} to {last} does not lie in the volume of {size} voxels"
        if _inside(*row_to_box(values[2::-1], values[:2:-1]), size):
            text += "; it would with its columns in the order x, y, z, but TDSC-ABUS has them as slice, depth, lateral"
        raise DataError(f"{text}.")
    return first, last


def _inside(first: Voxel, last: Voxel, size: Voxel) -> bool:
    return all(0 <= a <= b < n for a, b, n in zip(first, last, size, strict=True))


def _file(where: str, part: Path, path: str) -> Path:
    file = part.joinpath(*path.strip().replace("\\", "/").split("/"))
    if not file.is_file():
        raise DataError(f"{where}: {file} is missing.")
    return file


def _header(path: Path) -> tuple[Voxel, tuple[float, float, float]]:
    """Size and spacing, without the voxels."""
    from ..headers import read_nrrd_header

    header = read_nrrd_header(path)
    if len(header.size) != 3:
        raise DataError(f"{path} has {len(header.size)} dimensions; a volume has 3.")
    return tuple(header.size), tuple(float(s) for s in (header.spacing or (1.0, 1.0, 1.0))[:3])


def _recorded_spacings(folder: Path) -> dict[int, tuple[float, float, float]]:
    """Case id -> spacing, of volumes that were made here."""
    from .records import read_records

    records = read_records(folder, leave_out_damaged=True)
    return {int(record.name): record.spacing for record in records if record.name.isdigit()}


def _whole(where: str, text: str) -> int:
    number = _number(where, text)
    if number != int(number):
        raise DataError(f"{where}: {text!r} is not a whole number.")
    return int(number)


def _number(where: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{where}: {text!r} is not a number.")
    return number
