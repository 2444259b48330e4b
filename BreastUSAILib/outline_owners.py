"""Which of several outlines show one lesion, and which of them holds a voxel that several hold."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .outline_3d import Outline

_SAME = 0.6  # two outlines that share so much of the smaller one show the same lesion
_NESTED = 4.0  # and where one is so many times as large as the other, this is a part of it


def one_owner_each(outlines: Sequence[Outline | None]) -> list[int | None]:
    """Give each voxel that several outlines hold to the surest of them; outlines are changed.

    Returns
    -------
    for each outline the number of another one that shows the same lesion: an earlier one that shares most of it, or one of which it is a part
    and which is more than `_NESTED` times as large, whichever comes first, as a part must not stand for the whole; or, where nothing is left of it, the
    one that shares more of it than others; else None.
    """
    same: list[int | None] = [None] * len(outlines)
    # Compared as they came: what one lesion loses to a neighbour must not make it the same as the next.
    sizes = [0 if outline is None else int(outline.inside.sum()) for outline in outlines]
    present = [number for number, outline in enumerate(outlines) if outline is not None]
    shared = {
        (i, j): both for i, j in combinations(present, 2) if (both := _in_both(outlines[i], outlines[j])) is not None
    }
    alike = {(i, j) for (i, j), (_, _, both) in shared.items() if both.sum() >= _SAME * min(sizes[i], sizes[j])}
    for j in present:
        earlier = [i for i in range(j) if (i, j) in alike and same[i] is None]
        same[j] = next((i for i in earlier if sizes[j] <= _NESTED * sizes[i]), None)
        if same[j] is None:  # what is not left takes no other's place
            for i in earlier:
                same[i] = j
    # What takes the place of a whole may have nothing of a part of it: that part is left then.
    ends = [_last_of(same, number) for number in range(len(same))]
    same = [
        end if end is not None and tuple(sorted((number, end))) in alike else None for number, end in enumerate(ends)
    ]
    pairs = {(i, j): both for (i, j), both in shared.items() if same[i] is None and same[j] is None}
    for (i, j), (a, b, both) in pairs.items():
        first, second = outlines[i], outlines[j]
        surer = first.probability[a] >= second.probability[b]
        second.inside[b] &= ~(both & surer)
        first.inside[a] &= ~(both & ~surer)
    # What a neighbour cuts off beyond itself would be measured as if it were joined.
    for number in {number for pair in pairs for number in pair}:
        inside = outlines[number].inside
        inside &= _largest_part(inside)
    left = [outline is not None and bool(outline.inside.any()) for outline in outlines]
    for number in range(len(outlines)):
        if same[number] is not None or left[number] or not sizes[number]:
            continue
        shares = {j if i == number else i: both.sum() for (i, j), (_, _, both) in pairs.items() if number in (i, j)}
        same[number] = max((other for other in shares if left[other]), key=shares.get)
    return same


def _largest_part(inside: np.ndarray) -> np.ndarray:
    """The largest connected part (corners touch) of a mask (z, y, x) bool; an empty one as it is."""
    from scipy import ndimage

    labels, number = ndimage.label(inside, np.ones((3, 3, 3)))
    return inside if number < 2 else labels == 1 + int(np.bincount(labels.ravel())[1:].argmax())


def _last_of(same: Sequence[int | None], number: int) -> int | None:
    """Where a chain of outlines that show the same lesion ends."""
    other = same[number]
    while other is not None and same[other] is not None:
        other = same[other]
    return other


def _in_both(first: Outline, second: Outline):
    """The part that two outlines' places share, as slices of the first and of the second, and where both hold a voxel of it; None: nowhere."""
    shared = _shared(first.place, second.place)
    if shared is None:
        return None
    a, b = shared
    both = first.inside[a] & second.inside[b]
    return (a, b, both) if both.any() else None


def _shared(first, second):
    """The part that two places of an array share, as slices of the first and of the second; None where they share nothing."""
    low = [max(a.start, b.start) for a, b in zip(first, second, strict=True)]
    high = [min(a.stop, b.stop) for a, b in zip(first, second, strict=True)]
    if any(h <= n for n, h in zip(low, high, strict=True)):
        return None
    return tuple(
        tuple(slice(n - p.start, h - p.start) for n, h, p in zip(low, high, place, strict=True))
        for place in (first, second)
    )
