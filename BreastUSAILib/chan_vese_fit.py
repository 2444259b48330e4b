"""How well the two sides of an outline fit: the first two terms of the Chan-Vese energy, with means of the whole region or about each pixel.

Both are made of the region's intensities (float32, any 2D or 3D grid), its steps (the size of a pixel along each axis) and a window's standard deviation
in the unit of the steps, and called with the intensities, u (1 inside, 0 outside), the part beyond which u is 0, and the weights mu1 and mu2. They give what it
costs, at each pixel, to be inside rather than outside. See `chan_vese` for the sources.
"""

from __future__ import annotations

import numpy as np

from .axis_products import along_axes, gaussian, interpolation

_WINDOW_PIXELS = 3.0  # the local means are computed on a grid with this many pixels on a standard deviation


class GlobalFit:
    """mu1 |I - c1|^2 - mu2 |I - c2|^2 with the means of the inside and the outside."""

    def __init__(self, values: np.ndarray, steps: np.ndarray, window: float) -> None:
        self._total = float(values.sum())

    def __call__(
        self, values: np.ndarray, u: np.ndarray, part: tuple[slice, ...], mu1: float, mu2: float
    ) -> np.ndarray:
        count, inside = float(u.sum()), float(np.vdot(u, values))
        c1 = inside / max(count, 1.0)
        c2 = (self._total - inside) / max(u.size - count, 1.0)
        cost = values * (2 * (mu2 * c2 - mu1 * c1))
        cost += mu1 * c1 * c1 - mu2 * c2 * c2
        if mu1 != mu2:
            cost += (mu1 - mu2) * values * values
        return cost


class LocalFit:
    """The same with means within a Gaussian window around each pixel: int K(x - y) |I(y) - c(x)|^2 dx.

    K is wide, so what is convolved with it is smooth: it is computed at every n-th pixel and interpolated.
    """

    def __init__(self, values: np.ndarray, steps: np.ndarray, window: float) -> None:
        self._gather, self._wide = [], []
        for n, s in zip(values.shape, steps, strict=True):
            stride = max(1, int(window / s / _WINDOW_PIXELS))
            places = np.unique(np.append(np.arange(0, n, stride), n - 1))
            weights = gaussian(n, window / s, places)
            interpolate = interpolation(n, places)
            self._gather.append(weights)
            self._wide.append(interpolate @ (weights @ interpolate))
        self._total = along_axes(values, self._gather)
        self._sum, self._doubled = float(values.sum()), 2 * values

    def __call__(
        self, values: np.ndarray, u: np.ndarray, part: tuple[slice, ...], mu1: float, mu2: float
    ) -> np.ndarray:
        weight = along_axes(u, self._gather, part)
        inside = along_axes(u * values, self._gather, part)
        # Where the window holds next to nothing of one side, that side's overall mean takes over.
        count, total = float(u.sum()), float(np.vdot(u, values))
        little = 1e-3
        c1 = (inside + little * total / max(count, 1.0)) / (weight + little)
        mean2 = (self._sum - total) / max(u.size - count, 1.0)
        c2 = (self._total - inside + little * mean2) / (1 - weight + little)
        cost = along_axes(mu1 * c1 * c1 - mu2 * c2 * c2, self._wide)
        linear = along_axes(mu1 * c1 - mu2 * c2, self._wide)
        linear *= self._doubled
        cost -= linear
        return cost if mu1 == mu2 else cost + (mu1 - mu2) * values * values
