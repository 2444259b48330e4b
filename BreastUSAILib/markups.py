"""Boxes and points that a person placed, from Slicer's markups files (``.mrk.json``)."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from .errors import DataError, in_words
from .findings import Box

_TO_LPS = {"LPS": (1.0, 1.0, 1.0), "RAS": (-1.0, -1.0, 1.0), "0": (-1.0, -1.0, 1.0), "1": (1.0, 1.0, 1.0)}


@dataclass(frozen=True)
class OrientedBox:
    """An ROI: `center` (3,) LPS mm; `axes` 3x3, its axes as columns, LPS; `size` along these, mm."""

    center: tuple[float, float, float]
    axes: np.ndarray
    size: tuple[float, float, float]

    def along(self, image: sitk.Image) -> Box:
        """The smallest box along the axes of an image that holds this one."""
        directions = np.reshape(image.GetDirection(), (3, 3))
        # Half edges are projected on each axis, as in `mrml`.
        return Box(self.center, tuple(np.abs(np.linalg.inv(directions) @ self.axes) @ np.array(self.size)))


@dataclass(frozen=True)
class Markups:
    """What a file holds that a person can mean by "here": its ROIs, and the points of its point lists (LPS mm)."""

    boxes: tuple[OrientedBox, ...]
    points: tuple[tuple[float, float, float], ...]


def read_markups(path: Path) -> Markups:
    """Read the ROIs and the defined points of a markups file; lines, curves and planes in it are left out.

    Raises
    ------
    DataError : the file cannot be read, is not a markups file, or holds neither ROIs nor points.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        markups = data["markups"]
        boxes = tuple(_box(m) for m in markups if m["type"] == "ROI")
        points = tuple(
            _vector(point["position"], m)
            for m in markups
            if m["type"] == "Fiducial"
            for point in m.get("controlPoints", ())
            if point.get("positionStatus", "defined") == "defined"
        )
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); check its name.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no markups file of 3D Slicer ({in_words(error)}); save the ROI as .mrk.json.") from error
    if not boxes and not points:
        raise DataError(f"{path} holds no ROI and no point; draw one about each lesion and save it again.")
    return Markups(boxes, points)


def _box(markup: dict[str, Any]) -> OrientedBox:
    size = tuple(abs(float(v)) for v in markup["size"])
    axes = np.reshape([float(v) for v in markup.get("orientation", np.eye(3).ravel())], (3, 3))
    if len(size) != 3 or not np.isfinite(size).all() or not np.isfinite(axes).all():
        raise ValueError("a box that is not finite")
    # The rows of the matrix are the components of the axes in the file's coordinates.
    return OrientedBox(_vector(markup["center"], markup), np.diag(_signs(markup)) @ axes, size)


def _signs(markup: dict[str, Any]) -> tuple[float, float, float]:
    return _TO_LPS[str(markup.get("coordinateSystem", "LPS"))]


def _vector(values: Any, markup: dict[str, Any]) -> tuple[float, float, float]:
    x, y, z = (float(v) * s for v, s in zip(values, _signs(markup), strict=True))
    if not all(math.isfinite(v) for v in (x, y, z)):
        raise ValueError("a position that is not finite")
    return x, y, z
