"""That nothing both teaches and validates, under whatever names its copies lie: what was learnt by heart would pass for skill."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

from ..errors import DataError
from ..evaluation.segmentation_data import Case
from ..evaluation.volume_data import VolumeCase
from ..identity import identity

_Kept = TypeVar("_Kept", Case, VolumeCase)
_PART = 1 << 16  # bytes


def check_images_apart(training: Sequence[Case], validation: Sequence[Case]) -> None:
    """DataError where the very image of a validation case teaches, too."""
    if (same := _one_twice(training, validation)) is not None:
        one, other = same
        raise DataError(
            f"{one.image} (fold {one.fold}) and {other.image} (fold {other.fold}) are one image, which cannot both teach and validate; leave one of "
            "them out of labels.csv, or give both one group and fold."
        )


def check_volumes_apart(training: Sequence[VolumeCase], validation: Sequence[VolumeCase]) -> None:
    """DataError where the very volume of a validation case teaches, too."""
    if (same := _one_twice(training, validation)) is not None:
        one, other = same
        raise DataError(f"{one.image} and {other.image} are one volume, which cannot both teach and validate; leave one of them out of the data.")


def _one_twice(training: Sequence[_Kept], validation: Sequence[_Kept]) -> tuple[_Kept, _Kept] | None:
    """A case of each whose images are the very same bytes; None where there are none.

    What costs little tells most of them apart, so that few are read whole.
    """
    for told in (_size, _middle):
        taught, judged = [told(case) for case in training], [told(case) for case in validation]
        both = {*taught} & {*judged}
        training = [case for case, key in zip(training, taught, strict=True) if key in both]
        validation = [case for case, key in zip(validation, judged, strict=True) if key in both]
    teachers = {_whole(case): case for case in training}
    return next(((teachers[key], case) for case in validation if (key := _whole(case)) in teachers), None)


def _size(case: Case | VolumeCase) -> Hashable:
    return case.image.stat().st_size


def _middle(case: Case | VolumeCase) -> Hashable:
    """Uncompressed volumes of one device have one size, and black edges."""
    try:
        with case.image.open("rb") as stream:
            stream.seek(case.image.stat().st_size // 2)
            return stream.read(_PART)
    except OSError as error:
        raise DataError(f"{case.image} cannot be read ({error.strerror or error}); check its permissions.") from error


def _whole(case: Case | VolumeCase) -> Hashable:
    return identity(case.image)["sha256"]
