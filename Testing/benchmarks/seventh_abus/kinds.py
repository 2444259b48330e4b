"""All kinds of lesion."""

from __future__ import annotations

from .benign import BENIGN
from .malignant import MALIGNANT

__all__ = ["BENIGN", "KINDS", "MALIGNANT"]

KINDS = BENIGN | MALIGNANT
