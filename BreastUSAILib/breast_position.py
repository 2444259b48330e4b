"""Where a finding lies in the breast as a radiologist says it: o'clock, and how far from the nipple.

The clock face lies on the breast with the nipple in its middle, seen by somebody who faces the patient (ACR BI-RADS Atlas, 5th
edition, Ultrasound: location): 12 is towards the head, 3 is the patient's left. So 9 o'clock is the outer side of the right breast
and the inner side of the left one. The Atlas reports whole hours and whole centimetres, as readers do not agree on less; the sentence
does so, the measurements keep the exact figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .errors import UsageError
from .findings import Finding, ImageInfo, Study

CLOCK, DISTANCE = "clock_position_h", "nipple_distance_mm"  # names of the measurements
NIPPLE = "nipple"  # in the provenance: {"position": LPS mm on the image's grid, "laterality": "R" or "L"}
_SIDES = {"R": "Right breast", "L": "Left breast"}


@dataclass(frozen=True)
class BreastPosition:
    """Position relative to the nipple.

    Attributes
    ----------
    laterality : "R" or "L".
    clock_h : hours on the clock face, above 0 to 12; None where the finding is in line with the nipple.
    distance_mm : from the nipple, measured in the coronal plane, as a ruler on the breast does; depth is not part of it.
    """

    laterality: str
    clock_h: float | None
    distance_mm: float

    @property
    def behind_nipple(self) -> bool:
        """Whether the distance is 0 to the whole centimetre, where the hour says nothing."""
        return self.clock_h is None or self.distance_mm < 5.0

    @property
    def hour(self) -> int | None:
        """The hour as it is reported, 1 to 12; None behind the nipple."""
        if self.behind_nipple:
            return None
        return math.floor(self.clock_h + 0.5) or 12

    @property
    def quadrant(self) -> str:
        """ "upper outer", "lower inner" ...; a finding on the border of two belongs to the outer, the upper one; "central" behind the nipple."""
        if self.behind_nipple:
            return "central"
        angle = math.radians(30 * self.clock_h)
        up, left = round(math.cos(angle), 9), round(math.sin(angle), 9)
        outward = left if self.laterality == "L" else -left
        return f"{'upper' if up >= 0 else 'lower'} {'outer' if outward >= 0 else 'inner'}"

    def __str__(self) -> str:
        """As it stands in a report.

        >>> str(BreastPosition("R", 10.2, 38.0))
        'Right breast, 10 o’clock, 4 cm from the nipple (upper outer)'
        >>> str(BreastPosition("L", None, 0.0))
        'Left breast, behind the nipple'
        """
        side = _SIDES[self.laterality]
        if self.behind_nipple:
            return f"{side}, behind the nipple"
        return f"{side}, {self.hour} o’clock, {math.floor(self.distance_mm / 10 + 0.5)} cm from the nipple ({self.quadrant})"


def breast_position(point: Sequence[float], nipple: Sequence[float], laterality: str) -> BreastPosition:
    """The position of a point in the breast.

    Parameters
    ----------
    point, nipple : (x, y, z) in the body, LPS, mm: x to the patient's left, y to the back, z to the head.
    laterality : "R" or "L".

    Raises
    ------
    UsageError : another laterality, or a point that is not three finite numbers.

    Examples
    --------
    >>> breast_position((30, 20, 0), (0, 0, 0), "L")
    BreastPosition(laterality='L', clock_h=3.0, distance_mm=30.0)
    """
    if laterality not in _SIDES:
        raise UsageError(f"The laterality is {laterality!r}; a position in the breast needs R (right) or L (left).")
    (x, _, z), (x0, _, z0) = _point("finding", point), _point("nipple", nipple)
    left, up = x - x0, z - z0
    distance = math.hypot(left, up)
    if distance < 1e-3:
        return BreastPosition(laterality, None, 0.0)
    # Clockwise from 12, as seen from the front, where the patient's left is on the viewer's right. Rounded: 12, not 1e-16.
    hours = round(math.degrees(math.atan2(left, up)) / 30, 9) % 12
    return BreastPosition(laterality, hours or 12.0, distance)


def finding_position(study: Study, finding: Finding, nipple: Sequence[float], laterality: str = "") -> BreastPosition:
    """The position of a finding of a volume.

    Parameters
    ----------
    study : of a volume whose axes are the patient's, as far as the scanner knows: in lateral and medial views the probe is tilted,
        and hours are those of the probe's plane.
    finding : its box's centre counts.
    nipple : LPS, mm on the volume's grid, as masks and boxes are (`acquisition` goes on to the body).
    laterality : "R" or "L"; "" takes the volume's own.

    Raises
    ------
    UsageError : a 2D image, unknown spacing, a laterality that is not known or contradicts the volume's, or a nipple further than
        30 cm from the volume's middle.
    """
    side = check_laterality(study.image, laterality)
    nipple = _point("nipple", nipple)
    check_near(study.image, nipple)
    center, acquisition = study.physical_box(finding).center, study.image.acquisition
    return breast_position(center, nipple if acquisition is None else acquisition.to_physical(nipple), side)


def with_positions(study: Study, nipple: Sequence[float], laterality: str = "") -> Study:
    """The study with the o'clock position and the distance from the nipple among each finding's measurements.

    ``clock_position_h`` (None behind the nipple) and ``nipple_distance_mm``; nipple and breast are kept in the provenance. Parameters and
    errors are those of `finding_position`.
    """
    side = check_laterality(study.image, laterality)
    nipple = _point("nipple", nipple)
    check_near(study.image, nipple)
    findings = []
    for finding in study.findings:
        place = finding_position(study, finding, nipple, side)
        figures = {CLOCK: place.clock_h, DISTANCE: place.distance_mm}
        findings.append(replace(finding, measurements={**finding.measurements, **figures}))
    record = {"position": list(nipple), "laterality": side}
    return replace(study, findings=tuple(findings), provenance={**study.provenance, NIPPLE: record})


def position_of(study: Study, finding: Finding) -> BreastPosition | None:
    """What `with_positions` wrote, read back; None where no nipple was given."""
    record = study.provenance.get(NIPPLE)
    distance = finding.measurements.get(DISTANCE)
    if record is None or distance is None:
        return None
    return BreastPosition(record["laterality"], finding.measurements.get(CLOCK), distance)


def check_laterality(info: ImageInfo, laterality: str = "") -> str:
    """ "R" or "L": the one given, or the volume's own. Raises `UsageError` where there is none, or they contradict."""
    if info.dimension != 3 or not info.spacing_known:
        raise UsageError(
            f"{info.path}: a position in the breast needs a volume in millimetres, not an image of unknown place or pixel size."
        )
    known = info.laterality if info.laterality in _SIDES else ""
    _check_same_side(info, known, laterality)
    side = laterality or known
    if side not in _SIDES:
        raise UsageError(f"{info.path} does not say which breast it is; give the laterality, R or L.")
    return side


def side_of(study: Study) -> str:
    """ "R" or "L": the volume's own, else the one that was stated with its nipple; "" where neither says it."""
    stated = (study.provenance.get(NIPPLE) or {}).get("laterality")
    return next((side for side in (study.image.laterality, stated) if side in _SIDES), "")


def check_side(study: Study, laterality: str) -> None:
    """Refuse a given "R" or "L" that contradicts `side_of` a study. Raises `UsageError`."""
    _check_same_side(study.image, side_of(study), laterality)


def _check_same_side(info: ImageInfo, known: str, given: str) -> None:
    if given and known and given != known:
        raise UsageError(
            f"{info.path} is of the {_SIDES[known].lower()}, and {given} was given; leave the laterality out, or correct it."
        )


def check_near(info: ImageInfo, nipple: Sequence[float]) -> None:
    """Refuse a nipple that cannot belong to the volume (given in RAS, or in metres ...). Raises `UsageError`."""
    import numpy as np

    half = (np.array(info.size) - 1) / 2 * info.spacing
    middle = np.array(info.origin) + np.reshape(info.direction, (3, 3)) @ half
    if math.dist(middle, nipple) > _FARTHEST_MM:
        raise UsageError(
            f"The nipple at {', '.join(f'{v:g}' for v in nipple)} is {math.dist(middle, nipple):.0f} mm from the middle of {info.path}; "
            "give its position in LPS millimetres."
        )


_FARTHEST_MM = 300.0  # a breast with the volume's own half diagonal


def _point(name: str, values: Sequence[float]) -> tuple[float, float, float]:
    point = tuple(float(v) for v in values)
    if len(point) != 3 or not all(math.isfinite(v) for v in point):
        raise UsageError(f"The {name}'s position is {point}; three finite numbers in mm are needed.")
    return point
