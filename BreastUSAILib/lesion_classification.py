"""The second opinion: a classification network looks at each candidate, from near.

Second stage of Yu et al. 2020 (MICCAI, see `networks.lesion_classifier`): the final malignancy is a weighted mean of what the
detection network and the classification network say; the weight is chosen on validation data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from .findings import Box, Finding
from .grid import physical_to_index
from .lesion_by_lesion import LesionFailed, reason_of_failure
from .volume_input import MEAN_LEVEL, averaging, levels_of

if TYPE_CHECKING:
    import torch

    from .models.zoo import LoadedModel

DEFAULT_WEIGHT = 0.5
_LEAST_MM = 12.0  # of a crop's side: a lesion of 4 mm is seen with what lies about it


def crop_extent(size: np.ndarray, margin: float) -> np.ndarray:
    """Sides in mm of the crop about a lesion of this size, (..., 3) along x, y, z: `margin` times as long, and 12 mm at least."""
    return np.maximum(np.asarray(size, float) * margin, _LEAST_MM)


def lesion_crop(image: sitk.Image, box: Box, shape: Sequence[int], margin: float, spare: float = 1.0) -> np.ndarray:
    """What the classifier sees of a lesion: the surroundings of its box, stretched to a fixed number of voxels.

    Parameters
    ----------
    image : the whole volume, 3D, scalar.
    box : LPS, mm.
    shape : (z, y, x) voxels of the crop.
    margin : see `crop_extent`.
    spare : the crop is so much larger on each side; training takes parts of it.

    Returns
    -------
    (z, y, x) uint8 levels (`volume_input`), standardised within the crop; the mean where the crop leaves the volume.
    """
    import torch
    from torch.nn import functional as F

    extent = crop_extent(box.size, margin) * spare
    half = extent / image.GetSpacing() / 2
    centre = physical_to_index(image, box.center) + 0.5  # measured in voxels from the volume's corner
    first, last = np.floor(centre - half).astype(int), np.ceil(centre + half).astype(int)
    low, high = np.maximum(first, 0), np.minimum(last, image.GetSize())
    if np.any(high <= low):
        return np.full(tuple(shape), MEAN_LEVEL, np.uint8)
    region = tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1], strict=True))
    part = sitk.GetArrayViewFromImage(image)[region]
    levels = torch.from_numpy(levels_of(part)).float()
    pad = [int(n) for before, after in zip(low - first, last - high, strict=True) for n in (before, after)]
    levels = F.pad(levels, pad, value=float(MEAN_LEVEL))
    # Whole voxels were cut out; sample the crop's exact extent from them, with the weights that `volume_input` has.
    for axis in range(3):
        start, length = float((centre - half - first)[2 - axis]), float(2 * half[2 - axis])
        weights = averaging(levels.shape[axis], start, length, int(shape[axis]))
        levels = torch.tensordot(levels, weights, dims=([axis], [1])).movedim(-1, axis)
    return levels.round().clamp(0, 255).to(torch.uint8).numpy()


def classifier_input(levels: torch.Tensor) -> torch.Tensor:
    """Levels (n, z, y, x) of crops as the network takes them, (n, 1, z, y, x) float32, each with mean 0 and deviation 1."""
    values = levels.float()[:, None]
    mean, deviation = (f((1, 2, 3, 4), keepdim=True) for f in (values.mean, values.std))
    return (values - mean) / deviation.clamp_min(1.0)


def sizes_of(box: Box) -> np.ndarray:
    """The lesion's size as the classifier is told it: logarithms of its sides (x, y, z) in centimetres, (3,) float32."""
    return np.log(np.maximum(np.array(box.size, np.float32), 0.5) / 10)


def malignancies(image: sitk.Image, boxes: Sequence[Box], classifier: LoadedModel) -> list[float]:
    """The classification network's probability that each box holds a malignant lesion."""
    import torch

    from .models.devices import autocast

    preprocessing = classifier.entry.preprocessing
    device = classifier.device.name
    answers = []
    for box in boxes:
        levels = lesion_crop(image, box, preprocessing["shape"], preprocessing["margin"])
        crop = classifier_input(torch.from_numpy(levels)[None])
        # The lesion and its mirror image, left to right.
        pair = torch.cat([crop, crop.flip(-1)]).to(device, memory_format=torch.channels_last_3d)
        sizes = torch.from_numpy(sizes_of(box)).expand(2, 3).to(device)
        with torch.inference_mode(), autocast(device):
            logits = classifier.network(pair, sizes)
        answers.append(float(torch.sigmoid(logits.float().mean())))
    return answers


def combined(detection: float | None, classification: float, weight: float) -> float:
    """The weighted malignancy: `weight` x what the detection network says + the rest x what the classifier says."""
    if detection is None or not math.isfinite(detection):
        return classification
    return min(1.0, max(0.0, weight * detection + (1 - weight) * classification))


def other_detector(detector: LoadedModel, classifier: LoadedModel) -> str | None:
    """A sentence where the weight of the two opinions was chosen with another detection model than this one; None where it was this one, or none."""
    said = classifier.entry.postprocessing
    # Those that ship have no weights of the detector recorded: theirs go by its id.
    if "detector_sha256" in said:
        same = said["detector_sha256"] == detector.published_sha256
    else:
        same = said.get("detector", detector.entry.id) == detector.entry.id
    if same:
        return None
    name = said.get("detector", "")
    return (
        f"the weight of the second opinion on malignancy was chosen with another detection model ({name}) than this {detector.entry.id}, and may not fit it: "
        "choose it anew with breastusai train lesion-classifier --start CLASSIFIER --epochs 0 --detector DETECTOR"
    )


def classify(image: sitk.Image, findings: Sequence[Finding], classifier: LoadedModel, *, strict: bool = False) -> tuple[Finding, ...]:
    """The findings with the malignancy that both networks agree on; the order stays.

    One that cannot be judged keeps the detection's, with a note; with `strict`, for evaluations, `LesionFailed` is raised instead.
    """
    weight = float(classifier.entry.postprocessing.get("detection_weight", DEFAULT_WEIGHT))

    def judged(finding: Finding) -> Finding:
        try:
            (answer,) = malignancies(image, [finding.box], classifier)
        except Exception as error:
            reason = reason_of_failure(error, classifier.device.name)
            if strict:
                raise LesionFailed(f"{finding.id} could not be given a second opinion on malignancy: {reason}") from error
            return replace(finding, notes=(*finding.notes, f"without a second opinion on malignancy: {reason}"))
        return replace(
            finding,
            malignancy=combined(finding.malignancy, answer, weight),
            models={**finding.models, "lesion-classifier": classifier.entry.id},
        )

    return tuple(map(judged, findings))
