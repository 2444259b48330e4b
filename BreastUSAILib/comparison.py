"""Two volumes of one breast: where a place of one is in the other, and what became of the findings between two examinations.

Volumes are brought together by what is known of their places: the nipple, where it was marked in both, or their coordinates as they
are. No image registration is done: a breast is soft, and lies differently each time, so the same lesion is looked for within a limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from .breast_position import NIPPLE, side_of
from .errors import UsageError
from .files import to_csv
from .findings import Finding, ImageInfo, Study

LIMIT_MM = 20.0  # two findings that are further apart are not the same lesion
FOLLOWED, NEW, GONE, NOT_IMAGED = "followed", "new", "gone", "not imaged"

_DIAMETERS = ("major_diameter_mm", "second_diameter_mm", "third_diameter_mm")
_VOLUME = "volume_ml"
_UNCHANGED_PERCENT = 0.5  # a change below it reads as 0 %


# ------------------------------------------------------------------------------------------------------------ places


@dataclass(frozen=True)
class Place:
    """Where a point of one volume is in another.

    Attributes
    ----------
    point : LPS, mm, on the other volume's grid.
    index : continuous index (x, y, z) there.
    inside : whether the other volume shows it.
    """

    point: tuple[float, float, float]
    index: tuple[float, float, float]
    inside: bool


def body_shift(source: Study, target: Study) -> tuple[float, float, float]:
    """What is added to a position in the body of one volume to have it in another's: from nipple to nipple; 0 where one is not marked."""
    nipples = [_nipple(study) for study in (source, target)]
    if any(n is None for n in nipples):
        return (0.0, 0.0, 0.0)
    return tuple(float(b - a) for a, b in zip(*nipples, strict=True))


def place_in(
    target: ImageInfo, source: ImageInfo, point: Sequence[float], shift: Sequence[float] = (0.0, 0.0, 0.0)
) -> Place:
    """Where a point of a volume is in another one of the same breast, through the geometry of both.

    Parameters
    ----------
    target, source : the two volumes; of curved sweeps the way leads through the body.
    point : LPS, mm, on the grid of `source`, as masks and boxes are.
    shift : see `body_shift`.

    Raises
    ------
    UsageError : one is no volume in millimetres, or they are of different breasts.
    """
    check_comparable(source, target)
    body = np.asarray(point, float)
    if source.acquisition is not None:
        body = source.acquisition.to_physical(body)
    body = body + np.asarray(shift, float)
    if target.acquisition is not None:
        body = target.acquisition.from_physical(body)
    matrix = np.reshape(target.direction, (3, 3)) * np.asarray(target.spacing)
    index = np.linalg.solve(matrix, body - target.origin)
    inside = bool(np.all(index >= -0.5) and np.all(index <= np.array(target.size) - 0.5))
    return Place(tuple(map(float, body)), tuple(map(float, index)), inside)


def check_comparable(one: ImageInfo, other: ImageInfo) -> None:
    """Refuse what cannot be laid over each other. Raises `UsageError`."""
    for info in (one, other):
        if info.dimension != 3 or min(info.size) < 2:
            raise UsageError(f"{info.path} is no volume; positions are compared between volumes of several slices.")
        if not info.spacing_known:
            raise UsageError(
                f"{info.path} does not say what a voxel measures; run it again with its spacing to compare it."
            )
    _check_sides((one, one.laterality), (other, other.laterality))


def _check_sides(*volumes: tuple[ImageInfo, str | None]) -> None:
    """Refuse two volumes of which one is of the right breast and one of the left one. Raises `UsageError`."""
    (one, side), (other, other_side) = volumes
    words = {"R": "right", "L": "left"}
    if side in words and other_side in words and side != other_side:
        raise UsageError(
            f"{one.path} is of the {words[side]} breast and {other.path} of the {words[other_side]} one; compare volumes of the same breast."
        )


# -------------------------------------------------------------------------------------------------------- comparison


@dataclass(frozen=True)
class Pair:
    """What became of one finding.

    Attributes
    ----------
    status : `FOLLOWED` in both examinations; `NEW` or `GONE` in one; `NOT_IMAGED` in one, as the other volume does not reach there.
    earlier, later : the finding there, or None.
    distance_mm : between the two, in the body, after nipples were laid over each other where they are known; None where one is alone.
    place : where a finding that is alone would be in the other volume; else None.
    """

    status: str
    earlier: Finding | None
    later: Finding | None
    distance_mm: float | None = None
    place: Place | None = None

    @property
    def name(self) -> str:
        """ "L1 -> L2", "L3 (new)"."""
        if self.status == FOLLOWED:
            return f"{self.earlier.id} -> {self.later.id}"
        alone = self.earlier or self.later
        if self.status == NOT_IMAGED:
            return f"{alone.id} (not imaged {'later' if self.earlier else 'earlier'})"
        return f"{alone.id} ({self.status})"


@dataclass(frozen=True)
class Growth:
    """How a finding changed.

    Attributes
    ----------
    volumes_ml : earlier and later, in the body; both of the outlines where both have one, else both of the boxes' ellipsoids (pi/6 a b c).
    outlined : whether they are of outlines.
    diameters_mm : (earlier, later) of the longest, the second and the third diameter of the outlines; of the box's sides in the body by size
        where there are no outlines, or one of the two volumes is of a curved transducer, on whose grid diameters are not those of the body.
    sides : whether they are of boxes.
    days : between the examinations, or None.
    """

    volumes_ml: tuple[float, float]
    outlined: bool
    diameters_mm: tuple[tuple[float, float], ...]
    sides: bool
    days: int | None = None

    @property
    def volume_change_percent(self) -> float:
        return 100 * (self.volumes_ml[1] / self.volumes_ml[0] - 1)

    @property
    def diameter_change_percent(self) -> float:
        """Of the longest diameter."""
        earlier, later = self.diameters_mm[0]
        return 100 * (later / earlier - 1)

    @property
    def doubling_days(self) -> float | None:
        """Volume doubling time t ln 2 / ln(V2 / V1) (Schwartz, Cancer 1961;14:1272), days; negative where the volume halves in that time.

        None without dates, on one day, and where the change of the volume rounds to 0 %: a time of centuries would come from the rounding.
        """
        if not self.days or abs(self.volume_change_percent) < _UNCHANGED_PERCENT:
            return None
        return self.days * math.log(2) / math.log(self.volumes_ml[1] / self.volumes_ml[0])


@dataclass(frozen=True)
class Comparison:
    """Two examinations of one breast.

    Attributes
    ----------
    earlier, later : the studies.
    pairs : those that were followed by their later id's place, then new, gone, not imaged ones.
    shift : see `body_shift`.
    aligned : whether the nipples were laid over each other; else coordinates were taken as they are.
    days : between the examinations; None where their dates are not known.
    limit_mm : see `compare`.
    notes : sentences on what speaks against comparing the two, or against what is new or gone.
    """

    earlier: Study
    later: Study
    pairs: tuple[Pair, ...]
    shift: tuple[float, float, float]
    aligned: bool
    days: int | None
    limit_mm: float
    notes: tuple[str, ...] = ()

    def of(self, status: str) -> tuple[Pair, ...]:
        return tuple(pair for pair in self.pairs if pair.status == status)

    def growth(self, pair: Pair) -> Growth | None:
        """How a finding that was followed changed; None for others, and where one of the two has no size."""
        if pair.status != FOLLOWED:
            return None
        sizes = [self.size(*s) for s in ((self.earlier, pair.earlier), (self.later, pair.later))]
        outlined = all(size.outlined for size in sizes)
        if not outlined:
            sizes = [_box_size(*s) for s in ((self.earlier, pair.earlier), (self.later, pair.later))]
        if not all(size.volume > 0 and size.diameters[0] > 0 for size in sizes):
            return None
        diameters = tuple(zip(sizes[0].diameters, sizes[1].diameters, strict=True))
        return Growth((sizes[0].volume, sizes[1].volume), outlined, diameters, sizes[0].sides, self.days)

    def size(self, study: Study, finding: Finding) -> Size:
        """How large a finding of one of the two is, so that it can be compared with one of the other."""
        size = _size(study, finding)
        return replace(size, diameters=_box_size(study, finding).diameters, sides=True) if self.curved else size

    @property
    def curved(self) -> bool:
        """Whether one of the two is of a curved transducer."""
        return any(study.image.acquisition is not None for study in (self.earlier, self.later))

    @property
    def summary(self) -> str:
        """One sentence: "2 followed, 1 new, 0 gone, 0 outside one of the volumes."""
        counts = [len(self.of(s)) for s in (FOLLOWED, NEW, GONE, NOT_IMAGED)]
        text = f"{counts[0]} followed, {counts[1]} new, {counts[2]} gone"
        return text + (f", {counts[3]} outside one of the volumes." if counts[3] else ".")


def compare(
    earlier: Study,
    later: Study,
    *,
    limit_mm: float = LIMIT_MM,
    days: int | None = None,
) -> Comparison:
    """Match the findings of two examinations of a breast by position.

    Findings are matched so that the sum of the pairs' distances, with `limit_mm` for every possible pair that is not made, is least
    (linear assignment); none are further apart than the limit. Size and looks play no part, so that what grew or shrank is followed.

    Parameters
    ----------
    earlier, later : of volumes of the same breast in the same view. Nipples in their provenance (`breast_position.with_positions`) are laid
        over each other; without them the volumes' coordinates are taken as they are.
    limit_mm : findings further apart than this are not the same.
    days : between the examinations, for the doubling time; 0: on one day; None: not known.

    Raises
    ------
    UsageError : volumes of different breasts, as they or their nipples say, or in different views whose nipples are not known, 2D images, unknown spacing; a limit that is not positive, a number of days that is negative.
    """
    from scipy.optimize import linear_sum_assignment

    if not (math.isfinite(limit_mm) and limit_mm > 0):
        raise UsageError(f"The limit is {limit_mm:g} mm; it must be a positive number.")
    if days is not None and days < 0:
        raise UsageError(f"There are {days} days between the examinations; give the earlier one first.")
    check_comparable(earlier.image, later.image)
    _check_sides(*((study.image, side_of(study)) for study in (earlier, later)))
    shift = body_shift(earlier, later)
    aligned = _nipple(earlier) is not None and _nipple(later) is not None
    notes = _check_views(earlier.image, later.image, aligned)
    before = [np.add(earlier.physical_box(f).center, shift) for f in earlier.findings]
    after = [np.asarray(later.physical_box(f).center) for f in later.findings]
    matched: list[Pair] = []
    if before and after:
        distances = np.linalg.norm(np.array(before)[:, None] - np.array(after)[None], axis=2)
        # A pair beyond the limit costs as much as none: it is assigned only where nothing nearer is lost by it, and dropped.
        for i, j in zip(*linear_sum_assignment(np.minimum(distances, limit_mm)), strict=True):
            if distances[i, j] < limit_mm:
                matched.append(Pair(FOLLOWED, earlier.findings[i], later.findings[j], float(distances[i, j])))
    taken = {id(f) for pair in matched for f in (pair.earlier, pair.later)}
    order = {id(f): i for i, f in enumerate(later.findings)}
    matched.sort(key=lambda pair: order[id(pair.later)])
    alone: list[Pair] = []
    back = tuple(-v for v in shift)
    for finding in later.findings:
        if id(finding) not in taken:
            place = place_in(earlier.image, later.image, finding.box.center, back)
            alone.append(Pair(NEW if place.inside else NOT_IMAGED, None, finding, place=place))
    for finding in earlier.findings:
        if id(finding) not in taken:
            place = place_in(later.image, earlier.image, finding.box.center, shift)
            alone.append(Pair(GONE if place.inside else NOT_IMAGED, finding, None, place=place))
    alone.sort(key=lambda pair: (NEW, GONE, NOT_IMAGED).index(pair.status))
    notes += _on_rejected(earlier, later, {pair.status for pair in alone})
    return Comparison(earlier, later, (*matched, *alone), shift, aligned, days, float(limit_mm), notes)


def _on_rejected(earlier: Study, later: Study, statuses: set[str]) -> tuple[str, ...]:
    """Notes on what was found and is new or gone all the same, as a reader rejected it; where it was is not kept."""
    notes = []
    for study, side, status, doubt in (
        (earlier, "earlier", NEW, "what is new may be among them"),
        (later, "later", GONE, "what is gone may be among them"),
    ):
        if study.rejected and status in statuses:
            notes.append(f"the reader rejected {study.rejected} of the {side} findings; {doubt}")
    return tuple(notes)


def _check_views(earlier: ImageInfo, later: ImageInfo, aligned: bool) -> tuple[str, ...]:
    """A note on volumes in two views, whose nipples are laid over each other. Each volume's coordinates begin where its sweep does, so that
    without them positions in two views say nothing: `UsageError`."""
    if not (earlier.view and later.view) or earlier.view == later.view:
        return ()
    views = f"{earlier.path} was taken in the view {earlier.view} and {later.path} in the view {later.view}"
    if not aligned:
        raise UsageError(
            f"{views}, whose positions do not agree; compare volumes of one view, or give --earlier-nipple and --later-nipple."
        )
    return (f"{views}: positions agree near the nipple at best, as the breast lies differently",)


def days_between(earlier: date | None, later: date | None) -> int | None:
    """Days from one examination to the next; None where a date is not known. Raises `UsageError` where the later one is earlier."""
    if earlier is None or later is None:
        return None
    days = (later - earlier).days
    if days < 0:
        raise UsageError(
            f"The earlier examination is of {earlier} and the later one of {later}; give the earlier one first."
        )
    return days


# ------------------------------------------------------------------------------------------------------------- table


_SIDES = ("earlier", "later")
COLUMNS = (
    "status",
    *(f"{side}_finding" for side in _SIDES),
    "distance_mm",
    "size_of",
    *(f"{side}_volume_ml" for side in _SIDES),
    "volume_change_percent",
    *(f"{side}_{name}_mm" for name in ("longest", "second", "third") for side in _SIDES),
    "longest_change_percent",
    "days",
    "doubling_days",
    *(f"{side}_{name}" for name in ("score", "malignancy") for side in _SIDES),
    *(f"{side}_{axis}_mm" for side in _SIDES for axis in "xyz"),
)


def comparison_rows(comparison: Comparison) -> list[dict[str, object]]:
    """One row a pair, by `COLUMNS`; None for what there is not. Positions are in the body; of a lone finding where it would be, too."""
    return [_row(comparison, pair) for pair in comparison.pairs]


def comparison_csv(comparison: Comparison) -> str:
    """The table as CSV text."""
    return to_csv(COLUMNS, comparison_rows(comparison))


def _row(comparison: Comparison, pair: Pair) -> dict[str, object]:
    row: dict[str, object] = {"status": pair.status, "distance_mm": pair.distance_mm, "days": comparison.days}
    for side, study, finding in zip(
        _SIDES, (comparison.earlier, comparison.later), (pair.earlier, pair.later), strict=True
    ):
        if finding is None:
            point = (
                pair.place.point
                if study.image.acquisition is None
                else study.image.acquisition.to_physical(pair.place.point)
            )
        else:
            point = study.physical_box(finding).center
            size = comparison.size(study, finding)
            row |= {
                f"{side}_finding": finding.id,
                f"{side}_score": finding.score,
                f"{side}_malignancy": finding.malignancy,
            }
            row |= {"size_of": _source(size.outlined, size.sides), f"{side}_volume_ml": size.volume}
            row |= {f"{side}_{n}_mm": d for n, d in zip(("longest", "second", "third"), size.diameters, strict=True)}
        row |= {f"{side}_{axis}_mm": float(v) for axis, v in zip("xyz", point, strict=True)}
    growth = comparison.growth(pair)
    if growth is not None:
        row["size_of"] = _source(growth.outlined, growth.sides)
        for i, side in enumerate(_SIDES):
            row[f"{side}_volume_ml"] = growth.volumes_ml[i]
            row |= {
                f"{side}_{n}_mm": d[i] for n, d in zip(("longest", "second", "third"), growth.diameters_mm, strict=True)
            }
        row["volume_change_percent"] = growth.volume_change_percent
        row["longest_change_percent"] = growth.diameter_change_percent
        row["doubling_days"] = growth.doubling_days
    return row


def _source(outlined: bool, sides: bool) -> str:
    return "box" if not outlined else "outline, sides of the box" if sides else "outline"


# -------------------------------------------------------------------------------------------------------------- size


@dataclass(frozen=True)
class Size:
    """The size of a finding, in the body: `volume` in ml, three `diameters` in mm, the longest first; whether the volume is `outlined`, else that
    of the ellipsoid in the box; whether the diameters are `sides` of the box."""

    volume: float
    diameters: tuple[float, ...]
    outlined: bool
    sides: bool


def _size(study: Study, finding: Finding) -> Size:
    """The size of the outline, where one was measured, else of the box."""
    figures = [finding.measurements.get(name) for name in (_VOLUME, *_DIAMETERS)]
    # Where there is no outline, figures of these names would be of something else.
    if finding.label is None or any(v is None for v in figures):
        return _box_size(study, finding)
    # Outlines are measured on the grid; that of a curved transducer widens what lies deep.
    acquisition = study.image.acquisition
    scale = 1.0 if acquisition is None else float(acquisition.lateral_scale(finding.box.center))
    return Size(figures[0] * scale, tuple(figures[1:]), True, False)


def _box_size(study: Study, finding: Finding) -> Size:
    sides = tuple(sorted(study.physical_box(finding).size, reverse=True))
    return Size(math.pi / 6 * math.prod(sides) / 1000, sides, False, True)


def _nipple(study: Study) -> np.ndarray | None:
    """In the body; None where it was not marked."""
    record = study.provenance.get(NIPPLE)
    if not record:
        return None
    acquisition = study.image.acquisition
    point = np.asarray(record["position"], float)
    return point if acquisition is None else acquisition.to_physical(point)
