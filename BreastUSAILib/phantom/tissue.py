"""What the anatomy is made of: the three quantities that the acoustics works with, and their values in each tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tissue:
    """Depth rows of a volume; float32 arrays (depth, slice, lateral), which the next call may overwrite.

    Attributes
    ----------
    echo : amplitude of the scatterers; subcutaneous fat is 1.
    attenuation : one way, dB/cm/MHz.
    specular : amplitude of coherent reflectors in the units of `echo`: fascia, ligaments, cortex of ribs, pleura.
    """

    echo: np.ndarray
    attenuation: np.ndarray
    specular: np.ndarray


@dataclass(frozen=True)
class Medium:
    """Mean echo amplitude (fat = 1) and attenuation (dB/cm/MHz) of a tissue."""

    echo: float
    attenuation: float


# Fat: 0.73 +- 0.23 dB/cm/MHz, PMC4618705. Parenchyma 0.75, muscle 0.96 across its fibres and 1.40 along them, bone 15, lung 40, connective
# tissue 1.57 dB/cm at 1 MHz: PMC10001275, table 4; parenchyma is taken denser here, as breasts that attenuate 1.0 to 1.3 dB/cm/MHz in
# all were measured (in vivo, Ultrasound Med Biol 2012). What is seen of the lung is sound that goes to and fro above it, and fades slower than in lung. Echo levels: glandular tissue 8 to 14 dB above fat, muscle near fat.
FAT = Medium(1.0, 0.68)
GLAND = Medium(3.3, 0.92)
LIGAMENT = Medium(3.4, 1.4)
SKIN = Medium(3.6, 1.5)
MUSCLE = Medium(0.8, 1.0)
BONE = Medium(0.25, 15.0)
CARTILAGE = Medium(0.42, 2.6)
LUNG = Medium(0.5, 1.7)
BLOOD = Medium(0.056, 0.15)
NIPPLE = Medium(0.9, 3.2)
NODE_CORTEX = Medium(0.45, 0.8)
