"""The ``metadata.json`` of a MONAI bundle: what a model is, and the tensors that go into its network and come out of it.

The fields are those of MONAI's bundle specification and of the schema that it names, 20240725.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import RESEARCH_USE, __version__
from ..errors import ModelError
from ..grade_terms import ANSWERS, classes_of
from ..networks.detection import DetectionNetwork, Predictions
from ..networks.lesion_classifier import LesionClassifier
from ..networks.mt_net import MtNet
from ..networks.sn_net import SnNet
from ..networks.unet import SegmentationUNet
from ..networks.vnet import Joint, VNet
from . import catalog
from .bundle import as_one_tensor
from .entry import ModelEntry

_SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
_MONAI = "1.6.1"  # which bundles were tried with; said where it is not installed
_NEEDED = ("SimpleITK", "safetensors", "scikit-image", "scipy")
_TASKS = {
    "segment": "Outline of the lesion in a 2D breast ultrasound image",
    "detect": "Detection of lesions in 3D automated breast ultrasound (ABUS)",
    "detect-baseline": "Detection of lesions in 3D automated breast ultrasound (ABUS), a network for comparison",
    "lesion-classifier": "Malignancy of lesions that were detected in 3D automated breast ultrasound (ABUS)",
    "segment-3d": "Outline and malignancy of lesions in 3D automated breast ultrasound (ABUS)",
    "heatmap": "Map of what in 3D automated breast ultrasound (ABUS) speaks for a lesion",
    "grade-gcnn": "BI-RADS category, malignancy and descriptors of a lesion in a 2D breast ultrasound image",
    "grade-mtnet": "Malignancy of a lesion in a 2D breast ultrasound image",
    "grade-snnet": "Solid nodule or not, of a lesion in a 2D breast ultrasound image",
}
_STRIDE = 32
"""A side that networks for volumes of any size take without padding; bundles ask for its multiples."""
_WHOLE = ("segment", "detect", "detect-baseline")
"""Tasks whose networks see whole images; those of others see what is about a lesion."""
_ZERO_CM = {"sizes": [0.0, 0.0, 0.0]}  # logarithms of 1 cm


def assumed(network: nn.Module) -> dict[str, Any]:
    """Arguments that a network cannot do without besides its image, as `bundle.OneTensor` takes them: a lesion of 1 cm, where it is told sizes."""
    return dict(_ZERO_CM) if isinstance(network, LesionClassifier) else {}


def metadata(entry: ModelEntry, network: nn.Module) -> dict[str, Any]:
    """The content of ``metadata.json``.

    Parameters
    ----------
    entry : of the model.
    network : its network, in evaluation mode, on the CPU; it is run once on noise, to see what it answers.

    Raises
    ------
    ModelError : a task that is not known, or a network that does not take the shape that the entry states.
    """
    if entry.task not in _TASKS:
        raise ModelError(
            f"Model {entry.id!r} is for the task {entry.task!r}, of which no bundle can be made; there are {', '.join(_TASKS)}."
        )
    image = _image(entry, network)
    noise = torch.Generator().manual_seed(0)
    shape = [_STRIDE if isinstance(side, str) else side for side in image["spatial_shape"]]
    example = torch.randn((1, image["num_channels"], *shape), generator=noise)
    more = {name: torch.tensor([value]) for name, value in assumed(network).items()}
    try:
        with torch.inference_mode():
            answer = network(example, **more)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"The network {entry.network} of model {entry.id!r} does not take the shape {shape} of its preprocessing ({reason}); correct its config.json."
        ) from error
    channels = _channels(answer, entry.task)
    pred = _prediction(as_one_tensor(answer), image, channels)
    others = _other_inputs(network, image)
    needed = {name: found for name in _NEEDED if (found := _version(name))}
    ships = any(e.id == entry.id and e.sha256 == entry.sha256 for e in catalog.entries())
    return {
        "schema": _SCHEMA,
        "name": entry.id,
        "version": entry.version,
        "changelog": {entry.version: f"exported by BreastUSAI {__version__}"},
        "monai_version": _version("monai") or _MONAI,
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"breastusai": __version__, **needed},
        "task": _TASKS[entry.task],
        "description": f"{entry.description} Trained on {entry.trained_on}.".strip(),
        "authors": "The BreastUSAI contributors" if ships else "who trained the model; its folder does not say",
        "copyright": f"Licence of the weights: {entry.licence}. BreastUSAI, which runs them: Apache-2.0",
        "data_source": entry.trained_on,
        "data_type": "whatever BreastUSAI reads: PNG, JPEG, TIFF, NRRD, NIfTI, MetaImage, DICOM",
        "image_classes": _of_input(entry, others),
        "pred_classes": "; ".join(channels),
        "eval_metrics": dict(entry.measured),
        "intended_use": RESEARCH_USE,
        "references": list(entry.references),
        "network_data_format": {"inputs": {"image": image, **others}, "outputs": {"pred": pred}},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _tensor(
    kind: str, form: str, shape: Sequence[int | str], patch: bool, channels: Sequence[str], span: Sequence[float] = ()
) -> dict[str, Any]:
    """A tensor as the specification describes one; `span` lowest and highest value, empty where they are not known."""
    return {
        "type": kind,
        "format": form,
        "modality": "US",
        "num_channels": len(channels),
        "spatial_shape": list(shape),
        "dtype": "float32",
        "value_range": list(span),
        "is_patch_data": patch,
        "channel_def": {str(place): name for place, name in enumerate(channels)},
    }


def _image(entry: ModelEntry, network: nn.Module) -> dict[str, Any]:
    """The network's first input. (z, y, x) or (y, x), as the project orders axes."""
    known = entry.preprocessing
    if isinstance(network, (DetectionNetwork, SegmentationUNet)):
        shape: list[int | str] = [f"{_STRIDE} * n"] * 3
    elif int(known.get("dimension", 2)) == 2:
        shape = [int(known["size"])] * 2
    else:
        shape = [int(n) for n in known.get("shape") or known["crop"]]
    channels = ["echo, mean 0 and deviation 1", "the lesion's outline, 0 or 1"]
    count = int(entry.arguments.get("in_channels", 1))
    names = [channels[place] if place < len(channels) else f"channel {place}" for place in range(count)]
    return _tensor("image", "magnitude", shape, entry.task not in _WHOLE, names)


def _other_inputs(network: nn.Module, image: Mapping[str, Any]) -> dict[str, Any]:
    """What a network takes besides its image, by the name of the argument; all may be left out."""
    shape = image["spatial_shape"]
    if isinstance(network, LesionClassifier):
        sides = [f"logarithm of the lesion's side along {axis} in cm" for axis in "xyz"]
        return {"sizes": _tensor("tuples", "points", [], False, sides)}
    if isinstance(network, VNet):
        said = "probability of lesion, of the pass before; 0 before the first"
        before = _tensor("probabilities", "magnitude", shape, True, [said], (0, 1))
        spacing = _tensor("tuples", "points", [], False, ["side of a voxel, mm, one number an image (N,)"])
        return {**({"probability": before} if network.iterative else {}), "spacing": spacing}
    if isinstance(network, (MtNet, SnNet)):
        other = "Sn-Net" if isinstance(network, MtNet) else "Mt-Net"
        return {"maps": _tensor("image", "magnitude", shape, True, [f"class activation map of {other}"], (0, 1))}
    return {}


def _of_input(entry: ModelEntry, others: Mapping[str, Any]) -> str:
    intensity = entry.preprocessing.get("intensity")
    text = f"echo intensity{f', {intensity}' if intensity else ''}"
    return text + (f"; may be left out: {', '.join(others)}" if others else "")


def _channels(answer: Any, task: str) -> list[str]:
    """What each channel of `bundle.as_one_tensor` of an answer is."""
    if isinstance(answer, Mapping):
        return [
            f"{output}: {name} (before a softmax over {output})"
            for output, logits in answer.items()
            for name in _answers(output, logits.shape[1])
        ]
    if isinstance(answer, Predictions):
        scores = _classes(answer.logits.shape[2])
        box = [f"shift of the box along {axis}, in the anchor's sides" for axis in "zyx"]
        return [*scores, *box, *(f"logarithm of the box's side along {axis} over the anchor's" for axis in "zyx")]
    if isinstance(answer, Joint):
        outline, where = ([], "") if answer.outline is None else (["lesion (logit)"], ", the same at each voxel")
        count = answer.malignancy.shape[1]
        return [*outline, *(f"malignancy, opinion {number} (logit{where})" for number in range(1, 1 + count))]
    if answer.ndim == 1:
        return ["the patch shows a lesion (logit)" if task == "heatmap" else "malignant (logit)"]
    return ["lesion (logit)"] if answer.shape[1] == 1 else _classes(answer.shape[1])


def _answers(output: str, count: int) -> Sequence[str]:
    known = count <= len(ANSWERS.get(output, ()))
    return classes_of(output, count) if known else [str(place) for place in range(count)]


def _classes(count: int) -> list[str]:
    lesions = ("benign lesion", "malignant lesion") if count == 3 else [f"class {n}" for n in range(1, count)]
    names = ("background", *lesions)
    return [f"{name} (logit)" for name in names]


def _prediction(pred: torch.Tensor, image: Mapping[str, Any], channels: Sequence[str]) -> dict[str, Any]:
    """The network's answer as one tensor, which has a size of its own, the image's, or none."""
    sides = [_STRIDE if isinstance(side, str) else side for side in image["spatial_shape"]]
    found = list(pred.shape[2:])
    if found == sides:
        return _tensor("image", "classes", image["spatial_shape"], image["is_patch_data"], channels)
    if not found:
        return _tensor("probabilities", "classes", [], False, channels)
    # As many anchors as the volume's size makes.
    return _tensor("tuples", "points", ["*"] * len(found), False, channels)
