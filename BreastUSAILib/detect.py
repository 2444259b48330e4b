"""Detect: an ABUS volume in, findings with boxes, scores and malignancy out.

The two-stage system of Yu et al. 2020 (MICCAI, see `networks.detection`): the detection network says where lesions may
be and how malignant each looks; a classification network looks at each of them again, and the two opinions are weighted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from .errors import ImageError, UsageError
from .findings import Box, Finding
from .grid import as_2d, physical_to_index

if TYPE_CHECKING:
    from .models.entry import ModelEntry
    from .models.zoo import LoadedModel

DEFAULT_THRESHOLD = 0.3
_MOST_MM = 450.0  # no scanner's volume is longer
_DEEPEST_MM = 100.0  # nor deeper: probes for ABUS reach 50 to 60 mm
_DEEPEST_2D_MM = 150.0  # no 2D ultrasound of a breast is deeper; linear probes show 30 to 100 mm
_WIDEST_2D_MM = 300.0  # nor wider, not even in an extended field of view; probes are 40 to 60 mm wide
_THINNEST_MM = 4.0  # of less no lesion is seen whole
_NOTHING_TO_SEE = "the volume has one value everywhere; there is nothing to look at"


@dataclass(frozen=True)
class DetectOptions:
    """The operating point.

    Attributes
    ----------
    threshold : findings of a lower score are not reported, 0 to 1; None: the model's own, which validation chose. 0 reports every
        candidate that the search kept, for a curve, or for a slider that hides and shows.
    maximum : findings a volume, the surest, at most; None: as many as the model allows.
    """

    threshold: float | None = None
    maximum: int | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 <= self.threshold < 1:
            raise UsageError(f"The threshold is {self.threshold}; it must be 0 or more and below 1.")
        if self.maximum is not None and self.maximum < 1:
            raise UsageError(f"The number of findings is {self.maximum}; it must be 1 or more.")

    def threshold_of(self, entry: ModelEntry) -> float:
        """The score from which on a model's findings are reported."""
        return float(
            self.threshold if self.threshold is not None else entry.postprocessing.get("threshold", DEFAULT_THRESHOLD)
        )


def detect(
    image: sitk.Image,
    model: LoadedModel,
    options: DetectOptions = DetectOptions(),
    *,
    classifier: LoadedModel | None = None,
    spacing_known: bool = True,
    progress: Callable[[float, str], None] | None = None,
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Find the lesions of a volume.

    Parameters
    ----------
    image : 3D, scalar; any grid. Its axes are taken as lateral, depth (from the skin on), slice.
    model : a detection network (`models.zoo.load(..., "detect")`).
    options : see `DetectOptions`.
    classifier : a lesion classifier (task "lesion-classifier") for the second opinion on malignancy; None: the detection
        network's opinion alone.
    spacing_known : whether the image's spacing is in millimetres; sizes are looked for in millimetres, so where it is not a note says
        what that means.
    progress : called with a fraction 0 to 1 and what is being done.

    Returns
    -------
    findings : L1, L2, ... by falling score, with boxes in LPS mm along the image's axes and their `box_measurements`; empty
        when there is no lesion.
    notes : sentences about the image, and on how it was searched.

    Raises
    ------
    ImageError : a 2D image or a single slice; a volume larger than a breast, as its spacing is wrong; axes that cannot be in this order.
    """
    from .candidates import Search
    from .multi_scale import find_on_grids
    from .volume_input import network_input

    def tell(fraction: float, message: str) -> None:
        if progress is not None:
            progress(fraction, message)

    notes = check_volume(image, spacing_known)
    tell(0.0, "preparing the volume")
    settings = model.entry.postprocessing
    search = Search.of(settings)
    spacing = np.asarray(model.entry.preprocessing["spacing"], float)
    volumes = []
    for scale in search.scales:
        volumes.append(network_input(image, spacing * scale))
        if volumes[0].constant:
            return (), (*notes, _NOTHING_TO_SEE)
    volume = volumes[0]
    candidates, more = find_on_grids(
        volumes,
        model.network,
        search,
        device=model.device.name,
        progress=lambda fraction, message: tell(0.2 + 0.6 * fraction, message),
    )
    threshold = options.threshold_of(model.entry)
    chosen = [
        c for c in zip(candidates.boxes, candidates.scores, candidates.malignancy, strict=True) if c[1] >= threshold
    ]
    findings = []
    for number, (edges, score, malignancy) in enumerate(chosen[: options.maximum], start=1):
        box = volume.physical_box(image, edges)
        findings.append(
            Finding(
                id=f"L{number}",
                box=box,
                score=float(score),
                malignancy=float(malignancy),
                measurements=box_measurements(image, box, spacing_known),
                models={"detect": model.entry.id},
            )
        )
    if classifier is not None and findings:
        from .lesion_classification import classify, other_detector

        other = other_detector(model, classifier)
        more = (*more, *([other] if other else []))
        tell(0.8, "judging each lesion")
        findings = classify(image, findings, classifier)
    tell(1.0, "done")
    return tuple(findings), (*notes, *more)


def box_measurements(image: sitk.Image, box: Box, spacing_known: bool = True) -> dict[str, float | None]:
    """What a box says of a lesion's size and place, along the axes of its volume.

    Returns
    -------
    dict : ``width_mm`` (lateral), ``height_mm`` (into the depth), ``length_mm`` (across the slices), and ``depth_mm`` from the volume's
        upper edge to the box; ``_px`` where the spacing is not known.
    """
    top = (physical_to_index(image, box.center)[1] + 0.5) * image.GetSpacing()[1] - box.size[1] / 2
    values = zip(("width", "height", "length", "depth"), (*box.size, max(0.0, float(top))), strict=True)
    return {f"{name}_{'mm' if spacing_known else 'px'}": value for name, value in values}


def check_picture(area: tuple[int, int, int, int], spacing: Sequence[float], spacing_known: bool = True) -> tuple[str, ...]:
    """Say where a 2D image is larger than a breast ultrasound: formats such as NRRD state a spacing also where nobody knew one (1 x 1 mm).

    It is not refused, as volumes are: the networks for 2D images look at pixels, and only lengths in mm are wrong.

    Parameters
    ----------
    area : the part that is ultrasound (x, y, width, height in pixels).
    spacing : of its pixels, x, y.

    Returns
    -------
    sentences for the reader.
    """
    if not spacing_known:
        return ()
    width, depth = (n * s for n, s in zip(area[2:], spacing, strict=True))
    size, pixel = f"{width:.0f} x {depth:.0f} mm", " x ".join(f"{s:g}" for s in spacing)
    if width > _WIDEST_2D_MM or depth > _DEEPEST_2D_MM:
        return (
            f"the ultrasound picture would measure {size}, more than a breast ultrasound shows, so its spacing of {pixel} mm is probably not the "
            "true one and no length in mm is to be relied on; give --spacing (in 3D Slicer: module Volumes)",
        )
    return ()


def check_volume(image: sitk.Image, spacing_known: bool = True) -> tuple[str, ...]:
    """Refuse what is no breast volume, and say what makes one suspicious.

    Returns
    -------
    sentences for the reader.

    Raises
    ------
    ImageError : see `detect`.
    """
    if as_2d(image) is not None:
        raise ImageError(
            "The image has a single slice; only volumes are searched like this; find and outline the lesions of 2D images with breastusai run "
            "(in 3D Slicer: BreastUSAI Workup)."
        )
    extent = [n * s for n, s in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    size = " x ".join(f"{e:.0f}" for e in extent)
    if max(extent) > _MOST_MM:
        raise ImageError(
            f"The volume would measure {size} mm, more than any breast scan, so its spacing of "
            f"{' x '.join(f'{s:g}' for s in image.GetSpacing())} mm is not the true one; give the true spacing "
            "(breastusai detect VOLUME --spacing X Y Z), or correct the file's header."
        )
    notes = []
    if not spacing_known:
        notes.append(
            "lesions are looked for by their size in mm and the volume does not say its spacing: do not rely on what was found"
        )
    lateral, depth, slices = extent
    if spacing_known and depth > max(_DEEPEST_MM, 1.5 * min(lateral, slices)):
        raise ImageError(
            f"The axes of the volume ({size} mm) are in another order than lateral, depth, slice: the second, which should lead "
            f"from the skin into the depth, is {depth:.0f} mm long; reorder the axes."
        )
    if depth > 1.5 * min(lateral, slices):
        notes.append(
            f"the second axis of the volume ({depth:.0f} of {size} mm), taken as depth from the skin, is longer than another; "
            "if the axes are not lateral, depth, slice in this order, reorder them: the findings are wrong otherwise"
        )
    if spacing_known and min(extent) < _THINNEST_MM:
        notes.append(
            f"the volume is only {min(extent):.2g} mm thick along one axis, so that no lesion is seen whole: do not rely on what was found, or not found"
        )
    return tuple(notes)
