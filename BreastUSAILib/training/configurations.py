"""The configurations that a network's module names: `PAPER`, as published, and `COMPACT`, the one that ships."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from torch import nn


def build(module: str, network: str, configuration: str) -> tuple[nn.Module, dict[str, Any]]:
    """A fresh network of ``networks/<module>.py`` in a named configuration, "compact" or "paper", and its arguments.

    Raises UsageError for another name.
    """
    if configuration not in ("compact", "paper"):
        raise UsageError(f"configuration {configuration!r} is unknown; choose compact or paper.")
    loaded = importlib.import_module(f"..networks.{module}", __package__)
    arguments = getattr(loaded, configuration.upper())
    return getattr(loaded, network)(**arguments), arguments
