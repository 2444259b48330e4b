"""What a kind of lesion is made of."""

from __future__ import annotations

from dataclasses import dataclass

# (lowest, highest) dB against fat
CLEAR, SAME, BRIGHT = (-34, -20), (-2, 2), (6, 12)


@dataclass(frozen=True)
class Kind:
    """A kind's looks; where there are several words, one is drawn.

    Attributes
    ----------
    weight : how often among lesions of its nature. form : of `shapes`. flat : its depth against its width, lowest and
    highest.
    inside : of `insides`. attenuation : dB/mm, lowest and highest; below 0 it enhances.
    blur : mm over which its border goes. halo, capsule : dB, 0: none, and how often it has one. size : factor to its
    volume.
    """

    weight: float
    form: str
    margins: tuple[str, ...]
    echo: str
    level: tuple[float, float]
    inside: str
    flat: tuple[float, float]
    attenuation: tuple[float, float]
    blur: tuple[float, float] = (0.2, 0.5)
    halo: float = 0.0
    capsule: float = 0.0
    calcified: tuple[tuple[str, float], ...] = ()
    distortion: float = 0.0
    size: float = 1.0
