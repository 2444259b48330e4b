"""A network's first convolution taken to a finer grid, on which it answers as it did.

A volume on coarse voxels is a mean over finer ones (`volume_input.network_input`: triangular weights, over twice a coarse voxel), and a convolution of means is
a convolution with a larger kernel that strides further. So a network that has learnt on coarse voxels can go on learning on finer ones from where it stood,
and all of its layers but the first stay as they are, and cost what they did (function-preserving, as in Chen et al. 2016, Net2Net).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import nn

_WHOLE = 1e-3  # as near as the quotient of two spacings must be to a whole number


def taps(kernel: int, finer: int, size: int) -> np.ndarray:
    """What each of `size` taps on fine voxels has of each of `kernel` taps on coarse ones, `finer` times as long: (size, kernel), columns with the sum 1.

    Both sizes are odd, their middle taps lie on the first voxel of their grid, and so half a coarse voxel less half a fine one apart. What lies
    beyond the outermost fine tap is added to it.
    """
    matrix = np.zeros((size, kernel))
    for column in range(kernel):
        middle = finer * (column - kernel // 2) + (finer - 1) / 2
        for place in range(int(np.floor(middle - finer)) + 1, int(np.ceil(middle + finer))):
            row = min(max(place + size // 2, 0), size - 1)
            matrix[row, column] += (1 - abs(place - middle) / finer) / finer
    return matrix


def on_finer_grid(
    state: Mapping[str, torch.Tensor], network: nn.Module, old: Sequence[float], new: Sequence[float], strides: Sequence[int]
) -> dict[str, torch.Tensor]:
    """A model's tensors, of which that of the first convolution is taken to the finer grid of `network`.

    Parameters
    ----------
    old, new : mm along x, y, z of the voxels of the model's grid and of the network's.
    strides : of the model's first convolution, along z, y, x.

    Raises
    ------
    ValueError : the network's voxels are not whole parts of the model's, or its first convolution does not stride as many millimetres or sees fewer.
    """
    import torch

    state = dict(state)
    name, first = next((n, m) for n, m in network.named_modules() if isinstance(m, torch.nn.Conv3d))
    name, wanted = f"{name}.weight", first.weight.shape
    given = state.get(name)
    if given is None or given.shape[:2] != wanted[:2]:
        return state  # another network, which is told where the tensors are loaded
    finer = np.divide(old, new)[::-1]
    factors = np.rint(finer).astype(int)
    if np.any(factors < 1) or np.any(np.abs(finer - factors) > _WHOLE):
        raise ValueError("its voxels are not whole parts of the model's")
    if tuple(first.stride) != tuple(int(s * f) for s, f in zip(strides, factors, strict=True)):
        raise ValueError("its first convolution strides further or less far than the model's")
    if any(n < k * f for n, k, f in zip(wanted[2:], given.shape[2:], factors.tolist(), strict=True)):
        raise ValueError("its first convolution sees less than the model's")
    if given.shape == wanted and np.all(factors == 1):
        return state
    matrices = [
        torch.from_numpy(taps(k, f, n)).to(given)
        for k, f, n in zip(given.shape[2:], factors.tolist(), wanted[2:], strict=True)
    ]
    state[name] = torch.einsum("oizyx,cz,by,ax->oicba", given, *matrices).contiguous()
    return state
