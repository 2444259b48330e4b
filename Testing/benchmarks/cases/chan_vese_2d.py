"""The refiner in images, from a network's mask. Size: (y, x)."""

from __future__ import annotations

from collections.abc import Iterator

from runner import Case

from cases.outlines import outline_case

SIZES = ((288, 288),)
QUICK = ((96, 96),)
GOALS = {"scikit-image chan_vese": 63.0, "scikit-image morphological_chan_vese": 349.0, "SimpleITK dense": 187.0}


def cases(size: tuple[int, ...], seed: int) -> Iterator[Case]:
    yield outline_case(size, seed, False, GOALS)
    yield outline_case(size, seed, True, {})
