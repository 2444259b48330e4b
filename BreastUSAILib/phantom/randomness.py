"""Random streams that are the same on every machine and independent of one another.

A seed opens one stream for each concern (anatomy, speckle, each lesion ...), so that asking for another acquisition does
not reshuffle the anatomy. The bits come from SFC64 (raw output, which numpy keeps the same from version to version).
"""

from __future__ import annotations

from enum import IntEnum
from operator import index

import numpy as np

from ..errors import PhantomError


class Stream(IntEnum):
    """What a stream of random numbers is for; the values are part of what a seed means and never change."""

    VOLUME = 0
    ANATOMY = 1
    ACQUISITION = 2
    PLACEMENT = 3
    SPECKLE = 4
    LESIONS = 16  # and the 16 + i-th stream is the i-th lesion's


def open_stream(seed: int, stream: Stream, number: int = 0) -> np.random.Generator:
    """The generator of one concern of one phantom.

    Parameters
    ----------
    seed : the phantom's seed, 0 or more.
    stream : the concern.
    number : which of several, e.g. the lesion's index; `Stream.LESIONS` only.

    Raises
    ------
    PhantomError : the seed is not a whole number from 0.

    >>> open_stream(1, Stream.ANATOMY).integers(1000) == open_stream(1, Stream.ANATOMY).integers(1000)
    True
    """
    try:
        seed = index(seed)
    except TypeError:
        seed = -1
    if seed < 0:
        raise PhantomError("A phantom's seed must be a whole number, 0 or more.")
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, int(stream) + number])))
