"""Makes of scanner: what each does to speckle, gain and grey levels."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Scanner:
    """Drawn for a volume. mm, dB, and grey levels as fractions of white.

    Attributes
    ----------
    axial, lateral, across : size of speckle at the skin, mm along depth, lateral and slice; growth : how many times
    as wide it is at the bottom.
    speckle : its strength, 1 that of a single look. fat : grey of fat. dynamic : dB from black to white. gamma : of
    the grey curve.
    floor : dB of noise at the bottom, against fat at the top; loss : dB that are not made up for at the bottom; tgc :
    dB of its waves.
    smoothing : voxels of a speckle reduction after compression; sharpening : gain of an edge enhancement. clutter :
    dB against fat of what side lobes put into clear fluid.
    bands, lines : dB of unevenness from slice to slice and from beam to beam.
    """

    make: str
    axial: float
    lateral: float
    across: float
    growth: float
    speckle: float
    fat: float
    dynamic: float
    gamma: float
    floor: float
    loss: float
    tgc: float
    smoothing: float
    sharpening: float
    clutter: float
    bands: float
    lines: float

    def facts(self) -> dict[str, float | str]:
        return {key: v if isinstance(v, str) else round(v, 3) for key, v in asdict(self).items()}


_WIDE = {
    "axial": (0.25, 0.6),
    "lateral": (0.25, 0.7),
    "across": (0.3, 1.0),
    "growth": (1.0, 2.4),
    "speckle": (0.35, 0.95),
    "fat": (0.28, 0.58),
    "dynamic": (38, 72),
    "gamma": (0.75, 1.4),
    "floor": (-34, -14),
    "loss": (-6, 10),
    "tgc": (0, 3),
    "smoothing": (0, 0.8),
    "sharpening": (0, 0.8),
    "clutter": (-28, -12),
    "bands": (0, 0.8),
    "lines": (0, 0.8),
}
_MAKES = {
    "wide-field": {"axial": (0.3, 0.4), "lateral": (0.35, 0.5), "speckle": (0.45, 0.65), "dynamic": (52, 66)},
    "curved-paddle": {"lateral": (0.4, 0.7), "growth": (1.6, 2.4), "across": (0.6, 1.0), "fat": (0.4, 0.56)},
    "prone-ring": {"across": (0.3, 0.5), "speckle": (0.7, 0.95), "dynamic": (45, 60), "gamma": (0.75, 1.0)},
    "robot-arm": {"bands": (0.4, 1.2), "smoothing": (0.5, 1.0), "sharpening": (0.5, 1.3), "dynamic": (38, 50)},
    "old": {"floor": (-20, -11), "loss": (4, 12), "fat": (0.26, 0.4), "lines": (0.5, 1.4), "speckle": (0.7, 1.0)},
    "any": {},
}


def draw(rng: np.random.Generator) -> Scanner:
    make = str(rng.choice(list(_MAKES)))
    ranges = _WIDE | _MAKES[make]
    values = {name: float(rng.uniform(*ranges[name])) for name in _WIDE}
    for name in ("smoothing", "sharpening", "tgc", "bands", "lines"):  # often switched off
        if name not in _MAKES[make] and rng.random() < 0.4:
            values[name] = 0.0
    return Scanner(make, **values)
