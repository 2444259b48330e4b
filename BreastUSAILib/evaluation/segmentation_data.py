"""2D segmentation data: folders with ``images/``, ``masks/`` and ``labels.csv``, split by group and fold."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..csv_text import one_table, other_separator, read_csv_text
from ..errors import DataError
from ..image import as_2d, read_image
from ..picture import JPEG, palette_indices
from ..screen_area import part_with, ultrasound_area
from .data_set_names import check_names, name_of

REQUIRED_COLUMNS = ("id", "file", "mask", "class", "group", "fold")
TEST_FOLD, VALIDATION_FOLD = 0, 1
CLASSES = ("benign", "malignant", "normal")


@dataclass(frozen=True)
class Case:
    """One labelled image: where its files are, what labels.csv says of it (`row`, column -> text), and the name of its data set's folder."""

    id: str
    image: Path
    mask: Path | None
    label: str
    group: str
    fold: int
    row: dict[str, str]
    source: str


def read_cases(folder: Path | str) -> list[Case]:
    """All cases of one data set.

    Parameters
    ----------
    folder : holds ``labels.csv`` with the columns id, file, mask, class, group, fold (others are kept in `Case.row`);
        ``file`` and ``mask`` are relative to it. An empty mask means that the image shows no lesion; ``class`` is one of `CLASSES`, in any
        case, or empty where it is not known, and so is ``pixel_mm``, where there is such a column.

    Raises
    ------
    DataError : labels.csv is missing, lacks a column, names a file that is not there, gives two images one id or lists one twice, states another class or a size of pixels that is none, or lets a group
        (patient) lie in two folds, which would make every figure too good.
    """
    folder = Path(folder)
    table = folder / "labels.csv"
    if not table.is_file():
        raise DataError(f"{table} is missing: a data folder needs images/, masks/ and labels.csv.")
    reader = csv.DictReader(io.StringIO(read_csv_text(table), newline=""), strict=True)
    with one_table(table):
        missing = [c for c in REQUIRED_COLUMNS if c not in (reader.fieldnames or ())]
        if missing:
            raise DataError(f"{table} lacks the columns {', '.join(missing)}{other_separator(reader.fieldnames)}.")
        rows = [(reader.line_num, row) for row in reader]  # lines that are empty are no rows, but count
    if not rows:
        raise DataError(f"{table} lists no images.")
    source = name_of(folder)
    cases, groups, lines, files = [], {}, {}, {}
    for number, row in rows:
        try:
            fold = int(row["fold"])
        except (ValueError, TypeError):
            raise DataError(f"{table}, line {number}: fold {row['fold']!r} is not a whole number.") from None
        label = (row["class"] or "").strip().lower()
        if label not in (*CLASSES, ""):
            raise DataError(
                f"{table}, line {number}: the class {row['class']!r} is unknown; it may be {', '.join(CLASSES)}, or empty where it is not known."
            )
        if row.get("pixel_mm") and not _is_length(row["pixel_mm"]):
            raise DataError(
                f"{table}, line {number}: pixel_mm {row['pixel_mm']!r} is not a positive number of mm, such as 0.08; leave it empty where it is not known."
            )
        if not row["file"] or not (row["group"] or "").strip():
            raise DataError(f"{table}, line {number}: file and group must not be empty.")
        image, mask = folder / row["file"], folder / row["mask"] if row["mask"] else None
        for path in (image, mask):
            if path is not None and not path.is_file():
                raise DataError(f"{table}, line {number}: {path} is missing.")
        if lines.setdefault(row["id"], number) != number:
            raise DataError(
                f"{table}, line {number}: line {lines[row['id']]} has the id {row['id']!r}, too; give each image an id of its own."
            )
        if files.setdefault(os.path.normpath(row["file"]), number) != number:  # with two groups it could both teach and be measured on
            raise DataError(
                f"{table}, line {number}: line {files[os.path.normpath(row['file'])]} has the file {row['file']!r}, too; list each image once."
            )
        # One patient, however it was typed; called as it was typed first.
        group, first = groups.setdefault(" ".join(row["group"].split()).casefold(), (row["group"].strip(), fold))
        if first != fold:
            raise DataError(f"{table}, line {number}: group {row['group']} lies in folds {first} and {fold}.")
        cases.append(Case(row["id"], image, mask, label, group, fold, row, source))
    return cases


def _is_length(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def read_data_sets(folders: Sequence[Path | str]) -> list[Case]:
    """All cases of several data sets that are told apart by their folders' names.

    Raises
    ------
    DataError : see `read_cases`; two of the folders have one name, or one of several is called "all".
    """
    check_names(folders, DataError)
    return [case for folder in folders for case in read_cases(folder)]


def in_folds(cases: Iterable[Case], folds: Sequence[int]) -> list[Case]:
    """The cases of the given folds, in their order."""
    return [case for case in cases if case.fold in set(folds)]


def check_folds_filled(cases: Iterable[Case], folds: Sequence[int], data: Sequence[Path | str], option: str = "--train-folds") -> None:
    """DataError where one of the folds has no image: fewer would teach, or be measured on, than `option` asked for, as of a number that was mistyped."""
    empty = sorted(set(folds) - {case.fold for case in cases})
    if empty:
        raise DataError(
            f"fold{'s' if len(empty) > 1 else ''} {', '.join(map(str, empty))} of {', '.join(map(str, data))} {'have' if len(empty) > 1 else 'has'} no image; "
            f"give {option} that are in labels.csv."
        )


def load_pixels(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W) as stored and mask (H, W) bool of a case; an absent mask is all False.

    Raises DataError when the two differ in size, or one is a volume of several slices.
    """
    plane, _, mask = _read(case)
    return sitk.GetArrayFromImage(plane), mask


def check_masks(cases: Sequence[Case]) -> None:
    """DataError where a class and a mask contradict each other, as images of lesions without a mask would count as healthy, or where a mask is lesion all
    along its border; and see `load_pixels`: all files are read, with a bar. Not for grading, which leaves out what has no mask."""
    from tqdm import tqdm

    for case in cases:  # before any file is opened
        if case.mask is None:
            _check_class(case, lesion=False)
    for case in tqdm(cases, unit="image", desc="masks", leave=False):
        mask = load_pixels(case)[1]
        if all(edge.all() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1])):  # inverted, or of a background that is nearly black
            raise DataError(f"{case.mask} marks its whole border as lesion; save it with a background of 0 (black) and lesions above 0.")
        _check_class(case, bool(mask.any()))


def _check_class(case: Case, lesion: bool) -> None:
    if lesion and case.label == "normal":
        raise DataError(f"{case.mask} shows a lesion, but labels.csv calls its image normal; correct the class or the mask.")
    if not lesion and case.label in ("benign", "malignant"):
        none = "no mask" if case.mask is None else f"no lesion in its mask {case.mask}"
        raise DataError(
            f"{case.image} is {case.label} after labels.csv but has {none}, so that it would count as healthy; outline the lesion, or call the image normal if it shows none."
        )


@dataclass(frozen=True)
class Picture:
    """An image and its mask as networks see them when it is analysed.

    Attributes
    ----------
    pixels, mask : (H, W), as of `load_pixels`.
    part : the rows and columns that are ultrasound, which is all that networks see; more where the mask reaches beyond.
    pixel_aspect : a pixel's height divided by its width.
    """

    pixels: np.ndarray
    mask: np.ndarray
    part: tuple[slice, slice]
    pixel_aspect: float


def load_picture(case: Case) -> Picture:
    """As `load_pixels`, and how networks look at the image."""
    plane, stated, mask = _read(case)
    area = ultrasound_area(plane, stated)[0]
    across, down = plane.GetSpacing()
    return Picture(sitk.GetArrayFromImage(plane), mask, part_with(area, mask), down / across)


def _read(case: Case) -> tuple[sitk.Image, tuple[int, int, int, int] | None, np.ndarray]:
    """Image, 2D; the area of it that its file states to be ultrasound; and mask."""

    def plane(path: Path, **options) -> tuple[sitk.Image, tuple[int, int, int, int] | None]:
        loaded = read_image(path, **options)
        image = as_2d(loaded.image)
        if image is None:
            raise DataError(f"{path} is a volume of several slices; 2D images are needed.")
        return image, loaded.area

    image, stated = plane(case.image)
    if case.mask is None:
        return image, stated, np.zeros(image.GetSize()[::-1], bool)
    mask = _lesion(case.mask, sitk.GetArrayFromImage(plane(case.mask, allow_constant=True)[0]))
    if mask.shape != image.GetSize()[::-1]:
        raise DataError(f"{case.mask} is {mask.shape[::-1]} pixels and its image {image.GetSize()}; they must agree.")
    return image, stated, mask


def _lesion(path: Path, values: np.ndarray) -> np.ndarray:
    """Where a mask (H, W), as it was read from `path`, has a lesion: above 0; of a JPEG, whose background is not even, above half of its greatest value."""
    with path.open("rb") as stream:
        if stream.read(len(JPEG)) == JPEG:
            return values > values.max() / 2
    lesion = values > 0
    if lesion.all() or not lesion.any():  # a palette may have no black for the background, or several
        indices = palette_indices(path)
        if indices is not None and indices.min() == 0 < indices.max():
            return indices > 0
    return lesion
