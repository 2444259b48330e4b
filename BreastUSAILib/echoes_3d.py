"""The echoes in and about a lesion of a volume, compared: inside with around, behind with beside.

Only what is compared is read, in the volume's own type and a few slices at a time, so that a large lesion needs little memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .errors import ImageError

RING_WIDTH = 0.2  # of the diameter of the ball of equal volume: the surrounding tissue that the lesion is compared with
EDGE = 0.3  # of the shadowed area's radius: beams so near the lesion's side are refracted, and are left out
BESIDE = 0.5  # of that radius: how wide a ring of beams the ones behind the lesion are compared with
_LATTICE = 8  # of a distance: what is near is known exactly on a lattice of at least so many points within it
_SLAB = 1 << 20  # voxels that are looked at together


class Echoes:
    """The echoes in and about a lesion.

    Parameters
    ----------
    echoes : (z, y, x), of the whole volume.
    first : index (z, y, x) of the lesion's bounding box in it.
    inside : bool, the mask within that box, which it touches on all six sides.
    spacing : (z, y, x).
    """

    def __init__(self, echoes: np.ndarray, first: np.ndarray, inside: np.ndarray, spacing: np.ndarray) -> None:
        self.first, self._echoes, self._inside, self._spacing = np.asarray(first), echoes, inside, spacing

    def ratios(self, ball: float) -> dict[str, float | None]:
        """Contrast, posterior ratio and heterogeneity; `ball` is the diameter of the ball of equal volume.

        Raises `ImageError` where values that are compared are not finite.
        """
        values, _ = self._part(np.zeros(3, int), np.zeros(3, int))
        values = values[self._inside]
        mean = float(values.mean(dtype=float))
        return {
            "contrast_ratio": _ratio(mean, self._shell(max(RING_WIDTH * ball, float(self._spacing.max())))),
            "posterior_ratio": self._posterior(),
            "echo_heterogeneity": _ratio(float(values.std(dtype=float)), mean),
        }

    def _part(self, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The echoes of the bounding box and so many voxels more on each side (fewer where negative), as far as the volume reaches;
        and the index (z, y, x) of their first voxel, seen from that of the box."""
        low = np.maximum(self.first - before, 0)
        high = np.minimum(self.first + self._inside.shape + after, self._echoes.shape)
        values = self._echoes[tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))]
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ImageError("the volume has values about the lesion that are not finite; replace them to measure it.")
        return values, low - self.first

    def _shell(self, width: float) -> float | None:
        """Mean of the echoes outside, up to `width` from the mask."""
        margin = np.ceil(width / self._spacing).astype(int)
        values, start = self._part(margin, margin)
        total, count = 0.0, 0
        for first, near in within(self._inside, self._spacing, width, start, values.shape):
            slab = values[first : first + len(near)]
            _clear(near, self._inside, start + (first, 0, 0))
            total += float(slab[near].sum(dtype=float))
            count += int(np.count_nonzero(near))
        return total / count if count else None

    def _posterior(self) -> float | None:
        from scipy import ndimage

        footprint = self._inside.any(axis=1)  # (z, x): the beams that pass through the lesion
        flat = self._spacing[[0, 2]]
        radius = math.sqrt(footprint.sum() * float(flat.prod()) / math.pi)
        margin = np.ceil((EDGE + BESIDE) * radius / flat).astype(int) + 1
        footprint = np.pad(footprint, tuple((n, n) for n in margin))
        distance_in = ndimage.distance_transform_edt(footprint, sampling=flat)
        distance_out = ndimage.distance_transform_edt(~footprint, sampling=flat)
        behind = distance_in > EDGE * radius
        if not behind.any():
            behind = footprint
        beside = (distance_out > EDGE * radius) & (distance_out <= (EDGE + BESIDE) * radius)

        height = self._inside.shape[1]
        sides = np.array([margin[0], 0, margin[1]])
        below, start = self._part(sides - (0, height, 0), sides + (0, height, 0))
        z, x = (slice(a, a + n) for a, n in zip(start[[0, 2]] + margin, below.shape[::2], strict=True))
        behind, beside = behind[z, x], beside[z, x]
        if below.shape[1] < max(1, height / 4) or not behind.any() or not beside.any():
            return None
        by_beam = below.mean(axis=1, dtype=float)
        return _ratio(float(by_beam[behind].mean()), float(by_beam[beside].mean()))


def _ratio(value: float, reference: float | None) -> float | None:
    return value / reference if reference is not None and reference > 0 else None


def _clear(near: np.ndarray, inside: np.ndarray, start: np.ndarray) -> None:
    """Take a mask out of a part of its grid that begins at index `start`, seen from the mask's first voxel."""
    low = np.maximum(start, 0)
    high = np.minimum(start + near.shape, inside.shape)
    if np.all(high > low):
        there = tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))
        near[there] &= ~inside[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]


# -------------------------------------------------------------------------------------------------------- what is near


def within(
    inside: np.ndarray, spacing: np.ndarray, width: float, start: np.ndarray, shape: tuple[int, ...]
) -> Iterator[tuple[int, np.ndarray]]:
    """Which voxels of a part of a grid are no farther than `width` from those of a mask, centre to centre.

    Distances are exact on a lattice of every n-th voxel, no more than `width` / 8 apart, and linear in between; where n is 1 all are exact. The
    distance to a point that is d away bends by 1 / d in the two directions across, so about `width` the lines between the points
    of the lattice are off by no more than 2 (width / 8)^2 / (8 width) = width / 256, a hundredth of a millimetre around a lesion of 13 mm.

    Parameters
    ----------
    inside : (z, y, x) bool, not empty.
    spacing : along z, y, x.
    start, shape : the part, seen from the mask's first voxel.

    Yields
    ------
    The first slice of a few, and (slices, y, x) bool.
    """
    steps = np.maximum(1, (width / _LATTICE / spacing).astype(int))
    points = [int(-(-(n - 1) // k)) + 1 for n, k in zip(shape, steps, strict=True)]
    distances = lattice_distances(inside, spacing, 1.3 * width, start, steps, points)
    at_a_time = max(1, _SLAB // (shape[1] * shape[2]))
    limit = float(width) * (1 + 1e-6)  # a voxel at exactly this distance is within it, whatever was rounded
    for first in range(0, shape[0], at_a_time):
        last = min(first + at_a_time, shape[0])
        planes = _between(distances, 0, int(steps[0]), first, last)
        rows = _between(planes, 1, int(steps[1]), 0, shape[1])
        yield first, _between(rows, 2, int(steps[2]), 0, shape[2]) <= limit


def _between(values: np.ndarray, axis: int, step: int, first: int, last: int) -> np.ndarray:
    """Samples `first` to `last` of an axis of which every `step`-th is given, linear in between."""
    if step == 1:
        return values[(slice(None),) * axis + (slice(first, last),)]
    low = first // step
    values = np.moveaxis(values, axis, -1)[..., low : -(-(last - 1) // step) + 1]
    if values.shape[-1] == 1:
        values = np.concatenate([values, values], axis=-1)
    share = np.arange(step, dtype=np.float32) / step
    slope = np.diff(values, axis=-1)[..., None] * share
    slope += values[..., :-1, None]
    found = slope.reshape(*values.shape[:-1], -1)
    # The last sample given is not the beginning of a gap.
    found = np.concatenate([found, values[..., -1:]], axis=-1)
    return np.moveaxis(found[..., first - low * step : last - low * step], -1, axis)


def lattice_distances(
    inside: np.ndarray,
    spacing: np.ndarray,
    reach: float,
    start: np.ndarray,
    steps: np.ndarray,
    points: list[int],
) -> np.ndarray:
    """Distances from the points of a lattice to the nearest voxel of a mask, centre to centre, exactly.

    One axis after the other, as Saito and Toriwaki (Pattern Recognition 27(11), 1994) do, but for the points of the lattice alone: along the
    finest axis from the voxels before and after, along the others as the least of what the lines within reach say.

    Parameters
    ----------
    inside : (z, y, x) bool.
    spacing : along z, y, x.
    reach : what is farther counts as this far.
    start, steps, points : along z, y, x: the first point of the lattice, seen from the mask's first voxel, the voxels
        between two, and their number.

    Returns
    -------
    (z, y, x) float32.
    """
    order = np.argsort(spacing, kind="stable")
    places = [start[a] + steps[a] * np.arange(points[a]) for a in order]
    squares = _along_line(inside.transpose(order), places[0], float(spacing[order[0]]))
    for axis, place in enumerate(places[1:], start=1):
        squares = _least(squares, axis, place, float(spacing[order[axis]]), reach)
    np.minimum(squares, reach**2, out=squares)
    return np.ascontiguousarray(np.sqrt(squares, out=squares).transpose(np.argsort(order)))


def _along_line(inside: np.ndarray, places: np.ndarray, spacing: float) -> np.ndarray:
    """Squared distances along the first axis from `places` to the nearest voxel inside, float32; inf on lines without one."""
    n = len(inside)
    far = 2**30
    index = np.arange(n, dtype=np.int32)[:, None, None]
    found = np.full((len(places), *inside.shape[1:]), np.inf, np.float32)
    at_a_time = max(1, _SLAB // 4 // max(1, n * inside.shape[1]))
    for first in range(0, inside.shape[2], at_a_time):
        lines, there = inside[..., first : first + at_a_time], found[..., first : first + at_a_time]
        # What is nearest on one side, and on the other: seen from the far end, it is the same.
        for line, at in ((lines, places), (lines[::-1], n - 1 - places)):
            last = np.where(line, index, np.int32(-far))
            np.maximum.accumulate(last, axis=0, out=last)
            seen = at >= 0
            gap = (at[seen, None, None] - last[np.minimum(at[seen], n - 1)]).astype(np.float32)
            gap[gap >= far / 2] = np.inf
            there[seen] = np.minimum(there[seen], gap)
    found *= spacing
    return np.square(found, out=found)


def _least(squares: np.ndarray, axis: int, places: np.ndarray, spacing: float, reach: float) -> np.ndarray:
    """Squared distances at `places` of an axis, from those to what lies on each of its lines alone."""
    n = squares.shape[axis]
    lines = np.moveaxis(squares, axis, 0)
    found = np.full((len(places), *lines.shape[1:]), np.inf, np.float32)
    step = int(places[1] - places[0]) if len(places) > 1 else 1
    most = int(reach / spacing) + 1
    for shift in range(-most, most + 1):
        # Those of the places whose neighbour at this distance exists.
        first = max(0, -(-(-shift - int(places[0])) // step))
        last = min(len(places), (n - 1 - shift - int(places[0])) // step + 1)
        if first < last:
            source = int(places[first]) + shift
            line = lines[source : source + (last - first - 1) * step + 1 : step]
            np.minimum(found[first:last], line + np.float32((shift * spacing) ** 2), out=found[first:last])
    return np.moveaxis(found, 0, axis)
