"""Filters of small grids as a dense matrix product along each axis: on the region about a lesion that beats an FFT."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from .processor import fast_bf16

_REACH = 9.0  # standard deviations beyond which a Gaussian is 1e-18: nothing, beside 1, in float64
_BF16_PIXELS = 30_000  # a smaller grid is done before its pixels are turned into bfloat16


def gaussian(n: int, sigma: float, rows: np.ndarray | None = None) -> np.ndarray:
    """(n, n) matrix of a Gaussian of `sigma` pixels on a line that is mirrored at both ends, or some of its rows; each sums to 1."""
    reach = min(2 * n, math.ceil(_REACH * sigma) + 1)
    taps = np.zeros(2 * n)
    taps[:reach] = np.exp(-0.5 * (np.arange(reach) / sigma) ** 2)
    if whole := reach <= n:
        # Mirrored once at each end every row holds all taps, which sum to the same.
        taps /= 2 * taps.sum() - 1
    taps = taps.astype(np.float32)
    line = np.concatenate([taps[n - 1 : 0 : -1], taps[:n]])
    # taps[|i - j|], taps[i + j + 1] and taps[2 n - 1 - i - j]: windows of a line, which need not be gathered.
    step = taps.strides[0]
    straight = np.lib.stride_tricks.as_strided(line[n - 1 :], (n, n), (-step, step))
    before = np.lib.stride_tricks.as_strided(taps[1:], (n, n), (step, step))
    behind = np.lib.stride_tricks.as_strided(taps[::-1], (n, n), (-step, -step))
    if rows is None:
        # What is mirrored reaches into the corners alone.
        matrix, reach = straight.copy(), min(reach, n)
        matrix[:reach, :reach] += before[:reach, :reach]
        matrix[-reach:, -reach:] += behind[-reach:, -reach:]
    else:
        matrix = straight[rows] + before[rows]
        matrix += behind[rows]
    if not whole:
        matrix /= matrix.sum(axis=1, keepdims=True)
    return matrix


def interpolation(n: int, places: np.ndarray) -> np.ndarray:
    """(n, len(places)) matrix that interpolates linearly between the values at `places`, which ascend from 0; those beyond are the last."""
    if len(places) == 1:
        return np.ones((n, 1), np.float32)
    at = np.arange(n)
    left = np.minimum(np.searchsorted(places, at, side="right") - 1, len(places) - 2)
    share = np.minimum(at - places[left], np.diff(places)[left]) * (1 / np.diff(places))[left]
    matrix = np.zeros((n, len(places)), np.float32)
    matrix[at, left] = 1 - share
    matrix[at, left + 1] = share
    return matrix


def along_axes(values: np.ndarray, matrices: Sequence[np.ndarray], part: tuple[slice, ...] | None = None) -> np.ndarray:
    """Each axis of `values` multiplied by its matrix (m, n); plain matrix products, which BLAS is best at. Beyond `part` the values are 0."""
    if part is not None:
        # What is left out would add zeros: the same result for a third of the work about a lesion in a volume, for half in an image.
        values, matrices = values[part], [matrix[:, p] for matrix, p in zip(matrices, part, strict=True)]
    last = matrices[-1]
    out = (values.reshape(-1, values.shape[-1]) @ last.T).reshape(*values.shape[:-1], last.shape[0])
    out = np.matmul(matrices[-2], out)
    if len(matrices) == 3:
        out = (matrices[0] @ out.reshape(out.shape[0], -1)).reshape(-1, *out.shape[1:])
    return out


def smoothing(kernel: Sequence[np.ndarray]) -> Callable[[np.ndarray, tuple[slice, ...]], np.ndarray]:
    """A function that multiplies each axis of an array of zeros and ones by its matrix, in the fastest way that this machine has;
    it is told the part beyond which there are zeros alone."""
    shape = [len(matrix) for matrix in kernel]
    if len(shape) < 3 or math.prod(shape) < _BF16_PIXELS or not fast_bf16("cpu"):
        return lambda u, part: along_axes(u, kernel, part)
    import torch

    matrices = [torch.from_numpy(matrix).bfloat16() for matrix in kernel]

    def smooth(u: np.ndarray, part: tuple[slice, ...]) -> np.ndarray:
        first, second, third = (matrix[:, p] for matrix, p in zip(matrices, part, strict=True))
        out = torch.matmul(second, torch.from_numpy(u)[part].bfloat16() @ third.T)
        return (first @ out.flatten(1)).reshape(u.shape).float().numpy()

    return smooth
