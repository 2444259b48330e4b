"""Segment: a 2D breast ultrasound image in, findings with masks out.

First stage of Huang et al. 2019 (BioMed Eng OnLine 18:8): ROI-CNN gives a probability map, components smaller than
40 % of the largest are dropped, the one closest to the image centre is kept, and Chan-Vese refines its contour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from .errors import ImageError, UsageError
from .findings import Finding
from .image import as_2d, box_of_mask, from_2d
from .letterbox import Letterbox, standardise, to_unit_range

if TYPE_CHECKING:
    from .models.zoo import LoadedModel

LESIONS = ("central", "all")
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True)
class SegmentOptions:
    """Choices of the user.

    Attributes
    ----------
    refine : whether Chan-Vese refines the contour.
    lesions : "central" keeps the lesion closest to the image centre (paper), "all" every one that is at least 40 %
        of the largest.
    threshold : probability above which a pixel belongs to a lesion, 0 to 1; None: the model's own.
    minimum_score : findings below this score are not reported, 0 to 1; None: the model's own.
    """

    refine: bool = True
    lesions: str = "central"
    threshold: float | None = None
    minimum_score: float | None = None

    def __post_init__(self) -> None:
        if self.lesions not in LESIONS:
            raise UsageError(f"lesions is {self.lesions!r}; choose one of {', '.join(LESIONS)}.")
        for name, value in (("threshold", self.threshold), ("minimum score", self.minimum_score)):
            if value is not None and not 0 < value < 1:
                raise UsageError(f"The {name} is {value}; it must lie between 0 and 1.")


def probability_map(pixels: np.ndarray, model: LoadedModel, pixel_aspect: float = 1.0) -> np.ndarray:
    """The network's probability that each pixel belongs to a lesion.

    The mean over the image and its mirror image, which costs little and steadies the contour.

    Parameters
    ----------
    pixels : (H, W), any real range.
    model : a ROI-CNN.
    pixel_aspect : a pixel's height divided by its width.

    Returns
    -------
    (H, W) float32, 0 to 1.
    """
    import torch

    box = Letterbox.fit(pixels.shape, int(model.entry.preprocessing["size"]), pixel_aspect)
    image = standardise(box.place(to_unit_range(pixels)), box.valid())
    # The mirror image of the square, not of the placed image: padding may be one pixel wider on one side.
    pair = torch.cat([image, image.flip(-1)]).to(model.device.name, memory_format=torch.channels_last)
    with torch.inference_mode():
        logits = model.network(pair).float().cpu()
        maps = torch.sigmoid(logits)
        mean = (maps[:1] + maps[1:].flip(-1)) / 2
        return box.restore(mean)[0, 0].numpy()


def segment_2d(
    image: sitk.Image,
    model: LoadedModel,
    options: SegmentOptions = SegmentOptions(),
    *,
    spacing_known: bool = True,
    progress: Callable[[float, str], None] | None = None,
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Find and outline the lesions of a 2D image.

    Parameters
    ----------
    image : 2D, or 3D with a single slice (as Slicer keeps 2D images); scalar, finite.
    model : a ROI-CNN (`models.zoo.load`).
    options : see `SegmentOptions`.
    spacing_known : whether the image's spacing is in millimetres; measurements are in pixels otherwise.
    progress : called with a fraction 0 to 1 and what is being done.

    Returns
    -------
    findings : by falling score, with masks on the input's grid; empty when there is no lesion.
    notes : sentences about the image (e.g. that only part of it was looked at).

    Raises
    ------
    ImageError : the image is a volume of several slices.
    """
    from .chan_vese import ChanVeseParameters, refine
    from .components import keep_components
    from .measurements import measure_2d
    from .screen_area import find_screen_area

    def tell(fraction: float, message: str) -> None:
        if progress is not None:
            progress(fraction, message)

    plane = as_2d(image)
    if plane is None:
        raise ImageError(
            f"The image is a volume of {' x '.join(map(str, image.GetSize()))} voxels; this version segments 2D images: "
            "save the slice of interest as an image of its own."
        )
    tell(0.0, "finding the ultrasound area")
    area = find_screen_area(plane)
    (x0, y0), (width, height) = area.start, area.size
    pixels = sitk.GetArrayFromImage(plane)[y0 : y0 + height, x0 : x0 + width].astype(np.float32)
    spacing = plane.GetSpacing()[::-1]

    tell(0.1, "looking for lesions")
    probability = probability_map(pixels, model, spacing[0] / spacing[1])
    settings = model.entry.postprocessing
    threshold = options.threshold if options.threshold is not None else settings.get("threshold", DEFAULT_THRESHOLD)
    minimum = options.minimum_score if options.minimum_score is not None else settings.get("minimum_score", 0.0)
    kept = keep_components(probability > threshold, spacing, keep=options.lesions)

    candidates = []
    for number, component in enumerate(kept):
        tell(0.6 + 0.3 * number / len(kept), "refining the contour")
        # The score is the network's alone: how sure it is of the region that it found.
        score = float(probability[component].mean())
        if score < minimum:
            continue
        notes = ()
        if options.refine:
            result = refine(pixels, component, spacing, ChanVeseParameters(**settings.get("refiner", {})), probability)
            component = result.mask
            notes = (result.reason,) if result.reason else ()
        candidates.append((score, component, notes))
    candidates.sort(key=lambda candidate: -candidate[0])

    tell(0.9, "measuring")
    findings = []
    for label, (score, component, notes) in enumerate(candidates, start=1):
        full = np.zeros(plane.GetSize()[::-1], np.uint8)
        full[y0 : y0 + height, x0 : x0 + width] = component
        mask = sitk.GetImageFromArray(full)
        mask.CopyInformation(plane)
        measurements = measure_2d(mask, plane, spacing_known)
        mask = mask if image.GetDimension() == 2 else from_2d(mask, image)
        findings.append(
            Finding(
                id=f"L{label}",
                box=box_of_mask(mask),
                score=min(1.0, score),
                mask=mask,
                label=label,
                measurements=measurements,
                models={"segment": model.entry.id},
                notes=notes,
            )
        )
    tell(1.0, "done")
    return tuple(findings), tuple(area.notes)


def without_masks(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Copies that carry no pixel data, for lists that outlive their images."""
    return tuple(replace(finding, mask=None) for finding in findings)
