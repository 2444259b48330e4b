"""Heatmap: an ABUS volume in; out comes what in it speaks for a lesion, as a volume on the very same grid and as findings.

The network has learnt from one point a lesion (`networks.resnet_3d`), so a hot spot is a place and not an outline: its box
says how far the heat reaches, not the lesion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from .detect import DEFAULT_THRESHOLD, box_measurements, check_volume
from .errors import ImageError, UsageError
from .findings import Box, Finding
from .grid import box_region
from .hot_spots import HotSpot, SpotRule, hot_spots

if TYPE_CHECKING:
    from .gradcam_3d import SpotMap
    from .models.entry import ModelEntry
    from .models.zoo import LoadedModel
    from .volume_input import VolumeInput

_NOTHING_TO_SEE = "the volume has one value everywhere; there is nothing to look at"
_SLICES_AT_A_TIME = 16
_LEAST_MARGIN_MM = 4.0  # of a finding's surroundings: a cell of the compact network's map


@dataclass(frozen=True)
class HeatOptions:
    """The operating point.

    Attributes
    ----------
    threshold : hot spots of a lower score are not reported, 0 to 1; None: the model's own, which validation chose. 0 reports all.
    maximum : hot spots a volume, the surest, at most; None: as many as the model allows.
    """

    threshold: float | None = None
    maximum: int | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 <= self.threshold < 1:
            raise UsageError(f"The threshold is {self.threshold}; it must be 0 or more and below 1.")
        if self.maximum is not None and self.maximum < 1:
            raise UsageError(f"The number of hot spots is {self.maximum}; it must be 1 or more.")

    def threshold_of(self, entry: ModelEntry) -> float:
        """The score from which on a model's hot spots are reported."""
        chosen = entry.postprocessing.get("threshold", DEFAULT_THRESHOLD) if self.threshold is None else self.threshold
        return float(chosen)


@dataclass(frozen=True)
class Heat:
    """What `heatmap` found out.

    Attributes
    ----------
    findings : the hot spots, H1, H2, ... by falling score.
    notes : sentences about the image.
    image : float32 on the input's grid. 0 where nothing speaks for a lesion, 1 as much as at the middle of a usual lesion (the median of the
        validation lesions), more where more does. None for a volume without contrast.
    """

    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    image: sitk.Image | None = field(default=None, repr=False, compare=False)


def heatmap(
    image: sitk.Image,
    model: LoadedModel,
    options: HeatOptions = HeatOptions(),
    *,
    spacing_known: bool = True,
    progress: Callable[[float, str], None] | None = None,
) -> Heat:
    """Find what in a volume speaks for a lesion.

    Parameters
    ----------
    image : 3D, scalar; any grid. Its axes are taken as lateral, depth (from the skin on), slice.
    model : a patch classifier (`models.zoo.load(..., "heatmap")`).
    options : see `HeatOptions`.
    spacing_known : whether the image's spacing is in millimetres.
    progress : called with a fraction 0 to 1 and what is being done.

    Returns
    -------
    Heat. A finding's box encloses its hot spot; its evidence has ``heat_peak``, where the peak is (``peak_x``, ``peak_y``, ``peak_z``, LPS mm), and
    what `evidence_of` says.

    Raises
    ------
    ImageError : see `detect.detect`.
    """

    def tell(fraction: float, message: str) -> None:
        if progress is not None:
            progress(fraction, message)

    notes = check_volume(image, spacing_known)
    tell(0.0, "preparing the volume")
    seen = look(image, model)
    if seen is None:
        return Heat(notes=(*notes, _NOTHING_TO_SEE))
    tell(0.6, "drawing the map")
    full = seen.rule.full_heat
    heat = on_grid_of(image, seen.heat(seen.cells), seen.volume, model.network.scale, seen.degree)
    tell(0.9, "looking for hot spots")
    threshold = options.threshold_of(model.entry)
    kept = [spot for spot in seen.spots() if spot.score >= threshold][: options.maximum]
    findings = []
    for number, spot in enumerate(kept, 1):
        box = seen.physical_box(image, spot)
        peak = dict(zip(("peak_x", "peak_y", "peak_z"), seen.physical_peak(image, spot), strict=True))
        findings.append(
            Finding(
                id=f"H{number}",
                box=box,
                score=spot.score,
                measurements=box_measurements(image, box, spacing_known),
                evidence={"heat_peak": spot.value / full, **peak, **evidence_of(heat, box)},
                models={"heatmap": model.entry.id},
            )
        )
    tell(1.0, "done")
    return Heat(tuple(findings), notes, heat)


@dataclass(frozen=True)
class Seen:
    """What a network says of a volume, before anything is chosen.

    Attributes
    ----------
    volume : the image as the network saw it.
    cells : (z, y, x) float32; see `gradcam_3d.activation`.
    map : the same on a grid of about a millimetre.
    rule, crop : the model's, and the (z, y, x) voxels that it learnt from.
    degree : by which its cells are interpolated, see `gradcam_3d.interpolation`.
    """

    volume: VolumeInput
    cells: np.ndarray
    map: SpotMap
    rule: SpotRule
    crop: Sequence[int]
    degree: int = 1

    def spots(self) -> list[HotSpot]:
        """All hot spots, by falling score; in voxels of `map`."""
        return hot_spots(self.map.activation, self.map.spacing, self.map.window(self.crop), self.rule)

    def heat(self, activation: np.ndarray) -> np.ndarray:
        """Activation on the model's scale of heat: 0 at the floor, 1 at full heat; below 0 where it says less than the floor."""
        return (activation - np.float32(self.rule.floor)) / np.float32(self.rule.full_heat)

    def physical_box(self, image: sitk.Image, spot: HotSpot) -> Box:
        """A hot spot's box, LPS mm."""
        return self.volume.physical_box(image, np.multiply(spot.box, self.map.step * 2))

    def physical_peak(self, image: sitk.Image, spot: HotSpot) -> tuple[float, float, float]:
        """A hot spot's hottest place, LPS mm."""
        place = np.multiply(spot.peak, self.map.step)
        return self.volume.physical_box(image, (*place, *place)).center

    def point_of(self, image: sitk.Image, position: Sequence[float]) -> np.ndarray:
        """A position in LPS mm as voxels (z, y, x) of `map`, (3,) float64."""
        box = Box(tuple(float(v) for v in position), (0.0, 0.0, 0.0))
        return self.volume.grid_box(image, box)[:3] / self.map.step


def looks_of(entry: ModelEntry) -> int:
    """How many looks at a volume and its mirror images validation chose (`mirrors.MIRRORS`); 1 where a model does not say."""
    return int(entry.postprocessing.get("mirrors", 1))


def degree_of(entry: ModelEntry) -> int:
    """By which spline a model's cells are interpolated (`gradcam_3d.interpolation`); 1, linearly, where it does not say."""
    return int(entry.postprocessing.get("spline", 1))


def look(image: sitk.Image, model: LoadedModel) -> Seen | None:
    """What the network says of a volume; None where the volume has one value everywhere."""
    from .gradcam_3d import activation, spot_map
    from .volume_input import network_input

    preprocessing = model.entry.preprocessing
    volume = network_input(image, preprocessing["spacing"])
    if volume.constant:
        return None
    mirrors = looks_of(model.entry)
    cells = activation(model.network, volume.levels, device=model.device.name, mirrors=mirrors)
    degree = degree_of(model.entry)
    fine = spot_map(cells, model.network.scale, volume.levels.shape, volume.spacing, degree)
    return Seen(volume, cells, fine, SpotRule.of(model.entry.postprocessing), preprocessing["crop"], degree)


def on_grid_of(
    image: sitk.Image, cells: np.ndarray, volume: VolumeInput, scale: Sequence[int], degree: int = 1
) -> sitk.Image:
    """The heat of cells on the grid of the image that it is of; float32, see `Heat`. `degree`: see `gradcam_3d.interpolation`."""
    import torch

    from .gradcam_3d import interpolation

    size = image.GetSize()[::-1]
    places = [(np.arange(n) + 0.5) / s - 0.5 for n, s in zip(size, volume.scale, strict=True)]
    along_z, along_y, along_x = (
        torch.from_numpy(interpolation(*args, degree)) for args in zip(cells.shape, scale, places, strict=True)
    )
    planes = (along_y @ torch.from_numpy(cells) @ along_x.T).flatten(1)
    heat = np.empty(size, np.float32)
    for first in range(0, size[0], _SLICES_AT_A_TIME):  # in pieces, as volumes may be large
        part = (along_z[first : first + _SLICES_AT_A_TIME] @ planes).clamp_min_(0)
        heat[first : first + _SLICES_AT_A_TIME] = part.reshape(-1, *size[1:]).numpy()
    result = sitk.GetImageFromArray(heat)
    result.CopyInformation(image)
    return result


# ---------------------------------------------------------------------------------------------------------- evidence


def evidence_of(heat: sitk.Image, box: Box) -> dict[str, float]:
    """How warm it is inside a box, and in its surroundings.

    Returns
    -------
    dict : ``heat_inside`` and ``heat_highest``, mean and maximum in the box; ``heat_around``, the mean in the shell about it, half the box's
        longest side wide and 4 mm at least; ``heat_above_surroundings``, inside less around.

    Raises
    ------
    ImageError : the box lies outside of the map.
    """
    start, size = box_region(heat, box)
    margin = max(_LEAST_MARGIN_MM, max(box.size) / 2)
    wide_start, wide_size = box_region(heat, box, margin_mm=margin)
    array = sitk.GetArrayViewFromImage(heat)

    def part(first: Sequence[int], extent: Sequence[int]) -> np.ndarray:
        return array[tuple(slice(a, a + n) for a, n in zip(first[::-1], extent[::-1], strict=True))]

    inside, wide = part(start, size), part(wide_start, wide_size)
    within = float(inside.sum(dtype=np.float64))
    shell = wide.size - inside.size
    mean = within / inside.size
    around = (float(wide.sum(dtype=np.float64)) - within) / shell if shell else 0.0
    return {
        "heat_inside": mean,
        "heat_highest": float(inside.max()),
        "heat_around": max(0.0, around),
        "heat_above_surroundings": mean - max(0.0, around),
    }


def with_evidence(findings: Sequence[Finding], heat: sitk.Image) -> tuple[Finding, ...]:
    """Findings of any task with what a map says of them (`evidence_of`) in their evidence; those outside of the map as they are."""
    richer = []
    for finding in findings:
        try:
            evidence = evidence_of(heat, finding.box)
        except ImageError:
            richer.append(finding)
            continue
        richer.append(replace(finding, evidence={**finding.evidence, **evidence}))
    return tuple(richer)
