"""Where voxels lie in the body, for a volume that a curved transducer swept and that was not scan-converted.

Such a volume (GE Invenia ABUS) is stored, shown and worked on as a box: columns are scan lines, rows are depth. In the body the
scan lines fan in, as the transducer's face is an arc around a point below the skin. `CurvedAcquisition` goes from positions on
the volume's own grid (LPS, mm, which is where masks, boxes and network inputs live) to the true ones and back. It is
what 3D Slicer's DICOMGeAbusPlugin does with a grid transform above the volume, here in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import DataError

KIND = "curved-probe"


@dataclass(frozen=True)
class CurvedAcquisition:
    """Geometry of one sweep of a curved transducer along a straight track.

    Grid positions are those of the image as it was read: its first axis runs along LPS x (lateral), its second along y
    (depth), its third along z (slices). With s the arc length along the transducer's face from its middle, d the depth
    below it and z the way along the track (all from `middle`, mm), and R the radius of the face, a scan line stands at the
    angle s / R and its point at the distance R - d from the centre of the arc:

        x = (R - d) sin(s / R),   y = R - (R - d) cos(s / R),   z = z

    in LPS, with the middle of the face in the middle of the sweep at (0, 0, 0).

    Attributes
    ----------
    radius : R, mm. Positive: the face is hollow, as for the breast, scan lines converge with depth. Negative: it bulges and they
        diverge.
    middle : grid position (LPS, mm) of the middle of the face in the middle of the sweep.
    """

    radius: float
    middle: tuple[float, float, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "radius", float(self.radius))
        object.__setattr__(self, "middle", tuple(float(v) for v in self.middle))
        if not (math.isfinite(self.radius) and self.radius != 0):
            raise DataError(f"the transducer's radius is {self.radius}; it must be a finite number of mm, not 0.")
        if len(self.middle) != 3 or not all(math.isfinite(v) for v in self.middle):
            raise DataError(f"the middle of the transducer's face is {self.middle}; three finite numbers are needed.")

    def to_physical(self, points: Sequence[float] | np.ndarray) -> np.ndarray:
        """True positions (..., 3), LPS mm, of grid positions (..., 3), LPS mm."""
        arc, depth, along = np.moveaxis(np.asarray(points, float) - self.middle, -1, 0)
        angle, distance = arc / self.radius, self.radius - depth
        return np.stack([distance * np.sin(angle), self.radius - distance * np.cos(angle), along], axis=-1)

    def from_physical(self, points: Sequence[float] | np.ndarray) -> np.ndarray:
        """Grid positions (..., 3) of true positions (..., 3): the inverse of `to_physical`, within half a turn."""
        x, y, along = np.moveaxis(np.asarray(points, float), -1, 0)
        side = math.copysign(1.0, self.radius)
        angle = np.arctan2(side * x, side * (self.radius - y))
        depth = self.radius - side * np.hypot(x, self.radius - y)
        return np.stack([angle * self.radius, depth, along], axis=-1) + self.middle

    def lateral_scale(self, points: Sequence[float] | np.ndarray) -> np.ndarray:
        """True mm for a lateral mm of the grid at grid positions (..., 3): 1 at the face, (R - d) / R at the depth d.

        Depth and slice keep their lengths, so areas across the scan lines and volumes scale by the same factor.
        """
        depth = np.asarray(points, float)[..., 1] - self.middle[1]
        return 1 - depth / self.radius

    def axes(self, point: Sequence[float]) -> np.ndarray:
        """3x3, columns: the true directions of lateral, depth and slice at a grid position."""
        angle = (point[0] - self.middle[0]) / self.radius
        sine, cosine = math.sin(angle), math.cos(angle)
        return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])

    def physical_extent(self, center: Sequence[float], size: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Centre (3,) and size (3,) in the body of a box of the grid, from its centre (LPS, mm) and its extents.

        The centre is the true position of the box's centre. In the body the box is a wedge; the size is its extents through that
        centre: the arc across the scan lines there (which a ruler finds shorter by less than 0.1 % up to 60 mm), the depth, the
        way along the track. They run along `axes` of the centre, not along LPS.
        """
        lateral, depth, along = size
        return self.to_physical(center), np.array([lateral * float(self.lateral_scale(center)), depth, along])

    def to_dict(self) -> dict[str, Any]:
        return {"kind": KIND, "radius_mm": self.radius, "middle": list(self.middle)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CurvedAcquisition:
        if data.get("kind") != KIND:
            raise DataError(f"an acquisition of the kind {data.get('kind')!r} is not known; {KIND!r} is.")
        return cls(data["radius_mm"], tuple(data["middle"]))
