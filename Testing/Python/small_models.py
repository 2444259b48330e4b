"""Model folders with networks as small as they can be and weights as training begins with: real files for tests of what is around them."""

import json
from pathlib import Path

import torch

from BreastUSAILib.models.folder import save_model
from BreastUSAILib.networks.detection import DetectionNetwork
from BreastUSAILib.networks.lesion_classifier import LesionClassifier
from BreastUSAILib.networks.vnet import VNet

TRUNK = {"stem_channels": 4, "stem_stride": 2, "channels": [4, 4, 8], "strides": [1, 2, 1]}
DETECTOR = {
    **TRUNK,
    "head_channels": 4,
    "head_convolutions": 1,
    "anchors": [[8.0, 6.0, 8.0], [16.0, 12.0, 16.0]],
    "embedding": 4,
}


def detector_folder(folder: Path, threshold: float = 0.5, name: str = "small-detector", **postprocessing) -> Path:
    """A detector that thinks everything hardly possible (0.01, give or take)."""
    torch.manual_seed(1)
    config = {
        "id": name, "version": "1", "task": "detect", "network": "detection.DetectionNetwork", "arguments": DETECTOR,
        "preprocessing": {"dimension": 3, "spacing": [1.0, 1.0, 1.0]}, "trained_on": "nothing; the phantom of a model",
        "postprocessing": {"threshold": threshold, **postprocessing},
    }  # fmt: skip
    return save_model(folder, DetectionNetwork(**DETECTOR), json.loads(json.dumps(config)))


def classifier_folder(folder: Path, weight: float = 0.25) -> Path:
    """A classifier whose opinion is hardly one (0.5, give or take)."""
    torch.manual_seed(2)
    config = {
        "id": "small-classifier", "version": "1", "task": "lesion-classifier", "network": "lesion_classifier.LesionClassifier",
        "arguments": TRUNK, "preprocessing": {"dimension": 3, "shape": [16, 16, 16], "margin": 2.0},
        "postprocessing": {"detection_weight": weight},
    }  # fmt: skip
    return save_model(folder, LesionClassifier(**TRUNK), config)


def outliner_folder(folder: Path, threshold: float = 0.3, **arguments) -> Path:
    """A joint network that outlines what it is hardly sure of (0.5, give or take) and has as little of an opinion on malignancy."""
    torch.manual_seed(0)
    arguments = {
        "channels": [2, 2, 4, 4, 4], "convolutions": [1, 1, 1, 1, 1], "full_ends": False, "normalisation": "group",
        "branch": "paper", "stages": [5], "hidden": 4, "opinion": None, "iterative": False, **arguments,
    }  # fmt: skip
    config = {
        "id": "small-joint", "version": "1", "task": "segment-3d", "network": "vnet.VNet", "arguments": arguments,
        "preprocessing": {"dimension": 3, "shape": [32, 32, 32], "finest": 0.4, "coarsest": 1.5, "margin": 1.8},
        "postprocessing": {"threshold": threshold, "iterations": 1}, "trained_on": "nothing; the phantom of a model",
    }  # fmt: skip
    network = VNet(**arguments)
    torch.nn.init.zeros_(network.leave.bias)
    return save_model(folder, network, json.loads(json.dumps(config)))
