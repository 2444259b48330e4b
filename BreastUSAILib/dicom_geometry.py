"""Where DICOM frames lie: the size of their pixels, and how several of them make a volume.

References are to PS3.3: ultrasound regions C.8.5.5, image plane C.7.6.2, functional groups C.7.6.16 and C.8.24.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .dicom_header import ENHANCED_US_VOLUME, group, items, number, numbers, text, value
from .errors import ImageError

if TYPE_CHECKING:
    from pydicom import Dataset

SEVERAL_PICTURES = "the screen shows more than one ultrasound picture; the largest is used"  # also said by `screen_area`
_CENTIMETRES = 3  # Physical Units X/Y Direction
_SAME_ZERO = 2  # pixels, whole numbers, by which two statements of where one picture's coordinates begin may differ
_EVEN = 0.02  # frames may lie this part of their distance off an even step
_ROUNDING_MM = 0.01  # or this far, as positions are written with few digits ...
_MOST_ROUNDING = 0.1  # ... though never more than this part of their distance
_SAME_PLACE = 0.01  # nearer than this part of their distance frames are in one place
_LONGEST_GAP = 2  # frames one after the other that may be missing
_MOST_MISSING = 0.05  # and this part of all, or one

_PATIENT = ("PlanePositionSequence", "ImagePositionPatient", "PlaneOrientationSequence", "ImageOrientationPatient")
_VOLUME = (
    "PlanePositionVolumeSequence",
    "ImagePositionVolume",
    "PlaneOrientationVolumeSequence",
    "ImageOrientationVolume",
)


# ------------------------------------------------------------------------------------------------------- one frame


@dataclass(frozen=True)
class Plane:
    """Where the pixels of a frame lie. spacing: (x, y) mm. area: (x, y, width, height) of the ultrasound region.
    aspect: the height of a pixel divided by its width, where no spacing says it."""

    spacing: tuple[float, float] | None
    notes: tuple[str, ...] = ()
    area: tuple[int, int, int, int] | None = None
    aspect: float = 1.0


@dataclass(frozen=True)
class _Region:
    """A calibrated ultrasound region. spacing: (x, y) mm. area: (x, y, width, height) on the screen. zero: the (x, y) pixel of
    the screen where its physical coordinates are 0, or None where it does not say."""

    spacing: tuple[float, float]
    area: tuple[int, int, int, int]
    zero: tuple[float, float] | None

    def is_apart(self, other: _Region) -> bool:
        """Whether the other is surely another picture of the screen.

        A picture may be described by several regions, which overlap or touch and share their coordinates. Pictures side by side
        are parted by columns that belong to neither, or touch, and each has coordinates of its own.
        """
        starts, sizes = (self.area[:2], other.area[:2]), (self.area[2:], other.area[2:])
        gap = max(max(a, b) - min(a + m, b + n) for a, b, m, n in zip(*starts, *sizes, strict=True))
        if gap > 0:
            return True
        if gap < -1 or self.zero is None or other.zero is None:  # -1: they touch, and the last column stated is the next's first
            return False
        return not self._has_zero_of(other)

    def goes_on_in(self, other: _Region) -> bool:
        """Whether both surely have the same scale and coordinates."""
        known = self.zero is not None and other.zero is not None
        return known and np.allclose(self.spacing, other.spacing, rtol=0.01) and self._has_zero_of(other)

    def _has_zero_of(self, other: _Region) -> bool:
        return max(abs(a - b) for a, b in zip(self.zero, other.zero, strict=True)) <= _SAME_ZERO


def _chain(used: _Region, others: list[_Region]) -> tuple[list[_Region], list[_Region]]:
    """A region and all that a chain of regions which are not apart leads to; and those of the others that it does not lead to."""
    together = [used]
    for region in together:  # which grows
        together += [other for other in others if not region.is_apart(other)]
        others = [other for other in others if region.is_apart(other)]
    return together, others


def _zero(region: Dataset) -> tuple[float, float] | None:
    """Where a region's physical coordinates are 0: its reference pixel is counted from the region's own corner."""
    places = []
    for axis in "XY":
        corner, reference = number(region, f"RegionLocationMin{axis}0"), number(region, f"ReferencePixel{axis}0")
        there, delta = number(region, f"ReferencePixelPhysicalValue{axis}"), number(region, f"PhysicalDelta{axis}")
        if corner is None or reference is None or there is None or not delta:
            return None
        places.append(corner + reference - there / delta)
    return places[0], places[1]


def _region_plane(dataset: Dataset) -> Plane | None:
    """Spacing and area from the calibrated ultrasound regions: the largest 2D tissue region measured in cm."""
    found = []
    for region in items(dataset, "SequenceOfUltrasoundRegions"):
        deltas = [number(region, f"PhysicalDelta{axis}") for axis in "XY"]
        corners = [number(region, f"RegionLocation{name}") for name in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
        units = [value(region, f"PhysicalUnits{axis}Direction") for axis in "XY"]
        tissue_2d = value(region, "RegionSpatialFormat") == 1 and value(region, "RegionDataType") == 1
        if not tissue_2d or units != [_CENTIMETRES] * 2 or None in deltas or None in corners:
            continue
        # A negative delta says that the axis runs the other way in the patient; the size of a pixel is its amount.
        spacing = tuple(abs(d) * 10 for d in deltas)
        x0, y0, x1, y1 = (int(c) for c in corners)
        x0, y0 = max(x0, 0), max(y0, 0)
        x1, y1 = min(x1, int(dataset.Columns) - 1), min(y1, int(dataset.Rows) - 1)
        if min(spacing) > 0 and x1 > x0 and y1 > y0:
            found.append(_Region(spacing, (x0, y0, x1 - x0 + 1, y1 - y0 + 1), _zero(region)))
    if not found:
        return None
    used = max(found, key=lambda region: region.area[2] * region.area[3])
    notes = []
    if not all(np.allclose(region.spacing, used.spacing, rtol=0.01) for region in found):
        notes.append("the image has several ultrasound regions of different scale; lengths are right in the largest")
    others = [region for region in found if region is not used]
    if _chain(used, others)[1]:
        notes.append(SEVERAL_PICTURES)
    return Plane(used.spacing, tuple(notes), _whole(used, others))


def _whole(used: _Region, others: list[_Region]) -> tuple[int, int, int, int]:
    """The area of the picture that a region belongs to: around it and those that go on where it ends, of its scale and with its coordinates."""
    parts, _ = _chain(used, [region for region in others if used.goes_on_in(region)])
    corners = np.array([(*part.area[:2], part.area[0] + part.area[2], part.area[1] + part.area[3]) for part in parts])
    (x0, y0), (x1, y1) = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    return int(x0), int(y0), int(x1 - x0), int(y1 - y0)


def _pixel_aspect(dataset: Dataset) -> float:
    """The height of a pixel divided by its width, by Pixel Aspect Ratio (vertical size \\ horizontal size); 1 where it says nothing.

    PS3.3 C.7.6.3.1.7. Files state it where pixels are not square and no spacing is known, such as captures of a video signal.
    """
    vertical, horizontal = numbers(dataset, "PixelAspectRatio", 2) or (1.0, 1.0)
    return vertical / horizontal if min(vertical, horizontal) > 0 else 1.0


def read_plane(dataset: Dataset, frame: int) -> Plane:
    """What a pixel measures, from the best source that the file has."""
    region = _region_plane(dataset)
    if region is not None:
        return region
    measures = group(dataset, frame, "PixelMeasuresSequence")
    for source, keyword, caution in (
        (measures, "PixelSpacing", ""),
        (dataset, "PixelSpacing", "pixel spacing from Pixel Spacing, as no ultrasound region is calibrated"),
        (
            dataset,
            "NominalScannedPixelSpacing",
            "pixel spacing from Nominal Scanned Pixel Spacing, which is the scanner's, not the ultrasound's",
        ),
    ):
        values = numbers(source, keyword, 2)
        if values and min(values) > 0:
            return Plane((values[1], values[0]), (caution,) if caution else ())  # stated as row, column distance
    return Plane(None, aspect=_pixel_aspect(dataset))


def _axes(values: Sequence[float] | None) -> np.ndarray | None:
    """3x3 direction matrix whose columns are the image's x, y and their normal, from six cosines; None for nonsense."""
    if values is None:
        return None
    x, y = np.array(values[:3]), np.array(values[3:])
    lengths = np.linalg.norm(x), np.linalg.norm(y)
    if min(lengths) < 1e-6 or abs(np.dot(x, y)) > 1e-3 * lengths[0] * lengths[1]:
        return None
    x /= lengths[0]
    y = y / lengths[1]
    y = y - np.dot(x, y) * x  # stated with few digits
    y /= np.linalg.norm(y)
    return np.stack([x, y, np.cross(x, y)], axis=1)


def read_place(dataset: Dataset, frame: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Position of a frame's first pixel (3,) and its axes (3, 3), LPS mm, of one frame of reference; None: not stated."""
    for position, point, orientation, cosines in (_PATIENT, _VOLUME):
        place = numbers(group(dataset, frame, position), point, 3)
        axes = _axes(numbers(group(dataset, frame, orientation), cosines, 6))
        if place is not None and axes is not None:
            return np.array(place), axes
    place = numbers(dataset, "ImagePositionPatient", 3)
    axes = _axes(numbers(dataset, "ImageOrientationPatient", 6))
    return None if place is None or axes is None else (np.array(place), axes)


# ---------------------------------------------------------------------------------------------------- several frames


@dataclass(frozen=True)
class Stack:
    """How frames make a volume.

    Attributes
    ----------
    slices : for each slice the indexes of the frames that lie in it: one; several for duplicates; none for a gap.
    origin : of the first slice, LPS mm.
    direction : (3, 3), columns: x, y, normal.
    step : mm between slices.
    notes : sentences for the reader.
    """

    slices: tuple[tuple[int, ...], ...]
    origin: np.ndarray
    direction: np.ndarray
    step: float
    notes: tuple[str, ...] = ()


def stack_frames(path: Path, points: np.ndarray, direction: np.ndarray, what: str = "frame") -> Stack | None:
    """Put frames with known places in order.

    Parameters
    ----------
    points : (n, 3) positions of their first pixels, LPS mm.
    direction : (3, 3), their common axes.
    what : what a frame is called in messages.

    Returns
    -------
    The stack; None where all lie in one place.

    Raises
    ------
    ImageError : their distances are uneven, they are shifted against each other, or too many are missing.
    """
    along = points @ direction[:, 2]
    order = np.argsort(along, kind="stable")
    steps = np.diff(along[order])
    apart = steps[steps > 1e-4]
    if apart.size == 0:
        return None
    step = float(np.median(apart))
    # Frames in one place are duplicates; of the others each lies a whole number of steps behind the one before.
    slices: list[list[int]] = [[int(order[0])]]
    counts = []
    for index, distance in zip(order[1:], steps, strict=True):
        if distance <= max(1e-4, _SAME_PLACE * step):
            slices[-1].append(int(index))
            continue
        counts.append(int(round(distance / step)))
        slices.append([int(index)])
    ranks = np.concatenate([[0], np.cumsum(counts)])
    firsts = np.array([s[0] for s in slices])
    step = float((along[firsts[-1]] - along[firsts[0]]) / ranks[-1]) if ranks[-1] else step
    tolerance = max(_EVEN * step, min(_ROUNDING_MM, _MOST_ROUNDING * step))
    off = np.abs(np.diff(along[firsts]) - np.array(counts) * step)
    shift = points[firsts] - points[firsts[0]] - np.outer(along[firsts] - along[firsts[0]], direction[:, 2])
    if min(counts) < 1 or off.max() > tolerance or np.abs(shift).max() > tolerance:
        raise ImageError(
            f"{path} has {what}s at uneven distances, or shifted against each other; resample it to an even grid first."
        )
    filled: list[tuple[int, ...]] = [()] * (int(ranks[-1]) + 1)
    for rank, frames in zip(ranks, slices, strict=True):
        filled[int(rank)] = tuple(frames)
    gaps = [n - 1 for n in counts if n > 1]
    if gaps:
        places = [
            f"{int(r) + 2}" + (f"-{int(r) + n}" if n > 2 else "")
            for r, n in zip(ranks[:-1], counts, strict=True)
            if n > 1
        ]
        listed = ", ".join(places[:5]) + (", ..." if len(places) > 5 else "")
        if max(gaps) > _LONGEST_GAP or sum(gaps) > max(1, _MOST_MISSING * len(filled)):
            raise ImageError(
                f"{path} lacks {sum(gaps)} of {len(filled)} slices (slice {listed}, {step:g} mm apart); send or export the series again."
            )
        note = f"{sum(gaps)} of {len(filled)} slices {'are' if sum(gaps) > 1 else 'is'} missing (slice {listed}) and interpolated between the neighbours"
        return Stack(tuple(filled), points[order[0]], direction, step, (note,))
    return Stack(tuple(filled), points[order[0]], direction, step)


def read_stack(path: Path, dataset: Dataset, frames: int, *, volume: bool = False) -> Stack | None:
    """The frames of one file as a volume, or None when they are a cine.

    A volume is what states positions of its frames that differ, or a distance between them (as ABUS scanners do, whose sweeps
    carry no positions).

    Parameters
    ----------
    frames : how many there are.
    volume : the user says that it is one and how far its frames are apart; the step is 1 mm where the file states none.

    Raises
    ------
    ImageError : see `stack_frames`; a time series of volumes; no frame of tissue; an enhanced volume without positions.
    """
    chosen, notes = _tissue_frames(path, dataset, frames)
    found = _placed_frames(path, dataset, chosen) if value(dataset, "PerFrameFunctionalGroupsSequence") else None
    if found is not None:
        points, direction, in_volume = found
        stack = stack_frames(path, points, direction)
        if stack is not None:
            repeats = {len(frames) for frames in stack.slices if frames}
            if len({_time(dataset, i) for i in chosen}) > 1 or (
                repeats != {1} and len(repeats) == 1 and not _timed(dataset)
            ):
                raise ImageError(f"{path} is a time series of volumes; export one volume of it.")
            if in_volume:
                notes += ("positions are relative to the scanned volume, not to the patient",)
            slices = tuple(tuple(chosen[i] for i in frames) for frames in stack.slices)
            return Stack(slices, stack.origin, direction, stack.step, (*notes, *stack.notes))
    step = (
        number(dataset, "SpacingBetweenSlices")
        or number(group(dataset, 0, "PixelMeasuresSequence"), "SpacingBetweenSlices")
        or (1.0 if volume else 0.0)
    )
    if step == 0 and dataset.get("SOPClassUID") == ENHANCED_US_VOLUME:
        raise ImageError(f"{path} is an ultrasound volume that does not say where its frames lie; export it as NRRD.")
    if step == 0:
        return None
    origin, direction = read_place(dataset, chosen[0]) or (np.zeros(3), np.eye(3))
    return Stack(tuple((i,) for i in chosen), origin, direction, abs(step), notes)


def _tissue_frames(path: Path, dataset: Dataset, frames: int) -> tuple[list[int], tuple[str, ...]]:
    """The frames of B-mode, where the file says of what kind each is (PS3.3 C.8.24.5.1), and a sentence on the others."""
    if dataset.get("SOPClassUID") != ENHANCED_US_VOLUME:
        return list(range(frames)), ()
    kinds = [text(group(dataset, i, "ImageDataTypeSequence"), "DataType") or "TISSUE_INTENSITY" for i in range(frames)]
    chosen = [i for i, kind in enumerate(kinds) if kind == "TISSUE_INTENSITY"]
    others = sorted(set(kinds) - {"TISSUE_INTENSITY"})
    named = " and ".join(kind[:16] for kind in others[:4])  # CS holds 16 characters; there are nine kinds
    if not chosen:
        raise ImageError(f"{path} holds {named} but no B-mode frames; export the B-mode volume.")
    if not others:
        return chosen, ()
    return chosen, (f"{frames - len(chosen)} frames of {named} left out",)


def _placed_frames(path: Path, dataset: Dataset, frames: Sequence[int]) -> tuple[np.ndarray, np.ndarray, bool] | None:
    """Positions (n, 3), common axes (3, 3), and whether they are in the volume's frame of reference; None: not all stated."""
    for position, point, orientation, cosines in (_PATIENT, _VOLUME):
        points = [numbers(group(dataset, i, position), point, 3) for i in frames]
        axes = [numbers(group(dataset, i, orientation), cosines, 6) for i in frames]
        if dataset.get("SOPClassUID") == ENHANCED_US_VOLUME and None in points and points != [None] * len(points):
            raise ImageError(
                f"{path} says of {points.count(None)} of {len(points)} frames not where they lie; export it again."
            )
        if None in points or None in axes:
            continue
        direction = _axes(axes[0])
        if direction is None:
            continue
        if np.abs(np.array(axes) - axes[0]).max() > 1e-3:
            raise ImageError(f"{path} has frames that are not parallel to each other; resample it to a volume first.")
        sizes = [numbers(group(dataset, i, "PixelMeasuresSequence"), "PixelSpacing", 2) for i in frames]
        if None not in sizes and not np.allclose(sizes, sizes[0], rtol=1e-3):
            raise ImageError(f"{path} has frames of different pixel spacing; resample it to a volume first.")
        return np.array(points), direction, position == _VOLUME[0]
    return None


def _time(dataset: Dataset, frame: int) -> float | None:
    """When a frame was taken, as far as the file tells times apart."""
    for sequence, keyword in (
        ("TemporalPositionSequence", "TemporalPositionTimeOffset"),
        ("FrameContentSequence", "TemporalPositionIndex"),
    ):
        found = number(group(dataset, frame, sequence), keyword)
        if found is not None:
            return found
    return None


def _timed(dataset: Dataset) -> bool:
    return _time(dataset, 0) is not None
