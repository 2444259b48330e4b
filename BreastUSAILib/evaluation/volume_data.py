"""Annotated volumes to measure a detector on: phantoms (``breastusai phantom``) and data in the layout of TDSC-ABUS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import DataError
from ..findings import Box
from ..grid import physical_to_index
from ..lesion_by_lesion import LesionFailed
from ..phantom.layouts import read_native
from ..phantom.records import VolumeRecord, read_records
from ..phantom.seeds import SPLITS
from ..phantom.spec import DESCRIPTORS
from ..phantom.tdsc_abus import BOXES, FOLDERS, TdscCase, read_tdsc_abus
from .data_set_names import name_of

_OUTSIDE = 1.0  # voxels that a box may reach beyond its volume by rounding


@dataclass(frozen=True)
class TrueLesion:
    """What is known of one lesion.

    Attributes
    ----------
    box : LPS mm on the grid of the volume as `VolumeCase.read` gives it.
    malignant : or benign.
    volume_ml : cm3; None until the mask was counted, see `VolumeCase.read`.
    posterior : of phantoms, the probability of malignancy that a perfect reader would state; None where it is not known.
    descriptors : of phantoms, BI-RADS descriptors by name, and "category" where it is known.
    label : its value in the label map that `VolumeCase.read_labels` gives.
    """

    box: Box
    malignant: bool
    volume_ml: float | None = None
    posterior: float | None = None
    descriptors: Mapping[str, str] = field(default_factory=dict)
    label: int = 1

    @property
    def malignancy(self) -> float:
        """The probability of malignancy as far as it is known: the posterior, else 1 or 0 by pathology."""
        return float(self.malignant) if self.posterior is None else self.posterior


@dataclass(frozen=True)
class VolumeCase:
    """One annotated volume, without its voxels.

    Attributes
    ----------
    id : its name in the data set; `source` is the data set's folder, `split` "train", "validation" or "test".
    image : the file.
    lesions : none in a healthy volume.
    challenge : the case in the layout of TDSC-ABUS, None for a phantom in the native layout.
    labels : the file of a phantom's label map; None in the layout of TDSC-ABUS, whose case knows its mask.
    recorded : whether a phantom's record stands behind a case in the layout of TDSC-ABUS.
    """

    id: str
    source: str
    split: str
    image: Path
    lesions: tuple[TrueLesion, ...]
    challenge: TdscCase | None = None
    labels: Path | None = None
    recorded: bool = False

    @property
    def synthetic(self) -> bool:
        """Whether it is a phantom; in the challenge's layout its record says so, also where it leaves the posterior open."""
        return self.challenge is None or self.recorded or any(lesion.posterior is not None for lesion in self.lesions)

    def read(self) -> tuple[sitk.Image, tuple[TrueLesion, ...]]:
        """The volume on its true grid, and its lesions with their volumes.

        Raises
        ------
        ImageError, DataError : a file cannot be read, the mask does not fit its volume, is empty or lies apart from the annotated box, or a
            lesion's box lies outside of the volume.
        """
        if self.challenge is None:
            from ..image import read_image

            image = read_image(self.image).image
            self._check_boxes(image)
            return image, self.lesions
        image, mask = self._read_challenge()
        counted = int(np.count_nonzero(sitk.GetArrayViewFromImage(mask)))
        volume = counted * float(np.prod(image.GetSpacing())) / 1000
        return image, tuple(replace(lesion, volume_ml=volume) for lesion in self.lesions)

    def _read_challenge(self) -> tuple[sitk.Image, sitk.Image]:
        """Volume and mask in the layout of TDSC-ABUS, of one lesion. A box that is a few voxels off is as people annotate; one that lies elsewhere is
        another volume's, as where masks were exchanged."""
        image, mask = self.challenge.read()
        voxels, first, last = sitk.GetArrayViewFromImage(mask), self.challenge.first, self.challenge.last
        box = tuple(slice(a, b + 1) for a, b in zip(first[::-1], last[::-1], strict=True))
        if voxels[box].any():
            return image, mask
        filled = [np.flatnonzero(voxels.any(axis=others)) for others in ((0, 1), (0, 2), (1, 2))]  # along x, y, z
        if not filled[0].size:
            raise DataError(f"{self.challenge.mask} shows no lesion; its annotation is incomplete.")
        if not all(places[0] <= b and places[-1] >= a for places, a, b in zip(filled, first, last, strict=True)):
            raise DataError(
                f"{self.challenge.mask}: the lesion lies nowhere in the box that {BOXES} has for volume {self.id}; correct its annotation (is it the mask "
                "of another volume?)."
            )
        return image, mask

    def _check_boxes(self, image: sitk.Image) -> None:
        for lesion in self.lesions:
            centre = physical_to_index(image, lesion.box.center) + 0.5
            half = np.array(lesion.box.size) / image.GetSpacing() / 2
            if np.any(centre - half < -_OUTSIDE) or np.any(centre + half > np.array(image.GetSize()) + _OUTSIDE):
                raise DataError(
                    f"{self.image}: a lesion's box lies outside the volume; correct its annotation (are the axes in the right order?)."
                )

    def read_labels(self) -> tuple[sitk.Image, sitk.Image, tuple[TrueLesion, ...]]:
        """The volume, its label map (uint8, `TrueLesion.label` where a lesion is) on the very same grid, and its lesions.

        Raises
        ------
        ImageError, DataError : as `read`; a label map that does not fit its volume or lacks a lesion.
        """
        if self.challenge is not None:
            image, labels = self._read_challenge()
            source = self.challenge.mask
        else:
            from ..image import read_image

            image, source = read_image(self.image).image, self.labels
            self._check_boxes(image)
            if source is None or not source.is_file():
                raise DataError(f"{self.image} has no label map; make it again with breastusai phantom.")
            labels = sitk.Cast(read_image(source, allow_constant=True).image, sitk.sitkUInt8)
            if labels.GetSize() != image.GetSize():
                raise DataError(f"{source} has {labels.GetSize()} voxels, its volume {image.GetSize()}; make both again.")
            labels.CopyInformation(image)
        counts = np.bincount(sitk.GetArrayViewFromImage(labels).ravel(), minlength=256)
        missing = [str(lesion.label) for lesion in self.lesions if not counts[lesion.label]]
        if missing:
            raise DataError(f"{source} shows no lesion {', '.join(missing)}; its annotation is incomplete.")
        voxel = float(np.prod(image.GetSpacing())) / 1000
        lesions = tuple(replace(x, volume_ml=float(counts[x.label]) * voxel) for x in self.lesions)
        return image, labels, lesions


@contextmanager
def failing_by_name(case: VolumeCase) -> Iterator[None]:
    """`DataError` with the name of the volume where a network fails on a lesion, which would pass for its answer."""
    try:
        yield
    except LesionFailed as error:
        raise DataError(
            f"{case.image}: {error}. No figures are written, as what failed would count as the network's answer; mend the cause, or take the volume out of --data."
        ) from error


def described(cases: Sequence[VolumeCase]) -> str:
    """How many volumes of which data sets, in words for a model's ``trained_on``: phantoms are named as such."""
    phantoms = sum(case.synthetic for case in cases)
    kind = "volumes" if not phantoms else "phantoms" if phantoms == len(cases) else f"volumes ({phantoms} of them phantoms)"
    return f"{len(cases)} {kind} of {', '.join(sorted({case.source for case in cases}))}"


def with_spacing(
    folders: Sequence[Path | str], spacing_mm: Sequence[float] | None
) -> list[tuple[Path | str, Sequence[float] | None]]:
    """Each data set with the spacing that `read_volumes` is to be given: phantoms, which say their own, may stand beside data in the
    challenge's layout. Where none is in that layout all have it, and are refused."""
    told = [_in_challenge_layout(folder) for folder in folders]
    return [(folder, spacing_mm if here or not any(told) else None) for folder, here in zip(folders, told, strict=True)]


def _in_challenge_layout(folder: Path | str) -> bool:
    return any((Path(folder) / part).is_dir() for part in FOLDERS.values())


def read_volumes(
    folder: Path | str, splits: Sequence[str] = SPLITS, spacing_mm: Sequence[float] | None = None
) -> list[VolumeCase]:
    """The annotated volumes of a data set, phantoms in either layout or the challenge's own data, told apart by its folders.

    Parameters
    ----------
    folder : of the data set.
    splits : which of "train", "validation", "test".
    spacing_mm : true spacing along lateral, depth, slice of data in the challenge's layout; None: see `read_tdsc_abus`.

    Raises
    ------
    DataError : see `phantom.layouts.read_native` and `phantom.tdsc_abus.read_tdsc_abus`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give one that breastusai phantom made, or TDSC-ABUS.")
    if _in_challenge_layout(folder):
        records = {int(r.name): r for r in read_records(folder, leave_out_damaged=True) if r.name.isdigit()}
        cases = read_tdsc_abus(folder, splits, spacing_mm)
        return [_challenge_case(folder, case, records.get(case.case_id)) for case in cases]
    if spacing_mm is not None:
        raise DataError(f"{folder} is not in the layout of TDSC-ABUS; its files say their spacing, leave --spacing out.")
    return [_phantom_case(folder, record) for record in read_native(folder, splits)]


def _phantom_case(folder: Path, record: VolumeRecord) -> VolumeCase:
    lesions = tuple(
        TrueLesion(
            box=Box(lesion.centre, lesion.size),
            malignant=lesion.malignant,
            volume_ml=lesion.volume_ml,
            posterior=lesion.posterior,
            descriptors=_descriptors(lesion),
            label=lesion.label,
        )
        for lesion in record.lesions
    )
    return VolumeCase(record.name, name_of(folder), record.split, record.image, lesions, labels=record.labels)


def _challenge_case(folder: Path, case: TdscCase, record: VolumeRecord | None) -> VolumeCase:
    known = record.lesions[0] if record is not None and len(record.lesions) == 1 else None
    lesion = TrueLesion(
        box=Box(case.centre_mm, case.size_mm),
        malignant=case.malignant,
        posterior=None if known is None else known.posterior,
        descriptors={} if known is None else _descriptors(known),
    )
    return VolumeCase(f"{case.case_id:03d}", name_of(folder), case.split, case.image, (lesion,), case, recorded=record is not None)


def _descriptors(lesion) -> dict[str, str]:
    category = {} if lesion.category is None else {"category": lesion.category}
    return {name: getattr(lesion.descriptors, name) for name in DESCRIPTORS} | category
