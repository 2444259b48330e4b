"""Looks at a volume and its mirror images, of which the mean counts."""

from __future__ import annotations

MIRRORS = ((), (4,), (2,), (2, 4))
"""Axes of (1, 1, z, y, x) that each look is mirrored along: none; x (lateral); z (slices); both. Never the depth: sound goes one way."""
CHOICES = (1, 4)
"""Numbers of looks that validation chooses from."""
HELPS = 0.01
"""Of the measure that it chooses by, what three more looks must add."""
