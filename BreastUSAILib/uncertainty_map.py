"""How unsure the outlines in a volume are, as a map on its own grid."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from .lesion_look import Look

PERCENT = 50.0
"""As unsure as can be: half of the mirror images say lesion, half say none."""


class UncertaintyMap:
    """Gathers the `watch`ed looks of `segment_3d`.

    Attributes
    ----------
    image : uint8, on the grid of the volume: the standard deviation, in percent, of the probability that the mirror images of a place give; 0 where
        none was looked at, the greatest where several lesions' looks meet. None where no lesion was outlined, or mirror images were not looked at.
    """

    def __init__(self, volume: sitk.Image) -> None:
        self._volume = volume
        self._percent: np.ndarray | None = None

    def add(self, finding: str, look: Look) -> None:
        """Take up what the network says of a finding's place (`look.deviation`, 0 to 0.5)."""
        if look.deviation is None:
            return
        if self._percent is None:
            self._percent = np.zeros(self._volume.GetSize()[::-1], np.uint8)
        values, place = look.region.put_back(look.deviation, self._volume)
        part = self._percent[place]
        np.maximum(part, np.rint(100 * np.clip(values, 0, 0.5)).astype(np.uint8), out=part)

    @property
    def image(self) -> sitk.Image | None:
        if self._percent is None:
            return None
        made = sitk.GetImageFromArray(self._percent)
        made.CopyInformation(self._volume)
        return made
