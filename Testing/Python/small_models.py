"""Model folders with networks as small as they can be and weights as training begins with: real files for tests of what is around them."""

import json
from pathlib import Path

import torch

from BreastUSAILib.models.folder import save_model
from BreastUSAILib.networks.detection import DetectionNetwork
from BreastUSAILib.networks.lesion_classifier import LesionClassifier

TRUNK = {"stem_channels": 4, "stem_stride": 2, "channels": [4, 4, 8], "strides": [1, 2, 1]}
DETECTOR = {**TRUNK, "head_channels": 4, "head_convolutions": 1, "anchors": [[8.0, 6.0, 8.0], [16.0, 12.0, 16.0]], "embedding": 4}


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
