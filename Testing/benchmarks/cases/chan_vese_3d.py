"""The refiner in volumes, from a network's mask. Size: (z, y, x)."""

from __future__ import annotations

from collections.abc import Iterator

from runner import Case

from cases.outlines import outline_case

SIZES = ((64, 128, 128), (128, 256, 256))
QUICK = ((24, 40, 40),)
GOALS = {"scikit-image morphological_chan_vese": 200.0, "SimpleITK dense": 140.0}


def cases(size: tuple[int, ...], seed: int) -> Iterator[Case]:
    yield outline_case(size, seed, False, GOALS)
    yield outline_case(size, seed, True, {})
