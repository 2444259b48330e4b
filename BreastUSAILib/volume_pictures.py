"""Pictures of a volume and what was found in it: three cuts through each finding, and a projection with all boxes.

The axes of the volume are lateral, depth (from the skin on), slice, as in `detect`. Pictures are `pictures.View`: whole
voxels, and how many millimetres they measure, so that they are drawn undistorted.

The lateral axis runs to the right and depth down, as the voxels are stored. The slices run so that the coronal picture is what one sees from the skin, and not its mirror
image, which is what one would see from the chest wall: upwards and, in the sagittal picture, to the left in a right-handed volume, the other way in a left-handed one. So
the head is up and on the left where the axes are the patient's, and a body looks the same in whichever order its slices are stored; they keep their
numbers. What is said to be drawn below counts voxels in this order, from the volume's edges.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from .findings import Finding, Study
from .grid import is_left_handed, physical_to_index
from .pictures import Outline, View, hex_color, polygons, to_grey
from .terminology import lesion_color

FIELD_MM = 50.0  # a cut shows so much about a finding: the skin above and the chest wall below most lesions
FIELD_RATIO = 2.5  # and so many times the finding's longest side, where that is more
_ROUNDING = 1e-4  # voxels; a way to millimetres and back costs less
_GREY_SAMPLE = 2**20  # voxels that the grey values are chosen by, about


@dataclass(frozen=True)
class Plane:
    """A cutting plane: its usual name, and the volume's axes that run across and down its pictures."""

    name: str
    across: int
    down: int

    @property
    def through(self) -> int:
        """The axis that is cut."""
        return 3 - self.across - self.down


TRANSVERSE, SAGITTAL, CORONAL = Plane("Transverse", 0, 1), Plane("Sagittal", 2, 1), Plane("Coronal", 0, 2)
PLANES = (TRANSVERSE, SAGITTAL, CORONAL)
AXES = ("lateral", "depth", "slice")  # what the volume's axes are called
_SLICES = AXES.index("slice")
_NEARLY = 0.8  # cosine; so near an axis of the volume is to the patient's for sides to be named


def slices_turned(volume: sitk.Image) -> bool:
    """Whether the last slice that is stored is drawn first, at the top or on the left."""
    return not is_left_handed(volume)


def seen_from_the_skin(volume: sitk.Image) -> str:
    """How the patient lies in a coronal picture, in words; "" where the volume's axes are not nearly the patient's, or are those of a file that
    states none, for which the identity stands."""
    direction = np.reshape(volume.GetDirection(), (3, 3))
    across, along = direction[0, 0], direction[2, 2]
    if min(abs(across), abs(along)) < _NEARLY or np.array_equal(direction, np.eye(3)):
        return ""
    head_up = (along > 0) == slices_turned(volume)
    return f"the patient's {'left' if across > 0 else 'right'} on the right, head {'up' if head_up else 'down'}"


def axes_in_words(volume: sitk.Image, plane: Plane) -> str:
    """Which axes run across and down a plane's pictures, and which way the slices run."""
    turned = slices_turned(volume)
    leftwards = " (to the left)" if turned and plane.across == _SLICES else ""
    down = "up" if turned and plane.down == _SLICES else "down"
    return f"across: {AXES[plane.across]}{leftwards}, {down}: {AXES[plane.down]}"


@dataclass(frozen=True)
class Cut:
    """One cut: its plane, which voxel of the axis that is cut (from 1), and the picture."""

    plane: Plane
    number: int
    view: View


def grey_range(volume: sitk.Image) -> tuple[float, float] | None:
    """The values that are shown black and white: 0.5 % and 99.5 % quantiles of the volume; None: 8-bit values, shown as they are."""
    array = sitk.GetArrayViewFromImage(volume)
    if array.dtype == np.uint8:
        return None
    step = max(1, round((array.size / _GREY_SAMPLE) ** (1 / 3)))
    low, high = np.percentile(array[::step, ::step, ::step], (0.5, 99.5))
    return float(low), float(high)


def cuts(
    volume: sitk.Image, study: Study, finding: Finding | None = None, greys: tuple[float, float] | None = None
) -> tuple[Cut, Cut, Cut]:
    """Transverse, sagittal and coronal cut through the centre of a finding, of one scale, with all boxes that they meet.

    Parameters
    ----------
    volume : 3D, of several slices along each axis.
    study : about `volume`; masks lie on its grid, where there are any.
    finding : the one in whose middle is cut, with `FIELD_MM` or more about it; None: the middle of the volume, whole.
    greys : see `grey_range`.
    """
    size = np.array(volume.GetSize())
    first, last = (np.zeros(3, int), size) if finding is None else _field_of(volume, finding)
    drawn = size // 2 if finding is None else _drawn_voxel(volume, finding.box.center)
    numbers = _other_order(volume, drawn) + 1
    return tuple(Cut(p, int(numbers[p.through]), _cut(volume, study, p, drawn, first, last, greys)) for p in PLANES)


def section(
    volume: sitk.Image, study: Study, finding: Finding, number: int, greys: tuple[float, float] | None = None
) -> View:
    """The transverse cut through a volume at a slice (from 0), about a finding as in `cuts`; parameters as there.

    `volume` may be another image on the same grid, a map for instance, of which the same part is shown.
    """
    first, last = _field_of(volume, finding)
    index = voxel_at(volume, finding.box.center)
    index[_SLICES] = number
    return _cut(volume, study, TRANSVERSE, _other_order(volume, index), first, last, greys)


def projection(volume: sitk.Image, study: Study) -> tuple[View, tuple[float, float]]:
    """The volume from the skin (coronal): its mean over the depths at which there are findings, with all their boxes.

    Returns
    -------
    view : the whole volume; lateral runs across, slices up or down, see above.
    depths : from and to, mm from the volume's upper edge; the whole depth where nothing was found.
    """
    depth, spacing = volume.GetSize()[1], volume.GetSpacing()[1]
    spans = [_span(volume, finding, 1) for finding in study.findings] or [(0, depth)]
    first = int(np.clip(np.floor(min(low for low, _ in spans) + _ROUNDING), 0, depth - 1))
    last = int(np.clip(np.ceil(max(high for _, high in spans) - _ROUNDING), first + 1, depth))
    mean = sitk.GetArrayViewFromImage(volume)[:, first:last].mean(axis=1, dtype=np.float32)
    # Breast fills the picture and air is black: squared, what is a little darker than the breast can be told from it.
    mean = (mean - mean.min()) ** 2
    mean = mean[::-1] if slices_turned(volume) else mean
    outlines = tuple(_outline(volume, f, i, CORONAL, ()) for i, f in enumerate(study.findings))
    return View(to_grey(mean), _pixel_size(volume, CORONAL), outlines), (first * spacing, last * spacing)


def voxel_at(volume: sitk.Image, point) -> np.ndarray:
    """Index (3,) of the voxel that a point (LPS, mm) lies in, or of the nearest; on a border, of the next one as they are stored (of a left-handed
    volume's slices, of the one before, which is the same place of the body)."""
    return _other_order(volume, _drawn_voxel(volume, point))


def _drawn_voxel(volume: sitk.Image, point) -> np.ndarray:
    """`voxel_at`, as it is drawn."""
    at = _drawn_at(volume, point)
    voxel = np.floor(at + _ROUNDING)
    voxel[_SLICES] = np.ceil(at[_SLICES] - _ROUNDING) - 1  # which is the next one where the slices are turned
    return np.clip(voxel, 0, np.array(volume.GetSize()) - 1).astype(int)


def _drawn_at(volume: sitk.Image, point) -> np.ndarray:
    """Where (3,) a point (LPS, mm) is drawn, voxels from the volume's edges."""
    at = physical_to_index(volume, point) + 0.5
    if slices_turned(volume):
        at[_SLICES] = volume.GetSize()[_SLICES] - at[_SLICES]
    return at


def _other_order(volume: sitk.Image, index: np.ndarray) -> np.ndarray:
    """From a voxel as it is stored to as it is drawn, and back."""
    index = np.array(index)
    if slices_turned(volume):
        index[_SLICES] = volume.GetSize()[_SLICES] - 1 - index[_SLICES]
    return index


def _field_of(volume: sitk.Image, finding: Finding) -> tuple[np.ndarray, np.ndarray]:
    """The field about a finding that is drawn, `FIELD_MM` wide or more."""
    centre = _drawn_at(volume, finding.box.center)
    field = max(FIELD_MM, FIELD_RATIO * max(finding.box.size)) / np.array(volume.GetSpacing())
    return _field(centre, field, np.array(volume.GetSize()))


def _field(centre: np.ndarray, field: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First voxel and the one after the last of a field about a centre; one that would leave the volume is moved inside."""
    number = np.minimum(np.ceil(field), size).astype(int)
    first = np.clip(np.floor(centre - number / 2 + 0.5 + _ROUNDING), 0, size - number).astype(int)
    return first, first + number


def _cut(volume, study: Study, plane: Plane, index, first, last, greys) -> View:
    """The cut through a voxel, of a field; both as they are drawn."""
    region = _region(volume, plane, index, first, last)
    corner = np.array([first[plane.across], first[plane.down]])
    pixels = _section(sitk.GetArrayViewFromImage(volume), plane, region)
    outlines = []
    for number, finding in enumerate(study.findings):
        left, top, right, bottom = _box(volume, finding, plane) - np.tile(corner, 2)
        near, far = _span(volume, finding, plane.through)
        in_field = right > 0 and bottom > 0 and left < pixels.shape[1] and top < pixels.shape[0]
        if not in_field or not near <= index[plane.through] + 0.5 <= far:
            continue
        drawn = ()
        if finding.mask is not None:
            drawn = polygons(_section(sitk.GetArrayViewFromImage(finding.mask), plane, region))
        outline = _outline(volume, finding, number, plane, drawn)
        outlines.append(replace(outline, box=(float(left), float(top), float(right), float(bottom))))
    return View(to_grey(pixels, greys), _pixel_size(volume, plane), tuple(outlines))


def _region(volume: sitk.Image, plane: Plane, index, first, last) -> tuple[slice | int, ...]:
    """What of an array (z, y, x) lies in a cut through a voxel, in the order in which it is drawn."""
    region: list[slice | int] = [slice(int(a), int(b)) for a, b in zip(first, last, strict=True)]
    if slices_turned(volume):
        end = volume.GetSize()[_SLICES] - int(last[_SLICES])  # the first slice that is stored is drawn last
        region[_SLICES] = slice(volume.GetSize()[_SLICES] - 1 - int(first[_SLICES]), end - 1 if end else None, -1)
    region[plane.through] = int(_other_order(volume, index)[plane.through])
    return tuple(region[::-1])


def _section(array: np.ndarray, plane: Plane, region) -> np.ndarray:
    """(H, W): the part of an array (z, y, x) that a cut shows, its `down` axis first."""
    part = array[region]  # what is left of z, y, x, in this order
    return part.T if plane.down < plane.across else part


def _outline(volume: sitk.Image, finding: Finding, number: int, plane: Plane, drawn) -> Outline:
    return Outline(finding.id, hex_color(lesion_color(number)), drawn, tuple(float(v) for v in _box(volume, finding, plane)))


def _box(volume: sitk.Image, finding: Finding, plane: Plane) -> np.ndarray:
    """(left, top, right, bottom) of a finding's box on a plane as it is drawn, voxels of the whole volume."""
    (left, right), (top, bottom) = (_span(volume, finding, axis) for axis in (plane.across, plane.down))
    return np.array([left, top, right, bottom])


def _span(volume: sitk.Image, finding: Finding, axis: int) -> tuple[float, float]:
    """Where a finding's box begins and ends along an axis as it is drawn, voxels from the volume's edge."""
    centre = _drawn_at(volume, finding.box.center)[axis]
    half = finding.box.size[axis] / volume.GetSpacing()[axis] / 2
    return float(centre - half), float(centre + half)


def _pixel_size(volume: sitk.Image, plane: Plane) -> tuple[float, float]:
    spacing = volume.GetSpacing()
    return spacing[plane.across], spacing[plane.down]
