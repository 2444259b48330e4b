"""Part of a depth row on its way to tissue: what the painters of the anatomy's parts work on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass
class Strip:
    """Some slices of one depth row; all arrays float32 (slice, lateral), small enough for the processor's cache.

    Attributes
    ----------
    depth : of the row's voxel centres, mm from the first voxel's corner.
    thickness : of the row, mm.
    slices : which slices of the volume these are.
    echo, attenuation, specular : see `Tissue`; painters change them in place.
    walls, flat : distance to the next wall of the fat's cells and how flat it lies, once `septa` has read them.
    scratch : buffers that every painter may overwrite.
    """

    depth: float
    thickness: float
    slices: slice
    echo: np.ndarray
    attenuation: np.ndarray
    specular: np.ndarray
    scratch: list[np.ndarray]

    def blend(self, echo: np.ndarray | float, attenuation: float, share: np.ndarray, spare: np.ndarray) -> None:
        """Replace tissue in proportion to `share` (0 to 1) by one of that echo and attenuation; reflectors in it vanish."""
        for target, value in ((self.echo, echo), (self.attenuation, attenuation), (self.specular, 0.0)):
            np.subtract(value, target, out=spare)
            spare *= share
            target += spare

    def below(self, border: np.ndarray, softness: float, out: np.ndarray) -> np.ndarray:
        """Share of the row below `border` (slice, lateral; mm), 0 to 1 over `softness` mm or the row's thickness."""
        width = max(softness, self.thickness)
        np.subtract(np.float32(self.depth + 0.5 * width), border, out=out)
        out *= np.float32(1.0 / width)
        return np.clip(out, 0.0, 1.0, out=out)

    def line(self, border: np.ndarray, width: float, out: np.ndarray) -> np.ndarray:
        """1 on `border`, falling to 0 at `width` mm (or a row) above and below it."""
        width = max(width, self.thickness)
        np.subtract(np.float32(self.depth), border, out=out)
        np.abs(out, out=out)
        out *= np.float32(-1.0 / width)
        out += np.float32(1.0)
        return np.maximum(out, 0.0, out=out)

    def between(self, top: np.ndarray, bottom: np.ndarray, margin: float = 0.0) -> bool:
        """Whether this row may touch what lies between two maps of the strip, with a margin in mm."""
        return float(top.min()) - margin <= self.depth <= float(bottom.max()) + margin


class Painter(Protocol):
    """A part of the anatomy that paints itself over what is there; what it does depends on the strip's place alone."""

    def paint(self, strip: Strip) -> None: ...
