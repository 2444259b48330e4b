"""Looks at a volume and its mirror images, of which the mean counts."""

from __future__ import annotations

import torch

MIRRORS = ((), (4,), (2,), (2, 4))
"""Axes of (1, 1, z, y, x) that each look is mirrored along: none; x (lateral); z (slices); both. Never the depth: sound goes one way."""


def mirrored(volume: torch.Tensor, axes: tuple[int, ...]) -> torch.Tensor:
    """A volume (1, 1, z, y, x) mirrored along some axes, as convolutions want it in memory; itself where there are none."""
    return volume.flip(axes).contiguous(memory_format=torch.channels_last_3d) if axes else volume


CHOICES = (1, 4)
"""Numbers of looks that validation chooses from."""
HELPS = 0.01
"""Of the measure that it chooses by, what more looks, or a second grid, must add."""
