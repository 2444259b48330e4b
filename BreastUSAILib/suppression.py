"""Non-maximum suppression of 3D boxes: few boxes or a hundred thousand, all that stay or the surest hundred.

The rule is the usual greedy one (the surest box stays, what overlaps it goes, and so on). Its usual form looks at all boxes left once
for each box that stays. Here the boxes lie as six arrays, one a coordinate, and are taken by falling score in chunks: a chunk is held against the
boxes that stay already, tile by tile, so that what goes is looked at no further, then settled within itself. No more than
the chunks up to the last box wanted are looked at. Where many boxes meet many, neighbours are packed into groups as the leaves of an R-tree are
(sorted and cut along one axis after the other: Leutenegger et al., ICDE 1997), and a group meets those alone that reach into the box about it:
no other has anything in common with any of its boxes. The arithmetic, in float32, is that of `boxes.paired_iou`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

_FIRST_CHUNK, _LARGEST_CHUNK = 128, 4096  # the surest boxes are mostly enough where few are wanted
_HEAD = 128  # boxes that are settled among themselves at a time: the square of it is looked at
_TILE = 1 << 15  # pairs that are looked at together: their arrays stay in a core's cache
_GROUP = 64  # neighbours that are looked at together where many boxes meet many
_MANY = 1 << 20  # pairs


def suppress(boxes: np.ndarray, scores: np.ndarray, overlap: float, most: int | None = None) -> np.ndarray:
    """The boxes to keep: the surest, then the surest of those that do not overlap it, and so on.

    Parameters
    ----------
    boxes, scores : (n, 6) (z1, y1, x1, z2, y2, x2) and (n,). Equal scores: the one that comes first is taken as the surer.
    overlap : a box goes when its IoU with a surer one that stays is above this.
    most : how many to keep at most, 1 or more; None: all.

    Returns
    -------
    (k,) int64 : indices of those that stay, by falling score.
    """
    wanted = len(scores) if most is None else most
    staying = np.empty((7, 0), np.float32)
    kept: list[np.ndarray] = []
    number = 0
    for chunk in _by_falling_score(scores, most):
        rows = _with_volumes(boxes[chunk])
        chunk, rows = _only(_clear(rows, staying, overlap), chunk, rows)
        new = [staying]
        while len(chunk):
            stay = _settle(rows[:, :_HEAD], overlap)[: wanted - number]
            kept.append(chunk[stay])
            new.append(rows[:, stay])
            number += len(stay)
            if number >= wanted:
                return np.concatenate(kept)
            chunk, rows = chunk[_HEAD:], rows[:, _HEAD:]
            chunk, rows = _only(_clear(rows, new[-1], overlap), chunk, rows)
        staying = np.concatenate(new, axis=1)
    return np.concatenate(kept) if kept else np.zeros(0, np.int64)


def _only(alive: np.ndarray, chunk: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (chunk, rows) if alive.all() else (chunk[alive], rows[:, alive])


def _by_falling_score(scores: np.ndarray, most: int | None) -> Iterator[np.ndarray]:
    """Indices by falling score, in chunks that grow. Where few boxes are wanted, the many unsure ones are sorted only if it comes to that."""
    scores = -scores  # so that a stable sort leaves equal ones in their order
    parts = [None]
    head = 0 if most is None else 8 * most + _FIRST_CHUNK
    if 0 < head < len(scores) // 4:
        last = np.partition(scores, head)[head]
        sure = scores <= last
        parts = [np.flatnonzero(sure), np.flatnonzero(~sure)]
    size = _FIRST_CHUNK if most is not None else _LARGEST_CHUNK
    for part in parts:
        order = np.argsort(scores, kind="stable") if part is None else part[np.argsort(scores[part], kind="stable")]
        start = 0
        while start < len(order):
            yield order[start : start + size]
            start, size = start + size, min(2 * size, _LARGEST_CHUNK)


def _with_volumes(boxes: np.ndarray) -> np.ndarray:
    """(7, n) float32: the coordinates, each contiguous, and the volume; 0 where a box ends before it begins."""
    rows = np.empty((7, len(boxes)), np.float32)
    rows[:6] = boxes.T
    sides = np.maximum(rows[3:6] - rows[:3], 0)
    rows[6] = sides[0] * sides[1] * sides[2]
    return rows


def _overlapping(first: np.ndarray, second: np.ndarray, overlap: float) -> np.ndarray:
    """(n, m) bool: which pairs of boxes (7, n) and (7, m) have an IoU above `overlap`."""
    common = side = low = None
    for axis in range(3):
        side = np.minimum(first[axis + 3, :, None], second[axis + 3], out=side)
        low = np.maximum(first[axis, :, None], second[axis], out=low)
        side -= low
        np.maximum(side, 0, out=side)
        if common is None:
            common, side = side, None
        else:
            common *= side
    union = np.add(first[6, :, None], second[6], out=low)
    union -= common
    np.maximum(union, 1e-12, out=union)
    common /= union
    return common > np.float32(overlap)


def _clear(rows: np.ndarray, others: np.ndarray, overlap: float) -> np.ndarray:
    """(n,) bool: which boxes (7, n) overlap none of the others (7, m)."""
    if rows.shape[1] * others.shape[1] < _MANY or overlap < 0:
        return _clear_of_all(rows, others, overlap)
    alive = np.empty(rows.shape[1], bool)
    for group in _neighbours(rows):
        part = rows[:, group]
        low, high = np.fmin.reduce(part[:3], axis=1), np.fmax.reduce(part[3:6], axis=1)  # a box of NaN overlaps nothing
        near = np.ones(others.shape[1], bool)
        for axis in range(3):
            near &= others[axis + 3] > low[axis]
            near &= others[axis] < high[axis]
        alive[group] = _clear_of_all(part, others[:, near], overlap)
    return alive


def _clear_of_all(rows: np.ndarray, others: np.ndarray, overlap: float) -> np.ndarray:
    """As `_clear`, looking at every pair, but at no box further that one of the others has struck out."""
    clear = np.zeros(rows.shape[1], bool)
    left, first = np.arange(len(clear)), 0
    while first < others.shape[1] and len(left):
        number = max(1, _TILE // len(left))
        alive = ~_overlapping(others[:, first : first + number], rows, overlap).any(axis=0)
        left, rows = _only(alive, left, rows)
        first += number
    clear[left] = True
    return clear


def _neighbours(rows: np.ndarray) -> list[np.ndarray]:
    """The places (7, n) of boxes in groups of about `_GROUP` that lie together: sorted by their middles along each axis, and cut."""
    cuts = max(1, math.ceil((rows.shape[1] / _GROUP) ** (1 / 3)))
    groups = [np.arange(rows.shape[1])]
    for axis in range(3):
        middle = rows[axis] + rows[axis + 3]
        sorted_groups = (group[np.argsort(middle[group])] for group in groups)
        groups = [part for group in sorted_groups for part in np.array_split(group, cuts) if len(part)]
    return groups


def _settle(rows: np.ndarray, overlap: float) -> np.ndarray:
    """Which of a few boxes (7, n), by falling score, stay among themselves."""
    # A row of the table of overlaps is one long integer, a bit a box: striking out all that a box overlaps is one operation.
    table = np.packbits(_overlapping(rows, rows, overlap), axis=1, bitorder="little")
    struck = [int.from_bytes(row, "little") for row in table]
    left, stay = (1 << len(struck)) - 1, []
    while left:
        surest = (left & -left).bit_length() - 1
        stay.append(surest)
        left &= ~(struck[surest] | (1 << surest))
    return np.array(stay, np.int64)
