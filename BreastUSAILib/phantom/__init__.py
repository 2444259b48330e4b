"""Synthetic ABUS volumes with exact ground truth: `phantom.generate(seed, spec)`. See docs/phantom.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bmode import BModeImage, bmode_slice
    from .spec import LesionRequest, PhantomSpec
    from .truth import LesionTruth, Phantom
    from .volume import generate

# Loaded when first asked for, so that importing the command line stays fast.
_HOMES = {
    "generate": "volume",
    "PhantomSpec": "spec",
    "LesionRequest": "spec",
    "Phantom": "truth",
    "LesionTruth": "truth",
    "bmode_slice": "bmode",
    "BModeImage": "bmode",
}
__all__ = [
    "BModeImage",
    "LesionRequest",
    "LesionTruth",
    "Phantom",
    "PhantomSpec",
    "bmode_slice",
    "generate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
