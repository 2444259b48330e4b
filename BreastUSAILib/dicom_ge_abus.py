"""Volumes of the GE Invenia ABUS: what the private elements say, and where the voxels lie.

The geometry is that of 3D Slicer's DICOMGeAbusPlugin (Andras Lasso, PerkLab), which is the only public description of it: the
volume's grid, and the acquisition transform above it. `docs/dicom.md` has the formulas and what is refused.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .acquisition import CurvedAcquisition
from .dicom_header import US_MULTIFRAME, number, numbers, text
from .errors import ImageError

if TYPE_CHECKING:
    from pydicom import Dataset

_CREATORS = ("U-Systems", "General Electric Company 01")
_GROUP = 0x0021
_RADIUS, _TRACK, _DEPTH = 0x40, 0x41, 0x63  # mm, mm, cm
_DEPTH_AGREES = 0.1  # the stated depth and that of the pixels may differ by this part


@dataclass(frozen=True)
class GeAbus:
    """A volume's grid (LPS, mm) and acquisition. The grid's axes are those of LPS: lateral = x, depth = y, slice = z."""

    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    acquisition: CurvedAcquisition
    notes: tuple[str, ...] = ()


def is_ge_abus(dataset: Dataset) -> bool:
    """Whether a header is of such a volume: an ultrasound multi-frame image that states the probe's curvature."""
    return dataset.get("SOPClassUID") in US_MULTIFRAME and _private(dataset, _RADIUS) is not None


def missing_geometry(dataset: Dataset) -> tuple[str, ...]:
    """A sentence where a volume of this scanner has lost the private elements with its geometry."""
    invenia = text(dataset, "ManufacturerModelName").lower().startswith("invenia")
    if not invenia or dataset.get("SOPClassUID") not in US_MULTIFRAME or is_ge_abus(dataset):
        return ()
    return (
        "the private elements of the GE Invenia are missing (removed when the file was de-identified?), so the "
        "transducer's curvature is not known: positions are on the flat grid of the scan lines, not in the body",
    )


def read_geometry(path: Path, dataset: Dataset, frames: int) -> GeAbus:
    """The geometry of a volume for which `is_ge_abus` is true.

    Raises
    ------
    ImageError : an element that is needed is missing or impossible; the track is curved.
    """
    plane = numbers(dataset, "PixelSpacing", 2)
    step = number(dataset, "SpacingBetweenSlices")
    for name, found in (("Pixel Spacing", plane), ("Spacing Between Slices", None if step is None else (step,))):
        if found is None or min(found) <= 0:
            raise _refused(path, f"{name} is missing or not positive")
    radius, track, depth_cm = (_number(_private(dataset, element)) for element in (_RADIUS, _TRACK, _DEPTH))
    for name, found in (("probe radius", radius), ("track radius", track), ("scan depth", depth_cm)):
        if found is None:
            raise _refused(path, f"its {name} is missing or no number")
    if track != 0:
        raise ImageError(
            f"{path} was scanned along a curved track (radius {track:g} mm), a geometry that is not known; only straight tracks "
            "are read: export the volume scan-converted, or as NRRD."
        )
    size = (int(dataset.Columns), int(dataset.Rows), frames)
    spacing = (plane[1], plane[0], step)
    depth = (size[1] - 1) * spacing[1]
    if radius == 0 or 0 < radius <= depth or abs((size[0] - 1) * spacing[0] / (2 * radius)) >= math.pi / 2:
        raise _refused(
            path, f"a probe of radius {radius:g} mm cannot see {depth:g} mm deep and {size[0] * spacing[0]:g} mm wide"
        )
    # As Slicer's plugin has it: the grid is centred by its number of voxels, the sweep by their centres.
    origin = (-size[0] * spacing[0] / 2, 0.0, -size[2] * spacing[2] / 2)
    middle = (origin[0] + (size[0] - 1) / 2 * spacing[0], 0.0, origin[2] + (size[2] - 1) / 2 * spacing[2])
    widest = 100 * (radius / (radius - depth) - 1)
    notes = (
        f"scanned with a curved transducer (radius {radius:g} mm): positions in the body are given apart from those on the grid, "
        f"on which lateral lengths are up to {abs(widest):.0f} % too {'long' if widest >= 0 else 'short'}",
    )
    if abs(size[1] * spacing[1] - 10 * depth_cm) > _DEPTH_AGREES * 10 * abs(depth_cm):
        notes += (
            f"the file states a scan depth of {10 * depth_cm:g} mm, and its rows make {size[1] * spacing[1]:g} mm",
        )
    return GeAbus(spacing, origin, CurvedAcquisition(radius, middle), notes)


def _refused(path: Path, why: str) -> ImageError:
    return ImageError(
        f"{path} is a GE Invenia ABUS volume without a usable geometry ({why}); export it again from the scanner."
    )


def _private(dataset: Dataset, element: int) -> Any:
    """The value of an element of our group, whichever block its creator has reserved; None where there is none."""
    for creator in _CREATORS:
        for block in range(0x10, 0x100):
            name = dataset.get((_GROUP, block))
            if name is None or _text(name.value) != creator:
                continue
            found = dataset.get((_GROUP, block << 8 | element))
            if found is not None and found.value not in (None, "", b""):
                return found.value
    return None


def _text(stored: Any) -> str:
    return (stored.decode("latin-1") if isinstance(stored, bytes) else str(stored)).strip(" \0")


def _number(stored: Any) -> float | None:
    """A finite number; from implicit transfer syntaxes, which do not say of what type private elements are, also its bytes."""
    if stored is None:
        return None
    try:
        found = float(_text(stored)) if isinstance(stored, (bytes, str)) else float(np.atleast_1d(stored)[0])
    except (TypeError, ValueError, IndexError):
        if not isinstance(stored, bytes) or len(stored) not in (4, 8):
            return None
        found = struct.unpack("<f" if len(stored) == 4 else "<d", stored)[0]
    return found if math.isfinite(found) else None
