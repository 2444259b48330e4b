"""From dB to grey: a drawn curve as a table, and what is done to the grey picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .speckle import UNIT


@dataclass(frozen=True)
class Display:
    """`table` holds the grey level (float32, 0 to 255) of each int16 dB / `UNIT`, read as uint16."""

    curve: str
    table: np.ndarray

    def grey(self, decibel: float, speckle: np.ndarray) -> float:
        """Mean grey level of tissue of an echo, dB, with `speckle` (some of it, in dB / UNIT)."""
        level = np.clip(decibel * UNIT + speckle, -32000, 32000).astype(np.int16)
        return float(self.table[level.view(np.uint16)].mean())


def draw_display(rng: np.random.Generator, middle: float, spread: float) -> Display:
    """A curve for a picture whose median is `middle` dB, and `spread` dB lie from its 10th to its 90th percentile."""
    decibel = np.arange(65536, dtype=np.uint16).view(np.int16) / UNIT - middle
    noise = rng.uniform(-45, -14) - spread / 2
    decibel = np.where(decibel > -90, 10 * np.log10(10 ** (np.maximum(decibel, -90) / 10) + 10 ** (noise / 10)), noise)
    target = rng.uniform(0.16, 0.62)  # grey of the median, of 1
    curve = str(rng.choice(["log", "power", "sigmoid"], p=[0.6, 0.25, 0.15]))
    if curve == "log":
        gamma, width = rng.uniform(0.7, 1.6), rng.uniform(32, 75)
        grey = np.clip(decibel / width + target ** (1 / gamma), 0, None) ** gamma
    elif curve == "power":
        grey = target * 10 ** (np.minimum(decibel, 60) * rng.uniform(0.35, 1) / 20)
    else:
        grey = 1 / (1 + (1 / target - 1) * 10 ** (-decibel / rng.uniform(14, 30)))
    top = rng.choice([1.0, rng.uniform(0.75, 1)])
    grey = 255 * top * np.clip(grey + rng.choice([0, rng.uniform(-0.04, 0.08)]), 0, 1)
    step = rng.choice([1, 2, 4, 8], p=[0.8, 0.1, 0.06, 0.04])
    return Display(curve, (np.round(grey / step) * step).clip(0, 255).astype(np.float32))


def shown(rng: np.random.Generator, echo: np.ndarray, display: Display) -> tuple[np.ndarray, dict]:
    """The picture of an echo map (int16 dB / `UNIT`), uint8, blurred and noisy as is drawn, and what was drawn."""
    table = display.table.astype(np.uint8)
    image = np.empty(echo.shape, np.uint8)
    for z in range(0, len(echo), 8):
        image[z : z + 8] = table[echo[z : z + 8].view(np.uint16)]
    facts = {"blur": [0, 0, 0], "noise": 0.0}
    if rng.uniform() < 0.35:
        facts["blur"] = [int(b) for b in rng.choice([0, 1, 2], 3, p=[0.45, 0.4, 0.15])]
        for axis, times in enumerate(facts["blur"]):
            for _ in range(times):
                _blur(image, axis)
    if rng.uniform() < 0.35:
        facts["noise"] = float(rng.uniform(1, 9))
        deviate = np.clip(np.round(rng.normal(0, facts["noise"], 65536)), -60, 60).astype(np.int16)
        for part in image:
            start = int(rng.integers(0, 65536 - 1))
            shift = np.resize(np.roll(deviate, start), part.size).reshape(part.shape)
            part[:] = np.clip(part + shift, 0, 255)
    return image, facts


def _blur(image: np.ndarray, axis: int) -> None:
    """Weights 1/4, 1/2, 1/4 along an axis, in place, slab by slab; the ends stay."""
    view = np.moveaxis(image, axis, 0)
    if axis == 0:
        before = view[0].astype(np.uint16)
        for i in range(1, len(view) - 1):
            here = view[i].astype(np.uint16)
            view[i] = (before + 2 * here + view[i + 1] + 2) >> 2
            before = here
        return
    for part in image:
        v = np.moveaxis(part, axis - 1, 0)
        wide = v.astype(np.uint16)
        v[1:-1] = (wide[:-2] + 2 * wide[1:-1] + wide[2:] + 2) >> 2
