"""The convex hull of a surface: its volume, and its diameters as a reader sets callipers.

Diameters are those of the corners alone, which is exact: the longest chord of any direction that a set of points allows ends at corners of
its hull. Of some ten thousand corners of a fine surface most pairs lie much nearer to each other than the farthest; they are left out in
groups, by the least and the most that lies between two groups.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

_CUTS = 65  # planes across the longest diameter in which chords are looked for
_FEW = 500  # points whose distances are simply all computed
_CELLS = 12  # a side of what the points fill, where they are grouped


class Hull:
    """The convex hull of points.

    Parameters
    ----------
    points : (n, 3) mm, not all in one plane.

    Attributes
    ----------
    corners : (m, 3) float64, mm, in the order of the points.
    edges : (k, 2), indices of corners, each edge once.
    volume : mm3.
    """

    def __init__(self, points: np.ndarray) -> None:
        from scipy.spatial import ConvexHull

        hull = ConvexHull(points)
        used = np.sort(hull.vertices)
        self.volume = float(hull.volume)
        self.corners = np.asarray(points[used], float)
        triangles = np.searchsorted(used, hull.simplices)
        pairs = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
        # As one number each: rows are sorted far more slowly.
        self.edges = np.stack(np.divmod(np.unique(pairs[:, 0] * len(used) + pairs[:, 1]), len(used)), axis=1)

    @cached_property
    def _farthest(self) -> tuple[int, int]:
        return farthest_pair(self.corners)

    @property
    def longest(self) -> float:
        """The longest diameter, mm."""
        first, last = self._farthest
        return float(np.linalg.norm(self.corners[last] - self.corners[first]))

    def diameters(self) -> tuple[float, float, float]:
        """The longest diameter, mm, the longest chord across it, and the longest chord across both."""
        (first, last), major = self._farthest, self.longest
        along = (self.corners[last] - self.corners[first]) / major
        # Two directions across: (along, across, other) is orthonormal.
        _, _, axes = np.linalg.svd(along[None])
        across, other = axes[1], axes[2]

        # A chord across the longest diameter lies in a plane across it; in each plane the hull is a polygon.
        t = (self.corners - self.corners[first]) @ along
        flat = np.stack([self.corners @ across, self.corners @ other], axis=1)
        cuts = [_cut(t, flat, self.edges, place) for place in np.linspace(0, major, _CUTS + 2)[1:-1]]
        second, direction = max((_longest(polygon) for polygon in cuts), key=lambda chord: chord[0])
        sideways = np.array([-direction[1], direction[0]])
        third = max(_longest_along(polygon, sideways, direction) for polygon in cuts)
        return major, second, third


def farthest_pair(points: np.ndarray) -> tuple[int, int]:
    """Indices of the two of some points (n, d) that are farthest from each other; the first such pair, where several are."""
    from scipy.spatial.distance import cdist

    if len(points) <= _FEW:
        distances = cdist(points, points)
        first, last = np.unravel_index(int(distances.argmax()), distances.shape)
        return int(first), int(last)

    # Points in the cells of a lattice, each group with its middle and radius.
    low = points.min(axis=0)
    side = float(np.ptp(points, axis=0).max()) / _CELLS or 1.0
    cells = np.minimum(((points - low) / side).astype(int), _CELLS - 1)
    _, group = np.unique(np.ravel_multi_index(tuple(cells.T), (_CELLS,) * points.shape[1]), return_inverse=True)
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    starts = np.cumsum(sizes) - sizes
    middles = np.stack([np.bincount(group, column) for column in points.T], axis=1) / sizes[:, None]
    radii = np.maximum.reduceat(np.linalg.norm(points - middles[group], axis=1)[order], starts)
    between = cdist(middles, middles)
    most = (between + radii + radii[:, None]) * (1 + 1e-9)  # whatever was rounded

    # Two groups may hold the pair where the most that lies between them is no less than what lies between some points surely. The farthest
    # point from any one, and the farthest from that, are nearly as far apart as any.
    some = points[0]
    for _ in range(3):
        distances = np.linalg.norm(points - some, axis=1)
        some = points[int(distances.argmax())]
    best = float(distances.max()) * (1 - 1e-9)
    pairs: list[tuple[int, int]] = []
    members = np.split(order, starts[1:])
    for number in np.argsort(-most.max(axis=1), kind="stable"):
        others = np.flatnonzero(most[number] >= best)
        others = others[others >= number]  # each two groups once
        if not others.size:
            continue
        there = np.concatenate([members[k] for k in others])
        distances = cdist(points[members[number]], points[there])
        longest = float(distances.max())
        if longest < best:
            continue
        if longest > best:
            best, pairs = longest, []
        here = [(members[number][i], there[j]) for i, j in np.argwhere(distances == longest)]
        pairs += [(int(min(pair)), int(max(pair))) for pair in here]
    return min(pairs)


def _cut(t: np.ndarray, flat: np.ndarray, edges: np.ndarray, place: float) -> np.ndarray:
    """Where the edges of the hull cross a plane across the longest diameter: (n, 2) mm in that plane."""
    a, b = edges.T
    crossing = (t[a] <= place) != (t[b] <= place)
    a, b = a[crossing], b[crossing]
    share = ((place - t[a]) / (t[b] - t[a]))[:, None]
    return flat[a] * (1 - share) + flat[b] * share


def _longest(polygon: np.ndarray) -> tuple[float, np.ndarray]:
    """Length and direction of the longest chord of the convex hull of some points in a plane."""
    i, j = farthest_pair(polygon)
    way = polygon[j] - polygon[i]
    length = float(np.linalg.norm(way))
    return length, way / length if length else np.array([1.0, 0.0])


def _longest_along(polygon: np.ndarray, way: np.ndarray, across: np.ndarray) -> float:
    """Length of the longest chord of a convex polygon that runs along `way`; the points are its corners or lie on its edges."""
    s, h = polygon @ across, polygon @ way
    ends = (int(s.argmin()), int(s.argmax()))
    low, span = s[ends[0]], s[ends[1]] - s[ends[0]]
    if span <= 0:
        return float(np.ptp(h))
    # Both chains from end to end; the width between them is piecewise linear, so its maximum lies at a corner.
    above = h - (h[ends[0]] + (s - low) / span * (h[ends[1]] - h[ends[0]]))
    above[list(ends)] = 0.0  # both belong to both chains, however they were rounded
    order = np.argsort(s, kind="stable")
    s, above = s[order], above[order]
    top = np.interp(s, s[above >= 0], above[above >= 0])
    bottom = np.interp(s, s[above <= 0], above[above <= 0])
    return float((top - bottom).max())
