"""Detection by segmentation, to compare the detection network with: a U-Net says what each voxel is, components become boxes.

Voxels of enough lesion probability that touch, if only at a corner, are one candidate. Its box is the component's, from
voxel edge to voxel edge; its score the mean or the maximum of the lesion probability in it; its malignancy the share of
the malignant in the lesion probability of all its voxels. A 2D U-Net's slices are stacked before the components are sought.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from ..findings import Finding
from ..postprocessing import settings_of

if TYPE_CHECKING:
    from torch import nn

    from ..candidates import Candidates
    from ..models.zoo import LoadedModel

TASK = "detect-baseline"
SCORES = ("mean", "maximum")


@dataclass(frozen=True)
class ComponentRule:
    """How probabilities become boxes; a model's `postprocessing` says what validation chose.

    Attributes
    ----------
    inside : voxels of at least this probability of lesion, benign or malignant, belong to a component.
    score : "mean" or "maximum" of that probability in the component.
    least_mm, most_mm : components with a side below or above are no lesions; as in `candidates.Search`.
    maximum : components of a volume, the surest.
    window : (z, y, x) voxels at a time, for volumes that do not pass whole.
    whole_voxels : volumes of up to so many voxels pass whole.
    """

    inside: float = 0.3
    score: str = "mean"
    least_mm: float = 1.5
    most_mm: float = 80.0
    maximum: int = 50
    window: tuple[int, int, int] = (160, 96, 160)
    whole_voxels: int = 8_000_000

    @classmethod
    def of(cls, postprocessing: Mapping[str, Any]) -> ComponentRule:
        """The rule that a model's `postprocessing` describes; what it does not name is as above."""
        return settings_of(cls, postprocessing)


def probabilities(levels: np.ndarray, network: nn.Module, rule: ComponentRule, device: str = "cpu") -> np.ndarray:
    """What a network says of each voxel: (2, z, y, x) float32, the probability of benign and of malignant lesion.

    Parameters
    ----------
    levels : (z, y, x) uint8, see `volume_input.VolumeInput`.
    network : a `networks.unet.SegmentationUNet` on `device`.
    """
    import torch
    from monai.inferers import sliding_window_inference

    from ..models.devices import autocast
    from ..volume_input import to_tensor

    def see(part: torch.Tensor) -> torch.Tensor:
        part = part.contiguous(memory_format=torch.channels_last_3d)
        return network(part).float().softmax(1)[:, 1:]

    volume = to_tensor(levels)[None, None].to(device)
    with torch.inference_mode(), autocast(device):
        if levels.size <= rule.whole_voxels:
            seen = see(volume)
        else:
            window = [min(n, w) for n, w in zip(levels.shape, rule.window, strict=True)]
            seen = sliding_window_inference(
                volume, window, 1, see, overlap=0.25, mode="gaussian", device=torch.device("cpu")
            )
    return seen[0].cpu().numpy()


def components(probability: np.ndarray, spacing: tuple[float, float, float], rule: ComponentRule) -> Candidates:
    """The candidates of a volume; see the head of this file.

    Parameters
    ----------
    probability : (2, z, y, x), of benign and of malignant lesion.
    spacing : mm along z, y, x.
    """
    from scipy import ndimage

    from ..candidates import Candidates

    lesion = probability.sum(0)
    labels, number = ndimage.label(lesion >= rule.inside, structure=np.ones((3, 3, 3)))
    boxes, scores, malignancy = (
        np.zeros((number, 6), np.float32),
        np.zeros(number, np.float32),
        np.zeros(number, np.float32),
    )
    for index, place in enumerate(ndimage.find_objects(labels)):
        inside = labels[place] == index + 1
        of_lesion = lesion[place][inside]
        boxes[index] = [*(side.start for side in place), *(side.stop for side in place)]
        scores[index] = of_lesion.mean() if rule.score == "mean" else of_lesion.max()
        malignancy[index] = probability[1][place][inside].sum() / of_lesion.sum()
    sides = (boxes[:, 3:] - boxes[:, :3]) * np.asarray(spacing, float)
    fits = np.flatnonzero(((sides >= rule.least_mm) & (sides <= rule.most_mm)).all(1))
    order = fits[np.argsort(-scores[fits], kind="stable")][: rule.maximum]
    return Candidates(boxes[order], scores[order].clip(0, 1), malignancy[order].clip(0, 1))


def detect_components(image: sitk.Image, model: LoadedModel) -> tuple[Finding, ...]:
    """All candidates of a volume as findings, L1, L2, ... by falling score, with boxes in LPS mm; as `detect.detect` gives them.

    Parameters
    ----------
    image : 3D, scalar; any grid. Its axes are taken as lateral, depth, slice.
    model : a baseline (`models.zoo.load(..., TASK)`).

    Raises
    ------
    ImageError : see `detect.check_volume`.
    """
    from ..detect import check_volume
    from ..volume_input import network_input

    check_volume(image)
    volume = network_input(image, model.entry.preprocessing["spacing"])
    if volume.constant:
        return ()
    rule = ComponentRule.of(model.entry.postprocessing)
    found = components(probabilities(volume.levels, model.network, rule, model.device.name), volume.spacing, rule)
    return tuple(
        Finding(
            id=f"L{number}",
            box=volume.physical_box(image, box),
            score=float(score),
            malignancy=float(malignancy),
            models={TASK: model.entry.id},
        )
        for number, (box, score, malignancy) in enumerate(
            zip(found.boxes, found.scores, found.malignancy, strict=True), start=1
        )
    )
