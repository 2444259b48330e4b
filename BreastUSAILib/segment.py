"""Segment: a 2D breast ultrasound image in, findings with masks out.

First stage of Huang et al. 2019 (BioMed Eng OnLine 18:8): ROI-CNN gives a probability map, components smaller than
40 % of the largest are dropped, the one closest to the image centre is kept, and Chan-Vese refines its contour. Beyond the paper,
what was found is looked at again from nearer before that (`nearer`), where validation chose so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from .errors import ImageError, UsageError
from .findings import Finding
from .image import as_2d, box_of_mask, from_2d
from .letterbox import Letterbox, standardise, to_unit_range
from .nearer import Again, Window, looked_again
from .screen_area import ultrasound_area

if TYPE_CHECKING:
    from .models.zoo import LoadedModel

LESIONS = ("central", "all")
DEFAULT_THRESHOLD = 0.5
MAX_FINDINGS = 255
"""As many as an 8-bit label image can tell apart; the surest are kept."""
UNCONFIRMED = "Seen at first sight only: looked at from nearer, no part of it is likelier a lesion than the threshold asks."


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


def input_sizes(model: LoadedModel) -> list[int]:
    """The sizes in pixels at which the network looks at an image: what validation chose, else what it was trained at."""
    return [int(s) for s in model.entry.postprocessing.get("sizes") or [model.entry.preprocessing["size"]]]


def probability_map(
    pixels: np.ndarray, model: LoadedModel, pixel_aspect: float = 1.0, sizes: Sequence[int] | None = None
) -> np.ndarray:
    """The network's probability that each pixel belongs to a lesion.

    The mean over the input sizes, and over the image and its mirror image, which steadies the contour.

    Parameters
    ----------
    pixels : (H, W), any real range.
    model : a ROI-CNN.
    pixel_aspect : a pixel's height divided by its width.
    sizes : sides of the network's square input, in pixels; None: `input_sizes(model)`.

    Returns
    -------
    (H, W) float32, 0 to 1.
    """
    import torch

    from .models.devices import autocast

    unit = to_unit_range(pixels)
    total = np.zeros(pixels.shape, np.float32)
    sizes = list(sizes) if sizes is not None else input_sizes(model)
    for size in sizes:
        box = Letterbox.fit(pixels.shape, size, pixel_aspect)
        image = standardise(box.place(unit), box.valid())
        # The mirror image of the square, not of the placed image: padding may be one pixel wider on one side.
        pair = torch.cat([image, image.flip(-1)]).to(model.device.name, memory_format=torch.channels_last)
        with torch.inference_mode(), autocast(model.device.name):
            maps = torch.sigmoid(model.network(pair).float().cpu())
            total += box.restore((maps[:1] + maps[1:].flip(-1)) / 2)[0, 0].numpy()
    return total / len(sizes)


@dataclass(frozen=True)
class Look:
    """What the network saw and said of a 2D image.

    `pixels` (H, W), as stored, and `probability` (H, W) float32 are those of the ultrasound area, whose first pixel lies at `start` (x, y) of the
    image; `spacing` is (y, x) in mm; `notes` are sentences for the reader.
    """

    pixels: np.ndarray
    probability: np.ndarray
    start: tuple[int, int]
    spacing: tuple[float, float]
    notes: tuple[str, ...]

    @property
    def area(self) -> tuple[int, int, int, int]:
        """(x, y, width, height) of the ultrasound area in pixels of the image."""
        return (*self.start, *self.pixels.shape[::-1])

    def again(
        self,
        keep: Callable[[np.ndarray], list[np.ndarray]],
        zooms: Sequence[float],
        model: LoadedModel,
        progress: Callable[[float], None] | None = None,
    ) -> Again:
        """Further looks at what is kept of it, from nearer; see `nearer.looked_again`."""
        aspect = self.spacing[0] / self.spacing[1]

        def nearer(window: Window) -> np.ndarray:
            return probability_map(self.pixels[window], model, aspect)

        return looked_again(self.probability, keep, zooms, nearer, aspect, progress)

    def on_image(self, region: np.ndarray, plane: sitk.Image) -> sitk.Image:
        """A mask of the ultrasound area as a uint8 image on the grid of `plane`."""
        full = np.zeros(plane.GetSize()[::-1], np.uint8)
        (x, y), (height, width) = self.start, region.shape
        full[y : y + height, x : x + width] = region
        mask = sitk.GetImageFromArray(full)
        mask.CopyInformation(plane)
        return mask


def look(
    plane: sitk.Image,
    model: LoadedModel,
    sizes: Sequence[int] | None = None,
    area: tuple[int, int, int, int] | None = None,
) -> Look:
    """The ultrasound area of a 2D image and the probability of lesion in it.

    `area` (x, y, width, height) is the area where the file states it; None: it is looked for.
    """
    (x, y, width, height), notes = ultrasound_area(plane, area)
    pixels = sitk.GetArrayFromImage(plane)[y : y + height, x : x + width]
    spacing = plane.GetSpacing()[::-1]
    return Look(pixels, probability_map(pixels, model, spacing[0] / spacing[1], sizes), (x, y), spacing, notes)


def segment_2d(
    image: sitk.Image,
    model: LoadedModel,
    options: SegmentOptions = SegmentOptions(),
    *,
    spacing_known: bool = True,
    area: tuple[int, int, int, int] | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Find and outline the lesions of a 2D image.

    Parameters
    ----------
    image : 2D, or 3D with a single slice (as Slicer keeps 2D images); scalar, finite.
    model : a ROI-CNN (`models.zoo.load`).
    options : see `SegmentOptions`.
    spacing_known : whether the image's spacing is in millimetres; measurements are in pixels otherwise.
    area : the part of the image (x, y, width, height in pixels) that is ultrasound, where the file states it
        (`image.LoadedImage.area`); None: a screen capture's area is looked for.
    progress : called with a fraction 0 to 1 and what is being done.

    Returns
    -------
    findings : by falling score, with masks on the input's grid; empty when there is no lesion.
    notes : sentences about the image (e.g. that only part of it was looked at).

    Raises
    ------
    ImageError : the image is a volume of several slices.
    """
    from .blas import one_thread
    from .chan_vese import ChanVeseParameters, refine
    from .components import keep_components
    from .measurements import measure_2d

    def tell(fraction: float, message: str) -> None:
        if progress is not None:
            progress(fraction, message)

    plane = as_2d(image)
    if plane is None:
        raise ImageError(
            f"The image is a volume of {' x '.join(map(str, image.GetSize()))} voxels; this version segments 2D images: "
            "save the slice of interest as an image of its own."
        )
    tell(0.0, "looking for lesions")
    seen = look(plane, model, area=area)
    settings = model.entry.postprocessing
    threshold = options.threshold if options.threshold is not None else settings.get("threshold", DEFAULT_THRESHOLD)
    minimum = options.minimum_score if options.minimum_score is not None else settings.get("minimum_score", 0.0)
    chosen = settings.get("refiner", {})
    parameters = ChanVeseParameters.paper() if chosen == "paper" else ChanVeseParameters(**chosen)

    def kept(probability: np.ndarray) -> list[np.ndarray]:
        regions = keep_components(
            probability > threshold,
            seen.spacing,
            keep=options.lesions,
            probability=probability,
            min_confidence=settings.get("min_confidence", 0.0),
            most=MAX_FINDINGS,  # more are not reported, so they are not looked at again either
        )
        return sorted(regions, key=lambda region: -region_score(probability, region))

    def nearer(done: float) -> None:
        tell(0.4 + 0.2 * done, "looking again from nearer")

    again = seen.again(kept, settings.get("nearer", ()), model, nearer)
    candidates = []
    for number, region in enumerate(again.regions):
        tell(0.6 + 0.3 * number / len(again.regions), "refining the outline")
        score = region_score(again.probability, region)
        if score < minimum:
            continue
        notes = () if again.confirmed else (UNCONFIRMED,)
        if options.refine:
            with one_thread():
                refined = refine(seen.pixels, region, seen.spacing, parameters, again.probability, threshold)
            region, notes = refined.mask, (*notes, *((refined.reason,) if refined.reason else ()))
        candidates.append((score, region, notes))
    candidates.sort(key=lambda candidate: -candidate[0])

    tell(0.9, "measuring")
    findings: list[Finding] = []
    taken = np.zeros(seen.pixels.shape, bool)
    for score, region, notes in candidates:
        # Refined outlines of neighbours may meet: a pixel belongs to the surer of the two, in every file alike.
        region = region & ~taken
        if not region.any():
            continue
        # What a neighbour cuts off beyond itself would be measured as if it were joined.
        region = keep_components(region, seen.spacing, keep="largest")[0]
        taken |= region
        label = len(findings) + 1
        mask = seen.on_image(region, plane)
        measurements = measure_2d(mask, plane, spacing_known, seen.area)
        mask = mask if image.GetDimension() == 2 else from_2d(mask, image)
        findings.append(
            Finding(
                id=f"L{label}",
                box=box_of_mask(mask),
                score=score,
                mask=mask,
                label=label,
                measurements=measurements,
                models={"segment": model.entry.id},
                notes=notes,
            )
        )
    tell(1.0, "done")
    return tuple(findings), seen.notes


def region_score(probability: np.ndarray, region: np.ndarray) -> float:
    """How sure the network is of a region that it found: its mean probability inside, 0 to 1. Before refinement."""
    return min(1.0, float(probability[region].mean()))
