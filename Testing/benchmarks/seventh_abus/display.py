"""From dB to grey levels: gain, noise floor, compression, and what a scanner's picture processing does after it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from . import fields
from .grid import Grid
from .scanner import Scanner


@dataclass(frozen=True)
class Display:
    """The grey curve of a volume.

    Attributes
    ----------
    gain, floor : dB along depth. table : grey levels of 1024 steps from black to white.
    """

    scanner: Scanner
    gain: np.ndarray
    floor: np.ndarray
    table: np.ndarray

    def grey(self, echo: np.ndarray, loss: np.ndarray, speckle: np.ndarray) -> np.ndarray:
        """Grey levels, float32, of dB (slice, depth, lateral) that reach over all the depth."""
        level = np.maximum(echo, np.float32(self.scanner.clutter))
        level += loss
        level += self.gain[:, None]
        np.maximum(level, self.floor[:, None], out=level)
        level += speckle
        level *= np.float32(1023 / self.scanner.dynamic)
        level += np.float32(1023 * self.scanner.fat)
        np.clip(level, 0, 1023, out=level)
        return self.table[level.astype(np.int16)]

    def process(self, grey: np.ndarray) -> np.ndarray:
        """What is done to the picture after compression, and uint8."""
        scanner = self.scanner
        if scanner.smoothing > 0.2:
            for axis in (1, 2):
                ndimage.gaussian_filter1d(grey, scanner.smoothing, axis, output=grey, truncate=2.0)
        if scanner.sharpening:
            blurred = ndimage.uniform_filter1d(ndimage.uniform_filter1d(grey, 5, 2), 3, 1)
            blurred -= grey
            blurred *= np.float32(-scanner.sharpening)
            grey += blurred
        np.clip(grey, 0, 255, out=grey)
        return grey.astype(np.uint8)


def draw(rng: np.random.Generator, grid: Grid, scanner: Scanner) -> Display:
    depth = np.linspace(0, 1, grid.shape[1], dtype=np.float32)
    waves = fields.smooth(rng, (grid.shape[1],), (12 / grid.spacing[1],))
    gain = scanner.tgc * waves - scanner.loss * depth**1.5
    floor = scanner.floor - 8 * (1 - depth)
    level = np.linspace(0, 1, 1024) ** scanner.gamma
    knee = rng.uniform(-0.25, 0.25)  # an S-shaped curve, or its contrary
    level = np.clip(level - knee * np.sin(2 * np.pi * level) / (2 * np.pi), 0, 1)
    black, white = rng.uniform(0, 12) * (rng.random() < 0.3), rng.uniform(215, 255)
    return Display(scanner, gain, floor, (black + (white - black) * level).astype(np.float32))
